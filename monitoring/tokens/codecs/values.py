"""Decision: JSON values, Redis hashes and cached validation results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, cast

import msgspec

from monitoring.tokens.codecs.facts import (
    VERSION_CLAIMS,
    ClaimNames,
    Decoded,
    ValidationFact,
    ValidationReason,
    undecodable,
)
from monitoring.tokens.codecs.jwt_text import bare_jwt, decode_jwt, jwt_within
from monitoring.tokens.codecs.records import (
    CLIENT,
    EXPIRES,
    ISSUED,
    JTI,
    JWT_TEXT,
    LIST_LIMIT,
    USUAL,
    first,
    from_record,
    unwrap,
)

# -- values that Jackson wrote: plain, with ``@class``, or as ``[class, value]``.

_decode = msgspec.json.Decoder().decode


def decode_json(value: bytes, names: ClaimNames = USUAL) -> Decoded:
    """A token from JSON text. Where a JWT stands in it, its claims are the token's."""
    token_text = quoted_jwt(value)
    if token_text is not None:
        return decode_jwt(token_text, "json", names)
    content = _content(value)
    token_text = jwt_of_record(content) if isinstance(content, dict) else _jwt_of(content)
    if token_text is not None:
        return decode_jwt(token_text, "json", names)
    if not isinstance(content, dict):
        return undecodable("bad_json", "json")
    return from_record(content, "json", names)


def json_record(value: bytes) -> Optional[Mapping[str, Any]]:
    """The object in a JSON text, its class wrapper taken off; None when there is none."""
    content = _content(value)
    return content if isinstance(content, dict) else None


def _content(value: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return unwrap(_decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def jwt_of_record(record: Mapping[str, Any]) -> Optional[bytes]:
    """The JWT that a record carries under one of the usual names, or None."""
    return _jwt_of(first(record, JWT_TEXT))


def _jwt_of(carried: Any) -> Optional[bytes]:
    if isinstance(carried, str):
        carried = carried.encode("utf-8", "replace")
    return bare_jwt(carried) if isinstance(carried, bytes) else None


def quoted_jwt(value: bytes) -> Optional[bytes]:
    """Found without parsing the rest: the claims inside say all that the fields around do."""
    start = value.find(b'"eyJ')
    while start >= 0:
        end = value.find(b'"', start + 1)
        found = jwt_within(value, start + 1, end) if end > 0 else None
        if found is not None:
            return found
        start = value.find(b'"eyJ', start + 1)
    return None


# -- tokens and credentials that stand in Redis hashes, by the fields one asks for.

_CLAIMS = ("sub", "jti", "iat", "exp", "iss", "aud", "credential_version")
# What to ask HMGET for. A hash may be huge, so HGETALL is never sent.
TOKEN_FIELDS = tuple(
    name.encode()
    for name in (
        *JWT_TEXT,
        *(f"claims.{name}" for name in _CLAIMS),
        *CLIENT,
        *JTI,
        *ISSUED,
        *EXPIRES,
        *VERSION_CLAIMS,
        "iss",
        "aud",
        "permissions",
        *(f"permissions.[{index}]" for index in range(8)),
        *(f"claims.permissions.[{index}]" for index in range(8)),
    )
)


def decode_hash(
    fields: Mapping[bytes, Optional[bytes]],
    *,
    client: Optional[str] = None,
    jti: Optional[str] = None,
    names: ClaimNames = USUAL,
) -> Decoded:
    """A token from a hash: flat, or flattened by ``@RedisHash`` (``claims.sub``).

    ``client`` and ``jti`` are what the key's name says, for hashes that hold times alone.
    """
    record = hash_record(fields)
    if not record:
        return undecodable("bad_hash", "hash")
    token_text = jwt_of_record(record)
    if token_text is not None:
        return decode_jwt(token_text, "hash", names)
    if client is not None:
        record.setdefault("sub", client)
    if jti is not None:
        record.setdefault("jti", jti)
    return from_record(record, "hash", names)


def hash_record(fields: Mapping[bytes, Optional[bytes]]) -> dict[str, Any]:
    """Field names as text, ``claims.`` taken off, indexed fields gathered into a list."""
    record: dict[str, Any] = {}
    for name, value in fields.items():
        if value is not None:
            _put(record, name.decode("utf-8", "replace"), value)
    return record


def _put(record: dict[str, Any], name: str, value: bytes) -> None:
    if name.startswith("claims."):
        name = name[len("claims.") :]
    base, bracket, _index = name.partition(".[")
    if not bracket:
        record[name] = value
        return
    gathered: list[bytes] = record.setdefault(base, [])
    if isinstance(gathered, list) and len(gathered) < LIST_LIMIT:
        gathered.append(value)


# -- cached validation results, and the reason behind each refusal.

# The services keep prose. The first row with a matching word names the reason.
_WORDS: tuple[tuple[tuple[str, ...], ValidationReason], ...] = (
    (("signature", "tamper"), "invalid_signature"),
    (("revok", "blacklist", "denylist"), "revoked"),
    (("expire", "stale"), "expired"),
    (("permission", "forbidden", "scope", "not allowed"), "forbidden"),
    (("claim", "issuer", "audience", "subject", "not before"), "invalid_claims"),
    (("pars", "malform", "format", "decod", "compact"), "parse_error"),
)
_VALID = ("isValid", "valid", "is_valid")
_MESSAGE = ("errorMessage", "error_message", "error", "message", "reason")


def verdict_of(record: Mapping[str, Any]) -> Optional[ValidationFact]:
    """The verdict in a result object's fields; None when it does not say valid or not."""
    valid = flag(first(record, _VALID))
    if valid is None:
        return None
    renewed = _said(record, "isRenewed", "renewed", "is_renewed")
    return ValidationFact(valid, "ok" if valid else _reason(record), renewed)


def _reason(record: Mapping[str, Any]) -> ValidationReason:
    if _said(record, "isExpired", "expired", "is_expired"):
        return "expired"
    if _said(record, "isForbidden", "forbidden", "is_forbidden"):
        return "forbidden"
    message = str(first(record, _MESSAGE) or "")[:512].lower()
    for words, reason in _WORDS:
        if any(word in message for word in words) or message == reason:
            return reason
    return "unknown"


def _said(record: Mapping[str, Any], *names: str) -> bool:
    return flag(first(record, names)) is True


def flag(value: object) -> Optional[bool]:
    """A yes or no, however written; None when it is neither."""
    if isinstance(value, bytes):
        value = value[:8].decode("ascii", "replace")
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def verdict_of_word(value: bytes) -> Optional[ValidationFact]:
    """Some deployments keep a bare ``true``, ``false`` or a reason's name."""
    word = value.strip(b"\"' \r\n").lower()
    if word in (b"true", b"valid", b"ok", b"1"):
        return ValidationFact(True, "ok", False)
    if word in (b"false", b"invalid", b"0"):
        return ValidationFact(False, "unknown", False)
    named = word.decode("ascii", "replace")
    if any(named == reason for _words, reason in _WORDS):
        return ValidationFact(False, cast(ValidationReason, named), False)
    return None
