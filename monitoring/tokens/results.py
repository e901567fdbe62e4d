"""Decision: the frozen answer of a token census, and how the collected counts become it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Optional

from monitoring.client_bound import OTHER
from monitoring.config.settings import TokenSettings
from monitoring.text import iso_seconds
from monitoring.tokens.clients import ClientLedger, Limits, Tally
from monitoring.tokens.hygiene import HygieneBook, HygieneFinding
from monitoring.tokens.owners import Known, Nobody, Owner
from monitoring.tokens.renewals import Courses, Renewals, renewals, steps_kept, together
from monitoring.tokens.sketches import Histogram, Spread

# -- the frozen answer of a token census, and its JSON shape.

ANY_VERSION = "(any)"


@dataclass(frozen=True)
class ClientTokens:
    """One client's share. ``generation_rate`` is per minute, times are epoch seconds or None.

    ``renewals`` and ``lapses`` (tokens that came after the one before had died) are its newest, of
    the last day; None when not every token was seen. ``renewals_capped``: there may have been more.
    ``median_remaining`` is what its tokens had left when the next was minted, in seconds; None when
    no renewal was seen. ``last_token_ends_at``: its last token dies then, and nothing suggests
    that it will mint another in time. ``by_version``: live tokens by credential version, empty when
    tokens do not name one; those of versions too many to keep are under ANY_VERSION.
    ``last_expiry``: when the last of them dies, by the later of two readings. ``endless`` live
    ones never die; ``doubtful`` live ones may be other than they read. ``longest`` is the longest
    life of one, in seconds."""

    tokens: int
    active: int
    generation_rate: float
    last_issued: Optional[float] = None
    last_expiry: Optional[float] = None
    renewals: Optional[int] = None
    lapses: Optional[int] = None
    median_remaining: Optional[float] = None
    last_token_ends_at: Optional[float] = None
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
    worst: tuple[tuple[str, int], ...]


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
    every_call: tuple[str, ...]
    losing_last_token: tuple[tuple[str, float], ...]
    hygiene: tuple[HygieneFinding, ...]
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


def tokens_json(result: TokenResult) -> dict[str, Any]:
    """The ``tokens`` object of a cycle's JSON, in the names of docs/reference/results.md.

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
        "losing_last_token": [
            {"client": name, "at": iso_seconds(at)} for name, at in result.losing_last_token
        ],
        "hygiene": {finding.name: finding.count for finding in result.hygiene},
        "encodings": dict(result.encodings),
    }


def _spread_json(spread: Spread) -> dict[str, Optional[float]]:
    names = ("min", "mean", "p50", "p95", "p99", "max")
    return {name: _rounded(getattr(spread, name)) for name in names}


def _renewals_json(seen: Optional[Renewals]) -> dict[str, Optional[float]]:
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


def _client_json(share: Optional[ClientTokens]) -> Optional[dict[str, Any]]:
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


def _cliff_json(cliff: Optional[Cliff]) -> Optional[dict[str, Any]]:
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


LIVE, EXPIRED = "live", "expired"  # samples of keys
CLIFF_WORST = 5
LAST_TOKEN_SOON = 300  # a lone token that nears its end, and no other minted since


@dataclass
class TtlSample:
    """Token keys of a kind: seen, asked for their expiry, and how many of those have none."""

    keys: int = 0
    asked: int = 0
    without: int = 0

    @property
    def share(self) -> float:
        """How many keys one that was asked stands for."""
        return max(1.0, self.keys / self.asked) if self.asked else 1.0


@dataclass
class TtlCount:
    """Of a large cache the expiry of a sample of the keys is asked, and of far more of those whose
    token is expired: apart, for there the keys are that never expire."""

    live: TtlSample = field(default_factory=TtlSample)
    expired: TtlSample = field(default_factory=TtlSample)

    @property
    def keys(self) -> int:
        return self.live.keys + self.expired.keys

    @property
    def asked(self) -> int:
        return self.live.asked + self.expired.asked

    @property
    def shares(self) -> Mapping[str, float]:
        return {LIVE: self.live.share, EXPIRED: self.expired.share}

    def of(self, sample: str) -> TtlSample:
        return self.expired if sample == EXPIRED else self.live

    def estimate(self) -> Optional[int]:
        """Keys without expiry: exact when all were asked; None unasked."""
        if not self.asked:
            return 0 if not self.keys else None
        return sum(round(kind.without * kind.share) for kind in (self.live, self.expired))


