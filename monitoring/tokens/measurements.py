"""Decision: the results of a token cycle as catalogued measurements.

Of a census that a budget ended early, counts are scaled up by the share of keys it saw (SCAN walks
the keys in an order that has nothing to do with what they hold). Of one that a fault ended, they
are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional, get_args

from monitoring.client_bound import NAMELESS, OTHER, series_of
from monitoring.follow.standing import FOLLOWING, NOT_FOLLOWED, Standing, lineage_measurements
from monitoring.model import Measurement
from monitoring.redis.count import ScanReport
from monitoring.services.families import FAILURES, MORE, USES, doubts_of, leaves_open
from monitoring.services.labels import OTHER_REASON, REASONS, UNSPECIFIED
from monitoring.tokens.codecs.facts import Reason
from monitoring.tokens.estimates import scale_of
from monitoring.tokens.hygiene import RULES
from monitoring.tokens.results import ClientTokens, TokenResult
from monitoring.tokens.services import ServiceFigures, Validations
from monitoring.tokens.sketches import Spread

NO_TIMES = 0.5  # with more than this share of tokens without iat, the cache tells no rate
CLIFF_LEAST = 20  # live tokens; of fewer, many die in one minute by chance
RATIO_LEAST = 20  # validations; a share of fewer says nothing
_UNDATED = ("missing_iat", "token_time_without_zone")
_STATS = ("min", "mean", "p50", "p95", "p99", "max")


@dataclass(frozen=True)
class CensusInput:
    """What a cycle looked at. `report` and `result` None: the cache could not be read.
    `layout_known` False: no token was recognised, though there are keys that no pattern knows.
    `cached_failures`: failures by reason that were ever seen in the cache, at least; None: not
    kept. `reasons`: those of failed validations that are counted apart. `lineage`: how following
    stands."""

    services: ServiceFigures
    report: Optional[ScanReport] = None
    result: Optional[TokenResult] = None
    layout_known: bool = True
    cached_failures: Optional[Mapping[str, float]] = None
    reasons: tuple[str, ...] = REASONS
    lineage: Standing = NOT_FOLLOWED

    @property
    def scale(self) -> Optional[float]:
        """What counts of the cache are multiplied by; None: they cannot be told."""
        report = self.report
        if report is None or not self.layout_known or report.truncated == "fault" or report.unread:
            return None
        return scale_of(report, self.result)


@dataclass(frozen=True)
class Rate:
    """Tokens per minute from each source; `value` is the one to believe, `source` its name.
    `followed`: every birth was counted."""

    cache: Optional[float]
    services: Optional[float]
    followed: Optional[float] = None

    @property
    def value(self) -> Optional[float]:
        if self.followed is not None:
            return self.followed
        return self.services if self.cache is None else self.cache

    @property
    def source(self) -> Optional[str]:
        if self.followed is not None:
            return "changes"
        if self.cache is not None:
            return "cache"
        return None if self.services is None else "services"


def generation(looked: CensusInput) -> Rate:
    """The generation rate as the tokens' iat tell it, and as the services counted it."""
    followed = looked.lineage.per_minute if looked.lineage.state == FOLLOWING else None
    return Rate(_cache_rate(looked), looked.services.generation_rate, followed)


def _cache_rate(looked: CensusInput) -> Optional[float]:
    result, scale = looked.result, looked.scale
    if result is None or scale is None:
        return None
    without = sum(found.count for found in result.hygiene if found.name in _UNDATED)
    if without > NO_TIMES * max(1, result.total):
        return None
    return result.generation_rate_per_minute * scale


def cached_validations(looked: CensusInput) -> Optional[Validations]:
    """The verdicts that lie in the cache; None when none do."""
    if looked.report is None:
        return None
    found = looked.report.counted.validations
    if not found.success + found.failure:
        return None
    return Validations(found.success, dict(found.by_reason), "cache")


def recent_validations(looked: CensusInput) -> Optional[Validations]:
    """The last minutes as the services count them (None on the first look). The cache's verdicts,
    among which are those on the canary's forged tokens, only where no service counts any."""
    if looked.services.validations is not None:
        return looked.services.recent_validations
    return cached_validations(looked)


def told_validations(looked: CensusInput) -> Optional[Validations]:
    """What the cycle's document says: of the window; on the first look, since the services were
    first seen; else the cache's verdicts."""
    services = looked.services
    return services.recent_validations or services.validations or cached_validations(looked)


def measurements(looked: CensusInput) -> tuple[Measurement, ...]:
    """Every figure of the cycle; None where we looked and could not tell."""
    return (
        *_counts(looked),
        *_spreads(looked.result),
        *_validations(looked),
        *_renewals(looked.result),
        *_hygiene(looked),
        *_clients(looked),
        *_scan(looked.report),
        *lineage_measurements(looked.lineage),
    )


def _of(name: str, value: Optional[float], **labels: str) -> Measurement:
    return Measurement(f"payment_api_{name}", value, labels)


def _scaled(value: Optional[float], scale: Optional[float]) -> Optional[float]:
    if value is None or scale is None:
        return None
    return float(value) if scale == 1.0 else float(round(value * scale))


