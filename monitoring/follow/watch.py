"""Acquire: one unbroken stretch of following the cache: its streams, its ledger, its births."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Callable, Optional

from monitoring.config.settings import Settings
from monitoring.credentials.source_cache import node_facts
from monitoring.follow.figures import AlikeStats, counted
from monitoring.follow.intake import Intake, Writes
from monitoring.follow.ledger import Ledger, hashed
from monitoring.follow.lineage import Lineage
from monitoring.model import Fault
from monitoring.redis import client as redis_client
from monitoring.redis.count import ScanReport
from monitoring.redis.faults import RedisFault
from monitoring.redis.pipeline import ErrorTranslation
from monitoring.redis.profiles import INDEX, KeySorter, profile_of
from monitoring.redis.reader import KeyReader
from monitoring.redis.scan import PAGE, sweep
from monitoring.redis.stream import EVENTS, TRACKING, Changes, GapError, Stream
from monitoring.redis.topology import Node

#: Commands that take keys away, or stop their being reported, without an event of it.
_SILENT = ("flushall", "flushdb", "swapdb", "debug", "config|resetstat", "config|set")


class _Server:
    """A primary: its stream, and the connection over which changed keys are read."""

    def __init__(self, name: str, client: Any, stream: Stream, reader: KeyReader) -> None:
        self.name, self.client = name, client
        self.stream, self.reader = stream, reader
        self.facts: Optional[tuple[Any, ...]] = None


class Watch:
    """Follows the primaries of a cache from now on. `fill` first, then `advance` again and again.

    Every method raises GapError where changes were missed, RedisFault where the cache fails or
    refuses, and FullError where it holds more than is kept; the watch is over then."""

    def __init__(self, cache: Any, settings: Settings, lineage: Lineage, now: float) -> None:
        self._cache, self._settings, self._lineage = cache, settings, lineage
        tokens = settings.tokens
        self.rules = profile_of(tokens.profile, tokens.patterns, tokens.exclude)
        self._rules = [rule for rule in self.rules if rule.role != INDEX]
        # The cache has answered before: it was asked for its members.
        translate = partial(redis_client.translate, heard=True)
        self._door = ErrorTranslation(translate, redis_client.ERRORS)
        probe = AlikeStats(now, tokens)
        self._expect = probe.expect
        self.ledger = self._new_ledger(now)
        self.ledger.left = lineage.left  # counted over every gap
        self._intake = self._intake_of(self.ledger)
        self._servers: list[_Server] = []
        self.began = self._drained = now
        self._pending: Optional[dict[str, Changes]] = {}  # None: changes are taken in at once
        self._again: Optional[dict[str, Changes]] = None  # what changed under a second census
        self._report: Optional[ScanReport] = None
        self._sorter = KeySorter(self._rules)
        self._open()
        lineage.exact = self.how == EVENTS
        self.began = now

    @property
    def how(self) -> str:
        """ "events", or "tracking" where that is how one of the servers reports."""
        ways = {server.stream.how for server in self._servers}
        return EVENTS if ways == {EVENTS} else TRACKING

    @property
    def names(self) -> list[str]:
        """The servers that are followed."""
        return sorted(server.name for server in self._servers)

    def close(self) -> None:
        for server in self._servers:
            server.stream.close()
            server.reader.close()

    def fill(self, clock: Callable[[], float]) -> None:
        """Count the cache, then what changed meanwhile."""
        self._intake.now = clock()
        self._report = self._sweep(self._intake, lambda: self._hold(clock))
        pending, self._pending = self._pending or {}, None
        self._check()
        for server in self._servers:
            self._apply(server, pending.get(server.name, Changes()), clock())
        self.advance(clock())

    def advance(self, now: float) -> None:
        """Take in all that changed until now."""
        if self._pending is not None:
            return
        for server in self._servers:
            changes = server.stream.changes()
            if self._again is not None:
                self._again.setdefault(server.name, Changes()).add(changes)
            self._apply(server, changes, now)
        self._drained = now
        self._lineage.settle(now)
        self.ledger.age(now)

    def check(self) -> None:
        """GapError where a server is another one, was emptied, or stopped reporting."""
        self._check()

    def stats(self, now: float, *, reads_names: bool) -> AlikeStats:
        """The census as it is now."""
        settings = self._settings
        stats = AlikeStats(
            now, settings.tokens, excluded=settings.canary.clients, reads_names=reads_names
        )
        stats.take(self.ledger)
        return stats

    def report(self, seconds: float) -> ScanReport:
        """How the look went, as a census tells it."""
        matched, found = counted(self.ledger)
        patterns = {rule.pattern: matched.get(rule.pattern, 0) for rule in self._rules}
        filled = self._report
        return ScanReport(
            seen=len(self.ledger),
            expected=len(self.ledger),
            share_seen=1.0,
            matched=patterns,
            prefixes=filled.prefixes if filled else {},
            truncated="",
            seconds=seconds,
            faults=(),
            unread=0,
            counted=found,
        )

    def verify(
        self,
        clock: Callable[[], float],
        between: Callable[[], None],
        alone: AbstractContextManager[Any],
    ) -> int:
        """Count the cache anew and keep that; how many keys the ledger had wrong. `between` is
        called after each page, and lets `advance` be called by somebody else; within `alone`
        nobody else may."""
        fresh = self._new_ledger(self.began)
        intake = self._intake_of(fresh, births=False)
        intake.now = clock()
        self._again = {}
        try:
            self._sweep(intake, between)
            with alone:
                return self._compare(intake, clock)
        finally:
            self._again = None

    def _compare(self, intake: Intake, clock: Callable[[], float]) -> int:
        again: dict[str, Changes] = {}
        for _ in range(3):
            self.advance(clock())
            taken, self._again = self._again or {}, {}
            for name, changes in taken.items():
                again.setdefault(name, Changes()).add(changes)
            for server in self._servers:
                self._reread(server, taken.get(server.name, Changes()), intake, clock())
        now = clock()
        self.ledger.age(now)
        intake.ledger.age(now)
        # keys that changed a moment ago may have been read at two moments
        unsettled = {hashed(key) for some in taken.values() for key in (*some.written, *some.gone)}
        wrong = self.ledger.differences(intake.ledger, unsettled, now)
        intake.ledger.left = self.ledger.left
        self.ledger = self._intake.ledger = intake.ledger
        return wrong

    def _reread(self, server: _Server, changes: Changes, intake: Intake, now: float) -> None:
        keys = [*changes.written, *changes.gone]
        intake.begin(Writes({}, now, now))
        for page in server.reader.read(keys):
            intake.count(page)
        for key in keys:
            if key not in intake.seen:
                intake.ledger.gone(key, "deleted")

    def _open(self) -> None:
        tokens = self._settings.tokens
        patterns = [rule.pattern for rule in self._rules if rule.role != "excluded"]
        for name, client in self._cache.primaries():
            stream = Stream(
                client, self._door, patterns=patterns, db=self._settings.redis.db,
                hashes=tokens.profile == "hash",
            )  # fmt: skip
            reader = KeyReader(client, self._sorter, self._door, count=PAGE)
            self._servers.append(_Server(name, client, stream, reader))
        self._check()

    def _sweep(self, intake: Intake, between: Callable[[], None]) -> ScanReport:
        nodes = [(server.name, server.client) for server in self._servers]
        sorter = KeySorter(self._rules)
        report = sweep(nodes, sorter, intake, door=self._door, between=between)
        if report.faults:
            raise RedisFault(report.faults[0][1])
        if report.truncated or report.unread:
            raise RedisFault(Fault("protocol", "not all of the cache could be read"))
        return report

    def _hold(self, clock: Callable[[], float]) -> None:
        """Keep what changes under the first census for after it."""
        now = clock()
        self._intake.now = now
        if now - self._drained < 0.2 or self._pending is None:
            return
        for server in self._servers:
            pending = self._pending.setdefault(server.name, Changes())
            pending.add(server.stream.changes())
        self._drained = now

    def _apply(self, server: _Server, changes: Changes, now: float) -> None:
        exact = server.stream.how == EVENTS
        for key, how in changes.gone.items():
            if changes.written.get(key):
                self._lineage.lost(key, now, self._drained)
            self.ledger.gone(key, how)
        keys = changes.to_read()
        if not keys:
            return
        self._intake.begin(Writes(changes.written, self._drained, now))
        for page in server.reader.read(keys):
            self._intake.count(page)
        for key in keys:
            if key not in self._intake.seen:
                self._missing(key, changes.written[key], exact, now)

    def _missing(self, key: bytes, times: int, exact: bool, now: float) -> None:
        """A key that changed and is not there. Tracking reports removals alike."""
        there = self.ledger.gone(key, "expired" if self.ledger.due(key, now) else "deleted")
        if times and (exact or not there):
            self._lineage.lost(key, now, self._drained)

    def _check(self) -> None:
        for server in self._servers:
            if not server.stream.still_reports():
                raise GapError(f"{server.name} does not report its changes any more")
            facts = self._facts(server)
            if server.facts is not None and facts != server.facts:
                raise GapError(f"{server.name} was restarted, emptied or given another role")
            server.facts = facts

    def _facts(self, server: _Server) -> tuple[Any, ...]:
        info = self._cache.info(Node(server.name, "", server.client), "all")
        found = node_facts(server.name, info)
        if not found.losses:
            text = f"{server.name} does not tell its counters of commands, which show a flush"
            raise RedisFault(Fault("noperm", text))
        calls: dict[str, Any] = {}
        for word in _SILENT:
            row = info.get(f"cmdstat_{word}")
            calls[word] = row.get("calls") if isinstance(row, Mapping) else None
        if found.loading:
            raise GapError(f"{server.name} is loading its data")
        return (found.role, found.lives, tuple(calls.items()))

    def _new_ledger(self, now: float) -> Ledger:
        return Ledger(self._expect, began=now, tolerance=self._settings.tokens.ttl_tolerance)

    def _intake_of(self, ledger: Ledger, *, births: bool = True) -> Intake:
        excluded = self._settings.canary.clients
        return Intake(ledger, self._expect, self._lineage if births else None, excluded)
