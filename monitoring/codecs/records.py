"""Decision: a token out of named fields, whichever of the usual names a service gave them."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple, Union

from monitoring.codecs.facts import Decoded, Encoding, undecodable
from monitoring.codecs.times import epoch_seconds

CLIENT = ("sub", "clientId", "client_id", "azp", "subject", "client")
JTI = ("jti", "tokenId", "token_id", "id")
ISSUED = ("iat", "issuedAt", "issued_at", "createdAt", "created_at")
EXPIRES = ("exp", "expirationTime", "expiresAt", "expires_at", "expiration", "expiry")
PERMISSIONS = ("permissions", "scope", "scopes", "authorities")
VERSION = ("credential_version", "credentialVersion", "secret_version", "secretVersion")
JWT_TEXT = ("tokenString", "token", "jwt", "access_token", "accessToken")
TEXT_LIMIT = 256
LIST_LIMIT = 64


def from_record(record: Mapping[str, Any], encoding: Encoding) -> Decoded:
    """A token from its fields, with those of a nested ``claims`` before the outer ones.

    Undecodable ("bad_claims") when neither a client, an id nor an expiry is among them, and
    "bad_time" when a time is there that is none.
    """
    claims = unwrap(record.get("claims"))
    places = (claims, record) if isinstance(claims, Mapping) else (record,)
    issued, expires = _first(places, ISSUED), _first(places, EXPIRES)
    iat, exp = epoch_seconds(issued), epoch_seconds(expires)
    if (exp is None and expires is not None) or (iat is None and issued is not None):
        return undecodable("bad_time", encoding)
    client, jti = text(_first(places, CLIENT)), text(_first(places, JTI))
    if client is None and jti is None and exp is None:
        return undecodable("bad_claims", encoding)
    return Decoded(
        client=client,
        jti=jti,
        iat=iat,
        exp=exp,
        aud=_audience(_first(places, ("aud", "audience"))),
        iss=text(_first(places, ("iss", "issuer"))),
        permissions=texts(_first(places, PERMISSIONS)),
        version=text(_first(places, VERSION)),
        encoding=encoding,
    )


def unwrap(value: Any) -> Any:
    """Jackson's ``["java.util.Date", 1795403600000]`` is the second of the two."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and _is_class_name(value[0]):
        return value[1]
    return value


def first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first field among ``names`` that is there and not null, unwrapped."""
    for name in names:
        value = record.get(name)
        if value is not None:
            return unwrap(value)
    return None


def text(value: object) -> Optional[str]:
    """A short text, from text, bytes or a number; None for anything else and for no text."""
    if isinstance(value, bytes):
        value = value[: TEXT_LIMIT * 4].decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 1 << 127 else None
    return value[:TEXT_LIMIT] or None if isinstance(value, str) else None


def texts(value: object) -> Optional[Tuple[str, ...]]:
    """A list of texts, or one text of words (OAuth's scope); None when it is neither."""
    if isinstance(value, (str, bytes)):
        joined = text(value) or ""
        return tuple(joined.replace(",", " ").split()[:LIST_LIMIT])
    if isinstance(value, (list, tuple)):
        return tuple(item for item in map(text, value[:LIST_LIMIT]) if item is not None)
    return None


def _audience(value: object) -> Union[str, Tuple[str, ...], None]:
    return texts(value) if isinstance(value, (list, tuple)) else text(value)


def _first(places: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    for place in places:
        value = first(place, names)
        if value is not None:
            return value
    return None


def _is_class_name(value: object) -> bool:
    if not isinstance(value, str) or value.count(".") < 2:
        return False
    return value.rpartition(".")[2][:1].isupper()
