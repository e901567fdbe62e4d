"""Values: what a lookback returns, and the choice of where it is read from.

`local` keeps samples in the state file; `prometheus` asks a Prometheus-compatible server. Both
have `series(name, labels, start, end)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from monitoring.model import Fault


class Point(NamedTuple):
    """What was measured in the `seconds` of watched time that end at `at` (epoch seconds).

    `mean` is weighted by time, `low` and `high` are the extremes, `n` the measurements behind it.
    Time nobody watched has no point: the sum of `seconds` against the window tells how much."""

    at: float
    seconds: float
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Series:
    """Points of one label set, oldest first. `warnings` not empty: the server says that it could
    not give all of them."""

    labels: Mapping[str, str]
    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()


class HistoryError(Exception):
    """The history could not be read; `fault` has the kind and one sentence for the operator."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class History(Protocol):
    """Where a lookback is read from."""

    def series(
        self, name: str, labels: Mapping[str, str], start: float, end: float
    ) -> list[Series]:
        """Every series of the metric that has `labels` (and perhaps more), points in
        (start, end]. Raises HistoryError."""
