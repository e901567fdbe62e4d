"""Decision: what is remembered of one client, learned hour by hour, and as compact text.

One JSON object of about 4 kB: `v` the version, scalars by name, tables as base64 of little-endian
32-bit floats, so that a detector restored from text finds what the original would have found.
"""

from __future__ import annotations

import base64
import struct
from array import array
from collections.abc import Iterable
from copy import copy
from functools import partial
from math import log2, log10
from typing import TYPE_CHECKING, Annotated, Any, Union

import msgspec
from msgspec import Meta, Struct, field

# -- what is remembered of one client, learned hour by hour in about 4 kB.
# A habit is a mean for each hour of the week, which leans on the mean of its hour of the day
# (weekdays and weekends apart), which leans on the client's level; and a dispersion for each hour
# of the day, which leans on the client's own. Everything forgets: weeks after five, days after
# sixteen, the level after two weeks.

VERSION = 1
WEEK, DAY = 168, 24
WEEK_MEMORY, DAY_MEMORY, LEVEL_MEMORY = 5.0, 16.0, 336.0
WEEK_PRIOR, DAY_PRIOR = 3.0, 0.05  # how many observations the coarser mean is worth
SPREAD_PRIOR, SPREAD_LEAST = 0.35, 0.002  # dispersion: var = mean + dispersion * mean ** 2
SPREAD_WEIGHT = 12.0  # hours that the prior is worth
NEAR_MEMORY = 0.01  # what one hour weighs among those of the last days
CARRY_MEMORY, CARRY_PRIOR, CARRY_MOST = 0.998, 48.0, 0.95
LEFT_MEMORY, LEFT_PRIOR = 0.95, 4.0  # what is left of the dispersion, for each hour of the day
MONTH_DAYS = 4  # of a month: last and first working day, last and first day
MONTH_STEPS = 16.0  # so many steps to twice the calls, so that a byte holds any number of them
SETTLE_HOURS = 72  # errors made before the third day say nothing about the client
MAX_SOURCES = 32
MOSTLY = 0.45  # of its sessions begun at odd hours: it works when it likes

# Scores above SURPRISE are remembered, how often and how far above, so that a client with wild
# hours needs a wilder one: peaks over a threshold with an exponential tail.
SURPRISE, SURPRISE_CAP = 1.5, 6.0
_SURPRISE_RATE, _SURPRISE_MEAN = 10**-SURPRISE, 1.0 / 2.302585
_SURPRISE_PRIOR, _SURPRISE_HOURS = 6.0, 200.0

_LARGEST = 1e40  # more than any sum of calls can be
Count = Annotated[int, Meta(ge=0)]
Sum = Annotated[float, Meta(ge=0.0, le=_LARGEST)]
Signed = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
if TYPE_CHECKING:
    Table = array[float]
else:
    Table = array  # which takes no parameter before Python 3.12


def _table(length: int) -> Any:
    """A field that holds a table of so many numbers, all zeros unless given."""
    return field(default_factory=partial(array, "f", bytes(4 * length)))


def _beside(hour: int) -> range:
    return range(max(0, hour - 1), min(DAY, hour + 2))


class Guesser(Struct, array_like=True):
    """A stranger that fails: the hour it first did, how often it failed and how often not."""

    first: int
    failed: Sum
    entered: Sum = 0.0


