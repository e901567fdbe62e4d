"""Decision: a token out of named fields, whichever of the usual names a service gave them."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from monitoring.codecs.facts import (
    VERSION_CLAIMS,
    ClaimNames,
    Decoded,
    Encoding,
    Unsure,
    undecodable,
)
from monitoring.codecs.times import Moment, read_time
from monitoring.redact import identity_of

JTI = ("jti", "tokenId", "token_id", "id")
ISSUED = ("iat", "issuedAt", "issued_at", "createdAt", "created_at")
EXPIRES = ("exp", "expirationTime", "expiresAt", "expires_at", "expiration", "expiry")
CLIENT = ("clientId", "client_id", "azp", "sub", "subject", "client")
JWT_TEXT = ("tokenString", "token", "jwt", "access_token", "accessToken")
TEXT_LIMIT = 256
LIST_LIMIT = 256
_WORDS_LIMIT = 16 * 1024
#: Auth0 writes a client's own token as of `client@clients`.
_SUFFIX = "@clients"
_OWNERS_LIMIT = 8
#: How a client is named within an object of its own.
_WITHIN = ("client_id", "clientId", "id", "sub", "name")
USUAL = ClaimNames()


def from_claims(claims: Mapping[str, Any], encoding: Encoding, names: ClaimNames) -> Decoded:
    """A token from the claims of a JWT: none but the registered names hold its times and id."""
    return _token((claims,), encoding, names, jwt=True)


def from_record(
    record: Mapping[str, Any], encoding: Encoding, names: ClaimNames = USUAL
) -> Decoded:
    """A token from its fields, with those of a nested ``claims`` before the outer ones.

    Undecodable ("bad_claims") when neither a client, an id nor an expiry is among them, and
    "bad_time" when a time is there that is none.
    """
    claims = unwrap(record.get("claims"))
    places = (claims, record) if isinstance(claims, Mapping) else (record,)
    return _token(places, encoding, names, jwt=False)


def _token(
    places: Sequence[Mapping[str, Any]], encoding: Encoding, names: ClaimNames, *, jwt: bool
) -> Decoded:
    wanted = (("iat",), ("exp",), ("nbf",)) if jwt else (ISSUED, EXPIRES, ("nbf",))
    found = [_first(places, each) for each in wanted]
    times = [read_time(value, jwt=jwt) for value in found]
    iat, exp, nbf = times
    if (iat is None and found[0] is not None) or (exp is None and found[1] is not None):
        return undecodable("bad_time", encoding)
    owners = owners_of(places, names.client if jwt else (*names.client, *CLIENT))
    client, jti = owners[0][1] if owners else None, text(_first(places, JTI[:1] if jwt else JTI))
    if client is None and jti is None and exp is None:
        return undecodable("bad_claims", encoding)
    return Decoded(
        client=client,
        jti=jti,
        iat=_whole(iat.at, up=False) if iat else None,
        exp=_whole(exp.at, up=True) if exp else None,
        nbf=nbf.earliest if nbf else None,
        aud=_audience(_first(places, ("aud",) if jwt else ("aud", "audience"))),
        iss=text(_first(places, ("iss",) if jwt else ("iss", "issuer"))),
        permissions=grants_of(places, names),
        version=text(_first(places, VERSION_CLAIMS)),
        encoding=encoding,
        unsure=_unsure(owners, iat, exp, nbf),
    )


def _whole(at: float, *, up: bool) -> int:
    """Whole seconds: a token lives to the end of its last second, from the start of its first."""
    return -int(-at // 1) if up else int(at)


def _unsure(
    owners: Tuple[Tuple[str, str], ...],
    iat: Optional[Moment],
    exp: Optional[Moment],
    nbf: Optional[Moment],
) -> Optional[Unsure]:
    doubts = tuple(dict.fromkeys(d for each in (exp, iat, nbf) if each for d in each.doubts))
    if len(owners) < 2 and not doubts:
        return None
    return Unsure(
        owners if len(owners) > 1 else (),
        since=_whole(iat.earliest, up=False) if iat and iat.earliest != iat.at else None,
        until=_whole(exp.latest, up=True) if exp and exp.latest != exp.at else None,
        doubts=doubts,
    )


def owners_of(
    places: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Tuple[Tuple[str, str], ...]:
    """(claim, client) of each client that is named, once, in the order of ``names``."""
    found: dict[str, Tuple[str, str]] = {}
    for name in names:
        for client in (each for value in _at(places, name) for each in _clients(value)):
            found.setdefault(bare_client(client), (name, client))
    return tuple(found.values())[:_OWNERS_LIMIT]


def _clients(value: object) -> List[str]:
    """A text, a list of some, or an object with one of the usual names."""
    if type(value) is str:
        return [value[:TEXT_LIMIT]] if value else []
    if isinstance(value, (list, tuple)):
        named = [text(each) for each in value[:_OWNERS_LIMIT]]
    elif isinstance(value, dict):
        named = [text(first(value, _WITHIN))]
    else:
        named = [text(value)]
    return [client for client in named if client]


def bare_client(client: str) -> str:
    """Whom an id means: without the ending that Auth0 puts behind it, and never a secret."""
    bare = (client[: -len(_SUFFIX)] or client) if client.endswith(_SUFFIX) else client
    return identity_of(bare)


def grants_of(places: Sequence[Mapping[str, Any]], names: ClaimNames) -> Optional[Tuple[str, ...]]:
    """Every permission that any of the claims grants; None when none of them is there."""
    found: Optional[dict[str, None]] = None
    for name in names.permissions:
        granted = next((texts(value) for value in _at(places, name)), None)
        if granted is not None:
            found = {**(found or {}), **dict.fromkeys(granted)}
    return None if found is None else tuple(found)


def _at(places: Sequence[Mapping[str, Any]], name: str) -> List[Any]:
    """What stands in each place under a name, or where its dots lead, unwrapped."""
    found = [place.get(name) for place in places]
    if "." in name:
        found = [
            _nested(place, name) if value is None else value for place, value in zip(places, found)
        ]
    return [unwrap(value) for value in found if value is not None]


def _nested(place: Mapping[str, Any], name: str) -> Any:
    value: Any = place
    for part in name.split("."):
        value = unwrap(value.get(part)) if isinstance(value, dict) else None
    return value


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
    if type(value) is str:
        return value[:TEXT_LIMIT] or None
    if isinstance(value, bytes):
        value = value[: TEXT_LIMIT * 4].decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 1 << 127 else None
    return value[:TEXT_LIMIT] or None if isinstance(value, str) else None


def texts(value: object) -> Optional[Tuple[str, ...]]:
    """A list of texts, or one text of words (OAuth's scope); None when it is neither."""
    if isinstance(value, (str, bytes)):
        joined = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return tuple(joined[:_WORDS_LIMIT].replace(",", " ").split()[:LIST_LIMIT])
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
