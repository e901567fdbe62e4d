"""Keep: what health_check remembers from one cycle to the next: counters, the last proofs, and
what has worked (addresses by their digests: they may hold secrets).

The proofs are remembered by environment and canary client, with the time they were last tried:
that time is written before they run, so that a crash in the middle does not repeat them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from monitoring.components import COMPONENTS
from monitoring.config.settings import Settings, unconfigured
from monitoring.health.judging import Context, Proof
from monitoring.services.memory import CanaryLog
from monitoring.store.state import State

_SCOPE = "health_check"
_COUNTERS = "counters"
_MOST_WORKED = 100
_OUTCOMES = ("refused", "accepted", "unknown")

_log = logging.getLogger("monitoring.health.memory")


@dataclass(frozen=True)
class Remembered:
    """`context` for the judges, and when proofs were last tried (epoch; None: never)."""

    context: Context
    tried: Optional[float] = None


class Memory:
    """Reads and writes the state."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings
        self._canary = CanaryLog(state, settings.environment)
        self._proofs_key = f"proofs/{settings.environment}/{settings.canary.client_id}"

    def load(self) -> Remembered:
        """What the last cycle left; nothing where it cannot be read."""
        counters, proofs = self._get(_COUNTERS), self._get(self._proofs_key)
        context = Context(
            at=_number(counters.get("at")),
            counters=_numbers(counters.get("totals")),
            proofs=_proofs(proofs.get("proofs")),
            worked=_numbers(counters.get("worked")),
            canary=self._settings.canary,
            tokens=self._settings.tokens,
            status_words=self._settings.status_words,
            checked=self._checked(),
        )
        return Remembered(context, _number(proofs.get("tried")))

    def claim(self, remembered: Remembered, now: float) -> bool:
        """Whether the proofs are due; if so, this moment is written down first. Without a state
        file that remembers they are never due: they would run in every cycle."""
        interval = self._settings.canary.proof_interval
        tried = remembered.tried
        # a time in the future comes from a clock that was wrong
        if tried is not None and tried <= now < tried + interval:
            return False
        self._put_proofs(now, remembered.context.proofs)
        return not self._state.trouble

    def save(
        self,
        now: float,
        counters: Mapping[str, float],
        *,
        before: Remembered,
        worked: Iterable[str] = (),
    ) -> None:
        """Remember this cycle's totals, and the identities of what worked in it; those of
        components that were not asked stay."""
        kept = before.context.counters if before.context.seconds(now) is not None else {}
        all_worked = {**before.context.worked, **dict.fromkeys(worked, now)}
        newest = sorted(all_worked.items(), key=lambda item: -item[1])[:_MOST_WORKED]
        totals = {**kept, **counters}
        self._put(_COUNTERS, {"at": now, "totals": totals, "worked": dict(newest)})

    def save_proofs(self, tried: Optional[float], proofs: Mapping[str, Proof]) -> None:
        """Remember the outcomes, and when they were tried."""
        self._put_proofs(tried, proofs)

    def _checked(self) -> tuple[str, ...]:
        """The components that have a check of their own here."""
        return tuple(name for name in COMPONENTS if name not in unconfigured(self._settings))

    def note_forgeries(self, count: int) -> None:
        """`count` forged tokens were refused: scripts that count failures leave them out."""
        self._canary.note(count)

    def _put_proofs(self, tried: Optional[float], proofs: Mapping[str, Proof]) -> None:
        rows = {n: {"outcome": p.outcome, "at": p.at, "why": p.why} for n, p in proofs.items()}
        self._put(self._proofs_key, {"tried": tried, "proofs": rows})

    def _get(self, key: str) -> Mapping[str, Any]:
        try:
            value = json.loads(self._state.get(_SCOPE, key) or "{}")
        except ValueError:
            _log.error("what the state file holds under %s is not readable; starting anew", key)
            return {}
        return value if isinstance(value, dict) else {}

    def _put(self, key: str, value: Mapping[str, Any]) -> None:
        self._state.put(_SCOPE, key, json.dumps(value, allow_nan=False))


def _number(value: object) -> Optional[float]:
    fit = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if fit else None  # type: ignore[arg-type]


def _numbers(value: object) -> Mapping[str, float]:
    rows = value.items() if isinstance(value, dict) else ()
    known = ((str(key), _number(total)) for key, total in rows)
    return {key: total for key, total in known if total is not None}


def _proofs(value: object) -> Mapping[str, Proof]:
    found: dict[str, Proof] = {}
    for name, row in value.items() if isinstance(value, dict) else ():
        at = _number(row.get("at")) if isinstance(row, dict) else None
        if at is not None and row.get("outcome") in _OUTCOMES:
            found[str(name)] = Proof(row["outcome"], at, str(row.get("why", "")))
    return found
