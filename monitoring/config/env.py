"""Acquire: the process environment and `.env` files; the only module that touches os.environ."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Optional

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from monitoring.config.files import distrust
from monitoring.config.problems import Environment, Problem
from monitoring.config.secret import open_regular

_BIGGEST = 64 * 1024


def current() -> Mapping[str, str]:
    """A copy of the process environment, read as UTF-8 whatever the locale says."""
    return {name: _as_utf8(value) for name, value in os.environ.items()}


def _as_utf8(value: str) -> str:
    return os.fsencode(value).decode("utf-8", "replace")


def here(otherwise: Path) -> Path:
    """The working directory; `otherwise` where somebody has removed it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return otherwise


def gather(environ: Mapping[str, str], folders: tuple[Path, ...]) -> Environment:
    """`environ` with the `.env` of each folder below it (that of the scripts, then the working
    directory); the first that sets a name wins, and a name that is set in `environ`, even to
    nothing, is never replaced."""
    values: MutableMapping[str, str] = dict(environ)
    where = dict.fromkeys(environ, "environment")
    problems: list[Problem] = []
    scripts, *others = dict.fromkeys(folder / ".env" for folder in folders)
    visited = str(others[-1]) if others else ""
    refused: list[str] = []
    for file in (scripts, *others):
        found, wrong, why = _read(file, environ, owners(folders[0]) if file == scripts else ())
        problems += wrong
        refused += [f"{file} is not read: it {why}"] if why else []
        for name, value in found.items():
            # NAME set for real also answers for a NAME_FILE here, and the other way round
            if name not in values and _twin(name) not in environ:
                values[name] = value
                where[name] = str(file)
    return Environment(values, where, tuple(problems), visited, tuple(refused))


def owners(scripts: Path) -> tuple[int, ...]:
    """Who owns the folder of our own code: whoever that is can do more than write a `.env`."""
    try:
        return (scripts.stat().st_uid,)
    except OSError:
        return ()


def _twin(name: str) -> str:
    return name[: -len("_FILE")] if name.endswith("_FILE") else name + "_FILE"


_Read = tuple[Mapping[str, str], list[Problem], str]


def _read(file: Path, environ: Mapping[str, str], owners: tuple[int, ...]) -> _Read:
    """What a `.env` says, what is wrong with it, and why it is not obeyed (empty: it is)."""
    try:
        if not os.access(file.parent, os.X_OK) or not file.is_file():
            return {}, [], ""
        with open_regular(file) as opened:
            why = distrust(file, os.fstat(opened.fileno()), owners)
            raw = b"" if why else opened.read(_BIGGEST + 1)
        if why:
            return {}, [], why
        if len(raw) > _BIGGEST:
            too_large = "is larger than 64 KiB; is it the right file?"
            return {}, [Problem(str(file), "", "", too_large)], ""
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return {}, [Problem(str(file), "", "", "is not UTF-8 text; save it as UTF-8")], ""
    except OSError as exc:
        return {}, [Problem(str(file), "", "", f"cannot be read: {exc.strerror}")], ""
    return (*_parse(file, text, environ), "")


def _parse(
    file: Path, text: str, environ: Mapping[str, str]
) -> tuple[Mapping[str, str], list[Problem]]:
    bad = [b.original.line for b in parse_stream(io.StringIO(text)) if b.error]
    problems = [
        Problem(str(file), f"line {line}", "", "is not NAME=value; put the value in quotes")
        for line in bad
    ]
    if bad:
        return {}, problems
    with overlay(environ):  # ${NAME} in a value looks there
        found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value is not None}, problems


@contextlib.contextmanager
def overlay(values: Mapping[str, str]) -> Iterator[None]:
    """os.environ holds exactly `values` inside, and what it held before afterwards. For the
    moment in which config.py is executed: it may read os.environ, and must see the `.env`."""
    before = dict(os.environ)
    try:
        _replace(values)
        yield
    finally:
        _replace(before)


def _replace(values: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(values):
        del os.environ[name]
    native = {k: os.fsdecode(v.encode("utf-8", "surrogateescape")) for k, v in values.items()}
    os.environ.update(native)


def state_folder(values: Mapping[str, str]) -> Optional[Path]:
    """The XDG state folder of this program; None when not even a home folder is known."""
    base = values.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # the XDG specification has relative ones ignored
        return Path(base) / "payment-api-monitoring"
    try:
        home = Path(values["HOME"]) if values.get("HOME") else Path.home()
    except RuntimeError:
        return None
    return home / ".local" / "state" / "payment-api-monitoring"
