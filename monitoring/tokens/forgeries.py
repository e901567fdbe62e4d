"""Decision: the services' failure counters without the forgeries that our own canary sent."""

from __future__ import annotations

from dataclasses import replace
from typing import AbstractSet, Dict, Mapping, Tuple

from monitoring.counter_memory import Growth
from monitoring.counters import CounterKey, Delta
from monitoring.redact import safe_id

_NOBODY = ("", "unknown", "anonymous", "none", "null")


def without(growth: Growth, *, ever: int, since: int, canary: AbstractSet[str]) -> Growth:
    """`growth` less the canary's refused forgeries: `ever` of them in the totals, `since` in the
    increases. They are taken from failures of no known client alone, and only as many as the
    service did not count under the `canary`'s own id; no figure falls below 0."""
    totals = _less({key: float(value) for key, value in growth.totals.items()}, ever, canary)
    rises = {key: delta.increase for key, delta in growth.deltas.items()}
    deltas: Dict[CounterKey, Delta] = {
        key: replace(growth.deltas[key], increase=increase)
        for key, increase in _less(rises, since, canary).items()
    }
    return replace(growth, totals=totals, deltas=deltas)


def _less(
    values: Mapping[CounterKey, float], forged: int, canary: AbstractSet[str]
) -> Dict[CounterKey, float]:
    ours = {safe_id(client) for client in canary}
    own = sum(n for key, n in values.items() if _failure(key) and _client(key) in ours)
    left, found = max(0.0, forged - own), dict(values)
    for key in sorted(values, key=_order):
        if left > 0 and _failure(key) and _client(key).lower() in _NOBODY:
            taken = min(left, found[key])
            found[key] -= taken
            left -= taken
    return found


def _failure(key: CounterKey) -> bool:
    labels = dict(key.labels)
    return key.name == "token_validation" and labels.get("valid") not in ("true", "total")


def _client(key: CounterKey) -> str:
    return dict(key.labels).get("client", "")


def _order(key: CounterKey) -> Tuple[str, str]:
    return key.name, str(key.labels)
