"""Ten situations and what a terminal shows of them, kept in data/screens.

`python -m tests.screens --write` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, Callable, Mapping
from unittest import mock

from monitoring.alerts import report as alert_report
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
from monitoring.output import terminal
from monitoring.sla import report as sla_report
from monitoring.sla.levels import report as levels_of

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
    hushed = alert_report.Hushed(
        {"metric": "api_response_time"}, "anna", "2026-11-23T04:00:00Z", "load test"
    )
    cycles = {"health_check": "2026-11-23T02:14:12Z", "token_usage_metrics": None}
    return alert_report.as_text(
        alert_report.Report("2026-11-23T02:14:12Z", (firing,), (), (), cycles, (hushed,))
    )


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
    with mock.patch.dict(os.environ, {**kept, **env}, clear=True), mock.patch("sys.stdout", screen):
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
