"""Present: the report as one self-contained HTML file, with its charts."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

from monitoring.analyze import wording
from monitoring.analyze.analysis import Analysis, ClientUse, Figure
from monitoring.output.pages import page
from monitoring.text import redact, say

# -- where a time axis has its marks: local midnights, whole hours, or whole minutes.

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 3, 7, 14, 28, 91, 364)),
)


def marks(start: float, end: float, zone: dt.tzinfo, most: int = 7) -> list[tuple[float, str]]:
    """(share of the way from start to end, text) of at most `most` marks."""
    seconds = end - start
    step = next((s for s in _STEPS if seconds / s <= most), _STEPS[-1])
    form = "%d %b" if step >= _DAY else "%H:%M"
    if step < _DAY < seconds:
        form = "%a %H:%M"
    return [
        ((at - start) / seconds, dt.datetime.fromtimestamp(at, zone).strftime(form))
        for at in _moments(start, end, zone, step)
    ]


def _moments(start: float, end: float, zone: dt.tzinfo, step: int) -> Iterator[float]:
    """Moments on the wall clock: counted from local midnight, so that they stay round when
    summer time begins or ends."""
    first = dt.datetime.fromtimestamp(start, zone).replace(hour=0, minute=0, second=0)
    wall = first.replace(microsecond=0, tzinfo=None)
    while True:
        at = wall.replace(tzinfo=zone).timestamp()
        if at >= end:
            return
        if at >= start:
            yield at
        wall += dt.timedelta(seconds=step)


# -- charts: where everything stands; the drawing is in output/templates/chart.html.
# Gaps stay gaps. Every chart carries a title for screen readers and a tooltip per step.

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 78, 16, 12, 26
FLOOR = HEIGHT - BOTTOM

Label = Callable[[float], str]
Place = tuple[float, float]


@dataclass(frozen=True)
class Beside:
    """What a chart shows beside its line: the same time before (as many steps), a target, and
    (share of the width, sentence) of what was out of habit."""

    before: Sequence[Optional[float]] = ()
    target: Optional[float] = None
    anomalies: Sequence[tuple[float, str]] = ()


class Run(NamedTuple):
    """An unbroken stretch of known steps: a line with the area below it, or a lone dot at x, y."""

    x: float
    y: float
    path: str
    area: str


@dataclass(frozen=True)
class Chart:
    """What chart.html draws. Each pair is (place, text); places are in the units of WIDTH and
    HEIGHT. `target` is the height of its line, None without one."""

    title: str
    grid: Sequence[tuple[float, str]]
    times: Sequence[tuple[float, str]]
    before: Sequence[str]
    target: Optional[float]
    runs: Sequence[Run]
    step: float
    steps: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    floor: int = FLOOR


def line(
    title: str,
    steps: Sequence[Optional[float]],
    labels: Sequence[tuple[float, str]],
    *,
    ceiling: Optional[float] = None,
    value_label: Label,
    tooltip: Callable[[int, float], str],
    beside: Beside = Beside(),
) -> Optional[Chart]:
    """A line over time; None when no step is known. `labels` are (share of the width, text) for
    the time axis; `ceiling` is what the figure cannot exceed; `tooltip(index, value)` is what a
    step says when pointed at; `beside` what is drawn with it."""
    known = [value for value in steps if value is not None]
    if not known:
        return None
    around = [*known, *(v for v in (*beside.before, beside.target) if v is not None)]
    ticks = _told_apart(min(around), max(around), ceiling, value_label)
    step = (WIDTH - LEFT - RIGHT) / len(steps)

    def height(value: float) -> float:
        share = (ticks[-1] - value) / (ticks[-1] - ticks[0])
        return round(TOP + share * (FLOOR - TOP), 1)

    def places(run: Sequence[tuple[int, float]]) -> list[Place]:
        return [(round(LEFT + (i + 0.5) * step, 1), height(value)) for i, value in run]

    return Chart(
        title,
        grid=[(height(tick), value_label(tick)) for tick in ticks],
        times=[(_along(share), text) for share, text in labels],
        before=[_path(places(run)) for run in _runs(beside.before)],
        target=None if beside.target is None else height(beside.target),
        runs=[_run(places(run)) for run in _runs(steps)],
        step=round(step, 1),
        steps=[
            (round(LEFT + i * step, 1), tooltip(i, value))
            for i, value in enumerate(steps)
            if value is not None
        ],
        marks=[(_along(share), sentence) for share, sentence in beside.anomalies],
    )


def _along(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _told_apart(low: float, high: float, ceiling: Optional[float], label: Label) -> list[float]:
    """The ticks of an axis, of a wider one where two would have the same label."""
    ticks = scale(low, high, ceiling=ceiling)
    for _ in range(40):
        if len({*map(label, ticks)}) == len(ticks):
            break
        wider = ticks[-1] - ticks[0]
        low = max(0.0, low - wider) if low >= 0 else low - wider
        high = high + wider if ceiling is None else min(ceiling, high + wider)
        ticks = scale(low, high, ceiling=ceiling)
    return ticks


def scale(
    low: float, high: float, most: int = 5, *, ceiling: Optional[float] = None
) -> list[float]:
    """Round tick values around low..high, at least two, none above `ceiling`; from zero unless
    that hides the shape."""
    if low >= 0 and low < 0.7 * high:
        low = 0.0
    if high - low <= 1e-6 * abs(high):  # flat, but for rounding
        low, high = low - abs(low) * 0.05, high + (abs(high) * 0.05 or 1.0)
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]
    top = math.inf if ceiling is None else ceiling + 1e-9
    return [tick for tick in ticks if tick <= top or tick in ticks[:2]]


def _runs(steps: Sequence[Optional[float]]) -> list[list[tuple[int, float]]]:
    """Unbroken stretches of known steps."""
    runs: list[list[tuple[int, float]]] = []
    before = -2
    for index, value in enumerate(steps):
        if value is None:
            continue
        if index != before + 1:
            runs.append([])
        runs[-1].append((index, value))
        before = index
    return runs


def _path(places: Sequence[Place]) -> str:
    return "M" + "L".join(f"{x},{y}" for x, y in places)


def _run(places: Sequence[Place]) -> Run:
    (first, y), last = places[0], places[-1][0]
    path = _path(places)
    return Run(first, y, path, f"{path}L{last},{FLOOR}L{first},{FLOOR}Z" if places[1:] else "")


# -- the report as one self-contained HTML file: no script, no network, phone and paper.


def render(analysis: Analysis) -> str:
    verdict, *rest = wording.summary(analysis)
    text = page(
        "report.html",
        head=wording.title(analysis),
        period=wording.period(analysis),
        made_by=wording.made_by(analysis),
        tone={True: "good", False: "bad", None: "soft"}[analysis.meets_target],
        verdict=verdict,
        rest=rest,
        figures=[_figure(figure, analysis) for figure in analysis.figures],
        clients=[_client(use) for use in analysis.clients],
        movements=wording.movements(analysis),
        anomalies=[_anomaly(found, analysis) for found in analysis.anomalies],
        anomaly_note=analysis.anomaly_note,
    )
    return redact(text)


def _figure(figure: Figure, analysis: Analysis) -> dict[str, Any]:
    step = (analysis.end - analysis.start) / len(figure.steps)
    beside = _beside(figure, analysis)

    def tooltip(index: int, value: float) -> str:
        when = wording.moment(analysis.start + (index + 0.5) * step, analysis.zone)
        return f"{when}: {wording.number(value, figure.unit)}"

    chart = line(
        f"{figure.title} over time",
        figure.steps,
        marks(analysis.start, analysis.end, wording.zone_of(analysis.zone)),
        ceiling=1.0 if figure.unit == "ratio" else None,
        value_label=lambda value: wording.tick(value, figure.unit),
        tooltip=tooltip,
        beside=beside,
    )
    return {
        "title": figure.title,
        "unit": figure.unit,
        "chart": chart,
        "legend": _legend(beside, analysis),
        "facts": wording.facts(figure, analysis),
    }


def _beside(figure: Figure, analysis: Analysis) -> Beside:
    seconds = analysis.end - analysis.start
    found = [
        ((one.at - analysis.start) / seconds, one.sentence)
        for one in analysis.anomalies
        if one.metric == figure.metric and analysis.start <= one.at <= analysis.end
    ]
    is_target = figure.metric == "payment_api_token_validation_success_ratio"
    return Beside(figure.before, analysis.success_target if is_target else None, found)


def _legend(beside: Beside, analysis: Analysis) -> str:
    """What the chart shows beside its line."""
    span = say(analysis.end - analysis.start)
    said = [f"thin: the {span} before"] if any(v is not None for v in beside.before) else []
    if beside.target is not None:
        said.append(f"dashed: the target of {wording.number(beside.target, 'ratio')}")
    said += ["triangle: out of habit"] if beside.anomalies else []
    return "; ".join(said)


def _client(use: ClientUse) -> dict[str, str]:
    return {
        "name": wording.names((use.client,)),
        "tokens": wording.number(round(use.tokens)),
        "share": wording.number(use.share, "ratio"),
        "width": f"{use.share * 100:.1f}",
    }


def _anomaly(found: Any, analysis: Analysis) -> dict[str, str]:
    when = wording.moment(found.at, analysis.zone)
    return {"when": when, "severity": str(found.severity), "sentence": found.sentence}
