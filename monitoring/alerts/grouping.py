"""Decision: many alerts of one kind at once, or of one cause, are one notice with a list.

More than `group_above` clients that fire with the same component and metric in one cycle form a
group: an incident of its own, whose key has the client `*`. Its members keep their own states but
are notified through the group from then on: one that escalates or is reminded of speaks for all,
one that recovers and comes back is not notified again, and the group resolves when the last member
has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from monitoring.alerts.state import AlertState
from monitoring.components import EAPI, NEAREST_FIRST, WHOLE
from monitoring.model import Alert, AlertKey, Notice

# -- what one cause explains is one incident.
# Failed logins show in a client's count, in the share of all logins, as a burst, and worst of all
# when one succeeds after them. A slow cache makes a slow service and a slow login. Each of these is
# judged, silenced and remembered by itself; people are notified of them together: the most
# dangerous sentence (or the one nearest to the cause) first, the rest as what else shows it.

LOGINS, SLOW = "failed_logins", "slow"
#: Cause -> where the incident is told to be.
_PLACES = {LOGINS: EAPI, SLOW: WHOLE}
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


def family(alert: Alert) -> str:
    """Key of the incident that the alert belongs to; empty for one that has a cause of its own."""
    cause = _METRICS.get(alert.key.metric)
    return "" if cause is None else _key(alert, cause).text


def metrics_of(cause: str) -> tuple[str, ...]:
    """The metrics whose alerts a cause explains; none for another name."""
    return tuple(metric for metric, its in _METRICS.items() if its == cause)


def is_family(key: str) -> bool:
    """Whether a group's key is that of a cause, not of many clients."""
    return key.split("/")[3:] in ([LOGINS, ""], [SLOW, ""])


def news(alert: Alert, notified: Sequence[AlertState]) -> bool:
    """Whether people have to hear again when `alert` joins an incident of which `notified` are
    known: it is worse, more dangerous, or about another client."""
    worst = max(state.notified or state.alert.severity for state in notified)
    if alert.severity > worst:
        return True
    if _METRICS[alert.key.metric] == SLOW:
        return False  # the same trouble, seen from another place
    clients = {state.alert.key.client for state in notified} | {""}
    return alert.key.client not in clients or _rank(alert) < min(_rank(s.alert) for s in notified)


def incident(alerts: Iterable[Alert]) -> tuple[Alert, tuple[Alert, ...]]:
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
    worst = max(ordered, key=lambda alert: alert.severity)  # the first of those
    why = f"; {worst.summary}" if worst.severity > root.severity else ""
    summary = root.summary + more + why  # "critical" beside the limit of a warning would puzzle
    stands = replace(root, key=key, severity=worst.severity, summary=summary, evidence=evidence)
    return stands, ordered if len(ordered) > 1 else ()


def foremost(alerts: Iterable[Alert]) -> Optional[Alert]:
    """The one to read first. None of none."""
    return min(alerts, key=place, default=None)


def place(alert: Alert) -> tuple[int, bool, bool, int, bool, str]:
    """Sorts what to read first: the worst, and of those what is down, then what is about security;
    of one cause the most dangerous, or the one nearest to the cause."""
    rank = _rank(alert) if alert.key.metric in _METRICS else (len(NEAREST_FIRST) + 1) * len(_SLOW)
    down = alert.key.metric == "health_status"
    rank = _depth(alert.key) if down else rank
    about = (alert.category != "security", rank, not alert.key.client, alert.key.text)
    return (-alert.severity, not down, *about)


def _key(alert: Alert, cause: str) -> AlertKey:
    return AlertKey(alert.key.environment, alert.key.script, _PLACES[cause], cause)


def _rank(alert: Alert) -> int:
    if _METRICS[alert.key.metric] == LOGINS:
        return _LOGINS.index(alert.key.metric)
    return _depth(alert.key) * len(_SLOW) + _SLOW.index(alert.key.metric)


