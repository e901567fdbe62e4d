"""Decision: are we inside our service levels, and how fast is the error budget used?

Availability is up time / watched time; time in which nobody looked is unknown, shown apart, never
up and never down. The error budget is the down time that the target leaves of the watched time.
Burn rates and their limits follow chapter 5 of Google's "Site Reliability Workbook": 1 spends the
budget exactly by the end of the window, 14.4 over one hour spends a fiftieth of a month's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Mapping, Optional, Protocol, Sequence, Tuple

from monitoring.model import Measurement

HOUR = 3600.0
BURN_WINDOWS: Mapping[str, float] = {"1h": HOUR, "6h": 6 * HOUR, "3d": 72 * HOUR}
GAUGE_WINDOWS: Mapping[str, float] = {**BURN_WINDOWS, "30d": 720 * HOUR}
#: A burn rate from which the budget is in danger, per window.
FAST_BURN: Mapping[str, float] = {"1h": 14.4, "6h": 6.0, "3d": 1.0}
#: A budget with less than this left is nearly spent.
NEARLY_SPENT = 0.1
#: Seconds that must have been watched before a burn rate is a figure to be judged.
ENOUGH = 0.5 * HOUR
#: A burn that ended is no alarm: the last quarter of an hour must show it too.
STILL = 0.25 * HOUR
OVERALL = "overall"


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


@dataclass(frozen=True)
class ServiceLevel:
    """One component against its target (a ratio). `burn` maps a window to its rate; None: nobody
    looked then. `verdict` is met, at_risk, missed or unknown, `why` says what made it so."""

    component: str
    target: float
    span: Span
    burn: Mapping[str, Optional[float]]
    verdict: str
    why: str

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
        """Share of the budget left; None: nobody looked, or a target of 1 leaves no budget."""
        return self.budget_left / self.budget if self.budget > 0 else None


@dataclass(frozen=True)
class SlaReport:
    """Rows of the components and, last, of the whole; `at` and the window's start are epoch."""

    at: float
    start: float
    rows: Tuple[ServiceLevel, ...] = field(default_factory=tuple)

    @property
    def exit_status(self) -> int:
        """0 inside, 1 at risk, 2 a target missed, 3 nothing was recorded."""
        verdicts = {row.verdict for row in self.rows}
        for verdict, status in (("missed", 2), ("at_risk", 1), ("met", 0)):
            if verdict in verdicts:
                return status
        return 3


def report(
    points: Mapping[str, Sequence[Point]],
    targets: Mapping[str, float],
    *,
    now: float,
    lookback: float,
) -> SlaReport:
    """The levels of every component of `targets`, in their order, over the last `lookback`
    seconds. `points` holds availability by component, oldest first, of at least the longest burn
    window."""
    rows = [_level(name, targets[name], points.get(name, ()), (now, lookback)) for name in targets]
    return SlaReport(now, now - lookback, tuple(rows))


def span(points: Sequence[Point], *, now: float, seconds: float) -> Span:
    """What `points` (oldest first) say of the last `seconds`."""
    watched = up = 0.0
    start = now - seconds
    for point in reversed(points):
        if point.at <= start:
            break
        if point.at <= now:
            watched += point.seconds
            up += point.mean * point.seconds
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


def _level(
    name: str, target: float, points: Sequence[Point], window: Tuple[float, float]
) -> ServiceLevel:
    now, lookback = window
    seen = span(points, now=now, seconds=lookback)
    burn = {
        label: burn_rate(span(points, now=now, seconds=seconds), target)
        for label, seconds in BURN_WINDOWS.items()
    }
    verdict, why = _verdict(seen, target, burn)
    return ServiceLevel(name, target, seen, burn, verdict, why)


def _verdict(seen: Span, target: float, burn: Mapping[str, Optional[float]]) -> Tuple[str, str]:
    if seen.availability is None:
        return "unknown", "nothing was recorded in this time"
    budget = (1.0 - target) * seen.watched
    # Sums of many small floats: a second in three years is no miss.
    if seen.down > budget + 1e-8 * seen.watched:
        return "missed", "more time was lost than the target allows"
    fast = [f"{w} at {r:.1f}x" for w, r in burn.items() if r is not None and r >= FAST_BURN[w]]
    if fast:
        return "at_risk", f"the error budget burns fast ({', '.join(fast)})"
    if budget > 0 and seen.down > (1.0 - NEARLY_SPENT) * budget:
        return "at_risk", "the error budget is nearly spent"
    return "met", "inside the target"


def gauges(
    name: str, points: Sequence[Point], target: float, *, now: float
) -> Iterator[Measurement]:
    """A component's levels as figures: per window the availability, the budget left, the burn
    rate and the share of time nobody looked. What is not known is left out; so are burn rates
    until half an hour was watched, since limits judge them and one bad cycle of two is no rate."""
    yield Measurement("payment_api_sla_target_ratio", target, {"component": name})
    for window, seconds in GAUGE_WINDOWS.items():
        labels = {"component": name, "window": window}
        seen = span(points, now=now, seconds=seconds)
        for figure, value in _figures(seen, target).items():
            yield Measurement(f"payment_api_{figure}", value, labels)
    burning = _burning(points, target, now)
    if burning is not None:
        yield Measurement("payment_api_error_budget_burning", burning, {"component": name})


def _burning(points: Sequence[Point], target: float, now: float) -> Optional[float]:
    """The burn rate that the last hour and its last quarter both reach: what limits judge, so
    that an outage which is over is not told a second time. None: too little was watched."""
    hour, still = (span(points, now=now, seconds=seconds) for seconds in (HOUR, STILL))
    if hour.watched < ENOUGH or still.watched <= 0:
        return None
    rates = (burn_rate(hour, target), burn_rate(still, target))
    return None if None in rates else min(rate for rate in rates if rate is not None)


def _figures(seen: Span, target: float) -> Mapping[str, float]:
    figures = {
        "sla_availability_ratio": seen.availability,
        "error_budget_remaining_ratio": ServiceLevel(
            "", target, seen, {}, "", ""
        ).budget_left_ratio,
        "error_budget_burn_rate": burn_rate(seen, target) if seen.watched >= ENOUGH else None,
        "sla_unknown_ratio": seen.unknown / seen.seconds,
    }
    return {name: value for name, value in figures.items() if value is not None}
