"""Keep: which clients have counters of their own, because a client that changes places with the
sum of the others makes that sum fall, which reads as a restart and then as a burst."""

from __future__ import annotations

import json
from typing import Collection, FrozenSet, List, Mapping

from monitoring.credentials.usage_history import Totals
from monitoring.state import State

_SCOPE, _KEY = "credential_usage_metrics", "clients_with_counters"


class ShownClients:
    """One row of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def choose(
        self, clients: Collection[str], totals: Mapping[str, Totals], top: int
    ) -> FrozenSet[str]:
        """At most `top`: those shown before, then of `clients` those that log in most. One that
        never logged in is among them only where all have room: who does must find a place."""
        kept = self._kept()
        new = set(clients) - {*kept}
        if len(new) + len(kept) > top:
            new = {client for client in new if client in totals}
        ranked = sorted(new, key=lambda c: (-totals.get(c, Totals()).attempts, c))
        chosen = [*kept, *ranked[: max(0, top - len(kept))]]
        if len(chosen) > len(kept):
            self._state.put(_SCOPE, _KEY, json.dumps(chosen))
        return frozenset(chosen[:top])

    def _kept(self) -> List[str]:
        try:
            kept = json.loads(self._state.get(_SCOPE, _KEY) or "[]")
        except ValueError:
            return []
        return [c for c in kept if isinstance(c, str)] if isinstance(kept, list) else []
