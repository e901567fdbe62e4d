"""Writes dashboards/*.json: `python -m deploy.grafana.build [--check] [--runbooks URL]`.

Needs grafana-foundation-sdk (requirements-dev.txt). Limits drawn are those of your configuration.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana import authentication, health, security
from deploy.grafana.kit import (
    ENVIRONMENT,
    FIRING,
    SOURCE,
    WINDOW_QUERY,
    WINDOW_REGEX,
    Board,
    built,
    series,
)
from deploy.prometheus.build import defaults
from monitoring.config.settings import Limit, Settings

HERE = Path(__file__).resolve().parent
BOARDS = (security.BOARD, health.BOARD, authentication.BOARD)
TAG = "payment-api"


def files(settings: Settings, runbooks: str = "") -> dict[str, str]:
    """Path below deploy/grafana -> content."""
    pages = (runbooks or settings.alerts.runbooks).rstrip("/")
    return {
        f"dashboards/{board.uid}.json": _json(board, settings.thresholds, pages) for board in BOARDS
    }


def _json(board: Board, limits: Mapping[str, Limit], runbooks: str) -> str:
    made = _dashboard(board, runbooks)
    numbers = itertools.count(1)
    for row in (FIRING, *board.rows):
        made.with_row(builders.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            made.with_panel(built(panel, limits, runbooks).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _dashboard(board: Board, runbooks: str) -> builders.Dashboard:
    made = builders.Dashboard(board.title).uid(board.uid).description(board.about)
    made.tags([TAG]).timezone("browser").refresh("30s").time("now-6h", "now").readonly()
    made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.with_variable(builders.DatasourceVariable("datasource").label("Data").type("prometheus"))
    environments = "label_values(payment_api_build_info, environment)"
    for name, label, query in (("environment", "Environment", environments), *board.variables):
        made.with_variable(_variable(name, label, query))
    made.with_variable(_window())
    for link in _links(board, runbooks):
        made.link(link)
    return made.annotation(_alerts()).annotation(_rotations())


def _variable(name: str, label: str, query: str) -> builders.QueryVariable:
    made = builders.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made.multi(True).include_all(True).all_value(".*")
    made.current(models.VariableOption(text="All", value="$__all"))
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.sort(models.VariableSort.ALPHABETICAL_ASC)


def _window() -> builders.QueryVariable:
    """What rates look back on; nobody has to choose it."""
    made = builders.QueryVariable("window").query(WINDOW_QUERY).regex(WINDOW_REGEX)
    made.datasource(SOURCE).hide(models.VariableHide.HIDE_VARIABLE)
    made.current(models.VariableOption(text="1200", value="1200"))
    return made.refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)


def _links(board: Board, runbooks: str) -> list[builders.DashboardLink]:
    """To the other two dashboards, keeping time and variables, and to the runbooks if it is known
    where they can be read."""
    made = []
    for other in BOARDS:
        if other.uid != board.uid:
            link = builders.DashboardLink(other.title.partition(": ")[2])
            link.type(models.DashboardLinkType.LINK).url(f"/d/{other.uid}").icon("dashboard")
            made.append(link.keep_time(True).include_vars(True))
    if runbooks:
        pages = builders.DashboardLink("Runbooks").type(models.DashboardLinkType.LINK)
        made.append(pages.url(runbooks).icon("doc").target_blank(True))
    return made


def _alerts() -> builders.AnnotationQuery:
    """Firing alerts of Prometheus as red marks on every panel."""
    expr = f'ALERTS{{alertname=~"PaymentApi.*",alertstate="firing",{ENVIRONMENT}}}'
    made = builders.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True)
    return made.expr(expr).icon_color("red")


def _rotations() -> builders.AnnotationQuery:
    """Rotations as blue marks, where each begins."""
    runs = f"{series('credential_rotation_state', state='~initiated|dual_active')} == 1"
    before = runs.replace("}", "} offset 5m")
    by = "max by (environment, client_id)"
    began = f"{by} ({runs}) unless {by} ({before})"
    made = builders.AnnotationQuery().name("Rotations").datasource(SOURCE).enable(True)
    return made.expr(began).icon_color("blue")


def main() -> int:
    """0 done (or, with --check, nothing to do), 1 files differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="say what differs, write nothing")
    options.add_argument("--runbooks", default="", help="base URL of docs/runbooks")
    options.add_argument("--config", default="", help="as the scripts' --config")
    args = options.parse_args()
    made = files(defaults(os.environ, args.config), args.runbooks)
    kept = {path: (HERE / path).read_text() if (HERE / path).exists() else "" for path in made}
    changed = [path for path, content in made.items() if kept[path] != content]
    for path in changed:
        sys.stdout.write(f"{'differs' if args.check else 'written'}: {path}\n")
        if not args.check:
            (HERE / path).write_text(made[path], encoding="utf-8")
    return int(args.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
