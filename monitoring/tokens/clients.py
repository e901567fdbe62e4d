"""Decision: what one client's tokens add up to, kept in a few bytes a token.

A token is one integer, its expiry and its lifetime in whole seconds, so that sorting and counting
are done by the interpreter's own loops and not by ours.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

LIFE_BITS = 24
LIFE = (1 << LIFE_BITS) - 1  # 194 days
WINDOWS = (("5m", 300), ("15m", 900), ("1h", 3600))
NEWEST = 40  # a few more than the steps that ``renewals`` keeps


@dataclass(frozen=True)
class Tally:
    """Counts that add up over batches and clients. ``last_*`` are epoch seconds, 0 for none."""

    tokens: int = 0
    active: int = 0
    within_5m: int = 0
    within_15m: int = 0
    within_1h: int = 0
    recent: int = 0
    long_lived: int = 0
    from_future: int = 0
    last_issued: int = 0
    last_expiry: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(
            self.tokens + other.tokens,
            self.active + other.active,
            self.within_5m + other.within_5m,
            self.within_15m + other.within_15m,
            self.within_1h + other.within_1h,
            self.recent + other.recent,
            self.long_lived + other.long_lived,
            self.from_future + other.from_future,
            max(self.last_issued, other.last_issued),
            max(self.last_expiry, other.last_expiry),
        )


@dataclass(frozen=True)
class Limits:
    """The moments and lifetimes that a tally counts against, in whole seconds."""

    now: int
    rate_window: int
    max_lifetime: int
    clock_skew: int


@dataclass(frozen=True)
class MintedBefore:
    """A client's live tokens that were minted before a moment.

    ``last_dies`` is when the last of them dies (None: there is none). ``exact`` False: counted by
    minute, because the client holds more tokens than are kept one by one.
    """

    live: int
    last_dies: Optional[float]
    exact: bool


def pack(expiry: int, life: int) -> int:
    """One token as an integer that sorts by expiry. ``life`` is 0..LIFE seconds."""
    return expiry << LIFE_BITS | life


class Batch:
    """Some tokens in order, and the questions that a tally asks of them.

    The tokens of a client mostly live equally long; then the order of expiry is that of issue and
    nothing more need be sorted.
    """

    def __init__(self, packed: Sequence[int]) -> None:
        self.packed = packed
        self.lives: Mapping[int, int] = {}
        self._issued: Optional[List[int]] = None
        lives = list(map(LIFE.__and__, packed))
        if lives.count(lives[0] if lives else 0) == len(lives) > 0:
            self.lives = {lives[0]: len(lives)}
        else:
            self.lives = Counter(lives)
            self._issued = sorted(issued_of(packed))

    def expiring_by(self, moment: int) -> int:
        """How many die at ``moment`` or before."""
        return bisect_left(self.packed, pack(moment + 1, 0))

    def issued_by(self, moment: int) -> int:
        """How many were minted at ``moment`` or before."""
        if self._issued is not None:
            return bisect_right(self._issued, moment)
        return self.expiring_by(moment + next(iter(self.lives)))

    def issued_at(self, place: int) -> int:
        """When the token that is ``place``-th by issue was minted."""
        if self._issued is not None:
            return self._issued[place]
        return (self.packed[place] >> LIFE_BITS) - next(iter(self.lives))


def tally_of(batch: Batch, limits: Limits) -> Tally:
    """The tally of a batch."""
    count, now = len(batch.packed), limits.now
    if not count:
        return Tally()
    dead = batch.expiring_by(now)
    by_5m, by_15m, by_1h = (batch.expiring_by(now + seconds) for _name, seconds in WINDOWS)
    upto_now = batch.issued_by(now + limits.clock_skew)
    return Tally(
        tokens=count,
        active=count - dead,
        within_5m=by_5m - dead,
        within_15m=by_15m - dead,
        within_1h=by_1h - dead,
        recent=upto_now - batch.issued_by(now - limits.rate_window),
        long_lived=sum(n for life, n in batch.lives.items() if life > limits.max_lifetime),
        from_future=count - upto_now,
        last_issued=batch.issued_at(upto_now - 1) if upto_now else 0,
        last_expiry=batch.packed[-1] >> LIFE_BITS,
    )


class ClientLedger:
    """One client's tokens. ``fresh`` is appended to from outside; ``settle`` takes it in."""

    __slots__ = ("fresh", "kept", "minutes", "tally")

    def __init__(self) -> None:
        self.fresh = array("q")
        self.kept = array("q")  # in order, the last to die last
        self.tally = Tally()
        # Minute of issue -> (how many, when the last dies), for tokens no longer kept one by one.
        self.minutes: Dict[int, Tuple[int, int]] = {}

    def settle(self, limits: Limits, keep: int) -> Batch:
        """Count what is fresh, and return it. Of all, the ``keep`` that die last are kept."""
        batch = Batch(sorted(self.fresh))
        del self.fresh[:]
        self.tally = self.tally.plus(tally_of(batch, limits))
        merged = sorted([*self.kept, *batch.packed]) if self.kept else batch.packed
        self._fold(merged[:-keep], limits.now)
        self.kept = array("q", merged[-keep:])
        return batch

    def count_odd(self, expiry: Optional[int], issued: Optional[int], limits: Limits) -> None:
        """A token that lacks a time, or whose times are beyond reason: counted, not kept."""
        now = limits.now
        left = None if expiry is None else expiry - now
        alive = left is None or left > 0
        self.tally = self.tally.plus(
            Tally(
                tokens=1,
                active=int(alive),
                within_5m=int(left is not None and 0 < left <= 300),
                within_15m=int(left is not None and 0 < left <= 900),
                within_1h=int(left is not None and 0 < left <= 3600),
                recent=int(issued is not None and -limits.rate_window < issued - now <= 0),
                long_lived=int(_too_long(expiry, issued, limits)),
                from_future=int(issued is not None and issued > now + limits.clock_skew),
                last_issued=min(issued or 0, now),
                last_expiry=expiry or 0,
            )
        )

    def newest(self, until: int) -> List[Tuple[int, int]]:
        """(issued, expiry) of the tokens that die last, minted at ``until`` or before."""
        some = self.kept[-NEWEST:]
        pairs = zip(issued_of(some), [token >> LIFE_BITS for token in some])
        return [pair for pair in pairs if pair[0] <= until]

    def minted_before(self, moment: float, now: int) -> MintedBefore:
        """The live tokens minted before ``moment``."""
        live = self.kept[bisect_left(self.kept, pack(now + 1, 0)) :]
        old = [t >> LIFE_BITS for t in live if (t >> LIFE_BITS) - (t & LIFE) < moment]
        last = old[-1] if old else None
        count = len(old)
        for minute, (many, dies) in self.minutes.items():
            if minute * 60 < moment:
                count += many
                last = max(dies, last or 0)
        return MintedBefore(count, last, not self.minutes)

    def dying_between(self, start: int, end: int) -> int:
        """How many of the kept tokens die at ``start`` or later and before ``end``."""
        return bisect_left(self.kept, pack(end, 0)) - bisect_left(self.kept, pack(start, 0))

    def _fold(self, dropped: Sequence[int], now: int) -> None:
        minutes = self.minutes
        for token in dropped[bisect_left(dropped, pack(now + 1, 0)) :]:
            expiry = token >> LIFE_BITS
            minute = (expiry - (token & LIFE)) // 60
            many, dies = minutes.get(minute, (0, 0))
            minutes[minute] = (many + 1, max(dies, expiry))


def issued_of(packed: Sequence[int]) -> List[int]:
    """When each token was minted."""
    return [(token >> LIFE_BITS) - (token & LIFE) for token in packed]


def _too_long(expiry: Optional[int], issued: Optional[int], limits: Limits) -> bool:
    return expiry is not None and issued is not None and expiry - issued > limits.max_lifetime
