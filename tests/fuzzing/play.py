"""One seed from end to end: a peer turns hostile while something else is down, in a single run, in
a loop, or while a report reads its history."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.stack import Stack
from tests import scripts
from tests.alerting_kit import free_port
from tests.faults.channels import alerting, told
from tests.faults.ground import Ground, Run
from tests.faults.peers import EXCEPTION_NAMES, ROWS_OF
from tests.faults.row import CACHE, EAPI, LOGIN, QUIET
from tests.fuzzing.nursery import Nursery
from tests.fuzzing.peers import (
    HostileHttp,
    HostilePeer,
    HostileRedis,
    HostileSmtp,
    Spoiled,
    kept,
    script_of,
)
from tests.fuzzing.scrapers import Scrapers
from tests.raw_server import RawServer, http

PASSWORD = "Zq7vRedisPassword0451"
BEARER = "Hx3-K8w2LbQz77tVbearer"
OPTIONS = replace(QUIET, redis_password=PASSWORD, preload=3)
PATIENCE = 45.0  # of a run whose cycle ends after 3 s and whose sending after 2: a busy machine
MEMORY = 150 * 1024  # kB
CYCLES = 3  # of a loop
#: peer -> the setting that leads to it, and which kind of server it is.
PEERS: dict[str, tuple[str, type[HostilePeer]]] = {
    "redis": ("REDIS_PORT", HostileRedis),
    "eapi": ("EAPI_ENDPOINT", HostileHttp),
    "sapi": ("SAPI_ENDPOINT", HostileHttp),
    "conjur": ("CONJUR_URL", HostileHttp),
    "rotation": ("ROTATION_ENDPOINT", HostileHttp),
    "slack": ("SLACK_WEBHOOK_URL", HostileHttp),
    "alertmanager": ("ALERTMANAGER_URL", HostileHttp),
    "heartbeat": ("HEARTBEAT_URL", HostileHttp),
    "smtp": ("SMTP_PORT", HostileSmtp),
    "pagerduty": ("", HostileHttp),
    "webhook": ("", HostileHttp),
}
#: Peers of another kind: a history server that reports read, and whoever scrapes a loop.
HISTORY, SCRAPER = "prometheus", "scraper"
REPORTS = {
    "health_check": ("--sla", "--lookback", "1h"),
    "token_usage_metrics": ("--analyze", "--lookback", "1h", "--format", "json"),
    "credential_usage_metrics": ("--inventory", "--format", "json"),
}
RECEIVERS = ("slack", "pagerduty", "webhook", "smtp")


@dataclass(frozen=True)
class Case:
    """What a line of fuzz-crashes.jsonl holds. `said`: what the peer answered then (`peers.kept`)
    and will answer again, whatever has become of the kit; empty: drawn from the seed."""

    seed: int
    peer: str
    script: str
    loop: bool = False
    said: str = ""

    @classmethod
    def of(cls, seed: int) -> Case:
        dice = random.Random(f"case:{seed}")
        peer = dice.choice([*PEERS, "redis", "redis", HISTORY, SCRAPER])
        script = dice.choice(scripts.SCRIPTS)
        return cls(seed, peer, script, peer == SCRAPER or dice.random() < 0.2)


def secrets_of(ground: Ground) -> list[str]:
    names = ("REDIS_PASSWORD", "MONITORING_AUTH_TOKEN", "CONJUR_AUTHN_API_KEY")
    names += ("MONITORING_CLIENT_SECRET", "PAGERDUTY_SERVICE_KEY")
    return [ground.env[name] for name in names]


def _usual(ground: Ground, peer: str) -> str:
    """The port or URL of the real peer."""
    name = PEERS[peer][0]
    return ground.env[name] if name else ground.overlay["CHANNEL_CONFIG"][peer]["url"]


def _lead(ground: Ground, peer: str, to: str) -> None:
    if PEERS[peer][0]:
        ground.env[PEERS[peer][0]] = to
    else:
        ground.overlay["CHANNEL_CONFIG"][peer]["url"] = to


@contextlib.contextmanager
def hostile(ground: Ground, case: Case) -> Iterator[HostilePeer]:
    """The peer's setting leads to a proxy before it."""
    usual = _usual(ground, case.peer)
    target = int(usual) if usual.isdigit() else urlsplit(usual).port
    assert target is not None
    with _proxy(PEERS[case.peer][1], target, ground, case) as proxy:
        _lead(ground, case.peer, usual.replace(str(target), str(proxy.port)))
        yield proxy


