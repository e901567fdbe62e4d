"""Decision: how much time a sample stands for, and which samples are old enough to be merged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from monitoring.settings import HistorySettings

FINE = 300.0  # seconds a row stands for at most after the first thinning
COARSE = 3600.0  # and after the second
_LATE = 1.5  # a cycle this many intervals after the one before still follows it without a gap
_STRIDE = 86400.0


def stands_for(elapsed: Optional[float], interval: float) -> float:
    """Seconds of watched time, ending with the sample, for which one sample speaks.

    `elapsed` is the time since the series' sample before; None when there is none. As long as
    cycles follow each other the whole of it is watched. A first sample, and one after a gap
    (monitor stopped, value unknown), speaks for one interval, as every cycle does that comes on
    time: more would claim time nobody watched, less would lose the outage of a single cycle."""
    if elapsed is not None and 0.0 < elapsed <= _LATE * interval:
        return elapsed
    return interval


@dataclass(frozen=True)
class Plan:
    """What pruning does: rows up to `fine_until` are merged to FINE, up to `coarse_until` to
    COARSE, up to `drop_until` dropped."""

    fine_until: float
    coarse_until: float
    drop_until: float


def plan(settings: HistorySettings, now: float) -> Plan:
    """The plan at `now`; limits lie on the grid, so that a bucket is merged whole and once."""
    return Plan(
        math.floor((now - settings.raw_for) / FINE) * FINE,
        math.floor((now - settings.fine_for) / COARSE) * COARSE,
        now - settings.retention,
    )


def horizon(now: float, before: Optional[float]) -> float:
    """The time from which ages are counted, given that of the pruning `before`.

    It moves a day at most: a clock that jumps a year ahead for a cycle must not cost the history.
    A clock set back is followed at once (less is dropped)."""
    return now if before is None else min(now, before + _STRIDE)
