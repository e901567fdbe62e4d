"""Decision: what lies in the cache, key by key, in some 45 bytes a key and its share of a token.

A key is a hash, when it dies, its family, and the token that it holds; a token is the hash of its
id, its times and its kind. Tokens of a kind differ in their id and their times alone. What is
unusual about a token is kept with it as a whole, so a cache of unusual tokens costs more.
"""

from __future__ import annotations

from array import array
from collections import Counter, Counter as CounterOf
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Optional, Union

from msgspec.structs import replace

from monitoring.follow.index import HashIndex
from monitoring.redis.profiles import Rule
from monitoring.tokens.clients import LIFE, LIFE_BITS, pack
from monitoring.tokens.codecs.facts import CredentialFact, Decoded, Expectation

KEYS_KEPT = 4_000_000
KINDS_KEPT = 100_000
ODD_KEPT = 100_000
_MASK = (1 << 64) - 1
_STEPS = 8  # of a second, in which a key's end is kept
_NEVER, _UNKNOWN = 0, 0xFFFFFFFF
_ODD = 0  # the kind of tokens that are kept as a whole, and of free rows

Verdict = tuple[str, bool]  # reason ("ok" when good), renewed


class FullError(Exception):
    """More than is kept; the text says of what."""


def hashed(*parts: Union[str, bytes, float, None]) -> int:
    """64 bits, never 0; another number in another process."""
    return (hash(parts[0] if len(parts) == 1 else parts) & _MASK) or 1


class Family(NamedTuple):
    """What keys have in common. `verdict`: of a verdict that could be read; `unread`: why a value
    could not be. `named`: the name of the key holds a whole token."""

    rule: Rule
    kind: str
    verdict: Optional[Verdict] = None
    unread: str = ""
    named: bool = False


@dataclass(frozen=True)
class Alike:
    """Tokens of one kind. `token` stands for them, its own id and times mean nothing."""

    token: Decoded
    packed: Sequence[int]


class _Tokens:
    """Rows of tokens that keys refer to."""

    def __init__(self) -> None:
        self.identities, self.packed = array("Q"), array("q")
        self.kinds, self.keys = array("I"), array("I")
        self.index = HashIndex(self.identities)
        self.odd: dict[int, Decoded] = {}  # by row
        self._free = array("I")

    def __len__(self) -> int:
        return len(self.index)

    def hold(self, identity: int, packed: int, kind: int, odd: Optional[Decoded]) -> int:
        """The row of a token, for one key more."""
        row = self.index.find(identity)
        if row is None:
            row = self._new(identity)
            self.packed[row], self.kinds[row] = packed, kind
            if odd is not None:
                self.odd[row] = odd
        self.keys[row] += 1
        return row

    def _new(self, identity: int) -> int:
        if self._free:
            row = self._free.pop()
            self.identities[row] = identity
        else:
            row = len(self.identities)
            self.identities.append(identity)
            self.packed.append(0)
            self.kinds.append(_ODD)
            self.keys.append(0)
        self.index.add(identity, row)
        return row

    def rename(self, row: int, identity: int) -> None:
        """Give a token another hash, which none has."""
        self.index.remove(self.identities[row])
        self.identities[row] = identity
        self.index.add(identity, row)

    def let_go(self, row: int) -> bool:
        """One key less; whether it was the last one."""
        self.keys[row] -= 1
        if self.keys[row]:
            return False
        self.index.remove(self.identities[row])
        self.identities[row] = self.packed[row] = self.kinds[row] = 0
        self.odd.pop(row, None)
        self._free.append(row)
        return True


