"""Keep: notices on their way, in this process and in the state file: written before they are sent,
marked after.

Where a channel tells each recipient by itself, a row is for one of them (a target, as in
`email:ops@example.com`), who is notified or not notified whatever becomes of the others.

At least once: a row is `begun` before its notice goes on the wire and `notified` only once the
channel has taken it, so whatever dies in between is sent again; the alert's key makes that
harmless. Order is kept per alert and channel: only the oldest waiting row of each may go.

What is due is decided from what this process knows, never from the file alone: `turn` first takes
over what the file holds and writes at its end what changed. Where the file cannot be used, the
changes stay here and are written in the first turn in which it can.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import (
    Any,
    Callable,
    Optional,
    TypeVar,
)

import msgspec

from monitoring.alerts.outbox_merge import (
    EVERYONE,
    FIRING,
    Waiting,
    channel_of,
    merge,
    recipient_of,
    target,
    together,
)
from monitoring.alerts.state import dump_notice, load_notice
from monitoring.model import Notice
from monitoring.store.state import Row, State, Transaction

_LOG = logging.getLogger("monitoring.alerts.outbox")
KEPT = 7 * 86400.0  # how long settled notices stay for the report
_FORGOTTEN = 90 * 86400.0  # a resolve that never got through is not waited for longer
SLOWEST = 300.0  # seconds, the longest pause that we choose ourselves, of a channel or a notice
LONGEST_RETRY_AFTER = 3600.0

K = TypeVar("K")
V = TypeVar("V")


class Shelf(dict[K, V]):
    """Rows of one table by their key, as this process knows them. Change it by `shelf[key] = value`
    and `remove` only: they note what is to be written.

    `select` gives the rows, of which `key` and `parse` make a key and a value; `store` writes a
    value, or deletes it (None). `own`: this process answers for the row in a file begun anew."""

    def __init__(
        self,
        select: str,
        key: Callable[[Row], K],
        parse: Callable[[Row], V],
        store: Callable[[Transaction, K, Optional[V]], None],
    ) -> None:
        super().__init__()
        self.select, self.key, self.parse, self._store = select, key, parse, store
        self.own: Callable[[V], bool] = lambda _: True
        self._changed: set[K] = set()
        self._filed: set[K] = set()

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self._changed.add(key)

    def remove(self, key: K) -> None:
        """Forget the row, here and in the file."""
        self.pop(key, None)
        (self._changed.add if key in self._filed else self._changed.discard)(key)

    def adopt(
        self, rows: Sequence[tuple[K, Optional[V]]], *, another: bool, examined: bool
    ) -> None:
        """Take over what the file holds, but for what was changed here; of a row without a value,
        which cannot be read, what was known here stays. Once the file is `examined`, such a row is
        written anew, or deleted; before, it may be found elsewhere in the file. `another`: this
        file has not seen what we know."""
        if another:
            self._changed |= {key for key, value in self.items() if self.own(value)}
        self._filed = {key for key, _ in rows}
        unread = {key for key, value in rows if value is None}
        if examined:
            self._changed |= unread
        ours = {key: self[key] for key in self._changed | unread if key in self}
        theirs = {k: v for k, v in rows if v is not None and k not in self._changed}
        self.clear()
        self.update(theirs)
        self.update(ours)

    def restore(self, before: Mapping[K, V]) -> None:
        """As it was, to be changed anew."""
        for key in {*self, *before}:
            if key not in before:
                self.remove(key)
            elif self.get(key) != before[key]:
                self[key] = before[key]

    def write(self, tx: Transaction) -> None:
        """Write what was changed."""
        for key in self._changed:
            self._store(tx, key, self.get(key))

    def written(self) -> None:
        """What was changed is in the file now."""
        self._filed |= self._changed
        self._changed.clear()

    def drop(self, done: Callable[[V], bool], *, kept: bool) -> None:
        """Forget here alone the rows that are `done` and that the file knows of or never held."""
        for key in [key for key, value in self.items() if done(value)]:
            if kept or key not in self._filed:
                del self[key]
                self._changed.discard(key)


@dataclass(frozen=True)
class Pause:
    """A channel or target that fails: `failures` in a row since `since`; not tried before `until`.
    `single`: one notice at a time, to find the one it refuses. `final`: refused for good."""

    failures: int = 0
    since: float = 0.0
    until: float = 0.0
    why: str = ""
    single: bool = False
    final: bool = False


class Outbox:
    """The notices. `past`: channels that want to hear of what is over when they come back (a pager
    does not). `recipients`: whom a channel tells each by itself. `kept`: what the last turn
    changed is in the file."""

    def __init__(
        self,
        state: State,
        *,
        give_up_after: float,
        past: Sequence[str],
        recipients: Optional[Mapping[str, Sequence[str]]] = None,
    ) -> None:
        self._state = state
        self._give_up_after = give_up_after
        self._past = tuple(past)
        self._recipients = recipients or {}
        self._rows = Shelf(_WAITING, lambda row: int(row[0]), _waiting, _store_row)
        self._notified = Shelf(
            _TOLD, lambda row: (text_of(row[0]), text_of(row[1])), _at, _store_notified
        )
        self._pauses = Shelf(_PAUSES, lambda row: text_of(row[0]), _pause, _store_pause)
        self._top = 0  # the highest number of a row in the file
        self._generation = 0
        self.kept = False

    # -- together with the file

    @contextlib.contextmanager
    def turn(self, *more: Shelf[Any, Any], write: bool = True) -> Iterator[Transaction]:
        """A block that changes the outbox, and `more` shelves with it: all is in the file at its
        end, or nothing is (see `kept`) and stays here."""
        shelves: list[Shelf[Any, Any]] = [self._rows, self._notified, self._pauses, *more]
        with self._state.transaction(write=write) as tx:
            self._refresh(tx, shelves)
            if write:
                self._split()
            yield tx
            for shelf in shelves if write else ():
                shelf.write(tx)
        self.kept = tx.kept
        if tx.kept and write:
            for shelf in shelves:
                shelf.written()
        self._rows.drop(lambda row: not row.waits, kept=tx.kept and write)

    def refresh(self, *more: Shelf[Any, Any]) -> None:
        """Take over what the file holds, if it can be read."""
        with self.turn(*more, write=False):
            pass

    def _refresh(self, tx: Transaction, shelves: Sequence[Shelf[Any, Any]]) -> None:
        found = [tx.execute(shelf.select) for shelf in shelves]
        top = tx.execute("SELECT coalesce(max(id), 0) FROM notices")
        if not tx.on_file:
            return
        another = self._generation not in (0, self._state.generation)
        self._generation, self._top = self._state.generation, max(row[0] for row in top)
        for shelf, rows in zip(shelves, found):
            keys = self._state.parsed(rows, shelf.key)
            values = self._state.parsed(rows, shelf.parse)
            pairs = [pair for pair in zip(keys, values) if pair[0] is not None]
            if None in keys and not self._state.examined:  # it may be any that we know
                pairs += [(key, None) for key in shelf.keys() - set(keys)]
            shelf.adopt(pairs, another=another, examined=self._state.examined)

    def _split(self) -> None:
        """What an older version kept of a channel as a whole becomes a row of each recipient."""
        for (key, channel), at in list(self._notified.items()):
            if self._recipients.get(channel):
                self._notified.remove((key, channel))
                for name in self._targets((channel,)):
                    self._notified[key, name] = at
        for row in self.waiting():
            if self._recipients.get(row.channel):
                self._rows.remove(row.id)
                for name in self._targets((row.channel,)):
                    number = self._number()
                    self._rows[number] = replace(row, id=number, channel=name)

    def _targets(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Each channel, or in its place each of its recipients."""
        found = (
            [target(channel, each) for each in self._recipients.get(channel, ())] or [channel]
            for channel in channels
        )
        return tuple(dict.fromkeys(name for names in found for name in names))

    # -- in

    def enqueue(self, notice: Notice, channels: Iterable[str], now: float) -> tuple[str, ...]:
        """Add `notice` for `channels` (a resolve: for those that were notified or may have been,
        and no other), merged with what waits there. Within a `turn`. Returns the channels and
        targets concerned."""
        key = notice.alert.key.text
        names = self._targets(channels)
        if notice.reason == "resolved":
            names = self._concerned(key, names, now)
        for channel in names:
            self._add(channel, notice, now)
        return names

    def _concerned(self, key: str, chosen: Sequence[str], now: float) -> tuple[str, ...]:
        if (key, EVERYONE) in self._notified:
            self._notified.remove((key, EVERYONE))
            for channel in chosen:
                self._notified[key, channel] = now
        notified = {channel for one, channel in self._notified if one == key}
        return tuple(sorted(notified | {row.channel for row in self.waiting() if row.key == key}))

    def _add(self, channel: str, notice: Notice, now: float) -> None:
        key = notice.alert.key.text
        rows = [row for row in self.waiting() if (row.key, row.channel) == (key, channel)]
        merged = merge(rows, (key, channel) in self._notified, notice)
        if merged.notice is None:
            return
        place = merged.replace_id
        if merged.notice.reason == "missed" and place is not None and not self._hears_past(channel):
            self._rows.remove(place)
        elif place is None:
            number = self._number()
            self._rows[number] = Waiting(number, key, channel, merged.notice, now, due=now)
        else:
            self._rows[place] = replace(self._rows[place], notice=merged.notice, created=now)

    def _hears_past(self, name: str) -> bool:
        """Whether it is notified of what is over and was not told in time: not a recipient that was
        refused while the channel worked, for others may have been notified."""
        refused = recipient_of(name) and self.pause(name).failures
        return channel_of(name) in self._past and not refused

    def _number(self) -> int:
        """Higher than any that this process knows of. A random step, since another process may
        number a row at the same time without the file."""
        return max((self._top, *self._rows)) + 1 + secrets.randbelow(1 << 20)

    # -- out

    def due(
        self, channel: str, now: float, limit: int, *, without: Container[str] = ()
    ) -> tuple[Waiting, ...]:
        """The oldest waiting row of each alert that may be sent now; at most `limit`. Of a channel
        that tells each recipient by itself: what one send can carry, no target of `without`."""
        oldest: dict[tuple[str, str], Waiting] = {}
        for row in self.waiting():
            own = row.channel == channel or not self.paused(row.channel, now)
            if channel_of(row.channel) == channel and own and row.channel not in without:
                oldest.setdefault((row.key, row.channel), row)
        # Further ahead than we ever wait: the clock was set back meanwhile.
        ready = tuple(r for r in oldest.values() if r.due <= now or r.due > now + SLOWEST)
        return together(ready, limit) if self._recipients.get(channel) else ready[:limit]

    def begin(self, rows: Sequence[Waiting]) -> None:
        """These are about to go on the wire."""
        with self.turn():
            for row in self._still(rows):
                self._rows[row.id] = replace(row, begun=True, attempts=row.attempts + 1)

    def notified(self, rows: Sequence[Waiting], now: float) -> None:
        """The channel has taken these."""
        with self.turn():
            self._accept(rows, now)

    def _accept(self, rows: Sequence[Waiting], now: float) -> None:
        for row in rows:
            self._rows[row.id] = replace(row, notified=now, why="")
            if row.notice.reason in FIRING:
                self._notified[row.key, row.channel] = now
            else:
                self._notified.remove((row.key, row.channel))
            self._pauses.remove(row.channel)
            self._pauses.remove(channel_of(row.channel))

    def partly(
        self,
        notified: Sequence[Waiting],
        refused: Sequence[Waiting],
        pauses: Mapping[str, Pause],
        now: float,
    ) -> tuple[Waiting, ...]:
        """One send that some recipients took: both facts are kept, or neither. `pauses`: of each
        target that was refused; one that is `final` gets no second try of these rows. Returns
        those of the channel that are given up now."""
        channel = channel_of([*notified, *refused][0].channel)
        lost: list[Waiting] = []
        with self.turn():
            for name, pause in pauses.items():
                self._pauses[name] = pause
            for row in self._still(refused):
                pause = pauses[row.channel]
                self._rows[row.id] = replace(row, due=now, why=pause.why, begun=False)
                if pause.final:
                    lost += self._bury([self._rows[row.id]], pause.why, now)
            self._accept(notified, now)
            return (*lost, *self._give_up(lambda name: channel_of(name) == channel, "", now))

    def failed(
        self, rows: Sequence[Waiting], why: str, *, due: float, unsure: bool, now: float
    ) -> tuple[Waiting, ...]:
        """These did not get through and may go again at `due`. `unsure`: they may have arrived; a
        row that an earlier attempt left so stays so, or who had heard of it would miss its end.
        Returns those of the channel that are given up now; each is a critical log line."""
        before = {row.id: row.begun for row in rows}
        with self.turn():
            for row in self._still(rows):
                begun = row.begun and (unsure or before[row.id])
                self._rows[row.id] = replace(row, due=due, why=why, begun=begun)
            channel = channel_of(rows[0].channel)
            return self._give_up(lambda name: channel_of(name) == channel, why, now)

    def _still(self, rows: Sequence[Waiting]) -> list[Waiting]:
        """These as they are now; another process may have settled some meanwhile."""
        return [self._rows[row.id] for row in rows if row.id in self._rows]

    def _give_up(
        self, concerns: Callable[[str], bool], why: str, now: float
    ) -> tuple[Waiting, ...]:
        since = now - self._give_up_after
        lost = [row for row in self.waiting() if concerns(row.channel) and row.created <= since]
        return self._bury(lost, why, now)

    def _bury(self, rows: Sequence[Waiting], why: str, now: float) -> tuple[Waiting, ...]:
        for row in rows:
            self._rows[row.id] = replace(row, dead=now)
            _LOG.critical(
                "given up: %s was not told of %s (%s): %s",
                *(row.channel, row.key, row.notice.reason, why or row.why),
            )
        return tuple(rows)

    # -- pauses and house-keeping

    def pause(self, channel: str) -> Pause:
        """The channel's pause; one without failures when it works."""
        return self._pauses.get(channel, Pause())

    def paused(self, channel: str, now: float) -> bool:
        """Whether the channel is not to be tried yet. An end further ahead than the longest pause
        is of a clock that was set back since."""
        return now < self.pause(channel).until <= now + LONGEST_RETRY_AFTER

    def set_pause(self, channel: str, pause: Pause) -> None:
        with self.turn():
            self._pauses[channel] = pause

    def clear_pause(self, channel: str) -> None:
        """The channel works."""
        if channel in self._pauses:
            with self.turn():
                self._pauses.remove(channel)

    def waiting(self) -> tuple[Waiting, ...]:
        """Everything that waits, oldest first."""
        return tuple(
            self._rows[number] for number in sorted(self._rows) if self._rows[number].waits
        )

    def notified_channels(self) -> dict[str, tuple[str, ...]]:
        """By key: the channels (or of one the recipients) that were notified that it fires."""
        found: dict[str, tuple[str, ...]] = {}
        for key, channel in sorted(self._notified):
            found[key] = (*found.get(key, ()), channel)
        return found

    def prune(
        self, tx: Transaction, now: float, *, on: Sequence[str], known: Container[str]
    ) -> None:
        """Forget what was settled long ago, and give up what has waited too long for a channel
        that is no longer `on`: nothing will ever try it. `known`: keys of alerts that are
        followed. Within a `turn`."""
        off = {row.channel for row in self.waiting()}.difference(self._targets(on))
        self._give_up(off.__contains__, "the channel is off, or the recipient gone", now)
        tx.execute("DELETE FROM notices WHERE told < ? OR dead < ?", (now - KEPT, now - KEPT))
        for (key, channel), at in list(self._notified.items()):
            if at < now - _FORGOTTEN and key not in known:
                self._notified.remove((key, channel))


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(SLOWEST, 15.0 * 2.0 ** min(failures - 1, 10)))


