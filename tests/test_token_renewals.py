"""Renewals over many looks: a fleet whose every renewal is known against what is told of it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.config.settings import TokenSettings
from monitoring.store.state import State
from monitoring.tokens.memory import RenewalMemory
from monitoring.tokens.renewals import (
    NEVER_LOOKED,
    STEPS_KEPT,
    Course,
    Courses,
    Succession,
    renewals,
)
from monitoring.tokens.results import TokenResult
from monitoring.tokens.stats import TokenStats
from tests.test_token_stats import NOW, token

LIFE, EVICTED_BEFORE = 3600, 30  # docs/protocols.md: a key's TTL is the token's life less 30 s


@dataclass
class Client:
    """``leads`` are what its tokens have left when it renews; negative: it comes too late."""

    name: str
    leads: list[int]
    issued: list[int] = field(default_factory=list)

    def live(self, start: int, end: int, chance: random.Random) -> None:
        at = start + chance.randrange(LIFE)
        while at < end:
            self.issued.append(at)
            at += LIFE - chance.choice(self.leads)

    def cached(self, now: int) -> Iterable[Any]:
        for at in self.issued:
            if at <= now < at + LIFE - EVICTED_BEFORE:
                yield token(self.name, f"{self.name}-{at}", left=at + LIFE - NOW)

    def left(self, since: int, now: int) -> list[int]:
        pairs = zip(self.issued, self.issued[1:])
        return [before + LIFE - at for before, at in pairs if since < at <= now]


def look(
    now: int, clients: Iterable[Client], courses: Optional[Courses] = NEVER_LOOKED
) -> TokenResult:
    stats = TokenStats(now, TokenSettings(top_clients=100))
    stats.add_page([each for client in clients for each in client.cached(now)])
    return stats.result(courses)


def fleet() -> list[Client]:
    made = [Client(f"timely-{n}", [60, 90, 120, 300]) for n in range(20)]
    made += [Client(f"late-{n}", [35, 45, 55]) for n in range(5)]
    made += [Client(f"lapses-{n}", [-400, -100, -20]) for n in range(5)]
    made += [Client(f"early-{n}", [2500, 3000]) for n in range(5)]
    made += [Client(f"busy-{n}", [3570, 3590]) for n in range(3)]
    chance = random.Random(3)
    for client in made:
        client.live(NOW - 9 * 3600, NOW, chance)
    return made


@pytest.fixture(scope="module")
def watched() -> tuple[list[Client], TokenResult]:
    """Six hours of looks every five minutes."""
    clients, courses, result = fleet(), NEVER_LOOKED, None
    for now in range(NOW - 6 * 3600, NOW + 1, 300):
        result = look(now, clients, courses)
        assert result.courses is not None
        courses = result.courses
    assert result is not None
    return clients, result


def test_every_renewal_is_counted_once_however_short_the_overlap(
    watched: tuple[list[Client], TokenResult],
) -> None:
    clients, result = watched
    told = result.by_client
    for client in clients:
        # what the very first look saw lies further back than the looks do
        truth = client.left(NOW - 7 * 3600, NOW)[-STEPS_KEPT:]
        steps = list(result.courses.of[client.name].steps) if result.courses else []
        assert [step.left for step in steps][-len(truth) + 2 :] == truth[2:]
        share = told[client.name]
        assert share.renewals == sum(step.left >= 0 for step in steps)
        assert share.lapses == sum(step.left < 0 for step in steps)
    busy = {f"busy-{n}" for n in range(3)}
    assert set(result.every_call) == busy
    assert told["timely-0"].median_remaining in (60, 75, 90, 105, 120, 210, 300)
    assert all(told[f"lapses-{n}"].lapses >= 4 for n in range(5))  # type: ignore[operator]
    assert result.renewals is not None
    timely = [c for c in clients if c.name.startswith(("timely", "late"))]
    late = sum(left < 60 for c in timely for left in c.left(NOW - 6 * 3600, NOW) if left >= 0)
    assert abs(result.renewals.late - late) <= 5  # of the first look's hour


def test_one_look_alone_sees_hardly_any_of_the_timely() -> None:
    """The bias that the memory is there for."""
    clients = [client for client in fleet() if client.name.startswith("timely")]
    result = look(NOW, clients)
    assert result.renewals is not None
    assert len(result.renewals.remaining) < 5


def test_who_renews_in_time_does_not_go_dark_and_who_lapses_does(
    watched: tuple[list[Client], TokenResult],
) -> None:
    _clients, result = watched
    dark = {name for name, _at in result.losing_last_token}
    assert dark
    assert all(name.startswith("lapses") for name in dark)


def test_nothing_is_said_of_who_follows_whom_when_part_was_seen() -> None:
    clients = fleet()
    result = look(NOW, clients, None)
    assert result.renewals is None
    assert result.courses is None
    assert (result.every_call, result.losing_last_token) == ((), ())
    assert result.by_client["busy-0"].renewals is None


@pytest.mark.parametrize(
    ("what", "before", "tokens", "left"),
    [
        ("nothing known", NEVER_LOOKED, [(9000, 12_600)], []),
        ("in time", Courses(9900, {"c": Course(6400, 10_000)}), [(9950, 13_550)], [50]),
        ("too late", Courses(9900, {"c": Course(6000, 9600)}), [(9950, 13_550)], [-350]),
        ("long away: others may have been between",
         Courses(1000, {"c": Course(900, 4500)}), [(9950, 13_550)], []),
        ("long away, and two are there",
         Courses(1000, {"c": Course(900, 4500)}), [(9950, 13_550), (9000, 12_600)], [2650]),
        ("short lives: likewise", Courses(9700, {"c": Course(9690, 9790)}),
         [(9990, 10_090)], []),
        ("the same token again", Courses(9900, {"c": Course(9000, 12_600)}),
         [(9000, 12_600)], []),
        ("clock set back", Courses(20_000, {"c": Course(19_000, 22_600)}),
         [(9000, 12_600)], []),
        ("shorter life: the last to die counts", Courses(9900, {"c": Course(9000, 12_600)}),
         [(9950, 10_550), (9990, 13_590)], [2650, 2610]),
    ],
)  # fmt: skip
def test_steps(what: str, before: Courses, tokens: list[tuple[int, int]], left: list[int]) -> None:
    course = before.after(10_000, {"c": tokens}).of["c"]
    assert [step.left for step in course.steps] == left, what
    assert course.issued == max(issued for issued, _ in tokens)


def test_memory_is_bounded() -> None:
    steps = tuple(Succession(NOW - 3000 + n, 100, 3600) for n in range(100))
    before = Courses(NOW - 300, {"old": Course(NOW - 99_000, NOW - 90_000, steps)})
    many = {f"c-{n}": [(NOW - 50, NOW + 3000)] for n in range(20_000)}
    after = before.after(NOW, many)
    assert "old" not in after.of
    crowd = Courses(NOW - 300, {name: Course(NOW - 400, NOW, steps) for name in many})
    assert sum(len(c.steps) for c in crowd.after(NOW, many).of.values()) <= 80_000
    lone = Courses(NOW - 300, {"c": Course(NOW - 400, NOW, steps)})
    assert len(lone.after(NOW, {"c": []}).of["c"].steps) == STEPS_KEPT


def test_shares_of_a_life() -> None:
    seen = renewals(
        [
            Succession(0, 3599, 3600),
            Succession(1, 1800, 3600),
            Succession(2, 59, 3600),
            Succession(3, -1, 60),
        ]
    )
    assert (len(seen.remaining), seen.early, seen.late, seen.lapses) == (3, 1, 1, 1)
    assert not seen.every_call


def test_the_memory_outlives_the_process_and_bad_contents(tmp_path: Path) -> None:
    courses = Courses(NOW, {"c|é": Course(NOW - 10, NOW + 50, (Succession(NOW - 10, -5, 60),))})
    with State.open(tmp_path) as state:
        memory = RenewalMemory(state, "s")
        assert memory.load() == NEVER_LOOKED
        memory.save(courses)
        assert RenewalMemory(state, "s").load() == courses
        for bad in ("", "{", "[]", '{"looked": "x"}', '{"looked": 1, "of": {"c": [1]}}', "\x00"):
            state.put("s", "renewals", bad)
            assert memory.load() == NEVER_LOOKED
    assert memory.load() == NEVER_LOOKED, "without the file nothing is known, and nothing fails"
