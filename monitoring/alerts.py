"""Decision: which notices are due, and why.

`step` takes what was remembered, what this cycle found, and the time; it gives what to remember,
what to tell, and a row for every alert that is not simply fine. Each notice has one reason:

| reason | when |
|---|---|
| first | the alert fires and nobody was told of this incident |
| escalated | it is worse than when last told, or a lower expiry step was reached |
| reminder | it still is bad, `reminder_interval` after the last notice (expiries: never) |
| flapping | it fired and resolved too often; it is held firing from now on |
| resolved | it recovered, and somebody had been told |

Quiet alerts (silences, maintenance windows, a dead parent) are measured on and tell nothing but
the resolve of what had been told before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import FrozenSet, Iterable, Mapping, Optional, Tuple

from monitoring.alerting import flapping, grouping, hysteresis
from monitoring.alerting.maintenance import why_quiet
from monitoring.alerting.state import OK, AlertState
from monitoring.model import Alert, AlertRow, Notice, Severity
from monitoring.settings import AlertSettings, Maintenance, Silence

#: The metric of the alert that says whether a component is up.
UP = "health_status"
#: How long a resolved alert is remembered (Alertmanager is told of it so long).
AFTERMATH = 900.0
_DEFAULT_REMINDER = 4 * 3600.0
_FORGOTTEN = (
    "nothing could judge it for a week, so it is no longer followed; it may be as bad as it was"
)


@dataclass(frozen=True)
class Policy:
    """`down`: components that other scripts know to be down."""

    rules: AlertSettings = field(default_factory=AlertSettings)
    silences: Tuple[Silence, ...] = ()
    maintenance: Tuple[Maintenance, ...] = ()
    down: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """`states` by key text, `notices` worst first, one row per alert that is not just fine."""

    states: Mapping[str, AlertState] = field(default_factory=dict)
    notices: Tuple[Notice, ...] = ()
    rows: Tuple[AlertRow, ...] = ()


@dataclass(frozen=True)
class _Turn:
    """What one alert's cycle came to. `judged`: the condition as this cycle found it."""

    before: AlertState
    after: AlertState
    judged: Alert
    hush: str = ""  # suppressed | silenced | ""
    why: str = ""

    @property
    def resolved(self) -> bool:
        return self.before.firing and not self.after.firing

    @property
    def ended(self) -> str:
        """What is well again, of a turn that resolved."""
        return self.judged.summary if self.judged.severity is Severity.OK else _FORGOTTEN


def step(
    previous: Mapping[str, AlertState], conditions: Iterable[Alert], policy: Policy, now: float
) -> Step:
    """Advance every alert by one cycle. `previous` and the result are keyed by `AlertKey.text`.
    An alert of `previous` that is not among the conditions counts as not judged."""
    judged = _by_key(conditions)
    previous = {key: state.until(now) for key, state in previous.items()}
    down = policy.down | _down(judged.values()) | _held_down(previous.values())
    turns = [
        _turn(previous.get(key), judged.get(key), policy, (down, now))
        for key in sorted({*previous, *judged})
        if key in previous or judged[key].severity > Severity.UNKNOWN
    ]
    states: dict[str, AlertState] = {}
    due = []
    for turn in turns:
        reason = _reason(turn, policy.rules, now)
        states[turn.after.key] = _told(turn.after, reason, now)
        if reason:
            due.append(_due(turn, reason))
    notices, states = grouping.gather(due, states, policy.rules.group_above, now)
    rows = tuple(row for turn in turns for row in _rows(turn))
    return Step(_worth_keeping(states, policy.rules, now), notices, rows)


def down_components(states: Iterable[AlertState], since: float) -> FrozenSet[str]:
    """Components that these states, if judged later than `since`, say are down."""
    fresh = [state for state in states if state.judged_at >= since]
    return _held_down(fresh) | _down(s.alert for s in fresh if hysteresis.is_bad(s))


def _by_key(conditions: Iterable[Alert]) -> dict[str, Alert]:
    """The worst condition of each key."""
    found: dict[str, Alert] = {}
    for alert in conditions:
        known = found.get(alert.key.text)
        if known is None or alert.severity > known.severity:
            found[alert.key.text] = alert
    return found


def _down(alerts: Iterable[Alert]) -> FrozenSet[str]:
    return frozenset(
        a.key.component for a in alerts if a.key.metric == UP and a.severity is Severity.CRITICAL
    )


