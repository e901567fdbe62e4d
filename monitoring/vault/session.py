"""Acquire: our login at the vault: a token, renewed before it ends.

Protocol: FACTS.md section 1.
"""

from __future__ import annotations

import base64
import binascii
import threading
from typing import Any, Callable, Mapping, Optional, Tuple
from urllib.parse import quote, unquote

from monitoring.http_client import Reply
from monitoring.model import Fault
from monitoring.redact import strict_json
from monitoring.settings import ConjurSettings, Secret
from monitoring.vault.faults import ConjurFault, read_object, reason_of, refused, status_of
from monitoring.vault.health import at, number, word

TOKEN_LIFE = 480.0
LONGEST_LIFE = 5 * 3600.0
RENEW_AT = 0.75
_KEY_CURE = "check CONJUR_AUTHN_LOGIN, CONJUR_AUTHN_API_KEY and CONJUR_ACCOUNT"
_JWT_CURE = (
    "check that the JWT has not ended, its issuer, audience and claims, the annotations of our "
    "host, CONJUR_JWT_SERVICE_ID and CONJUR_ACCOUNT"
)


class Session:
    """The identity of the settings. `request(step, path, **how)` asks the vault and raises
    ConjurFault, as every method does. Safe to share by threads."""

    def __init__(
        self,
        request: Callable[..., Reply],
        settings: ConjurSettings,
        clock: Callable[[], float],
    ) -> None:
        self._request = request
        self._settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._header = ""
        self._renew_at = 0.0
        #: Of the last login: whom the vault takes us for (`host/monitoring`, "": not known), and
        #: (the vault's clock, ours) when it gave us the token; it sends no Date header.
        self.role = ""
        self.clocks: Optional[Tuple[float, float]] = None

    @property
    def possible(self) -> bool:
        """Whether there is anything to log in with."""
        settings = self._settings
        return bool((settings.login and settings.api_key) or settings.jwt_file)

    def header(self) -> str:
        """The value of Authorization, of a token that lives on for a while."""
        with self._lock:
            if not self._header or self._clock() >= self._renew_at:
                self.renew()
            return self._header

    def renew(self) -> None:
        """Log in anew, whatever token is held. auth: refused; config: nothing to log in with, or
        a file that cannot be read."""
        with self._lock:
            self._header, self._renew_at = "", 0.0
            reply = self._login()
            if reply.status in (400, 401):
                raise ConjurFault(Fault("auth", self._refusal(reply)), reply)
            if reply.status != 200:
                raise refused(reply)
            token = read_object(reply)
            if "payload" not in token:
                text = f"{reply.url} answered our login with JSON that is no token of a vault"
                raise ConjurFault(Fault("body", text), reply)
            claims = _claims(token)
            self.role, self.clocks = word(at(claims, "sub")), self._clocks(claims)
            self._header = f'Token token="{base64.b64encode(reply.body).decode()}"'
            self._renew_at = self._clock() + RENEW_AT * _life(claims)

    def _clocks(self, claims: Any) -> Optional[Tuple[float, float]]:
        issued = number(at(claims, "iat"))
        return None if issued is None else (issued, self._clock())

    def _refusal(self, reply: Reply) -> str:
        """What was refused and what to look at: whoever logs in with a JWT has no API key."""
        reason = reason_of(reply) or "its own log has the reason"
        if self._settings.jwt_file:
            what, look = "the JWT of CONJUR_JWT_FILE", _JWT_CURE
        else:
            what, look = "our login", _KEY_CURE
        return f"the vault at {reply.url} refused {what} ({status_of(reply)}): {reason}; {look}"

    def _login(self) -> Reply:
        settings = self._settings
        account, login = quoted(settings.account), quoted(settings.login)
        if settings.jwt_file:
            jwt = {"jwt": self._read(Secret(path=settings.jwt_file).reveal)}
            who = f"/{login}" if login else ""
            service = quoted(settings.jwt_service_id)
            if not service:
                raise ConjurFault(Fault("config", "a JWT file needs jwt_service_id beside it"))
            path = f"/authn-jwt/{service}/{account}{who}/authenticate"
            return self._request("authenticate", path, data=jwt)
        if not self.possible:
            raise ConjurFault(Fault("config", "no login and API key for the vault are configured"))
        key = self._read(settings.api_key.reveal).encode()
        headers = {"Content-Type": "text/plain"}
        path = f"/authn/{account}/{login}/authenticate"
        return self._request("authenticate", path, data=key, headers=headers)

    def _read(self, read: Callable[[], str]) -> str:
        try:
            return read()
        except (OSError, ValueError):
            text = "the file with our identity for the vault cannot be read"
            raise ConjurFault(Fault("config", text)) from None


def quoted(text: str) -> str:
    """For a path: every slash encoded, also where the user had done that already."""
    return quote(unquote(text), safe="")


def _claims(token: Mapping[str, Any]) -> Any:
    """What the token's payload says; None where it cannot be read."""
    try:
        packed = str(token["payload"])[:8192]
        return strict_json(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (KeyError, ValueError, RecursionError, binascii.Error):
        return None


def _life(claims: Any) -> float:
    """Seconds from `iat` to `exp`; counted from when we got it, so that clocks need not agree."""
    issued, expires = number(at(claims, "iat")), number(at(claims, "exp"))
    if issued is None or expires is None or expires <= issued:
        return TOKEN_LIFE
    return min(expires - issued, LONGEST_LIFE)
