"""Buckets from JSON lines, findings to JSON lines."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from monitoring.anomaly.detector import Anomaly, Usage
from monitoring.anomaly.replay import as_json, parse_bucket
from tests.anomaly_worlds import START

LINE = """{"at":"2026-03-02T00:00:00Z","seconds":3600,"clients":
{"client-001":{"ok":12,"failed":0,"sources":{"10.0.0.1":12}},"b":{"ok":1.5}}}"""


def _line(**changes: Any) -> dict[str, Any]:
    return {**json.loads(LINE), **changes}


def test_a_line_becomes_a_bucket() -> None:
    bucket = parse_bucket(json.loads(LINE))
    assert (bucket.at, bucket.seconds) == (START, 3600)
    assert bucket.clients == {
        "client-001": Usage(12, 0, {"10.0.0.1": 12}),
        "b": Usage(1.5, 0, None),
    }


@pytest.mark.parametrize(
    ("at", "later"),
    [
        ("2026-03-02T00:00:00Z", 0.0),
        ("2026-03-02T02:00:00+02:00", 0.0),
        ("2026-03-01T19:30:00-05:30", 3600.0),
        ("2026-03-02T00:05:00.250Z", 300.25),
    ],
)
def test_times_may_carry_a_zone_and_a_fraction(at: str, later: float) -> None:
    assert parse_bucket(_line(at=at)).at == pytest.approx(START + later)


WRONG = [
    ([], "must be a JSON object"),
    ({"at": "2026-03-02T00:00:00Z", "seconds": 3600}, "has no 'clients'"),
    (_line(at=17), "'at' must be a time"),
    (_line(at="2026-03-02"), "'at' must be a time"),
    (_line(at="2026-03-02T00:00:00"), "'at' must be a time"),
    (_line(at="2026-02-31T00:00:00Z"), "no date of the calendar"),
    (_line(seconds=0), "'seconds' must be above 0"),
    (_line(seconds=7200), "at most 3600"),
    (_line(seconds=True), "'seconds' must be a number from 0 to 1e15"),
    (_line(clients=[]), "'clients' must be an object"),
    (_line(clients={"a": 3}), "client 'a' must be an object"),
    (_line(clients={"a": {"failed": 3}}), "client 'a' has no 'ok'"),
    (_line(clients={"a": {"ok": -1}}), "'ok' of client 'a' must be a number from 0 to 1e15"),
    (_line(clients={"a": {"ok": "12"}}), "'ok' of client 'a' must be a number from 0 to 1e15"),
    (
        _line(clients={"a": {"ok": float("nan")}}),
        "'ok' of client 'a' must be a number from 0 to 1e15",
    ),
    (_line(clients={"a": {"ok": 1 << 60}}), "'ok' of client 'a' must be a number from 0 to 1e15"),
    (_line(clients={"a": {"ok": 1, "failed": None}}), "'failed' of client 'a'"),
    (
        _line(clients={"a": {"ok": 1, "sources": ["x"]}}),
        "'sources' of client 'a' must be an object",
    ),
    (_line(clients={"a": {"ok": 1, "sources": {"x": -2}}}), "'sources' of client 'a'"),
]


@pytest.mark.parametrize(("line", "sentence"), WRONG)
def test_what_is_wrong_is_named(line: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("'", ".")):
        parse_bucket(line)


def test_a_finding_becomes_the_documented_line() -> None:
    anomaly = Anomaly(START + 3600, "a", "silence", 5.123, 0.0, 20.5551, "Quiet.", "warning", 21.04)
    anomaly = replace(anomaly, evidence={"hours": 5, "share": 0.12345, "technique": "T1078"})
    assert as_json(anomaly) == {
        "at": "2026-03-02T01:00:00Z",
        "client": "a",
        "reason": "silence",
        "score": 5.12,
        "observed": 0.0,
        "expected": 20.555,
        "sentence": "Quiet.",
        "severity": "warning",
        "profile_age_days": 21.04,
        "evidence": {"hours": 5, "share": 0.123, "technique": "T1078"},
    }
