"""Values: what is remembered of one alert between cycles, and its JSON form.

The JSON form is what `alert_states.body` and `notices.body` hold; a field that an older body lacks
takes its default, one that it has too many is dropped, so that both directions of an upgrade work.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from monitoring.model import Alert, AlertKey, Notice, Severity

OK, PENDING, FIRING = "ok", "pending", "firing"


@dataclass(frozen=True)
class AlertState:
    """One alert's memory. `alert` is what was last judged bad (it is what a reminder says).

    `since`: first bad cycle of the incident (of the last one when `phase` is ok); `bad`, `good`:
    cycles in a row; `recent`: the last N judgements, True = bad. `told`: severity last told, None
    while nobody was. `step`: the lowest expiry step told. `flips`: times the verdict changed,
    `turns`: times the alert fired or resolved, both within the flap window. `steady_since`: last
    change of the verdict. `group`: key of the group it was told under. `judged_at`: last cycle
    that could judge it.
    """

    alert: Alert
    phase: str = OK
    since: Optional[float] = None
    bad: int = 0
    good: int = 0
    recent: Tuple[bool, ...] = ()
    told: Optional[Severity] = None
    told_at: Optional[float] = None
    step: Optional[int] = None
    flips: Tuple[float, ...] = ()
    turns: Tuple[float, ...] = ()
    flapping: bool = False
    steady_since: Optional[float] = None
    group: str = ""
    judged_at: float = 0.0
    resolved_at: Optional[float] = None

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
            for name in ("since", "told_at", "steady_since", "judged_at", "resolved_at")
            if (getattr(self, name) or 0.0) > now
        }
        return dataclasses.replace(self, **ahead) if ahead else self


def dump_state(state: AlertState) -> str:
    """JSON text of a state."""
    return _dump(state)


def load_state(body: str) -> AlertState:
    """The state of `dump_state`; raises ValueError when the text is none."""
    fields = _fields(AlertState, _decoded(body))
    told = fields.get("told")
    fields["alert"] = _alert(fields.get("alert"))
    fields["told"] = None if told is None else Severity(told)
    try:
        for name in ("recent", "flips", "turns"):
            fields[name] = tuple(fields.get(name, ()))
        return AlertState(**fields)
    except TypeError as exc:
        raise ValueError(f"not a state: {exc}") from exc


def dump_notice(notice: Notice) -> str:
    """JSON text of a notice."""
    return _dump(notice)


def load_notice(body: str) -> Notice:
    """The notice of `dump_notice`; raises ValueError when the text is none."""
    fields = _fields(Notice, _decoded(body))
    fields["alert"] = _alert(fields.get("alert"))
    try:
        fields["also"] = tuple(_alert(entry) for entry in fields.get("also", ()))
        return Notice(**fields)
    except TypeError as exc:
        raise ValueError(f"not a notice: {exc}") from exc


def _dump(value: Any) -> str:
    return json.dumps(dataclasses.asdict(value), default=str, sort_keys=True)


def _decoded(body: str) -> object:
    try:
        return json.loads(body)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def _alert(body: object) -> Alert:
    fields = _fields(Alert, body)
    try:
        fields["key"] = AlertKey(**_fields(AlertKey, fields.get("key")))
        fields["severity"] = Severity(fields.get("severity", -1))
        return Alert(**fields)
    except TypeError as exc:
        raise ValueError(f"not an alert: {exc}") from exc


def _fields(kind: Any, body: object) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise ValueError(f"not a JSON object: no {kind.__name__}")
    known = {field.name for field in dataclasses.fields(kind)}
    return {str(name): value for name, value in body.items() if name in known}
