"""Present: a notice as parts that every channel lays out in its own way.

Written for a tired person: the sentence first, then what it means, the first thing to do, figures,
links. Every text is redacted and free of control characters here; escaping for HTML, Slack or mail
headers is the channel's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from monitoring.alerts.grouping import is_family
from monitoring.config.settings import AlertSettings
from monitoring.model import Alert, Notice, Severity
from monitoring.text import amount, iso_seconds, printable, redact, safe_id, say

LISTED = 20  # members of a group that are named
_SUFFERING = 4  # consequences of an outage that are named
_LONGEST = 1000  # characters of one text
_FLAPPING = (
    "It keeps coming and going. It is held as firing; you will hear again when it has been quiet"
    " for a while, or gets worse."
)
_AT_ONCE = (
    "One cause is likelier than many: look at what changed for all of them (a release, a rotation,"
    " the vault, the network) before you look at single clients."
)
_HIDDEN = ("flapping", "component", "client_id", "client")


@dataclass(frozen=True)
class Message:
    """`title`: reason, severity and sentence in one line. `lines`: (label, text) in reading order.
    `fields`: (name, value) figures. `links`: (text, href). `members`: one line per alert of a
    group. `over`: nothing is wrong any more."""

    key: str
    reason: str
    severity: Severity
    over: bool
    title: str
    sentence: str
    lines: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    members: tuple[str, ...] = ()


_SPACES = dict.fromkeys(map(ord, "\r\n\t"), " ")


def render(notice: Notice, rules: AlertSettings) -> Message:
    """The parts of a notice; `rules` gives the base addresses of links."""
    alert = notice.alert
    sentence = clean((notice.over and notice.ended) or alert.summary)
    return Message(
        key=alert.key.text,
        reason=notice.reason,
        severity=alert.severity,
        over=notice.over,
        title=f"{_heading(notice)}: {sentence}".rstrip("."),
        sentence=sentence,
        lines=tuple(_lines(notice)),
        fields=tuple(_fields(notice)),
        links=tuple(_links(notice, rules)),
        members=tuple(_members(notice)),
    )


def clean(text: str, limit: int = _LONGEST) -> str:
    """Text in one line: secrets masked, control and invisible characters escaped."""
    shown = printable(redact(str(text)).translate(_SPACES))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _heading(notice: Notice) -> str:
    word, where = notice.alert.severity.word, clean(notice.alert.key.environment, 50)
    bad, lasted = f"{word.upper()} in {where}", say(notice.lasted)
    headings = {
        "first": bad,
        "escalated": f"{bad}, worse than before",
        "reminder": f"STILL {bad} after {lasted}",
        "flapping": f"FLAPPING, {bad}",
        "resolved": f"RESOLVED in {where} after {lasted}",
        "note": f"NOTE in {where}",
        "missed": f"OVER in {where}, could not be told in time ({word} for {lasted})",
    }
    return headings.get(notice.reason, f"{notice.reason.upper()} {bad}")


def _lines(notice: Notice) -> Iterator[tuple[str, str]]:
    alert = notice.alert
    if not notice.over:
        yield "Since", _clock(notice.since)
    if alert.evidence.get("flapping"):
        yield "Flapping", _FLAPPING
    if notice.over:
        if notice.ended:
            yield "It was", clean(alert.summary)
        return
    if notice.suffers:
        yield "Because of it", _suffering(notice.suffers)
    if notice.also and not is_family(alert.key.text):
        yield "All at once", _AT_ONCE
    if alert.meaning:
        yield "What it means", clean(alert.meaning)
    if alert.action:
        yield "First thing to do", clean(alert.action)


def _suffering(sentences: Sequence[str]) -> str:
    named, more = sentences[:_SUFFERING], len(sentences) - _SUFFERING
    said = [clean(sentence, 200) for sentence in named]
    return "; ".join([*said, *([f"and {more} more"] if more > 0 else [])])


def _fields(notice: Notice) -> Iterator[tuple[str, str]]:
    alert = notice.alert
    yield "Component", clean(alert.key.component, 100)
    if alert.key.client not in ("", "*"):
        yield "Client", safe_id(alert.key.client)
    if notice.over:
        yield "Since", _clock(notice.since)
        yield "Until", _clock(notice.at)
        yield "Lasted", say(notice.lasted)
    else:
        yield from _figures(alert)
    yield "Environment", clean(alert.key.environment, 50)
    yield "Found by", clean(alert.key.script, 50)
    if not notice.over:  # figures of what is over read as if they were of now
        yield from _evidence(alert)


def _figures(alert: Alert) -> Iterator[tuple[str, str]]:
    if alert.key.metric == "health_status":
        return  # "value 0, limit 1" helps nobody
    if alert.value is not None:
        yield "Value", amount(alert.value, alert.unit)
    if alert.threshold is not None:
        yield "Limit", amount(alert.threshold, alert.unit)


def _evidence(alert: Alert) -> Iterator[tuple[str, str]]:
    shown = 0
    for name, value in alert.evidence.items():
        if name in _HIDDEN or not isinstance(value, (str, int, float)) or shown == 6:
            continue
        shown += 1
        text = amount(value) if isinstance(value, float) else clean(str(value), 200)
        yield clean(name.replace("_", " ").capitalize(), 60), text


def _links(notice: Notice, rules: AlertSettings) -> Iterator[tuple[str, str]]:
    alert = notice.alert
    if rules.runbooks and alert.runbook:
        yield "Runbook", f"{rules.runbooks.rstrip('/')}/{quote(alert.runbook)}.md"
    if rules.dashboards and alert.dashboard:
        # From a little before it began, so that the healthy state is on the picture too.
        start = int((notice.since - 900) * 1000)
        base = f"{rules.dashboards.rstrip('/')}/{quote(alert.dashboard)}"
        end = str(int((notice.at + 900) * 1000)) if notice.over else "now"
        yield "Dashboard", f"{base}?from={start}&to={end}"


def _members(notice: Notice) -> Iterator[str]:
    if is_family(notice.alert.key.text):  # one cause: what else shows it
        of_one = {(a.key.metric, a.value) for a in notice.also if a.key.client and a.value}
        rest = [
            alert
            for alert in notice.also
            if not notice.alert.summary.startswith(alert.summary)
            and (alert.key.client or (alert.key.metric, alert.value) not in of_one)  # all are one's
        ]
        yield from (clean(alert.summary, 300) for alert in rest[:LISTED])
        if len(rest) > LISTED:
            yield f"and {len(rest) - LISTED} more"
        return
    for alert in notice.also[:LISTED]:
        client = safe_id(alert.key.client)
        # The sentence names place and client before its colon; here they are known. That of a
        # figure has no colon after it, whatever the client calls itself.
        mark = f"client {client}: " if alert.value is None else ": "
        said = alert.summary.rpartition(mark)[2]
        yield client if notice.over else f"{client}: {clean(said, 300)}"
    if len(notice.also) > LISTED:
        yield f"and {len(notice.also) - LISTED} more"


def _clock(at: float) -> str:
    return iso_seconds(at).replace("T", " ").replace("Z", " UTC")
