"""Keep: failed validations ever seen in the cache, where no service counts them.

A verdict lies in the cache for 100 s (FACTS.md section 0). Of cycles closer than that each counts
its share, so that none is counted twice; of cycles further apart some verdicts are never seen: the
totals are a lower bound. They never run backwards.
"""

from __future__ import annotations

import json
import logging
from typing import Dict, Mapping, Tuple

from monitoring.state import State

VERDICT_SECONDS = 100.0
_KEY = "cached_failures"

_log = logging.getLogger("monitoring.tokens.verdict_memory")


class VerdictMemory:
    """The totals of `script`, in the state file."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def add(self, now: float, failures: Mapping[str, int]) -> Mapping[str, float]:
        """Take in the failures by reason that lie in the cache now; the totals by reason."""
        at, totals = self._load()
        passed = now - at
        share = passed / VERDICT_SECONDS if 0 <= passed < VERDICT_SECONDS else 1.0
        for reason, count in failures.items():
            totals[reason] = totals.get(reason, 0.0) + count * share
        self._state.put(self._script, _KEY, json.dumps({"at": now, "totals": totals}))
        return totals

    def _load(self) -> Tuple[float, Dict[str, float]]:
        try:
            kept = json.loads(self._state.get(self._script, _KEY) or "{}")
            return float(kept.get("at", 0.0)), {str(k): float(v) for k, v in kept["totals"].items()}
        except KeyError:
            return 0.0, {}
        except ValueError as error:
            _log.error("%s; failures seen in the cache are counted anew", error)
            return 0.0, {}
