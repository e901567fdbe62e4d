"""Decision: what is remembered of one client, learned hour by hour, and as compact text.

One JSON object of about 4 kB: `v` the version, scalars by name, tables as base64 of little-endian
32-bit floats, so that a detector restored from text finds what the original would have found.
"""

from __future__ import annotations

import base64
import json
import struct
from array import array
from collections.abc import Mapping
from math import log10
from typing import Any, Callable, Union

# -- what is remembered of one client, learned hour by hour in about 4 kB.
# A habit is a mean for each hour of the week, which leans on the mean of its hour of the day
# (weekdays and weekends apart), which leans on the client's level; and a dispersion for each hour
# of the day, which leans on the client's own. Everything forgets: weeks after five, days after
# sixteen, the level after two weeks.

WEEK, DAY = 168, 24
WEEK_MEMORY, DAY_MEMORY, LEVEL_MEMORY = 5.0, 16.0, 336.0
WEEK_PRIOR, DAY_PRIOR = 3.0, 0.05  # how many observations the coarser mean is worth
SPREAD_PRIOR, SPREAD_LEAST = 0.35, 0.002  # dispersion: var = mean + dispersion * mean ** 2
SPREAD_WEIGHT = 12.0  # hours that the prior is worth
NEAR_MEMORY = 0.01  # what one hour weighs among those of the last days
CARRY_MEMORY, CARRY_PRIOR, CARRY_MOST = 0.998, 48.0, 0.95
LEFT_MEMORY, LEFT_PRIOR = 0.95, 4.0  # what is left of the dispersion, for each hour of the day
SETTLE_HOURS = 72  # errors made before the third day say nothing about the client
MAX_SOURCES = 32
MOSTLY = 0.45  # of its sessions begun at odd hours: it works when it likes

# Scores above SURPRISE are remembered, how often and how far above, so that a client with wild
# hours needs a wilder one: peaks over a threshold with an exponential tail.
SURPRISE, SURPRISE_CAP = 1.5, 6.0
_SURPRISE_RATE, _SURPRISE_MEAN = 10**-SURPRISE, 1.0 / 2.302585
_SURPRISE_PRIOR, _SURPRISE_HOURS = 6.0, 200.0

ARRAYS: dict[str, int] = {
    "week": WEEK,
    "week_n": WEEK,
    "day": 2 * DAY,
    "day_n": 2 * DAY,
    "residual": DAY,
    "square": DAY,
    "ring_x": DAY,
    "ring_m": DAY,
    "yesterday": DAY,
    "left": DAY,
    "left_n": DAY,
}
COUNTS = (
    "seen",
    "last_call",
    "returns",
    "low_run",
    "low_hours",
    "awake",
    "longest_pause",
    "not_reported",
    "surprised",
    "failing",
    "misused",
)
NUMBERS = (
    *("level", "level_n", "residual_all", "square_all", "sum_x", "sum_m", "drift", "drift_n"),
    *("cusum", "peak", "peaks", "peaks_sum", "excursion_x", "excursion_m", "excursion_n"),
    *("failures", "calls", "failure_residual", "failure_square"),
    *("fresh_hours", "active_hours", "fresh_sources", "distinct"),
    *("low_score", "low_m", "low_x", "low_after_low", "low_any", "due"),
    *("surprises", "surprise_sum", "surprise_hours", "falls", "fall_sum"),
    *("offset", "carried", "carried_n", "left_all", "left_all_n"),
    *("starts", "odd_starts", "idle", "busy", "near", "near_square"),
)
TALLIES = ("week_n", "day_n")  # whole numbers, a byte each in the text
SIGNED = ("residual_all", "failure_residual", "offset", "carried", "sum_x", "sum_m")
MAPS = ("known", "holds", "suspects", "guessers")


