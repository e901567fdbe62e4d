"""Present: a table as lines of text, for a terminal that may be narrower than the table."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import List, Optional, Sequence, Tuple

Table = Tuple[Sequence[str], List[List[str]]]
_GAP = "  "
_INDENT = "    "


def lined_up(table: Table) -> List[str]:
    """A line per row, columns under each other."""
    header, cells = table
    rows = [list(header), *cells]
    widths = _widths(rows)
    return [_GAP.join(_padded(c, w) for c, w in zip(row, widths)).rstrip() for row in rows]


def narrowed(
    table: Table, width: Optional[int], leave_out: Sequence[str]
) -> Tuple[Table, List[str]]:
    """The table without as many columns of `leave_out`, in that order, as it must lose to fit;
    and which those are."""
    gone: List[str] = []
    for name in leave_out:
        if width is None or _total(table) <= width:
            break
        header, cells = table
        place = list(header).index(name)
        table = _without(header, place), [_without(row, place) for row in cells]
        gone.append(name)
    return table, gone


def told_below(table: Table, width: Optional[int], *, beside: int) -> List[str]:
    """As `lined_up` where that fits. Else only the first `beside` cells stand beside each other,
    and the sentences after them below, indented and wrapped; the last one is what to do, and not
    worth a line where that is nothing."""
    if width is None or _total(table) <= width:
        return lined_up(table)
    header, cells = table
    rows = [list(header[:beside]), *(row[:beside] for row in cells)]
    widths = _widths(rows)
    lines = [_GAP.join(map(_padded, row, widths)) for row in rows]
    told = [lines[0].rstrip()]
    for line, (why, todo) in zip(lines[1:], (row[beside:] for row in cells)):
        whole = line + _GAP + why
        quiet = todo == "nothing"
        told += (
            [whole] if quiet and _cells(whole) <= width else [line.rstrip(), *_wrapped(why, width)]
        )
        told += [] if quiet else _wrapped(f"-> {todo}", width)
    return told


def _wrapped(sentence: str, width: int) -> List[str]:
    return textwrap.wrap(
        sentence, max(20, width), initial_indent=_INDENT, subsequent_indent=_INDENT + "   "
    )


def _without(row: Sequence[str], place: int) -> List[str]:
    return [*row[:place], *row[place + 1 :]]


def _total(table: Table) -> int:
    header, cells = table
    widths = _widths([list(header), *cells])
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(rows: Sequence[Sequence[str]]) -> List[int]:
    return [max(map(_cells, column)) for column in zip(*rows)]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))


def _cells(text: str) -> int:
    """How many cells of a terminal it takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
