"""Web demo: exporters and a real Prometheus on a running stack, and a page to look at and break it.

`make demo-web`; Ctrl-C ends it. The page shows what the scripts wrote: it knows what a user knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from sandbox import observers
from sandbox.stack import Stack
from sandbox.web import Answer, Request, Route, WebServer, json_answer, text_answer
from sandbox.web_told import told

PAGE = Path(__file__).with_name("web_demo.html")
OUTPUTS = {
    "health_check": "health.json",
    "token_usage_metrics": "tokens.json",
    "credential_usage_metrics": "credentials.json",
}
#: Faults that can be switched on the page, with what to look for; all others with
#: `python -m sandbox fault`.
OFFERED = {
    "redis-hang": ("The cache hangs", "Down, told once; what hangs on it is not told beside it."),
    "sapi-500": ("Payment-SAPI fails", "Down, and no login works from end to end."),
    "sapi-slow": ("Payment-SAPI is slow", "Still up, so nobody is woken for it as down."),
    "conjur-500": ("The vault fails", "Down, while cached credentials go on working."),
    "failures-burst": ("Somebody guesses a secret", "One client's logins fail, by the second."),
    "auth-accepts-tampered": ("Forged tokens are accepted", "The canary's proof, within a minute."),
    "rotation-stuck": ("A rotation gets stuck", "Two secrets are valid for too long."),
    "forged-token": ("A token is forged", "Signed with the stolen key, used, never minted."),
    "cache-no-ttl": ("Tokens never expire", "A writer forgets the expiry: token hygiene."),
    "expiry-cliff": ("Tokens die together", "Their clients will all log in at once."),
}
#: So that a visitor sees the end of what he began: windows and rounds of a minute, not an hour.
#: That SAPI's keys hold whole tokens is true of it, and accepted here: quiet is shown as quiet.
HURRIED = {
    "CANARY": {"proof_interval": "60s"},
    "CREDENTIALS": {"failure_window": "2m"},
    "TOKENS": {"accepted_findings": ["jwt_in_key"], "follow": True, "clock_skew": "2s"},
}
_WORSE = ("info", "ok", "unknown", "warning", "critical")
KEPT = 60  # response times per component that are drawn
SHOWN = 14  # messages
INTERVAL = 5.0
REPORT = ("token_usage_metrics.py", "--analyze", "--lookback", "1h", "--format", "html")
REPORT_SECONDS = 60


class Demo(WebServer):
    """The page, what it shows (`/state`), the report, and the switches of the faults."""

    name = "demo"

    def __init__(self, stack: Stack, results: Path, links: Mapping[str, str], **more: Any) -> None:
        self._stack, self._results, self._links = stack, results, links
        self._times: dict[str, deque[Optional[float]]] = {}
        self._sampled = ""
        super().__init__(faults=None, **more)

    def routes(self) -> list[Route]:
        """Everything the page asks for."""
        return [
            Route("GET /", self._page),
            Route("GET /state", lambda _request: json_answer(self.state())),
            Route("GET /report", self._report),
            Route("POST /faults", self._switch),
        ]

    def _page(self, _request: Request) -> Answer:
        return text_answer(PAGE.read_text(encoding="utf-8"), 200, "text/html")

    def _switch(self, request: Request) -> Answer:
        """JSON alone: a form of some other page in the same browser cannot send that."""
        body = request.json()
        plain = request.headers.get("Content-Type") != "application/json"
        if plain or not isinstance(body, dict) or body.get("name") not in OFFERED:
            return json_answer({"error": f"one of {', '.join(OFFERED)}"}, 400)
        try:
            if body.get("on"):
                self._stack.faults.set(body["name"])
            else:
                self._stack.faults.clear(body["name"])
        except ValueError as error:
            return json_answer({"error": str(error)}, 409)
        return json_answer({"active": self._stack.faults.active()})

    def _report(self, _request: Request) -> Answer:
        environment = {**os.environ, **self._stack.environment}
        done = subprocess.run(
            [sys.executable, str(observers.ROOT / REPORT[0]), *REPORT[1:]],
            env=environment,
            capture_output=True,
            timeout=REPORT_SECONDS,
            check=False,
        )
        if not done.stdout.startswith(b"<!"):
            return text_answer(done.stderr.decode("utf-8", "replace"), 500)
        return text_answer(done.stdout.decode(), 200, "text/html")

    def _result(self, script: str) -> dict[str, Any]:
        """What the script wrote last; empty before its first cycle."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self._results / OUTPUTS[script]).read_text())
            return found
        return {}

    def sample(self) -> None:
        """Keep the response times of a new cycle, to draw them."""
        health = self._result("health_check")
        if not health or health["timestamp"] == self._sampled:
            return
        self._sampled = health["timestamp"]
        for name, row in health["components"].items():
            self._times.setdefault(name, deque(maxlen=KEPT)).append(row["response_time_ms"])

    def state(self) -> dict[str, Any]:
        """Everything on the page."""
        results = {script: self._result(script) for script in OUTPUTS}
        active = self._stack.faults.active()
        components = results["health_check"].get("components", {})
        return {
            "links": dict(self._links),
            "verdict": verdict(results),
            "scripts": [_script(name, result) for name, result in results.items()],
            "components": [
                {"name": name, **_component(row), "times": list(self._times.get(name, ()))}
                for name, row in components.items()
            ],
            "figures": _figures(results),
            "findings": [
                {"severity": found["severity"], "text": found["sentence"]}
                for result in results.values()
                for found in result.get("findings", [])
            ],
            "told": told(self._stack.received)[:SHOWN],
            "faults": [
                {"name": name, "title": title, "look": look, "on": name in active}
                for name, (title, look) in OFFERED.items()
            ],
        }


