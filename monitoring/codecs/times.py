"""Decision: a point in time, however a service wrote it, as epoch seconds."""

from __future__ import annotations

import datetime as dt
from typing import Any, Optional, Sequence

from monitoring.timestamps import parse_iso

# Seconds stay under this until the year 5138; milliseconds are above it since 1973.
MILLISECONDS_FROM = 1e11
LATEST_MILLISECONDS = 1e14


def epoch_seconds(value: object) -> Optional[float]:
    """Epoch seconds of a number (seconds or milliseconds), a digit string, an ISO-8601 time, or
    Jackson's list of a ``LocalDateTime`` ([year, month, day, hour, minute, second, nanosecond],
    of which those after the day may be missing).

    A time without a zone is taken as UTC. None when the value is not a time.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _from_number(value)
    if isinstance(value, bytes):
        value = value[:64].decode("utf-8", "replace")
    if isinstance(value, str):
        return _from_text(value[:64])
    if isinstance(value, (list, tuple)):
        return _from_parts(value)
    return None


def _from_number(value: float) -> Optional[float]:
    if not 0 <= value < LATEST_MILLISECONDS:  # also refuses NaN
        return None
    if value >= MILLISECONDS_FROM:
        value = value / 1000
    return int(value) if value == int(value) else value


def _from_text(text: str) -> Optional[float]:
    try:
        return _from_number(float(text))
    except ValueError:
        pass
    try:
        return parse_iso(text.partition("[")[0])  # Java adds "[Europe/Paris]"
    except ValueError:
        return None


def _from_parts(parts: Sequence[Any]) -> Optional[float]:
    if not 3 <= len(parts) <= 7 or any(type(part) is not int for part in parts):
        return None
    year, month, day, hour, minute, second = [*parts, 0, 0, 0][:6]
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.timezone.utc)
    except (ValueError, OverflowError):
        return None
    return _from_number(moment.timestamp())
