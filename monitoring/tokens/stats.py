"""Decision: streaming statistics over cached tokens, in bounded memory.

``add_page`` is called for each page of a scan, ``result`` once. Up to ``TOKENS_KEPT`` tokens every
figure is exact; above, those of ``minted_before`` say what they rest on. Renewals are those of
each client's newest tokens always.
"""

from __future__ import annotations

from collections import Counter, Counter as CounterOf
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import (
    Callable,
    Optional,
)

from monitoring.config.settings import TokenSettings
from monitoring.tokens.clients import LIFE_BITS, ByIssue, ClientLedger, Limits, MintedBefore
from monitoring.tokens.codecs.facts import ClaimNames, Decoded, Expectation, Unsure
from monitoring.tokens.codecs.records import IN_UNITS
from monitoring.tokens.hygiene import HygieneBook
from monitoring.tokens.owners import (
    Claims,
    Nobody,
    Owner,
    Reading,
    Readings,
    Shares,
    by_owner,
    owner_of,
    reading_of,
)
from monitoring.tokens.renewals import NEVER_LOOKED, Courses
from monitoring.tokens.results import (
    ANY_VERSION,
    EXPIRED,
    LIVE,
    Collected,
    TokenResult,
    TtlCount,
    summarise,
    tokens_json,
)
from monitoring.tokens.sketches import CONFLICT, Histogram, Seen

__all__ = ["TokenResult", "TokenStats", "tokens_json"]

CLIENTS_TRACKED = 20_000
TOKENS_KEPT = 1_000_000
SETTLE_EVERY = 500_000
VERSIONS_KEPT = 32  # of a client
VERSIONS_KEPT_IN_ALL = 50_000
SHAPES_KEPT = 256
FAR_AHEAD = 10 * 365 * 86400  # stands for "never"
DUPLICATES_TRIAL = 20_000  # tokens of a single family


