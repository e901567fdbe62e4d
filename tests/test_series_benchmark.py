"""The grader for labelled series: what it reads, and what it counts as found and as false."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from benchmarks.series import (
    DAY,
    HOUR,
    RULES,
    Grade,
    Scored,
    Series,
    best,
    grade,
    merged,
    moment,
    read,
)

FIRST = moment("2026-03-02T00:00:00Z")


def test_labelled_rows_become_events_and_rows_of_an_hour_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x.csv"
    rows = [
        ("2026-03-02T00:00:00Z", 1.4, 0),
        ("2026-03-02T00:30:00Z", 2.4, 0),
        ('"2026-03-02 01:00:00"', 7, 1),
        ("2026-03-02T02:00:00Z", 9, 1),
        ("2026-03-02T04:00:00Z", -3, 0),
    ]
    text = "\n".join(f"{at},{value},{label}" for at, value, label in rows)
    file.write_text("TimeStamp,Value,Label\n" + text + "\n")
    series = read(file, tmp_path, None, 1.0)
    assert series.name == "a/x.csv"
    assert [series.hours[FIRST + h * HOUR] for h in (0, 1, 2, 4)] == [4.0, 7.0, 9.0, 0.0]
    assert series.rows[1] == (FIRST + HOUR / 2, 2.4)
    assert series.events == [(FIRST + HOUR, FIRST + 3 * HOUR)]
    windows = {"a/x.csv": [["2026-03-02 00:30:00.000000", "2026-03-02 01:30:00.000000"]]}
    assert read(file, tmp_path, windows, 1.0).events == [(FIRST + 1800, FIRST + 5400)]


def test_windows_at_most_two_hours_apart_are_one_event() -> None:
    windows = [(5 * HOUR, 6 * HOUR), (0, HOUR), (3 * HOUR, 4 * HOUR), (9 * HOUR, 10 * HOUR)]
    assert merged(windows) == [(0, 6 * HOUR), (9 * HOUR, 10 * HOUR)]


@pytest.mark.parametrize(
    ("found", "hits", "false"),
    [
        ([], 0, 0),
        ([20 * 24], 1, 0),
        ([20 * 24 + 2], 1, 0),
        ([20 * 24 - 1], 1, 0),
        ([20 * 24 + 6], 0, 1),
        ([20 * 24 - 3], 0, 1),
        ([17 * 24, 17 * 24 + 5, 17 * 24 + 40], 0, 2),  # what follows within six hours counts once
        ([6 * 24], 0, 0),  # not graded yet
    ],
)
def test_what_is_found_and_what_is_false(found: list[int], hits: int, false: int) -> None:
    start = FIRST + 20 * DAY
    hours = {FIRST + h * HOUR: 1.0 for h in range(28 * 24)}
    series = Series("x", list(hours.items()), hours, [(start, start + 2 * HOUR)])
    got = grade(series, [FIRST + h * HOUR for h in found])
    assert got == Grade(1, hits, false, 21.0)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_each_rule_has_its_best_threshold(rule: Callable[[Series], Scored]) -> None:
    """A single spike in an even series is found by each, and with nothing false."""
    rows = [(FIRST + h * HOUR, 100.0 + h % 3) for h in range(28 * 24)]
    start, _ = rows[20 * 24]
    rows[20 * 24] = (start, 900.0)
    series = Series("x", rows, dict(rows), [(start, start + HOUR)])
    (found,) = best([series], [rule(series)])
    assert grade(series, found) == Grade(1, 1, 0, 21.0)
