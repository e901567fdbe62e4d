"""Availability: what is down, what burns its error budget, what is about to fail."""

from __future__ import annotations

from typing import Iterator

from deploy.prometheus import recording
from deploy.prometheus.rule import HEALTH, Proof, Rule, Series
from monitoring.alerting import advice
from monitoring.catalog import COMPONENTS

#: (severity, long window, short window, burn rate): the pairs of Google's Site Reliability
#: Workbook, chapter 5, for a budget of 30 days.
BURNS = (
    ("critical", "1h", "5m", 14.4),
    ("critical", "6h", "30m", 6.0),
    ("warning", "1d", "2h", 3.0),
    ("warning", "3d", "6h", 1.0),
)

#: Two cycles that failed, as far as scrapes can tell: their edges fall between scrapes.
_TWO_CYCLES = 1.75
#: Minutes: the second cycle in a row has failed. One that fails slowly may be scraped three times.
_SECOND_CYCLE = 1.5


def rules() -> Iterator[Rule]:
    """Every rule of this file, the burn rates apart."""
    for component in COMPONENTS:
        yield _down(component)
    yield _dependency()
    yield from _vault()
    yield from _cache()


_CLOCK = ("0+60", "0+60")  # runs on, whatever is wrong


def burns() -> Iterator[Rule]:
    """Error budgets. The long window says that it matters, the short one that it still goes on.

    A page is for what nobody was told of yet: probes that fail now and then. An outage is told as
    such, and would page a second time when it is over and its budget still burns."""
    texts = advice.for_threshold("availability.error_budget_burn_rate")
    for severity, long, short, rate in BURNS:
        yield Rule(
            alert="PaymentApiErrorBudgetBurnRate",
            expr=f"{recording.burn(long)} > {rate:g} and {recording.burn(short)} > {rate:g}"
            f" and {recording.down(long)} >= {_TWO_CYCLES}{_untold(short)}",
            severity=severity,
            category="availability",
            component="",
            labels={"window": long},
            hold=2,  # so that what is down is told as such first
            summary="{{ $labels.component }}: the error budget of 30 days burns "
            f"{{{{ $value | humanize }}}} times too fast (over {long})",
            meaning=texts.meaning,
            action=texts.action,
            runbook=texts.runbook,
            dashboard=texts.dashboard,
            proof=_burn_proof(long),
        )


def _untold(short: str) -> str:
    if short not in recording.TOLD:
        return ""
    return f" unless on (environment, component) {recording.told(short)}"


def _burn_proof(window: str) -> Proof:
    """Redis (99.95 %) goes down for as long as it takes."""
    status = 'payment_api_health_status{component="redis-cache"}'
    target = Series('payment_api_sla_target_ratio{component="redis-cache"}', "0.9995", "0.9995")
    after = {"1h": 10, "6h": 35, "1d": 125, "3d": 365}[window]  # past the short window
    cycles = Series('payment_api_last_cycle_timestamp_seconds{script="health_check"}', *_CLOCK)
    return Proof(
        (Series(status, "1", "0"), target, cycles),
        "",  # the figure depends on the window's exact edges
        {"component": "redis-cache"},
        before=60,
        after=after,
        spared=1,  # one failed probe wakes nobody
    )


#: Why: refused, timeout, http, ...; nothing where it is not known.
_WHY = (
    "{{ range printf `payment_api_component_error{component=%q,environment=%q}`"
    " $labels.component $labels.environment | query }}: {{ .Labels.error }}{{ end }}"
)


def _down(component: str) -> Rule:
    texts = advice.for_component(component)
    series = f'payment_api_health_status{{component="{component}"}}'
    return Rule(
        alert="PaymentApiHealthStatus",
        expr=f"{series} == 0",
        severity="critical",
        category="availability",
        component=component,
        summary=f"{component} is down{_WHY}",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        hold=_SECOND_CYCLE,
        proof=Proof(
            (Series(series, "1", "0"), _refused(component)), f"{component} is down: refused"
        ),
    )


def _refused(component: str) -> Series:
    labels = {"component": component, "error": "refused"}
    return Series(_series("component_error", labels), "_", "1")


def _dependency() -> Rule:
    texts = advice.for_component("")
    labels = {"component": "payment-eapi", "dependency": "paymentSapi"}
    return Rule(
        alert="PaymentApiDependencyStatus",
        expr="payment_api_dependency_status == 0",
        severity="warning",
        category="availability",
        component="",
        summary="{{ $labels.component }} says that its {{ $labels.dependency }} is down",
        meaning="The service itself cannot reach what it needs, whatever our own check of it says.",
        action="Compare with our own check of that component: if that is fine, the way between "
        "the two is not.",
        runbook=texts.runbook,
        dashboard=HEALTH,
        hold=5,
        proof=Proof(
            (Series(_series("dependency_status", labels), "1", "0"),),
            "payment-eapi says that its paymentSapi is down",
            labels,
        ),
    )


def _series(metric: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"payment_api_{metric}{{{inside}}}"


def _vault() -> Iterator[Rule]:
    texts = advice.for_component("conjur-vault")
    common = {
        "category": "availability",
        "component": "conjur-vault",
        "runbook": texts.runbook,
        "dashboard": HEALTH,
        "severity": "warning",
        "hold": 5,
    }
    yield Rule(
        alert="PaymentApiConjurDegraded",
        expr="payment_api_conjur_degraded == 1",
        summary="the vault calls itself degraded",
        meaning="It still answers, but a part of it is lost: the next failure may take it down.",
        action="Read /health of the vault: replication, disk and cluster say what is wrong.",
        proof=Proof(
            (Series("payment_api_conjur_degraded", "0", "1"),), "the vault calls itself degraded"
        ),
        **common,
    )


def _cache() -> Iterator[Rule]:
    texts = advice.for_threshold("performance.redis_replication_lag")
    series = 'payment_api_redis_replication_link_up{node="cache-2:6379"}'
    yield Rule(
        alert="PaymentApiRedisReplicationLink",
        expr="payment_api_redis_replication_link_up == 0",
        severity="warning",
        category="availability",
        component="redis-cache",
        summary="the replica {{ $labels.node }} has lost its primary",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=HEALTH,
        hold=2,
        proof=Proof(
            (Series(series, "1", "0"),),
            "the replica cache-2:6379 has lost its primary",
            {"node": "cache-2:6379"},
        ),
    )