def _depth(key: AlertKey) -> int:
    """How far from the cause a component is: the others lean on the first."""
    known = key.component in NEAREST_FIRST
    return NEAREST_FIRST.index(key.component) if known else len(NEAREST_FIRST)


def _order(alert: Alert) -> tuple[int, bool, int, float, str]:
    """Of what is equally dangerous, that which names a client."""
    client = alert.key.client
    return (_rank(alert), not client, -alert.severity, -(alert.value or 0.0), client)


# -- many alerts of one kind at once, or of one cause, are one notice with a list.

States = Mapping[str, AlertState]


@dataclass(frozen=True)
class Due:
    """A notice to be: why now, what it says, since when the incident lasts, what ended it."""

    reason: str
    alert: Alert
    since: float
    ended: str = ""

    @property
    def key(self) -> str:
        return self.alert.key.text


def gather(
    due: Sequence[Due], states: States, above: int, now: float
) -> tuple[tuple[Notice, ...], dict[str, AlertState]]:
    """The notices for what is due, the worst first, and the states with their groups."""
    after = dict(states)
    caused = [one for one in due if one.reason != "resolved" and _in_family(one, after)]
    notices = list(_incidents(caused, after, now))
    alone, grouped = _split([one for one in due if one not in caused], after, above)
    notices += [Notice(d.alert, d.reason, now, d.since, ended=d.ended) for d in alone]
    for (_, reason), members in grouped.items():
        notices.append(_group_notice(reason, members, after, now))
    notices += _ended_groups(due, after, now)
    _let_go(after)
    return tuple(sorted(notices, key=_worst_first)), after


def group_alert(members: Sequence[Alert]) -> Alert:
    """The alert that stands for `members`: the worst one's texts under the group's key."""
    worst = min(members, key=_worst_member)
    key = replace(worst.key, client="*")
    summary = f"{len(members)} clients at once, the worst: {worst.summary}"
    evidence = {"clients": len(members)}
    return replace(worst, key=key, summary=summary, value=None, evidence=evidence)


def _in_family(one: Due, states: States) -> bool:
    """Whether people hear of it together with its cause: from the first notice on, or since."""
    cause = family(one.alert)
    return bool(cause) and (one.reason == "first" or states[one.key].group == cause)


def _incidents(due: Sequence[Due], states: dict[str, AlertState], now: float) -> Iterator[Notice]:
    """One notice for each cause that has news; what joins an incident and says nothing new is
    told by it all the same, when somebody asks or is reminded."""
    families: dict[str, list[Due]] = defaultdict(list)
    for one in due:
        families[family(one.alert)].append(one)
    for cause, members in families.items():
        known = _known(members, [states[key] for key in _members(cause, states)])
        for one in members:
            states[one.key] = replace(states[one.key], group=cause)
        reason = _why(members, known)
        firing = [key for key in _members(cause, states) if states[key].firing]
        if reason == "reminder":
            states.update({key: replace(states[key], notified_at=now) for key in firing})
        if reason:
            own = {one.key: one.alert for one in members}
            alert, also = incident(own.get(key, states[key].alert) for key in firing)
            yield Notice(alert, reason, now, _since(firing, states, now), also=also)


def _known(members: Sequence[Due], notified: Sequence[AlertState]) -> Sequence[AlertState]:
    """What people know of an open incident: what goes on of it, or what has just ended."""
    begin = {one.key for one in members if one.reason == "first"}
    return [state for state in notified if state.firing and state.key not in begin] or notified


def _why(members: Sequence[Due], known: Sequence[AlertState]) -> str:
    """The reason of the notice about an incident; empty: nothing is new. `known`: its members that
    people were notified of."""
    if not known:
        return "first"
    said = {one.reason for one in members if one.reason != "first"}
    if any(news(one.alert, known) for one in members if one.reason == "first"):
        said.add("escalated")
    return next((reason for reason in ("escalated", "flapping", "reminder") if reason in said), "")


