"""Present: an Outcome for the person at a terminal: tables, colour, the worst first."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any, Iterator, Mapping, Match, Sequence

from monitoring.config import env
from monitoring.model import Component, Outcome, Severity
from monitoring.output import report
from monitoring.text import counted, iso_seconds, redact, safe_id, safe_lines

#: Columns of a few characters: a narrow terminal folds the prose and never these words.
_FIRM = ("status", "up", "response", "verdict", "state", "age days", "failures", "from")
#: A terminal narrower than this has no room for prose in a column.
_NARROW = 72
_COLOUR = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "magenta"}
#: The same for the reports whose lines are laid out already, which have words of their own.
_CELL_COLOUR = {
    **_COLOUR,
    "met": _COLOUR["ok"],
    "yes": _COLOUR["ok"],
    "PENDING": _COLOUR["warning"],
    **dict.fromkeys(("missed", "no", "FIRING"), _COLOUR["critical"]),
}


def console() -> Any:
    """A rich console on standard output; it honours NO_COLOR and the width of the terminal."""
    from rich.console import Console

    # NO_COLOR means no bold either (https://no-color.org); rich alone would keep that.
    system = None if env.current().get("NO_COLOR") else "auto"
    return Console(file=sys.stdout, highlight=False, soft_wrap=False, color_system=system)  # type: ignore[arg-type]


def show(outcome: Outcome, *, verbose: bool = False) -> None:
    """Print one cycle: status line, the table that fits the script, findings, alerts, sources."""
    screen = console()
    screen.print(_headline(outcome))
    if outcome.components:
        components = sorted(outcome.components, key=report.cause_first)
        for sentence in _unwell(components):
            screen.print(_text(sentence, "bold"))
        screen.print(_components(components, screen.width))
    if outcome.tokens is not None:
        screen.print(_figures(outcome.tokens))
    if outcome.credentials is not None or outcome.tokens is not None:
        _print_rows(screen, outcome, limit=None if verbose else 20)
    _print_findings(screen, outcome, verbose)
    if not outcome.alerts:  # which tell the same
        for sentence in report.crossings(outcome):
            screen.print(_text(sentence))
    _print_alerts(screen, outcome)
    _print_sources(screen, outcome, verbose)
    if verbose:
        _print_details(screen, outcome.components)


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A table on standard output, for the reports that are asked for by name."""
    console().print(_table(header, rows, title))


#: A word that is a cell of a report in text, or its verdict; not the same word in a sentence.
_CELL = re.compile(rf"(^|  |: |\d )({'|'.join(_CELL_COLOUR)})(?=  | \(|[,)]|$)", re.MULTILINE)


def painted(text: str) -> str:
    """A report in text with the colours of a terminal: its headline and its verdicts. As it was
    where standard output is no terminal, or NO_COLOR is set (https://no-color.org)."""
    asked = env.current()
    if not sys.stdout.isatty() or asked.get("NO_COLOR") or asked.get("TERM") == "dumb":
        return text
    head, line, rest = text.partition("\n")
    shown = _coloured(head)
    return (f"\033[1m{head}\033[0m" if shown == head else shown) + line + _coloured(rest)


def _coloured(text: str) -> str:
    from rich.style import Style

    def colour(cell: Match[str]) -> str:
        return cell[1] + Style.parse(_CELL_COLOUR[cell[2]]).render(cell[2])

    return _CELL.sub(colour, text)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name in _FIRM)
    for row in rows:
        table.add_row(*[cell if _is_text(cell) else _text(_plain(cell)) for cell in row])
    return table


def _is_text(cell: Any) -> bool:
    from rich.text import Text

    return isinstance(cell, Text)


def _text(words: str, style: str = "") -> Any:
    """Text that neither rich reads as markup (a client may be called `[red]`) nor the terminal as
    a command. Everything a stranger said passes here."""
    from rich.text import Text

    return Text(safe_lines(redact(words)), style=style)


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


def _unwell(components: Sequence[Component]) -> Iterator[str]:
    """What is down, what is not as it should be, and of what neither is known."""
    asked = [c for c in components if c.configured]
    down = [c.name for c in asked if c.up is False]
    bad = [c.name for c in asked if c.up is not False and c.status > Severity.UNKNOWN]
    unknown = [c.name for c in asked if c.status is Severity.UNKNOWN and c.up is not False]
    if down:
        verb = "is" if len(down) == 1 else "are"
        yield f"{len(down)} of {len(asked)} {verb} down: {', '.join(down)}"
    if bad:
        yield f"not as {'it' if len(bad) == 1 else 'they'} should be: {', '.join(bad)}"
    if unknown:
        yield f"not known: {', '.join(unknown)}"


