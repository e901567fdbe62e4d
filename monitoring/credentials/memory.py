"""Keep: what of a look at the vault must be compared with the one before: expiries and readers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Tuple

from monitoring.conjur import Variable
from monitoring.state import State

#: A role that may newly read a secret is told of for so long (seconds), then it is as usual.
DRIFT_TOLD = 86400.0
_SCOPE = "vault"


@dataclass(frozen=True)
class Gained:
    """A role that may read a client's secret and could not before; `since` we saw it."""

    client: str
    role: str
    since: float


class VaultMemory:
    """Scope `vault` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def moving(self, variables: Mapping[str, Variable]) -> FrozenSet[str]:
        """Clients whose newest version is the one of the last look and has another expiry."""
        before = self._get("expiries")
        now = {
            client: [variable.version, variable.expires_at]
            for client, variable in variables.items()
            if variable.expires_at is not None
        }
        moved = before.get("moved", {})
        rows: Dict[str, Any] = before.get("rows", {})
        still = {c: v for c, v in moved.items() if c in now and now[c][0] == v}
        changed = {
            c: row[0] for c, row in now.items() if c in rows and _same_version_moved(rows[c], row)
        }
        after = {"rows": now, "moved": {**still, **changed}}
        if after != before and (now or before):
            self._put("expiries", after)
        return frozenset(after["moved"])

    def gained(self, readers: Mapping[str, Tuple[str, ...]], now: float) -> List[Gained]:
        """Roles that may read a secret and could not at an earlier look, told for a day. Clients
        never seen before have nothing to compare with."""
        before = self._get("readers")
        usual, fresh = before.get("usual", {}), before.get("fresh", {})
        after: Dict[str, Dict[str, float]] = {}
        for client, roles in readers.items():
            for role in set(roles) - set(usual.get(client, roles)):
                since = float(fresh.get(client, {}).get(role, now))
                if now - since < DRIFT_TOLD:
                    after.setdefault(client, {})[role] = since
        kept = {c: sorted(set(roles) - set(after.get(c, ()))) for c, roles in readers.items()}
        document = {"usual": {**usual, **kept}, "fresh": after}
        if document != before:
            self._put("readers", document)
        return [Gained(c, role, at) for c, roles in after.items() for role, at in roles.items()]

    def _get(self, key: str) -> Dict[str, Any]:
        try:
            value = json.loads(self._state.get(_SCOPE, key) or "{}")
        except ValueError:
            return {}  # of another version; compared with the next look again
        return value if isinstance(value, dict) else {}

    def _put(self, key: str, value: Mapping[str, Any]) -> None:
        self._state.put(_SCOPE, key, json.dumps(value))


def _same_version_moved(before: List[Any], after: List[Any]) -> bool:
    return bool(before[0] == after[0] and before[1] != after[1])
