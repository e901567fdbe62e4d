"""Present: an Outcome for the person at a terminal: the headline, the cause first, in place."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from re import Match
from typing import Any, Optional

from monitoring.config import env
from monitoring.model import RECOVERING, Component, Outcome, Severity
from monitoring.output import headline, logs, report
from monitoring.text import counted, iso_seconds, redact, safe_id, safe_lines, say

#: Columns of a few characters: a narrow terminal folds the prose and never these words.
_FIRM = ("status", "up", "response", "verdict", "state", "age", "failures", "from")
#: A terminal narrower than this has no room for prose in a column.
_NARROW = 72
_COLOUR = {
    "ok": "green",
    "warning": "yellow",
    "critical": "bold red",
    "unknown": "magenta",
    "do first": "bold",
    "not set": "magenta",
}
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
    """Print one cycle: the headline, the first step, the table that fits the script, what else is
    wrong, and what could not be read."""
    screen = console()
    for part in _parts(outcome, screen.width, verbose=verbose):
        screen.print(part)


def _parts(outcome: Outcome, width: int, *, verbose: bool) -> Iterator[Any]:
    yield _head(outcome)
    if outcome.components:
        yield from _components(outcome, width, verbose)
    if outcome.tokens is not None:
        yield from _figures(outcome.tokens, verbose)
    if outcome.credentials is not None or outcome.tokens is not None:
        yield from _rows(outcome, limit=None if verbose else 20)
    rest = [*_findings(outcome, verbose), *_limits(outcome), *_alerts(outcome)]
    rest += _sources(outcome, verbose)
    if rest:
        yield from _spaced(_labelled(rest), outcome)
    if verbose:
        yield from _details(outcome.components)


def _spaced(part: Any, outcome: Outcome) -> Iterator[Any]:
    """A table ends with an empty line of its own; a headline does not."""
    if not (outcome.components or outcome.tokens is not None or outcome.credentials is not None):
        yield ""
    yield part


# -- the loop on a terminal

_LAST_CHANGES = 8


class LiveScreen:
    """The screen of a loop: each cycle takes the place of the one before, with what has changed
    lately below it. Log lines go above it and stay. Close it, or the cursor stays hidden."""

    def __init__(self, interval: float, *, verbose: bool = False) -> None:
        self._interval, self._verbose = interval, verbose
        self._live: Any = None
        self._before: Optional[Outcome] = None
        self._changes: list[tuple[float, str]] = []

    @property
    def on(self) -> bool:
        """Whether a cycle stands on the screen."""
        return self._live is not None

    def show(self, outcome: Outcome) -> None:
        """Put this cycle in the place of the last one."""
        found = headline.changes(self._before, outcome)
        self._changes = [*self._changes, *((outcome.at, line) for line in found)][-_LAST_CHANGES:]
        self._before = outcome
        if self._live is None:
            self._start()
        self._live.update(self._picture(outcome), refresh=True)

    def close(self) -> None:
        """Leave the last cycle on the screen and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            logs.write_to(sys.stderr)

    def _start(self) -> None:
        from rich.live import Live

        log_too = sys.stderr.isatty()
        self._live = Live(console=console(), auto_refresh=False, redirect_stderr=log_too)
        self._live.start()
        if log_too:  # through the screen, which makes room for them
            logs.write_to(sys.stderr)

    def _picture(self, outcome: Outcome) -> Any:
        from rich.console import Group

        width = self._live.console.width
        parts = [*_parts(outcome, width, verbose=self._verbose), ""]
        if self._changes:
            rows = [(iso_seconds(at), _text(line)) for at, line in reversed(self._changes)]
            parts += [_text("changed", "bold"), _labelled(rows), ""]
        again = iso_seconds(outcome.at + self._interval)
        parts.append(_text(f"next look at {again}; Ctrl-C ends", "dim"))
        return Group(*parts)


def live_wanted(log_format: str) -> bool:
    """Whether a loop has a terminal on which it can be updated in place."""
    plain = env.current().get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain and not logs.json_wanted(log_format, sys.stdout)


#: A word that is a cell of a report in text, or its verdict; not the same word in a sentence.
_CELL = re.compile(rf"(^|  |: |\d )({'|'.join(_CELL_COLOUR)})(?=  | \(|[,)]|$)", re.MULTILINE)


