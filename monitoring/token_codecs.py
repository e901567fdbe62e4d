"""Decision: what a cached value says, in whichever of the known encodings it was written.

A row of ``_BY_FIRST_BYTES`` per encoding family, a module per family in ``monitoring.codecs``.
Nothing here raises on any input, looks up a class, or uses memory beyond a small multiple of
``VALUE_LIMIT``. Measured on one core (November 2026): a JWT 1.0 us, JSON or a Java object that
holds one 2 us, JSON without one 8 us, a hash 5 us, a Java object without a JWT 36 us.
"""

from __future__ import annotations

import zlib
from typing import Callable, List, Mapping, Optional, Sequence, Tuple, Union, cast

from msgspec.structs import force_setattr

from monitoring.codecs.facts import (
    CredentialFact,
    Decoded,
    Encoding,
    Expectation,
    Reason,
    Undecodable,
    ValidationFact,
    ValidationReason,
    undecodable,
)
from monitoring.codecs.hash_values import TOKEN_FIELDS, decode_hash, hash_record
from monitoring.codecs.java_stream import MAGIC
from monitoring.codecs.java_values import SHORT_STRING, decode_java, java_record
from monitoring.codecs.json_values import decode_json, json_record
from monitoring.codecs.jwt_text import VALUE_LIMIT, decode_jwt, decode_jwts
from monitoring.codecs.records import CLIENT, first, text
from monitoring.codecs.times import epoch_seconds
from monitoring.codecs.verdicts import flag, verdict_of, verdict_of_word

__all__ = [
    "CREDENTIAL_FIELDS",
    "TOKEN_FIELDS",
    "VALUE_LIMIT",
    "CredentialFact",
    "Decoded",
    "Encoding",
    "Expectation",
    "Reason",
    "Undecodable",
    "ValidationFact",
    "ValidationReason",
    "clean_key",
    "decode",
    "decode_credential",
    "decode_hash",
    "decode_many",
    "decode_validation",
]

# Asked for by name: the secret's hash is not among them and so never leaves the cache.
CREDENTIAL_FIELDS = tuple(
    name.encode()
    for name in (
        "clientId", "client_id", "active", "version", "rotationState", "rotation_state",
        "createdAt", "created_at", "updatedAt", "updated_at", "expiresAt", "expires_at",
    )
)  # fmt: skip
_GZIP = b"\x1f\x8b"
_BY_FIRST_BYTES: Tuple[Tuple[bytes, Callable[[bytes], Decoded]], ...] = (
    (b"eyJ", decode_jwt),
    (MAGIC, decode_java),
    (b"{", decode_json),
    (b"[", decode_json),
    (b'"', decode_json),
)
_ZIPPED: Mapping[Encoding, Encoding] = {
    "jwt": "jwt+gzip", "json": "json+gzip", "java": "java+gzip",
}  # fmt: skip


def decode(value: Optional[bytes]) -> Decoded:
    """The token in one string value. Never raises; see ``Decoded.reason`` for what is not one.

    None (a key of another type) gives "wrong_type".
    """
    if value is None:
        return undecodable("wrong_type")
    if len(value) > VALUE_LIMIT:
        return undecodable("too_large")
    if not value.startswith(_GZIP):
        return _by_first_bytes(value)
    plain = _gunzip(value)
    return _zipped(plain) if isinstance(plain, bytes) else plain


def decode_many(
    values: Sequence[Optional[bytes]], expect: Optional[Expectation] = None
) -> List[Decoded]:
    """``decode`` of each value, in order, several times as fast for values that hold a JWT.

    Those that meet ``expect`` come as its ``kind``, so that nobody need judge their claims again.
    """
    return decode_jwts(values, _cut_jwt, decode, expect)


def decode_validation(value: Optional[bytes]) -> Union[ValidationFact, Undecodable]:
    """The verdict in a ``validation:`` value: Java, JSON, gzip around either, or a bare word."""
    record = _record(value)
    if isinstance(record, Undecodable) and value is not None and len(value) <= 32:
        return verdict_of_word(value) or record
    if isinstance(record, Undecodable):
        return record
    return verdict_of(record) or Undecodable("bad_claims")


