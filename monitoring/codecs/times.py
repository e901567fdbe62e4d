"""Decision: a point in time, however a service wrote it, and whether it can be read otherwise.

RFC 7519 knows seconds since 1970 alone. Milliseconds, microseconds and nanoseconds are the format
of many JSON records and a fault inside a JWT, where validators read the year 58000. 9999-12-31 and
999999999999 stand for "never". A time without a zone is in the zone of the process that wrote it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

from monitoring.certainty import Doubt
from monitoring.timestamps import parse_iso

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
    doubts: Tuple[Doubt, ...] = ()


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
    return bool(clock) and (clock[-1] in "Zz" or "+" in clock or "-" in clock)


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
