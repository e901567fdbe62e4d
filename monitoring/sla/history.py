"""Acquire: recorded availability by component, and the service levels as figures, kept for a
minute: they move slowly and a month of samples is many rows."""

from __future__ import annotations

import logging
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from monitoring.certainty import watched_seconds
from monitoring.history import HistoryError, Point, Series
from monitoring.model import Measurement
from monitoring.probing import cache, login, vault
from monitoring.service_levels import GAUGE_WINDOWS, OVERALL, gauges
from monitoring.settings import Settings, SlaSettings

_FRESH = 60.0

_log = logging.getLogger("monitoring.sla.history")


def targets_of(sla: SlaSettings) -> Mapping[str, float]:
    """Availability targets by component, the whole's last."""
    return {**sla.availability, OVERALL: sla.overall}


def unconfigured(settings: Settings) -> List[str]:
    """The components that nobody asks, as their probes decide it."""
    canary = settings.canary
    asked = {
        settings.eapi.name: settings.eapi.paths.get("health"),
        settings.sapi.name: settings.sapi.paths.get("health"),
        vault.NAME: settings.conjur.url,
        cache.NAME: settings.redis.host,
        login.NAME: canary.client_id and canary.client_secret,
    }
    return [name for name, there in asked.items() if not there]


def availability(history: Any, name: str, *, now: float, lookback: float) -> Sequence[Point]:
    """Points of a component (or of `overall`) over the last `lookback` seconds, oldest first; of
    several monitors that watched it the one that looked most is believed. Raises HistoryError."""
    metric, labels = "payment_api_health_status", {"component": name}
    if name == OVERALL:
        metric, labels = "payment_api_system_up", {}
    found: List[Series] = history.series(metric, labels, now - lookback, now)
    start = now - lookback
    return max(
        (series.points for series in found),
        key=lambda points: watched_seconds(points, start, now),
        default=(),
    )


class SlaGauges:
    """The figures of `service_levels.gauges`, read anew at most once a minute."""

    def __init__(self, history: Any, sla: SlaSettings) -> None:
        self._history, self._targets = history, targets_of(sla)
        self._least = sla.minimum_watched
        self._read_at = float("-inf")
        self._figures: Tuple[Measurement, ...] = ()

    def measurements(self, now: float) -> Tuple[Measurement, ...]:
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
            points = availability(self._history, name, now=now, lookback=longest)
            yield from gauges(name, points, target, now=now, least=self._least)
