"""Keep: notices on their way, in the state file: written before they are sent, marked after.

At least once: a row is `begun` before its notice goes on the wire and `told` only once the channel
has taken it, so whatever dies in between is sent again; the alert's key makes that harmless. Order
is kept per alert and channel: only the oldest waiting row of each may go.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any, Iterable, Sequence, Tuple

from monitoring.alerting.outbox_merge import FIRING, Waiting, merge
from monitoring.alerting.state import dump_notice, load_notice
from monitoring.model import Notice
from monitoring.state import State, Transaction

_LOG = logging.getLogger("monitoring.outbox")
KEPT = 7 * 86400.0  # how long settled notices stay for the report
_FORGOTTEN = 90 * 86400.0  # a resolve that never got through is not waited for longer
SLOWEST = 300.0  # seconds, the longest pause that we choose ourselves, of a channel or a notice
LONGEST_RETRY_AFTER = 3600.0


@dataclass(frozen=True)
class Pause:
    """A channel that fails: `failures` in a row since `since`; not tried before `until`. `single`:
    one notice at a time, to find the one it refuses."""

    failures: int = 0
    since: float = 0.0
    until: float = 0.0
    why: str = ""
    single: bool = False


class Outbox:
    """The notices table. `past`: channels that want to hear of what is over when they come back
    (a pager does not)."""

    def __init__(self, state: State, *, give_up_after: float, past: Sequence[str]) -> None:
        self._state = state
        self._give_up_after = give_up_after
        self._past = tuple(past)

    # -- in

    def enqueue(
        self, tx: Transaction, notice: Notice, channels: Iterable[str], now: float
    ) -> Tuple[str, ...]:
        """Add `notice` for `channels` (a resolve: for those that were told or may have been, and
        no other), merged with what waits there. Returns the channels concerned."""
        key = notice.alert.key.text
        if notice.reason == "resolved":
            channels = self._concerned(tx, key)
        names = tuple(dict.fromkeys(channels))
        for channel in names:
            self._add(tx, channel, notice, now)
        return names

    def _concerned(self, tx: Transaction, key: str) -> list[str]:
        rows = tx.execute(
            "SELECT channel FROM alert_told WHERE key = ? UNION "
            "SELECT channel FROM notices_waiting WHERE key = ? ORDER BY 1",
            (key, key),
        )
        return [str(row[0]) for row in rows]

    def _add(self, tx: Transaction, channel: str, notice: Notice, now: float) -> None:
        key = notice.alert.key.text
        rows = tx.execute(
            "SELECT * FROM notices_waiting WHERE key = ? AND channel = ? ORDER BY id",
            (key, channel),
        )
        told = tx.execute("SELECT 1 FROM alert_told WHERE key = ? AND channel = ?", (key, channel))
        merged = merge(_read(rows), bool(told), notice)
        if merged.notice is None:
            return
        if merged.notice.reason == "missed" and channel not in self._past:
            tx.execute("DELETE FROM notices WHERE id = ?", (merged.replace_id,))
            return
        body, reason = dump_notice(merged.notice), merged.notice.reason
        if merged.replace_id is None:
            tx.execute(
                "INSERT INTO notices (key, channel, reason, body, created, due) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key, channel, reason, body, now, now),
            )
        else:
            tx.execute(
                "UPDATE notices SET reason = ?, body = ?, created = ? WHERE id = ?",
                (reason, body, now, merged.replace_id),
            )

    # -- out

    def due(self, channel: str, now: float, limit: int) -> Tuple[Waiting, ...]:
        """The oldest waiting row of each alert that may be sent now; at most `limit`."""
        rows = self._state.read(
            "SELECT * FROM notices_waiting WHERE channel = ? AND (due <= ? OR due > ?) AND id IN "
            "(SELECT min(id) FROM notices_waiting WHERE channel = ? GROUP BY key) "
            "ORDER BY id LIMIT ?",
            # Further ahead than we ever wait: the clock was set back meanwhile.
            (channel, now, now + SLOWEST, channel, limit),
        )
        return _read(rows)

    def begin(self, rows: Sequence[Waiting], now: float) -> None:
        """These are about to go on the wire."""
        with self._state.transaction() as tx:
            tx.executemany(
                "UPDATE notices SET begun = ?, attempts = attempts + 1 WHERE id = ?",
                [(now, row.id) for row in rows],
            )

    def told(self, rows: Sequence[Waiting], now: float) -> None:
        """The channel has taken these."""
        channel = rows[0].channel
        with self._state.transaction() as tx:
            for row in rows:
                tx.execute("UPDATE notices SET told = ?, why = '' WHERE id = ?", (now, row.id))
                if row.notice.reason in FIRING:
                    tx.execute(
                        "INSERT OR REPLACE INTO alert_told VALUES (?, ?, ?)",
                        (row.key, channel, now),
                    )
                else:
                    tx.execute(
                        "DELETE FROM alert_told WHERE key = ? AND channel = ?", (row.key, channel)
                    )
            _clear_pause(tx, channel)

    def failed(
        self, rows: Sequence[Waiting], why: str, *, due: float, unsure: bool, now: float
    ) -> Tuple[Waiting, ...]:
        """These did not get through and may go again at `due`. `unsure`: they may have arrived; a
        row that an earlier attempt left so stays so, or who had heard of it would miss its end.
        Returns those of the channel that are given up now; each is a critical log line."""
        channel = rows[0].channel
        with self._state.transaction() as tx:
            tx.executemany(
                "UPDATE notices SET due = ?, why = ?, begun = CASE WHEN ? THEN begun END "
                "WHERE id = ?",
                [(due, why, unsure or row.begun, row.id) for row in rows],
            )
            return self._give_up(tx, channel, why, now)

    def _give_up(self, tx: Transaction, channel: str, why: str, now: float) -> Tuple[Waiting, ...]:
        old = (channel, now - self._give_up_after)
        lost = _read(
            tx.execute("SELECT * FROM notices_waiting WHERE channel = ? AND created <= ?", old)
        )
        tx.executemany("UPDATE notices SET dead = ? WHERE id = ?", [(now, r.id) for r in lost])
        for row in lost:
            _LOG.critical(
                "given up: %s was not told of %s (%s): %s",
                *(channel, row.key, row.notice.reason, why),
            )
        return lost

    # -- pauses and house-keeping

    def pause(self, channel: str) -> Pause:
        """The channel's pause; one without failures when it works."""
        body = self._state.get("channel", channel)
        return Pause(**json.loads(body)) if body else Pause()

    def paused(self, channel: str, now: float) -> bool:
        """Whether the channel is not to be tried yet. An end further ahead than the longest pause
        is of a clock that was set back since."""
        return now < self.pause(channel).until <= now + LONGEST_RETRY_AFTER

    def set_pause(self, channel: str, pause: Pause) -> None:
        self._state.put("channel", channel, json.dumps(asdict(pause)))

    def clear_pause(self, channel: str) -> None:
        """The channel works."""
        if self._state.get("channel", channel) is not None:
            with self._state.transaction() as tx:
                _clear_pause(tx, channel)

    def waiting(self) -> Tuple[Waiting, ...]:
        """Everything that waits, oldest first."""
        return _read(self._state.read("SELECT * FROM notices_waiting ORDER BY id"))

    def told_channels(self) -> dict[str, Tuple[str, ...]]:
        """By key: the channels that were told that it fires."""
        found: dict[str, Tuple[str, ...]] = {}
        for key, channel in self._state.read("SELECT key, channel FROM alert_told ORDER BY 1, 2"):
            found[str(key)] = (*found.get(str(key), ()), str(channel))
        return found

    def prune(self, tx: Transaction, now: float, *, on: Sequence[str]) -> None:
        """Forget what was settled long ago, and give up what has waited too long for a channel
        that is no longer `on`: nothing will ever try it."""
        for (channel,) in tx.execute("SELECT DISTINCT channel FROM notices_waiting"):
            if channel not in on:
                self._give_up(tx, channel, "the channel is off", now)
        tx.execute("DELETE FROM notices WHERE told < ? OR dead < ?", (now - KEPT, now - KEPT))
        tx.execute(
            "DELETE FROM alert_told WHERE at < ? AND key NOT IN (SELECT key FROM alert_states)",
            (now - _FORGOTTEN,),
        )


def _clear_pause(tx: Transaction, channel: str) -> None:
    tx.execute("DELETE FROM kv WHERE scope = 'channel' AND key = ?", (channel,))


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(SLOWEST, 15.0 * 2.0 ** min(failures - 1, 10)))


def _read(rows: Iterable[Sequence[Any]]) -> Tuple[Waiting, ...]:
    return tuple(
        Waiting(
            id=row[0],
            key=row[1],
            channel=row[2],
            notice=load_notice(row[3]),
            created=row[4],
            attempts=row[5],
            begun=row[6] is not None,
            why=row[7],
        )
        for row in rows
    )
