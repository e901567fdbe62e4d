"""Decision: 64-bit hashes to row numbers in 8 to 16 bytes each, where a dict takes 100."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Optional

_FREE, _GONE = 0, 0xFFFFFFFF
_SMALLEST = 1024


def hash_of(*parts: bytes) -> int:
    """64 bits that a stranger cannot choose two equal texts for, never 0."""
    return int.from_bytes(blake2b(b"\0".join(parts), digest_size=8).digest(), "big") or 1


class HashIndex:
    """Rows by hash. ``hashes`` is the caller's column: row -> hash; open addressing beside it."""

    def __init__(self, hashes: Sequence[int]) -> None:
        self._hashes = hashes
        self._slots = array("I", bytes(4 * _SMALLEST))
        self._used = 0  # slots that are not free, the deleted ones among them
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes_used(self) -> int:
        return 4 * len(self._slots)

    def find(self, wanted: int) -> Optional[int]:
        """The row of a hash; None: it has none."""
        slots, hashes = self._slots, self._hashes
        mask = len(slots) - 1
        place = wanted & mask
        while True:
            entry = slots[place]
            if entry == _FREE:
                return None
            if entry != _GONE and hashes[entry - 1] == wanted:
                return entry - 1
            place = (place + 1) & mask

    def add(self, wanted: int, row: int) -> None:
        """A row for a hash that has none; its column must hold the hash already."""
        if (self._used + 1) * 3 > len(self._slots) * 2:
            self._grow()
        slots = self._slots
        mask = len(slots) - 1
        place = wanted & mask
        while slots[place] not in (_FREE, _GONE):
            place = (place + 1) & mask
        self._used += slots[place] == _FREE
        slots[place] = row + 1
        self._count += 1

    def remove(self, wanted: int) -> None:
        """Forget a hash that is there."""
        slots, hashes = self._slots, self._hashes
        mask = len(slots) - 1
        place = wanted & mask
        while slots[place] in (_FREE, _GONE) or hashes[slots[place] - 1] != wanted:
            if slots[place] == _FREE:
                raise KeyError(wanted)
            place = (place + 1) & mask
        slots[place] = _GONE
        self._count -= 1

    def _rows(self) -> Iterator[int]:
        return (entry - 1 for entry in self._slots if entry not in (_FREE, _GONE))

    def _grow(self) -> None:
        rows = array("I", self._rows())
        size = _SMALLEST
        while size < self._count * 3:
            size *= 2
        self._slots = array("I", bytes(4 * size))
        self._used = self._count = 0
        for row in rows:
            self.add(self._hashes[row], row)
