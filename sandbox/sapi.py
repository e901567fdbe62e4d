"""Payment-SAPI: validates tokens, caches the verdict, renews what is about to expire."""

from __future__ import annotations

import time
from typing import Any, Optional

from sandbox import jwt_codec
from sandbox.eapi import Minter
from sandbox.encodings import validation_fields
from sandbox.jwt_codec import Leniency, TokenRejectedError
from sandbox.service import SpringService
from sandbox.token_cache import TokenCache
from sandbox.values import Token, Validation
from sandbox.web import Answer, Request, Route, json_answer

RENEW_BELOW_SECONDS = 300


class SapiServer(SpringService):
    """The internal service."""

    name = "sapi"
    title = "Payment-SAPI"
    health_path = "/internal/v1/health"

    def __init__(self, minter: Minter, cache: Optional[TokenCache], **options: Any) -> None:
        self.minter = minter
        self.cache = cache
        super().__init__(**options)

    def routes(self) -> list[Route]:
        """The token endpoints besides what every service has."""
        return [
            *super().routes(),
            Route("POST /internal/v1/tokens/validate", self._validate),
            Route("POST /internal/v1/tokens/renew", self._renew),
        ]

    def parts(self) -> dict[str, bool]:
        """What its detailed health names."""
        return {"redis": True, "database": True, "token_validation": not self._degraded()}

    def _leniency(self) -> Leniency:
        return Leniency(
            signature=self.faults.on("auth-accepts-tampered"),
            alg_none=self.faults.on("auth-accepts-alg-none"),
            expiry=self.faults.on("auth-accepts-expired"),
        )

    def _validate(self, request: Request) -> Answer:
        body = request.json()
        jwt = body.get("tokenString") if isinstance(body, dict) else None
        if not isinstance(jwt, str) or not jwt:
            return self.error(400, "INVALID_REQUEST", "tokenString is required")
        permission = body.get("requiredPermission")
        return self._judge(jwt, permission if isinstance(permission, str) else None)

    def _judge(self, jwt: str, permission: Optional[str]) -> Answer:
        started = time.perf_counter()
        try:
            claims = jwt_codec.verify(self.minter.key, jwt, self.now(), self._leniency())
        except TokenRejectedError as rejected:
            expired = rejected.reason == "expired"
            verdict = Validation(False, is_expired=expired, error_message=str(rejected))
            self._note(jwt, permission, verdict)
            spent = time.perf_counter() - started
            self.metrics.validated("unknown", rejected.reason, spent)
            return self.error(401, "INVALID_TOKEN", str(rejected))
        return self._admit(jwt, permission, claims, started=started)

    def _admit(
        self, jwt: str, permission: Optional[str], claims: dict[str, Any], *, started: float
    ) -> Answer:
        client = claims["sub"]
        allowed = permission is None or permission in claims.get("permissions", [])
        verdict = self._welcome(jwt, claims) if allowed else self._forbid()
        self._note(jwt, permission, verdict)
        failure = None if allowed else "invalid_claims"
        self.metrics.validated(client, failure, time.perf_counter() - started)
        if not allowed:
            return self.error(403, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
        return json_answer(validation_fields(verdict))

    @staticmethod
    def _forbid() -> Validation:
        return Validation(False, is_forbidden=True, error_message="Insufficient permissions")

    def _welcome(self, jwt: str, claims: dict[str, Any]) -> Validation:
        left = claims["exp"] - self.now()
        if left >= RENEW_BELOW_SECONDS:
            self._see(self._token(jwt, claims))
            return Validation(True)
        renewed = self.renew(claims["sub"])
        return Validation(True, is_renewed=True, renewed_token=renewed.jwt)

    @staticmethod
    def _token(jwt: str, claims: dict[str, Any]) -> Token:
        permissions = tuple(claims.get("permissions", ()))
        times = (float(claims.get("iat", 0)), float(claims["exp"]))
        return Token(jwt, str(claims.get("jti")), claims["sub"], *times, permissions)

    def renew(self, client_id: str) -> Token:
        """A new token for a client whose old one was good, cached under its jti."""
        token = self.minter.mint(client_id, self.now())
        self._see(token)
        return token

    def _see(self, token: Token) -> None:
        if self.cache is not None:
            self.cache.store_seen(token)

    def _note(self, jwt: str, permission: Optional[str], verdict: Validation) -> None:
        if self.cache is not None:
            self.cache.store_validation(jwt, permission, verdict)

    def _renew(self, request: Request) -> Answer:
        body = request.json()
        jwt = body.get("tokenString") if isinstance(body, dict) else None
        if not isinstance(jwt, str) or jwt.count(".") != 2:
            return self.error(400, "INVALID_TOKEN_FORMAT", "Token is not a JWT")
        try:
            claims = jwt_codec.verify(self.minter.key, jwt, self.now(), Leniency(expiry=True))
        except TokenRejectedError as rejected:
            return self.error(500, "RENEWAL_FAILED", str(rejected))
        return json_answer(validation_fields(self._renewed(claims["sub"])))

    def _renewed(self, client_id: str) -> Validation:
        return Validation(True, is_renewed=True, renewed_token=self.renew(client_id).jwt)
