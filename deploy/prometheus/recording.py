"""Figures worth keeping: availability and the burn of error budgets over several windows.

Targets are not repeated here: the scripts export `payment_api_sla_target_ratio`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.prometheus.rule import last_cycle

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
#: Windows whose bad cycles are counted, so that one failed probe wakes nobody.
COUNTED = ("1h", "6h", "1d", "3d")
_CLOCK = last_cycle("health_check")
#: Windows after an outage in which it still burns its budget.
TOLD = ("5m", "30m", "2h", "6h")
_STATUS, _SYSTEM = "payment_api_health_status", "payment_api_system_up"
_TARGET = (
    "max by (environment, component) (payment_api_sla_target_ratio or "
    'label_replace(payment_api_system_sla_target_ratio, "component", "overall", "", ""))'
)


def availability(window: str) -> str:
    """Name of the record: share of the samples in which the component was up."""
    return f"component:payment_api_availability:ratio_{window}"


def burn(window: str) -> str:
    """Name of the record: how many times faster than allowed the error budget is used."""
    return f"component:payment_api_error_budget_burn:rate_{window}"


def down(window: str) -> str:
    """Name of the record: cycles, about, in which the component was down. Not samples: a cycle
    is scraped as often as Prometheus likes, so one failed probe may be two of them or ten."""
    return f"component:payment_api_down:cycles_{window}"


def notified(window: str) -> str:
    """Name of the record: 1 where the component was told of as down within the window."""
    return f"component:payment_api_told_down:{window}"


def watched(window: str) -> str:
    """Expression: environments that were watched for at least half of the window. Of a budget that
    is known for minutes only nothing can be said."""
    step, half = {"1h": ("1m", 30), "6h": ("5m", 36), "1d": ("15m", 48), "3d": ("30m", 72)}[window]
    return f"(count_over_time({_CLOCK}[{window}:{step}]) >= {half})"


def groups() -> list[dict[str, Any]]:
    """The recording rules. Two groups, since the second reads what the first records."""
    return [
        {
            "name": "payment-api-ratios",
            "rules": [rule for window in WINDOWS for rule in _availability(window)],
        },
        {"name": "payment-api-budgets", "rules": list(_budgets())},
        {"name": "payment-api-told", "rules": list(_notified())},
        {"name": "payment-api-rates", "rules": list(_rates())},
    ]


def _availability(window: str) -> Iterator[dict[str, Any]]:
    """What was not measured has no sample, so it counts neither as up nor as down."""
    for series, by, labels in (
        (_STATUS, "environment, component", {}),
        (_SYSTEM, "environment", {"labels": {"component": "overall"}}),
    ):
        seen = f"sum by ({by}) (count_over_time({series}[{window}]))"
        up = f"sum by ({by}) (sum_over_time({series}[{window}]))"
        yield {"record": availability(window), "expr": f"{up} / {seen}", **labels}


def _budgets() -> Iterator[dict[str, Any]]:
    for window in WINDOWS:
        expr = f"(1 - {availability(window)}) / on (environment, component) (1 - {_TARGET})"
        yield {"record": burn(window), "expr": expr}
        if window in COUNTED:
            cycles = f"max by (environment) (changes({_CLOCK}[{window}]))"
            share = f"(1 - {availability(window)})"
            yield {
                "record": down(window),
                "expr": f"{share} * on (environment) group_left () {cycles}",
            }


def _notified() -> Iterator[dict[str, Any]]:
    down = 'ALERTS{alertname="PaymentApiHealthStatus",alertstate="firing",severity="critical"}'
    for window in TOLD:
        latest = f"max_over_time({down}[{window}])"
        yield {"record": notified(window), "expr": f"max by (environment, component) ({latest})"}
        yield {
            "record": notified(window),
            "expr": f"max by (environment) ({latest})",
            "labels": {"component": "overall"},
        }


def _rates() -> Iterator[dict[str, Any]]:
    for name, metric, by in (
        ("authentication_failures", "authentication_failures_total", "environment, client_id"),
        ("authentication_attempts", "authentication_attempts_total", "environment, client_id"),
        ("token_validation_failures", "token_validation_failures_total", "environment, reason"),
        ("token_validations", "token_validations_total", "environment, result"),
        ("tokens_generated", "tokens_generated_total", "environment"),
    ):
        # One port may serve what another serves too: a thing counts once.
        yield {
            "record": f"environment:payment_api_{name}:rate15m",
            "expr": f"max by ({by}) (rate(payment_api_{metric}[15m]))",
        }
