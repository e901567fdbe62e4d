"""Decision: tail probabilities of counts, on the scale -log10 p.

One special function carries them all: the regularised incomplete beta function, by Lentz's
continued fraction (DLMF 8.17.22). The negative binomial with mean m and dispersion d has variance
m + d*m*m; d = 0 is Poisson.
"""

from __future__ import annotations

import math

FLOOR = 300.0  # the largest -log10 p that is ever reported
_LOG10 = math.log(10.0)
_TINY = 1e-300
_POISSON = 1e-6  # below this dispersion the negative binomial is Poisson to any digit that matters


def log_beta_tail(a: float, b: float, x: float) -> float:
    """ln I_x(a, b) for a, b > 0 and 0 <= x <= 1; -inf where it is zero."""
    if x <= 0.0:
        return -math.inf
    if x >= 1.0:
        return 0.0
    front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return min(0.0, front - math.log(a) + math.log(_fraction(a, b, x)))
    rest = math.exp(min(0.0, front - math.log(b) + math.log(_fraction(b, a, 1.0 - x))))
    return math.log1p(-rest) if rest < 1.0 else -math.inf


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function; converges in O(sqrt(max(a, b)))."""
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    h = d
    for m in range(1, 2000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 / _away(1.0 + even * d)
        c = _away(1.0 + even / c)
        h *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 / _away(1.0 + odd * d)
        c = _away(1.0 + odd / c)
        h *= d * c
        if abs(d * c - 1.0) < 1e-9:
            break
    return max(h, _TINY)


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def upper(count: float, mean: float, dispersion: float) -> float:
    """P(X >= count) for a negative binomial X, as a probability between 0 and 1."""
    if count <= 0.0:
        return 1.0
    if mean <= 0.0:
        return 0.0
    size = 1.0 / max(dispersion, _POISSON)
    return math.exp(log_beta_tail(count, size, mean / (mean + size)))


def lower(count: float, mean: float, dispersion: float) -> float:
    """P(X <= count) for a negative binomial X, as a probability between 0 and 1."""
    if count < 0.0:
        return 0.0
    if mean <= 0.0:
        return 1.0
    size = 1.0 / max(dispersion, _POISSON)
    return math.exp(log_beta_tail(size, count + 1.0, size / (mean + size)))


def zero(mean: float, dispersion: float) -> float:
    """P(X = 0) for a negative binomial X."""
    if dispersion <= _POISSON:
        return math.exp(-mean)
    return math.exp(-math.log1p(mean * dispersion) / dispersion)


def score(probability: float) -> float:
    """-log10 p, between 0 and FLOOR."""
    if probability <= 0.0:
        return FLOOR
    return min(FLOOR, max(0.0, -math.log(probability) / _LOG10))
