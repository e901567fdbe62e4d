"""Conjur: the vault over HTTP, as Conjur OSS 1.24 or the Enterprise appliance answers (FACTS 1)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Optional

from sandbox.clock import iso_time
from sandbox.conjur_health import authenticators, health, info
from sandbox.vault import Variable, Vault, Version
from sandbox.web import Answer, Request, Route, WebServer, json_answer, text_answer

MAX_LIMIT = 1000
OFFSET_ALONE_LIMIT = 10
FLAVOURS = ("oss", "enterprise")
OVERPRIVILEGED = "conjur-overprivileged"
STALE = "conjur-follower-stale"


class RefusedError(Exception):
    """A request ends here with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _error(code: str, message: str, status: int) -> Answer:
    return json_answer({"error": {"code": code, "message": message}}, status)


class ConjurServer(WebServer):
    """One Conjur node. `jwt_logins` maps a JWT's `sub` to the login it authenticates."""

    name = "conjur"

    def __init__(self, vault: Vault, *, flavour: str = "oss", role: str = "master", **options: Any):
        if flavour not in FLAVOURS:
            raise ValueError(f"{flavour!r} is no flavour of Conjur: {', '.join(FLAVOURS)}")
        self.vault = vault
        self.flavour = flavour
        self.role = role
        self.jwt_logins: dict[str, str] = {}
        self.authentications = 0
        self._frozen: Optional[dict[str, int]] = None
        super().__init__(**options)
        self.faults.listen(STALE, self._on_stale)

    def routes(self) -> list[Route]:
        """Authentication, metadata, secrets, and the pages that need no token."""
        return [
            Route("GET /", self._root),
            Route("GET /authenticators", lambda _request: json_answer(authenticators())),
            Route("GET /health", self._health),
            Route("GET /info", self._info),
            Route("GET /whoami", self._whoami),
            Route("POST /authn/{account}/{login}/authenticate", self._authenticate),
            Route("POST /authn-jwt/{service}/{account}/authenticate", self._authenticate_jwt),
            Route(
                "POST /authn-jwt/{service}/{account}/{login}/authenticate", self._authenticate_jwt
            ),
            Route("GET /resources/{account}/{kind}", self._list),
            Route("GET /resources/{account}/{kind}/{*id}", self._show),
            Route("GET /secrets", self._batch),
            Route("GET /secrets/{account}/{kind}/{*id}", self._secret),
            Route("POST /secrets/{account}/{kind}/{*id}", self._store),
        ]

    def missing(self, request: Request) -> Answer:
        """Unknown paths ask for a token first, so that OSS answers /health with 401, not 404."""
        try:
            self._login(request)
        except RefusedError as refused:
            return refused.answer
        return Answer(404, b"", "text/plain")

    def _answer(self, request: Request) -> tuple[str, Answer]:
        if self.faults.on("conjur-502"):
            return "FAULT", text_answer("<html>502 Bad Gateway</html>", 502, "text/html")
        try:
            return super()._answer(request)
        except RefusedError as refused:
            return "REFUSED", refused.answer

    def _on_stale(self, _name: str, value: Optional[str]) -> None:
        self._frozen = None if value is None else self.vault.newest()

    def _describe(self, variable: Variable) -> dict[str, Any]:
        newest = None if self._frozen is None else self._frozen.get(variable.name, 0)
        return self.vault.describe(variable, newest=newest)

    def _root(self, request: Request) -> Answer:
        if "json" in self._header(request, "accept"):
            return json_answer({"version": "1.24.0-1234"})
        return text_answer("<html><title>Conjur Status</title></html>", 200, "text/html")

    def _health(self, request: Request) -> Answer:
        if self.flavour == "oss":
            return self.missing(request)
        stale = self.faults.on(STALE)
        degraded = self.faults.on("conjur-degraded")
        role = "follower" if stale else self.role
        body = health(role, now=self.now(), degraded=degraded, stale=stale)
        return json_answer(body, 200 if body["ok"] else 502)

    def _info(self, request: Request) -> Answer:
        if self.flavour == "oss":
            return self.missing(request)
        role = "follower" if self.faults.on(STALE) else self.role
        return json_answer(info(role, self.vault.account))

    @staticmethod
    def _header(request: Request, name: str) -> str:
        wanted = name.lower()
        return next((v for k, v in request.headers.items() if k.lower() == wanted), "")

    def _authenticate(self, request: Request) -> Answer:
        login, key = request.params["login"], request.body.decode("utf-8", "replace")
        known = request.params["account"] == self.vault.account
        if not known or not key or self.vault.api_keys.get(login) != key:
            raise RefusedError(Answer(401, b"", "text/plain"))
        return self._grant(request, login)

    def _authenticate_jwt(self, request: Request) -> Answer:
        text = request.body.decode("utf-8", "replace")
        jwt = text[4:] if text.startswith("jwt=") else ""
        login = self.jwt_logins.get(_subject(jwt))
        wanted = request.params.get("login", login)
        if login is None or wanted != login or request.params["account"] != self.vault.account:
            raise RefusedError(Answer(401, b"", "text/plain"))
        return self._grant(request, login)

    def _grant(self, request: Request, login: str) -> Answer:
        if self.faults.on("conjur-unauthorized"):
            raise RefusedError(Answer(401, b"", "text/plain"))
        self.authentications += 1
        token = json.dumps(self.vault.issue(login)).encode()
        if "base64" in self._header(request, "accept-encoding"):
            return Answer(
                200, base64.b64encode(token), "text/plain", {"Content-Encoding": "base64"}
            )
        return Answer(200, token)

    def _login(self, request: Request) -> tuple[str, int]:
        header = self._header(request, "authorization")
        if not header:
            raise RefusedError(text_answer("Authorization missing", 401))
        found = re.fullmatch(r'Token token="([^"]*)"', header)
        if found is None:
            raise RefusedError(text_answer("Malformed authorization token", 401))
        try:
            token = json.loads(base64.b64decode(found.group(1), validate=True))
        except (ValueError, binascii.Error):
            raise RefusedError(text_answer("Malformed authorization token", 401)) from None
        login = self.vault.login_of(token)
        if login is None or self.faults.on("conjur-unauthorized"):
            raise RefusedError(text_answer("Unauthorized: Invalid token", 401))
        return login

    def _reader(self, request: Request) -> str:
        role = Vault.role(self._login(request)[0])
        if self.faults.on("conjur-forbidden"):
            raise RefusedError(Answer(403, b"", "text/plain"))
        return role

    def _whoami(self, request: Request) -> Answer:
        login, issued_at = self._login(request)
        return json_answer(
            {
                "client_ip": "127.0.0.1",
                "user_agent": self._header(request, "user-agent"),
                "account": self.vault.account,
                "username": login,
                "token_issued_at": iso_time(issued_at),
            }
        )

    def _list(self, request: Request) -> Answer:
        role = self._reader(request)
        found = self.vault.visible(role) if request.params["kind"] == "variable" else []
        search = request.query.get("search", "").lower().split()
        found = [v for v in found if set(search) <= set(re.split(r"[^\w-]+", v.name.lower()))]
        if request.query.get("count") == "true":
            return json_answer({"count": len(found)})
        page = _page(found, request.query)
        return json_answer([self._describe(variable) for variable in page])

    def _variable(self, request: Request, role: str) -> Variable:
        variable = self.vault.variables.get(request.params["id"])
        seen = variable is not None and self.vault.privileges(role, variable)
        if not seen or request.params["account"] != self.vault.account or variable is None:
            raise RefusedError(self._not_found(request.params))
        return variable

    def _not_found(self, params: Any) -> Answer:
        account, name = params["account"], params["id"]
        error = {
            "code": "not_found",
            "message": f"Variable '{name}' not found in account '{account}'",
            "target": "variable",
            "details": {
                "code": "not_found",
                "target": "id",
                "message": f"{account}:variable:{name}",
            },
        }
        return json_answer({"error": error}, 404)

    def _holds(self, role: str, variable: Variable, privilege: str) -> bool:
        if privilege == "execute" and self.faults.on(OVERPRIVILEGED):
            return True
        return privilege in self.vault.privileges(role, variable)

    def _show(self, request: Request) -> Answer:
        role = self._reader(request)
        variable = self._variable(request, role)
        privilege = request.query.get("privilege", "execute")
        if request.query.get("check") == "true":
            return Answer(204 if self._holds(role, variable, privilege) else 404)
        if request.query.get("permitted_roles") == "true":
            return json_answer(self.vault.permitted(variable, privilege))
        return json_answer(self._describe(variable))

    def _value(self, role: str, variable: Variable, number: Optional[int]) -> Version:
        if not self._holds(role, variable, "execute"):
            raise RefusedError(Answer(403, b"", "text/plain"))
        version = self.vault.version(variable.name, number)
        if version is None:
            text = f"CONJ00076E Variable {variable.name} is empty or not found."
            raise RefusedError(_error("not_found", text, 404))
        return version

    def _secret(self, request: Request) -> Answer:
        role = self._reader(request)
        variable = self._variable(request, role)
        number = request.query.get("version", "")
        version = self._value(role, variable, int(number) if number.isdigit() else None)
        return Answer(200, version.value, "application/octet-stream")

    def _batch(self, request: Request) -> Answer:
        role, values = self._reader(request), {}
        for full in request.query.get("variable_ids", "").split(","):
            account, _, name = full.partition(":variable:")
            params = {"account": account, "kind": "variable", "id": name}
            variable = self._variable(Request(**{**vars(request), "params": params}), role)
            values[full] = self._value(role, variable, None).value.decode()
        return json_answer(values)

    def _store(self, request: Request) -> Answer:
        role = self._reader(request)
        if self.role == "follower" or self.faults.on(STALE):
            raise RefusedError(Answer(405, b"", "text/plain"))
        variable = self._variable(request, role)
        if not self._holds(role, variable, "update"):
            raise RefusedError(Answer(403, b"", "text/plain"))
        self.vault.set_value(variable.name, request.body)
        return Answer(201, b"", "text/plain")


def _subject(jwt: str) -> str:
    parts = jwt.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (IndexError, ValueError):
        return ""
    return str(claims.get("sub", "")) if isinstance(claims, dict) else ""


def _page(found: list[Variable], query: Any) -> list[Variable]:
    """Conjur's rules: at most 1000, silently when unpaged; offset alone means ten."""
    texts = {name: query[name] for name in ("limit", "offset") if name in query}
    if not all(text.isdigit() for text in texts.values()) or texts.get("limit") == "0":
        raise RefusedError(_error("argument_error", "'limit' and 'offset' are whole numbers", 422))
    limit = int(texts.get("limit", OFFSET_ALONE_LIMIT if "offset" in texts else MAX_LIMIT))
    if limit > MAX_LIMIT:
        text = (
            f"'limit' contains an invalid value. 'limit' must be less than or equal to {MAX_LIMIT}"
        )
        raise RefusedError(_error("argument_error", text, 422))
    offset = int(texts.get("offset", 0))
    return found[offset : offset + limit]
