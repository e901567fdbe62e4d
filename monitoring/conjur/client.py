"""Acquire: CyberArk Conjur, OSS and Enterprise: its health and the metadata of its variables.

Never reads a value: the client has no call for it. Protocol: docs/protocols.md.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, NamedTuple, Optional
from urllib.parse import quote, unquote, urlencode

from monitoring.config.secret import Secret
from monitoring.config.settings import ConjurSettings
from monitoring.conjur.answers import (
    ConjurFault,
    ConjurHealth,
    Variable,
    at,
    database_down,
    identifier,
    number,
    read_enterprise,
    read_json,
    read_object,
    read_variable,
    reason_of,
    refused,
    status_of,
    word,
)
from monitoring.http.client import HttpClient, HttpFault, Reply
from monitoring.model import Fault
from monitoring.text import strict_json

# -- our login at the vault: a token, renewed before it ends.

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
        self.clocks: Optional[tuple[float, float]] = None

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
            self.role, self.clocks = identifier(at(claims, "sub")), self._clocks(claims)
            self._header = f'Token token="{base64.b64encode(reply.body).decode()}"'
            self._renew_at = self._clock() + RENEW_AT * _life(claims)

    def _clocks(self, claims: Any) -> Optional[tuple[float, float]]:
        issued = number(at(claims, "iat"))
        return None if issued is None else (issued, self._clock())

    def _refusal(self, reply: Reply) -> str:
        """What was refused and what to look at: whoever logs in with a JWT has no API key."""
        reason = reason_of(reply) or "its own log has the reason"
        if self._settings.jwt_file:
            what, look = "the JWT of CONJUR_JWT_FILE", _JWT_CURE
        else:
            what, look = "our login", _KEY_CURE
        where = f"{reply.url}, {status_of(reply)}"
        return f"the vault refused {what} ({where}): {reason}; {look}"

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


__all__ = ["ConjurClient", "ConjurFault", "ConjurHealth", "Variable"]

PAGE = 1000  # more is refused with 422, and an unpaged list is silently cut to this
PAGE_BYTES = 32 << 20
MOST_VARIABLES = 200_000
#: When its database comes back, the vault answers 500 once for each connection of its pool that
#: it lost: ask so often again, as long as the refusal comes at once (seconds).
STALE_CONNECTIONS = 4
_QUICKLY = 0.5


class Listing(NamedTuple):
    """`unreadable`: entries of the vault's list that are no variables. `remark`: why the list
    could not be held against the vault's own count; "": it was."""

    variables: list[Variable]
    unreadable: int = 0
    remark: str = ""


