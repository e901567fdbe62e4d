"""What a scan that ended early says of the whole cache: intervals that hold what is true."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.config.settings import TokenSettings
from monitoring.redis import client as redis_client
from monitoring.redis.profiles import profile_of
from monitoring.redis.scan import Budget, ErrorTranslation, census
from monitoring.tokens.estimates import bounds, estimates, scale_of
from monitoring.tokens.stats import TokenStats
from sandbox import redis_server
from tests.token_kit import NOW, census_of, jwt, report_of, token


def sampled(dice: random.Random, tokens: int, copies: int, share: float) -> tuple[object, object]:
    """The census of a random share of the keys of so many tokens, each under so many keys."""
    keys = [number for number in range(tokens) for _ in range(copies)]
    dice.shuffle(keys)
    some = keys[: int(len(keys) * share)]
    seen = [token("a", number, left=600 if number % 4 else -600) for number in set(some)]
    result = replace(census_of(seen), duplicates_merged=len(some) - len(set(some)))
    report = report_of(
        len(some), expected=len(keys), share_seen=len(some) / len(keys), truncated="max_keys"
    )
    return report, result


@pytest.mark.parametrize("copies", [1, 2])
def test_the_intervals_hold_what_is_true_and_the_estimate_is_near(copies: int) -> None:
    dice, true, held, guesses = random.Random(17), 400, 0, []
    for _ in range(40):
        report, result = sampled(dice, true, copies, 0.3)
        least, most = bounds(result.total, report, result)  # type: ignore[attr-defined, arg-type, misc]
        held += least <= true <= most
        guesses.append(result.total * (scale_of(report, result) or 0))  # type: ignore[attr-defined, arg-type]
    assert held >= 36
    assert sum(guesses) / len(guesses) == pytest.approx(true, rel=0.05)


def test_a_share_has_an_interval_around_it() -> None:
    report, result = sampled(random.Random(1), 400, 1, 0.3)
    found = estimates(report, result)  # type: ignore[arg-type]
    share = found["expired_share"]
    assert share["least"] <= 0.25 <= share["most"]  # type: ignore[index]
    assert share["least"] < share["estimate"] < share["most"]  # type: ignore[index]


def test_scans_that_a_budget_ends_see_everything_together(tmp_path: Path) -> None:
    with redis_server.start({}, tmp_path) as running, running.client() as client:
        wire = client.pipeline(transaction=False)
        for number in range(6000):
            wire.set(f"token:{number}", jwt(f"client-{number}", f"j{number}"))
        wire.execute()
        seen: set[str] = set()
        start: Mapping[str, str] = {}
        for _ in range(5):
            stats = TokenStats(NOW, TokenSettings())
            door = ErrorTranslation(redis_client.translate, redis_client.ERRORS)
            report = census(
                *([("node", client)], profile_of("auto"), stats),
                door=door, budget=Budget(1500, start=start),
            )  # fmt: skip
            assert report.truncated == "max_keys"
            assert report.seen < 4500
            start = report.cursors
            seen |= set(stats.clients)
        assert len(seen) == 6000


def test_none_seen_is_not_none() -> None:
    report, result = sampled(random.Random(1), 400, 1, 0.3)
    assert bounds(0, report, result) == (0, 7)  # type: ignore[arg-type]


def test_a_whole_scan_has_nothing_to_estimate_and_a_broken_one_says_nothing() -> None:
    result = census_of([token("a", 1)])
    assert estimates(report_of(1), result) == {}
    assert bounds(5, report_of(1), result) == (5, 5)
    broken = report_of(1, truncated="fault", share_seen=0.5)
    assert bounds(5, broken, result) is None
    assert estimates(broken, result) == {}
