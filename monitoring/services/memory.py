"""Keep: the services' counters from one cycle to the next, and the canary's share of the refusals.

Every script keeps its own look at each service, so that one that runs rarely does not take the
increases away from one that runs often.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from monitoring.services import counters
from monitoring.services.counters import CounterKey, CounterSample, Delta, Labels
from monitoring.services.families import Growth, Unsure, Window, as_rows, from_rows, settled
from monitoring.store.state import State, Transaction

# -- how many forged tokens the canary has had refused, so that no count of failures holds them.
# `health_check` proves once an hour that forgeries are refused; the service cannot say whose they
# were and counts them as failures of an unknown client. Scripts that share the state file know.

_SCOPE = "canary"
#: Proofs that show SAPI a forged token; the wrong secret goes to EAPI under the canary's own id.
FORGERIES = ("tampered", "expired", "alg_none")


def refused(proofs: Mapping[str, Mapping[str, object]]) -> int:
    """How many forged tokens a round of proofs has had refused; `accepted` False says it."""
    return sum(proofs.get(name, {}).get("accepted") is False for name in FORGERIES)


class CanaryLog:
    """A number that only grows, kept by environment."""

    def __init__(self, state: State, environment: str) -> None:
        self._state, self._environment = state, environment

    def note(self, count: int) -> None:
        """`count` more forged tokens were refused."""
        if count:
            self._state.put(_SCOPE, f"refused/{self._environment}", str(self.total() + count))

    def total(self) -> int:
        """Forged tokens refused since the state file began."""
        return self._number(f"refused/{self._environment}")

    def since_last_look(self, script: str) -> int:
        """Those refused since `script` last asked this; 0 the first time."""
        key, total = f"looked/{self._environment}/{script}", self.total()
        before: Optional[str] = self._state.get(_SCOPE, key)
        self._state.put(_SCOPE, key, str(total))
        return 0 if before is None else max(0, total - int(before))

    def _number(self, key: str) -> int:
        return int(self._state.get(_SCOPE, key) or 0)


# -- the services' counters from one cycle to the next: what they grew by, totals that never run
# backwards, and what fell into a window of time.

Totals = dict[CounterKey, float]

_KEPT = 2 * 86400.0  # an instance unseen for so long is gone
_TOTALS_KEPT = 90 * 86400.0

_log = logging.getLogger("monitoring.services.memory")


class CounterMemory:
    """The counters as `script` saw them last, in the table `counters` of the state file."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def advance(self, now: float, looks: Mapping[str, Sequence[CounterSample]]) -> Growth:
        """Take in this cycle's look at each source (a service that could be read; one that could
        not is left out and keeps what it had), and say what grew. One transaction. Where the
        state file cannot be used, totals are not known: begun anew they would run backwards."""
        with self._state.transaction() as tx:
            return self._advance(tx, now, looks)

    def _advance(
        self, tx: Transaction, now: float, looks: Mapping[str, Sequence[CounterSample]]
    ) -> Growth:
        previous, totals = self._load(tx)
        deltas: dict[CounterKey, Delta] = {}
        unsure: dict[str, tuple[Unsure, ...]] = {}
        known = {key.source for key in (*previous, *totals)}
        for source, samples in looks.items():
            current = counters.keyed(source, samples, now)
            # A source never seen before brings all that it has counted.
            begun = source in known
            found = counters.deltas(previous, current) if begun else counters.whole(current)
            grown = settled(found, current)
            touched = _add(totals, grown.deltas)
            deltas.update(grown.deltas if begun else {})
            unsure[source] = grown.unsure
            self._store(tx, now, {key: value for key, (value, _) in current.items()}, "")
            self._store(tx, now, {key: totals[key] for key in touched}, "total/")
        self._forget(tx, now)
        return Growth(deltas, totals if tx.on_file else {}, unsure)

    def _load(self, tx: Transaction) -> tuple[dict[CounterKey, tuple[float, float]], Totals]:
        previous: dict[CounterKey, tuple[float, float]] = {}
        totals: Totals = {}
        rows = tx.execute(
            "SELECT source, name, labels, instance, value, at FROM counters "
            "WHERE source LIKE ? OR source LIKE ?",
            (f"{self._script}/%", f"total/{self._script}/%"),
        )
        for source, name, labels, instance, value, at in rows:
            key = CounterKey(source.rpartition("/")[2], name, _labels(labels), instance)
            if source.startswith("total/"):
                totals[key] = value
            else:
                previous[key] = (value, at)
        return previous, totals

    def _store(
        self, tx: Transaction, now: float, values: Mapping[CounterKey, float], kind: str
    ) -> None:
        rows = (
            (
                f"{kind}{self._script}/{key.source}",
                key.name,
                _text(key.labels),
                key.instance,
                n,
                now,
            )
            for key, n in values.items()
        )
        tx.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _forget(self, tx: Transaction, now: float) -> None:
        for pattern, kept in (
            (f"{self._script}/%", _KEPT),
            (f"total/{self._script}/%", _TOTALS_KEPT),
        ):
            tx.execute("DELETE FROM counters WHERE source LIKE ? AND at < ?", (pattern, now - kept))