def painted(text: str) -> str:
    """A report in text for a terminal: wrapped at its width, its headline and its verdicts in
    colour. As it was where standard output is no terminal; without colour where NO_COLOR is set
    (https://no-color.org)."""
    asked = env.current()
    if width := logs.columns():
        text = wrapped(text, width)
    if not sys.stdout.isatty() or asked.get("NO_COLOR") or asked.get("TERM") == "dumb":
        return text
    head, line, rest = text.partition("\n")
    shown = _coloured(head)
    return (f"\033[1m{head}\033[0m" if shown == head else shown) + line + _coloured(rest)


#: The columns of a line before its last: what is wrapped goes on below the last.
_COLUMNS = re.compile(r".*\S {2,}(?=\S)")


def wrapped(text: str, width: int) -> str:
    """Each line that is wider than the terminal, continued below, indented as far as what it says
    is."""
    return "\n".join(part for line in text.split("\n") for part in _wrap(line, width))


def _wrap(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    columns = _COLUMNS.match(line)
    head = line[: len(line) - len(line.lstrip())]
    indent = len(head) + 2
    if columns and len(columns[0]) <= width // 2:
        head, indent = columns[0], len(columns[0])
    made = textwrap.wrap(
        line[len(head) :],
        max(width, indent + 12),
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )
    return made or [line]


def _coloured(text: str) -> str:
    from rich.style import Style

    def colour(cell: Match[str]) -> str:
        return cell[1] + Style.parse(_CELL_COLOUR[cell[2]]).render(cell[2])

    return _CELL.sub(colour, text)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
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


def _head(outcome: Outcome) -> Any:
    """The headline, the first step, and what was looked at when."""
    rows = [(outcome.status.word, _text(headline.headline(outcome), "bold"))]
    step = headline.first_step(outcome)
    rows += [("do first", _text(step))] if step else []
    about = f"{outcome.script}, {outcome.environment}, {iso_seconds(outcome.at)}"
    about += f", took {say(outcome.seconds)}"
    return _labelled([*rows, ("", _text(about, "dim"))])


def _labelled(rows: Sequence[tuple[str, Any]]) -> Any:
    """Sentences with a word before each, wrapped beside it."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    # its least width by padding: min_width holds the padding too before rich 15
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(_text(label.ljust(8), _COLOUR.get(label, "")), text)
    return grid


def _components(outcome: Outcome, width: int, verbose: bool) -> Iterator[Any]:
    """A row for each component, the cause first. While some are not well, those that are take one
    line."""
    ordered = headline.in_order(outcome.components)
    well = [c for c in ordered if c.status is Severity.OK]
    if verbose or len(well) == len(ordered):
        well = []
    yield _table_of([c for c in ordered if c not in well], width)
    if well:
        names = (f"{c.name} {report.milliseconds(c.response_time_ms)}" for c in well)
        yield _labelled([(well[0].status.word, _text(", ".join(names)))])


def _table_of(components: Sequence[Component], width: int) -> Any:
    """A table, or where that would be a column of syllables, what we saw below each component."""
    rows = []
    for c in components:
        up = {True: "up", False: "down", None: "?"}[c.up]
        took = report.milliseconds(c.response_time_ms)
        word = c.status.word if c.configured else "not set"
        rows.append([c.name, _status(word), up, took, c.message])
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


#: Figures of which none is no news.
_ZEROS = ("expired", "undecodable", "without ttl", "duplicates merged")


def _figures(tokens: Mapping[str, Any], verbose: bool) -> Iterator[Any]:
    """The figures; what is not known is named in one line, and what there is none of left out."""
    from monitoring.output import token_rows

    rows = list(token_rows.rows(tokens))
    unknown = [label for label, text in rows if text == "-"]
    if not verbose:
        rows = [(a, b) for a, b in rows if b != "-" and not (b == "0" and a in _ZEROS)]
    if rows:
        yield _table(["tokens", ""], rows)
    if unknown and not verbose:
        yield _labelled([("unknown", _text(f"not known: {', '.join(unknown)}"))])


#: What fits beside each other at 80 columns; --inventory and --output show the rest.
_CREDENTIAL_COLUMNS = ("client", "verdict", "state", "age_days", "failures", "why")
_TOKEN_COLUMNS = ("client", "active", "generation_rate", "last_issued")
_HEADS = {"age_days": "age", "generation_rate": "per minute", "last_issued": "last issued"}


def _rows(outcome: Outcome, limit: int | None) -> Iterator[Any]:
    well = {}
    if limit is not None and outcome.credentials is not None:
        well = {name: row for name, row in outcome.credentials.items() if report.is_well(row)}
        rest = {name: row for name, row in outcome.credentials.items() if name not in well}
        folded = replace(outcome, credentials=rest)
    else:
        folded = outcome
    header, rows = report.table(folded)
    columns = _TOKEN_COLUMNS if outcome.credentials is None else _CREDENTIAL_COLUMNS
    chosen = [name for name in columns if name in header]
    cells = [[_row_cell(name, dict(zip(header, row))) for name in chosen] for row in rows]
    if cells:
        heads = _HEADS
        if ((outcome.tokens or {}).get("scan") or {}).get("truncated"):
            heads = {**_HEADS, "active": "active, seen"}
        yield _table([heads.get(name, name.replace("_", " ")) for name in chosen], cells[:limit])
    if limit is not None and len(cells) > limit:
        yield _text(f"  and {len(cells) - limit} more; --verbose shows all", "dim")
    if well and cells:  # else the headline says it
        yield _labelled([(next(iter(well.values()))["verdict"], _text(_folded(well)))])


def _row_cell(name: str, row: Mapping[str, Any]) -> Any:
    value = row.get(name)
    if name != "age_days" or not isinstance(value, (int, float)):
        return value
    least = "≥ " if row.get("age_at_least") else ""
    return f"{least}{say(round(value) * 86400.0)}" if value >= 1 else f"{least or '< '}1 d"


def _folded(well: Mapping[str, Mapping[str, Any]]) -> str:
    """What need not be read row by row, as a sentence."""
    return f"{counted(len(well), 'credential')}{headline.next_due(well)}; --verbose shows all"


Line = tuple[str, Any]


def _findings(outcome: Outcome, verbose: bool) -> Iterator[Line]:
    above = headline.said_in_rows(outcome)
    for finding in sorted(outcome.findings, key=lambda f: -f.severity):
        if finding.sentence in above and not verbose:
            continue
        line = _text(finding.sentence)
        line.append_text(_text(f" ({finding.reason})", "dim"))
        yield finding.severity.word if finding.severity > Severity.OK else "note", line
        if verbose and finding.action:
            yield "", _text(finding.action, "dim")


def _limits(outcome: Outcome) -> Iterator[Line]:
    """Limits that were crossed; where alerts were judged, those tell the same."""
    said = headline.said_in_rows(outcome)
    for sentence in () if outcome.alerts else report.crossings(outcome):
        if not any(sentence.partition(": ")[2] in one for one in said):
            yield "limit", _text(sentence)


def _alerts(outcome: Outcome) -> Iterator[Line]:
    """In full what stands nowhere else; of the rest how many there are."""
    rows = [row for row in outcome.alerts if row.state != "ok"]
    said = headline.said_in_rows(outcome)
    new = [row for row in rows if not headline.stands_above(row.alert.summary, outcome, said)]
    for row in new:
        client, component = safe_id(row.alert.key.client or ""), row.alert.key.component
        missing = [name for name in (component, client) if name not in row.alert.summary]
        place = f"{' '.join(missing)}: " if any(missing) else ""
        colour = "" if row.state == "resolved" else _COLOUR.get(row.alert.severity.word, "")
        why = f" ({row.why})" if row.why == RECOVERING else ""
        yield row.state, _text(f"{place}{row.alert.summary}{why}", "" if why else colour)
    counts = Counter(row.state for row in rows)
    if counts:
        counted = ", ".join(f"{n} {state}" for state, n in counts.items())
        yield "alerts", _text(f"{counted}; --alerts shows since when and who was notified", "dim")


def _sources(outcome: Outcome, verbose: bool) -> Iterator[Line]:
    above = headline.headline(outcome)
    rows = () if verbose else tuple(component.name for component in outcome.components)
    for source in outcome.sources:
        if source.name in rows or (source.ok and not verbose and not source.why):
            continue
        if not source.ok and source.why and source.why in above:
            continue
        seen = "" if source.seen is None else f", {source.seen:,} seen"
        word = "was read" if source.ok else "could not be read"
        word = word if source.configured else "is not configured"
        why = f": {source.why}" if source.why and source.configured else ""
        yield "source", _text(f"{source.name} {word}{seen}{why}", "dim")


def _details(components: Sequence[Component]) -> Iterator[Any]:
    for component in components:
        if component.details:
            yield _text(component.name, "bold")
        for line in _lines(report.plain_json(component.details), "  "):
            yield _text(line, "dim")


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