class ConjurClient:
    """One vault. `clock` gives epoch seconds. Safe to share by threads. `steps` holds the seconds
    of the last request of each name (health, info, authenticators, authenticate, count, list,
    roles). Every method raises ConjurFault."""

    def __init__(
        self, http: HttpClient, settings: ConjurSettings, clock: Callable[[], float]
    ) -> None:
        self._http = http
        self._settings, self._clock = settings, clock
        self._session = Session(self._request, settings, clock)
        self._page_size = PAGE
        self.steps: dict[str, float] = {}

    @property
    def has_credentials(self) -> bool:
        """Whether there is anything to authenticate with."""
        return self._session.possible

    def authenticate(self) -> None:
        """Log in anew, whatever token is held. auth: refused; config: nothing to log in with, or
        a file that cannot be read."""
        self._session.renew()

    def health(self) -> ConjurHealth:
        """What the vault says of itself, without credentials. OSS has no /health: it answers 401,
        and /authenticators (which reads its database) stands in."""
        reply = self._get("health", "/health")
        if reply.status in (401, 404):
            return self._health_oss()
        if reply.status not in (200, 502, 503):
            raise refused(reply, public=True)
        try:
            body = read_object(reply)
        except ConjurFault:
            if reply.status != 200:  # an error page of a proxy says less than its status
                raise refused(reply, public=True) from None
            return self._health_behind(reply)
        return self._with_info(read_enterprise(body, reply, self._clock()))

    @property
    def own_role(self) -> str:
        """The full id of our identity as the vault's token names it, such as
        `payment-system:host:monitoring`; "" before the first login."""
        kind, slash, name = self._session.role.partition("/")
        role = f"{kind}:{name}" if slash else f"user:{kind}"
        return f"{self._settings.account}:{role}" if kind else ""

    @property
    def clocks(self) -> Optional[tuple[float, float]]:
        """(the vault's clock, ours) at the last login, by the `iat` of the token that it gave."""
        return self._session.clocks

    def count(self) -> int:
        """Number of variables our identity can see."""
        reply = self._ask("count", self._resources(), count="true")
        total = number(at(read_object(reply), "count"))
        if total is None:
            text = "the vault did not say how many variables there are"
            raise ConjurFault(Fault("body", text), reply)
        return int(total)

    def variables(self, prefix: str = "") -> Listing:
        """Metadata of every visible variable whose id begins with `prefix`, ordered by id.

        All pages are read and held against the vault's own count: a shorter list is a ConjurFault
        (body), never a quiet loss. One entry that is no variable does not cost the others, and a
        count that is refused costs itself alone."""
        total, remark = self._counted()
        found, unreadable = self._pages(total)
        seen = len(found) + unreadable
        if total is not None and seen < min(total, self._counted()[0] or 0):  # not just deleted
            raise ConjurFault(Fault("body", f"the vault listed {seen} of {total} variables"))
        if unreadable and not found:
            raise ConjurFault(Fault("body", "the vault listed nothing that is a variable"))
        names = [name for name in sorted(found) if name.startswith(prefix)]
        return Listing([found[name] for name in names], unreadable, remark)

    def _counted(self) -> tuple[Optional[int], str]:
        """The vault's own count, or why it has none. Raises ConjurFault where nothing answered,
        or where we are not let in: the list would fare no better."""
        try:
            return self.count(), ""
        except ConjurFault as error:
            if error.reply is None or error.fault.kind == "auth":
                raise
            return None, f"the list could not be held against a count: {error.fault.message}"

    def holders(self, variable_id: str, privilege: str = "execute") -> list[str]:
        """Full ids of the roles that hold `privilege` on the variable: by name, as members of a
        group, as owners; ours too, if we do. Unlike `check`, the question is not audited."""
        path = self._resources(variable_id)
        reply = self._send("roles", path, permitted_roles="true", privilege=privilege)
        if reply.status != 200:
            raise refused(reply, aside=True)
        body = read_json(reply)
        if not isinstance(body, list) or not all(isinstance(role, str) for role in body):
            raise ConjurFault(Fault("body", "the vault's list of roles is no list of ids"), reply)
        return [identifier(role) for role in body]

    def _pages(self, total: Optional[int]) -> tuple[dict[str, Variable], int]:
        """Variables by id, and the number of entries that are none. Ends at a page that brings
        nothing new, whatever the vault says is still to come."""
        found: dict[str, Variable] = {}
        offset = unreadable = 0
        while offset < min(MOST_VARIABLES if total is None else total, MOST_VARIABLES):
            entries = self._page(offset)
            before = len(found)
            read = [v for v in map(self._variable, entries) if v is not None]
            found.update((variable.id, variable) for variable in read)
            unreadable += len(entries) - len(read)
            if len(found) == before:
                break
            offset += len(entries)
        return found, unreadable

    def _page(self, offset: int) -> list[Any]:
        """One page; where the server's limit is set lower than usual, smaller ones from then on."""
        query = {"limit": str(self._page_size), "offset": str(offset)}
        reply = self._send("list", self._resources(), **query)
        if reply.status == 422 and self._page_size > 10:
            self._page_size //= 10
            return self._page(offset)
        if reply.status != 200:
            raise refused(reply)
        entries = read_json(reply)
        if not isinstance(entries, list):
            raise ConjurFault(Fault("body", "the vault's list of variables is no list"), reply)
        return entries

    def _variable(self, entry: Any) -> Optional[Variable]:
        try:
            return read_variable(entry, self._settings.variable_template)
        except ValueError:
            return None

    def _health_oss(self) -> ConjurHealth:
        reply = self._get("authenticators", "/authenticators")
        body = read_object(reply) if reply.status == 200 else {}
        if reply.status != 200:
            raise refused(reply, public=True)
        if not isinstance(body.get("installed"), list):
            text = f"{reply.url} answers /authenticators with something else than a vault's list"
            raise ConjurFault(Fault("body", text), reply)
        return ConjurHealth("oss", True, version=self._version(), steps=self._took(), reply=reply)

    def _health_behind(self, reply: Reply) -> ConjurHealth:
        """Where a load balancer answers /health itself, mostly with a word of text: it does not
        speak for the vault, so the vault is asked what it answers everybody."""
        try:
            found = self._health_oss()
        except ConjurFault as error:
            text = (
                f"{reply.url} answers /health, but not as a vault does (a load balancer?), and "
                f"nothing else tells: {error.fault.message}"
            )
            raise ConjurFault(Fault("body", text), error.reply) from None
        said = "something before the vault answers /health, so only its database was tried"
        return replace(found, edition="unknown", remarks=(said,))

    def _version(self) -> str:
        """The version OSS names to those who ask for JSON; "" where it does not."""
        try:
            body = read_json(self._get("root", "/", headers={"Accept": "application/json"}))
        except ConjurFault:  # adds a detail; the vault was judged by what came before
            return ""
        return word(at(body, "version"))

    def _took(self) -> dict[str, float]:
        names = ("health", "info", "authenticators")
        return {name: self.steps[name] for name in names if name in self.steps}

    def _with_info(self, found: ConjurHealth) -> ConjurHealth:
        """Version and role from /info; a page that only adds, so its faults only add a word."""
        try:
            body = read_object(self._get("info", "/info"))
        except ConjurFault as error:
            said = f"/info: {error.fault.message}"
            return replace(found, remarks=(*found.remarks, said), steps=self._took())
        version = word(body.get("release")) or word(body.get("version"))
        role = found.role or word(body.get("role"))
        return replace(found, version=version, role=role, steps=self._took())

    def _resources(self, variable_id: str = "") -> str:
        path = f"/resources/{quoted(self._settings.account)}/variable"
        return f"{path}/{quoted(variable_id)}" if variable_id else path

    def _ask(self, step: str, path: str, **query: str) -> Reply:
        """A Reply of status 200, or ConjurFault."""
        reply = self._send(step, path, **query)
        if reply.status != 200:
            raise refused(reply)
        return reply

    def _send(self, step: str, path: str, **query: str) -> Reply:
        """With our token, of any status; a 401 is met with one new login. So is a 403 to a list:
        what one may not see is left out of it, so it means that our host is gone."""
        path = f"{path}?{urlencode(query)}" if query else path
        reply = self._authorized(step, path)
        if reply.status == 401 or (reply.status == 403 and step in ("count", "list")):
            self._session.renew()
            reply = self._authorized(step, path)
        return reply

    def _authorized(self, step: str, path: str) -> Reply:
        headers = {"Authorization": self._session.header()}
        return self._request(step, path, headers=headers, max_bytes=PAGE_BYTES)

    def _get(self, step: str, path: str, headers: Optional[Mapping[str, str]] = None) -> Reply:
        return self._request(step, path, headers=headers or {})

    def _request(self, step: str, path: str, **how: Any) -> Reply:
        url = self._settings.url.rstrip("/") + path
        reply = self._exchange(url, how)
        for _ in range(STALE_CONNECTIONS):
            if not database_down(reply) or reply.seconds > _QUICKLY:
                break
            reply = self._exchange(url, how)
        self.steps[step] = reply.seconds
        return reply

    def _exchange(self, url: str, how: Mapping[str, Any]) -> Reply:
        ask = self._http.post if "data" in how else self._http.get
        try:
            return ask(url, timeout=self._settings.timeout, **how)
        except HttpFault as error:
            raise ConjurFault(error.fault, error.reply) from None
