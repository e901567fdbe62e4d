"""What dashboards are made of: queries that only name what is exported, and panels with limits.

`Query` looks each metric up in the catalogue, so that no panel can draw what no script exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import (
    common as common_models,
    dashboard as models,
    prometheus as prometheus_models,
)

from monitoring.catalog import METRICS, THRESHOLDS
from monitoring.config.settings import Limit

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: Every query is about the environments chosen; `.*` also where there is no such label.
ENVIRONMENT = 'environment=~"$environment"'
GREEN, AMBER, RED = "green", "orange", "red"


def series(name: str, suffix: str = "", **matchers: str) -> str:
    """A selector of a catalogued metric: `series("response_time_ms", component="redis-cache")`.
    A matcher is equality, or a pattern where it starts with `~`. Raises KeyError for a metric,
    ValueError for a label that the catalogue does not have."""
    metric = METRICS[f"payment_api_{name}"]
    unknown = set(matchers) - set(metric.labels)
    if unknown:
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
    parts = [ENVIRONMENT, *(_matcher(label, text) for label, text in matchers.items())]
    return f"{metric.name}{suffix}{{{','.join(parts)}}}"


def _matcher(label: str, text: str) -> str:
    return f'{label}=~"{text[1:]}"' if text.startswith("~") else f'{label}="{text}"'


#: What a rate looks back on: four cycles of the slowest script. Counters move once a cycle, so over
#: less a rate reads 0 most of the time and too much in the rest.
WINDOW = "${window}s"
#: Seconds, asked for when a dashboard is opened; 20 minutes where no script says its interval.
WINDOW_QUERY = (
    f"query_result(clamp_min(max(4 * {series('cycle_interval_seconds')}) or vector(1200), 300))"
)
WINDOW_REGEX = r"/ (\d+)/"  # of `{} 1200 1764201600000`


def per_second(name: str, *by: str, **matchers: str) -> str:
    """The rate of a counter, summed by labels; raises ValueError for what is no counter."""
    if METRICS[f"payment_api_{name}"].kind != "counter":
        raise ValueError(f"{name} is no counter")
    return _summed(name, f"rate({series(name, **matchers)}[{WINDOW}])", by)


def total(name: str, *by: str, **matchers: str) -> str:
    """A gauge, summed by labels."""
    return _summed(name, series(name, **matchers), by)


def _summed(name: str, expr: str, by: Sequence[str]) -> str:
    """One port may serve what another script serves on its own: a thing counts once, however many
    targets tell of it."""
    own = ", ".join(("environment", *METRICS[f"payment_api_{name}"].labels))
    once = f"(max by ({own}) ({expr}))"
    return f"sum by ({', '.join(by)}) {once}" if by else f"sum{once}"


@dataclass(frozen=True)
class Panel:
    """`queries` are (expression, legend). `why` says what is seen and when to worry. `limits`
    names a threshold of the configuration that is drawn; `runbook` a page of docs/runbooks."""

    title: str
    why: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    limits: str = ""
    runbook: str = ""
    steps: Sequence[tuple[Optional[float], str]] = ()
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # value -> (text, colour)
    low: Optional[float] = None
    high: Optional[float] = None
    stacked: bool = False
    figure: str = ""  # of a table: heading of its figures; empty: they say nothing (always 1)
    decimals: Optional[int] = None
    empty: str = ""  # what is said where there is nothing to draw


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[tuple[str, str, str]] = ()  # name, label, query


UP_DOWN = {"0": ("down", RED), "1": ("up", GREEN)}
YES_NO = {"0": ("accepted!", RED), "1": ("refused", GREEN)}


def built(panel: Panel, limits: Mapping[str, Limit], runbooks: str) -> Any:
    """The panel as the SDK's builder."""
    made = _KINDS[panel.kind]()
    made.title(panel.title).description(_description(panel, runbooks)).datasource(SOURCE)
    made.unit(panel.unit).span(panel.width).height(panel.height)
    if panel.low is not None:
        made.min(panel.low)
    if panel.high is not None:
        made.max(panel.high)
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    if panel.texts:
        made.mappings([_mapping(panel.texts)])
    made.no_value(panel.empty or "no data: see Scripts on the health dashboard")
    if links := _data_links(panel, runbooks):
        made.data_links(links)
    steps = panel.steps or _steps(panel.limits, limits)
    made.thresholds(_thresholds(steps or [(None, GREEN)]))
    if panel.kind == "timeseries":
        _drawn(made, panel, bool(steps))
    if panel.kind == "table":
        made.with_transformation(_columns(panel.figure))
    for number, (expr, legend) in enumerate(panel.queries):
        made.with_target(_query(expr, legend, number, panel.kind))
    return made


