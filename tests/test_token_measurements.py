from __future__ import annotations

from typing import Any, Optional

import pytest

from monitoring import thresholds
from monitoring.catalog import HYGIENE, METRICS
from monitoring.config.settings import Limit
from monitoring.model import Severity
from monitoring.redis.count import ValidationTotals
from monitoring.tokens.hygiene import RULES
from monitoring.tokens.measurements import CensusInput, generation, measurements
from monitoring.tokens.services import ServiceFigures, Validations
from tests.token_kit import looked, report_of, token

TOKENS = [token("a", n, left=3600 - 10 * n) for n in range(30)]


def value(found: CensusInput, name: str, **labels: str) -> Optional[float]:
    values = [
        m.value
        for m in measurements(found)
        if m.name == f"payment_api_{name}" and dict(m.labels) == labels
    ]
    assert len(values) == 1, (name, labels, values)
    return values[0]


def counted(success: float, **reasons: float) -> Validations:
    return Validations(success, reasons, "services", 900.0)


def test_every_measurement_is_catalogued_with_its_labels() -> None:
    services = ServiceFigures(5.0, counted(9, expired=1), 1.0, counted(9, expired=1), 900.0)
    for measured in measurements(looked(TOKENS, services=services)):
        metric = METRICS[measured.name]
        assert set(measured.labels) == set(metric.labels), measured


def test_the_catalogue_knows_every_hygiene_finding() -> None:
    assert tuple(RULES) == HYGIENE


def test_a_whole_census_gives_its_own_numbers() -> None:
    found = looked([*TOKENS, token("b", 0, left=-5), token("a", 99, left=100, life=7200)])
    assert value(found, "tokens_active") == 31
    assert value(found, "tokens_expired") == 1
    assert value(found, "tokens_expiring", within="5m") == 1
    assert value(found, "tokens_without_ttl") == 0
    assert value(found, "token_hygiene", finding="expired_served") == 1
    assert value(found, "token_hygiene", finding="alg_none") == 0
    assert value(found, "client_tokens_active", client_id="a") == 31
    assert value(found, "token_lifetime_seconds", stat="max") == 7200
    assert value(found, "token_generation_rate") == pytest.approx(30 / 15)
    assert value(found, "scan_truncated") == 0


def test_counts_of_a_scan_that_a_budget_ended_are_scaled_to_the_whole() -> None:
    report = report_of(30, expected=120, share_seen=0.25, truncated="max_keys")
    found = looked(TOKENS, report=report)
    assert value(found, "tokens_active") == 120
    assert value(found, "client_tokens_active", client_id="a") == 120
    assert value(found, "token_generation_rate") == pytest.approx(30 / 15 * 4)
    assert value(found, "token_lifetime_seconds", stat="p50") == 3600
    assert value(found, "scan_keys") == 30


def test_of_a_part_none_seen_is_not_none_and_those_seen_are_the_least_there_are() -> None:
    report = report_of(30, expected=120, share_seen=0.25, truncated="max_keys")
    found = looked([*TOKENS, token("b", 0, left=-5)], report=report)
    rules = [m for m in measurements(found) if m.name == "payment_api_token_hygiene"]
    told = {m.labels["finding"]: m for m in rules}
    one, none = told["expired_served"], told["alg_none"]
    assert (one.value, one.at_least) == (4.0, 1.0)
    assert (none.value, none.at_least) == (None, 0.0)
    assert value(found, "tokens_undecodable", reason="not_a_token") is None


@pytest.mark.parametrize(
    "report",
    [
        report_of(30, expected=60, share_seen=0.5, truncated="fault"),
        report_of(30, unread=5),
        report_of(30, share_seen=None, truncated="time"),
    ],
)
def test_counts_that_cannot_be_told_are_unknown(report: Any) -> None:
    found = looked(TOKENS, report=report)
    assert value(found, "tokens_active") is None
    assert value(found, "token_expiry_cliff_ratio") is None
    limits = {"security.tokens_without_ttl": Limit(1, None)}
    (verdict,) = thresholds.judge(measurements(found), limits)
    assert (verdict.severity, verdict.why) == (Severity.UNKNOWN, "not_measured")


def test_without_a_cache_what_the_services_count_is_still_told() -> None:
    services = ServiceFigures(500.0, counted(90, expired=10), 30.0, counted(18, expired=2), 900.0)
    found = CensusInput(services)
    assert value(found, "tokens_active") is None
    assert value(found, "token_generation_rate") == pytest.approx(2.0)
    assert generation(found).source == "services"
    assert value(found, "tokens_generated_total") == 500
    assert value(found, "token_validations_total", result="failure") == 10
    assert value(found, "token_validation_failures_total", reason="expired") == 10
    assert value(found, "token_validation_failures_total", reason="revoked") == 0
    assert value(found, "token_validation_failures_recent") == 2
    assert value(found, "token_validation_success_ratio") == pytest.approx(0.9)


def test_without_services_the_verdicts_in_the_cache_are_told() -> None:
    report = report_of(30, validations=ValidationTotals(18, 2, 0, {"expired": 2}, {}))
    found = looked(TOKENS, report=report, cached_failures={"expired": 7.0})
    assert value(found, "token_validation_success_ratio") == pytest.approx(0.9)
    assert value(found, "token_validation_failures_recent") == 2
    assert value(found, "token_validation_failures_total", reason="expired") == 7
    names = {m.name for m in measurements(found)}
    assert "payment_api_token_validations_total" not in names


def test_where_services_count_the_cache_is_no_substitute_on_the_first_look() -> None:
    """In the cache lie verdicts on the canary's forged tokens, which must not page anybody."""
    report = report_of(30, validations=ValidationTotals(18, 12, 0, {"parse_error": 12}, {}))
    found = looked(TOKENS, report=report, services=ServiceFigures(None, counted(900, expired=1)))
    assert value(found, "token_validation_success_ratio") is None
    assert value(found, "token_validation_failures_recent") is None


@pytest.mark.parametrize(("good", "bad", "ratio"), [(3, 1, None), (18, 2, 0.9)])
def test_a_share_of_a_handful_says_nothing(good: int, bad: int, ratio: Optional[float]) -> None:
    recent = counted(good, expired=bad)
    found = looked(TOKENS, services=ServiceFigures(None, recent, None, recent, 60.0))
    assert value(found, "token_validation_success_ratio") == ratio
    assert value(found, "token_validation_failures_recent") == bad


def test_no_validation_at_all_is_no_success() -> None:
    found = looked(TOKENS)
    assert value(found, "token_validation_success_ratio") is None
    assert value(found, "token_validation_failures_recent") is None


def test_tokens_without_iat_tell_no_rate() -> None:
    services = ServiceFigures(1.0, None, 30.0, None, 900.0)
    bare = [token("a", n, iat=None) for n in range(10)]
    found = looked(bare, services=services)
    assert generation(found).cache is None
    assert value(found, "token_generation_rate") == pytest.approx(2.0)


def test_few_tokens_make_no_cliff() -> None:
    same = [token("a", n, left=1800) for n in range(19)]
    assert value(looked(same), "token_expiry_cliff_ratio") == 0
    assert value(looked([*same, token("b", 1)]), "token_expiry_cliff_ratio") == 1


def test_an_unknown_layout_is_no_quiet_zero() -> None:
    report = report_of(50, matched={}, prefixes={"session:…": 50})
    found = looked([], report=report, layout_known=False)
    assert value(found, "tokens_active") is None
