"""JWT codec: HS256 tokens as Payment-EAPI mints them, and the checks Payment-SAPI makes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Optional

HEADER = {"alg": "HS256", "typ": "JWT"}


@dataclass(frozen=True)
class Leniency:
    """Which checks a broken validator skips (all False: none)."""

    signature: bool = False
    alg_none: bool = False
    expiry: bool = False


STRICT = Leniency()


class TokenRejectedError(ValueError):
    """A bad token. `reason`: expired, invalid_signature, invalid_claims or parse_error."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def segment(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unsegment(text: str) -> bytes:
    """The bytes of a segment; raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def sign(key: bytes, claims: dict[str, Any], header: Optional[dict[str, Any]] = None) -> str:
    """A compact HS256 JWT; `claims` keep their order."""
    body = f"{segment(_json(header or HEADER))}.{segment(_json(claims))}"
    return f"{body}.{segment(hmac.new(key, body.encode('ascii'), hashlib.sha256).digest())}"


def _parse(token: str) -> tuple[dict[str, Any], dict[str, Any], str, bytes]:
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise TokenRejectedError("parse_error", "Token is not a JWT")
    try:
        header, claims = (json.loads(unsegment(part)) for part in parts[:2])
        signature = unsegment(parts[2])
    except (ValueError, RecursionError) as error:
        raise TokenRejectedError("parse_error", "Token cannot be parsed") from error
    if not (isinstance(header, dict) and isinstance(claims, dict)):
        raise TokenRejectedError("parse_error", "Token is not made of objects")
    return header, claims, f"{parts[0]}.{parts[1]}", signature


def _signed(key: bytes, header: dict[str, Any], body: str, signature: bytes) -> bool:
    good = hmac.new(key, body.encode("ascii"), hashlib.sha256).digest()
    return header.get("alg") == "HS256" and hmac.compare_digest(good, signature)


def verify(key: bytes, token: str, now: float, leniency: Leniency = STRICT) -> dict[str, Any]:
    """The claims of a good token; raises TokenRejectedError with the first thing that is wrong."""
    header, claims, body, signature = _parse(token)
    unsigned = str(header.get("alg", "")).lower() == "none"
    excused = leniency.alg_none if unsigned else leniency.signature
    if not excused and not _signed(key, header, body, signature):
        raise TokenRejectedError("invalid_signature", "Invalid token signature")
    expiry = claims.get("exp")
    if not isinstance(expiry, (int, float)) or not isinstance(claims.get("sub"), str):
        raise TokenRejectedError("invalid_claims", "Token claims are incomplete")
    if (claims.get("iss"), claims.get("aud")) != ("payment-eapi", "payment-sapi"):
        raise TokenRejectedError("invalid_claims", "Token was not meant for this service")
    if expiry <= now and not leniency.expiry:
        raise TokenRejectedError("expired", "Token has expired")
    return claims
