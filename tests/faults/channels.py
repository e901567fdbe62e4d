"""Rows: a receiver of alerts fails; nobody else may notice, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Callable

from tests.faults.ground import Ground
from tests.faults.row import EAPI, Row
from tests.faults.servers import RawServer, answers, http
from tests.faults.web import switched

KINDS = ("slack", "pagerduty", "webhook", "smtp")
LATER = 1800.0
Breaking = Callable[[Ground], AbstractContextManager[None]]


def to(url_of: Callable[[RawServer], dict[str, str]], say: Any, *, deaf: bool = False) -> Breaking:
    """The receiver is a server that talks like `say` instead; `url_of` gives the settings."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        usual = dict(ground.env)
        server = RawServer(answers(say) if isinstance(say, bytes) else say, deaf=deaf)
        with server:
            ground.env.update(url_of(server))
            yield
        ground.env.update(usual)

    return make


def _slack(server: RawServer) -> dict[str, str]:
    return {"SLACK_WEBHOOK_URL": f"{server.url}/services/T0/B0/x"}


def _mail(server: RawServer) -> dict[str, str]:
    return {"SMTP_PORT": str(server.port)}


def _manager(server: RawServer) -> dict[str, str]:
    return {"ALERTMANAGER_URL": server.url}


def never(wire: Any, _request: bytes) -> None:
    """Accepts and is silent until the other side goes."""
    with contextlib.suppress(OSError):
        while wire.recv(4096):
            pass


def refused(name: str, url: str) -> Breaking:
    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        usual = ground.env[name]
        ground.env[name] = url
        yield
        ground.env[name] = usual

    return make


def told(ground: Ground, kind: str) -> list[str]:
    """What the receiver took, one text per notice that can be told apart."""
    taken = []
    for item in ground.stack.received(kind):
        if item.get("status", 200) >= 300:
            continue
        body = item.get("body", {})
        if kind == "pagerduty":
            taken.append(f"{body['event_action']} {body['dedup_key']}")
        elif kind == "smtp":
            taken.append(item["subject"])
        else:
            taken.append(json.dumps(body, sort_keys=True))
    return taken


def alerting(ground: Ground) -> None:
    """Alerts fire at the first bad cycle, on every channel, within two seconds."""
    ground.setting("ALERTS", {"failure_threshold": 1, "send_budget": "2s"})
    everyone = ["pagerduty", "slack", "email", "webhook"]
    ground.setting("NOTIFICATION_CHANNELS", {"critical": everyone, "warning": everyone})
    ground.stack.bag.clear()


def channel_fails(kind: str, breaking: Breaking) -> Callable[[Ground], str]:
    """One cycle with the channel broken, one with it mended, half an hour later."""

    def play(ground: Ground) -> str:
        alerting(ground)
        ground.stack.faults.set("eapi-down")
        with breaking(ground):
            first = ground.run("health_check")
        first.check_form()
        assert first.status == 2, first.said()
        assert first.rows()[EAPI]["error"] == "refused"
        assert first.seconds < 5, f"the channel held the cycle for {first.seconds} s"
        for other in KINDS:
            assert bool(told(ground, other)) == (other != kind), f"{other}: {first.said()}"
        ground.stack.faults.clear()
        ground.stack.faults.set("eapi-down")
        ground.launch["clock"] = LATER
        second = ground.run("health_check")
        second.check_form()
        return _once_each(ground, kind)

    return play


def _once_each(ground: Ground, kind: str) -> str:
    for each in KINDS:
        counts = Counter(told(ground, each))
        assert counts, f"{each} was never told"
        assert max(counts.values()) == 1, f"{each} was told twice: {counts}"
    assert any(EAPI in json.dumps(a) for a in ground.stack.receivers.alerts()), (
        "no Alertmanager alert"
    )
    return f"exit 2, the others told at once, {kind} told later, once"


def _row(name: str, kind: str, breaking: Breaking) -> Row:
    return Row(name, play=channel_fails(kind, breaking))


MID_DATA = b"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n"

_ROWS = (
    _row("slack answers 500", "slack", switched("slack-500")),
    _row("slack answers 429", "slack", switched("slack-429")),
    _row(
        "slack refuses", "slack", refused("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/services/a/b/c")
    ),
    _row("slack hangs", "slack", to(_slack, never)),
    _row(
        "slack redirects elsewhere",
        "slack",
        to(_slack, http(b"", "302 Found", Location="http://localhost:1/")),
    ),
    _row("slack drops the connection", "slack", to(_slack, b"")),
    _row("pagerduty answers 500", "pagerduty", switched("pagerduty-500")),
    _row("pagerduty answers 429", "pagerduty", switched("pagerduty-429")),
    _row("webhook answers 500", "webhook", switched("webhook-500")),
    _row("mail: every recipient refused", "smtp", switched("smtp-refuse")),
    _row("mail: server refuses", "smtp", refused("SMTP_PORT", "1")),
    _row("mail: server is silent", "smtp", to(_mail, never, deaf=True)),
    _row("mail: server drops mid-DATA", "smtp", to(_mail, MID_DATA, deaf=True)),
    _row("alertmanager answers 500", "", switched("alertmanager-500")),
    _row("alertmanager hangs", "", to(_manager, never)),
)
ROWS = tuple(replace(row, group="channels") for row in _ROWS)
