"""Present: a finding as one sentence that is true of its evidence."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from monitoring.anomaly.scene import Finding

_HARDLY_ANY = 0.1
_FOREIGN = "of a network that no client habitually uses"
Writer = Callable[[str, Finding, Mapping[str, Any]], str]


def sentence(client: str, finding: Finding, age_days: float) -> str:
    """What was seen, what was expected, and how much history that rests on."""
    told = WRITERS[finding.reason](client, finding, finding.evidence)
    return f"{told} (profile of {age_days:.1f} days)."


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
    return f"{client} made {calls} in this hour, expected {_about(found.expected)}" + _addresses(
        seen
    )


def _off_habit(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls, usual = _plural(found.observed, "call"), _about(found.expected)
    told = f"{client} made {calls} at an hour of the week in which it usually makes {usual}"
    return told + _addresses(seen)


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
    told = f"{client} was never seen before and made {calls} in its first hour"
    share = seen["foreign_share"]
    if share:
        return f"{told}, {share:.0%} of them from networks that no other client habitually uses"
    return told + (", from addresses that are not known" if share is None else "")


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
        f"{client} was refused at least {_plural(found.observed, 'time')} in "
        f"{_plural(seen['hours'], 'hour')} from {seen['source']}, {_FOREIGN}, and never let in"
    )


def _shared(_client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{_plural(found.observed, 'client')} of {brief(seen['of'])} fail at once from their own "
        "hosts: look at the platform (a release, the vault, a rotation), not at the clients"
    )


def _spray(_client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    return (
        f"{seen['source']}, {_FOREIGN}, was refused as "
        f"{_plural(found.observed, 'client')} in this hour: somebody tries secrets on many clients"
    )


def _silence(client: str, found: Finding, seen: Mapping[str, Any]) -> str:
    calls = "no call" if not found.observed else f"only {_plural(found.observed, 'call')}"
    hours, expected = _plural(seen["hours"], "hour"), brief(found.expected)
    told = f"{client} made {calls} in {hours}, expected about {expected}"
    others = seen.get("others", 0)
    return told + (f"; {_plural(others, 'other client')} fell silent too" if others else "")


WRITERS: Dict[str, Writer] = {
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
