"""Decision: are we inside our service levels, and how fast is the error budget used?

Availability is up time / watched time; time in which nobody looked is unknown, shown apart, never
up and never down. The error budget is the down time that the target leaves of the watched time.
Where less than a stated share of a window was watched, nothing good is said of it, and its budget
and burn rate are not known.
Burn rates and their limits follow chapter 5 of Google's "Site Reliability Workbook": 1 spends the
budget exactly by the end of the window, 14.4 over one hour spends a fiftieth of a month's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import NamedTuple, Optional, Protocol

from monitoring.certainty import (
    MET,
    UNKNOWN,
    Basis,
    Coverage,
    Severity,
    affirm,
    combined,
    inside,
    percent,
)
from monitoring.model import EXIT_OF, ExitStatus, Measurement

HOUR = 3600.0
BURN_WINDOWS: Mapping[str, float] = {"1h": HOUR, "6h": 6 * HOUR, "3d": 72 * HOUR}
GAUGE_WINDOWS: Mapping[str, float] = {**BURN_WINDOWS, "30d": 720 * HOUR}
#: A burn rate from which the budget is in danger, per window.
FAST_BURN: Mapping[str, float] = {"1h": 14.4, "6h": 6.0, "3d": 1.0}
#: A budget with less than this left is nearly spent.
NEARLY_SPENT = 0.1
#: A burn that ended is no alarm: the last quarter of an hour must show it too.
STILL = 0.25 * HOUR
#: Windows (long, and its end), what a rate over them is worth over one hour, and the most that it
#: can come to: over 6 h somebody is woken at 6 times, over 3 d somebody is told by day.
_SLOW_BURNS = (
    ((6 * HOUR, 0.5 * HOUR), 14.4 / 6.0, math.inf),
    ((72 * HOUR, 6 * HOUR), 6.0, 14.0),
)
OVERALL = "overall"
MISSED, AT_RISK = "missed", "at_risk"
_SEVERITIES = {MISSED: Severity.CRITICAL, AT_RISK: Severity.WARNING, MET: Severity.OK}


class Point(Protocol):
    """Of history: `seconds` of observed time at `at` (epoch) with mean value `mean` (0..1)."""

    @property
    def at(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def mean(self) -> float: ...


@dataclass(frozen=True)
class Span:
    """What was seen in one window: seconds up, down, and not looked at."""

    seconds: float
    up: float
    down: float

    @property
    def watched(self) -> float:
        return self.up + self.down

    @property
    def unknown(self) -> float:
        return max(0.0, self.seconds - self.watched)

    @property
    def availability(self) -> Optional[float]:
        """Ratio of the watched time; None: nobody looked."""
        return self.up / self.watched if self.watched > 0 else None

    def coverage(self, least: float) -> Coverage:
        """How much of the window was watched; `least` is the share that is needed."""
        share = self.watched / self.seconds if self.seconds > 0 else 0.0
        said = f"too little watched ({percent(share)})"
        nothing = "nothing was recorded in this time"
        return Coverage("time", self.watched, self.seconds, least, said if share > 0 else nothing)


@dataclass(frozen=True)
class ServiceLevel:
    """One component against its target (a ratio). `burn` maps a window to its rate; None: too
    little of it was watched. `verdict` is met, at_risk, missed or unknown, `why` says what made it
    so. `least` is the share of a window that must be watched. `configured` False: nobody asks this
    component, so it counts for nothing."""

    component: str
    target: float
    span: Span
    burn: Mapping[str, Optional[float]]
    verdict: str
    why: str
    least: float = 0.0
    configured: bool = True

    @property
    def budget(self) -> float:
        """Seconds of down time that the target leaves of the watched time."""
        return (1.0 - self.target) * self.span.watched

    @property
    def budget_left(self) -> float:
        """Seconds of the budget left; negative: overspent."""
        return self.budget - self.span.down

    @property
    def budget_left_ratio(self) -> Optional[float]:
        """Share of the budget left; None: too little was watched, or a target of 1 leaves none."""
        known = self.budget > 0 and self.span.coverage(self.least).enough
        return self.budget_left / self.budget if known else None


@dataclass(frozen=True)
class SlaReport:
    """Rows of the components and, last, of the whole; `at` and the window's start are epoch."""

    at: float
    start: float
    rows: tuple[ServiceLevel, ...] = field(default_factory=tuple)

    @property
    def exit_status(self) -> ExitStatus:
        """0 inside, 1 at risk or one row of several unknown, 2 a target missed, 3 nothing known."""
        rows = [row for row in self.rows if row.configured]
        return EXIT_OF[combined(_SEVERITIES.get(r.verdict, Severity.UNKNOWN) for r in rows)]


def report(
    points: Mapping[str, Sequence[Point]],
    targets: Mapping[str, float],
    *,
    now: float,
    lookback: float,
    least: float,
    unconfigured: Collection[str] = (),
) -> SlaReport:
    """The levels of every component of `targets`, in their order, over the last `lookback`
    seconds. `points` holds availability by component, oldest first, of at least the longest burn
    window. `least` is the share of a window that must be watched before anything good is said of
    it; `unconfigured` are the components that nobody asks."""
    window = _Window(now, lookback, least)
    rows = [_level(name, targets[name], points.get(name, ()), window) for name in targets]
    rows = [_unasked(row) if row.component in unconfigured else row for row in rows]
    return SlaReport(now, now - lookback, tuple(rows))


class _Window(NamedTuple):
    now: float
    seconds: float
    least: float


