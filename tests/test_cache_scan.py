"""The census against real servers: exact numbers, every type and encoding, and every mishap."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import redis

from monitoring.config.settings import RedisSettings, TokenSettings
from monitoring.model import Fault
from monitoring.redis import (
    client as redis_client,
    count as cache_count,
    reader,
    scan as cache_scan,
)
from monitoring.redis.count import ScanReport
from monitoring.redis.profiles import KeySorter, Rule, masked_prefix, profile_of
from monitoring.redis.scan import Budget, ErrorTranslation
from monitoring.tokens.results import TokenResult
from monitoring.tokens.stats import TokenStats
from sandbox import redis_server as servers, redis_topologies

NOW = 1795402000
DATA = Path(__file__).parent / "data" / "java-serialised"


def translate(error: Exception) -> Optional[Fault]:
    """As the client's module does, in short."""
    kinds = (
        (redis.exceptions.BusyLoadingError, "loading"),
        (redis.exceptions.NoPermissionError, "noperm"),
        (redis.TimeoutError, "timeout"),
        (redis.ConnectionError, "connect"),
        (redis.ResponseError, "protocol"),
    )
    for kind, word in kinds:
        if isinstance(error, kind):
            return Fault(word, "translated")
    return None


DOOR = ErrorTranslation(translate, (redis.RedisError, OSError))


