"""The three scripts run many times without starting Python many times: one process imports them
and forks a child for each run, which is measured by the kernel.

As a program: reads a JSON line per run (script, words, env, cwd, out, err, patience) and answers
with one (status, seconds, rss); status None: it did not end and was killed. `until`: a file and a
number; once it has so many lines, the run is a loop that is asked to end. `tricks`: what is done to
the process before (tests/faults/launch.py).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from tests import scripts
from tests.faults.launch import TRICKS

#: What a run imports on the way; a child that had to would be slow, not different.
_WARM = (
    *("slack_sdk.webhook", "pdpyras", "smtplib", "redis", "monitoring.redis.client"),
    *(
        "monitoring.conjur.client",
        "monitoring.http.client",
        "monitoring.alerts.notifier",
        "monitoring.output.exposition",
    ),
)


class Nursery:
    """`with Nursery() as nursery: nursery.run(...)`."""

    def __enter__(self) -> Nursery:  # noqa: PYI034 - Self needs 3.11
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.fuzzing.nursery"],
            cwd=scripts.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)  # closes the pipes, which ends it, and waits

    def run(
        self,
        script: str,
        words: list[str],
        env: Mapping[str, str],
        folder: Path,
        *,
        patience: float,
        until: Optional[tuple[str, int]] = None,
        tricks: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """The run, with `out` and `err` as texts."""
        job = {"script": script, "words": words, "env": dict(env), "cwd": str(folder)}
        job.update({"out": str(folder / "out"), "err": str(folder / "err"), "patience": patience})
        job.update({"until": until, "tricks": dict(tricks)})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        done = json.loads(self._process.stdout.readline())
        for name in ("out", "err"):
            done[name] = (folder / name).read_text(errors="replace")
        return done


def child(job: Mapping[str, Any]) -> None:
    """Become the script."""
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    sys.argv = [f"{job['script']}.py", *job["words"]]
    for trick, value in job["tricks"].items():
        TRICKS[trick](value)
    module, utils = importlib.import_module(job["script"]), importlib.import_module("utils")
    utils.leave(module.main(job["words"]))


def _lines(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if os.path.exists(path) else 0


def reaped(pid: int, patience: float, until: Optional[tuple[str, int]]) -> dict[str, Any]:
    """Wait for the child, but not for ever."""
    began = time.monotonic()
    while True:
        if until is not None and _lines(until[0]) >= until[1]:
            os.kill(pid, signal.SIGTERM)
            until = None
        found, status, usage = os.wait4(pid, os.WNOHANG)
        spent = time.monotonic() - began
        if found:
            code: Optional[int] = os.waitstatus_to_exitcode(status)
            return {"status": code, "seconds": spent, "rss": usage.ru_maxrss}
        if spent > patience:
            os.kill(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
            return {"status": None, "seconds": spent, "rss": usage.ru_maxrss}
        time.sleep(0.01)


def main() -> None:
    for name in (*scripts.SCRIPTS, *_WARM):
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(job)
        print(json.dumps(reaped(pid, job["patience"], job["until"])), flush=True)


if __name__ == "__main__":
    main()
