"""Decision: of a sample of used tokens, which have a birth that two looks at the cache show.

For who does not follow the cache. Births between two looks can be gone before the second one, so
what has none is unexplained and nobody is accused, and none unexplained is not "none forged".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Optional
from zlib import crc32

from monitoring.tokens.codecs.facts import Decoded

KEPT = 2000  # births and uses each


def named(jti: str) -> str:
    """A token's id as it is kept: 16 hex digits from which it cannot be had."""
    return blake2b(jti.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass
class BirthSample:
    """One token in `2 ** bits`, by its id: `births` are hashes of ids, `uses` say when each used
    token was issued."""

    bits: int = 0
    births: dict[str, None] = field(default_factory=dict)
    uses: dict[str, float] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict, repr=False)

    def born(self, jtis: Sequence[bytes]) -> None:
        """Tokens of these ids were minted."""
        mask = (1 << self.bits) - 1
        for jti in [jti for jti in jtis if not crc32(jti) & mask]:
            self.births[self._name(jti.decode("utf-8", "replace"))] = None
        self._bound()

    def used(self, tokens: Sequence[Decoded]) -> None:
        """Tokens were accepted."""
        mask = (1 << self.bits) - 1
        for token in tokens:
            if token.jti and token.iat and not crc32(token.jti.encode("utf-8", "replace")) & mask:
                self.uses[self._name(token.jti)] = token.iat
        self._bound()

    def _name(self, jti: str) -> str:
        return self._ids.setdefault(jti, named(jti))

    def _bound(self) -> None:
        while len(self.births) > KEPT or len(self.uses) > KEPT:
            self.bits += 1
            mask = (1 << self.bits) - 1
            out = [jti for jti in self._ids if crc32(jti.encode("utf-8", "replace")) & mask]
            for jti in out:
                name = self._ids.pop(jti)
                self.births.pop(name, None)
                self.uses.pop(name, None)


@dataclass(frozen=True)
class SampleVerdict:
    """Of `looked_at` used tokens that were issued between two looks, so many have a birth that one
    of the looks shows. `one_in`: one used token in so many was looked at."""

    looked_at: int
    born: int
    one_in: int

    @property
    def unexplained(self) -> int:
        return self.looked_at - self.born


def judge(
    sample: BirthSample, before: Optional[Mapping[str, object]], skew: float
) -> Optional[SampleVerdict]:
    """What two looks show; None: there was no look before this one. `before` as `kept` gave it."""
    if before is None:
        return None
    since, earlier = before.get("at"), before.get("births")
    if not isinstance(since, (int, float)) or not isinstance(earlier, list):
        return None
    births = {*sample.births, *earlier}
    if not births:  # of a layout that does not show them
        return None
    fresh = [name for name, iat in sample.uses.items() if iat > since + skew]
    return SampleVerdict(len(fresh), sum(name in births for name in fresh), 1 << sample.bits)


def kept(sample: BirthSample, at: float) -> Mapping[str, object]:
    """What the next look needs of this one."""
    return {"at": at, "births": list(sample.births)}
