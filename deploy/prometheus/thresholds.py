"""The alert thresholds of the configuration as Prometheus rules.

Name, component, texts and pages are those of the scripts' own alerts (the same functions say
them), so that one page and one silence fit both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.prometheus.rule import Proof, Rule, Series, by_client, two_cycles
from monitoring.alerts.conditions import conditions
from monitoring.catalog import METRICS, THRESHOLDS, Threshold, script_of
from monitoring.config.settings import Limit
from monitoring.model import Alert, Measurement, Outcome, Severity, Verdict

#: What another rule says better.
ELSEWHERE = {
    "availability.error_budget_burn_rate": "two windows at once, see availability.py",
}
#: Judged per client and of all clients together.
_ALSO_IN_ALL = ("authentication_failures",)
#: Labels of a metric that tell one alert from another, and what the scripts' alerts call them.
_OWN = {"component": "component", "client_id": "client"}
#: Example values of labels.
_SAMPLE_LABELS = {
    "component": "payment-eapi",
    "client_id": "client-001",
    "node": "cache-1:6379",
    "reason": "encoding",
    "step": "validate",
    "window": "1h",
}


def rules(limits: Mapping[str, Limit]) -> Iterator[Rule]:
    """A rule for each level of each threshold that is set."""
    for name, threshold in THRESHOLDS.items():
        limit = limits.get(name)
        if name in ELSEWHERE or limit is None:
            continue
        for severity in _numbers(limit):
            yield _rule(threshold, severity, limit)


def _numbers(limit: Limit) -> dict[str, float]:
    """The levels that are set, the worst first."""
    levels = {"critical": limit.critical, "warning": limit.warning}
    return {severity: number for severity, number in levels.items() if number is not None}


def _rule(threshold: Threshold, severity: str, limit: Limit) -> Rule:
    alert = _alert_of_the_scripts(threshold)
    labels = METRICS[threshold.metric].labels
    by = tuple(_OWN[label] for label in labels if label in _OWN)
    return Rule(
        alert=alert.key.labels()["alertname"],
        expr=_expression(threshold, _numbers(limit)[severity], by),
        series=_series(threshold),
        by=by,
        script=script_of(threshold.metric),
        severity=severity,
        category=threshold.category,
        component="" if "component" in labels else alert.key.component,
        summary=_summary(
            threshold, severity, limit, labels=_named(threshold, by), value=_template(threshold)
        ),
        meaning=alert.meaning,
        action=alert.action,
        runbook=alert.runbook,
        dashboard=alert.dashboard,
        proof=_proof(threshold, severity, limit),
        hold=_hold(threshold),
    )


def _named(threshold: Threshold, by: tuple[str, ...]) -> dict[str, str]:
    """What the summary says of each label of the metric. Of several nodes, steps, ... the worst
    speaks, as in the scripts' alerts; its name is asked for, since the alert is not of it alone."""
    named = {}
    for label in METRICS[threshold.metric].labels:
        if label == "component":
            named[label] = "{{ $labels.component }}"
        elif label == "client_id":
            named[label] = "{{ $labels.client }}"
        elif len(threshold.where.get(label, ())) == 1:
            named[label] = threshold.where[label][0]
        else:
            named[label] = _worst(threshold, label, by)
    return named


def _worst(threshold: Threshold, label: str, by: tuple[str, ...]) -> str:
    most = "bottomk" if threshold.worse == "lower" else "topk"
    same = ",".join(f"{name}=%q" for name in ("environment", *by))
    where = ",".join(filter(None, (_matchers(threshold), same)))
    values = " ".join(f"$labels.{name}" for name in ("environment", *by))
    asked = f"{most}(1, {threshold.metric}{{{where}}})"
    return (
        f"{{{{ range printf `{asked}` {values} | query }}}}{{{{ .Labels.{label} }}}}{{{{ end }}}}"
    )


def _summary(
    threshold: Threshold, severity: str, limit: Limit, *, labels: Mapping[str, str], value: str
) -> str:
    """As the scripts say it: `payment-eapi: response time 812 ms (critical from 500 ms)`."""
    where = labels.get("component") or _alert_of_the_scripts(threshold).key.component
    plain = {name: labels[name] for name in labels if name not in ("component", "client_id")}
    about = "".join(f", {name} {text}" for name, text in plain.items())
    number = f"{_numbers(limit)[severity]:g}{_unit(threshold)}"
    client = _of_client(labels.get("client_id", ""))
    return (
        f"{where}{about}{client}: {threshold.noun} {value} ({severity} {threshold.side} {number})"
    )


def _of_client(client: str) -> str:
    if client.startswith("{{"):
        return f"{{{{ if $labels.client }}}}, client {client}{{{{ end }}}}"
    return f", client {client}" if client else ""


