"""Decision: read a JWT without trusting it, and make the forgeries that must be refused.

For the canary's own token only. Nothing here checks a signature: that is SAPI's task, and what the
negative proofs are about.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from monitoring.redact import strict_json

_LONGEST = 16384


@dataclass(frozen=True, repr=False)
class Jwt:
    """A decoded token; `parts` are its three pieces as they came. Its repr shows none of it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    parts: Tuple[str, str, str]

    def __repr__(self) -> str:
        return "Jwt(decoded)"


def decode(token: object) -> Optional[Jwt]:
    """`token` taken apart; None when it is no JWT with a JSON header and JSON claims."""
    if not isinstance(token, str) or len(token) > _LONGEST or token.count(".") != 2:
        return None
    head, body, signature = token.split(".")
    header, claims = _object(head), _object(body)
    if header is None or claims is None:
        return None
    return Jwt(header, claims, (head, body, signature))


def tampered(jwt: Jwt) -> str:
    """The same token with one right more, under the old signature."""
    rights = jwt.claims.get("permissions")
    more = [*(rights if isinstance(rights, list) else ()), "admin"]
    return _forge(jwt, {**jwt.claims, "permissions": more})


def expired(jwt: Jwt, now: float) -> str:
    """The same token as if it had run out an hour ago, under the old signature."""
    past = {"exp": int(now) - 3600, "iat": int(now) - 7200}
    return _forge(jwt, {**jwt.claims, **past})


def unsigned(jwt: Jwt) -> str:
    """The same claims declared as needing no signature (`alg` none), with an empty one."""
    header = {**jwt.header, "alg": "none"}
    return f"{_text(header)}.{jwt.parts[1]}."


def epoch(value: object) -> Optional[float]:
    """A NumericDate as epoch seconds (milliseconds are recognised by their size); None: it is
    none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    seconds = float(value)
    return seconds / 1000.0 if seconds > 1e11 else seconds


def _forge(jwt: Jwt, claims: Mapping[str, Any]) -> str:
    return f"{jwt.parts[0]}.{_text(claims)}.{jwt.parts[2]}"


def _text(value: Mapping[str, Any]) -> str:
    raw = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _object(part: str) -> Optional[Mapping[str, Any]]:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        value = strict_json(raw)
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
