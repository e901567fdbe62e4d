"""Values: epoch seconds to ISO 8601 and back, the one place where that is done.

Always UTC with a `Z`; `datetime.fromisoformat` does not read a `Z` before Python 3.11.
"""

from __future__ import annotations

import datetime as dt
import re

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"\s*(Z|[+-]\d\d:?(?:\d\d)?)?)?\Z",
    re.IGNORECASE,
)


def iso(at: float) -> str:
    """Epoch seconds as `2026-11-23T02:00:00.123Z` (milliseconds, UTC)."""
    moment = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def iso_seconds(at: float) -> str:
    """Epoch seconds as `2026-11-23T02:00:00Z`, cut to the second."""
    return dt.datetime.fromtimestamp(int(at), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> float:
    """ISO 8601 date or date-time to epoch seconds; without a zone it is read as UTC.

    Reads `2026-11-22T16:53:20.000+0000` as Java prints it. Raises ValueError naming the text.
    """
    found = _ISO.match(text.strip())
    if not found:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time such as 2026-11-23T02:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    clock = (int(hour or 0), int(minute or 0), int(second or 0), micro)
    moment = dt.datetime(int(year), int(month), int(day), *clock, tzinfo=dt.timezone.utc)
    return moment.timestamp() - _offset(zone)


def _offset(zone: str | None) -> float:
    """Seconds east of UTC."""
    if not zone or zone in "Zz":
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0
    return -seconds if zone[0] == "-" else seconds
