"""What one script's port shows of the others: fresh, stale, gone, damaged, of elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring.model import Measurement, Outcome
from monitoring.output import figures
from monitoring.output.exposition import Exporter
from monitoring.store.state import State
from sandbox.options import Options
from sandbox.stack import Stack
from tests.scripts import SCRIPTS, run, start

NOW, RATE = 1.7e9, "payment_api_token_generation_rate"
STALE = "payment_api_figures_stale"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path) as opened:
        yield opened


def outcome(script: str, at: float = NOW, environment: str = "test") -> Outcome:
    return Outcome(script, environment, "1.0.0", at, 0.0)


def _tokens() -> Outcome:
    return replace(outcome("token_usage_metrics"), measurements=(Measurement(RATE, 4.0),))


@pytest.mark.parametrize(
    ("later", "there", "stale"),
    [(0, True, 0.0), (600, True, 0.0), (601, True, 1.0), (1200, True, 1.0), (1201, False, None)],
)
def test_news_gets_old(state: State, later: float, there: bool, stale: Any) -> None:
    figures.keep(state, _tokens(), 300)
    found = figures.of_others(state, outcome("health_check", NOW + later))
    assert (found.get(RATE) == {(): 4.0}) is there
    assert found.get(STALE, {}).get(("token_usage_metrics",)) == stale


def test_what_is_scraped_from_its_own_port_is_not_served_twice(state: State) -> None:
    figures.keep(state, _tokens(), 300, scraped=True)
    assert figures.of_others(state, outcome("health_check")) == {}
    figures.keep(state, _tokens(), 300, scraped=False)
    assert figures.of_others(state, outcome("health_check"))[RATE] == {(): 4.0}


def test_a_scrape_is_told_from_a_look() -> None:
    now = [0.0]
    exporter = Exporter("health_check", interval=60, deadline=30, ticks=lambda: now[0])
    now[0] = 121.0
    exporter.answer("/metrics", {"Accept": "text/html"})
    assert not exporter.scraped
    exporter.answer("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "5"})
    assert exporter.scraped
    now[0] = 421.0
    assert exporter.scraped, "a scrape in five minutes is a slow one"
    now[0] = 422.0
    assert not exporter.scraped, "nobody has come for three cycles"


def test_the_first_cycle_of_an_exporter_comes_before_its_first_scrape() -> None:
    now = [0.0]
    exporter = Exporter("token_usage_metrics", interval=300, ticks=lambda: now[0])
    now[0] = 1.0
    assert exporter.scraped, "else health_check serves its figures for a whole interval, too"
    now[0] = 121.0
    assert not exporter.scraped, "its port is there and nobody reads it"


def test_ones_own_and_another_environments_are_not_shown(state: State) -> None:
    figures.keep(state, _tokens(), 300)
    assert figures.of_others(state, outcome("token_usage_metrics")) == {}
    assert figures.of_others(state, outcome("health_check", environment="prod")) == {}


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"rows":3}', "\udcff", "[" * 9999])
def test_a_row_that_cannot_be_read_costs_nothing_else(state: State, value: str) -> None:
    figures.keep(state, _tokens(), 300)
    state.put("figures", "credential_usage_metrics", value.encode("utf-8", "replace").decode())
    assert figures.of_others(state, outcome("health_check"))[RATE] == {(): 4.0}


def test_what_this_version_does_not_know_is_left_out(state: State) -> None:
    rows = [["payment_api_of_tomorrow", [], 1.0], [RATE, ["more"], 1.0], [RATE, [], 2.0]]
    kept = {"environment": "test", "at": NOW, "interval": 300, "rows": rows}
    state.put("figures", "token_usage_metrics", json.dumps(kept))
    found = figures.of_others(state, outcome("health_check"))
    assert set(found) == {RATE, STALE}
    assert found[RATE] == {(): 2.0}


def page_after_the_others(env: Mapping[str, str], folder: Path) -> str:
    """What health_check serves after its first cycle, the other two having run just before."""
    env = {**env, "MONITORING_STATE_DIR": str(folder / "state")}
    for script in SCRIPTS[1:]:
        assert run(script, "--single-run", "--no-alerts", env=env, cwd=folder).returncode < 3
    words = ("--prometheus-port", "0", "--prometheus-address", "127.0.0.1", "--interval", "1h")
    process = start("health_check", *words, env=env, cwd=folder, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        said = (str(json.loads(text)["message"]) for text in process.stdout)
        url = next(text.split()[-1] for text in said if text.startswith("serving metrics on "))
        until = time.monotonic() + 30
        while (page := urllib.request.urlopen(url).read().decode()).count("health_status") < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        return page
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_one_port_serves_what_all_three_found(tmp_path: Path) -> None:
    """The five names of the brief on health_check's port; each series once, with its script."""
    with Stack(Options(clients=4, preload=10, traffic=False)) as stack:
        page = page_after_the_others(stack.environment, tmp_path)
    for name in (
        *("health_status", "response_time_ms", "authentication_failures_total"),
        *("token_generation_rate", "token_validation_failures_total"),
    ):
        assert f"\npayment_api_{name}" in page, name
    for script in SCRIPTS:
        assert f'payment_api_last_cycle_timestamp_seconds{{script="{script}"}}' in page
    assert 'payment_api_figures_stale{script="token_usage_metrics"} 0.0' in page
    series = [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
