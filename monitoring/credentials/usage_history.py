"""Keep: what the kept buckets of logins say: sums over the window, last times, and all of them in
order for a back-test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, Mapping, Optional, Tuple

from monitoring.anomaly.types import Bucket, Usage
from monitoring.credentials.usage_counters import LONGEST
from monitoring.state import State

_HOUR = 3600.0


@dataclass(frozen=True)
class Totals:
    """What was counted of a client since this state file began, and when it last did what."""

    attempts: float = 0.0
    failures: float = 0.0
    last_ok: Optional[float] = None
    last_failed: Optional[float] = None
    old_seen: Optional[float] = None


@dataclass(frozen=True)
class Window:
    """Logins by client in the buckets that end within the window. `seconds` of it were watched
    (None: none, so nothing is known). `recovered`: (failures, first success after them) of a
    client that failed repeatedly without a success and then succeeded."""

    seconds: Optional[float] = None
    clients: Mapping[str, Usage] = field(default_factory=dict)
    recovered: Mapping[str, Tuple[float, float]] = field(default_factory=dict)


class UsageHistory:
    """Reads what UsageBook keeps. Methods raise StateError."""

    def __init__(self, state: State) -> None:
        self._state = state

    def totals(self) -> Dict[str, Totals]:
        """By client; '' is everybody who is not registered."""
        sql = "SELECT client, attempts, failures, last_ok, last_failed, old_seen FROM uses"
        return {row[0]: Totals(*row[1:]) for row in self._state.read(sql)}

    def window(self, now: float, seconds: float, *, guesses: float) -> Window:
        """The last `seconds`; `guesses` failures in a row make a success after them notable."""
        since = (now - seconds, now + 1.0)
        spans = self._state.read(
            "SELECT seconds FROM bucket_hours WHERE at + seconds > ? AND at <= ?", since
        )
        if not spans:
            return Window()
        rows = self._state.read(
            "SELECT at, seconds, client, ok, failed FROM buckets "
            "WHERE at + seconds > ? AND at <= ? ORDER BY at", since,
        )  # fmt: skip
        found: Dict[str, Usage] = {}
        runs: Dict[str, float] = {}
        recovered: Dict[str, Tuple[float, float]] = {}
        for at, _lasted, client, ok, failed in rows:
            before = found.get(client, Usage(0.0, 0.0))
            found[client] = Usage(before.ok + ok, before.failed + failed)
            if ok and runs.get(client, 0.0) >= guesses:
                recovered[client] = (runs[client], at)
            runs[client] = 0.0 if ok else runs.get(client, 0.0) + failed
        return Window(sum(row[0] for row in spans), found, recovered)

    def buckets(self, since: float) -> Iterator[Bucket]:
        """Every kept bucket from `since` on, in order. Those too long to tell hours apart are left
        out: a gap is better than a spike that never was."""
        sql = "SELECT at, seconds FROM bucket_hours WHERE at >= ? AND seconds <= ? ORDER BY at"
        spans = self._state.read(sql, (since, LONGEST))
        for at, seconds in spans:
            rows = self._state.read(
                "SELECT client, ok, failed FROM buckets WHERE at = ? AND client != ''", (at,)
            )
            clients = {client: Usage(ok, failed) for client, ok, failed in rows}
            yield Bucket(at, min(seconds, _HOUR), clients)
