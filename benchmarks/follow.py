"""Acquire: what following the cache costs beside reading it, and whether it finds forged tokens.

    python -m benchmarks.follow [--tokens 300000] [--changes 5000] [--honest 100000] [--by events]

A server of its own is filled with tokens as the services write them (`token_id:{jti}` of EAPI and
`token:{jti}` of SAPI, Java values). Then so many keys change, again and again: the CPU of a cycle
that follows, ours and the server's, stands beside that of a full census of the same moment, and
every figure of both must be equal. A watcher that is stopped for 20 s under writes shows what it
costs the server. At last honest tokens are minted, renewed, used and evicted, the stream is cut, a
sentinel moves the cache to the replica, and 500 forged ones are used among them while it follows.
Then the script itself runs in a loop of one second beside the sandbox: how long is it from the use
of a forged token to the alert at the receiver?
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

import requests

from benchmarks import scan
from monitoring.config import load as configuration
from monitoring.config.settings import Settings
from monitoring.follow.births import Births
from monitoring.follow.follower import Follower
from monitoring.follow.lineage import Lineage
from monitoring.follow.standing import FOLLOWING, Standing
from monitoring.follow.watch import Watch
from monitoring.redis import client as redis_client
from monitoring.tokens.results import TokenResult
from monitoring.tokens.sources import take_census
from sandbox import redis_topologies
from sandbox.demo import FOLLOW
from sandbox.encodings import encode_validation
from sandbox.options import Options
from sandbox.redis_topologies import SentinelSet
from sandbox.stack import Stack
from sandbox.values import Token, Validation

ROOT = Path(__file__).resolve().parents[1]
SHARE, MEGABYTES = 1 / 8, 40.0
ALERTED, LEARNED = 2.0, 40
BEHIND = 1 << 20  # bytes that the follower has still to read
LIFE, CLIENTS, FORGED, STOPPED = 3600, 500, 500, 20.0
LASTS = 1800  # seconds in which none of the first tokens dies: one that died under a census differs
EVENTS = "Eg$xe"
IN_NAMES = "jwt_in_key"
_SAMPLE = scan.JAVA.read_bytes()
HEAD = _SAMPLE[: _SAMPLE.index(b"eyJ") - 2]
_GOOD = encode_validation(Validation(True), "java")


@dataclass
class Cost:
    """CPU seconds of this process and of the server."""

    ours: float
    server: float


class Cache:
    """The server, and what the services write into it."""

    def __init__(self, port: int, by: str) -> None:
        self.dice = random.Random(20261127)
        self.by = by
        self.use(port)

    def use(self, port: int) -> None:
        """From now on this server."""
        import redis

        self.client = redis.Redis(port=port)
        self.port = port
        self.client.config_set("notify-keyspace-events", EVENTS if self.by == "events" else "")

    def token(self, number: int, ago: float = 0.0) -> Token:
        at = time.time() - ago
        return self.sign(f"client-{number % CLIENTS:03d}", at)

    def sign(self, client: str, at: float) -> Token:
        """As the services do, with a signature that is none: nobody here checks it."""
        jti = f"{self.dice.getrandbits(128):032x}"
        claims = {
            "sub": client,
            "iss": "payment-eapi",
            "aud": "payment-sapi",
            "exp": int(at) + LIFE,
            "iat": int(at),
            "jti": jti,
            "permissions": ["process_payment", "view_status"],
        }
        text = scan.jwt(claims).decode()
        return Token(text, jti, client, float(int(at)), float(int(at) + LIFE), ())

    def mint(self, wire: Any, token: Token) -> None:
        left = max(10, int(token.expires_at - time.time() - 30))
        wire.set(f"token_id:{token.jti}", java(token), ex=left)

    def see(self, wire: Any, token: Token) -> None:
        left = max(1, int(token.expires_at - time.time()))
        wire.set(f"token:{token.jti}", java(token), ex=left)

    def accept(self, wire: Any, token: Token, verdict: bytes = _GOOD) -> None:
        wire.set(f"validation:{token.jwt}:none", verdict, ex=100)

    def fill(self, tokens: int) -> None:
        wire = self.client.pipeline(transaction=False)
        for number in range(tokens):
            token = self.token(number, self.dice.randrange(0, LIFE - LASTS))
            self.mint(wire, token)
            self.see(wire, token)
            if number % 2000 == 0:
                wire.execute()
        wire.execute()

    def change(self, keys: int) -> None:
        """So many keys: two fifths are minted, two fifths used, one fifth is taken away."""
        wire = self.client.pipeline(transaction=False)
        for number in range(keys // 5):
            token = self.token(number)
            other = self.token(number)
            self.mint(wire, token)
            self.mint(wire, other)
            self.see(wire, token)
            self.accept(wire, token)
            wire.delete(f"token_id:{other.jti}")
        wire.execute()

    def cpu(self) -> float:
        found = self.client.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def java(token: Token) -> bytes:
    """A Java object with the token in it, as the services cache it."""
    text = str(token.jwt).encode()
    return HEAD + len(text).to_bytes(2, "big") + text


def settings_of(port: int) -> Settings:
    environ = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)}
    made = configuration.load(
        script="token_usage_metrics", root=ROOT, config_file=None, environ=environ, cwd=Path("/")
    )
    return replace(
        made,
        tokens=replace(made.tokens, clock_skew=1.0, follow=True),
        run=replace(made.run, cycle_deadline=3600.0),
    )


def spent(cache: Cache, work: Any) -> tuple[Any, Cost]:
    """What some work gives, and costs."""
    before, ours = cache.cpu(), time.process_time()
    found = work()
    return found, Cost(time.process_time() - ours, cache.cpu() - before)


def comparable(result: TokenResult) -> dict[str, Any]:
    """The figures that both kinds of look must have equal."""
    return {
        **{name: getattr(result, name) for name in ("total", "active", "undecodable", "expiring")},
        **{name: getattr(result, name) for name in ("lifetime", "remaining", "by_client")},
        **{name: getattr(result, name) for name in ("duplicates_merged", "encodings", "cliff")},
        "hygiene": {f.name: f.count for f in result.hygiene if f.name != IN_NAMES},
        "rate": result.generation_rate_per_minute,
    }


def different(mine: TokenResult, theirs: TokenResult) -> Iterator[str]:
    """The figures that are not equal, with both values."""
    others = comparable(theirs)
    for name, value in comparable(mine).items():
        if value != others[name]:
            yield f"{name}: {value} followed, {others[name]} counted"


def out_of(before: TokenResult, census: TokenResult, after: TokenResult) -> Iterator[str]:
    """Verdicts, whose keys hold tokens, end while the census is under way, and nothing writes new
    ones: it must find as many as there were at its beginning, at its end, or in between."""
    first, counted, last = (
        next((f.count for f in each.hygiene if f.name == IN_NAMES), 0)
        for each in (before, census, after)
    )
    if not last <= counted <= first:
        yield f"{IN_NAMES}: {first} to {last} followed, {counted} counted"


@dataclass
class Compared:
    """Cycles that follow, censuses of the same moments, and what both say otherwise."""

    how: str
    followed: list[Cost]
    counted: list[Cost]
    wrong: list[str]

    def shares(self) -> Iterator[tuple[str, float, float]]:
        """Of our CPU and the server's: its name, and the seconds of a cycle and of a census."""
        for name in ("ours", "server"):
            cycle = statistics.median(getattr(cost, name) for cost in self.followed)
            yield name, cycle, statistics.median(getattr(cost, name) for cost in self.counted)


