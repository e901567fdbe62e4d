"""Three simulated weeks, with gaps, the end of summer time and thinned samples, read back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monitoring.analyze import trends
from monitoring.analyze.analysis import Analysis, Period
from monitoring.analyze.history import analysis, samples_of
from monitoring.config.settings import HistorySettings
from monitoring.store.history import LocalHistory
from monitoring.store.lookback import Point, Series
from monitoring.store.state import State
from tests import token_weeks as weeks

TARGET = 0.9997


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with State.open(tmp_path_factory.mktemp("weeks")) as opened:
        weeks.record(opened)
        yield opened


def read(state: State, days: float, end: float = weeks.END, **more: Any) -> Analysis:
    period = Period(end - days * weeks.DAY, end, weeks.BERLIN, "Europe/Berlin")
    history = LocalHistory(state, HistorySettings())
    found = analysis(history, period, **{"success_target": TARGET, "top": 10, **more})
    assert found is not None
    return found


@pytest.fixture(scope="module")
def whole(state: State) -> Analysis:
    return read(state, (weeks.END - weeks.START) / weeks.DAY)


def figure(found: Analysis, name: str = "token_generation_rate") -> Any:
    return next(f for f in found.figures if f.metric == f"payment_api_{name}")


def watched() -> Iterator[float]:
    at = weeks.START
    while at < weeks.END:
        at += weeks.INTERVAL
        if not any(first < at <= last for first, last in weeks.GAPS):
            yield at


def test_the_history_was_really_thinned(state: State) -> None:
    points = (
        LocalHistory(state, HistorySettings())
        .series("payment_api_token_generation_rate", {}, weeks.START, weeks.END)[0]
        .points
    )
    widths = {round(p.seconds) for p in points}
    assert {300, 3600} <= widths


def test_totals_and_means_are_exact_after_thinning(whole: Analysis) -> None:
    minted = sum(weeks.rate(at) * weeks.INTERVAL / 60 for at in watched())
    rate = figure(whole)
    assert rate.total == pytest.approx(minted, rel=1e-6)
    assert rate.spread.mean == pytest.approx(minted / (len(list(watched())) * 5), rel=1e-6)


def test_extremes_keep_their_value_and_their_hour(whole: Analysis) -> None:
    spread = figure(whole).spread
    assert spread.high == pytest.approx(220.0, abs=1)
    assert dt.datetime.fromtimestamp(spread.high_at, weeks.BERLIN).hour in (11, 12)
    assert spread.low == pytest.approx(20.0, abs=0.1)


def test_percentiles_are_those_of_the_time_not_of_the_rows(whole: Analysis) -> None:
    """Two days of raw samples must not outweigh a week of hourly ones."""
    values = sorted(weeks.rate(at) for at in watched())
    assert figure(whole).spread.median == pytest.approx(values[len(values) // 2], rel=0.1)
    assert figure(whole).spread.p95 == pytest.approx(values[int(len(values) * 0.95)], rel=0.05)


def test_gaps_are_gaps(whole: Analysis) -> None:
    gaps = [(gap.start, gap.end) for gap in figure(whole).gaps]
    assert len(gaps) == 2
    for (start, end), (first, last) in zip(gaps, weeks.GAPS):
        assert start == pytest.approx(first, abs=weeks.INTERVAL)
        assert end == pytest.approx(last, abs=weeks.INTERVAL)
    missing = sum(last - first for first, last in weeks.GAPS)
    assert whole.watched == pytest.approx(1 - missing / (weeks.END - weeks.START), abs=0.002)
    assert None in figure(whole).steps


def test_the_busiest_hour_is_the_same_before_and_after_the_clocks_change(state: State) -> None:
    before = read(state, 7, end=weeks.START + 8 * weeks.DAY)
    after = read(state, 6)
    for found in (before, after):
        assert [hour for hour, _ in figure(found).busiest[:2]] in ([11, 10], [10, 11])


def test_the_day_of_25_hours_does_not_stand_out(state: State) -> None:
    found = read(state, 7)
    assert found.anomalies == ()
    assert found.anomaly_note.startswith("Nothing stood out")


def test_no_trend_where_there_is_none(whole: Analysis) -> None:
    trend = figure(whole).trend
    assert not trend.known
    assert trend.days >= 19


def test_clients_with_their_shares_and_who_came_and_went(whole: Analysis) -> None:
    shares = {use.client: use.share for use in whole.clients}
    assert next(iter(shares)) == "client-big"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["client-small"] / shares["client-big"] == pytest.approx(1 / 7, rel=1e-3)
    assert whole.joined == ("client-new",)
    assert whole.left == ("client-old",)


def test_counters_count_while_nobody_looks(state: State, whole: Analysis) -> None:
    everything = sum(
        weeks.rate(weeks.START + n * weeks.INTERVAL) * 5
        for n in range(1, round((weeks.END - weeks.START) / weeks.INTERVAL) + 1)
    )
    assert whole.minted == pytest.approx(everything, rel=0.001)
    assert whole.minted is not None
    assert figure(whole).total < whole.minted
    assert whole.success == pytest.approx(0.9999, abs=1e-6)
    assert whole.meets_target is True
    assert dict(whole.failures) == {"expired": pytest.approx(everything * 3 * 0.0001, rel=0.001)}


def test_a_missed_target_is_told(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        weeks.record(state, failing=0.001, start=weeks.END - weeks.DAY, gaps=())
        found = read(state, 1)
    assert found.meets_target is False


def test_a_rise_is_told_with_its_uncertainty(tmp_path: Path) -> None:
    def rising(at: float) -> float:
        return weeks.rate(at) * (1 + 0.05 * (at - weeks.START) / weeks.DAY)

    with State.open(tmp_path) as state:
        weeks.record(state, shape=rising, end=weeks.START + 10 * weeks.DAY)
        trend = figure(read(state, 10, end=weeks.START + 10 * weeks.DAY)).trend
    assert trend.known
    assert trend.low <= trend.per_day <= trend.high
    assert 0.03 < trend.per_day < 0.05  # a share of the median day


def test_a_surge_at_night_stands_out(tmp_path: Path) -> None:
    surge = weeks.END - 2 * weeks.DAY + 2 * 3600

    def shape(at: float) -> float:
        return weeks.rate(at) * (6 if surge < at <= surge + 3 * 3600 else 1)

    with State.open(tmp_path) as state:
        weeks.record(state, shape=shape)
        found = read(state, 7)
    rates = [a for a in found.anomalies if a.metric == "payment_api_token_generation_rate"]
    assert rates
    assert all(surge - 3600 <= a.at <= surge + 3 * 3600 for a in rates)
    assert rates[0].severity in ("warning", "critical")


def test_a_short_history_does_not_pretend_to_know_what_is_usual(tmp_path: Path) -> None:
    start = weeks.END - 0.1 * weeks.DAY
    with State.open(tmp_path) as state:
        weeks.record(state, start=start, gaps=())
        found = read(state, 7)
    assert found.anomaly_note.startswith("Too little is recorded")
    assert figure(found).busiest == ()
    assert (found.edge, found.joined, found.left) == (None, (), ())
    assert figure(found).trend.why.startswith("no trend can be told from ")


def test_a_counter_that_was_seen_once_tells_no_growth(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        weeks.record(state, start=weeks.END - weeks.INTERVAL, gaps=())
        found = read(state, 1)
    assert (found.minted, found.failures) == (None, ())
    assert figure(found).trend.why.startswith("no trend can be told from 1 sample:")


def test_nothing_recorded_is_none(tmp_path: Path) -> None:
    period = Period(weeks.START, weeks.END)
    with State.open(tmp_path) as state:
        history = LocalHistory(state, HistorySettings())
        assert analysis(history, period, success_target=TARGET, top=10) is None


def test_warnings_of_a_server_become_notes() -> None:
    class Partial:
        def series(
            self, name: str, labels: Mapping[str, str], start: float, end: float
        ) -> list[Series]:
            point = Point(end, 60.0, 5.0, 5.0, 5.0, 1)
            return [Series({}, (point,), ("a store did not answer",))]

    period = Period(weeks.START, weeks.END)
    found = analysis(Partial(), period, success_target=TARGET, top=10)
    assert found is not None
    assert found.notes == ("The history is not complete: a store did not answer",)


def test_a_counter_that_begins_anew_is_not_counted_backwards() -> None:
    points = [Point(60.0 * n, 60.0, v, v, v, 1) for n, v in enumerate((10, 15, 2, 4), start=1)]
    assert trends.increase(samples_of(points)) == 5 + 2 + 2
