"""Decision: what a series of samples says: level, trend with its uncertainty, busy hours, gaps.

A `Sample` stands for the `seconds` that end at `at`; what no sample covers was not looked at, and
counts neither as zero nor as the value before it.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

DAY = 86400.0
_CERTAINTY = 1.96  # normal quantile of a 95 % interval
_ROUNDING = 1e-9
_WEEKDAYS_FROM = 21  # days; with fewer there are not three of each weekday
_DAYS_LEAST = 5  # of four, even a steady rise is chance one time in twelve
_WHOLE_DAY = 0.5  # share of a day that must have been watched before it counts as one


@dataclass(frozen=True)
class Sample:
    """The mean `value` over the `seconds` that end at `at` (epoch seconds)."""

    at: float
    seconds: float
    value: float
    low: Optional[float] = None
    high: Optional[float] = None


@dataclass(frozen=True)
class Spread:
    """Extremes with their times; percentiles of the sample means and the mean, all over time."""

    low: float
    low_at: float
    median: float
    mean: float
    p95: float
    high: float
    high_at: float
    samples: int


@dataclass(frozen=True)
class Trend:
    """Change per day as a share of the median level (0.12 = 12 % a day), with a 95 % interval.
    `known` False: no trend can be told and `why` says so; the figures may then be None."""

    known: bool
    why: str
    per_day: Optional[float] = None
    low: Optional[float] = None
    high: Optional[float] = None
    days: int = 0


@dataclass(frozen=True)
class Gap:
    """Time in which nobody looked."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def spread(samples: Sequence[Sample]) -> Optional[Spread]:
    """None without samples."""
    if not samples:
        return None
    values = sorted((s.value, s.seconds) for s in samples)
    lows = [(s.value if s.low is None else s.low, s.at) for s in samples]
    highs = [(s.value if s.high is None else s.high, s.at) for s in samples]
    low, low_at = min(lows)
    high, high_at = max(highs, key=lambda pair: (pair[0], -pair[1]))
    return Spread(
        low=low,
        low_at=low_at,
        median=_percentile(values, 0.5),
        mean=weighted_mean(samples),
        p95=_percentile(values, 0.95),
        high=high,
        high_at=high_at,
        samples=len(values),
    )


def _percentile(values: Sequence[tuple[float, float]], share: float) -> float:
    """Of sorted (value, seconds) the value below which the figure was for `share` of the time; a
    thinned sample stands for more time than a fresh one. Between two values where they meet."""
    watched = math.fsum(seconds for _, seconds in values)
    weights = [seconds / watched if watched > 0 else 1 / len(values) for _, seconds in values]
    passed = 0.0
    for index, ((value, _), weight) in enumerate(zip(values, weights)):
        passed += weight
        if abs(passed - share) < 1e-9 and index + 1 < len(values):
            return (value + values[index + 1][0]) / 2
        if passed > share:
            return value
    return values[-1][0]


def weighted_mean(samples: Sequence[Sample]) -> float:
    """Mean over the time watched; the plain mean where samples stand for no time."""
    watched = math.fsum(s.seconds for s in samples)
    if watched <= 0:
        return statistics.fmean(s.value for s in samples)
    return math.fsum(s.value * s.seconds for s in samples) / watched


def integral(samples: Iterable[Sample]) -> float:
    """Sum of value x seconds: what a rate per second amounts to in the time that was watched."""
    return math.fsum(s.value * s.seconds for s in samples)


def increase(samples: Sequence[Sample]) -> float:
    """What a counter grew by from the first sample to the last, gaps included (it counted while
    nobody looked); where it fell it began anew."""
    grown, before = 0.0, None
    for sample in samples:
        low = sample.value if sample.low is None else sample.low
        high = sample.value if sample.high is None else sample.high
        start = low if before is None else before
        grown += high - start if high >= start else high
        before = high
    return grown


def gaps(samples: Sequence[Sample], start: float, end: float) -> tuple[Gap, ...]:
    """Stretches of start..end that no sample covers, longer than twice the usual spacing."""
    if not samples:
        return (Gap(start, end),) if end > start else ()
    usual = statistics.median(s.seconds for s in samples)
    found, covered = [], start
    for sample in sorted(samples, key=lambda s: s.at):
        begins = sample.at - sample.seconds
        if begins - covered > usual:
            found.append(Gap(covered, begins))
        covered = max(covered, sample.at)
    if end - covered > 2 * usual:
        found.append(Gap(covered, end))
    return tuple(found)


def trend(samples: Sequence[Sample], zone: dt.tzinfo = dt.timezone.utc) -> Trend:
    """The Theil-Sen slope of the daily means with Sen's interval (Sen 1968); days are those of
    `zone`, where people's habits do not move when summer time ends.

    Daily means, because an hour resembles the hour before it and a test that takes hours for
    independent finds trends everywhere. Only days of a kind are compared (the seasonal Kendall
    test of Hirsch, Slack and Smith 1982), so that a weekend is not a decline: equal weekdays from
    three weeks on, before that working days with working days. Likeness of a day to the day before
    widens the interval (after Hamed and Rao 1998).
    """
    days = _daily_means(samples, zone)
    if len(days) < _DAYS_LEAST:
        count = f"{len(samples)} sample{'' if len(samples) == 1 else 's'}"
        why = f"no trend can be told from {count}: it takes {_DAYS_LEAST} watched days"
        return Trend(False, f"{why}, there are {len(days)}", days=len(days))
    seasons = _seasons(days)
    slopes = sorted(s for season in seasons for s in _slopes(season))
    level = abs(statistics.median(days.values()))
    if level == 0:
        return Trend(False, "no trend can be told: the usual value is 0", days=len(days))
    per_day = statistics.median(slopes)
    interval = _interval(slopes, seasons, _inflation(days, per_day))
    if interval is None:
        why = "no trend can be told: too few days, or each too much like the one before"
        return Trend(False, why, days=len(days))
    low, high = interval
    known = low > _ROUNDING * level or high < -_ROUNDING * level
    why = "" if known else "no trend can be told: it may be rising or falling"
    return Trend(known, why, per_day / level, low / level, high / level, len(days))


