"""Present: the state of alerts, mirrored to every peer of an Alertmanager (API v2).

Not notices: every firing alert is sent in every cycle with an end four cycles and at least five
minutes ahead, as Prometheus does, so that it resolves by itself should the monitor die; a resolved
one is sent with its end. A failed cycle is mended by the next.

The rules of Prometheus send the same alerts, and to Alertmanager the last word counts: an end while
the other still says "firing" is a resolve, a new alert and one more resolve. So nothing is sent of
an alert from its first good cycle on, until the rules have let go of it (`resolve_after`).

Identity is the label set, and that is the one which the shipped Prometheus rules give: what both
tell is one alert. The severity is among them, for trees that route by it. It is the worst that was
notified of the incident; one that grew is another alert, and the milder one is ended with it.
"""

from __future__ import annotations

import base64
import math
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Optional
from urllib.parse import urlsplit, urlunsplit

from monitoring.alerts.messages import render
from monitoring.alerts.state import RESOLVED_RETENTION, AlertState
from monitoring.channels.base import ChannelContext, TransportError, ask
from monitoring.model import Notice, Severity
from monitoring.text import iso, safe_id

_PATH = "/api/v2/alerts"
_STANDS = 300.0  # seconds that an alert outlives its monitor's last word, at least
_RESOLVE_AFTER = 240.0
_SAID_AGAIN = 2  # cycles in which an end is said again, had a peer not heard it


def send(notices: Sequence[Notice], kit: ChannelContext) -> None:
    """A notice as a firing or ended alert (for --test-alerts). Raises TransportError."""
    alerts = []
    for notice in notices:
        over = notice.reason == "resolved"
        ends = notice.at if over else notice.at + _STANDS
        alerts.append(_alert(notice, kit, ends=ends, severity=notice.alert.severity))
    post(alerts, kit)


def mirror(
    states: Iterable[AlertState],
    quiet: Iterable[str],
    kit: ChannelContext,
    *,
    now: float,
    interval: float,
) -> list[dict[str, Any]]:
    """What to post: firing alerts that are not quiet (keys), and those resolved lately."""
    silenced, patience = set(quiet), float(kit.config.get("resolve_after", _RESOLVE_AFTER))
    alerts = []
    for state in states:
        ends: Mapping[Severity, float] = {}
        if not state.firing:
            ends = _over(state, now, patience, interval)
        elif state.key not in silenced and not _recovering(state, now):
            ends = _standing(state, now, interval)
        since = state.since if state.since is not None else now
        for severity, end in ends.items():
            stands = replace(state.alert, severity=min(severity, state.alert.severity))
            notice = Notice(stands, "first", now, since)
            alerts.append(_alert(notice, kit, ends=max(since, end), severity=severity))
    return alerts


def _standing(state: AlertState, now: float, interval: float) -> Mapping[Severity, float]:
    """The severity that goes on, and the milder one that ends if it has grown."""
    stands = {state.alert.severity: now + max(4 * interval, _STANDS)}
    ended = state.grown and state.alert.severity > Severity.WARNING
    return {**stands, Severity.WARNING: now} if ended else stands


def _over(
    state: AlertState, now: float, patience: float, interval: float
) -> Mapping[Severity, float]:
    """The severities that are to end, each with its end; none before all was well for `patience`
    seconds, nor when that was said in a few cycles: there may be something new by another."""
    if state.resolved_at is None:
        return {}
    well_since = state.steady_since if state.good and state.steady_since else -math.inf
    if interval > RESOLVED_RETENTION:
        patience = 0.0  # by the next cycle it may be forgotten: say it now
    # The rules hold what flaps until they see here that it does no longer.
    let_go = state.resolved_at + patience if state.flapped else well_since + patience
    since_said = now - max(state.resolved_at, let_go)
    if not 0 <= since_said <= _SAID_AGAIN * interval:
        return {}
    worst = max(state.worst or state.alert.severity, state.alert.severity)
    milder = worst > Severity.WARNING and (state.grown or state.alert.severity < worst)
    return {worst: state.resolved_at, **({Severity.WARNING: state.resolved_at} if milder else {})}


def _recovering(state: AlertState, now: float) -> bool:
    """Whether it was well in this cycle. What flaps is held firing however well it looks."""
    return state.good > 0 and state.judged_at >= now and not state.flapping


def post(alerts: Sequence[dict[str, Any]], kit: ChannelContext) -> None:
    """Post to every peer at the same time: one that hangs keeps none from the others. Raises
    TransportError naming those that failed."""
    urls = endpoints(kit)
    answers: queue.SimpleQueue[Optional[TransportError]] = queue.SimpleQueue()
    for url in urls:
        tell = partial(_notify, url, alerts, kit, answers)
        threading.Thread(target=tell, name="send-alertmanager-peer", daemon=True).start()
    failures = [failed for failed in [answers.get() for _ in urls] if failed]
    if failures:
        raise TransportError("; ".join(str(f) for f in failures), permanent=failures[0].permanent)


def _notify(
    url: str,
    alerts: Sequence[dict[str, Any]],
    kit: ChannelContext,
    answers: queue.SimpleQueue[Optional[TransportError]],
) -> None:
    """Post to one peer; always gives one answer."""
    peer = f"Alertmanager {urlsplit(url).netloc.rpartition('@')[2]}"
    failed: Optional[TransportError] = TransportError(f"{peer}: internal fault, see the log")
    try:
        http = kit.http(trust_env=False)
        ask(peer, partial(_post, http, url, alerts, kit))
        failed = None
    except TransportError as exc:
        failed = exc
    finally:
        answers.put(failed)


def endpoints(kit: ChannelContext) -> tuple[str, ...]:
    """The v2 address of every peer. With or without a path; a v1 address, gone since 0.27, is
    rewritten (the configuration warns of it)."""
    urls = kit.config.get("url") or ()
    return tuple(_endpoint(url) for url in ([urls] if isinstance(urls, str) else urls) if url)


def _endpoint(url: str) -> str:
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/")
    for ending in ("/api/v1/alerts", _PATH, "/api/v2"):
        if path.endswith(ending):
            path = path[: -len(ending)]
            break
    return urlunsplit((parts.scheme, parts.netloc, path + _PATH, "", ""))


def _alert(
    notice: Notice, kit: ChannelContext, *, ends: float, severity: Severity
) -> dict[str, Any]:
    message = render(notice, kit.rules)
    alert = notice.alert
    labels = {**alert.key.labels(), "category": alert.category, "severity": severity.word}
    if "client" in labels:
        labels["client"] = safe_id(labels["client"])
    annotations = {"summary": message.sentence, "severity": alert.severity.word}
    annotations.update({_name(label): text for label, text in (*message.lines, *message.fields)})
    links = {name.lower(): href for name, href in message.links}
    if "runbook" in links:
        annotations["runbook_url"] = links["runbook"]
    posted: dict[str, Any] = {
        "labels": labels,
        "annotations": annotations,
        "startsAt": iso(min(notice.since, ends)),
        "endsAt": iso(ends),
    }
    if "dashboard" in links:
        posted["generatorURL"] = links["dashboard"]
    return posted


def _name(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label.lower())


def _post(http: Any, url: str, alerts: Sequence[dict[str, Any]], kit: ChannelContext) -> Any:
    return http.post(url, json=list(alerts), headers=_authorization(kit))


def _authorization(kit: ChannelContext) -> dict[str, str]:
    token, username = kit.text("bearer_token"), kit.text("username")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if username:
        pair = f"{username}:{kit.text('password')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}
