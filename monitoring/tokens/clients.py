"""Decision: what one client's tokens add up to, kept in a few bytes a token.

A token is one integer, its expiry and its lifetime in whole seconds, so that sorting and counting
are done by the interpreter's own loops and not by ours.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Optional

from msgspec import Struct

from monitoring.certainty import Doubt
from monitoring.tokens.codecs.facts import Decoded
from monitoring.tokens.codecs.records import NEVER

LIFE_BITS = 24
LIFE = (1 << LIFE_BITS) - 1  # 194 days
WINDOWS = (("5m", 300), ("15m", 900), ("1h", 3600))
NEWEST = 40  # a few more than the steps that ``renewals`` keeps
ODD_KEPT = 4096  # pairs of times of a client's unusual tokens


class Tally(Struct, frozen=True, gc=False):
    """Counts that add up over batches and clients. ``last_*`` are epoch seconds, 0 for none; a
    token whose end can be read in two ways counts by the later one. ``long_dead`` is past exp by
    more than clocks explain, ``endless`` lives and has no end, ``doubtful`` lives and can be read
    otherwise. ``longest`` is the longest life, from the earliest issue to the latest end, in
    seconds."""

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
    long_dead: int = 0
    endless: int = 0
    doubtful: int = 0
    longest: int = 0

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
            self.long_dead + other.long_dead,
            self.endless + other.endless,
            self.doubtful + other.doubtful,
            max(self.longest, other.longest),
        )


@dataclass(frozen=True)
class Limits:
    """The moments and lifetimes that a tally counts against, in whole seconds."""

    now: int
    rate_window: int
    max_lifetime: int
    clock_skew: int


class MintedBefore(Struct, frozen=True):
    """Live tokens that were minted before a moment, those of which that cannot be told among them.

    ``last_dies`` is when the last of them dies, by the later of two readings (None: there is none,
    or one that never dies; ``endless`` counts those). ``exact`` False: some were counted by minute,
    because there are more than are kept one by one. ``doubts`` say why one of them may be other
    than it reads.
    """

    live: int = 0
    last_dies: Optional[float] = None
    exact: bool = True
    endless: int = 0
    doubts: tuple[Doubt, ...] = ()

    def plus(self, other: MintedBefore) -> MintedBefore:
        if not other.live and other.exact and not other.doubts:
            return self
        ends = [at for at in (self.last_dies, other.last_dies) if at is not None]
        endless = self.endless + other.endless
        return MintedBefore(
            self.live + other.live,
            max(ends, default=None) if not endless else None,
            self.exact and other.exact,
            endless,
            tuple(dict.fromkeys((*self.doubts, *other.doubts))),
        )


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
        self._issued: Optional[list[int]] = None
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
        long_dead=batch.expiring_by(now - limits.clock_skew - 1),
        longest=max(batch.lives),
    )


_Times = tuple[Optional[int], Optional[int]]


class ClientLedger:
    """One client's tokens. ``fresh`` is appended to from outside; ``settle`` takes it in."""

    __slots__ = ("doubts", "fresh", "kept", "minutes", "named", "named_odd", "odd", "tally")

    def __init__(self) -> None:
        self.fresh = array("q")
        self.kept = array("q")  # in order, the last to die last
        self.tally = Tally()
        # Minute of issue -> (how many, when the last dies), for tokens no longer kept one by one.
        self.minutes: dict[int, tuple[int, int]] = {}
        # (issued at the earliest, dies at the latest) -> how many, for tokens that lack a time or
        # have unusual ones. None: not known when issued; without an end.
        self.odd: dict[_Times, int] = {}
        # Tokens that stand in the name of a key: they are in no other count.
        self.named = array("q")
        self.named_odd: set[_Times] = set()
        self.doubts: dict[Doubt, None] = {}

    @classmethod
    def joined(cls, ledgers: Iterable[ClientLedger]) -> ClientLedger:
        """Several settled ledgers as one."""
        whole = cls()
        for each in ledgers:
            whole.tally = whole.tally.plus(each.tally)
            whole.kept = array("q", sorted([*whole.kept, *each.kept]))
            for minute, (many, dies) in each.minutes.items():
                before, died = whole.minutes.get(minute, (0, 0))
                whole.minutes[minute] = (before + many, max(died, dies))
            for times, many in each.odd.items():
                whole.odd[times] = whole.odd.get(times, 0) + many
            whole.named.extend(each.named)
            whole.named_odd |= each.named_odd
            whole.doubts.update(each.doubts)
        return whole

    def settle(self, limits: Limits, keep: int) -> Batch:
        """Count what is fresh, and return it. Of all, the ``keep`` that die last are kept."""
        batch = Batch(sorted(self.fresh))
        del self.fresh[:]
        self.tally = self.tally.plus(tally_of(batch, limits))
        merged = sorted([*self.kept, *batch.packed]) if self.kept else batch.packed
        self._fold(merged[:-keep], limits.now)
        self.kept = array("q", merged[-keep:])
        return batch

    def count_odd(self, token: Decoded, limits: Limits) -> None:
        """A token that lacks a time, or whose times are beyond reason or can be read otherwise."""
        self.tally = self.tally.plus(_tally_of_odd(token, limits))
        times = self._bounded(_times_of(token))
        self.odd[times] = self.odd.get(times, 0) + 1
        if token.unsure is not None:
            self.doubts.update(dict.fromkeys(token.unsure.doubts))

    def note_named(self, token: Decoded) -> None:
        """A token that stands in the name of a key."""
        issued, dies = times = _times_of(token)
        if issued is not None and dies is not None and not (dies - issued) >> LIFE_BITS:
            self.named.append(pack(dies, dies - issued))
        else:
            self.named_odd.add(self._bounded(times))
        if token.unsure is not None:
            self.doubts.update(dict.fromkeys(token.unsure.doubts))

    def _bounded(self, times: _Times) -> _Times:
        """Beyond those that are kept, of one hour, and then of any time that is not later."""
        issued, dies = times
        kept = len(self.odd) + len(self.named_odd)
        if kept < ODD_KEPT or times in self.odd:
            return times
        if kept < 2 * ODD_KEPT and issued is not None:
            return issued // 3600 * 3600, None if dies is None else dies // 3600 * 3600 + 3600
        return None, None if dies is None else NEVER

    def newest(self, until: int) -> list[tuple[int, int]]:
        """(issued, expiry) of the tokens that die last, minted at ``until`` or before."""
        some = self.kept[-NEWEST:]
        pairs = zip(issued_of(some), [token >> LIFE_BITS for token in some])
        return [pair for pair in pairs if pair[0] <= until]

    def minted_before(self, moment: float, now: int) -> MintedBefore:
        """The tokens that live after ``now`` and were, or may have been, minted before
        ``moment``, whether they stand in a value or in a key's name."""
        old = self._kept_before(moment, now)
        found = MintedBefore(len(old), float(old[-1] >> LIFE_BITS) if old else None)
        for minute, (many, dies) in self.minutes.items():
            if minute * 60 < moment:
                found = found.plus(MintedBefore(many, dies, False))
        others: dict[_Times, int] = {**self.odd}
        others.update((times, 1) for times in self._named_alone())
        odd = MintedBefore(exact=not self.minutes)
        for (issued, until), many in others.items():
            unsure = issued is None or (until is not None and until < issued)
            if (unsure or (issued or 0) < moment) and (until is None or until > now):
                odd = odd.plus(MintedBefore(many, until, endless=many if until is None else 0))
        doubts = tuple(self.doubts) if odd.live else ()
        return found.plus(odd).plus(MintedBefore(doubts=doubts))

    def _kept_before(self, moment: float, now: int) -> Sequence[int]:
        """The kept tokens among them: all, none, or those that a look at each one finds."""
        live = self.kept[bisect_left(self.kept, pack(now + 1, 0)) :]
        if not live or live[-1] >> LIFE_BITS < moment:
            return live
        if (live[0] >> LIFE_BITS) - self.tally.longest >= moment:
            return ()
        return [t for t in live if (t >> LIFE_BITS) - (t & LIFE) < moment]

    def _named_alone(self) -> Iterator[_Times]:
        """The times of those that stand in no value."""
        yield from self.named_odd.difference(self.odd)
        for packed in set(self.named):
            place = bisect_left(self.kept, packed)
            dies = packed >> LIFE_BITS
            times = dies - (packed & LIFE), dies
            if self.kept[place : place + 1] != array("q", [packed]) and times not in self.odd:
                yield times

    def lives(self, now: int) -> Iterator[tuple[_Times, int]]:
        """The times of the tokens that live after ``now``, and how many have them. Tokens counted
        by minute were issued at its beginning at the earliest."""
        for packed in self.kept[bisect_left(self.kept, pack(now + 1, 0)) :]:
            dies = packed >> LIFE_BITS
            yield (dies - (packed & LIFE), dies), 1
        yield from (((minute * 60, dies), many) for minute, (many, dies) in self.minutes.items())
        others = {**self.odd, **dict.fromkeys(self._named_alone(), 1)}
        for (issued, until), many in others.items():
            if until is None or until > now:
                yield (issued, until), many

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


