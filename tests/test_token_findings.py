from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import msgspec
import pytest

from monitoring import thresholds
from monitoring.alerts.conditions import conditions
from monitoring.config.settings import Limit, TokenSettings
from monitoring.model import Finding, Outcome, Severity, Source
from monitoring.redis.count import ValidationTotals
from monitoring.tokens.codecs.facts import Decoded
from monitoring.tokens.findings import findings
from monitoring.tokens.measurements import CensusInput, measurements
from monitoring.tokens.services import ServiceFigures, Validations
from tests.token_kit import NOW, RULES, looked, report_of, token

LIMITS = {
    "security.tokens_without_ttl": Limit(1, None),
    "security.undecodable_tokens": Limit(1, None),
    "availability.expiry_cliff": Limit(30, 60),
}
STEADY = [token(f"client-{n % 5}", n, left=3600 - 30 * n) for n in range(100)]


def found_in(seen: CensusInput, policy: Optional[TokenSettings] = None) -> dict[str, Finding]:
    verdicts = thresholds.judge(measurements(seen), LIMITS)
    told = findings(seen, verdicts, NOW, rules=RULES, policy=policy or TokenSettings())
    assert len({finding.reason for finding in told}) == len(told)
    return {finding.reason: finding for finding in told}


def warned(told: dict[str, Finding]) -> dict[str, Severity]:
    return {name: f.severity for name, f in told.items() if f.severity is not Severity.OK}


def test_a_healthy_cache_is_no_news() -> None:
    assert warned(found_in(looked(STEADY))) == {}


@pytest.mark.parametrize(
    ("odd", "reason", "severity"),
    [
        ({"alg": "none"}, "alg_none", Severity.CRITICAL),
        ({"alg": "RS256"}, "unexpected_alg", Severity.WARNING),
        ({"iss": "somebody"}, "unexpected_issuer", Severity.WARNING),
        ({"aud": "elsewhere"}, "unexpected_audience", Severity.WARNING),
        ({"permissions": ("admin",)}, "permissions_outside", Severity.WARNING),
        ({"exp": None}, "missing_exp", Severity.WARNING),
        ({"jti": None}, "missing_jti", Severity.WARNING),
        ({"left": 7000, "life": 9000}, "lifetime_above_policy", Severity.WARNING),
        ({"left": 3660 + 100}, "iat_in_future", Severity.WARNING),
    ],
)
def test_each_fault_has_a_count_a_client_and_a_cure(
    odd: dict[str, Any], reason: str, severity: Severity
) -> None:
    told = found_in(looked([*STEADY, token("client-odd", 1, **odd)]))
    assert warned(told) == {reason: severity}
    finding = told[reason]
    assert ": 1. Most: client-odd (1)." in finding.sentence
    assert "client-odd (1)" in finding.sentence
    assert finding.evidence == {"count": 1, "worst": {"client-odd": 1}}
    assert finding.action


def test_what_the_configuration_accepts_is_told_and_not_warned_of() -> None:
    policy = TokenSettings(accepted_findings=("unexpected_alg",))
    told = found_in(looked([*STEADY, token("a", 1, alg="RS256")]), policy)
    assert warned(told) == {}
    assert "Accepted by the configuration" in told["unexpected_alg"].sentence


@pytest.mark.parametrize(
    ("many", "past", "severity"),
    [
        (1, 3, Severity.OK),
        (40, 3, Severity.OK),
        (40, 30, Severity.OK),
        (1, 31, Severity.WARNING),
        (1, 48 * 365 * 86400, Severity.WARNING),
    ],
)
def test_how_far_past_exp_decides_whether_clocks_explain_it(
    many: int, past: int, severity: Severity
) -> None:
    dead = [token("late", n, left=-past) for n in range(many)]
    assert found_in(looked([*STEADY, *dead]))["expired_served"].severity is severity


def test_a_cliff_says_how_many_when_and_whose() -> None:
    cliff = [token("batch", n, left=600, life=3600) for n in range(200)]
    told = found_in(looked([*STEADY, *cliff]))
    assert warned(told) == {"expiry_cliff": Severity.CRITICAL}
    finding = told["expiry_cliff"]
    assert "2026-11-22T23:" in finding.sentence or "T" in finding.evidence["at"]
    assert "batch (200)" in finding.sentence
    assert finding.evidence["tokens"] >= 200


