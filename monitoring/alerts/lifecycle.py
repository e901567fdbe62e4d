"""Decision: the life of an alert: pending, firing, flapping, vanished, and which notices are due.

`step` takes what was remembered, what this cycle found, and the time; it gives what to remember,
what to tell, and a row for every alert that is not simply fine. Each notice has one reason:

| reason | when |
|---|---|
| first | the alert fires and nobody was notified of this incident |
| escalated | it is worse than when last notified, or a lower expiry step was reached |
| reminder | it still is bad, `reminder_interval` after the last notice (expiries: never) |
| flapping | it fired and resolved too often; it is held firing from now on |
| resolved | it recovered, and somebody had been notified |

Quiet alerts (silences, maintenance windows, a dead parent) are measured on and tell nothing but
the resolve of what had been notified before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

from monitoring.alerts import grouping
from monitoring.alerts.conditions import BLIND
from monitoring.alerts.maintenance import why_quiet
from monitoring.alerts.state import FIRING, OK, PENDING, RESOLVED_RETENTION, AlertState
from monitoring.components import COMPONENTS
from monitoring.config.settings import AlertSettings, Maintenance, Silence
from monitoring.model import FLAPPING, RECOVERING, Alert, AlertRow, Notice, Outcome, Severity
from monitoring.sla.levels import OVERALL
from monitoring.text import safe_id

# -- what became of an alert that this cycle does not mention.
# It is fine if the place it speaks of was looked at, else unknown (it neither fires nor resolves).
# Looked at means: its component is in the outcome and is up (or is no longer configured); or, where
# the component is not this script's own, that the sources which the alert names, or else all of
# them, could be read, and no scan was cut short.


def vanished(known: Iterable[Alert], found: Iterable[Alert], outcome: Outcome) -> tuple[Alert, ...]:
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


# -- does an alert come and go too often to be worth a page each time?
# Two signs. `turns`: it fired and resolved `flap_changes` times within `flap_window`; it is then
# held firing, and resolves only once it has been fine for half a window. `flips`: the verdict
# changed twice as often as that without ever holding long enough to fire; hysteresis would hide
# this for ever, so it fires, named intermittent.


#: Seconds between two cycles for which `flap_window` is meant, and the longest window of who looks
#: more rarely.
_MEANT_FOR, _LONGEST_WINDOW = 60.0, 86400.0


def paced(rules: AlertSettings, interval: float) -> AlertSettings:
    """The rules of a script with `interval` seconds between two cycles. Who looks every five
    minutes sees a fifth of the changes in an hour, so the window of flapping grows with it."""
    window = rules.flap_window * max(1.0, interval / _MEANT_FOR)
    longest = max(rules.flap_window, _LONGEST_WINDOW)
    return replace(rules, flap_window=min(window, longest))


def within(times: tuple[float, ...], rules: AlertSettings, now: float) -> tuple[float, ...]:
    """The times that lie in the flap window; bounded, so that no state grows without end. Times
    ahead of `now` (the clock was set back) are dropped."""
    kept = tuple(at for at in times if now - rules.flap_window < at <= now)
    return kept[-2 * rules.flap_changes :]


def would_flap(state: AlertState, rules: AlertSettings, now: float) -> bool:
    """Whether one more fire or resolve at `now` makes it flapping."""
    return len(within(state.turns, rules, now)) + 1 >= rules.flap_changes


def intermittent(state: AlertState, rules: AlertSettings, now: float) -> bool:
    """Whether the verdict itself keeps changing."""
    return len(within(state.flips, rules, now)) >= 2 * rules.flap_changes


def settled(state: AlertState, rules: AlertSettings, now: float) -> bool:
    """Whether the verdict has stayed the same for half a flap window."""
    return state.steady_since is None or now - state.steady_since >= rules.flap_window / 2


# -- how one alert moves between ok, pending and firing.
# | from | judged | to |
# |---|---|---|
# | ok, pending | bad, long enough (below) | firing |
# | ok, pending | bad, not yet | pending |
# | pending | good | ok (pending while M of N still remembers a bad one) |
# | firing | good, `recovery_threshold` in a row | ok, or held firing when flapping |
# | any | unknown | as it was |
#
# Long enough: `failure_threshold` in a row (one more where a component's source cannot be read), or
# the alert's own `hold`, or M of the last N judgements where `window` is set, or intermittent
# (`flips`).

#: Not judged for so long: whatever it was about is no longer watched.
FORGET_AFTER = 7 * 86400.0


def advance(before: AlertState, alert: Alert, rules: AlertSettings, now: float) -> AlertState:
    """The state after this cycle's judgement of `alert`; what was notified is not touched."""
    if alert.severity is Severity.UNKNOWN:
        return _unjudged(before, now)
    bad = alert.severity > Severity.UNKNOWN
    after = _noted(before, bad, rules, now)
    return _after_bad(after, alert, rules, now) if bad else _after_good(after, rules, now)


