"""Decision: which findings are told, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any, Callable

from monitoring.anomaly.profiles import Profile
from monitoring.anomaly.scene import Finding
from monitoring.anomaly.types import TECHNIQUES, Anomaly

# -- a finding as one sentence that is true of its evidence.

_HARDLY_ANY = 0.1
_FOREIGN = "of a network that no client habitually uses"
Writer = Callable[[str, Finding, Mapping[str, Any]], str]


def sentence(client: str, finding: Finding, age_days: float) -> str:
    """What was seen, what was expected, and how much history that rests on."""
    text = WRITERS[finding.reason](client, finding, finding.evidence)
    return f"{text} (profile of {age_days:.1f} days)."


def brief(value: float) -> str:
    """A figure as short as a reader needs it."""
    if value >= 10 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _about(value: float) -> str:
    """An expectation; of less than one call in ten hours nobody needs the digits."""
    return f"about {brief(value)}" if value >= _HARDLY_ANY else "hardly any"


def _plural(count: float, word: str) -> str:
    return f"{brief(count)} {word}" + ("" if count == 1 else "es" if word.endswith("s") else "s")


def _addresses(seen: Mapping[str, Any]) -> str:
    if not seen.get("new_source_count"):
        return ""
    came = _plural(seen["new_source_count"], "address")
    return f"; {brief(seen['new_source_calls'])} came from {came} {_unseen(seen)}"


def _unseen(seen: Mapping[str, Any]) -> str:
    """Of a client with more addresses than are remembered, only those used last are known."""
    return "not seen lately" if seen["forgetful"] else "never seen before"


def _volume(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls = _plural(found.observed, "call")
    due = f"expected {_about(found.expected)}"
    if "most" in seen:
        due = f"where no hour of its first days had more than {brief(seen['most'])}"
    return f"{client} made {calls} in this hour, {due}" + _addresses(seen)


def _off_habit(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls, usual = _plural(found.observed, "call"), _about(found.expected)
    text = f"{client} made {calls} at an hour of the week in which it usually makes {usual}"
    return text + _addresses(seen)


def _slow(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls, expected = _plural(found.observed, "call"), brief(found.expected)
    return (
        f"{client} made at least {calls} in the last 24 hours, expected about {expected}; "
        f"{brief(seen['observed'])} against {brief(seen['expected'])} in the "
        f"{brief(seen['hours'])} hours since the excess began"
    )


def _dormant(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls, days = _plural(found.observed, "call"), brief(seen["rest_hours"] / 24)
    usual = brief(seen["longest_pause_hours"])
    return (
        f"{client} made {calls} after {days} days out of habitual use, "
        f"where no rest before was longer than {usual} hours" + _addresses(seen)
    )


def _newcomer(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls = _plural(found.observed, "call")
    text = f"{client} was never seen before and made {calls} in its first hour"
    share = seen["foreign_share"]
    if share:
        return f"{text}, {share:.0%} of them from networks that no other client habitually uses"
    return text + (", from addresses that are not known" if share is None else "")


def _failures(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    if "suspects" in seen:
        names = ", ".join(seen["suspects"])
        return (
            f"{client}: at least {_plural(seen['succeeded_at_least'], 'call')} from {names} "
            "succeeded, after a burst of failures in the last 24 hours"
        )
    failed = brief(found.observed)
    return (
        f"{client} failed {failed} of {_plural(seen['calls'], 'call')} in this hour, expected "
        f"{_about(found.expected)}" + _addresses(seen)
    )


def _fanout(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{client} called from {_plural(found.observed, 'address')} in this hour, "
        f"{brief(seen['new_source_count'])} of them {_unseen(seen)}, against about "
        f"{brief(seen['usual_sources'])} usually"
    )


def _takeover(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    names = ", ".join(seen["sources"][:3])
    return (
        f"{client} made {brief(found.observed)} of its {_plural(seen['calls'], 'call')} in this "
        f"hour from {names}, {_FOREIGN}, and hardly any from its own"
    )


def _guessing(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{client} failed often enough in {_plural(seen['hours'], 'hour')} to account for at least "
        f"{_plural(found.observed, 'call')} from {seen['source']}, {_FOREIGN}: it may be guessing"
    )


def _shared(_client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{_plural(found.observed, 'client')} of {brief(seen['of'])} fail at once from their own "
        "hosts: look at the platform (a release, the vault, a rotation), not at the clients"
    )


def _spray(_client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{seen['source']}, {_FOREIGN}, called as {_plural(found.observed, 'client')} in this hour "
        "of which each failed as often as it called, or more: it may be trying secrets on many"
    )


def _silence(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls = "no call" if not found.observed else f"only {_plural(found.observed, 'call')}"
    hours, expected = _plural(seen["hours"], "hour"), brief(found.expected)
    text = f"{client} made {calls} in {hours}, expected about {expected}"
    others = seen.get("others", 0)
    return text + (f"; {_plural(others, 'other client')} fell silent too" if others else "")


WRITERS: dict[str, Writer] = {
    "volume_spike": _volume,
    "slow_abuse": _slow,
    "off_habit": _off_habit,
    "dormant_woken": _dormant,
    "new_client": _newcomer,
    "failure_burst": _failures,
    "source_fanout": _fanout,
    "source_takeover": _takeover,
    "slow_guessing": _guessing,
    "shared_failures": _shared,
    "failure_spray": _spray,
    "silence": _silence,
}

HOLD_HOURS = 24  # a reason is not repeated for a client within a day of its last telling ...
GROWTH = 2.0  # ... unless what is observed has doubled,
MOST_HOLD = 8 * HOLD_HOURS  # and one that comes back and back is held twice as long each time
CRITICAL_MARGIN = 4.0  # ten thousand times rarer than the budget asks for


def is_due(profile: Profile, finding: Finding, number: int) -> bool:
    """Not told lately, or grown since, in another hour; a success after failures is always told."""
    at, observed, hold = profile.holds.get(finding.reason, (number - MOST_HOLD, 0.0, 0))
    if at == number and hold and "suspects" not in finding.evidence:  # before its hour was over
        profile.holds[finding.reason] = (number, max(observed, finding.observed), hold)
        return False
    grown = finding.observed >= GROWTH * observed > 0
    if number - at < hold and not grown and "suspects" not in finding.evidence:
        return False
    again = HOLD_HOURS <= number - at <= hold + HOLD_HOURS
    longer = min(MOST_HOLD, 2 * hold) if again else max(HOLD_HOURS, hold // 2)
    profile.holds[finding.reason] = (number, finding.observed, longer)
    return True


def is_held(profile: Profile, reason: str, number: int) -> bool:
    """Told so lately that within an hour it is not told again, however much it grew."""
    at, _, hold = profile.holds.get(reason, (number - MOST_HOLD, 0.0, 0))
    return number - at < hold


def is_calm(profile: Profile, number: int) -> bool:
    """Nothing was told of this client for two days: its networks may count as at home."""
    holds = profile.holds
    return not holds or all(number - hold[0] > 2 * HOLD_HOURS for hold in holds.values())


def as_anomaly(
    number: int, name: str, finding: Finding, *, hours: int, limit: float = inf
) -> Anomaly:
    """The finding of hour `number` (since the epoch), with its sentence and severity; it rests on
    `hours` of history, and is critical if its score is far beyond `limit`."""
    age = max(0, hours) / 24.0
    return Anomaly(
        at=number * 3600.0,
        client=name,
        reason=finding.reason,
        score=finding.score,
        observed=finding.observed,
        expected=finding.expected,
        sentence=sentence(name, finding, age),
        severity="critical" if finding.score >= limit + CRITICAL_MARGIN else "warning",
        profile_age_days=age,
        evidence=_evidence(finding),
    )


def _evidence(finding: Finding) -> Mapping[str, object]:
    technique = TECHNIQUES.get(finding.reason)
    return {**finding.evidence, "technique": technique} if technique else finding.evidence


def series_anomaly(anomaly: Anomaly, unit: float) -> Anomaly:
    """A finding about one aggregate series, in the series' own unit and words."""
    slow = anomaly.reason == "slow_abuse"
    hours = {"slow_abuse": 24.0, "silence": float(str(anomaly.evidence.get("hours_due", 1)))}
    share = unit / hours.get(anomaly.reason, 1.0)
    observed, expected = anomaly.observed * share, anomaly.expected * share
    over = "over the last 24 hours" if slow else "in this hour"
    if anomaly.reason == "silence":
        over = f"over {anomaly.evidence['hours']} hours"
    text = f"{anomaly.client} averaged {brief(observed)} {over}, expected about {brief(expected)}"
    text += f" (profile of {anomaly.profile_age_days:.1f} days)."
    return replace(anomaly, observed=observed, expected=expected, sentence=text)