def _add(totals: Totals, deltas: Mapping[CounterKey, Delta]) -> set[CounterKey]:
    """Add this cycle's increases; the totals that they belong to. An instance whose beginning we
    did not see (the next behind a load balancer) has none."""
    for key, delta in deltas.items():
        whole = _whole(key)
        totals[whole] = totals.get(whole, 0.0) + delta.increase
    return {_whole(key) for key in deltas}


def _whole(key: CounterKey) -> CounterKey:
    return CounterKey(key.source, key.name, key.labels, "")


def _text(labels: Labels) -> str:
    return json.dumps(labels, separators=(",", ":"))


def _labels(text: str) -> Labels:
    return tuple((str(name), str(value)) for name, value in json.loads(text))


def together(windows: Iterable[Window]) -> Window:
    """What several sources counted in the same window."""
    seconds = 0.0
    sums: dict[str, float] = {}
    unsure: dict[Unsure, None] = {}
    for window in windows:
        seconds = max(seconds, window.seconds)
        unsure.update(dict.fromkeys(window.unsure))
        for name, count in window.sums.items():
            sums[name] = sums.get(name, 0.0) + count
    return Window(seconds, sums, tuple(unsure))


class Recent:
    """Increases of the last `window` seconds by a name of the caller's, kept under `key`."""

    def __init__(self, state: State, script: str, key: str, *, window: float) -> None:
        self._state, self._script, self._key, self._window = state, script, f"recent/{key}", window

    def add(
        self,
        now: float,
        seconds: float,
        increases: Mapping[str, float],
        unsure: Iterable[Unsure] = (),
    ) -> Window:
        """Take in what was counted in the `seconds` up to `now` (0: nothing was) and what that
        leaves open, and sum up. Of a count that reaches back before the window (the monitor stood
        still) its share counts."""
        entries = self._entries(now)
        if seconds > 0:
            entries.append([now, seconds, dict(increases), as_rows(unsure)])
        self._state.put(self._script, self._key, json.dumps(entries, separators=(",", ":")))
        return _sum(entries, now - self._window)

    def _entries(self, now: float) -> list[Any]:
        try:
            kept = json.loads(self._state.get(self._script, self._key) or "[]")
        except ValueError as error:
            _log.error("%s; counts of earlier cycles are not known", error)
            return []
        # Times ahead of ours come from a clock that was wrong.
        return [entry for entry in kept if now - self._window < entry[0] < now]


def _sum(entries: Sequence[Any], start: float) -> Window:
    sums: dict[str, float] = {}
    watched, unsure = 0.0, []
    for at, seconds, increases, *rest in entries:
        inside = min(seconds, at - start)
        watched += inside
        unsure += from_rows(rest[0] if rest else ())
        for name, increase in increases.items():
            sums[name] = sums.get(name, 0.0) + increase * inside / seconds
    return Window(watched, sums, tuple(dict.fromkeys(unsure)))
