"""Decision: births and uses of tokens, read out of the keys that changed.

Births: `token_id:{jti}` and `token:{client}` of EAPI, keys of other layouts that hold a token, and
the renewed token in a good verdict. Uses: good verdicts, `validation:{JWT}:...`; SAPI's
`token:{jti}` says only that it accepted or renewed a token.
"""

from __future__ import annotations

from collections import Counter, Counter as CounterOf, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import (
    Callable,
    Optional,
)

from monitoring.follow.births import ORPHAN, Births, Certificate, Use
from monitoring.follow.ledger import hashed
from monitoring.follow.renewed import Named, SapiWrites
from monitoring.follow.standing import Orphan
from monitoring.redis.profiles import client_and_id, jwt_of_name
from monitoring.text import printable
from monitoring.tokens.codecs.facts import Decoded, ValidationFact
from monitoring.tokens.codecs.jwt_text import algorithm_and_key
from monitoring.tokens.codecs.records import NEVER
from monitoring.tokens.codecs.table import clean_key, decode, jwt_of
from monitoring.tokens.owners import reading_of

BY_ID, BY_OWNER = b"token_id:", b"token:"
SETTLED = 0.5  # seconds after which what happened on another node was seen
ORPHANS_SHOWN = 1000
_CONTENT = 0xFFFFFFFE  # contents are 32 bits, and 0 is none


@dataclass
class Lineage:
    """What is known of where tokens come from. `minted` and `renewed` count births seen while
    nothing was missed."""

    births: Births
    writes: SapiWrites = field(default_factory=SapiWrites)
    excluded: frozenset[str] = frozenset()  # clients whose births are not counted
    exact: bool = False  # whether each write of a key is reported as one
    left: CounterOf[str] = field(default_factory=Counter)  # tokens whose last key went, and how
    minted: int = 0
    renewed: int = 0
    accepted_born: int = 0  # good verdicts on tokens whose minting was seen
    accepted_unknown: int = 0  # on others
    _births_at: deque[tuple[float, int]] = field(default_factory=deque)
    _later: list[Callable[[], None]] = field(default_factory=list)
    accused: dict[tuple[int, int], Use] = field(default_factory=dict)

    def cut(self) -> None:
        """Changes were missed."""
        self._later.clear()
        self.births.cut()
        self.writes.cut()

    def token(
        self, key: bytes, token: Decoded, value: Optional[bytes], *, times: int, now: float
    ) -> None:
        """A key that holds a token was written so many times (0: its expiry alone changed)."""
        name = clean_key(key)
        if token.reason is not None or not token.jti:
            return
        if not times:
            return
        if not name.startswith(BY_OWNER) or _names_its_client(name, token):
            self._born(token, value, now)
        else:
            self._later.append(partial(self._written, token, times, now))

    def found(self, key: bytes, token: Decoded, value: Optional[bytes], *, now: float) -> None:
        """A census found a key that holds a token: it was minted, if EAPI wrote the key."""
        name = clean_key(key)
        if token.reason is not None or not token.jti or self.births.too_old(token.iat):
            return
        if not name.startswith(BY_OWNER) or _names_its_client(name, token):
            self._born(token, value, now, counts=False)

    def verdict(
        self,
        jwt: bytes,
        token: Decoded,
        fact: ValidationFact,
        *,
        value: bytes,
        times: int,
        now: float,
    ) -> None:
        """A verdict was written so many times, on the token that its key names."""
        if not fact.valid:
            return
        if fact.renewed:
            self._renewal(token, value, now)
        if token.reason is not None or not token.jti:
            self.accepted_unknown += times  # nobody can tell whether it was minted
        elif times:
            renewed = fact.renewed
            self._later.append(partial(self._used, jwt, token, renewed, times=times, now=now))

    def settle(self, now: float) -> None:
        """All that is to be had was read: births first, so that what was used is held to them."""
        later, self._later = self._later, []
        for take in later:
            take()
        self.writes.settle(now)

    def _written(self, token: Decoded, times: int, now: float) -> None:
        if self._watched(token):
            self.writes.written(self._named(token), times, now)
        if self.writes.overflowed:
            self.cut()

    def _used(self, jwt: bytes, token: Decoded, renewed: bool, *, times: int, now: float) -> None:
        minted = self.births.minted(hashed(token.jti))
        if not minted and self.births.too_old(token.iat):
            self.accepted_unknown += times
            return
        if not renewed:
            self.writes.accepted(self._named(token), times if self.exact else 1, now)
        use = Use(
            hashed(token.jti), _content(jwt), token.client or "", token.iat, _end(token), now,
            count=times,
        )  # fmt: skip
        born = self.births.used(use if minted else replace(use, shape=_shape(jwt, token)))
        self.accepted_born += times if born else 0
        self.accepted_unknown += 0 if born else times

    def lost(self, key: bytes, now: float, since: float) -> None:
        """The value of a key was gone before it was read."""
        name = clean_key(key)
        if name.startswith(BY_ID):
            self._mint(self.births.born(hashed(_text(name[len(BY_ID) :])), 0, None, now), now)
        elif name.startswith(b"validation:"):
            jwt = jwt_of_name(key)
            token = decode(jwt) if jwt else None
            self.births.missed(token.client if token is not None else None, since, now)
        elif name.startswith(BY_OWNER):
            # no birth of an id in the name: SAPI names a key after whatever id a token has
            client, _jti = client_and_id(name)
            self.births.missed(client or _text(name[len(BY_OWNER) :]), since, now)

    def overwritten(self, client: Optional[str], now: float, since: float) -> None:
        """A value may have named a birth, and another took its place before it was read."""
        self.births.missed(client, since, now)

    def named(self, now: float) -> list[Orphan]:
        """Those that were found before now and live."""
        alive = [use for use in self.accused.values() if use.told_until > now]
        return _by_client(alive)

    def judge(self, now: float) -> list[Orphan]:
        """Used tokens that nobody minted, by client, the most used first."""
        for use in self.births.orphans(now, settled=SETTLED):
            key = (use.identity, use.content)
            if key in self.accused or not self.writes.doubt(use.identity):
                self.accused[key] = use
        self.accused = {
            key: use
            for key, use in self.accused.items()
            if use.told_until > now and not self.births.acquits(use)
        }
        return _by_client(list(self.accused.values()))

    def certificate(self, use: Use, now: float) -> Certificate:
        """What is known of where a used token came from."""
        found = self.births.certificate(use, now)
        doubt = self.writes.doubt(use.identity) if found.word == ORPHAN else ""
        return Certificate("unknown", doubt) if doubt else found

    def forget(self, now: float) -> None:
        """Let go of what has died."""
        self.births.forget(now)
        self.writes.forget(now)

    def _born(
        self, token: Decoded, value: Optional[bytes], now: float, *, counts: bool = True
    ) -> None:
        jwt = jwt_of(value) if value else None
        content = _content(jwt) if jwt else 0
        new = self.births.born(hashed(token.jti), content, token.lives_until, now)
        if new:
            self.births.clock(token.iat, now)
        self._mint(new and counts and (token.client or "") not in self.excluded, now)

    def _mint(self, new: bool, now: float) -> None:
        if new:
            self.minted += 1
            self._births_at.append((now, 1))

    def per_minute(self, now: float, window: float) -> Optional[float]:
        """Tokens minted and renewed in the window; None: not all of it was followed."""
        whole = self.births.whole_since
        while self._births_at and self._births_at[0][0] <= now - window:
            self._births_at.popleft()
        if whole is None or whole > now - window:
            return None
        return sum(many for _at, many in self._births_at) * 60 / window

    def _renewal(self, token: Decoded, value: bytes, now: float) -> None:
        jwt = jwt_of(value)
        made = decode(jwt) if jwt else None
        if jwt is None or made is None or made.reason is not None or not made.jti:
            self.births.missed(token.client, now - 1, now)
            return
        new = self.births.born(hashed(made.jti), _content(jwt), made.lives_until, now)
        if new and (made.client or "") not in self.excluded:
            self.renewed += 1
            self._births_at.append((now, 1))
        if new:
            self.births.clock(made.iat, now)

    def _named(self, token: Decoded) -> Named:
        identity = hashed(token.jti)
        return Named(identity, self.births.minted(identity), _end(token))

    def _watched(self, token: Decoded) -> bool:
        """Whether it is young enough to be judged; of others nothing need be kept."""
        return self.births.minted(hashed(token.jti)) or not self.births.too_old(token.iat)


