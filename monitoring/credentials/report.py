"""Present: the inventory, the state of rotations and the answer on a revocation, as text, JSON,
CSV or Markdown; those that need attention first."""

from __future__ import annotations

import csv
import io
import json
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from monitoring.certainty import OK
from monitoring.credentials.judged import ClientVerdict, rows
from monitoring.credentials.revocation import RevocationAnswer
from monitoring.credentials.watch import CredentialSnapshot
from monitoring.model import Finding, Outcome, Severity, Source
from monitoring.output import headline
from monitoring.output.headline import next_due
from monitoring.output.report import crossings, finding_json, source_json
from monitoring.text import counted, iso, iso_seconds, redacted, safe_id, safe_text, say

# -- a table as lines of text, for a terminal that may be narrower than the table.

Table = tuple[Sequence[str], list[list[str]]]
_GAP = "  "
_INDENT = "    "


def lined_up(table: Table) -> list[str]:
    """A line per row, columns under each other."""
    header, cells = table
    rows = [list(header), *cells]
    widths = _widths(rows)
    return [_GAP.join(_padded(c, w) for c, w in zip(row, widths)).rstrip() for row in rows]


def narrowed(
    table: Table, width: Optional[int], leave_out: Sequence[str]
) -> tuple[Table, list[str]]:
    """The table without as many columns of `leave_out`, in that order, as it must lose to fit;
    and which those are."""
    gone: list[str] = []
    for name in leave_out:
        if width is None or _total(table) <= width:
            break
        header, cells = table
        place = list(header).index(name)
        table = _without(header, place), [_without(row, place) for row in cells]
        gone.append(name)
    return table, gone


def told_below(table: Table, width: Optional[int], *, beside: int) -> list[str]:
    """As `lined_up` where that fits. Else only the first `beside` cells stand beside each other,
    and the sentences after them below, indented and wrapped; the last one is what to do, and not
    worth a line where that is nothing."""
    if width is None or _total(table) <= width:
        return lined_up(table)
    header, cells = table
    rows = [list(header[:beside]), *(row[:beside] for row in cells)]
    widths = _widths(rows)
    lines = [_GAP.join(map(_padded, row, widths)) for row in rows]
    shown = [lines[0].rstrip()]
    for line, (why, todo) in zip(lines[1:], (row[beside:] for row in cells)):
        whole = line + _GAP + why
        quiet = todo == "nothing"
        shown += (
            [whole] if quiet and _cells(whole) <= width else [line.rstrip(), *_wrapped(why, width)]
        )
        shown += [] if quiet else _wrapped(f"-> {todo}", width)
    return shown


def _wrapped(sentence: str, width: int) -> list[str]:
    return textwrap.wrap(
        sentence, max(20, width), initial_indent=_INDENT, subsequent_indent=_INDENT + "   "
    )


def _without(row: Sequence[str], place: int) -> list[str]:
    return [*row[:place], *row[place + 1 :]]


def _total(table: Table) -> int:
    header, cells = table
    widths = _widths([list(header), *cells])
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_cells, column)) for column in zip(*rows)]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))