def compare(cache: Cache, changes: int, rounds: int) -> Compared:
    """Change so many keys, follow, and count; again and again."""
    settings = settings_of(cache.port)
    connect = redis_client.Cache(settings.redis)
    lineage = Lineage(Births(skew=1.0))
    watch = Watch(connect, settings, lineage, time.time())
    lineage.births.began(time.time())
    _none, filled = spent(cache, lambda: watch.fill(time.time))
    print(f"followed; the first census {filled.ours:.2f} s of our CPU", file=sys.stderr)
    made = Compared(watch.how, [], [], [])
    for _ in range(rounds):
        cache.change(changes)
        now, cost = spent(cache, lambda: _cycle(watch))
        theirs, whole = spent(cache, partial(_census, settings, now))
        made.followed.append(cost)
        made.counted.append(whole)
        mine = _result(watch, now)
        watch.advance(time.time())
        made.wrong += different(mine, theirs)
        made.wrong += out_of(mine, theirs, _result(watch, time.time()))
    watch.close()
    connect.close()
    return made


def ratios(cache: Cache, changes: int, rounds: int) -> Iterator[bool]:
    """Print the cost of cycles; whether each budget holds."""
    made = compare(cache, changes, rounds)
    for said in made.wrong:
        print(f"DIFFERENT: {said}")
    word = "differ" if made.wrong else "equal"
    print(f"followed by {made.how}; figures of {rounds} rounds {word}")
    yield not made.wrong
    for name, cycle, census in made.shares():
        held = cycle / census <= SHARE
        print(
            f"{name:7} a cycle with {changes:,} changes {cycle:.3f} s, a census {census:.3f} s: "
            f"{cycle / census:.3f} (budget {SHARE:.3f})  {'holds' if held else 'DOES NOT HOLD'}"
        )
        yield held


