"""Keep: samples of every cycle in the state file, thinned with age.

One row per measurement that has a value; an unknown value is not stored, so that time we could
not see stays a gap. Rows are only ever added up, so time-weighted means stay exact.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from monitoring.catalog import METRICS
from monitoring.client_bound import CLIENT, OTHER, SUMS
from monitoring.config.settings import HistorySettings
from monitoring.model import Measurement, Outcome
from monitoring.store.lookback import Point, Series
from monitoring.store.state import State, Transaction

# -- how much time a sample stands for, and which samples are old enough to be merged.

FINE = 300.0  # seconds a row stands for at most after the first thinning
COARSE = 3600.0  # and after the second
_LATE = 1.5  # a cycle this many intervals after the one before still follows it without a gap
_STRIDE = 86400.0


def stands_for(elapsed: Optional[float], interval: float) -> float:
    """Seconds of watched time, ending with the sample, for which one sample speaks.

    `elapsed` is the time since the series' sample before; None when there is none. As long as
    cycles follow each other the whole of it is watched. A first sample, and one after a gap
    (monitor stopped, value unknown), speaks for one interval, as every cycle does that comes on
    time: more would claim time nobody watched, less would lose the outage of a single cycle."""
    if elapsed is not None and 0.0 < elapsed <= _LATE * interval:
        return elapsed
    return interval


@dataclass(frozen=True)
class Plan:
    """What pruning does: rows up to `fine_until` are merged to FINE, up to `coarse_until` to
    COARSE, up to `drop_until` dropped."""

    fine_until: float
    coarse_until: float
    drop_until: float


def plan(settings: HistorySettings, now: float) -> Plan:
    """The plan at `now`; limits lie on the grid, so that a bucket is merged whole and once."""
    return Plan(
        math.floor((now - settings.raw_for) / FINE) * FINE,
        math.floor((now - settings.fine_for) / COARSE) * COARSE,
        now - settings.retention,
    )


def horizon(now: float, before: Optional[float]) -> float:
    """The time from which ages are counted, given that of the pruning `before`.

    It moves a day at most: a clock that jumps a year ahead for a cycle must not cost the history.
    A clock set back is followed at once (less is dropped)."""
    return now if before is None else min(now, before + _STRIDE)


# -- samples of every cycle in the state file, thinned with age.

_PRUNE_EVERY = 3600.0
_SCOPE = "history"

_log = logging.getLogger("monitoring.store.lookback")

_KNOWN = """
SELECT wanted.key, series.id,
       (SELECT max(at) FROM samples WHERE series_id = series.id AND at < :at)
FROM json_each(:keys) AS wanted LEFT JOIN series
  ON series.name = json_extract(wanted.value, '$[0]')
 AND series.labels = json_extract(wanted.value, '$[1]')
