"""Keep: what of a look at the credentials must be compared with the one before, who was seen."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Optional

from monitoring.conjur.answers import Variable
from monitoring.credentials.facts import (
    SKEW,
    Age,
    CachedFacts,
    Gained,
    Heard,
    LedgerFacts,
    RotationFacts,
    Totals,
    version_number,
)
from monitoring.credentials.rotation_states import planned_entry
from monitoring.credentials.source_vault import FORBIDDEN, Rights
from monitoring.store.state import State, Transaction

# -- which clients have counters of their own, because a client that changes places with the sum of
# the others makes that sum fall, which reads as a restart and then as a burst.

_SCOPE, _KEY = "credential_usage_metrics", "clients_with_counters"


class ShownClients:
    """One row of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def choose(
        self, clients: Collection[str], totals: Mapping[str, Totals], top: int
    ) -> frozenset[str]:
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

    def _kept(self) -> list[str]:
        try:
            kept = json.loads(self._state.get(_SCOPE, _KEY) or "[]")
        except ValueError:
            return []
        return [c for c in kept if isinstance(c, str)] if isinstance(kept, list) else []


# -- when each version of a client's secret was first seen, because Conjur does not say.
# Several monitors may share the file: the earliest sighting stands. After a lost file it starts
# anew and says "at least"; it never turns the time of a first look into the time of a change.

_LEDGER_SCOPE = "ledger"
_LOOKED = "vault_looked_at"


class Ledger:
    """The table `ledger`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def note(
        self, variables: Mapping[str, Variable], now: float, anew: Collection[str] = ()
    ) -> dict[str, int]:
        """Remember the versions of one complete, up-to-date listing. `anew`: clients whose variable
        was deleted and made again since the last one: their numbers start at 1. Returns the
        clients whose version is lower than one seen before, with that: somebody gave us old
        data."""
        with self._state.transaction() as tx:
            looked = _looked(tx)
            known = _highest(tx)
            behind: dict[str, int] = {}
            for client, variable in variables.items():
                version, (highest, since) = variable.version or 0, known.get(client, (0, 0.0))
                again = client in anew or (version < highest and _made_anew(variable, since))
                if version < highest and not again:
                    behind[client] = highest
                    continue
                if again:
                    tx.execute("DELETE FROM ledger WHERE client = ?", (client,))
                if version and (again or version != highest):
                    _insert(tx, client, version, (now, looked))
            row = (_LEDGER_SCOPE, _LOOKED, repr(max(now, looked or now)), now)
            tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
        return behind

    def learn(self, ages: Iterable[tuple[str, Optional[int], Age]]) -> None:
        """Keep what a better source says of (client, version): it may be gone at the next look."""
        rows = [
            (age.since, age.source, client, str(version))
            for client, version, age in ages
            if version is not None and age.since is not None and age.source in _BETTER
        ]
        with self._state.transaction() as tx:
            tx.executemany(
                "UPDATE ledger SET born = ?1, born_source = ?2 WHERE client = ?3 AND version = ?4 "
                "AND (born IS NOT ?1 OR born_source IS NOT ?2)",
                rows,
            )

    def facts(self) -> dict[tuple[str, int], LedgerFacts]:
        """By (client, version)."""
        sql = "SELECT client, version, first_seen, watched_since, born, born_source FROM ledger"
        return {(row[0], int(row[1])): LedgerFacts(*row[2:]) for row in self._state.read(sql)}


_BETTER = ("rotation_service", "cache", "vault_expiry")


def _looked(tx: Transaction) -> Optional[float]:
    rows = tx.execute("SELECT value FROM kv WHERE scope = ? AND key = ?", (_LEDGER_SCOPE, _LOOKED))
    return float(rows[0][0]) if rows else None


def _highest(tx: Transaction) -> dict[str, tuple[int, float]]:
    """Client -> (highest version, when that was first seen)."""
    found: dict[str, tuple[int, float]] = {}
    for client, version, first_seen in tx.execute("SELECT client, version, first_seen FROM ledger"):
        if int(version) > found.get(client, (0, 0.0))[0]:
            found[client] = (int(version), first_seen)
    return found


def _made_anew(variable: Variable, first_seen: float) -> bool:
    made = variable.created_at
    return made is not None and made > first_seen + SKEW


def _insert(
    tx: Transaction, client: str, version: int, when: tuple[float, Optional[float]]
) -> None:
    now, looked = when
    # a clock set back must not make the last look come after the first sighting
    since = now if looked is None else min(looked, now)
    tx.execute(
        "INSERT OR IGNORE INTO ledger (client, version, first_seen, watched_since) "
        "VALUES (?, ?, ?, ?)",
        (client, str(version), now, since),
    )


# -- what was last heard of each client's rotation, and when its state was seen to change.

_ROTATION_MEMORY_SCOPE = "rotations"
#: The old secret may log in in these states, and in those nobody knows.
_OLD_ENDED = ("old_deprecated", "new_active")
_FIELDS = tuple(field.name for field in fields(RotationFacts))


class RotationMemory:
    """Scope `rotations` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def load(self) -> dict[str, Heard]:
        """By client; entries that cannot be read are left out, and so asked for anew."""
        rows = self._state.read(
            "SELECT key, value FROM kv WHERE scope = ?", (_ROTATION_MEMORY_SCOPE,)
        )
        read = ((client, _heard(text)) for client, text in rows)
        return {client: heard for client, heard in read if heard is not None}

    def save(self, before: Mapping[str, Heard], after: Mapping[str, Heard], now: float) -> None:
        """Write what changed."""
        rows = [
            (_ROTATION_MEMORY_SCOPE, client, json.dumps(asdict(heard)), now)
            for client, heard in after.items()
            if heard != before.get(client)
        ]
        with self._state.transaction() as tx:
            tx.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", rows)


