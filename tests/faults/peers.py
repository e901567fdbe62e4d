"""Rows: one peer that says what nobody expects, beside an EAPI that is down. What it says spoils
its own component, by a class of its own, and nothing else: the outage is seen by everybody."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from tests.faults.channels import alerting, told
from tests.faults.ground import Ground, Run
from tests.faults.resp_proxy import Answer, Judge, RespProxy
from tests.faults.row import CACHE, EAPI, LOGIN, SAPI, VAULT, Row
from tests.faults.servers import RawServer, http
from tests.scripts import SCRIPTS

CASES = Path(__file__).resolve().parents[1] / "data" / "peers.jsonl"
#: What a user has not to read: the names of Python's own exceptions.
EXCEPTION_NAMES = ("ValueError", "TypeError", "KeyError", "IndexError", "AttributeError")
EXCEPTION_NAMES += ("OverflowError", "UnicodeEncodeError", "UnicodeDecodeError", "RecursionError")
EXCEPTION_NAMES += ("AssertionError", "MemoryError", "ZeroDivisionError", "StopIteration")


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def scanned(keys: list[str], cursor: str = "0") -> bytes:
    rows = b"".join(bulk(key.encode()) for key in keys)
    return b"*2\r\n" + bulk(cursor.encode()) + b"*%d\r\n" % len(keys) + rows


def hostile_cache(given: Mapping[str, Any]) -> Judge:
    """`info`: fields of INFO; `keys`: what SCAN finds; `replies`: raw replies by command;
    `endless`: SCAN never ends, and its keys begin so."""
    replies = {name: text.encode() for name, text in given.get("replies", {}).items()}
    if "info" in given:
        lines = "".join(f"{name}:{value}\r\n" for name, value in given["info"].items())
        replies["INFO"] = bulk(f"# Server\r\nredis_version:7.0\r\n{lines}".encode())
    if "keys" in given:
        replies.setdefault("SCAN", scanned(given["keys"]))
    pages = [0]

    def judge(command: str, _connection: int) -> Answer:
        if "endless" in given and command == "SCAN":
            pages[0] += 1
            return scanned([f"{given['endless']}{pages[0]}:{n}" for n in range(10)], str(pages[0]))
        return replies.get(command)

    return judge


@contextlib.contextmanager
def bad_cache(ground: Ground, given: Mapping[str, Any]) -> Iterator[None]:
    before = given.get("before", {})
    noise = before.get("text", "").encode() * before.get("times", 1)
    with RespProxy(ground.stack.redis_port, hostile_cache(given), noise=noise) as proxy:
        ground.env["REDIS_PORT"] = str(proxy.port)
        yield


@contextlib.contextmanager
def bad_http(ground: Ground, given: Mapping[str, Any]) -> Iterator[None]:
    """`body` of every answer of the rotation service, or `values` of a Prometheus."""
    name = {"rotation": "ROTATION_ENDPOINT", "prometheus": "PROMETHEUS_URL"}[given["peer"]]
    body = given.get("body", "")
    if "values" in given:
        data = {"resultType": "matrix", "result": [{"metric": {}, "values": "@"}]}
        body = json.dumps({"status": "success", "data": data}).replace('"@"', given["values"])
    answer = http(body.encode("utf-8", "surrogatepass"), Content_Type="application/json")

    def say(wire: Any, _request: bytes) -> None:
        wire.sendall(answer)

    with RawServer(say) as server:
        ground.env[name] = server.url
        yield


@contextlib.contextmanager
def hanging(ground: Ground, given: Mapping[str, Any]) -> Iterator[None]:
    ground.stack.faults.set(f"{given['peer']}-{given['fault']}")
    yield


def _making(given: Mapping[str, Any]) -> Callable[..., Any]:
    if "fault" in given:
        return hanging
    return bad_cache if given["peer"] == "redis" else bad_http


#: How the rows of a peer are named in health_check's document, and in the others'.
ROWS_OF: dict[str, tuple[str, ...]] = {
    "redis": (CACHE, "redis", "redis-cache-figures"),
    "rotation": ("rotation-service",),
    "prometheus": (),
    "eapi": (EAPI, "eapi-metrics"),
    "sapi": (SAPI, "sapi-metrics"),
    "conjur": (VAULT, "conjur"),
}


def _down(ground: Ground, case: Mapping[str, Any]) -> str:
    """Which service answers 500 beside the peer."""
    down = "sapi" if case["given"]["peer"] == "eapi" else "eapi"
    ground.stack.faults.set(f"{down}-500")
    return down


def check(run: Run, peer: str, down: str) -> dict[str, Any]:
    """The run is in good form, the outage is seen, and the peer alone is spoiled."""
    run.check_form()
    said = run.out + run.err + json.dumps(run.document)
    assert not [name for name in EXCEPTION_NAMES if name in said], said[-3000:]
    rows = run.rows()
    outage = {f"payment-{down}", f"{down}-metrics"} & set(rows)
    assert outage, rows
    for name in outage:
        assert not rows[name]["fine"], (name, rows[name])
    mine = {name: row for name, row in rows.items() if name in ROWS_OF[peer]}
    for name, row in mine.items():
        assert row["error"] != "internal", row
        assert row["fine"] or row["error"], (name, row)
    for name, row in rows.items():
        assert row["fine"] or name in {*outage, *mine, LOGIN}, (name, row)
    return mine


def _play(case: Mapping[str, Any]) -> Callable[[Ground], str]:
    given, making = case["given"], _making(case["given"])

    def play(ground: Ground) -> str:
        alerting(ground)
        down = _down(ground, case)
        words = []
        if "deadline" in given:
            ground.setting("RUN", {"cycle_deadline": f"{given['deadline']}s"})
        with making(ground, given):
            if given["peer"] == "prometheus":
                return _reports(ground)
            for script in SCRIPTS:
                run = ground.run(script)
                mine = check(run, given["peer"], down)
                most = 2 * given.get("deadline", 20)
                assert run.seconds < most, f"{script} took {run.seconds} s"
                bad = [f"{n} {r['error']}" for n, r in mine.items() if not r["fine"]]
                words.append(f"{script.partition('_')[0]} {run.status} {bad}")
        for kind in ("pagerduty", "slack", "webhook", "smtp"):
            assert told(ground, kind), f"{kind} was not told"
        assert any(down in text.lower() for text in told(ground, "webhook")), "the outage"
        return "; ".join(words)

    return play


def _reports(ground: Ground) -> str:
    ends = []
    for script, word in (("health_check", "--sla"), ("token_usage_metrics", "--analyze")):
        run = ground.run(script, word)
        run_text = run.out + run.err
        assert "Traceback" not in run_text, run_text
        assert "stack_trace" not in run_text, run_text
        assert not [name for name in EXCEPTION_NAMES if name in run_text], run_text
        assert run.status in (0, 1, 2, 3), run.said()
        ends.append(run.status)
    return f"exits {ends}"


def _rows() -> Iterator[Row]:
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        yield Row(f"peer: {case['case']}", play=_play(case))


ROWS = tuple(
    replace(row, group="peers", options=replace(row.options, preload=5)) for row in _rows()
)