class Profile:
    """One client's habits and running statistics.

    `born` and every other time is in hours since the epoch; `seen` counts the hours observed; `mu`
    and `phi` belong to the hour under judgement. Only what is listed above is kept as text."""

    __slots__ = ("born", *COUNTS, *NUMBERS, *ARRAYS, *MAPS, "silent", "mu", "phi", "limit")

    seen: int
    last_call: int
    returns: int
    low_run: int
    low_hours: int
    awake: int
    longest_pause: int
    not_reported: int
    surprised: int
    misused: int  # the hour of the last surge that was told and far beyond the limit
    failing: int  # hours in a row in which most calls failed
    level: float
    level_n: float
    residual_all: float
    square_all: float
    sum_x: float
    sum_m: float
    drift: float
    drift_n: float
    cusum: float
    peak: float
    peaks: float
    peaks_sum: float
    excursion_x: float
    excursion_m: float
    excursion_n: float
    failures: float
    calls: float
    failure_residual: float
    failure_square: float
    fresh_hours: float
    active_hours: float
    fresh_sources: float
    distinct: float
    low_score: float
    low_m: float
    low_x: float
    low_after_low: float
    low_any: float
    due: float
    surprises: float
    surprise_sum: float
    surprise_hours: float
    falls: float  # hours that fell unexpectedly low, and how far beyond SURPRISE their scores were
    fall_sum: float
    offset: float
    carried: float
    carried_n: float
    left_all: float
    left_all_n: float
    starts: float  # times it began to call after a rest
    odd_starts: float  # times it began to call at an hour at which it hardly ever does
    idle: float  # hours without a call
    busy: float  # calls in an hour with any
    near: float  # calls in an hour of the last days, whatever hour of the day
    near_square: float  # their variance
    week: array[float]
    week_n: array[float]
    day: array[float]
    day_n: array[float]
    residual: array[float]
    square: array[float]
    ring_x: array[float]
    ring_m: array[float]
    yesterday: array[float]
    left: array[float]
    left_n: array[float]
    known: dict[str, int]
    holds: dict[str, tuple[int, float, int]]  # reason: (hour, observed, hours of hold-off)
    suspects: dict[str, int]
    guessers: dict[str, tuple[int, float, float]]  # stranger: (first hour, failures, successes)

    def __init__(self, born: int) -> None:
        self.born = born
        for name in COUNTS:
            setattr(self, name, 0)
        for name in NUMBERS:
            setattr(self, name, 0.0)
        for name, length in ARRAYS.items():
            setattr(self, name, array("f", bytes(4 * length)))
        for name in MAPS:
            setattr(self, name, {})
        self.last_call = born
        self.silent = False
        self.mu, self.phi, self.limit = 0.0, SPREAD_PRIOR, 0.0

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
        n = self.week_n[week_hour]
        self.week[week_hour] += (calls - self.week[week_hour]) / (n + 1.0)
        if n < WEEK_MEMORY:
            self.week_n[week_hour] = n + 1.0
        n = self.day_n[day_hour]
        self.day[day_hour] += (calls - self.day[day_hour]) / (n + 1.0)
        if n < DAY_MEMORY:
            self.day_n[day_hour] = n + 1.0
        n = self.level_n
        self.level += (calls - self.level) / (n + 1.0)
        if n < LEVEL_MEMORY:
            self.level_n = n + 1.0
        if self.seen >= SETTLE_HOURS:
            self._learn_spread(calls, day_hour % DAY)

    def _learn_spread(self, calls: float, hour: int) -> None:
        mu = self.mu
        residual, square = (calls - mu) ** 2 - mu, mu * mu
        self.residual[hour] = self.residual[hour] * 0.95 + residual
        self.square[hour] = self.square[hour] * 0.95 + square
        self.residual_all = self.residual_all * 0.998 + residual
        self.square_all = self.square_all * 0.998 + square

    def roll(self, hour: int, calls: float, mean: float) -> None:
        """Put this hour into the sums of the last 24 hours."""
        self.sum_x += calls - self.ring_x[hour]
        self.sum_m += mean - self.ring_m[hour]
        self.ring_x[hour] = calls
        self.ring_m[hour] = mean
        # The rings hold 32-bit floats; add up afresh once a day, so that rounding cannot pile up.
        if not hour:
            self.sum_x, self.sum_m = sum(self.ring_x), sum(self.ring_m)

    def carry(self) -> float:
        """The share of an hour's deviation from habit that the hour after it takes over."""
        share = self.carried / (self.carried_n + CARRY_PRIOR)
        return min(max(share, 0.0), CARRY_MOST)

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
        self.left[hour] = self.left[hour] * LEFT_MEMORY + left
        self.left_n[hour] = self.left_n[hour] * LEFT_MEMORY + square
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
        self.busy += (calls - self.busy) * (0.05 if self.busy else 1.0)
        if begins:
            self.starts = self.starts * 0.98 + 1.0
            self.odd_starts = self.odd_starts * 0.98 + odd

    def note_near(self, calls: float) -> None:
        """Take an hour into the mean and the variance of the last days."""
        if not self.seen:
            self.near = calls
            return
        offset = calls - self.near
        self.near += NEAR_MEMORY * offset
        self.near_square += NEAR_MEMORY * offset * offset
        self.near_square *= 1.0 - NEAR_MEMORY

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
        self.guessers = {who: (min(s[0], hour), *s[1:]) for who, s in self.guessers.items()}
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
        before, self.surprised = self.surprised, int(score > SURPRISE)
        if score > SURPRISE and not before:
            self.surprises = self.surprises * 0.995 + 1.0
            self.surprise_sum = self.surprise_sum * 0.995 + min(score - SURPRISE, SURPRISE_CAP)

    def meet(self, sources: list[str], hour: int) -> None:
        """Remember these addresses; of too many, those used last are kept."""
        known = self.known
        for source in sources:
            known[source] = hour
        if len(known) > MAX_SOURCES + MAX_SOURCES // 2:
            latest = sorted(known.items(), key=lambda item: item[1])[-MAX_SOURCES:]
            self.known = dict(latest)