class TokenStats:
    """The census in the making. ``now`` is epoch seconds.

    ``excluded`` clients (the canary) are left out of every count but ``excluded``. With
    ``reads_names`` tokens in the names of keys are taken in by ``add_named``. Without
    ``reads_expiries`` a scan asks for those of no key: nobody then looks at ``ttl_*``.
    """

    def __init__(
        self,
        now: float,
        policy: TokenSettings,
        *,
        excluded: Collection[str] = (),
        reads_names: bool = False,
        reads_expiries: bool = True,
    ) -> None:
        self._policy = policy
        self.reads_names, self.reads_expiries = reads_names, reads_expiries
        self._limits = Limits(
            int(now), int(policy.rate_window), int(policy.max_lifetime), int(policy.clock_skew)
        )
        self.expect = Expectation(
            issuer=policy.issuer,
            audience=policy.audience,
            permissions=policy.permissions,
            algorithms=policy.algorithms,
            names=ClaimNames(policy.client_claims, policy.permission_claims),
        )
        self.hygiene = HygieneBook(policy)
        self._excluded = frozenset(filter(None, excluded))
        self._excluded_seen = 0
        self._seen = Seen(DUPLICATES_TRIAL)
        self._expected = 0
        self._families: set[str] = set()
        self._noted = 0
        self._merged = 0
        self._clients: dict[Reading, ClientLedger] = {}
        self._append: dict[Optional[str], Callable[[int], None]] = {}
        self._readings = Readings()
        self._claims = Claims()
        self.newcomers: set[int] = set()  # identities of tokens of a page whose client is new
        self._known: Optional[frozenset[str]] = None
        self._shared: Optional[Shares] = None
        self._by_issue: dict[int, ByIssue] = {}
        self._unsettled = 0
        self._undecodable: CounterOf[str] = Counter()
        self._encodings: CounterOf[str] = Counter()
        self._versions: dict[Reading, CounterOf[str]] = {}
        self._versions_kept = 0
        self._lifetime = Histogram()
        self._remaining = Histogram(offset=int(now))
        self._shapes: set[object] = set()
        self._ttl = TtlCount()

    def add(self, token: Decoded, family: str = "token") -> None:
        """One token, or one value that could not be read."""
        self.add_page([token], family)

    @property
    def clients(self) -> Collection[str]:
        """Who owns tokens, of the clients that are counted one by one; of a token with several
        readings the first."""
        firsts = (each[0] if isinstance(each, tuple) else each for each in self._clients)
        return {first for first in firsts if isinstance(first, str)}

    @property
    def excluded(self) -> Collection[str]:
        """Clients that are left out of every count."""
        return self._excluded

    def add_page(self, tokens: Sequence[Decoded], family: str = "token") -> list[int]:
        """A page of tokens of one key family. Returns the places of those past their exp, those
        under a second key among them.

        The loop is unrolled: this and the decoding are the cost of a scan.
        """
        page = tokens
        places: Sequence[int] = range(len(page))
        if self._may_repeat(family):
            places = self._new_ones(page)
            if len(places) < len(page):
                tokens = [page[place] for place in places]
        expired: list[int] = []
        self.newcomers.clear()
        append, now, expected = self._append, self._limits.now, self.expect.kind
        for place, token in enumerate(tokens):
            expiry = token.exp
            try:
                life = expiry - token.iat  # type: ignore[operator]
                if life >> LIFE_BITS or token.unsure is not None:  # type: ignore[operator]
                    raise ValueError
                append[token.client](expiry << LIFE_BITS | life)  # type: ignore[operator]
            except (TypeError, ValueError, KeyError):
                self._add_odd(token)
                expiry = token.lives_until
            if token.__class__ is not expected or token.version is not None:
                self._judge(token)
            if expiry is not None and expiry <= now:
                expired.append(place)
        self._encodings.update(map(_encoding, tokens))
        self._unsettled += len(tokens)
        if self._unsettled > SETTLE_EVERY:
            self.settle()
        if len(tokens) == len(page):
            return expired
        again = set(range(len(page))).difference(places)
        dead = [place for place in again if (page[place].lives_until or now + 1) <= now]
        return [*(places[place] for place in expired), *dead]

    def add_ttls(self, tokens: Iterable[Decoded], ttls: Iterable[Optional[int]]) -> None:
        """The keys' expiries, as PTTL gave them: milliseconds, -1 for none, -2 for gone."""
        for token, ttl in zip(tokens, ttls):
            if ttl is None:
                continue
            dead = (token.lives_until or self._limits.now + 1) <= self._limits.now
            sample, ours = EXPIRED if dead else LIVE, not self.is_excluded(token)
            self._ttl.of(sample).asked += 1
            self._ttl.of(sample).without += ours and ttl == -1
            if ours:
                self._judge_ttl(token, ttl, sample)

    def prepare(self, expected: int) -> None:
        """About how many tokens will come: saves the duplicate table from growing by steps."""
        self._expected = expected

    def keys_seen(self, keys: int, expired: int = 0) -> None:
        """Count token keys, whether or not their expiry is asked for; ``expired``: of those the
        ones whose token is."""
        self._ttl.live.keys += keys - expired
        self._ttl.expired.keys += expired

    def _judge_ttl(self, token: Decoded, ttl: int, sample: str) -> None:
        if ttl == -1:
            self.hygiene.note("without_ttl", reading_of(token), sample=sample)
        if ttl < 0 or token.exp is None or sample == EXPIRED or token.lives_until != token.exp:
            return
        left, stays = token.exp - self._limits.now, ttl / 1000
        tolerance = self._policy.ttl_tolerance
        if stays > left + tolerance:
            self.hygiene.note("ttl_outlives_exp", reading_of(token), sample=sample)
        elif stays < left / 2 and stays < left - tolerance:
            self.hygiene.note("ttl_too_short", reading_of(token), sample=sample)

    def _judge_times(self, token: Decoded) -> None:
        """Of a token that was not as expected."""
        if token.nbf is not None and token.nbf > self._limits.now + self._limits.clock_skew:
            self.hygiene.note("token_nbf_in_future", reading_of(token))

    def settle(self) -> None:
        """Take fresh tokens into the clients' ledgers; ``result`` does it too."""
        keep = max(64, TOKENS_KEPT // max(1, len(self._clients)))
        now = self._limits.now
        for ledger in self._clients.values():
            if ledger.fresh:
                batch = ledger.settle(self._limits, keep)
                self._lifetime.add_counts(batch.lives)
                alive = batch.packed[batch.expiring_by(now) :]
                self._remaining.add_page([token >> LIFE_BITS for token in alive])
        self._unsettled = 0

    def know(self, clients: Iterable[str]) -> None:
        """Which clients there are: of a token that may be of several, a known one is the owner.
        May be told again at any time; until then every token is of the first that it names."""
        self._known, self._shared = frozenset(clients), None

    def add_named(self, tokens: Iterable[Decoded]) -> None:
        """Tokens that stand in the names of keys: in no count but ``minted_before`` and
        ``may_be_of``."""
        self._shared = None
        for token in tokens if self.reads_names else ():
            if token.reason is None and not self.is_excluded(token):
                self._ledger(reading_of(token)).note_named(token)

    @property
    def now(self) -> int:
        """The moment by which tokens are called live, in epoch seconds."""
        return self._limits.now

    def minted_before(
        self, client: str, moment: float, *, slack: float = 0.0
    ) -> Optional[MintedBefore]:
        """The client's live tokens minted before ``moment`` (epoch seconds), those that died less
        than ``slack`` seconds ago among them.

        None when no token of the client was seen, or more clients than are tracked were.
        """
        mine = self._shares().of.get(client, ())
        return self._before(mine, moment, slack) if mine else None

    def may_be_of(self, client: str, moment: float, *, slack: float = 0.0) -> MintedBefore:
        """Live tokens beside those of ``minted_before`` that may be the client's: their owner is
        no known client, or the client stands in another of their claims. Before ``know`` was
        called only tokens that name no client, and those of clients beyond the tracked ones."""
        shares, known = self._shares(), self._known
        if known is None:
            return self._before([each for each in Nobody if each in shares.of], moment, slack)
        others = [
            each
            for each in (*shares.naming.get(client, ()), *shares.folded)
            if self._readings.may_be(each, client, known)
        ]
        alive = self._limits.now - int(slack)
        if client in known:
            strange = self._strangers(alive).before(moment)
        else:  # itself among them
            some = [each for each in shares.strange if owner_of(each, known) != client]
            strange = self._before(some, moment, slack)
        return strange.plus(self._before(others, moment, slack))

    def last_ends(self) -> dict[str, int]:
        """When the last token of each client dies, of tokens whose times are not in doubt."""
        ends: dict[str, int] = {}
        for owner, readings in self._shares().of.items():
            last = [
                ledger.kept[-1]
                for ledger in map(self._clients.__getitem__, readings)
                if ledger.kept
            ]
            if isinstance(owner, str) and last:
                ends[owner] = max(last) >> LIFE_BITS
        return ends

    def holds(self, client: str, expiry: int) -> bool:
        """Whether a token of the client was seen that dies in this second."""
        ledgers = (self._clients[reading] for reading in self._shares().of.get(client, ()))
        return any(ledger.dying_between(expiry, expiry + 1) for ledger in ledgers)

    def _shares(self) -> Shares:
        """Whose every reading is; made again once there are more of them."""
        if self._unsettled:
            self.settle()
            self._shared = None
        if self._shared is None or self._shared.size != len(self._clients):
            self._shared, self._by_issue = Shares(self._clients, self._known), {}
        return self._shared

    def _strangers(self, alive: int) -> ByIssue:
        """The tokens of no known owner that live after `alive`."""
        if alive not in self._by_issue:
            ledgers = [self._clients[each] for each in self._shares().strange]
            self._by_issue[alive] = ByIssue(ledgers, alive)
        return self._by_issue[alive]

    @property
    def folded(self) -> bool:
        """Whether some readings are told apart by this process alone."""
        return any(isinstance(each, tuple) and Nobody.REST in each for each in self._clients)

    @property
    def undecodable(self) -> Mapping[str, int]:
        """Values under token keys that are no token, by reason."""
        return self._undecodable

    def ledgers(self) -> Iterator[tuple[Reading, ClientLedger, Mapping[str, int]]]:
        """Every reading's ledger, settled, and its live tokens by version."""
        self.settle()
        for reading, ledger in self._clients.items():
            yield reading, ledger, self._versions.get(reading, {})

    def take_over(
        self,
        clients: Mapping[Reading, ClientLedger],
        versions: Mapping[Reading, Mapping[str, int]],
        undecodable: Mapping[str, int],
        conflicts: int,
    ) -> None:
        """Stand where another census ended, as far as clients' rows and their tokens go."""
        self._clients.update(clients)
        self._versions.update({reading: Counter(each) for reading, each in versions.items()})
        self._undecodable.update(undecodable)
        self.hygiene.note("jti_conflict", None, conflicts)
        self._shared = None

    def note_texts(self, token: Decoded, texts: Mapping[str, str]) -> None:
        """What else stands in a token of a client that is new (see ``newcomers``)."""
        self._claims.note(token, texts)

    def _before(self, readings: Iterable[Reading], moment: float, slack: float) -> MintedBefore:
        if self._unsettled:
            self.settle()
        found = MintedBefore()
        for reading in readings:
            ledger = self._clients[reading]
            found = found.plus(ledger.minted_before(moment, self._limits.now - int(slack)))
        return found

    def result(self, courses: Optional[Courses] = NEVER_LOOKED) -> TokenResult:
        """Everything so far; adding may go on afterwards. ``courses`` as the result of the look
        before has them; None: not all tokens were seen, so that renewals cannot be told."""
        self.settle()
        return summarise(
            Collected(
                limits=self._limits,
                policy=self._policy,
                ledgers=by_owner(self._clients, self._known),
                versions=self._versions_by_owner(),
                known=self._known,
                better_claims=self._claims.better(self._known or frozenset()),
                undecodable=self._undecodable,
                encodings=self._encodings,
                lifetime=self._lifetime,
                remaining=self._remaining,
                merged=self._merged,
                merged_error=self._seen.error,
                ttl=self._ttl,
                hygiene=self.hygiene,
                excluded=self._excluded_seen,
                courses=courses,
            )
        )

    def _may_repeat(self, family: str) -> bool:
        """Whether to look for a token that stands under two keys.

        Keys of one family are unique, so the table is only paid for when a second family is
        there, or when one family showed repeats among its first tokens (one pattern may span the
        layouts of two services).
        """
        self._families.add(family)
        return bool(len(self._families) > 1 or self._merged or self._noted < DUPLICATES_TRIAL)

    def _new_ones(self, tokens: Sequence[Decoded]) -> Sequence[int]:
        """The places of tokens not seen before. A token without an id is always new."""
        named: Sequence[int] = range(len(tokens))
        some, names = tokens, [token.jti for token in tokens]
        if not all(names):
            named = [place for place, name in enumerate(names) if name]
            some, names = [tokens[place] for place in named], list(filter(None, names))
        ids = list(zip(map(hash, names), map(hash, map(_content, some))))
        if self._noted < DUPLICATES_TRIAL <= self._noted + len(ids):
            self._seen.reserve(self._expected)
        self._noted += len(ids)
        verdicts = self._seen.note_page(ids)
        again = dict(pair for pair in zip(named, verdicts) if pair[1]) if any(verdicts) else {}
        for place, verdict in again.items():
            self._merged += 1
            if verdict == CONFLICT:
                self.hygiene.note("jti_conflict", reading_of(tokens[place]))
        places = range(len(tokens))
        return [place for place in places if place not in again] if again else places

    def _add_odd(self, token: Decoded) -> None:
        """What the loop could not take: unreadable, excluded, of a new client or of one of several,
        a time that is missing or can be read otherwise."""
        if token.reason is not None:
            self._undecodable[token.reason] += 1
            self._encodings[token.encoding] -= 1
            return
        if self.is_excluded(token):
            self._excluded_seen += 1
            self._encodings[token.encoding] -= 1
            return
        expiry, issued, unsure = _whole(token.exp), _whole(token.iat), token.unsure
        reading = reading_of(token)
        if reading not in self._clients and self._claims.wanted:
            self.newcomers.add(id(token))
        ledger = self._ledger(reading)
        doubted = unsure is not None and bool(unsure.doubts)
        if doubted or expiry is None or issued is None or (expiry - issued) >> LIFE_BITS:
            ledger.count_odd(token, self._limits)
            self._spread(token)
        else:
            ledger.fresh.append(expiry << LIFE_BITS | (expiry - issued))
            if unsure is None and reading in self._clients:  # else it is one of the rest
                self._append[token.client] = ledger.fresh.append

    def _spread(self, token: Decoded) -> None:
        """Times that can be read in two ways tell neither a lifetime nor what is left of it; where
        both times lack their zone, the lifetime is known all the same."""
        expiry, issued, dies = _whole(token.exp), _whole(token.iat), token.lives_until
        unsure = token.unsure or Unsure()
        if (
            dies is not None
            and dies > self._limits.now + FAR_AHEAD
            and IN_UNITS not in unsure.doubts
        ):
            self.hygiene.note("token_far_future", reading_of(token))
        if expiry is not None and unsure.until is None and expiry > self._limits.now:
            self._remaining.add_page([expiry])
        alike = (unsure.until is None) == (unsure.since is None)
        if expiry is not None and issued is not None and expiry >= issued and alike:
            self._lifetime.add_page([expiry - issued])

    def is_excluded(self, token: Decoded) -> bool:
        """Whether it is of a client that is left out."""
        reading = reading_of(token)
        return not self._excluded.isdisjoint(reading if isinstance(reading, tuple) else (reading,))

    def _judge(self, token: Decoded) -> None:
        """Look at the claims, unless tokens of just that kind were found fine before."""
        if token.reason is not None or self.is_excluded(token):
            return
        if token.version is not None and (token.lives_until or 0) > self._limits.now:
            self._count_version(token, token.version)
        shape = (
            token.iss, token.aud, token.alg, token.permissions, token.scope,
            bool(token.jti), bool(token.client), token.exp is None, token.iat is None,
            token.unsure.doubts if token.unsure is not None else None,
        )  # fmt: skip
        self._judge_times(token)
        if shape in self._shapes:
            return
        if self.hygiene.inspect(token) and len(self._shapes) < SHAPES_KEPT:
            self._shapes.add(shape)

    def _count_version(self, token: Decoded, version: str, many: int = 1) -> None:
        reading = reading_of(token)
        if reading not in self._clients:
            return
        versions = self._versions.setdefault(reading, Counter())
        if version not in versions:
            full = self._versions_kept >= VERSIONS_KEPT_IN_ALL or len(versions) >= VERSIONS_KEPT
            version = ANY_VERSION if full else version
            self._versions_kept += not full
        versions[version] += many

    def _versions_by_owner(self) -> dict[Owner, CounterOf[str]]:
        found: dict[Owner, CounterOf[str]] = {}
        for reading, versions in self._versions.items():
            found.setdefault(owner_of(reading, self._known), Counter()).update(versions)
        return found

    def _ledger(self, reading: Reading) -> ClientLedger:
        """The ledger of a client, or of those of which one is it; beyond those that are tracked,
        that of all others."""
        if reading not in self._clients and isinstance(reading, tuple):
            reading = self._readings.bounded(reading, new=True)
        if reading not in self._clients:
            if len(self._clients) >= CLIENTS_TRACKED and reading is not Nobody.NAMELESS:
                reading = Nobody.REST
            self._clients.setdefault(reading, ClientLedger())
        return self._clients[reading]


_encoding = attrgetter("encoding")
_content = attrgetter("client", "iat", "exp")


def _whole(moment: Optional[float]) -> Optional[int]:
    return None if moment is None else int(moment)
