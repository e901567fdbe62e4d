"""Present: notices as JSON posts to any receiver.

`{"version": 1, "notices": [{"reason", "key", "severity", "status", "environment", "script",
"component", "metric", "client", "category", "summary", "was", "meaning", "action", "value",
"threshold", "unit", "at", "since", "lasted_seconds", "links", "also"}]}`; times are ISO 8601 in
UTC. `summary` of a resolve says what is well again, `was` what had been wrong. The header
`Idempotency-Key` is the same when the same notices are sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from monitoring.alerts.messages import clean, render
from monitoring.channels.base import ChannelContext, TransportError, ask
from monitoring.config.secret import Secret
from monitoring.model import Notice
from monitoring.text import iso, safe_id

BATCH = 50


def send(notices: Sequence[Notice], kit: ChannelContext) -> None:
    """Post one document. Raises TransportError."""
    document = {"version": 1, "notices": [entry(notice, kit) for notice in notices]}
    headers = {**_headers(kit), "Idempotency-Key": _identity(notices)}
    http = kit.http(trust_env=True)
    ask("the webhook", lambda: http.post(kit.text("url"), json=document, headers=headers))


def entry(notice: Notice, kit: ChannelContext) -> dict[str, Any]:
    """One notice as JSON."""
    alert, message = notice.alert, render(notice, kit.rules)
    return {
        "reason": notice.reason,
        "key": alert.key.text,
        "status": "resolved" if message.over else "firing",
        "severity": alert.severity.word,
        "environment": alert.key.environment,
        "script": alert.key.script,
        "component": clean(alert.key.component),
        "metric": alert.key.metric,
        "client": safe_id(alert.key.client),
        "category": alert.category,
        "summary": message.sentence,
        "was": clean(alert.summary) if message.over else "",
        "meaning": clean(alert.meaning),
        "action": clean(alert.action),
        "value": alert.value,
        "threshold": alert.threshold,
        "unit": alert.unit,
        "at": iso(notice.at),
        "since": iso(notice.since),
        "lasted_seconds": round(notice.lasted, 3),
        "links": {name.lower(): href for name, href in message.links},
        "because_of_it": [clean(sentence) for sentence in notice.suffers],
        "also": [safe_id(other.key.client) or other.key.text for other in notice.also],
    }


def _headers(kit: ChannelContext) -> dict[str, str]:
    headers = {}
    for name, value in dict(kit.config.get("headers") or {}).items():
        try:
            headers[str(name)] = value.reveal() if isinstance(value, Secret) else str(value)
        except OSError as exc:
            raise TransportError(f"cannot read the file of header {name}: {exc.strerror}") from exc
    return headers


def _identity(notices: Sequence[Notice]) -> str:
    notified = "\n".join(f"{n.alert.key.text} {n.reason} {n.at}" for n in notices)
    return hashlib.sha256(notified.encode()).hexdigest()
