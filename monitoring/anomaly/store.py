"""Keep: the anomaly detector's profiles in the state file, and what it found lately."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from monitoring.anomaly.detector import PLATFORM_KEY, Anomaly, Bucket, Detector, Sensitivity
from monitoring.config.settings import CredentialSettings
from monitoring.credentials.facts import UNKNOWN_CLIENT
from monitoring.credentials.usage import LONGEST
from monitoring.store.state import State

MAX_CLIENTS = 10_000
RECENT_KEPT = 500
_SCOPE, _RECENT = "anomalies", "recent"
_VERSION = 1


@dataclass(frozen=True)
class Reported:
    """An anomaly and when it was found (epoch seconds)."""

    at: float
    anomaly: Anomaly


def sensitivity_of(settings: CredentialSettings) -> Sensitivity:
    """The detector's budget as configured."""
    return Sensitivity(settings.false_alerts_per_client_month, settings.per_client_sensitivity)


class AnomalyStore:
    """One detector over the table `profiles`, which another monitor may have moved on meanwhile."""

    def __init__(self, state: State, sensitivity: Sensitivity) -> None:
        self._state, self._sensitivity = state, sensitivity
        self._detector: Optional[Detector] = None
        self._stamp: Optional[float] = None

    def feed(self, bucket: Optional[Bucket], now: float, window: float) -> tuple[Reported, ...]:
        """Judge the bucket (None: nothing was seen), and return what was found in the last
        `window` seconds, this time's last. A bucket too long to tell hours apart is a gap."""
        found: list[Anomaly] = []
        if bucket is not None and bucket.seconds <= LONGEST:
            clients = {n: u for n, u in bucket.clients.items() if n != UNKNOWN_CLIENT}
            with self._state.transaction():
                detector = self._current()
                detector.mind_clock(now)
                found = detector.feed(Bucket(bucket.at, bucket.seconds, clients))
                self._save(detector.dump(), now)
        return self._recent([Reported(now, anomaly) for anomaly in found], now, window)

    def _current(self) -> Detector:
        """The detector in memory, or a new one when somebody else has fed the profiles."""
        sql = "SELECT updated FROM profiles WHERE client = ?"
        rows = self._state.read(sql, (PLATFORM_KEY,))
        stamp = float(rows[0][0]) if rows else None
        if self._detector is None or stamp != self._stamp:
            profiles: dict[str, str] = dict(self._state.read("SELECT client, body FROM profiles"))
            self._detector = Detector(self._sensitivity, profiles, max_clients=MAX_CLIENTS)
        return self._detector

    def _save(self, texts: Mapping[str, str], now: float) -> None:
        rows = [(name, _VERSION, text, now) for name, text in texts.items() if text]
        gone = [(name,) for name, text in texts.items() if not text]
        with self._state.transaction() as tx:
            tx.executemany("INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?)", rows)
            tx.executemany("DELETE FROM profiles WHERE client = ?", gone)
        self._stamp = now if PLATFORM_KEY in texts else self._stamp

    def _recent(self, new: list[Reported], now: float, window: float) -> tuple[Reported, ...]:
        kept = [reported for reported in _read(self._state) if now - window < reported.at <= now]
        both = [*kept, *new][-RECENT_KEPT:]
        if new or kept:
            text = json.dumps([_row(reported) for reported in both])
            self._state.put(_SCOPE, _RECENT, text)
        return tuple(both)


def _read(state: State) -> list[Reported]:
    try:
        rows = json.loads(state.get(_SCOPE, _RECENT) or "[]")
        return [Reported(float(row["told"]), Anomaly(**row["anomaly"])) for row in rows]
    except (ValueError, KeyError, TypeError):
        return []  # of another version: what it says was told long ago


def _row(reported: Reported) -> dict[str, object]:
    # Of the evidence only what tells one finding from another is kept.
    kept = {key: value for key, value in reported.anomaly.evidence.items() if key == "source"}
    anomaly = {**reported.anomaly.__dict__, "evidence": kept}
    return {"told": reported.at, "anomaly": anomaly}
