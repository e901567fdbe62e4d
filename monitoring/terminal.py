"""Present: an Outcome for the person at a terminal: tables, colour, the worst first."""

from __future__ import annotations

import sys
from typing import Any, Mapping, Sequence

from monitoring import report
from monitoring.model import Component, Outcome
from monitoring.redact import redact, safe_id
from monitoring.timestamps import iso_seconds

_COLOUR = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "magenta"}


def console() -> Any:
    """A rich console on standard output; it honours NO_COLOR and the width of the terminal."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


def show(outcome: Outcome, *, verbose: bool = False) -> None:
    """Print one cycle: status line, the table that fits the script, findings, alerts, sources."""
    screen = console()
    screen.print(_headline(outcome))
    if outcome.components:
        screen.print(_components(outcome.components))
    if outcome.tokens is not None:
        screen.print(_figures(outcome.tokens))
    if outcome.credentials is not None or outcome.tokens is not None:
        _print_rows(screen, outcome, limit=None if verbose else 20)
    _print_findings(screen, outcome, verbose)
    _print_alerts(screen, outcome)
    _print_sources(screen, outcome, verbose)
    if verbose:
        _print_details(screen, outcome.components)


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A table on standard output, for the reports that are asked for by name."""
    console().print(_table(header, rows, title))


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[cell if _is_text(cell) else _text(_plain(cell)) for cell in row])
    return table


def _is_text(cell: Any) -> bool:
    from rich.text import Text

    return isinstance(cell, Text)


def _text(words: str, style: str = "") -> Any:
    """Text that rich does not read as markup: a client may be called `[red]`."""
    from rich.text import Text

    return Text(redact(words), style=style)


def _plain(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.1f}" if abs(cell) < 1e6 else f"{cell:,.0f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return str(cell)


def _status(word: str) -> Any:
    return _text(word, _COLOUR.get(word, ""))


def _headline(outcome: Outcome) -> Any:
    line = _text(f"{iso_seconds(outcome.at)}  {outcome.script}  {outcome.environment}  ")
    line.append_text(_status(outcome.status.word))
    line.append(f"  {outcome.seconds * 1000:.0f} ms", "dim")
    return line


def _components(components: Sequence[Component]) -> Any:
    rows = []
    for c in components:
        took = _milliseconds(c.response_time_ms)
        up = {True: "up", False: "down", None: "?"}[c.up]
        rows.append([c.name, _status(c.status.word), up, took, c.message])
    return _table(["component", "status", "up", "response", "what we saw"], rows)


def _milliseconds(value: float | None) -> str:
    """`1,511 ms`, `51.9 ms`, `0.04 ms`: three figures are what a person reads."""
    if value is None:
        return "-"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _figures(tokens: Mapping[str, Any]) -> Any:
    from monitoring import terminal_tokens

    return _table(["tokens", ""], [[label, text] for label, text in terminal_tokens.rows(tokens)])


#: What fits beside each other at 80 columns; --inventory and --output show the rest.
_CREDENTIAL_COLUMNS = ("client", "verdict", "state", "age_days", "failures", "why")
_TOKEN_COLUMNS = ("client", "active", "generation_rate", "last_issued", "renewals")


def _print_rows(screen: Any, outcome: Outcome, limit: int | None) -> None:
    header, rows = report.table(outcome)
    columns = _TOKEN_COLUMNS if outcome.credentials is None else _CREDENTIAL_COLUMNS
    chosen = [header.index(name) for name in columns if name in header]
    header = [header[index] for index in chosen]
    rows = [[row[index] for index in chosen] for row in rows]
    if rows:
        screen.print(_table([name.replace("_", " ") for name in header], rows[:limit]))
    if limit is not None and len(rows) > limit:
        screen.print(_text(f"  and {len(rows) - limit} more; --verbose shows all", "dim"))


def _print_findings(screen: Any, outcome: Outcome, verbose: bool) -> None:
    for finding in sorted(outcome.findings, key=lambda f: -f.severity):
        line = _status(finding.severity.word)
        line.append_text(_text(f"  {finding.reason}  ", "bold"))
        line.append_text(_text(finding.sentence))
        screen.print(line)
        if verbose and finding.action:
            screen.print(_text(f"    first: {finding.action}", "dim"))


def _print_alerts(screen: Any, outcome: Outcome) -> None:
    for row in outcome.alerts:
        if row.state == "ok":
            continue
        client = f" {safe_id(row.alert.key.client)}" if row.alert.key.client else ""
        what = f"alert {row.state}: {row.alert.key.component}{client}: {row.alert.summary}"
        screen.print(_text(what, _COLOUR.get(row.alert.severity.word, "")))


def _print_sources(screen: Any, outcome: Outcome, verbose: bool) -> None:
    for source in outcome.sources:
        if source.ok and not verbose:
            continue
        seen = "" if source.seen is None else f", {source.seen:,} seen"
        word = "read" if source.ok else "could not be read"
        word = word if source.configured else "not configured"
        why = f": {source.why}" if source.why else ""
        screen.print(_text(f"source {source.name} {word}{seen}{why}", "dim"))


def _print_details(screen: Any, components: Sequence[Component]) -> None:
    for component in components:
        screen.print(_text(component.name, "bold"))
        for name, value in component.details.items():
            screen.print(_text(f"  {name}: {report.plain_json(value)}", "dim"))
