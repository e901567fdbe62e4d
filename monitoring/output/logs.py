"""Present: the standard streams, and log lines as ECS JSON or as text; every one is redacted.

Each JSON line has `@timestamp`, `log.level` and `message` flat and first (the brief's Filebeat
snippet reads `message`; the filestream input expands the dotted names). Warnings of libraries,
uncaught exceptions of any thread and usage errors become lines too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, Callable, Optional, TextIO

from monitoring import __version__
from monitoring.model import OperatorError
from monitoring.text import iso, redact, redacted, safe_lines

# -- the standard streams, fit for what is written to them, whatever we were started with.
# A closed one (`>&-`, some daemons) would be the number of the next file that is opened; an
# encoding other than UTF-8 would break on the first foreign client id; a full disk or a reader that
# left are the operator's business and no bug.

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


# -- log lines, as ECS JSON for Filebeat or as text for a terminal; every one redacted.

#: Libraries that print URLs, headers or payloads below INFO (slack_sdk logs the whole webhook).
_CHATTY = ("urllib3", "requests", "slack_sdk", "pdpyras", "redis", "push_response", "asyncio")

LOGGER = logging.getLogger("monitoring")


class JsonFormatter(logging.Formatter):
    """ECS 8 lines. `extra={"fields": {...}}` adds ECS fields, dotted or nested, to a line."""

    def __init__(self, script: str, environment: str) -> None:
        super().__init__()
        self._service = {
            "service.name": "payment-api-monitoring",
            "service.version": __version__,
            "service.environment": environment,
            "event.dataset": f"payment_api.{script}",
        }

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "@timestamp": iso(record.created),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": "8.11.0",
            "log.logger": record.name,
            **self._service,
        }
        line.update(getattr(record, "fields", None) or {})
        if record.exc_info and record.exc_info[1] is not None:
            line.update(_error_fields(record.exc_info))
        return json_line(redacted(line))


class TextFormatter(logging.Formatter):
    """`12:00:01 WARNING message` for a person; the traceback only when there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return safe_lines(redact(super().format(record)))


def json_line(value: Mapping[str, Any]) -> str:
    """One line of strict JSON; what JSON does not know is written as its text. Control characters
    are escaped, also those that JSON allows: some readers take them for the end of a line, and
    terminals obey them."""
    return safe_lines(json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":")))


def _error_fields(exc_info: Any) -> dict[str, str]:
    kind, error, _ = exc_info
    return {
        "error.type": kind.__name__,
        "error.message": str(error),
        "error.stack_trace": "".join(traceback.format_exception(*exc_info)),
    }


def _drop_trace_of_library(record: logging.LogRecord) -> bool:
    """A library's remark on what a peer sent keeps its sentence only. Its traceback would read as a
    fault of ours: urllib3 logs one for each malformed header."""
    if record.name.partition(".")[0] in _CHATTY:
        record.exc_info, record.exc_text = None, None
    return True


def json_wanted(log_format: str, stream: TextIO) -> bool:
    """`auto` is text on a terminal, JSON otherwise."""
    return log_format == "json" or (log_format == "auto" and not stream.isatty())


def setup(level: str, log_format: str, script: str, environment: str) -> None:
    """Send every log line, warning and uncaught exception to standard error in one format.

    Safe to call again: once early with defaults, once when the settings are known.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = json_wanted(log_format, sys.stderr)
    handler.setFormatter(JsonFormatter(script, environment) if as_json else TextFormatter())
    handler.addFilter(_drop_trace_of_library)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a closed stderr must not print tracebacks about itself
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable


def write_to(stream: TextIO) -> None:
    """Send the log lines there from now on, in the format they have."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:  # ours, and none of what is made of it
            handler.setStream(stream)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    LOGGER.critical("uncaught %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_unraisable(args: Any) -> None:
    """What a finalizer raised. A signal that arrived in one is no error; it rings again
    (`monitoring.stopping`)."""
    if args.exc_value is not None and isinstance(args.exc_value, Exception):
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def result(level: str, message: str, fields: Mapping[str, Any], *, to_stdout: bool = True) -> None:
    """Print one result in the format of the log lines, on standard output (cron sends both
    streams to one file); `to_stdout` False: as an ordinary log line."""
    number = getattr(logging, level.upper())
    record = LOGGER.makeRecord(LOGGER.name, number, "", 0, message, (), None)
    record.__dict__["fields"] = dict(fields)
    if not to_stdout:
        LOGGER.handle(record)
        return
    formatters = [h.formatter for h in logging.getLogger().handlers if h.formatter]
    as_json = [f for f in formatters if isinstance(f, JsonFormatter)]
    formatter = as_json[0] if as_json else JsonFormatter("monitoring", "")
    say(formatter.format(record) + "\n")