def _names_its_client(name: bytes, token: Decoded) -> bool:
    """Whether a key is named after its token's client, as EAPI's are, and not after its id: who
    chose his client's name for an id would have his token taken for a minted one."""
    rest = _text(name[len(BY_OWNER) :])
    if rest == token.jti:
        return False
    reading = reading_of(token)
    names = reading if isinstance(reading, tuple) else (reading,)
    return rest in (*names, token.client) or client_and_id(name)[1] == token.jti


def _content(jwt: bytes) -> int:
    """Of its claims: a signature can be written in several ways, and says no other token."""
    return hashed(jwt.partition(b".")[2].partition(b".")[0]) % _CONTENT or 1


def _end(token: Decoded) -> float:
    """The last moment at which somebody may accept it."""
    return NEVER if token.lives_until is None else token.lives_until


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _shape(jwt: bytes, token: Decoded) -> str:
    """What stands in the token, in words that hold nothing of it."""
    algorithm, key = algorithm_and_key(jwt)
    life = _end(token) - (token.iat or 0)
    audience = token.aud if isinstance(token.aud, str) else ",".join(token.aud or ())
    parts = {
        "alg": algorithm,
        "kid": key,
        "iss": token.iss or "none",
        "aud": audience or "none",
        "life": "without end" if _end(token) >= NEVER else f"{int(life)} s",
        "permissions": ",".join(token.permissions or ()) or "none",
    }
    return "; ".join(f"{name} {printable(text)[:64]}" for name, text in parts.items() if text)


def _by_client(uses: Sequence[Use]) -> list[Orphan]:
    found: dict[str, list[Use]] = {}
    for use in uses[:ORPHANS_SHOWN]:
        found.setdefault(use.client, []).append(use)
    rows = [
        Orphan(
            client,
            len(some),
            sum(use.count for use in some),
            min(use.at for use in some),
            min(use.iat or 0.0 for use in some),
            max(use.exp for use in some),
            tuple(sorted({use.shape for use in some}))[:5],
        )
        for client, some in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.uses, row.client))