def verdict(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The one thing to know: `status`, a `sentence`, and how many alerts are `firing`."""
    if not all(results.values()):
        return {
            "status": "starting",
            "sentence": "The scripts look for the first time.",
            "firing": 0,
        }
    components = results["health_check"].get("components", {})
    down = [name for name, row in components.items() if row.get("up") is False]
    firing = [
        alert
        for result in results.values()
        for alert in result.get("alerts", [])
        if alert["state"] == "firing"
    ]
    worst = max((result["status"] for result in results.values()), key=_WORSE.index)
    if down:
        sentence = f"{' and '.join(down)} {'is' if len(down) == 1 else 'are'} down."
    elif firing:
        first = max(firing, key=lambda alert: _WORSE.index(alert["severity"]))
        sentence = first["summary"]
    elif worst == "ok":
        sentence = "Everything is up, fast and on track."
    else:
        sentence = "Something is not as it should be; a second look will tell."
    return {"status": worst, "sentence": sentence, "firing": len(firing)}


def _script(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "status": result.get("status", "starting"),
        "at": result.get("timestamp"),
        "ms": result.get("duration_ms"),
        "firing": sum(row["state"] == "firing" for row in result.get("alerts", [])),
    }


def _component(row: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {"status": "status", "ms": "response_time_ms", "message": "message"}
    return {ours: row.get(theirs) for ours, theirs in wanted.items()}


def _figures(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    tokens = results["token_usage_metrics"].get("tokens") or {}
    credentials = results["credential_usage_metrics"].get("credentials") or {}
    rate = (tokens.get("validations") or {}).get("success_rate")
    verdicts = [row.get("verdict") for row in credentials.values()]
    off = sum(verdict in ("overdue", "stuck", "failed") for verdict in verdicts)
    figures = (
        ("live tokens", tokens.get("active"), ""),
        ("minted a minute", tokens.get("generation_rate_per_minute"), ""),
        ("dying within 5 minutes", (tokens.get("expiring") or {}).get("5m"), ""),
        ("validations that pass", None if rate is None else rate * 100, "%"),
        ("credentials", len(credentials) or None, ""),
        ("rotations off track", off if credentials else None, ""),
    )
    return [{"name": name, "value": value, "unit": unit} for name, value, unit in figures]


def _overlay(stack: Stack, folder: Path) -> str:
    """The stack's own settings (JSON is YAML) with HURRIED laid over; the file's path."""
    settings = json.loads(Path(stack.environment["MONITORING_CONFIG"]).read_text())
    path = folder / "demo.yaml"
    path.write_text(json.dumps({**settings, **HURRIED}))
    return str(path)


def _first(url: str, *paths: str) -> str:
    """The first page that is there: Debian leaves parts of the pages out."""
    for path in paths[:-1]:
        with contextlib.suppress(OSError):
            observers.get(url + path)
            return url + path
    return url + paths[-1]


@contextlib.contextmanager
def observed(stack: Stack, results: Path, interval: float) -> Iterator[dict[str, str]]:
    """Exporters, and Alertmanager and Prometheus where installed; gives names and addresses."""
    links: dict[str, str] = {}
    with contextlib.ExitStack() as closing:
        folder = stack.folder / "observers"
        folder.mkdir()
        manager = ""
        if observers.find("prometheus-alertmanager", "alertmanager"):
            running = observers.Alertmanager(folder, f"{stack.receivers.url}/webhook")
            closing.callback(running.stop)
            manager = running.url
            links["Alertmanager"] = _first(manager, "/", "/api/v2/alerts")
        targets = []
        overlay = _overlay(stack, folder)
        for script, name in OUTPUTS.items():
            flags = ("--output", str(results / name), "--config", overlay)
            exporter = observers.Exporter(
                script, stack.environment, folder, interval=interval, flags=flags
            )
            closing.callback(exporter.stop)
            targets.append(exporter.address)
            links[f"{script.partition('_')[0]} metrics"] = exporter.url
        if observers.find("prometheus"):
            server = observers.Prometheus(
                folder,
                targets,
                alertmanager=manager,
                environment="dev",
                every="2s",
                minute=interval,  # a cycle
            )
            closing.callback(server.stop)
            links = {
                "Prometheus": _first(server.url, "/alerts", "/classic/alerts", "/api/v1/alerts"),
                **links,
            }
        yield {**links, "Sandbox": stack.control.url}


def serve(
    stack: Stack,
    results: Path,
    *,
    interval: float = INTERVAL,
    ready: Optional[Callable[[Demo], None]] = None,
) -> int:
    """Serve the page until Ctrl-C or SIGTERM; 0 then. `ready` is told once it can be opened.
    Raises observers.NotStartedError naming what did not come up."""
    for name in OUTPUTS.values():
        (results / name).unlink(missing_ok=True)
    over = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: over.set())
    with observed(stack, results, interval) as links:
        demo = Demo(stack, results, links)
        demo.start()
        sys.stdout.write(f"\nOpen {demo.url} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if ready is not None:
            ready(demo)
        with contextlib.suppress(KeyboardInterrupt):
            while not over.wait(1.0):
                demo.sample()
        demo.stop()
    return 0
