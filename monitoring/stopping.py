"""Keep: how a run is told to stop, in a way that cannot be missed.

A signal raises `Stopped` wherever the main thread happens to be. Where that is a finalizer or a
weak reference's callback, Python prints what was raised and forgets it. So the bell rings again
until a door has heard it: a `Stopped` that no longer exists was forgotten by somebody, one that
exists is on its way up. One that is on its way for long was kept by somebody, or hangs in a
clean-up: then it rings again as well.

SIGHUP ends a single run, and a loop at a terminal that was closed. A loop without a terminal takes
it as daemons do: to read its settings again before the next cycle.

The scripts import this module before anything heavy, so it imports nothing heavy itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref

TYPE_CHECKING = False  # typing takes 5 ms, in which a signal would find no guard
if TYPE_CHECKING:
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
        self._asked = False

    def hang(self) -> None:
        for each in _SIGNALS:
            # nohup has SIGHUP ignored, so that we live on when the terminal goes
            if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, self._on_signal)
        signal.signal(signal.SIGALRM, self._look)

    def heard(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def hang_up(self) -> None:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._reread)

    def taken(self) -> bool:
        asked, self._asked = self._asked, False
        return asked

    def _reread(self, _number: int, _frame: Any) -> None:
        self._asked = True

    def _on_signal(self, number: int, _frame: Any) -> None:
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


def reread_on_hangup() -> None:
    """From now on SIGHUP only asks for the settings to be read again (see `reread_asked`). Left as
    it is where it is ignored already, and at a terminal, whose closing must end the run."""
    if not any(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        _BELL.hang_up()


def reread_asked() -> bool:
    """Whether SIGHUP has arrived since the last call."""
    return _BELL.taken()


def guard_imports() -> None:
    """Until `stop_on_signals` takes over: a signal ends the process with one line and status 3,
    and so does a library that is missing or broken. Python would print a traceback and end with 1,
    which means "warning" here."""
    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _leave_for_signal)
    sys.excepthook = _leave_for_error


def _leave_for_signal(number: int, _frame: Any) -> None:
    _leave("WARNING", f"stopped by {signal.Signals(number).name} before the run had begun")


def _leave_for_error(kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    name = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and name:
        said = f"the Python package {name!r} is missing"
    else:
        said = f"a library cannot be loaded: {kind.__name__}: {error}"
    python = sys.executable or "python3"
    needed = os.path.join(os.path.dirname(os.path.dirname(__file__)), "requirements.txt")
    cure = f"install what the scripts need: {python} -m pip install -r {needed}"
    _leave("CRITICAL", f"{said}; {cure}, or use the Python of .venv")


def _leave(level: str, message: str) -> None:
    """Write one line as `logs` would (a library that it needs may be the missing one), and end."""
    moment = time.gmtime()
    if _text_wanted():
        line = f"{time.strftime('%H:%M:%S', moment)} {level:8} {message}"
    else:
        plain = "".join(c if c.isprintable() and c not in '"\\' else "'" for c in message)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
        line = f'{{"@timestamp":"{stamp}","log.level":"{level.lower()}","message":"{plain}"}}'
    try:
        os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(3)


def _text_wanted() -> bool:
    words = " ".join(sys.argv).replace("--log-format=", "--log-format ")
    return "--log-format text" in words or (os.isatty(2) and "--log-format json" not in words)


def notify_service_manager(address: str, message: str) -> None:
    """Tell systemd `READY=1` (settings are read, the loop begins) or `WATCHDOG=1` (it still goes
    on). `address` is $NOTIFY_SOCKET, see sd_notify(3); empty: nobody listens."""
    if address[:1] not in ("/", "@"):
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(1.0)
        try:
            manager.sendto(message.encode(), address.replace("@", "\0", 1))
        except OSError:
            return  # gone: it will see for itself whether we live


def heard() -> None:
    """Called by the door that caught `Stopped`, while it holds it."""
    _BELL.heard()
