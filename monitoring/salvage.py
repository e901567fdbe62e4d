"""Keep: whether a state file is damaged, and a new one made of all that can be read of it."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

from monitoring import schema
from monitoring.locks import StateError
from monitoring.state_files import attempt, version_sentence

_SECONDS = 20.0  # of a large file the history comes last, and as much of it as there is time for
_LATEST = 1e11  # no time of ours is later; in epoch seconds the year 5138
_LARGEST = 2**53
_IMPLAUSIBLE = 1000  # a schema version that no program will ever write
_JSON = ("body", "value", "labels")
_LAST = ("series", "samples", "cycles")
#: An alert of which people were told that it fires, as the last notice of each channel says.
_TOLD = """
INSERT OR IGNORE INTO alert_told
SELECT key, channel, max(told) FROM notices AS one
WHERE told IS NOT NULL AND reason NOT IN ('resolved', 'missed') AND NOT EXISTS (
  SELECT 1 FROM notices AS later WHERE later.key = one.key AND later.channel = one.channel
  AND later.id > one.id AND later.told IS NOT NULL AND later.reason IN ('resolved', 'missed'))
GROUP BY key, channel
"""


@dataclass(frozen=True)
class Column:
    """One column as the schema declares it."""

    name: str
    type: str
    required: bool
    key: int  # place in the primary key, from 1; 0: no part of it

    def check(self, value: Any) -> Any:
        """The value as Python has it. Raises ValueError where the column cannot hold it."""
        if value is None and not self.required:
            return None
        kinds = {"TEXT": bytes, "REAL": (int, float), "INTEGER": int}
        if not isinstance(value, kinds[self.type]):  # type: ignore[arg-type]
            raise ValueError(f"{self.name} holds a {type(value).__name__}")
        return self._text(value) if self.type == "TEXT" else self._number(value)

    def _text(self, value: bytes) -> str:
        text = value.decode("utf-8")
        if self.name in _JSON:
            json.loads(text, parse_constant=_refuse)
        return text

    def _number(self, value: float) -> float:
        if not math.isfinite(value) or abs(value) > _LARGEST:
            raise ValueError(f"{self.name} is {value!r}")
        if self.name in _TIMES and not -1.0 <= value <= _LATEST:
            raise ValueError(f"{self.name} is no time: {value!r}")
        return value


@dataclass(frozen=True)
class Table:
    """A table of the schema and its columns."""

    name: str
    columns: Tuple[Column, ...]

    @property
    def select(self) -> str:
        return f"SELECT {self._names} FROM {self.name}"  # noqa: S608 - the schema's own names

    @property
    def insert(self) -> str:
        places = ", ".join("?" * len(self.columns))
        return f"INSERT OR IGNORE INTO {self.name} ({self._names}) VALUES ({places})"  # noqa: S608

    @property
    def _names(self) -> str:
        return ", ".join(column.name for column in self.columns)

    def check(self, row: Sequence[Any]) -> List[Any]:
        """The row as Python has it. Raises ValueError where a column cannot hold its value."""
        return [column.check(value) for column, value in zip(self.columns, row)]

    def orders(self) -> Iterator[str]:
        """Ways through the table: forwards, and backwards from the end."""
        keys = sorted((c for c in self.columns if c.key), key=lambda c: c.key)
        yield "NOT INDEXED"
        yield "NOT INDEXED ORDER BY rowid DESC"
        yield "ORDER BY " + ", ".join(f"{c.name} DESC" for c in keys)


_TIMES = (
    *("updated", "at", "seconds", "interval", "created", "due", "begun", "told", "dead"),
    *("first_seen", "watched_since", "born", "last_ok", "last_failed", "old_seen"),
)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def examine(path: Path, like: sqlite3.Connection) -> None:
    """Raises what is wrong with the file: StateError for a newer schema, anything else for damage.
    `like` is an empty state. Reads the whole file."""
    with closing(_reader(path)) as source:
        (version,) = source.execute("PRAGMA user_version").fetchone()
        if schema.VERSION < version < _IMPLAUSIBLE:
            raise StateError(version_sentence(version, path))
        answers = [row[0] for row in source.execute("PRAGMA integrity_check(1)")]
        if answers != [b"ok"]:
            raise ValueError(answers[0].decode("utf-8", "replace").replace("\n", " "))
        missing = _objects(like) - _objects(source)
        if version != schema.VERSION or missing:
            lost = ", ".join(sorted(name.decode("utf-8", "replace") for _, name in missing))
            raise ValueError(f"schema {version}, missing: {lost or 'nothing'}")
        for table in _tables(like):
            for row in source.execute(table.select):
                table.check(row)


def carry(path: Path, into: sqlite3.Connection, without: Sequence[str] = ()) -> int:
    """Copy to the empty state `into` each row of the file that can be read and holds what its
    columns may hold, leaving out the tables `without`; how many those were."""
    until = time.monotonic() + _SECONDS
    into.execute("BEGIN IMMEDIATE")
    with closing(_reader(path)) as source:
        attempt(partial(source.execute, "PRAGMA writable_schema = ON"))  # reads a damaged schema
        for table in (each for each in _tables(into) if each.name not in without):
            for row in _rows(source, table, until):
                into.execute(table.insert, row)
    into.execute(_TOLD)
    count = into.total_changes
    into.execute("COMMIT")
    return count


def _reader(path: Path) -> sqlite3.Connection:
    source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=1.0, uri=True)
    source.text_factory = bytes  # decoded row by row, so that one bad byte costs one row
    return source


def _objects(connection: sqlite3.Connection) -> set[Tuple[bytes, bytes]]:
    """Every table, index and view, and what made it."""
    rows = connection.execute("SELECT type || ' ' || name || coalesce(sql, ''), name "
                              "FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")  # fmt: skip
    return {tuple(_bytes(value) for value in row) for row in rows}  # type: ignore[misc]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _tables(state: sqlite3.Connection) -> List[Table]:
    """The tables of an empty state, those first that matter most."""
    named = state.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    names = sorted((name for (name,) in named if not name.startswith("sqlite_")), key=_rank)
    return [Table(name, tuple(_columns(state, name))) for name in names]


def _columns(state: sqlite3.Connection, table: str) -> Iterator[Column]:
    for row in state.execute(f"PRAGMA table_info({table})"):
        yield Column(row[1], row[2], bool(row[3]) or bool(row[5]), row[5])


def _rank(table: str) -> int:
    return _LAST.index(table) + 1 if table in _LAST else 0


def _rows(source: sqlite3.Connection, table: Table, until: float) -> Iterator[Sequence[Any]]:
    """The sound rows from the first to one that cannot be read, then from the last backwards."""
    for order in table.orders():
        cursor, why = attempt(partial(source.execute, f"{table.select} {order}"))
        while cursor is not None and why is None and time.monotonic() < until:
            row, why = attempt(cursor.__next__)
            sound, _ = attempt(partial(table.check, row or ()))
            if sound:
                yield sound
        if isinstance(why, StopIteration):
            return
