"""What a health answer says, by HTTP code and body together: the probe table of the services."""

from __future__ import annotations

import json

import pytest

from monitoring.health.words import call_for, dependencies, dependency_up, word_of
from monitoring.model import Severity

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL


def answer(status, body=None, text=None):
    return {"status": status, "body": body, "text": json.dumps(body) if text is None else text}


@pytest.mark.parametrize(
    ("status", "body", "severity", "up", "error"),
    [
        (200, {"status": "UP"}, OK, True, None),
        (200, {"status": "up", "service": "Payment-EAPI"}, OK, True, None),
        (204, {"status": "UP"}, OK, True, None),
        (200, {"status": {"code": "UP"}}, OK, True, None),
        (200, {"status": "DEGRADED"}, WARNING, True, None),
        (200, {"status": "WILL_EXPIRE_SOON"}, WARNING, True, None),
        (200, {"status": "DOWN"}, CRITICAL, False, None),  # 200 with DOWN is down
        (200, {"status": "OUT_OF_SERVICE"}, CRITICAL, False, None),
        (200, {"status": "out-of-service"}, CRITICAL, False, None),
        (200, {"status": "Out of Service"}, CRITICAL, False, None),
        (200, {"status": "UNKNOWN"}, UNKNOWN, None, None),
        (200, {"status": "BANANA"}, UNKNOWN, None, None),  # a custom word: no guess
        (200, {"status": ""}, UNKNOWN, None, "body"),
        (200, {"health": "fine"}, UNKNOWN, None, "body"),
        (200, [1, 2], UNKNOWN, None, "body"),
        (503, {"status": "DEGRADED"}, WARNING, True, None),  # a useful body is read
        (503, {"status": "DOWN"}, CRITICAL, False, None),
        (503, {"status": "OUT_OF_SERVICE"}, CRITICAL, False, None),
        (503, {"status": "UP"}, WARNING, True, "http"),  # code and body disagree
        (503, {"status": "BANANA"}, CRITICAL, False, "http"),
        (500, {"status": "UP"}, CRITICAL, False, "http"),
        (502, None, CRITICAL, False, "http"),
        (401, None, UNKNOWN, None, "auth"),
        (403, None, UNKNOWN, None, "auth"),
        (404, {"status": 404, "error": "Not Found"}, UNKNOWN, None, "http"),
        (405, None, UNKNOWN, None, "http"),
        (429, None, UNKNOWN, None, "http"),
        (302, None, UNKNOWN, None, "redirect"),
        (418, None, UNKNOWN, None, "http"),
    ],
)
def test_code_and_body(*, status, body, severity, up, error):
    call = call_for(answer(status, body))
    assert (call.severity, call.up, call.error) == (severity, up, error)
    assert call.message


@pytest.mark.parametrize(
    ("status", "text", "severity", "up"),
    [
        (200, "", OK, True),  # liveness paths answer with an empty body
        (503, "", CRITICAL, False),
        (200, "OK", OK, True),
        (200, "down\n", CRITICAL, False),
        (200, "<html>Welcome to the load balancer</html>", UNKNOWN, None),
    ],
)
def test_bodies_that_are_no_json(status, text, severity, up):
    call = call_for(answer(status, None, text))
    assert (call.severity, call.up) == (severity, up)


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "MONITORING_AUTH_TOKEN"), (403, "MONITORING_AUTH_TOKEN"), (404, "/actuator/health")],
)
def test_what_cannot_be_told_names_its_cure(status, cure):
    assert cure in call_for(answer(status)).message


FLAT = {"service": "E", "status": "DEGRADED", "conjurVault": "DOWN", "redisCache": "UP"}
V3 = {
    "status": "DOWN",
    "groups": ["liveness"],
    "components": {
        "redis": {"status": "UP", "details": {"version": "7.2.4"}},
        "ping": {"status": "UP"},
        "broker": {"status": "DOWN", "components": {"b1": {"status": "out-of-service"}}},
    },
}
V2 = {
    "status": "UP",
    "details": {
        "db": {"status": "UP", "details": {"database": "PostgreSQL", "status": "UP"}},
        "broker": {"status": "DOWN", "details": {"b1": {"status": "DOWN"}}},
    },
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (FLAT, {"conjurVault": "DOWN", "redisCache": "UP"}),
        (
            V3,
            {"redis": "UP", "ping": "UP", "broker": "DOWN", "broker/b1": "OUT_OF_SERVICE"},
        ),
        (V2, {"db": "UP", "broker": "DOWN", "broker/b1": "DOWN"}),
        ({"status": "UP", "redis": {"status": "UP"}}, {"redis": "UP"}),
        ({"status": "UP", "version": "1.2", "uptime": 3}, {}),
        ({"status": "UP"}, {}),
        ("UP", {}),
        (None, {}),
    ],
)
def test_dependencies(body, expected):
    assert dependencies(body) == expected


def test_hostile_trees_are_bounded():
    deep: object = {"status": "UP"}
    for _ in range(100):
        deep = {"status": "UP", "components": {"x": deep}}
    wide = {"status": "UP", "components": {f"d{i}\x1b[31m": {"status": "UP"} for i in range(999)}}
    assert len(dependencies(deep)) < 10
    found = dependencies(wide)
    assert len(found) == 64
    assert not any("\x1b" in name for name in found)
    assert len(word_of({"status": "X" * 10_000})) <= 64


@pytest.mark.parametrize(
    ("word", "value"),
    [("UP", 1.0), ("DEGRADED", 1.0), ("DOWN", 0.0), ("UNKNOWN", None), ("?", None)],
)
def test_dependency_figure(word, value):
    assert dependency_up(word) == value
