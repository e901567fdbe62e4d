"""Decision: readings of the five components, judged.

A row of `JUDGES` per component, a module of `judging/` per kind; what they share is in
`judging.common`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterable, Mapping, Optional, Tuple

from monitoring.catalog import METRICS
from monitoring.judging.cache import judge_cache
from monitoring.judging.common import Context, Judged, keepable
from monitoring.judging.further import judge_further
from monitoring.judging.login import judge_login
from monitoring.judging.service import judge_service
from monitoring.judging.vault import judge_vault
from monitoring.model import Component, Reading, Severity, Source, Verdict, worst
from monitoring.thresholds import say

Judge = Callable[[Reading, Context], Judged]

JUDGES: Mapping[str, Judge] = {
    "payment-eapi": judge_service,
    "payment-sapi": judge_service,
    "conjur-vault": judge_vault,
    "redis-cache": judge_cache,
    "authentication-flow": judge_login,
}

#: Whose figures without a `component` label are, by the start of their name.
_HOMES = (
    ("redis_", "redis-cache"),
    ("conjur_", "conjur-vault"),
    ("authentication_step_", "authentication-flow"),
)


def judge(reading: Reading, context: Context) -> Judged:
    """The component's row, its figures and findings, and what to remember of it. Pure; raises
    ValueError for what could be neither kept nor shown: called where that spoils the component
    alone (see `probes.Team`)."""
    return keepable(JUDGES.get(reading.source, judge_further)(reading, context))


def sources_of(reading: Reading, judged: Judged) -> Tuple[Source, ...]:
    """The component's row of `sources`: whether we could look at it. One that says "down", or
    refuses connections, was looked at; one that keeps us out, or whose answer we cannot read, was
    not. A second row, `<component>-figures`, where it answers but hides its figures."""
    component = judged.component
    blind = component.status is Severity.UNKNOWN
    whole = Source(
        reading.source,
        ok=not blind,
        seconds=reading.seconds,
        why=component.message if blind else "",
        error=component.error if blind else None,
        configured=reading.configured,
        truncated=reading.truncated,
    )
    if not judged.blind:
        return (whole,)
    why = "; ".join(fault.message for fault in judged.blind)
    error = judged.blind[0].kind
    return (whole, Source(f"{reading.source}-figures", ok=False, why=why, error=error))


def system_up(components: Iterable[Component]) -> Optional[float]:
    """1 when every component that there is was up, 0 when one was not, None when of the rest one
    is not known (or none is configured)."""
    ups = [component.up for component in components if component.configured]
    if False in ups:
        return 0.0
    return None if None in ups or not ups else 1.0


def raised(component: Component, verdicts: Iterable[Verdict]) -> Component:
    """The row with the worst that its figures' limits say: a service that answers too slowly is
    not ok. A component we cannot judge stays unknown."""
    crossed = [v for v in verdicts if v.severity > Severity.UNKNOWN and _is_of(v, component)]
    if not crossed or component.status is Severity.UNKNOWN:
        return component
    severity = worst(v.severity for v in crossed)
    if severity <= component.status:
        return component
    said = "; ".join(dict.fromkeys(say(v) for v in crossed if v.severity is severity))
    message = f"{component.message}; {said}" if component.message else said
    return replace(component, status=severity, message=message)


def _is_of(verdict: Verdict, component: Component) -> bool:
    """By its `component` label; figures of a node are the cache's, steps the canary's or the
    vault's. What is computed from history says nothing of how the component is now."""
    labels, name = verdict.measurement.labels, verdict.measurement.name
    if METRICS[name].derived:
        return False
    home = next((home for part, home in _HOMES if name.startswith(f"payment_api_{part}")), "")
    return labels.get("component", home) == component.name
