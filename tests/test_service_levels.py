"""Availability, error budgets and burn rates, worked out by hand; and how they are shown."""

from __future__ import annotations

import json

import pytest

from monitoring.history import Point
from monitoring.service_levels import BURN_WINDOWS, Span, burn_rate, report, span
from monitoring.sla.report import FORMATS

NOW = 1_795_400_000.0
MONTH = 30 * 86400.0
HOUR = 3600.0

LOGIN = "authentication-flow"  # the longest name


def points(*runs, every=60.0):
    """`runs` of (how long ago it began, how long ago it ended, share of time up)."""
    made = []
    for began, ended, mean in runs:
        count = int((began - ended) / every)
        ends = [NOW - began + every * (i + 1) for i in range(count)]
        made += [Point(at, every, mean, mean, mean, 1) for at in ends]
    return made


def level(samples, target=0.999, lookback=MONTH):
    (row,) = report({"c": samples}, {"c": target}, now=NOW, lookback=lookback).rows
    return row


def test_one_outage_in_thirty_days():
    row = level(points((MONTH, 100 * HOUR, 1.0), (100 * HOUR, 100 * HOUR - 1200, 0.0),
                       (100 * HOUR - 1200, 0, 1.0)))  # fmt: skip
    assert row.span.availability == pytest.approx(1 - 1200 / MONTH)
    assert row.span.down == 1200.0
    assert row.span.unknown == pytest.approx(0.0)
    assert row.budget == pytest.approx(2592.0)  # 0.1 % of thirty days
    assert row.budget_left == pytest.approx(1392.0)
    assert row.budget_left_ratio == pytest.approx(1392 / 2592)
    assert row.burn == {"1h": 0.0, "6h": 0.0, "3d": 0.0}
    assert row.verdict == "met"


def test_time_nobody_looked_is_neither_up_nor_down():
    row = level(points((10 * 86400, 0, 1.0)))
    assert row.span.availability == 1.0
    assert row.span.unknown == pytest.approx(20 * 86400)
    # the budget is of the watched time: ten days, not thirty
    assert row.budget == pytest.approx(864.0)


def test_nothing_recorded():
    row = level([])
    assert (row.verdict, row.span.availability, row.budget_left_ratio) == ("unknown", None, None)
    assert row.burn == {"1h": None, "6h": None, "3d": None}


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ([(MONTH, 0, 1.0)], "met"),
        ([(MONTH, 10 * 86400, 1.0), (10 * 86400, 10 * 86400 - 2400, 0.0),
          (10 * 86400 - 2400, 0, 1.0)], "at_risk"),  # 2400 of 2592 s are gone
        ([(MONTH, 10 * 86400, 1.0), (10 * 86400, 10 * 86400 - 2640, 0.0),
          (10 * 86400 - 2640, 0, 1.0)], "missed"),
        ([(MONTH, 60, 1.0), (60, 0, 0.0)], "at_risk"),  # one bad minute: 16.7x over the hour
        ([(MONTH, 3 * HOUR, 1.0), (3 * HOUR, 3 * HOUR - 180, 0.0),
          (3 * HOUR - 180, 0, 1.0)], "at_risk"),  # 8.3x over six hours
        ([(MONTH, 30 * HOUR, 1.0), (30 * HOUR, 30 * HOUR - 300, 0.0),
          (30 * HOUR - 300, 0, 1.0)], "at_risk"),  # 1.2x over three days
        ([(MONTH, 30 * HOUR, 1.0), (30 * HOUR, 30 * HOUR - 240, 0.0),
          (30 * HOUR - 240, 0, 1.0)], "met"),  # 0.9x over three days
    ],
)  # fmt: skip
def test_verdicts(runs, verdict):
    assert level(points(*runs)).verdict == verdict


