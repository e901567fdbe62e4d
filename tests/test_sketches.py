"""What is exact is exact, and what is not keeps the error that it states."""

from __future__ import annotations

import math
import random

import pytest

from monitoring.tokens.sketches import AGAIN, CONFLICT, NEW, Bloom, Histogram, Seen


def ids(count: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.getrandbits(64) - (1 << 63) for _ in range(count)]


@pytest.mark.parametrize("expected", [0, 30_000])
def test_seen_is_exact_up_to_its_limit(expected: int) -> None:
    seen = Seen(expected)
    some = ids(30_000)
    for start in range(0, 30_000, 1000):
        page = [(identity, 7) for identity in some[start : start + 1000]]
        assert seen.note_page(page) == [NEW] * 1000
    assert seen.note_page([(identity, 7) for identity in some]) == [AGAIN] * 30_000
    assert (len(seen), seen.error) == (30_000, 0.0)


def test_seen_tells_other_content_apart() -> None:
    seen = Seen()
    assert [seen.note(5 << 20, 1), seen.note(5 << 20, 1), seen.note(5 << 20, 2)] == [
        NEW,
        AGAIN,
        CONFLICT,
    ]


def test_twice_in_one_page() -> None:
    assert Seen().note_page([(1 << 40, 0), (1 << 40, 0)]) == [NEW, AGAIN]


def test_above_its_limit_seen_never_forgets_and_states_its_error() -> None:
    seen = Seen(limit=10_000)
    some = ids(200_000)
    verdicts = []
    for start in range(0, len(some), 1000):
        verdicts += seen.note_page([(identity, 3) for identity in some[start : start + 1000]])
    wrongly_merged = sum(verdict != NEW for verdict in verdicts)
    assert wrongly_merged <= math.ceil(len(some) * seen.error * 3 + 3)
    assert 0 < seen.error < 0.001
    assert NEW not in seen.note_page([(identity, 3) for identity in some])


def test_bloom_error_is_what_it_says() -> None:
    bloom = Bloom(bits=1 << 16)
    for identity in ids(10_000, seed=2):
        bloom.note(identity)
    claimed = sum(Bloom.note(bloom, identity) for identity in ids(1000, seed=3)) / 1000
    assert claimed == pytest.approx(bloom.error, abs=0.02)


def nearest_rank(values: list[int], share: float) -> int:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def test_percentiles_are_exact_by_the_second() -> None:
    chance = random.Random(4)
    values = [chance.randrange(0, 7200) for _ in range(50_000)]
    histogram = Histogram()
    histogram.add_page(values)
    spread = histogram.spread()
    assert (spread.count, spread.min, spread.max) == (50_000, min(values), max(values))
    assert spread.mean == pytest.approx(sum(values) / len(values))
    for share, found in ((0.5, spread.p50), (0.95, spread.p95), (0.99, spread.p99)):
        assert found == nearest_rank(values, share)
    assert (spread.error, spread.relative) == (0.5, False)


def test_wide_distributions_keep_the_stated_error() -> None:
    chance = random.Random(5)
    values = [int(chance.lognormvariate(9, 3)) for _ in range(60_000)]
    histogram = Histogram(limit=2000)
    for start in range(0, len(values), 1000):
        histogram.add_page(values[start : start + 1000])
    spread = histogram.spread()
    assert spread.relative
    assert (spread.count, spread.min, spread.max) == (60_000, min(values), max(values))
    assert spread.mean == pytest.approx(sum(values) / len(values))
    for share, found in ((0.5, spread.p50), (0.95, spread.p95), (0.99, spread.p99)):
        assert found == pytest.approx(nearest_rank(values, share), rel=spread.error, abs=1)


def test_nothing_counted_is_unknown_not_zero() -> None:
    spread = Histogram().spread()
    assert (spread.count, spread.min, spread.p50, spread.max, spread.mean) == (0, *[None] * 4)
