"""Decision: the frozen answer of a token census, and its JSON shape (DESIGN.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import AbstractSet, Any, Dict, Mapping, Optional, Tuple

from monitoring.client_bound import OTHER
from monitoring.timestamps import iso_seconds
from monitoring.tokens.hygiene import HygieneFinding
from monitoring.tokens.renewals import Courses, Renewals
from monitoring.tokens.sketches import Spread


@dataclass(frozen=True)
class ClientTokens:
    """One client's share. ``generation_rate`` is per minute, times are epoch seconds or None.

    ``renewals`` and ``lapses`` (tokens that came after the one before had died) are its newest, of
    the last day; None when not every token was seen. ``renewals_capped``: there may have been more.
    ``median_remaining`` is what its tokens had left when the next was minted, in seconds; None when
    no renewal was seen. ``goes_dark_at``: its last token dies then, and nothing suggests that it
    will mint another in time. ``by_version``: live tokens by credential version, empty when tokens
    do not name one. ``last_expiry``: when the last of them dies, by the later of two readings.
    ``endless`` live ones never die; ``doubtful`` live ones may be other than they read.
    ``longest`` is the longest life of one, in seconds.
    """

    tokens: int
    active: int
    generation_rate: float
    last_issued: Optional[float] = None
    last_expiry: Optional[float] = None
    renewals: Optional[int] = None
    lapses: Optional[int] = None
    median_remaining: Optional[float] = None
    goes_dark_at: Optional[float] = None
    renewals_capped: bool = False
    by_version: Mapping[str, int] = field(default_factory=dict)
    endless: int = 0
    doubtful: int = 0
    longest: int = 0


@dataclass(frozen=True)
class Cliff:
    """The minute (its start, epoch seconds) in which most live tokens die, and whose they are."""

    at: float
    count: int
    share: float
    worst: Tuple[Tuple[str, int], ...]


@dataclass(frozen=True)
class TokenResult:
    """Everything a census says about tokens.

    ``without_ttl`` is None when no expiry could be asked for; ``ttl_asked`` of ``ttl_keys`` keys
    were asked, and below all of them it is an estimate (``ttl_exact`` False). ``duplicates_error``
    is the probability that a new token was merged wrongly (0.0 for up to 1.4 million tokens).
    ``by_client`` holds the ``top_clients`` with most live tokens, ``rest`` the others as one,
    ``nameless`` those that name no client; ``clients`` counts all, and is a lower bound when
    ``clients_exact`` is False. ``unowned`` are those whose owner is no known client (None: it is
    not known which there are), each of them in another row too; ``names`` are those of all
    clients that are known or seen. ``better_claims`` name a known client where the first of the
    configured ones names none, with the number of clients that shows it. ``doubtful`` live tokens
    can be read in more than one way, ``long_dead`` ones are past exp by more than clocks explain.
    ``renewals`` and ``courses`` are None when not every token was seen; ``courses`` is for the next
    look.
    """

    total: int
    active: int
    undecodable: Mapping[str, int]
    without_ttl: Optional[int]
    ttl_asked: int
    ttl_keys: int
    ttl_exact: bool
    duplicates_merged: int
    duplicates_error: float
    generation_rate_per_minute: float
    expiring: Mapping[str, int]
    lifetime: Spread
    remaining: Spread
    by_client: Mapping[str, ClientTokens]
    clients: int
    clients_exact: bool
    renewals: Optional[Renewals]
    courses: Optional[Courses]
    cliff: Optional[Cliff]
    every_call: Tuple[str, ...]
    going_dark: Tuple[Tuple[str, float], ...]
    hygiene: Tuple[HygieneFinding, ...]
    encodings: Mapping[str, int]
    excluded: int
    rest: Optional[ClientTokens] = None
    nameless: Optional[ClientTokens] = None
    unowned: Optional[ClientTokens] = None
    names: AbstractSet[str] = frozenset()
    better_claims: Mapping[str, int] = field(default_factory=dict)
    doubtful: int = 0
    long_dead: int = 0

    @property
    def expired(self) -> int:
        return self.total - self.active


def tokens_json(result: TokenResult) -> Dict[str, Any]:
    """The ``tokens`` object of a cycle's JSON, in the field names of DESIGN.md section 4.

    ``validations`` is not among them: its best source is the services' counters.
    """
    # A sum among the clients, for who reads no further; where a client has its name, it yields.
    others = {OTHER: result.rest} if result.rest and OTHER not in result.names else {}
    return {
        "total": result.total,
        "active": result.active,
        "expired": result.expired,
        "undecodable": sum(result.undecodable.values()),
        "undecodable_by_reason": dict(result.undecodable),
        "without_ttl": result.without_ttl,
        "ttl_asked": result.ttl_asked,
        "ttl_keys": result.ttl_keys,
        "duplicates_merged": result.duplicates_merged,
        "duplicates_error": result.duplicates_error,
        "generation_rate_per_minute": _rounded(result.generation_rate_per_minute),
        "expiring": dict(result.expiring),
        "lifetime_seconds": _spread_json(result.lifetime),
        "remaining_seconds": _spread_json(result.remaining),
        "renewals": _renewals_json(result.renewals),
        "by_client": {
            name: _client_json(share) for name, share in {**result.by_client, **others}.items()
        },
        "other_clients": _client_json(result.rest),
        "without_client": _client_json(result.nameless),
        "without_known_client": _client_json(result.unowned),
        "doubtful": result.doubtful,
        "clients": result.clients,
        "expiry_cliff": _cliff_json(result.cliff),
        "renewing_every_call": list(result.every_call),
        "going_dark": [{"client": name, "at": iso_seconds(at)} for name, at in result.going_dark],
        "hygiene": {finding.name: finding.count for finding in result.hygiene},
        "encodings": dict(result.encodings),
    }


def _spread_json(spread: Spread) -> Dict[str, Optional[float]]:
    names = ("min", "mean", "p50", "p95", "p99", "max")
    return {name: _rounded(getattr(spread, name)) for name in names}


def _renewals_json(seen: Optional[Renewals]) -> Dict[str, Optional[float]]:
    if seen is None:
        return dict.fromkeys(
            ("count", "late", "early", "lapses", "median_remaining_seconds", "capped_clients")
        )
    return {
        "count": len(seen.remaining),
        "late": seen.late,
        "early": seen.early,
        "lapses": seen.lapses,
        "median_remaining_seconds": seen.median_remaining,
        "capped_clients": seen.capped,
    }


def _client_json(share: Optional[ClientTokens]) -> Optional[Dict[str, Any]]:
    if share is None:
        return None
    return {
        "tokens": share.tokens,
        "active": share.active,
        "generation_rate": _rounded(share.generation_rate),
        "last_issued": _iso(share.last_issued),
        "last_expiry": _iso(share.last_expiry),
        "without_end": share.endless,
        "doubtful": share.doubtful,
        "renewals": share.renewals,
        "lapses": share.lapses,
        "renewals_capped": share.renewals_capped,
        "median_remaining_seconds": share.median_remaining,
    }


def _cliff_json(cliff: Optional[Cliff]) -> Optional[Dict[str, Any]]:
    if cliff is None:
        return None
    return {
        "at": iso_seconds(cliff.at),
        "tokens": cliff.count,
        "share": _rounded(cliff.share),
        "clients": dict(cliff.worst),
    }


def _iso(moment: Optional[float]) -> Optional[str]:
    return None if moment is None else iso_seconds(moment)


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 4)
