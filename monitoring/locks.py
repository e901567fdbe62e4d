"""Keep: one run at a time, by a lock that the kernel lets go of when its holder dies.

`flock` on a file that is never removed: removing it would let two processes hold "the" lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator

from monitoring.model import OperatorError

_POLL = 0.05  # seconds between two tries; flock itself knows no timeout


class StateError(OperatorError):
    """The state cannot be used; the text is one sentence: what, where, and the cure."""


class StateLocked(StateError):  # noqa: N818 - the word operators use for it
    """Somebody else holds the lock. `holder` is `process 123`, `since` its time in UTC; either
    may be empty when the holder has not written them yet."""

    def __init__(self, sentence: str, *, holder: str = "", since: str = "") -> None:
        super().__init__(sentence)
        self.holder = holder
        self.since = since


@contextlib.contextmanager
def hold(path: Path, *, wait: float) -> Iterator[None]:
    """Hold the lock file `path` for the block; waits at most `wait` seconds.

    Raises StateLocked when another holder does not let go, StateError when the file cannot be
    made. Excludes threads of this process as well as other processes."""
    handle = _open(path)
    try:
        _acquire(handle, path, wait)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    safe = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a link or a FIFO planted in its place
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | safe, 0o600)
    except OSError as exc:
        # A disk that turned read-only under a running loop: its lock file can still be locked.
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | safe)
        raise StateError(
            f"cannot make the lock file {path} ({exc.strerror}); "
            "make its folder writable or set MONITORING_STATE_DIR"
        ) from exc


def _acquire(handle: int, path: Path, wait: float) -> None:
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise _locked(handle, path, wait) from None
        time.sleep(_POLL)


def _sign(handle: int) -> None:
    """Write who holds the lock; a full disk must not stop us from holding it."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}\n{now}\n".encode(), 0)


def _locked(handle: int, path: Path, wait: float) -> StateLocked:
    holder, since, *_ = [*os.pread(handle, 200, 0).decode("utf-8", "replace").splitlines(), "", ""]
    who = f"{holder} since {since}" if holder else "another process"
    return StateLocked(
        f"{who} holds {path} (waited {wait:g} s); let it finish, or end it if it hangs",
        holder=holder,
        since=since,
    )