def _cycle(watch: Watch) -> float:
    now = time.time()
    watch.advance(now)
    watch.check()
    _result(watch, now)
    return now


def _result(watch: Watch, now: float) -> TokenResult:
    return watch.stats(now, reads_names=False).result()


def _census(settings: Settings, now: float) -> TokenResult:
    found = take_census(lambda: redis_client.Cache(settings.redis), settings, now)
    if found.result is None:
        raise SystemExit("the census failed")
    return found.result


def stopped_watcher(cache: Cache) -> bool:
    """What the server keeps for a follower that is stopped under writes."""
    command = [sys.executable, "-m", "benchmarks.follow", "--watch", str(cache.port)]
    watcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert watcher.stdout is not None
    watcher.stdout.readline()  # it follows
    key, value = f"token:{'k' * 500}", b"x" * 200
    cache.client.set(key, value)
    before, most, written = _buffers(cache), 0.0, 0
    os.kill(watcher.pid, signal.SIGSTOP)
    until = time.monotonic() + STOPPED
    wire = cache.client.pipeline(transaction=False)
    while time.monotonic() < until:
        for number in range(1000):
            wire.set(f"{key}{number}", value, ex=60)
        wire.execute()
        written += 1000
        most = max(most, _buffers(cache) - before)
    os.kill(watcher.pid, signal.SIGCONT)
    watcher.terminate()
    watcher.wait()
    held = most / 2**20 <= MEGABYTES
    print(
        f"a watcher stopped for {STOPPED:.0f} s under {written:,} writes cost the server "
        f"{most / 2**20:.1f} MB (budget {MEGABYTES:.0f})  {'holds' if held else 'DOES NOT HOLD'}"
    )
    return held


def _buffers(cache: Cache) -> float:
    """Bytes of the output buffers of subscribers."""
    rows = cache.client.client_list()
    return float(sum(int(row["omem"]) for row in rows if row["flags"] in ("P", "tP", "Pt")))


def watch_only(port: int) -> None:
    """In the child: follow until ended."""
    settings = settings_of(port)
    follower = Follower(settings, lambda: redis_client.Cache(settings.redis))
    follower.start()
    while follower.standing(time.time()).state != FOLLOWING:
        time.sleep(0.05)
    print("following", flush=True)
    time.sleep(600)


