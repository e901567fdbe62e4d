"""Conjur: the vault over HTTP, as Conjur OSS 1.24 or the Enterprise appliance answers.

Three layers speak, and each has its own headers: the router (no such route, or it broke: 404 and
500 with no body), the authenticator before the application (401 in plain text), and the
application. None sends Date or Server; the appliance has nginx before it, which does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from sandbox.clock import iso_time
from sandbox.conjur_health import authenticators, health, info
from sandbox.vault import Variable, Vault, Version
from sandbox.web import Answer, Request, Route, WebServer, text_answer

MAX_LIMIT = 1000
OFFSET_ALONE_LIMIT = 10
FLAVOURS = ("oss", "enterprise")
OVERPRIVILEGED = "conjur-overprivileged"
STALE = "conjur-follower-stale"
KINDS = ("variable", "host", "group", "user", "policy", "webservice", "layer")
JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_WORDS = re.compile(r"[\w-]+")
_EVERYWHERE = {"X-Runtime": "0.004211"}
_APPLICATION = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "X-Download-Options": "noopen",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
_KEPT = "max-age=0, private, must-revalidate"


class RefusedError(Exception):
    """A request ends here with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True)
class AuditRecord:
    """One line of Conjur's audit log, as far as it matters here."""

    severity: str
    role: str
    text: str


def _headers(**more: str) -> dict[str, str]:
    own = {name.replace("_", "-"): value for name, value in more.items()}
    return {**own, "X-Request-Id": str(uuid.uuid4()), **_EVERYWHERE}


def _router(status: int, content_type: str = _HTML, body: bytes = b"") -> Answer:
    return Answer(status, body, content_type, _headers())


def _unauthorized(text: str) -> RefusedError:
    return RefusedError(
        Answer(401, text.encode(), "text/plain", _headers(Cache_Control="no-cache"))
    )


def _application(
    status: int, body: bytes = b"", content_type: str = "text/html", **more: str
) -> Answer:
    """What a controller answers; a good answer with a body is one that a cache may ask about."""
    kept = {"ETag": f'W/"{hashlib.md5(body).hexdigest()}"', "Cache-Control": _KEPT}
    cache = kept if status < 300 and body else {"Cache-Control": "no-cache"}
    return Answer(status, body, content_type, {**_APPLICATION, **cache, **_headers(**more)})


def _json(value: Any, status: int = 200, **more: str) -> Answer:
    return _application(status, json.dumps(value, separators=(",", ":")).encode(), JSON, **more)


def _error(code: str, message: str, status: int) -> RefusedError:
    return RefusedError(_json({"error": {"code": code, "message": message}}, status))


