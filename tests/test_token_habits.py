"""The aggregate figures of the token cache are watched for what leaves their habit."""

from __future__ import annotations

import math
from pathlib import Path

from monitoring.model import Measurement
from monitoring.store.state import State
from monitoring.tokens.memory import REASON, WATCHED, Habits

RATE = WATCHED[0][0]
START = 1793577600.0  # a Monday, 00:00 UTC
HOUR = 3600.0


def figures(rate: float | None) -> list[Measurement]:
    return [Measurement(RATE, rate), Measurement("payment_api_tokens_active", 1000.0)]


def usual(hour: int) -> float:
    return 60.0 + 40.0 * math.sin(2 * math.pi * hour / 24)


def fed(state: State, hours: int) -> list[str]:
    """Three weeks of the usual course, each cycle from a new process, as under cron."""
    return [
        f.sentence
        for h in range(hours)
        for f in Habits(state).feed(figures(usual(h)), START + h * HOUR)
    ]


def test_a_leap_of_the_generation_rate_is_found_and_the_usual_is_not(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        assert fed(state, 21 * 24) == []
        found = []
        for extra in range(3):
            at = START + (21 * 24 + extra) * HOUR
            found += Habits(state).feed(figures(600.0), at)
    assert {f.reason for f in found} == {REASON}
    assert found[0].evidence["metric"] == RATE
    assert "Token generation per minute" in found[0].sentence


def test_what_was_not_measured_is_a_gap_and_no_silence(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        fed(state, 21 * 24)
        found = []
        for h in range(24):
            found += Habits(state).feed(figures(None), START + (21 * 24 + h) * HOUR)
    assert found == []


def test_damaged_memory_starts_anew(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        fed(state, 3)
        state.put("habits", RATE, "not json")
        assert Habits(state).feed(figures(1.0), START + 3 * HOUR) == []
