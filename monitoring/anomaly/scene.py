"""Decision: one client's hour, set against its profile, as the views look at it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import fsum, log, log10, sqrt
from typing import NamedTuple, Optional

from monitoring.anomaly.profiles import DAY, WEEK, Profile
from monitoring.anomaly.types import Usage

LEARNING_HOURS = 168  # before these, only failures, new clients and gross surges speak
TRUSTED_HOURS = 336  # from here on, hours that raised an alert are not learned at face value

_FACTOR_PRIOR = 16.0  # what "nothing special on the platform" weighs against the other clients
_FACTOR_CAP = 3.0  # no client may pull the platform's factor by more than three times its habit
_FACTOR_SPREAD = 0.25  # clients go their own ways by so much (variance), however precise each is
_FACTOR_FLOOR = 0.05
_FACTOR_LEAST = 0.5  # clients that expect fewer calls say nothing about the platform
_RARE_PRIOR, _RARE_HOURS = 0.5, 100.0  # new addresses: one in 200 hours, until the client is known
_STRANGE_NETWORK = 1.0  # extra score where no client of the platform uses that network
LEAP = 2.0  # times as busy as any hour before: worth counting
_LEAP_PRIOR, _LEAP_WEIGHT = 0.3, 1.0  # share of the busiest hours that leap, before any was counted
_LEAP_FAR, _LEAP_FARS, _LEAP_CAP = 0.3, 4.0, 1.0  # how far, in the logarithm
_LEAP_MEMORY = 500.0  # of about two hundred new clients
_MONTHLY = 2.0  # standard deviations above habit: months end in a way of their own
_SATURDAY = 5  # weekday number, 0 is Monday
_WEEKEND = (2, 3)  # day number 0, 1 January 1970, was a Thursday
NO_USAGE = Usage(0.0, 0.0)


class Finding(NamedTuple):
    """A view's verdict, before hold-off and wording."""

    reason: str
    score: float
    observed: float
    expected: float
    evidence: dict[str, object]


class Leaps:
    """How clients in their first week outdo the busiest hour they had so far.

    Were hours alike, the n-th would be the busiest yet once in n times: `chances` adds up these
    1/n, `count` the hours that were more than twice as busy as any before, and `beyond` how far (in
    the logarithm). A new client borrows from all before it, and from those of its own age."""

    __slots__ = ("beyond", "chances", "count")

    def __init__(self, chances: float = 0.0, count: float = 0.0, beyond: float = 0.0) -> None:
        self.chances, self.count, self.beyond = chances, count, beyond

    def score(self, ratio: float, age: int) -> float:
        """-log10 of the chance that an hour of a client `age` hours old is `ratio` times as busy as
        any before it."""
        often = (self.count + _LEAP_PRIOR * _LEAP_WEIGHT) / (self.chances + _LEAP_WEIGHT)
        far = (self.beyond + _LEAP_FAR * _LEAP_FARS) / (self.count + _LEAP_FARS)
        past = log(ratio / LEAP) / (far * log(10.0))
        return past - log10(min(1.0, often / age)) if past > 0.0 else 0.0

    def after(self, seen: Sequence[tuple[float, int]]) -> Leaps:
        """With the ratios (and ages) of one hour, of clients that were not told of; what was noted
        long ago fades."""
        chances = fsum(1.0 / age for _, age in seen)
        beyond = [min(log(ratio / LEAP), _LEAP_CAP) for ratio, _ in seen if ratio > LEAP]
        keep = 1.0 - min(0.5, chances / _LEAP_MEMORY)
        return Leaps(
            self.chances * keep + chances,
            self.count * keep + len(beyond),
            self.beyond * keep + fsum(beyond),
        )


