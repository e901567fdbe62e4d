"""Decision: what of an Outcome somebody may have to know, as alerts.

Components give `health_status` (down, or degraded for a reason that no verdict or finding names)
and, where we could not look, `monitoring_blind`. Verdicts give one alert per threshold, component
and client: of several nodes or labels the worst speaks. Findings give one per reason, component
and client. What is fine gives an OK alert, so that an earlier one resolves; what could not be
judged gives UNKNOWN, which neither fires nor resolves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from monitoring.alerts import advice
from monitoring.catalog import THRESHOLDS
from monitoring.components import (
    CACHE,
    COMPONENTS,
    LOGIN,
    WHOLE,
    explained_by,
    of_figure,
    of_source,
)
from monitoring.model import Alert, AlertKey, Component, Finding, Outcome, Severity, Source, Verdict
from monitoring.text import safe_id
from monitoring.thresholds import in_unit, say

BLIND = "monitoring_blind"
UP = "health_status"
#: How a service's sentence begins that only its detailed health says something bad of.
_UP_BUT = "is up, but "
EXPIRY_STEPS = (30, 14, 7, 1)
#: Alerts about expiries: they tell once per step instead of reminding.
_EXPIRIES = ("availability.tls_certificate_days",)


def conditions(outcome: Outcome) -> tuple[Alert, ...]:
    """Every alert of this cycle, one per key; of several with the same key the worst."""
    found: dict[str, Alert] = {}
    for alert in _all(outcome):
        known = found.get(alert.key.text)
        if known is None or alert.severity > known.severity:
            found[alert.key.text] = alert
    return tuple(found.values())


def _all(outcome: Outcome) -> Iterator[Alert]:
    for component in outcome.components:
        if component.configured:
            yield _availability(component, outcome)
            yield _blind_component(component, outcome)
    shown = {*COMPONENTS, *(component.name for component in outcome.components)}
    for source in outcome.sources:
        if source.configured and source.name not in shown:
            yield _blind_source(source, outcome)
    for verdict in outcome.verdicts:
        yield _from_verdict(verdict, outcome)
    for finding in outcome.findings:
        yield _from_finding(finding, outcome)


# -- components and sources


def _availability(component: Component, outcome: Outcome) -> Alert:
    severity = state_of(component, outcome)
    down, word = component.up is False, _state_word(component, severity)
    said = component.message or "no details"
    texts = (
        _texts(component) if down else advice.for_degraded(component.name, component.error or "")
    )
    return Alert(
        _key(outcome, component.name, UP),
        severity,
        f"{component.name} {word}: {said[len(_UP_BUT) * said.startswith(_UP_BUT) :]}",
        value=None if component.up is None else float(component.up),
        threshold=1.0,
        parent=" ".join(causes_of(component)),
        evidence=dict(_how(component)) if down else {},
        **texts.fields(),
    )


def _texts(component: Component) -> advice.Advice:
    return advice.for_component(component.name, component.error or "", failed_at(component))


def causes_of(component: Component) -> tuple[str, ...]:
    """The components whose failure explains this one's."""
    down, error = component.up is False, component.error or ""
    return explained_by(component.name, down=down, error=error, at=failed_at(component))


def failed_at(component: Component) -> str:
    """The service at which a login failed; empty for what is no login, or works."""
    return str(component.details.get("parent", "")) if component.name == LOGIN else ""


def _how(component: Component) -> Iterator[tuple[str, object]]:
    """How it failed, and where to look for it."""
    if component.error:
        yield "error", component.error
    if failed_at(component):
        yield "failed_at", failed_at(component)
        yield "trace_id", component.details.get("trace_id")


def _state_word(component: Component, severity: Severity) -> str:
    if component.up is False:
        return "is down"
    return "is up" if severity is Severity.OK else "is degraded"


def state_of(component: Component, outcome: Outcome) -> Severity:
    """Down, degraded for a reason that no verdict or finding names, fine, or unknown."""
    if component.up is False:
        return Severity.CRITICAL
    if component.up is None or component.status is Severity.UNKNOWN:
        return Severity.UNKNOWN  # up, but not known how well: that ends nothing
    if component.status <= _said(component.name, outcome):
        return Severity.OK
    return component.status


def _said(name: str, outcome: Outcome) -> Severity:
    """The worst that verdicts and findings already say of the component."""
    verdicts = [v.severity for v in outcome.verdicts if _component_of(v) == name]
    findings = [f.severity for f in outcome.findings if f.component == name]
    return max([*verdicts, *findings], default=Severity.OK)


