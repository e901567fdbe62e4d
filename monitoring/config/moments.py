"""Decision: what a configured moment in time may be."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, Optional

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?) ?([zZ]|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_YEAR_10000 = 253_402_300_800


def moment(value: Any) -> Any:
    """A time: ISO 8601 text or a datetime (YAML makes them), still naive if it names no zone;
    epoch seconds stay numbers. None: not given."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, (str, date)):
        # not left to fromisoformat alone: what it accepts differs between Python 3.9 and 3.11
        found = _MOMENT.fullmatch(str(value).strip())
        if found:
            return _read_moment(*found.groups())
    elif isinstance(value, (int, float)) and 0 < value < _YEAR_10000:
        return float(value)
    raise ValueError("write a time such as 2026-12-24T22:00:00+01:00")


def epoch(when: Any, zone: Any) -> Optional[float]:
    """A `moment` as epoch seconds; one that names no zone is in `zone`."""
    if isinstance(when, datetime):
        aware = when if when.tzinfo else when.replace(tzinfo=zone)
        return aware.timestamp()
    return when if when is None else float(when)


def _read_moment(day: str, clock: Optional[str], zone: Optional[str]) -> datetime:
    offset = (zone or "").upper().replace("Z", "+00:00")
    if offset and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    try:
        return datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}")
    except ValueError:
        raise ValueError("there is no such date or time") from None
