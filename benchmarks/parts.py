"""Acquire: the measurements behind `python -m benchmarks`, one function a part of the table."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import alert_day, follow, scan
from monitoring.config.settings import AlertSettings, HistorySettings
from monitoring.model import Measurement, Outcome, Source
from monitoring.output.exposition import Exporter
from monitoring.store.history import LocalHistory
from monitoring.store.state import State
from sandbox import redis_topologies
from sandbox.options import Options
from sandbox.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("health_check", "token_usage_metrics", "credential_usage_metrics")
BARE = (sys.executable, "-c", "import requests, redis")
NOW = 1_795_400_000.0
DAY, CYCLE = 86400.0, 60.0
LATE_MS = 200.0


@dataclass(frozen=True)
class Row:
    """One line of the table. `limit` is the budget; "" where none is set."""

    what: str
    measured: str
    limit: str = ""
    holds: bool = True


def census(options: argparse.Namespace) -> Iterator[Row]:
    """The scan of each encoding against the bare wire, in the same run."""
    wanted = argparse.Namespace(keys=options.keys, count=500, repeat=options.repeat)
    with tempfile.TemporaryDirectory() as folder:
        server, port = scan.start_server(scan.server_binary(None), folder)
        try:
            for encoding in scan.LIMITS:
                found = scan.compare(encoding, wanted, port)
                # some 40 ms once per scan: with few keys the ratio tells of them
                budget = f"{found['limit']:.2f}" if options.keys >= 1_000_000 else ""
                yield Row(
                    f"scan, {options.keys:,} {encoding} values / bare wire",
                    f"{found['ratio']:.2f}  ({found['census']:.2f} s / {found['bare']:.2f} s)",
                    budget,
                    found["ratio"] <= found["limit"] or not budget,
                )
                p99, peak = found["ping_p99"], found["mb"]
                yield Row(
                    f"  another client's PING meanwhile, p99 ({encoding})",
                    f"{p99:.2f} ms",
                    "5 ms",
                    p99 < 5,
                )
                yield Row(f"  memory it took ({encoding})", f"{peak:.0f} MB", "80 MB", peak < 80)
        finally:
            server.terminate()
            server.wait()


def _milliseconds(command: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=False, cwd="/")
    return (time.perf_counter() - began) * 1000.0


def _cycle(environment: dict[str, str], script: str, *words: str) -> dict[str, object]:
    path = str(ROOT / f"{script}.py")
    command = (sys.executable, path, "--single-run", "--no-alerts", "--output", "-", *words)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[0])
    return found


def single_runs(options: argparse.Namespace) -> Iterator[Row]:
    """`--single-run` of each script against a Python that imports requests and redis, by turns."""
    with tempfile.TemporaryDirectory() as state, Stack(_quiet()) as stack:
        environment = {**os.environ, **stack.environment, "MONITORING_STATE_DIR": state}
        for script in SCRIPTS:
            command = (sys.executable, str(ROOT / f"{script}.py"), "--single-run", "--no-alerts")
            bare, runs = [], []
            for _ in range(options.rounds + 1):
                bare.append(_milliseconds(BARE, environment))
                runs.append(_milliseconds(command, environment))
            start, run = statistics.median(bare[1:]), statistics.median(runs[1:])
            # the budget is set for health_check, on a stack whose components take a few ms
            limit = "250 ms" if script == "health_check" else ""
            yield Row(
                f"{script} --single-run above a bare start",
                f"{run - start:.0f} ms  ({run / start:.2f} x {start:.0f} ms)",
                limit,
                run - start <= 250 or not limit,
            )
        yield from _accuracy(stack, environment, options.rounds)


def _quiet() -> Options:
    return Options(clients=30, preload=10, traffic=False, rotating=False)


def _accuracy(stack: Stack, environment: dict[str, str], rounds: int) -> Iterator[Row]:
    """How far the response time is from one that is known."""
    stack.faults.set("sapi-slow", f"{LATE_MS:.0f}ms")
    errors: list[float] = []
    for _ in range(rounds):
        found = _cycle(environment, "health_check", "--component", "payment-sapi")
        components = found["components"]
        assert isinstance(components, dict)
        errors.append(components["payment-sapi"]["response_time_ms"] - LATE_MS)
    stack.faults.clear()
    shown = f"+{statistics.median(errors):.1f} ms  (worst +{max(errors):.1f})"
    yield Row(f"probe of a service that takes {LATE_MS:.0f} ms, off by", shown)


def _outcome(at: float, clients: int, dice: random.Random) -> Outcome:
    figures = [
        Measurement("payment_api_client_tokens_active", dice.random(), {"client_id": f"c-{n:05d}"})
        for n in range(clients)
    ]
    figures += [
        Measurement("payment_api_authentication_failures_total", 5.0, {"client_id": f"c-{n:05d}"})
        for n in range(clients)
    ]
    figures += [
        Measurement("payment_api_response_time_ms", dice.random(), {"component": name})
        for name in ("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache")
    ]
    sources = (Source("redis", ok=True, seen=clients),)
    return Outcome(
        *("health_check", "test", "1", at, 0.1),
        measurements=tuple(figures),
        sources=sources,
        top_clients=clients,  # every one of them, to see what that costs
    )


def scrapes(options: argparse.Namespace) -> Iterator[Row]:
    """How long a scrape takes while nothing else happens, and while cycles are published."""
    for clients in (500, 10_000):
        exporter = Exporter("health_check", interval=60.0, deadline=30.0)
        exporter.publish(_outcome(NOW, clients, random.Random(1)))
        server = exporter.serve("127.0.0.1", 0)
        try:
            times = sorted(_scrape(server.port) for _ in range(options.scrapes))
        finally:
            server.close()
        p99 = times[int(len(times) * 0.99)]
        limit = "20 ms" if clients == 500 else ""
        half = times[len(times) // 2]
        yield Row(
            f"scrape with {clients:,} clients, p99",
            f"{p99:.1f} ms  (median {half:.1f})",
            limit,
            p99 < 20 or not limit,
        )


def _scrape(port: int) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000.0


def growth(options: argparse.Namespace) -> Iterator[Row]:
    """The state file after days of cycles a minute apart with 50 clients."""
    sizes, dice = [], random.Random(1)
    with tempfile.TemporaryDirectory() as folder, State.open(Path(folder)) as state:
        history = LocalHistory(state, HistorySettings())
        at, took = NOW, 0.0
        for _ in range(options.days):
            for _ in range(int(DAY / CYCLE)):
                outcome = _outcome(at, 50, dice)
                began = time.perf_counter()
                history.record(outcome, CYCLE)
                history.prune(at)
                took += time.perf_counter() - began
                at += CYCLE
            sizes.append(state.size() / 1e6)
    first = sizes[0]
    each = took / (options.days * DAY / CYCLE) * 1000.0
    yield Row("state file after a day of cycles, 104 series", f"{first:.1f} MB")
    last = f"{sizes[-1]:.1f} MB  (+{sizes[-1] - sizes[-2]:.1f} on the last day)"
    yield Row(f"  after {options.days} days (thinned after two)", last)
    yield Row("  recording and pruning a cycle", f"{each:.1f} ms")


def incidents(_options: argparse.Namespace) -> Iterator[Row]:
    """Notices per incident over simulated days, shipped rules against none."""
    dice = random.Random(1)
    days = [alert_day.make_day(dice) for _ in range(3)]
    count = sum(len(day.incidents) for day in days)
    for name, rules in (("without a state", None), ("as shipped", AlertSettings())):
        told = sum(len(each) for each in alert_day.run(days, rules))
        yield Row(f"notices per incident, {name}", f"{told / count:.1f}  ({told} of {count})")


def following(options: argparse.Namespace) -> Iterator[Row]:
    """A cycle that follows the cache against a census, and forged tokens among honest ones."""
    tokens = options.keys * 3 // 10
    changes, budget = tokens // 60, f"{follow.SHARE:.3f}" if tokens >= 300_000 else ""
    with tempfile.TemporaryDirectory() as folder:
        server, port = scan.start_server(scan.server_binary(None), folder)
        try:
            cache = follow.Cache(port, "events")
            cache.fill(tokens)
            made = follow.compare(cache, changes, options.repeat)
        finally:
            server.terminate()
            server.wait()
        for name, cycle, census in made.shares():
            whose = "our CPU" if name == "ours" else "the server's CPU"
            yield Row(
                f"follow, {tokens:,} tokens, {changes:,} changes: {whose}, a cycle / a census",
                f"{cycle / census:.3f}  ({cycle:.3f} s / {census:.3f} s)",
                budget,
                cycle / census <= follow.SHARE or not budget,
            )
        differing = "; ".join(made.wrong) or "none"
        yield Row("  figures that a census has otherwise", differing, "none", not made.wrong)
        honest = max(12_000, options.keys // 100)  # fewer leave nothing to evict
        with redis_topologies.start_sentinel(Path(folder)) as watched:
            found, false, standing = follow.forgeries(watched, "events", honest)
    yield Row(
        f"  {follow.FORGED} forged tokens among {honest:,} honest ones, {standing.gaps} gaps",
        f"{found} found, {false} honest accused",
        "all, 0",
        found == follow.FORGED and not false,
    )


def detection(options: argparse.Namespace) -> Iterator[Row]:
    """The anomaly detector on worlds that somebody else makes; only where they are."""
    if options.credbench is None:
        return
    path = str(ROOT / "benchmarks" / "detection.py")
    command = (sys.executable, path, "--credbench", str(options.credbench), "--seeds", "51-53")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    for line in (done.stdout or done.stderr).splitlines():
        yield Row(line.strip(), "")


PARTS = {
    "scan": census,
    "start": single_runs,
    "scrape": scrapes,
    "state": growth,
    "alerts": incidents,
    "follow": following,
    "detection": detection,
}
