"""Availability: what is down, what burns its error budget, what is about to fail."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.prometheus import recording
from deploy.prometheus.rule import HEALTH, Proof, Rule, Series, last_cycle
from monitoring.alerts import advice
from monitoring.components import COMPONENTS, EAPI, LOGIN, PASSED_ON, ROWS, SAPI

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
#: What leans on others waits until it would be known that they are down.
_AFTER_PARENTS = _SECOND_CYCLE + 1


def rules() -> Iterator[Rule]:
    """Every rule of this file, the burn rates apart."""
    for component in COMPONENTS:
        yield _down(component)
    leaning = [name for name, row in ROWS.items() if row.leans_on]
    for component in leaning:
        yield _degraded(component, "=", component)
    yield _degraded("", "!~", "|".join(leaning))


_ALERT = "PaymentApiHealthStatus"
_CLOCK = ("0+60", "0+60")  # runs on, whatever is wrong


def burns() -> Iterator[Rule]:
    """Error budgets. The long window says that it matters, the short one that it still goes on.

    A page is for what nobody was told of yet: probes that fail now and then. An outage is told as
    such, and would page a second time when it is over and its budget still burns."""
    texts = advice.for_threshold("availability.error_budget_burn_rate")
    for severity in ("critical", "warning"):
        pairs = [row[1:] for row in BURNS if row[0] == severity]
        yield Rule(
            alert="PaymentApiErrorBudgetBurnRate",
            expr=" or ".join(_burning(*pair) for pair in pairs),
            severity=severity,
            category="availability",
            component="",
            hold=2,  # so that what is down is told as such first
            summary="{{ $labels.component }}: the error budget of 30 days burns "
            "{{ $value | humanize }} times too fast",
            meaning=texts.meaning,
            action=texts.action,
            runbook=texts.runbook,
            dashboard=texts.dashboard,
            proof=_burn_proof(pairs[-1][0]),
        )


def _burning(long: str, short: str, rate: float) -> str:
    return (
        f"{recording.burn(long)} > {rate:g} and {recording.burn(short)} > {rate:g}"
        f" and {recording.down(long)} >= {_TWO_CYCLES}"
        f" and on (environment) {recording.watched(long)}"
        f" unless on (environment, component) {recording.notified(short)}"
    )


def _burn_proof(window: str) -> Proof:
    """Redis (99.95 %) goes down for as long as it takes."""
    status = 'payment_api_health_status{component="redis-cache"}'
    target = Series('payment_api_sla_target_ratio{component="redis-cache"}', "0.9995", "0.9995")
    # Half of the window before, the short window after.
    before, after = {"6h": (200, 35), "3d": (2200, 365)}[window]
    cycles = Series(last_cycle("health_check"), *_CLOCK)
    return Proof(
        (Series(status, "1", "0"), target, cycles),
        "",  # the figure depends on the window's exact edges
        {"component": "redis-cache"},
        before=before,
        after=after,
        spared=1,  # one failed probe wakes nobody
    )


#: Why: refused, timeout, http 500, ...; nothing where it is not known.
_WHY = "".join(
    f"{{{{ range printf `payment_api_component_{figure}{{component=%q,environment=%q}}`"
    f" $labels.component $labels.environment | query }}}}{text}{{{{ end }}}}"
    for figure, text in (
        ("error", ": {{ .Labels.error }}"),
        ("http_status", ", HTTP {{ .Value }}"),
    )
)


def _explained(component: str, severity: str, parents: tuple[str, ...], only: str = "") -> str:
    """What is not told beside a parent that was told of as down a moment ago: consequences begin
    with it and end a little later. What was told before its parent went down stays. `only`: what
    else must hold for the parent to explain it."""
    if not parents:
        return ""
    down = recording.notified("5m") + f'{{component=~"{"|".join(parents)}"}}'
    own = f'alertname="{_ALERT}",alertstate="firing",component="{component}",severity="{severity}"'
    return f" unless on (environment) ({down}{only} unless on (environment) ALERTS{{{own}}})"


def _behind(component: str) -> str:
    """As `explained_by` has it: a login that EAPI or SAPI fails with an error or too late is
    explained by what that service leans on, one that is refused is not."""
    if component != LOGIN:
        return ""
    passed_on = (
        f'payment_api_component_error{{component="{LOGIN}",error=~"{"|".join(PASSED_ON)}"}} == 1'
    )
    asked = _series("authentication_step_seconds", {"step": "validate"})
    behind = {service: ROWS[service].leans_on for service in ROWS[LOGIN].down_with}
    both = sorted(set(behind[EAPI]) & set(behind[SAPI]))
    first = sorted(set(behind[EAPI]) - {*both, *ROWS[LOGIN].down_with})
    return _explained(LOGIN, "critical", tuple(both), f" and on (environment) {passed_on}") + (
        _explained(
            LOGIN,
            "critical",
            tuple(first),
            f" and on (environment) {passed_on} unless on (environment) {asked}",
        )
    )


def _down(component: str) -> Rule:
    texts = advice.for_component(component)
    parents = ROWS[component].down_with
    series = f'payment_api_health_status{{component="{component}"}}'
    return Rule(
        alert=_ALERT,
        expr=f"min by (environment, component) ({series}) == 0"
        + _explained(component, "critical", parents)
        + _behind(component),
        severity="critical",
        category="availability",
        component=component,
        series=series,
        by=("component",),
        script="health_check",
        summary=f"{component} is down{_WHY}",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        hold=_AFTER_PARENTS if parents else _SECOND_CYCLE,
        proof=Proof(
            (Series(series, "1", "0"), *_http_500(component)),
            f"{component} is down: http, HTTP 500",
        ),
    )


def _http_500(component: str) -> tuple[Series, ...]:
    error = {"component": component, "error": "http"}
    return (
        Series(_series("component_error", error), "_", "1"),
        Series(_series("component_http_status", {"component": component}), "_", "500"),
    )


def _degraded(component: str, sign: str, which: str) -> Rule:
    """Up and not well. The name is that of what is down: the same thing, and less of it.
    `component` is empty for those that lean on no other; `sign` and `which` match its series."""
    texts = advice.for_degraded("")
    series = f'payment_api_component_degraded{{component{sign}"{which}"}}'
    labels = {"component": component or "redis-cache"}
    parents = ROWS[component].leans_on if component else ()
    return Rule(
        alert=_ALERT,
        expr=f"max by (environment, component) ({series}) == 1"
        + _explained(component, "warning", parents),
        severity="warning",
        category="availability",
        component=component,
        summary=f"{{{{ $labels.component }}}} is degraded{_WHY}",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=HEALTH,
        hold=_AFTER_PARENTS if parents else _SECOND_CYCLE,
        series=series,
        by=("component",),
        script="health_check",
        proof=Proof(
            (Series(_series("component_degraded", labels), "0", "1"),),
            f"{labels['component']} is degraded",
            labels,
        ),
    )


def _series(metric: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"payment_api_{metric}{{{inside}}}"
