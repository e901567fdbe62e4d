"""Availability, error budgets and burn rates, worked out by hand; and how they are shown."""

from __future__ import annotations

import json

import pytest

from monitoring.sla.levels import (
    BURN_WINDOWS,
    ServiceLevel,
    Span,
    _verdict,
    burn_rate,
    gauges,
    report,
    span,
)
from monitoring.sla.report import FORMATS
from monitoring.store.lookback import Point

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
    (row,) = report({"c": samples}, {"c": target}, now=NOW, lookback=lookback, least=0.5).rows
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
    row = level([Point(NOW, 3600.0, 0.75, 0.0, 1.0, 60)], lookback=HOUR)
    assert (row.span.up, row.span.down) == (2700.0, 900.0)


def point(ended, seconds, mean=1.0):
    """A sample that ended so many seconds ago."""
    return Point(NOW - ended, seconds, mean, mean, mean, 1)


@pytest.mark.parametrize(
    ("samples", "up", "down", "sentence"),
    [
        ([point(HOUR - 100, 300)], 100, 0, "across the beginning of the window"),
        ([point(HOUR, 300)], 0, 0, "ended as the window began"),
        ([point(HOUR - 300, 300)], 300, 0, "began with the window"),
        ([point(-100, 300, 0.0)], 0, 200, "ends after the window"),
        ([point(-300, 300)], 0, 0, "begins as the window ends"),
        ([point(-60, 2 * HOUR, 0.5)], 1800, 1800, "longer than the window"),
        ([point(300, 300), point(300, 300)], 300, 0, "recorded by two scripts"),
        ([point(300, 300), point(300, 300, 0.0)], 150, 150, "two that saw different things"),
        ([point(200, 300), point(0, 300, 0.0)], 250, 250, "one overlaps the next"),
        ([point(400, 100, 0.0), point(0, 900)], 850, 50, "one within another"),
    ],
)
def test_a_sample_counts_with_the_seconds_inside_the_window(samples, up, down, sentence):
    seen = span(samples, now=NOW, seconds=HOUR)
    assert (seen.up, seen.down) == (pytest.approx(up), pytest.approx(down)), sentence
    assert seen.watched <= HOUR


@pytest.mark.parametrize(
    ("seconds", "mean", "verdict", "why"),
    [
        (300.0, 1.0, "unknown", "too little watched (0.011 %)"),
        (MONTH / 2 - 1, 1.0, "unknown", "too little watched (49.9 %)"),
        (MONTH / 2, 1.0, "met", "inside the target"),
        (300.0, 0.0, "unknown", "too little watched (0.011 %)"),  # the rest may have been up
        (2400.0, 0.0, "at_risk", "the error budget is nearly spent"),  # even if the rest was up
        (2600.0, 0.0, "missed", "more time was lost than the target allows"),
    ],
)
def test_nothing_good_is_said_of_a_window_that_was_hardly_watched(seconds, mean, verdict, why):
    row = level([point(100 * HOUR, seconds, mean)])
    assert (row.verdict, row.why) == (verdict, why)
    assert (row.budget_left_ratio is None) is (seconds < MONTH / 2)


def test_a_burn_rate_needs_a_window_that_was_watched():
    row = level([point(0, 1700, 0.0)], lookback=HOUR)
    assert row.burn == {"1h": None, "6h": None, "3d": None}
    row = level([point(0, 1800, 0.0)], lookback=HOUR)
    assert row.burn["1h"] == pytest.approx(1000.0)


def figures(samples):
    found = gauges("c", samples, 0.999, now=NOW, least=0.5)
    return {(f.name[len("payment_api_") :], f.labels.get("window", "")): f.value for f in found}


def test_gauges_of_windows_that_were_hardly_watched_are_left_out():
    young = figures([point(0, 300, 0.0)])
    assert young["sla_availability_ratio", "30d"] == 0.0
    assert young["sla_unknown_ratio", "30d"] == pytest.approx(1 - 300 / MONTH)
    assert not [name for name, _ in young if name.startswith("error_budget")]
    hour = figures([point(0, HOUR, 0.0)])
    judged = {window for name, window in hour if name == "error_budget_burn_rate"}
    assert judged == {"1h"}
    assert hour["error_budget_burning", ""] == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("failed", "burning"),
    [
        (range(120, 4320, 800), 8.33),  # now and then for three days: a warning (from 6)
        (range(10, 360, 160), 20.0),  # thrice in six hours: somebody is woken (from 14.4)
        ((10,), 50.0 / 3),  # once, a moment ago: one minute of an hour
        ((30,), 1.39),  # once: the hour ends well, and of three days it is nothing
        (range(180, 200), 0.0),  # an outage three hours ago was told as such
        ((180, 181), 0.0),  # of two minutes as well
        ((0, 160, 320), 20.0),  # the newest minute stands alone
        (range(319, 4320, 800), 8.33),  # and so does the oldest
        ((), 0.0),
    ],
    ids=["3d", "6h", "1h", "over", "outage", "short", "newest", "oldest", "fine"],
)
def test_the_most_urgent_of_three_windows_burns(failed, burning):
    minutes = {*failed}
    past = [point(60 * n, 60, float(n not in minutes)) for n in range(4319, -1, -1)]
    assert figures(past)["error_budget_burning", ""] == pytest.approx(burning, rel=0.05)


def test_a_minute_that_was_half_up_is_no_outage():
    halves = {10, 11, 170, 171, 330, 331}
    past = [point(60 * n, 60, 0.5 if n in halves else 1.0) for n in range(4319, -1, -1)]
    assert figures(past)["error_budget_burning", ""] == pytest.approx(20.0, rel=0.05)