def _components(components: Sequence[Component], width: int) -> Any:
    """A table, or where that would be a column of syllables, what we saw below each component."""
    rows = []
    for c in components:
        up = {True: "up", False: "down", None: "?"}[c.up]
        took = report.milliseconds(c.response_time_ms)
        rows.append([c.name, _status(c.status.word), up, took, c.message])
    if width >= _NARROW:
        return _table(["component", "status", "up", "response", "what we saw"], rows)
    from rich.console import Group
    from rich.padding import Padding

    stacked: list[Any] = []
    for name, status, up, took, message in rows:
        line = _text(f"{name}  ")
        line.append_text(status)
        line.append(f"  {up}  {took}")
        stacked += [line, Padding(_text(message, "dim"), (0, 0, 0, 4))]
    return Group("", *stacked, "")


def _figures(tokens: Mapping[str, Any]) -> Any:
    from monitoring.output import token_rows as terminal_tokens

    return _table(["tokens", ""], [[label, text] for label, text in terminal_tokens.rows(tokens)])


#: What fits beside each other at 80 columns; --inventory and --output show the rest.
_CREDENTIAL_COLUMNS = ("client", "verdict", "state", "age_days", "failures", "why")
_TOKEN_COLUMNS = ("client", "active", "generation_rate", "last_issued", "renewals")


def _print_rows(screen: Any, outcome: Outcome, limit: int | None) -> None:
    well = {}
    if limit is not None and outcome.credentials is not None:
        well = {name: row for name, row in outcome.credentials.items() if report.is_well(row)}
        rest = {name: row for name, row in outcome.credentials.items() if name not in well}
        outcome = replace(outcome, credentials=rest)
    header, rows = report.table(outcome)
    columns = _TOKEN_COLUMNS if outcome.credentials is None else _CREDENTIAL_COLUMNS
    chosen = [header.index(name) for name in columns if name in header]
    least = header.index("age_at_least") if "age_at_least" in header else None
    for row in rows:
        if least is not None and row[least]:
            row[header.index("age_days")] = f"≥ {_plain(row[header.index('age_days')])}"
    header = [header[index] for index in chosen]
    rows = [[row[index] for index in chosen] for row in rows]
    if rows:
        screen.print(_table([name.replace("_", " ") for name in header], rows[:limit]))
    if limit is not None and len(rows) > limit:
        screen.print(_text(f"  and {len(rows) - limit} more; --verbose shows all", "dim"))
    if well:
        screen.print(_text(_folded(well)))


def _folded(well: Mapping[str, Mapping[str, Any]]) -> str:
    """What need not be read row by row, as a sentence. Of an age that is only a minimum it is not
    known when it ends."""
    due = [(row["due_in_days"], name) for name, row in well.items()
           if isinstance(row.get("due_in_days"), (int, float))]  # fmt: skip
    first = "next due" if len(due) == len(well) else "the next known to be due is"
    soon = f"; {first} {safe_id(min(due)[1])} in {min(due)[0]:.0f} d" if due else ""
    word = next(iter(well.values()))["verdict"]
    return f"{counted(len(well), 'credential')} {word}{soon}; --verbose shows all"


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
        client, component = safe_id(row.alert.key.client or ""), row.alert.key.component
        missing = [name for name in (component, client) if name not in row.alert.summary]
        place = f"{' '.join(missing)}: " if any(missing) else ""
        what = f"alert {row.state}: {place}{row.alert.summary}"
        screen.print(_text(what, _COLOUR.get(row.alert.severity.word, "")))


def _print_sources(screen: Any, outcome: Outcome, verbose: bool) -> None:
    for source in outcome.sources:
        if source.ok and not verbose and not source.why:
            continue
        seen = "" if source.seen is None else f", {source.seen:,} seen"
        word = "read" if source.ok else "could not be read"
        word = word if source.configured else "not configured"
        why = f": {source.why}" if source.why and source.configured else ""
        screen.print(_text(f"source {source.name} {word}{seen}{why}", "dim"))


def _print_details(screen: Any, components: Sequence[Component]) -> None:
    for component in components:
        if component.details:
            screen.print(_text(component.name, "bold"))
        for line in _lines(report.plain_json(component.details), "  "):
            screen.print(_text(line, "dim"))


def _lines(details: Mapping[Any, Any], indent: str) -> Iterator[str]:
    """A line for each entry; what holds more than plain values goes below its name."""
    for name, value in details.items():
        entries = dict(enumerate(value, 1)) if _is_list_of_dicts(value) else value
        if isinstance(entries, Mapping) and any(isinstance(v, Mapping) for v in entries.values()):
            yield f"{indent}{name}:"
            yield from _lines(entries, indent + "  ")
        else:
            yield f"{indent}{name}: {_said(value)}"


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    return "-" if value is None else str(value)
