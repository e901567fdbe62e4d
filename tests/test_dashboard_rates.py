"""What the panels draw of a counter that moves once in a cycle, asked of a real Prometheus.

Each panel with a rate is drawn of counters that move with each scrape (the truth), and of the same
ones as a script exports them: at the default intervals, at longer and at shorter ones. What a rate
looks back on is asked for as Grafana does it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from monitoring.catalog import METRICS
from sandbox import observers
from tests.deploying import DEPLOY

SCRAPE, SPAN, PER_SECOND = 30, 300 * 60, 0.4
SHOWN = 120 * 60  # seconds that are drawn, the newest
#: Seconds between cycles -> the window of rates that the dashboards choose.
WINDOWS = {60: 300, 300: 1200, 1800: 7200}
_SERIES = re.compile(r"(payment_api_\w+)\{([^}]*)\}\[")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(
        not observers.find("prometheus") or not observers.find("promtool"),
        reason="prometheus is not installed (apt: prometheus)",
    ),
]


def drawn() -> Mapping[str, list[str]]:
    """Panel -> its queries that look at a rate. Of a histogram the shares matter, not the time."""
    found = {}
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            asked = [target["expr"] for target in panel.get("targets", [])]
            rates = [expr for expr in asked if "rate(" in expr and "_bucket" not in expr]
            if rates:
                found[panel["title"]] = rates
    return found


def labels_of(name: str, matchers: str) -> tuple[tuple[str, str], ...]:
    """A series that the selector finds, its environment apart."""
    made = dict.fromkeys(METRICS[name].labels, "x")
    for label, how, text in _MATCHER.findall(matchers):
        if not text.startswith("$") and text != ".*":
            made[label] = text.split("|")[0] if how == "=~" else text
    made.pop("environment", None)
    return tuple(sorted(made.items()))


def exported(end: int) -> Iterator[str]:
    """Every counter that a panel asks for, as OpenMetrics with times."""
    wanted: Mapping[str, set[Any]] = {}
    for exprs in drawn().values():
        for name, matchers in _SERIES.findall(" ".join(exprs)):
            wanted = {**wanted, name: {*wanted.get(name, ()), labels_of(name, matchers)}}
    for name, series in sorted(wanted.items()):
        yield f"# TYPE {name[: -len('_total')]} counter"
        for labels in sorted(series):
            for environment, step in (("true", SCRAPE), *((f"every-{c}", c) for c in WINDOWS)):
                text = ",".join(f'{k}="{v}"' for k, v in (("environment", environment), *labels))
                for at in range(0, SPAN + 1, SCRAPE):
                    yield f"{name}{{{text}}} {at // step * step * PER_SECOND} {end - SPAN + at}"
    yield "# TYPE payment_api_cycle_interval_seconds gauge"
    for cycle in WINDOWS:
        labels = f'environment="every-{cycle}",script="token_usage_metrics"'
        for at in range(0, SPAN + 1, SCRAPE):
            yield f"payment_api_cycle_interval_seconds{{{labels}}} {cycle} {end - SPAN + at}"
    yield "# EOF"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, int]]:
    folder, end = tmp_path_factory.mktemp("rates"), int(time.time()) // 60 * 60 - 3600
    (folder / "counters.om").write_text("\n".join(exported(end)) + "\n")
    tool = shutil.which("promtool") or observers.find("promtool")
    words = [str(tool), "tsdb", "create-blocks-from", "openmetrics", "counters.om", "blocks"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    server = observers.Prometheus(folder / "run", [], blocks=folder / "blocks")
    try:
        yield server, end
    finally:
        server.stop()


def window(server: Any, environment: str, end: int) -> int:
    """As Grafana fills the variable: the query, its answer as text, and the first match in it."""
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "payment-api-auth.json").read_text())
    (variable,) = [v for v in board["templating"]["list"] if v["name"] == "window"]
    asked = re.fullmatch(r"query_result\((.*)\)", variable["query"])
    assert asked
    expr = asked[1].replace("$environment", environment)
    (sample,) = server.ask("query", query=expr, time=str(end))["result"]
    found = re.search(variable["regex"].strip("/"), f"{{}} {sample['value'][1]} {end}000")
    assert found
    return int(found[1])


def values(server: Any, expr: str, environment: str, around: tuple[int, int]) -> list[float]:
    width, end = around
    for variable, text in {
        "$environment": environment, "$client": ".*", "${window}": str(width)
    }.items():  # fmt: skip
        expr = expr.replace(variable, text)
    found = server.ask("query_range", query=expr, start=str(end - SHOWN), end=str(end), step="30")
    return [float(value) for series in found["result"] for _, value in series["values"]]


@pytest.mark.parametrize("cycle", WINDOWS)
def test_rates_look_back_on_some_cycles(cycle: int, prometheus: tuple[Any, int]) -> None:
    assert window(prometheus[0], f"every-{cycle}", prometheus[1]) == WINDOWS[cycle]
    assert window(prometheus[0], "of-an-older-exporter", prometheus[1]) == 1200


@pytest.mark.parametrize("cycle", WINDOWS)
@pytest.mark.parametrize("title", sorted(drawn()))
def test_a_rate_is_right_between_two_cycles(
    title: str, cycle: int, prometheus: tuple[Any, int]
) -> None:
    server, end = prometheus
    around = window(server, f"every-{cycle}", end), end
    for expr in drawn()[title]:
        truth, shown = (values(server, expr, name, around) for name in ("true", f"every-{cycle}"))
        assert truth, expr
        assert len(truth) == len(shown), expr
        near = [abs(a - b) <= 0.25 * abs(a) for a, b in zip(truth, shown)]
        assert sum(near) >= 0.9 * len(near), (expr, truth[:3], shown[:20])


def test_the_panels_of_counters_are_held() -> None:
    names = {"Minted and validated", "Logins by client", "Logins per second",
             "Failure rate by client", "Failures by reason"}  # fmt: skip
    assert names <= set(drawn())
