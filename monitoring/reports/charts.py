"""Present: charts as inline SVG, drawn with the page's colours so that dark, light and print work.

Gaps stay gaps. Every chart carries a title for screen readers and a tooltip per step.
"""

from __future__ import annotations

import math
from html import escape
from typing import Callable, Optional, Sequence

WIDTH, HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 78, 16, 12, 26

Label = Callable[[float], str]


def line(
    title: str,
    steps: Sequence[Optional[float]],
    labels: Sequence[tuple[float, str]],
    *,
    ceiling: Optional[float] = None,
    value_label: Label,
    tooltip: Callable[[int, float], str],
) -> str:
    """A line over time. `labels` are (share of the width, text) for the time axis; `ceiling` is
    what the figure cannot exceed;
    `tooltip(index, value)` is what a step says when pointed at."""
    known = [value for value in steps if value is not None]
    if not known:
        return "<p>Nobody looked in this time.</p>"
    ticks = scale(min(known), max(known), ceiling=ceiling)
    low, high = ticks[0], ticks[-1]

    def place(index: int, value: float) -> tuple[float, float]:
        x = LEFT + (index + 0.5) / len(steps) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [_grid(ticks, value_label), _time_axis(labels)]
    for run in _runs(steps):
        parts.append(_run([place(index, value) for index, value in run]))
    step = (WIDTH - LEFT - RIGHT) / len(steps)
    parts += [
        f'<rect class="hit" x="{place(i, v)[0] - step / 2:.1f}" y="{TOP}" width="{step:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(tooltip(i, v))}</title></rect>'
        for i, v in enumerate(steps)
        if v is not None
    ]
    return _frame(title, parts)


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
