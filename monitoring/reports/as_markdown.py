"""Present: the report as Markdown, for a ticket or a wiki."""

from __future__ import annotations

from typing import Sequence

from monitoring.analysis import Analysis
from monitoring.redact import redact
from monitoring.reports import wording


def render(analysis: Analysis) -> str:
    lines = [f"# {wording.title(analysis)}", "", wording.period(analysis), ""]
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
