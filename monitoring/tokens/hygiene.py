"""Decision: what is wrong with tokens that nobody else looks at: names, sentences, cures."""

from __future__ import annotations

from collections import Counter, Counter as CounterOf
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Optional

from monitoring.certainty import Doubt
from monitoring.config.settings import TokenSettings
from monitoring.model import Severity
from monitoring.tokens.codecs.facts import Decoded
from monitoring.tokens.codecs.records import FAR, IN_UNITS, NO_ZONE, TEXT, ZERO, texts
from monitoring.tokens.owners import Known, Owner, Reading, owner_of, reading_of

CLIENTS_COUNTED = 1000
WORST = 5
ALL = ""  # everything was looked at


@dataclass(frozen=True)
class HygieneRule:
    """``sentence`` and ``cure`` are what an operator reads; {count} is filled in. ``severity``
    holds where no threshold judges the same; OK: it is said, and nobody is warned."""

    sentence: str
    cure: str
    severity: Severity = Severity.WARNING


RULES: Mapping[str, HygieneRule] = {
    "without_ttl": HygieneRule(
        "Token keys that never expire: {count}.",
        "Write value and expiry in one command (SET with EX); a crash between SET and EXPIRE "
        "leaves a key for ever. Delete these keys by hand.",
    ),
    "ttl_outlives_exp": HygieneRule(
        "Token keys that stay after their token has expired: {count}.",
        "Set the key's expiry from the token's exp.",
    ),
    "ttl_too_short": HygieneRule(
        "Token keys that leave in less than half of their token's remaining life: {count}.",
        "Set the key's expiry from the token's exp; the client must log in again too early.",
    ),
    "expired_served": HygieneRule(
        "Tokens past exp and still served from the cache: {count}.",
        "Set the key's expiry from the token's exp, and check exp where the cache is read.",
    ),
    "lifetime_above_policy": HygieneRule(
        "Tokens that live longer than the policy allows: {count}.",
        "Lower the token lifetime of the issuing service, or raise the policy's maximum.",
    ),
    "alg_none": HygieneRule(
        "Tokens without a signature (alg none), which anybody can forge: {count}.",
        "Stop the issuer, reject alg none where tokens are validated, and flush these tokens.",
        severity=Severity.CRITICAL,  # whoever finds these may forge tokens
    ),
    "unexpected_alg": HygieneRule(
        "Tokens signed with an algorithm outside the policy: {count}.",
        "Pin the algorithm where tokens are validated; find who issues these.",
    ),
    "missing_exp": HygieneRule(
        "Tokens without exp, which never become invalid: {count}.",
        "Have the issuer set exp; reject tokens without it.",
    ),
    "missing_iat": HygieneRule(
        "Tokens without iat, of unknown age: {count}.",
        "Have the issuer set iat.",
    ),
    "missing_aud": HygieneRule(
        "Tokens without an audience, which are good for any service: {count}.",
        "Have the issuer set aud; check it where tokens are validated.",
    ),
    "missing_jti": HygieneRule(
        "Tokens without jti, which can be neither counted once nor revoked: {count}.",
        "Have the issuer set jti.",
    ),
    "missing_client": HygieneRule(
        "Tokens that name no client: {count}.",
        "Have the issuer set sub.",
    ),
    "unexpected_issuer": HygieneRule(
        "Tokens of an issuer that we do not know: {count}.",
        "Find who writes into this cache; check iss where tokens are validated.",
    ),
    "unexpected_audience": HygieneRule(
        "Tokens meant for another service: {count}.",
        "Check aud where tokens are validated; keep services' caches apart.",
    ),
    "iat_in_future": HygieneRule(
        "Tokens issued in the future, by a wrong clock: {count}.",
        "Check time synchronisation of the issuing service and of this machine.",
    ),
    "jti_conflict": HygieneRule(
        "Tokens whose jti another, different token has too: {count}.",
        "Have the issuer draw jti at random, a UUID for each token.",
    ),
    "jwt_in_key": HygieneRule(
        "Key names that contain a whole token, so whoever may list keys can use it: {count}.",
        "Key the entry by jti or by a hash of the token; forbid SCAN and KEYS to other users.",
    ),
    "permissions_outside": HygieneRule(
        "Tokens that grant permissions outside the allowed set: {count}.",
        "Check what the issuer grants these clients.",
    ),
    "token_time_in_milliseconds": HygieneRule(
        "JWTs with a time in milliseconds or less, while validators know seconds alone: by such an "
        "exp they are accepted for thousands of years: {count}.",
        "Have the issuer write whole seconds (RFC 7519); then revoke what it has issued, by a new "
        "signing key.",
        severity=Severity.CRITICAL,
    ),
    "token_far_future": HygieneRule(
        "Tokens whose exp is more than ten years ahead, so that they never become invalid: "
        "{count}.",
        "Have the issuer set exp from the token's life; reject others where tokens are validated.",
    ),
    "token_exp_zero": HygieneRule(
        "Tokens with an exp of 0 or -1, which some validators take as never: {count}.",
        "Have the issuer set exp from the token's life.",
    ),
    "token_time_as_text": HygieneRule(
        "JWTs whose exp or iat is a text, which validators refuse or ignore: {count}.",
        "Have the issuer write a number of seconds (RFC 7519).",
    ),
    "token_time_without_zone": HygieneRule(
        "Tokens whose times have no zone, so that they may end up to 12 hours later than they say "
        "in UTC, and count as alive till then: {count}.",
        "Have the service write an Instant or epoch seconds instead of a LocalDateTime.",
        severity=Severity.OK,  # a format that many services write
    ),
    "token_nbf_in_future": HygieneRule(
        "Tokens that are not valid yet, by their nbf: {count}.",
        "Check time synchronisation of the issuing service, and whether it postdates tokens.",
    ),
}
_OF_DOUBT: Mapping[Doubt, str] = {
    IN_UNITS: "token_time_in_milliseconds",
    ZERO: "token_exp_zero",
    TEXT: "token_time_as_text",
    NO_ZONE: "token_time_without_zone",
}
#: OpenID's scopes say what a client may know of a user, and permit nothing here.
_ABOUT_USERS = frozenset(("openid", "profile", "email", "address", "phone", "offline_access"))