# -- a client's profile as compact, versioned text, and back.
# One JSON object of about 4 kB: `v` the version, scalars by name, tables as base64 of little-
# endian 32-bit floats, so that a detector restored from text finds what the original would have
# found.

VERSION = 1
_LARGEST = 1e40
#: What damaged text brings while it is taken apart.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error)


def encode(profile: Profile) -> str:
    """The profile as one line of JSON."""
    state: dict[str, Any] = {"v": VERSION, "born": profile.born, "silent": int(profile.silent)}
    for name in (*COUNTS, *NUMBERS):
        value = getattr(profile, name)
        if value:
            state[name] = value
    for name in ARRAYS:
        state[name] = _pack(getattr(profile, name), "B" if name in TALLIES else "f")
    state["known"], state["suspects"] = profile.known, profile.suspects
    if profile.guessers:
        state["guessers"] = {who: list(found) for who, found in profile.guessers.items()}
    state["holds"] = {reason: list(hold) for reason, hold in profile.holds.items()}
    return json.dumps(state, separators=(",", ":"))


def decode(text: Union[str, bytes]) -> Profile:
    """The profile again. ValueError if it is not one, or of a version that has no reader here;
    fields that this version does not know are ignored, fields that are missing start empty."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("profile is not JSON") from error
    version = state.get("v") if isinstance(state, dict) else None
    reader = READERS.get(version) if isinstance(version, int) else None
    if reader is None:
        raise ValueError("profile has no version that this program reads")
    try:
        return reader(state)
    except UNREADABLE as error:
        raise ValueError("profile is damaged") from error


def _read_version_1(state: Mapping[str, Any]) -> Profile:
    profile = Profile(int(state["born"]))
    profile.silent = bool(state.get("silent", False))
    for name in COUNTS:
        setattr(profile, name, int(unsigned(state.get(name, 0))))
    for name in NUMBERS:
        read = finite if name in SIGNED else unsigned
        setattr(profile, name, read(state.get(name, 0.0)))
    for name, length in ARRAYS.items():
        if name in state:
            setattr(profile, name, _unpack(state[name], length))
    profile.known = {str(k): int(hour) for k, hour in state.get("known", {}).items()}
    profile.suspects = {str(k): int(hour) for k, hour in state.get("suspects", {}).items()}
    guessers = state.get("guessers", {})
    profile.guessers = {str(k): _guesser(*found) for k, found in guessers.items()}
    holds = state.get("holds", {})
    profile.holds = {
        str(k): (int(hold[0]), float(hold[1]), int(hold[2])) for k, hold in holds.items()
    }
    return profile


def _guesser(first: int, failed: float, entered: float = 0.0) -> tuple[int, float, float]:
    return int(first), finite(failed), finite(entered)


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


READERS: dict[Any, Callable[[Mapping[str, Any]], Profile]] = {1: _read_version_1}


def _pack(values: array[float], kind: str) -> str:
    if not any(values):
        return ""
    numbers = map(int, values) if kind == "B" else values
    return base64.b64encode(struct.pack(f"<{len(values)}{kind}", *numbers)).decode("ascii")


def _unpack(text: str, length: int) -> array[float]:
    if not text:
        return array("f", bytes(4 * length))
    packed = base64.b64decode(text, validate=True)
    kind = "B" if len(packed) == length else "f"  # before 1.1 tallies were floats too
    values = struct.unpack(f"<{length}{kind}", packed)
    finite(sum(values))
    return array("f", values)
