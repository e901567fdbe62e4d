"""Present: the report for a terminal: sparklines and aligned columns, no colour needed."""

from __future__ import annotations

from typing import Optional, Sequence

from monitoring.analysis import Analysis, Figure
from monitoring.redact import redact
from monitoring.reports import wording

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 56


def render(analysis: Analysis) -> str:
    lines = [wording.title(analysis), wording.period(analysis), ""]
    lines += wording.summary(analysis)
    for figure in analysis.figures:
        lines += ["", *_figure(figure, analysis)]
    lines += ["", "Clients", *_clients(analysis)]
    lines += ["", "Out of habit"]
    for found in analysis.anomalies:
        when = wording.moment(found.at, analysis.zone)
        lines.append(f"  {when}  {found.severity:8}  {found.sentence}")
    if not analysis.anomalies:
        lines.append(f"  {analysis.anomaly_note}")
    return redact("\n".join(lines)) + "\n"


def _figure(figure: Figure, analysis: Analysis) -> list[str]:
    rows = wording.facts(figure, analysis)
    width = max(len(label) for label, _ in rows)
    line = sparkline(figure.steps)
    head = [figure.title, f"  {line}" + ("  (a dot: nobody looked)" if "·" in line else "")]
    return head + [f"  {label:<{width}}  {text}" for label, text in rows]


def sparkline(steps: Sequence[Optional[float]], width: int = _WIDTH) -> str:
    """`steps` in `width` characters; a dot where nobody looked, the lowest bar for the minimum."""
    merged = _merge(steps, width)
    known = [value for value in merged if value is not None]
    if not known:
        return "·" * len(merged)
    low, high = min(known), max(known)
    return "".join(_bar(value, low, high) for value in merged)


def _bar(value: Optional[float], low: float, high: float) -> str:
    if value is None:
        return "·"
    if high - low <= 1e-6 * abs(high):  # flat, but for rounding
        return _BARS[3]
    return _BARS[min(7, int((value - low) / (high - low) * 8))]


def _merge(steps: Sequence[Optional[float]], width: int) -> list[Optional[float]]:
    """Fewer steps: the mean of what is known in each."""
    width = min(width, len(steps))
    merged: list[Optional[float]] = []
    for index in range(width):
        part = steps[index * len(steps) // width : (index + 1) * len(steps) // width]
        known = [value for value in part if value is not None]
        merged.append(sum(known) / len(known) if known else None)
    return merged


def _clients(analysis: Analysis) -> list[str]:
    if not analysis.clients:
        return ["  no client was seen"]
    shown = [(wording.names((use.client,)), use) for use in analysis.clients]
    width = max(len(name) for name, _ in shown)
    lines = [
        f"  {name:<{width}}  {wording.number(round(use.tokens)):>10} tokens  "
        f"{wording.number(use.share, 'ratio'):>8}"
        for name, use in shown
    ]
    return [*lines, *(f"  {line}" for line in wording.movements(analysis))]
