"""Acquire: follows the cache in a thread of its own, and says how that stands.

On every gap (a connection that was lost, another primary, a flush, too many changes at once, a
pause of this process) it begins anew with a census; until that is done it gives no figures.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from monitoring.config.settings import Settings
from monitoring.follow.births import Births
from monitoring.follow.figures import AlikeStats
from monitoring.follow.ledger import FullError
from monitoring.follow.lineage import Lineage
from monitoring.follow.standing import CATCHING_UP, CENSUS, FOLLOWING, Standing
from monitoring.follow.watch import Watch
from monitoring.model import Fault
from monitoring.redis import client as redis_client
from monitoring.redis.count import ScanReport
from monitoring.redis.faults import RedisFault
from monitoring.redis.profiles import Rule
from monitoring.redis.stream import EVENTS, GapError

TICK = 0.2  # seconds between two looks at what changed
CHECK_EVERY = 5.0
FORGET_EVERY = 60.0
VERIFY_EVERY = 86400.0
PAUSE = 10.0  # seconds without a look after which this process was stopped
CLOCK_JUMP = 5.0
AGAIN = 1.0  # seconds after which a cache that failed is tried again
REFUSED_AGAIN = 60.0
_REFUSALS = ("noperm", "auth", "config")
_RIGHTS = (
    "following needs keyspace events (notify-keyspace-events with Eg$xe) or the right to CLIENT "
    "TRACKING; deploy/redis/followers.acl has what to grant"
)

_log = logging.getLogger("monitoring.follow.follower")


@dataclass(frozen=True)
class Followed:
    """A census from the ledger."""

    rules: tuple[Rule, ...]
    stats: AlikeStats
    report: ScanReport


class Follower:
    """`start` once, `stop` at the end. `connect` gives a Cache; `clock` epoch seconds, `ticks` a
    monotonic time."""

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Any],
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._connect = settings, connect
        self._clock, self._ticks = clock, ticks
        excluded = settings.canary.clients
        self._lineage = Lineage(Births(skew=settings.tokens.clock_skew), excluded=excluded)
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._watch: Optional[Watch] = None
        self._state, self._why, self._blind = CATCHING_UP, "it has just begun", clock()
        self._broken: Optional[str] = None
        self._wrong: Optional[int] = None
        self._gaps, self._heard = 0, ticks()
        self._offset = clock() - ticks()
        self._sure = clock()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connections."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def look(self, now: float, *, reads_names: bool = False) -> Optional[Followed]:
        """The census of this moment; None while there is none to be had without reading the
        cache."""
        watch, began = self._watch, time.monotonic()
        if watch is None or self._state != FOLLOWING:
            return None
        try:
            self._same_primaries(watch)  # outside the lock: an answer may take its whole timeout
            with self._lock:
                if watch is not self._watch or self._state != FOLLOWING:
                    return None
                self._advance(watch)
                watch.check()
                stats = watch.stats(now, reads_names=reads_names)
                return Followed(watch.rules, stats, watch.report(time.monotonic() - began))
        except (GapError, FullError, RedisFault, *redis_client.ERRORS) as error:
            self._lose(error)
            return None

    def standing(self, now: float) -> Standing:
        """How following stands, and what it has found."""
        with self._lock:
            following = self._state == FOLLOWING
            lineage, watch = self._lineage, self._watch
            sure = min(now, self._sure)
            orphans = tuple(lineage.judge(sure) if following else lineage.named(now))
            return Standing(
                state=self._state,
                whole_since=lineage.births.whole_since if following else None,
                blind_since=None if following else self._blind,
                why="" if following else self._why,
                how=watch.how if watch is not None and following else "",
                changes=self._changes(),
                uses={
                    "born": lineage.accepted_born,
                    "orphan": sum(row.uses for row in orphans),
                    "unknown": max(0, lineage.accepted_unknown - sum(r.uses for r in orphans)),
                },
                orphans=orphans,
                wrong=self._wrong,
                gaps=self._gaps,
                per_minute=lineage.per_minute(now, self._settings.tokens.rate_window),
            )

    def _changes(self) -> Mapping[str, Optional[int]]:
        watch, lineage = self._watch, self._lineage
        left = lineage.left
        by_events = watch is not None and watch.how == EVENTS
        return {
            "minted": lineage.minted,
            "renewed": lineage.renewed,
            "expired": left.get("expired", 0),
            # tracking does not say which of the two it was
            "evicted": left.get("evicted", 0) if by_events else None,
            "deleted": left.get("deleted", 0) + left.get("replaced", 0) if by_events else None,
        }

    # -- the thread

    def _run(self) -> None:
        while not self._ended.is_set():
            wait = AGAIN
            try:
                with contextlib.closing(self._connect()) as cache, self._watching(cache) as watch:
                    self._follow(watch)
            except (GapError, FullError, RedisFault, *redis_client.ERRORS) as error:
                wait = self._lose(error)
            self._ended.wait(wait)

    @contextlib.contextmanager
    def _watching(self, cache: Any) -> Iterator[Watch]:
        with self._lock:
            self._lineage.cut()
            watch = Watch(cache, self._settings, self._lineage, self._clock())
            self._lineage.births.began(self._clock())
            self._watch, self._broken = watch, None
            self._heard = self._ticks()
        try:
            watch.fill(self._clock)
            with self._lock:
                self._state, self._why, self._heard = FOLLOWING, "", self._ticks()
            _log.info("the cache is followed by its %s", watch.how)
            yield watch
        finally:
            with self._lock:
                watch.close()

    def _follow(self, watch: Watch) -> None:
        checked = forgot = verified = self._ticks()
        while not self._ended.wait(TICK):
            with self._lock:
                if self._broken is not None:
                    raise GapError(self._broken)
                self._advance(watch)
                now = self._ticks()
                if now - forgot > FORGET_EVERY:
                    self._lineage.forget(self._clock())
                    forgot = now
                if now - checked > CHECK_EVERY:
                    watch.check()
            if now - checked > CHECK_EVERY:
                self._same_primaries(watch)
                checked = now
            if now - verified > VERIFY_EVERY:
                self.verify()
                verified = now

    def verify(self) -> None:
        """Count the whole cache beside the ledger; see `Standing.wrong`."""
        watch = self._watch
        if watch is None:
            return
        self._wrong = watch.verify(self._clock, self._between, self._lock)

    def _between(self) -> None:
        watch = self._watch
        if watch is not None and self._ticks() - self._heard > TICK:
            with self._lock:
                self._advance(watch)

    def _advance(self, watch: Watch) -> None:
        now, wall = self._ticks(), self._clock()
        silent, moved = now - self._heard, wall - now - self._offset
        if silent > PAUSE:
            raise GapError(f"this process did not run for {silent:.0f} s")
        if abs(moved) > CLOCK_JUMP:
            self._offset = wall - now
            raise GapError(f"the clock of this machine was set by {moved:.0f} s")
        watch.advance(wall)
        self._heard = self._ticks()

    def _same_primaries(self, watch: Watch) -> None:
        """GapError where others are. `_sure` is when that was last known not to be so: of a use
        after that the minting may have been written elsewhere."""
        asked = self._clock()
        if self._settings.redis.sentinels or self._settings.redis.cluster:
            try:
                with contextlib.closing(self._connect()) as cache:
                    names = sorted(m.name for m in cache.members() if m.role != "replica")
            except RedisFault as error:
                _log.debug("who is primary could not be asked: %s", error)
                return
            if names != watch.names:
                raise GapError(f"the primaries are {', '.join(names)} now")
        self._sure = asked

    def _lose(self, error: BaseException) -> float:
        """Changes were missed; how many seconds to wait before another try."""
        fault = redis_client.translate(error, heard=True)
        refused = isinstance(error, FullError) or (fault is not None and fault.kind in _REFUSALS)
        with self._lock:
            if self._state == FOLLOWING:
                self._gaps += 1
                self._blind = self._clock()
            self._state = CENSUS if refused else CATCHING_UP
            before, self._why = self._why, _said(error, fault)
            self._broken = self._why
            self._lineage.cut()
        level = logging.DEBUG if self._why == before else logging.WARNING  # said once
        _log.log(level, "the cache is not followed: %s", self._why)
        return REFUSED_AGAIN if refused else AGAIN


def _said(error: BaseException, fault: Optional[Fault]) -> str:
    if fault is None:
        return str(error)
    return f"{fault.message}; {_RIGHTS}" if fault.kind == "noperm" else fault.message