class ByIssue:
    """Many ledgers' live tokens in order of issue, so that one question costs no walk."""

    def __init__(self, ledgers: Iterable[ClientLedger], now: int) -> None:
        ledgers = list(ledgers)
        rows = [row for ledger in ledgers for row in ledger.lives(now)]
        rows.sort(key=lambda row: row[0][0] or 0)
        self._issued = [issued or 0 for (issued, _dies), _many in rows]
        self._counts = list(accumulate(many for _times, many in rows))
        self._endless = list(accumulate(many * (dies is None) for (_, dies), many in rows))
        self._last = list(accumulate((dies or 0 for (_, dies), _many in rows), max))
        self._exact = not any(ledger.minutes for ledger in ledgers)
        self._doubts = tuple(dict.fromkeys(doubt for each in ledgers for doubt in each.doubts))

    def before(self, moment: float) -> MintedBefore:
        """As ``ClientLedger.minted_before``, of all of them."""
        place = bisect_left(self._issued, moment) - 1
        if place < 0:
            return MintedBefore(exact=self._exact)
        endless = self._endless[place]
        last = None if endless else float(self._last[place])
        return MintedBefore(self._counts[place], last, self._exact, endless, self._doubts)


def issued_of(packed: Sequence[int]) -> list[int]:
    """When each token was minted."""
    return [(token >> LIFE_BITS) - (token & LIFE) for token in packed]


