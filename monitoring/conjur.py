"""Acquire: CyberArk Conjur, OSS and Enterprise: its health and the metadata of its variables.

Never reads a value: the client has no call for it. Protocol: FACTS.md section 1.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional
from urllib.parse import quote, unquote, urlencode

from monitoring.http_client import HttpClient, HttpFault, Reply
from monitoring.model import Fault
from monitoring.settings import ConjurSettings, Secret
from monitoring.vault.faults import ConjurFault, read_json, read_object, refused
from monitoring.vault.health import ConjurHealth, at, number, read_enterprise, word
from monitoring.vault.variables import Variable, read_variable

__all__ = ["ConjurClient", "ConjurFault", "ConjurHealth", "Variable"]

PAGE = 1000  # more is refused with 422, and an unpaged list is silently cut to this
PAGE_BYTES = 32 << 20
TOKEN_LIFE = 480.0
LONGEST_LIFE = 5 * 3600.0
REFRESH_AT = 0.75


class ConjurClient:
    """One vault. `clock` gives epoch seconds. Safe to share by threads. `steps` holds the seconds
    of the last request of each name (health, info, authenticators, authenticate, count, list,
    whoami, check, roles). Every method raises ConjurFault."""

    def __init__(
        self, http: HttpClient, settings: ConjurSettings, clock: Callable[[], float]
    ) -> None:
        self._http = http
        self._settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._header = ""
        self._refresh_at = 0.0
        self._page_size = PAGE
        self.steps: Dict[str, float] = {}

    @property
    def has_credentials(self) -> bool:
        """Whether there is anything to authenticate with."""
        settings = self._settings
        return bool((settings.login and settings.api_key) or settings.jwt_file)

    def health(self) -> ConjurHealth:
        """What the vault says of itself, without credentials. OSS has no /health: it answers 401,
        and /authenticators (which reads its database) stands in."""
        reply = self._get("health", "/health")
        if reply.status in (401, 404):
            return self._health_oss()
        if reply.status not in (200, 502, 503):
            raise refused(reply)
        try:
            body = read_object(reply)
        except ConjurFault:
            if reply.status != 200:  # an error page of a proxy says less than its status
                raise refused(reply) from None
            raise
        return self._with_info(read_enterprise(body, reply))

    def authenticate(self) -> None:
        """Log in anew, whatever token is held. auth: refused; config: nothing to log in with, or
        a file that cannot be read."""
        with self._lock:
            self._header, self._refresh_at = "", 0.0
            reply = self._login()
            if reply.status == 401:
                text = f"the vault at {reply.url} refused our login (401): login, key or account"
                raise ConjurFault(Fault("auth", text), reply)
            if reply.status != 200:
                raise refused(reply)
            life = _token_life(read_object(reply))
            self._header = f'Token token="{base64.b64encode(reply.body).decode()}"'
            self._refresh_at = self._clock() + REFRESH_AT * life

    def whoami(self) -> Dict[str, str]:
        """account, username, client_ip, token_issued_at. Each call leaves an audit record."""
        body = read_object(self._ask("whoami", "/whoami"))
        return {name: word(value) for name, value in body.items() if isinstance(value, str)}

    def count(self) -> int:
        """Number of variables our identity can see."""
        total = number(
            at(read_object(self._ask("count", self._resources(), count="true")), "count")
        )
        if total is None:
            raise ConjurFault(Fault("body", "the vault did not say how many variables there are"))
        return int(total)

    def variables(self, prefix: str = "") -> List[Variable]:
        """Metadata of every visible variable whose id begins with `prefix`, ordered by id.

        All pages are read and held against the vault's own count: a shorter list is a ConjurFault
        (body), never a quiet loss."""
        total = self.count()
        found = self._pages(total)
        if len(found) < total and len(found) < self.count():  # not just deleted meanwhile
            text = f"the vault listed {len(found)} of {total} variables"
            raise ConjurFault(Fault("body", text))
        return [found[name] for name in sorted(found) if name.startswith(prefix)]

    def may(self, variable_id: str, privilege: str) -> bool:
        """Whether our identity holds `privilege` (read, execute, update) on the variable."""
        reply = self._send("check", self._resources(variable_id), check="true", privilege=privilege)
        if reply.status in (403, 404):
            return False
        if reply.status not in (200, 204):
            raise refused(reply)
        return True

    def readers(self, variable_id: str, privilege: str = "execute") -> List[str]:
        """Full ids of the roles that hold `privilege` on the variable."""
        path = self._resources(variable_id)
        body = read_json(self._ask("roles", path, permitted_roles="true", privilege=privilege))
        if not isinstance(body, list):
            raise ConjurFault(Fault("body", "the vault's list of roles is no list"))
        return [word(role) for role in body if isinstance(role, str)]

    def _pages(self, total: int) -> Dict[str, Variable]:
        found: Dict[str, Variable] = {}
        offset = 0
        while offset < total:
            entries = self._page(offset)
            if not entries:
                break
            offset += len(entries)
            for entry in entries:
                variable = self._variable(entry)
                found[variable.id] = variable
        return found

    def _page(self, offset: int) -> List[Any]:
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

    def _variable(self, entry: Any) -> Variable:
        try:
            return read_variable(entry, self._settings.variable_template)
        except ValueError as error:
            raise ConjurFault(Fault("body", f"the vault listed {error}")) from None

    def _health_oss(self) -> ConjurHealth:
        reply = self._get("authenticators", "/authenticators")
        body = read_object(reply) if reply.status == 200 else {}
        if not isinstance(body.get("installed"), list):
            raise refused(reply)
        return ConjurHealth("oss", True, version=self._version(), steps=self._took(), reply=reply)

    def _version(self) -> str:
        """The version OSS names to those who ask for JSON; "" where it does not."""
        try:
            body = read_json(self._get("root", "/", headers={"Accept": "application/json"}))
        except ConjurFault:  # adds a detail; the vault was judged by what came before
            return ""
        return word(at(body, "version"))

    def _took(self) -> Dict[str, float]:
        names = ("health", "info", "authenticators")
        return {name: self.steps[name] for name in names if name in self.steps}

    def _with_info(self, found: ConjurHealth) -> ConjurHealth:
        """Version and role from /info; a page that only adds, so its faults only add a word."""
        try:
            body = read_object(self._get("info", "/info"))
        except ConjurFault as error:
            said = f"/info: {error.fault.message}"
            return replace(found, messages=(*found.messages, said), steps=self._took())
        version = word(body.get("release")) or word(body.get("version"))
        role = found.role or word(body.get("role"))
        return replace(found, version=version, role=role, steps=self._took())

    def _login(self) -> Reply:
        settings = self._settings
        account, login = _quoted(settings.account), _quoted(settings.login)
        if settings.jwt_file:
            jwt = {"jwt": self._read(Secret(path=settings.jwt_file).reveal)}
            who = f"/{login}" if login else ""
            service = _quoted(settings.jwt_service_id)
            if not service:
                raise ConjurFault(Fault("config", "a JWT file needs jwt_service_id beside it"))
            path = f"/authn-jwt/{service}/{account}{who}/authenticate"
            return self._request("authenticate", path, data=jwt)
        if not self.has_credentials:
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

    def _resources(self, variable_id: str = "") -> str:
        path = f"/resources/{_quoted(self._settings.account)}/variable"
        return f"{path}/{_quoted(variable_id)}" if variable_id else path

    def _ask(self, step: str, path: str, **query: str) -> Reply:
        """A Reply of status 200, or ConjurFault."""
        reply = self._send(step, path, **query)
        if reply.status != 200:
            raise refused(reply)
        return reply

    def _send(self, step: str, path: str, **query: str) -> Reply:
        """With our token, of any status; a 401 is met with one new login."""
        path = f"{path}?{urlencode(query)}" if query else path
        reply = self._get(step, path, headers={"Authorization": self._token()})
        if reply.status == 401:
            self.authenticate()
            reply = self._get(step, path, headers={"Authorization": self._token()})
        return reply

    def _token(self) -> str:
        with self._lock:
            if not self._header or self._clock() >= self._refresh_at:
                self.authenticate()
            return self._header

    def _get(self, step: str, path: str, headers: Optional[Mapping[str, str]] = None) -> Reply:
        return self._request(step, path, headers=headers or {})

    def _request(self, step: str, path: str, **how: Any) -> Reply:
        url = self._settings.url.rstrip("/") + path
        timeout = self._settings.timeout
        try:
            if "data" in how:
                reply = self._http.post(url, timeout=timeout, **how)
            else:
                reply = self._http.get(url, timeout=timeout, max_bytes=PAGE_BYTES, **how)
        except HttpFault as error:
            raise ConjurFault(error.fault, error.reply) from None
        self.steps[step] = reply.seconds
        return reply


def _quoted(text: str) -> str:
    """For a path: every slash encoded, also where the user had done that already."""
    return quote(unquote(text), safe="")


def _token_life(token: Mapping[str, Any]) -> float:
    """Seconds from `iat` to `exp`; counted from when we got it, so that clocks need not agree."""
    try:
        packed = str(token["payload"])[:8192]
        claims = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (KeyError, ValueError, RecursionError, binascii.Error):
        claims = None
    issued, expires = number(at(claims, "iat")), number(at(claims, "exp"))
    if issued is None or expires is None or expires <= issued:
        return TOKEN_LIFE
    return min(expires - issued, LONGEST_LIFE)
