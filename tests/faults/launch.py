"""Run a script in a process that lacks something: python launch.py SPEC script.py WORDS...

SPEC is JSON: `dns` (seconds until a name is known to be unknown), `clock` (seconds added to the
clock), `jump` ([after, by]: the clock leaps by so much, so many seconds after the start), `files`
(the largest file in bytes), `handles` (how many may be open), `threads` (how many may still be
started), `patience` (seconds that SQLite waits for a lock), `bug` (what our own fault says).
"""

from __future__ import annotations

import json
import resource
import runpy
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict


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
    from monitoring import state

    state.BUSY_SECONDS = seconds


def bug(text: str) -> None:
    """Something of ours breaks in each cycle, and says all that it knows."""
    from monitoring import thresholds

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    thresholds.judge = broken


TRICKS: Dict[str, Callable[[Any], None]] = {
    "dns": slow_names,
    "clock": shifted_clock,
    "jump": jumping_clock,
    "files": small_files,
    "threads": few_threads,
    "handles": few_handles,
    "patience": short_patience,
    "bug": bug,
}

if __name__ == "__main__":
    spec, script = json.loads(sys.argv[1]), sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    for trick, value in spec.items():
        TRICKS[trick](value)
    runpy.run_path(script, run_name="__main__")