"""

# A row ends at `at`: one at 300 s exactly belongs to the bucket that ends there.
_MERGED = """
SELECT series_id, max(at), sum(seconds), sum(n), sum(total), sum(weighted), min(low), max(high)
FROM samples
WHERE series_id IN (SELECT id FROM series) AND at > :since AND at <= :until
GROUP BY series_id, CAST((at - 0.0005) / :width AS INTEGER)
"""

_DROPPED = "DELETE FROM samples WHERE series_id IN (SELECT id FROM series) AND at > ? AND at <= ?"


class _Key(NamedTuple):
    """A series: its metric and its labels as sorted JSON."""

    name: str
    labels: str


@dataclass(frozen=True)
class Recorded:
    """What `record` did: samples `stored`, measurements whose value was `unknown`, and per-client
    ones `refused` because `max_series` is reached (counts and rates are summed as `other`)."""

    stored: int
    unknown: int
    refused: int


class Cycle(NamedTuple):
    """A finished cycle: when, how long it took, how far apart cycles were meant to be."""

    at: float
    seconds: float
    interval: float
    status: str


class LocalHistory:
    """Writes and reads the history of all scripts; several processes may do so at once."""

    def __init__(self, state: State, settings: HistorySettings) -> None:
        self._state = state
        self._settings = settings

    # -- writing

    def record(self, outcome: Outcome, interval: float) -> Recorded:
        """Keep the cycle and every measured value. `interval`: seconds between cycles. A time
        older than what is kept (the clock was set back) is fine."""
        values = _values(outcome.measurements)
        at = round(outcome.at, 3)
        with self._state.transaction() as tx:
            found = self._admitted(tx, values, at)
            rows = []
            for number, last, value in found.rows:
                seconds = stands_for(None if last is None else at - last, interval)
                rows.append((number, at, seconds, 1, value, value * seconds, value, value))
            tx.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            tx.execute(
                "INSERT OR REPLACE INTO cycles VALUES (?, ?, ?, ?, ?)",
                (outcome.script, at, outcome.seconds, interval, outcome.status.word),
            )
            self._note_refused(outcome.script, found.refused)
        unknown = sum(1 for m in outcome.measurements if not _known(m))
        return Recorded(len(rows), unknown, found.refused)

    def _admitted(self, tx: Transaction, values: Mapping[_Key, float], at: float) -> _Admitted:
        admitted = _Admitted()
        keys = list(values)
        count = sum(int(row[0]) for row in tx.execute("SELECT count(*) FROM series"))
        for index, known, last in _known_series(tx, keys, at):
            key = keys[index]
            # What is not per client is bounded by the catalogue: it has twice the room, so that
            # a flood of client ids cannot take it.
            if known is None and count >= self._settings.max_series * (1 if _client(key) else 2):
                admitted.refuse(key, values[key])
                continue
            count += known is None
            number = _create(tx, key) if known is None else known
            admitted.rows.append((number, last, values[key]))
        self._add_other(tx, admitted, at)
        return admitted

    def _add_other(self, tx: Transaction, admitted: _Admitted, at: float) -> None:
        """Turn what was refused and can be summed into samples of the client `other`."""
        for key, value in admitted.other.items():
            ((_, known, last),) = _known_series(tx, [key], at)
            number = _create(tx, key) if known is None else known
            given = next((row for row in admitted.rows if row[0] == number), None)
            if given:
                admitted.rows.remove(given)
            admitted.rows.append((number, last, value + (given[2] if given else 0.0)))

    def _note_refused(self, script: str, refused: int) -> None:
        before = self.refused(script)
        if refused == before:
            return
        self._state.put(_SCOPE, f"refused:{script}", str(refused))
        if refused and not before:
            _log.warning(
                "history keeps %d series at most: %d per-client series of %s are summed as "
                "client_id=other; raise max_series or lower the retention",
                *(self._settings.max_series, refused, script),
            )

    def refused(self, script: str) -> int:
        """Per-client series the script's last cycle could not keep apart (0: none)."""
        return int(self._state.get(_SCOPE, f"refused:{script}") or 0)

    # -- reading

    def series(
        self, name: str, labels: Mapping[str, str], start: float, end: float
    ) -> list[Series]:
        """Every series of `name` whose labels include `labels`, with its points in (start, end];
        series without points are left out. A point that begins before `start` is cut there.
        """
        found = []
        for number, text in self._state.read(
            "SELECT id, labels FROM series WHERE name = ? ORDER BY labels", (name,)
        ):
            has = json.loads(text)
            if any(has.get(label) != value for label, value in labels.items()):
                continue
            points = self._points(number, start, end)
            if points:
                found.append(Series(has, points))
        return found

    def _points(self, number: int, start: float, end: float) -> tuple[Point, ...]:
        rows = self._state.read(
            "SELECT at, min(seconds, at - :start), weighted / seconds, low, high, n FROM samples "
            "WHERE series_id = :id AND at > :start AND at <= :end ORDER BY at",
            {"id": number, "start": start, "end": end},
        )
        return tuple(map(Point._make, rows))

    def cycles(self, script: str, start: float, end: float) -> list[Cycle]:
        """Cycles of the script in (start, end], oldest first."""
        rows = self._state.read(
            "SELECT at, seconds, interval, status FROM cycles "
            "WHERE script = ? AND at > ? AND at <= ? ORDER BY at",
            (script, start, end),
        )
        return [Cycle._make(row) for row in rows]

    # -- pruning

    def prune(self, now: float) -> bool:
        """Thin and drop what is old, at most once an hour (call it every cycle). True when it was
        time to."""
        kept = self._state.get(_SCOPE, "pruned")
        before = None if kept is None else float(kept)
        if before is not None and abs(now - before) < _PRUNE_EVERY:
            return False
        until = horizon(now, before)
        with self._state.transaction() as tx:
            self._thin(tx, plan(self._settings, until))
            self._state.put(_SCOPE, "pruned", repr(until))
        self._state.shrink()
        return True

    def _thin(self, tx: Transaction, due: Plan) -> None:
        tx.execute(_DROPPED, (-math.inf, due.drop_until))
        tx.execute("DELETE FROM cycles WHERE at <= ?", (due.drop_until,))
        tx.execute(
            "DELETE FROM series WHERE NOT EXISTS "
            "(SELECT 1 FROM samples WHERE samples.series_id = series.id)"
        )
        self._merge(tx, FINE, due.fine_until)
        self._merge(tx, COARSE, due.coarse_until)

    def _merge(self, tx: Transaction, width: float, until: float) -> None:
        """Merge rows up to `until` into buckets, from where the last time left off."""
        mark = f"merged:{width:g}"
        since = float(self._state.get(_SCOPE, mark) or 0.0)
        if until <= since:
            return
        rows = tx.execute(_MERGED, {"since": since, "until": until, "width": width})
        tx.execute(_DROPPED, (since, until))
        tx.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._state.put(_SCOPE, mark, repr(until))


