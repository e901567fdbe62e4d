"""Present: where the result of a cycle is written (`--output FILE`)."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Callable, Mapping

from monitoring import logs, report, streams
from monitoring.model import OperatorError, Outcome
from monitoring.redact import redacted


class OutputError(OperatorError):
    """The result could not be written; the message names the file, the reason and the cure."""


def _json_text(outcome: Outcome) -> str:
    return logs.json_line(redacted(report.as_json(outcome))) + "\n"


def _csv_text(outcome: Outcome) -> str:
    header, rows = report.table(outcome)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(redacted([header, *rows]))
    return text.getvalue()


def _prom_text(outcome: Outcome) -> str:
    from monitoring import exposition  # 0.1 s of import that only this ending pays

    return exposition.render(outcome).decode()


_PAGE = ".html"  # of more than the outcome: see monitoring.pages.status
#: suffix -> how the whole file reads after a cycle
WRITERS: Mapping[str, Callable[[Outcome], str]] = {
    ".json": _json_text,
    ".csv": _csv_text,
    ".prom": _prom_text,
}
SUFFIXES = (*WRITERS, _PAGE, ".jsonl")


def check_target(target: str) -> str:
    """`target` if a cycle can be written there, as far as can be seen: what lies behind a folder
    that we may not enter is seen when it is written, after measuring. Raises ValueError saying
    what to change."""
    if target == "-":
        return target
    path = Path(target)
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{target!r} has no known ending: use one of {' '.join(SUFFIXES)}, "
            "or - for standard output"
        )
    with suppress(PermissionError):
        if not path.parent.is_dir():
            raise ValueError(f"the folder {str(path.parent)!r} does not exist: create it first")
        if path.is_dir():
            raise ValueError(f"{target!r} is a folder: name a file")
    return target


def write(target: str, outcome: Outcome, page: str = "") -> None:
    """Write one cycle to `target`: `-` prints a JSON line, `.jsonl` appends one, any other ending
    replaces the file atomically. `page` is what a file of HTML says. Raises OutputError."""
    if target == "-":
        streams.say(_json_text(outcome))
        return
    path = Path(target)
    try:
        if path.suffix == ".jsonl":
            _append(path, _json_text(outcome))
        else:
            replace(path, page if path.suffix == _PAGE else WRITERS[path.suffix](outcome))
    except OSError as error:
        raise OutputError(
            f"cannot write --output {target}: {error.strerror}; check the folder and its space"
        ) from error


def _append(path: Path, line: str) -> None:
    """One write call, so that lines of two processes do not mix; a second one only where a disk
    that fills up took a part, which then says why."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    rest = line.encode()
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` so that a reader sees the old file or the new one, never a part.
    The mode follows the umask: other programs must read results."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with ExitStack() as on_failure:
        on_failure.callback(os.unlink, temporary)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        on_failure.pop_all()


def _umask() -> int:
    """The process's umask; reading it means setting it for a moment."""
    current = os.umask(0o022)
    os.umask(current)
    return current
