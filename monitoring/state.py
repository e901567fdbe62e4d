"""Keep: the state file, one SQLite database that several scripts and threads share.

The only module that touches SQLite. Write-ahead logging, so that readers never wait for a writer
and `kill -9` loses at most the transaction under way. Everything that can go wrong is a
`StateError` whose text says what, where, and the cure.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from itertools import chain
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Union, final

from monitoring import schema
from monitoring import state_files as files
from monitoring.locks import StateError, StateLocked, hold

__all__ = ["State", "StateError", "StateLocked", "Transaction"]

#: Values for `?` placeholders in order, or for `:name` ones by name.
Params = Union[Sequence[Any], Mapping[str, Any]]

BUSY_SECONDS = 5.0  # how long a statement waits for another process's transaction


class _DamagedError(Exception):
    """The file is damaged or no database at all."""


class Transaction:
    """What a `with state.transaction()` block works with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Run one statement; its rows (empty for a write)."""
        return self._connection.execute(sql, params).fetchall()

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one statement for every row of parameters."""
        self._connection.executemany(sql, rows)


@final
class State:
    """The open state file; make it with `State.open`. Safe to use from several threads."""

    def __init__(self, folder: Path, *, readonly: bool) -> None:
        self.folder = folder
        self.path = folder / files.FILE_NAME
        self.readonly = readonly
        self._guard = threading.RLock()
        self._inside: Optional[Transaction] = None
        self._inode = 0
        self._closed = False
        self._connection = self._connect()

    @classmethod
    def open(cls, folder: Path, *, readonly: bool = False) -> State:
        """Open (and unless `readonly`, create or migrate) the state in `folder`.

        `readonly` with nothing there yet gives an empty state. A damaged file is moved aside as
        `….corrupt-<time>` and a new one started; a critical log line says so. Raises StateError:
        newer schema, folder that cannot be written, disk full, locked for too long."""
        return cls(Path(folder), readonly=readonly)

    def close(self) -> None:
        """Close the file; further use raises StateError."""
        with self._guard:
            self._closed = True
            self._connection.close()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading and writing

    def read(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """All rows of one SELECT. Raises StateError."""
        with self._guard, self._translated():
            self._follow_file()
            return self._connection.execute(sql, params).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing: committed at the end of the block, rolled back when it raises. A block
        inside a block of the same thread joins the outer one. Raises StateError."""
        with self._guard:
            if self._inside is not None:
                yield self._inside
                return
            with self._translated():
                self._follow_file()
                with self._begun() as inside:
                    yield inside

    def get(self, scope: str, key: str) -> Optional[str]:
        """The value kept under `scope` and `key`; None when there is none."""
        rows = self.read("SELECT value FROM kv WHERE scope = ? AND key = ?", (scope, key))
        return str(rows[0][0]) if rows else None

    def put(self, scope: str, key: str, value: str) -> None:
        """Keep `value` under `scope` and `key`, replacing what was there."""
        with self.transaction() as tx:
            row = (scope, key, value, time.time())
            tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)

    def lock(self, name: str, wait: float = 5.0) -> contextlib.AbstractContextManager[None]:
        """Hold the named lock for a `with` block; waits up to `wait` seconds. The kernel frees it
        when its holder dies. Raises StateLocked, StateError, ValueError (name unfit for a file)."""
        if not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
            raise ValueError(f"not a lock name: {name!r}")
        files.prepare_folder(self.folder)  # somebody may have deleted it under a running loop
        return hold(self.folder / f"{name}.lock", wait=wait)

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        names = (self.path, Path(f"{self.path}-wal"))
        return sum(path.stat().st_size for path in names if path.exists())

    def shrink(self, pages: int = 5000) -> None:
        """Give up to `pages` pages (4 KiB each) that pruning freed back to the file system."""
        with self._guard, self._translated():
            self._follow_file()
            # executescript, because execute() stops this pragma after its first page (3.9-3.13)
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # -- transactions and errors

    @contextlib.contextmanager
    def _begun(self) -> Iterator[Transaction]:
        self._connection.execute("BEGIN IMMEDIATE")
        self._inside = Transaction(self._connection)
        try:
            yield self._inside
            self._connection.execute("COMMIT")
        finally:
            self._inside = None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as StateError; damage found in use starts a new file at once, so that a
        resident loop goes on with its next cycle."""
        try:
            yield
        except sqlite3.Error as exc:
            if self.readonly or not files.is_damage(str(exc)):
                raise StateError(files.sentence(str(exc), self.path)) from exc
            self._reconnect(suspect=True)
            raise StateError(
                f"the state file {self.path} was damaged ({exc}); a new one has been started, "
                "what this cycle had to keep is lost"
            ) from exc

    def _follow_file(self) -> None:
        """Reopen when another process has replaced the file, or somebody has deleted it: writes
        to the old one would be lost without a word."""
        moved = not self._closed and not self.readonly and files.inode(self.path) != self._inode
        if moved and self._inside is None:
            self._reconnect(suspect=False)

    def _reconnect(self, *, suspect: bool) -> None:
        self._connection.close()
        self._inode = 0  # should opening fail, the next use tries again
        self._connection = self._connect(suspect=suspect)

    # -- opening

    def _connect(self, *, suspect: bool = False) -> sqlite3.Connection:
        if self.readonly:
            return _open_readonly(self.path)
        files.prepare_folder(self.folder)
        # One opener at a time: changing to WAL, migrating and moving aside must not overlap.
        with hold(self.folder / "open.lock", wait=2 * BUSY_SECONDS):
            try:
                connection = _open_writable(self.path, suspect=suspect)
            except _DamagedError as exc:
                files.move_aside(self.path, str(exc))
                connection = _open_writable(self.path, suspect=False)
            self._inode = files.inode(self.path)
            return connection


def _open_writable(path: Path, *, suspect: bool) -> sqlite3.Connection:
    """Open and migrate, after a thorough check if `suspect`. Raises _DamagedError, StateError."""
    files.prepare_file(path)
    with _opening(path, str(path)) as connection:
        _migrate(connection, path)
        if suspect:
            _check(connection)
    return connection


def _open_readonly(path: Path) -> sqlite3.Connection:
    if not path.exists():
        with _opening(path, ":memory:") as connection:
            _migrate(connection, path)
        return connection
    # On a read-only file system the -shm file of WAL cannot be made; without a -wal file the
    # database is whole and nobody writes, which is what `immutable` promises.
    still = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    address = f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if still else "")
    try:
        with _opening(path, address) as connection:
            version = _version(connection)
            if version != schema.VERSION:
                raise StateError(files.version_sentence(version, path))
    except _DamagedError as exc:
        raise StateError(
            f"the state file {path} is damaged ({exc}); the next run that may write starts anew"
        ) from exc
    return connection