def _rare(name: str, count: Optional[int], looked: CensusInput, **labels: str) -> Measurement:
    """What one token can show and many may not: where the census is not whole, none seen is not
    none, and those seen are the least there are."""
    if count is None or looked.scale == 1.0:
        return _of(name, count, **labels)
    value = _scaled(count, looked.scale) if count else None
    return Measurement(f"payment_api_{name}", value, labels, at_least=float(count))


def _counts(looked: CensusInput) -> Iterator[Measurement]:
    result, scale = looked.result, looked.scale
    totals: dict[str, Optional[float]] = {
        "tokens_active": result.active if result else None,
        "tokens_expired": result.expired if result else None,
        "tokens_without_ttl": result.without_ttl if result else None,
    }
    for name, count in totals.items():
        yield _of(name, _scaled(count, scale))
    for reason in get_args(Reason):
        count = result.undecodable.get(reason, 0) if result else None
        yield _rare("tokens_undecodable", count, looked, reason=reason)
    for within in ("5m", "15m", "1h"):
        count = result.expiring.get(within, 0) if result else None
        yield _of("tokens_expiring", _scaled(count, scale), within=within)
    yield _of("token_generation_rate", generation(looked).value)
    if looked.services.generated is not None:
        yield _of("tokens_generated_total", looked.services.generated)
    yield _of("token_expiry_cliff_ratio", _cliff(looked))


def _cliff(looked: CensusInput) -> Optional[float]:
    """0 for too few live tokens, of which a cliff would hurt nobody."""
    result = looked.result
    if result is None or looked.scale is None:
        return None
    return result.cliff.share if result.cliff and result.active >= CLIFF_LEAST else 0.0


def _spreads(result: Optional[TokenResult]) -> Iterator[Measurement]:
    if result is None:
        return
    spreads: Mapping[str, Spread] = {
        "token_lifetime_seconds": result.lifetime,
        "token_remaining_seconds": result.remaining,
    }
    for name, spread in spreads.items():
        for stat in _STATS:
            yield _of(name, getattr(spread, stat), stat=stat)


def _validations(looked: CensusInput) -> Iterator[Measurement]:
    yield from _validation_counters(looked)
    recent = recent_validations(looked)
    failures, known = (recent.failure, recent.bad) if recent else (None, None)
    name = "payment_api_token_validation_failures_recent"
    doubts = doubts_of(recent.unsure, MORE) if recent else ()
    yield Measurement(name, failures, doubts=doubts, at_least=known)
    enough = recent is not None and recent.total >= RATIO_LEAST
    ratio = recent.success_rate if recent is not None and enough else None
    yield _of("token_validation_success_ratio", ratio)


def _validation_counters(looked: CensusInput) -> Iterator[Measurement]:
    """Every reason stands at 0 before its first event, where that event would be seen. A count
    that leaves out more than it holds is not given."""
    counted, reasons = looked.services.validations, looked.cached_failures
    if counted is not None:
        if not leaves_open(counted.unsure, USES) and counted.unknown <= counted.good:
            yield _of("token_validations_total", counted.good, result="success")
        if leaves_open(counted.unsure, FAILURES) or counted.unknown > counted.bad:
            return
        yield _of("token_validations_total", counted.bad, result="failure")
        reasons = counted.by_reason
    if reasons is None and not looked.services.read:
        return
    found = dict.fromkeys((*looked.reasons, UNSPECIFIED, OTHER_REASON), 0.0)
    for word, count in (reasons or {}).items():
        found[word if word in found else OTHER_REASON] += count
    for reason, count in sorted(found.items()):
        yield _of("token_validation_failures_total", count, reason=reason)


def _renewals(result: Optional[TokenResult]) -> Iterator[Measurement]:
    if result is None:
        return
    seen = result.renewals
    counts: dict[str, Optional[int]] = dict.fromkeys(("early", "usual", "late", "lapsed"))
    if seen is not None:
        usual = max(0, len(seen.remaining) - seen.early - seen.late)
        counts.update(early=seen.early, usual=usual, late=seen.late, lapsed=seen.lapses)
    for timing, count in counts.items():
        yield _of("token_renewals", count, timing=timing)


def _hygiene(looked: CensusInput) -> Iterator[Measurement]:
    if looked.result is None:
        return
    counts = {finding.name: finding.count for finding in looked.result.hygiene}
    for name in RULES:
        yield _rare("token_hygiene", counts.get(name, 0), looked, finding=name)


def _clients(looked: CensusInput) -> Iterator[Measurement]:
    scale = looked.scale
    if looked.result is None or scale is None:
        return
    rows: dict[str, Optional[ClientTokens]] = {OTHER: looked.result.rest}
    rows[NAMELESS] = looked.result.nameless
    rows.update((series_of(client), row) for client, row in looked.result.by_client.items())
    for client, share in rows.items():
        if share is None:
            continue
        yield _of("client_tokens_active", _scaled(share.active, scale), client_id=client)
        rate = share.generation_rate * scale
        yield _of("client_token_generation_rate", rate, client_id=client)


def _scan(report: Optional[ScanReport]) -> Iterator[Measurement]:
    if report is None:
        return
    yield _of("scan_keys", report.seen)
    yield _of("scan_duration_seconds", report.seconds)
    yield _of("scan_truncated", float(bool(report.truncated)))
