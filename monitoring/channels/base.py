"""Values: what every channel is given and how it says that it failed.

A channel is a module with `send(notices, kit)`: it returns when the other side has taken them all,
and raises TransportError otherwise. Where each recipient is told by itself, it returns those that
were refused although others were notified. It never retries and never waits: when to try again is
decided in one place (delivery.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Optional

from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings, TlsSettings
from monitoring.http.client import HttpClient
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault, Notice


@dataclass(frozen=True)
class Refusal:
    """Why one recipient was not notified: `code` as the other side says it, `why` for people.
    `permanent`: it will be refused again. `crowded`: without the others it may be tried at once."""

    code: int
    why: str

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def crowded(self) -> bool:
        return self.code == 452  # SMTP: too many recipients


class TransportError(Exception):
    """The notices did not get through. The text is one sentence without secrets. `permanent`: the
    same notices will be refused again. `retry_after`: seconds the other side asks us to wait.
    `unsure`: they may have arrived all the same. `refused`: each recipient, where it was they."""

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after: Optional[float] = None,
        unsure: bool = False,
        refused: Optional[Mapping[str, Refusal]] = None,
    ) -> None:
        super().__init__(message)
        self.refused = refused or {}
        self.permanent = permanent
        self.retry_after = retry_after
        self.unsure = unsure


@dataclass(frozen=True)
class ChannelContext:
    """What a channel works with: its section of CHANNEL_CONFIG, the alert settings (links), how
    long one send may take, who we are."""

    config: Mapping[str, Any]
    rules: AlertSettings = field(default_factory=AlertSettings)
    timeout: float = 10.0
    user_agent: str = "payment-api-monitoring"

    def text(self, name: str, default: str = "") -> str:
        """A setting as text; a secret is revealed. Raises TransportError when it cannot be read."""
        value = self.config.get(name, default)
        if not isinstance(value, Secret):
            return str(value or default)
        try:
            return value.reveal() or default
        except OSError as exc:
            raise TransportError(f"cannot read the file of {name}: {exc.strerror}") from exc

    def http(self, *, trust_env: bool) -> HttpClient:
        """A client that trusts the channel's `ca_file`; `trust_env`: proxies of the environment
        are used, for addresses that may lie outside."""
        return HttpClient(
            tls=TlsSettings(ca_file=self.text("ca_file")),
            timeout=self.timeout,
            user_agent=self.user_agent,
            trust_env=trust_env,
            secret_paths=True,
        )


#: Gives the recipients that were refused while others were notified.
#: How a page of HTML begins; receivers of notices answer nothing, a word or JSON.
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html|head|body|script)\b",
    re.IGNORECASE | re.DOTALL,
)
Send = Callable[[Sequence[Notice], ChannelContext], Optional[Mapping[str, Refusal]]]


@dataclass(frozen=True)
class Channel:
    """A row of CHANNELS. `batch`: notices that one send may carry. `past`: whether it wants to
    hear of what is over when it could not be told in time. `recipients`: the name of the setting
    that lists them, where each is told by itself."""

    send: Send
    batch: int = 1
    past: bool = True
    recipients: str = ""

    def notified(self, kit: ChannelContext) -> tuple[str, ...]:
        """Who is told by itself; none: the channel is notified as a whole."""
        return listed(kit.config.get(self.recipients)) if self.recipients else ()


def listed(value: object) -> tuple[str, ...]:
    """The entries of a list, or of text with commas; each once."""
    names = value.split(",") if isinstance(value, str) else value
    entries = names if isinstance(names, (list, tuple)) else ()
    return tuple(dict.fromkeys(str(name).strip() for name in entries if str(name).strip()))


def ask(what: str, request: Callable[[], Reply]) -> Reply:
    """The reply to `request` if its status is 2xx and it is no page for people, else
    TransportError."""
    try:
        reply = request()
    except HttpFault as exc:
        raise unreached(what, exc.fault) from exc
    refuse(what, reply.status, reply.headers)
    if _PAGE.match(reply.body[:4096]):
        raise TransportError(f"{what} answered with a web page: a login before it, or a wrong URL?")
    return reply


def unreached(what: str, fault: Fault) -> TransportError:
    """No usable answer came. A request that was never sent cannot have arrived."""
    unsure = fault.kind in ("timeout", "body", "protocol", "connect", "too_large")
    return TransportError(f"{what}: {fault.message}", unsure=unsure)


def refuse(what: str, status: int, headers: Mapping[str, str], said: str = "") -> None:
    """Raise TransportError unless `status` is 2xx. `headers` by lower-case name."""
    if 200 <= status < 300:
        return
    raise TransportError(
        f"{what} answered {status}{': ' + said if said else ''}",
        permanent=400 <= status < 500 and status not in (408, 425, 429),
        retry_after=retry_after(headers),
        unsure=status in (502, 504),
    )


def retry_after(headers: Mapping[str, str]) -> Optional[float]:
    """Seconds of a Retry-After header, which holds seconds or a date (measured by the answer's own
    Date, so that our clock does not matter); None: neither. `headers` by lower-case name."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    until, now = _date(text), _date(headers.get("date", ""))
    return None if until is None or now is None else max(0.0, until - now)


def _date(text: str) -> Optional[float]:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
