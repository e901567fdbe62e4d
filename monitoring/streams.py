"""Present: the standard streams, fit for what is written to them, whatever we were started with.

A closed one (`>&-`, some daemons) would be the number of the next file that is opened; an encoding
other than UTF-8 would break on the first foreign client id; a full disk or a reader that left are
the operator's business and no bug.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import Any, Callable, Optional

from monitoring.model import OperatorError
from monitoring.redact import safe_lines

_NAMES = ("stdin", "stdout", "stderr")


class StreamError(OperatorError):
    """Standard output takes nothing; the sentence names the reason and the cure."""


def prepare() -> None:
    """Open what is closed, to nowhere; pipes and files take UTF-8, and no stream takes offence at
    a character that it does not know."""
    for number, name in enumerate(_NAMES):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere(number))
        elif number and hasattr(stream, "reconfigure"):
            encoding = {} if stream.isatty() else {"encoding": "utf-8"}
            stream.reconfigure(errors="backslashreplace", **encoding)


def _nowhere(number: int) -> Any:
    """The stream on /dev/null, under the number that is free for it."""
    handle = os.open(os.devnull, os.O_RDWR)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
    return os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8")


def say(text: str, paint: Callable[[str], str] = str) -> None:
    """Write to standard output at once; nothing in it commands a terminal but what `paint` adds
    there. A reader that has gone (`| head`) is no error, the rest goes nowhere. Raises StreamError
    where it cannot be written."""
    try:
        sys.stdout.write(paint(safe_lines(text) if sys.stdout.isatty() else text))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        sentence = f"standard output cannot be written: {error.strerror}; see where it leads to"
        raise StreamError(sentence) from error


def columns() -> Optional[int]:
    """The width of the terminal that standard output is; None where it is none."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def finish() -> None:
    """Hand on what is still held back; what cannot be written has been told before."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
