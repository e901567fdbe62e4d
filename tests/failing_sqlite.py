"""SQLite whose calls fail in turn: connect, execute, fetch, iterate, close, whatever is called."""

from __future__ import annotations

import builtins
import sqlite3
from typing import Any, Callable

EXCEPTIONS = (
    *("OperationalError", "DatabaseError", "UnicodeDecodeError", "OverflowError", "MemoryError"),
    *("SystemError", "ValueError", "InterfaceError", "RecursionError", "OSError"),
)
_CONNECT = sqlite3.connect


class Counter:
    """Counts the calls; those from `first` on, `many` of them, fail with `exception`."""

    def __init__(self, first: int, many: int, exception: str) -> None:
        self.calls, self.first, self.many, self.exception = 0, first, many, exception

    def step(self) -> None:
        self.calls += 1
        if self.first <= self.calls < self.first + self.many:
            raise made(self.exception)


def made(name: str) -> Exception:
    """An exception of that name, of SQLite's or of Python's own."""
    if name == "UnicodeDecodeError":
        return UnicodeDecodeError("utf-8", b"\xeb", 0, 1, "invalid continuation byte")
    kind = getattr(sqlite3, name, None) or getattr(builtins, name)
    error: Exception = kind("this call was made to fail")
    return error


class _Failing:
    """An object of SQLite's, each call of which may fail."""

    def __init__(self, real: Any, step: Callable[[], None]) -> None:
        self.__dict__.update(_real=real, _step=step)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not callable(value) or name == "text_factory":
            return value

        def call(*args: Any, **named: Any) -> Any:
            self._step()
            return _wrapped(value(*args, **named), self._step)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        self._step()
        return next(self._real)


def _wrapped(value: Any, step: Callable[[], None]) -> Any:
    return _Failing(value, step) if isinstance(value, sqlite3.Cursor) else value


def failing(first: int, many: int, exception: str) -> Callable[..., Any]:
    """In place of `sqlite3.connect`; its `counter` says how many calls there were."""
    counter = Counter(first, many, exception)
    connect = stepping(counter.step)
    connect.counter = counter  # type: ignore[attr-defined]
    return connect


def stepping(step: Callable[[], None]) -> Callable[..., Any]:
    """In place of `sqlite3.connect`: each call of what it opens is preceded by `step`."""

    def connect(*args: Any, **named: Any) -> Any:
        step()
        return _Failing(_CONNECT(*args, **named), step)

    return connect
