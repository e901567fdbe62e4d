"""Values: what one step of a scan brings, before anybody decodes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional

from monitoring.cache.profiles import Rule


@dataclass
class Part:
    """Some keys of one rule and what they hold; the lists run in parallel.

    ``kind`` "string": ``values`` are bytes. "hash": dicts of the fields that are there. "set":
    how many members. "ttl": milliseconds as PTTL gives them, ``context`` as it was handed to
    ``ask_ttls``. ``ttls`` is there when expiries were asked for along with the values.
    """

    rule: Rule
    kind: str
    keys: List[bytes]
    values: List[Any]
    ttls: Optional[List[Optional[int]]] = None
    context: Any = None


@dataclass
class Page:
    """One step's parts. ``gone`` keys expired meanwhile, ``others`` are of types without tokens."""

    parts: List[Part] = field(default_factory=list)
    gone: int = 0
    others: int = 0
