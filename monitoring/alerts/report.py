"""Present: what fires, since when, who was notified, and what waits to be notified (`--alerts`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Callable, Optional

from monitoring.alerts.grouping import place
from monitoring.alerts.lifecycle import is_recovering
from monitoring.alerts.messages import clean
from monitoring.alerts.outbox import Pause
from monitoring.alerts.outbox_merge import Waiting
from monitoring.alerts.state import OK, AlertState
from monitoring.catalog import SCRIPTS
from monitoring.config.settings import Silence
from monitoring.model import RECOVERING, Alert, AlertKey
from monitoring.text import counted, iso_seconds, redacted, say


@dataclass(frozen=True)
class Firing:
    """An alert in an incident. `state`: firing, pending or silenced. Times are ISO 8601."""

    key: str
    state: str
    severity: str
    summary: str
    since: str
    lasts: str
    notified: tuple[str, ...]
    group: str
    why: str
    action: str = ""


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
class SilenceRow:
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
    alerts: tuple[Firing, ...]
    waiting: tuple[Queued, ...]
    channels: tuple[Troubled, ...]
    last_cycles: Mapping[str, Optional[str]] = field(default_factory=dict)
    silences: tuple[SilenceRow, ...] = ()


def build(
    states: Sequence[AlertState],
    notified: Mapping[str, tuple[str, ...]],
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
    active.sort(key=lambda s: (not s.firing, place(s.alert), s.since or 0.0))
    return Report(
        iso_seconds(now),
        tuple(_firing(state, notified, why_quiet(state.alert), now) for state in active),
        tuple(_queued(row) for row in waiting),
        tuple(_troubled(name, pause) for name, pause in pauses.items() if pause.failures),
        {name: iso_seconds(cycles[name]) if name in cycles else None for name in SCRIPTS},
        tuple(
            SilenceRow(one.match, one.owner, iso_seconds(one.until), clean(one.reason))
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
    state: AlertState, notified: Mapping[str, tuple[str, ...]], quiet: str, now: float
) -> Firing:
    since = state.since if state.since is not None else now
    recovering = is_recovering(state)
    return Firing(
        state.key,
        "silenced" if quiet else state.phase,
        state.alert.severity.word,
        clean(state.alert.summary),
        iso_seconds(since),
        say(max(0.0, now - since)),
        notified.get(state.group or state.key, ()),
        state.group,
        quiet or ("flapping" if state.flapping else RECOVERING if recovering else ""),
        "" if recovering else clean(state.alert.action),
    )


def _queued(row: Waiting) -> Queued:
    summary = clean(row.notice.alert.summary)
    since, reason = iso_seconds(row.created), row.notice.reason
    return Queued(row.key, row.channel, reason, summary, since, row.attempts, row.why)


def _troubled(name: str, pause: Pause) -> Troubled:
    since, until = iso_seconds(pause.since), iso_seconds(pause.until)
    return Troubled(name, pause.failures, since, until, pause.why)


NEVER_LOOKED = "No cycle is recorded in this state folder, so it is not known what is wrong."


def headline(report: Report) -> str:
    """How many incidents there are of each state, what waits and which channels fail."""
    if not any(report.last_cycles.values()) and not report.alerts:
        return NEVER_LOOKED
    counts = Counter(incident[0].state for incident in _incidents(report.alerts))
    verbs = ((n, _VERBS.get(state, (state, state))) for state, n in counts.items())
    said = [f"{counted(n, 'incident')} {verb[n > 1]}" for n, verb in verbs]
    said += [f"{counted(len(report.silences), 'silence')} in force"] if report.silences else []
    said += [f"{counted(len(report.waiting), 'notice')} not delivered"] if report.waiting else []
    failing = ", ".join(channel.channel for channel in report.channels)
    said += [f"{failing} cannot be reached"] if failing else []
    return "; ".join(said if counts else ["nothing fires or is about to", *said])


#: What alerts of a state do, one of them and several.
_VERBS = {
    "firing": ("fires", "fire"),
    "pending": ("is pending", "are pending"),
    "silenced": ("is silenced", "are silenced"),
}


def _text(report: Report) -> Iterator[str]:
    yield headline(report)
    for incident in _incidents(report.alerts):
        yield from ["", *_incident(incident)]
    yield from _silences(report)
    yield from _waiting(report)
    if any(report.last_cycles.values()):
        last = (f"{name} {at or 'never'}" for name, at in report.last_cycles.items())
        yield f"\nlast look: {', '.join(last)}"


def _incidents(alerts: Sequence[Firing]) -> Iterable[Sequence[Firing]]:
    """Alerts of one cause together, where the first of them stands."""
    found: dict[str, list[Firing]] = {}
    for alert in alerts:
        found.setdefault(alert.group or alert.key, []).append(alert)
    return found.values()


def _incident(alerts: Sequence[Firing]) -> Iterator[str]:
    """The alert that stands for an incident, since when, who was notified, what to do first; below
    it what else shows it."""
    first, *others = alerts
    yield f"{first.state:8}  {first.severity:8}  {first.summary}"
    notified = ", ".join(first.notified) or "nobody yet"
    why = f" ({first.why})" if first.why else ""
    yield f"{'':10}since {first.since} ({first.lasts}), notified: {notified}{why}"
    if first.action and first.state == "firing":
        yield f"{'':10}do first: {first.action}"
    yield f"{'':10}{first.key}"
    for alert in others:
        yield f"{'':10}also: {alert.summary}{f' ({alert.why})' if alert.why else ''}"
        yield f"{'':12}{alert.key}"


def _silences(report: Report) -> Iterator[str]:
    for silence in report.silences:
        yield f"\nsilence   {clean(_matched(silence.match))}"
        yield f"{'':10}by {clean(silence.owner)} until {silence.until}: {silence.reason}"


def _matched(match: Mapping[str, str]) -> str:
    """The name of the one alert, as `--silence` takes it, or the labels that many share."""
    if [*match] == [each.name for each in fields(AlertKey)]:
        return AlertKey(**match).text
    return " ".join(f"{name}={text}" for name, text in match.items())


def _waiting(report: Report) -> Iterator[str]:
    for row in report.waiting:
        yield f"\nwaits     {row.channel}: {row.reason}, {row.summary}"
        tried = f"since {row.since}, {counted(row.attempts, 'attempt')}"
        yield f"{'':10}{tried}{': ' + row.why if row.why else ''}"
    for channel in report.channels:
        yield f"\nfails     {channel.channel}: {channel.why}"
        failed = counted(channel.failures, "failure")
        yield f"{'':10}since {channel.since}, {failed}; next try {channel.next_try}"