def hold_back(before: AlertState, alert: Alert, now: float) -> AlertState:
    """The state of a child whose parent is down: what was notified stays, anything else starts anew
    when the parent is back."""
    if before.firing and before.notified is not None:
        return replace(before, judged_at=now)
    return AlertState(alert, judged_at=now, group=before.group, turns=before.turns)


def is_recovering(state: AlertState) -> bool:
    """Whether it fires still, though the last judgement was good."""
    return state.firing and state.good > 0


def is_bad(state: AlertState) -> bool:
    """Whether the last judgement was bad."""
    return state.bad > 0


def _unjudged(before: AlertState, now: float) -> AlertState:
    if before.phase == OK or now - before.judged_at < FORGET_AFTER:
        return before
    return _resolved(before, now)


def _noted(before: AlertState, bad: bool, rules: AlertSettings, now: float) -> AlertState:
    """The judgement written into the counts and memories."""
    length = rules.window[1] if rules.window else 1
    known = before.bad > 0 or before.good > 0
    changed = known and bad is not (before.bad > 0)
    flips = within((*before.flips, now) if changed else before.flips, rules, now)
    return replace(
        before,
        bad=before.bad + 1 if bad else 0,
        good=0 if bad else before.good + 1,
        recent=(*before.recent, bad)[-length:],
        flips=flips,
        turns=within(before.turns, rules, now),
        steady_since=now if changed or before.steady_since is None else before.steady_since,
        judged_at=now,
    )


def _after_bad(after: AlertState, alert: Alert, rules: AlertSettings, now: float) -> AlertState:
    begins = after.phase == OK or after.since is None
    after = replace(after, alert=alert, since=now if begins else after.since)
    if after.firing:
        if after.flapping and settled(after, rules, now):
            return replace(after, flapping=False, turns=())  # it is simply down now
        return after
    restless = intermittent(after, rules, now)
    if not (restless or _threshold_reached(after, alert, rules)):
        return replace(after, phase=PENDING)
    turns = (*after.turns, now)
    return replace(
        after, phase=FIRING, turns=turns, flapping=restless, flapped=False, resolved_at=None
    )


def _threshold_reached(state: AlertState, alert: Alert, rules: AlertSettings) -> bool:
    if alert.hold is not None:
        return state.bad >= alert.hold
    if rules.window:
        return sum(state.recent) >= rules.window[0]
    # What a component's source does not say is news of health_check, if the component is to blame:
    # its word comes first, even where it looked a little later. Who asks for one cycle waits for
    # nobody.
    waits = alert.key.metric == BLIND and bool(alert.parent) and rules.failure_threshold > 1
    return state.bad >= rules.failure_threshold + waits


def _after_good(after: AlertState, rules: AlertSettings, now: float) -> AlertState:
    if not after.firing:
        waiting = bool(rules.window) and any(after.recent)
        return replace(after, phase=PENDING if waiting else OK)
    if after.good < rules.recovery_threshold or _window_full(after, rules):
        return after
    if after.flapping:
        return _resolved(after, now) if settled(after, rules, now) else after
    if would_flap(after, rules, now):
        return replace(after, flapping=True, turns=(*after.turns, now))
    return _resolved(after, now)


