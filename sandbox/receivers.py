"""Receivers: Slack, PagerDuty, Alertmanager, a webhook and a heartbeat that keep what they got."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional

from sandbox.clock import iso_time
from sandbox.web import Answer, Request, Route, WebServer, json_answer, text_answer

KINDS = ("slack", "pagerduty", "alertmanager", "webhook", "heartbeat", "smtp")
RESOLVE_TIMEOUT = 300.0
V1_IS_GONE = (
    "The Alertmanager v1 API was deprecated in version 0.16.0 and is removed as of version 0.27.0"
    " - please use the equivalent route in the v2 API"
)


class Mailbag:
    """What arrived, by receiver, in order. Thread-safe; shared with the mail server."""

    def __init__(self) -> None:
        self._items: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self._lock = threading.Lock()

    def put(self, kind: str, item: dict[str, Any]) -> None:
        """Keep one arrival."""
        with self._lock:
            self._items[kind].append(item)

    def get(self, kind: str) -> list[dict[str, Any]]:
        """Everything that arrived at `kind`; raises KeyError for an unknown one."""
        with self._lock:
            return list(self._items[kind])

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for items in self._items.values():
                items.clear()


def parse_time(text: str) -> float:
    """Epoch seconds of an RFC 3339 time, any number of fraction digits; raises ValueError."""
    plain = re.sub(r"\.(\d+)", lambda found: "." + found.group(1)[:6].ljust(6, "0"), text)
    moment = datetime.fromisoformat(plain.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()


def slack_problem(body: Any) -> Optional[str]:
    """Why Slack would refuse this message, or None."""
    if not isinstance(body, dict):
        return "invalid_payload"
    blocks = body.get("blocks", [])
    if not body.get("text") and not blocks and not body.get("attachments"):
        return "no_text"
    texts = [block.get("text", {}) for block in blocks if isinstance(block, dict)]
    lengths = [len(text.get("text", "")) for text in texts if isinstance(text, dict)]
    headers = [b for b in blocks if isinstance(b, dict) and b.get("type") == "header"]
    long_header = any(len(header["text"]["text"]) > 150 for header in headers)
    fields = [b.get("fields", []) for b in blocks if isinstance(b, dict)]
    too_much = len(blocks) > 50 or max(lengths, default=0) > 3000 or long_header
    return "invalid_blocks" if too_much or any(len(f) > 10 for f in fields) else None


def pagerduty_problems(body: Any) -> list[str]:
    """What PagerDuty would say is wrong with this event."""
    if not isinstance(body, dict):
        return ["body must be an object"]
    problems = []
    if not re.fullmatch(r"\w{32}", str(body.get("routing_key", ""))):
        problems.append("'routing_key' must be 32 characters")
    action = body.get("event_action")
    if action not in ("trigger", "acknowledge", "resolve"):
        problems.append("'event_action' is invalid")
    if len(str(body.get("dedup_key", ""))) > 255:
        problems.append("'dedup_key' is too long")
    if action != "trigger":
        return problems if body.get("dedup_key") else [*problems, "'dedup_key' is missing"]
    payload = body.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    problems += [f"'payload.{n}' is missing" for n in ("summary", "source") if not payload.get(n)]
    if payload.get("severity") not in ("critical", "error", "warning", "info"):
        problems.append("'payload.severity' is invalid")
    return problems


class ReceiverServer(WebServer):
    """All HTTP receivers on one port; `bag` keeps what they got, `alerts()` is Alertmanager's."""

    name = "receivers"

    def __init__(self, bag: Optional[Mailbag] = None, **options: Any) -> None:
        self.bag = bag or Mailbag()
        self._alerts: dict[str, dict[str, Any]] = {}
        super().__init__(**options)

    def routes(self) -> list[Route]:
        """One path per receiver, as the real ones have them."""
        return [
            Route("POST /slack/{*rest}", self._slack),
            Route("POST /v2/enqueue", self._pagerduty),
            Route("POST /api/v2/alerts", self._alertmanager),
            Route("GET /api/v2/alerts", lambda _request: json_answer(self.alerts())),
            Route("GET /api/v2/status", lambda _r: json_answer({"cluster": {"status": "ready"}})),
            Route("POST /api/v1/alerts", self._alertmanager_v1),
            Route("GET /-/healthy", lambda _request: text_answer("OK")),
            Route("GET /-/ready", lambda _request: text_answer("OK")),
            Route("POST /webhook", self._webhook),
            *(Route(f"{method} /heartbeat/{{*rest}}", self._heartbeat) for method in _METHODS),
        ]

    def _keep(self, kind: str, request: Request, status: int, **more: Any) -> None:
        body = request.json()
        text = request.body.decode("utf-8", "replace")
        self.bag.put(
            kind,
            {
                "at": iso_time(self.now()),
                "status": status,
                "path": request.path,
                "headers": dict(request.headers),
                "body": text if body is None else body,
                **more,
            },
        )

    def _slack(self, request: Request) -> Answer:
        if self.faults.on("slack-429"):
            self._keep("slack", request, 429)
            delay = self.faults.value("slack-429")
            return Answer(429, b"rate_limited", "text/plain", {"Retry-After": delay})
        problem = slack_problem(request.json())
        status = 500 if self.faults.on("slack-500") else 400 if problem else 200
        self._keep("slack", request, status)
        return text_answer({500: "server_error", 200: "ok"}.get(status, str(problem)), status)

    def _pagerduty(self, request: Request) -> Answer:
        for status in (429, 500):
            if self.faults.on(f"pagerduty-{status}"):
                self._keep("pagerduty", request, status)
                return json_answer({"status": "throttle exceeded"}, status)
        body, problems = request.json(), pagerduty_problems(request.json())
        self._keep("pagerduty", request, 400 if problems else 202)
        if problems:
            message = "Event object is invalid"
            refusal = {"status": "invalid event", "message": message, "errors": problems}
            return json_answer(refusal, 400)
        key = body.get("dedup_key") or str(len(self.bag.get("pagerduty")))
        done = {"status": "success", "message": "Event processed", "dedup_key": key}
        return json_answer(done, 202)

    def _webhook(self, request: Request) -> Answer:
        status = 500 if self.faults.on("webhook-500") else 200
        self._keep("webhook", request, status)
        return json_answer({"ok": status == 200}, status)

    def _heartbeat(self, request: Request) -> Answer:
        signal = request.path.rstrip("/").rsplit("/", 1)[-1]
        stage = signal if signal in ("start", "fail", "log") or signal.isdigit() else "success"
        self._keep("heartbeat", request, 200, stage=stage)
        return text_answer("OK")

    def _alertmanager_v1(self, request: Request) -> Answer:
        self._keep("alertmanager", request, 410)
        return json_answer({"status": "deprecated", "error": V1_IS_GONE}, 410)

    def _alertmanager(self, request: Request) -> Answer:
        if self.faults.on("alertmanager-500"):
            self._keep("alertmanager", request, 500)
            return json_answer("internal error", 500)
        body = request.json()
        alerts = body if isinstance(body, list) else [None]
        problems = [problem for problem in map(self._take, alerts) if problem]
        self._keep("alertmanager", request, 400 if problems else 200)
        # The good ones of a batch are stored even so: a 400 is a partial success.
        return json_answer("; ".join(problems), 400) if problems else Answer(200)

    def _take(self, alert: Any) -> Optional[str]:
        if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
            return "invalid alert: no labels"
        labels = {k: v for k, v in alert["labels"].items() if v != ""}
        if not labels or not all(isinstance(v, str) for v in labels.values()):
            return "at least one label pair required"
        try:
            start, end = self._span(alert)
        except ValueError as error:
            return str(error)
        if end < start:
            return "start time must be before end time"
        kept = {**alert, "labels": labels, "startsAt": iso_time(start), "endsAt": iso_time(end)}
        self._alerts[json.dumps(labels, sort_keys=True)] = {**kept, "_end": end}
        return None

    def _span(self, alert: Mapping[str, Any]) -> tuple[float, float]:
        now, starts, ends = self.now(), alert.get("startsAt"), alert.get("endsAt")
        end = parse_time(ends) if ends else now + RESOLVE_TIMEOUT
        return (parse_time(starts) if starts else min(now, end)), end

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are active now."""
        active = [alert for alert in self._alerts.values() if alert["_end"] > self.now()]
        return [{k: v for k, v in alert.items() if k != "_end"} for alert in active]


_METHODS = ("GET", "POST", "HEAD")
