"""Decision: is a figure within its configured limits?

One ladder for all three scripts: which thresholds concern a measurement comes from the catalogue,
their numbers from the settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Optional

from monitoring.catalog import THRESHOLDS, Threshold
from monitoring.certainty import Basis, Coverage, Doubt, severity
from monitoring.config.settings import Limit
from monitoring.model import Measurement, Severity, Verdict
from monitoring.text import amount, say as duration

#: The thresholds of each metric: of 10,000 clients' figures most have none.
_OF_METRIC: dict[str, list[tuple[str, Threshold]]] = {}
for _name, _threshold in THRESHOLDS.items():
    _OF_METRIC.setdefault(_threshold.metric, []).append((_name, _threshold))


def judge(measurements: Iterable[Measurement], limits: Mapping[str, Limit]) -> tuple[Verdict, ...]:
    """One verdict for each measurement and each threshold that concerns it, in their order.

    `limits` maps `Threshold.name` to numbers in the threshold's unit; a name that is absent, or
    has neither number, judges nothing. `Verdict.limit` is the number crossed, in the metric's
    unit (None: none was crossed). A limit is crossed when it is reached. `why` is one of
    `above_critical`, `above_warning`, `below_critical`, `below_warning`, `within_limits`,
    `in_doubt` (no limit is crossed, by a figure that may be another: severity UNKNOWN) and
    `not_measured` (value None or NaN: severity UNKNOWN). Of a figure that is only known to be
    `at_least` something, the verdict is on that when it crosses a limit, else `not_measured`.
    """
    return tuple(verdict for figure in measurements for verdict in _verdicts(figure, limits))


def concerns(threshold: Threshold, measurement: Measurement) -> bool:
    """Whether the threshold judges this measurement: same metric, labels among its `where`."""
    if threshold.metric != measurement.name:
        return False
    return all(measurement.labels.get(name) in among for name, among in threshold.where.items())


def say(verdict: Verdict) -> str:
    """`response time 612 ms (critical from 500 ms)`: the figure, and the limit it crossed if it
    did, in the threshold's own unit."""
    threshold = THRESHOLDS[verdict.threshold]
    value, limit = in_unit(verdict.measurement.value, threshold), in_unit(verdict.limit, threshold)
    unit = threshold.spoken_unit
    shown = f"{threshold.noun} {'not known' if value is None else _amount(value, unit)}"
    if limit is None:
        return shown
    return f"{shown} ({verdict.severity.word} {threshold.side} {_amount(limit, unit)})"


def _amount(value: float, unit: str) -> str:
    """Hours of seconds are told as hours: `2 h`."""
    return duration(value) if unit == "s" and value >= 3600 else amount(value, unit)


def in_unit(value: Optional[float], threshold: Threshold) -> Optional[float]:
    """From the metric's unit to the threshold's."""
    return None if value is None else value / threshold.scale


def _verdicts(figure: Measurement, limits: Mapping[str, Limit]) -> Iterator[Verdict]:
    for name, threshold in _OF_METRIC.get(figure.name, ()):
        limit = limits.get(name)
        if limit is None or (limit.warning is None and limit.critical is None):
            continue
        if concerns(threshold, figure):
            yield _verdict(figure, threshold, limit)


def _verdict(figure: Measurement, threshold: Threshold, limit: Limit) -> Verdict:
    least = figure.at_least
    if figure.value is None and least is not None and threshold.worse == "higher":
        verdict = _verdict(replace(figure, value=least), threshold, limit)
        if verdict.severity > Severity.UNKNOWN:
            return verdict
    if figure.value is None or math.isnan(figure.value):
        return Verdict(figure, Severity.UNKNOWN, None, "not_measured", threshold.name)
    side = "above" if threshold.worse == "higher" else "below"
    ladder = ((Severity.CRITICAL, limit.critical), (Severity.WARNING, limit.warning))
    for level, number in ladder:
        bound = None if number is None else number * threshold.scale
        if _reached(figure.value, bound, threshold):
            return Verdict(figure, level, bound, f"{side}_{level.word}", threshold.name)
    within = _within(figure.doubts)
    why = "within_limits" if within is Severity.OK else "in_doubt"
    return Verdict(figure, within, None, why, threshold.name)


@lru_cache(maxsize=1024)  # most figures have the same doubts: none
def _within(doubts: tuple[Doubt, ...]) -> Severity:
    """Of a figure that crosses no limit."""
    return severity((), Basis((Coverage("figures", 1, 1),), doubts))


def _reached(value: float, bound: Optional[float], threshold: Threshold) -> bool:
    if bound is None:
        return False
    if threshold.worse == "lower":
        return value <= bound
    # A clock may be wrong in either direction; every other figure that is worse when higher
    # cannot be far below zero.
    skew = threshold.metric == "payment_api_clock_skew_seconds"
    return (abs(value) if skew else value) >= bound
