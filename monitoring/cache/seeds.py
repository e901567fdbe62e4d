"""Acquire: what a cluster says of itself, asked of the first configured node that answers."""

from __future__ import annotations

from typing import Any, Callable, ContextManager, List, Sequence, Tuple

from monitoring.cache.faults import RedisFault
from monitoring.http.wire import place
from monitoring.model import Fault

Address = Tuple[str, int]


def ask(
    seeds: Sequence[Address],
    word: str,
    connect: Callable[[str, int], Any],
    asking: Callable[[str, str], ContextManager[None]],
) -> Tuple[str, Any]:
    """(host, its answer to CLUSTER `word`) of the first of `seeds` that answers. `connect` gives a
    client, `asking(where, command)` turns errors of the library into RedisFault.

    Raises RedisFault: the first node's, or config where nodes answer and are of no cluster."""
    faults: List[RedisFault] = []
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
