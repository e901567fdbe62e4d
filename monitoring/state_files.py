"""Keep: the folder and files under the state, and what to tell an operator when they fail."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from monitoring import schema
from monitoring.locks import StateError

FILE_NAME = "state.sqlite3"
_PARTS = ("", "-wal", "-shm")  # SQLite's files: database, write-ahead log, its index
_KEEP_DAMAGED = 3  # damaged files kept for inspection; older ones go

_log = logging.getLogger("monitoring.state")

#: What SQLite's messages hold when the file itself is damaged.
_DAMAGE = ("malformed", "not a database", "disk image", "unsupported file format")

#: What SQLite's messages hold -> what it means and the cure.
_CURES = (
    ("locked", "another process has kept it locked for too long; end it if it hangs, or retry"),
    ("busy", "another process has kept it locked for too long; end it if it hangs, or retry"),
    ("full", "the disk or the quota is full; free some space, nothing was half written"),
    ("readonly", "it or its folder is read-only; make both writable for this user"),
    ("unable to open", "it cannot be opened; make it and its folder writable for this user"),
    ("disk i/o", "the disk failed or is full; check the file system and its free space"),
    ("closed", "it has been closed already; this is a fault of the program, please report it"),
)


def prepare_folder(folder: Path) -> None:
    """Make the folder, 0700. One that was there before is tightened only when nothing but our own
    files lies in it: somebody may have named /tmp. Raises StateError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        wide = bool(status.st_mode & 0o077) and status.st_uid == os.geteuid()
        if wide and all(_is_ours(entry) for entry in folder.iterdir()):
            folder.chmod(0o700)
    except OSError as exc:
        raise StateError(
            f"cannot use the state folder {folder} ({exc.strerror}); "
            "name a folder that this user may write in MONITORING_STATE_DIR"
        ) from exc


def _is_ours(entry: Path) -> bool:
    return entry.name.startswith(FILE_NAME) or entry.suffix == ".lock"


def prepare_file(path: Path) -> None:
    """Make the file, 0600; SQLite gives its -wal and -shm the same mode. Raises StateError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
    except OSError as exc:
        raise StateError(
            f"cannot write the state file {path} ({exc.strerror}); "
            "make it and its folder writable for this user, or set MONITORING_STATE_DIR"
        ) from exc


def inode(path: Path) -> int:
    """What identifies the file behind `path`; -1 when there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def move_aside(path: Path, why: str) -> Path:
    """Rename a damaged database (and its log, which belongs to it); the new name of the former.
    Keeps the newest few such files. Raises StateError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    try:
        for part in _PARTS:
            source = Path(f"{path}{part}")
            if source.exists():
                source.replace(f"{aside}{part}")
        _drop_old(path)
    except OSError as exc:
        raise StateError(
            f"the state file {path} is damaged and cannot be moved aside ({exc.strerror}); "
            "move it away by hand"
        ) from exc
    _log.critical(
        "the state file %s is damaged (%s); kept as %s, a new one is started: history, alert "
        "states and waiting notices begin anew",
        *(path, why, aside.name),
    )
    return aside


def _drop_old(path: Path) -> None:
    damaged = sorted(
        entry
        for entry in path.parent.glob(f"{path.name}.corrupt-*")
        if not entry.name.endswith(_PARTS[1:])
    )
    for old in damaged[:-_KEEP_DAMAGED]:
        for part in _PARTS:
            Path(f"{old}{part}").unlink(missing_ok=True)


def is_damage(message: str) -> bool:
    """Whether SQLite's message says that the file is damaged or no database."""
    return any(word in message.lower() for word in _DAMAGE)


def sentence(message: str, path: Path) -> str:
    """What, where, and the cure, for an operator."""
    lower = message.lower()
    for words, cure in _CURES:
        if words in lower:
            return f"cannot use the state file {path}: {cure} ({message})"
    return f"the state file {path} refused a statement ({message}); please report it"


def version_sentence(version: int, path: Path) -> str:
    """Why a file of another schema version is not used as it is."""
    if version > schema.VERSION:
        return (
            f"the state file {path} has schema {version}, this program knows {schema.VERSION}; "
            "upgrade these scripts or set MONITORING_STATE_DIR to another folder (it was not "
            "changed)"
        )
    return (
        f"the state file {path} has schema {version}, older than {schema.VERSION}; run a script "
        "once with leave to write it, which upgrades it"
    )