class _Admitted:
    """Samples that may be written, as (series id, time of the sample before, value), and what
    was refused for want of room."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Optional[float], float]] = []
        self.other: dict[_Key, float] = {}
        self.refused = 0

    def refuse(self, key: _Key, value: float) -> None:
        self.refused += 1
        metric = METRICS.get(key.name)
        if _client(key) and metric and metric.summable:
            labels = json.loads(key.labels)
            other = _key(key.name, {**labels, CLIENT: OTHER})
            self.other[other] = self.other.get(other, 0.0) + value


def _known(measurement: Measurement) -> bool:
    return measurement.value is not None and math.isfinite(measurement.value)


def _derived(measurement: Measurement) -> bool:
    metric = METRICS.get(measurement.name)
    return metric is not None and metric.derived


def _values(measurements: Iterable[Measurement]) -> dict[_Key, float]:
    return {
        _key(m.name, m.labels): float(m.value)
        for m in measurements
        if m.value is not None and _known(m) and not _derived(m)
    }


def _key(name: str, labels: Mapping[str, str]) -> _Key:
    return _Key(name, json.dumps(dict(labels), sort_keys=True, separators=(",", ":")))


def _client(key: _Key) -> bool:
    """Whether the series belongs to one client, so that there may be any number of its like."""
    return f'"{CLIENT}"' in key.labels and json.loads(key.labels)[CLIENT] not in SUMS


def _known_series(
    tx: Transaction, keys: Sequence[_Key], at: float
) -> list[tuple[int, Optional[int], Optional[float]]]:
    """For every key: its index, its series id (None: new), the time of its sample before `at`."""
    return tx.execute(_KNOWN, {"keys": json.dumps(keys), "at": at})  # type: ignore[return-value]


def _create(tx: Transaction, key: _Key) -> int:
    tx.execute("INSERT INTO series (name, labels) VALUES (?, ?)", key)
    return sum(int(row[0]) for row in tx.execute("SELECT last_insert_rowid()"))
