"""The Conjur vault judged: editions, roles, degradation, and the authenticated steps."""

from __future__ import annotations

import pytest

from monitoring.catalog import METRICS
from monitoring.health.judges import judge
from monitoring.health.judging import Context
from monitoring.model import Fault, Reading, Severity

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
NOW = 1_795_400_000.0
OSS = {"edition": "oss", "ok": True, "degraded": False, "version": "1.24.0"}
LEADER = {
    **OSS,
    "edition": "enterprise",
    "role": "master",
    "replication_lag_bytes": 4096,
    "free_bytes": 12_000_000_000,
}
FOLLOWER = {**OSS, "edition": "enterprise", "role": "follower", "stale": False}


def read(health=None, fault=None, **more):
    facts = {**more, **({"health": health} if health else {})}
    return Reading("conjur-vault", NOW, 0.03 if health else None, facts, fault)


@pytest.mark.parametrize(
    ("health", "severity", "up", "said"),
    [
        (OSS, OK, True, "the vault says that it is ok"),
        (LEADER, OK, True, "the vault says that it is ok"),
        (FOLLOWER, OK, True, "the vault says that it is ok"),
        (
            {**LEADER, "degraded": True, "messages": ["cluster: lost"]},
            WARNING,
            True,
            "cluster: lost",
        ),
        ({**LEADER, "ok": False, "messages": ["database"]}, CRITICAL, False, "database"),
        ({**LEADER, "ok": False, "degraded": True}, CRITICAL, False, "not ok"),
        ({**FOLLOWER, "stale": True}, WARNING, True, "old data"),  # ok:true and yet stale
        ({**OSS, "ok": None}, UNKNOWN, None, "does not say"),
    ],
)
def test_what_it_says_of_itself(health, severity, up, said):
    component = judge(read(health), Context()).component
    assert (component.status, component.up) == (severity, up)
    assert said in component.message
    assert component.response_time_ms == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("kind", "severity", "up"),
    [("refused", CRITICAL, False), ("timeout", CRITICAL, False), ("tls", CRITICAL, False),
     ("body", UNKNOWN, None), ("http", UNKNOWN, None), ("auth", UNKNOWN, True)],
)  # fmt: skip
def test_no_answer(kind, severity, up):
    component = judge(read(fault=Fault(kind, "why")), Context()).component
    assert (component.status, component.up, component.error) == (severity, up, kind)


@pytest.mark.parametrize(("status", "severity"), [(500, CRITICAL), (502, CRITICAL), (404, UNKNOWN)])
def test_a_refusal_of_the_health_page(status, severity):
    component = judge(read(fault=Fault("http", "why"), http_status=status), Context()).component
    assert (component.status, component.error) == (severity, "http")


@pytest.mark.parametrize(
    ("step", "kind", "status", "severity", "up", "said"),
    [
        ("authenticate", "auth", 401, WARNING, True, "our login is refused: why"),
        ("count", "noperm", 403, WARNING, True, "the count of variables is refused"),
        ("count", "http", 404, WARNING, True, "the count of variables is refused"),
        # ok by its own word, and yet nobody gets in
        ("count", "body", 200, WARNING, True, "the count of variables cannot be read"),
        ("authenticate", "timeout", None, CRITICAL, False, "our login fails"),
        ("authenticate", "http", 500, CRITICAL, False, "our login fails"),
        ("count", "connect", None, CRITICAL, False, "the count of variables fails"),
    ],
)
def test_authenticated_steps(*, step, kind, status, severity, up, said):
    reading = read(OSS, step_fault=(step, Fault(kind, "why"), status), steps={"health": 0.03})
    component = judge(reading, Context()).component
    assert (component.status, component.up, component.error) == (severity, up, kind)
    assert said in component.message


def test_its_own_trouble_speaks_first():
    failed = ("authenticate", Fault("auth", "refused"), 401)
    component = judge(read({**LEADER, "ok": False}, step_fault=failed), Context()).component
    assert component.status is CRITICAL
    assert component.message.startswith("is not ok")
    assert "refused" in component.message