def test_what_nobody_asks_counts_for_nothing():
    seen = {"a": points((MONTH, 0, 1.0), every=HOUR)}
    found = report(seen, {"a": 0.999, "b": 0.999}, now=NOW, lookback=MONTH, least=0.5,
                   unconfigured=["b"])  # fmt: skip
    assert found.exit_status == 0
    assert (found.rows[1].verdict, found.rows[1].why) == (
        "unknown", "not configured, so not watched")  # fmt: skip


def test_a_perfect_target():
    assert level(points((HOUR, 0, 1.0)), target=1.0, lookback=HOUR).verdict == "met"
    row = level(points((MONTH, 200 * HOUR, 1.0), (200 * HOUR, 200 * HOUR - 60, 0.0)), target=1.0)
    assert (row.verdict, row.budget_left_ratio) == ("missed", None)


@pytest.mark.parametrize(
    ("shares", "status"),
    [
        ({"a": 1.0, "b": 1.0}, 0),
        ({"a": 1.0, "b": 0.9995}, 0),
        ({"a": 1.0, "b": 0.99905}, 1),  # 95 % of the budget is used
        ({"a": 0.5, "b": 0.99905}, 2),
        ({"a": 1.0, "b": None}, 1),  # something that should be seen and is not
        ({"a": None, "b": None}, 3),
    ],
)
def test_exit_status(shares, status):
    samples = {n: points((MONTH, 80 * HOUR, s), every=HOUR) for n, s in shares.items() if s}
    targets = dict.fromkeys(shares, 0.999)
    assert report(samples, targets, now=NOW, lookback=MONTH, least=0.5).exit_status == status


def sample_report():
    samples = {"payment-eapi": points((MONTH, 0, 1.0), every=HOUR),
               "overall": points((MONTH, 3000, 1.0), (3000, 0, 0.0), every=60.0)}  # fmt: skip
    targets = {"payment-eapi": 0.999, "redis-cache": 0.9995, "overall": 0.999}
    return report(samples, targets, now=NOW, lookback=MONTH, least=0.5)


def test_json():
    document = json.loads(FORMATS["json"](sample_report()))
    assert document["exit_status"] == 2
    assert list(document["levels"]) == ["payment-eapi", "redis-cache", "overall"]
    missed = document["levels"]["overall"]
    assert (missed["downtime_minutes"], missed["verdict"]) == (50.0, "missed")
    assert missed["error_budget_left_minutes"] < 0
    assert missed["burn_rate"]["1h"] > 14
    assert document["levels"]["redis-cache"]["availability"] is None


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_tables(name):
    shown = FORMATS[name](sample_report())
    for said in ("payment-eapi", "99.950 %", "missed", "50.0", "nothing was recorded", "Unknown"):
        assert said in shown
    if name == "markdown":
        table = [line for line in shown.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) == 1
        assert len(table) == 5


def test_the_text_fits_a_terminal_of_80_columns():
    burnt = points((MONTH, 0, 0.0), every=HOUR)
    levels = report({LOGIN: burnt}, {LOGIN: 0.9999}, now=NOW, lookback=MONTH, least=0.5)
    lines = FORMATS["text"](levels).splitlines()
    assert max(map(len, lines)) <= 80, lines
    assert any(line.split() == [LOGIN, *["10,000.0x"] * 3] for line in lines), lines


def test_almost_all_is_not_shown_as_all():
    row = points((MONTH, 0, 0.9999999), every=HOUR)
    shown = FORMATS["text"](report({"c": row}, {"c": 0.999}, now=NOW, lookback=MONTH, least=0.5))
    assert "99.999 %" in shown
    assert "100.000 %" not in shown


def test_a_report_begins_where_its_window_does():
    found = report({}, {"c": 0.999}, now=NOW, lookback=MONTH, least=0.5)
    assert (found.start, found.at) == (NOW - MONTH, NOW)


def verdict(seen, target, burn=None, least=0.5):
    return _verdict(seen, target, burn or {}, least)[0]


@pytest.mark.parametrize(
    ("sentence", "seen", "target", "burn", "word"),
    [
        ("what sums of floats leave is no miss", Span(1e8, 1e8 - 1, 1.0), 1.0, {}, "met"),
        ("more than that is", Span(1e8, 1e8 - 1.5, 1.5), 1.0, {}, "missed"),
        ("a rate at its limit is fast", Span(MONTH, MONTH, 0.0), 0.999, {"1h": 14.4}, "at_risk"),
        ("one below it is not", Span(MONTH, MONTH, 0.0), 0.999, {"1h": 14.3}, "met"),
        ("a tenth of the budget is left", Span(1000.0, 550.0, 450.0), 0.5, {}, "met"),
        ("less than a tenth", Span(1000.0, 549.0, 451.0), 0.5, {}, "at_risk"),
        ("of a budget below a second too", Span(100.0, 99.905, 0.095), 0.999, {}, "at_risk"),
    ],
)
def test_verdicts_at_their_limits(*, sentence, seen, target, burn, word):
    assert verdict(seen, target, burn) == word, sentence


def test_small_spans():
    assert burn_rate(Span(HOUR, 3599.5, 0.5), 0.999) == pytest.approx(0.5 / 3600 / 0.001)
    assert burn_rate(Span(HOUR, 0.25, 0.25), 0.999) == pytest.approx(500.0)
    assert Span(HOUR, 0.5, 0.0).availability == 1.0
    assert Span(0.0, 0.0, 0.0).coverage(0.5).sentence == "nothing was recorded in this time"
    assert Span(1.0, 0.25, 0.0).coverage(0.5).sentence.startswith("too little watched (25")
    level = ServiceLevel("c", 0.999, Span(500.0, 500.0, 0.0), {}, "met", "")
    assert level.budget_left_ratio == 1.0
    assert Span(HOUR, 3000.0, 0.0).unknown == 600.0
