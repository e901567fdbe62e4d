from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.output import logs
from monitoring.text import register


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook, logging.raiseExceptions
    # Asked for by a test before this one and undone by pytest alone, it would not be done again.
    logging.captureWarnings(False)
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, logging.raiseExceptions = hooks


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_has_what_filebeat_reads(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", "json", "health_check", "prod")
    logs.LOGGER.warning("redis is %s", "slow", extra={"fields": {"event.kind": "alert"}})
    (line,) = lines(capsys.readouterr().err)
    assert list(line)[:3] == ["@timestamp", "log.level", "message"]
    assert (line["log.level"], line["message"]) == ("warning", "redis is slow")
    assert line["service.environment"] == "prod"
    assert line["event.kind"] == "alert"


def test_tracebacks_warnings_and_threads_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", "json", "health_check", "prod")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("an old library speaks", UserWarning, stacklevel=1)
    try:
        raise KeyError("jti")
    except KeyError:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    written = lines(capsys.readouterr().err)
    assert "an old library speaks" in written[0]["message"]
    assert written[1]["error.type"] == "KeyError"
    assert "Traceback" in written[1]["error.stack_trace"]
    assert written[2]["error.type"] == "ZeroDivisionError"


def test_no_line_holds_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    register("s3cr3t-canary")
    for wanted in ("json", "text"):
        logs.setup("DEBUG", wanted, "health_check", "prod")
        try:
            raise ValueError("password s3cr3t-canary refused")
        except ValueError:
            logs.LOGGER.exception("login with %s failed", "s3cr3t-canary")
    assert "s3cr3t-canary" not in capsys.readouterr().err


AWKWARD = 'sl\\ash"quo te\u2028'


def test_a_line_stays_json_whatever_a_secret_looks_like(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """JSON writes some secrets with backslashes, and others look like a piece of it."""
    for secret in (AWKWARD, "true", "null", "1234", '":"', ',"message":"'):
        register(secret)
    logs.setup("INFO", "json", "health_check", "prod")
    fields = {"ok": True, "none": None, "count": 12345, AWKWARD: [AWKWARD], "at": "message"}
    logs.LOGGER.info("refused %r: %s", AWKWARD, AWKWARD, extra={"fields": fields})
    text = capsys.readouterr().err
    (line,) = lines(text)
    assert (line["ok"], line["none"], line["count"], line["at"]) == (True, None, 12345, "message")
    assert line["message"] == "refused '[redacted]': [redacted]"
    assert line["[redacted]"] == ["[redacted]"]


def test_debug_does_not_make_libraries_talk() -> None:
    logs.setup("DEBUG", "json", "health_check", "prod")
    assert logging.getLogger("slack_sdk.webhook.client").getEffectiveLevel() >= logging.INFO
    assert logging.getLogger("urllib3").level >= logging.INFO
    assert logs.LOGGER.isEnabledFor(logging.DEBUG)


def test_results_go_to_standard_output_in_the_same_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.setup("INFO", "json", "health_check", "prod")
    logs.result("critical", "redis-cache critical", {"payment_api.component": "redis-cache"})
    logs.result("info", "to the log", {}, to_stdout=False)
    out = capsys.readouterr()
    (line,) = lines(out.out)
    assert line["log.level"] == "critical"
    assert line["payment_api.component"] == "redis-cache"
    assert lines(out.err)[0]["message"] == "to the log"
