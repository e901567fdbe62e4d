"""Decision: the figures of a census from the ledger, without reading the cache."""

from __future__ import annotations

from collections import Counter, Counter as CounterOf
from collections.abc import Mapping
from typing import Optional

from monitoring.follow.ledger import Alike, Ledger
from monitoring.redis.count import Counted, totals
from monitoring.redis.profiles import TOKEN, VALIDATION
from monitoring.tokens.clients import LIFE_BITS
from monitoring.tokens.owners import reading_of
from monitoring.tokens.results import EXPIRED, LIVE
from monitoring.tokens.stats import TokenStats


class AlikeStats(TokenStats):
    """The census of tokens that come by kind instead of page by page."""

    def take(self, ledger: Ledger) -> None:
        """Everything that the ledger holds."""
        for kind, alike in ledger.alike(ledger.tokens):
            self._add_alike(alike, ledger.texts.get(kind))
        self.add_page(ledger.unusual(ledger.tokens), "unusual")
        for _kind, alike in ledger.alike(ledger.named):
            self._name_alike(alike)
        self.add_named(ledger.unusual(ledger.named))
        self._take_ends(ledger)
        self.hygiene.note("jti_conflict", None, ledger.conflicts)
        names = sum(many for family, many in ledger.families() if family.named)
        self.hygiene.note("jwt_in_key", None, names)

    def _add_alike(self, alike: Alike, texts: Optional[Mapping[str, str]]) -> None:
        token, many = alike.token, len(alike.packed)
        if token.reason is not None:
            self._undecodable[token.reason] += many
            return
        if self.is_excluded(token):
            self._excluded_seen += many
            return
        self._encodings[token.encoding] += many
        ledger = self._ledger(reading_of(token))
        ledger.fresh.extend(alike.packed)
        self._unsettled += many
        if texts:
            self.note_texts(token, texts)
        if token.version is not None:
            alive = sum(packed >> LIFE_BITS > self._limits.now for packed in alike.packed)
            if alive:
                self._count_version(token, token.version, alive)
        if token.__class__ is not self.expect.kind:
            self.hygiene.inspect(token, many)

    def _name_alike(self, alike: Alike) -> None:
        if self.reads_names and not self.is_excluded(alike.token):
            self._ledger(reading_of(alike.token)).named.extend(alike.packed)
            self._shared = None

    def _take_ends(self, ledger: Ledger) -> None:
        """The expiries of the keys: those that say something, and how many the others are."""
        keys = sum(n for family, n in ledger.families() if family.rule.role == TOKEN)
        ends = ledger.unusual_ends(self._limits.now)
        asked = max(0, keys - ledger.unasked)
        self._ttl.of(LIVE).asked += asked - len(ends)
        self.add_ttls([token for token, _ttl in ends], [ttl for _token, ttl in ends])
        expired = self._ttl.of(EXPIRED).asked
        self.keys_seen(keys, expired)
        self._merged = keys - len(ledger.tokens) + ledger.conflicts


def counted(ledger: Ledger) -> tuple[Mapping[str, int], Counted]:
    """Keys by pattern, and what lies in the cache beside the tokens."""
    matched: CounterOf[str] = Counter()
    types: CounterOf[str] = Counter()
    verdicts: CounterOf[str] = Counter()
    unread: CounterOf[str] = Counter()
    renewed = 0
    for family, many in ledger.families():
        matched[family.rule.pattern] += many
        types[family.kind] += many
        if family.verdict is not None:
            verdicts[family.verdict[0]] += many
            renewed += many * family.verdict[1]
        elif family.unread and family.rule.role == VALIDATION:
            unread[family.unread] += many
    return matched, Counted(
        types=dict(types),
        validations=totals(verdicts, renewed, unread),
        credentials=ledger.facts(),
        index_members=0,
    )
