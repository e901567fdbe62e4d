"""Keep: what the kept buckets of logins say: sums over the window, last times, and all of them in
order for a back-test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, Iterator, Mapping, Optional, Tuple

from monitoring.anomaly.types import Bucket, Usage
from monitoring.credentials.usage_counters import LONGEST, Look, added, unsure_of
from monitoring.families import CLIENTS, ENDS, FAILURES, MORE, USES, Unsure, leaves_open
from monitoring.state import State

_HOUR = 3600.0
#: Failures to a success in one bucket above which they count as guesses before it.
GUESSES_PER_SUCCESS = 10.0


@dataclass(frozen=True)
class Totals:
    """What was counted of a client since this state file began, and when it last did what, at the
    latest: the end of the span in which it was counted. `unknown` of the attempts ended in some
    way that nothing says."""

    attempts: float = 0.0
    failures: float = 0.0
    last_ok: Optional[float] = None
    last_failed: Optional[float] = None
    old_seen: Optional[float] = None
    unknown: float = 0.0


@dataclass(frozen=True)
class Window:
    """Logins by client in the last `span` seconds, of which `seconds` were watched (None: none, so
    nothing is known). Of a bucket that reaches back before the window (nobody looked for long)
    its share counts. `recovered`: (failures, first success after them) of a client that failed
    repeatedly, with hardly a success between, and then succeeded. `unsure`: what the counts leave
    open; the methods give only what is known, None for what is not."""

    seconds: Optional[float] = None
    clients: Mapping[str, Usage] = field(default_factory=dict)
    recovered: Mapping[str, Tuple[float, float]] = field(default_factory=dict)
    span: float = 0.0
    unsure: Tuple[Unsure, ...] = ()

    def uses(self, client: str) -> Optional[float]:
        """The attempts of one client, refused ones included."""
        known = self.by_client and not leaves_open(self.unsure, USES)
        return self._of(client).attempts if known else None

    def failures(self, client: str) -> Optional[float]:
        known = self.by_client and not leaves_open(self.unsure, FAILURES)
        usage = self._of(client)
        return usage.failed if known and not usage.unknown else None

    def failed_at_least(self, client: str) -> Optional[float]:
        """Those that are known to have failed."""
        return self._of(client).failed if self.by_client else None

    @property
    def all(self) -> Usage:
        """Of everybody, registered or not."""
        every = self.clients.values()
        return Usage(
            sum(u.ok for u in every), sum(u.failed for u in every),
            unknown=sum(u.unknown for u in every),
        )  # fmt: skip

    @property
    def all_failures(self) -> Optional[float]:
        open_ = self.seconds is None or leaves_open(self.unsure, FAILURES, ENDS)
        return None if open_ or self.all.unknown else self.all.failed

    @property
    def failure_share(self) -> Optional[float]:
        """0..1; None too where nobody logged in."""
        failed, attempts = self.all_failures, self.all.attempts
        if failed is None or not attempts or leaves_open(self.unsure, USES):
            return None
        return failed / attempts

    @property
    def success_share(self) -> Optional[float]:
        """0..1; None where `failure_share` is."""
        return None if self.failure_share is None else self.all.ok / self.all.attempts

    @property
    def by_client(self) -> bool:
        """Whether it is known whose logins they are."""
        return self.seconds is not None and not leaves_open(self.unsure, CLIENTS)

    @property
    def at_least(self) -> bool:
        """A service restarted, or is new: there were more logins than were counted."""
        return leaves_open(self.unsure, MORE)

    def _of(self, client: str) -> Usage:
        return self.clients.get(client, Usage(0.0, 0.0))


class UsageHistory:
    """Reads what UsageBook keeps."""

    def __init__(self, state: State) -> None:
        self._state = state

    def totals(self) -> Dict[str, Totals]:
        """By client; '' is everybody who is not registered."""
        sql = "SELECT client, attempts, failures, last_ok, last_failed, old_seen, unknown FROM uses"
        return {row[0]: Totals(*row[1:]) for row in self._state.read(sql)}

    def window(self, now: float, seconds: float, *, guesses: float) -> Window:
        """The last `seconds`; `guesses` failures in a row make a success after them notable."""
        since = (now - seconds, now + 1.0)
        spans = self._state.read(
            "SELECT at, seconds, unsure FROM bucket_hours WHERE at + seconds > ? AND at <= ?", since
        )
        if not spans:
            return Window(span=seconds)
        shares = {at: _share(at, lasted, now - seconds) for at, lasted, _ in spans}
        watched = sum(lasted * shares[at] for at, lasted, _ in spans)
        said = dict.fromkeys(unsure for _, _, unsure in spans)
        unsure = [each for text in said for each in unsure_of(text)]
        rows = self._state.read(
            "SELECT at, client, ok, failed, unknown FROM buckets "
            "WHERE at + seconds > ? AND at <= ? ORDER BY at", since,
        )  # fmt: skip
        found: Dict[str, Usage] = {}
        for at, client, ok, failed, unknown in rows:
            before, share = found.get(client, Usage(0.0, 0.0)), shares.get(at, 1.0)
            found[client] = added(before, Usage(ok, failed, unknown=unknown), share)
        kept = tuple(dict.fromkeys(unsure))
        return Window(watched, found, _recovered(rows, guesses), seconds, kept)

    def buckets(self, since: float) -> Iterator[Bucket]:
        """Every kept bucket from `since` on, in order. Those too long to tell hours apart are left
        out: a gap is better than a spike that never was."""
        spans = self._state.read(
            "SELECT at, seconds, unsure FROM bucket_hours WHERE at >= ? AND seconds <= ? "
            "ORDER BY at", (since, LONGEST),
        )  # fmt: skip
        for at, seconds, said in spans:
            rows = self._state.read(
                "SELECT client, ok, failed, unknown FROM buckets WHERE at = ? AND client != ''",
                (at,),
            )
            clients = {row[0]: Usage(row[1], row[2], unknown=row[3]) for row in rows}
            bucket = Look(Bucket(at, min(seconds, _HOUR), clients), unsure=tuple(unsure_of(said)))
            if bucket.to_learn is not None:
                yield bucket.to_learn


def _share(at: float, lasted: float, start: float) -> float:
    """How much of the bucket lies after `start`."""
    return 1.0 if at >= start or lasted <= 0 else (at + lasted - start) / lasted


def _recovered(
    rows: Iterable[Tuple[float, str, float, float, float]], guesses: float
) -> Dict[str, Tuple[float, float]]:
    """Within one bucket nobody knows what came first: there, failures that outnumber the successes
    by far are taken to come before them. A busy client with a few failures is not meant."""
    runs: Dict[str, float] = {}
    found: Dict[str, Tuple[float, float]] = {}
    for at, client, ok, failed, _ in rows:
        run = runs.get(client, 0.0)
        if failed >= GUESSES_PER_SUCCESS * ok:
            run += failed
        if ok and run >= guesses:
            found[client] = (run, at)
        runs[client] = 0.0 if ok else run
    return found