@pytest.mark.parametrize(
    ("up", "down", "target", "rate"),
    [
        (3600.0, 0.0, 0.999, 0.0),
        (3564.0, 36.0, 0.999, 10.0),
        (0.0, 3600.0, 0.999, 1000.0),
        (99.0, 1.0, 0.99, 1.0),
        (0.0, 0.0, 0.999, None),
        (99.0, 1.0, 1.0, None),  # a target that allows nothing has no rate
        (99.0, 0.0, 1.0, 0.0),
    ],
)
def test_burn_rate(up, down, target, rate):
    assert burn_rate(Span(HOUR, up, down), target) == (
        None if rate is None else pytest.approx(rate)
    )


def test_a_window_takes_the_points_that_end_in_it():
    samples = points((7200, 0, 1.0))
    assert span(samples, now=NOW, seconds=HOUR).watched == HOUR
    assert span([Point(NOW + 60, 60, 1, 1, 1, 1)], now=NOW, seconds=HOUR).watched == 0.0
    assert set(BURN_WINDOWS) == {"1h", "6h", "3d"}


def test_thinned_points_count_their_share():
    row = level([Point(NOW - 60, 3600.0, 0.75, 0.0, 1.0, 60)], lookback=HOUR)
    assert (row.span.up, row.span.down) == (2700.0, 900.0)


def test_a_perfect_target():
    assert level(points((HOUR, 0, 1.0)), target=1.0).verdict == "met"
    row = level(points((MONTH, 200 * HOUR, 1.0), (200 * HOUR, 200 * HOUR - 60, 0.0)), target=1.0)
    assert (row.verdict, row.budget_left_ratio) == ("missed", None)


@pytest.mark.parametrize(
    ("shares", "status"),
    [
        ({"a": 1.0, "b": 1.0}, 0),
        ({"a": 1.0, "b": 0.9995}, 0),
        ({"a": 1.0, "b": 0.99905}, 1),  # 95 % of the budget is used
        ({"a": 0.5, "b": 0.99905}, 2),
        ({"a": 1.0, "b": None}, 0),
        ({"a": None, "b": None}, 3),
    ],
)
def test_exit_status(shares, status):
    samples = {n: points((MONTH, 80 * HOUR, s), every=HOUR) for n, s in shares.items() if s}
    targets = dict.fromkeys(shares, 0.999)
    assert report(samples, targets, now=NOW, lookback=MONTH).exit_status == status


def sample_report():
    samples = {"payment-eapi": points((MONTH, 0, 1.0), every=HOUR),
               "overall": points((86400, 0, 1.0), (1200, 0, 0.0), every=60.0)}  # fmt: skip
    targets = {"payment-eapi": 0.999, "redis-cache": 0.9995, "overall": 0.999}
    return report(samples, targets, now=NOW, lookback=MONTH)


def test_json():
    document = json.loads(FORMATS["json"](sample_report()))
    assert document["exit_status"] == 2
    assert list(document["levels"]) == ["payment-eapi", "redis-cache", "overall"]
    missed = document["levels"]["overall"]
    assert (missed["downtime_minutes"], missed["verdict"]) == (20.0, "missed")
    assert missed["error_budget_left_minutes"] < 0
    assert missed["burn_rate"]["1h"] > 14
    assert document["levels"]["redis-cache"]["availability"] is None


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_tables(name):
    shown = FORMATS[name](sample_report())
    for said in ("payment-eapi", "99.950 %", "missed", "20.0", "nothing was recorded", "Unknown"):
        assert said in shown
    if name == "markdown":
        table = [line for line in shown.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) == 1
        assert len(table) == 5


def test_the_text_fits_a_terminal_of_80_columns():
    burnt = points((MONTH, 0, 0.0), every=HOUR)
    levels = report({LOGIN: burnt}, {LOGIN: 0.9999}, now=NOW, lookback=MONTH)
    lines = FORMATS["text"](levels).splitlines()
    assert max(map(len, lines)) <= 80, lines
    assert any(line.split() == [LOGIN, *["10000.0x"] * 3] for line in lines), lines


def test_almost_all_is_not_shown_as_all():
    row = points((MONTH, 0, 0.9999999), every=HOUR)
    shown = FORMATS["text"](report({"c": row}, {"c": 0.999}, now=NOW, lookback=MONTH))
    assert "99.999 %" in shown
    assert "100.000 %" not in shown
