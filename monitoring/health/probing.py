"""Acquire: what the probes share: the live clients, one exchange with its deadline, and a reply
turned into facts."""

from __future__ import annotations

import codecs
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from monitoring.config.secret import Secret
from monitoring.config.settings import ServiceSettings, Settings
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault
from monitoring.text import printable

_EXCERPT = 200
_SHORTEST = 0.05  # seconds; with less left there is no point in asking


@dataclass
class RetainedToken:
    """A canary token kept in memory until it has truly run out, to prove that expired ones are
    refused. Never written anywhere: while it lives it opens doors."""

    token: str = field(default="", repr=False)
    expires: float = 0.0

    def offer(self, token: str, expires: Optional[float]) -> None:
        """Keep `token` unless an older one is kept."""
        if not self.token and expires is not None:
            self.token, self.expires = token, expires

    def ripe(self, now: float, margin: float) -> str:
        """The kept token once it ran out `margin` seconds ago; else ""."""
        return self.token if self.token and now >= self.expires + margin else ""

    def forget(self) -> None:
        """It was refused: the next token offered is kept."""
        self.token = ""


@dataclass(frozen=True)
class ProbeContext:
    """What probes ask with. `eapi` and `sapi` are HttpClients with those services' TLS;
    `cache()` gives a new Cache and `conjur()` the ConjurClient; `clock()` epoch seconds. `prove`:
    the canary's negative proofs are due."""

    settings: Settings
    clock: Callable[[], float]
    eapi: Any
    sapi: Any
    cache: Callable[[], Any]
    conjur: Callable[[], Any]
    further: Mapping[str, Any] = field(default_factory=dict)  # name -> HttpClient
    prove: bool = False
    keepsake: RetainedToken = field(default_factory=RetainedToken)


class TimeLeft:
    """A time that several exchanges share."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def share(self, most: float) -> float:
        """Seconds for the next exchange, `most` at most. Raises HttpFault when none are left."""
        left = self._end - time.monotonic()
        if left < _SHORTEST:
            raise HttpFault(Fault("timeout", "no time was left to ask"))
        return most if left > most - _SHORTEST else round(left, 2)


def place(service: ServiceSettings, path: str) -> str:
    """The URL of a path below the service's."""
    return f"{service.url.rstrip('/')}/{path.lstrip('/')}"


def digest(*parts: str) -> str:
    """The identity of what is asked, without what it holds (addresses may hold secrets)."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def bearer(token: Secret) -> Mapping[str, str]:
    """The Authorization header of MONITORING_AUTH_TOKEN, when one is set. Raises HttpFault
    (config) when its file cannot be read."""
    if not token:
        return {}
    return {"Authorization": f"Bearer {reveal(token, 'MONITORING_AUTH_TOKEN')}"}


def reveal(secret: Secret, name: str) -> str:
    """The secret itself. Raises HttpFault (config) when its file cannot be read."""
    try:
        return secret.reveal()
    except (OSError, ValueError):
        sentence = f"the file that {name}_FILE names cannot be read"
        raise HttpFault(Fault("config", sentence)) from None


def answer_of(reply: Reply) -> dict[str, Any]:
    """`status`, decoded JSON `body` (None: it is none), and the `text` it begins with. A body that
    is not in UTF-8 is read all the same: a damaged letter in a name costs no status word."""
    body = body_of(reply)
    if body is None:
        plain = replace(reply, body=reply.body.decode(_charset(reply), "replace").encode())
        body = body_of(plain)
    return {"status": reply.status, "body": body, "text": _text(reply.body)}


def _charset(reply: Reply) -> str:
    """The charset that the answer declares, else UTF-8."""
    declared = reply.headers.get("content-type", "").lower().partition("charset=")[2]
    try:
        return codecs.lookup(declared.partition(";")[0].strip(" \"'") or "utf-8").name
    except LookupError:
        return "utf-8"


def body_of(reply: Reply) -> Any:
    """The decoded JSON, None when the body is none."""
    try:
        return reply.json()
    except HttpFault:
        return None


def transport_of(reply: Reply, answered_at: float) -> dict[str, Any]:
    """Phases, certificate chain and clock of a reply, as the judges read them."""
    facts: dict[str, Any] = {
        "phases": dict(reply.phases),
        "server_date": reply.server_date,
        "answered_at": answered_at,
    }
    if reply.tls is not None:
        facts["tls"] = {
            "protocol": reply.tls.protocol,
            "expires_at": reply.tls.expires_at,
            "chain": tuple(reply.tls.chain),
            "complete": reply.tls.complete,
        }
    return facts


def _text(body: bytes) -> str:
    # Runs of white space shrink first: a page after two hundred line ends is no empty body, and
    # a word followed by as many blanks is not alone.
    return printable(b" ".join(body.split())[:_EXCERPT].decode("utf-8", "replace"))