class Profile(Struct, omit_defaults=True, tag_field="v", tag=VERSION):
    """One client's habits and running statistics.

    `born` and every other time is in hours since the epoch; `seen` counts the hours observed; `mu`,
    `phi` and `limit` belong to the hour under judgement, and are not kept. A table that is not
    given is all zeros; __post_init__ raises ValueError for one of another length."""

    born: int
    seen: Count = 0
    last_call: Count = 0
    returns: Count = 0
    low_run: Count = 0
    low_hours: Count = 0
    awake: Count = 0
    longest_pause: Count = 0
    not_reported: Count = 0
    surprised: Count = 0
    misused: Count = 0  # the hour of the last surge that was told and far beyond the limit
    failing: Count = 0  # hours in a row in which most calls failed
    silent: bool = False
    level: Sum = 0.0
    level_n: Sum = 0.0
    residual_all: Signed = 0.0
    square_all: Sum = 0.0
    sum_x: Signed = 0.0
    sum_m: Signed = 0.0
    drift: Sum = 0.0
    drift_n: Sum = 0.0
    cusum: Sum = 0.0
    peak: Sum = 0.0
    peaks: Sum = 0.0
    peaks_sum: Sum = 0.0
    excursion_x: Sum = 0.0
    excursion_m: Sum = 0.0
    excursion_n: Sum = 0.0
    failures: Sum = 0.0
    calls: Sum = 0.0
    failure_residual: Signed = 0.0
    failure_square: Sum = 0.0
    fresh_hours: Sum = 0.0
    active_hours: Sum = 0.0
    fresh_sources: Sum = 0.0
    distinct: Sum = 0.0
    low_score: Sum = 0.0
    low_m: Sum = 0.0
    low_x: Sum = 0.0
    low_after_low: Sum = 0.0
    low_any: Sum = 0.0
    due: Sum = 0.0
    surprises: Sum = 0.0
    surprise_sum: Sum = 0.0
    surprise_hours: Sum = 0.0
    falls: Sum = (
        0.0  # hours that fell unexpectedly low, and how far beyond SURPRISE their scores were
    )
    fall_sum: Sum = 0.0
    offset: Signed = 0.0
    carried: Signed = 0.0
    carried_n: Sum = 0.0
    left_all: Sum = 0.0
    left_all_n: Sum = 0.0
    starts: Sum = 0.0  # times it began to call after a rest
    odd_starts: Sum = 0.0  # times it began to call at an hour at which it hardly ever does
    idle: Sum = 0.0  # hours without a call
    busy: Sum = 0.0  # calls in an hour with any
    most: Sum = 0.0  # of the first week: calls in the busiest hour so far
    crest: Sum = 0.0  # of the first week: the busiest that the platform was meanwhile
    near: Sum = 0.0  # calls in an hour of the last days, whatever hour of the day
    near_square: Sum = 0.0  # their variance
    week: Table = _table(WEEK)
    week_n: Table = _table(WEEK)
    day: Table = _table(2 * DAY)
    day_n: Table = _table(2 * DAY)
    residual: Table = _table(DAY)
    square: Table = _table(DAY)
    ring_x: Table = _table(DAY)
    ring_m: Table = _table(DAY)
    yesterday: Table = _table(DAY)
    left: Table = _table(DAY)
    left_n: Table = _table(DAY)
    month: Table = _table(2 * MONTH_DAYS * DAY)  # of the last two month ends; see `monthly`
    known: dict[str, int] = {}
    holds: dict[str, tuple[int, float, int]] = {}  # reason: (hour, observed, hours of hold-off)
    suspects: dict[str, int] = {}
    guessers: dict[str, Guesser] = {}
    mu: float = 0.0
    phi: float = SPREAD_PRIOR
    limit: float = 0.0

    def __post_init__(self) -> None:
        for name, length in _LENGTHS.items():
            setattr(self, name, _whole(getattr(self, name), length))
        self.last_call = self.last_call or self.born

    def expect(self, week_hour: int, day_hour: int) -> float:
        """Calls expected in this hour; `day_hour` is 0..23 on weekdays, 24..47 on weekends."""
        n = self.day_n[day_hour]
        day = (n * self.day[day_hour] + DAY_PRIOR * self.level) / (n + DAY_PRIOR)
        n = self.week_n[week_hour]
        self.mu = mu = (n * self.week[week_hour] + WEEK_PRIOR * day) / (n + WEEK_PRIOR)
        return mu

    def spread(self, hour: int) -> float:
        """The dispersion of this hour of the day."""
        weight = self.level * self.level
        own = (self.residual_all + SPREAD_PRIOR * SPREAD_WEIGHT * weight + 0.01) / (
            self.square_all + SPREAD_WEIGHT * weight + 0.01
        )
        weight = 5.0 * weight + 0.01
        phi = (self.residual[hour] + own * weight) / (self.square[hour] + weight)
        self.phi = phi = phi if phi > SPREAD_LEAST else SPREAD_LEAST
        return phi

    def learn(self, calls: float, week_hour: int, day_hour: int) -> None:
        """Take one whole hour of calls into the habit (after `expect` of that hour)."""
        week, day, level = self.week, self.day, self.level
        n = self.week_n[week_hour]
        before = week[week_hour]
        week[week_hour] = before + (calls - before) / (n + 1.0)
        if n < WEEK_MEMORY:
            self.week_n[week_hour] = n + 1.0
        n = self.day_n[day_hour]
        before = day[day_hour]
        day[day_hour] = before + (calls - before) / (n + 1.0)
        if n < DAY_MEMORY:
            self.day_n[day_hour] = n + 1.0
        n = self.level_n
        self.level = level + (calls - level) / (n + 1.0)
        if n < LEVEL_MEMORY:
            self.level_n = n + 1.0
        if self.seen >= SETTLE_HOURS:
            self._learn_spread(calls, day_hour % DAY)

    def _learn_spread(self, calls: float, hour: int) -> None:
        mu = self.mu
        residual, square = (calls - mu) ** 2 - mu, mu * mu
        residuals, squares = self.residual, self.square
        residuals[hour] = residuals[hour] * 0.95 + residual
        squares[hour] = squares[hour] * 0.95 + square
        self.residual_all = self.residual_all * 0.998 + residual
        self.square_all = self.square_all * 0.998 + square

    def roll(self, hour: int, calls: float, mean: float) -> None:
        """Put this hour into the sums of the last 24 hours."""
        ring_x, ring_m = self.ring_x, self.ring_m
        self.sum_x += calls - ring_x[hour]
        self.sum_m += mean - ring_m[hour]
        ring_x[hour] = calls
        ring_m[hour] = mean
        # The rings hold 32-bit floats; add up afresh once a day, so that rounding cannot pile up.
        if not hour:
            self.sum_x, self.sum_m = sum(ring_x), sum(ring_m)

    def carry(self) -> float:
        """The share of an hour's deviation from habit that the hour after it takes over."""
        share = self.carried / (self.carried_n + CARRY_PRIOR)
        if share <= 0.0:
            return 0.0
        return share if share < CARRY_MOST else CARRY_MOST

    def unforeseen(self, hour: int) -> float:
        """The share of the variance at this hour of the day that the hour before does not tell."""
        own = (self.left_all + CARRY_PRIOR) / (self.left_all_n + CARRY_PRIOR)
        share = (self.left[hour] + LEFT_PRIOR * own) / (self.left_n[hour] + LEFT_PRIOR)
        return share if share < 1.0 else 1.0

    def follow(self, offset: float, hour: int) -> None:
        """Learn from an hour's deviation from habit (in standard deviations, bounded) how far the
        one before it foretold it, and remember it for the next."""
        before = self.offset
        left, square = (offset - self.carry() * before) ** 2, offset * offset
        self.carried = self.carried * CARRY_MEMORY + offset * before
        self.carried_n = self.carried_n * CARRY_MEMORY + before * before
        self.left_all = self.left_all * CARRY_MEMORY + left
        self.left_all_n = self.left_all_n * CARRY_MEMORY + square
        lefts, squares = self.left, self.left_n
        lefts[hour] = lefts[hour] * LEFT_MEMORY + left
        squares[hour] = squares[hour] * LEFT_MEMORY + square
        self.offset = offset

    def session(self) -> float:
        """The chance that an idle hour begins a session, whatever hour of the week it is; 0.0 for
        a client that mostly begins at hours of habit."""
        if self.starts < 2.0 or self.odd_starts < MOSTLY * self.starts:
            return 0.0
        return self.odd_starts / (self.idle + 24.0)

    def note_session(self, calls: float, begins: bool, odd: bool) -> None:
        """Learn whether this client works in sessions, at hours of its own choice."""
        if calls <= 0:
            self.idle = self.idle * 0.999 + 1.0
            return
        busy = self.busy
        self.busy = busy + (calls - busy) * (0.05 if busy else 1.0)
        if begins:
            self.starts = self.starts * 0.98 + 1.0
            self.odd_starts = self.odd_starts * 0.98 + odd

    def note_near(self, calls: float) -> None:
        """Take an hour into the mean and the variance of the last days."""
        if not self.seen:
            self.near = calls
            return
        near = self.near
        offset = calls - near
        self.near = near + NEAR_MEMORY * offset
        square = self.near_square + NEAR_MEMORY * offset * offset
        self.near_square = square * (1.0 - NEAR_MEMORY)

    def monthly(self, days: tuple[int, ...], hour: int) -> float:
        """The calls that an hour of these days of the month had both last time and the time before,
        or an hour beside it; 0.0 before two were seen."""
        most, length = 0.0, MONTH_DAYS * DAY
        for place in (day * DAY + near for day in days for near in _beside(hour)):
            most = max(most, min(self.month[place], self.month[place + length]))
        return float(2.0 ** (most / MONTH_STEPS) - 1.0)

    def note_month(self, days: tuple[int, ...], hour: int, calls: float) -> None:
        """Take in an hour of a day on which months end or begin."""
        for place in (day * DAY + hour for day in days):
            self.month[place + MONTH_DAYS * DAY] = self.month[place]
            self.month[place] = min(255.0, float(round(MONTH_STEPS * log2(1.0 + calls))))

    def skip(self, hours: int, first: int) -> None:
        """Hours that nobody observed, the first at hour of day `first`: no rest, no silence."""
        self.offset = 0.0
        for hour in range(first, first + min(hours, DAY)):
            self.roll(hour % DAY, 0.0, 0.0)
        self.last_call += hours
        if hours >= DAY:
            self.cusum = self.low_score = self.low_m = self.low_x = 0.0
            self.low_run = self.low_hours = self.not_reported = 0

    def set_back(self, hour: int) -> None:
        """What was noted at hours after this one came from a clock that was ahead."""
        self.born, self.last_call = min(self.born, hour), min(self.last_call, hour)
        self.misused = min(self.misused, hour)
        self.known = {source: min(at, hour) for source, at in self.known.items()}
        self.suspects = {source: min(at, hour) for source, at in self.suspects.items()}
        for guesser in self.guessers.values():
            guesser.first = min(guesser.first, hour)
        self.holds = {why: (min(at, hour), x, n) for why, (at, x, n) in self.holds.items()}

    def calibrate(self, score: float) -> float:
        """The score in view of how often, and by how much, this client was surprising before."""
        return self._calibrated(score, self.surprises, self.surprise_sum)

    def calibrate_fall(self, score: float) -> float:
        """As `calibrate`, for hours with too few calls; the score is remembered."""
        sure = self._calibrated(score, self.falls, self.fall_sum)
        if score > SURPRISE:
            self.falls = self.falls * 0.995 + 1.0
            self.fall_sum = self.fall_sum * 0.995 + min(score - SURPRISE, SURPRISE_CAP)
        return sure

    def _calibrated(self, score: float, times: float, total: float) -> float:
        if score <= SURPRISE:
            return score
        mean = (total + _SURPRISE_PRIOR * _SURPRISE_MEAN) / (times + _SURPRISE_PRIOR)
        rate = (times + _SURPRISE_HOURS * _SURPRISE_RATE) / (self.surprise_hours + _SURPRISE_HOURS)
        return (score - SURPRISE) * _SURPRISE_MEAN / mean - log10(min(1.0, rate))

    def remember_surprise(self, score: float) -> None:
        """Take the hour's raw score into the calibration, at most SURPRISE_CAP above the threshold.
        Hours that follow a surprising one are the same event, and count no more."""
        self.surprise_hours = self.surprise_hours * 0.9995 + 1.0
        before, now = self.surprised, int(score > SURPRISE)
        if now != before:
            self.surprised = now
        if now and not before:
            self.surprises = self.surprises * 0.995 + 1.0
            self.surprise_sum = self.surprise_sum * 0.995 + min(score - SURPRISE, SURPRISE_CAP)

    def meet(self, sources: Iterable[str], hour: int) -> None:
        """Remember these addresses; of too many, those used last are kept."""
        known = self.known
        for source in sources:
            known[source] = hour
        if len(known) > MAX_SOURCES + MAX_SOURCES // 2:
            latest = sorted(known.items(), key=lambda item: item[1])[-MAX_SOURCES:]
            self.known = dict(latest)