def _daily_means(samples: Sequence[Sample], zone: dt.tzinfo) -> dict[int, float]:
    """Mean by number of the day, of the days of which at least half was watched.

    Each sample is first set against the usual value of its hour: of a day whose afternoon was not
    watched, the mean would else be a morning's.
    """
    usual = by_hour(samples, zone)
    level = weighted_mean(samples) if samples else 0.0
    by_day: Mapping[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        middle = dt.datetime.fromtimestamp(sample.at - sample.seconds / 2, zone)
        expected = usual[middle.hour]
        adjusted = sample.value / expected * level if expected else sample.value
        by_day[middle.toordinal()].append(Sample(sample.at, sample.seconds, adjusted))
    return {
        day: weighted_mean(members)
        for day, members in sorted(by_day.items())
        if math.fsum(s.seconds for s in members) >= _WHOLE_DAY * DAY
    }


def _seasons(days: Mapping[int, float]) -> list[list[tuple[int, float]]]:
    """The days by kind; kinds with a single day compare nothing."""
    kind = _kind_of(days)
    kinds: Mapping[int, list[tuple[int, float]]] = defaultdict(list)
    for day, value in days.items():
        kinds[kind(day)].append((day, value))
    return [season for season in kinds.values() if len(season) > 1]


def _kind_of(days: Mapping[int, float]) -> Callable[[int], int]:
    return _weekday if len(days) >= _WEEKDAYS_FROM else _weekend


def _weekday(day: int) -> int:
    return day % 7  # ordinal 0 would be a Sunday


def _weekend(day: int) -> int:
    return int(_weekday(day) in (0, 6))


def _slopes(days: Sequence[tuple[int, float]]) -> list[float]:
    return [
        (value - earlier) / (day - before)
        for i, (day, value) in enumerate(days)
        for before, earlier in days[:i]
    ]


def _interval(
    slopes: Sequence[float], seasons: Sequence[Sequence[tuple[int, float]]], inflation: float
) -> Optional[tuple[float, float]]:
    """The slopes at the ranks (N -+ C) / 2, where C = 1.96 standard deviations of Kendall's S, and
    one for S being a whole number. None when the slopes are too few for such ranks."""
    variance = sum(len(s) * (len(s) - 1) * (2 * len(s) + 5) / 18 for s in seasons)
    spare = (len(slopes) - _CERTAINTY * math.sqrt(variance * inflation) - 1) / 2
    if spare < 0:
        return None
    first = math.floor(spare)
    return slopes[first], slopes[len(slopes) - 1 - first]


def _inflation(days: Mapping[int, float], per_day: float) -> float:
    """How much a day's likeness to the day before it adds to the variance of S; 1 for none."""
    usual: Mapping[int, list[float]] = defaultdict(list)
    kind = _kind_of(days)
    for day, value in days.items():
        usual[kind(day)].append(value - per_day * day)
    rest = {
        day: value - per_day * day - statistics.median(usual[kind(day)])
        for day, value in days.items()
    }
    pairs = [(rest[day - 1], left) for day, left in rest.items() if day - 1 in rest]
    power = math.fsum(left * left for left in rest.values())
    if len(pairs) < 4 or not power:
        return 1.0
    alike = math.fsum(a * b for a, b in pairs) / len(pairs) / (power / len(rest))
    alike = min(max(alike, 0.0), 0.8)
    return (1 + alike) / (1 - alike)


def by_hour(samples: Iterable[Sample], zone: dt.tzinfo = dt.timezone.utc) -> dict[int, float]:
    """Mean by hour of day in `zone` (its daylight saving included), of the hours watched."""
    hours: Mapping[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        middle = sample.at - sample.seconds / 2
        hours[dt.datetime.fromtimestamp(middle, zone).hour].append(sample)
    return {hour: weighted_mean(members) for hour, members in sorted(hours.items())}


def busiest_hours(
    samples: Iterable[Sample], zone: dt.tzinfo = dt.timezone.utc, top: int = 3
) -> tuple[tuple[int, float], ...]:
    """The `top` hours of day with the highest mean, as (hour, mean), highest first."""
    ranked = sorted(by_hour(samples, zone).items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(ranked[:top])


def resample(samples: Sequence[Sample], start: float, end: float, n: int) -> list[Optional[float]]:
    """`n` equal steps from start to end, each the mean of what was watched in it, None where
    nobody looked: what a sparkline or a chart draws."""
    width = (end - start) / n
    if width <= 0:
        return []
    steps: list[list[Sample]] = [[] for _ in range(n)]
    for sample in samples:
        first = max(0, math.floor((sample.at - sample.seconds - start) / width))
        last = min(n - 1, math.ceil((sample.at - start) / width) - 1)
        for index in range(first, last + 1):
            steps[index].append(sample)
    return [weighted_mean(step) if step else None for step in steps]
