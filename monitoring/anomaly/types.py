"""Decision: the values that go into and come out of the anomaly detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from msgspec import Struct

REASONS = (
    "volume_spike",
    "slow_abuse",
    "off_habit",
    "dormant_woken",
    "new_client",
    "failure_burst",
    "source_fanout",
    "source_takeover",
    "slow_guessing",
    "silence",
)
#: Of the platform as a whole; such a finding names no client.
SHARED_REASONS = ("shared_failures", "failure_spray")
PLATFORM = ""
#: The technique of MITRE ATT&CK that a finding may be the trace of, where one fits.
TECHNIQUES: Mapping[str, str] = {
    **dict.fromkeys(("volume_spike", "slow_abuse", "off_habit", "dormant_woken"), "T1078"),
    **dict.fromkeys(("new_client", "source_fanout", "source_takeover"), "T1078"),
    **dict.fromkeys(("failure_burst", "slow_guessing"), "T1110.001"),
    "failure_spray": "T1110.003",
}


class Usage(Struct, frozen=True):
    """Calls of one client in one bucket; `sources` counts them by address (None: not known).
    `unknown`: calls of which nothing says how they ended; the detector is not given any."""

    ok: float
    failed: float
    sources: Optional[Mapping[str, float]] = None
    unknown: float = 0.0

    @property
    def attempts(self) -> float:
        return self.ok + self.failed + self.unknown


@dataclass(frozen=True)
class Bucket:
    """What was seen from `at` (epoch seconds) for `seconds`; an absent client made no calls."""

    at: float
    seconds: float
    clients: Mapping[str, Usage]


@dataclass(frozen=True)
class Anomaly:
    """One finding. `at` is the start of the hour judged (epoch seconds), `score` is -log10 p."""

    at: float
    client: str
    reason: str
    score: float
    observed: float
    expected: float
    sentence: str
    severity: str
    profile_age_days: float
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Sensitivity:
    """The budget: false alerts that a client may cause in a month of 730 hours; and overrides."""

    false_alerts_per_client_month: float = 0.1
    per_client: Mapping[str, float] = field(default_factory=dict)
