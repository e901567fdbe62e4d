"""Acquire: a login from end to end with the canary client, and the forgeries that must fail.

The token goes from EAPI to SAPI and nowhere else: no fact, no message and no file holds it.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from monitoring.health.probing import ProbeContext, TimeLeft, body_of, digest, place, reveal
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault, Reading
from monitoring.text import strict_json

# -- read a JWT without trusting it, and make the forgeries that must be refused.
# For the canary's own token only. Nothing here checks a signature: that is SAPI's task, and what
# the negative proofs are about.

_LONGEST = 16384


@dataclass(frozen=True, repr=False)
class Jwt:
    """A decoded token; `parts` are its three pieces as they came. Its repr shows none of it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    parts: tuple[str, str, str]

    def __repr__(self) -> str:
        return "Jwt(decoded)"


def decode(token: object) -> Optional[Jwt]:
    """`token` taken apart; None when it is no JWT with a JSON header and JSON claims."""
    if not isinstance(token, str) or len(token) > _LONGEST or token.count(".") != 2:
        return None
    head, body, signature = token.split(".")
    header, claims = _object(head), _object(body)
    if header is None or claims is None:
        return None
    return Jwt(header, claims, (head, body, signature))


def tampered(jwt: Jwt) -> str:
    """The same token with one right more, under the old signature."""
    rights = jwt.claims.get("permissions")
    more = [*(rights if isinstance(rights, list) else ()), "admin"]
    return _forge(jwt, {**jwt.claims, "permissions": more})


def expired(jwt: Jwt, now: float) -> str:
    """The same token as if it had run out an hour ago, under the old signature."""
    past = {"exp": int(now) - 3600, "iat": int(now) - 7200}
    return _forge(jwt, {**jwt.claims, **past})


def unsigned(jwt: Jwt) -> str:
    """The same claims declared as needing no signature (`alg` none), with an empty one."""
    header = {**jwt.header, "alg": "none"}
    return f"{_text(header)}.{jwt.parts[1]}."