def forgeries(watched: SentinelSet, by: str, honest: int) -> tuple[int, int, Standing]:
    """How many of the forged tokens were found, how many honest clients were accused, and how
    following stood in the end."""
    cache = Cache(watched.replica.port, by)
    cache.use(watched.primary.port)
    cache.client.config_set("client-output-buffer-limit", "replica 0 0 0")
    where = (("127.0.0.1", watched.sentinel.port),)
    settings = settings_of(cache.port)
    redis = replace(settings.redis, sentinels=where, master=watched.master_name)
    settings = replace(settings, redis=redis)
    follower = Follower(settings, lambda: redis_client.Cache(settings.redis))
    follower.start()
    names = [f"forger-{number:03d}" for number in range(FORGED)]
    gaps = {
        "start": lambda: None,
        "no room": partial(limit, cache, True),
        "room again": partial(limit, cache, False),
        "cut": partial(cut, cache),
        "fail-over": partial(fail_over, cache, watched),
        "second cut": partial(cut, cache),
    }
    followed = [name for name in gaps if name != "no room"]  # there a forged one may be evicted
    for name, make in gaps.items():
        _across(follower, make, gap=name != "start")
        _work(cache, honest // len(gaps) // 2)
        if name in followed:
            forge(cache, names[followed.index(name) :: len(followed)])
        _work(cache, honest // len(gaps) // 2)
        _settle(follower)
        print(f"  after the {name}: {_said(follower)}", file=sys.stderr)
    standing = follower.standing(time.time())
    follower.stop()
    found = {row.client for row in standing.orphans}
    false = found - set(names)
    return len(found - false), len(false), standing


def judged(watched: SentinelSet, by: str, honest: int) -> bool:
    """Print what was found of the forged tokens; whether that is all, and nobody else."""
    found, false, standing = forgeries(watched, by, honest)
    held = found == FORGED and not false
    print(
        f"{found} of {FORGED} forged tokens found among {honest:,} honest ones, "
        f"{false} honest accused; {standing.gaps} gaps; uses {dict(standing.uses)}, "
        f"changes {dict(standing.changes)}  {'holds' if held else 'DOES NOT HOLD'}"
    )
    return held


def alerted(rounds: int) -> bool:
    """Print the seconds from the use of a forged token to the alert at Alertmanager's door."""
    quiet = Options(clients=30, rotating=False)
    with Stack(quiet) as stack, tempfile.TemporaryDirectory() as folder:
        config, document = Path(folder, "config.py"), Path(folder, "tokens.json")
        config.write_text(FOLLOW, encoding="utf-8")
        script = ROOT / "token_usage_metrics.py"
        words = [
            str(script),
            "--config",
            str(config),
            "--interval",
            "1s",
            "--output",
            str(document),
        ]
        loop = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **stack.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until_learned(document)
            clients = [f"client-{number:03d}" for number in range(1, rounds + 1)]
            took = [_used_to_alerted(stack, client) for client in clients]
        finally:
            loop.terminate()
            loop.wait()
    held = max(took) <= ALERTED
    print(
        f"from the use of a forged token to the alert, a loop of 1 s, {rounds} tokens: median "
        f"{statistics.median(took):.2f} s, longest {max(took):.2f} s (budget {ALERTED:.0f} s)  "
        f"{'holds' if held else 'DOES NOT HOLD'}"
    )
    return held


def _until_learned(document: Path) -> None:
    """Until it follows, and has seen enough good verdicts to know what SAPI writes with each."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(0.5)
        said = json.loads(document.read_text()) if document.exists() else {}
        lineage = (said.get("tokens") or {}).get("lineage") or {}
        if lineage.get("state") == FOLLOWING and lineage.get("uses", {}).get("born", 0) >= LEARNED:
            time.sleep(3.0)  # a token must be younger than the watch, clocks included
            return
    raise SystemExit("the script does not follow the sandbox's cache")


def _used_to_alerted(stack: Stack, client: str) -> float:
    forged = str(stack.sapi.minter.mint(client, time.time()).jwt)
    body = {"tokenString": forged, "requiredPermission": "process_payment"}
    url = f"{stack.environment['SAPI_ENDPOINT']}/internal/v1/tokens/validate"
    started = time.monotonic()
    requests.post(url, json=body, timeout=10)
    while time.monotonic() < started + 60:
        if any(_is_of(alert, client) for alert in stack.receivers.alerts()):
            return time.monotonic() - started
        time.sleep(0.02)
    raise SystemExit(f"no alert of the forged token of {client}")


def _is_of(alert: Mapping[str, Any], client: str) -> bool:
    return alert["labels"]["alertname"] == "PaymentApiTokenWithoutBirth" and client in json.dumps(
        alert
    )


def _said(follower: Follower) -> str:
    standing = follower.standing(time.time())
    return f"{standing.state}, {len(standing.orphans)} found, {standing.gaps} gaps"


def forge(cache: Cache, clients: Sequence[str]) -> None:
    """A token of each, signed and used, and never minted."""
    for client in clients:
        forged = cache.sign(client, time.time())
        wire = cache.client.pipeline(transaction=False)
        cache.see(wire, forged)
        cache.accept(wire, forged)
        wire.execute()


def limit(cache: Cache, full: bool) -> None:
    """From now on the server has no room and evicts keys, whichever they are; or has room again."""
    used = int(cache.client.info("memory")["used_memory"])
    cache.client.config_set("maxmemory-policy", "allkeys-random")
    cache.client.config_set("maxmemory", used if full else 0)


def cut(cache: Cache) -> None:
    cache.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def fail_over(cache: Cache, watched: SentinelSet) -> None:
    """The replica takes over, as an operator or a dead primary has it."""
    with watched.sentinel.client() as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", watched.master_name)
    with watched.replica.client() as client:
        while client.info("replication")["role"] != "master":
            time.sleep(0.1)
    watched.primary, watched.replica = watched.replica, watched.primary
    cache.use(watched.primary.port)


def _work(cache: Cache, honest: int) -> None:
    """Honest tokens: minted, used, one in ten renewed, one in ten evicted right away."""
    wire = cache.client.pipeline(transaction=False)
    for number in range(honest):
        token = cache.token(number)
        cache.mint(wire, token)
        cache.see(wire, token)
        cache.accept(wire, token)
        if number % 10 == 0:
            new = cache.token(number)
            cache.see(wire, new)
            named = {"isValid": True, "isRenewed": True, "renewedTokenString": new.jwt}
            cache.accept(wire, token, json.dumps(named).encode())
            cache.see(wire, new)
            cache.accept(wire, new)
        if number % 10 == 1:
            wire.delete(f"token_id:{token.jti}")
        if number % 200 == 0:
            wire.execute()
            while _buffers(cache) > BEHIND:  # services are slower than this
                time.sleep(0.02)
    wire.execute()


def _across(follower: Follower, make: Callable[[], None], *, gap: bool) -> None:
    """Make a gap, and wait until it was noticed and the cache is followed again."""
    before = follower.standing(time.time()).gaps
    make()
    while gap and follower.standing(time.time()).gaps == before:
        follower.look(time.time())
        time.sleep(0.05)
    _until_following(follower)
    time.sleep(2.5)  # a token's time of issue is in whole seconds, and clocks differ


def _settle(follower: Follower) -> None:
    for _ in range(10):
        follower.look(time.time())
        follower.standing(time.time())
        time.sleep(0.2)


def _until_following(follower: Follower) -> None:
    until = time.monotonic() + 600
    while follower.standing(time.time()).state != FOLLOWING:
        if time.monotonic() > until:
            raise SystemExit(f"it does not follow: {follower.standing(time.time()).why}")
        time.sleep(0.05)


def main() -> int:
    """0 when the budgets hold, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--changes", type=int, default=5_000)
    parser.add_argument("--honest", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--by", choices=("events", "tracking"), default="events")
    parser.add_argument("--only", choices=("ratios", "stopped", "forgeries", "alert"))
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch_only(options.watch)
        return 0
    held: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        server, port = scan.start_server(scan.server_binary(None), folder)
        try:
            cache = Cache(port, options.by)
            if options.only in (None, "ratios"):
                cache.fill(options.tokens)
                held += ratios(cache, options.changes, options.rounds)
                cache.client.flushall()
            if options.only in (None, "stopped"):
                held.append(stopped_watcher(cache))
                cache.client.flushall()
        finally:
            server.terminate()
            server.wait()
        if options.only in (None, "forgeries"):
            with redis_topologies.start_sentinel(Path(folder)) as watched:
                held.append(judged(watched, options.by, options.honest))
        if options.only in (None, "alert"):
            held.append(alerted(options.rounds))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
