"""Decision: takes what was read of the cache into a ledger, and what changed into the lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from monitoring.follow.ledger import Family, Ledger
from monitoring.follow.lineage import Lineage
from monitoring.redis.count import AskTtls, Counted, Page, Part
from monitoring.redis.profiles import CREDENTIAL, TOKEN, VALIDATION, client_and_id, jwt_of_name
from monitoring.tokens.codecs.facts import (
    Decoded,
    Expectation,
    Undecodable,
    ValidationFact,
)
from monitoring.tokens.codecs.table import (
    credential_under,
    decode_hash,
    decode_many,
    decode_validation,
    texts_of,
)
from monitoring.tokens.owners import reading_of

TEXTS_KEPT = 1000
VERDICTS_KEPT = 256
_NOTHING = Counted({}, None, (), {}, 0)  # type: ignore[arg-type]


@dataclass
class Writes:
    """What is known of the keys that are read: how often each was written since the last look,
    which began at `since`. None of a census: `times` is empty then, and `whole` False."""

    times: Mapping[bytes, int]
    since: float
    now: float


class Intake:
    """Takes pages into `ledger`. With `writes` set, what they show is new."""

    def __init__(
        self,
        ledger: Ledger,
        expect: Expectation,
        lineage: Optional[Lineage],
        excluded: frozenset[str],
    ) -> None:
        """`lineage` None: births and uses are not looked for."""
        self.ledger, self.lineage = ledger, lineage
        self._expect, self._excluded = expect, excluded
        self.writes: Optional[Writes] = None
        self.now = 0.0
        self.seen: set[bytes] = set()  # keys that gave a value, since `writes` was set
        self._families: dict[object, Family] = {}
        self._verdicts: dict[bytes, Union[ValidationFact, Undecodable]] = {}

    def count(self, page: Page, ask_ttls: Optional[AskTtls] = None) -> None:
        """Take a page in; nothing further is asked for."""
        del ask_ttls
        for part in page.parts:
            if self.writes is not None:
                self.seen.update(part.keys)
            take = _BY_ROLE.get(part.rule.role)
            if take is not None:
                take(self, part)

    def counted(self) -> Counted:
        """Nothing: the ledger counts."""
        return _NOTHING

    def begin(self, writes: Writes) -> None:
        """What follows was changed."""
        self.writes, self.now = writes, writes.now
        self.seen.clear()

    def _tokens(self, part: Part) -> None:
        family = self._family(part)
        tokens, values = self._decoded(part), part.values
        ledger, now = self.ledger, self.now
        for key, token, value, ttl in zip(part.keys, tokens, values, _ttls(part)):
            kinds = ledger.kinds
            ledger.token(key, family, token, ttl=ttl, now=now)
            if ledger.kinds > kinds and part.kind == "string" and len(ledger.texts) < TEXTS_KEPT:
                ledger.texts[kinds] = texts_of(value)
            if self.lineage is not None:
                self._note_token(key, token, value if part.kind == "string" else None)

    def _note_token(self, key: bytes, token: Decoded, value: Optional[bytes]) -> None:
        if self.lineage is None:
            return
        if self.writes is None:
            self.lineage.found(key, token, value, now=self.now)
        else:
            times = self.writes.times.get(key, 0)
            self.lineage.token(key, token, value, times=times, now=self.now)

    def _decoded(self, part: Part) -> Sequence[Decoded]:
        if part.kind == "string":
            return decode_many(part.values, self._expect)
        tokens = []
        for key, fields in zip(part.keys, part.values):
            client, jti = client_and_id(key)
            tokens.append(decode_hash(fields, client=client, jti=jti, names=self._expect.names))
        return tokens

    def _validations(self, part: Part) -> None:
        if part.kind != "string":
            return
        texts = [jwt_of_name(key) for key in part.keys]
        named = decode_many(texts, self._expect)
        rows = zip(part.keys, part.values, texts, named, _ttls(part))
        for key, value, jwt, token, ttl in rows:
            fact = self._verdict(value)
            left_out = self._is_excluded(token)
            self.ledger.verdict(
                key,
                self._family(
                    part, None if left_out else fact, named=b"eyJ" in key and not left_out
                ),
                ttl,
                self.now,
                named=token,
            )
            if isinstance(fact, ValidationFact):
                self._note(key, fact, value, jwt=jwt, token=token)

    def _verdict(self, value: bytes) -> Union[ValidationFact, Undecodable]:
        """Few verdicts differ: most hold flags alone."""
        fact = self._verdicts.get(value)
        if fact is None:
            fact = decode_validation(value)
            if len(self._verdicts) < VERDICTS_KEPT:
                self._verdicts[value] = fact
        return fact

    def _note(
        self, key: bytes, fact: ValidationFact, value: bytes, *, jwt: bytes, token: Decoded
    ) -> None:
        writes, lineage = self.writes, self.lineage
        if lineage is None:
            return
        times = writes.times.get(key, 0) if writes is not None else 0
        lineage.verdict(jwt, token, fact, value=value, times=times, now=self.now)
        if writes is not None and times > 1 and (fact.renewed or not fact.valid):
            lineage.overwritten(token.client, writes.now, writes.since)

    def _credentials(self, part: Part) -> None:
        for key, value, ttl in zip(part.keys, part.values, _ttls(part)):
            fact = credential_under(key, value)
            self.ledger.credential(key, self._family(part), ttl, self.now, fact=fact)

    def _family(
        self, part: Part, fact: object = None, *, unread: str = "", named: bool = False
    ) -> Family:
        verdict = (fact.reason, fact.renewed) if isinstance(fact, ValidationFact) else None
        if fact is not None and verdict is None:
            unread = getattr(fact, "reason", "")
        whole = (part.rule, part.kind, verdict, unread, named)
        found = self._families.get(whole)
        if found is None:
            found = self._families[whole] = Family(*whole)
        return found

    def _is_excluded(self, token: Decoded) -> bool:
        reading = reading_of(token)
        return not self._excluded.isdisjoint(reading if isinstance(reading, tuple) else (reading,))


def _ttls(part: Part) -> Sequence[Optional[int]]:
    nothing: list[Optional[int]] = [None]
    return part.ttls if part.ttls is not None else nothing * len(part.keys)


_BY_ROLE = {
    TOKEN: Intake._tokens,
    VALIDATION: Intake._validations,
    CREDENTIAL: Intake._credentials,
}
