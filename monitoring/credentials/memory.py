"""Keep: what of a look at the vault must be compared with the one before: expiries, readers, and
who was seen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, List, Mapping, Optional, Tuple

from monitoring.conjur import Variable
from monitoring.credentials.source_vault import FORBIDDEN, Rights
from monitoring.state import State

#: What changed in the vault (a new reader, a client gone or made again) is told for so long
#: (seconds), then it is as usual.
DRIFT_TOLD = 86400.0
#: A client that is gone is known again for so long.
_REMEMBERED = 35 * 86400.0
_MOST_STRANGERS = 1000
_SCOPE = "vault"


@dataclass(frozen=True)
class Gained:
    """A role that may read a client's secret and could not before; `since` we saw it."""

    client: str
    role: str
    since: float


@dataclass(frozen=True)
class Sightings:
    """Who was seen in the vault, against earlier looks. `vanished`: client -> when it was last
    seen; `anew`: client -> since when we know that its variable was deleted and made again, both
    as long as it is told; `reborn`: all that ever were; `fresh`: those that this look found.
    `document`: what is to be remembered."""

    vanished: Mapping[str, float] = field(default_factory=dict)
    anew: Mapping[str, float] = field(default_factory=dict)
    reborn: FrozenSet[str] = frozenset()
    fresh: FrozenSet[str] = frozenset()
    document: Mapping[str, Any] = field(default_factory=dict)


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
        before = self._get("who_reads")
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
            self._put("who_reads", document)
        return [Gained(c, role, at) for c, roles in after.items() for role, at in roles.items()]

    def rights(self) -> Dict[str, Rights]:
        """By kind of variable, as last heard."""
        found = {}
        for kind, row in self._get("rights").items():
            try:
                holders = {p: tuple(map(str, row["holders"][p])) for p in FORBIDDEN}
                found[kind] = Rights(float(row["at"]), holders)
            except (KeyError, TypeError, ValueError):
                continue  # of another version; asked anew
        return found

    def keep_rights(self, kinds: Mapping[str, Rights]) -> None:
        rows = {kind: {"at": r.at, "holders": dict(r.holders)} for kind, r in kinds.items()}
        self._put("rights", rows)

    def sightings(self, variables: Mapping[str, Variable], identity: str, now: float) -> Sightings:
        """Compares one complete, up-to-date listing with what is remembered of the vault
        `identity`. Nothing is written: `keep` does that, once the ledger has learnt of it too."""
        before = self._get(f"seen/{identity}")
        seen, gone = _table(before.get("seen")), _gone(before.get("gone"))
        made = {**{client: row[0] for client, row in gone.items()}, **seen}
        fresh = {c for c, v in variables.items() if _other(made.get(c), v.created_at)}
        known = {c: at for c, at in _table(before.get("anew")).items() if c in variables and at}
        known.update(dict.fromkeys(fresh, now))
        anew = {c: at for c, at in known.items() if now - at < DRIFT_TOLD}
        last = _table(before).get("at") or now
        left = {c: (born, last, now) for c, born in seen.items()}
        rows = {c: row for c, row in {**left, **gone}.items() if c not in variables}
        rows = {c: row for c, row in rows.items() if now - row[2] < _REMEMBERED}
        document = {
            "at": now,
            "seen": {client: variable.created_at for client, variable in variables.items()},
            "gone": rows,
            "anew": known,
        }
        vanished = {c: row[1] for c, row in rows.items() if now - row[2] < DRIFT_TOLD}
        return Sightings(vanished, anew, frozenset(known), frozenset(fresh), document)

    def strangers(self, succeeded: Collection[str], now: float) -> List[str]:
        """Clients that logged in lately, these among them, while the vault did not show them."""
        before = {c: at for c, at in _table(self._get("strangers")).items() if at is not None}
        lately = {c: at for c, at in before.items() if 0 <= now - at < DRIFT_TOLD}
        known = {**lately, **dict.fromkeys(succeeded, now)}
        newest = sorted(known, key=lambda client: (-known[client], client))[:_MOST_STRANGERS]
        after = {client: known[client] for client in newest}
        if after != before:
            self._put("strangers", after)
        return newest

    def keep(self, sightings: Sightings, identity: str) -> None:
        self._put(f"seen/{identity}", sightings.document)

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


def _other(before: Optional[float], after: Optional[float]) -> bool:
    return before is not None and after is not None and before != after


def _table(value: Any) -> Dict[str, Optional[float]]:
    """Name -> number or None; what has another type is left out."""
    found = value.items() if isinstance(value, dict) else ()
    fit = {name: number for name, number in found if isinstance(number, (int, float, type(None)))}
    return {name: None if number is None else float(number) for name, number in fit.items()}


def _gone(value: Any) -> Dict[str, Tuple[Optional[float], float, float]]:
    """Client -> (created_at, last seen, since when it is gone)."""
    found: Dict[str, Tuple[Optional[float], float, float]] = {}
    for client, row in value.items() if isinstance(value, dict) else ():
        named = ("born", "last", "since")
        numbers = _table(dict(zip(named, row))) if isinstance(row, list) else {}
        last, since = numbers.get("last"), numbers.get("since")
        if last is not None and since is not None:
            found[client] = (numbers.get("born"), last, since)
    return found