def _split(
    due: Sequence[Due], states: dict[str, AlertState], above: int
) -> tuple[list[Due], dict[tuple[str, str], list[Due]]]:
    """Those that get a notice each, and those that share one, by (group, reason); new groups are
    written to `states`."""
    alone: list[Due] = []
    grouped: dict[tuple[str, str], list[Due]] = defaultdict(list)
    families: dict[str, list[Due]] = defaultdict(list)
    for one in due:
        group = states[one.key].group
        if group and one.reason not in ("first", "resolved"):
            grouped[group, one.reason].append(one)
        elif not group:
            families[_family(one) if one.reason == "first" else ""].append(one)
    for family, members in families.items():
        if not family or len(members) <= above:
            alone += members
            continue
        grouped[family, "first"] += members
        for one in members:
            states[one.key] = replace(states[one.key], group=family)
    return alone, grouped


def _group_notice(
    reason: str, members: Sequence[Due], states: dict[str, AlertState], now: float
) -> Notice:
    notified = [one.key for one in members]
    if reason == "reminder":
        group = states[notified[0]].group
        notified = [key for key in _members(group, states) if states[key].firing]
        states.update({key: replace(states[key], notified_at=now) for key in notified})
    own = {one.key: one.alert for one in members}
    alerts = [own.get(key, states[key].alert) for key in notified]
    return _notice(reason, alerts, _since(notified, states, now), now)


def _let_go(states: dict[str, AlertState]) -> None:
    """What is over leaves its incident while that goes on: one that never ends must not remember
    all that ever was in it."""
    for key, state in states.items():
        if is_family(state.group) and not state.firing:
            states[key] = replace(state, group="")


def _ended_groups(
    due: Sequence[Due], states: dict[str, AlertState], now: float
) -> Iterator[Notice]:
    """The resolve of each group in which nothing fires any more, whatever its last member had been
    notified of; its members are free again."""
    for group in sorted({state.group for state in states.values()} - {""}):
        keys = _members(group, states)
        if any(states[key].firing for key in keys):
            continue
        ended = {one.key: one for one in due if one.reason == "resolved"}
        alerts = [ended[key].alert if key in ended else states[key].alert for key in keys]
        last = next((ended[key].ended for key in keys if key in ended), "")
        said = f"; the last: {last}" if last else ""
        if is_family(group):
            alert, also = incident(alerts)
            since = _since(keys, states, now)
            yield Notice(alert, "resolved", now, since, also=also, ended=last or "over")
        else:
            notice = _notice("resolved", alerts, _since(keys, states, now), now)
            yield replace(notice, ended=f"over for all {len(keys)} clients{said}")
        states.update({key: replace(states[key], group="") for key in keys})


def _notice(reason: str, alerts: Sequence[Alert], since: float, now: float) -> Notice:
    ordered = tuple(sorted(alerts, key=_worst_member))
    return Notice(group_alert(ordered), reason, now, since, also=ordered)


def _since(keys: Sequence[str], states: States, now: float) -> float:
    return min(states[key].since or now for key in keys)


def _members(group: str, states: States) -> list[str]:
    return sorted(key for key, state in states.items() if state.group == group)


def _family(one: Due) -> str:
    """The group's key; empty for an alert that is about no client."""
    key = one.alert.key
    return replace(key, client="*").text if key.client else ""


def _worst_member(alert: Alert) -> tuple[int, float, str]:
    """The farther beyond its limit the earlier: a list that is cut must not lose the worst."""
    known = alert.value is not None and alert.threshold is not None
    beyond = abs((alert.value or 0.0) - (alert.threshold or 0.0)) if known else 0.0
    return (-alert.severity, -beyond, alert.key.client)


def _worst_first(notice: Notice) -> tuple[int, bool, int, str]:
    """What is down before what is slow, and what others lean on before them: the cause is read
    first."""
    key = notice.alert.key
    return (-notice.alert.severity, key.metric != "health_status", _depth(key), key.text)
