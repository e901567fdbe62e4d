"""Told: what the receivers got, one line for what many channels were told at once, newest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Callable, NamedTuple

Received = Callable[[str], "list[dict[str, Any]]"]
TOGETHER = 15.0  # seconds in which the same words count as told at once
_TITLE = re.compile(
    r"(CRITICAL|WARNING|INFO|RESOLVED|OVER)(?:, | )?([^:]*): (.+?)(?: \(and \d+ more\))?"
)


class Line(NamedTuple):
    """One alert of one message. `state`: critical, warning, info, resolved. `note`: what the title
    says besides (`after 2 min`, `worse than before`)."""

    at: str
    channel: str
    state: str
    text: str
    note: str = ""


def told(received: Received) -> list[dict[str, Any]]:
    """Rows with `at`, `channels`, `state`, `text`, `note`."""
    lines = [line for kind, read in _READERS.items() for line in read(received(kind))]
    rows: list[dict[str, Any]] = []
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in sorted(lines):
        row = newest.get((line.state, line.text))
        if row is None or _seconds(row["at"], line.at) > TOGETHER:
            row = {"at": line.at, "channels": [], "state": line.state, "text": line.text}
            row["note"] = ""
            newest[line.state, line.text] = row
            rows.append(row)
        row["note"] = row["note"] or line.note
        if line.channel not in row["channels"]:
            row["channels"].append(line.channel)
    return rows[::-1]


def _seconds(before: str, after: str) -> float:
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


def _titled(at: str, channel: str, title: str) -> Line:
    """`RESOLVED after 2 min: redis-cache is up` taken apart."""
    found = _TITLE.fullmatch(title.strip())
    if not found:
        return Line(at, channel, "warning", title)
    word, note, text = found.groups()
    state = "resolved" if word in ("RESOLVED", "OVER") else word.lower()
    return Line(at, channel, state, text, note)


def _slack(items: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    for item in items:
        body = item["body"]
        text = str(body.get("text", "")) if isinstance(body, dict) else ""
        for title in filter(None, text.splitlines()):
            yield _titled(item["at"], "slack", title)


def _pagerduty(items: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """A resolve has a key alone; what it was about was said when it began."""
    about: dict[str, str] = {}
    for item in items:
        body = item["body"]
        if not isinstance(body, dict):
            continue
        key = str(body.get("dedup_key", ""))
        if body.get("event_action") == "resolve":
            words = " ".join(filter(None, key.split("/")[2:4]))
            yield Line(item["at"], "pagerduty", "resolved", about.get(key, words))
            continue
        line = _titled(item["at"], "pagerduty", str(body.get("payload", {}).get("summary", "")))
        about[key] = line.text
        yield line


def _webhook(items: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Of the real Alertmanager, which names the people it would have told."""
    for item in items:
        body = item["body"]
        for alert in body.get("alerts", []) if isinstance(body, dict) else []:
            severity = alert.get("labels", {}).get("severity") or "warning"
            state = "resolved" if alert.get("status") == "resolved" else severity
            summary = alert.get("annotations", {}).get("summary", "")
            yield Line(item["at"], f"alertmanager: {body.get('receiver', '')}", state, summary)


def _mail(items: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    for item in items:
        yield _titled(item["at"], "mail", str(item.get("subject", "")).partition("] ")[2])


_READERS: Mapping[str, Callable[[Iterable[Mapping[str, Any]]], Iterator[Line]]] = {
    "slack": _slack,
    "pagerduty": _pagerduty,
    "webhook": _webhook,
    "smtp": _mail,
}
