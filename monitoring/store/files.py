"""Keep: the folder and the files of the state, and the lock that lets one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Optional, TypeVar

from monitoring.model import OperatorError
from monitoring.store import schema

# -- one run at a time, by a lock that the kernel lets go of when its holder dies.
# `flock` on a file that is never removed: removing it would let two processes hold "the" lock.

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


# -- the folder and files under the state, and what to tell an operator when they fail.

FILE_NAME = "state.sqlite3"
_PARTS = ("", "-wal", "-shm")  # SQLite's files: database, write-ahead log, its index
_KEEP_DAMAGED = 3  # damaged files kept for inspection; older ones go

_log = logging.getLogger("monitoring.store.state")

#: What SQLite's messages hold -> what it means and the cure.
_CURES = (
    ("locked", "another process has kept it locked for too long; end it if it hangs, or retry"),
    ("busy", "another process has kept it locked for too long; end it if it hangs, or retry"),
    ("full", "the disk or the quota is full; free some space, nothing was half written"),
    ("readonly", "it or its folder is read-only; make both writable for this user"),
    ("unable to open", "it cannot be opened; make it and its folder writable for this user"),
    ("disk i/o", "the disk failed or is full; check the file system and its free space"),
)

T = TypeVar("T")


def attempt(work: Callable[[], T]) -> tuple[Optional[T], Optional[Exception]]:
    """What `work` returned, or why it failed: the broad except of the runner and of the store.

    Measuring and notifying must not depend on what is remembered, and damaged bytes make sqlite3
    raise whatever they happen to hit (UnicodeDecodeError, OverflowError, SystemError, MemoryError):
    no list of exceptions is complete. All that touches the state file goes through here."""
    try:
        return work(), None
    except Exception as exc:  # noqa: BLE001
        return None, exc


def prepare_folder(folder: Path) -> None:
    """Make the folder, 0700. Raises StateError where another user may have a hand in it: it
    belongs to somebody else, others may write it, or a file of ours in it is a link or not ours.
    A folder of this user's is tightened when it is empty or holds nothing but our own files."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        entries = list(os.scandir(folder))
        _refuse_strangers(folder, status, empty=not entries)
        for entry in entries:
            if _is_ours(entry.name):
                _refuse_links(Path(entry.path), entry.stat(follow_symlinks=False))
        if status.st_mode & 0o077 and all(_is_ours(entry.name) for entry in entries):
            folder.chmod(0o700)
    except OSError as exc:
        raise StateError(
            f"cannot use the state folder {folder} ({exc.strerror}); "
            "name a folder that this user may write in MONITORING_STATE_DIR"
        ) from exc


def _refuse_strangers(folder: Path, status: os.stat_result, *, empty: bool) -> None:
    cure = "name a folder of this user's own in MONITORING_STATE_DIR; one that is not there is made"
    if status.st_uid != os.geteuid():
        raise StateError(
            f"the state folder {folder} belongs to another user (uid {status.st_uid}) and is not "
            f"used; {cure}"
        )
    if status.st_mode & 0o022 and not empty:
        raise StateError(
            f"other users may write the state folder {folder} (mode "
            f"{stat.S_IMODE(status.st_mode):04o}), so it is not used; look through it and "
            f"`chmod 700` it, or {cure}"
        )


def _refuse_links(path: Path, status: os.stat_result) -> None:
    fault = ""
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1):
        fault = "is a link to another file"
    elif not stat.S_ISREG(status.st_mode):
        fault = "is not a file"
    elif status.st_uid != os.geteuid():
        fault = f"belongs to another user (uid {status.st_uid})"
    if fault:
        raise StateError(
            f"{path} {fault}, so the state folder is not used and nothing is written through it; "
            "find out who made it, and remove it"
        )


def _is_ours(name: str) -> bool:
    return name.startswith(FILE_NAME) or name.endswith(".lock")


def prepare_file(path: Path) -> None:
    """Make the file, 0600; SQLite gives its -wal and -shm the same mode. Raises StateError."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as exc:
        raise StateError(
            f"cannot write the state file {path} ({exc.strerror}); "
            "make it and its folder writable for this user, or set MONITORING_STATE_DIR"
        ) from exc


def identity(path: Path) -> tuple[int, int]:
    """What tells the file behind `path` from any other; nought when there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def remove(path: Path) -> None:
    """The database and its log, if they are there."""
    for part in _PARTS:
        Path(f"{path}{part}").unlink(missing_ok=True)


def replace_damaged(path: Path, fresh: Path, why: str, rows: int) -> None:
    """Keep the damaged database (and its log, which belongs to it) under another name and put
    `fresh` in its place; the newest few such files are kept. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for part in _PARTS:
        source = Path(f"{path}{part}")
        if source.exists():
            source.replace(f"{aside}{part}")
    fresh.replace(path)
    _log.critical(
        "the state file %s is damaged (%s); kept as %s, a new one is started with the %d rows that "
        "could be read: look at the disk",
        *(path, why, aside.name, rows),
    )
    _drop_old(path)


def finish_replacing(path: Path, fresh: Path) -> None:
    """What a process left that was killed while it replaced a damaged file: `fresh` is whole once
    the damaged one has been moved, else it is begun anew. Raises OSError."""
    if fresh.exists() and not path.exists():
        fresh.replace(path)
    remove(fresh)


def _drop_old(path: Path) -> None:
    damaged = sorted(
        entry
        for entry in path.parent.glob(f"{path.name}.corrupt-*")
        if not entry.name.endswith(_PARTS[1:])
    )
    for old in damaged[:-_KEEP_DAMAGED]:
        remove(old)


def is_surroundings(exc: Exception) -> bool:
    """Whether the failure names what is around the file (a lock, the disk, rights), so that its
    content need not be doubted. A damaged file may read as a failing disk, so that is not one."""
    if isinstance(exc, (StateError, OSError)):
        return True
    return any(words in str(exc).lower() for words, _ in _CURES[:-1])


def sentence(exc: Exception, path: Path) -> str:
    """What, where, and the cure, for an operator."""
    if isinstance(exc, StateError):
        return str(exc)
    message = f"{type(exc).__name__}: {exc}"
    for words, cure in _CURES:
        if words in message.lower():
            return f"cannot use the state file {path}: {cure} ({exc})"
    return f"cannot use the state file {path} ({message}); look at the file and its disk"


def version_sentence(version: int, path: Path) -> str:
    """Why a file of a newer schema version is not used."""
    return (
        f"the state file {path} has schema {version}, this program knows {schema.VERSION}; "
        "upgrade these scripts or set MONITORING_STATE_DIR to another folder (it was not changed)"
    )
