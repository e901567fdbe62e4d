"""How long a sample speaks, and when rows are old enough."""

from __future__ import annotations

from typing import Optional

import pytest

from monitoring.config.settings import HistorySettings
from monitoring.store.history import horizon, plan, stands_for

DAY = 86400.0


@pytest.mark.parametrize(
    ("elapsed", "interval", "seconds", "because"),
    [
        (None, 60.0, 60.0, "a first sample speaks for one interval"),
        (60.0, 60.0, 60.0, "cycles on time"),
        (58.0, 60.0, 58.0, "a little early: no second twice"),
        (75.0, 60.0, 75.0, "a little late: no second lost"),
        (90.0, 60.0, 90.0, "just still late"),
        (120.0, 60.0, 60.0, "a cycle was missed: its minute is not claimed"),
        (10800.0, 60.0, 60.0, "the monitor slept for three hours"),
        (312.0, 300.0, 312.0, "cron with its jitter"),
        (5.0, 60.0, 5.0, "restarted in a loop: never more than the time there was"),
        (200.0, 300.0, 200.0, "a run by hand between two of cron"),
        (0.0, 60.0, 60.0, "replaces the sample at the same moment"),
        (-30.0, 60.0, 60.0, "the clock was set back"),
    ],
)
def test_stands_for(
    elapsed: Optional[float], interval: float, seconds: float, because: str
) -> None:
    assert stands_for(elapsed, interval) == seconds, because


def test_limits_of_the_plan_lie_on_the_grid() -> None:
    settings = HistorySettings(raw_for=2 * DAY, fine_for=14 * DAY, retention=90 * DAY)
    due = plan(settings, 100 * DAY + 1234.5)
    assert (due.fine_until, due.coarse_until) == (98 * DAY + 1200, 86 * DAY)
    assert due.drop_until == 10 * DAY + 1234.5


@pytest.mark.parametrize(
    ("now", "before", "until", "because"),
    [
        (1000.0, None, 1000.0, "the first time"),
        (5000.0, 1000.0, 5000.0, "an hour later"),
        (400 * DAY, 10 * DAY, 11 * DAY, "a clock that jumps a year ahead moves it by a day"),
        (9 * DAY, 10 * DAY, 9 * DAY, "a clock set back is followed"),
    ],
)
def test_horizon(now: float, before: Optional[float], until: float, because: str) -> None:
    assert horizon(now, before) == until, because