_CLIENT = "/d/payment-api-auth?var-client=${__field.labels.client_id}&${environment:queryparam}"


def _data_links(panel: Panel, runbooks: str) -> list[dashboard.DashboardLink]:
    """From a client's line to all that is known of it, from an alert to its page."""
    found = []
    if any(legend == "{{client_id}}" for _, legend in panel.queries):
        found.append(("All of this client", _CLIENT))
    elif panel.kind == "table" and any("client_id" in expr for expr, _ in panel.queries):
        row = _CLIENT.replace("__field.labels", "__data.fields")
        found.append(("All of this client", row))
    if runbooks and any("alertname" in expr for expr, _ in panel.queries):
        found.append(("What to do", f"{runbooks}/README.md#:~:text=${{__data.fields.alertname}}"))
    kind = models.DashboardLinkType.LINK
    return [dashboard.DashboardLink(title).type(kind).url(url) for title, url in found]


def _description(panel: Panel, runbooks: str) -> str:
    """What is seen, and where to read on if it is known where docs/runbooks can be read."""
    known = runbooks and panel.runbook
    page = f"\n\n[What to do]({runbooks}/{panel.runbook}.md)" if known else ""
    return panel.why + page


def _query(expr: str, legend: str, number: int, kind: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).ref_id("ABCDEFGHIJ"[number]).datasource(SOURCE)
    query.legend_format(legend or "__auto")
    if kind == "table":
        return query.instant().format(prometheus_models.PromQueryFormat.TABLE)
    if kind in ("stat", "bargauge"):
        return query.instant()
    return query.range()


def _steps(name: str, limits: Mapping[str, Limit]) -> list[tuple[Optional[float], str]]:
    """The colours of a threshold of the configuration, in the metric's unit."""
    if not name:
        return []
    threshold, limit = THRESHOLDS[name], limits[name]
    warning, critical = (
        None if number is None else round(number * threshold.scale, 9)
        for number in (limit.warning, limit.critical)
    )
    if threshold.worse == "lower":
        ladder = [(None, RED), (critical, AMBER), (warning, GREEN)]
        return ladder if critical is not None else [(None, AMBER), (warning, GREEN)]
    return [(None, GREEN)] + [(n, c) for n, c in ((warning, AMBER), (critical, RED)) if n]


def _thresholds(steps: Sequence[tuple[Optional[float], str]]) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _mapping(texts: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    options = {
        value: models.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(texts.items())
    }
    return models.ValueMap(options=options)


def _columns(figure: str) -> models.DataTransformerConfig:
    """Without the time of the query, which is the same in each row."""
    hidden = {"Time": True} if figure else {"Time": True, "Value": True}
    options = {"excludeByName": hidden, "renameByName": {"Value": figure} if figure else {}}
    return models.DataTransformerConfig(id_val="organize", options=options)


def _drawn(made: Any, panel: Panel, limited: bool) -> None:
    made.fill_opacity(10).line_width(1).show_points(common_models.VisibilityMode.NEVER)
    made.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    if panel.stacked:
        made.fill_opacity(40)
        made.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if limited:
        style = common_models.GraphThresholdsStyleMode.DASHED
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(style))


def _stat() -> Any:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    made = stat.Panel().reduce_options(reduce)
    return made.color_mode(common_models.BigValueColorMode.BACKGROUND)


def _bars() -> Any:
    made = bargauge.Panel().orientation(common_models.VizOrientation.HORIZONTAL)
    return made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


_KINDS: Mapping[str, Callable[[], Any]] = {
    "timeseries": timeseries.Panel,
    "stat": _stat,
    "bargauge": _bars,
    "table": table.Panel,
    "timeline": statetimeline.Panel,
}


_FIRES = f'ALERTS{{alertname=~"PaymentApi.+",alertstate="firing",{ENVIRONMENT}}}'
_SAME = "alertname, severity, component, client"
_CAUSE = f"max by (environment, component, error) ({series('component_error')})"
_EXPLAINED = f"({_FIRES} * on (environment, component) group_left (error) {_CAUSE})"
_WHAT_FIRES = f"max by ({_SAME}, error) {_EXPLAINED} or on ({_SAME}) max by ({_SAME}) ({_FIRES})"
#: What fires, with the cause where the component's error is known.
FIRING = Row(
    "What fires",
    [
        Panel(
            "What fires now, and why",
            "Alerts of the shipped rules. `error` is why the component is not well.",
            [(_WHAT_FIRES, "")],
            kind="table",
            width=24,
            height=6,
            empty="no firing alert is recorded",
        )
    ],
)
