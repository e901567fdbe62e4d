"""Decision: which findings are told, and as what."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping

from monitoring.anomaly.profiles import Profile
from monitoring.anomaly.scene import Finding
from monitoring.anomaly.types import PLATFORM, TECHNIQUES, Anomaly
from monitoring.anomaly.words import brief, sentence

HOLD_HOURS = 24  # a reason is not repeated for a client within a day of its last telling ...
GROWTH = 2.0  # ... unless what is observed has doubled,
MOST_HOLD = 8 * HOLD_HOURS  # and one that comes back and back is held twice as long each time
CRITICAL_MARGIN = 4.0  # ten thousand times rarer than the budget asks for


def is_due(profile: Profile, finding: Finding, number: int) -> bool:
    """Not told lately, or grown since; a success after failures is always told."""
    at, observed, hold = profile.holds.get(finding.reason, (number - MOST_HOLD, 0.0, 0))
    grown = finding.observed >= GROWTH * observed > 0
    if number - at < hold and not grown and "suspects" not in finding.evidence:
        return False
    again = HOLD_HOURS <= number - at <= hold + HOLD_HOURS
    longer = min(MOST_HOLD, 2 * hold) if again else max(HOLD_HOURS, hold // 2)
    profile.holds[finding.reason] = (number, finding.observed, longer)
    return True


def is_calm(profile: Profile, number: int) -> bool:
    """Nothing was told of this client for two days: its networks may count as at home."""
    return all(number - hold[0] > 2 * HOLD_HOURS for hold in profile.holds.values())


def as_anomaly(number: int, name: str, profile: Profile, finding: Finding) -> Anomaly:
    """The finding of hour `number` (since the epoch), with its sentence and severity."""
    age = (profile.seen - 1) / 24.0
    critical = finding.score >= profile.limit + CRITICAL_MARGIN
    return Anomaly(
        at=number * 3600.0,
        client=name,
        reason=finding.reason,
        score=finding.score,
        observed=finding.observed,
        expected=finding.expected,
        sentence=sentence(name, finding, age),
        severity="critical" if critical else "warning",
        profile_age_days=age,
        evidence=_evidence(finding),
    )


def _evidence(finding: Finding) -> Mapping[str, object]:
    technique = TECHNIQUES.get(finding.reason)
    return {**finding.evidence, "technique": technique} if technique else finding.evidence


def platform_anomaly(number: int, finding: Finding, hours: int) -> Anomaly:
    """A finding about all clients together; it names none."""
    age = max(0, hours) / 24.0
    return Anomaly(
        at=number * 3600.0,
        client=PLATFORM,
        reason=finding.reason,
        score=finding.score,
        observed=finding.observed,
        expected=finding.expected,
        sentence=sentence(PLATFORM, finding, age),
        severity="warning",
        profile_age_days=age,
        evidence=_evidence(finding),
    )


def series_anomaly(anomaly: Anomaly, unit: float) -> Anomaly:
    """A finding about one aggregate series, in the series' own unit and words."""
    slow = anomaly.reason == "slow_abuse"
    hours = {"slow_abuse": 24.0, "silence": float(str(anomaly.evidence.get("hours_due", 1)))}
    share = unit / hours.get(anomaly.reason, 1.0)
    observed, expected = anomaly.observed * share, anomaly.expected * share
    over = "over the last 24 hours" if slow else "in this hour"
    if anomaly.reason == "silence":
        over = f"over {anomaly.evidence['hours']} hours"
    told = f"{anomaly.client} averaged {brief(observed)} {over}, expected about {brief(expected)}"
    told += f" (profile of {anomaly.profile_age_days:.1f} days)."
    return replace(anomaly, observed=observed, expected=expected, sentence=told)
