"""Keep: how a run is told to stop, in a way that cannot be missed.

A signal raises `Stopped` wherever the main thread happens to be. Where that is a finalizer or a
weak reference's callback, Python prints what was raised and forgets it. So the bell rings again
until a door has heard it: a `Stopped` that no longer exists was forgotten by somebody, one that
exists is on its way up. One that is on its way for long was kept by somebody, or hangs in a
clean-up: then it rings again as well.
"""

from __future__ import annotations

import signal
import weakref
from typing import Any, Optional

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AGAIN = 0.05  # seconds between two looks whether it is still on its way
_PATIENCE = 40  # looks that it may be on its way


class Stopped(BaseException):
    """SIGTERM or Ctrl-C arrived; not an Exception, so that nothing but a door catches it."""


class _Bell:
    """Rings for the first signal; further ones change nothing."""

    def __init__(self) -> None:
        self._name = ""
        self._raised: Optional[weakref.ref[Stopped]] = None
        self._looks = 0

    def hang(self) -> None:
        for each in _SIGNALS:
            # nohup has SIGHUP ignored, so that we live on when the terminal goes
            if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, self._told)
        signal.signal(signal.SIGALRM, self._look)

    def heard(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _told(self, number: int, _frame: Any) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        self._name = signal.Signals(number).name
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        self._ring()

    def _look(self, _number: int, _frame: Any) -> None:
        self._looks += 1
        forgotten = self._raised is not None and self._raised() is None
        if forgotten or self._looks >= _PATIENCE:
            self._ring()

    def _ring(self) -> None:
        self._looks = 0
        stopped = Stopped(self._name)
        self._raised = weakref.ref(stopped)
        try:
            raise stopped
        finally:
            del stopped  # a frame that holds its own exception would keep it alive


_BELL = _Bell()


def stop_on_signals() -> None:
    """From now on SIGTERM, SIGINT and SIGHUP (unless it is ignored already) raise `Stopped` in the
    main thread, once, until a door calls `heard`."""
    _BELL.hang()


def heard() -> None:
    """Called by the door that caught `Stopped`, while it holds it."""
    _BELL.heard()