class Ledger:
    """The keys of the cache and the tokens behind them. `began`: epoch seconds before which none
    of its keys ends. Raises FullError where more is there than is kept."""

    def __init__(self, expect: Expectation, *, began: float, tolerance: float) -> None:
        self._expect, self._began, self._tolerance = expect, int(began) - 1, tolerance
        self._hashes, self._refs = array("Q"), array("I")
        self._dies, self._of = array("I"), array("I")
        self._index = HashIndex(self._hashes)
        self._free = array("I")
        self._families: dict[Family, int] = {}
        self._listed: list[Family] = []
        self._counts = array("I")
        self.tokens, self.named = _Tokens(), _Tokens()
        self._kinds: dict[object, int] = {}
        self._reps: list[Decoded] = [Decoded()]
        self.texts: dict[int, Mapping[str, str]] = {}  # of the first kinds
        self._unusual_ends: set[int] = set()
        self._conflicts: dict[int, int] = {}  # rows of tokens whose id another token has: its hash
        self._dying: dict[int, array[int]] = {}
        self._aged = self._began
        self._facts: dict[int, CredentialFact] = {}
        self.left: CounterOf[str] = Counter()  # tokens whose last key went, and how

    def __len__(self) -> int:
        return len(self._index)

    # -- what is there now

    def token(
        self, key: bytes, family: Family, token: Decoded, *, ttl: Optional[int], now: float
    ) -> bool:
        """A key holds this token (or what could not be read as one), for `ttl` milliseconds more
        (-1: for ever, None: not known). Whether the token was not there before."""
        if ttl == -2:
            self.gone(key, "expired")
            return False
        row, known = self._row(key, family), True
        ref = self._refs[row]
        if not ref or not self._still(ref - 1, key, token):
            if ref:
                self._release(self.tokens, ref - 1, "replaced")
            known = self._hold(row, key, token)
        self._end(row, ttl, now)
        self._note_end(row, self._refs[row] - 1)
        return not known

    def _still(self, held: int, key: bytes, token: Decoded) -> bool:
        nameless = token.reason is not None or not token.jti
        identity = hashed(key, "key") if nameless else hashed(token.jti)
        named = held in self._conflicts or self.tokens.identities[held] == identity
        return named and self._same(held, token)

    def _hold(self, row: int, key: bytes, token: Decoded) -> bool:
        """Whether the token was there before."""
        columns, first = self._columns(token), hashed(token.jti)
        if token.reason is not None or not token.jti:
            identity = first = hashed(key, "key")
        else:
            there = self.tokens.index.find(first)
            alone = there is None or self._same(there, token)
            # by all that is told apart, where its id is another token's
            identity = first if alone else hashed(token.jti, token.client, token.iat, token.exp)
        known = len(self.tokens)
        held = self.tokens.hold(identity, *columns)
        if identity != first:
            self._conflicts[held] = first
        self._refs[row] = held + 1
        return len(self.tokens) == known

    def verdict(
        self,
        key: bytes,
        family: Family,
        ttl: Optional[int],
        now: float,
        *,
        named: Optional[Decoded] = None,
    ) -> None:
        """A key holds a verdict; `named` is the token that stands in its name."""
        if ttl == -2:
            self.gone(key, "expired")
            return
        row = self._row(key, family)
        if named is not None and named.reason is None and not self._refs[row]:
            identity = hashed(named.client, named.iat, named.exp, named.jti)
            self._refs[row] = self.named.hold(identity, *self._columns(named)) + 1
        self._end(row, ttl, now)

    def credential(
        self,
        key: bytes,
        family: Family,
        ttl: Optional[int],
        now: float,
        *,
        fact: Optional[CredentialFact],
    ) -> None:
        """A key holds a credential, or something else (None)."""
        if ttl == -2:
            self.gone(key, "expired")
            return
        row = self._row(key, family)
        self._facts.pop(row, None)
        if fact is not None:
            self._facts[row] = fact
        self._end(row, ttl, now)

    def gone(self, key: bytes, how: str) -> bool:
        """A key is not there any more; whether it was."""
        row = self._index.find(hashed(key))
        if row is not None:
            self._drop(row, how)
        return row is not None

    def due(self, key: bytes, now: float) -> bool:
        """Whether a key that is there ends about now."""
        row = self._index.find(hashed(key))
        soon = int((now - self._began) * _STEPS) + 2
        return row is not None and _NEVER < self._dies[row] <= soon

    def age(self, now: float) -> None:
        """Let go of the keys whose end has come: the server removes them late, and says so then."""
        until, step = int(now), int((now - self._began) * _STEPS)
        for second in range(self._aged, until + 1):
            left = array("I")
            for row in self._dying.pop(second, ()):
                if not self._hashes[row] or self._second(row) != second:
                    continue  # it was removed, or its end was moved
                if self._dies[row] <= step:
                    self._drop(row, "expired")
                else:
                    left.append(row)
            if left:
                self._dying[second] = left
        self._aged = max(self._aged, until)

    # -- what it adds up to

    def families(self) -> Iterator[tuple[Family, int]]:
        """How many keys there are of each family."""
        return ((f, n) for f, n in zip(self._listed, self._counts) if n)

    def facts(self) -> tuple[CredentialFact, ...]:
        """The cached credentials."""
        return tuple(self._facts.values())

    @property
    def kinds(self) -> int:
        """How many kinds of tokens were seen; the number of the next new one."""
        return len(self._reps)

    @property
    def unasked(self) -> int:
        """How many keys there are whose end is not known."""
        return self._dies.count(_UNKNOWN)

    @property
    def conflicts(self) -> int:
        """Tokens whose id another, different token has too."""
        return len(self._conflicts)

    def alike(self, tokens: _Tokens) -> Iterator[tuple[int, Alike]]:
        """The tokens by kind (a number), but those that are kept as a whole."""
        found = [array("q") for _ in self._reps]
        keep = [each.append for each in found]
        for kind, packed in zip(tokens.kinds, tokens.packed):
            keep[kind](packed)
        for row in self._conflicts if tokens is self.tokens else ():
            found[tokens.kinds[row]].remove(tokens.packed[row])
        for kind, some in enumerate(found):
            if kind != _ODD and some:
                yield kind, Alike(self._reps[kind], some)

    def unusual(self, tokens: _Tokens) -> list[Decoded]:
        """The tokens that are kept as a whole."""
        return [token for row, token in tokens.odd.items() if row not in self._conflicts]

    def unusual_ends(self, now: float) -> list[tuple[Decoded, Optional[int]]]:
        """Tokens of keys that do not end about when their token does, and in how many milliseconds
        the key ends, as PTTL says it."""
        return [
            (self._whole(self._refs[row] - 1), self._ttl(row, now)) for row in self._unusual_ends
        ]

    def differences(self, other: Ledger, leaving_out: AbstractSet[int], now: float) -> int:
        """How many keys only one of the two has, or with another token; but of those to be left
        out (hashes), and those that end about now."""
        found = 0
        for mine, theirs in ((self, other), (other, self)):
            soon = int((now + 5 - mine._began) * _STEPS)
            for row, key in enumerate(mine._hashes):
                if not key or key in leaving_out or _NEVER < mine._dies[row] <= soon:
                    continue
                there = theirs._index.find(key)
                if there is None:
                    found += 1
                elif mine is self:
                    found += self._token_of(row) != other._token_of(there)
        return found

    def _token_of(self, row: int) -> tuple[int, Optional[str]]:
        of_verdict = self._listed[self._of[row]].rule.role == "validation"
        tokens, ref = self.named if of_verdict else self.tokens, self._refs[row]
        if not ref:
            return 0, None
        odd = tokens.odd.get(ref - 1)
        whose = odd if odd is not None else self._reps[tokens.kinds[ref - 1]]
        return tokens.packed[ref - 1], whose.client

    # -- rows

    def _row(self, key: bytes, family: Family) -> int:
        number = self._families.get(family)
        if number is None:
            number = self._families[family] = len(self._listed)
            self._listed.append(family)
            self._counts.append(0)
        wanted = hashed(key)
        row = self._index.find(wanted)
        if row is not None and self._listed[self._of[row]].rule != family.rule:
            self._drop(row, "replaced")  # a key of another name would have to be of another rule
            row = None
        if row is None:
            row = self._new(wanted)
        else:
            self._counts[self._of[row]] -= 1
        self._of[row] = number
        self._counts[number] += 1
        return row

    def _new(self, wanted: int) -> int:
        if len(self._index) >= KEYS_KEPT:
            raise FullError(f"the cache holds more than {KEYS_KEPT:,} keys")
        if self._free:
            row = self._free.pop()
            self._hashes[row] = wanted
        else:
            row = len(self._hashes)
            self._hashes.append(wanted)
            for column in (self._refs, self._dies, self._of):
                column.append(0)
        self._index.add(wanted, row)
        return row

    def _drop(self, row: int, how: str) -> None:
        family = self._listed[self._of[row]]
        self._counts[self._of[row]] -= 1
        if self._refs[row]:
            of_verdict = family.rule.role == "validation"
            self._release(self.named if of_verdict else self.tokens, self._refs[row] - 1, how)
        self._facts.pop(row, None)
        self._unusual_ends.discard(row)
        self._index.remove(self._hashes[row])
        self._hashes[row] = self._refs[row] = self._dies[row] = 0
        self._free.append(row)

    def _release(self, tokens: _Tokens, row: int, how: str) -> None:
        identity = tokens.identities[row]
        if not tokens.let_go(row) or tokens is self.named:
            return
        self.left[how] += 1
        self._conflicts.pop(row, None)
        heir = next((r for r, first in self._conflicts.items() if first == identity), None)
        if heir is not None:
            del self._conflicts[heir]
            tokens.rename(heir, identity)

    def _end(self, row: int, ttl: Optional[int], now: float) -> None:
        if ttl is None:
            dies = _UNKNOWN
        elif ttl < 0:
            dies = _NEVER
        else:
            dies = max(1, ceil((now + ttl / 1000 - self._began) * _STEPS))
        if dies == self._dies[row]:
            return
        self._dies[row] = min(dies, _UNKNOWN)
        if _NEVER < dies < _UNKNOWN:
            self._dying.setdefault(self._second(row), array("I")).append(row)

    def _second(self, row: int) -> int:
        return self._began + self._dies[row] // _STEPS

    def _ttl(self, row: int, now: float) -> Optional[int]:
        dies = self._dies[row]
        if dies == _UNKNOWN:
            return None
        if dies == _NEVER:
            return -1
        return max(0, int((self._began + dies / _STEPS - now) * 1000))

    def _note_end(self, row: int, held: int) -> None:
        """Keys whose end says something are looked at each time, the others never."""
        dies, packed = self._dies[row], self.tokens.packed[held]
        usual = dies == _UNKNOWN
        if not usual and dies != _NEVER:
            near = abs(self._second(row) - (packed >> LIFE_BITS)) < self._tolerance
            usual = held not in self.tokens.odd and (not packed or near)
        (self._unusual_ends.discard if usual else self._unusual_ends.add)(row)

    # -- tokens

    def _same(self, row: int, token: Decoded) -> bool:
        """Whether a row is this token's, as far as tokens of one id are told apart."""
        odd = self.tokens.odd.get(row)
        there = odd if odd is not None else self._whole(row)
        return (there.client, there.iat, there.exp, there.reason) == (
            *(token.client, token.iat, token.exp),
            token.reason,
        )

    def _columns(self, token: Decoded) -> tuple[int, int, Optional[Decoded]]:
        """(times, kind, the whole token where it is unusual)."""
        if token.reason is not None:
            return 0, self._kind((token.reason, token.encoding), token), None
        expiry, issued = token.exp, token.iat
        plain = token.unsure is None and token.nbf is None and bool(token.jti)
        if not plain or type(expiry) is not int or type(issued) is not int:
            return self._unusual(token)
        if not 0 <= expiry - issued <= LIFE:
            return self._unusual(token)
        if token.__class__ is self._expect.kind and token.version is None:
            kind: object = (token.client, token.encoding)
        else:
            kind = (
                *(token.client, token.encoding, token.iss, token.aud, token.alg),
                *(token.permissions, token.scope, token.version, token.__class__),
            )
        return pack(expiry, expiry - issued), self._kind(kind, token), None

    def _kind(self, kind: object, token: Decoded) -> int:
        number = self._kinds.get(kind)
        if number is None:
            if len(self._reps) >= KINDS_KEPT:
                raise FullError(f"the cache holds tokens of more than {KINDS_KEPT:,} kinds")
            number = self._kinds[kind] = len(self._reps)
            self._reps.append(token)
        return number

    def _unusual(self, token: Decoded) -> tuple[int, int, Decoded]:
        if len(self.tokens.odd) + len(self.named.odd) >= ODD_KEPT:
            raise FullError(f"the cache holds more than {ODD_KEPT:,} tokens of unusual shape")
        return 0, _ODD, token

    def _whole(self, row: int) -> Decoded:
        odd = self.tokens.odd.get(row)
        if odd is not None:
            return odd
        packed, rep = self.tokens.packed[row], self._reps[self.tokens.kinds[row]]
        if not packed:
            return rep
        expiry = packed >> LIFE_BITS
        return replace(rep, exp=expiry, iat=expiry - (packed & LIFE))
