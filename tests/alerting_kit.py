"""Shared by the alerting tests: short ways to alerts and settings, a clock, a receiver."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from monitoring.config.secret import Secret
from monitoring.config.settings import (
    AlertSettings,
    CanarySettings,
    ConjurSettings,
    CredentialSettings,
    HistorySettings,
    NotificationSettings,
    RedisSettings,
    RunSettings,
    ServiceMetricsSettings,
    ServiceSettings,
    Settings,
    SlaSettings,
    TlsSettings,
    TokenSettings,
)
from monitoring.model import Alert, AlertKey, Component, Notice, Outcome, Severity

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
T0 = 1_795_400_000.0


class Clock:
    """Epoch seconds that a test moves."""

    def __init__(self, at: float = T0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def key(
    component: str = "redis-cache", metric: str = "health_status", client: str = "", **more: str
) -> AlertKey:
    return AlertKey(
        more.get("environment", "test"),
        more.get("script", "health_check"),
        component,
        metric,
        client,
    )


def alert(severity: Severity = CRITICAL, component: str = "redis-cache", **more: Any) -> Alert:
    place = {name: more.pop(name) for name in ("metric", "client", "script") if name in more}
    summary = more.pop("summary", f"{component} is in trouble")
    return Alert(key(component, **place), severity, summary, **more)


def notice(
    reason: str = "first", severity: Severity = CRITICAL, at: float = T0, **more: Any
) -> Notice:
    since = more.pop("since", at - 120)
    also = more.pop("also", ())
    return Notice(alert(severity, **more), reason, at, since, also)


def component(severity: Severity = OK, name: str = "redis-cache", **more: Any) -> Component:
    up = more.pop("up", {OK: True, WARNING: True, CRITICAL: False, UNKNOWN: None}[severity])
    return Component(name, severity, up, **more)


def outcome(
    *components: Component, at: float = T0, script: str = "health_check", **more: Any
) -> Outcome:
    return Outcome(script, "test", "1.0.0", at, 1.0, components=components, **more)


def settings(folder: Path, channels: Mapping[str, Mapping[str, Any]], **more: Any) -> Settings:
    """Settings whose critical and warning alerts go to every channel given."""
    names = tuple(channels)
    by_severity = more.pop("by_severity", {"critical": names, "warning": names})
    service = ServiceSettings("payment-eapi", "http://127.0.0.1:1", {})
    alerts = more.pop(
        "alerts", AlertSettings(failure_threshold=1, recovery_threshold=1, send_budget=5.0)
    )
    return Settings(
        environment="test",
        eapi=service,
        sapi=service,
        rotation_url="",
        rotation_tls=TlsSettings(),
        auth_token=Secret(),
        redis=RedisSettings(),
        conjur=ConjurSettings(),
        canary=CanarySettings(),
        thresholds={},
        sla=SlaSettings(),
        tokens=TokenSettings(),
        credentials=CredentialSettings(),
        service_metrics=ServiceMetricsSettings(),
        alerts=alerts,
        notifications=NotificationSettings(by_severity=by_severity, channels=channels, **more),
        history=HistorySettings(),
        run=more.pop("run", RunSettings()),
        state_dir=folder,
        status_words={},
    )


@dataclass
class Seen:
    """A request as the receiver got it."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers each request with the next of `answers` (the last one for ever): (status, headers,
    body), `"reset"` (closes without an answer) or `"hang"` (until the receiver is closed)."""

    answers: list[Any] = field(default_factory=lambda: [(200, {}, b"ok")])
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def next_answer(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def always(self, status: int, body: bytes = b"ok", **headers: str) -> None:
        self.answers[:] = [(status, {n.replace("_", "-"): v for n, v in headers.items()}, body)]


@contextlib.contextmanager
def receiver(*answers: Any) -> Iterator[Receiver]:
    """A recording HTTP server on a free port of loopback."""
    got = Receiver()
    if answers:
        got.answers = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the sender died in the middle
            names = {name.lower(): value for name, value in self.headers.items()}
            answer = got.next_answer()
            got.seen.append(Seen(self.path, names, body))
            if answer == "hang":
                got.closing.wait()
            if isinstance(answer, str):
                self.close_connection = True
                return
            status, headers, text = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST  # noqa: N815 - the name that http.server looks for

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    got.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield got
    finally:
        got.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until `what()`; fails after `seconds` (far longer than it takes)."""
    done = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if what():
            return
        done.wait(0.02)
    raise AssertionError("it did not happen in time")


def reasons(notices: Sequence[Notice]) -> list[str]:
    return [each.reason for each in notices]