# -- rows of the file

_WAITING = "SELECT id, key, channel, body, created, attempts, begun, why, due FROM notices_waiting"
_TOLD = "SELECT key, channel, at FROM alert_told"
_PAUSES = "SELECT key, value FROM kv WHERE scope = 'channel'"


def text_of(value: Any) -> str:
    """The value of a column of texts. Raises TypeError where it is none."""
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted, not {value!r}")
    return value


def _at(row: Row) -> float:
    return float(row[2])


def _waiting(row: Row) -> Waiting:
    return Waiting(
        id=int(row[0]),
        key=text_of(row[1]),
        channel=text_of(row[2]),
        notice=load_notice(row[3]),
        created=float(row[4]),
        attempts=int(row[5]),
        begun=row[6] is not None,
        why=text_of(row[7]),
        due=float(row[8]),
    )


def _pause(row: Row) -> Pause:
    return msgspec.convert(json.loads(row[1]), Pause)


def _store_row(tx: Transaction, number: int, row: Optional[Waiting]) -> None:
    if row is None:
        tx.execute("DELETE FROM notices WHERE id = ?", (number,))
        return
    begun = row.created if row.begun else None
    tx.execute(
        "INSERT OR REPLACE INTO notices (id, key, channel, reason, body, created, due, attempts, "
        "begun, told, dead, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, row.key, row.channel, row.notice.reason, dump_notice(row.notice), row.created,
         row.due, row.attempts, begun, row.notified, row.dead, row.why),
    )  # fmt: skip


def _store_notified(tx: Transaction, key: tuple[str, str], at: Optional[float]) -> None:
    if at is None:
        tx.execute("DELETE FROM alert_told WHERE key = ? AND channel = ?", key)
    else:
        tx.execute("INSERT OR REPLACE INTO alert_told VALUES (?, ?, ?)", (*key, at))


def _store_pause(tx: Transaction, channel: str, pause: Optional[Pause]) -> None:
    if pause is None:
        tx.execute("DELETE FROM kv WHERE scope = 'channel' AND key = ?", (channel,))
    else:
        row = ("channel", channel, json.dumps(asdict(pause)), pause.since)
        tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
