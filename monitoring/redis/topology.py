"""Decision: who is who, read from what a cluster or a sentinel answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from monitoring.text import printable

MOST_FIELDS = 5000  # of an answer of lines
_LONGEST = 1000  # characters of a field
_FIGURE = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


class Member(NamedTuple):
    """A server of a topology. `role` primary or replica; `up` as the others see it; `of` names
    the primary a replica follows ("host:port"; "" for a primary or when unknown)."""

    host: str
    port: int
    role: str
    up: bool
    of: str = ""

    @property
    def name(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Node:
    """A server of the cache. `name` is "host:port"; `role` primary, replica, or node (a single
    server: INFO tells). `up` False: its fellows call it down. `client` is a redis.Redis."""

    name: str
    role: str
    client: Any
    up: bool = True


def text(value: Any) -> str:
    """Bytes or text as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def fields(value: Any) -> dict[str, Any]:
    """A reply of `name:value` lines (INFO, CLUSTER INFO). A value is an int, a float, a mapping
    (`ip=10.0.0.1,port=6379`), or printable text where it is nothing of these."""
    rows = (line.partition(":") for line in text(value).splitlines()[:MOST_FIELDS])
    return {printable(name, _LONGEST): _field(name, item) for name, colon, item in rows if colon}


def pairs(value: Any) -> dict[str, Any]:
    """A flat list name, value, name, value ... (SENTINEL MASTER in RESP2); values as in
    `fields`."""
    items = [text(item) for item in value[: 2 * MOST_FIELDS]] if isinstance(value, list) else []
    return {printable(n, _LONGEST): _figure(v) for n, v in zip(items[::2], items[1::2])}


def _field(name: str, item: str) -> Any:
    if name.endswith("_version"):
        return printable(item, _LONGEST)  # 7.10 is no number
    parts = [part.partition("=") for part in item[:_LONGEST].split(",")]
    if all(equals for _, equals, _ in parts):
        return {printable(name): _figure(value) for name, _, value in parts}
    return _figure(item)


def _figure(item: str) -> Any:
    """The number that a text is, of at most 18 digits; else the text."""
    found = _FIGURE.fullmatch(item)
    if found is None:
        return printable(item, _LONGEST)
    return float(item) if found[1] else int(item)


def cluster_members(reply: Any, seed: str, *, prefer_names: bool) -> list[Member]:
    """The servers that CLUSTER NODES lists, primaries first. `seed` stands in for the empty host
    with which a lone node lists itself; `prefer_names`: announced host names over addresses."""
    rows = [line.split() for line in text(reply).splitlines()]
    rows = [row for row in rows if len(row) >= 8 and not {"handshake", "noaddr"} & _flags(row)]
    ids = {row[0]: _place(row[1], seed, prefer_names) for row in rows}
    members = []
    for row in rows:
        host, number = ids[row[0]]
        if not number:
            continue
        role = "primary" if {"master", "primary"} & _flags(row) else "replica"
        up = not {"fail", "fail?"} & _flags(row)
        of = ids.get(row[3])
        members.append(Member(host, number, role, up, f"{of[0]}:{of[1]}" if of else ""))
    return sorted(members, key=lambda m: (m.role, m.host, m.port))


def _flags(row: Sequence[str]) -> set[str]:
    return set(row[2].split(","))


def _place(address: str, seed: str, prefer_names: bool) -> tuple[str, int]:
    place, _, hostname = address.partition(",")
    host, _, number = place.partition("@")[0].rpartition(":")
    named = hostname.split(",")[0]
    if prefer_names and named and "=" not in named:
        host = named
    return printable(host, 255) or seed, port(number)


def port(word: str) -> int:
    """A TCP port, 0 for what is none."""
    number = int(word) if word.isascii() and word.isdigit() and len(word) <= 5 else 0
    return number if number < 65536 else 0


def sentinel_replicas(reply: Any, primary: str) -> list[Member]:
    """The replicas that SENTINEL REPLICAS lists."""
    members = []
    for row in map(pairs, reply if isinstance(reply, list) else []):
        flags = set(text(row.get("flags", "")).split(","))
        down = {"s_down", "o_down", "disconnected"} & flags
        up = not down and row.get("master-link-status", "ok") == "ok"
        host, number = text(row.get("ip", "")), port(text(row.get("port", "")))
        found = Member(host, number, "replica", up, primary)
        members += [found] if found.port else []
    return members


def info_replicas(info: Mapping[str, Any], primary: str) -> list[Member]:
    """The replicas that a primary's INFO lists (`slave0`, `slave1`, ...)."""
    rows = [v for k, v in info.items() if k.startswith("slave") and isinstance(v, Mapping)]
    return [
        Member(text(r["ip"]), port(text(r["port"])), "replica", r.get("state") == "online", primary)
        for r in rows
        if "ip" in r and "port" in r
    ]


def scanned(members: Sequence[Member], replicas: Sequence[Member]) -> list[Member]:
    """Whom to read every key from once: each primary, or a live one of `replicas` in its place."""
    primaries = [m for m in members if m.role != "replica"]
    return [next((r for r in replicas if r.of == p.name and r.up), p) for p in primaries]


def slow_commands(reply: Any, count: int) -> list[tuple[str, float]]:
    """The `count` slowest of SLOWLOG GET as (command name, milliseconds), slowest first. Names
    alone: the arguments are keys, and keys hold tokens."""
    found = []
    for entry in reply if isinstance(reply, list) else ():
        if isinstance(entry, list) and len(entry) > 3 and isinstance(entry[2], int):
            words = entry[3] if isinstance(entry[3], list) else []
            found.append((_command(words), entry[2] / 1000.0))
    return sorted(found, key=lambda row: -row[1])[:count]


def _command(words: Sequence[Any]) -> str:
    name = text(words[0]).upper() if words else ""
    known = name.isascii() and name.replace(".", "").replace("_", "").isalnum() and len(name) <= 24
    return name if known else "?"