def _heard(text: str) -> Optional[Heard]:
    try:
        row: dict[str, Any] = json.loads(text)
        reported = row["rotation"]
        rotation = (
            None
            if reported is None
            else RotationFacts(**{n: reported[n] for n in _FIELDS if n in reported})
        )
        return Heard(rotation, float(row["asked"]), row["version"])
    except (ValueError, KeyError, TypeError):
        return None


def to_ask(
    clients: Iterable[str],
    known: Mapping[str, Heard],
    active: Mapping[str, RotationFacts],
    *,
    versions: Mapping[str, Optional[int]],
    again: int,
) -> list[str]:
    """Of which clients the newest rotation must be asked for: those whose rotation ended since the
    last look, of whom nothing is known, or whose version changed; then `again` more, those not
    asked for longest, because a short rotation may have come and gone."""
    idle = [client for client in clients if client not in active]
    urgent = [c for c in idle if c not in known or _stale(known[c], versions.get(c))]
    rest = sorted(set(idle) - set(urgent), key=lambda client: (known[client].asked, client))
    return urgent + rest[:again]


def _stale(heard: Heard, version: Optional[int]) -> bool:
    running = heard.rotation is not None and heard.rotation.running
    return running or (version is not None and version != heard.version)


def remembered(
    reported: Optional[RotationFacts],
    heard: Optional[Heard],
    now: float,
    *,
    cached: Optional[CachedFacts] = None,
) -> Heard:
    """What the service tells now, with what we saw before: the moment its state changed, and since
    when at the latest the old secret logs nobody in. EAPI's cached credential may say that better:
    we may have looked long after. It never says how long a state has lasted, for any write moves
    its time."""
    if reported is None:
        return Heard(None, now)
    before = heard.rotation if heard is not None else None
    same = before is not None and before.rotation_id == reported.rotation_id
    entered = now if reported.running and reported.started_at is None else None  # at the latest
    ended, still = None, 0.0
    if before is not None and heard is not None and same:
        unchanged = before.state == reported.state
        seen = before.entered_at or entered
        entered = seen if unchanged else _changed_at(reported, heard.asked, now)
        ended = before.deprecated_by
        still = heard.asked if before.state not in _OLD_ENDED else 0.0
    if reported.state not in _OLD_ENDED:
        ended = None
    elif ended is None:
        since = _written(reported, cached) if cached is not None else None
        ended = _ended_at(reported, now) if since is None else min(since, now)
        ended = max(ended, min(still, now))  # it logged in still when last heard of
    since = reported.old_since if reported.old_since is not None else _old_since(reported, before)
    return Heard(replace(reported, entered_at=entered, deprecated_by=ended, old_since=since), now)


def _old_since(reported: RotationFacts, before: Optional[RotationFacts]) -> Optional[float]:
    """When the old version came, if the rotation heard of before brought it."""
    if before is None:
        return None
    if before.rotation_id == reported.rotation_id:
        return before.old_since
    brought = before.state == "new_active" and before.new_version == reported.old_version
    return before.started_at if brought else None


def _changed_at(reported: RotationFacts, looked: float, now: float) -> float:
    """Between the last look and this one; where in between, as its timeline has it."""
    if not reported.running or reported.transition is None:
        return now
    planned = planned_entry(reported, reported.transition)
    return now if planned is None else min(max(planned, looked), now)


