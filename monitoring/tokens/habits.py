"""Keep: the usual course of generation rate, live tokens and failures, and when one leaves it.

The detector of credential misuse, fed with the aggregate figures of each cycle. Its profiles stand
in the state file, so that cron learns too.
"""

from __future__ import annotations

import json
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

from monitoring.anomaly.series import SeriesDetector
from monitoring.anomaly.types import Anomaly
from monitoring.model import Finding, Measurement, Severity
from monitoring.state import State

#: Metric -> what a sentence calls it, and the smallest difference that matters.
WATCHED = (
    ("payment_api_token_generation_rate", "Token generation per minute", 0.1),
    ("payment_api_tokens_active", "The number of live tokens", 1.0),
    ("payment_api_token_validation_failures_recent", "Failed validations in the window", 1.0),
)
REASON = "out_of_habit"
_SCOPE = "habits"
_LONGEST = 3600.0  # a longer stretch than an hour tells no hour of the day
_SEVERITIES = {"critical": Severity.CRITICAL, "warning": Severity.WARNING}


class Habits:
    """One detector per watched figure, over the scope `habits` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def feed(self, measured: Sequence[Measurement], now: float) -> List[Finding]:
        """What left its habit with this cycle's figures, each standing for the time since the
        cycle before."""
        values = {m.name: m.value for m in measured if not m.labels}
        with self._state.transaction():
            return list(self._fed(values, now))

    def _fed(self, values: Mapping[str, Optional[float]], now: float) -> Iterator[Finding]:
        seconds = self._since(now)
        for metric, name, unit in WATCHED:
            if seconds is None or values.get(metric) is None:
                continue
            profiles = self._profiles(metric)
            detector = SeriesDetector(name, unit, profiles=profiles)
            detector.mind_clock(now)
            found = detector.feed(now - seconds, seconds, values[metric])
            self._keep(metric, {**profiles, **detector.dump()})
            yield from (_finding(metric, anomaly) for anomaly in found)

    def _since(self, now: float) -> Optional[float]:
        """Seconds since the last look; None at the first one, after a gap, or when the clock was
        set back."""
        before = self._state.get(_SCOPE, "looked")
        self._state.put(_SCOPE, "looked", repr(now))
        seconds = now - float(before) if before else 0.0
        return seconds if 0 < seconds <= _LONGEST else None

    def _profiles(self, metric: str) -> Dict[str, str]:
        try:
            kept = json.loads(self._state.get(_SCOPE, metric) or "{}")
        except ValueError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, metric: str, profiles: Mapping[str, str]) -> None:
        text = json.dumps({name: body for name, body in profiles.items() if body})
        self._state.put(_SCOPE, metric, text)


def _finding(metric: str, anomaly: Anomaly) -> Finding:
    failures = metric.endswith("failures_recent")
    return Finding(
        REASON,
        _SEVERITIES.get(anomaly.severity, Severity.WARNING),
        anomaly.sentence,
        "payment-sapi" if failures else "redis-cache",
        category="security",
        evidence={
            "metric": metric,
            "view": anomaly.reason,
            "observed": round(anomaly.observed, 3),
            "expected": round(anomaly.expected, 3),
            "profile_age_days": round(anomaly.profile_age_days, 1),
        },
    )
