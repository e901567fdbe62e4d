"""Present: notices as PagerDuty events (Events API v2), through pdpyras as the brief asks.

An incident is opened, grown and resolved under the alert's key. A repeated trigger is appended to
an open incident and leaves an acknowledgement alone (developer.pagerduty.com, Events API v2,
"Event management", read 2026-11), so reminders are sent: they reopen what was resolved by hand.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from monitoring.alerts.messages import Message, render
from monitoring.channels.base import ChannelContext, TransportError, refuse, unreached
from monitoring.http.reply import causes
from monitoring.http.wire import WireFault
from monitoring.model import Notice, Severity
from monitoring.text import iso, redact

BATCH = 1
_SEVERITIES = {Severity.CRITICAL: "critical", Severity.WARNING: "warning"}
# Its logger prints the end of the key.
logging.getLogger("pdpyras").setLevel(logging.CRITICAL)


def send(notices: Sequence[Notice], kit: ChannelContext) -> None:
    """Send one event after the other. Raises TransportError."""
    pdpyras = _library()
    for notice in notices:
        session = _session(kit)
        try:
            session.send_event(**event(notice, kit))
        except WireFault as exc:
            raise unreached("PagerDuty cannot be reached", exc.fault) from None
        except pdpyras.PDClientError as exc:
            raise _translated(exc) from None  # its text may hold the end of the key
        finally:
            session.parent.close()


def event(notice: Notice, kit: ChannelContext) -> dict[str, Any]:
    """The event's properties: action, dedup_key, and for a trigger all there is to say."""
    message = render(notice, kit.rules)
    if message.over:
        return {"action": "resolve", "dedup_key": message.key}
    key = notice.alert.key
    return {
        "action": "trigger",
        "dedup_key": message.key,
        "client": kit.text("client", "Payment API Monitoring"),
        "links": [{"href": href, "text": name} for name, href in message.links],
        "payload": {
            "summary": message.title[:1024],
            "source": f"{key.component} ({key.environment})",
            "severity": _SEVERITIES.get(message.severity, "info"),
            "timestamp": iso(notice.since),
            "component": key.component,
            "group": key.environment,
            "class": key.metric,
            "custom_details": _details(message),
        },
    }


def _details(message: Message) -> dict[str, Any]:
    details: dict[str, Any] = dict((*message.lines, *message.fields))
    if message.members:
        members: list[str] = list(message.members)
        details["Concerned"] = members
    return details


@functools.cache
def _library() -> Any:
    # It is no longer kept and says so at import, which `-W error` makes fatal (docs/protocols.md).
    warnings.filterwarnings("ignore", message=r'The package "pdpyras" is deprecated')
    import pdpyras

    return pdpyras


def _session(kit: ChannelContext) -> Any:
    session = _library().EventsAPISession(kit.text("service_key"))
    url = kit.text("url", "https://events.pagerduty.com").rstrip("/")
    session.url = url[: -len("/v2/enqueue")] if url.endswith("/v2/enqueue") else url
    # Its own transport reads answers without end, and follows redirects with the key.
    adapter = kit.http(trust_env=True).adapter(session.url)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    session.max_redirects = 0
    # Left alone it would try again for ever on 429, and for minutes on other failures. With no
    # attempt to spare it gives every answer back at once.
    session.max_network_attempts = 0
    session.max_http_attempts = -1
    session.retry = {429: 1}
    return session


def _translated(exc: Any) -> TransportError:
    response = getattr(exc, "response", None)
    if response is None:
        return TransportError(f"PagerDuty cannot be reached: {_reason(exc)}", unsure=True)
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    try:
        refuse("PagerDuty", response.status_code, headers, _message(response))
    except TransportError as refused:
        return refused
    return TransportError("PagerDuty answered, but not that it took the event: is the URL right?")


def _reason(exc: Any) -> str:
    """Why no answer came over a connection that was made."""
    names = {type(cause).__name__ for cause in causes(exc)}
    if "TooManyRedirects" in names:
        return "it redirects elsewhere, which is not followed"
    late = any("timeout" in name.lower() for name in names)
    return "no answer in time" if late else "no proper answer of HTTP"


def _message(response: Any) -> str:
    """What PagerDuty finds wrong with an event; it never repeats the key."""
    try:
        body = response.json()
    except ValueError:
        return ""
    errors = body.get("errors") if isinstance(body, dict) else None
    return redact("; ".join(map(str, errors)))[:300] if isinstance(errors, list) else ""
