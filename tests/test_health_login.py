"""The authentication flow judged: each step, the token's rules, and the proofs."""

from __future__ import annotations

import pytest

from monitoring.catalog import METRICS
from monitoring.config.settings import CanarySettings, TokenSettings
from monitoring.health.judges import judge, sources_of
from monitoring.health.judging import Context, Proof
from monitoring.health.login import PROOFS
from monitoring.model import Fault, Reading, Severity

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
NOW = 1_795_400_000.0
CONTEXT = Context(canary=CanarySettings("canary"), tokens=TokenSettings())
CLAIMS = {
    "sub": "canary",
    "iss": "payment-eapi",
    "aud": "payment-sapi",
    "iat": int(NOW),
    "exp": int(NOW) + 3600,
    "permissions": ["process_payment", "view_status"],
}
GIVEN = {"status": 200, "has_token": True}
VALID = {"status": 200, "valid": True}
DOWN = {"fault": Fault("refused", "nobody listens at 127.0.0.1:8080")}


def read(token=GIVEN, validate=VALID, claims=CLAIMS, **more):
    facts = {"client": "canary", "token": token, "validate": validate, "received_at": NOW + 0.2}
    facts.update(claims=claims, algorithm="HS256", steps={"token": 0.1, "validate": 0.02})
    facts.update(more)
    return Reading("authentication-flow", NOW, 0.1, facts)


def figures(judged):
    return {(m.name[12:], *m.labels.values()): m.value for m in judged.measurements}


@pytest.mark.parametrize(
    ("token", "validate", "severity", "up", "parent", "said"),
    [
        (GIVEN, VALID, OK, True, None, "end to end"),
        (DOWN, None, CRITICAL, False, "payment-eapi", "nobody listens"),
        ({"status": 401}, None, CRITICAL, False, "payment-eapi", "MONITORING_CLIENT_SECRET"),
        ({"status": 403}, None, CRITICAL, False, "payment-eapi", "refuses"),
        ({"status": 500}, None, CRITICAL, False, "payment-eapi", "HTTP 500"),
        ({"status": 404}, None, UNKNOWN, None, "payment-eapi", "token path"),
        ({"status": 429}, None, UNKNOWN, None, "payment-eapi", "429"),
        ({"status": 302}, None, UNKNOWN, None, "payment-eapi", "302"),
        ({"status": 200, "has_token": False}, None, CRITICAL, False, "payment-eapi", "no token"),
        (GIVEN, DOWN, CRITICAL, False, "payment-sapi", "nobody listens"),
        (GIVEN, {"status": 200, "valid": False}, CRITICAL, False, "payment-sapi", "refuses"),
        (GIVEN, {"status": 401}, CRITICAL, False, "payment-sapi", "refuses"),
        (GIVEN, {"status": 403}, CRITICAL, False, "payment-sapi", "permission"),
        (GIVEN, {"status": 503}, CRITICAL, False, "payment-sapi", "HTTP 503"),
        (GIVEN, {"status": 404}, UNKNOWN, None, "payment-sapi", "validate path"),
        (GIVEN, {"status": 200, "valid": None}, UNKNOWN, None, "payment-sapi", "does not say"),
        (GIVEN, {"fault": Fault("body", "no JSON")}, UNKNOWN, None, "payment-sapi", "no JSON"),
    ],
)
def test_the_first_step_that_fails_decides(*, token, validate, severity, up, parent, said):
    component = judge(read(token, validate), CONTEXT).component
    assert (component.status, component.up) == (severity, up)
    assert component.details.get("parent") == parent
    assert said in component.message


def test_without_a_canary_it_is_unknown_with_the_cure():
    reading = Reading("authentication-flow", NOW, configured=False)
    judged = judge(reading, CONTEXT)
    component = judged.component
    assert (component.status, component.up, component.configured) == (UNKNOWN, None, False)
    assert "MONITORING_CLIENT_ID" in component.message
    assert judged.measurements == ()
    assert not sources_of(reading, judged)[0].configured


def test_a_probe_that_was_given_up():
    reading = Reading("authentication-flow", NOW, fault=Fault("timeout", "given up after 10 s"))
    component = judge(reading, CONTEXT).component
    assert (component.status, component.up, component.error) == (CRITICAL, False, "timeout")


