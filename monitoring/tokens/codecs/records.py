"""Decision: a token out of named fields, and a point in time however a service wrote it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from monitoring.certainty import Doubt
from monitoring.text import identity_of, parse_iso, safe_id
from monitoring.tokens.codecs.facts import (
    VERSION_CLAIMS,
    ClaimNames,
    Decoded,
    Encoding,
    Unsure,
    undecodable,
)

# -- a point in time, however a service wrote it, and whether it can be read otherwise.
# RFC 7519 knows seconds since 1970 alone. Milliseconds, microseconds and nanoseconds are the format
# of many JSON records and a fault inside a JWT, where validators read the year 58000. 9999-12-31
# and 999999999999 stand for "never". A time without a zone is in the zone of the process that wrote
# it.

#: 9999-12-31T23:59:59Z, the last second that can be printed. Whatever lives longer lives till then.
NEVER = 253_402_300_799
# Seconds stay under this until the year 5138; milliseconds are above it since 1973.
UNITS_FROM = 10**11
# A unit is believed when the time it gives lies in these years: since 2010 there are JWTs.
_YEAR_2010, _YEAR_2200 = 1_262_304_000, 7_258_118_400
_UNITS = ((1000, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds"))
# Offsets from UTC reach from 12 hours west to 14 hours east.
_WEST, _EAST, _DAY = 12 * 3600, 14 * 3600, 86400

#: Every doubt is also the name of a hygiene finding, which says what follows from it.
IN_UNITS = Doubt(
    "two_readings",
    "a time in a JWT is not in seconds: validators read a year far ahead, others the time meant",
)
FAR = Doubt("two_readings", "a time is either thousands of years ahead or in the past, by its unit")
ZERO = Doubt(
    "two_readings", "an expiry of 0 is the year 1970 for some validators, never for others"
)
TEXT = Doubt("two_readings", "a time in a JWT is a text: some validators refuse it, others read it")
NO_ZONE = Doubt("two_readings", "a time has no zone: it may be up to 14 hours off")


@dataclass(frozen=True)
class Moment:
    """A time in epoch seconds: `at` is the reading to believe, the true one lies somewhere in
    `earliest` to `latest` (NEVER at most). Without `doubts` all three are one."""

    at: float
    earliest: float
    latest: float
    doubts: tuple[Doubt, ...] = ()


def read_time(value: object, *, jwt: bool = False) -> Optional[Moment]:
    """A number (seconds or, where that is plausible, a smaller unit), a digit string, an ISO-8601
    time, or Jackson's list of a ``LocalDateTime`` ([year, month, day, hour, minute, second,
    nanosecond], of which those after the day may be missing).

    ``jwt``: it stands in a JWT, which knows whole or fractional seconds alone; other units and
    texts are read too, with a doubt. None when the value is not a time.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _number(value, jwt)
    if isinstance(value, bytes):
        value = value[:64].decode("utf-8", "replace")
    if isinstance(value, str):
        found = _text(value[:64], jwt)
        return _doubted(found, TEXT) if found and jwt else found
    if isinstance(value, (list, tuple)):
        return _parts(value)
    return None


def epoch_seconds(value: object) -> Optional[float]:
    """``read_time`` as one number, the reading to believe: for times of which no verdict on a
    token is made. A time without a zone is taken as UTC. None: no time, or none of our age."""
    found = read_time(value)
    return found.at if found is not None and 0 < found.at < UNITS_FROM else None


def _sole(at: float) -> Moment:
    at = int(at) if at == int(at) else at
    return Moment(at, at, at)


def _doubted(moment: Moment, doubt: Doubt) -> Moment:
    return Moment(moment.at, moment.earliest, moment.latest, (*moment.doubts, doubt))


def _number(value: float, jwt: bool) -> Optional[Moment]:
    if not value >= -1:  # also refuses NaN
        return None
    if value <= 0:
        return Moment(0, 0, NEVER, (ZERO,))
    value = min(value, 10**30)
    if value < UNITS_FROM:
        return _sole(value)
    meant = [value / by for by, _name in _UNITS if _YEAR_2010 <= value / by < _YEAR_2200]
    if not meant:
        past = next((v for v in (value / by for by, _name in _UNITS) if v < UNITS_FROM), 0)
        return Moment(NEVER, min(past, NEVER), NEVER, (FAR,))
    found = _sole(meant[0])
    return Moment(found.at, found.at, NEVER, (IN_UNITS,)) if jwt else found


def _text(text: str, jwt: bool) -> Optional[Moment]:
    try:
        return _number(float(text), jwt)
    except ValueError:
        pass
    text = text.partition("[")[0].strip()  # Java adds "[Europe/Paris]"
    try:
        at = min(parse_iso(text), NEVER)
    except ValueError:
        return None
    if at < 0:
        return None
    if _has_zone(text):
        return _sole(at)
    return _zoneless(at, whole_day=":" not in text)