@dataclass(frozen=True)
class Collected:
    """What ``TokenStats`` gathered; ledgers are settled. ``courses`` are those of the looks before;
    None: not every token was seen, so that nothing can be said of who follows whom."""

    limits: Limits
    policy: TokenSettings
    ledgers: Mapping[Owner, ClientLedger]
    versions: Mapping[Owner, Mapping[str, int]]
    undecodable: Mapping[str, int]
    encodings: Mapping[str, int]
    lifetime: Histogram
    remaining: Histogram
    merged: int
    merged_error: float
    ttl: TtlCount
    hygiene: HygieneBook
    excluded: int
    courses: Optional[Courses] = None
    known: Known = None
    better_claims: Mapping[str, int] = field(default_factory=dict)

    @property
    def of_clients(self) -> dict[str, ClientLedger]:
        return {owner: each for owner, each in self.ledgers.items() if isinstance(owner, str)}


def summarise(found: Collected) -> TokenResult:
    """The answer of a census."""
    named = found.of_clients
    courses = found.courses and _courses(found.courses, named, found.limits)
    kept, of = steps_kept(len(named)), courses.of if courses else {}
    each = {name: renewals(course.steps, kept) for name, course in of.items()}
    shares = {name: _share(found, name, each.get(name)) for name in named}
    top, others = _bounded(shares, found.policy.top_clients)
    whole = reduce(Tally.plus, (ledger.tally for ledger in found.ledgers.values()), Tally())
    return TokenResult(
        total=whole.tokens,
        active=whole.active,
        undecodable=dict(found.undecodable),
        without_ttl=found.ttl.estimate(),
        ttl_asked=found.ttl.asked,
        ttl_keys=found.ttl.keys,
        ttl_exact=found.ttl.asked >= found.ttl.keys,
        duplicates_merged=found.merged,
        duplicates_error=found.merged_error,
        generation_rate_per_minute=_per_minute(whole, found.limits),
        expiring={"5m": whole.within_5m, "15m": whole.within_15m, "1h": whole.within_1h},
        lifetime=found.lifetime.spread(),
        remaining=found.remaining.spread(),
        by_client=top,
        rest=_summed([*others, *_shares_of(found, Nobody.REST)]),
        nameless=_summed(_shares_of(found, Nobody.NAMELESS)),
        unowned=_unowned(found),
        names=named.keys() | (found.known or ()),
        better_claims=found.better_claims,
        doubtful=whole.doubtful,
        long_dead=whole.long_dead,
        clients=len(named),
        clients_exact=Nobody.REST not in found.ledgers,
        courses=courses,
        renewals=together(each.values()) if courses else None,
        cliff=_cliff(found),
        every_call=tuple(sorted(name for name, seen in each.items() if seen.every_call)),
        losing_last_token=_losing_last_token(shares),
        hygiene=found.hygiene.findings(_by_owner(found.ledgers), found.ttl.shares, found.known),
        encodings={name: many for name, many in found.encodings.items() if many > 0},
        excluded=found.excluded,
    )


def _courses(before: Courses, named: Mapping[str, ClientLedger], limits: Limits) -> Courses:
    return before.after(limits.now, _Newest(named, limits.now + limits.clock_skew))


class _Newest(Mapping[str, Sequence[tuple[int, int]]]):
    """Each client's newest tokens minted at `until` or before, worked out where they are asked for:
    those of ten thousand clients at once take 40 MB."""

    def __init__(self, ledgers: Mapping[str, ClientLedger], until: int) -> None:
        self._ledgers, self._until = ledgers, until

    def __getitem__(self, name: str) -> Sequence[tuple[int, int]]:
        return self._ledgers[name].newest(self._until)

    def __contains__(self, name: object) -> bool:
        return name in self._ledgers

    def __iter__(self) -> Iterator[str]:
        return iter(self._ledgers)

    def __len__(self) -> int:
        return len(self._ledgers)


def _per_minute(tally: Tally, limits: Limits) -> float:
    return tally.recent * 60 / limits.rate_window if limits.rate_window else 0.0


def _unowned(found: Collected) -> Optional[ClientTokens]:
    """None: it is not known which clients there are."""
    if found.known is None:
        return None
    strange = [owner for owner in found.ledgers if owner not in found.known]
    return _summed([_share(found, owner, None) for owner in strange]) or ClientTokens(0, 0, 0.0)