@pytest.fixture
def client(redis_server: servers.RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client(socket_timeout=10) as made:
        made.flushall()
        yield made


def segment(content: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")


def claims(client: str, jti: str, left: int = 1800, life: int = 3600) -> dict[str, Any]:
    return {
        "sub": client,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "jti": jti,
        "iat": NOW + left - life,
        "exp": NOW + left,
        "permissions": ["view_status"],
    }


def jwt(content: dict[str, Any]) -> bytes:
    return b".".join((segment({"alg": "HS256"}), segment(content), b"sig"))


def java(content: dict[str, Any]) -> bytes:
    fixture = (DATA / "eapi-token.bin").read_bytes()
    text = jwt(content)
    return fixture[: fixture.index(b"eyJ") - 2] + len(text).to_bytes(2, "big") + text


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps({"@class": "com.payment.Token", "claims": content}).encode()


def java_key(name: str) -> bytes:
    return b"\xac\xed\x00\x05t" + len(name).to_bytes(2, "big") + name.encode()


def run(
    *clients: redis.Redis, profile: str = "auto", patterns: tuple[str, ...] = (), **options: Any
) -> tuple[ScanReport, TokenResult]:
    stats = options.pop("stats", None) or TokenStats(NOW, TokenSettings(top_clients=100))
    nodes = [(f"node-{number}", each) for number, each in enumerate(clients)]
    rules = profile_of(profile, patterns)
    report = cache_scan.census(nodes, rules, stats, door=DOOR, **options)
    return report, stats.result()


class Population:
    """A cache of which every number is known."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = 0
        self.tokens: dict[str, dict[str, Any]] = {}
        self.repeats = 0
        self.without_ttl = 0
        self.token_keys = 0

    def put(self, key: Any, value: Any, ttl: Optional[int] = 1800) -> None:
        if isinstance(value, dict):
            self.client.hset(key, mapping=value)
            if ttl:
                self.client.expire(key, ttl)
        else:
            self.client.set(key, value, ex=ttl)
        self.keys += 1

    def token(self, key: Any, value: Any, content: dict[str, Any], ttl: Optional[int]) -> None:
        self.put(key, value, ttl)
        self.token_keys += 1
        self.without_ttl += ttl is None
        self.repeats += content["jti"] in self.tokens
        self.tokens[content["jti"]] = content


def load(client: redis.Redis) -> Population:
    them = Population(client)
    for number in range(300):  # EAPI: each by id, and each client's newest by client
        content = claims(f"client-{number % 10}", f"e-{number}", left=300 + number * 10)
        ttl = None if number % 50 == 0 else 1800
        them.token(f"token_id:e-{number}", jwt(content), content, ttl)
        if number >= 290:
            them.token(f"token:client-{number % 10}", jwt(content), content, 1800)
    for number in range(60):  # SAPI, Java, of which 20 are known from EAPI
        new = number >= 20
        content = (
            claims(f"sapi-{number % 3}", f"s-{number}", left=50 + number * 5)
            if new
            else them.tokens[f"e-{number}"]
        )
        them.token(f"token:{content['jti']}", java(content), content, 1800)
    for number in range(25):
        content = claims("json", f"j-{number}", left=900)
        them.token(f"token:j-{number}", as_json(content), content, 1800)
    for number in range(10):
        content = claims("zipped", f"z-{number}", life=900, left=100)
        them.token(java_key(f"token:z-{number}"), gzip.compress(jwt(content)), content, 1800)
    for number in range(20):  # the older layout: client and id in the key alone
        content = claims("hashed", f"h-{number}", left=2000)
        times = {"iat": content["iat"], "exp": content["exp"]}
        them.token(f"token:hashed:h-{number}", times, content, 1800)
    for number in range(12):  # @RedisHash, with its companions
        content = claims("spring", f"r-{number}", left=2500)
        fields = {"_class": "com.payment.Token", "claims.sub": "spring", "jti": content["jti"],
                  "claims.iat": content["iat"], "claims.exp": content["exp"]}  # fmt: skip
        them.token(f"token:r-{number}", fields, content, 1800)
        them.put(f"token:r-{number}:phantom", fields, 2100)
        client.sadd(f"token:r-{number}:idx", "token:sub:spring")
        them.keys += 1
    for number in range(7):
        content = claims("late", f"x-{number}", left=-100)
        them.token(f"token_id:x-{number}", jwt(content), content, 1800)
    for number in range(5):
        them.put(f"token_id:canary-{number}", jwt(claims("canary", f"canary-{number}")))
        them.token_keys += 1
    return them


BROKEN = {
    "token:b-1": (b"garbage", "not_a_token"),
    "token:b-2": (b"more garbage", "not_a_token"),
    "token:b-3": (b'{"tokenString":', "bad_json"),
    "token:b-4": (b"", "empty"),
    "token:b-5": (b"\xac\xed\x00\x05sr", "bad_java"),
    "token:b-6": (b"x" * 70_000, "too_large"),
    "token_id:b-7": (b"eyJhbGciOiJIUzI1NiJ9.!!!.x", "bad_base64"),
}


def load_the_rest(them: Population) -> None:
    for key, (value, _reason) in BROKEN.items():
        them.put(key, value)
        them.token_keys += 1
    for number, name in enumerate(["valid"] * 4 + ["expired"] * 2 + ["invalid", "renewed"]):
        value = (DATA / f"validation-{name}.bin").read_bytes()
        whole = jwt(claims("client-1", f"v-{number}")).decode()
        them.put(f"validation:{whole}:view_status", value, 100)
    ours = jwt(claims("canary", "c-1")).decode()  # a proof of the canary's is no finding
    them.put(f"validation:{ours}:none", (DATA / "validation-invalid.bin").read_bytes(), 100)
    them.put("validation:abc:none", b'{"valid":false,"forbidden":true}', 100)
    them.put("validation:abd:none", b"?", 100)
    for name in ("active", "dual-active", "inactive"):
        them.put(f"credential:{name}", (DATA / f"credential-{name}.bin").read_bytes(), 900)
    them.put("credential:broken", b"{}", 900)
    them.client.sadd("client:tokens:client-1", "a", "b", "c")
    them.client.sadd("client:tokens:client-2", "d")
    them.client.lpush("token:a-list", "not a token")
    them.keys += 3
    for number in range(30):
        them.put(f"spring:session:{number}", b"not ours")


def test_a_known_population_gives_exactly_the_known_numbers(client: redis.Redis) -> None:
    them = load(client)
    load_the_rest(them)
    stats = TokenStats(NOW, TokenSettings(top_clients=100), excluded=("canary",))
    report, result = run(client, stats=stats)
    tokens = list(them.tokens.values())
    alive = [t for t in tokens if t["exp"] > NOW]

    assert (report.seen, report.expected, report.share_seen) == (them.keys, them.keys, 1.0)
    assert (report.truncated, report.faults, report.unread) == ("", (), 0)
    assert (result.total, result.active, result.expired) == (len(tokens), len(alive), 7)
    assert result.duplicates_merged == them.repeats
    assert result.duplicates_error == 0.0
    assert result.undecodable == dict(Counter(reason for _value, reason in BROKEN.values()))
    assert (result.without_ttl, result.ttl_exact) == (them.without_ttl, True)
    assert (result.ttl_asked, result.ttl_keys) == (them.token_keys, them.token_keys)
    assert result.excluded == 5
    for name, seconds in (("5m", 300), ("15m", 900), ("1h", 3600)):
        assert result.expiring[name] == sum(t["exp"] - NOW <= seconds for t in alive)
    assert {name: share.tokens for name, share in result.by_client.items()} == dict(
        Counter(t["sub"] for t in tokens)
    )
    recent = sum(NOW - 900 < t["iat"] <= NOW for t in tokens)
    assert result.generation_rate_per_minute == pytest.approx(recent / 15)
    assert result.lifetime.count == len(tokens)
    assert (result.lifetime.min, result.lifetime.max) == (900, 3600)
    assert result.encodings == {
        "jwt": 307 - _read_first(result), "java": 40 + _read_first(result), "json": 25,
        "jwt+gzip": 10, "hash": 32,
    }  # fmt: skip
    hygiene = {finding.name: finding.count for finding in result.hygiene}
    assert hygiene["expired_served"] == 7
    assert hygiene["without_ttl"] == them.without_ttl
    assert hygiene["jwt_in_key"] == 8

    counted = report.counted
    assert counted.index_members == 4
    assert counted.types["set"] == 2
    assert counted.types["other"] == 1  # the list; companions of hashes are left alone
    verdicts = counted.validations
    assert (verdicts.success, verdicts.failure, verdicts.renewed) == (5, 4, 1)
    assert verdicts.by_reason == {"expired": 2, "invalid_signature": 1, "forbidden": 1}
    assert verdicts.undecodable == {"not_a_token": 1}
    assert verdicts.success_rate == pytest.approx(5 / 9)
    assert {fact.client for fact in counted.credentials if not fact.unreadable} == {
        "client-001", "client-002", "client-004"}  # fmt: skip
    assert [fact.client for fact in counted.credentials if fact.unreadable] == ["broken"]
    assert set(report.prefixes) == {"spring:…"}


def _read_first(result: TokenResult) -> int:
    """Of the 20 tokens that stand as JWT and as Java object, how many were met as the latter."""
    return result.encodings["java"] - 40


def test_nothing_of_a_scan_is_secret(client: redis.Redis) -> None:
    them = load(client)
    load_the_rest(them)
    report, result = run(client)
    assert "eyJ" not in repr(report)
    assert "e-17" not in repr(report) + repr(result)


def test_nothing_matched_says_so_with_masked_prefixes(client: redis.Redis) -> None:
    for key in ("session:1", "Zahlung:2", "eyJhbGciOiJIUzI1NiJ9.e.s:x", "4711:abc", "plain"):
        client.set(key, "x")
    report, result = run(client)
    assert not report.anything_matched
    assert set(report.matched) == {r.pattern for r in profile_of("auto")}
    assert set(report.prefixes) == {"session:…", "Zahlung:…", "…"}
    assert result.total == 0


def test_an_empty_cache_is_no_fault(client: redis.Redis) -> None:
    report, result = run(client)
    assert (report.seen, report.share_seen, report.truncated) == (0, 1.0, "")
    assert (result.total, result.cliff, result.remaining.p50) == (0, None, None)


def test_own_patterns(client: redis.Redis) -> None:
    for number in range(3):
        client.set(f"prod/auth/{number}/jwt", jwt(claims("c", f"j-{number}")))
    client.set("token:else", jwt(claims("c", "other")))
    report, result = run(client, patterns=("prod/auth/*/jwt",))
    assert result.total == 3
    assert report.matched["prod/auth/*/jwt"] == 3


def test_a_family_of_many_hashes_is_learnt(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(12_000):
        pipe.hset(f"token:c-{number % 7}:{number}", mapping={"iat": NOW - 60, "exp": NOW + 60})
    pipe.execute()
    client.config_resetstat()
    report, result = run(client)
    assert (result.total, result.active) == (12_000, 12_000)
    assert report.counted.types == {"hash": 12_000}
    calls = client.info("commandstats")
    assert calls["cmdstat_mget"]["calls"] <= 4
    assert "cmdstat_hgetall" not in calls
    assert "cmdstat_keys" not in calls


def test_of_which_only_the_owners_are_wanted_no_expiry_is_asked(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(600):
        left = -5 if number % 3 == 0 else 60  # dead ones are asked for theirs in a usual census
        pipe.set(f"token_id:{number}", jwt(claims(f"c-{number % 7}", f"j-{number}", left)))
    pipe.execute()
    _report, usual = run(client)
    client.config_resetstat()
    owners = TokenStats(NOW, TokenSettings(top_clients=100), reads_expiries=False)
    report, result = run(client, stats=owners)
    assert "cmdstat_pttl" not in client.info("commandstats")
    assert report.truncated == ""
    assert (result.by_client, result.active) == (usual.by_client, usual.active)
    assert usual.ttl_asked == 600
    assert result.ttl_asked == 0


def test_budget_of_keys(client: redis.Redis) -> None:
    fill(client, 20_000)
    report, result = run(client, budget=Budget(max_keys=5000))
    assert report.truncated == "max_keys"
    assert 5000 <= report.seen <= 8000
    assert report.share_seen == pytest.approx(report.seen / 20_000)
    assert result.total == report.seen


def test_budget_of_time(client: redis.Redis) -> None:
    fill(client, 20_000)
    ticks = iter(range(10_000))
    report, result = run(client, budget=Budget(seconds=12), clock=lambda: float(next(ticks)))
    assert report.truncated == "time"
    assert 0 < report.seen < 20_000
    assert result.total == report.seen


def fill(client: redis.Redis, count: int, start: int = 0) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(start, start + count):
        pipe.set(f"token:t-{number}", jwt(claims(f"c-{number % 9}", f"t-{number}")), ex=900)
        if number % 5000 == 0:
            pipe.execute()
    pipe.execute()


def test_expiries_of_a_large_cache_are_sampled_and_say_so(client: redis.Redis) -> None:
    fill(client, 30_000)
    for number in range(7):
        client.set(f"token:old-{number}", jwt(claims("late", f"o-{number}", left=-9)))
    _report, result = run(client)
    assert not result.ttl_exact
    assert 20_000 <= result.ttl_asked < 27_000
    hygiene = {finding.name: finding.count for finding in result.hygiene}
    assert hygiene["expired_served"] == 7
    assert hygiene["without_ttl"] == 7  # the suspicious are asked always


def test_a_cache_of_nothing_but_expired_tokens_is_not_asked_for_each_expiry(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_count, "EXPIRED_ASKED", 1000)
    monkeypatch.setattr(reader, "TTL_ALL_UP_TO", 5000)
    pipe = client.pipeline(transaction=False)
    for number in range(20_000):
        pipe.set(f"token:t-{number}", jwt(claims("c", f"t-{number}", left=-9)))
    pipe.execute()
    _report, result = run(client)
    assert (result.expired, result.ttl_keys) == (20_000, 20_000)
    assert result.ttl_asked < 8000
    assert result.without_ttl == 20_000  # an estimate: all of those that were asked have none
    (found,) = (f for f in result.hygiene if f.name == "without_ttl")
    assert found.sentence == "Token keys that never expire: about 20,000."


def test_progress_is_told(client: redis.Redis) -> None:
    fill(client, 5000)
    told: list[tuple[int, Optional[int]]] = []
    run(client, progress=lambda seen, expected: told.append((seen, expected)))
    assert told[-1] == (5000, 5000)
    assert [seen for seen, _ in told] == sorted(seen for seen, _ in told)


@pytest.mark.parametrize(
    ("denied", "unread", "total", "truncated"),
    [
        ("mget", 40, 20, ""), ("pttl", 0, 60, ""), ("hmget", 20, 40, ""),
        ("dbsize", 0, 60, ""), ("scan", 0, 0, "fault"),
    ],
)  # fmt: skip
def test_a_command_not_permitted_is_named_and_the_rest_goes_on(  # noqa: PLR0917
    redis_server: servers.RedisServer, client: redis.Redis, denied: str, unread: int, total: int,
    truncated: str,
) -> None:  # fmt: skip
    fill(client, 40)
    for number in range(20):
        client.hset(f"token:h:{number}", mapping={"iat": NOW - 60, "exp": NOW + 60})
    redis_server.add_user(
        "meta", "reset", "on", ">pw", "~*", "+@read", "+hello", "+client", f"-{denied}"
    )
    with redis_server.client(username="meta", password="pw") as limited:
        if denied == "mget":  # then the hashes are only found by a profile that says so
            report, result = run(limited)
            assert report.unread == 60
            assert result.total == 0
        else:
            report, result = run(limited)
            assert (report.unread, result.total, report.truncated) == (unread, total, truncated)
    if denied == "dbsize":
        assert (report.expected, report.share_seen, report.faults) == (None, 1.0, ())
        return
    ((node, fault),) = report.faults
    assert (node, fault.kind) == ("node-0", "noperm")
    assert denied.upper() in fault.message
    if denied == "pttl":
        assert (result.without_ttl, result.ttl_asked) == (None, 0)


def test_a_server_killed_amid_the_scan(tmp_path: Path) -> None:
    with servers.start({}, tmp_path) as mortal:
        client = mortal.client()
        fill(client, 20_000)
        seen: list[int] = []

        def kill(count: int, _expected: Optional[int]) -> None:
            seen.append(count)
            if count > 6000:
                mortal.halt()

        report, result = run(client, progress=kill)
    assert report.truncated == "fault"
    assert [fault.kind for _node, fault in report.faults] == ["connect"]
    assert 6000 < report.seen < 20_000
    assert report.share_seen == pytest.approx(report.seen / 20_000)
    assert 0 < result.total <= report.seen


def test_a_server_that_is_not_there() -> None:
    port = servers.free_port()
    gone = redis.Redis(port=port, retry=None, socket_connect_timeout=1)
    report, _result = run(gone)
    assert (report.seen, report.share_seen, report.truncated) == (0, None, "fault")
    assert report.faults[0][1].kind == "connect"


def test_a_mute_node_does_not_hold_the_others_up(
    redis_server: servers.RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    fill(client, 3000)
    with servers.start({}, tmp_path) as mute:
        silent = mute.client(socket_timeout=30)
        silent.ping()
        mute.pause()
        report, result = run(silent, client, budget=Budget(seconds=0.5))
        mute.resume()
    assert result.total == 3000
    assert ("node-0", "timeout") in [(node, fault.kind) for node, fault in report.faults]
    assert report.truncated == "time"
    assert report.expected is None


def test_an_error_that_is_not_the_caches_is_raised(client: redis.Redis) -> None:
    fill(client, 10)
    stats = TokenStats(NOW, TokenSettings())
    door = ErrorTranslation(lambda _error: None, (redis.RedisError, OSError))
    client.execute_command("CLIENT", "NO-EVICT", "off")
    refused = redis.Redis(port=servers.free_port(), retry=None)
    with pytest.raises(redis.ConnectionError):
        cache_scan.census([("n", refused)], profile_of("auto"), stats, door=door)


def test_every_primary_of_a_cluster_and_duplicates_across_them(tmp_path: Path) -> None:
    with redis_topologies.start_cluster(tmp_path) as cluster:
        rc = redis.RedisCluster(host="127.0.0.1", port=cluster.ports[0])
        for number in range(600):
            content = claims(f"c-{number % 5}", f"t-{number}")
            rc.set(f"token_id:t-{number}", jwt(content), ex=900)
            if number >= 595:
                rc.set(f"token:c-{number % 5}", jwt(content), ex=900)
        nodes = [node.client() for node in cluster.nodes]
        report, result = run(*nodes)
        assert (report.seen, report.expected, result.total) == (605, 605, 600)
        assert result.duplicates_merged == 5
        cluster.nodes[1].halt()
        report, result = run(*nodes)
        assert report.truncated == "fault"
        assert [node for node, _fault in report.faults] == ["node-1"]
        assert 0 < result.total < 600
        rc.close()


def test_counts_stay_consistent_under_writes_and_expiries(client: redis.Redis) -> None:
    fill(client, 5000)
    done = threading.Event()

    def churn() -> None:
        other = redis.Redis(port=client.connection_pool.connection_kwargs["port"])
        number = 0
        while not done.is_set():
            pipe = other.pipeline(transaction=False)
            for _ in range(50):
                number += 1
                content = claims("churn", f"n-{number}")
                pipe.set(f"token:n-{number}", jwt(content), px=30 + number % 90)
            pipe.execute()
        other.close()

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(10):
            report, result = run(client)
            steady = sum(s.tokens for name, s in result.by_client.items() if name != "churn")
            assert steady == 5000
            assert (report.truncated, report.faults) == ("", ())
            assert sum(s.tokens for s in result.by_client.values()) == result.total
            assert result.active + result.expired == result.total
    finally:
        done.set()
        writer.join()


def test_a_client_that_decodes_replies_is_read_as_well(redis_server: servers.RedisServer) -> None:
    with redis_server.client(decode_responses=True) as decoding:
        decoding.flushall()
        with redis_server.client() as plain:
            plain.set("token:1", java(claims("c", "j")))
        _report, result = run(decoding)
    assert result.total == 1


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("token:*", b"token:1", True), ("token:*", b"token_id:1", False),
        ("t?k:*", b"tok:1", True), ("t[ao]k*", b"tik", False), ("t[^a]k*", b"tok", True),
        ("a.*", b"abc", False), ("a\\*b", b"a*b", True), ("a\\*b", b"axb", False),
        ("*", b"line\nbreak", True), ("tok", b"token", False),
    ],
)  # fmt: skip
def test_patterns_match_as_redis_matches(
    client: redis.Redis, pattern: str, key: bytes, matches: bool
) -> None:
    sorter = KeySorter([Rule(pattern)])
    assert bool(sorter.sort([key])) == matches
    client.set(key, "x")
    assert bool(client.keys(pattern)) == matches


def test_longer_prefixes_first_and_mixed_pages() -> None:
    rules = [Rule("a:*"), Rule("a:b:*"), Rule("*z")]
    sorted_keys = KeySorter(rules).sort([b"a:1", b"a:b:2", b"xyz", b"q", java_key("a:b:3")])
    assert {rule.pattern: keys for rule, keys in sorted_keys} == {
        "a:*": [b"a:1"], "a:b:*": [b"a:b:2", java_key("a:b:3")], "*z": [b"xyz"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"session:1", "session:…"), (b"a" * 30 + b":x", "…"), (b"client-1", "…"),
        (b"eyJhbGci:1", "…"), (b"caf\xe9:1", "…"), (java_key("token:abc"), "token:…"),
    ],
)  # fmt: skip
def test_masked_prefixes(key: bytes, shown: str) -> None:
    assert masked_prefix(key) == shown


def test_a_server_that_still_loads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_loading, args=(listener,))
        answering.start()
        loading = redis.Redis(
            port=listener.getsockname()[1], retry=None, socket_timeout=5, protocol=2
        )
        report, result = run(loading)
        loading.close()
        answering.join()
    assert [(node, fault.kind) for node, fault in report.faults] == [("node-0", "loading")]
    assert (report.truncated, report.seen, result.total) == ("fault", 0, 0)


def _answer_loading(listener: socket.socket) -> None:
    """As a server does that reads its file: greetings are met, everything else refused."""
    wire, _ = listener.accept()
    with wire:
        while data := wire.recv(65536):
            for command in data.split(b"*")[1:]:
                greeting = b"CLIENT" in command or b"HELLO" in command
                wire.sendall(b"+OK\r\n" if greeting else b"-LOADING reading the dataset\r\n")


def test_equal_verdicts_count_each(client: redis.Redis) -> None:
    valid = (DATA / "validation-valid.bin").read_bytes()
    pipe = client.pipeline(transaction=False)
    for number in range(3000):
        pipe.set(f"validation:{number}:x", valid if number % 3 else b'{"valid":false}')
    pipe.execute()
    report, _result = run(client)
    verdicts = report.counted.validations
    assert (verdicts.success, verdicts.failure, verdicts.by_reason) == (
        2000, 1000, {"unknown": 1000})  # fmt: skip


def test_only_these_commands_are_ever_sent(client: redis.Redis) -> None:
    load_the_rest(load(client))
    client.hset("token:of:nobody", "colour", "green")
    client.config_resetstat()
    _report, result = run(client)
    assert result.undecodable["bad_hash"] == 1
    sent = {name.partition("_")[2] for name in client.info("commandstats")}
    reading = {"scan", "dbsize", "mget", "hmget", "scard", "type", "pttl"}
    greeting = {"hello", "auth", "select", "ping", "info", "config|resetstat"}
    assert {name for name in sent if not name.startswith("client|")} <= reading | greeting
    assert reading <= sent


def test_our_own_client_behind_sentinels_and_on_a_cluster(tmp_path: Path) -> None:
    def total(settings: RedisSettings) -> int:
        with contextlib.closing(redis_client.Cache(settings)) as cache:
            stats = TokenStats(NOW, TokenSettings())
            door = ErrorTranslation(redis_client.translate, redis_client.ERRORS)
            nodes = [(str(n), each) for n, each in enumerate(cache.scan_clients())]
            cache_scan.census(nodes, profile_of("auto"), stats, door=door)
            return stats.result().total

    with redis_topologies.start_sentinel(tmp_path / "sentinel") as watched:
        with watched.primary.client() as primary:
            fill(primary, 1200)
            primary.wait(1, 5000)
        where = (("127.0.0.1", watched.sentinel.port),)
        assert total(RedisSettings(sentinels=where)) == 1200
        assert total(RedisSettings(sentinels=where, prefer_replicas=True)) == 1200
    with redis_topologies.start_cluster(tmp_path / "cluster") as cluster:
        with contextlib.closing(redis.RedisCluster("127.0.0.1", cluster.ports[0])) as everywhere:
            for number in range(300):
                everywhere.set(f"token:t-{number}", jwt(claims("c", f"t-{number}")), ex=900)
        assert total(RedisSettings(port=cluster.ports[0], cluster=True)) == 300
