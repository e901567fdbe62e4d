"""Decision: whether the canary's token is sound: algorithm, times, audience, lifetime, clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Optional, Tuple

from monitoring.certainty import Doubt
from monitoring.codecs.facts import ClaimNames
from monitoring.codecs.records import bare_client, grants_of, owners_of
from monitoring.codecs.times import IN_UNITS, TEXT, read_time
from monitoring.judging.common import CRITICAL, WARNING, Context, clean
from monitoring.model import Finding, Reading, Severity


@dataclass(frozen=True)
class _Token:
    """The claims judged, with times as epoch seconds, as they are probably meant; `doubts` where
    others read them otherwise. None: absent or not of its type."""

    algorithm: str
    issued: Optional[float]
    expires: Optional[float]
    claims: Mapping[str, Any]
    doubts: Tuple[Doubt, ...] = ()

    @property
    def lifetime(self) -> Optional[float]:
        if self.issued is None or self.expires is None:
            return None
        return self.expires - self.issued


def _read(facts: Mapping[str, Any]) -> Optional[_Token]:
    claims = facts.get("claims")
    if not isinstance(claims, Mapping):
        return None
    algorithm = clean(facts.get("algorithm", ""))
    issued, expires = (read_time(claims.get(name), jwt=True) for name in ("iat", "exp"))
    doubts = tuple(doubt for each in (expires, issued) if each for doubt in each.doubts)
    at, until = issued.at if issued else None, expires.at if expires else None
    return _Token(algorithm, at, until, claims, doubts)


def clock_difference(facts: Mapping[str, Any]) -> Optional[float]:
    """Seconds by which the token's `iat` is ahead of our clock; None: it has none. `iat` counts
    whole seconds, cut, so up to a second behind is no difference."""
    token, received = _read(facts), facts.get("received_at")
    if token is None or token.issued is None or received is None:
        return None
    skew = token.issued + 0.5 - float(received)
    return skew if abs(skew) > 1.0 else 0.0


def token_details(facts: Mapping[str, Any]) -> Iterator[Tuple[str, Any]]:
    """Algorithm, lifetime and clock for people; never the token, its jti or its signature."""
    token = _read(facts)
    if token is None:
        return
    shown = {"algorithm": token.algorithm, "lifetime_seconds": token.lifetime}
    for name in ("aud", "iss"):
        if name in token.claims:
            shown[name] = clean(token.claims[name])
    yield "token", shown
    skew = clock_difference(facts)
    if skew is not None:
        yield "clock_skew_seconds", round(skew, 1)


def token_findings(reading: Reading, context: Context) -> Iterator[Finding]:
    """One finding for each rule the token breaks; none when no token was given."""
    facts = reading.facts
    if not (facts.get("token") or {}).get("has_token"):
        return
    token = _read(facts)
    if token is None:
        why = "the token EAPI gives is no JWT, so neither lifetime nor audience can be checked"
        yield _finding(reading, "token_unreadable", WARNING, why)
        return
    for reason, severity, sentence in _broken_rules(token, facts, context):
        yield _finding(reading, reason, severity, sentence)


_Rule = Tuple[str, Severity, str]


def _broken_rules(token: _Token, facts: Mapping[str, Any], context: Context) -> Iterator[_Rule]:
    yield from _algorithm(token, context)
    yield from _times(token, facts, context)
    yield from _addressees(token, facts, context)


def _algorithm(token: _Token, context: Context) -> Iterator[_Rule]:
    if token.algorithm.lower() in ("", "none"):
        yield "token_unsigned", CRITICAL, "EAPI gives tokens without a signature (alg none)"
    elif token.algorithm not in context.tokens.algorithms:
        allowed = ", ".join(context.tokens.algorithms)
        sentence = f"EAPI signs tokens with {token.algorithm}, the policy allows {allowed}"
        yield "token_algorithm", WARNING, sentence


def _times(token: _Token, facts: Mapping[str, Any], context: Context) -> Iterator[_Rule]:
    policy, received = context.canary, float(facts.get("received_at", 0.0))
    if IN_UNITS in token.doubts:
        sentence = (
            "EAPI writes exp or iat in milliseconds: validators, which know seconds, accept its "
            "tokens for thousands of years"
        )
        yield "token_time_in_milliseconds", CRITICAL, sentence
    if TEXT in token.doubts:
        yield "token_time_as_text", WARNING, "EAPI writes exp or iat as a text, not as a number"
    if token.expires is None:
        yield "token_without_expiry", CRITICAL, "EAPI gives tokens that never expire (no exp)"
    elif token.expires <= received - policy.max_clock_skew:
        yield "token_born_expired", CRITICAL, "EAPI gives tokens that have already expired"
    if token.issued is None:
        yield "token_without_issue_time", WARNING, "EAPI gives tokens without a time of issue (iat)"
    elif abs(token.issued + 0.5 - received) > policy.max_clock_skew + 1.0:
        ahead = token.issued - received
        side = "in the future" if ahead > 0 else "in the past"
        sentence = (
            f"a token EAPI has just given was issued {abs(ahead):.0f} s {side}: clocks differ"
        )
        yield "token_clock_skew", WARNING, sentence
    if token.lifetime is not None and token.lifetime > policy.max_lifetime:
        sentence = (
            f"tokens live {token.lifetime:.0f} s, the policy allows {policy.max_lifetime:.0f} s"
        )
        yield "token_lifetime", WARNING, sentence


def _addressees(token: _Token, facts: Mapping[str, Any], context: Context) -> Iterator[_Rule]:
    policy, claims = context.canary, token.claims
    audience = claims.get("aud")
    among = audience if isinstance(audience, list) else [audience]
    if policy.audience and policy.audience not in among:
        yield "token_audience", WARNING, f"the token is not meant for {policy.audience} (aud)"
    if context.tokens.issuer and claims.get("iss") not in (None, context.tokens.issuer):
        yield "token_issuer", WARNING, f"the token was not issued by {context.tokens.issuer} (iss)"
    names = ClaimNames(context.tokens.client_claims, context.tokens.permission_claims)
    owners = owners_of((claims,), names.client)
    if owners and facts.get("client") not in [bare_client(client) for _claim, client in owners]:
        named = owners[0][0]
        yield "token_of_another", CRITICAL, f"the canary was given another client's token ({named})"
    rights = grants_of((claims,), names)
    if rights is not None and policy.permission and policy.permission not in rights:
        sentence = f"the canary's token lacks the permission {policy.permission}"
        yield "token_permission", WARNING, sentence


def _finding(reading: Reading, reason: str, severity: Severity, sentence: str) -> Finding:
    return Finding(reason, severity, sentence, reading.source, evidence={"client": "canary"})
