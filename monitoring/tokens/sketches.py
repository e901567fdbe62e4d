"""Decision: counting in bounded memory: what was seen before, and how values are distributed.

Both are exact up to a stated size and say their error above it.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, Counter as CounterOf
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

NEW, AGAIN, CONFLICT = 0, 1, 2

_CONTENT_BITS = 12
_CONTENT = (1 << _CONTENT_BITS) - 1
_IDENTITY = ((1 << 64) - 1) ^ _CONTENT
_FULL = 0.7
_SMALLEST = 1 << 12


class Seen:
    """Which ids were seen before, and whether the same content stood behind them.

    A table of 64-bit entries, 52 bits of the id's hash and 12 of the content's, with linear
    probing: 8 bytes a slot. Up to ``limit`` ids it errs with less than 1 in 10^8 per id; above, a
    Bloom filter takes over, which knows no content and takes a new id for an old one with the
    probability that ``error`` states. It never takes an old id for a new one.
    """

    def __init__(self, expected: int = 0, *, limit: int = 1_400_000) -> None:
        self._limit = limit
        self._slots = array("Q", [0]) * _slots_for(min(expected, limit))
        self._used = 0
        self._bloom: Optional[Bloom] = None

    def __len__(self) -> int:
        return self._used + (len(self._bloom) if self._bloom else 0)

    @property
    def error(self) -> float:
        """Probability that a new id is taken for an old one (0.0 while the table suffices)."""
        return self._bloom.error if self._bloom else 0.0

    def note(self, identity: int, content: int) -> int:
        """NEW, AGAIN, or CONFLICT (seen with other content), for 64-bit hashes of both."""
        return self.note_page(((identity, content),))[0]

    def note_page(self, page: Iterable[tuple[int, int]]) -> list[int]:
        """``note`` for each pair of a page: one call a page is what a million tokens can pay."""
        pairs = page if isinstance(page, (list, tuple)) else list(page)
        self._make_room(len(pairs))
        if self._bloom is not None:
            return [self._note_above_limit(identity, content) for identity, content in pairs]
        slots, mask = self._slots, len(self._slots) - 1
        verdicts: list[int] = []
        keep = verdicts.append
        for identity, content in pairs:
            entry = (identity & _IDENTITY | content & _CONTENT) or 1
            slot = entry >> _CONTENT_BITS & mask
            found = slots[slot]
            while found and (found ^ entry) & _IDENTITY:
                slot = slot + 1 & mask
                found = slots[slot]
            if not found:
                slots[slot] = entry
                keep(NEW)
            else:
                keep(AGAIN if found == entry else CONFLICT)
        self._used += verdicts.count(NEW)
        return verdicts

    def _note_above_limit(self, identity: int, content: int) -> int:
        entry = (identity & _IDENTITY | content & _CONTENT) or 1
        found = self._find(entry)
        if found:
            return AGAIN if found == entry else CONFLICT
        assert self._bloom is not None  # noqa: S101 - for the type checker
        return AGAIN if self._bloom.note(identity) else NEW

    def _find(self, entry: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        slot = entry >> _CONTENT_BITS & mask
        while slots[slot] and (slots[slot] ^ entry) & _IDENTITY:
            slot = slot + 1 & mask
        return slots[slot]

    def reserve(self, ids: int) -> None:
        """Make room for ``ids`` in one go, so that the table need not grow step by step."""
        self._resize(_slots_for(min(ids, self._limit)))

    def _make_room(self, coming: int) -> None:
        if self._bloom is not None or self._used + coming <= len(self._slots) * _FULL:
            return
        if self._used + coming > self._limit:
            self._bloom = Bloom()
        else:
            self._resize(_slots_for(self._used + coming))

    def _resize(self, size: int) -> None:
        old = self._slots
        if size <= len(old):
            return
        self._slots = array("Q", [0]) * size
        slots, mask = self._slots, size - 1
        for entry in filter(None, old):
            slot = entry >> _CONTENT_BITS & mask
            while slots[slot]:
                slot = slot + 1 & mask
            slots[slot] = entry


def _slots_for(ids: int) -> int:
    return max(_SMALLEST, 1 << math.ceil(math.log2(max(ids, 1) / _FULL)))


class Bloom:
    """A set that forgets nothing and sometimes claims too much; 16 MB for any number of ids."""

    def __init__(self, bits: int = 1 << 27) -> None:
        self._mask = bits - 1
        self._bytes = bytearray(bits >> 3)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def error(self) -> float:
        """Probability that the next new id is claimed to be old."""
        return float((1 - math.exp(-3 * self._count / (self._mask + 1))) ** 3)

    def note(self, identity: int) -> bool:
        """True when the id was (or seems to have been) noted before."""
        step = identity >> 32 | 1
        spots = [identity & self._mask, identity + step & self._mask]
        spots.append(identity + 2 * step & self._mask)
        if all(self._bytes[spot >> 3] >> (spot & 7) & 1 for spot in spots):
            return True
        for spot in spots:
            self._bytes[spot >> 3] |= 1 << (spot & 7)
        self._count += 1
        return False


@dataclass(frozen=True)
class Spread:
    """A distribution in seconds; None throughout when nothing was counted.

    Percentiles are nearest-rank. ``error`` bounds how far one may be off: a share of its value
    when ``relative``, else seconds (0.5: values are whole seconds). The rest is exact.
    """

    count: int
    min: Optional[float]
    mean: Optional[float]
    p50: Optional[float]
    p95: Optional[float]
    p99: Optional[float]
    max: Optional[float]
    error: float
    relative: bool


class Histogram:
    """Counts by whole second; beyond ``limit`` different seconds, in buckets 1 % wide.

    Count, mean, min and max stay exact always. ``offset`` is taken off every value, later: what
    comes in may be points in time, and what goes out the time from ``offset`` to them.
    """

    RELATIVE_ERROR = 0.005  # half a bucket

    def __init__(self, limit: int = 50_000, *, offset: int = 0) -> None:
        self._limit = limit
        self._offset = offset
        self._fine: CounterOf[int] = Counter()
        self._coarse: CounterOf[int] = Counter()
        self._folded = _Totals()

    def add_page(self, seconds: Iterable[int]) -> None:
        """Count each value, a whole number of seconds, not below the offset."""
        self._fine.update(seconds)
        if len(self._fine) > self._limit:
            self._fold()

    def counts(self) -> dict[int, int]:
        """Seconds -> how many; the middles of buckets once there are buckets."""
        merged = Counter(self._from_offset())
        for bucket, many in self._coarse.items():
            merged[_middle(bucket)] += many
        return merged

    def add_counts(self, counts: Mapping[int, int]) -> None:
        """Like ``add_page``, for values that are counted already."""
        self._fine.update(counts)
        if len(self._fine) > self._limit:
            self._fold()

    def spread(self) -> Spread:
        totals = _Totals.of(self._from_offset()).plus(self._folded)
        if not totals.count:
            return Spread(0, None, None, None, None, None, None, 0.0, False)
        ranked = sorted(self.counts().items())
        p50, p95, p99 = (
            min(max(_at_rank(ranked, math.ceil(share * totals.count)), totals.low), totals.high)
            for share in (0.50, 0.95, 0.99)
        )
        mean = totals.total / totals.count
        coarse = bool(self._coarse)
        error = self.RELATIVE_ERROR if coarse else 0.5
        return Spread(
            totals.count, totals.low, mean, p50, p95, p99, totals.high, error, coarse
        )  # fmt: skip

    def _from_offset(self) -> dict[int, int]:
        offset = self._offset
        return {value - offset: many for value, many in self._fine.items()}

    def _fold(self) -> None:
        values = self._from_offset()
        self._folded = _Totals.of(values).plus(self._folded)
        for value, many in values.items():
            self._coarse[_bucket(value)] += many
        self._fine.clear()


@dataclass(frozen=True)
class _Totals:
    count: int = 0
    total: int = 0
    low: int = 1 << 62
    high: int = -1

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> _Totals:
        if not counts:
            return cls()
        total = sum(value * many for value, many in counts.items())
        return cls(sum(counts.values()), total, min(counts), max(counts))

    def plus(self, other: _Totals) -> _Totals:
        return _Totals(
            self.count + other.count,
            self.total + other.total,
            min(self.low, other.low),
            max(self.high, other.high),
        )


def _at_rank(ranked: Sequence[tuple[int, int]], rank: int) -> int:
    """The value that the ``rank``-th smallest (from 1) has."""
    passed = 0
    for value, many in ranked:
        passed += many
        if passed >= rank:
            return value
    return ranked[-1][0]


_WIDTH = math.log(1.01)


def _bucket(value: int) -> int:
    return math.floor(math.log(value) / _WIDTH) if value > 0 else -1


def _middle(bucket: int) -> int:
    return round(math.exp((bucket + 0.5) * _WIDTH)) if bucket >= 0 else 0
