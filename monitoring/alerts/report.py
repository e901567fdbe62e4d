"""Present: what fires, since when, who was told, and what waits to be told (`--alerts`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Callable, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

from monitoring.alerts.messages import clean
from monitoring.alerts.outbox import Pause
from monitoring.alerts.outbox_merge import Waiting
from monitoring.alerts.state import OK, AlertState
from monitoring.catalog import SCRIPTS
from monitoring.config.settings import Silence
from monitoring.model import Alert
from monitoring.text import iso_seconds, redacted, say


@dataclass(frozen=True)
class Firing:
    """An alert in an incident. `state`: firing, pending or silenced. Times are ISO 8601."""

    key: str
    state: str
    severity: str
    summary: str
    since: str
    lasts: str
    told: Tuple[str, ...]
    group: str
    why: str


@dataclass(frozen=True)
class Queued:
    """A notice that waits, and why the last attempt failed."""

    key: str
    channel: str
    reason: str
    summary: str
    since: str
    attempts: int
    why: str


@dataclass(frozen=True)
class Troubled:
    """A channel that fails."""

    channel: str
    failures: int
    since: str
    next_try: str
    why: str


@dataclass(frozen=True)
class Hushed:
    """A silence in force: what it matches, and who set it until when."""

    match: Mapping[str, str]
    owner: str
    until: str
    reason: str


@dataclass(frozen=True)
class Report:
    """`last_cycles`: when each script looked last (None: never, so nothing is known of what it
    watches)."""

    at: str
    alerts: Tuple[Firing, ...]
    waiting: Tuple[Queued, ...]
    channels: Tuple[Troubled, ...]
    last_cycles: Mapping[str, Optional[str]] = field(default_factory=dict)
    silences: Tuple[Hushed, ...] = ()


def build(
    states: Sequence[AlertState],
    told: Mapping[str, Tuple[str, ...]],
    waiting: Iterable[Waiting],
    pauses: Mapping[str, Pause],
    *,
    why_quiet: Callable[[Alert], str],
    cycles: Mapping[str, float],
    now: float,
    silences: Sequence[Silence] = (),
) -> Report:
    """The report, the worst alerts first."""
    active = [state for state in states if state.phase != OK]
    active.sort(key=lambda s: (not s.firing, -s.alert.severity, s.since or 0.0, s.key))
    return Report(
        iso_seconds(now),
        tuple(_firing(state, told, why_quiet(state.alert), now) for state in active),
        tuple(_queued(row) for row in waiting),
        tuple(_troubled(name, pause) for name, pause in pauses.items() if pause.failures),
        {name: iso_seconds(cycles[name]) if name in cycles else None for name in SCRIPTS},
        tuple(
            Hushed(one.match, one.owner, iso_seconds(one.until), clean(one.reason))
            for one in silences
        ),
    )


def as_json(report: Report) -> str:
    """The report as one JSON object."""
    return json.dumps(redacted(asdict(report)), ensure_ascii=False)


def as_text(report: Report) -> str:
    """The report for a terminal."""
    return "\n".join(_text(report))


def _firing(
    state: AlertState, told: Mapping[str, Tuple[str, ...]], quiet: str, now: float
) -> Firing:
    since = state.since if state.since is not None else now
    return Firing(
        state.key,
        "silenced" if quiet else state.phase,
        state.alert.severity.word,
        clean(state.alert.summary),
        iso_seconds(since),
        say(max(0.0, now - since)),
        told.get(state.group or state.key, ()),
        state.group,
        quiet or ("flapping" if state.flapping else ""),
    )


def _queued(row: Waiting) -> Queued:
    summary = clean(row.notice.alert.summary)
    since, reason = iso_seconds(row.created), row.notice.reason
    return Queued(row.key, row.channel, reason, summary, since, row.attempts, row.why)


def _troubled(name: str, pause: Pause) -> Troubled:
    since, until = iso_seconds(pause.since), iso_seconds(pause.until)
    return Troubled(name, pause.failures, since, until, pause.why)


NEVER_LOOKED = "No cycle is recorded in this state folder, so it is not known what is wrong."


def _text(report: Report) -> Iterator[str]:
    if not report.alerts:
        looked = any(report.last_cycles.values())
        yield "No alert is firing or pending." if looked else NEVER_LOOKED
    for alert in report.alerts:
        yield f"{alert.state.upper():8} {alert.severity:8} {alert.summary}"
        told = ", ".join(alert.told) or "nobody yet"
        why = f" ({alert.why})" if alert.why else ""
        yield f"{'':17} since {alert.since} ({alert.lasts}), told: {told}{why}"
        yield f"{'':17} {alert.key}"
    for silence in report.silences:
        what = " ".join(f"{name}={text}" for name, text in silence.match.items())
        yield f"Silenced: {clean(what)} by {clean(silence.owner)} until {silence.until}"
        yield f"{'':9} {silence.reason}"
    if report.waiting:
        yield f"\nWaiting to be delivered: {len(report.waiting)}"
    for row in report.waiting:
        tried = f"attempts: {row.attempts}"
        yield f"  {row.channel}: {row.reason}, {row.summary}"
        yield f"      since {row.since}, {tried}{': ' + row.why if row.why else ''}"
    for channel in report.channels:
        yield (
            f"\nChannel {channel.channel} fails since {channel.since}"
            f" (failures: {channel.failures}): {channel.why}; next try {channel.next_try}"
        )
    if any(report.last_cycles.values()):
        last = (f"{name} {at or 'never'}" for name, at in report.last_cycles.items())
        yield f"Last looked: {', '.join(last)}"
