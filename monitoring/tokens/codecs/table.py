"""Decision: what a cached value says, in whichever of the known encodings it was written.

A row of ``_BY_FIRST_BYTES`` per encoding family; the families are in the modules beside it.
Nothing here raises on any input, looks up a class, or uses memory beyond a small multiple of
``VALUE_LIMIT``. Measured on one core (November 2026): a JWT 1.0 us, JSON or a Java object that
holds one 2 us, JSON without one 8 us, a hash 5 us, a Java object without a JWT 36 us.

Foreign formats are named by their first bytes and not read; a pickle is never loaded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Callable, Optional, Union, cast

from msgspec.structs import force_setattr, replace

from monitoring.text import identity_of
from monitoring.tokens.codecs.facts import (
    ClaimNames,
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
from monitoring.tokens.codecs.java import (
    MAGIC,
    SHORT_STRING,
    decode_java,
    java_record,
    jwt_in_stream,
)
from monitoring.tokens.codecs.jwt_text import (
    BEARER,
    JWT_BEGINNINGS,
    VALUE_LIMIT,
    bare_jwt,
    decode_jwt,
    decode_jwts,
    texts_within,
)
from monitoring.tokens.codecs.records import CLIENT, USUAL, epoch_seconds, first, text
from monitoring.tokens.codecs.values import (
    TOKEN_FIELDS,
    decode_hash,
    decode_json,
    flag,
    hash_record,
    json_record,
    quoted_jwt,
    verdict_of,
    verdict_of_word,
)

__all__ = [
    "CREDENTIAL_FIELDS",
    "TOKEN_FIELDS",
    "VALUE_LIMIT",
    "ClaimNames",
    "CredentialFact",
    "Decoded",
    "Encoding",
    "Expectation",
    "Reason",
    "Undecodable",
    "ValidationFact",
    "ValidationReason",
    "clean_key",
    "credential_under",
    "decode",
    "decode_credential",
    "decode_hash",
    "decode_many",
    "decode_validation",
    "jwt_of",
    "renewed_in",
    "texts_of",
]

# Asked for by name: the secret's hash is not among them and so never leaves the cache.
CREDENTIAL_FIELDS = tuple(
    name.encode()
    for name in (
        "clientId", "client_id", "active", "version", "rotationState", "rotation_state",
        "createdAt", "created_at", "updatedAt", "updated_at", "expiresAt", "expires_at",
    )
)  # fmt: skip
_Reader = Callable[[bytes, ClaimNames], Decoded]
_BY_FIRST_BYTES: tuple[tuple[bytes, _Reader], ...] = (
    *((begin, lambda value, names: decode_jwt(value, "jwt", names)) for begin in JWT_BEGINNINGS),
    (MAGIC, decode_java),
    (b"{", decode_json),
    (b"[", decode_json),
    (b'"', decode_json),
)
_ZIPS: Mapping[bytes, tuple[str, int, Reason]] = {
    b"\x1f\x8b": ("gzip", 31, "bad_gzip"),
    **{b"\x78" + level: ("zlib", 15, "bad_zlib") for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")},
}
# The longer first. PHP's serialize writes a type's letter, a colon and a length.
_FOREIGN: tuple[tuple[bytes, Reason], ...] = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"LZ4Block", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"\x82SNAPPY\x00", "snappy"),
    *((b"\x80" + bytes([version]), "pickle") for version in (2, 3, 4, 5)),
    (b"\x01\x00", "kryo"),
    (b"\x01\x01", "kryo"),
)
_SNAPPY = re.compile(
    rb"[\x80-\xff]{0,2}[\x01-\x7f](?:[\x04-\xec]|\xf0.|\xf4..)(?:eyJ|\{\")", re.DOTALL
)
_PHP = re.compile(rb"(?:[OCaEs]:\d+:[\"{]|[ibd]:[-\d.]+;|N;)")
# A map, a list or a text, with the first byte of what must stand in it.
_MSGPACK = re.compile(
    rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|[\xd9\xc4].)|[\x91-\x9f\xdc\xdd]|"
    rb"[\xd9\xc4].eyJ|[\xda\xc5]..eyJ|[\xdb\xc6]....eyJ",
    re.DOTALL,
)
_ANY = Expectation(issuer="", audience="", permissions=(), algorithms=("",))


def decode(value: Optional[bytes], names: ClaimNames = USUAL) -> Decoded:
    """The token in one string value. Never raises; see ``Decoded.reason`` for what is not one.

    None (a key of another type) gives "wrong_type".
    """
    if value is None:
        return undecodable("wrong_type")
    if len(value) > VALUE_LIMIT:
        return undecodable("too_large")
    packed = _ZIPS.get(value[:2])
    if packed is None:
        return _by_first_bytes(value, names)
    plain = _unpacked(value, packed)
    return _zipped(plain, packed[0], names) if isinstance(plain, bytes) else plain


def decode_many(
    values: Sequence[Optional[bytes]], expect: Optional[Expectation] = None
) -> list[Decoded]:
    """``decode`` of each value, in order, several times as fast for values that hold a JWT.

    Those that meet ``expect`` come as its ``kind``, so that nobody need judge their claims again.
    """
    expect = expect or _ANY
    return decode_jwts(values, _cut_jwt, partial(decode, names=expect.names), expect)


def texts_of(value: bytes) -> Mapping[str, str]:
    """The short texts among the claims of the JWT in a value, by name; empty where none is read at
    once."""
    try:
        return texts_within(value if value.startswith(JWT_BEGINNINGS) else _cut_jwt(value)[0])
    except (ValueError, IndexError):
        return {}


def jwt_of(value: bytes) -> Optional[bytes]:
    """The text of the JWT in a value, the first where there are several; None where there is
    none."""
    packed = _ZIPS.get(value[:2])
    plain = value if packed is None else _unpacked(value, packed)
    if isinstance(plain, Decoded):
        return None
    return jwt_in_stream(plain) if plain.startswith(MAGIC) else bare_jwt(plain) or quoted_jwt(plain)


def renewed_in(value: bytes) -> tuple[bytes, ...]:
    """The ids of the renewed token that a verdict names: one, or none that can be read."""
    jwt = jwt_of(value)
    token = decode(jwt) if jwt else None
    return (token.jti.encode(),) if token is not None and token.jti else ()


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
        client=None if client is None else identity_of(client),
        active=active,
        version=text(first(record, ("version", "secretVersion", "secret_version"))),
        rotation_state=state.lower() if state else None,
        created_at=epoch_seconds(first(record, ("createdAt", "created_at"))),
        updated_at=epoch_seconds(first(record, ("updatedAt", "updated_at"))),
        expires_at=epoch_seconds(first(record, ("expiresAt", "expires_at"))),
    )


def credential_under(
    key: bytes, value: Union[bytes, Mapping[bytes, Optional[bytes]], None]
) -> Optional[CredentialFact]:
    """The credential under ``credential:{client}``, marked where it could not be read. None: it is
    gone, or a hash of the older layout, which holds something else."""
    if value is None:
        return None
    fact = decode_credential(value)
    if isinstance(value, Mapping):
        return fact if isinstance(fact, CredentialFact) else None
    named = clean_key(key).partition(b":")[2].decode("utf-8", "replace")
    if isinstance(fact, CredentialFact):
        return fact if fact.client else replace(fact, client=identity_of(named))
    return CredentialFact(identity_of(named), unreadable=True)


def clean_key(raw: bytes) -> bytes:
    """A key's name without the 7 bytes that Java's key serialiser puts before it."""
    if raw.startswith(b"\xac\xed\x00\x05t") and int.from_bytes(raw[5:7], "big") == len(raw) - 7:
        return raw[7:]
    return raw


def _by_first_bytes(value: bytes, names: ClaimNames) -> Decoded:
    for beginning, reader in _BY_FIRST_BYTES:
        if value.startswith(beginning):
            return reader(value, names)
    if value[: len(BEARER)].lower() == BEARER:
        return decode_jwt(value[len(BEARER) :].strip(), "bearer", names)
    stripped = value.strip()
    if stripped != value:
        return _by_first_bytes(stripped, names)
    return undecodable(_foreign(value) or "not_a_token" if value else "empty")


def _foreign(value: bytes) -> Optional[Reason]:
    """The format that the first bytes name; None: none that is known here."""
    for beginning, name in _FOREIGN:
        if value.startswith(beginning):
            return name
    if _PHP.match(value):
        return "php"
    if _MSGPACK.match(value):
        return "msgpack"
    return "snappy" if _SNAPPY.match(value) else None


def _cut_jwt(value: bytes) -> tuple[bytes, Encoding]:
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


def _zipped(plain: bytes, how: str, names: ClaimNames) -> Decoded:
    token = _by_first_bytes(plain, names)
    # Just made and seen by nobody else: the frozen value may still be completed.
    if token.encoding in ("jwt", "json", "java"):
        force_setattr(token, "encoding", f"{token.encoding}+{how}")
    return token


def _unpacked(value: bytes, packed: tuple[str, int, Reason]) -> Union[bytes, Decoded]:
    """At most ``VALUE_LIMIT`` bytes come out, whatever went in."""
    _how, wbits, bad = packed
    unpacker = zlib.decompressobj(wbits=wbits)
    try:
        plain = unpacker.decompress(value, VALUE_LIMIT)
    except zlib.error:
        return undecodable(bad)
    if unpacker.eof:
        return plain
    return undecodable("too_large" if len(plain) == VALUE_LIMIT else bad)


def _record(value: Optional[bytes]) -> Union[Mapping[str, object], Undecodable]:
    if value is None:
        return Undecodable("wrong_type")
    if len(value) > VALUE_LIMIT:
        return Undecodable("too_large")
    packed = _ZIPS.get(value[:2])
    if packed is not None:
        plain = _unpacked(value, packed)
        if isinstance(plain, Decoded):
            return Undecodable(plain.reason or packed[2])
        value = plain
    record: Optional[Mapping[str, object]] = None
    reason = "not_a_token" if value else "empty"
    if value.startswith(MAGIC):
        record, reason = java_record(value), "bad_java"
    elif value.lstrip()[:1] in (b"{", b"["):
        record, reason = json_record(value), "bad_json"
    return Undecodable(cast(Reason, reason)) if record is None else record