def _blind_component(component: Component, outcome: Outcome) -> Alert:
    blind = component.status is Severity.UNKNOWN
    why = component.message or component.error or "no reason given"
    return _blind(outcome, component.name, why if blind else "", parent="")


def _blind_source(source: Source, outcome: Outcome) -> Alert:
    why = source.why or source.error or "no reason given"
    parent = of_source(source.name)
    return _blind(outcome, source.name, "" if source.ok else why, parent=parent)


def _blind(outcome: Outcome, name: str, why: str, *, parent: str) -> Alert:
    """`name`: the component or source that cannot be read (`why`) or can. A source of a component
    is blindness to that component, so the alert is about `parent` where there is one."""
    return Alert(
        _key(outcome, parent or name, BLIND),
        Severity.WARNING if why else Severity.OK,
        f"the monitor {f'cannot judge {name}: {why}' if why else f'sees {name} again'}",
        parent=parent,
        **advice.for_blindness().fields(),
    )


# -- verdicts and findings


def _from_verdict(verdict: Verdict, outcome: Outcome) -> Alert:
    threshold = THRESHOLDS[verdict.threshold]
    client = verdict.measurement.labels.get("client_id", "")
    component = _component_of(verdict)
    value = in_unit(verdict.measurement.value, threshold)
    limit = in_unit(verdict.limit, threshold)
    return Alert(
        _key(outcome, component, threshold.key, "" if client == "all" else client),
        verdict.severity,
        _verdict_sentence(verdict),
        threshold.category,
        value=value,
        threshold=limit,
        unit=threshold.unit,
        parent=_parent(component, threshold.category, outcome),
        hold=1 if threshold.category == "security" else None,
        step=_step(verdict.threshold, value, limit),
        evidence=dict(verdict.measurement.labels),
        **advice.for_threshold(verdict.threshold).fields(),
    )


def _verdict_sentence(verdict: Verdict) -> str:
    """`payment-eapi: response time 812 ms (critical from 500 ms)`."""
    within = ", within its limits" if verdict.severity is Severity.OK else ""
    return f"{_about(verdict)}: {say(verdict)}{within}"


def _about(verdict: Verdict) -> str:
    labels = verdict.measurement.labels
    parts = [_component_of(verdict)]
    parts += [
        f"{name} {text}"
        for name, text in sorted(labels.items())
        if name not in ("component", "client_id")
    ]
    client = labels.get("client_id", "")
    if client not in ("", "all"):
        parts.append("all other clients" if client == "other" else f"client {safe_id(client)}")
    return ", ".join(parts)


def _step(threshold: str, days: Optional[float], limit: Optional[float]) -> Optional[int]:
    """The lowest expiry step reached; above them all the limit itself is the first one."""
    if threshold not in _EXPIRIES or days is None or limit is None:
        return None
    return min([step for step in EXPIRY_STEPS if days <= step], default=int(limit))


def _from_finding(finding: Finding, outcome: Outcome) -> Alert:
    texts = advice.for_finding(finding.reason, finding.category)
    fields = texts.fields()
    fields["meaning"] = finding.meaning or fields["meaning"]
    fields["action"] = finding.action or fields["action"]
    return Alert(
        _key(outcome, finding.component, finding.reason, finding.client),
        finding.severity,
        finding.sentence,
        finding.category,
        parent=_parent(finding.component, finding.category, outcome),
        hold=1 if finding.category == "security" else None,
        evidence=dict(finding.evidence),
        **fields,
    )


# -- places


def _key(outcome: Outcome, component: str, metric: str, client: str = "") -> AlertKey:
    return AlertKey(outcome.environment, outcome.script, component, metric, safe_id(client))


def _component_of(verdict: Verdict) -> str:
    named = verdict.measurement.labels.get("component")
    if named:
        return named
    return of_figure(verdict.measurement.name) or WHOLE


def _parent(component: str, category: str, outcome: Outcome) -> str:
    """The components whose failure explains an alert about `component`. A security alert is only
    explained by a dead cache, out of which it was read: an attack may be why a service is down."""
    if category == "security" and component != CACHE:
        return ""
    if component == LOGIN:  # each step waits for what is behind it
        return " ".join((LOGIN, *explained_by(LOGIN, down=False)))
    if outcome.script and component in (*COMPONENTS, *(c.name for c in outcome.components)):
        return component
    return of_source(component)