def _unit(threshold: Threshold) -> str:
    return f" {threshold.spoken_unit}" if threshold.spoken_unit else ""


def _alert_of_the_scripts(threshold: Threshold) -> Alert:
    """What the scripts would say were this threshold crossed."""
    figure = Measurement(threshold.metric, 1.0, _labels(threshold))
    verdict = Verdict(figure, Severity.CRITICAL, 1.0, "above_critical", threshold.name)
    return conditions(Outcome("any", "any", "1", 0.0, 0.0, verdicts=(verdict,)))[0]


def _labels(threshold: Threshold) -> dict[str, str]:
    where = {name: among[0] for name, among in threshold.where.items()}
    names = METRICS[threshold.metric].labels
    return {name: where.get(name, _SAMPLE_LABELS[name]) for name in names}


def _matchers(threshold: Threshold) -> str:
    return ",".join(
        f'{name}=~"{"|".join(among)}"' if len(among) > 1 else f'{name}="{among[0]}"'
        for name, among in sorted(threshold.where.items())
    )


def _series(threshold: Threshold) -> str:
    matchers = _matchers(threshold)
    return f"{threshold.metric}{{{matchers}}}" if matchers else threshold.metric


def _expression(threshold: Threshold, number: float, by: tuple[str, ...]) -> str:
    """The worst of what makes one alert of the scripts (instances, nodes, steps) at its limit."""
    series = _series(threshold)
    if threshold.key == "clock_skew":
        series = f"abs({series})"
    if "client" in by:
        series = by_client(series)
    worst, sign = ("min", "<=") if threshold.worse == "lower" else ("max", ">=")
    limit = f"{sign} {number * threshold.scale:.10g}"
    whole = f"{worst} by ({', '.join(('environment', *by))}) ({series})"
    if threshold.key in _ALSO_IN_ALL:  # no client: the sum over all
        once = f"max by (environment, client_id) ({_series(threshold)})"
        whole = f"(sum by (environment) ({once}) or {whole})"
    return f"{whole} {limit}"


def _hold(threshold: Threshold) -> int:
    """Minutes: two cycles of the script that measures it; a security finding speaks at once."""
    if threshold.category == "security":
        return 0
    slow = threshold.metric.startswith(("payment_api_token", "payment_api_credential"))
    return two_cycles("token_usage_metrics" if slow else "health_check")


def _template(threshold: Threshold) -> str:
    """What prints the value in the threshold's unit."""
    if threshold.unit == "%":
        return "{{ $value | humanizePercentage }}"
    if threshold.unit == "MiB":
        return "{{ $value | humanize1024 }}B"
    if threshold.scale != 1.0:  # the metric is in seconds
        return "{{ $value | humanizeDuration }}"
    form = "%.0f" if threshold.unit == "inodes" else "%.4g"  # never 1e+05
    return f'{{{{ $value | printf "{form}" }}}}' + _unit(threshold)


def _rendered(threshold: Threshold, number: float) -> str:
    """What Prometheus makes of that template."""
    if threshold.unit == "%":
        return f"{number:g}%"
    if threshold.unit == "MiB":  # 200 is 200MiB and 2048 is 2GiB
        return f"{number:g}MiB" if number < 1024 else f"{number / 1024:.4g}GiB"
    if threshold.unit == "days":
        return f"{number:g}d 0h 0m 0s"
    if threshold.scale != 1.0:
        return f"{number:g}ms"
    return f"{number:.10g}{_unit(threshold)}"


def _proof(threshold: Threshold, severity: str, limit: Limit) -> Proof:
    """A value on the right side of every limit, then one that just reaches this one."""
    labels, numbers = _labels(threshold), _numbers(limit)
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    lower = threshold.worse == "lower"
    good = max(numbers.values()) * 1.01 or 1.0 if lower else min(numbers.values()) * 0.5
    bad, scale = numbers[severity], threshold.scale
    name = f"{threshold.metric}{{{inside}}}"
    shown = _rendered(threshold, bad)

    def summary(of: str) -> str:
        return _summary(threshold, of, limit, labels=labels, value=shown)

    # What is critical is a warning too; Alertmanager hushes that one.
    also = {"warning": summary("warning")} if severity == "critical" and len(numbers) > 1 else {}
    shown_labels = {_OWN[label]: text for label, text in labels.items() if label in _OWN}
    series = Series(name, f"{good * scale:.10g}", f"{bad * scale:.10g}")
    whole = "" if threshold.key in _ALSO_IN_ALL else summary(severity)  # two alerts: of it and all
    return Proof((series,), whole, shown_labels, also=also)
