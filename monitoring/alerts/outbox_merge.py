"""Decision: what a new notice makes of those that still wait for the same alert and channel.

A row that may be on the wire is never touched; behind it at most one row waits per alert and
channel, so a day of changes with a dead channel is one row. What that one row says depends on what
the channel's people believe once all before it has arrived:

| they believe | waits | comes | waits then |
|---|---|---|---|
| firing | nothing | escalated to flapping | that |
| firing | first to flapping | first to flapping | the newer one |
| firing | first to flapping, or nothing | resolved | resolved |
| firing | resolved, or nothing | first | reminder (they never heard that it was over) |
| fine | nothing, first, missed | first to flapping | first, with the newer text |
| fine | first | resolved | missed: it happened and is over |
| fine | nothing, missed | resolved | as it was |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from monitoring.model import Notice

EVERYONE = (
    "*"  # in place of a channel: who was notified is lost, so all that are chosen for the alert
)
FIRING = ("first", "escalated", "reminder", "flapping")


@dataclass(frozen=True)
class Waiting:
    """One row of the outbox. `channel`: whom it is for, a channel as a whole or one recipient of it
    (`target`). `begun`: may be on the wire; `due`: not to be sent before; `notified`,
    `dead`: when it was sent or given up, None while it waits."""

    id: int
    key: str
    channel: str
    notice: Notice
    created: float
    attempts: int = 0
    begun: bool = False
    why: str = ""
    due: float = 0.0
    notified: Optional[float] = None
    dead: Optional[float] = None

    @property
    def waits(self) -> bool:
        return self.notified is None and self.dead is None


def target(channel: str, recipient: str) -> str:
    """Whom a row is for where a channel tells each recipient by itself: `email:ops@example.com`."""
    return f"{channel}:{recipient}"


def channel_of(name: str) -> str:
    """The channel of a target, or of a channel's own name."""
    return name.partition(":")[0]


def recipient_of(name: str) -> str:
    """The recipient of a target; empty: the channel as a whole."""
    return name.partition(":")[2]


def together(rows: Sequence[Waiting], most: int) -> tuple[Waiting, ...]:
    """What one send can carry: the oldest rows of one target, `most` at most, with those of every
    other target that waits for the very same. What may have arrived already goes apart, so that
    it is the same mail as before."""
    groups: dict[str, list[Waiting]] = {}
    for row in rows:
        groups.setdefault(row.channel, []).append(row)
    lots = [[r for r in lot if r.begun is lot[0].begun][:most] for lot in groups.values()]
    alike = [lot for lot in lots if _content(lot) == _content(lots[0])]
    return tuple(row for lot in alike for row in lot)


def _content(rows: Sequence[Waiting]) -> Sequence[object]:
    return [(row.notice, row.begun) for row in rows]


@dataclass(frozen=True)
class Merge:
    """`replace_id`: the row whose place `notice` takes (None: a new row). `notice` None: nothing
    changes."""

    notice: Optional[Notice]
    replace_id: Optional[int] = None


def merge(waiting: Sequence[Waiting], notified: bool, notice: Notice) -> Merge:
    """What to do with `notice`. `waiting`: rows of its key and channel, oldest first; `notified`:
    the channel was notified that the alert fires, and not yet that it ended."""
    if notice.reason == "note":  # of nothing that fires or ends
        return Merge(notice)
    last = waiting[-1] if waiting and not waiting[-1].begun else None
    earlier = waiting[:-1] if last else waiting
    believes = earlier[-1].notice.reason in FIRING if earlier else notified
    place = last.id if last else None
    if notice.reason != "resolved":
        return Merge(_firing(notice, last, believes), place)
    if believes:
        return Merge(notice, place)
    if last is not None and last.notice.reason in FIRING:
        return Merge(replace(notice, reason="missed"), place)
    return Merge(None)


def _firing(notice: Notice, last: Optional[Waiting], believes: bool) -> Notice:
    if not believes:
        return replace(notice, reason="first")
    before = last.notice.reason if last else ""
    if notice.reason == "first":
        return replace(notice, reason="reminder")
    if before == "escalated" and notice.reason in ("reminder", "flapping"):
        return replace(notice, reason="escalated")
    return notice
