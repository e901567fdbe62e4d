"""Run a script in a process that lacks something: python launch.py SPEC script.py WORDS...

SPEC is JSON: `dns` (seconds until a name is known to be unknown), `clock` (seconds added to the
clock), `jump` ([after, by]: the clock leaps by so much, so many seconds after the start), `files`
(the largest file in bytes), `handles` (how many may be open), `threads` (how many may still be
started), `patience` (seconds that SQLite waits for a lock), `bug` (what our own fault says),
`sqlite` (calls of SQLite that fail: the first, how many, with which exception), `system` (a call of
the operating system that fails for a folder), `in_turn` (one call of a family fails).
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable


def slow_names(seconds: float) -> None:
    """Names under .invalid are unknown, after a while; a real resolver may hang for longer."""
    real = socket.getaddrinfo

    def lookup(host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith(".invalid"):
            time.sleep(seconds)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *more, **named)

    socket.getaddrinfo = lookup


def shifted_clock(seconds: float) -> None:
    real = time.time
    time.time = lambda: real() + seconds


def jumping_clock(plan: Any) -> None:
    after, by = plan
    real, began = time.time, time.monotonic()
    time.time = lambda: real() + (by if time.monotonic() - began > after else 0.0)


def small_files(size: int) -> None:
    """As on a full disk, writing fails (Python ignores the signal that comes with it)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def few_threads(number: int) -> None:
    """What RLIMIT_NPROC or a cgroup's pids.max look like from inside; root is exempt from them."""
    real, started = threading._start_new_thread, []  # type: ignore[attr-defined]

    def start(*args: Any) -> Any:
        if len(started) >= number:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return real(*args)

    threading._start_new_thread = start  # type: ignore[attr-defined]


def few_handles(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def short_patience(seconds: float) -> None:
    from monitoring.store import state

    state.BUSY_SECONDS = seconds


def bug(text: str) -> None:
    """Something of ours breaks in each cycle, and says all that it knows."""
    from monitoring import thresholds

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    thresholds.judge = broken


def failing_store(plan: Any) -> None:
    """Calls of SQLite fail: `plan` is [the first that does, how many do, the exception's name]."""
    import sqlite3

    from tests.failing_sqlite import failing

    sqlite3.connect = failing(*plan)  # type: ignore[assignment]


def failing_calls(plan: Any) -> None:
    """A call of the system fails for names under a folder: `plan` is [module.name, the folder, the
    exception's name]. Calls that are given a handle fail from the first open of the folder on."""
    where, folder, exception = plan
    module_name, name = where.split(".")
    module = importlib.import_module(module_name)
    real, opened = getattr(module, name), os.open

    def concerned(args: Any) -> bool:
        named = [str(a) for a in args if isinstance(a, (str, os.PathLike))]
        return any(folder in each for each in named) or (not named and bool(handles))

    handles: Any = []

    def watched(path: Any, *args: Any, **more: Any) -> int:
        if folder in str(path):
            handles.append(1)
        return opened(path, *args, **more)

    def failing(*args: Any, **more: Any) -> Any:
        if concerned(args):
            kind = getattr(builtins, exception)
            raise kind(5, "made to fail") if issubclass(kind, OSError) else kind("made to fail")
        return real(*args, **more)

    if name != "open":
        os.open = watched  # type: ignore[assignment]
    setattr(module, name, failing)


_FILE_CALLS = (
    *("os.open", "os.mkdir", "os.chmod", "os.fchmod", "os.scandir", "os.close", "os.ftruncate"),
    *("os.pwrite", "os.write", "os.unlink", "os.stat", "os.lstat", "os.replace", "os.rename"),
    *("os.fsync", "os.fdopen", "fcntl.flock", "io.open", "builtins.open", "os.access", "os.fstat"),
)
_SOCKET_CALLS = (
    *("connect", "send", "sendall", "recv", "recv_into", "settimeout", "setsockopt", "shutdown"),
    *("makefile", "close"),
)


def one_in_turn(plan: Any) -> None:
    """One call of a family fails, once: `plan` is [family, paths or ports that it concerns, the
    call's number (0: none), the exception's name, a file that grows by a byte with each call]."""
    family, where, number, exception, counted = plan
    handle, write, guard = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.write, []
    lock = threading.Lock()

    def step() -> None:
        with lock:
            guard.append(write(handle, b"."))
            turn = len(guard) == number
        if turn:
            raise _made(exception)

    if family == "sqlite":
        _each_of_sqlite(step)
    elif family == "files":
        _each_of_files(where, step)
    else:
        _each_of_sockets(set(where), step)


def _made(name: str) -> Exception:
    from tests.failing_sqlite import made

    kind = getattr(builtins, name, None)
    if kind is not None and issubclass(kind, OSError):
        error: Exception = kind(5, "made to fail")
        return error
    return made(name)


def _each_of_sqlite(step: Callable[[], None]) -> None:
    import sqlite3

    from tests.failing_sqlite import stepping

    sqlite3.connect = stepping(step)  # type: ignore[assignment]


def _each_of_files(paths: Any, step: Callable[[], None]) -> None:
    handles: Any = set()

    def concerned(args: Any) -> bool:
        named = [str(a) for a in args if isinstance(a, (str, os.PathLike))]
        if named:
            return any(path in name for path in paths for name in named)
        return bool(args) and isinstance(args[0], int) and args[0] in handles

    def failing(real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            if not concerned(args):
                return real(*args, **more)
            step()
            done = real(*args, **more)
            if isinstance(done, int) and isinstance(args[0], (str, os.PathLike)):
                handles.add(done)
            return done

        return call

    for each in _FILE_CALLS:
        module, name = each.split(".")
        owner = importlib.import_module(module)
        setattr(owner, name, failing(getattr(owner, name)))


def _each_of_sockets(ports: Any, step: Callable[[], None]) -> None:
    mine: Any = weakref.WeakSet()

    def failing(name: str, real: Any) -> Any:
        def call(self: Any, *args: Any, **more: Any) -> Any:
            if name == "connect" and isinstance(args[0], tuple) and args[0][1] in ports:
                mine.add(self)
            if self in mine:
                if name == "close":
                    mine.discard(self)
                step()
            return real(self, *args, **more)

        return call

    for name in _SOCKET_CALLS:
        setattr(socket.socket, name, failing(name, getattr(socket.socket, name)))


TRICKS: dict[str, Callable[[Any], None]] = {
    "dns": slow_names,
    "clock": shifted_clock,
    "jump": jumping_clock,
    "files": small_files,
    "threads": few_threads,
    "handles": few_handles,
    "patience": short_patience,
    "bug": bug,
    "sqlite": failing_store,
    "system": failing_calls,
    "in_turn": one_in_turn,
}

if __name__ == "__main__":
    spec, script = json.loads(sys.argv[1]), sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    for trick, value in spec.items():
        TRICKS[trick](value)
    runpy.run_path(script, run_name="__main__")
