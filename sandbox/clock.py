"""Clock: the time a server lives in, as a callable, so that a test can spend a quarter quickly."""

from __future__ import annotations

import threading
from datetime import datetime, timezone


class SimulatedClock:
    """A callable that returns epoch seconds and moves only when told to."""

    def __init__(self, start: float = 1795400000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The simulated epoch seconds."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> float:
        """Move forward by `seconds` and return the new epoch seconds."""
        if seconds < 0:
            raise ValueError("a clock does not run backwards; use set() for that on purpose")
        with self._lock:
            self._now += seconds
            return self._now

    def set(self, epoch: float) -> None:
        """Jump to `epoch`, backwards too (a stepped clock is a thing that happens)."""
        with self._lock:
            self._now = epoch


def jackson_time(epoch: float) -> str:
    """`epoch` as the services' Jackson writes dates: 2026-11-22T16:53:20.000+0000."""
    moment = datetime.fromtimestamp(epoch, tz=timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def iso_time(epoch: float) -> str:
    """`epoch` as Conjur (Rails) writes it: 2026-11-22T16:53:20.000+00:00."""
    return jackson_time(epoch)[:-5] + "+00:00"