def _written(reported: RotationFacts, cached: CachedFacts) -> Optional[float]:
    """When the cached credential was last written, where it speaks of the same state of the same
    version and that was not before the transition was over: earlier it tells of another change."""
    began, since, lasts = reported.started_at, cached.updated_at, reported.transition
    if since is None or began is None or lasts is None or since < began + lasts:
        return None
    same = version_number(cached.version) == version_number(reported.new_version)
    return since if same and cached.rotation_state == reported.state else None


def _ended_at(reported: RotationFacts, now: float) -> float:
    """A finished rotation says when, if that can be true; else we only know that it is so now."""
    ended, began = reported.completed_at, reported.started_at
    if reported.state != "new_active" or ended is None or (began is not None and ended < began):
        return now
    return min(ended, now)


# -- what of a look at the vault must be compared with the one before: expiries, readers, and who
# was seen.

#: What changed in the vault (a new reader, a client gone or made again) is told for so long
#: (seconds), then it is as usual.
DRIFT_TOLD = 86400.0
#: A client that is gone is known again for so long.
_REMEMBERED = 35 * 86400.0
_MOST_STRANGERS = 1000
_MEMORY_SCOPE = "vault"


@dataclass(frozen=True)
class Sightings:
    """Who was seen in the vault, against earlier looks. `vanished`: client -> when it was last
    seen; `anew`: client -> since when we know that its variable was deleted and made again, both
    as long as it is told; `reborn`: all that ever were; `fresh`: those that this look found.
    `document`: what is to be remembered."""

    vanished: Mapping[str, float] = field(default_factory=dict)
    anew: Mapping[str, float] = field(default_factory=dict)
    reborn: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()
    document: Mapping[str, Any] = field(default_factory=dict)


class VaultMemory:
    """Scope `vault` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def moving(self, variables: Mapping[str, Variable]) -> frozenset[str]:
        """Clients whose newest version is the one of the last look and has another expiry."""
        before = self._get("expiries")
        now = {
            client: [variable.version, variable.expires_at]
            for client, variable in variables.items()
            if variable.expires_at is not None
        }
        moved = before.get("moved", {})
        rows: dict[str, Any] = before.get("rows", {})
        still = {c: v for c, v in moved.items() if c in now and now[c][0] == v}
        changed = {
            c: row[0] for c, row in now.items() if c in rows and _same_version_moved(rows[c], row)
        }
        after = {"rows": now, "moved": {**still, **changed}}
        if after != before and (now or before):
            self._put("expiries", after)
        return frozenset(after["moved"])

    def gained(self, readers: Mapping[str, tuple[str, ...]], now: float) -> list[Gained]:
        """Roles that may read a secret and could not at an earlier look, told for a day. Clients
        never seen before have nothing to compare with."""
        before = self._get("who_reads")
        usual, fresh = before.get("usual", {}), before.get("fresh", {})
        after: dict[str, dict[str, float]] = {}
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

    def rights(self) -> dict[str, Rights]:
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

    def strangers(self, succeeded: Collection[str], now: float) -> list[str]:
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

    def _get(self, key: str) -> dict[str, Any]:
        try:
            value = json.loads(self._state.get(_MEMORY_SCOPE, key) or "{}")
        except ValueError:
            return {}  # of another version; compared with the next look again
        return value if isinstance(value, dict) else {}

    def _put(self, key: str, value: Mapping[str, Any]) -> None:
        self._state.put(_MEMORY_SCOPE, key, json.dumps(value))


def _same_version_moved(before: list[Any], after: list[Any]) -> bool:
    return bool(before[0] == after[0] and before[1] != after[1])


def _other(before: Optional[float], after: Optional[float]) -> bool:
    return before is not None and after is not None and before != after


def _table(value: Any) -> dict[str, Optional[float]]:
    """Name -> number or None; what has another type is left out."""
    found = value.items() if isinstance(value, dict) else ()
    fit = {name: number for name, number in found if isinstance(number, (int, float, type(None)))}
    return {name: None if number is None else float(number) for name, number in fit.items()}


def _gone(value: Any) -> dict[str, tuple[Optional[float], float, float]]:
    """Client -> (created_at, last seen, since when it is gone)."""
    found: dict[str, tuple[Optional[float], float, float]] = {}
    for client, row in value.items() if isinstance(value, dict) else ():
        named = ("born", "last", "since")
        numbers = _table(dict(zip(named, row))) if isinstance(row, list) else {}
        last, since = numbers.get("last"), numbers.get("since")
        if last is not None and since is not None:
            found[client] = (numbers.get("born"), last, since)
    return found