def _cells(text: str) -> int:
    """How many cells of a terminal it takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


_INVENTORY = (
    *("client", "verdict", "state", "version", "age", "source", "rotated", "due in", "last used"),
    *("uses", "failed", "tokens", "of old"),
)
_ROTATION = ("client", "verdict", "state", "since", "why", "what to do")
#: Findings a report as text shows; --format json has all.
_MOST_FINDINGS = 20
#: Columns of the inventory that go first where the terminal is too narrow.
_LEAVE_OUT = ("source", "rotated", "last used", "version", "state", "tokens", "uses")


class Seen(NamedTuple):
    """What one look showed, and what it comes to as a whole. `folded`: rotations that are well
    are one sentence."""

    picture: CredentialSnapshot
    outcome: Outcome
    folded: bool = False


#: A report: what was seen, one of FORMATS, and the width of the terminal (None: no limit).
Render = Callable[[Seen, str, Optional[int]], str]


# -- inventory


def inventory(seen: Seen, form: str, width: Optional[int] = None) -> str:
    """Every client: state, version, age, use, tokens, verdict. `form` is one of FORMATS. As text,
    columns that do not fit into `width` are left out and named (None: all fit)."""
    picture = seen.picture
    table: Table = _INVENTORY, [_inventory_cells(each, picture.at) for each in picture.judged]
    if form != "text":
        return FORMATS[form]("Credentials", seen, table)
    table, gone = narrowed(table, width, _LEAVE_OUT)
    said = [f"left out at this width: {', '.join(gone)}; --format csv has all"] if gone else []
    return _text("Credentials", seen, lined_up(table), [_watched(picture), *said])


def _inventory_cells(each: ClientVerdict, now: float) -> list[str]:
    cells = next(iter(rows([each], now).values()))
    return [
        safe_id(each.client),
        _word(each),
        cells["state"],
        _shown(cells["version"]),
        age_words(each, now),
        cells["age_source"].replace("_", " "),
        _shown(cells["rotated_at"]),
        _due(cells["due_in_days"]),
        _bounded(cells["last_used"], "by", cells["last_used_at_most"]),
        _bounded(cells["uses"], "at least", cells["uses_at_least"]),
        _bounded(cells["failures"], "at least", cells["uses_at_least"]),
        _shown(cells["live_tokens"]),
        _shown(cells["old_version_tokens"]),
    ]


def age_words(each: ClientVerdict, now: float) -> str:
    """`12 d 4 h`, `at least 12 d 4 h`, or `unknown`."""
    seconds = each.verdict.age.seconds(now)
    if seconds is None:
        return "unknown"
    return f"at least {say(seconds)}" if each.verdict.age.at_least else say(seconds)


def _word(each: ClientVerdict) -> str:
    return each.verdict.verdict.replace("_", " ")


def _due(days: Optional[float]) -> str:
    """In whole days, the last two in hours; never "late by 0 d"."""
    if days is None:
        return "-"
    seconds = abs(days) * 86400.0
    said = say(seconds if seconds < 2 * 86400.0 else round(abs(days)) * 86400.0)
    return said if days >= 0 else f"late by {said}"


def _watched(picture: CredentialSnapshot) -> str:
    """What the counts of logins are, and what they rest on where it is not the whole window."""
    window = picture.figures.window
    if window.seconds is None:
        return "uses and failed: not known before a second look at the services' counters"
    said = f"uses: attempts to log in, refused ones included, in the last {say(window.span)}"
    if window.seconds >= 0.95 * window.span:
        return said
    return f"{said}, of which {say(window.seconds)} were watched"


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _bounded(value: Any, bound: str, is_bound: bool) -> str:
    """`at least 40`, `by 2026-11-27T23:39:42Z` where it is a bound."""
    return f"{bound} {value}" if is_bound and value is not None else _shown(value)


# -- rotations


def rotations(seen: Seen, form: str, width: Optional[int] = None) -> str:
    """One line per client that says where its rotation is and what to do; those that were here
    before this monitor are one sentence in text and Markdown. As text, lines longer than `width`
    continue below, indented (None: no limit)."""
    judged = seen.picture.judged
    if form in ("text", "markdown"):
        judged = [each for each in judged if not each.was_here_before]
    well: Mapping[str, Mapping[str, Any]] = {}
    if form == "text" and seen.folded:
        all_rows = rows(judged, seen.picture.at)
        well = {name: row for name, row in all_rows.items() if _is_settled(row)}
        judged = [each for each in judged if each.client not in well]
    table = _ROTATION, [_rotation_cells(each) for each in judged]
    if form != "text":
        return FORMATS[form]("Rotations", seen, table)
    count = f"{counted(len(well), 'credential')}{next_due(well)}"
    words = {str(row["verdict"]) for row in well.values()}
    folded = [f"{word}: {count}; --verbose shows all" for word in words]
    folded = folded if judged else []  # else the headline says it
    return _text("Rotations", seen, told_below(table, width, beside=4) if judged else [], folded)


def _is_settled(row: Mapping[str, Any]) -> bool:
    return row.get("verdict") == OK and row.get("state") == "active"


def _rotation_cells(each: ClientVerdict) -> list[str]:
    verdict = each.verdict
    return [
        safe_id(each.client),
        _word(each),
        verdict.state,
        "-" if verdict.dwell is None else say(verdict.dwell),
        safe_text(verdict.why),
        safe_text(verdict.todo),
    ]


# -- revocation


def revocation(answer: RevocationAnswer, form: str) -> str:
    """May the old version go? `form` is text or json."""
    return _revocation_json(answer) if form == "json" else _revocation_text(answer)


def _revocation_text(answer: RevocationAnswer) -> str:
    version = f"version {safe_id(answer.old_version)}" if answer.old_version else "the old version"
    said = {
        True: "{0}: {1} of {2} may be revoked",
        False: "{0}: {1} of {2} must not be revoked now",
        None: "cannot tell whether {1} of {2} may be revoked",
    }[answer.yes]
    lines = [said.format(answer.word, version, safe_id(answer.client))]
    lines += [f"  {safe_text(reason)}" for reason in answer.reasons]
    lines += [f"  not known: {safe_text(reason)}" for reason in answer.unknowns]
    lines += [f"  {_when_to_ask(answer)}"] if answer.yes is not True else []
    seen = iso_seconds(answer.last_sighting) if answer.last_sighting else "never by this monitor"
    tokens = "not known" if answer.old_tokens is None else str(answer.old_tokens)
    tokens += f" and maybe {answer.maybe_old} more" if answer.maybe_old else ""
    last = f", the last dies at {iso_seconds(answer.until)}" if answer.until else ""
    return "\n".join([*lines, f"  old version last seen: {seen}; its live tokens: {tokens}{last}"])


def _when_to_ask(answer: RevocationAnswer) -> str:
    if answer.again is None:
        return "ask again when that has changed: waiting alone is not enough"
    if answer.waiting:
        return f"ask again at {iso_seconds(answer.again)}"
    return f"ask again when that has changed, not before {iso_seconds(answer.again)}"


def _revocation_json(answer: RevocationAnswer) -> str:
    document = {
        "client": safe_id(answer.client),
        "can_revoke": answer.yes,
        "answer": "cannot tell" if answer.yes is None else answer.word,
        "old_version": safe_id(answer.old_version) or None,
        "reasons": [safe_text(reason) for reason in answer.reasons],
        "unknown": [safe_text(reason) for reason in answer.unknowns],
        "old_version_last_seen": iso_seconds(answer.last_sighting)
        if answer.last_sighting
        else None,
        "old_version_tokens": answer.old_tokens,
        "maybe_old_tokens": answer.maybe_old,
        "last_old_token_dies": _moment(answer.until),
        "ask_again_at": _moment(answer.again),
        "waiting_is_enough": answer.waiting,
        "exit_status": int(answer.exit_status),
    }
    return json.dumps(redacted(document), allow_nan=False)


def _moment(at: Optional[float]) -> Optional[str]:
    return None if at is None else iso_seconds(at)


# -- formats


def _text(title: str, seen: Seen, lines: Sequence[str], said: Sequence[str]) -> str:
    notes = [*filter(None, said), *_notes(seen.picture.sources)]
    above = headline.headline(seen.outcome)
    said_below = [line for line in _said(seen) if line.partition(": ")[2] not in above]
    parts = [_top(title, seen), said_below, lines, notes]
    return "\n\n".join("\n".join(part) for part in parts if part).rstrip("\n")


def _top(title: str, seen: Seen) -> list[str]:
    """The headline, the first step, and what was looked at when."""
    step = headline.first_step(seen.outcome)
    return [
        f"{seen.outcome.status.word}: {headline.headline(seen.outcome)}",
        *([f"do first: {safe_text(step)}"] if step else []),
        f"{title} at {iso_seconds(seen.picture.at)}",
    ]


def _as_markdown(title: str, seen: Seen, table: Table) -> str:
    header, cells = table
    lines = [f"# {_headline(title, seen)}", ""]
    said = [f"- {_escaped(line)}" for line in _said(seen)]
    lines += [*said, ""] if said else []
    for row in [list(header), ["---"] * len(header), *cells]:
        lines.append("| " + " | ".join(_escaped(cell) for cell in row) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(seen.picture.sources))])


def _said(seen: Seen) -> list[str]:
    """What the status rests on beside the rows: findings that no row tells, and limits that were
    crossed, worst first."""
    in_rows = {*headline.row_sentences(seen.outcome)}
    found = [f for f in seen.outcome.findings if f.sentence not in in_rows]
    worst_first = sorted(found, key=lambda f: -f.severity)
    lines = [f"{_kind(f)}: {f.sentence}{_who(f)}" for f in worst_first[:_MOST_FINDINGS]]
    if len(found) > _MOST_FINDINGS:
        lines.append(f"and {counted(len(found) - _MOST_FINDINGS, 'more finding')}: --format json")
    return [*lines, *crossings(seen.outcome)]


def _kind(finding: Finding) -> str:
    return finding.severity.word if finding.severity > Severity.OK else "note"


def _who(finding: Finding) -> str:
    clients = finding.evidence.get("clients")
    return f" ({', '.join(clients)})" if clients else ""


def _escaped(cell: str) -> str:
    """Ids come from strangers: no markup, no new column."""
    for sign in "\\|`*[]":
        cell = cell.replace(sign, f"\\{sign}")
    return cell.replace("<", "&lt;").replace(">", "&gt;")


def _as_csv(_title: str, _seen: Seen, table: Table) -> str:
    text = io.StringIO()
    header, cells = table
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_no_formula(cell) for cell in row] for row in cells])
    return text.getvalue()


def _no_formula(cell: str) -> str:
    """A spreadsheet would run what begins so."""
    return "'" + cell if cell[:1] in ("=", "+", "@") or (cell[:1] == "-" and cell != "-") else cell


def _as_json(_title: str, seen: Seen, _table: Table) -> str:
    picture, outcome = seen.picture, seen.outcome
    clients = rows(picture.judged, picture.at)
    for each, row in zip(picture.judged, clients.values()):
        row["state_seconds"] = None if each.verdict.dwell is None else round(each.verdict.dwell)
    window = picture.figures.window
    document = {
        "timestamp": iso(picture.at),
        "status": outcome.status.word,
        "exit_status": int(outcome.exit_status),
        "verdicts": dict(_counts(picture.judged)),
        "credentials": clients,
        "window": {"seconds": window.span, "watched_seconds": window.seconds},
        "findings": [finding_json(finding) for finding in outcome.findings],
        "limits_crossed": crossings(outcome),
        "sources": {source.name: source_json(source) for source in picture.sources},
    }
    return json.dumps(redacted(document), allow_nan=False)


def _as_text(title: str, seen: Seen, table: Table) -> str:
    return _text(title, seen, lined_up(table), [])


FORMATS: Mapping[str, Callable[[str, Seen, Table], str]] = {
    "text": _as_text,
    "json": _as_json,
    "csv": _as_csv,
    "markdown": _as_markdown,
}


def _headline(title: str, seen: Seen) -> str:
    picture, outcome = seen.picture, seen.outcome
    counts = ", ".join(f"{n} {verdict.replace('_', ' ')}" for verdict, n in _counts(picture.judged))
    word = outcome.status.word
    return f"{title} at {iso_seconds(picture.at)}: {word} ({counts or 'no client is known'})"


def _counts(judged: Iterable[ClientVerdict]) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for each in judged:
        found[each.verdict.verdict] = found.get(each.verdict.verdict, 0) + 1
    return list(found.items())


def _notes(sources: Iterable[Source]) -> list[str]:
    return [
        f"{source.name}: {source.why}" if source.configured else f"{source.name} is not configured"
        for source in sources
        if not source.ok
    ]
