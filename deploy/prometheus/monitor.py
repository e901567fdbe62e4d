"""The monitor itself: dead, blind, late, or not heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from deploy.prometheus import recording
from deploy.prometheus.rule import HEALTH, REMEMBERED, Proof, Rule, Series, last_cycle
from monitoring.alerts import advice
from monitoring.catalog import SCRIPTS
from monitoring.components import SOURCES

JOB = "payment-api-monitoring"
_MEANING = "Nobody is watching the payment API's authentication right now."


def rules(
    intervals: Mapping[str, float], cron_interval: float, cycle_deadline: float
) -> Iterator[Rule]:
    """Every rule of this file. `intervals` are seconds between the cycles of each script in a
    loop, `cron_interval` those between two runs of cron, whose pages are read in between."""
    for script in SCRIPTS:
        yield _absent(script)
        yield _stale(script, max(5 * intervals[script], 2.5 * cron_interval))
    yield _unreachable()
    yield _blind()
    yield _slow(cycle_deadline)
    yield _truncated()
    yield _unheard()


def _rule(alert: str, expr: str, **more: object) -> Rule:
    common = {
        "severity": "warning",
        "category": "availability",
        "component": "monitoring",
        "meaning": _MEANING,
        "action": "See whether the process runs and what its log says last; then start it again.",
        "runbook": advice.for_blindness().runbook,
        "dashboard": HEALTH,
    }
    return Rule(alert=alert, expr=expr, **{**common, **more})  # type: ignore[arg-type]


def _absent(script: str) -> Rule:
    """Gone from an environment that had it in the last days, or never seen at all. A plain
    absent() would be content with any other environment's."""
    series = last_cycle(script)
    had = f"group by (environment) (max_over_time({series}[{REMEMBERED}]))"
    prod, staging = (last_cycle(script, environment=name) for name in ("prod", "staging"))
    return _rule(
        "PaymentApiMonitorAbsent",
        f"{had} unless group by (environment) ({series})"
        f" or absent_over_time({series}[{REMEMBERED}])",
        severity="critical" if script == "health_check" else "warning",
        summary=f"{script} has not been seen",
        labels={"script": script},
        hold=10,
        proof=Proof(
            (
                Series(prod, "0+60", "_"),
                Series(staging, "0+60", "0+60"),
                *(_alive(other) for other in SCRIPTS if other != script),
            ),
            f"{script} has not been seen",
            {"environment": "prod"},
        ),
    )


def _alive(script: str, *, gone: bool = False) -> Series:
    return Series(last_cycle(script), "0+60", "_" if gone else "0+60")


def _stale(script: str, seconds: float) -> Rule:
    series = last_cycle(script)
    wrong = int(seconds / 60) + 10
    return _rule(
        "PaymentApiCycleStale",
        f"time() - {series} > {seconds:g}",
        severity="critical" if script == "health_check" else "warning",
        summary=f"the last cycle of {script} ended "
        "{{ $value | humanizeDuration }} ago, yet it is scraped",
        meaning="The exporter answers, but what it shows is old: a cycle hangs.",
        labels={"script": script},
        # A clock that stands still while it is wrong.
        proof=Proof((Series(series, "0+60", "240+0"),), "", wrong=wrong),
    )


def _unreachable() -> Rule:
    labels = {"instance": "monitor-1:9101"}
    return _rule(
        "PaymentApiMonitorUnreachable",
        f'up{{job="{JOB}"}} == 0',
        severity="critical",
        summary="the exporter {{ $labels.instance }} cannot be scraped",
        hold=2,
        proof=Proof(
            (Series(f'up{{job="{JOB}",instance="monitor-1:9101"}}', "1", "0"),),
            "the exporter monitor-1:9101 cannot be scraped",
            {**labels, "job": JOB},
        ),
    )


def _blind() -> Rule:
    texts = advice.for_blindness()
    named = 'label_replace(payment_api_up, "component", "$1", "source", "(.+)")'
    for start, component in SOURCES.items():
        named = f'label_replace({named}, "component", "{component}", "source", "{start}.*")'
    return _rule(
        "PaymentApiMonitoringBlind",
        f"min by (environment, component) ({named}) == 0"
        # What is down is told as that; other scripts read it again in their next cycle.
        " unless on (environment, component) payment_api_health_status == 0"
        f" unless on (environment, component) {recording.notified('5m')}",
        component="",
        summary="the monitor cannot read {{ $labels.component }}",
        meaning=texts.meaning,
        action=texts.action,
        hold=5,
        proof=Proof(
            (Series('payment_api_up{source="redis"}', "1", "0"),),
            "the monitor cannot read redis-cache",
            {"component": "redis-cache"},
        ),
    )