@dataclass(frozen=True)
class HygieneFinding:
    """One rule that did not hold. ``worst`` are the clients with most, and how many each; of what
    was ``sampled``, numbers are estimates. ``template`` is the sentence with {count} in it."""

    name: str
    count: int
    worst: tuple[tuple[str, int], ...]
    template: str
    sampled: bool
    cure: str
    severity: Severity

    @property
    def sentence(self) -> str:
        """For an operator."""
        return self.said()

    def said(self, *, whole: bool = True) -> str:
        """The sentence; ``whole`` is False of a scan that ended early, whose counts are the least
        that there is."""
        about = f"{'at least ' * (not whole)}{'about ' * self.sampled}"
        return self.template.format(count=f"{about}{self.count:,}")


class HygieneBook:
    """Counts of each finding, and by client for the first ``CLIENTS_COUNTED`` clients of each."""

    def __init__(self, policy: TokenSettings) -> None:
        self._policy = policy
        self._allowed = frozenset(policy.permissions)
        # By finding, and by the sample that it was found in.
        self._counts: CounterOf[tuple[str, str]] = Counter()
        self._clients: dict[tuple[str, str], CounterOf[Reading]] = {}

    def note(
        self, name: str, whose: Optional[Reading], count: int = 1, *, sample: str = ALL
    ) -> None:
        """Count a finding; ``whose`` None when it belongs to none. ``sample`` names the sample
        that it was found in, whose members stand for more of their kind."""
        if not count:
            return
        self._counts[name, sample] += count
        clients = self._clients.setdefault((name, sample), Counter())
        if whose is not None and (whose in clients or len(clients) < CLIENTS_COUNTED):
            clients[whose] += count

    def count(self, name: str) -> int:
        """How often it was noted."""
        return sum(n for (what, _sample), n in self._counts.items() if what == name)

    def inspect(self, token: Decoded, count: int = 1) -> bool:
        """Note what the claims of so many tokens, which are alike, show by themselves. True when
        nothing is wrong with them."""
        fine = True
        for name in self._faults(token):
            self.note(name, reading_of(token), count)
            fine = False
        return fine

    def findings(
        self,
        further: Mapping[str, Mapping[Owner, int]] = MappingProxyType({}),
        shares: Mapping[str, float] = MappingProxyType({}),
        known: Known = None,
    ) -> tuple[HygieneFinding, ...]:
        """What was found, in the order of the rules; ``further`` adds counts by rule and client.
        One of a sample counts as many times as ``shares`` says, and for the client that it is of
        where ``known`` clients there are."""
        found = []
        for name, rule in RULES.items():
            added = further.get(name, {})
            counts = {sample: n for (what, sample), n in self._counts.items() if what == name}
            count = sum(round(n * shares.get(sample, 1.0)) for sample, n in counts.items())
            count += sum(added.values())
            if count:
                guessed = any(shares.get(sample, 1.0) > 1 for sample in counts)
                whose = self._by_client(name, added, shares, known).items()
                # of those with equally many by name: two looks at one cache name the same clients
                worst = tuple(sorted(whose, key=lambda row: (-row[1], row[0]))[:WORST])
                found.append(
                    HygieneFinding(
                        name, count, worst, rule.sentence, guessed, rule.cure, rule.severity
                    )
                )
        return tuple(found)

    def _by_client(
        self,
        name: str,
        added: Mapping[Owner, int],
        shares: Mapping[str, float],
        known: Known,
    ) -> CounterOf[str]:
        clients: CounterOf[str] = Counter()
        rows: list[tuple[float, Mapping[Reading, int]]] = [(1.0, dict(added.items()))]
        rows += [
            (shares.get(sample, 1.0), counts)
            for (what, sample), counts in self._clients.items()
            if what == name
        ]
        for share, each in rows:
            for whose, count in each.items():
                owner = owner_of(whose, known)
                if isinstance(owner, str):
                    clients[owner] += round(count * share)
        return clients

    def _faults(self, token: Decoded) -> Iterator[str]:
        policy = self._policy
        for name, there in (
            ("missing_exp", token.exp is not None),
            ("missing_iat", token.iat is not None),
            ("missing_jti", token.jti),
            ("missing_client", token.client),
        ):
            if not there:
                yield name
        if token.alg is not None:  # claims of a JWT; a record without one may leave some out
            yield from self._faults_of_jwt(token)
        if token.iss is not None and policy.issuer and token.iss != policy.issuer:
            yield "unexpected_issuer"
        if token.aud is not None and policy.audience and not self._meant_for_us(token):
            yield "unexpected_audience"
        granted = {*(token.permissions or ()), *(texts(token.scope) or ())} - _ABOUT_USERS
        if granted and self._allowed and not self._allowed.issuperset(granted):
            yield "permissions_outside"
        for doubt in token.unsure.doubts if token.unsure is not None else ():
            if doubt is not FAR:  # counted by how far ahead it is
                yield _OF_DOUBT[doubt]

    def _faults_of_jwt(self, token: Decoded) -> Iterator[str]:
        if token.alg is not None and token.alg.lower() == "none":
            yield "alg_none"
        elif self._policy.algorithms and token.alg not in self._policy.algorithms:
            yield "unexpected_alg"
        if token.aud is None or token.aud == ():
            yield "missing_aud"

    def _meant_for_us(self, token: Decoded) -> bool:
        audience = (token.aud,) if isinstance(token.aud, str) else token.aud or ()
        return not audience or self._policy.audience in audience
