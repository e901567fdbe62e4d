"""Keep: when each version of a client's secret was first seen, because Conjur does not say.

Several monitors may share the file: the earliest sighting stands. After a lost file it starts anew
and says "at least"; it never turns the time of a first look into the time of a change.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, Mapping, Optional, Tuple

from monitoring.conjur import Variable
from monitoring.credentials.facts import SKEW, Age, LedgerFacts
from monitoring.state import State, Transaction

_SCOPE = "ledger"
_LOOKED = "vault_looked_at"


class Ledger:
    """The table `ledger`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def note(
        self, variables: Mapping[str, Variable], now: float, anew: Collection[str] = ()
    ) -> Dict[str, int]:
        """Remember the versions of one complete, up-to-date listing. `anew`: clients whose variable
        was deleted and made again since the last one: their numbers start at 1. Returns the
        clients whose version is lower than one seen before, with that: somebody gave us old
        data."""
        with self._state.transaction() as tx:
            looked = _looked(tx)
            known = _highest(tx)
            behind: Dict[str, int] = {}
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
            row = (_SCOPE, _LOOKED, repr(max(now, looked or now)), now)
            tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
        return behind

    def learn(self, ages: Iterable[Tuple[str, Optional[int], Age]]) -> None:
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

    def facts(self) -> Dict[Tuple[str, int], LedgerFacts]:
        """By (client, version)."""
        sql = "SELECT client, version, first_seen, watched_since, born, born_source FROM ledger"
        return {(row[0], int(row[1])): LedgerFacts(*row[2:]) for row in self._state.read(sql)}


_BETTER = ("rotation_service", "cache", "vault_expiry")


def _looked(tx: Transaction) -> Optional[float]:
    rows = tx.execute("SELECT value FROM kv WHERE scope = ? AND key = ?", (_SCOPE, _LOOKED))
    return float(rows[0][0]) if rows else None


def _highest(tx: Transaction) -> Dict[str, Tuple[int, float]]:
    """Client -> (highest version, when that was first seen)."""
    found: Dict[str, Tuple[int, float]] = {}
    for client, version, first_seen in tx.execute("SELECT client, version, first_seen FROM ledger"):
        if int(version) > found.get(client, (0, 0.0))[0]:
            found[client] = (int(version), first_seen)
    return found


def _made_anew(variable: Variable, first_seen: float) -> bool:
    made = variable.created_at
    return made is not None and made > first_seen + SKEW


def _insert(
    tx: Transaction, client: str, version: int, when: Tuple[float, Optional[float]]
) -> None:
    now, looked = when
    # a clock set back must not make the last look come after the first sighting
    since = now if looked is None else min(looked, now)
    tx.execute(
        "INSERT OR IGNORE INTO ledger (client, version, first_seen, watched_since) "
        "VALUES (?, ?, ?, ?)",
        (client, str(version), now, since),
    )
