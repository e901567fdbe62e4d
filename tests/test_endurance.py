"""Years, played fast: a month of cycles through the real steps and state file, and the three
scripts in a loop under changing faults. Nothing may grow, leak or drift.

ENDURANCE_SECONDS makes the real loop longer (default 20), SOAK_CYCLES the one among hostile peers
(`make soak`: 3,000).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from monitoring.alerts.notifier import Notifier
from monitoring.components import COMPONENTS
from monitoring.config.settings import AlertSettings, HistorySettings
from monitoring.model import Finding, Measurement, Outcome, Severity
from monitoring.run import Pipeline, Runner
from monitoring.store.history import LocalHistory
from monitoring.store.state import State
from sandbox.options import Options
from sandbox.stack import Stack
from tests.alerting_kit import CRITICAL, OK, T0, Clock, component, settings
from tests.faults.ground import Ground
from tests.fuzzing.peers import HostileHttp, HostilePeer, HostileRedis, HostileSmtp, Spoiled
from tests.scripts import SCRIPTS, check_lines

HOUR, DAY = 3600.0, 86400.0
STEP = 1200.0  # a cycle every twenty minutes
KEPT = HistorySettings(raw_for=12 * HOUR, fine_for=3 * DAY, retention=10 * DAY)


class Month:
    """Outcomes of a restless installation: an outage a day, a stranger with a finding an hour."""

    def __init__(self) -> None:
        self._dice = random.Random(3)

    def __call__(self, now: float) -> Outcome:
        cycle = int((now - T0) / STEP)
        down = cycle % 72 in (10, 11, 12, 13)
        components = [component(CRITICAL if down else OK, name="redis-cache")]
        components += [component(OK, name=name) for name in COMPONENTS[:3]]
        figures = [
            Measurement(
                "payment_api_response_time_ms", self._dice.uniform(1, 9), {"component": c.name}
            )
            for c in components
        ]
        figures += [
            Measurement("payment_api_client_tokens_active", 5.0, {"client_id": f"client-{n:03d}"})
            for n in range(40)
        ]
        stranger = f"stranger-{cycle // 3}"
        sentence = f"{stranger} was refused 40 times"
        finding = Finding("failure_burst", Severity.WARNING, sentence, "payment-eapi", stranger)
        return Outcome(
            "health_check",
            "test",
            "1",
            now,
            0.1,
            components=tuple(components),
            measurements=tuple(figures),
            findings=(finding,),
        )


@dataclass(frozen=True)
class Size:
    """What the state file holds after a day."""

    bytes: int
    rows: dict[str, int]


def _size(state: State) -> Size:
    tables = ("kv", "series", "samples", "cycles", "alert_states", "notices", "alert_told")
    return Size(
        state.size(), {t: int(state.read(f"SELECT count(*) FROM {t}")[0][0]) for t in tables}
    )


def test_a_month_leaves_a_state_file_of_the_same_size(tmp_path: Path) -> None:
    clock = Clock(T0)
    patient = AlertSettings(failure_threshold=2, recovery_threshold=2)
    chosen = settings(tmp_path, {"log": {}}, alerts=patient)
    with State.open(tmp_path / "state") as state:
        pipeline = Pipeline(
            interval=STEP,
            history=LocalHistory(state, KEPT),
            notifier=Notifier(chosen, state, clock),
            log_format="json",
        )
        steps = [step for step in pipeline.steps() if step.name in ("record", "tell")]
        runner = Runner("health_check", "test", Month(), steps, clock=clock, ticks=clock)
        days = [_a_day(runner, clock, state) for _ in range(30)]
    middle, end = days[14], days[29]
    assert end.bytes <= middle.bytes * 1.15, (middle, end)
    for table, rows in end.rows.items():
        assert rows <= middle.rows[table] * 1.1 + 5, f"{table} grows: {middle.rows} -> {end.rows}"
    assert end.rows["samples"] > 1000, "there is a history"
    assert end.rows["notices"] > 0, "somebody was told"


def _a_day(runner: Runner, clock: Clock, state: State) -> Size:
    for _ in range(int(DAY / STEP)):
        runner.once()
        clock.at += STEP
    return _size(state)


# -- the real loop


FAULTS = (
    *("eapi-down", "sapi-hang", "redis-hang", "conjur-500", "eapi-garbage", "redis-noauth"),
    *("slack-500", "smtp-refuse", "conjur-unauthorized", "sapi-drip", "redis-readonly"),
)
INTERVAL = 0.5


@dataclass(frozen=True)
class Weight:
    """What a process weighs."""

    rss: int  # kB
    files: int
    threads: int


def _weigh(pid: int) -> Weight:
    status = Path(f"/proc/{pid}/status").read_text()
    values = {k: int(v) for k, v in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M)}
    return Weight(values["VmRSS"], len(os.listdir(f"/proc/{pid}/fd")), values["Threads"])


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=8, preload=5, redis_patience=0.05)) as running:
        yield running


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("endurance")
def test_a_loop_under_faults_stays_as_it_is(stack: Stack, tmp_path: Path) -> None:
    seconds = float(os.environ.get("ENDURANCE_SECONDS", "20"))
    ground = Ground(stack, tmp_path)
    brief = dict.fromkeys(("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache"), "0.3s")
    ground.setting("TIMEOUTS", {**brief, "redis-scan": "0.3s"})
    ground.setting("ALERTS", {"send_budget": "0.3s"})
    running = {script: _start(ground, script) for script in SCRIPTS}
    weights: dict[str, list[Weight]] = {script: [] for script in SCRIPTS}
    _live_through(stack, seconds, running, weights)
    for script, process in running.items():
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, script
        _steady(script, weights[script])
        _on_time(script, _cycles(tmp_path / f"{script}.jsonl"), seconds)
        check_lines((tmp_path / f"{script}.log").read_text())


def _start(ground: Ground, script: str, *, interval: float = INTERVAL) -> subprocess.Popen[str]:
    target = str(ground.folder / f"{script}.jsonl")
    with (ground.folder / f"{script}.log").open("w") as log:
        words = ("--interval", str(interval), "--output", target)
        process = ground.start(script, *words, stdout=log, stderr=subprocess.STDOUT)
    until = time.monotonic() + 30
    while not Path(target).exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    return process


def _live_through(
    stack: Stack,
    seconds: float,
    running: dict[str, subprocess.Popen[str]],
    weights: dict[str, list[Weight]],
) -> None:
    """Faults come and go; every process is weighed four times a second."""
    dice, until, turn = random.Random(7), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        if turn % 6 == 0:
            stack.faults.clear()
            for fault in dice.sample(FAULTS, turn // 6 % 3):
                stack.faults.set(fault)
        for script, process in running.items():
            assert process.poll() is None, f"{script} ended"
            weights[script].append(_weigh(process.pid))
        turn += 1
        time.sleep(0.25)
    stack.faults.clear()


def _thirds(values: list[int]) -> tuple[float, float]:
    """The medians of the second and of the last third: the first is for warming up."""
    third = len(values) // 3
    return statistics.median(values[third : 2 * third]), statistics.median(values[2 * third :])


def _steady(script: str, weights: list[Weight], *, by: float = 1.10) -> None:
    assert len(weights) > 20, "it was hardly watched"
    before, after = _thirds([w.rss for w in weights])
    assert after < before * by + 2000, f"{script} grew from {before} to {after} kB"
    for name in ("files", "threads"):
        before, after = _thirds([getattr(w, name) for w in weights])
        assert after <= before + 6, f"{script}: {name} went from {before} to {after}"
    assert max(w.threads for w in weights) < 40, f"{script}: threads pile up"
    assert max(w.files for w in weights) < 80, f"{script}: open files pile up"


def _cycles(path: Path) -> list[float]:
    from monitoring.text import parse_iso

    return [parse_iso(json.loads(line)["timestamp"]) for line in path.read_text().splitlines()]


def _on_time(script: str, at: list[float], seconds: float) -> None:
    """Cycles stand on the grid of the first one: a late one does not make the next one late."""
    assert len(at) >= 3, f"{script} made {len(at)} cycles in {seconds:g} s"
    off = [((moment - at[0] + INTERVAL / 2) % INTERVAL) - INTERVAL / 2 for moment in at[1:]]
    third = max(1, len(off) // 3)
    drift = statistics.median(off[-third:]) - statistics.median(off[:third])
    assert abs(drift) < INTERVAL / 4, f"{script} drifted by {drift:.3f} s: {off}"


# -- a loop among peers of which nobody knows what they will say

SOAK_CYCLES = int(os.environ.get("SOAK_CYCLES", "15"))
PER_CYCLE = 20.0  # seconds that a cycle may take on the busiest machine
#: The setting that leads to a peer -> what stands in between.
BETWEEN: Mapping[str, type[HostilePeer]] = {
    "REDIS_PORT": HostileRedis,
    **dict.fromkeys(("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL"), HostileHttp),
    **dict.fromkeys(("ROTATION_ENDPOINT", "SLACK_WEBHOOK_URL", "ALERTMANAGER_URL"), HostileHttp),
    "SMTP_PORT": HostileSmtp,
}


class _Forgotten(dict[str, Spoiled]):
    """What was said in thousands of cycles is not kept."""

    def __setitem__(self, place: str, said: Spoiled) -> None:
        """Nothing."""


@contextlib.contextmanager
def _among_hostile_peers(ground: Ground) -> Iterator[None]:
    """A quarter of all answers is spoiled, each time otherwise; none hangs, so that time passes
    with cycles and not with waiting."""
    with contextlib.ExitStack() as proxies:
        for name, kind in BETWEEN.items():
            usual = ground.env[name]
            target = int(usual) if usual.isdigit() else int(urlsplit(usual).port or 0)
            proxy = kind(target, f"soak:{name}", ["nothing"])
            proxy._share, proxy._way, proxy._mood = 0.25, "cut", "changing"
            proxy.spoiled = _Forgotten()
            proxies.enter_context(proxy)
            ground.env[name] = usual.replace(str(target), str(proxy.port))
        yield


@pytest.mark.timeout(6 * 3600)
@pytest.mark.xdist_group("endurance")
def test_a_soak_among_hostile_peers_is_flat(stack: Stack, tmp_path: Path) -> None:
    """Memory, threads, open files and the state file, of each script, over so many cycles."""
    stack.faults.clear()
    ground = Ground(stack, tmp_path)
    brief = dict.fromkeys(("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache"), "1s")
    ground.setting("TIMEOUTS", {**brief, "redis-scan": "1s"})
    ground.setting("ALERTS", {"send_budget": "1s"})
    with _among_hostile_peers(ground), contextlib.ExitStack() as ends:
        running = {script: _start(ground, script, interval=0.01) for script in SCRIPTS}
        for process in running.values():
            ends.callback(process.kill)
        weights = _soaked(ground, running)
        for script, process in running.items():
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, script
            log = (tmp_path / f"{script}.log").read_text()
            assert "Traceback" not in log, script
    assert (tmp_path / "state" / "state.sqlite3").stat().st_size < 64 << 20
    for script, seen in weights.items():
        rss = [w.rss // 1024 for w in seen]
        print(f"{script}: MB at each tenth {rss[:: max(1, len(rss) // 10)]}, most {max(rss)}")
        assert max(rss) < 150, f"{script} took {max(rss)} MB"
        if SOAK_CYCLES >= 200:  # Python's heap has its size after some 300 cycles
            _steady(script, seen, by=1.04 if SOAK_CYCLES >= 1000 else 1.10)


def _soaked(
    ground: Ground, running: Mapping[str, subprocess.Popen[str]]
) -> dict[str, list[Weight]]:
    """What each weighed as its cycles went by, until every script has made its number."""
    weights: dict[str, list[Weight]] = {script: [] for script in running}
    done, until = dict.fromkeys(running, 0), time.monotonic() + PER_CYCLE * SOAK_CYCLES
    read = dict.fromkeys(running, 0)
    while min(done.values()) < SOAK_CYCLES:
        assert time.monotonic() < until, f"these cycles only: {done}"
        for script, process in running.items():
            assert process.poll() is None, f"{script} ended: {done}"
            more = _more(ground.folder / f"{script}.jsonl", read[script])
            read[script] += len(more)
            done[script] += more.count(b"\n")
            weights[script].append(_weigh(process.pid))
        time.sleep(0.2)
    print(f"cycles: {done}")
    return weights


def _more(path: Path, start: int) -> bytes:
    """What stands in the file behind its first `start` bytes; nothing when it is not there yet."""
    if not path.exists():
        return b""
    with path.open("rb") as handle:
        handle.seek(start)
        return handle.read()
