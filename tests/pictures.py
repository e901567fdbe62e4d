"""The pictures of docs/images: a situation of tests/screens as the status page shows it, drawn by
headless Chromium. `python -m tests.pictures --write` (or `make pictures`) draws them anew."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from monitoring.alerts.conditions import conditions
from monitoring.components import COMPONENTS
from monitoring.model import AlertRow, Finding, Outcome, Severity
from monitoring.output import pages as bars, status_page as status
from tests import screens, test_reports, test_status_page

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
RUNBOOKS = "https://wiki.example.org/payment-api/runbooks"
NOTIFIED = ("pagerduty", "slack", "email:oncall@example.org")
STUCK = Finding(
    "rotation_stuck", Severity.CRITICAL,
    "client-007: rotation stuck: dual_active for 3 h, the limit is 1 h",
    "rotation-service", "client-007",
    action="Ask the client whether it has its new secret, then let the rotation go on.",
)  # fmt: skip
#: Name of a picture -> its width and height, and whether it is dark.
PICTURES = {"status-page.png": ("1100,1500", False), "status-page-phone.png": ("390,1400", True)}


def _outcomes() -> tuple[Outcome, ...]:
    """A cache that does not answer, a rotation that is stuck, tokens that are well."""
    health = screens.outcome(
        "health_check", screens.LEANS, screens.SAPI, screens.VAULT, screens.MUTE, screens.SLOW
    )
    vault = screens.outcome(
        "credential_usage_metrics", credentials=screens.TROUBLED, findings=(STUCK,),
        subjects=(Severity.CRITICAL, Severity.WARNING), sources=(screens.SCANNED,),
    )  # fmt: skip
    tokens = screens.outcome(
        "token_usage_metrics", tokens=screens.TOKENS, sources=(screens.SCANNED,)
    )
    return _firing(health, 52.0), tokens, _firing(vault, 3600.0)


def _firing(outcome: Outcome, seconds: float) -> Outcome:
    """The outcome with what it comes to as alerts: what is critical fires, for so long already."""
    rows = [
        AlertRow(alert, "firing", outcome.at - seconds)
        for alert in conditions(outcome)
        if alert.severity is Severity.CRITICAL
    ]
    return replace(outcome, alerts=tuple(rows))


def page() -> str:
    """The page of it all, with a month that was not watched for five days."""
    seen = [status.document(outcome, 60.0, RUNBOOKS) for outcome in _outcomes()]
    keys = [row["key"] for each in seen for row in each["alerts"]["rows"]]
    past = {
        name: bars.measure(
            [
                test_status_page.Seen(screens.AT - n * 1800, 1800.0, float(n > 0 or up))
                for n in range(1500, -1, -1)
                if not 600 < n < 840
            ],
            screens.AT,
        )
        for name in COMPONENTS
        for up in [name != "redis-cache"]
    }
    return status.render_status(seen, dict.fromkeys(keys, NOTIFIED), screens.AT + 1, past=past)


def main() -> int:
    """Draw them all; 1 where no Chromium is installed."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no chromium on PATH", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "status.html"
        source.write_text(page(), encoding="utf-8")
        for name, (size, dark) in PICTURES.items():
            scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
            shot = f"--screenshot={IMAGES / name}"
            test_reports.browse(chromium, source, f"--window-size={size}", scheme, shot)
    return 0


if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] == ["--write"] else 2)
