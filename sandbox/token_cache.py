"""Token cache: the keys the services write into Redis, with their TTLs (docs/protocols.md).

Redis being away never stops a service: errors are counted here and swallowed on purpose, as the
services do, which is why their own word about Redis is worth nothing.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import redis

from sandbox.encodings import (
    EAPI,
    SAPI,
    encode_credential,
    encode_token,
    encode_validation,
    token_hash,
)
from sandbox.faults import FaultBoard
from sandbox.values import Credential, Token, Validation

VALIDATION_SECONDS = 100
CREDENTIAL_SECONDS = 900
UNKNOWN_LIFE_SECONDS = 300
Wire = Any  # redis.Redis or a pipeline of it: their common ground has no public type


class TokenCache:
    """Writes the services' objects in one encoding. `errors` counts what Redis refused."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        encoding: str = "java",
        faults: Optional[FaultBoard] = None,
        now: Callable[[], float],
    ) -> None:
        self.client = client
        self.encoding = encoding
        self.faults = faults or FaultBoard()
        self.now = now
        self.errors = 0

    def _write(self, write: Callable[[Wire], None], wire: Optional[Wire]) -> None:
        if wire is not None:
            write(wire)
            return
        pipe = self.client.pipeline(transaction=False)
        write(pipe)
        try:
            pipe.execute()
        except redis.RedisError:
            self.errors += 1

    def _expire(self, wire: Wire, key: str, seconds: float) -> None:
        # A command of its own, as in the services: whoever dies in between leaves a TTL of -1.
        if not self.faults.on("cache-no-ttl"):
            wire.expire(key, max(1, int(seconds)))

    def _set(self, wire: Wire, key: str, value: bytes, seconds: float) -> None:
        wire.set(key, value)
        self._expire(wire, key, seconds)

    def store_minted(self, token: Token, wire: Optional[Wire] = None) -> None:
        """EAPI: `token:{client}` and `token_id:{jti}`, life minus 30 s, at least 10 s."""
        life = token.expires_at - self.now()
        if self.encoding == "hash":
            self._write(lambda w: self._store_hash(w, token, life), wire)
            return
        value, seconds = encode_token(token, self.encoding, EAPI), max(10, life - 30)

        def write(w: Wire) -> None:
            self._set(w, f"token:{token.client_id}", value, seconds)
            self._set(w, f"token_id:{token.jti}", value, seconds)

        self._write(write, wire)

    def _store_hash(self, wire: Wire, token: Token, life: float) -> None:
        key = f"token:{token.client_id}:{token.jti}"
        wire.hset(key, mapping=token_hash(token))
        self._expire(wire, key, life)

    def store_seen(self, token: Token, wire: Optional[Wire] = None) -> None:
        """SAPI: `token:{jti}` for its life, and the client's set, which never expires."""
        life = token.expires_at - self.now()
        seconds = life if life > 0 else UNKNOWN_LIFE_SECONDS

        def write(w: Wire) -> None:
            if self.encoding != "hash":
                value = encode_token(token, self.encoding, SAPI)
                self._set(w, f"token:{token.jti}", value, seconds)
            w.sadd(f"client:tokens:{token.client_id}", token.jti)

        self._write(write, wire)

    def store_validation(self, jwt: str, permission: Optional[str], verdict: Validation) -> None:
        """SAPI: the verdict under the whole token, 100 s."""
        key = f"validation:{jwt}:{permission or 'none'}"
        value = encode_validation(verdict, self.encoding)
        self._write(lambda w: self._set(w, key, value, VALIDATION_SECONDS), None)

    def store_credential(self, credential: Credential) -> None:
        """EAPI: `credential:{client}`, 900 s (not in the hash layout)."""
        if self.encoding == "hash":
            return
        key = f"credential:{credential.client_id}"
        value = encode_credential(credential, self.encoding)
        self._write(lambda w: w.set(key, value, ex=CREDENTIAL_SECONDS), None)

    def has_credential(self, client_id: str) -> bool:
        """Whether the credential is cached; False when Redis does not say."""
        try:
            return bool(self.client.exists(f"credential:{client_id}"))
        except redis.RedisError:
            self.errors += 1
            return False