def _tally_of_odd(token: Decoded, limits: Limits) -> Tally:
    now, dies = limits.now, _whole(token.lives_until)
    issued, expiry = _whole(token.iat), _whole(token.exp)
    left = None if dies is None else dies - now
    alive = left is None or left > 0
    sure = token.unsure is None or token.unsure.until is None
    window = left if sure and left is not None and left > 0 else None
    dated = issued is not None and (token.unsure is None or token.unsure.since is None)
    since = _whole(token.issued_since)
    return Tally(
        tokens=1,
        active=int(alive),
        within_5m=int(window is not None and window <= 300),
        within_15m=int(window is not None and window <= 900),
        within_1h=int(window is not None and window <= 3600),
        recent=int(dated and -limits.rate_window < (issued or 0) - now <= 0),
        long_lived=int(_too_long(expiry, issued, limits)),
        from_future=int(since is not None and since > now + limits.clock_skew),
        last_issued=min(issued or 0, now) if dated else 0,
        last_expiry=dies or 0,
        long_dead=int(left is not None and left < -limits.clock_skew),
        endless=int(alive and dies is None),
        doubtful=int(alive and token.unsure is not None and bool(token.unsure.doubts)),
        longest=max(0, dies - since) if dies is not None and since is not None else 0,
    )


def _times_of(token: Decoded) -> _Times:
    return _whole(token.issued_since), _whole(token.lives_until)


def _whole(moment: Optional[float]) -> Optional[int]:
    return None if moment is None else int(moment)


def _too_long(expiry: Optional[int], issued: Optional[int], limits: Limits) -> bool:
    """Without a time of issue: longer than the policy allows from now on."""
    if expiry is None:
        return False
    if issued is None:
        return expiry - limits.now > limits.max_lifetime + limits.clock_skew
    return expiry - issued > limits.max_lifetime
