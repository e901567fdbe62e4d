"""Acquire: the census of the token cache: every primary's SCAN, decoded and counted as it comes.

Read-only, and never KEYS, HGETALL or SMEMBERS. All nodes work at the same time: each is asked
ahead, and whichever has answered is served next. One thread, because a second one that parses
replies makes both slower (measured: the interpreter lock).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional, Protocol

from monitoring.model import Fault
from monitoring.redis.count import AskTtls, Counted, Page, PartCounter, ScanReport, ValidationTotals
from monitoring.redis.pipeline import Client, ErrorTranslation
from monitoring.redis.profiles import KeySorter, Rule, profile_of
from monitoring.redis.reader import DatedReader, NodeReader, UndatedReader
from monitoring.tokens.stats import TokenStats

__all__ = [
    "Budget", "Counted", "ErrorTranslation", "ScanReport", "ValidationTotals", "census",
    "profile_of",
]  # fmt: skip

# Half a page of the usual 1000: its reply fits the socket's buffers, so that the server need not
# wait for us to read (measured at 5 million keys: 2.6 us a key, against 3.3 with 1000), and other
# clients wait half as long.
PAGE = 500
PATIENCE = 10.0  # seconds without an answer from any node that is still due to answer
GRACE = 1.0  # the same, once the time budget is spent
_WAIT = 0.02

_log = logging.getLogger("monitoring.redis.scan")


@dataclass(frozen=True)
class Budget:
    """When to stop early; None: never. ``seconds`` counts from the start of the census. ``start``:
    the ``cursors`` of a scan that a budget ended, where this one goes on."""

    max_keys: Optional[int] = None
    seconds: Optional[float] = None
    start: Mapping[str, str] = field(default_factory=dict)


UNLIMITED = Budget()


Progress = Callable[[int, Optional[int]], None]


def census(
    nodes: Sequence[tuple[str, Client]],
    rules: Sequence[Rule],
    stats: TokenStats,
    *,
    door: ErrorTranslation,
    budget: Budget = UNLIMITED,
    clock: Callable[[], float] = time.monotonic,
    count: int = PAGE,
    progress: Optional[Progress] = None,
) -> ScanReport:
    """Scan ``nodes`` (name, client; one per primary) by ``rules`` into ``stats``.

    ``progress`` is called after each page with the keys seen and the keys expected. Errors of
    ``door.errors`` become faults of their node and the others go on; what was read till then
    counts. ``clock`` is in seconds and never goes back."""
    sorter = KeySorter(rules)
    counter = PartCounter(stats)
    reader = NodeReader if stats.reads_expiries else UndatedReader
    scan = _Scan(sorter, counter, door, clock, reader=reader)
    for name, client in nodes:
        scan.open(name, client, count, budget.start.get(name, "0"))
    while scan.running:
        scan.advance(budget)
        stats.prepare(scan.expected or 0)
        if progress is not None:
            progress(scan.seen, scan.expected)
    stats.hygiene.note("jwt_in_key", None, sorter.jwt_in_key - counter.names_left_out)
    return scan.report()


def sweep(
    nodes: Sequence[tuple[str, Client]],
    sorter: KeySorter,
    counter: Counter,
    *,
    door: ErrorTranslation,
    between: Callable[[], None],
) -> ScanReport:
    """Scan ``nodes`` into ``counter``, with the expiry of every key. ``between`` is called after
    each page; what it raises ends the scan."""
    scan = _Scan(sorter, counter, door, time.monotonic, reader=DatedReader)
    for name, client in nodes:
        scan.open(name, client, PAGE)
    try:
        while scan.running:
            scan.advance(UNLIMITED)
            between()
    finally:
        scan.give_up()
    return scan.report()


class Counter(Protocol):
    """Takes in what a scan reads."""

    def count(self, page: Page, ask_ttls: AskTtls) -> None: ...
    def counted(self) -> Counted: ...


class _Scan:
    def __init__(
        self,
        sorter: KeySorter,
        counter: Counter,
        door: ErrorTranslation,
        clock: Callable[[], float],
        *,
        reader: type[NodeReader] = NodeReader,
    ) -> None:
        self._reader = reader
        self._sorter = sorter
        self._counter = counter
        self._door = door
        self._clock = clock
        self._started = self._heard = clock()
        self._all: list[NodeReader] = []
        self._faults: list[tuple[str, Fault]] = []
        self._truncated = ""
        self._opened = 0
        self._names: list[str] = []
        self.running: deque[tuple[str, NodeReader]] = deque()

    @property
    def seen(self) -> int:
        return sum(reader.seen for reader in self._all)

    @property
    def expected(self) -> Optional[int]:
        """None as long as a node has not told its size."""
        sizes = [reader.expected for reader in self._all]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    def open(self, name: str, client: Client, count: int, start: str = "0") -> None:
        self._opened += 1
        try:
            reader = self._reader(
                client, self._sorter, self._door, count=count, start=start.encode("ascii")
            )
        except self._door.errors as error:
            self._faults.append((name, self._fault_of(error)))
            return
        self._all.append(reader)
        self._names.append(name)
        self.running.append((name, reader))

    def advance(self, budget: Budget) -> None:
        """Serve the next node if it has answered; end what is done, broken, mute or too much."""
        name, reader = self.running.popleft()
        try:
            if reader.ready(_WAIT):
                self._heard = self._clock()
                self._counter.count(reader.step(), reader.ask_ttls)
            self._put_back(name, reader)
        except self._door.errors as error:
            self._mend(name, reader, error)
        self._spend(budget)

    def _mend(self, name: str, reader: NodeReader, error: Exception) -> None:
        """Go on over a new connection where that helps, else give the node up."""
        fault = self._fault_of(error)
        if fault.kind == "connect" and reader.seen:
            lost = f"the connection was cut in the middle of the scan, after {reader.seen} keys"
            fault = Fault("connect", lost)
        try:
            resumed = reader.resume(fault)
        except self._door.errors as second:
            again, resumed = self._fault_of(second), False
            fault = Fault(again.kind, f"{fault.message}, and then: {again.message}")
        if resumed:
            level = logging.WARNING if fault.kind == "connect" else logging.DEBUG
            _log.log(level, "%s: %s; asking anew", name, fault.message)
            self.running.append((name, reader))
            return
        self._faults += [(name, each) for each in (fault, *reader.faults)]
        reader.close()

    def _put_back(self, name: str, reader: NodeReader) -> None:
        if not reader.done:
            self.running.append((name, reader))
            return
        self._faults += [(name, fault) for fault in reader.faults]
        reader.close()

    def _fault_of(self, error: Exception) -> Fault:
        """What is not the cache's doing is raised on."""
        fault = self._door.translate(error)
        if fault is None:
            raise error
        return fault

    def _spend(self, budget: Budget) -> None:
        now = self._clock()
        if budget.max_keys is not None and self.seen >= budget.max_keys:
            self._stop("max_keys")
        if budget.seconds is not None and now - self._started >= budget.seconds:
            self._stop("time")
            if now - self._heard > GRACE:
                self._drop(Fault("timeout", "no answer within the time budget"))
        if now - self._heard > PATIENCE:
            self._drop(Fault("timeout", f"no answer within {PATIENCE:.0f} s"))

    def _stop(self, why: str) -> None:
        self._truncated = self._truncated or why
        for _name, reader in self.running:
            reader.stop()

    def give_up(self) -> None:
        """Close what is still open."""
        for _name, reader in self.running:
            reader.close()
        self.running.clear()

    def _drop(self, fault: Fault) -> None:
        while self.running:
            name, reader = self.running.popleft()
            self._faults.append((name, fault))
            reader.close()

    def report(self) -> ScanReport:
        seen, expected = self.seen, self.expected
        whole = 0 < self._opened == len(self._all) and all(reader.complete for reader in self._all)
        # what went on where an earlier scan had ended saw the rest of the keys and no more
        resumed = self._all and all(r.done and not r.faults for r in self._all) and not self._faults
        ended = "max_keys" if resumed and any(r.resumed for r in self._all) else ""
        # more keys than there are, and no end: what share that is nobody knows
        share = 1.0 if whole else (seen / expected if expected and seen < expected else None)
        return ScanReport(
            seen=seen,
            expected=expected,
            share_seen=share,
            matched=dict(self._sorter.matched),
            prefixes=dict(self._sorter.prefixes),
            truncated="" if whole else self._truncated or ended or "fault",
            seconds=self._clock() - self._started,
            faults=tuple(self._faults),
            unread=sum(reader.unread for reader in self._all),
            counted=self._counter.counted(),
            excluded=self._sorter.excluded,
            cursors={n: r.cursor.decode("ascii") for n, r in zip(self._names, self._all)},
        )
