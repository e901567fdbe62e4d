"""Present: notices as log lines; the channel that needs no address and always works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitoring.alerts.messages import Message, render
from monitoring.channels.base import ChannelContext
from monitoring.model import Notice, Severity
from monitoring.output.logs import LOGGER
from monitoring.text import iso

BATCH = 100
#: Categories of alerts in the words of ECS (event.category).
_CATEGORIES = {"security": "intrusion_detection", "availability": "host", "performance": "web"}
_LEVELS = {Severity.CRITICAL: "critical", Severity.WARNING: "warning"}


def send(notices: Sequence[Notice], kit: ChannelContext) -> None:
    """One line per notice; never fails."""
    for notice in notices:
        message = render(notice, kit.rules)
        level = "info" if message.over else _LEVELS.get(message.severity, "info")
        getattr(LOGGER, level)(
            "alert: %s", message.title, extra={"fields": fields(notice, message)}
        )


def fields(notice: Notice, message: Message) -> dict[str, Any]:
    """ECS fields of a notice: value and limit as numbers, beginning and end as dates."""
    named: dict[str, Any] = {
        "event.kind": "alert",
        "event.id": f"{notice.alert.key.script}-{notice.at:.3f}",  # of the cycle that tells it
        "event.category": [_CATEGORIES.get(notice.alert.category, "web")],
        "event.type": ["info"],
        "event.action": message.reason,
        "event.start": iso(notice.since),
        "payment_api.value": None if notice.over else notice.alert.value,
        "payment_api.limit": notice.alert.threshold,
        "payment_api.alert.key": message.key,
        "payment_api.alert.severity": message.severity.word,
    }
    if notice.over:
        named["event.end"] = iso(notice.at)
    for label, text in (*message.lines, *message.fields):
        named[f"payment_api.alert.{label.lower().replace(' ', '_')}"] = text
    if message.members:
        named["payment_api.alert.members"] = list(message.members)
    return {name: value for name, value in named.items() if value is not None}
