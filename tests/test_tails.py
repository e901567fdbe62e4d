"""The tails against plain summation, and where they must not break."""

from __future__ import annotations

import math

import pytest

from monitoring.anomaly import views as tails


def _mass(count: int, mean: float, dispersion: float) -> float:
    size = 1.0 / dispersion
    return math.exp(
        math.lgamma(count + size)
        - math.lgamma(size)
        - math.lgamma(count + 1)
        + size * math.log(size / (size + mean))
        + count * math.log(mean / (size + mean))
    )


CASES = [
    (1, 0.05, 1.0),
    (5, 1.0, 0.3),
    (12, 4.0, 0.2),
    (30, 4.0, 0.2),
    (90, 60.0, 0.1),
    (3, 9.0, 2.0),
]


@pytest.mark.parametrize(("count", "mean", "dispersion"), CASES)
def test_tails_are_the_sums_of_the_mass(count: int, mean: float, dispersion: float) -> None:
    below = math.fsum(_mass(k, mean, dispersion) for k in range(count))
    above = math.fsum(_mass(k, mean, dispersion) for k in range(count, count + 4000))
    assert tails.upper(count, mean, dispersion) == pytest.approx(above, rel=1e-6)
    at_most = below + _mass(count, mean, dispersion)
    assert tails.lower(count, mean, dispersion) == pytest.approx(at_most, rel=1e-6)
    assert tails.zero(mean, dispersion) == pytest.approx(_mass(0, mean, dispersion))


def test_without_dispersion_it_is_poisson() -> None:
    above = math.fsum(math.exp(-5.0) * 5.0**k / math.factorial(k) for k in range(12, 60))
    assert tails.upper(12, 5.0, 0.0) == pytest.approx(above, rel=1e-4)
    assert tails.zero(5.0, 0.0) == pytest.approx(math.exp(-5.0))


def test_the_far_tail_falls_and_never_leaves_its_range() -> None:
    last = -1.0
    for count in (1, 10, 100, 1_000, 10_000, 1_000_000):
        scored = tails.score(tails.upper(count, 5.0, 0.3))
        assert last < scored <= tails.FLOOR or scored == tails.FLOOR
        last = scored


@pytest.mark.parametrize("mean", [0.0, 1e-9, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("count", [0.0, 0.5, 3.0, 1e6, 1e12])
@pytest.mark.parametrize("dispersion", [0.0, 1e-3, 1.0, 50.0])
def test_any_input_gives_a_probability(mean: float, count: float, dispersion: float) -> None:
    for tail in (tails.upper, tails.lower):
        assert 0.0 <= tail(count, mean, dispersion) <= 1.0
    assert 0.0 <= tails.zero(mean, dispersion) <= 1.0


@pytest.mark.parametrize(
    ("probability", "expected"), [(1.0, 0.0), (0.01, 2.0), (0.0, tails.FLOOR), (2.0, 0.0)]
)
def test_score_is_minus_log10(probability: float, expected: float) -> None:
    assert tails.score(probability) == pytest.approx(expected)


def test_impossible_and_certain_counts() -> None:
    assert tails.upper(0, 3.0, 0.1) == 1.0
    assert tails.upper(2, 0.0, 0.1) == 0.0
    assert tails.lower(-1, 3.0, 0.1) == 0.0
    assert tails.lower(2, 0.0, 0.1) == 1.0
