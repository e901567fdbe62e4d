"""Decision: whether a login works, its token is sound, and a forged one is refused.

The canary's way: EAPI gives a token, the token is sound, SAPI accepts it. Then the proofs: what
must be refused was refused. A proof that could not be done is unknown; an acceptance once seen
stays found until a later proof sees the refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from monitoring.certainty import Coverage, Doubt
from monitoring.components import EAPI, SAPI
from monitoring.health.judging import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    ProbeVerdict,
    Proof,
    basics,
    call_of,
    clean,
    compared,
    component_of,
    good,
    milliseconds_of,
    proper,
)
from monitoring.model import Component, Fault, Finding, Measurement, Reading, Severity
from monitoring.text import iso
from monitoring.tokens.codecs.facts import ClaimNames
from monitoring.tokens.codecs.records import (
    IN_UNITS,
    TEXT,
    bare_client,
    grants_of,
    owners_of,
    read_time,
)

# -- whether the canary's token is sound: algorithm, times, audience, lifetime, clocks.


@dataclass(frozen=True)
class _Token:
    """The claims judged, with times as epoch seconds, as they are probably meant; `doubts` where
    others read them otherwise. None: absent or not of its type."""

    algorithm: str
    issued: Optional[float]
    expires: Optional[float]
    claims: Mapping[str, Any]
    doubts: tuple[Doubt, ...] = ()

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


def token_details(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
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


_Rule = tuple[str, Severity, str]


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


# -- whether a login really works from end to end, and whether a forged one fails.

#: Proof -> what was sent.
PROOFS = {
    "tampered": "a token that was changed after it was signed",
    "expired": "a token that has run out",
    "alg_none": "an unsigned token (alg none)",
    "wrong_secret": "a wrong client secret",
}
NO_CANARY = (
    "no canary client is configured, so nobody proves that logins work: set "
    "MONITORING_CLIENT_ID and MONITORING_CLIENT_SECRET"
)


#: (who gave no usable answer, is it unknown what that means) -> what it means for a login.
_UNREACHED = {
    ("EAPI", False): "no login is possible",
    ("EAPI", True): "it is not known whether a login works",
    ("SAPI", False): "a token is given, but no service can use it",
    ("SAPI", True): "a token is given, but it is not known whether it can be used",
}


def judge_login(reading: Reading, context: Context) -> ProbeVerdict:
    """`facts` as `probing.login.probe_login` gives them: `target` (digest of what is asked),
    `token` and `validate` answers ({"status", ...} or {"fault"}), `claims` (header and claims
    without jti; None: not a JWT), `received_at`, `steps` (name -> seconds), `proofs` (name ->
    {"accepted": True, False or None, "why"})."""
    if not reading.configured:
        said = reading.fault.message if reading.fault else NO_CANARY
        component = Component(reading.source, UNKNOWN, None, message=said, configured=False)
        return ProbeVerdict(component)
    step, call = _positive(reading)
    known = context.known(reading.source, reading.facts.get("target"))
    answers = (reading.facts.get(name) or {} for name in ("token", "validate"))
    call = compared(call, known, [answer.get("status") for answer in answers])
    proofs = merged(context.proofs, reading.facts.get("proofs", {}), reading.at)
    findings = (*token_findings(reading, context), *_proof_findings(proofs, reading))
    details = dict(_details(reading, proofs))
    if call.severity is not OK:
        details["parent"] = EAPI if step == "token" else SAPI
        details["failed_step"] = step
    component = _with_proofs(component_of(reading, call, details), proofs)
    measurements = (*basics(component), *_figures(reading, proofs))
    works = call.severity is OK and "target" in reading.facts
    worked = (proper(reading.source, reading.facts["target"]),) if works else ()
    return ProbeVerdict(component, measurements, findings, proofs=proofs, worked=worked)


def _with_proofs(component: Component, proofs: Mapping[str, Proof]) -> Component:
    """A login that works for forgers too is no healthy login."""
    accepted = [PROOFS[name] for name, proof in proofs.items() if proof.outcome == "accepted"]
    if not accepted or component.status is not OK:
        return component
    said = f"{component.message}, but also with {' and '.join(accepted)}"
    return replace(component, status=CRITICAL, message=said)


def _positive(reading: Reading) -> tuple[str, Call]:
    """The first step that did not do what it must, and what that means."""
    facts = reading.facts
    if "token" not in facts:
        return "token", call_of(reading.fault or Fault("internal", "the probe brought no answer"))
    call = _token_call(facts["token"])
    if call.severity is not OK:
        return "token", call
    return "validate", _validate_call(facts.get("validate") or {"fault": reading.fault})


def _token_call(answer: Mapping[str, Any]) -> Call:
    call = _common_call(answer, "EAPI", "token path")
    if call is not None:
        return call
    if answer["status"] in (400, 401, 403):
        sentence = (
            f"EAPI refuses the canary's secret (HTTP {answer['status']}): either logins are "
            "broken, or MONITORING_CLIENT_SECRET is not the client's secret any more"
        )
        return Call(CRITICAL, False, sentence, "auth")
    if answer["status"] >= 300:
        return Call(UNKNOWN, None, f"EAPI answers HTTP {answer['status']} to a login", "http")
    if not answer.get("has_token"):
        return Call(CRITICAL, False, "EAPI accepts the login but gives no token", "body")
    return good(Coverage("steps", 1, 1))


def _validate_call(answer: Mapping[str, Any]) -> Call:
    call = _common_call(answer, "SAPI", "validate path")
    if call is not None:
        return call
    if answer.get("valid") is True and not answer.get("forbidden") and answer["status"] < 300:
        return good(Coverage("steps", 2, 2), "a login works from end to end")
    if answer.get("forbidden") or answer["status"] == 403:
        sentence = "SAPI says the canary may not do what it asked: check the canary's permission"
        return Call(CRITICAL, False, sentence, "auth")
    if answer.get("valid") is False or answer["status"] in (400, 401):
        sentence = f"SAPI refuses a token that EAPI has just given (HTTP {answer['status']})"
        return Call(CRITICAL, False, sentence, "auth")
    sentence = f"SAPI does not say whether the token is valid (HTTP {answer['status']})"
    return Call(UNKNOWN, None, sentence, "body")


def _common_call(answer: Mapping[str, Any], who: str, path: str) -> Optional[Call]:
    """What means the same at either service; None: the answer has to be read."""
    fault = answer.get("fault")
    if fault is not None:
        call = call_of(fault)
        return replace(call, message=f"{_UNREACHED[who, call.severity is UNKNOWN]}: {call.message}")
    if answer.get("status") is None:
        return Call(UNKNOWN, None, f"{who} was not asked", "internal")
    if answer["status"] >= 500:
        sentence = f"{_UNREACHED[who, False]}: {who} answers HTTP {answer['status']}"
        return Call(CRITICAL, False, sentence, "http")
    if answer["status"] in (404, 405):
        sentence = f"{who} has no such {path} (HTTP {answer['status']}): correct it in the settings"
        return Call(UNKNOWN, None, sentence, "http")
    if answer["status"] == 429:
        return Call(UNKNOWN, None, f"{who} answers HTTP 429: the canary asks too often", "http")
    return None


def merged(
    before: Mapping[str, Proof], now: Mapping[str, Mapping[str, Any]], at: float
) -> Mapping[str, Proof]:
    """Old proofs updated by this cycle's. What could not be asked does not clear an acceptance,
    nor does it replace a refusal's date with nothing: it is then unknown. Nor does it clear the
    acceptance of a real token that a forged one is refused."""
    proofs = {name: proof for name, proof in before.items() if name in PROOFS}
    for name, answer in now.items():
        outcome = {True: "accepted", False: "refused", None: "unknown"}[answer.get("accepted")]
        old = proofs.get(name)
        weak = outcome == "unknown" or bool(answer.get("forged"))
        if weak and old is not None and old.outcome == "accepted":
            continue
        proofs[name] = Proof(outcome, at, str(answer.get("why", "")))
    return proofs


def _proof_findings(proofs: Mapping[str, Proof], reading: Reading) -> Iterator[Finding]:
    for name, proof in proofs.items():
        if proof.outcome != "accepted":
            continue
        who = EAPI if name == "wrong_secret" else SAPI
        yield Finding(
            reason=f"accepts_{name}",
            severity=CRITICAL,
            sentence=f"{who} accepts {PROOFS[name]}",
            component=reading.source,
            evidence={"service": who, "proof": name, "seen_at": iso(proof.at)},
            meaning="Whoever reaches this service can act as any client.",
            action=f"Take {who} out of service or close its network, then look at its last change.",
        )


def _figures(reading: Reading, proofs: Mapping[str, Proof]) -> Iterator[Measurement]:
    steps: Mapping[str, Optional[float]] = {"token": None, "validate": None}
    for step, seconds in {**steps, **reading.facts.get("steps", {})}.items():
        yield Measurement("payment_api_authentication_step_seconds", seconds, {"step": step})
    for name in PROOFS:
        known = proofs.get(name)
        value = {"refused": 1.0, "accepted": 0.0}.get(known.outcome if known else "")
        yield Measurement("payment_api_authentication_proof", value, {"proof": name})
    skew = clock_difference(reading.facts)
    if skew is not None:
        labels = {"component": reading.source}
        yield Measurement("payment_api_clock_skew_seconds", skew, labels)


def _details(reading: Reading, proofs: Mapping[str, Proof]) -> Iterator[tuple[str, Any]]:
    facts = reading.facts
    if facts.get("client"):
        yield "client", facts["client"]
    if facts.get("trace_id"):
        yield "trace_id", facts["trace_id"]
    yield "steps_ms", milliseconds_of(facts.get("steps", {}))
    yield from token_details(facts)
    yield "proofs", {name: _said(proofs.get(name)) for name in PROOFS}


def _said(proof: Optional[Proof]) -> Mapping[str, Any]:
    if proof is None:
        return {"outcome": "unknown", "why": "not tried yet"}
    shown: dict[str, Any] = {"outcome": proof.outcome, "at": iso(proof.at)}
    return {**shown, "why": proof.why} if proof.why else shown