def _has_zone(text: str) -> bool:
    """Of a text that `parse_iso` read."""
    clock = text[10:]
    return clock.upper().endswith(("Z", "UTC", "GMT")) or "+" in clock or "-" in clock


def _zoneless(at: float, *, whole_day: bool = False) -> Moment:
    earliest, latest = at - _EAST, at + _WEST + (_DAY if whole_day else 0)
    at = int(at) if at == int(at) else at
    return Moment(at, max(0, earliest), min(latest, NEVER), (NO_ZONE,))


def _parts(parts: Sequence[Any]) -> Optional[Moment]:
    if not 3 <= len(parts) <= 7 or any(type(part) is not int for part in parts):
        return None
    year, month, day, hour, minute, second = [*parts, 0, 0, 0][:6]
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.timezone.utc)
    except (ValueError, OverflowError):
        return None
    at = moment.timestamp()
    return _zoneless(at, whole_day=len(parts) == 3) if at >= 0 else None


# -- a token out of named fields, whichever of the usual names a service gave them.

JTI = ("jti", "tokenId", "token_id", "id")
ISSUED = ("iat", "issuedAt", "issued_at", "createdAt", "created_at")
EXPIRES = ("exp", "expirationTime", "expiresAt", "expires_at", "expiration", "expiry")
CLIENT = ("clientId", "client_id", "azp", "sub", "subject", "client")
JWT_TEXT = ("tokenString", "token", "jwt", "access_token", "accessToken")
TEXT_LIMIT = 256
_BYTES_READ = 65536  # of a text in bytes
LIST_LIMIT = 256
_WORDS_LIMIT = 16 * 1024
#: Auth0 writes a client's own token as of `client@clients`.
_SUFFIX = "@clients"
_OWNERS_LIMIT = 8
#: How a client is named within an object of its own.
_WITHIN = ("client_id", "clientId", "id", "sub", "name")
#: How a permission is named within an object of its own.
_PERMISSION = ("authority", "permission", "role", "name", "value", "id")
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
    if nbf is not None and ZERO in nbf.doubts:
        nbf = None  # valid since 1970, as everything without it is; some issuers write 0
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
        nbf=None if nbf is None else nbf.at if FAR in nbf.doubts else nbf.earliest,
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
    owners: tuple[tuple[str, str], ...],
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
) -> tuple[tuple[str, str], ...]:
    """(claim, client) of each client that is named, once, in the order of ``names``."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        for client in (each for value in _at(places, name) for each in _clients(value)):
            found.setdefault(bare_client(client), (name, client))
    return tuple(found.values())[:_OWNERS_LIMIT]


def _clients(value: object) -> list[str]:
    """A text, a list of some, or an object with one of the usual names."""
    if type(value) is str:
        return [_bounded(value)] if value else []
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


def grants_of(places: Sequence[Mapping[str, Any]], names: ClaimNames) -> Optional[tuple[str, ...]]:
    """Every permission that any of the claims grants; None when none of them is there."""
    found: Optional[dict[str, None]] = None
    for name in names.permissions:
        granted = next((_granted(value) for value in _at(places, name)), None)
        if granted is not None:
            found = {**(found or {}), **dict.fromkeys(granted)}
    return None if found is None else tuple(found)


def _granted(value: object) -> Optional[tuple[str, ...]]:
    """As `texts`; also Spring's list of objects that each name one (`{"authority": "ROLE_X"}`), and
    an object of names that are true."""
    if isinstance(value, dict):
        value = [name for name, given in value.items() if given]
    if isinstance(value, (list, tuple)):
        value = [first(e, _PERMISSION) if isinstance(e, dict) else e for e in value[:LIST_LIMIT]]
    return texts(value)


def _at(places: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
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
        return _bounded(value) or None
    if isinstance(value, bytes):
        value = value[:_BYTES_READ].decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 1 << 127 else None
    return _bounded(value) or None if isinstance(value, str) else None


def _bounded(value: str) -> str:
    """At most TEXT_LIMIT characters, and two texts never become one: see `safe_id`."""
    return value if len(value) <= TEXT_LIMIT else safe_id(value, TEXT_LIMIT)


def texts(value: object) -> Optional[tuple[str, ...]]:
    """A list of texts, or one text of words (OAuth's scope); None when it is neither."""
    if isinstance(value, (str, bytes)):
        joined = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return tuple(joined[:_WORDS_LIMIT].replace(",", " ").split()[:LIST_LIMIT])
    if isinstance(value, (list, tuple)):
        return tuple(item for item in map(text, value[:LIST_LIMIT]) if item is not None)
    return None


def _audience(value: object) -> Union[str, tuple[str, ...], None]:
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