def test_figures():
    reading = read(LEADER, steps={"health": 0.03, "authenticate": 0.1, "count": None})
    found = {(m.name[12:], m.labels.get("step", "")): m.value
             for m in judge(reading, Context()).measurements}  # fmt: skip
    assert found["conjur_degraded", ""] == 0.0
    assert found["conjur_replication_lag_bytes", ""] == 4096.0
    assert found["conjur_free_bytes", ""] == 12e9
    assert found["conjur_step_seconds", "authenticate"] == 0.1
    assert found["conjur_step_seconds", "count"] is None
    for measurement in judge(reading, Context()).measurements:
        assert set(measurement.labels) == set(METRICS[measurement.name].labels)


def test_details_say_why_no_login_was_tried():
    details = judge(read(OSS, credentials=False), Context()).component.details
    assert "CONJUR_AUTHN_LOGIN" in details["access"]
    assert (details["edition"], details["version"]) == ("oss", "1.24.0")


def test_degraded_and_nobody_gets_in_are_both_said():
    failed = ("authenticate", Fault("auth", "refused"), 401)
    component = judge(read({**LEADER, "degraded": True}, step_fault=failed), Context()).component
    assert component.status is WARNING
    assert component.message.startswith("the vault says that it is degraded")
    assert "refused" in component.message


@pytest.mark.parametrize("status", [500, 499])
def test_a_health_page_that_fails_is_down_from_500_on(status):
    component = judge(read(fault=Fault("http", "why"), http_status=status), Context()).component
    assert component.up is (False if status == 500 else None)


@pytest.mark.parametrize(
    ("variables", "before", "severity", "said"),
    [
        (None, None, OK, "the vault says that it is ok"),
        (1, None, OK, "the vault says that it is ok"),
        (7, 7.0, OK, "the vault says that it is ok"),
        (0, None, UNKNOWN, "shows it no variable;"),
        (0, 5.0, UNKNOWN, "shows it no variable any more (it showed 5 before);"),
    ],
)
def test_a_vault_that_shows_us_nothing_is_not_known_to_work(variables, before, severity, said):
    facts = {} if variables is None else {"variables": variables}
    known = {} if before is None else {"conjur/variables": before}
    judged = judge(read(OSS, **facts), Context(counters=known))
    assert (judged.component.status, judged.component.up) == (severity, True)
    assert said in judged.component.message
    assert dict(judged.counters) == ({"conjur/variables": variables} if variables else {})


def test_so_many_remarks_are_said_and_so_many_shown():
    many = [f"part {n}" for n in range(12)]
    component = judge(read({**LEADER, "messages": many[:8], "remarks": many}), Context()).component
    assert "part 4" in component.message
    assert "part 5" not in component.message
    assert len(component.details["messages"]) == 8
    assert component.details["remarks"] == many[:10]


@pytest.mark.parametrize(
    ("step", "kind", "worked", "said"),
    [
        ("authenticate", "auth", NOW - 60, True),
        ("authenticate", "auth", None, False),
        ("authenticate", "noperm", NOW - 60, False),
        ("count", "auth", NOW - 60, False),
    ],
)
def test_a_login_that_worked_before_is_named_with_what_may_have_happened(step, kind, worked, said):
    once = {} if worked is None else {"conjur-login/host/m": worked}
    reading = read(OSS, step_fault=(step, Fault(kind, "why"), 401), identity="host/m")
    message = judge(reading, Context(worked=once)).component.message
    assert ("this login worked at" in message) is said


def test_what_is_remembered_of_an_answer():
    login, page = "conjur-login/host/m", "conjur-vault|t|word|"
    facts = {"identity": "host/m", "target": "t"}
    for steps, health, worked in (
        ({"authenticate": 0.1}, OSS, (login, page)),
        ({"authenticate": None}, OSS, (page,)),
        ({}, OSS, (page,)),
        ({"authenticate": 0.1}, {**OSS, "ok": None}, (login,)),
        ({}, None, ()),
    ):
        assert judge(read(health, steps=steps, **facts), Context()).worked == worked
    assert judge(read(OSS), Context()).worked == ()


def test_what_a_vault_says_of_itself_is_cleaned():
    details = judge(read({**OSS, "version": "1\x1b[2J"}), Context()).component.details
    assert "\x1b" not in details["version"]
