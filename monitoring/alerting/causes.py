"""Decision: what one cause explains is one incident.

Failed logins show in a client's count, in the share of all logins, as a burst, and worst of all
when one succeeds after them. A slow cache makes a slow service and a slow login. Each of these is
judged, silenced and remembered by itself; people are told of them together: the most dangerous
sentence (or the one nearest to the cause) first, the rest as what else shows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Mapping, Sequence, Tuple

from monitoring.alerting.state import AlertState
from monitoring.model import Alert, AlertKey

LOGINS, SLOW = "failed_logins", "slow"
#: Cause -> where the incident is told to be.
_PLACES = {LOGINS: "payment-eapi", SLOW: "payment-api"}
#: Of one cause, the most dangerous first.
_LOGINS = (
    "failures_then_success",
    "failure_spray",
    "slow_guessing",
    "failure_burst",
    "shared_failures",
    "authentication_failures",
    "authentication_failure_ratio",
)
_SLOW = (
    *("redis_response_time", "vault_response_time", "api_response_time"),
    *("token_validation_time", "authentication_time"),
)
_METRICS = {**dict.fromkeys(_LOGINS, LOGINS), **dict.fromkeys(_SLOW, SLOW)}
#: What is slow, the nearest to the cause first: each waits for those before it.
_DEPTH = ("redis-cache", "conjur-vault", "payment-sapi", "payment-eapi", "authentication-flow")


def family(alert: Alert) -> str:
    """Key of the incident that the alert belongs to; empty for one that has a cause of its own."""
    cause = _METRICS.get(alert.key.metric)
    return "" if cause is None else _key(alert, cause).text


def metrics_of(cause: str) -> Tuple[str, ...]:
    """The metrics whose alerts a cause explains; none for another name."""
    return tuple(metric for metric, its in _METRICS.items() if its == cause)


def is_family(key: str) -> bool:
    """Whether a group's key is that of a cause, not of many clients."""
    return key.split("/")[3:] in ([LOGINS, ""], [SLOW, ""])


def news(alert: Alert, told: Sequence[AlertState]) -> bool:
    """Whether people have to hear again when `alert` joins an incident of which `told` are
    known: it is worse, more dangerous, or about another client."""
    worst = max(state.told or state.alert.severity for state in told)
    if alert.severity > worst:
        return True
    if _METRICS[alert.key.metric] == SLOW:
        return False  # the same trouble, seen from another place
    clients = {state.alert.key.client for state in told} | {""}
    return alert.key.client not in clients or _rank(alert) < min(_rank(s.alert) for s in told)


def incident(alerts: Iterable[Alert]) -> Tuple[Alert, Tuple[Alert, ...]]:
    """The alert that stands for all of them, and all of them, if they are several."""
    ordered = tuple(sorted(alerts, key=_order))
    root = ordered[0]
    key = _key(root, _METRICS[root.key.metric])
    others = {alert.key.client for alert in ordered} - {"", root.key.client}
    more = f" (and {len(others)} more client{'s' if len(others) > 1 else ''})" if others else ""
    evidence: Mapping[str, object] = {
        **root.evidence,
        **({"clients": len(others) + 1} if others else {}),
    }
    worst = max(alert.severity for alert in ordered)
    stands = replace(root, key=key, severity=worst, summary=root.summary + more, evidence=evidence)
    return stands, ordered if len(ordered) > 1 else ()


def _key(alert: Alert, cause: str) -> AlertKey:
    return AlertKey(alert.key.environment, alert.key.script, _PLACES[cause], cause)


def _rank(alert: Alert) -> int:
    if _METRICS[alert.key.metric] == LOGINS:
        return _LOGINS.index(alert.key.metric)
    place = alert.key.component
    depth = _DEPTH.index(place) if place in _DEPTH else len(_DEPTH)
    return depth * len(_SLOW) + _SLOW.index(alert.key.metric)


def _order(alert: Alert) -> Tuple[int, bool, int, float, str]:
    """Of what is equally dangerous, that which names a client."""
    client = alert.key.client
    return (_rank(alert), not client, -alert.severity, -(alert.value or 0.0), client)