def _unasked(row: ServiceLevel) -> ServiceLevel:
    return replace(row, verdict=UNKNOWN, why="not configured, so not watched", configured=False)


def span(points: Sequence[Point], *, now: float, seconds: float) -> Span:
    """What `points` (oldest first) say of the last `seconds`: each with the part of its own
    seconds that lies inside."""
    start = now - seconds
    recent = list(takewhile(lambda point: point.at > start, reversed(points)))
    shares = inside(recent, start, now)
    watched = sum(shares)
    up = sum(point.mean * share for point, share in zip(recent, shares))
    up = min(watched, max(0.0, up))
    return Span(seconds, up, watched - up)


def burn_rate(seen: Span, target: float) -> Optional[float]:
    """How many times faster than allowed the budget was used; None: nobody looked, or it was
    used although the target allows nothing at all."""
    if seen.watched <= 0:
        return None
    if seen.down <= 0:
        return 0.0
    allowed = 1.0 - target
    return seen.down / seen.watched / allowed if allowed > 1e-12 else None


def _level(name: str, target: float, points: Sequence[Point], window: _Window) -> ServiceLevel:
    seen = span(points, now=window.now, seconds=window.seconds)
    burn = {
        label: _judged_burn(span(points, now=window.now, seconds=seconds), target, window.least)
        for label, seconds in BURN_WINDOWS.items()
    }
    verdict, why = _verdict(seen, target, burn, window.least)
    return ServiceLevel(name, target, seen, burn, verdict, why, window.least)


def _judged_burn(seen: Span, target: float, least: float) -> Optional[float]:
    """The burn rate of a window of which enough was watched, else None."""
    return burn_rate(seen, target) if seen.coverage(least).enough else None


def _verdict(
    seen: Span, target: float, burn: Mapping[str, Optional[float]], least: float
) -> tuple[str, str]:
    covered = seen.coverage(least)
    # Time that nobody watched may have been up: while there is too much of it, only what the
    # whole window's budget does not allow is lost for certain.
    judged = seen.watched if covered.enough else seen.seconds
    budget = (1.0 - target) * judged
    # Sums of many small floats: a second in three years is no miss.
    if seen.down > budget + 1e-8 * judged:
        return MISSED, "more time was lost than the target allows"
    fast = [f"{w} at {r:.1f}x" for w, r in burn.items() if r is not None and r >= FAST_BURN[w]]
    if fast:
        return AT_RISK, f"the error budget burns fast ({', '.join(fast)})"
    if budget > 0 and seen.down > (1.0 - NEARLY_SPENT) * budget:
        return AT_RISK, "the error budget is nearly spent"
    said = affirm(MET, Basis((covered,)))
    return said.word, "; ".join(said.missing) or "inside the target"


def gauges(
    name: str, points: Sequence[Point], target: float, *, now: float, least: float
) -> Iterator[Measurement]:
    """A component's levels as figures (of `overall`, the system's, which are no component's): per
    window the availability, the budget left, the burn rate and the share of time nobody looked.
    What is not known is left out; so are budgets and burn rates of a window of which less than the
    share `least` was watched."""
    prefix, labels = "payment_api", {"component": name}
    if name == OVERALL:
        prefix, labels = "payment_api_system", {}
    yield Measurement(f"{prefix}_sla_target_ratio", target, labels)
    for window, seconds in GAUGE_WINDOWS.items():
        seen = span(points, now=now, seconds=seconds)
        for figure, value in _figures(seen, target, least).items():
            yield Measurement(f"{prefix}_{figure}", value, {**labels, "window": window})
    burning = _burning(points, target, now, least)
    if burning is not None:
        yield Measurement(f"{prefix}_error_budget_burning", burning, labels)


def _burning(points: Sequence[Point], target: float, now: float, least: float) -> Optional[float]:
    """The burn rate that limits judge, reckoned as over one hour: the most urgent of three windows,
    each only as far as its end shows it too, so that what is over is not told a second time. In
    the slow ones an outage counts for nothing, since it was told as such; they are for probes that
    fail now and then. None: too little was watched."""

    def reached(seen: Sequence[Point], windows: tuple[float, float]) -> Optional[float]:
        spans = [span(seen, now=now, seconds=seconds) for seconds in windows]
        rates = [_judged_burn(each, target, least) for each in spans]
        return None if None in rates else min(rate for rate in rates if rate is not None)

    fast = reached(points, (HOUR, STILL))
    if fast is None:
        return None
    now_and_then = tuple(_without_outages(points))
    rates = [fast]
    for windows, worth, most in _SLOW_BURNS:
        rate = reached(now_and_then, windows)
        if rate is not None:
            rates.append(min(rate * worth, most))
    return max(rates)


def _without_outages(points: Sequence[Point]) -> Iterator[Point]:
    """Points, oldest first, without those that are down beside another that is."""
    down = [False, *(point.mean < 0.5 for point in points), False]
    for place, point in enumerate(points, 1):
        if not (down[place] and (down[place - 1] or down[place + 1])):
            yield point


def _figures(seen: Span, target: float, least: float) -> Mapping[str, float]:
    level = ServiceLevel("", target, seen, {}, "", "", least)
    figures = {
        "sla_availability_ratio": seen.availability,
        "error_budget_remaining_ratio": level.budget_left_ratio,
        "error_budget_burn_rate": _judged_burn(seen, target, least),
        "sla_unknown_ratio": seen.unknown / seen.seconds,
    }
    return {name: value for name, value in figures.items() if value is not None}
