"""Present: the report as one self-contained HTML file, with its charts."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Callable, Optional

from monitoring.analyze import wording
from monitoring.analyze.analysis import Analysis, Figure
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


# -- charts as inline SVG, drawn with the page's colours so that dark, light and print work.
# Gaps stay gaps. Every chart carries a title for screen readers and a tooltip per step.

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 78, 16, 12, 26

Label = Callable[[float], str]


@dataclass(frozen=True)
class Beside:
    """What a chart shows beside its line: the same time before (as many steps), a target, and
    (share of the width, sentence) of what was out of habit."""

    before: Sequence[Optional[float]] = ()
    target: Optional[float] = None
    anomalies: Sequence[tuple[float, str]] = ()


def line(
    title: str,
    steps: Sequence[Optional[float]],
    labels: Sequence[tuple[float, str]],
    *,
    ceiling: Optional[float] = None,
    value_label: Label,
    tooltip: Callable[[int, float], str],
    beside: Beside = Beside(),
) -> str:
    """A line over time. `labels` are (share of the width, text) for the time axis; `ceiling` is
    what the figure cannot exceed; `tooltip(index, value)` is what a step says when pointed at;
    `beside` what is drawn with it."""
    known = [value for value in steps if value is not None]
    if not known:
        return "<p>Nobody looked in this time.</p>"
    around = [*known, *(v for v in (*beside.before, beside.target) if v is not None)]
    ticks = scale(min(around), max(around), ceiling=ceiling)
    low, high = ticks[0], ticks[-1]

    def place(index: int, value: float) -> tuple[float, float]:
        x = LEFT + (index + 0.5) / len(steps) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [_grid(ticks, value_label), _time_axis(labels)]
    for run in _runs(beside.before):
        points = "L".join(f"{x},{y}" for x, y in (place(index, value) for index, value in run))
        parts.append(f'<path class="before" d="M{points}"/>')
    if beside.target is not None:
        y = place(0, beside.target)[1]
        parts.append(f'<line class="target" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    for run in _runs(steps):
        parts.append(_run([place(index, value) for index, value in run]))
    step = (WIDTH - LEFT - RIGHT) / len(steps)
    parts += [
        f'<rect class="hit" x="{place(i, v)[0] - step / 2:.1f}" y="{TOP}" width="{step:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(tooltip(i, v))}</title></rect>'
        for i, v in enumerate(steps)
        if v is not None
    ]
    parts += [_mark(share, sentence) for share, sentence in beside.anomalies]
    return _frame(title, parts)


def _mark(share: float, sentence: str) -> str:
    """A triangle on the time axis, which says what was out of habit when pointed at."""
    x, y = LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM
    return (
        f'<path class="mark" d="M{x:.1f},{y - 14}l7,13h-14Z"><title>{escape(sentence)}</title>'
        "</path>"
    )


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


def _run(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        return f'<circle class="dot" cx="{points[0][0]}" cy="{points[0][1]}" r="2.5"/>'
    path = "M" + "L".join(f"{x},{y}" for x, y in points)
    floor = HEIGHT - BOTTOM
    area = f"{path}L{points[-1][0]},{floor}L{points[0][0]},{floor}Z"
    return f'<path class="area" d="{area}"/><path class="line" d="{path}"/>'


def _grid(ticks: Sequence[float], value_label: Label) -> str:
    low, high = ticks[0], ticks[-1]
    rows = []
    for tick in ticks:
        y = TOP + (high - tick) / (high - low) * (HEIGHT - TOP - BOTTOM)
        rows.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(value_label(tick))}</text>"
        )
    return "".join(rows)


def _time_axis(labels: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<text class="axis{" even" if index % 2 else ""}" text-anchor="middle" '
        f'x="{LEFT + share * (WIDTH - LEFT - RIGHT):.1f}" y="{HEIGHT - 8}">{escape(text)}</text>'
        for index, (share, text) in enumerate(labels)
    )


def _frame(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


# -- the report as one self-contained HTML file: no script, no network, phone and paper.


def render(analysis: Analysis) -> str:
    head = escape(wording.title(analysis))
    body = [
        (
            f"<header><h1>{head}</h1><p>{escape(wording.period(analysis))}</p>"
            f"<p>{escape(wording.made_by(analysis))}</p></header>"
        ),
        _summary(analysis),
        *(_figure(figure, analysis) for figure in analysis.figures),
        _clients(analysis),
        _anomalies(analysis),
    ]
    return redact(page(head, body))


def _summary(analysis: Analysis) -> str:
    tone = {True: "good", False: "bad", None: "soft"}[analysis.meets_target]
    verdict, *rest = wording.summary(analysis)
    lines = "".join(f"<p>{escape(line)}</p>" for line in rest)
    return f'<section><p class="verdict {tone}">{escape(verdict)}</p>{lines}</section>'


def _figure(figure: Figure, analysis: Analysis) -> str:
    step = (analysis.end - analysis.start) / len(figure.steps)

    def tooltip(index: int, value: float) -> str:
        when = wording.moment(analysis.start + (index + 0.5) * step, analysis.zone)
        return f"{when}: {wording.number(value, figure.unit)}"

    drawn = line(
        f"{figure.title} over time",
        figure.steps,
        marks(analysis.start, analysis.end, wording.zone_of(analysis.zone)),
        ceiling=1.0 if figure.unit == "ratio" else None,
        value_label=lambda value: wording.tick(value, figure.unit),
        tooltip=tooltip,
        beside=_beside(figure, analysis),
    )
    facts = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"
        for label, text in wording.facts(figure, analysis)
    )
    title = f"{figure.title} <span class='soft'>({figure.unit})</span>"
    legend = escape(_legend(_beside(figure, analysis), analysis))
    return (
        f'<section><h2>{title}</h2>{drawn}<p class="soft">{legend}</p>'
        f'<dl class="facts">{facts}</dl></section>'
    )


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


def _clients(analysis: Analysis) -> str:
    rows = "".join(
        f"<tr><td>{escape(wording.names((use.client,)))}</td>"
        f'<td class="n">{wording.number(round(use.tokens))}</td>'
        f'<td class="n">{wording.number(use.share, "ratio")}</td>'
        f'<td class="share"><div class="bar" style="width:{use.share * 100:.1f}%"></div></td></tr>'
        for use in analysis.clients
    )
    table = (
        '<table><tr><th>client</th><th class="n">tokens</th><th class="n">share</th>'
        f'<th class="share"></th></tr>{rows}</table>'
    )
    moved = "".join(f"<p>{escape(line)}</p>" for line in wording.movements(analysis))
    return (
        f"<section><h2>Clients</h2>{table if rows else '<p>No client was seen.</p>'}"
        f"{moved}</section>"
    )


def _anomalies(analysis: Analysis) -> str:
    if not analysis.anomalies:
        note = escape(analysis.anomaly_note)
        return f"<section><h2>Out of habit</h2><p>{note}</p></section>"
    rows = "".join(
        f'<tr><td class="when">{escape(wording.moment(found.at, analysis.zone))}</td>'
        f'<td class="word">{escape(found.severity)}</td><td>{escape(found.sentence)}</td></tr>'
        for found in analysis.anomalies
    )
    header = "<tr><th>when</th><th>severity</th><th>what</th></tr>"
    return f"<section><h2>Out of habit</h2><table>{header}{rows}</table></section>"