# -- a client's profile as compact, versioned text, and back.

#: What damaged text brings while it is taken apart.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error)


def encode(profile: Profile) -> str:
    """The profile as one line of JSON."""
    kept = copy(profile)
    kept.mu, kept.phi, kept.limit = 0.0, SPREAD_PRIOR, 0.0
    return _ENCODER.encode(kept).decode()


def decode(text: Union[str, bytes]) -> Profile:
    """The profile again. ValueError if it is not one, or of a version that has no reader here;
    fields that this version does not know are ignored, fields that are missing start empty."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, *UNREADABLE, RecursionError) as error:
        raise ValueError(f"not a profile of version {VERSION}: {error}") from error


def unsigned(value: Any) -> float:
    """The number, where a detector writes none below 0; ValueError for any other."""
    number = finite(value)
    if number < 0.0:
        raise ValueError("below zero")
    return number


def finite(value: Any) -> float:
    """The number; ValueError for one that no detector wrote, which would spoil every sum."""
    number = float(value)
    if not abs(number) <= _LARGEST:  # nor is it NaN
        raise ValueError("not a number that a sum of calls can be")
    return number


def _packed(values: Table) -> str:
    """A byte each for whole numbers, as tallies are, else four."""
    if not any(values):
        return ""
    whole = all(0.0 <= value < 256.0 and value == int(value) for value in values)
    numbers = bytes(map(int, values)) if whole else struct.pack(f"<{len(values)}f", *values)
    return base64.b64encode(numbers).decode("ascii")


def _unpacked(_kind: type, text: str) -> Table:
    return array("B", base64.b64decode(text, validate=True))  # type: ignore[return-value]


def _whole(values: Table, length: int) -> Table:
    """The table of `length` numbers, from what was kept of it."""
    if values.typecode == "f" and len(values) == length:
        return values
    if not values:
        return array("f", bytes(4 * length))
    numbers = list(values) if len(values) == length else struct.unpack(f"<{length}f", values)
    finite(sum(numbers))
    return array("f", numbers)


#: How many numbers each table has.
_LENGTHS = {
    one.name: len(one.default_factory())
    for one in msgspec.structs.fields(Profile)
    if one.type is array
}
_ENCODER = msgspec.json.Encoder(enc_hook=_packed)
_DECODER = msgspec.json.Decoder(Profile, dec_hook=_unpacked, strict=False)
