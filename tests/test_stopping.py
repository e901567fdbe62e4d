"""Python prints and forgets what is raised in a finalizer: a signal that arrives there must still
end the run (CI, 2026-11-23: an exporter that SIGTERM did not end)."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.test_house import ROOT

FORGETFUL = {
    "a finalizer": """
        class Told:
            def __del__(self):
                os.kill(os.getpid(), signal.{name})
                sum(range(1000))
        Told()
        """,
    "a callback of weakref.finalize": """
        class Held: pass
        held = Held()
        weakref.finalize(held, lambda: (os.kill(os.getpid(), signal.{name}), sum(range(1000))))
        del held
        """,
    "a broad except of a library": """
        try:
            os.kill(os.getpid(), signal.{name})
            sum(range(1000))
        except BaseException:
            pass
        """,
    "a library that keeps it": """
        try:
            os.kill(os.getpid(), signal.{name})
            sum(range(1000))
        except BaseException as error:
            kept = error
        """,
}
FRAME = """
import os, signal, sys, time, weakref
from monitoring import stopping
from monitoring.output import logs
logs.setup("INFO", "json", "health_check", "test")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest may run under nohup
stopping.stop_on_signals()
try:
{told}
    while True:
        time.sleep(60)
except stopping.Stopped as stopped:
    stopping.heard()
    logs.LOGGER.info("stopped by %s", stopped)
time.sleep(0.3)  # heard: it does not ring again
logs.LOGGER.info("over")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("where", FORGETFUL)
def test_a_signal_is_not_forgotten(where: str, name: str) -> None:
    told = textwrap.indent(textwrap.dedent(FORGETFUL[where].format(name=name)), "    ")
    program = FRAME.format(told=told)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert said == [f"stopped by {name}", "over"]


def test_what_a_finalizer_raises_is_one_json_line() -> None:
    program = """
from monitoring.output import logs
logs.setup("INFO", "json", "health_check", "test")
class Broken:
    def __del__(self):
        raise ValueError("a library's own mistake")
Broken()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["error.message"] == "a library's own mistake"
