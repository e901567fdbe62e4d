"""Writes rules/*.yml and tests/*.yml: `python -m deploy.prometheus.build [--check]`.

The same rules go to ../kubernetes/base/prometheusrule.yml, for the Prometheus Operator.
Thresholds and intervals are those of your configuration (config.py and the rest), so build anew
after changing them; `--runbooks URL` (else ALERTS["runbooks"]) says where docs/runbooks can be
read, and without it no alert has a link to a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus import availability, monitor, recording, security, thresholds
from deploy.prometheus.proofs import promtool_tests
from deploy.prometheus.rule import Rule, held
from monitoring.config import load as configuration
from monitoring.config.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MADE = "# Made by `python -m deploy.prometheus.build` from the metric catalogue and config.py.\n"
OPERATOR = "../kubernetes/base/prometheusrule.yml"
_FOR_OPERATOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PrometheusRule",
    "metadata": {
        "name": "payment-api-monitoring",
        "labels": {"app.kubernetes.io/name": "payment-api-monitoring"},
    },
}


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, no anchors, as people write YAML."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ARG002
        return super().increase_indent(flow, False)


def groups_of_rules(settings: Settings) -> Mapping[str, Sequence[Rule]]:
    """File name (without .yml) -> its alert rules."""
    run = settings.run
    watched = {
        "thresholds": tuple(thresholds.rules(settings.thresholds)),
        "availability": tuple(availability.rules()),
        "error-budgets": tuple(availability.burns()),
        "security": tuple(security.rules()),
    }
    unwatched = monitor.unwatched(rule for rules in watched.values() for rule in rules)
    ours = monitor.rules(run.intervals, run.cron_interval, run.cycle_deadline)
    return {**watched, "monitor": (*ours, *unwatched)}


def as_dict(rule: Rule, runbooks: str, dashboards: str) -> dict[str, Any]:
    """The rule as Prometheus reads it. `runbooks` and `dashboards` are base URLs; an empty one: no
    link, since a path alone leads nowhere from a message."""
    whole = rule.hold == int(rule.hold)
    minutes = f"{rule.hold:.0f}m" if whole else f"{rule.hold * 60:.0f}s"
    hold = {"for": minutes} if rule.hold else {}
    # What is told does not end for one good cycle, as in the scripts: an end and a new beginning
    # would be two messages more; the third minute is for the scripts' word that it flaps. Longer
    # than their own `resolve_after` it may not last: what is over ends within five minutes.
    keep = {"keep_firing_for": "3m"} if rule.series else {}
    links = {}
    if runbooks:
        links["runbook_url"] = f"{runbooks.rstrip('/')}/{rule.runbook}.md"
    if dashboards:
        links["dashboard"] = f"{dashboards.rstrip('/')}/{rule.dashboard}"
    return {
        "alert": rule.alert,
        "expr": held(rule),
        **hold,
        **keep,
        "labels": rule.all_labels(),
        "annotations": {
            "summary": rule.summary,
            "description": f"{rule.meaning} First: {rule.action}",
            **links,
        },
    }


def files(settings: Settings, runbooks: str = "") -> dict[str, str]:
    """Path below deploy/prometheus -> content."""
    runbooks = runbooks or settings.alerts.runbooks
    made: dict[str, Any] = {"rules/recording.yml": {"groups": recording.groups()}}
    for name, rules in groups_of_rules(settings).items():
        dicts = [as_dict(rule, runbooks, settings.alerts.dashboards) for rule in rules]
        made[f"rules/{name}.yml"] = {"groups": [{"name": f"payment-api-{name}", "rules": dicts}]}
        made[f"tests/{name}.yml"] = promtool_tests(name, list(zip(rules, dicts)))
    groups = [g for path in made if path.startswith("rules/") for g in made[path]["groups"]]
    made[OPERATOR] = {**_FOR_OPERATOR, "spec": {"groups": groups}}
    return {path: MADE + _yaml(content) for path, content in made.items()}


def _yaml(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def defaults(environ: Mapping[str, str], config_file: str = "") -> Settings:
    """The effective settings, as the scripts would have them."""
    return configuration.load(
        script="health_check",
        root=ROOT,
        config_file=config_file or None,
        environ=environ,
        cwd=ROOT,
    )


def differences(made: Mapping[str, str]) -> Iterable[str]:
    """Files that are not what they would be if built now."""
    for path, content in made.items():
        kept = HERE / path
        if not kept.exists() or kept.read_text(encoding="utf-8") != content:
            yield path


def main() -> int:
    """0 done (or, with --check, nothing to do), 1 files differ."""
    import os

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="say what differs, write nothing")
    options.add_argument("--runbooks", default="", help="base URL of docs/runbooks")
    options.add_argument("--config", default="", help="as the scripts' --config")
    args = options.parse_args()
    made = files(defaults(os.environ, args.config), args.runbooks)
    changed = list(differences(made))
    for path in changed:
        sys.stdout.write(f"{'differs' if args.check else 'written'}: {path}\n")
        if not args.check:
            (HERE / path).write_text(made[path], encoding="utf-8")
    return int(args.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
