"""Decision: a point in time, however a service wrote it, as epoch seconds."""

from __future__ import annotations

from typing import Optional

from monitoring.timestamps import parse_iso

# Seconds stay under this until the year 5138; milliseconds are above it since 1973.
MILLISECONDS_FROM = 1e11
LATEST_MILLISECONDS = 1e14


def epoch_seconds(value: object) -> Optional[float]:
    """Epoch seconds of a number (seconds or milliseconds), a digit string or an ISO-8601 time.

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
