"""Writes the `Alerts:` line of every runbook and their index: `python -m docs.build [--check]`.

Run it after adding a threshold, a finding with a page of its own, or a rule.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.prometheus import build
from monitoring.alerts import advice, advice as advice_findings
from monitoring.catalog import THRESHOLDS
from monitoring.components import COMPONENTS

HERE = Path(__file__).resolve().parent
PAGES = HERE / "runbooks"
_ALERTS = re.compile(r"^Alerts: .*$", re.MULTILINE)
INDEX_HEAD = """# Runbooks

One page per kind of alert. Where `ALERTS["runbooks"]` says where these pages can be read, every
alert links to its own; search here by its name.

## Where to run the commands

On the monitor's host, as the monitor, with its settings and what it remembers. A command of a page
(here `health_check.py --alerts`: what fires, since when, who was told) runs

```sh
# systemd
sudo systemd-run --pipe --quiet --wait -p User=payment-monitor \\
  -p EnvironmentFile=-/etc/payment-api-monitoring/environment \\
  -p Environment=MONITORING_STATE_DIR=/var/lib/payment-api-monitoring \\
  /opt/payment-api-monitoring/.venv/bin/python /opt/payment-api-monitoring/health_check.py --alerts
# Kubernetes (containers: health, tokens, credentials)
kubectl -n monitoring exec deploy/payment-api-monitoring -c health -- \\
  python health_check.py --alerts
# compose (services: health-check, token-usage, credential-usage)
docker compose -f deploy/container/compose.yml exec health-check python health_check.py --alerts
# cron, or by hand
cd /opt/payment-api-monitoring && sudo -u payment-monitor \\
  env MONITORING_STATE_DIR=/var/lib/payment-api-monitoring .venv/bin/python health_check.py --alerts
```

A `--single-run` counts as a cycle and tells people what it finds; with `--no-alerts` it only
looks. Running beside an exporter or a timer is safe: whoever comes second waits a moment.

## Silences

Each page ends with two: one for the scripts' own messages, one for Alertmanager. Both are for one
alert of the page; for another put its name (`alertname`; as `metric` in small letters with
underscores). `amtool silence query` and `amtool silence expire ID` show and end what is in force.

## The pages

| Alert | Page |
|---|---|
"""


def alert_name(metric: str) -> str:
    """As model.AlertKey spells it."""
    return "PaymentApi" + "".join(word.capitalize() for word in metric.split("_"))


def leads() -> Iterator[tuple[str, str]]:
    """(page, alert that leads to it), the same pair perhaps twice."""
    for threshold in THRESHOLDS.values():
        yield threshold.runbook, f"`{alert_name(threshold.key)}`"
    for component in (*COMPONENTS, ""):
        yield advice.for_component(component).runbook, f"`{alert_name('health_status')}`"
    yield advice.for_blindness().runbook, f"`{alert_name('monitoring_blind')}`"
    for reason in advice_findings.FINDINGS:
        yield advice.for_finding(reason).runbook, f"`{alert_name(reason)}`"
    for _, rules in sorted(build.groups_of_rules(build.defaults({})).items()):
        for rule in rules:
            yield rule.runbook, f"`{rule.alert}`"
    for pattern, texts in advice_findings.FAMILIES:
        yield texts[2], f"findings `{pattern}`"


def files() -> dict[str, str]:
    """Path below docs/runbooks -> content."""
    told: dict[str, dict[str, None]] = {}
    for page, alert in leads():
        told.setdefault(page, {})[alert] = None
    made, rows = {}, []
    for page in sorted(told):
        path = PAGES / f"{page}.md"
        text = path.read_text(encoding="utf-8")
        line = ", ".join(told[page])
        made[path.name] = _ALERTS.sub(f"Alerts: {line}", text, count=1)
        rows.append(f"| {line} | [{text.splitlines()[0][2:]}]({page}.md) |\n")
    made["README.md"] = INDEX_HEAD + "".join(rows)
    return made


def main() -> int:
    """0 done (or, with --check, nothing to do), 1 pages differ."""
    changed = [
        name
        for name, content in files().items()
        if not (PAGES / name).exists() or (PAGES / name).read_text(encoding="utf-8") != content
    ]
    checking = "--check" in sys.argv[1:]
    for name in changed:
        sys.stdout.write(f"{'differs' if checking else 'written'}: {name}\n")
        if not checking:
            (PAGES / name).write_text(files()[name], encoding="utf-8")
    return int(checking and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