def _proxy(kind: type[HostilePeer], target: int, ground: Ground, case: Case) -> HostilePeer:
    script = script_of(case.said) if case.said else None
    return kind(target, f"{case.seed}:{case.peer}", secrets_of(ground), script)


def grounded(stack: Stack, folder: Path) -> Ground:
    """Alerts at the first bad cycle, little time for everything."""
    stack.faults.clear()
    ground = Ground(stack, folder)
    ground.env["MONITORING_AUTH_TOKEN"] = BEARER
    alerting(ground)
    ground.setting("ALERTS", {"send_budget": "10s"})  # a busy machine is no hostile receiver
    timed = ("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache", "redis-scan")
    ground.setting("TIMEOUTS", dict.fromkeys(timed, "1s"))
    ground.setting("RUN", {"cycle_deadline": "4s"})
    return ground


def play(case: Case, stack: Stack, nursery: Nursery, folder: Path) -> None:
    """Raises AssertionError saying what did not hold; its attribute `said` is what the peer
    answered."""
    ground = grounded(stack, folder)
    down = "sapi" if case.peer == "eapi" else "eapi"
    stack.faults.set(f"{down}-500")
    spoiled: Mapping[str, Spoiled] = {}
    try:
        if case.peer == SCRAPER:
            _scraped(case, ground, nursery, down)
        elif case.peer == HISTORY:
            with prometheus() as port, _proxy(HostileHttp, port, ground, case) as proxy:
                spoiled = proxy.spoiled
                ground.env["PROMETHEUS_URL"] = f"http://127.0.0.1:{proxy.port}"
                _reported(case, ground, nursery)
        else:
            with hostile(ground, case) as proxy:
                spoiled = proxy.spoiled
                judge(case, ground, _ran(case, ground, nursery), down)
    except AssertionError as error:
        error.said = kept(spoiled)  # type: ignore[attr-defined]
        raise


def _ran(case: Case, ground: Ground, nursery: Nursery, *more: str) -> dict[str, Any]:
    """A single run, or a loop of some cycles that is then asked to end."""
    target = str(ground.folder / ("r.jsonl" if case.loop else "r.json"))
    how = ("--interval", "0.3") if case.loop else ("--single-run",)
    words = ground.command(case.script, *how, "--output", target, "--verbose", *more)[2:]
    env = scripts.environment(ground.env)
    until = (target, CYCLES) if case.loop else None
    patience = PATIENCE * (2 if case.loop else 1)
    return nursery.run(case.script, words, env, ground.folder, patience=patience, until=until)


def _scraped(case: Case, ground: Ground, nursery: Nursery, down: str) -> None:
    port = free_port()
    with Scrapers(port, str(case.seed), secrets_of(ground)) as scrapers:
        done = _ran(case, ground, nursery, "--prometheus-port", str(port))
    judge(case, ground, done, down)
    assert scrapers.scraped, f"no proper scrape came through: {scrapers.failed}"
    pages = b"".join(page for _, page in scrapers.scraped).decode()
    assert "payment_api_" in pages
    _no_secret(ground, pages)


def _reported(case: Case, ground: Ground, nursery: Nursery) -> None:
    words = ground.command(case.script, *REPORTS[case.script])[2:]
    env = scripts.environment(ground.env)
    done = nursery.run(case.script, words, env, ground.folder, patience=PATIENCE)
    said = done["out"] + done["err"]
    _in_form(done, said)
    for line in done["err"].splitlines():
        json.loads(line, parse_constant=_no_constant)
    _no_secret(ground, said)


