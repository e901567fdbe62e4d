"""The detector on worlds of other shapes: wandering levels, holidays, clients that often pause."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
from functools import cache

import pytest

from monitoring.anomaly.detector import Detector, Usage
from monitoring.anomaly.profiles import Profile, decode
from monitoring.anomaly.scene import month_days
from tests.anomaly_worlds import (
    Client,
    crowd,
    hour_of,
    office,
    run,
    shaped,
    silent_during,
    steady,
    with_hours,
)

HOLIDAY = range(24 * 24, 25 * 24)  # a Thursday in the fourth week


def wandering(seed: int, mean: float = 2000.0) -> Client:
    """Hours resemble the hours beside them; days differ by half."""
    r, level, levels = random.Random(seed), 0.0, []
    for _ in range(900):
        level = 0.97 * level + r.gauss(0.0, 0.07)
        levels.append(mean * math.exp(level))
    return shaped(seed, lambda t: levels[t], None)


def profile_of(detector: Detector, name: str) -> Profile:
    return decode(detector.dump()[name])


@pytest.mark.parametrize("seed", range(4))
def test_a_wandering_level_does_not_hide_a_loud_hour(seed: int) -> None:
    calls = wandering(seed)(800)
    assert calls is not None
    world = {"c": with_hours(wandering(seed), {800: Usage(1.5 * calls.ok, 0)})}
    assert [f for f in run(world, range(801)) if hour_of(f) == 800]


@pytest.mark.parametrize("seed", range(4))
def test_a_wandering_level_is_no_misuse(seed: int) -> None:
    surges = [f for f in run({"c": wandering(seed)}, range(900)) if f.reason == "volume_spike"]
    assert not surges


def test_how_far_hours_resemble_their_neighbours_is_learned() -> None:
    detector = Detector()
    run({"smooth": wandering(1), "plain": steady(2)}, range(800), detector)
    texts = detector.dump()
    smooth, plain = decode(texts["smooth"]), decode(texts["plain"])
    assert smooth.carry() > 0.6
    assert plain.carry() < 0.2
    assert smooth.unforeseen(12) < 0.4
    assert plain.unforeseen(12) > 0.8


def test_an_hour_that_was_not_observed_foretells_nothing() -> None:
    detector = Detector()
    world = {"c": wandering(1)}
    run(world, [*range(400), *range(402, 403)], detector)
    assert profile_of(detector, "c").offset != 0.0
    profile = profile_of_after_gap(world)
    assert profile.offset == 0.0


def profile_of_after_gap(world: dict[str, Client]) -> Profile:
    detector = Detector()
    run(world, range(400), detector)
    profile = profile_of(detector, "c")
    profile.skip(1, 16)
    return profile


def closing(world: dict[str, Client], share: int, hours: range) -> dict[str, Client]:
    """Every client but each `share`-th is silent in these hours."""
    return {
        name: client if i % share == 0 else silent_during(client, hours)
        for i, (name, client) in enumerate(world.items())
    }


def staff(count: int) -> dict[str, Client]:
    return {f"client-{i:02}": office(i, 20.0 + i, f"10.0.{i}.1") for i in range(count)}


def test_a_holiday_that_most_keep_is_told_once_or_twice_and_not_by_everybody() -> None:
    found = run(closing(staff(20), 3, HOLIDAY), range(700))
    assert {f.reason for f in found} == {"silence"}
    assert 1 <= len(found) <= 3
    assert all(hour_of(f) in HOLIDAY for f in found)
    assert any("other clients fell silent too" in f.sentence for f in found)


def test_a_holiday_is_told_alike_whatever_the_order_of_clients() -> None:
    world = closing(staff(20), 3, HOLIDAY)
    backwards = {name: world[name] for name in sorted(world, reverse=True)}
    assert run(backwards, range(600)) == run(world, range(600))


def test_a_client_that_outlasts_the_common_silence_is_told_then() -> None:
    world = closing(staff(20), 3, HOLIDAY)
    world["client-04"] = silent_during(world["client-04"], range(HOLIDAY.start, 700))
    told = [hour_of(f) for f in run(world, range(700)) if f.client == "client-04"]
    assert len(told) == 1


def test_one_clients_silence_beside_others_that_call_is_told_as_ever() -> None:
    world = staff(20)
    world["client-04"] = silent_during(world["client-04"], HOLIDAY)
    found = run(world, range(700))
    assert [(f.client, f.reason) for f in found] == [("client-04", "silence")]
    assert "other client" not in found[0].sentence


def pausing(seed: int) -> Client:
    """A busy client that pauses for two hours about every other day, whenever it likes."""
    r, pauses = random.Random(seed), set()
    for day in range(0, 40, 2):
        start = 24 * day + r.randrange(46)
        pauses |= {start, start + 1, start + 2}
    return silent_during(steady(seed, 60.0), pauses)


def test_a_client_that_often_pauses_is_hardly_ever_told() -> None:
    found: list[object] = []
    for seed in range(5):
        found += [f for f in run({**crowd(4), "p": pausing(seed)}, range(900)) if f.client == "p"]
    assert len(found) <= 2


def test_a_wild_spell_of_many_hours_is_one_surprise() -> None:
    profile = Profile(0)
    for score in (0.0, 4.0, 5.0, 3.0, 0.2, 4.0):
        profile.remember_surprise(score)
    assert 1.9 < profile.surprises <= 2.0


def _in_sessions(seed: int) -> Client:
    """Sessions of 3 to 13 hours, 10 to 120 hours apart."""
    r, at, busy = random.Random(seed), 0, set()
    while at < 500:
        lasts = r.randrange(3, 14)
        busy.update(range(at, at + lasts))
        at += lasts + r.randrange(10, 121)
    return shaped(seed, lambda t: 15.0 if t in busy else 0.0, f"10.0.{seed}.1")


def test_a_young_client_that_comes_when_it_likes_may_stay_away_longer_than_so_far() -> None:
    world = {f"c{seed}": _in_sessions(seed) for seed in range(50)}
    silences = [f for f in run(world, range(430)) if f.reason == "silence"]
    assert len(silences) <= 3, [f.sentence for f in silences]


# --- months and batches

LAST_WORKING_DAYS = [29, 59, 88]  # 31 March, 30 April and 29 May 2026, in days since START


@pytest.mark.parametrize(
    ("date", "which"),
    [
        ("2026-02-27", (0,)),  # a Friday, and the last working day
        ("2026-02-28", (2,)),
        ("2026-03-01", (3,)),
        ("2026-03-02", (1,)),
        ("2026-03-31", (0, 2)),
        ("2026-04-01", (1, 3)),
        ("2026-04-02", ()),
        ("2026-05-28", ()),  # the month ends on a Sunday
        ("2026-05-29", (0,)),
    ],
)
def test_the_days_on_which_months_end_and_begin(date: str, which: tuple[int, ...]) -> None:
    days = dt.date.fromisoformat(date) - dt.date(1970, 1, 1)
    assert month_days(days.days) == which


@cache
def _month_ends(calls: tuple[int, ...]) -> tuple[list[int], Detector]:
    """Which of these month ends are told: hours from 14 to 16 on the last working day, with so many
    calls more each."""
    hours = {
        24 * day + hour: Usage(more, 0, {"10.0.0.1": more})
        for day, more in zip(LAST_WORKING_DAYS, calls)
        for hour in (14, 15, 16)
    }
    world = {**crowd(1), "c": with_hours(office(5), hours)}
    detector = Detector()
    found = run(world, range(24 * 90), detector)
    assert {f.client for f in found} <= {"c"}
    return sorted({LAST_WORKING_DAYS.index(hour_of(f) // 24) for f in found}), detector


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ((300, 300, 300), [0, 1]),
        ((300, 300, 3000), [0, 1, 2]),  # as ever, but ten times as much
        ((300, 0, 300), [0, 2]),  # one month end is no habit
    ],
)
def test_after_two_month_ends_the_third_is_not_told(
    calls: tuple[int, ...], told: list[int]
) -> None:
    assert _month_ends(calls)[0] == told


def test_month_ends_are_no_habit_of_the_week() -> None:
    quiet, busy = (
        json.loads(_month_ends(calls)[1].dump()["c"]) for calls in ((300, 0, 300), (300, 300, 300))
    )
    assert busy["level"] < 1.05 * quiet["level"]
    assert len(json.dumps(busy)) <= len(json.dumps(quiet)) + 400


@pytest.mark.parametrize("every", [24, 168])
def test_a_batch_on_a_fixed_schedule_is_no_surge(every: int) -> None:
    batch = {t: Usage(400, 0, {"10.0.0.9": 400}) for t in range(27, 24 * 56, every)}
    world = {**crowd(3), "c": with_hours(steady(6, 2.0, "10.0.0.9"), batch)}
    found = run(world, range(24 * 56))
    assert [(hour_of(f), f.sentence) for f in found if hour_of(f) >= 24 * 14] == []
