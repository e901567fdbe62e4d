"""Keep: the state file, one SQLite database that several scripts and threads share.

The only module beside salvage.py that touches SQLite. Write-ahead logging, so that readers never
wait for a writer and `kill -9` loses at most the transaction under way.

Nothing that measures or notifies depends on the file. Where it cannot be used, whatever the reason,
a critical log line says what, where, and the cure, and the process keeps in a database in memory
what it would have kept in the file; in the next cycle the file is tried again. A damaged file is
set aside and a new one made of what can be read of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import (
    Any,
    Callable,
    Optional,
    TypeVar,
    Union,
    final,
)

from monitoring.store import files, salvage, schema
from monitoring.store.files import StateError, StateLocked, hold

__all__ = ["State", "StateError", "StateLocked", "Transaction"]

#: Values for `?` placeholders in order, or for `:name` ones by name.
Params = Union[Sequence[Any], Mapping[str, Any]]
Row = tuple[Any, ...]
T = TypeVar("T")

_log = logging.getLogger("monitoring.store.state")

BUSY_SECONDS = 5.0  # how long a statement waits for another process's transaction
_BUSY_AGAIN = 0.1  # the same, of a file that could not be used a moment ago
_TRIES = 2  # how often a cycle tries to open the file
#: What the scripts' cycles work with. Its loss costs them knowledge, but repeats no alert.
_CYCLES = ("kv", "counters", "buckets", "bucket_hours", "uses", "profiles")


class Transaction:
    """What a `with state.transaction()` block works with. `kept`, after the block: it was written
    to the file."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.kept = False

    @property
    def on_file(self) -> bool:
        """Whether what is read in the block comes from the file."""
        return self._state.usable

    def execute(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement; its rows (empty for a write)."""
        return self._state.run(lambda c: c.execute(sql, params).fetchall(), [])

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one statement for every row of parameters."""
        every = list(rows)
        self._state.run(lambda c: c.executemany(sql, every), None)


@final
class State:
    """The state; make it with `State.open`. Safe to use from several threads. `trouble`: why the
    file cannot be used now, empty while it can. `generation` counts the files that it has been."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / files.FILE_NAME
        self.trouble = ""
        self.generation = 0
        self.mended = False  # in this process: some of what earlier cycles kept may be lost
        self._guard = threading.RLock()
        self._inside: Optional[Transaction] = None
        self._file: Optional[sqlite3.Connection] = None
        self._spare: Optional[sqlite3.Connection] = None
        self._end_spare: Callable[[], object] = lambda: None  # closes it, at our end at last
        self._identity = (0, 0)
        self._doubt: Optional[Exception] = None  # why the content is to be examined
        self._lost_by: Optional[Exception] = None  # a failure that nobody was notified of yet
        self._sound = (0, 0)  # the file that was examined and found to be whole
        self._tries = _TRIES
        self._said: set[str] = set()
        self._join()

    @classmethod
    def open(cls, folder: Path) -> State:
        """Open, create or migrate the state in `folder`. It never fails; `trouble` says why the
        file cannot be used."""
        return cls(Path(folder))

    def close(self) -> None:
        """Close the file; from then on nothing of it is known."""
        with self._guard:
            self._leave()
            self._tries = 0
            if self._lost_by is not None:
                self._say(self._lost_by)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading and writing

    @property
    def usable(self) -> bool:
        """Whether the file is in use."""
        return self._file is not None

    @property
    def examined(self) -> bool:
        """Whether this very file was looked through and holds no damage that the store can see."""
        return self._sound == self._identity

    def read(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows of one SELECT."""
        with self._guard:
            if self._inside is None:
                self._join()
            return self.run(lambda c: c.execute(sql, params).fetchall(), [])

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """All or nothing: committed at the end of the block, rolled back when it raises. A block
        inside a block of the same thread joins the outer one. Where the file fails amid the block,
        the rest of it goes on in memory."""
        with self._guard:
            if self._inside is not None:
                yield self._inside
                return
            self._join()
            self._inside = made = Transaction(self)
            begin = "BEGIN IMMEDIATE" if write else "BEGIN"
            try:
                self.run(lambda c: None if c.in_transaction else c.execute(begin), None)
                yield made
                self.run(lambda c: c.execute("COMMIT"), None)
                made.kept = self.usable
            finally:
                self._inside = None
                self._roll_back()

    def get(self, scope: str, key: str) -> Optional[str]:
        """The value kept under `scope` and `key`; None when there is none."""
        rows = self.read("SELECT value FROM kv WHERE scope = ? AND key = ?", (scope, key))
        return str(rows[0][0]) if rows else None

    def put(self, scope: str, key: str, value: str) -> None:
        """Keep `value` under `scope` and `key`, replacing what was there."""
        with self.transaction() as tx:
            row = (scope, key, value, time.time())
            tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)

    def parsed(self, rows: Iterable[Row], parse: Callable[[Row], T]) -> list[Optional[T]]:
        """What `parse` makes of each row, None of one that it cannot read; then the file is
        examined before its next use."""
        found = []
        for row in rows:
            value, exc = files.attempt(partial(parse, row))
            if exc is not None:
                _log.error("a row of the state file cannot be read and is left out: %s", exc)
                if not self.examined:
                    self._doubt = exc
            found.append(value)
        return found

    def lock(self, name: str, wait: float = 5.0) -> contextlib.AbstractContextManager[None]:
        """Hold the named lock for a `with` block; waits up to `wait` seconds. The kernel frees it
        when its holder dies. Raises StateLocked, ValueError (name unfit for a file). Where there
        can be no lock file, the block runs without, and a critical log line says so."""
        if not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
            raise ValueError(f"not a lock name: {name!r}")
        return self._locked(self.folder / f"{name}.lock", wait)

    @contextlib.contextmanager
    def _locked(self, path: Path, wait: float) -> Iterator[None]:
        held = contextlib.ExitStack()

        def take() -> None:
            files.prepare_folder(self.folder)  # somebody may have deleted it under a loop
            held.enter_context(hold(path, wait=wait))

        _, exc = files.attempt(take)
        if isinstance(exc, StateLocked):
            raise exc
        if exc is not None and not self.trouble:
            self._say(exc)
        try:
            yield
        finally:
            files.attempt(held.close)

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        names = (self.path, Path(f"{self.path}-wal"))
        return sum(path.stat().st_size for path in names if path.exists())

    def shrink(self, pages: int = 5000) -> None:
        """Give up to `pages` pages (4 KiB each) that pruning freed back to the file system."""

        def work(connection: sqlite3.Connection) -> None:
            # executescript, because execute() stops this pragma after its first page (3.9-3.13)
            connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        with self._guard:
            self._join()
            self.run(work, None)

    def run(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """`work` done with the file; where that fails, in memory; where that fails too, `nothing`
        is known. For this class and its transactions."""
        if self._file is not None:
            file = self._file
            done, exc = files.attempt(lambda: work(file))
            if exc is None:
                return done  # type: ignore[return-value]
            self._lost(exc)
        done, exc = files.attempt(lambda: work(self._in_memory()))
        if exc is not None:
            _log.debug("nothing is kept in memory either: %s", exc)
        return nothing if exc is not None else done  # type: ignore[return-value]

    # -- between cycles

    def retry(self) -> None:
        """A new cycle: what could not be used before is tried again."""
        self._tries = _TRIES

    def mend(self, why: Exception) -> bool:
        """A cycle failed, perhaps for what it read here: examine the file, and set it aside if it
        is damaged. Whether it was."""
        with self._guard:
            before, self._doubt, self._tries = self.generation, why, _TRIES
            self._join()
            return self.usable and self.generation != before

    def forget(self) -> None:
        """Until the next cycle nothing that earlier cycles kept is known."""
        with self._guard:
            self._leave()
            self._drop_spare()
            self._tries = 0

    def give_up(self, why: Exception) -> None:
        """The cycle failed with what the file holds and does not without it: set the file aside,
        and go on with a new one that holds the rest."""
        with self._guard:

            def replace() -> None:
                with hold(self.folder / "open.lock", wait=2 * BUSY_SECONDS):
                    self._replace(why, _CYCLES)

            self._leave()
            _, exc = files.attempt(replace)
            self._tries = _TRIES
            if exc is not None:
                self._say(exc)

    # -- opening and losing the file

    def _join(self) -> None:
        """Open the file if it is not; reopen it when somebody has replaced or deleted it: writes
        to the old one would be lost without a word."""
        if self._file is not None:
            same, _ = files.attempt(lambda: files.identity(self.path) == self._identity)
            if same and self._doubt is None:
                return
            self._leave()
        if self._tries <= 0:
            if self._doubt is not None:
                self._out(self._doubt)
                self._doubt = None
            return
        self._tries -= 1
        before = self.generation
        connection, exc = files.attempt(self._opened)
        if connection is None:
            self._out(exc or StateError("the state file cannot be opened"))
            return
        if self.trouble:
            _log.warning("the state file %s is in use again", self.path)
            self._said.clear()
        if self._lost_by is not None and self.generation == before:
            self._say(self._lost_by)
        self._lost_by = None
        self._drop_spare()
        self._file, self._doubt, self.trouble = connection, None, ""

    def _opened(self) -> sqlite3.Connection:
        files.prepare_folder(self.folder)
        patience = _BUSY_AGAIN if self.trouble else BUSY_SECONDS
        # One opener at a time: changing to WAL, migrating and moving aside must not overlap.
        with hold(self.folder / "open.lock", wait=2 * patience):
            files.finish_replacing(self.path, self._fresh)
            anew = not self.path.exists()  # it may get the inode of one that was deleted
            files.prepare_file(self.path)
            connection, exc = None, self._doubt
            if exc is None:
                connection, exc = files.attempt(lambda: _made(str(self.path), patience))
            if connection is None:
                self._examine(exc or self._doubt)
                connection = _made(str(self.path), patience)
            if self.trouble or self._doubt:
                _do_or_close(_probe, connection)
            identity = files.identity(self.path)
            self.generation += anew or identity != self._identity
            self._identity = identity
            return connection

    def _examine(self, why: Optional[Exception]) -> None:
        """Set the file aside if it is damaged. Raises what keeps it from being used."""
        if why is not self._doubt and why is not None and files.is_surroundings(why):
            raise why
        _, damage = files.attempt(self._examined)
        if damage is None:
            self._sound = files.identity(self.path)
        elif files.is_surroundings(damage):
            raise damage
        else:
            self._replace(damage)

    def _examined(self) -> None:
        with contextlib.closing(_made(":memory:")) as like:
            salvage.examine(self.path, like)

    @property
    def _fresh(self) -> Path:
        return Path(f"{self.path}.new")

    def _replace(self, why: Exception, without: Sequence[str] = ()) -> None:
        """A new file of what can be read takes the place of the damaged one. As long as it cannot
        be made, the surroundings may be to blame, and the old one stays."""
        with self.path.open("rb") as handle:
            handle.read(1)
        try:
            files.prepare_file(self._fresh)
            with contextlib.closing(_made(str(self._fresh))) as into:
                rows = salvage.carry(self.path, into, without)
            files.replace_damaged(self.path, self._fresh, str(why), rows)
            self.mended = True
        finally:
            files.attempt(lambda: files.remove(self._fresh))

    def _leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            files.attempt(file.close)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare = None
            files.attempt(self._end_spare)

    def _lost(self, exc: Exception) -> None:
        self._leave()
        if files.is_surroundings(exc):
            self._out(exc)
        else:
            self._doubt = self._lost_by = exc  # the next use examines the file

    def _out(self, exc: Exception) -> None:
        self.trouble = files.sentence(exc, self.path)
        self._say(exc)

    def _say(self, exc: Exception) -> None:
        said = files.sentence(exc, self.path)
        if said not in self._said:
            self._said.add(said)
            _log.critical("%s; this run goes on without memory", said)

    def _in_memory(self) -> sqlite3.Connection:
        if self._spare is None:
            self._spare = _made(":memory:")
            self._end_spare = weakref.finalize(self, self._spare.close)
        if self._inside is not None and not self._spare.in_transaction:
            self._spare.execute("BEGIN")
        return self._spare

    def _roll_back(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

        for connection in filter(None, (self._spare, self._file)):
            _, exc = files.attempt(partial(work, connection))
            if exc is not None and connection is self._file:
                self._lost(exc)


def _made(address: str, patience: float = 0.0) -> sqlite3.Connection:
    """An open database with today's schema. Raises whatever sqlite3 does."""
    connection = sqlite3.connect(
        address,
        timeout=patience,
        isolation_level=None,  # transactions are begun by hand: BEGIN IMMEDIATE
        check_same_thread=False,  # `State._guard` keeps threads apart
    )
    _do_or_close(_migrate, connection)
    return connection


def _do_or_close(
    work: Callable[[sqlite3.Connection], None], connection: sqlite3.Connection
) -> None:
    """`work` with a connection that nobody else has yet: where it fails, the connection is closed.
    Raises what `work` does."""
    _, exc = files.attempt(partial(work, connection))
    if exc is not None:
        files.attempt(connection.close)
        raise exc


def _probe(connection: sqlite3.Connection) -> None:
    """Whether a file that was lost can be written again; raises when it cannot."""
    connection.execute("BEGIN IMMEDIATE")
    row = ("state", "probe", "0", time.time())
    connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
    connection.execute("DELETE FROM kv WHERE scope = ? AND key = ?", row[:2])
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to today's version, in one transaction."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > schema.VERSION or version < 0:
        raise ValueError(f"schema {version}")
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
