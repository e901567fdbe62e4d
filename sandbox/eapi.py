"""Payment-EAPI: checks a client's secret, mints a JWT, caches it, refreshes it."""

from __future__ import annotations

import time
import uuid
from typing import Any, Optional

from sandbox import jwt_codec
from sandbox.clock import jackson_time
from sandbox.credentials import CredentialBook
from sandbox.faults import seconds
from sandbox.service import SpringService
from sandbox.token_cache import TokenCache
from sandbox.values import PERMISSIONS, Token
from sandbox.web import Answer, Request, Route, json_answer

TOKEN_SECONDS = 3600


def claims_of(token: Token) -> dict[str, Any]:
    """The claims in the order the services write them."""
    return {
        "sub": token.client_id,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "exp": int(token.expires_at),
        "iat": int(token.issued_at),
        "jti": token.jti,
        "permissions": list(token.permissions or ()),
    }


class Minter:
    """Makes signed tokens with one key and one lifetime."""

    def __init__(self, key: bytes, life: float = TOKEN_SECONDS) -> None:
        self.key = key
        self.life = life

    def mint(self, client_id: str, at: float, *, expires_at: Optional[float] = None) -> Token:
        """A token of `client_id` issued at `at` (whole seconds, as JWTs count)."""
        issued = float(int(at))
        expiry = float(int(expires_at)) if expires_at is not None else issued + self.life
        token = Token(None, str(uuid.uuid4()), client_id, issued, expiry, PERMISSIONS)
        jwt = jwt_codec.sign(self.key, claims_of(token))
        return Token(jwt, token.jti, client_id, issued, expiry, PERMISSIONS)


class EapiServer(SpringService):
    """The public service. `book` holds the secrets, `cache` may be None (no Redis at all)."""

    name = "eapi"
    title = "Payment-EAPI"

    def __init__(
        self, book: CredentialBook, minter: Minter, cache: Optional[TokenCache], **options: Any
    ) -> None:
        self.book = book
        self.minter = minter
        self.cache = cache
        self._cliff: Optional[float] = None
        super().__init__(**options)
        self.faults.listen("expiry-cliff", self._on_cliff)

    def routes(self) -> list[Route]:
        """The token endpoints besides what every service has."""
        return [
            *super().routes(),
            Route("POST /api/v1/auth/token", self._token),
            Route("POST /api/v1/auth/header-token", self._header_token),
            Route("POST /api/v1/auth/refresh", self._refresh),
        ]

    def parts(self) -> dict[str, bool]:
        """Redis is always up in its eyes: it swallows the errors."""
        return {
            "conjurVault": not (self.faults.broken("conjur") or self._degraded()),
            "redisCache": True,
            "paymentSapi": not self.faults.broken("sapi"),
        }

    def _on_cliff(self, _name: str, value: Optional[str]) -> None:
        self._cliff = None if value is None else self.now() + seconds(value)

    def _token(self, request: Request) -> Answer:
        body = request.json()
        fields = body if isinstance(body, dict) else {}
        return self._login(fields.get("client_id"), fields.get("client_secret"))

    def _header_token(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return self._login(headers.get("x-client-id"), headers.get("x-client-secret"))

    def _login(self, client_id: Any, secret: Any) -> Answer:
        if not (isinstance(client_id, str) and isinstance(secret, str) and client_id and secret):
            return self.error(400, "INVALID_REQUEST", "client_id and client_secret are required")
        if not self._vault_answers(client_id):
            return self.error(503, "SERVICE_UNAVAILABLE", "Credential store is not available")
        good = self._secret_is_good(client_id, secret)
        self.metrics.authentication(client_id, good)
        if not good:
            return self.error(401, "AUTHENTICATION_FAILED", "Invalid client credentials")
        return self._answer_with(self.issue(client_id))

    def _vault_answers(self, client_id: str) -> bool:
        if self.cache is not None and self.cache.has_credential(client_id):
            return True  # for 900 s nobody notices that Conjur is away
        answers = not self.faults.broken("conjur")
        self.metrics.vault("retrieve_credential", client_id, answers)
        if answers and self.cache is not None and client_id in self.book.accounts:
            self.cache.store_credential(self.book.credential(client_id))
        return answers

    def _secret_is_good(self, client_id: str, secret: str) -> bool:
        if self.faults.on("auth-broken"):
            return False
        if self.faults.on("auth-accepts-wrong-secret"):
            return client_id in self.book.accounts
        return self.book.matching_version(client_id, secret) is not None

    def issue(self, client_id: str) -> Token:
        """Mint, count and cache a token for a client that has proved itself."""
        started, now = time.perf_counter(), self.now()
        cliff = self._cliff if self._cliff is not None and self._cliff > now + 5 else None
        token = self.minter.mint(client_id, now, expires_at=cliff)
        if self.cache is not None:
            self.cache.store_minted(token)
        self.metrics.generated(client_id, time.perf_counter() - started)
        return token

    def _answer_with(self, token: Token) -> Answer:
        expires = jackson_time(token.expires_at)
        return json_answer({"token": token.jwt, "expires_at": expires, "token_type": "Bearer"})

    def _refresh(self, request: Request) -> Answer:
        text = request.body.decode("utf-8", "replace").strip().strip('"')
        try:
            claims = jwt_codec.verify(self.minter.key, text, self.now())
        except jwt_codec.TokenRejectedError as rejected:
            return self.error(401, "INVALID_TOKEN", str(rejected))
        return self._answer_with(self.issue(claims["sub"]))
