"""Decision: do the cache and the services' counters tell the same story?"""

from __future__ import annotations

import math
from typing import Iterator, Mapping

from monitoring.model import Finding, Severity
from monitoring.tokens.measurements import Looked, cached_validations, generation
from monitoring.tokens.services import Validations

EAPI = "payment-eapi"
SAPI = "payment-sapi"

_DISAGREE = 4.0  # standard deviations
_RATE_FACTOR = 1.5
_SHARE_GAP = 0.1
_MINUTES_LEAST = 5


def disagreements(looked: Looked) -> Iterator[Finding]:
    """Where cache and counters say so different things that chance does not explain it."""
    rate = generation(looked)
    minutes = looked.services.seconds / 60
    if rate.cache is not None and rate.services is not None and minutes >= _MINUTES_LEAST:
        cached, counted = rate.cache * minutes, rate.services * minutes
        apart = abs(cached - counted) > _DISAGREE * math.sqrt(cached + counted)
        if apart and max(cached, counted) > _RATE_FACTOR * min(cached, counted):
            yield _rates(rate.cache, rate.services)
    yield from _validations(looked)


def _rates(cache: float, services: float) -> Finding:
    less = "the cache misses tokens" if cache < services else "somebody else mints tokens"
    return Finding(
        "generation_sources_disagree",
        Severity.WARNING,
        f"The tokens in the cache say {cache:.1f} minted per minute, the services' counters say "
        f"{services:.1f}: {less}.",
        EAPI,
        category="performance",
        evidence={"cache_per_minute": round(cache, 2), "services_per_minute": round(services, 2)},
        meaning="Tokens may live shorter than the window, be evicted, or be minted elsewhere.",
        action="Compare rate_window with the token lifetime, look at evictions, and see that every "
        "EAPI instance is among the metrics URLs.",
    )


def _validations(looked: Looked) -> Iterator[Finding]:
    cached, counted = cached_validations(looked), looked.services.recent_validations
    if cached is None or counted is None:
        return
    ours, theirs = cached.success_rate, counted.success_rate
    if ours is None or theirs is None or abs(ours - theirs) < _SHARE_GAP:
        return
    both = (cached.good + counted.good) / (cached.total + counted.total)
    noise = math.sqrt(both * (1 - both) * (1 / cached.total + 1 / counted.total))
    if abs(ours - theirs) > _DISAGREE * noise:
        yield Finding(
            "validation_sources_disagree",
            Severity.WARNING,
            f"Of the verdicts in the cache {ours:.1%} are good, of the validations that the "
            f"services counted {theirs:.1%}.",
            SAPI,
            category="performance",
            evidence={"cache": _share(cached, ours), "services": _share(counted, theirs)},
            meaning="The cache keeps one verdict per token and permission; a few callers that try "
            "again and again show in the counters only.",
            action="See which client fails most in the services' own metrics.",
        )


def _share(counted: Validations, rate: float) -> Mapping[str, float]:
    return {"validations": round(counted.total), "success_rate": round(rate, 4)}
