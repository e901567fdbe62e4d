"""Keep: whether a state file is damaged, and a new one made of all that can be read of it."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from re import Match, Pattern
from typing import (
    Any,
    NoReturn,
    Optional,
)

from monitoring.alerts.outbox_merge import EVERYONE, FIRING
from monitoring.alerts.state import FIRING as STATE_FIRING, AlertState, dump_state, load_state
from monitoring.model import Alert, AlertKey, Severity
from monitoring.store import schema
from monitoring.store.files import StateError, attempt, version_sentence

_SECONDS = 20.0  # of a large file the history comes last, and as much of it as there is time for
_LATEST = 1e11  # no time of ours is later; in epoch seconds the year 5138
_LARGEST = 2**53
_IMPLAUSIBLE = 1000  # a schema version that no program will ever write
_JSON = ("body", "value", "labels")
_PIECE, _OVERLAP = 1 << 20, 1 << 14  # bytes read at once; a record is not longer than the latter
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)  # bytes of a value by its type in a record
_FLOAT = 7
_KEY = re.compile(r"[\w.%-]+/[a-z_]+/[a-z0-9_.-]+/[a-z0-9_]+/[ -~]*")
_LAST = ("series", "samples", "cycles")


@dataclass(frozen=True)
class Column:
    """One column as the schema declares it."""

    name: str
    type: str
    required: bool
    key: int  # place in the primary key, from 1; 0: no part of it

    @property
    def kinds(self) -> bytes:
        """A regular expression of the types that a record may give it."""
        if self.type == "TEXT":
            return rb"(?:[\x0d-\x7f]|[\x81-\xff][\0-\x7f]|[\x81-\xff][\x80-\xff][\0-\x7f])"
        null = b"" if self.required else rb"\0"
        return b"[" + null + (rb"\1-\x09]" if self.type == "REAL" else rb"\1-\6\x08\x09]")

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
            json.loads(text, parse_constant=_refuse, parse_float=_finite)
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
    columns: tuple[Column, ...]

    @property
    def select(self) -> str:
        return f"SELECT {self._names} FROM {self.name}"  # noqa: S608 - the schema's own names

    @property
    def insert(self) -> str:
        places = ", ".join("?" * len(self.columns))
        # The names are the schema's own.
        return f"INSERT OR IGNORE INTO {self.name} ({self._names}) VALUES ({places})"  # noqa: S608

    @property
    def _names(self) -> str:
        return ", ".join(column.name for column in self.columns)

    def check(self, row: Sequence[Any]) -> list[Any]:
        """The row as Python has it. Raises ValueError where a column cannot hold its value."""
        return [column.check(value) for column, value in zip(self.columns, row)]

    @property
    def numbered(self) -> bool:
        """Whether the first column is the number that SQLite keeps beside the record."""
        return self.columns[0].type == "INTEGER" and [c.key for c in self.columns if c.key] == [1]

    @property
    def record(self) -> Pattern[bytes]:
        """The header of a record of this table: its length, and a type for each column."""
        kinds = [b"\0" if self.numbered else self.columns[0].kinds]
        kinds += [column.kinds for column in self.columns[1:]]
        return re.compile(b"(?=([\1-\x7f]" + b"".join(kinds) + b"))", re.DOTALL)

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


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
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
                _refuse_blobs(row)


def _refuse_blobs(row: Sequence[Any]) -> None:
    """One bit makes a blob of a text, which no statement that compares texts finds any more."""
    if any(type(value) is bytes for value in row):
        raise ValueError("a text is marked as a blob")


def carry(path: Path, into: sqlite3.Connection, without: Sequence[str] = ()) -> int:
    """Copy to the empty state `into` each row of the file that can be read and holds what its
    columns may hold, leaving out the tables `without`; how many those were."""
    until = time.monotonic() + _SECONDS
    last: dict[tuple[str, str], tuple[float, str]] = {}
    into.execute("BEGIN IMMEDIATE")
    with closing(_reader(path)) as source:
        attempt(partial(source.execute, "PRAGMA writable_schema = ON"))  # reads a damaged schema
        for table in (each for each in _tables(into) if each.name not in without):
            for row in _rows(source, path, table, until):
                attempt(partial(_keep, into, table, row))
                attempt(partial(_keep_notified, last, row, table))
    _notify(into, last)
    _complete(into)
    count = into.total_changes
    into.execute("COMMIT")
    return count


def _keep(into: sqlite3.Connection, table: Table, row: Sequence[Any]) -> None:
    into.execute(table.insert, table.check(row))


def _keep_notified(
    last: dict[tuple[str, str], tuple[float, str]], row: Sequence[Any], table: Table
) -> None:
    """What a channel was last notified of an alert, even if the notice's text cannot be read."""
    if table.name != "notices":
        return
    key, channel, reason = (value.decode() for value in row[1:4])
    notified = row[9]
    if notified is not None and 0.0 <= notified <= _LATEST:
        last[key, channel] = max(last.get((key, channel), (0.0, "")), (notified, reason))


def _notify(into: sqlite3.Connection, last: Mapping[tuple[str, str], tuple[float, str]]) -> None:
    for place, (at, reason) in last.items():
        if reason in FIRING:
            into.execute("INSERT OR REPLACE INTO alert_told VALUES (?, ?, ?)", (*place, at))
        else:
            sql = "DELETE FROM alert_told WHERE key = ? AND channel = ? AND at <= ?"
            into.execute(sql, (*place, at))


