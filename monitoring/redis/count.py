"""Decision: what the parts of a scan add up to, tokens into the statistics, the rest in totals."""

from __future__ import annotations

from collections import Counter, Counter as CounterOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import (
    Any,
    Callable,
    Optional,
)

from monitoring.model import Fault
from monitoring.redis.profiles import (
    CREDENTIAL,
    INDEX,
    TOKEN,
    VALIDATION,
    Rule,
    client_and_id,
    jwt_of_name,
)
from monitoring.tokens.birth_sample import BirthSample
from monitoring.tokens.codecs.table import (
    CredentialFact,
    Decoded,
    ValidationFact,
    clean_key,
    credential_under,
    decode_hash,
    decode_many,
    decode_validation,
    renewed_in,
    texts_of,
)
from monitoring.tokens.stats import TokenStats

# -- what one step of a scan brings, before anybody decodes it.


@dataclass
class Part:
    """Some keys of one rule and what they hold; the lists run in parallel.

    ``kind`` "string": ``values`` are bytes. "hash": dicts of the fields that are there. "set":
    how many members. "ttl": milliseconds as PTTL gives them, ``context`` as it was handed to
    ``ask_ttls``. ``ttls`` is there when expiries were asked for along with the values.
    """

    rule: Rule
    kind: str
    keys: list[bytes]
    values: list[Any]
    ttls: Optional[list[Optional[int]]] = None
    context: Any = None


@dataclass
class Page:
    """One step's parts. ``gone`` keys expired meanwhile, ``others`` are of types without tokens."""

    parts: list[Part] = field(default_factory=list)
    gone: int = 0
    others: int = 0
    foreign: int = 0  # of others, those under the keys of tokens


CREDENTIALS_KEPT = 20_000
BY_ID = "token_id:*"  # keys that EAPI writes for each token that it mints
EXPIRED_ASKED = 50_000  # keys of expired tokens; a cache may hold nothing else
AskTtls = Callable[[Rule, list[bytes], Any], None]


@dataclass(frozen=True)
class ValidationTotals:
    """Cached verdicts. Each was written once per token and permission, not once per call."""

    success: int = 0
    failure: int = 0
    renewed: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)
    undecodable: Mapping[str, int] = field(default_factory=dict)

    @property
    def success_rate(self) -> Optional[float]:
        """0..1; None when there is no verdict."""
        total = self.success + self.failure
        return self.success / total if total else None


@dataclass(frozen=True)
class Counted:
    """What was read beside the tokens.

    ``types`` counts values by Redis type, "gone" what expired under the scan, and "other" keys
    of types that hold no token. ``index_members``: ids in the sets that index tokens.
    """

    types: Mapping[str, int]
    validations: ValidationTotals
    credentials: tuple[CredentialFact, ...]
    index_members: int
    foreign: int = 0
    births: BirthSample = field(default_factory=BirthSample, compare=False, repr=False)


def totals(
    verdicts: Mapping[str, int], renewed: int, undecodable: Mapping[str, int]
) -> ValidationTotals:
    """Of verdicts by reason."""
    reasons = {reason: n for reason, n in verdicts.items() if reason != "ok"}
    return ValidationTotals(
        success=verdicts.get("ok", 0),
        failure=sum(reasons.values()),
        renewed=renewed,
        by_reason=reasons,
        undecodable=dict(undecodable),
    )


