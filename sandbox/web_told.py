"""Told: what the receivers got, each message as one line with its channel, newest first."""

from __future__ import annotations

from typing import Any, Callable, Mapping

Received = Callable[[str], "list[dict[str, Any]]"]


def told(received: Received) -> list[dict[str, str]]:
    """Rows with `at`, `channel`, `state` (critical, warning, resolved) and `text`."""
    rows = [
        {"at": item["at"], "channel": channel, **line}
        for kind, (channel, read) in _READERS.items()
        for item in received(kind)
        for line in read(item)
    ]
    return sorted(rows, key=lambda row: row["at"], reverse=True)


def _state(text: str) -> str:
    words = text.upper()
    if words.startswith(("RESOLVED", "OVER")):
        return "resolved"
    return "critical" if "CRITICAL" in words.partition(":")[0] else "warning"


def _slack(item: Mapping[str, Any]) -> list[dict[str, str]]:
    body = item["body"]
    text = str(body.get("text", "")) if isinstance(body, dict) else ""
    return [{"text": text, "state": _state(text)}] if text else []


def _pagerduty(item: Mapping[str, Any]) -> list[dict[str, str]]:
    body = item["body"]
    if not isinstance(body, dict):
        return []
    if body.get("event_action") == "resolve":
        key = str(body.get("dedup_key", "")).split("/")
        return [{"text": f"resolved: {' '.join(filter(None, key[2:4]))}", "state": "resolved"}]
    text = str(body.get("payload", {}).get("summary", ""))
    return [{"text": text, "state": _state(text)}]


def _webhook(item: Mapping[str, Any]) -> list[dict[str, str]]:
    """Of the real Alertmanager: one line per alert of the group."""
    body = item["body"]
    alerts = body.get("alerts", []) if isinstance(body, dict) else []
    rows = []
    for alert in alerts:
        over = alert.get("status") == "resolved"
        severity = alert.get("labels", {}).get("severity") or "warning"
        summary = alert.get("annotations", {}).get("summary", "")
        text = f"{body.get('receiver', '')}: {summary}"
        rows.append({"text": text, "state": "resolved" if over else severity})
    return rows


def _mail(item: Mapping[str, Any]) -> list[dict[str, str]]:
    text = str(item.get("subject", "")).partition("] ")[2]
    return [{"text": text, "state": _state(text)}]


#: Receiver -> (what people call it, how to read what it got).
_READERS = {
    "slack": ("slack", _slack),
    "pagerduty": ("pagerduty", _pagerduty),
    "webhook": ("alertmanager", _webhook),
    "smtp": ("mail", _mail),
}
