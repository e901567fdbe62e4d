"""Keep: when cycles run, and in which order an Outcome is recorded, told, exposed and shown.

A step that fails is logged and the next one runs; a cycle that fails is an Outcome that says so.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, ContextManager, Optional, Sequence, TypeVar, cast

from monitoring import __version__
from monitoring.logs import LOGGER
from monitoring.model import OperatorError, Outcome, Severity, Source, worst
from monitoring.redact import redact
from monitoring.state import State, StateLocked
from monitoring.state_files import attempt

Cycle = Callable[[float], Outcome]
A = TypeVar("A")
T = TypeVar("T")
_BREATH = 0.5  # seconds between two calls of `idle`


@dataclass(frozen=True)
class Step:
    """Something done with an Outcome. It may return an enriched Outcome for the steps after it,
    or None."""

    name: str
    run: Callable[[Outcome], Optional[Outcome]]


class Runner:
    """Runs `cycle` and then every step. `clock` gives epoch seconds, `ticks` a monotonic time."""

    def __init__(
        self,
        script: str,
        environment: str,
        cycle: Cycle,
        steps: Sequence[Step],
        *,
        before: Sequence[Callable[[], None]] = (),
        exclusive: Callable[[], ContextManager[Any]] = nullcontext,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script, self._environment = script, environment
        self._before, self._exclusive = tuple(before), exclusive
        self._cycle, self._steps = cycle, tuple(steps)
        self._clock, self._ticks = clock, ticks
        self._stop = threading.Event()

    def once(self) -> Outcome:
        """One cycle with all its steps, alone among the runs of this script. A failed cycle is an
        Outcome whose only source, `monitor`, is not ok. Raises StateLocked when another run holds
        the lock for too long; nothing was measured then."""
        with self._exclusive():
            return self._alone()

    def _alone(self) -> Outcome:
        for begin in self._before:
            begin()
        now, started = self._clock(), self._ticks()
        outcome, why = _done("cycle", lambda: self._cycle(now))
        if outcome is None:
            outcome = self._failed(now, why)
        outcome = replace(outcome, seconds=self._ticks() - started)
        for step in self._steps:
            outcome = self._take(step, outcome)
        return outcome

    def loop(self, interval: float, idle: Callable[[], bool] = lambda: False) -> None:
        """Cycles on a fixed grid of `interval` seconds until `stop`, or until `idle`, called
        twice a second between two cycles, is True. A cycle that overruns skips the ticks it missed
        instead of running late for ever."""
        origin, tick = self._ticks(), 0
        while not self._stop.is_set():
            try:
                self.once()
            except StateLocked as error:
                LOGGER.error("cycle skipped: %s", error)
            tick = max(tick + 1, int((self._ticks() - origin) / interval) + 1)
            if self._pause(origin + tick * interval, idle):
                return

    def _pause(self, until: float, idle: Callable[[], bool]) -> bool:
        """Wait for the tick `until`; True: `idle` said that the loop is over."""
        while not idle():
            left = until - self._ticks()
            if left <= 0.0 or self._stop.wait(min(left, _BREATH)):
                return False
        return True

    def stop(self) -> None:
        self._stop.set()

    def _take(self, step: Step, outcome: Outcome) -> Outcome:
        def work() -> Outcome:
            return step.run(outcome) or outcome

        after, why = _done(step.name, work)
        if after is not None:
            return after
        # A step that broke leaves its mark: the steps after it show that something is missing.
        broken = Source(f"monitor:{step.name}", ok=False, why=why, error="internal")
        return replace(outcome, sources=(*outcome.sources, broken))

    def _failed(self, now: float, why: str) -> Outcome:
        broken = Source("monitor", ok=False, why=why, error="internal")
        return Outcome(
            self._script, self._environment, __version__, now, seconds=0.0, sources=(broken,)
        )


def _done(name: str, work: Callable[[], Outcome]) -> tuple[Optional[Outcome], str]:
    """`work`'s result, or None and why not, fit to be kept and told."""
    began = time.perf_counter()
    done, error = attempt(work)
    if error is None:
        LOGGER.debug("%s took %.1f ms", name, (time.perf_counter() - began) * 1000)
        return done, ""
    if isinstance(error, OperatorError):  # its sentence says all; a traceback would hide it
        LOGGER.critical("%s failed: %s", name, error)
        return None, redact(str(error))
    LOGGER.critical("%s failed: %s: %s", name, type(error).__name__, error, exc_info=error)
    return None, redact(f"{type(error).__name__}: {error}")


def cured(work: Callable[[A], T], memory: State) -> Callable[[A], T]:
    """`work`, and where it fails, again: what it read of earlier cycles may be to blame. Damaged
    memory is set aside first; then it does without any, and if that helps, the file is set aside
    for what it holds. Raises the first failure when nothing helps."""

    def tried(given: A) -> T:
        done, error = attempt(partial(work, given))
        if error is None:
            return cast("T", done)
        if isinstance(error, OperatorError):
            raise error
        if memory.mend(error):
            done, again = attempt(partial(work, given))
            if again is None:
                return cast("T", done)
        memory.forget()
        done, again = attempt(partial(work, given))
        if again is not None:
            memory.retry()
            raise error
        memory.give_up(error)
        return cast("T", done)

    return tried


def level_of(outcome: Outcome) -> str:
    """The log level of a cycle's summary line."""
    levels = {Severity.OK: "info", Severity.UNKNOWN: "error", Severity.WARNING: "warning"}
    return levels.get(worst([outcome.status]), "critical")
