"""Keep: what was last heard of each client's rotation, and when its state was seen to change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional

from monitoring.credentials.facts import CachedFacts, RotationFacts, version_number
from monitoring.credentials.rotation_states import planned_entry
from monitoring.state import State

_SCOPE = "rotations"
#: The old secret may log in in these states, and in those nobody knows.
_OLD_ENDED = ("old_deprecated", "new_active")
_FIELDS = tuple(field.name for field in fields(RotationFacts))


@dataclass(frozen=True)
class Heard:
    """The newest rotation (None: there never was one), `asked` when the service last told, and
    `version` the vault's version at that time."""

    rotation: Optional[RotationFacts]
    asked: float
    version: Optional[int] = None


class RotationMemory:
    """Scope `rotations` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def load(self) -> Dict[str, Heard]:
        """By client; entries that cannot be read are left out, and so asked for anew."""
        rows = self._state.read("SELECT key, value FROM kv WHERE scope = ?", (_SCOPE,))
        read = ((client, _heard(text)) for client, text in rows)
        return {client: heard for client, heard in read if heard is not None}

    def save(self, before: Mapping[str, Heard], after: Mapping[str, Heard], now: float) -> None:
        """Write what changed."""
        rows = [
            (_SCOPE, client, json.dumps(asdict(heard)), now)
            for client, heard in after.items()
            if heard != before.get(client)
        ]
        with self._state.transaction() as tx:
            tx.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", rows)


def _heard(text: str) -> Optional[Heard]:
    try:
        row: Dict[str, Any] = json.loads(text)
        told = row["rotation"]
        rotation = (
            None if told is None else RotationFacts(**{n: told[n] for n in _FIELDS if n in told})
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
) -> List[str]:
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
    told: Optional[RotationFacts],
    heard: Optional[Heard],
    now: float,
    *,
    cached: Optional[CachedFacts] = None,
) -> Heard:
    """What the service tells now, with what we saw before: the moment its state changed, and since
    when at the latest the old secret logs nobody in. EAPI's cached credential may say that better:
    we may have looked long after. It never says how long a state has lasted, for any write moves
    its time."""
    if told is None:
        return Heard(None, now)
    before = heard.rotation if heard is not None else None
    same = before is not None and before.rotation_id == told.rotation_id
    entered = now if told.running and told.started_at is None else None  # at the latest
    ended, still = None, 0.0
    if before is not None and heard is not None and same:
        unchanged = before.state == told.state
        seen = before.entered_at or entered
        entered = seen if unchanged else _changed_at(told, heard.asked, now)
        ended = before.deprecated_by
        still = heard.asked if before.state not in _OLD_ENDED else 0.0
    if told.state not in _OLD_ENDED:
        ended = None
    elif ended is None:
        since = _written(told, cached) if cached is not None else None
        ended = _ended_at(told, now) if since is None else min(since, now)
        ended = max(ended, min(still, now))  # it logged in still when last heard of
    since = told.old_since if told.old_since is not None else _old_since(told, before)
    return Heard(replace(told, entered_at=entered, deprecated_by=ended, old_since=since), now)


def _old_since(told: RotationFacts, before: Optional[RotationFacts]) -> Optional[float]:
    """When the old version came, if the rotation heard of before brought it."""
    if before is None:
        return None
    if before.rotation_id == told.rotation_id:
        return before.old_since
    brought = before.state == "new_active" and before.new_version == told.old_version
    return before.started_at if brought else None


def _changed_at(told: RotationFacts, looked: float, now: float) -> float:
    """Between the last look and this one; where in between, as its timeline has it."""
    if not told.running or told.transition is None:
        return now
    planned = planned_entry(told, told.transition)
    return now if planned is None else min(max(planned, looked), now)


def _written(told: RotationFacts, cached: CachedFacts) -> Optional[float]:
    """When the cached credential was last written, where it speaks of the same state of the same
    version and that was not before the transition was over: earlier it tells of another change."""
    began, since, lasts = told.started_at, cached.updated_at, told.transition
    if since is None or began is None or lasts is None or since < began + lasts:
        return None
    same = version_number(cached.version) == version_number(told.new_version)
    return since if same and cached.rotation_state == told.state else None


def _ended_at(told: RotationFacts, now: float) -> float:
    """A finished rotation says when, if that can be true; else we only know that it is so now."""
    ended, began = told.completed_at, told.started_at
    if told.state != "new_active" or ended is None or (began is not None and ended < began):
        return now
    return min(ended, now)