class PartCounter:
    """Takes pages in; ``counted`` says the sums. ``names_left_out``: keys that name a token of an
    excluded client."""

    def __init__(self, stats: TokenStats) -> None:
        self._stats = stats
        self.names_left_out = 0
        self._types: CounterOf[str] = Counter()
        self._verdicts: CounterOf[str] = Counter()
        self._renewed = 0
        self._unreadable: CounterOf[str] = Counter()
        self._credentials: list[CredentialFact] = []
        self._index_members = 0
        self._expired_asked = 0
        self._foreign = 0
        self._births = BirthSample()

    def count(self, page: Page, ask_ttls: AskTtls) -> None:
        """Count a page; ``ask_ttls`` has the expiries of suspicious keys asked for."""
        self._types.update(gone=page.gone, other=page.others)
        self._foreign += page.foreign
        for part in page.parts:
            if part.kind == "ttl":
                self._stats.add_ttls(part.context, part.values)
            else:
                self._types[part.kind] += len(part.keys)
                _BY_ROLE[part.rule.role](self, part, ask_ttls)

    def counted(self) -> Counted:
        return Counted(
            types={kind: n for kind, n in self._types.items() if n},
            validations=totals(self._verdicts, self._renewed, self._unreadable),
            credentials=tuple(self._credentials),
            index_members=self._index_members,
            foreign=self._foreign,
            births=self._births,
        )

    def _tokens(self, part: Part, ask_ttls: AskTtls) -> None:
        if part.rule.pattern == BY_ID:
            start = len(BY_ID) - 1
            plain = [key if key.isascii() else clean_key(key) for key in part.keys]
            self._births.born([key[start:] for key in plain])
        tokens = self._decoded(part)
        expired = self._stats.add_page(tokens, part.rule.pattern)
        self._stats.keys_seen(len(tokens), len(expired))
        newcomers = self._stats.newcomers
        if newcomers and part.kind == "string":
            for value, token in zip(part.values, tokens):
                if id(token) in newcomers:
                    self._stats.note_texts(token, texts_of(value))
        if part.ttls is not None:
            self._stats.add_ttls(tokens, part.ttls)
        elif expired and self._expired_asked < EXPIRED_ASKED:
            self._expired_asked += len(expired)
            keys = [part.keys[place] for place in expired]
            ask_ttls(part.rule, keys, [tokens[place] for place in expired])

    def _decoded(self, part: Part) -> Sequence[Decoded]:
        if part.kind == "string":
            return decode_many(part.values, self._stats.expect)
        tokens = []
        for key, fields in zip(part.keys, part.values):
            client, jti = client_and_id(key)
            tokens.append(
                decode_hash(fields, client=client, jti=jti, names=self._stats.expect.names)
            )
        return tokens

    def _validations(self, part: Part, _ask_ttls: AskTtls) -> None:
        if part.kind != "string":
            return
        values, named = part.values, []
        if self._stats.excluded or self._stats.reads_names:
            named = decode_many([jwt_of_name(key) for key in part.keys], self._stats.expect)
            values = [v for v, token in zip(values, named) if not self._stats.is_excluded(token)]
            self.names_left_out += len(part.values) - len(values)
            self._stats.add_named(named)
        good: set[bytes] = set()
        for value, many in Counter(values).items():  # few differ: most hold flags alone
            fact = decode_validation(value)
            if isinstance(fact, ValidationFact) and fact.valid:
                good.add(value)
                self._births.born(renewed_in(value) if fact.renewed else ())
            if isinstance(fact, ValidationFact):
                self._verdicts[fact.reason] += many
                self._renewed += many * fact.renewed
            else:
                self._unreadable[fact.reason] += many
        self._births.used([token for v, token in zip(part.values, named) if v in good])

    def _read_credentials(self, part: Part, _ask_ttls: AskTtls) -> None:
        facts = filter(None, map(credential_under, part.keys, part.values))
        self._credentials += islice(facts, CREDENTIALS_KEPT - len(self._credentials))

    def _index(self, part: Part, _ask_ttls: AskTtls) -> None:
        if part.kind == "set":
            self._index_members += sum(filter(None, part.values))


_BY_ROLE = {
    TOKEN: PartCounter._tokens,
    VALIDATION: PartCounter._validations,
    CREDENTIAL: PartCounter._read_credentials,
    INDEX: PartCounter._index,
}


@dataclass(frozen=True)
class ScanReport:
    """How a census went, beside what it put into ``TokenStats``.

    ``matched`` counts keys by pattern; ``prefixes`` are masked beginnings of some keys that no
    pattern matched. ``expected`` is the number of all keys (None: no node told). ``share_seen``
    is 0..1 (None: unknown). ``truncated`` is why not everything was seen: "max_keys", "time",
    "fault", or empty. ``unread``: matched keys whose value we were not permitted to read.
    ``excluded``: keys that the configuration leaves out. ``cursors``: where each node's scan may go
    on, "0" after its last key.
    """

    seen: int
    expected: Optional[int]
    share_seen: Optional[float]
    matched: Mapping[str, int]
    prefixes: Mapping[str, int]
    truncated: str
    seconds: float
    faults: tuple[tuple[str, Fault], ...]
    unread: int
    counted: Counted
    excluded: int = 0
    cursors: Mapping[str, str] = field(default_factory=dict)

    @property
    def anything_matched(self) -> bool:
        """Whether any key was of a known family. When not, say so with the patterns tried."""
        return any(self.matched.values())