@pytest.mark.parametrize(
    ("change", "algorithm", "reasons"),
    [
        ({}, "HS256", []),
        ({}, "none", ["token_unsigned"]),
        ({}, "", ["token_unsigned"]),
        ({}, "RS256", ["token_algorithm"]),
        ({"exp": None}, "HS256", ["token_without_expiry"]),
        ({"exp": "soon"}, "HS256", ["token_without_expiry"]),
        ({"exp": NOW - 60, "iat": NOW - 20}, "HS256", ["token_born_expired"]),
        ({"iat": None}, "HS256", ["token_without_issue_time"]),
        ({"exp": NOW + 7200}, "HS256", ["token_lifetime"]),
        ({"iat": NOW + 90, "exp": NOW + 3600}, "HS256", ["token_clock_skew"]),
        ({"iat": NOW - 90, "exp": NOW + 3000}, "HS256", ["token_clock_skew"]),
        ({"iat": NOW - 29, "exp": NOW + 3000}, "HS256", []),  # within the allowed skew
        ({"aud": "another"}, "HS256", ["token_audience"]),
        ({"aud": ["another", "payment-sapi"]}, "HS256", []),
        ({"aud": None}, "HS256", ["token_audience"]),
        ({"iss": "mallory"}, "HS256", ["token_issuer"]),
        ({"sub": "client-007"}, "HS256", ["token_of_another"]),
        ({"permissions": ["process_payment"]}, "HS256", ["token_permission"]),
        ({"sub": "a-uuid", "azp": "canary"}, "HS256", []),
        ({"sub": "canary@clients"}, "HS256", []),
        ({"sub": "a-uuid", "azp": "client-007"}, "HS256", ["token_of_another"]),
        ({"permissions": None, "scp": ["view_status"]}, "HS256", []),
        ({"exp": str(int(NOW) + 3600)}, "HS256", ["token_time_as_text"]),
        # milliseconds, which validators take for the year 58000
        (
            {"iat": int(NOW) * 1000, "exp": (int(NOW) + 3600) * 1000},
            "HS256",
            ["token_time_in_milliseconds"],
        ),
    ],
)
def test_rules_of_the_token(change, algorithm, reasons):
    claims = {k: v for k, v in {**CLAIMS, **change}.items() if v is not None}
    judged = judge(read(claims=claims, algorithm=algorithm), CONTEXT)
    assert [f.reason for f in judged.findings] == reasons
    assert all(f.category == "security" for f in judged.findings)


def test_an_opaque_token_is_a_finding_and_no_outage():
    judged = judge(read(claims=None), CONTEXT)
    assert [f.reason for f in judged.findings] == ["token_unreadable"]
    assert judged.component.up is True


REFUSED = {"accepted": False}
FORGED = {"accepted": False, "forged": True}
ACCEPTED = {"accepted": True}
UNDONE = {"accepted": None, "why": "no answer"}


@pytest.mark.parametrize("name", list(PROOFS))
@pytest.mark.parametrize(
    ("before", "now", "outcome", "found", "value"),
    [
        (None, None, None, False, None),  # not tried yet
        (None, REFUSED, "refused", False, 1.0),
        (None, ACCEPTED, "accepted", True, 0.0),
        (None, UNDONE, "unknown", False, None),
        ("refused", None, "refused", False, 1.0),  # remembered between proofs
        ("accepted", None, "accepted", True, 0.0),  # an acceptance keeps firing ...
        ("accepted", UNDONE, "accepted", True, 0.0),  # ... also when it cannot be asked again ...
        ("accepted", FORGED, "accepted", True, 0.0),  # ... or one of ours was refused ...
        ("accepted", REFUSED, "refused", False, 1.0),  # ... until a refusal clears it
        ("refused", FORGED, "refused", False, 1.0),
        ("refused", UNDONE, "unknown", False, None),
        ("refused", ACCEPTED, "accepted", True, 0.0),
    ],
)
def test_proofs(*, name, before, now, outcome, found, value):
    remembered = {name: Proof(before, NOW - 1800)} if before else {}
    context = Context(proofs=remembered, canary=CanarySettings("canary"))
    judged = judge(read(proofs={name: now} if now else {}), context)
    assert [f.reason for f in judged.findings] == ([f"accepts_{name}"] if found else [])
    assert all(f.severity is CRITICAL for f in judged.findings)
    assert figures(judged)["authentication_proof", name] == value
    kept = judged.proofs.get(name)
    assert (kept.outcome if kept else None) == outcome


def test_old_findings_speak_also_while_the_service_is_down():
    context = Context(proofs={"alg_none": Proof("accepted", NOW - 60)})
    judged = judge(read(DOWN, None), context)
    assert [f.reason for f in judged.findings] == ["accepts_alg_none"]


def test_figures():
    found = figures(judge(read(steps={"token": 0.1}), CONTEXT))
    assert found["authentication_step_seconds", "token"] == 0.1
    assert found["authentication_step_seconds", "validate"] is None
    assert found["response_time_ms", "authentication-flow"] == pytest.approx(100.0)
    assert found["clock_skew_seconds", "authentication-flow"] == 0.0
    for measurement in judge(read(), CONTEXT).measurements:
        assert set(measurement.labels) == set(METRICS[measurement.name].labels)