def _window_full(state: AlertState, rules: AlertSettings) -> bool:
    return bool(rules.window) and sum(state.recent) >= (rules.window or (1, 1))[0]


def _resolved(state: AlertState, now: float) -> AlertState:
    turns = () if state.flapping else (*state.turns, now)
    return replace(
        state,
        phase=OK,
        resolved_at=now,
        turns=turns,
        flapping=False,
        flapped=state.flapping,
        bad=0,
        recent=(),
    )


# -- which notices are due, and why.

#: The metric of the alert that says whether a component is up.
UP = "health_status"
_DEFAULT_REMINDER = 4 * 3600.0
_FORGOTTEN = (
    "nothing could judge it for a week, so it is no longer followed; it may be as bad as it was"
)


@dataclass(frozen=True)
class Policy:
    """`down`: components that other scripts know to be down; `impaired`: those that people were
    notified of by them as down or degraded, or will be soon: that says already that they cannot
    be read."""

    rules: AlertSettings = field(default_factory=AlertSettings)
    silences: tuple[Silence, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    down: frozenset[str] = frozenset()
    impaired: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AlertStep:
    """`states` by key text, `notices` worst first, one row per alert that is not just fine."""

    states: Mapping[str, AlertState] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    rows: tuple[AlertRow, ...] = ()


@dataclass(frozen=True)
class _Turn:
    """What one alert's cycle came to. `judged`: the condition as this cycle found it."""

    before: AlertState
    after: AlertState
    judged: Alert
    hush: str = ""  # suppressed | silenced | ""
    why: str = ""
    blamed: tuple[str, ...] = ()  # the components that it is suppressed for

    @property
    def resolved(self) -> bool:
        return self.before.firing and not self.after.firing

    @property
    def ended(self) -> str:
        """What is well again, of a turn that resolved."""
        return self.judged.summary if self.judged.severity is Severity.OK else _FORGOTTEN


def step(
    previous: Mapping[str, AlertState], conditions: Iterable[Alert], policy: Policy, now: float
) -> AlertStep:
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
        states[turn.after.key] = _notified(turn.after, reason, now)
        if reason:
            due.append(_due(turn, reason))
    notices, states = grouping.gather(due, states, policy.rules.group_above, now)
    rows = tuple(row for turn in turns for row in _rows(turn))
    explained = tuple(_with_consequences(notice, turns) for notice in notices)
    return AlertStep(_worth_keeping(states, policy.rules, now), explained, rows)


def _with_consequences(notice: Notice, turns: Iterable[_Turn]) -> Notice:
    """A notice of what is down names what it explains and nobody is notified of."""
    key = notice.alert.key
    if notice.over or key.metric != UP:
        return notice
    behind = [turn.judged for turn in turns if key.component in turn.blamed]
    worst = sorted(behind, key=lambda alert: (-alert.severity, alert.key.text))
    return replace(notice, suffers=tuple(dict.fromkeys(alert.summary for alert in worst)))


def down_components(states: Iterable[AlertState], since: float) -> frozenset[str]:
    """Components that these states, if judged later than `since`, say are down."""
    fresh = [state for state in states if state.judged_at >= since]
    return _held_down(fresh) | _down(s.alert for s in fresh if is_bad(s))


def impaired_components(states: Iterable[AlertState], since: float) -> frozenset[str]:
    """Components that people were notified of as down or degraded, or will be in a cycle or two if
    it goes on; as judged later than `since`."""
    fresh = (s for s in states if s.judged_at >= since and s.alert.key.metric == UP)
    known = (s for s in fresh if (s.notified is not None if s.firing else is_bad(s)))
    return frozenset(s.alert.key.component for s in known)


def _by_key(conditions: Iterable[Alert]) -> dict[str, Alert]:
    """The worst condition of each key."""
    found: dict[str, Alert] = {}
    for alert in conditions:
        known = found.get(alert.key.text)
        if known is None or alert.severity > known.severity:
            found[alert.key.text] = alert
    return found


def _down(alerts: Iterable[Alert]) -> frozenset[str]:
    return frozenset(
        a.key.component for a in alerts if a.key.metric == UP and a.severity is Severity.CRITICAL
    )


def _held_down(states: Iterable[AlertState]) -> frozenset[str]:
    return _down(state.alert for state in states if state.firing)


def _turn(
    before: Optional[AlertState],
    alert: Optional[Alert],
    policy: Policy,
    moment: tuple[frozenset[str], float],
) -> _Turn:
    down, now = moment
    if alert is None:
        assert before is not None, "step() asks for known keys only"  # noqa: S101
        alert = replace(before.alert, severity=Severity.UNKNOWN)
    start = before or AlertState(alert, judged_at=now)
    causes = down | policy.impaired if alert.key.metric == BLIND else down
    blamed = [parent for parent in alert.parent.split() if parent in causes]
    if alert.severity > Severity.UNKNOWN and blamed:
        held = hold_back(start, alert, now)
        why = f"{blamed[0]} is {'down' if blamed[0] in down else 'degraded'}"
        return _Turn(start, held, alert, "suppressed", why, tuple(blamed))
    after = advance(start, alert, policy.rules, now)
    why = why_quiet(alert, policy.silences, policy.maintenance, now)
    return _Turn(start, after, alert, "silenced" if why else "", why)


def _reason(turn: _Turn, rules: AlertSettings, now: float) -> str:
    """Why a notice is due now; empty: none is."""
    before, after = turn.before, turn.after
    if not after.firing:
        return "resolved" if before.firing and before.notified is not None else ""
    if turn.hush:
        return ""
    if after.notified is None:  # what looks better already (a silence just ended) wakes nobody
        return "first" if is_bad(after) else ""
    if after.flapping and not before.flapping:
        return "flapping"
    blind = turn.judged.severity is Severity.UNKNOWN  # "still critical" is not said by the blind
    return "" if blind or not is_bad(after) else _again(after, rules, now)


def _again(state: AlertState, rules: AlertSettings, now: float) -> str:
    """Why those who were notified should hear again."""
    alert = state.alert
    if state.notified is not None and alert.severity > state.notified:
        return "escalated"
    if alert.step is not None:
        return "escalated" if state.step is None or alert.step < state.step else ""
    interval = rules.reminder_interval.get(alert.severity.word, _DEFAULT_REMINDER)
    waited = now - (state.notified_at or 0.0)
    return "reminder" if interval and waited >= interval else ""


def _notified(after: AlertState, reason: str, now: float) -> AlertState:
    """The state once the notice is on its way."""
    if not after.firing:
        return replace(after, notified=None, notified_at=None, step=None)
    if not reason:
        return after
    severity = after.alert.severity
    if reason == "flapping" and after.notified is not None:
        severity = max(severity, after.notified)
    before = after.worst if after.notified is not None and after.worst else severity
    grown = after.notified is not None and (after.grown or before < severity)
    return replace(
        after,
        notified=severity,
        notified_at=now,
        step=after.alert.step,
        worst=max(before, severity),
        grown=grown,
    )


def _due(turn: _Turn, reason: str) -> grouping.Due:
    since, alert = turn.after.since, turn.after.alert
    if reason == "resolved" and turn.before.notified is not None:
        # What recovered is the thing people were notified of, at the severity they were notified.
        alert = replace(alert, severity=turn.before.notified)
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
        why = FLAPPING if after.flapping else RECOVERING if is_recovering(after) else ""
        yield AlertRow(after.alert, after.phase, after.since, why)


def _worth_keeping(
    states: Mapping[str, AlertState], rules: AlertSettings, now: float
) -> dict[str, AlertState]:
    """States that still matter: in an incident, just after one, or with a restless past."""
    kept = {}
    for key, state in states.items():
        ended = state.resolved_at is not None and now - state.resolved_at < RESOLVED_RETENTION
        restless = any(within(t, rules, now) for t in (state.turns, state.flips))
        if state.phase != OK or state.group or ended or restless:
            kept[key] = state
    return kept
