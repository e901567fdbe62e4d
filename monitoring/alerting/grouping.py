"""Decision: many alerts of one kind at once are one notice with a list.

More than `group_above` clients that fire with the same component and metric in one cycle form a
group: an incident of its own, whose key has the client `*`. Its members keep their own states but
are told through the group from then on: one that escalates or is reminded of speaks for all, one
that recovers and comes back is not told again, and the group resolves when the last member has.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Iterable, Iterator, Mapping, Sequence, Tuple

from monitoring.alerting.state import AlertState
from monitoring.model import Alert, Notice

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
) -> Tuple[Tuple[Notice, ...], dict[str, AlertState]]:
    """The notices for what is due, the worst first, and the states with their groups."""
    after = dict(states)
    alone, grouped = _split(due, after, above)
    notices = [Notice(d.alert, d.reason, now, d.since, ended=d.ended) for d in alone]
    for (group, reason), members in grouped.items():
        notices += _group_notice((group, reason), members, after, now)
    return tuple(sorted(notices, key=_worst_first)), after


def group_alert(members: Sequence[Alert]) -> Alert:
    """The alert that stands for `members`: the worst one's texts under the group's key."""
    worst = min(members, key=lambda a: (-a.severity, a.key.client))
    key = replace(worst.key, client="*")
    summary = f"{len(members)} clients at once, such as: {worst.summary}"
    evidence = {"clients": len(members)}
    return replace(worst, key=key, summary=summary, value=None, evidence=evidence)


def _split(
    due: Sequence[Due], states: dict[str, AlertState], above: int
) -> Tuple[list[Due], dict[tuple[str, str], list[Due]]]:
    """Those told alone, and those told by (group, reason); new groups are written to `states`."""
    alone: list[Due] = []
    grouped: dict[tuple[str, str], list[Due]] = defaultdict(list)
    families: dict[str, list[Due]] = defaultdict(list)
    for one in due:
        group = states[one.key].group
        if group and one.reason != "first":
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
    what: Tuple[str, str], members: Sequence[Due], states: dict[str, AlertState], now: float
) -> Iterator[Notice]:
    group, reason = what
    keys = sorted(key for key, state in states.items() if state.group == group)
    firing = [key for key in keys if states[key].firing]
    if reason == "resolved":
        if firing:
            return
        _leave(keys, states)
    told = keys if reason == "resolved" else [one.key for one in members]
    if reason == "reminder":
        told = firing
        states.update({key: replace(states[key], told_at=now) for key in firing})
    own = {one.key: one.alert for one in members}
    alerts = [own.get(key, states[key].alert) for key in told]
    since = min(states[key].since or now for key in told)
    ordered = tuple(sorted(alerts, key=lambda a: (-a.severity, a.key.client)))
    last = next((one.ended for one in members if one.ended), "")
    ended = f"all {len(told)} clients are well again; the last: {last}" if last else ""
    yield Notice(group_alert(ordered), reason, now, since, also=ordered, ended=ended)


def _leave(keys: Iterable[str], states: dict[str, AlertState]) -> None:
    for key in keys:
        states[key] = replace(states[key], group="")


def _family(one: Due) -> str:
    """The group's key; empty for an alert that is about no client."""
    key = one.alert.key
    return replace(key, client="*").text if key.client else ""


def _worst_first(notice: Notice) -> tuple[int, bool, str]:
    """What is down before what is slow: the cause is read first."""
    key = notice.alert.key
    return (-notice.alert.severity, key.metric != "health_status", key.text)
