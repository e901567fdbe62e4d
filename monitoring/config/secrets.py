"""Values: every secret that settings hold, for the redaction list."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from monitoring.settings import Secret


def secrets_of(value: object) -> Iterator[str]:
    """Every secret inside settings, revealed, and of every URL its password (or lone user, which is
    a token) and the values of its query, for the redaction list; files that cannot be read are
    left to whoever needs them."""
    if isinstance(value, Secret):
        with contextlib.suppress(OSError):
            yield value.reveal()
    elif isinstance(value, str) and "://" in value:
        yield from _in_url(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_of(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from secrets_of(item)
    elif dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield from secrets_of(getattr(value, part.name))


def _in_url(url: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        found = [parts.password or parts.username or ""]
        found += [value for _, value in parse_qsl(parts.query)]
        yield from found
        yield from map(unquote, found)