def test_a_verdict_and_its_finding_make_one_alert() -> None:
    stats_of = looked([*STEADY, Decoded(encoding="java", reason="bad_java")])
    result = replace(stats_of.result, without_ttl=3)  # type: ignore[type-var]
    seen = replace(stats_of, result=result)
    verdicts = thresholds.judge(measurements(seen), LIMITS)
    told = findings(seen, verdicts, NOW, rules=RULES, policy=TokenSettings())
    outcome = Outcome(
        "token_usage_metrics", "test", "1", NOW, 0.1, verdicts=verdicts, findings=told,
        sources=(Source("redis", ok=True),),
    )  # fmt: skip
    firing = [a.key.metric for a in conditions(outcome) if a.severity > Severity.OK]
    assert sorted(firing) == ["tokens_without_ttl", "undecodable_tokens"]


@pytest.mark.parametrize(("truncated", "said"), [("time", "at least 1."), (None, "1.")])
def test_what_is_rare_is_counted_at_least_when_the_scan_ended_early(
    truncated: Optional[str], said: str
) -> None:
    report = report_of(10, truncated=truncated, share_seen=0.1 if truncated else 1.0)
    told = found_in(
        looked([*STEADY, msgspec.structs.replace(STEADY[0], jti="x", exp=None)], report=report)
    )
    assert f"which never become invalid: {said}" in told["missing_exp"].sentence


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (report_of(0), "holds no key at all (tried token:*, token_id:*)"),
        (report_of(9, matched={"credential:*": 9}), "None of the cache's 9 keys is a token's"),
        (
            report_of(50, matched={}, prefixes={"session:…": 49, "…": 1}),
            "is of a known kind (tried token:*, token_id:*); there are keys like session:…, …",
        ),
    ],
)
def test_nothing_that_matches_is_said_loudly(report: Any, said: str) -> None:
    told = found_in(looked([], report=report))
    assert warned(told) == {"no_tokens": Severity.WARNING}
    assert said in told["no_tokens"].sentence


def test_a_truncated_scan_that_saw_no_token_says_nothing_about_the_layout() -> None:
    report = report_of(10, matched={}, truncated="max_keys", share_seen=0.1)
    told = found_in(looked([], report=report))
    assert set(told) == {"scan_truncated"}
    assert "10.0% of the cache" in told["scan_truncated"].sentence


@pytest.mark.parametrize(
    ("services", "warns"),
    [(40.0, False), (100.0, True), (2.0, True)],
)
def test_rates_that_chance_does_not_explain(services: float, warns: bool) -> None:
    """30 tokens of STEADY were minted in the last 15 minutes."""
    figures = ServiceFigures(1e4, None, services, None, 900.0)
    told = found_in(looked(STEADY, services=figures))
    assert ("generation_sources_disagree" in told) is warns


def test_a_short_window_is_no_evidence() -> None:
    figures = ServiceFigures(1e4, None, 500.0, None, 60.0)
    assert "generation_sources_disagree" not in found_in(looked(STEADY, services=figures))


@pytest.mark.parametrize(
    ("bad", "total", "warns"),
    [(0, 400, True), (120, 400, False), (1, 3, False)],
)
def test_validations_that_two_sources_tell_differently(bad: int, total: int, warns: bool) -> None:
    """A third of the verdicts in the cache are bad."""
    report = report_of(100, validations=ValidationTotals(200, 100, 0, {"expired": 100}, {}))
    counted = Validations(total - bad, {"expired": bad}, "services", 900.0)
    figures = ServiceFigures(None, counted, None, counted, 900.0)
    told = found_in(looked(STEADY, report=report, services=figures))
    assert ("validation_sources_disagree" in told) is warns


def test_hostile_client_ids_are_made_fit_to_print() -> None:
    evil = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln\x1b[31m\n"
    told = found_in(looked([*STEADY, *[token(evil, n, alg="none", left=100) for n in range(20)]]))
    for finding in told.values():
        shown = finding.sentence + "".join(map(str, finding.evidence.get("worst", {})))
        assert not {"\x1b", "\n"} & set(shown)
        assert "eyJhbGci" not in shown


def test_clients_that_go_dark_are_told_with_the_time() -> None:
    lone = token("sleepy", 1, left=120)
    told = found_in(looked([*STEADY, lone]))
    finding = told["clients_losing_last_token"]
    assert finding.severity is Severity.OK
    assert finding.sentence.startswith("A client loses the last token")
    assert "sleepy at " in finding.sentence
    assert finding.evidence["next_in_seconds"] == 120