def _held_down(states: Iterable[AlertState]) -> FrozenSet[str]:
    return _down(state.alert for state in states if state.firing)


def _turn(
    before: Optional[AlertState],
    alert: Optional[Alert],
    policy: Policy,
    moment: Tuple[FrozenSet[str], float],
) -> _Turn:
    down, now = moment
    if alert is None:
        assert before is not None, "step() asks for known keys only"  # noqa: S101
        alert = replace(before.alert, severity=Severity.UNKNOWN)
    start = before or AlertState(alert, judged_at=now)
    dead = [parent for parent in alert.parent.split() if parent in down]
    if alert.severity > Severity.UNKNOWN and dead:
        held = hysteresis.hold_back(start, alert, now)
        return _Turn(start, held, alert, "suppressed", f"{dead[0]} is down")
    after = hysteresis.advance(start, alert, policy.rules, now)
    why = why_quiet(alert, policy.silences, policy.maintenance, now)
    return _Turn(start, after, alert, "silenced" if why else "", why)


def _reason(turn: _Turn, rules: AlertSettings, now: float) -> str:
    """Why a notice is due now; empty: none is."""
    before, after = turn.before, turn.after
    if not after.firing:
        return "resolved" if before.firing and before.told is not None else ""
    if turn.hush:
        return ""
    if after.told is None:  # what looks better already (a silence just ended) wakes nobody
        return "first" if hysteresis.is_bad(after) else ""
    if after.flapping and not before.flapping:
        return "flapping"
    blind = turn.judged.severity is Severity.UNKNOWN  # "still critical" is not said by the blind
    return "" if blind or not hysteresis.is_bad(after) else _again(after, rules, now)


def _again(state: AlertState, rules: AlertSettings, now: float) -> str:
    """Why those who were told should hear again."""
    alert = state.alert
    if state.told is not None and alert.severity > state.told:
        return "escalated"
    if alert.step is not None:
        return "escalated" if state.step is None or alert.step < state.step else ""
    interval = rules.reminder_interval.get(alert.severity.word, _DEFAULT_REMINDER)
    waited = now - (state.told_at or 0.0)
    return "reminder" if interval and waited >= interval else ""


def _told(after: AlertState, reason: str, now: float) -> AlertState:
    """The state once the notice is on its way."""
    if not after.firing:
        return replace(after, told=None, told_at=None, step=None)
    if not reason:
        return after
    severity = after.alert.severity
    if reason == "flapping" and after.told is not None:
        severity = max(severity, after.told)
    before = after.worst if after.told is not None and after.worst else severity
    grown = after.told is not None and (after.grown or before < severity)
    return replace(
        after,
        told=severity,
        told_at=now,
        step=after.alert.step,
        worst=max(before, severity),
        grown=grown,
    )


def _due(turn: _Turn, reason: str) -> grouping.Due:
    since = turn.before.since if reason == "resolved" else turn.after.since
    alert = turn.before.alert if reason == "resolved" else turn.after.alert
    if reason == "resolved" and turn.before.told is not None:
        # What recovered is the thing people were told of, at the severity they were told.
        alert = replace(alert, severity=turn.before.told)
    if turn.after.flapping:
        alert = replace(alert, evidence={**alert.evidence, "flapping": True})
    ended = turn.ended if reason == "resolved" else ""
    return grouping.Due(reason, alert, turn.after.judged_at if since is None else since, ended)


def _rows(turn: _Turn) -> Iterable[AlertRow]:
    after = turn.after
    if turn.hush == "suppressed" or (turn.hush and after.phase != OK):
        yield AlertRow(after.alert, turn.hush, after.since, turn.why)
    elif turn.resolved:
        well = replace(turn.judged, severity=turn.before.alert.severity, summary=turn.ended)
        yield AlertRow(well, "resolved", turn.before.since)
    elif after.phase != OK:
        why = "flapping" if after.flapping else ""
        yield AlertRow(after.alert, after.phase, after.since, why)


def _worth_keeping(
    states: Mapping[str, AlertState], rules: AlertSettings, now: float
) -> dict[str, AlertState]:
    """States that still matter: in an incident, just after one, or with a restless past."""
    kept = {}
    for key, state in states.items():
        ended = state.resolved_at is not None and now - state.resolved_at < AFTERMATH
        restless = any(flapping.within(t, rules, now) for t in (state.turns, state.flips))
        if state.phase != OK or state.group or ended or restless:
            kept[key] = state
    return kept
