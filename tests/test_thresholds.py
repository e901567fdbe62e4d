"""The one ladder: which limit a figure crosses, and what is said when it was not measured."""

from __future__ import annotations

import pytest

from monitoring.catalog import METRICS, THRESHOLDS, script_of
from monitoring.certainty import Doubt
from monitoring.config.settings import Limit
from monitoring.model import Measurement, Severity
from monitoring.thresholds import concerns, judge, say

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
DAY = 86400.0
LIMITS = {
    "performance.api_response_time": Limit(300, 500),
    "performance.redis_response_time": Limit(20, 100),
    "performance.redis_hit_ratio": Limit(80, 50),
    "performance.clock_skew": Limit(5, 30),
    "performance.token_validation_time": Limit(50, None),
    "performance.redis_evictions": Limit(None, 100),
    "availability.tls_certificate_days": Limit(30, 7),
    "availability.error_budget_burn_rate": Limit(6, 14.4),
    "performance.service_error_ratio": Limit(None, None),
}
TIME = "payment_api_response_time_ms"
TLS = "payment_api_tls_certificate_remaining_seconds"
HITS = "payment_api_redis_hit_ratio"
SKEW = "payment_api_clock_skew_seconds"
STEP = "payment_api_authentication_step_seconds"
BURN = "payment_api_error_budget_burning"
EVICTED = "payment_api_redis_evictions_recent"
EAPI = {"component": "payment-eapi"}


@pytest.mark.parametrize(
    ("name", "labels", "value", "severity", "why", "limit"),
    [
        (TIME, EAPI, 299.9, OK, "within_limits", None),
        (TIME, EAPI, 300.0, WARNING, "above_warning", 300.0),  # reached is crossed
        (TIME, EAPI, 499.9, WARNING, "above_warning", 300.0),
        (TIME, EAPI, 500.0, CRITICAL, "above_critical", 500.0),
        (TIME, {"component": "redis-cache"}, 30.0, WARNING, "above_warning", 20.0),
        (TIME, EAPI, None, UNKNOWN, "not_measured", None),
        (TIME, EAPI, float("nan"), UNKNOWN, "not_measured", None),
        (TLS, EAPI, 31 * DAY, OK, "within_limits", None),
        (TLS, EAPI, 29 * DAY, WARNING, "below_warning", 30 * DAY),  # days in, seconds judged
        (TLS, EAPI, -DAY, CRITICAL, "below_critical", 7 * DAY),
        (HITS, {"node": "a:1"}, 0.79, WARNING, "below_warning", 0.8),  # percent in, ratio judged
        (HITS, {"node": "a:1"}, 0.0, CRITICAL, "below_critical", 0.5),
        (SKEW, EAPI, -31.0, CRITICAL, "above_critical", 30.0),  # slow clocks are wrong too
        (SKEW, EAPI, -1.0, OK, "within_limits", None),
        (STEP, {"step": "validate"}, 0.051, WARNING, "above_warning", 0.05),
        (STEP, {"step": "validate"}, 99.0, WARNING, "above_warning", 0.05),  # no critical limit
        (EVICTED, {"node": "a:1"}, 99.0, OK, "within_limits", None),  # no warning limit
        (EVICTED, {"node": "a:1"}, 100.0, CRITICAL, "above_critical", 100.0),
        (BURN, EAPI, 15.0, CRITICAL, "above_critical", 14.4),
    ],
)
def test_ladder(*, name, labels, value, severity, why, limit):
    (verdict,) = judge([Measurement(name, value, labels)], LIMITS)
    assert (verdict.severity, verdict.why) == (severity, why)
    assert verdict.limit == (None if limit is None else pytest.approx(limit))
    assert THRESHOLDS[verdict.threshold].metric == name


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (TIME, {"component": "conjur-vault"}),  # its threshold is not configured here
        (STEP, {"step": "token"}),  # only validation has a limit
        (BURN, {"component": "overall"}),  # its parts speak for themselves
        ("payment_api_service_error_ratio", EAPI),  # both numbers switched off
        ("payment_api_health_status", EAPI),  # no threshold names it
    ],
)
def test_nothing_to_judge(name, labels):
    assert judge([Measurement(name, 1e9, labels)], LIMITS) == ()


def test_every_threshold_of_the_catalogue_can_fire():
    """The earlier system's thresholds could never fire, for they spelt the metrics differently."""
    for name, threshold in THRESHOLDS.items():
        assert threshold.metric in METRICS
        labels = {label: among[0] for label, among in threshold.where.items()}
        number = -1.0 if threshold.worse == "lower" else 1e12
        figure = Measurement(threshold.metric, number, labels)
        verdicts = judge([figure], {name: Limit(1.0, 1.0)})
        assert [v.severity for v in verdicts] == [CRITICAL], name


def test_the_limits_of_a_figure_are_judged_by_one_script_only() -> None:
    """Or one cause would be told by two of them: each limit's figure is of one script, and what all
    have (`payment_api_up`) is judged by no limit."""
    for threshold in THRESHOLDS.values():
        assert script_of(threshold.metric), threshold.name


def test_order_is_kept():
    figures = [Measurement(TIME, 1.0, EAPI), Measurement(HITS, 0.1, {"node": "a"})]
    assert [v.measurement for v in judge(figures, LIMITS)] == figures


def test_a_figure_in_doubt_is_never_within_its_limits() -> None:
    """A lower bound may be more: below the limit it says nothing, above it enough."""
    least = (Doubt("lower_bound", "some of the failures may not have been counted"),)
    name = "security.authentication_failures"
    for value, severity, why in ((1.0, Severity.UNKNOWN, "in_doubt"),
                                 (50.0, Severity.CRITICAL, "above_critical")):  # fmt: skip
        figure = Measurement(
            "payment_api_authentication_failures_recent", value, {"client_id": "all"}, least
        )
        (verdict,) = judge([figure], {name: Limit(5, 10)})
        assert (verdict.severity, verdict.why) == (severity, why)


def test_at_least_so_much_within_the_limits_is_not_measured() -> None:
    """Whatever doubt hangs on it as well: what it is beyond the least is not known."""
    doubt = (Doubt("lower_bound", "some of them may not have been counted"),)
    name = "security.authentication_failures"
    figure = Measurement(
        "payment_api_authentication_failures_recent",
        None,
        {"client_id": "all"},
        doubt,
        at_least=1.0,
    )
    (verdict,) = judge([figure], {name: Limit(5, 10)})
    assert (verdict.severity, verdict.why) == (UNKNOWN, "not_measured")
    assert verdict.measurement.value is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (SKEW, 3599.0, "3,599 s"),
        (SKEW, 3600.0, "1 h"),
        (SKEW, 7200.0, "2 h"),
        (TIME, 7200.0, "7,200 ms"),
        (TIME, 12.0, "12 ms"),
    ],
)
def test_hours_of_seconds_are_said_as_hours(name: str, value: float, said: str) -> None:
    (verdict,) = judge([Measurement(name, value, EAPI)], LIMITS)
    assert say(verdict).partition(" (")[0].endswith(f" {said}")


def test_a_threshold_concerns_its_own_metric_alone() -> None:
    threshold = THRESHOLDS["performance.clock_skew"]
    assert concerns(threshold, Measurement(SKEW, 1.0, EAPI))
    assert not concerns(threshold, Measurement(TIME, 1.0, EAPI))
