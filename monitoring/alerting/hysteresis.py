"""Decision: how one alert moves between ok, pending and firing.

| from | judged | to |
|---|---|---|
| ok, pending | bad, long enough (below) | firing |
| ok, pending | bad, not yet | pending |
| pending | good | ok (pending while M of N still remembers a bad one) |
| firing | good, `recovery_threshold` in a row | ok, or held firing when flapping |
| any | unknown | as it was |

Long enough: `failure_threshold` in a row, or the alert's own `hold`, or M of the last N judgements
where `window` is set, or intermittent (flapping.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from monitoring.alerting import flapping
from monitoring.alerting.state import FIRING, OK, PENDING, AlertState
from monitoring.model import Alert, Severity
from monitoring.settings import AlertSettings

#: Not judged for so long: whatever it was about is no longer watched.
FORGET_AFTER = 7 * 86400.0


def advance(before: AlertState, alert: Alert, rules: AlertSettings, now: float) -> AlertState:
    """The state after this cycle's judgement of `alert`; what was told is not touched."""
    if alert.severity is Severity.UNKNOWN:
        return _unjudged(before, now)
    bad = alert.severity > Severity.UNKNOWN
    after = _noted(before, bad, rules, now)
    return _after_bad(after, alert, rules, now) if bad else _after_good(after, rules, now)


def hold_back(before: AlertState, alert: Alert, now: float) -> AlertState:
    """The state of a child whose parent is down: what was told stays, anything else starts anew
    when the parent is back."""
    if before.firing and before.told is not None:
        return replace(before, judged_at=now)
    return AlertState(alert, judged_at=now, group=before.group, turns=before.turns)


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
    flips = flapping.within((*before.flips, now) if changed else before.flips, rules, now)
    return replace(
        before,
        bad=before.bad + 1 if bad else 0,
        good=0 if bad else before.good + 1,
        recent=(*before.recent, bad)[-length:],
        flips=flips,
        turns=flapping.within(before.turns, rules, now),
        steady_since=now if changed or before.steady_since is None else before.steady_since,
        judged_at=now,
    )


def _after_bad(after: AlertState, alert: Alert, rules: AlertSettings, now: float) -> AlertState:
    begins = after.phase == OK or after.since is None
    after = replace(after, alert=alert, since=now if begins else after.since)
    if after.firing:
        if after.flapping and flapping.settled(after, rules, now):
            return replace(after, flapping=False, turns=())  # it is simply down now
        return after
    restless = flapping.intermittent(after, rules, now)
    if not (restless or _ripe(after, alert.hold, rules)):
        return replace(after, phase=PENDING)
    turns = (*after.turns, now)
    return replace(after, phase=FIRING, turns=turns, flapping=restless, resolved_at=None)


def _ripe(state: AlertState, hold: Optional[int], rules: AlertSettings) -> bool:
    if hold is None and rules.window:
        return sum(state.recent) >= rules.window[0]
    return state.bad >= (rules.failure_threshold if hold is None else hold)


def _after_good(after: AlertState, rules: AlertSettings, now: float) -> AlertState:
    if not after.firing:
        waiting = bool(rules.window) and any(after.recent)
        return replace(after, phase=PENDING if waiting else OK)
    if after.good < rules.recovery_threshold or _window_full(after, rules):
        return after
    if after.flapping:
        return _resolved(after, now) if flapping.settled(after, rules, now) else after
    if flapping.would_flap(after, rules, now):
        return replace(after, flapping=True, turns=(*after.turns, now))
    return _resolved(after, now)


def _window_full(state: AlertState, rules: AlertSettings) -> bool:
    return bool(rules.window) and sum(state.recent) >= (rules.window or (1, 1))[0]


def _resolved(state: AlertState, now: float) -> AlertState:
    turns = () if state.flapping else (*state.turns, now)
    return replace(state, phase=OK, resolved_at=now, turns=turns, flapping=False, bad=0, recent=())