def decode_credential(
    value: Union[bytes, Mapping[bytes, Optional[bytes]], None],
) -> Union[CredentialFact, Undecodable]:
    """The credential in a string value, or in a hash read with ``CREDENTIAL_FIELDS``.

    The hash of the secret is dropped with the raw fields.
    """
    record = hash_record(value) if isinstance(value, Mapping) else _record(value)
    if isinstance(record, Undecodable):
        return record
    client = text(first(record, CLIENT))
    active = flag(first(record, ("active", "isActive", "enabled")))
    if client is None and active is None:
        return Undecodable("bad_claims")
    state = text(first(record, ("rotationState", "rotation_state")))
    return CredentialFact(
        client=client,
        active=active,
        version=text(first(record, ("version", "secretVersion", "secret_version"))),
        rotation_state=state.lower() if state else None,
        created_at=epoch_seconds(first(record, ("createdAt", "created_at"))),
        updated_at=epoch_seconds(first(record, ("updatedAt", "updated_at"))),
        expires_at=epoch_seconds(first(record, ("expiresAt", "expires_at"))),
    )


def clean_key(raw: bytes) -> bytes:
    """A key's name without the 7 bytes that Java's key serialiser puts before it."""
    if raw.startswith(b"\xac\xed\x00\x05t") and int.from_bytes(raw[5:7], "big") == len(raw) - 7:
        return raw[7:]
    return raw


def _by_first_bytes(value: bytes) -> Decoded:
    for beginning, reader in _BY_FIRST_BYTES:
        if value.startswith(beginning):
            return reader(value)
    stripped = value.strip()
    if stripped != value:
        return _by_first_bytes(stripped)
    return undecodable("not_a_token" if value else "empty")


def _cut_jwt(value: bytes) -> Tuple[bytes, Encoding]:
    """The likely JWT inside a Java or JSON value, unchecked; ValueError when none is seen at once.

    The first candidate only, in one function, for a million of them: what turns out to be none is
    given to ``decode``, which looks at every one.
    """
    if value.startswith(MAGIC):
        start = value.find(b"eyJ")
        if start > 3 and value[start - 3] == SHORT_STRING:
            end = start + (value[start - 2] << 8 | value[start - 1])
            if end <= len(value):
                return value[start:end], "java"
    elif value[0] in b'{["':
        start = value.find(b'"eyJ') + 1
        end = value.find(b'"', start)
        if start and end > 0:
            return value[start:end], "json"
    raise ValueError("no JWT inside")


def _zipped(plain: bytes) -> Decoded:
    token = _by_first_bytes(plain)
    # Just made and seen by nobody else: the frozen value may still be completed.
    force_setattr(token, "encoding", _ZIPPED.get(token.encoding, token.encoding))
    return token


def _gunzip(value: bytes) -> Union[bytes, Decoded]:
    """At most ``VALUE_LIMIT`` bytes come out, whatever went in."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(value, VALUE_LIMIT)
    except zlib.error:
        return undecodable("bad_gzip")
    if unpacker.eof:
        return plain
    return undecodable("too_large" if len(plain) == VALUE_LIMIT else "bad_gzip")


def _record(value: Optional[bytes]) -> Union[Mapping[str, object], Undecodable]:
    if value is None:
        return Undecodable("wrong_type")
    if len(value) > VALUE_LIMIT:
        return Undecodable("too_large")
    if value.startswith(_GZIP):
        plain = _gunzip(value)
        if isinstance(plain, Decoded):
            return Undecodable(plain.reason or "bad_gzip")
        value = plain
    record: Optional[Mapping[str, object]] = None
    reason = "not_a_token" if value else "empty"
    if value.startswith(MAGIC):
        record, reason = java_record(value), "bad_java"
    elif value.lstrip()[:1] in (b"{", b"["):
        record, reason = json_record(value), "bad_json"
    return Undecodable(cast(Reason, reason)) if record is None else record