def _complete(into: sqlite3.Connection) -> None:
    """Of an alert whose state or whose recipients are lost, what the other of the two says."""
    bodies = into.execute("SELECT key, body FROM alert_states").fetchall()
    read = [attempt(partial(load_state, body))[0] for _, body in bodies]
    states = {state.key: state for state in read if state is not None}
    known = {*states, *(state.group for state in states.values())}
    waiting = "SELECT key FROM notices WHERE told IS NULL AND dead IS NULL AND reason = 'resolved'"
    known.update(key for (key,) in into.execute(waiting))
    notified = dict(into.execute("SELECT key, min(at) FROM alert_told GROUP BY 1").fetchall())
    for key in notified.keys() - known:
        made, _ = attempt(partial(_state_of, key, notified[key]))
        if made is not None:
            row = (key, made.alert.key.script, dump_state(made), notified[key])
            into.execute("INSERT OR REPLACE INTO alert_states VALUES (?, ?, ?, ?)", row)
    for state in states.values():
        key = state.group or state.key
        if state.firing and state.notified is not None and key not in notified:
            lost = (key, EVERYONE, state.notified_at or state.judged_at)
            into.execute("INSERT OR IGNORE INTO alert_told VALUES (?, ?, ?)", lost)


def _state_of(key: str, at: float) -> AlertState:
    """The state of an alert of which nothing is left but its key, and that people were notified."""
    parts = [part.replace("%2F", "/").replace("%25", "%") for part in key.split("/")]
    alert = Alert(AlertKey(*parts), Severity.CRITICAL, f"{parts[2]}: {parts[3].replace('_', ' ')}")
    if alert.key.text != key or not _KEY.fullmatch(key):
        raise ValueError(f"not the key of an alert: {key!r}")
    fires = AlertState(alert, STATE_FIRING, since=at, bad=1, judged_at=at)
    return replace(fires, notified=Severity.CRITICAL, notified_at=at)


def _reader(path: Path) -> sqlite3.Connection:
    source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=1.0, uri=True)
    source.text_factory = _Text  # decoded row by row, so that one bad byte costs one row
    return source


class _Text(bytes):
    """The bytes of a text; those of a blob, which no column of ours holds, are plain `bytes`."""


def _objects(connection: sqlite3.Connection) -> set[tuple[bytes, bytes]]:
    """Every table, index and view, and what made it."""
    rows = connection.execute("SELECT type || ' ' || name || coalesce(sql, ''), name "
                              "FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")  # fmt: skip
    return {tuple(_bytes(value) for value in row) for row in rows}  # type: ignore[misc]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _tables(state: sqlite3.Connection) -> list[Table]:
    """The tables of an empty state, those first that matter most."""
    named = state.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    names = sorted((name for (name,) in named if not name.startswith("sqlite_")), key=_rank)
    return [Table(name, tuple(_columns(state, name))) for name in names]


def _columns(state: sqlite3.Connection, table: str) -> Iterator[Column]:
    for row in state.execute(f"PRAGMA table_info({table})"):
        yield Column(row[1], row[2], bool(row[3]) or bool(row[5]), row[5])


def _rank(table: str) -> int:
    return _LAST.index(table) + 1 if table in _LAST else 0


def _rows(
    source: sqlite3.Connection, path: Path, table: Table, until: float
) -> Iterator[Sequence[Any]]:
    """The rows from the first to the first that cannot be read, then from the last backwards; of
    what lies between, that which looks like a row of the table, wherever it stands in the file."""
    for order in table.orders():
        cursor, why = attempt(partial(source.execute, f"{table.select} {order}"))
        while cursor is not None and why is None and time.monotonic() < until:
            row, why = attempt(cursor.__next__)
            if row is not None:
                yield row
        if isinstance(why, StopIteration):
            return
    for part in (path, Path(f"{path}-wal")):
        if part.exists():
            yield from _carved(part, table, until)


def _carved(path: Path, table: Table, until: float) -> Iterator[Sequence[Any]]:
    """Rows by the form of a record (https://www.sqlite.org/fileformat2.html#record_format): a
    header of types that the columns allow, and values behind it."""
    with path.open("rb") as handle:
        rest = b""
        while (data := handle.read(_PIECE)) and time.monotonic() < until:
            data = rest + data
            rows = (attempt(partial(_record, data, found, table))[0]
                    for found in table.record.finditer(data))  # fmt: skip
            yield from (row for row in rows if row is not None)
            rest = data[-_OVERLAP:]


def _record(data: bytes, found: Match[bytes], table: Table) -> Optional[list[Any]]:
    header = found.group(1)
    at, types = found.start() + len(header), list(_varints(header))
    if types[0] != len(header):
        return None
    row: list[Any] = []
    for kind, column in zip(types[1:], table.columns):
        size = _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
        value = data[at : at + size]
        at += size
        row.append(_value(kind, value, column))
    if table.numbered:  # the number stands before the header, in up to nine bytes
        before = data[max(0, found.start() - 9) : found.start()]
        row[0] = _last_varint(before)
    return row


def _value(kind: int, value: bytes, column: Column) -> Any:
    if kind == 0:
        return None
    if kind >= len(_SIZES):
        return value
    if kind == _FLOAT:
        return struct.unpack(">d", value)[0]
    if not value:
        return kind - 8
    whole = int.from_bytes(value, "big", signed=True)
    return float(whole) if column.type == "REAL" else whole


def _varints(data: bytes) -> Iterator[int]:
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            yield value
            value = 0


def _last_varint(data: bytes) -> int:
    start = len(data) - 1
    while start > 0 and data[start - 1] >= 0x80:
        start -= 1
    return next(_varints(data[start:]))
