"""Keep: what the kept buckets of logins say: sums over the window, last times, and all of them in
order for a back-test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, Iterator, Mapping, Optional, Tuple

from monitoring.anomaly.types import Bucket, Usage
from monitoring.credentials.usage_counters import LONGEST
from monitoring.state import State

_HOUR = 3600.0
#: Failures to a success in one bucket above which they count as guesses before it.
GUESSES_PER_SUCCESS = 10.0


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
    """Logins by client in the last `span` seconds, of which `seconds` were watched (None: none, so
    nothing is known). Of a bucket that reaches back before the window (nobody looked for long)
    its share counts. `recovered`: (failures, first success after them) of a client that failed
    repeatedly, with hardly a success between, and then succeeded."""

    seconds: Optional[float] = None
    clients: Mapping[str, Usage] = field(default_factory=dict)
    recovered: Mapping[str, Tuple[float, float]] = field(default_factory=dict)
    span: float = 0.0


class UsageHistory:
    """Reads what UsageBook keeps."""

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
            "SELECT at, seconds FROM bucket_hours WHERE at + seconds > ? AND at <= ?", since
        )
        if not spans:
            return Window(span=seconds)
        shares = {at: _share(at, lasted, now - seconds) for at, lasted in spans}
        watched = sum(lasted * shares[at] for at, lasted in spans)
        rows = self._state.read(
            "SELECT at, client, ok, failed FROM buckets "
            "WHERE at + seconds > ? AND at <= ? ORDER BY at", since,
        )  # fmt: skip
        found: Dict[str, Usage] = {}
        for at, client, ok, failed in rows:
            before, share = found.get(client, Usage(0.0, 0.0)), shares.get(at, 1.0)
            found[client] = Usage(before.ok + ok * share, before.failed + failed * share)
        return Window(watched, found, _recovered(rows, guesses), seconds)

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


def _share(at: float, lasted: float, start: float) -> float:
    """How much of the bucket lies after `start`."""
    return 1.0 if at >= start or lasted <= 0 else (at + lasted - start) / lasted


def _recovered(
    rows: Iterable[Tuple[float, str, float, float]], guesses: float
) -> Dict[str, Tuple[float, float]]:
    """Within one bucket nobody knows what came first: there, failures that outnumber the successes
    by far are taken to come before them. A busy client with a few failures is not meant."""
    runs: Dict[str, float] = {}
    found: Dict[str, Tuple[float, float]] = {}
    for at, client, ok, failed in rows:
        run = runs.get(client, 0.0)
        if failed >= GUESSES_PER_SUCCESS * ok:
            run += failed
        if ok and run >= guesses:
            found[client] = (run, at)
        runs[client] = 0.0 if ok else run
    return found
