from __future__ import annotations

import json
from dataclasses import replace

import pytest

from monitoring.model import (
    Alert,
    AlertKey,
    AlertRow,
    Component,
    Finding,
    Measurement,
    Outcome,
    Severity,
    Source,
    Verdict,
)
from monitoring.output import report

EAPI = Component("payment-eapi", Severity.OK, True, 51.94, message="UP")
REDIS = Component(
    "redis-cache",
    Severity.CRITICAL,
    False,
    None,
    "timeout",
    "no answer from 127.0.0.1:6379 within 2 s",
)
CANARY = Component(
    "authentication-flow", Severity.UNKNOWN, None, message="no canary", configured=False
)
KEY = AlertKey("prod", "health_check", "redis-cache", "health_status")
BASE = Outcome("health_check", "prod", "1.0.0", 1795399200.123, 0.2124)


def outcome(**parts: object) -> Outcome:
    return replace(BASE, **parts)  # type: ignore[arg-type]


SOURCE = Source("redis", ok=True)
BLIND = Source("conjur", ok=False, why="401")
ABSENT = Source("rotation", ok=False, configured=False)
LATE = Measurement("payment_api_response_time_ms", 400.0, {"component": "payment-eapi"})
SLOW = Verdict(LATE, Severity.WARNING, 300.0, "above_warning")
ODD = Finding("new_client", Severity.CRITICAL, "new-07 has never been seen", "payment-eapi")


@pytest.mark.parametrize(
    ("parts", "status", "exit_status"),
    [
        ({}, "unknown", 3),  # nothing was measured
        ({"components": (EAPI,)}, "ok", 0),
        ({"components": (EAPI, REDIS)}, "critical", 2),
        ({"components": (EAPI, CANARY)}, "ok", 0),  # not configured is not a failure
        ({"components": (CANARY,)}, "unknown", 3),
        ({"components": (EAPI, replace(CANARY, configured=True))}, "warning", 1),  # partly blind
        ({"components": (EAPI,), "verdicts": (SLOW,)}, "warning", 1),
        ({"sources": (SOURCE,)}, "ok", 0),
        ({"sources": (SOURCE, BLIND)}, "warning", 1),
        ({"sources": (SOURCE, ABSENT)}, "ok", 0),
        ({"sources": (BLIND, ABSENT)}, "unknown", 3),
        ({"sources": (SOURCE,), "findings": (ODD,)}, "critical", 2),
    ],
)
def test_the_overall_status(parts: dict[str, object], status: str, exit_status: int) -> None:
    made = outcome(**parts)
    assert (made.status.word, made.exit_status) == (status, exit_status)


def test_the_document_has_the_agreed_fields() -> None:
    alert = Alert(KEY, Severity.CRITICAL, "redis is down", value=0, threshold=1)
    made = outcome(
        components=(EAPI, REDIS),
        measurements=(LATE,),
        findings=(replace(ODD, client="new\x1b[31m07"),),
        sources=(SOURCE, BLIND),
        alerts=(AlertRow(alert, "firing", since=1795399100.0),),
    )
    document = json.loads(json.dumps(report.as_json(made), allow_nan=False))
    assert document["timestamp"] == "2026-11-23T02:00:00.123Z"
    assert document["duration_ms"] == 212.4
    assert document["components"]["redis-cache"] == {
        "status": "critical",
        "up": False,
        "response_time_ms": None,
        "error": "timeout",
        "message": "no answer from 127.0.0.1:6379 within 2 s",
        "details": {},
    }
    assert document["metrics"][0]["value"] == 400.0
    assert document["findings"][0]["client"] == "new\\x1b[31m07~ad218518"
    assert document["sources"]["conjur"]["why"] == "401"
    assert document["alerts"][0]["state"] == "firing"
    assert "tokens" not in document


def test_what_json_cannot_say_is_null() -> None:
    odd = {"nan": float("nan"), "inf": float("inf"), "tuple": (1, 2), "object": object}
    plain = report.plain_json(odd)
    assert plain["nan"] is None
    assert plain["inf"] is None
    assert plain["tuple"] == [1, 2]
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert "too deep" in str(report.plain_json(deep))


def test_the_sentence_of_a_cycle() -> None:
    made = outcome(components=(EAPI, REDIS), sources=(BLIND,))
    said = report.sentence(made)
    assert said.startswith("health_check critical: 1 of 2 components up, redis-cache critical")
    assert "conjur: 401" in said


def crossed(name: str, threshold: str, **labels: str) -> Verdict:
    figure = Measurement(name, 200.0, labels)
    return Verdict(figure, Severity.CRITICAL, 14.4, "above_critical", threshold)


def test_no_bad_status_without_a_word() -> None:
    burning = crossed(
        "payment_api_error_budget_burning",
        "availability.error_budget_burn_rate",
        component="redis-cache",
    )
    slow = crossed(
        "payment_api_response_time_ms", "performance.api_response_time", component="payment-eapi"
    )
    failing = crossed(
        "payment_api_authentication_failures_recent",
        "security.authentication_failures",
        client_id="c-1",
    )
    made = outcome(components=(EAPI,), verdicts=(burning, slow))
    said = "redis-cache: error budget burn rate (as over one hour) 200 x (critical from 14.4 x)"
    assert report.crossings(made) == [said], "what a component says itself is not said twice"
    assert said in report.sentence(made)
    made = outcome(verdicts=(failing,) * 7)
    assert report.crossings(made)[0].startswith("c-1: failed logins 200")
    assert report.crossings(made)[-1] == "and 2 more limits"


def test_a_spreadsheet_cannot_be_made_to_run_a_client_id() -> None:
    made = outcome(credentials={"c1": {"state": "=HYPERLINK(1)", "age_days": 3, "more": None}})
    header, rows = report.table(made)
    assert header == ["client", "state", "age_days", "more"]
    assert rows == [["c1", "'=HYPERLINK(1)", 3, None]]


def level(name: str, value: float, **labels: str) -> Measurement:
    return Measurement(name, value, {**labels, "window": "30d"})


def test_the_figures_of_a_line_are_numbers_and_what_is_not_known_is_left_out() -> None:
    rows = {"a": {"age_days": 41.0, "failures": 1}, "b": {"age_days": None, "failures": None}}
    found = report.figures(
        outcome(
            components=(Component("redis-cache", Severity.OK, True, 1.23456),
                        Component("payment-eapi", Severity.UNKNOWN, None)),
            tokens={"total": 16, "active": 15, "validations": {"success": None, "failure": 2}},
            credentials=rows,
            measurements=(
                level("payment_api_sla_availability_ratio", 0.9994999, component="redis-cache"),
                level("payment_api_system_sla_availability_ratio", 0.9),
            ),
        )
    )  # fmt: skip
    assert found == {
        "payment_api.components.redis-cache.availability_30d": 0.9995,
        "payment_api.sla.availability_30d": 0.9,
        "payment_api.components.redis-cache.response_time_ms": 1.235,
        "payment_api.tokens.total": 16,
        "payment_api.tokens.active": 15,
        "payment_api.validations.failures": 2,
        "payment_api.credentials.count": 2,
        "payment_api.credentials.failures": 1,
        "payment_api.credentials.oldest_age_days": 41.0,
        "payment_api.findings": 0,
        "payment_api.alerts_firing": 0,
    }
    unread = report.figures(outcome(credentials={"b": rows["b"]}, tokens={"validations": None}))
    assert not [name for name in unread if "failures" in name or "age" in name]
