"""Decision: does an alert come and go too often to be worth a page each time?

Two signs. `turns`: it fired and resolved `flap_changes` times within `flap_window`; it is then held
firing, and resolves only once it has been fine for half a window. `flips`: the verdict changed
twice as often as that without ever holding long enough to fire; hysteresis would hide this for
ever, so it fires, named intermittent.
"""

from __future__ import annotations

from typing import Tuple

from monitoring.alerting.state import AlertState
from monitoring.settings import AlertSettings


def within(times: Tuple[float, ...], rules: AlertSettings, now: float) -> Tuple[float, ...]:
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
