from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from monitoring.model import Outcome, Severity, Source
from monitoring.run import CycleStep, Runner
from monitoring.store.state import StateLocked
from tests.scripts import ROOT

OUTCOME = Outcome("health_check", "test", "1", 100.0, 0.0, sources=(Source("redis", ok=True),))


class Ticks:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def runner(cycle: Any, *steps: CycleStep, **more: Any) -> Runner:
    return Runner("health_check", "test", cycle, steps, clock=lambda: 100.0, **more)


def test_steps_run_in_order_and_may_enrich_the_outcome() -> None:
    seen: list[str] = []

    def enrich(outcome: Outcome) -> Outcome:
        seen.append("enrich")
        return replace(outcome, notes={"more": 1})

    def look(outcome: Outcome) -> None:
        seen.append(f"look {outcome.notes['more']}")

    done = runner(lambda _now: OUTCOME, CycleStep("enrich", enrich), CycleStep("look", look)).once()
    assert seen == ["enrich", "look 1"]
    assert done.status is Severity.OK


def test_a_step_that_fails_is_marked_and_does_not_stop_the_next() -> None:
    shown: list[Outcome] = []

    def breaks(_outcome: Outcome) -> None:
        raise OSError("disk full")

    done = runner(
        lambda _now: OUTCOME, CycleStep("record", breaks), CycleStep("show", shown.append)
    ).once()
    assert [s.name for s in shown[0].sources] == ["redis", "monitor:record"]
    assert "disk full" in done.sources[-1].why
    assert done.status is Severity.WARNING


def test_a_cycle_that_fails_is_an_outcome_that_cannot_tell() -> None:
    def crash(_now: float) -> Outcome:
        raise ValueError("our own bug")

    done = runner(crash).once()
    assert done.status is Severity.UNKNOWN
    assert done.exit_status == 3
    assert "our own bug" in done.sources[0].why


def test_the_interval_is_kept_without_drift_and_missed_ticks_are_skipped() -> None:
    ticks, starts, waits = Ticks(), [], []
    took = iter([1.0, 2.5, 25.0, 1.0])  # the third cycle overruns two ticks

    def cycle(_now: float) -> Outcome:
        starts.append(ticks.now)
        try:
            ticks.now += next(took)
        except StopIteration:
            made.stop()
        return OUTCOME

    made = runner(cycle, ticks=ticks)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        ticks.now += seconds

    made._stop.wait = wait  # type: ignore[method-assign, assignment]
    made.loop(10.0)
    assert starts == [0.0, 10.0, 20.0, 50.0, 60.0]
    assert all(seconds >= 0 for seconds in waits)


def test_a_locked_state_file_is_said_once_and_skipped_in_a_loop(caplog: Any) -> None:
    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        made.stop()
        raise StateLocked("health_check is already running (pid 7)")
        yield

    made = runner(lambda _now: OUTCOME, exclusive=locked)
    with pytest.raises(StateLocked):
        made.once()
    made = runner(lambda _now: OUTCOME, exclusive=locked)
    made.loop(1.0)
    assert "pid 7" in caplog.text


def test_what_comes_before_a_cycle_runs_before_it() -> None:
    order: list[str] = []
    made = runner(
        lambda _now: order.append("cycle") or OUTCOME, before=[lambda: order.append("heartbeat")]
    )
    made.once()
    assert order == ["heartbeat", "cycle"]


_HEAVY = """
import random, re, threading
from monitoring.model import Outcome
from monitoring.run import Runner

def weigh():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

def read(kept):
    rows = [b"x" * random.choice((60, 900, 3000, 30000)) for _ in range(4000)]
    kept.append([row.decode() for row in rows][::400])

kept, began = [], []
def cycle(now):
    began.append(weigh())
    threads = [threading.Thread(target=read, args=(kept,)) for _ in range(5)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    kept[:-5] = []
    if len(began) == 5:
        runner.stop()
    return Outcome("health_check", "test", "1", now, 0.0)

runner = Runner("health_check", "test", cycle, [])
runner.loop(0.01)
places = [line.split() for line in open("/proc/self/maps")]
bare = [int(row[0].split("-")[0], 16) for row in places if row[1] == "rw-p" and len(row) == 5]
print(began[0], weigh(), sum(start % (64 << 20) == 0 for start in bare))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc and /proc")
def test_what_a_cycle_has_freed_goes_back_to_the_system() -> None:
    """Large answers, read by threads that come and go, once stayed for ever: 100 MB and more."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAVY], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after, heaps = map(int, done.stdout.split())
    assert after < before + 40, (before, after)
    assert heaps <= 1, "what is kept lies in one heap, and not strewn over those of all threads"
