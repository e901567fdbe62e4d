"""Situations of every view, and what a terminal shows of them, kept in data/screens.

`python -m tests.screens --write` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable
from unittest import mock

import utils
from monitoring import guided_setup, modes
from monitoring.alerts import report as alert_report
from monitoring.analyze import REPORTS
from monitoring.anomaly import replay
from monitoring.anomaly.types import Anomaly
from monitoring.credentials import report as credential_report
from monitoring.credentials.facts import Age, CredentialFacts, Policy
from monitoring.credentials.judged import DAY, ClientVerdict, rows
from monitoring.credentials.revocation import RevocationAnswer
from monitoring.credentials.rotations import SEVERITIES, RotationVerdict
from monitoring.model import (
    Alert,
    AlertKey,
    AlertRow,
    Component,
    Finding,
    Outcome,
    Severity,
    Source,
)
from monitoring.output import logs, terminal
from monitoring.sla import report as sla_report
from monitoring.sla.levels import report as levels_of
from tests import configuring, test_reports

FOLDER = Path(__file__).resolve().parent / "data" / "screens"
WIDTHS = (80, 120)
OK, UNKNOWN = Severity.OK, Severity.UNKNOWN
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
AT = 1_795_400_000.0


def component(name: str, status: Severity = OK, said: str = "says UP", **more: Any) -> Component:
    up = {OK: True, WARNING: True, CRITICAL: False, UNKNOWN: None}[status]
    took = None if status in (CRITICAL, UNKNOWN) else 4.2
    return Component(name, status, more.pop("up", up), more.pop("took", took), message=said, **more)


EAPI, SAPI = component("payment-eapi"), component("payment-sapi")
VAULT = component("conjur-vault", said="healthy")
CACHE = component("redis-cache", said="primary of 1 replica")
LOGIN = component("authentication-flow", said="a login works from end to end")
WELL = (EAPI, SAPI, VAULT, CACHE, LOGIN)
MUTE = component(
    "redis-cache", CRITICAL, "no answer from 10.0.0.7:6379 within 2 s", error="timeout"
)
LEANS = component("payment-eapi", WARNING, "says DEGRADED: redis is down")
SLOW = component(
    "authentication-flow", WARNING, "a login works from end to end; login time 812 ms (warning "
    "from 200 ms)", took=812.0,
)  # fmt: skip
NO_CANARY = component(
    "authentication-flow", UNKNOWN, "no canary client is configured, so nobody proves that logins "
    "work: set MONITORING_CLIENT_ID and MONITORING_CLIENT_SECRET", configured=False,
)  # fmt: skip


def outcome(script: str = "health_check", *components: Component, **more: Any) -> Outcome:
    return Outcome(script, "prod", "1.0.0", AT, 0.048, components=components, **more)


def credential(**more: Any) -> dict[str, Any]:
    well = {
        "state": "active", "version": 3, "age_days": 41.0, "age_source": "rotation-service",
        "due_in_days": 49.0, "last_used": "2026-11-23T02:00:00Z", "uses": 812, "failures": 0,
        "failure_rate": 0.0, "live_tokens": 4, "old_version_tokens": 0, "verdict": "ok",
        "why": "within its period", "todo": "nothing",
    }  # fmt: skip
    return {**well, **more}


FIRES = Alert(
    AlertKey("prod", "health_check", "redis-cache", "health_status"), CRITICAL,
    "redis-cache is down: no answer from 10.0.0.7:6379 within 2 s",
)  # fmt: skip
GUESSED = Finding(
    "failures_then_success", CRITICAL,
    "client-004: a login succeeded after 180 failed logins: somebody may have guessed its secret",
    "payment-eapi", "client-004",
    action="Ask the client's owner at once; if they know nothing of it, rotate the secret.",
)  # fmt: skip
TOKENS: Mapping[str, Any] = {
    "total": 1520, "active": 1500, "expired": 20, "undecodable": 0, "without_ttl": 0,
    "duplicates_merged": 0, "generation_rate_per_minute": 24.5,
    "generation": {"source": "services"},
    "expiring": {"5m": 12, "15m": 40, "1h": 310},
    "lifetime_seconds": {"min": 3600, "mean": 3600, "p50": 3600, "p95": 3600, "p99": 3600,
                         "max": 3600},
    "remaining_seconds": {"min": 30, "mean": 1800, "p50": 1790, "p95": 3400, "p99": 3560,
                          "max": 3600},
    "validations": {"success": 9000, "failure": 0, "by_reason": {}, "success_rate": 1.0,
                    "source": "sapi-metrics"},
    "renewals": {"count": 80, "late": 0, "early": 2, "lapses": 0, "overlaps": 0, "on_time": 78,
                 "median_remaining_seconds": 280},
    "by_client": {f"client-{n:03}": {"tokens": 9 - n, "active": 9 - n, "generation_rate": 0.2,
                                     "last_issued": "2026-11-23T02:00:00Z"} for n in range(1, 5)},
    "hygiene": {},
}  # fmt: skip


class _Point:
    def __init__(self, at: float, seconds: float, mean: float) -> None:
        self.at, self.seconds, self.mean = at, seconds, mean


def _levels() -> str:
    points = {
        "payment-eapi": [_Point(AT - n * 300, 300.0, 1.0) for n in range(8000, -1, -1)],
        "redis-cache": [_Point(AT - n * 300, 300.0, float(n > 20)) for n in range(8000, -1, -1)],
        "conjur-vault": [_Point(AT, 300.0, 1.0)],
    }
    targets = {"payment-eapi": 0.9999, "redis-cache": 0.9995, "conjur-vault": 0.9999}
    return sla_report.FORMATS["text"](
        levels_of(points, targets, now=AT, lookback=30 * 86400.0, least=0.5)
    )


def _alerts() -> str:
    firing = alert_report.Firing(
        FIRES.key.text, "firing", "critical", FIRES.summary, "2026-11-23T02:13:20Z", "52 s",
        ("slack", "pagerduty"), "", "",
    )  # fmt: skip
    hushed = alert_report.SilenceRow(
        {"metric": "api_response_time"}, "anna", "2026-11-23T04:00:00Z", "load test"
    )
    cycles = {"health_check": "2026-11-23T02:14:12Z", "token_usage_metrics": None}
    return alert_report.as_text(
        alert_report.Report("2026-11-23T02:14:12Z", (firing,), (), (), cycles, (hushed,))
    )


def _judged(client: str, days: float, **more: str) -> ClientVerdict:
    verdict, state = more.get("verdict", "ok"), more.get("state", "active")
    why, todo = more.get("why", "within its period"), more.get("todo", "nothing")
    rotating = 3 * 3600.0 if state == "dual_active" else None
    said = RotationVerdict(
        state, verdict, SEVERITIES[verdict], why, todo, Age(AT - days * DAY, "vault_expiry"),
        (90 - days) * DAY, rotating,
    )  # fmt: skip
    return ClientVerdict(CredentialFacts(client), said, Policy())


JUDGED = (
    _judged(
        "client-007", 41, verdict="stuck", state="dual_active",
        why="two secrets since 3 h; the limit is 1 h",
        todo="ask the client whether it has its new secret, then let the rotation go on",
    ),
    _judged("client-009", 97, verdict="overdue", why="97 days old, 90 are allowed",
            todo="rotate it"),
    *(_judged(f"client-{n:03}", n) for n in range(10, 38)),
)  # fmt: skip


def _credentials(view: Callable[..., str]) -> Callable[[], None]:
    findings = tuple(
        Finding(
            f"rotation_{one.verdict.verdict}", one.verdict.severity,
            f"{one.client}: {'rotation stuck: ' * (one.verdict.verdict == 'stuck')}"
            f"{one.verdict.why}", "rotation-service", one.client,
            action=f"{one.verdict.todo.capitalize()}.",
        )
        for one in JUDGED[:2]
    )  # fmt: skip
    window = SimpleNamespace(seconds=3600.0, span=3600.0)
    seen = SimpleNamespace(judged=JUDGED, at=AT, sources=(), figures=SimpleNamespace(window=window))
    made = outcome(
        "credential_usage_metrics", credentials=rows(JUDGED, AT), findings=findings,
        subjects=tuple(one.verdict.severity for one in JUDGED), sources=(SCANNED,),
    )  # fmt: skip
    return _text(
        lambda: view(credential_report.Seen(seen, made, folded=True), "text", logs.columns())  # type: ignore[arg-type]
    )


REVOCATION = RevocationAnswer(
    "client-007", False, ("both versions are accepted: wait until the old one is deprecated",),
    ("logins were watched for 30 s only",), "v1", AT - 900, 4, 0, AT + 2700, AT + 2700,
    waiting=True, word="no",
)  # fmt: skip
SPIKE = Anomaly(
    AT - 3600, "client-004", "failure_burst", 9.2, 180, 2.0,
    "client-004: 180 logins failed in the hour from 2026-11-23T01:13:20Z, 2 are usual", "critical",
    40.0,
)  # fmt: skip


def _replayed() -> str:
    done = replay.Replayed(720, [], [], {"critical": 1})
    return replay.as_text(SPIKE) + replay.headline(done)


NO_KEY = (
    "PagerDuty answered 400: the integration key is not known; take the one of an Events API v2 "
    "integration"
)


def _tested() -> None:
    """Two channels, one of which does not work."""
    found = [("slack", True, ""), ("pagerduty", False, NO_KEY)]
    kit = SimpleNamespace(
        args=SimpleNamespace(test_alerts="", log_format="text"),
        show=utils.show_report,
        notifier=lambda: SimpleNamespace(test=lambda _: found),
    )
    modes.test_alerts(kit)


def _checked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = {"MONITORING_ENV": "test", "REDIS_HOST": "cache.example.org",
                 "PAGERDUTY_SERVICE_KEY": "x" * 32, "MONITORING_STATE_DIR": "/var/lib/monitoring",
                 "EMAIL_RECIPIENTS": "oncall@example.org"}  # fmt: skip
        modes.show_settings(
            configuring.load(configuring.scripts_in(Path(folder)), env=given), "text",
            everything=False,
        )  # fmt: skip


class _Setup(guided_setup.Setup):
    """In which all but one component work, and nobody asks again."""

    def look(self, answers: Mapping[str, str], component: str) -> Component:
        del answers
        refused = "10.0.0.9:443 refused the connection: nothing listens there"
        return _of(component, *((CRITICAL, refused) if component == "payment-sapi" else ()))

    def again(self, _wrong: str) -> bool:
        return False


_of = component


def _set_up() -> None:
    asked = argparse.Namespace(log_format="text")
    made = _Setup(asked, *[mock.MagicMock()] * 3)
    guided_setup.guide({"EAPI_ENDPOINT": "https://payment-eapi.example.com"}, made)


def _cycle(made: Outcome) -> Callable[[], None]:
    return lambda: terminal.show(made)


def _text(make: Callable[[], str]) -> Callable[[], None]:
    return lambda: sys.stdout.write(terminal.painted(make() + "\n")) and None


HEALTHY = {f"client-{n:03}": credential(due_in_days=20.0 + n) for n in range(1, 31)}
TROUBLED = {
    **HEALTHY,
    "client-007": credential(
        verdict="stuck", state="dual_active", why="two secrets since 3 h; the transition is 1 h",
        todo="see --can-revoke client-007",
    ),
    "client-009": credential(
        verdict="overdue", age_days=97.0, due_in_days=-7.0, why="97 days old, 90 are allowed",
        todo="rotate it",
    ),
}  # fmt: skip
FIRING = AlertRow(FIRES, "firing", AT - 52)
SCANNED, UNREAD = Source("redis", True, 1520), Source("redis", False, why="no answer within 2 s")
SITUATIONS: Mapping[str, Callable[[], None]] = {
    "all-well": _cycle(outcome("health_check", *WELL)),
    "redis-mute": _cycle(
        outcome("health_check", LEANS, SAPI, VAULT, MUTE, SLOW, alerts=(FIRING,))
    ),
    "no-canary": _cycle(outcome("health_check", EAPI, SAPI, VAULT, CACHE, NO_CANARY)),
    "all-down": _cycle(
        outcome(
            "health_check",
            *(component(c.name, CRITICAL, "10.0.0.9:443 refused the connection: nothing listens "
                        "there", error="refused") for c in WELL),
        )
    ),
    "tokens": _cycle(outcome("token_usage_metrics", tokens=TOKENS, sources=(SCANNED,))),
    "cache-unread": _cycle(
        outcome("token_usage_metrics", sources=(UNREAD,))
    ),
    "credentials-well": _cycle(
        outcome("credential_usage_metrics", credentials=HEALTHY, sources=(SCANNED,))
    ),
    "credentials-trouble": _cycle(
        outcome(
            "credential_usage_metrics", credentials=TROUBLED, findings=(GUESSED,),
            subjects=(CRITICAL, WARNING), sources=(SCANNED,),
        )
    ),
    "alerts": _text(_alerts),
    "service-levels": _text(_levels),
    "check-rotation": _credentials(credential_report.rotations),
    "inventory": _credentials(credential_report.inventory),
    "can-revoke": _text(lambda: credential_report.revocation(REVOCATION, "text")),
    "analyze": _text(lambda: REPORTS["text"](test_reports.made())),
    "replay": _text(_replayed),
    "test-alerts": _tested,
    "check-config": _checked,
    "setup": _set_up,
}  # fmt: skip


class _Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(name: str, width: int, *, colour: bool) -> str:
    """What a terminal of that width shows of a situation."""
    env = {"COLUMNS": str(width), "LINES": "40", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    if not colour:
        env["NO_COLOR"] = "1"
    screen = _Screen(terminal=True)
    kept = {
        k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")
    }
    size = mock.patch("shutil.get_terminal_size", return_value=os.terminal_size((width, 40)))
    whole = mock.patch.dict(os.environ, {**kept, **env}, clear=True)
    with whole, size, mock.patch("sys.stdout", screen):
        SITUATIONS[name]()
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines()) + "\n"


def path(name: str, width: int, *, colour: bool) -> Path:
    """Where it is kept; with colour the escape sequences stand in it."""
    return FOLDER / f"{name}.{width}{'.colour' if colour else ''}.txt"


def main() -> int:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name in SITUATIONS:
        for width in WIDTHS:
            for colour in (False, True):
                text = shown(name, width, colour=colour)
                path(name, width, colour=colour).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] == ["--write"] else 2)
