"""Decision: streaming statistics over cached tokens, in bounded memory.

``add_page`` is called for each page of a scan, ``result`` once. Up to ``TOKENS_KEPT`` tokens every
figure is exact; above, those of ``minted_before`` say what they rest on. Renewals are those of
each client's newest tokens always.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import Callable, Collection, Dict, Iterable, List, Optional, Sequence, Set
from typing import Counter as CounterOf

from monitoring.codecs.facts import Decoded, Expectation
from monitoring.settings import TokenSettings
from monitoring.tokens.clients import LIFE_BITS, ClientLedger, Limits, MintedBefore
from monitoring.tokens.hygiene import HygieneBook
from monitoring.tokens.renewals import NEVER_LOOKED, Courses
from monitoring.tokens.results import OTHER, TokenResult, tokens_json
from monitoring.tokens.sketches import CONFLICT, Histogram, Seen
from monitoring.tokens.summary import EXPIRED, LIVE, NO_CLIENT, Collected, TtlCount, summarise

__all__ = ["TokenResult", "TokenStats", "tokens_json"]

CLIENTS_TRACKED = 20_000
TOKENS_KEPT = 1_000_000
SETTLE_EVERY = 500_000
VERSIONS_KEPT = 32
CLIENTS_WITH_VERSIONS = 5000
SHAPES_KEPT = 256
DUPLICATES_TRIAL = 20_000  # tokens of a single family


class TokenStats:
    """The census in the making. ``now`` is epoch seconds.

    ``excluded`` clients (the canary) are left out of every count but ``excluded``.
    """

    def __init__(
        self,
        now: float,
        policy: TokenSettings,
        *,
        excluded: Collection[str] = (),
    ) -> None:
        self._policy = policy
        self._limits = Limits(
            int(now), int(policy.rate_window), int(policy.max_lifetime), int(policy.clock_skew)
        )
        self.expect = Expectation(
            issuer=policy.issuer,
            audience=policy.audience,
            permissions=policy.permissions,
            algorithms=policy.algorithms,
        )
        self.hygiene = HygieneBook(policy)
        self._excluded = frozenset(filter(None, excluded))
        self._excluded_seen = 0
        self._seen = Seen(DUPLICATES_TRIAL)
        self._expected = 0
        self._families: Set[str] = set()
        self._noted = 0
        self._merged = 0
        self._clients: Dict[str, ClientLedger] = {}
        self._append: Dict[Optional[str], Callable[[int], None]] = {}
        self._unsettled = 0
        self._undecodable: CounterOf[str] = Counter()
        self._encodings: CounterOf[str] = Counter()
        self._versions: Dict[str, CounterOf[str]] = {}
        self._lifetime = Histogram()
        self._remaining = Histogram(offset=int(now))
        self._shapes: Set[object] = set()
        self._ttl = TtlCount()

    def add(self, token: Decoded, family: str = "token") -> None:
        """One token, or one value that could not be read."""
        self.add_page([token], family)

    @property
    def excluded(self) -> Collection[str]:
        """Clients that are left out of every count."""
        return self._excluded

    def add_page(self, tokens: Sequence[Decoded], family: str = "token") -> List[int]:
        """A page of tokens of one key family. Returns the places of those past their exp, those
        under a second key among them.

        The loop is unrolled: this and the decoding are the cost of a scan.
        """
        page = tokens
        places: Sequence[int] = range(len(page))
        if self._may_repeat(family):
            places = self._new_ones(page)
            tokens = [page[place] for place in places]
        expired: List[int] = []
        append, now, expected = self._append, self._limits.now, self.expect.kind
        for place, token in enumerate(tokens):
            expiry = token.exp
            try:
                life = expiry - token.iat  # type: ignore[operator]
                if life >> LIFE_BITS:  # type: ignore[operator]
                    raise ValueError
                append[token.client](expiry << LIFE_BITS | life)  # type: ignore[operator]
            except (TypeError, ValueError, KeyError):
                self._add_odd(token)
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
        dead = [place for place in again if (page[place].exp or now + 1) <= now]
        return [*(places[place] for place in expired), *dead]

    def add_ttls(self, tokens: Iterable[Decoded], ttls: Iterable[Optional[int]]) -> None:
        """The keys' expiries, as PTTL gave them: milliseconds, -1 for none, -2 for gone."""
        for token, ttl in zip(tokens, ttls):
            if ttl is None:
                continue
            dead = token.exp is not None and token.exp <= self._limits.now
            sample, ours = EXPIRED if dead else LIVE, token.client not in self._excluded
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
            self.hygiene.note("without_ttl", token.client, sample=sample)
        if ttl < 0 or token.exp is None or sample == EXPIRED:
            return
        left, stays = token.exp - self._limits.now, ttl / 1000
        tolerance = self._policy.ttl_tolerance
        if stays > left + tolerance:
            self.hygiene.note("ttl_outlives_exp", token.client, sample=sample)
        elif stays < left / 2 and stays < left - tolerance:
            self.hygiene.note("ttl_too_short", token.client, sample=sample)

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

    def minted_before(
        self, client: str, moment: float, *, slack: float = 0.0
    ) -> Optional[MintedBefore]:
        """The client's live tokens minted before ``moment`` (epoch seconds), those that died less
        than ``slack`` seconds ago among them.

        None when no token of the client was seen, or more clients than are tracked were.
        """
        if self._unsettled:
            self.settle()
        ledger = self._clients.get(client)
        return ledger.minted_before(moment, self._limits.now - int(slack)) if ledger else None

    def result(self, courses: Optional[Courses] = NEVER_LOOKED) -> TokenResult:
        """Everything so far; adding may go on afterwards. ``courses`` as the result of the look
        before has them; None: not all tokens were seen, so that renewals cannot be told."""
        self.settle()
        return summarise(
            Collected(
                limits=self._limits,
                policy=self._policy,
                ledgers=self._clients,
                versions=self._versions,
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

    def _new_ones(self, tokens: Sequence[Decoded]) -> List[int]:
        """The places of tokens not seen before. A token without an id is always new."""
        named = [place for place, token in enumerate(tokens) if token.jti]
        ids = [
            (hash(token.jti), hash((token.client, token.iat, token.exp)))
            for token in map(tokens.__getitem__, named)
        ]
        if self._noted < DUPLICATES_TRIAL <= self._noted + len(ids):
            self._seen.reserve(self._expected)
        self._noted += len(ids)
        again = {
            place: verdict for place, verdict in zip(named, self._seen.note_page(ids)) if verdict
        }
        for place, verdict in again.items():
            self._merged += 1
            if verdict == CONFLICT:
                self.hygiene.note("jti_conflict", tokens[place].client)
        return [place for place in range(len(tokens)) if place not in again]

    def _add_odd(self, token: Decoded) -> None:
        """What the loop could not take: unreadable, a new or excluded client, a time missing."""
        expiry, issued = _whole(token.exp), _whole(token.iat)
        if token.reason is not None:
            self._undecodable[token.reason] += 1
            self._encodings[token.encoding] -= 1
        elif token.client in self._excluded:
            self._excluded_seen += 1
            self._encodings[token.encoding] -= 1
        elif expiry is None or issued is None or (expiry - issued) >> LIFE_BITS:
            self._add_incomplete(token, expiry, issued)
        else:
            self._ledger(token.client or NO_CLIENT).fresh.append(
                expiry << LIFE_BITS | (expiry - issued)
            )

    def _add_incomplete(self, token: Decoded, expiry: Optional[int], issued: Optional[int]) -> None:
        self._ledger(token.client or NO_CLIENT).count_odd(expiry, issued, self._limits)
        if expiry is not None and expiry > self._limits.now:
            self._remaining.add_page([expiry])
        if expiry is not None and issued is not None and expiry >= issued:
            self._lifetime.add_page([expiry - issued])

    def _judge(self, token: Decoded) -> None:
        """Look at the claims, unless tokens of just that kind were found fine before."""
        if token.reason is not None or token.client in self._excluded:
            return
        if token.version is not None and (token.exp or 0) > self._limits.now:
            self._count_version(token, token.version)
        shape = (
            token.iss, token.aud, token.alg, token.permissions, token.scope,
            bool(token.jti), bool(token.client), token.exp is None, token.iat is None,
        )  # fmt: skip
        if shape in self._shapes:
            return
        if self.hygiene.inspect(token) and len(self._shapes) < SHAPES_KEPT:
            self._shapes.add(shape)

    def _count_version(self, token: Decoded, version: str) -> None:
        client = token.client or NO_CLIENT
        known = client in self._versions or len(self._versions) < CLIENTS_WITH_VERSIONS
        if client not in self._clients or not known:
            return
        versions = self._versions.setdefault(client, Counter())
        if version in versions or len(versions) < VERSIONS_KEPT:
            versions[version] += 1

    def _ledger(self, client: str) -> ClientLedger:
        """The client's ledger; beyond the clients that are tracked, that of all others."""
        if client not in self._clients:
            if len(self._clients) >= CLIENTS_TRACKED:
                client = OTHER
            ledger = self._clients.setdefault(client, ClientLedger())
            self._append[client] = ledger.fresh.append
        return self._clients[client]


_encoding = attrgetter("encoding")


def _whole(moment: Optional[float]) -> Optional[int]:
    return None if moment is None else int(moment)
