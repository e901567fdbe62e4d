"""Present: service levels as text, JSON or Markdown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Optional

from monitoring.certainty import MET
from monitoring.sla.levels import BURN_WINDOWS, ServiceLevel, SlaReport
from monitoring.text import iso, iso_seconds, percentage, redacted, say

_HEADER = (
    *("component", "target", "up", "down min", "budget", "burn 1h", "6h", "3d"),
    *("unknown", "verdict"),
)
_NOTE = (
    "Unknown is time in which nobody looked: it counts neither as up nor as down.",
    "Budgets are of the watched time; how much must be watched: SLA_MINIMUM_WATCHED.",
)


def as_json(report: SlaReport) -> str:
    """One JSON object; ratios as numbers, times in seconds or minutes as their names say."""
    document = {
        "timestamp": iso(report.at),
        "from": iso(report.start),
        "to": iso(report.at),
        "exit_status": int(report.exit_status),
        "levels": {row.component: _row_json(row) for row in report.rows},
    }
    return json.dumps(redacted(document), allow_nan=False)


def _row_json(row: ServiceLevel) -> Mapping[str, Any]:
    return {
        "target": round(row.target, 6),
        "availability": row.span.availability,
        "downtime_minutes": round(row.span.down / 60.0, 2),
        "watched_seconds": round(row.span.watched, 1),
        "watched_ratio": row.span.coverage(row.least).share,
        "unknown_seconds": round(row.span.unknown, 1),
        "error_budget_minutes": round(row.budget / 60.0, 2),
        "error_budget_left_minutes": round(row.budget_left / 60.0, 2),
        "error_budget_left_ratio": row.budget_left_ratio,
        "burn_rate": dict(row.burn),
        "verdict": row.verdict,
        "why": row.why,
    }


def as_text(report: SlaReport) -> str:
    """Two tables of at most 80 columns, what was seen and how fast budgets burn, with a line of
    why for each row that is not met."""
    levels = [_HEADER[:5] + _HEADER[8:], *(_levels(row) for row in report.rows)]
    burning = [("burn rate", *BURN_WINDOWS), *((r.component, *_burn(r)) for r in report.rows)]
    lines = [*_wrapped(headline(report)), f"Service levels, {_period(report)}", ""]
    lines += [*_table(levels), "", *_table(burning)]
    return "\n".join([*lines, "", *_reasons(report.rows), *_NOTE])


def headline(report: SlaReport) -> str:
    """`1 of 6 missed: redis-cache; 1 unknown: conjur-vault`, or that all are met."""
    named: dict[str, list[str]] = {}
    for row in report.rows:
        if row.verdict != MET:
            named.setdefault(row.verdict.replace("_", " "), []).append(row.component)
    said = [f"{len(names)} {word}: {', '.join(names)}" for word, names in named.items()]
    if len(report.rows) == 1:
        return f"the service level of {report.rows[0].component} is {report.rows[0].verdict}"
    if not said:
        return f"all {len(report.rows)} service levels are met"
    if len(next(iter(named.values()))) == len(report.rows):
        return f"all {len(report.rows)} service levels are {next(iter(named))}"
    return f"of {len(report.rows)} service levels {'; '.join(said)}"


def _levels(row: ServiceLevel) -> tuple[str, ...]:
    cells = _cells(row)
    return (*cells[:5], *cells[8:])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]


def as_markdown(report: SlaReport) -> str:
    """The same as a Markdown table."""
    rows = [list(_HEADER), ["---"] * len(_HEADER), *map(_cells, report.rows)]
    lines = [f"# Service levels, {_period(report)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    reasons = [f"- {line}" if line[0] != " " else line for line in _reasons(report.rows)]
    return "\n".join([*lines, "", *reasons, *([""] if reasons else []), *_NOTE])


FORMATS: Mapping[str, Callable[[SlaReport], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
}


def _period(report: SlaReport) -> str:
    begin, end = iso_seconds(report.start), iso_seconds(report.at)
    return f"{begin} to {end} ({say(report.at - report.start)})"


def _reasons(rows: Iterable[ServiceLevel]) -> list[str]:
    """One line for each reason, with the components it is true of."""
    named: dict[str, list[str]] = {}
    for row in (row for row in rows if row.verdict != MET):
        named.setdefault(row.why, []).append(row.component)
    lines = [f"{', '.join(names)}: {why}" for why, names in named.items()]
    return [part for line in lines for part in _wrapped(line)]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 80, subsequent_indent="  ")


def _burn(row: ServiceLevel) -> tuple[str, ...]:
    return tuple(_times(row.burn.get(window)) for window in BURN_WINDOWS)


def _cells(row: ServiceLevel) -> list[str]:
    watched, whole = row.span.availability is not None, row.span.seconds
    return [
        row.component,
        _percent(row.target),
        _percent(row.span.availability),
        f"{row.span.down / 60.0:,.1f}" if watched else "-",
        _percent(row.budget_left_ratio, digits=1),
        *_burn(row),
        _percent(row.span.unknown / whole if whole else None, digits=1),
        row.verdict.replace("_", " "),
    ]


def _percent(ratio: Optional[float], digits: int = 3) -> str:
    return "-" if ratio is None else percentage(ratio, digits)


def _times(rate: Optional[float]) -> str:
    return "-" if rate is None else f"{rate:,.1f}x"
