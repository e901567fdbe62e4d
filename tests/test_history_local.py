"""Samples in the state file: gaps stay gaps, thinning loses nothing that a mean needs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from monitoring.config.settings import HistorySettings
from monitoring.model import Component, Measurement, Outcome, Severity
from monitoring.store.history import LocalHistory, Recorded
from monitoring.store.lookback import Series
from monitoring.store.state import State

HEALTH = "payment_api_health_status"
RATE = "payment_api_client_token_generation_rate"
AGE = "payment_api_credential_age_seconds"
DAY = 86400.0
START = 20000 * DAY  # a midnight in 2024
SETTINGS = HistorySettings()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    kept = State.open(tmp_path)
    yield kept
    kept.close()


@pytest.fixture
def history(state: State) -> LocalHistory:
    return LocalHistory(state, SETTINGS)


def outcome(at: float, *measurements: Measurement, script: str = "health_check") -> Outcome:
    return Outcome(
        script,
        "test",
        "1.0.0",
        at,
        0.25,
        components=(Component("redis-cache", Severity.OK, True),),
        measurements=measurements,
    )


def up(value: Optional[float], component: str = "redis-cache") -> Measurement:
    return Measurement(HEALTH, value, {"component": component})


def rate(client: str, value: float) -> Measurement:
    return Measurement(RATE, value, {"client_id": client})


def only(found: list[Series]) -> Series:
    (series,) = found
    return series


def covered(series: Series) -> float:
    return sum(point.seconds for point in series.points)


def mean(series: Series) -> float:
    return sum(point.mean * point.seconds for point in series.points) / covered(series)


# -- recording


def test_what_is_recorded_is_read_back(history: LocalHistory) -> None:
    done = history.record(outcome(START, up(1.0), up(0.0, "conjur-vault")), 60)
    assert done == Recorded(stored=2, unknown=0, refused=0)
    history.record(outcome(START + 60, up(0.0)), 60)
    series = only(history.series(HEALTH, {"component": "redis-cache"}, START - 60, START + 60))
    assert series.labels == {"component": "redis-cache"}
    assert [tuple(point) for point in series.points] == [
        (START, 60.0, 1.0, 1.0, 1.0, 1),
        (START + 60, 60.0, 0.0, 0.0, 0.0, 1),
    ]
    found = history.series(HEALTH, {}, START - 60, START + 60)
    assert [s.labels["component"] for s in found] == ["conjur-vault", "redis-cache"]
    assert history.series("payment_api_up", {}, 0, math.inf) == []
    assert history.series(HEALTH, {"component": "nobody"}, 0, math.inf) == []


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_unknown_is_a_gap_and_never_a_zero(history: LocalHistory, value: Optional[float]) -> None:
    for turn, shown in enumerate([1.0, value, value, 1.0]):
        done = history.record(outcome(START + 60 * turn, up(shown)), 60)
        assert (done.stored, done.unknown) == ((1, 0) if shown == 1.0 else (0, 1))
    series = only(history.series(HEALTH, {}, START - 60, START + 180))
    assert [point.at for point in series.points] == [START, START + 180]
    assert covered(series) == 120  # of 240 watched
    assert mean(series) == 1.0


def test_window_edges(history: LocalHistory) -> None:
    for turn in range(5):
        history.record(outcome(START + 300 * turn, up(1.0)), 300)
    points = only(history.series(HEALTH, {}, START + 300, START + 900)).points
    assert [p.at - START for p in points] == [600, 900]
    points = only(history.series(HEALTH, {}, START + 400, START + 899)).points
    assert [(p.at - START, p.seconds) for p in points] == [(600, 200)]  # cut at the start


def test_cycles_are_kept_with_their_status(history: LocalHistory) -> None:
    history.record(outcome(START), 300)
    bad = replace(
        outcome(START + 300), components=(Component("redis-cache", Severity.CRITICAL, False),)
    )
    history.record(bad, 300)
    history.record(outcome(START, script="token_usage_metrics"), 60)
    rows = history.cycles("health_check", START - 1, START + 300)
    assert [tuple(row) for row in rows] == [
        (START, 0.25, 300, "ok"),
        (START + 300, 0.25, 300, "critical"),
    ]


def test_a_clock_set_back_breaks_nothing(history: LocalHistory) -> None:
    for at in (0, 60, 120, 3720, 60, 90, 120, 180):  # an hour ahead for one cycle, then back
        history.record(outcome(START + at, up(1.0)), 60)
    series = only(history.series(HEALTH, {}, START - 60, START + 200))
    assert [point.at - START for point in series.points] == [0, 60, 90, 120, 180]
    assert [point.seconds for point in series.points] == [60, 60, 30, 30, 60]  # none twice
    assert mean(series) == 1.0


def test_the_same_moment_twice_is_one_sample(history: LocalHistory) -> None:
    history.record(outcome(START, up(1.0)), 60)
    history.record(outcome(START, up(0.0)), 60)
    assert [p.mean for p in only(history.series(HEALTH, {}, 0, START)).points] == [0.0]
    doubled = outcome(START + 60, up(1.0), up(0.0))
    assert history.record(doubled, 60).stored == 1


def test_two_histories_write_the_same_series(state: State, tmp_path: Path) -> None:
    first = LocalHistory(state, SETTINGS)
    other = State.open(tmp_path)
    second = LocalHistory(other, SETTINGS)
    for turn in range(6):
        (first, second)[turn % 2].record(outcome(START + 60 * turn, up(1.0)), 60)
    assert covered(only(first.series(HEALTH, {}, START - 60, START + 300))) == 360
    other.close()


def test_a_state_file_lost_on_the_way_does_not_mix_series(
    history: LocalHistory, state: State
) -> None:
    history.record(outcome(START, up(1.0), up(1.0, "conjur-vault")), 60)
    state.path.unlink()
    history.record(outcome(START + 60, up(0.0, "conjur-vault")), 60)
    assert only(history.series(HEALTH, {}, 0, math.inf)).labels == {"component": "conjur-vault"}


def test_hostile_labels_stay_data(history: LocalHistory) -> None:
    evil = "'); DROP TABLE samples; --\x1b[31m\n\"é\ud800"
    history.record(outcome(START, rate(evil, 1.0)), 60)
    assert only(history.series(RATE, {"client_id": evil}, 0, math.inf)).labels == {
        "client_id": evil
    }


# -- the bound on series


def test_clients_beyond_the_bound_are_summed_and_counted(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    history = LocalHistory(state, HistorySettings(max_series=3))
    history.record(outcome(START, *(rate(f"c{n}", 1.0) for n in range(3))), 60)
    assert history.refused("health_check") == 0
    crowd = [rate(f"c{n}", float(n)) for n in range(6)]
    ages = [Measurement(AGE, 5.0, {"client_id": "c9"})]
    for turn in (1, 2):
        done = history.record(outcome(START + 60 * turn, *crowd, *ages, up(1.0)), 60)
        assert done == Recorded(stored=5, unknown=0, refused=4)
    found = {s.labels["client_id"]: s.points[-1].mean for s in history.series(RATE, {}, 0, 1e11)}
    assert found == {"c0": 0.0, "c1": 1.0, "c2": 2.0, "other": 3.0 + 4.0 + 5.0}
    assert history.series(AGE, {}, 0, 1e11) == []  # ages do not add up
    assert history.series(HEALTH, {}, 0, 1e11)  # what is not per client has its own room
    assert history.refused("health_check") == 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    history.record(outcome(START + 180, up(1.0)), 60)
    assert history.refused("health_check") == 0


def test_a_given_other_is_added_to(state: State) -> None:
    history = LocalHistory(state, HistorySettings(max_series=1))
    history.record(outcome(START, rate("a", 1.0), rate("b", 2.0), rate("other", 4.0)), 60)
    history.record(outcome(START + 60, rate("other", 4.0), rate("b", 2.0)), 60)
    series = only(history.series(RATE, {"client_id": "other"}, 0, 1e11))
    assert [point.mean for point in series.points] == [6.0, 6.0]


def test_sums_over_all_clients_are_never_refused(state: State) -> None:
    history = LocalHistory(state, HistorySettings(max_series=1))
    history.record(outcome(START, rate("a", 1.0), rate("all", 9.0)), 60)
    assert only(history.series(RATE, {"client_id": "all"}, 0, 1e11)).points[0].mean == 9.0


# -- thinning


def simulate(history: LocalHistory, days: float, seed: int = 7) -> dict[str, list[float]]:
    """Cycles a minute apart with jitter, outages and times when nobody looked."""
    dice = random.Random(seed)
    at, truth = START, {"weighted": [], "seconds": [], "values": []}
    last: Optional[float] = None
    while at < START + days * DAY:
        value = 0.0 if dice.random() < 0.05 else dice.choice([1.0, 1.0, 0.5])
        history.record(outcome(at, up(value)), 60)
        elapsed = None if last is None else round(at - last, 3)
        seconds = elapsed if elapsed is not None and elapsed <= 90 else 60.0
        truth["weighted"].append(value * seconds)
        truth["seconds"].append(seconds)
        truth["values"].append(value)
        last = at
        at = round(at + 60 + dice.uniform(-5, 5) + (7200 if dice.random() < 0.002 else 0), 3)
    return truth


def facts(history: LocalHistory) -> Mapping[str, float]:
    series = only(history.series(HEALTH, {}, START - DAY, START + 400 * DAY))
    return {
        "seconds": covered(series),
        "mean": mean(series),
        "n": sum(point.n for point in series.points),
        "low": min(point.low for point in series.points),
        "high": max(point.high for point in series.points),
    }


def test_thinning_keeps_means_sums_and_extremes_exact(state: State) -> None:
    settings = HistorySettings(raw_for=6 * 3600, fine_for=DAY, retention=90 * DAY)
    history = LocalHistory(state, settings)
    truth = simulate(history, 2.5)
    before = facts(history)
    assert before["seconds"] == pytest.approx(sum(truth["seconds"]), abs=0.01)
    assert before["mean"] == pytest.approx(sum(truth["weighted"]) / sum(truth["seconds"]))
    ((raw,),) = state.read("SELECT count(*) FROM samples")
    assert raw == len(truth["values"])
    for hours in range(61):  # hour by hour, as a running monitor prunes
        history.prune(START + hours * 3600.0)
    assert facts(history) == pytest.approx(before)
    ((thinned,),) = state.read("SELECT count(*) FROM samples")
    assert thinned < raw / 4
    series = only(history.series(HEALTH, {}, 0, 1e11))
    assert all(p.seconds <= 300 + 90 for p in series.points if p.at > START + 1.5 * DAY + 3600)
    assert all(p.seconds <= 3600 + 90 for p in series.points)
    assert len([p for p in series.points if p.at <= START + 1.4 * DAY]) <= 1.4 * 24 + 1


def test_merged_points_show_the_extremes(state: State) -> None:
    history = LocalHistory(state, SETTINGS)
    for turn, value in enumerate([3.0, 1.0, 9.0, 2.0, 5.0, 7.0]):
        history.record(outcome(START + 60 * (turn + 1), rate("c", value)), 60)
    history.prune(START + 3 * DAY)
    first, second = only(history.series(RATE, {}, START, START + DAY)).points
    assert tuple(first) == (START + 300, 300.0, 4.0, 1.0, 9.0, 5)
    assert tuple(second) == (START + 360, 60.0, 7.0, 7.0, 7.0, 1)


def test_thinning_once_or_step_by_step_gives_the_same(tmp_path: Path) -> None:
    settings = HistorySettings(raw_for=3 * 3600, fine_for=12 * 3600)
    tables = []
    for name, steps in (("once", [36]), ("often", range(1, 37))):
        state = State.open(tmp_path / name)
        history = LocalHistory(state, settings)
        simulate(history, 1.0)
        for hours in steps:
            history.prune(START + hours * 3600.0)
        rows = state.read("SELECT at, seconds, n, total, weighted, low, high FROM samples")
        tables.append(rows)
        state.close()
    assert len(tables[0]) == len(tables[1])
    for one, other in zip(*tables):
        assert one == pytest.approx(other)


def test_gaps_survive_thinning(state: State) -> None:
    history = LocalHistory(state, HistorySettings(raw_for=3600, fine_for=7200))
    for minute in range(24 * 60):
        if not 600 <= minute < 720:
            history.record(outcome(START + 60 * minute, up(1.0)), 60)
    history.prune(START + 10 * DAY)
    series = only(history.series(HEALTH, {}, START - 60, START + DAY))
    assert covered(series) == (24 - 2) * 3600
    between = [p for p in series.points if START + 37000 < p.at <= START + 43000]
    assert between == []


def test_retention_drops_samples_cycles_and_empty_series(state: State) -> None:
    history = LocalHistory(state, HistorySettings(retention=10 * DAY))
    history.record(outcome(START, up(1.0), rate("gone", 1.0)), 60)
    history.record(outcome(START + 9 * DAY, up(1.0)), 60)
    assert history.prune(START + 11 * DAY) is True
    assert [p.at for p in only(history.series(HEALTH, {}, 0, 1e11)).points] == [START + 9 * DAY]
    assert state.read("SELECT name FROM series") == [(HEALTH,)]
    assert len(history.cycles("health_check", 0, 1e11)) == 1


def test_pruning_is_done_once_an_hour(history: LocalHistory) -> None:
    assert [history.prune(START + at) for at in (0, 60, 3599, 3600, 3660)] == [
        *(True, False, False),
        *(True, False),
    ]


def test_a_clock_that_jumps_ahead_does_not_cost_the_history(history: LocalHistory) -> None:
    for day in range(80):
        history.record(outcome(START + day * DAY, up(1.0)), 60)
        history.prune(START + day * DAY)
    before = len(only(history.series(HEALTH, {}, 0, 1e11)).points)
    history.prune(START + 5000 * DAY)
    assert len(only(history.series(HEALTH, {}, 0, 1e11)).points) == before == 80


def test_the_file_stays_bounded(state: State) -> None:
    """What a long life adds is what it drops: size after 40 days is size after 20."""
    settings = HistorySettings(raw_for=DAY / 2, fine_for=DAY, retention=5 * DAY)
    history = LocalHistory(state, settings)
    sizes = []
    for turn in range(40 * 6):
        many = [up(1.0, f"part-{n}") for n in range(50)]
        history.record(outcome(START + turn * 14400, *many), 14400)
        history.prune(START + turn * 14400)
        if turn % 6 == 5:
            sizes.append(state.read("PRAGMA page_count")[0][0])
    assert max(sizes[20:]) <= max(sizes[8:20]) * 1.1


def test_what_is_computed_from_history_is_not_recorded_again(history: LocalHistory) -> None:
    labels = {"component": "redis-cache", "window": "1h"}
    burn = Measurement("payment_api_error_budget_burn_rate", 2.0, labels)
    assert history.record(outcome(START, burn, up(1.0)), 60.0).stored == 1
    assert history.series(burn.name, {}, START - 60, START) == []
