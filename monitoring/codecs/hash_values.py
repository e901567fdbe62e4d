"""Decision: tokens and credentials that stand in Redis hashes, by the fields one asks for."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from monitoring.codecs.facts import VERSION_CLAIMS, ClaimNames, Decoded, undecodable
from monitoring.codecs.json_values import jwt_of_record
from monitoring.codecs.jwt_text import decode_jwt
from monitoring.codecs.records import (
    CLIENT,
    EXPIRES,
    ISSUED,
    JTI,
    JWT_TEXT,
    LIST_LIMIT,
    USUAL,
    from_record,
)

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


def hash_record(fields: Mapping[bytes, Optional[bytes]]) -> Dict[str, Any]:
    """Field names as text, ``claims.`` taken off, indexed fields gathered into a list."""
    record: Dict[str, Any] = {}
    for name, value in fields.items():
        if value is not None:
            _put(record, name.decode("utf-8", "replace"), value)
    return record


def _put(record: Dict[str, Any], name: str, value: bytes) -> None:
    if name.startswith("claims."):
        name = name[len("claims.") :]
    base, bracket, _index = name.partition(".[")
    if not bracket:
        record[name] = value
        return
    gathered: List[bytes] = record.setdefault(base, [])
    if isinstance(gathered, list) and len(gathered) < LIST_LIMIT:
        gathered.append(value)
