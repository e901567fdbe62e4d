"""Decision: what became of an alert that this cycle does not mention.

It is fine if the place it speaks of was looked at, else unknown (it neither fires nor resolves).
Looked at means: its component is in the outcome and is up (or is no longer configured); or, where
the component is not this script's own, that the sources which the alert names, or else all of them,
could be read, and no scan was cut short.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Mapping, Tuple

from monitoring.catalog import COMPONENTS
from monitoring.conditions import BLIND
from monitoring.model import Alert, Outcome, Severity
from monitoring.redact import safe_id
from monitoring.service_levels import OVERALL


def vanished(known: Iterable[Alert], found: Iterable[Alert], outcome: Outcome) -> Tuple[Alert, ...]:
    """For each alert of `known` that `found` does not mention: OK where it would have been seen,
    else UNKNOWN."""
    mentioned = {alert.key.text for alert in found}
    gone = (alert for alert in known if alert.key.text not in mentioned)
    return tuple(
        replace(alert, severity=Severity.OK, summary=_gone(alert), value=None)
        if _looked(alert, outcome)
        else replace(alert, severity=Severity.UNKNOWN)
        for alert in gone
    )


def _gone(alert: Alert) -> str:
    """`payment-eapi, client client-017: volume spike is no longer found`."""
    who = f", client {safe_id(alert.key.client)}" if alert.key.client else ""
    return f"{alert.key.component}{who}: {alert.key.metric.replace('_', ' ')} is no longer found"


def _looked(alert: Alert, outcome: Outcome) -> bool:
    """Whether this cycle would have mentioned `alert` had it still been true."""
    if alert.key.metric == BLIND and alert.key.component not in COMPONENTS:
        return _source_gone(alert.key.component, outcome)
    component = next((c for c in outcome.components if c.name == alert.key.component), None)
    if component is not None:
        return not component.configured or component.up is True
    if alert.key.component in (*COMPONENTS, OVERALL) and outcome.components:
        return False  # a run that asks some components only says nothing about the others
    return _whole(outcome) and _sources_read(alert.evidence, outcome)


def _sources_read(evidence: Mapping[str, object], outcome: Outcome) -> bool:
    asked = [source for source in outcome.sources if source.configured]
    sources = evidence.get("sources")
    names = sources if isinstance(sources, list) else [evidence.get("source")]
    named = [source for source in asked if source.name in names]
    return bool(asked) and all(source.ok for source in named or asked)


def _source_gone(name: str, outcome: Outcome) -> bool:
    """A source that is no longer listed, or no longer configured, while the script itself ran."""
    listed = [source for source in outcome.sources if source.name == name and source.configured]
    ran = [source for source in outcome.sources if source.name != "monitor"]
    return not listed and bool(ran)


def _whole(outcome: Outcome) -> bool:
    """Whether no scan was cut short by its budget."""
    cut = (m.value for m in outcome.measurements if m.name == "payment_api_scan_truncated")
    return not any(cut)