def epoch(value: object) -> Optional[float]:
    """A NumericDate as epoch seconds (milliseconds are recognised by their size); None: it is
    none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    seconds = float(value)
    return seconds / 1000.0 if seconds > 1e11 else seconds


def _forge(jwt: Jwt, claims: Mapping[str, Any]) -> str:
    return f"{jwt.parts[0]}.{_text(claims)}.{jwt.parts[2]}"


def _text(value: Mapping[str, Any]) -> str:
    raw = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _object(part: str) -> Optional[Mapping[str, Any]]:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        value = strict_json(raw)
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# -- a login from end to end with the canary client, and the forgeries that must fail.

_REFUSALS = (400, 401, 403, 422)
#: How long after its end a kept token must be refused: the services allow some clock skew.
_RIPE_AFTER = 120.0
_CLAIMS = ("iat", "exp", "aud", "iss", "sub", "permissions")


class _Flow:
    """One login: its shared time, its facts, and the requests it makes."""

    def __init__(self, live: ProbeContext) -> None:
        settings = live.settings
        self.live, self.canary = live, settings.canary
        self.left = TimeLeft(settings.eapi.timeout + settings.sapi.timeout)
        self.steps: dict[str, float] = {}
        client = self.canary.client_id
        asked = (
            place(s, s.paths[p]) for s, p in ((settings.eapi, "token"), (settings.sapi, "validate"))
        )
        target = digest(*asked, client)
        self.trace = secrets.token_hex(16)
        self.facts: dict[str, Any] = {
            "client": client,
            "target": target,
            "steps": self.steps,
            "trace_id": self.trace,
        }

    def _traced(self) -> dict[str, str]:
        """The header by which the services' own traces find this login
        (https://www.w3.org/TR/trace-context/)."""
        return {"traceparent": f"00-{self.trace}-{secrets.token_hex(8)}-01"}

    def get_token(self, secret: str, step: str) -> Reply:
        """Ask EAPI for a token; in headers where the path is the vendors' one."""
        service = self.live.settings.eapi
        url = place(service, service.paths["token"])
        timeout = self.left.share(service.timeout)
        client = self.canary.client_id
        if url.endswith("header-token"):
            headers = {**self._traced(), "X-Client-ID": client, "X-Client-Secret": secret}
            reply: Reply = self.live.eapi.post(url, headers=headers, timeout=timeout)
        else:
            login = {"client_id": client, "client_secret": secret}
            headers = self._traced()
            reply = self.live.eapi.post(url, json=login, headers=headers, timeout=timeout)
        self.steps[step] = reply.seconds
        return reply

    def validate(self, token: str, step: str) -> Reply:
        """Ask SAPI whether a token is good."""
        service = self.live.settings.sapi
        url = place(service, service.paths["validate"])
        question = {"tokenString": token, "requiredPermission": self.canary.permission or None}
        timeout = self.left.share(service.timeout)
        headers = self._traced()
        reply: Reply = self.live.sapi.post(url, json=question, headers=headers, timeout=timeout)
        self.steps[step] = reply.seconds
        return reply


def probe_login(name: str, live: ProbeContext) -> Reading:
    """Facts: see `login.judge_login`. `seconds` is the time EAPI took for the token.
    The proofs are tried when `live.prove` and after the good token was accepted, since a service
    that refuses everything proves nothing."""
    at = live.clock()
    canary = live.settings.canary
    if not canary.client_id or not canary.client_secret:
        return Reading(name, at, configured=False)
    for service, path in ((live.settings.eapi, "token"), (live.settings.sapi, "validate")):
        if not service.url:
            sentence = f"no endpoint of {service.name} is configured: no login can be tried"
            return Reading(name, at, fault=Fault("config", sentence), configured=False)
        if not service.paths.get(path):
            sentence = f"no {path} path of {service.name} is configured"
            return Reading(name, at, fault=Fault("config", sentence))
    flow = _Flow(live)
    try:
        secret = reveal(canary.client_secret, "MONITORING_CLIENT_SECRET")
    except HttpFault as error:
        return Reading(name, at, fault=error.fault)
    token = _token(flow, secret)
    if token:
        jwt = _decoded(flow, token)
        _validated(flow, token)
        if live.prove and flow.facts["validate"].get("valid") is True:
            flow.facts["proofs"] = dict(_proofs(flow, jwt))
            _keep(flow, token, jwt)
    return Reading(name, at, flow.steps.get("token"), flow.facts)


def _token(flow: _Flow, secret: str) -> str:
    """The token, "" when there is none; `token` and `received_at` among the facts."""
    try:
        reply = flow.get_token(secret, "token")
    except HttpFault as error:
        flow.facts["token"] = {"fault": error.fault}
        return ""
    flow.facts["received_at"] = flow.live.clock()
    token = _token_in(reply)
    flow.facts["token"] = {"status": reply.status, "has_token": bool(token)}
    return token if reply.status < 300 else ""


def _token_in(reply: Reply) -> str:
    body = body_of(reply)
    token = body.get("token", body.get("access_token")) if isinstance(body, dict) else None
    return token if isinstance(token, str) else ""


def _decoded(flow: _Flow, token: str) -> Optional[Jwt]:
    """The token taken apart; what may be judged of it among the facts, its jti not."""
    started = time.perf_counter()
    jwt = decode(token)
    flow.steps["decode"] = time.perf_counter() - started
    flow.facts["claims"] = None
    if jwt is not None:
        flow.facts["algorithm"] = str(jwt.header.get("alg", ""))
        flow.facts["claims"] = {n: jwt.claims[n] for n in _CLAIMS if n in jwt.claims}
    return jwt


def _validated(flow: _Flow, token: str) -> None:
    try:
        reply = flow.validate(token, "validate")
    except HttpFault as error:
        flow.facts["validate"] = {"fault": error.fault}
        return
    flow.facts["validate"] = {"status": reply.status, **_verdict_in(reply)}


def _verdict_in(reply: Reply) -> Mapping[str, Optional[bool]]:
    """SAPI's verdict: `valid` and `forbidden`, None where it does not say."""
    body = body_of(reply)
    found = body if isinstance(body, dict) else {}
    named = {
        "valid": found.get("isValid", found.get("valid")),
        "forbidden": found.get("isForbidden"),
    }
    return {name: value if isinstance(value, bool) else None for name, value in named.items()}


def _proofs(flow: _Flow, jwt: Optional[Jwt]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each forgery with its answer. After the first that gets none the rest are not tried: the
    service has gone, and they share what is left of the time."""
    silent = ""
    for name, ask in _forgeries(flow, jwt):
        if silent:
            yield name, {"accepted": None, "why": silent}
            continue
        try:
            reply = ask()
        except HttpFault as error:
            silent = error.fault.message
            yield name, {"accepted": None, "why": silent}
            continue
        outcome = _outcome(name, reply)
        yield name, _proven(flow, jwt, outcome) if name == "expired" else outcome


def _by_both_clocks(flow: _Flow, jwt: Optional[Jwt]) -> float:
    """Now by our clock and by that of who has just issued the token, whichever is behind: a clock
    that leapt must not make a token look as if it had run out."""
    issued = epoch(jwt.claims.get("iat")) if jwt is not None else None
    now = flow.live.clock()
    return now if issued is None else min(now, issued)


def _proven(flow: _Flow, jwt: Optional[Jwt], outcome: Mapping[str, Any]) -> Mapping[str, Any]:
    """The outcome; of an expired token it says with `forged` that it was not a real one, whose
    signature alone may be why it was refused."""
    if outcome["accepted"] is not False:
        return outcome  # a real one that is accepted is kept, to see when that ends
    if not flow.live.keepsake.ripe(_by_both_clocks(flow, jwt), _RIPE_AFTER):
        return {**outcome, "forged": True}
    flow.live.keepsake.forget()
    return outcome


def _forgeries(flow: _Flow, jwt: Optional[Jwt]) -> Iterator[tuple[str, Callable[[], Reply]]]:
    if jwt is not None:
        now = _by_both_clocks(flow, jwt)
        old = flow.live.keepsake.ripe(now, _RIPE_AFTER) or expired(jwt, now)
        forged = {
            "tampered": tampered(jwt),
            "expired": old,
            "alg_none": unsigned(jwt),
        }
        for name, token in forged.items():
            yield name, _asking(flow, token, name)
    wrong = f"wrong-{secrets.token_hex(8)}"
    yield "wrong_secret", lambda: flow.get_token(wrong, "wrong_secret")


def _asking(flow: _Flow, token: str, name: str) -> Callable[[], Reply]:
    return lambda: flow.validate(token, name)


def _outcome(name: str, reply: Reply) -> Mapping[str, Any]:
    """`accepted` True, False, or None with the reason when the answer says neither."""
    if reply.status in _REFUSALS:
        return {"accepted": False}
    if 200 <= reply.status < 300:
        if name == "wrong_secret":
            given = bool(_token_in(reply))
            return {"accepted": True} if given else _unclear(reply)
        valid = _verdict_in(reply)["valid"]
        return _unclear(reply) if valid is None else {"accepted": valid}
    return _unclear(reply)


def _unclear(reply: Reply) -> Mapping[str, Any]:
    return {"accepted": None, "why": f"the answer (HTTP {reply.status}) says neither"}


def _keep(flow: _Flow, token: str, jwt: Optional[Jwt]) -> None:
    if jwt is not None:
        flow.live.keepsake.offer(token, epoch(jwt.claims.get("exp")))
