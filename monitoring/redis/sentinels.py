"""Acquire: what the sentinels know: the current primary, its replicas, whether they have a quorum.

Plain commands, asked of one sentinel after the other; the first that answers is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Callable, NamedTuple, Optional

from monitoring.http.wire import place
from monitoring.model import Fault
from monitoring.redis import topology as redis_topology
from monitoring.redis.faults import RedisFault
from monitoring.redis.topology import Member
from monitoring.text import printable

# -- what a cluster says of itself, asked of the first configured node that answers.

Address = tuple[str, int]


def ask(
    seeds: Sequence[Address],
    word: str,
    connect: Callable[[str, int], Any],
    asking: Callable[[str, str], AbstractContextManager[None]],
) -> tuple[str, Any]:
    """(host, its answer to CLUSTER `word`) of the first of `seeds` that answers. `connect` gives a
    client, `asking(where, command)` turns errors of the library into RedisFault.

    Raises RedisFault: the first node's, or config where nodes answer and are of no cluster."""
    faults: list[RedisFault] = []
    for host, port in seeds:
        try:
            with asking(place(host, port), "CLUSTER"):
                return host, connect(host, port).execute_command("CLUSTER", word)
        except RedisFault as error:
            faults.append(error)
    refused = [fault for fault in faults if fault.fault.kind == "protocol"]
    if refused and len(refused) == len(faults):
        text = f"{place(*seeds[0])} is not part of a cluster: set REDIS_CLUSTER to False"
        raise RedisFault(Fault("config", text))
    raise faults[0]


class Sentinel(NamedTuple):
    """One sentinel: `name` "host:port", `open` gives a client, with or without our login."""

    name: str
    open: Callable[[bool], Any]


class Sentinels:
    """Asks `sentinels` about the primary called `master`. `asking(where, command)` is a context
    that turns errors of the library into RedisFault."""

    def __init__(
        self,
        sentinels: Sequence[Sentinel],
        master: str,
        asking: Callable[[str, str], AbstractContextManager[None]],
    ) -> None:
        self._sentinels = sentinels
        self._master = master
        self._asking = asking

    def members(self) -> list[Member]:
        """The primary, then its replicas. Raises RedisFault (config: nobody knows its name)."""
        sentinel, answer = self._first("GET-MASTER-ADDR-BY-NAME")
        if not answer:
            text = f"the sentinels know no primary named {self._master!r}: correct REDIS_MASTER"
            raise RedisFault(Fault("config", text))
        with self._asking(sentinel.name, "SENTINEL"):
            host, port = (redis_topology.text(word) for word in answer)
            primary = Member(printable(host, 255), redis_topology.port(port), "primary", True)
            if not primary.port:
                raise ValueError("no port")
        try:
            rows = self._ask(sentinel, "REPLICAS")
        except RedisFault:  # before Redis 5 the command had another name
            rows = self._ask(sentinel, "SLAVES")
        return [primary, *redis_topology.sentinel_replicas(rows, primary.name)]

    def info(self) -> dict[str, Any]:
        """SENTINEL MASTER of the first that answers, with `quorum_ok` (None: not told) and
        `asked`, `answering` (numbers of sentinels). Raises RedisFault when none does."""
        states = []
        faults = []
        for sentinel in self._sentinels:
            try:
                states.append((sentinel, redis_topology.pairs(self._ask(sentinel, "MASTER"))))
            except RedisFault as error:
                faults.append(error)
        if not states:
            raise faults[0]
        counts = {"asked": len(self._sentinels), "answering": len(states)}
        return {**states[0][1], **counts, "quorum_ok": self._quorum(states[0][0])}

    def _quorum(self, sentinel: Sentinel) -> Optional[bool]:
        try:
            self._ask(sentinel, "CKQUORUM")
        except RedisFault as error:
            return False if error.fault.kind == "masterdown" else None
        return True

    def _first(self, command: str) -> tuple[Sentinel, Any]:
        faults: list[RedisFault] = []
        for sentinel in self._sentinels:
            try:
                return sentinel, self._ask(sentinel, command)
            except RedisFault as error:
                faults.append(error)
        names = ", ".join(sentinel.name for sentinel in self._sentinels)
        kind = faults[0].fault.kind
        if kind == "protocol":
            text = f"{names}: no Sentinel answers there; REDIS_SENTINELS names Sentinels alone"
            raise RedisFault(Fault("config", text))
        raise RedisFault(Fault(kind, f"no sentinel answers ({names}): {faults[0].fault.message}"))

    def _ask(self, sentinel: Sentinel, command: str) -> Any:
        """Without a login first: most sentinels have none, and refuse one that is offered."""
        try:
            return self._once(sentinel, command, False)
        except RedisFault as error:
            if error.fault.kind != "auth":
                raise
        return self._once(sentinel, command, True)

    def _once(self, sentinel: Sentinel, command: str, login: bool) -> Any:
        with self._asking(sentinel.name, f"SENTINEL {command}"):
            return sentinel.open(login).execute_command("SENTINEL", command, self._master)


def named(host: str, port: int, connect: Callable[..., Any]) -> Sentinel:
    """A Sentinel whose clients `connect(host, port, login=...)` makes, each once."""
    made: dict[bool, Any] = {}

    def client(login: bool) -> Any:
        if login not in made:
            made[login] = connect(host, port, login=login)
        return made[login]

    return Sentinel(place(host, port), client)
