"""Acquire: what to ask a server for, for which keys: the commands of a scan, and no other."""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, Dict, Iterable, List, Set, Tuple

from monitoring.cache.pipeline import Command
from monitoring.cache.profiles import CREDENTIAL, Rule
from monitoring.token_codecs import CREDENTIAL_FIELDS, TOKEN_FIELDS

FIELDS_ALL_PAGES = 3  # after these only the fields that are in use are asked for
FIELDS_AGAIN_EVERY = 64

COMMANDS = {
    "string": b"MGET", "hash": b"HMGET", "set": b"SCARD", "type": b"TYPE", "ttl": b"PTTL",
    "length": b"STRLEN",
}  # fmt: skip
#: What each of them answers with, where it is one word.
ANSWERS = {"set": int, "ttl": int, "length": int, "type": bytes}
PTTL = b"PTTL"


@dataclass
class Ask:
    """Commands on their way for some keys of a rule, and what was tried on these keys before."""

    what: str  # string, hash, set, type, ttl, length
    rule: Rule
    keys: List[bytes]
    ttls: bool = False
    fields: Tuple[bytes, ...] = ()
    tried: Tuple[str, ...] = ()
    context: Any = None
    runs: Tuple[int, ...] = ()  # string: how many of the keys go into each MGET

    @property
    def command(self) -> bytes:
        return COMMANDS[self.what]

    @property
    def replies(self) -> int:
        """How many replies come before those to PTTL."""
        return len(self.runs) if self.what == "string" else len(self.keys)

    def commands(self) -> List[Command]:
        return [*self._reads(), *([(PTTL, key) for key in self.keys] if self.ttls else ())]

    def _reads(self) -> Iterable[Command]:
        if self.what == "string":
            ends = list(accumulate(self.runs))
            return [(b"MGET", *self.keys[end - n : end]) for n, end in zip(self.runs, ends)]
        if self.what == "hash":
            return [(b"HMGET", key, *self.fields) for key in self.keys]
        return [(self.command, key) for key in self.keys]


class FieldPlan:
    """Which fields of a family's hashes to ask for: all at first, then those that are in use."""

    def __init__(self) -> None:
        self._used: Dict[Rule, Set[bytes]] = {}

    def wanted(self, rule: Rule, page: int) -> Tuple[bytes, ...]:
        if rule.role == CREDENTIAL:
            return CREDENTIAL_FIELDS
        used = self._used.get(rule)
        if not used or page <= FIELDS_ALL_PAGES or page % FIELDS_AGAIN_EVERY == 0:
            return TOKEN_FIELDS
        return tuple(sorted(used))

    def note(self, rule: Rule, hashes: Iterable[Dict[bytes, bytes]]) -> None:
        self._used.setdefault(rule, set()).update(*hashes)


def slot_of(key: bytes) -> int:
    """The cluster slot of a key: CRC16 (XMODEM) of it, or of what stands in its first braces."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) & 16383


def runs_by_slot(keys: List[bytes]) -> Tuple[int, ...]:
    """Sort keys so that those of one slot stand together; how many there are of each."""
    keys.sort(key=slot_of)
    return tuple(len(list(run)) for _slot, run in groupby(keys, key=slot_of))
