"""Acquire: the time zone in which this machine's people live, by its IANA name."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Mapping, Tuple
from zoneinfo import ZoneInfo

UTC = "UTC"
_ALIASES = ("Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "Zulu", "Universal", "UCT", UTC)


def local_zone(
    environ: Mapping[str, str] = os.environ, root: Path = Path("/etc")
) -> Tuple[str, dt.tzinfo]:
    """Name and zone: of TZ, else of /etc/localtime, else of /etc/timezone; UTC where none of them
    names a zone that is known here."""
    names = (environ.get("TZ", "").lstrip(":"), _linked(root / "localtime"), _written(root))
    for name in names:
        zone = None if name in _ALIASES else zone_of(name)
        if zone is not None:
            return name, zone
        if name in _ALIASES:
            break
    return UTC, dt.timezone.utc


def zone_of(name: str) -> dt.tzinfo | None:
    """The zone of an IANA name; None when there is none (or no time zone data on this machine)."""
    if name == UTC:
        return dt.timezone.utc
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):
        return None


def _linked(path: Path) -> str:
    """`Europe/Berlin` of a link to .../zoneinfo/Europe/Berlin."""
    try:
        target = os.readlink(path)
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]


def _written(root: Path) -> str:
    try:
        return (root / "timezone").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
