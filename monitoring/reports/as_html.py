"""Present: the report as one self-contained HTML file: no script, no network, phone and paper."""

from __future__ import annotations

from html import escape

from monitoring.analysis import Analysis, Figure
from monitoring.pages import page
from monitoring.redact import redact
from monitoring.reports import axis, charts, wording


def render(analysis: Analysis) -> str:
    head = escape(wording.title(analysis))
    body = [
        f"<header><h1>{head}</h1><p>{escape(wording.period(analysis))}</p></header>",
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

    drawn = charts.line(
        f"{figure.title} over time",
        figure.steps,
        axis.marks(analysis.start, analysis.end, wording.zone_of(analysis.zone)),
        ceiling=1.0 if figure.unit == "ratio" else None,
        value_label=lambda value: wording.tick(value, figure.unit),
        tooltip=tooltip,
    )
    facts = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"
        for label, text in wording.facts(figure, analysis)
    )
    title = f"{figure.title} <span class='soft'>({figure.unit})</span>"
    return f'<section><h2>{title}</h2>{drawn}<dl class="facts">{facts}</dl></section>'


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
