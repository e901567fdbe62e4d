from __future__ import annotations

import datetime as dt
import math
import random
from zoneinfo import ZoneInfo

import pytest

from monitoring.analyze import trends
from monitoring.analyze.trends import DAY, Gap, Sample
from monitoring.analyze.wording import number
from monitoring.certainty import watched_seconds
from monitoring.text import percentage

START = dt.datetime(2026, 10, 12, tzinfo=dt.timezone.utc).timestamp()  # a Monday


def hourly(days: int, value: object) -> list[Sample]:
    """One sample an hour; `value(hour number)` gives its mean."""
    return [
        Sample(START + (h + 1) * 3600, 3600.0, float(value(h)))  # type: ignore[operator]
        for h in range(days * 24)
    ]


def daily_wave(hour: int) -> float:
    return 100 + 80 * math.sin(2 * math.pi * (hour % 24) / 24)


@pytest.mark.parametrize(
    ("growth", "told"),
    [(0.0, False), (0.12, True), (-0.08, True), (0.002, False)],
)
def test_a_trend_is_told_only_when_it_stands_out(growth: float, told: bool) -> None:
    r = random.Random(4)
    series = hourly(7, lambda h: daily_wave(h) * (1 + growth * h / 24) * r.gauss(1, 0.1))
    found = trends.trend(series)
    assert found.known is told
    if told:
        assert found.low <= growth / (1 + growth * 3) <= found.high  # relative to the median day
        assert (found.per_day > 0) is (growth > 0)


def test_a_weekend_is_not_a_decline() -> None:
    weekly = hourly(21, lambda h: 10.0 if (h // 24) % 7 >= 5 else 100.0)
    assert not trends.trend(weekly).known
    rising = hourly(21, lambda h: (10.0 if (h // 24) % 7 >= 5 else 100.0) * (1 + 0.05 * h / 24))
    assert trends.trend(rising).known


@pytest.mark.parametrize("start", range(7))
def test_nor_is_it_in_the_week_that_is_looked_at_by_default(start: int) -> None:
    """Whichever day of the week is the first; a week is too short to compare equal weekdays."""
    r, cried = random.Random(start), 0
    for _ in range(60):
        noise = [r.gauss(1, 0.05) for _ in range(7)]
        weekly = hourly(7, lambda h, n=noise: n[h // 24] * (60 if _free(start, h) else 100))
        moved = [Sample(s.at + start * DAY, s.seconds, s.value) for s in weekly]
        cried += trends.trend(moved).known
    assert cried <= 6  # 5 % and two standard deviations


def _free(start: int, hour: int) -> bool:
    return (start + hour // 24) % 7 >= 5


@pytest.mark.parametrize(
    ("days", "likeness", "most"),
    [(4, 0.0, 0), (5, 0.0, 16), (6, 0.0, 16), (7, 0.0, 16), (10, 0.0, 16), (14, 0.0, 16),
     (21, 0.0, 16), (7, 0.5, 20), (10, 0.5, 32), (21, 0.5, 28), (28, 0.5, 24)],
)  # fmt: skip
def test_the_interval_holds_what_it_promises(days: int, likeness: float, most: int) -> None:
    """Of 200 flat noisy stretches about 5 % may be called a trend, though a day is like the one
    before (of few days the likeness is known badly)."""
    r, cried = random.Random(8), 0
    for _ in range(200):
        noise = [r.gauss(0, 10)]
        for _day in range(1, days):
            fresh = r.gauss(0, 10) * math.sqrt(1 - likeness**2)
            noise.append(likeness * noise[-1] + fresh)
        cried += trends.trend(hourly(days, lambda h, n=noise: 100 + n[h // 24])).known
    assert cried <= most


@pytest.mark.parametrize("days", [7, 14, 21])
def test_the_interval_holds_the_truth(days: int) -> None:
    r, held = random.Random(9), 0
    for _ in range(100):
        level = [100 * (1 + 0.03 * day) + r.gauss(0, 8) for day in range(days)]
        found = trends.trend(hourly(days, lambda h, n=level: n[h // 24]))
        truth = 3 / sorted(level)[days // 2]
        held += found.low is None or found.low <= truth <= found.high
    assert held >= 91


def test_too_little_is_said_to_be_too_little() -> None:
    found = trends.trend(hourly(1, daily_wave)[:9])
    assert not found.known
    assert found.why.startswith("no trend can be told from 9 samples")
    assert trends.spread([]) is None


def test_a_silent_series_has_no_trend() -> None:
    assert "usual value is 0" in trends.trend(hourly(7, lambda _h: 0.0)).why


def test_days_that_were_hardly_watched_do_not_count() -> None:
    series = [s for s in hourly(5, daily_wave) if not (2 * DAY < s.at - START <= 2.8 * DAY)]
    assert trends.trend(series).days == 4


def test_gaps_are_what_nobody_watched() -> None:
    series = [s for s in hourly(3, daily_wave) if not DAY < s.at - START <= DAY + 6 * 3600]
    assert trends.gaps(series, START, START + 3 * DAY) == (Gap(START + DAY, START + DAY + 21600),)
    assert trends.gaps([], START, START + 60) == (Gap(START, START + 60),)
    late = trends.gaps(series, START - DAY, START + 4 * DAY)
    assert [gap.seconds for gap in late] == [DAY, 21600.0, DAY]
    assert watched_seconds(series, START, START + 3 * DAY) == 3 * DAY - 21600


def test_one_missed_cycle_is_not_a_gap() -> None:
    series = hourly(1, daily_wave)
    del series[5]
    assert trends.gaps(series, START, START + DAY) == ()


def test_means_are_weighted_by_the_time_they_stand_for() -> None:
    """Thinned history mixes samples of a minute with samples of an hour."""
    mixed = [Sample(60, 60.0, 60.0), Sample(3660, 3600.0, 0.0)]
    assert trends.weighted_mean(mixed) == pytest.approx(60 / 61)
    assert trends.integral(mixed) == 3600.0


def test_the_spread_names_when() -> None:
    found = trends.spread(hourly(2, lambda h: h))
    assert found is not None
    assert (found.low, found.high, found.p95) == (0, 47, 45)
    assert found.high_at == START + 48 * 3600


def test_busy_hours_follow_the_clock_on_the_wall() -> None:
    """Berlin leaves summer time on 25 October 2026: nine o'clock stays nine o'clock."""
    berlin = ZoneInfo("Europe/Berlin")

    def office(hour: int) -> float:
        local = dt.datetime.fromtimestamp(START + hour * 3600, berlin)
        return 100.0 if local.hour == 9 else 1.0

    series = hourly(21, office)
    assert trends.busiest_hours(series, berlin, top=1) == ((9, 100.0),)
    spread_out = dict(trends.by_hour(series))
    assert 1 < spread_out[7] < 100
    assert 1 < spread_out[8] < 100


def test_a_chart_shows_gaps_as_gaps() -> None:
    series = [s for s in hourly(2, lambda h: h) if not 12 * 3600 < s.at - START <= DAY]
    drawn = trends.resample(series, START, START + 2 * DAY, 4)
    assert drawn[1] is None
    assert drawn[0] == pytest.approx(5.5)
    assert drawn[3] == pytest.approx(41.5)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1.0, "100.00 %"), (0.99999, "99.99 %"), (0.9997, "99.97 %"), (0.0, "0.00 %")],
)
def test_a_share_is_never_rounded_up_to_a_whole(ratio: float, said: str) -> None:
    assert percentage(ratio) == number(ratio, "ratio") == said
