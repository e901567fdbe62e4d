"""Acquire: what a configuration file says: Python that is executed, or YAML that is not."""

from __future__ import annotations

import grp
import io
import logging
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import CodeType
from typing import Any, Optional

from monitoring.config.problems import Problem, RawFile
from monitoring.config.secret import open_regular

_log = logging.getLogger("monitoring.config.files")

_BIGGEST = 256 * 1024
_MOST = 20_000  # values of one file; stops a dict that contains itself
#: What a user's file may raise when executed; Ctrl-C means what it says.
_RAISED = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError),
    *(LookupError, NameError, OSError, RuntimeError, SystemExit, TypeError, ValueError),
)


def read_file(path: Path, owners: Iterable[int] = ()) -> RawFile:
    """Read a `.py`, `.yaml`, `.yml` or `.json` configuration. Everything wrong is a Problem.
    `owners` are trusted besides the user and root."""
    kinds = {".py": _python, ".yaml": _yaml, ".yml": _yaml, ".json": _yaml}
    read = kinds.get(path.suffix.lower())
    if read is None:
        return _wrong(path, "a configuration file ends in .py, .yaml, .yml or .json")
    try:
        with open_regular(path) as opened:
            why = distrust(path, os.fstat(opened.fileno()), owners)
            raw = b"" if why else opened.read(_BIGGEST + 1)
    except OSError as exc:
        return _wrong(path, f"cannot be read: {exc.strerror}; check the path and its permissions")
    if why:
        return _wrong(path, why)
    if len(raw) > _BIGGEST:
        return _wrong(path, "is larger than 256 KiB; is it the right file?")
    try:
        return read(path, raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _wrong(path, "is not UTF-8 text; save it as UTF-8")


def distrust(path: Path, status: os.stat_result, owners: Iterable[int]) -> Optional[str]:
    """Why the opened file is not obeyed, with the cure; None: it is. `status` is what fstat says.

    Trusted are the user, root, and `owners` (who owns our own code can do what they like). A file
    that its group may write is trusted only where the group is its owner's alone."""
    trusted: set[int] = {0, os.geteuid(), *owners}
    strangers = {status.st_uid, _owner_of_link(path, status.st_uid)} - trusted
    if strangers:
        return f"belongs to {_name(min(strangers))}, not to you or root; chown it, or move it away"
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _private(status)):
        return "may be written by others; run chmod go-w on it"
    return None


def _owner_of_link(path: Path, otherwise: int) -> int:
    with suppress(OSError):
        return os.lstat(path).st_uid
    return otherwise


def _name(user: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"


def _private(status: os.stat_result) -> bool:
    """Whether the file's group is the one that Linux makes for each user (umask 002)."""
    with suppress(KeyError):
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
        alone = set(group.gr_mem) <= {owner.pw_name}
        return owner.pw_gid == status.st_gid and group.gr_name == owner.pw_name and alone
    return False


def _wrong(path: Path, cure: str, line: int = 0) -> RawFile:
    problem = Problem(str(path), f"line {line}" if line else "", "", cure)
    return RawFile(str(path), path.parent, problems=(problem,))


def _python(path: Path, text: str) -> RawFile:
    try:
        code = compile(text, str(path), "exec")
    except SyntaxError as exc:
        return _wrong(path, f"is not valid Python: {exc.msg}", exc.lineno or 0)
    except ValueError:  # a NUL byte, before Python 3.12
        return _wrong(path, "is not valid Python: it holds a NUL byte")
    # The brief's snippets use `os` without importing it.
    space: dict[str, Any] = {"__name__": "config", "__file__": str(path), "os": os}
    try:
        _execute(code, space)
    except _RAISED as exc:
        return _wrong(path, f"stopped with {_say(exc)}", _line_in(exc, str(path)))
    public = {n: v for n, v in space.items() if not n.startswith("_")}
    names = {n: v for n, v in public.items() if n.isupper()}
    lower = tuple(n for n, v in public.items() if n not in names and _plain(v))
    problems = () if _countable(names) else (_too_much(path),)
    return RawFile(str(path), path.parent, names if not problems else {}, lower, problems)


def _execute(code: CodeType, space: dict[str, Any]) -> None:
    # The operator's own file, trusted as the scripts are; it may hold os.environ.get (the brief).
    # What it prints is no JSON line, and may be a secret that nobody knows of yet.
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        exec(code, space)  # noqa: S102
    if printed.getvalue():
        _log.warning(
            "%s prints, which is not shown: a configuration holds values alone", code.co_filename
        )


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, list, tuple, dict))


def _say(exc: BaseException) -> str:
    # The text of most exceptions quotes the value, which may be a secret.
    safe = isinstance(exc, (NameError, KeyError, ImportError))
    return f"{type(exc).__name__}: {exc}" if safe else type(exc).__name__


def _line_in(exc: BaseException, file: str) -> int:
    line, trace = 0, exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _yaml(path: Path, text: str) -> RawFile:
    from monitoring.config.yaml import YamlError, parse  # 15 ms, and most runs have no YAML

    try:
        found = parse(text)
    except YamlError as exc:
        return _wrong(path, str(exc), exc.line)
    if not _countable(found):
        return RawFile(str(path), path.parent, problems=(_too_much(path),))
    return RawFile(str(path), path.parent, {str(name): v for name, v in found.items()})


def _too_much(path: Path) -> Problem:
    return Problem(str(path), "", "", "holds too many values, or contains itself")


def _countable(value: Any) -> bool:
    return sum(1 for _ in _values(value)) <= _MOST


def _values(value: Any) -> Iterator[Any]:
    waiting, seen = [value], 0
    while waiting and seen <= _MOST:
        found = waiting.pop()
        seen += 1
        yield found
        if isinstance(found, Mapping):
            waiting.extend(found.values())
        elif isinstance(found, (list, tuple)):
            waiting.extend(found)
