"""Values: what is remembered of one alert between cycles, and its JSON form.

The JSON form is what `alert_states.body` and `notices.body` hold; a field that an older body lacks
takes its default, one that it has too many is dropped, so that both directions of an upgrade work.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

import msgspec

from monitoring.model import Alert, Notice, Severity

T = TypeVar("T")

OK, PENDING, FIRING = "ok", "pending", "firing"
_TIMES = ("since", "notified_at", "steady_since", "judged_at", "resolved_at", "at")
_LATEST = 1e11  # epoch seconds that no clock shows
#: How long a resolved alert is remembered at least, in seconds.
RESOLVED_RETENTION = 900.0
#: Field -> its name in the JSON form, which stays as version 1.0 wrote it.
_STORED = {"notified": "told", "notified_at": "told_at"}
_READ = {stored: name for name, stored in _STORED.items()}


@dataclass(frozen=True)
class AlertState:
    """One alert's memory. `alert` is what was last judged bad (it is what a reminder says).

    `since`: first bad cycle of the incident (of the last one when `phase` is ok); `bad`, `good`:
    cycles in a row; `recent`: the last N judgements, True = bad. `notified`: the last severity that
    was notified, None while none was. `step`: the lowest expiry step notified. `flips`: times the
    verdict changed, `turns`: times the alert fired or resolved, both within the flap window.
    `steady_since`: last change of the verdict. `group`: key of the group it was notified under.
    `judged_at`: last cycle that could judge it. `flapped`: it was flapping until `resolved_at`."""

    alert: Alert
    phase: str = OK
    since: Optional[float] = None
    bad: int = 0
    good: int = 0
    recent: tuple[bool, ...] = ()
    notified: Optional[Severity] = None
    notified_at: Optional[float] = None
    step: Optional[int] = None
    flips: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()
    flapping: bool = False
    steady_since: Optional[float] = None
    group: str = ""
    judged_at: float = 0.0
    resolved_at: Optional[float] = None
    worst: Optional[Severity] = None
    grown: bool = False
    flapped: bool = False

    @property
    def key(self) -> str:
        return self.alert.key.text

    @property
    def firing(self) -> bool:
        return self.phase == FIRING

    def until(self, now: float) -> AlertState:
        """The same, with no time ahead of `now`: had the clock run ahead for a while, what it
        stamped would put off reminders and resolves until it gets there again."""
        ahead: dict[str, Any] = {
            name: now
            for name in ("since", "notified_at", "steady_since", "judged_at", "resolved_at")
            if (getattr(self, name) or 0.0) > now
        }
        return dataclasses.replace(self, **ahead) if ahead else self


def dump_state(state: AlertState) -> str:
    """JSON text of a state."""
    return _dump(state)


def load_state(body: str) -> AlertState:
    """The state of `dump_state`; raises ValueError when the text is none."""
    return _loaded(body, AlertState)


def dump_notice(notice: Notice) -> str:
    """JSON text of a notice."""
    return _dump(notice)


def load_notice(body: str) -> Notice:
    """The notice of `dump_notice`; raises ValueError when the text is none."""
    return _loaded(body, Notice)


def _dump(value: Any) -> str:
    fields = {_STORED.get(name, name): one for name, one in dataclasses.asdict(value).items()}
    return json.dumps(fields, default=str, sort_keys=True)


def _loaded(body: str, kind: type[T]) -> T:
    try:
        fields = {_READ.get(name, name): one for name, one in json.loads(body).items()}
        value = msgspec.convert(fields, kind)
    except (msgspec.MsgspecError, RecursionError, TypeError, AttributeError) as exc:
        raise ValueError(f"not a {kind.__name__}: {exc}") from exc
    times = [getattr(value, name) for name in _TIMES if hasattr(value, name)]
    if not all(time is None or 0.0 <= time <= _LATEST for time in times):
        raise ValueError(f"not a {kind.__name__}: times of {times}")
    return value
