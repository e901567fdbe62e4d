"""The token cycle on real servers: counts, budgets, refusals, deaths, topologies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.config.secret import Secret
from monitoring.model import ExitStatus, Outcome
from monitoring.redis import client as redis_client
from monitoring.store.state import State
from monitoring.tokens.sources import take_census
from sandbox import redis_server, redis_topologies
from sandbox.options import CANARY, Options
from sandbox.stack import Stack
from tests.token_kit import fill, jwt, settings, usage


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


def value(outcome: Outcome, name: str, **labels: str) -> Optional[float]:
    (found,) = (
        m.value
        for m in outcome.measurements
        if m.name == f"payment_api_{name}" and dict(m.labels) == labels
    )
    return found


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "scan_timeout": 5.0, **more}


def test_a_known_population_gives_exactly_its_numbers(
    redis_server: redis_server.RedisServer, cache: Any, state: State, tmp_path: Path
) -> None:
    fill(cache, 500)
    cache.set("token:twice", jwt("client-000", "j0"), ex=1800)  # the jti of another key
    cache.set("token_id:j1", cache.get("token:000001"), ex=1800)
    cache.set("token:old", jwt("client-000", "old", left=-300), ex=1800)
    cache.set("token:junk", b"junk", ex=1800)
    cache.set("token:canary", jwt(CANARY, "c1"), ex=1800)
    cache.set("token:forever", jwt("client-001", "f1"))
    environ = {"MONITORING_CLIENT_ID": CANARY, "MONITORING_CLIENT_SECRET": "s-1"}
    made = settings(tmp_path, environ, **at(redis_server.port))
    outcome = usage(made, state).cycle(time.time())
    tokens = outcome.tokens or {}
    assert (tokens["total"], tokens["active"], tokens["expired"]) == (502, 501, 1)
    assert (tokens["duplicates_merged"], tokens["undecodable"]) == (2, 1)
    assert tokens["without_ttl"] == 1
    assert CANARY not in tokens["by_client"]
    assert value(outcome, "tokens_active") == 501
    assert value(outcome, "client_tokens_active", client_id="client-001") == 51
    redis, eapi, sapi = outcome.sources
    assert (redis.name, redis.ok, redis.seen) == ("redis", True, 506)
    assert not eapi.configured
    assert not sapi.configured
    assert outcome.exit_status is ExitStatus.WARNING


def test_a_renewal_is_told_though_the_earlier_token_is_gone_by_then(
    redis_server: redis_server.RedisServer, cache: Any, state: State, tmp_path: Path
) -> None:
    made, now = settings(tmp_path, {}, **at(redis_server.port)), time.time()
    cache.set("token:a", jwt("c", "a", left=60))
    usage(made, state).cycle(now)
    cache.delete("token:a")
    cache.set("token:b", jwt("c", "b", left=3600))
    outcome = usage(made, state).cycle(now + 1)  # another process, as cron has it
    renewals = (outcome.tokens or {})["renewals"]
    assert (renewals["count"], renewals["lapses"]) == (1, 0)
    assert renewals["median_remaining_seconds"] == pytest.approx(60, abs=2)
    assert (outcome.tokens or {})["by_client"]["c"]["renewals"] == 1


def test_a_budget_ends_the_scan_and_the_share_is_told(
    redis_server: redis_server.RedisServer, cache: Any, state: State, tmp_path: Path
) -> None:
    fill(cache, 8000)
    made = settings(tmp_path, {}, **at(redis_server.port))
    made = replace(made, tokens=replace(made.tokens, max_keys=2000))
    outcome = usage(made, state).cycle(time.time())
    scan = (outcome.tokens or {})["scan"]
    assert scan["truncated"] == "max_keys"
    assert 2000 <= scan["keys"] < 6000
    assert scan["share_seen"] == pytest.approx(scan["keys"] / 8000, abs=0.001)
    assert value(outcome, "tokens_active") == pytest.approx(8000, rel=0.01)
    assert value(outcome, "scan_truncated") == 1
    assert value(outcome, "token_renewals", timing="late") is None  # of a part nobody can tell
    assert (outcome.tokens or {})["renewals"]["count"] is None
    assert (outcome.tokens or {})["losing_last_token"] == []
    assert outcome.sources[0].ok
    assert outcome.exit_status is ExitStatus.UNKNOWN  # what was not looked at is not called good


def test_a_server_killed_amid_the_scan_leaves_a_partial_result(tmp_path: Path) -> None:
    with redis_server.start({}, tmp_path / "redis") as server:
        with server.client() as client:
            fill(client, 20_000)
        made = settings(tmp_path, {}, **at(server.port))

        def kill(seen: int, _expected: Optional[int]) -> None:
            if seen >= 3000:
                server.halt()

        with State.open(tmp_path / "state") as state:
            outcome = usage(made, state).cycle(time.time(), kill)
    redis = outcome.sources[0]
    assert not redis.ok
    assert redis.error in ("connect", "refused")
    assert redis.seen is not None
    assert 3000 <= redis.seen < 20_000
    assert (outcome.tokens or {})["total"] > 0
    assert (outcome.tokens or {})["scan"]["truncated"] == "fault"
    assert value(outcome, "tokens_active") is None
    assert outcome.exit_status is ExitStatus.UNKNOWN  # there is no other source


@pytest.mark.parametrize(
    ("rights", "seen"),
    [
        (("-@all", "+ping", "+dbsize"), None),
        (("-@all", "+ping", "+scan", "+dbsize"), 100),
        (("-@all", "+scan", "+mget", "+hmget", "+type"), 100),
    ],
)
def test_a_user_with_too_few_rights_is_named_as_such(
    redis_server: redis_server.RedisServer,
    cache: Any,
    tmp_path: Path,
    *,
    rights: tuple[str, ...],
    seen: Optional[int],
) -> None:
    fill(cache, 100)
    cache.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw-1", "~*", *rights)
    made = settings(tmp_path, {}, **at(redis_server.port, username="poor", password=Secret("pw-1")))
    census = take_census(lambda: redis_client.Cache(made.redis), made, time.time())
    source = census.source
    cache.execute_command("ACL", "DELUSER", "poor")
    assert (source.ok, source.seen, source.error) == (False, seen, "noperm")
    assert "permitted" in source.why or "may not run" in source.why


def test_without_a_cache_nothing_is_counted_and_nothing_is_wrong(
    state: State, tmp_path: Path
) -> None:
    outcome = usage(settings(tmp_path, {}, host=""), state).cycle(time.time())
    (source,) = [source for source in outcome.sources if source.name == "redis"]
    assert (source.ok, source.configured) == (False, False)
    assert (outcome.tokens or {}).get("active") is None
    assert not outcome.findings


def test_a_silent_server_costs_its_usual_timeout_not_the_scans(tmp_path: Path) -> None:
    with redis_server.start({}, tmp_path / "redis") as server:
        made = settings(tmp_path, {}, **at(server.port, timeout=0.3, scan_timeout=60.0))
        server.pause()
        try:
            census = take_census(lambda: redis_client.Cache(made.redis), made, time.time())
        finally:
            server.resume()
    assert census.report is None
    assert census.source.error == "timeout"
    assert census.seconds < 30


def test_a_cluster_of_three_is_counted_whole_and_a_dead_node_is_named(tmp_path: Path) -> None:
    import redis

    with redis_topologies.start_cluster(tmp_path / "cluster") as cluster:
        with redis.RedisCluster(host="127.0.0.1", port=cluster.ports[0]) as client:
            for number in range(300):
                client.set(f"token:{number}", jwt(f"client-{number % 3}", f"j{number}"), ex=1800)
        made = settings(tmp_path, {}, **at(cluster.ports[0], cluster=True, timeout=2.0))
        whole = take_census(lambda: redis_client.Cache(made.redis), made, time.time())
        assert whole.source.ok, whole.source.why
        assert whole.result is not None
        assert whole.result.total == 300
        cluster.nodes[2].halt()
        part = take_census(lambda: redis_client.Cache(made.redis), made, time.time())
    assert not part.source.ok
    assert str(cluster.ports[2]) in part.source.why
    assert part.result is not None
    assert 100 < part.result.total < 300


def test_behind_a_sentinel_the_primary_is_counted(tmp_path: Path) -> None:
    with redis_topologies.start_sentinel(tmp_path / "watched") as watched:
        with watched.primary.client() as client:
            fill(client, 200)
        made = settings(
            tmp_path,
            {},
            sentinels=(("127.0.0.1", watched.sentinel.port),),
            master="mymaster",
            timeout=2.0,
        )
        census = take_census(lambda: redis_client.Cache(made.redis), made, time.time())
    assert census.source.ok, census.source.why
    assert census.result is not None
    assert census.result.total == 200


def test_counting_goes_on_while_others_write(
    redis_server: redis_server.RedisServer, cache: Any, state: State, tmp_path: Path
) -> None:
    fill(cache, 3000)
    made = settings(tmp_path, {}, **at(redis_server.port))
    done = threading.Event()

    def churn() -> None:
        with redis_server.client() as other:
            number = 0
            while not done.is_set():
                number += 1
                other.set(f"token:new{number}", jwt("newcomer", f"n{number}"), px=400)

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        cycle = usage(made, state).cycle
        for _ in range(10):
            outcome = cycle(time.time())
            shares = (outcome.tokens or {})["by_client"]
            steady = {name: row["tokens"] for name, row in shares.items() if name != "newcomer"}
            assert steady == {f"client-{n:03d}": 300 for n in range(10)}
            assert outcome.sources[0].ok
    finally:
        done.set()
        writer.join()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=6, preload=10, traffic=False)) as running:
        yield running


def test_services_and_cache_tell_the_same_story(stack: Stack, state: State, tmp_path: Path) -> None:
    from monitoring.config import load as configuration
    from tests.token_kit import ROOT

    made = configuration.load(
        script="token_usage_metrics",
        root=ROOT,
        config_file=None,
        environ=stack.environment,
        cwd=tmp_path,
    )
    cycle = usage(made, state).cycle
    first = cycle(time.time())
    assert [s.ok for s in first.sources] == [True, True, True]
    tokens = first.tokens or {}
    assert value(first, "tokens_generated_total") == pytest.approx(tokens["total"], abs=2)
    minted = stack.eapi.metrics
    for _ in range(5):
        minted.generated("client-001", 0.01)
        stack.sapi.metrics.validated("client-001", None, 0.01)
    second = cycle(time.time() + 60)
    assert value(second, "tokens_generated_total") == tokens["generation"]["generated_total"] + 5
    told = (second.tokens or {})["validations"]
    assert (told["source"], told["success"], told["failure"]) == ("services", 5, 0)
    assert (second.tokens or {})["generation"]["services_per_minute"] == pytest.approx(5, rel=0.2)


def test_a_service_that_does_not_answer_is_named_and_the_census_stands(
    stack: Stack, state: State, tmp_path: Path
) -> None:
    environ = {**stack.environment, "EAPI_ENDPOINT": "http://127.0.0.1:1"}
    from monitoring.config import load as configuration
    from tests.token_kit import ROOT

    made = configuration.load(
        script="token_usage_metrics", root=ROOT, config_file=None, environ=environ, cwd=tmp_path
    )
    outcome = usage(made, state).cycle(time.time())
    assert [(s.name, s.ok) for s in outcome.sources] == [
        ("redis", True),
        ("eapi-metrics", False),
        ("sapi-metrics", True),
    ]
    assert outcome.sources[1].error == "refused"
    assert (outcome.tokens or {})["total"] > 0
    assert outcome.exit_status is ExitStatus.WARNING


@pytest.mark.parametrize(
    ("keys", "active", "prefixes"),
    [
        ((), 0, {}),
        (("client:tokens:a",), 0, {}),
        (("jwt:1", "client:tokens:a"), None, {"jwt:…": 1}),
        (("sess:1", "sess:2"), None, {"sess:…": 2}),
    ],
)
def test_no_tokens_is_a_zero_only_where_every_key_is_known(
    redis_server: redis_server.RedisServer,
    cache: Any,
    tmp_path: Path,
    *,
    keys: tuple[str, ...],
    active: Optional[float],
    prefixes: dict[str, int],
) -> None:
    for key in keys:
        cache.sadd(key, "x") if key.startswith("client") else cache.set(key, "x")
    made = settings(tmp_path, {}, **at(redis_server.port))
    with State.open(tmp_path / "state") as state:
        outcome = usage(made, state).cycle(time.time())
    assert value(outcome, "tokens_active") == active
    (finding,) = (f for f in outcome.findings if f.reason == "no_tokens")
    assert finding.evidence["prefixes"] == prefixes
    assert outcome.exit_status is ExitStatus.WARNING