def _shares_of(found: Collected, nobody: Nobody) -> list[ClientTokens]:
    return [_share(found, nobody, None)] if nobody in found.ledgers else []


def _share(found: Collected, name: Owner, seen: Optional[Renewals]) -> ClientTokens:
    tally = found.ledgers[name].tally
    return ClientTokens(
        tokens=tally.tokens,
        active=tally.active,
        generation_rate=_per_minute(tally, found.limits),
        last_issued=tally.last_issued or None,
        last_expiry=tally.last_expiry or None,
        renewals=len(seen.remaining) if seen else None,
        lapses=seen.lapses if seen else None,
        renewals_capped=bool(seen and seen.capped),
        median_remaining=seen.median_remaining if seen else None,
        last_token_ends_at=_last_token_ends_at(tally, seen, found.limits.now),
        by_version=found.versions.get(name, {}),
        endless=tally.endless,
        doubtful=tally.doubtful,
        longest=tally.longest,
    )


def _last_token_ends_at(tally: Tally, seen: Optional[Renewals], now: int) -> Optional[float]:
    """When a client that mostly came too late, or of which no renewal is known and the end is
    near, loses its last token."""
    if seen is None or not tally.active or tally.endless or tally.last_expiry <= now:
        return None
    renewed = len(seen.remaining)
    near = not renewed and tally.last_expiry - now <= LAST_TOKEN_SOON
    return tally.last_expiry if near or seen.lapses > renewed else None


def _losing_last_token(shares: Mapping[str, ClientTokens]) -> tuple[tuple[str, float], ...]:
    """Soonest first."""
    dark = [
        (share.last_token_ends_at, name)
        for name, share in shares.items()
        if share.last_token_ends_at
    ]
    return tuple((name, at) for at, name in sorted(dark))


def _bounded(
    shares: Mapping[str, ClientTokens], top: int
) -> tuple[dict[str, ClientTokens], list[ClientTokens]]:
    """The ``top`` clients with most live tokens, and the others."""
    ranked = sorted(shares.items(), key=lambda item: (-item[1].active, -item[1].tokens, item[0]))
    return dict(ranked[:top]), [share for _name, share in ranked[top:]]


def _summed(shares: Sequence[ClientTokens]) -> Optional[ClientTokens]:
    """Several clients' as one; None of none."""
    if not shares:
        return None
    return ClientTokens(
        tokens=sum(share.tokens for share in shares),
        active=sum(share.active for share in shares),
        generation_rate=sum(share.generation_rate for share in shares),
        last_issued=max((s.last_issued for s in shares if s.last_issued), default=None),
        last_expiry=max((s.last_expiry for s in shares if s.last_expiry), default=None),
        renewals=_sum(share.renewals for share in shares),
        lapses=_sum(share.lapses for share in shares),
        endless=sum(share.endless for share in shares),
        doubtful=sum(share.doubtful for share in shares),
        longest=max(share.longest for share in shares),
    )


def _sum(counts: Iterable[Optional[int]]) -> Optional[int]:
    """None when none is known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _cliff(found: Collected) -> Optional[Cliff]:
    """None when nothing is alive."""
    minutes: Counter[int] = Counter()
    for left, many in found.remaining.counts().items():
        minutes[(found.limits.now + left) // 60] += many
    live = sum(minutes.values())
    if not live:
        return None
    minute, count = min(minutes.items(), key=lambda item: (-item[1], item[0]))
    whose = {
        name: ledger.dying_between(max(minute * 60, found.limits.now + 1), minute * 60 + 60)
        for name, ledger in found.of_clients.items()
    }
    ranked = sorted(whose.items(), key=lambda item: (-item[1], item[0]))[:CLIFF_WORST]
    return Cliff(minute * 60.0, count, count / live, tuple(row for row in ranked if row[1]))


def _by_owner(ledgers: Mapping[Owner, ClientLedger]) -> dict[str, dict[Owner, int]]:
    """The findings that the tallies hold."""
    rows = [(name, ledger.tally) for name, ledger in ledgers.items()]
    return {
        "expired_served": {n: t.tokens - t.active for n, t in rows if t.tokens > t.active},
        "lifetime_above_policy": {n: t.long_lived for n, t in rows if t.long_lived},
        "iat_in_future": {n: t.from_future for n, t in rows if t.from_future},
    }