def unwatched(rules: Iterable[Rule]) -> Iterator[Rule]:
    """Somebody was told of something, and now its monitor is gone: they hear of that as well,
    since nobody will tell them when it is over. One rule for each script that may be gone."""
    names: dict[str, set[str]] = {script: set() for script in SCRIPTS}
    for rule in rules:
        if rule.script:
            names[rule.script].add(rule.alert)
    for script, its in names.items():
        yield _unwatched(script, sorted(its))


def _unwatched(script: str, names: list[str]) -> Rule:
    told = f'ALERTS{{alertname="{names[0]}",alertstate="firing",category="security",'
    told += 'client="client-004",component="payment-sapi",severity="critical"}'
    return _rule(
        "PaymentApiIncidentUnwatched",
        "max by (environment, category, client, component, severity) "
        f'(ALERTS{{alertname=~"{"|".join(names)}",alertstate="firing"}})'
        f" unless on (environment) {last_cycle(script)}",
        severity="",
        category="",
        component="",
        labels={"script": script},
        summary="{{ $labels.component }}: something was told, and nobody watches it any more",
        meaning=f"{script} is gone: that the trouble is over would be told by nobody.",
        action=f"Start {script} again; until then look at the component yourself.",
        hold=5,
        proof=Proof(
            (Series(told, "_", "1"), _alive(script, gone=True)),
            "payment-sapi: something was told, and nobody watches it any more",
            {"client": "client-004", "component": "payment-sapi",
             "category": "security", "severity": "critical"},
        ),
    )  # fmt: skip


def _slow(deadline: float) -> Rule:
    script = "token_usage_metrics"
    series = f'payment_api_cycle_duration_seconds{{script="{script}"}}'
    return _rule(
        "PaymentApiCycleSlow",
        f"payment_api_cycle_duration_seconds > {deadline:g}",
        summary="a cycle of {{ $labels.script }} takes {{ $value | humanizeDuration }}",
        meaning="Cycles overrun their deadline: figures come late and some may be left out.",
        action="Run the script with --single-run --debug: it says where the time goes.",
        hold=10,
        proof=Proof(
            (Series(series, "1", f"{deadline + 15:g}"),),
            f"a cycle of {script} takes {deadline + 15:g}s",
            {"script": script},
        ),
    )


def _truncated() -> Rule:
    return _rule(
        "PaymentApiScanTruncated",
        "payment_api_scan_truncated == 1",
        summary="scans of the token keys end before they have seen all",
        meaning="Token counts are of a part of the keys only.",
        action="Raise TOKENS['max_keys'] or ['time_budget'], or scan a replica.",
        hold=30,
        proof=Proof(
            (Series("payment_api_scan_truncated", "0", "1"),),
            "scans of the token keys end before they have seen all",
            wrong=60,
        ),
    )


def _unheard() -> Rule:
    """A channel that fails and delivers nothing of what waits, for longer than a hiccup.
    health_check pushes the same by the channels that still work, under the same labels. Nothing
    waits for Alertmanager: it is sent what stands in each cycle."""
    texts = advice.for_finding("notification_channel_failing", "availability")
    tried = (
        "sum by (environment, component) (label_replace(increase(payment_api_notifications_total"
    )
    named = '[30m]), "component", "notifications-$1", "channel", "(.+)")) > 0'
    waits = (
        "max by (environment, component) (label_replace(payment_api_outbox_waiting"
        '{channel!="alertmanager",script="health_check"}, '
        '"component", "notifications-$1", "channel", "(.+)"))'
    )
    series = 'payment_api_notifications_total{channel="slack",outcome="failed"}'
    waiting = 'payment_api_outbox_waiting{channel="slack",script="health_check"}'
    return _rule(
        "PaymentApiNotificationChannelFailing",
        f'{tried}{{outcome=~"failed|unfinished"}}{named} unless {tried}{{outcome="sent"}}{named} '
        f"unless {waits} == 0",
        component="",
        summary="notices do not get through: {{ $labels.component }}",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        hold=5,
        proof=Proof(
            (Series(series, "0", "0+1"), Series(waiting, "0", "1")),
            "notices do not get through: notifications-slack",
            {"component": "notifications-slack"},
        ),
    )
