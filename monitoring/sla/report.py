"""Present: service levels as text, JSON or Markdown."""

from __future__ import annotations

import json
from typing import Any, Callable, Iterable, List, Mapping, Optional

from monitoring.durations import say
from monitoring.redact import redacted
from monitoring.service_levels import ServiceLevel, SlaReport
from monitoring.timestamps import iso

_HEADER = (
    *("component", "target", "availability", "down (min)", "budget left", "burn 1h", "6h", "3d"),
    *("unknown", "verdict"),
)
_NOTE = (
    "Unknown is time in which nobody looked: it counts neither as up nor as down. "
    "Budgets are of the watched time."
)


def as_json(report: SlaReport) -> str:
    """One JSON object; ratios as numbers, times in seconds or minutes as their names say."""
    document = {
        "timestamp": iso(report.at),
        "from": iso(report.start),
        "to": iso(report.at),
        "exit_status": report.exit_status,
        "levels": {row.component: _row_json(row) for row in report.rows},
    }
    return json.dumps(redacted(document), allow_nan=False)


def _row_json(row: ServiceLevel) -> Mapping[str, Any]:
    return {
        "target": round(row.target, 6),
        "availability": row.span.availability,
        "downtime_minutes": round(row.span.down / 60.0, 2),
        "watched_seconds": round(row.span.watched, 1),
        "unknown_seconds": round(row.span.unknown, 1),
        "error_budget_minutes": round(row.budget / 60.0, 2),
        "error_budget_left_minutes": round(row.budget_left / 60.0, 2),
        "error_budget_left_ratio": row.budget_left_ratio,
        "burn_rate": dict(row.burn),
        "verdict": row.verdict,
        "why": row.why,
    }


def as_text(report: SlaReport) -> str:
    """A table for the terminal, with a line of why for each row that is not met."""
    rows = [list(_HEADER), *map(_cells, report.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [f"Service levels, {_period(report)}", ""]
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_reasons(report.rows), _NOTE])


def as_markdown(report: SlaReport) -> str:
    """The same as a Markdown table."""
    rows = [list(_HEADER), ["---"] * len(_HEADER), *map(_cells, report.rows)]
    lines = [f"# Service levels, {_period(report)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    reasons = [f"- {line}" for line in _reasons(report.rows)]
    return "\n".join([*lines, "", *reasons, *([""] if reasons else []), _NOTE])


FORMATS: Mapping[str, Callable[[SlaReport], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
}


def _period(report: SlaReport) -> str:
    return f"{iso(report.start)} to {iso(report.at)} ({say(report.at - report.start)})"


def _reasons(rows: Iterable[ServiceLevel]) -> List[str]:
    return [f"{row.component}: {row.why}" for row in rows if row.verdict != "met"]


def _cells(row: ServiceLevel) -> List[str]:
    watched = row.span.availability is not None
    return [
        row.component,
        _percent(row.target),
        _percent(row.span.availability),
        f"{row.span.down / 60.0:.1f}" if watched else "-",
        _percent(row.budget_left_ratio, digits=1),
        *(_times(row.burn.get(window)) for window in ("1h", "6h", "3d")),
        _percent(row.span.unknown / row.span.seconds if row.span.seconds else None, digits=1),
        row.verdict.replace("_", " "),
    ]


def _percent(ratio: Optional[float], digits: int = 3) -> str:
    """A ratio as percent, never rounded up to a whole 100 % that was not reached."""
    if ratio is None:
        return "-"
    text = f"{ratio * 100.0:.{digits}f}"
    if ratio < 1.0 and float(text) == 100.0:
        text = f"{100.0 - 10.0**-digits:.{digits}f}"
    return f"{text} %"


def _times(rate: Optional[float]) -> str:
    return "-" if rate is None else f"{rate:.1f}x"
