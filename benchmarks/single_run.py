"""Acquire: what one run of health_check.py costs beside the slowest component of a healthy stack.

    python -m benchmarks.single_run [--rounds 9]

Two comparisons, medians of alternating rounds on the machine at hand. "start" is a bare Python that
imports requests and redis, which nothing can undercut; "run" is `health_check.py --single-run`.
The budget is 250 ms from the one to the other plus the slowest component.
Then the same run with SAPI answering 200 ms late: how far `response_time_ms` is from that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.options import Options
from sandbox.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
BARE = (sys.executable, "-c", "import requests, redis")
RUN = (
    sys.executable,
    str(ROOT / "health_check.py"),
    "--single-run",
    "--no-alerts",
    "--output",
    "-",
)
LATE_MS = 200.0


def timed(command: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Milliseconds from start to end, and what was printed."""
    started = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    return (time.perf_counter() - started) * 1000.0, done.stdout


def components(printed: str) -> dict[str, Any]:
    document = json.loads(printed.splitlines()[0])
    found: dict[str, Any] = document["components"]
    return found


def rounds(stack: Stack, number: int, state: str) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of the bare starts, of the runs, and of the slowest component in each run."""
    environment = {**os.environ, **stack.environment, "MONITORING_STATE_DIR": state}
    starts, runs, slowest = [], [], []
    for _ in range(number + 1):
        starts.append(timed(BARE, environment)[0])
        took, printed = timed(RUN, environment)
        runs.append(took)
        slowest.append(max(c["response_time_ms"] for c in components(printed).values()))
    return starts[1:], runs[1:], slowest[1:]  # the first one fills the caches


def errors(stack: Stack, number: int, state: str) -> list[float]:
    """Measured minus true response time of a SAPI that answers late, in milliseconds."""
    environment = {**os.environ, **stack.environment, "MONITORING_STATE_DIR": state}
    stack.faults.set("sapi-slow", f"{LATE_MS:g}ms")
    printed = [timed((*RUN, "--component", "payment-sapi"), environment)[1] for _ in range(number)]
    return [components(p)["payment-sapi"]["response_time_ms"] - LATE_MS for p in printed]


def main() -> int:
    """0 when the budget is kept, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    number = parser.parse_args().rounds
    with Stack(Options(traffic=False)) as stack, tempfile.TemporaryDirectory() as state:
        starts, runs, slowest = rounds(stack, number, f"{state}/state")
        late = errors(stack, number, f"{state}/state")
    bare, run, slow = (statistics.median(each) for each in (starts, runs, slowest))
    over = run - bare - slow
    print(f"start with requests and redis   {bare:7.1f} ms")
    print(f"health_check.py --single-run    {run:7.1f} ms   ratio {run / bare:.2f}")
    print(f"slowest component               {slow:7.1f} ms")
    print(f"ours on top                     {over:7.1f} ms   budget 250 ms")
    print(f"error of response_time_ms       {statistics.median(late):7.1f} ms   at {LATE_MS:g} ms")
    return 0 if over <= 250.0 else 1


if __name__ == "__main__":
    sys.exit(main())
