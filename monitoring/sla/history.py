"""Acquire: recorded availability by component, and the service levels as figures, kept for a
minute: they move slowly and a month of samples is many rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitoring.certainty import watched_seconds
from monitoring.config.settings import RunSettings, SlaSettings
from monitoring.model import Measurement
from monitoring.sla.levels import GAUGE_WINDOWS, OVERALL, gauges
from monitoring.store.lookback import HistoryError, Point, Series

_FRESH = 60.0
_SCRIPT, _LAST_CYCLE = "health_check", "payment_api_last_cycle_timestamp_seconds"

_log = logging.getLogger("monitoring.sla.history")


def targets_of(sla: SlaSettings) -> Mapping[str, float]:
    """Availability targets by component, the whole's last."""
    return {**sla.availability, OVERALL: sla.overall}


def overdue_after(run: RunSettings) -> float:
    """Seconds after which the last finished cycle of health_check is no news any more."""
    return 3 * max(run.intervals.get(_SCRIPT, 0.0), run.cron_interval) + run.cycle_deadline


def availability(
    history: Any, name: str, *, now: float, lookback: float, overdue: float = math.inf
) -> Sequence[Point]:
    """Points of a component (or of `overall`) over the last `lookback` seconds, oldest first; of
    several monitors that watched it the one that looked most is believed. An exporter that hangs
    shows its last cycle for ever: a point whose newest cycle was over more than `overdue` seconds
    before it was not watched. Raises HistoryError."""
    metric, labels = "payment_api_health_status", {"component": name}
    if name == OVERALL:
        metric, labels = "payment_api_system_up", {}
    found: list[Series] = history.series(metric, labels, now - lookback, now)
    start = now - lookback
    points: Sequence[Point] = max(
        (series.points for series in found),
        key=lambda points: watched_seconds(points, start, now),
        default=(),
    )
    points = _from_first_look(points, start)
    if math.isinf(overdue) or not points:
        return points
    cycles = _last_cycles(history, now - lookback, now)
    return [p for p in points if p.at - cycles.get(p.at, p.at) <= overdue]


#: Seconds that a first look speaks for.
_MOMENT = 1.0


def _from_first_look(points: Sequence[Point], start: float) -> Sequence[Point]:
    """A sample stands for the time since the one before. Before the first nobody watched: it
    speaks for its moment."""
    if not points or points[0].at - points[0].seconds <= start + _MOMENT:
        return points  # it goes on from before the window
    first = points[0]
    rest = first.seconds * (1.0 - 1.0 / max(1, first.n))  # of those merged with it
    return (first._replace(seconds=max(rest, min(first.seconds, _MOMENT))), *points[1:])


def _last_cycles(history: Any, start: float, end: float) -> Mapping[float, float]:
    """When the newest cycle was over that was shown at each time; only where it is recorded."""
    newest: dict[float, float] = {}
    for series in history.series(_LAST_CYCLE, {"script": _SCRIPT}, start, end):
        for point in series.points:
            newest[point.at] = max(point.high, newest.get(point.at, 0.0))
    return newest


class SlaGauges:
    """The figures of `levels.gauges`, read anew at most once a minute."""

    def __init__(self, history: Any, sla: SlaSettings, overdue: float = math.inf) -> None:
        self._overdue = overdue
        self._history, self._targets = history, targets_of(sla)
        self._least = sla.minimum_watched
        self._read_at = float("-inf")
        self._figures: tuple[Measurement, ...] = ()

    def measurements(self, now: float) -> tuple[Measurement, ...]:
        """None of them when the history cannot be read, which is logged."""
        if 0 <= now - self._read_at < _FRESH:
            return self._figures
        try:
            self._figures = tuple(self._read(now))
        except HistoryError as error:
            _log.error("service levels are not known: %s", error)
            self._figures = ()
        self._read_at = now
        return self._figures

    def _read(self, now: float) -> Iterator[Measurement]:
        """One component after the other: a month of all of them at once is megabytes."""
        longest = max(GAUGE_WINDOWS.values())
        for name, target in self._targets.items():
            points = availability(
                self._history, name, now=now, lookback=longest, overdue=self._overdue
            )
            yield from gauges(name, points, target, now=now, least=self._least)
