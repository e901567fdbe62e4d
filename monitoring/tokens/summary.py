"""Decision: from the collected counts of a census to its answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from monitoring.settings import TokenSettings
from monitoring.tokens.clients import ClientLedger, Limits, Tally
from monitoring.tokens.hygiene import HygieneBook
from monitoring.tokens.owners import Known, Nobody, Owner
from monitoring.tokens.renewals import Courses, Renewals, renewals, steps_kept, together
from monitoring.tokens.results import ClientTokens, Cliff, TokenResult
from monitoring.tokens.sketches import Histogram

LIVE, EXPIRED = "live", "expired"  # samples of keys
CLIFF_WORST = 5
DARK_SOON = 300  # a lone token that nears its end, and no other minted since


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
    def of_clients(self) -> Dict[str, ClientLedger]:
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
        going_dark=_going_dark(shares),
        hygiene=found.hygiene.findings(_by_owner(found.ledgers), found.ttl.shares, found.known),
        encodings={name: many for name, many in found.encodings.items() if many > 0},
        excluded=found.excluded,
    )


def _courses(before: Courses, named: Mapping[str, ClientLedger], limits: Limits) -> Courses:
    until = limits.now + limits.clock_skew
    return before.after(limits.now, {name: led.newest(until) for name, led in named.items()})


def _per_minute(tally: Tally, limits: Limits) -> float:
    return tally.recent * 60 / limits.rate_window if limits.rate_window else 0.0


def _unowned(found: Collected) -> Optional[ClientTokens]:
    """None: it is not known which clients there are."""
    if found.known is None:
        return None
    strange = [owner for owner in found.ledgers if owner not in found.known]
    return _summed([_share(found, owner, None) for owner in strange]) or ClientTokens(0, 0, 0.0)


def _shares_of(found: Collected, nobody: Nobody) -> List[ClientTokens]:
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
        goes_dark_at=_dark_at(tally, seen, found.limits.now),
        by_version=found.versions.get(name, {}),
        endless=tally.endless,
        doubtful=tally.doubtful,
        longest=tally.longest,
    )


def _dark_at(tally: Tally, seen: Optional[Renewals], now: int) -> Optional[float]:
    """When a client that mostly came too late, or of which no renewal is known and the end is
    near, loses its last token."""
    if seen is None or not tally.active or tally.endless or tally.last_expiry <= now:
        return None
    renewed = len(seen.remaining)
    near = not renewed and tally.last_expiry - now <= DARK_SOON
    return tally.last_expiry if near or seen.lapses > renewed else None


def _going_dark(shares: Mapping[str, ClientTokens]) -> Tuple[Tuple[str, float], ...]:
    """Soonest first."""
    dark = [(share.goes_dark_at, name) for name, share in shares.items() if share.goes_dark_at]
    return tuple((name, at) for at, name in sorted(dark))


def _bounded(
    shares: Mapping[str, ClientTokens], top: int
) -> Tuple[Dict[str, ClientTokens], List[ClientTokens]]:
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
    whose = Counter(
        {
            name: ledger.dying_between(max(minute * 60, found.limits.now + 1), minute * 60 + 60)
            for name, ledger in found.of_clients.items()
        }
    )
    worst = tuple((name, many) for name, many in whose.most_common(CLIFF_WORST) if many)
    return Cliff(minute * 60.0, count, count / live, worst)


def _by_owner(ledgers: Mapping[Owner, ClientLedger]) -> Dict[str, Dict[Owner, int]]:
    """The findings that the tallies hold."""
    rows = [(name, ledger.tally) for name, ledger in ledgers.items()]
    return {
        "expired_served": {n: t.tokens - t.active for n, t in rows if t.tokens > t.active},
        "lifetime_above_policy": {n: t.long_lived for n, t in rows if t.long_lived},
        "iat_in_future": {n: t.from_future for n, t in rows if t.from_future},
    }