class ConjurServer(WebServer):
    """One Conjur node. `jwt_logins` maps a JWT's `sub` to the login it authenticates; `audit` is
    what it wrote into its audit log; `list_limit` is `api_resource_list_limit_max`."""

    name = "conjur"

    def __init__(self, vault: Vault, *, flavour: str = "oss", role: str = "master", **options: Any):
        if flavour not in FLAVOURS:
            raise ValueError(f"{flavour!r} is no flavour of Conjur: {', '.join(FLAVOURS)}")
        self.vault = vault
        self.flavour = flavour
        self.role = role
        self.says_date = flavour == "enterprise"  # the appliance's nginx does
        self.jwt_logins: dict[str, str] = {}
        self.authentications = 0
        self.list_limit = MAX_LIMIT
        self.audit: deque[AuditRecord] = deque(maxlen=2000)
        self._frozen: Optional[dict[str, int]] = None
        super().__init__(**options)
        self.faults.listen(STALE, self._on_stale)

    def routes(self) -> list[Route]:
        """Authentication, metadata, secrets, and the pages that need no token."""
        jwt = "POST /authn-jwt/{service}/{account}"
        return [
            Route("GET /", self._root),
            Route("GET /authenticators", self._authenticators),
            Route("HEAD /authenticators", self._authenticators),
            Route("OPTIONS /authenticators", lambda _request: _router(404)),
            Route("GET /health", self._health),
            Route("GET /info", self._info),
            Route("GET /whoami", self._whoami),
            Route("POST /authn/{account}/{login}/authenticate", self._authenticate),
            Route("POST /authn/{account}/{login}/authenticate/", self._authenticate),
            Route("POST /authn/{account}/{kind}/{login}/authenticate", self._no_login),
            Route("GET /authn/{account}/{login}/authenticate", lambda _request: _router(404)),
            Route(f"{jwt}/authenticate", self._authenticate_jwt),
            Route(f"{jwt}/{{login}}/authenticate", self._authenticate_jwt),
            Route("GET /roles/{account}/{kind}/{*id}", self._roles),
            Route("GET /resources/{account}/{kind}", self._list),
            Route("GET /resources/{account}/{kind}/", self._list),
            Route("GET /resources/{account}/{kind}/{*id}", self._show),
            Route("GET /secrets", self._batch),
            Route("GET /secrets/{account}/{kind}/{*id}", self._secret),
            Route("POST /secrets/{account}/{kind}/{*id}", self._store),
        ]

    def missing(self, request: Request) -> Answer:
        """Unknown paths ask for a token first, so that OSS answers /health with 401, not 404."""
        self._login(request)
        return _router(404)

    def _answer(self, request: Request) -> tuple[str, Answer]:
        if self.faults.on("conjur-502"):
            return "FAULT", text_answer("<html>502 Bad Gateway</html>", 502, "text/html")
        try:
            return super()._answer(request)
        except RefusedError as refused:
            return "REFUSED", refused.answer

    def _note(self, severity: str, role: str, text: str) -> None:
        self.audit.append(AuditRecord(severity, role, text))

    def _need_database(self, request: Request, *, writes: bool = False) -> None:
        """Everything but the refusal of those who bring no token reads the database."""
        readonly = writes and self.faults.on("conjur-database-readonly")
        if not self.faults.on("conjur-database-down") and not readonly:
            return
        if request.path == "/" and "json" in self._header(request, "accept"):
            body = b'{"status":500,"error":"Internal Server Error"}'
            raise RefusedError(_router(500, JSON, body))
        raise RefusedError(_router(500))

    def _on_stale(self, _name: str, value: Optional[str]) -> None:
        self._frozen = None if value is None else self.vault.newest()

    def _describe(self, variable: Variable) -> dict[str, Any]:
        newest = None if self._frozen is None else self._frozen.get(variable.name, 0)
        return self.vault.describe(variable, newest=newest)

    # -- pages for everybody

    def _root(self, request: Request) -> Answer:
        self._need_database(request)
        accept = self._header(request, "accept")
        vary = {"Vary": "Accept"} if accept else {}
        if "json" in accept:
            return _json({"version": "1.24.0-1234"}, **vary)
        return _application(200, b"<html><title>Conjur Status</title></html>", _HTML, **vary)

    def _authenticators(self, request: Request) -> Answer:
        self._need_database(request)
        return _json(authenticators())

    def _health(self, request: Request) -> Answer:
        if self.flavour == "oss":
            return self.missing(request)
        stale = self.faults.on(STALE)
        degraded = self.faults.on("conjur-degraded")
        role = "follower" if stale else self.role
        body = health(role, now=self.now(), degraded=degraded, stale=stale)
        if self.faults.on("conjur-database-down"):
            body = {**body, "ok": False, "database": {"ok": False, "connect": {"main": "error"}}}
        return _json(body, 200 if body["ok"] else 502)

    def _info(self, request: Request) -> Answer:
        if self.flavour == "oss":
            return self.missing(request)
        role = "follower" if self.faults.on(STALE) else self.role
        return _json(info(role, self.vault.account))

    @staticmethod
    def _header(request: Request, name: str) -> str:
        wanted = name.lower()
        return next((v for k, v in request.headers.items() if k.lower() == wanted), "")

    # -- who asks

    def _authenticate(self, request: Request) -> Answer:
        self._need_database(request)
        login, key = request.params["login"], request.body.decode("utf-8", "replace")
        known = request.params["account"] == self.vault.account
        if not known or not key or self.vault.api_keys.get(login) != key:
            return self._no_login(request)
        return self._grant(request, login)

    def _no_login(self, request: Request) -> Answer:
        self._need_database(request)
        self._note("WARN", request.params.get("login", ""), "failed to authenticate")
        return _application(401)

    def _authenticate_jwt(self, request: Request) -> Answer:
        self._need_database(request)
        text = request.body.decode("utf-8", "replace")
        if not text.startswith("jwt="):
            return _application(400)
        claims = _claims(text[4:])
        login = self.jwt_logins.get(str(claims.get("sub", "")))
        wanted = request.params.get("login", login)
        if login is None or wanted != login or request.params["account"] != self.vault.account:
            return self._no_login(request)
        ends = claims.get("exp")
        if isinstance(ends, (int, float)) and ends <= self.now():
            raise _error("unauthorized", "CONJ00016E Token expired", 401)
        return self._grant(request, login)

    def _grant(self, request: Request, login: str) -> Answer:
        if self.faults.any_on("conjur-unauthorized", "conjur-wrong-data-key"):
            return self._no_login(request)
        self.authentications += 1
        self._note("INFO", Vault.role(login), "successfully authenticated")
        token = json.dumps(self.vault.issue(login)).encode()
        if self._header(request, "accept-encoding") == "base64":
            body = base64.b64encode(token)
            return _application(200, body, "text/plain; charset=utf-8", Content_Encoding="base64")
        return _application(200, token, JSON)

    def _login(self, request: Request) -> tuple[str, int]:
        found = re.fullmatch(r'Token token="(.*)"', self._header(request, "authorization"))
        if found is None:
            raise _unauthorized("Authorization missing")
        try:
            text = found.group(1).replace("-", "+").replace("_", "/")
            token = json.loads(base64.b64decode(text, validate=True))
        except (ValueError, binascii.Error):
            raise _unauthorized("Malformed authorization token") from None
        self._need_database(request)
        if not isinstance(token, dict):
            raise RefusedError(_router(500))
        login = self.vault.login_of(token)
        if login is None or self.faults.any_on("conjur-unauthorized", "conjur-wrong-data-key"):
            raise _unauthorized("Unauthorized: Invalid token")
        return login

    def _reader(self, request: Request) -> str:
        """The role that asks; one that was deleted meanwhile is nobody, whatever its token."""
        login = self._login(request)[0]
        if self.faults.on("conjur-forbidden") or login not in self.vault.api_keys:
            raise RefusedError(_application(403))
        return Vault.role(login)

    def _whoami(self, request: Request) -> Answer:
        login, issued_at = self._login(request)
        self._note("INFO", Vault.role(login), "checked its identity")
        said = {
            "client_ip": self._header(request, "x-forwarded-for") or "127.0.0.1",
            "user_agent": self._header(request, "user-agent"),
            "account": self.vault.account,
            "username": login,
            "token_issued_at": iso_time(issued_at),
        }
        return _json(said)

    # -- metadata

    def _visible(self, role: str, request: Request) -> list[Variable]:
        """What one may not see is left out, whatever the reason."""
        here = request.params["account"] == self.vault.account
        if not here or request.params["kind"] != "variable":
            return []
        return [] if self.faults.on("conjur-sees-nothing") else self.vault.visible(role)

    def _list(self, request: Request) -> Answer:
        role = self._reader(request)
        if request.params["kind"] not in KINDS:
            return _router(404)
        self._check_filters(role, request.query)
        found = self._visible(role, request)
        words = set(_WORDS.findall(request.query.get("search", "").lower()))
        found = [v for v in found if words <= set(_WORDS.findall(v.name.lower()))]
        counting = request.query.get("count") == "true"
        page = _page(found, request.query, self.list_limit if not counting else len(found))
        return _json({"count": len(page)} if counting else [self._describe(v) for v in page])

    def _check_filters(self, role: str, query: Mapping[str, str]) -> None:
        owner, acting = query.get("owner"), query.get("role")
        if owner is not None and ":" not in owner:
            raise _error("argument_error", f"Expected at least 2 tokens in {owner}", 422)
        wanted = acting.partition(":")[2] if acting else role
        if role not in self.vault.acting_as({wanted}):
            raise RefusedError(_application(403))

    def _roles(self, request: Request) -> Answer:
        self._reader(request)
        raise RefusedError(self._not_found(request.params))

    def _variable(self, request: Request, role: str) -> Variable:
        found = [v for v in self._visible(role, request) if v.name == request.params["id"]]
        if not found:
            raise RefusedError(self._not_found(request.params))
        return found[0]

    def _not_found(self, params: Mapping[str, str]) -> Answer:
        account, kind, name = params["account"], params["kind"], params["id"]
        error = {
            "code": "not_found",
            "message": f"{kind.capitalize()} '{name}' not found in account '{account}'",
            "target": kind,
            "details": {
                "code": "not_found",
                "target": "id",
                "message": f"{account}:{kind}:{name}",
            },
        }
        return _json({"error": error}, 404)

    def _holds(self, role: str, variable: Variable, privilege: str) -> bool:
        if privilege == "execute" and self.faults.on(OVERPRIVILEGED):
            return True
        return privilege in self.vault.privileges(role, variable)

    def _show(self, request: Request) -> Answer:
        role, query = self._reader(request), request.query
        asks = [name for name in ("check", "permitted_roles") if query.get(name) == "true"]
        if asks and "privilege" not in query:
            raise _error("argument_error", "privilege", 422)
        variable = self._variable(request, role)
        if asks == ["check"]:
            return self._check(role, variable, query["privilege"])
        if asks:
            return self._permitted(role, variable, query["privilege"])
        return _json(self._describe(variable))

    def _check(self, role: str, variable: Variable, privilege: str) -> Answer:
        if self._holds(role, variable, privilege):
            self._note("INFO", role, f"checked if they can {privilege} {variable.name}")
            return _application(204)
        self._note("WARN", role, f"failed to check if they can {privilege} {variable.name}")
        return _application(404)

    def _permitted(self, role: str, variable: Variable, privilege: str) -> Answer:
        """Asked without a word in the audit log."""
        if self.faults.on("conjur-roles"):
            return _application(int(self.faults.value("conjur-roles")))
        found = self.vault.permitted(variable, privilege)
        mine = self.vault.full(*role.split(":", 1))
        return _json(found if not self._holds(role, variable, privilege) else [*found, mine])

    # -- values

    def _value(self, request: Request, role: str, number: Optional[int]) -> Version:
        """One body for what is not there, is not seen, was never set or has no such version."""
        account, name = request.params["account"], request.params["id"]
        text = f"CONJ00076E Variable {account}:variable:{name} is empty or not found."
        missing = _error("not_found", text, 404)
        variable = next((v for v in self._visible(role, request) if v.name == name), None)
        if variable is None:
            raise missing
        if not self._holds(role, variable, "execute"):
            self._note("WARN", role, f"failed to fetch {name}")
            raise RefusedError(_application(403))
        version = self.vault.version(name, number)
        if version is None:
            raise missing
        self._note("INFO", role, f"fetched {name}")
        return version

    def _secret(self, request: Request) -> Answer:
        number = request.query.get("version", "")
        role = self._reader(request)
        version = self._value(request, role, int(number) if number.isdigit() else None)
        how = {"Content_Disposition": "attachment", "Content_Transfer_Encoding": "binary"}
        return _application(200, version.value, "application/octet-stream", **how)

    def _batch(self, request: Request) -> Answer:
        role, values = self._reader(request), {}
        if not request.query.get("variable_ids"):
            raise _error("argument_error", "variable_ids", 422)
        for full in request.query["variable_ids"].split(","):
            account, _, name = full.partition(":variable:")
            params = {"account": account, "kind": "variable", "id": name}
            one = Request(**{**vars(request), "params": params})
            values[full] = self._value(one, role, None).value
        if self._header(request, "accept-encoding") == "base64":
            packed = {name: base64.b64encode(v).decode() + "\n" for name, v in values.items()}
            return _json(packed, Content_Encoding="base64")
        try:
            return _json({name: value.decode() for name, value in values.items()})
        except UnicodeDecodeError:
            text = (
                "CONJ00074E Issue encoding secret into JSON format, try including "
                "'Accept-Encoding: base64' header in request."
            )
            raise _error("not_acceptable", text, 406) from None

    def _store(self, request: Request) -> Answer:
        role = self._reader(request)
        if self.role == "follower" or self.faults.on(STALE):
            raise RefusedError(_application(405))
        variable = self._variable(request, role)
        if not self._holds(role, variable, "update"):
            raise RefusedError(_application(403))
        self._need_database(request, writes=True)
        if "expirations" not in request.query:
            self.vault.set_value(variable.name, request.body)
        return _application(201)


def _claims(jwt: str) -> Mapping[str, Any]:
    parts = jwt.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _page(found: list[Variable], query: Mapping[str, str], most: int) -> list[Variable]:
    """Conjur's rules: `most` at a time, silently when unpaged; offset alone means ten."""
    limit, offset = query.get("limit"), query.get("offset")
    if limit is not None and (not limit.isdigit() or int(limit) == 0):
        text = "'limit' contains an invalid value. 'limit' must be a positive integer."
        raise _error("unprocessable_entity", text, 422)
    if limit is not None and int(limit) > most and query.get("count") != "true":
        raise _error("unprocessable_entity", f"'Limit' parameter must not exceed {most}", 422)
    if offset is not None and not offset.isdigit():
        text = (
            "'offset' contains an invalid value. 'offset' must be an integer greater than or "
            "equal to 0."
        )
        raise _error("unprocessable_entity", text, 422)
    size = int(limit) if limit is not None else OFFSET_ALONE_LIMIT if offset is not None else most
    first = int(offset or 0)
    return found[first : first + size]
