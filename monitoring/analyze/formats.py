"""Present: the report as JSON, as Markdown, and as text for a terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Optional

from monitoring.analyze import wording
from monitoring.analyze.analysis import Analysis, Figure
from monitoring.output.report import plain_json
from monitoring.text import iso_seconds, redact, redacted, safe_id

# -- the report as JSON: the Analysis, field for field, times as ISO 8601.

_TIMES = {"start", "end", "at", "low_at", "high_at", "first_seen", "last_seen"}


def render_json(analysis: Analysis) -> str:
    document = _named(dataclasses.asdict(analysis))
    document["meets_target"] = analysis.meets_target
    for client in document["clients"]:
        client["client"] = safe_id(client["client"])
    for side in ("joined", "left"):
        document[side] = [safe_id(client) for client in document[side]]
    plain = redacted(plain_json(document))
    return json.dumps(plain, ensure_ascii=False, indent=2) + "\n"


def _named(value: Any, name: str = "") -> Any:
    """Epoch seconds under a time's name become text; everything else stays."""
    if isinstance(value, dict):
        return {key: _named(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if name in _TIMES and isinstance(value, (int, float)):
        return iso_seconds(value)
    return value


# -- the report as Markdown, for a ticket or a wiki.


def render_markdown(analysis: Analysis) -> str:
    about = ", ".join(filter(None, (wording.period(analysis), wording.made_by(analysis))))
    lines = [f"# {wording.title(analysis)}", "", _cell(about), ""]
    lines += [f"- {_cell(line)}" for line in wording.summary(analysis)]
    for figure in analysis.figures:
        lines += ["", f"## {figure.title}", ""]
        lines += _table(["", ""], wording.facts(figure, analysis))
    lines += ["", "## Clients", ""]
    rows = [
        (
            wording.names((use.client,)),
            wording.number(round(use.tokens)),
            wording.number(use.share, "ratio"),
        )
        for use in analysis.clients
    ]
    lines += _table(["client", "tokens", "share"], rows) if rows else ["No client was seen."]
    lines += ["", *(f"- {_cell(line)}" for line in wording.movements(analysis))]
    lines += ["", "## Out of habit", ""]
    found = [
        (wording.moment(a.at, analysis.zone), a.severity, a.sentence) for a in analysis.anomalies
    ]
    lines += _table(["when", "severity", "what"], found) if found else [analysis.anomaly_note]
    return redact("\n".join(lines)) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "|".join(["---"] * len(header))
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return [f"| {' | '.join(header)} |", f"|{rule}|", *body]


def _cell(text: str) -> str:
    """A client id must not end a cell, open a link or start HTML."""
    for mark in ("\\", "|", "<", "[", "`", "*", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text


# -- the report for a terminal: sparklines and aligned columns, no colour needed.

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 56


def render_text(analysis: Analysis) -> str:
    first, *rest = wording.summary(analysis)
    about = ", ".join(filter(None, (wording.period(analysis), wording.made_by(analysis))))
    lines = [first, f"{wording.title(analysis)}: {about}", *rest]
    if any(None in figure.steps for figure in analysis.figures):
        lines.append("In the charts a dot is time in which nobody looked.")
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
    return [figure.title, f"  {line}"] + [f"  {label:<{width}}  {text}" for label, text in rows]


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