def _in_form(done: Mapping[str, Any], said: str) -> None:
    assert done["status"] in (0, 1, 2, 3), f"status {done['status']}: {said[-3000:]}"
    assert "Traceback" not in said, said[-3000:]
    assert "stack_trace" not in said, said[-3000:]
    assert not [n for n in EXCEPTION_NAMES if n in said], said[-4000:]
    assert done["rss"] < MEMORY, f"{done['rss']} kB"


def judge(case: Case, ground: Ground, done: Mapping[str, Any], down: str) -> None:
    said = done["out"] + done["err"]
    target = ground.folder / ("r.jsonl" if case.loop else "r.json")
    assert target.exists(), f"no result: {said[-3000:]}"
    written = target.read_text()
    _in_form(done, said + written)
    assert not case.loop or done["status"] == 0, f"a loop ended by SIGTERM: {said[-3000:]}"
    documents = written.splitlines() if case.loop else [written]
    assert len(documents) >= (CYCLES if case.loop else 1), f"{len(documents)} cycles"
    for text in documents:
        document = json.loads(text, parse_constant=_no_constant)
        run = Run(case.script, done["status"], done["out"], done["err"], document)
        run.check_form()
        _others_stand(case, run, down)
    _all_are_told(case, ground, run)
    _no_secret(ground, said + written)


@contextlib.contextmanager
def prometheus() -> Iterator[int]:
    """The port of a history server: each figure of each series is 1, in all of the time asked."""

    def say(wire: socket.socket, request: bytes) -> None:
        if not request:  # the proxy has gone
            return
        asked = parse_qs(urlsplit(request.split(b" ")[1].decode("latin-1")).query)
        start, end, step = (int(asked[name][0]) for name in ("start", "end", "step"))
        values = [[at, "1"] for at in range(start, end + 1, step)]
        labels = [{"component": name} for name in (EAPI, CACHE)] + [{"client_id": "client-001"}]
        series = [
            {"metric": {**each, "payment_api_stat": stat}, "values": values}
            for each in labels
            for stat in ("mean", "low", "high", "n")
        ]
        data = {"resultType": "matrix", "result": series}
        body = json.dumps({"status": "success", "data": data}).encode()
        wire.sendall(http(body, Content_Type="application/json"))

    with RawServer(say) as server:
        yield server.port


def _no_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _others_stand(case: Case, run: Run, down: str) -> None:
    rows = run.rows()
    mine = ROWS_OF.get(case.peer, ())
    outage = {f"payment-{down}", f"{down}-metrics"} & set(rows)
    assert outage, rows
    for name, row in rows.items():
        assert row["error"] != "internal", (name, row)
        if name in outage:
            assert not row["fine"], (name, row)
        elif name not in (*mine, LOGIN):
            assert row["fine"], (name, row)


def _all_are_told(case: Case, ground: Ground, run: Run) -> None:
    for kind in RECEIVERS:
        # one server takes what Slack, PagerDuty and the webhook are sent, under its own paths
        if kind != case.peer:
            assert told(ground, kind), f"{kind} was not told: {run.said()}"


def _no_secret(ground: Ground, said: str) -> None:
    kept = b"".join(path.read_bytes() for path in ground.state.rglob("*") if path.is_file())
    for secret in secrets_of(ground):
        for piece in _pieces(secret):
            assert piece not in said, f"{piece!r} of a secret: {_around(said, piece)}"
            assert piece.encode() not in kept, f"{piece!r} of a secret in the state"


def _around(text: str, piece: str) -> str:
    at = text.index(piece)
    return text[max(0, at - 300) : at + 300]


def _pieces(secret: str) -> Iterator[str]:
    """Nine characters in a row, or fourteen of an encoded form."""
    raw = secret.encode()
    encoded = (raw.hex(), base64.b64encode(raw).decode(), "".join(f"%{b:02X}" for b in raw))
    for text, size in ((secret, 9), *((form, 14) for form in encoded)):
        for start in range(len(text) - size + 1):
            yield text[start : start + size]