@contextlib.contextmanager
def _opening(path: Path, address: str) -> Iterator[sqlite3.Connection]:
    """A new connection, closed again when the block fails; SQLite's errors translated."""
    connection: Optional[sqlite3.Connection] = None
    try:
        connection = sqlite3.connect(
            address,
            timeout=BUSY_SECONDS,
            isolation_level=None,  # transactions are begun by hand: BEGIN IMMEDIATE
            check_same_thread=False,  # `State._guard` keeps threads apart
            uri=address.startswith("file:"),
        )
        yield connection
    except (sqlite3.Error, StateError, _DamagedError) as exc:
        if connection is not None:
            connection.close()
        if not isinstance(exc, sqlite3.Error):
            raise
        if files.is_damage(str(exc)):
            raise _DamagedError(str(exc)) from exc
        raise StateError(files.sentence(str(exc), path)) from exc


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check(connection: sqlite3.Connection) -> None:
    """Raises _DamagedError unless every page is sound; reads the whole file."""
    answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if answer != "ok":
        raise _DamagedError(answer.replace("\n", " "))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to today's version, in one transaction."""
    version = _version(connection)
    if version > schema.VERSION:
        raise StateError(files.version_sentence(version, path))
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only heeded before any table
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    # NORMAL: a power cut may undo the last transactions (a notice is sent twice, which its key
    # makes harmless); a killed process loses nothing that was committed.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version < schema.VERSION:
        connection.execute("BEGIN IMMEDIATE")
        for statement in chain.from_iterable(schema.MIGRATIONS[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