class Hour:
    """What all clients share in one hour: its place in the week, how much of it was observed
    (0..1), what the platform as a whole did, and which networks are at home on it."""

    __slots__ = (
        *("number", "exposure", "week_hour", "day_hour", "of_day"),
        *("factor_sum", "factor_weight", "home", "conspicuous", "quiet", "hush"),
        *("failing", "strange", "shared", "bustle", "leaps", "pool", "month_days"),
    )

    def __init__(self, number: int, exposure: float, home: Optional[Mapping[str, float]]) -> None:
        self.number, self.exposure = number, exposure
        self.week_hour, self.of_day = number % WEEK, number % DAY
        self.day_hour = self.of_day + (DAY if number // DAY % 7 in _WEEKEND else 0)
        self.month_days = month_days(number // DAY)
        self.factor_sum = self.factor_weight = 0.0
        self.home: Mapping[str, float] = home or {}
        self.conspicuous: list[str] = []
        self.hush = self.shared = False  # silences; failures that many clients have in common
        self.failing: list[str] = []  # clients with more failures than theirs, from their own hosts
        self.strange: dict[str, list[str]] = {}  # strange address: clients that it failed on
        self.quiet: set[str] = set()  # clients in a silence that is no longer chance
        self.bustle = 1.0  # calls of a client against its own mean hour, in the mean of all clients
        self.pool = Leaps()  # what is known of first weeks up to here
        self.leaps: list[tuple[float, int]] = []  # ratios and ages, of this hour's young clients

    def take(self, part: Optional[tuple[float, float]]) -> None:
        """A client's part in the factor, as `factor_parts` gives it."""
        if part is not None:
            self.factor_sum += part[0]
            self.factor_weight += part[1]

    def factor(self, calls: float, mean: float, phi: float) -> float:
        """How busy the other clients are against their habits; 1.0 = as ever.

        A mean of the clients' ratios, weighted by how precisely each ratio is known, shrunk to 1;
        the client's own part is taken out, so that nobody explains itself away."""
        total, weight = self.factor_sum, self.factor_weight
        if mean >= _FACTOR_LEAST:
            own = mean / (1.0 + (phi + _FACTOR_SPREAD) * mean)
            ratio = calls / mean
            total -= own * ((ratio if ratio < _FACTOR_CAP else _FACTOR_CAP) - 1.0)
            weight -= own
        factor = 1.0 + total / ((weight if weight > 0.0 else 0.0) + _FACTOR_PRIOR)
        return factor if factor > _FACTOR_FLOOR else _FACTOR_FLOOR


def factor_parts(calls: float, mean: float, phi: float) -> Optional[tuple[float, float]]:
    """(weight * (ratio - 1), weight) of one client in the platform's factor; None where too few
    calls are expected to tell."""
    if mean < _FACTOR_LEAST:
        return None
    weight = mean / (1.0 + (phi + _FACTOR_SPREAD) * mean)
    ratio = calls / mean
    return weight * ((ratio if ratio < _FACTOR_CAP else _FACTOR_CAP) - 1.0), weight


@lru_cache(maxsize=4)
def month_days(day: int) -> tuple[int, ...]:
    """Which days of a month the day (since the epoch) is: 0 the last working day, 1 the first one,
    2 the last day, 3 the first. Mostly none."""
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    working = date.weekday() < _SATURDAY
    last, first = _rest_of_month(date, 1), _rest_of_month(date, -1)
    found = (working and not any(last), working and not any(first), not last, not first)
    return tuple(which for which, true in enumerate(found) if true)


def _rest_of_month(date: dt.date, step: int) -> list[bool]:
    """Of the days up to the month's end (step 1) or back to its start (-1): which are working
    days; no more than matter."""
    days = (date + dt.timedelta(days=step * n) for n in range(1, 4))
    return [day.weekday() < _SATURDAY for day in days if day.month == date.month]


class ClientHour:
    """One client in one hour. `mu` is what its habit and the platform let expect of the observed
    part of the hour, `deviation` the standard deviation of that, `fresh` its addresses never seen
    before, `rarity` the score of seeing any."""

    __slots__ = (
        *("profile", "hour", "name", "ok", "failed", "sources", "mu", "phi", "deviation"),
        *("fresh", "fresh_calls", "rarity", "mature", "factor", "swing", "ahead"),
        *("withheld", "leap", "monthly"),
    )

    def __init__(self, profile: Profile, usage: Usage, hour: Hour, name: str) -> None:
        self.profile, self.hour, self.name = profile, hour, name
        self.ok, self.failed, self.sources = usage.ok, usage.failed, usage.sources
        mean, self.phi = profile.mu * hour.exposure, profile.phi
        self.factor = hour.factor(self.ok, mean, self.phi)
        self.mu = mu = mean * self.factor
        self.deviation = sqrt(mu + self.phi * mu * mu) + 0.3
        self.mature = profile.seen >= LEARNING_HOURS
        self.monthly = 0.0  # calls that this hour had at the last two month ends, if far above mu
        if hour.month_days:
            calls = profile.monthly(hour.month_days, hour.of_day) * hour.exposure
            self.monthly = calls if calls > mu + _MONTHLY * self.deviation else 0.0
        self.fresh: list[str] = []
        self.fresh_calls = self.rarity = 0.0
        self.swing = self.ahead = 0.0
        self.leap = False  # told of a client that is too young to be judged by its habits
        self.withheld = False  # failures that are not told yet, and not to be learned either
        if self.sources:
            self._look_at_sources(self.sources)
        if profile.sum_m > 1.0:
            self._look_at_yesterday()

    def _look_at_sources(self, sources: Mapping[str, float]) -> None:
        known = self.profile.known
        for source, calls in sources.items():
            if source not in known:
                self.fresh.append(source)
                self.fresh_calls += calls
        if not self.fresh:
            return
        profile = self.profile
        share = (profile.fresh_hours + _RARE_PRIOR) / (profile.active_hours + _RARE_HOURS)
        self.rarity = -log10(min(1.0, share))
        if self.mature and any(network(source) not in self.hour.home for source in self.fresh):
            self.rarity += _STRANGE_NETWORK

    def _look_at_yesterday(self) -> None:
        """`ahead`: the last 24 hours against expectation, as a ratio less 1; `swing`: the variance
        of that ratio from day to day, beyond what chance brings."""
        profile = self.profile
        self.ahead = profile.sum_x / profile.sum_m - 1.0
        self.swing = (profile.drift + 0.48) / (profile.drift_n + 48.0)

    def level_shift(self, doubt: float) -> float:
        """The ratio to expect today, given yesterday's and how much this client's days differ: a
        client with equal days keeps its habit, one with unequal days follows yesterday."""
        ahead = self.ahead
        if ahead <= 0.0:
            return 1.0
        return 1.0 + (ahead if ahead < 3.0 else 3.0) * self.swing / (self.swing + doubt)


def strangers(
    sources: Optional[Mapping[str, float]], failed: float, home: Mapping[str, float]
) -> list[str]:
    """The addresses of networks that are not at home all of whose calls may have failed."""
    calls = (sources or {}).items()
    return [who for who, n in calls if 0 < n <= failed and network(who) not in home]


def network(source: str) -> str:
    """The neighbourhood of an address: the first two numbers of IPv4, two groups of IPv6."""
    if ":" in source:
        return ":".join(source.split(":", 2)[:2])
    return source.rsplit(".", 2)[0]
