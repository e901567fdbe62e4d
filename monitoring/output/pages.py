"""Present: what all pages share, the bars of the components, and the status page.

Each script keeps what it saw in the state folder, so that any of them can show the whole. What a
stranger said is escaped.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import partial
from html import escape
from types import MappingProxyType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from monitoring.catalog import SCRIPTS
from monitoring.certainty import Basis, Coverage, severity
from monitoring.model import Outcome, Severity
from monitoring.output import report, token_rows as terminal_tokens
from monitoring.sla.levels import Point, Span, span
from monitoring.text import iso_seconds, printable, redact, redacted, safe_id, say

# -- what every page of ours has: one look, one file, nothing fetched from anywhere.

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #d9dee7; --card: #fff;
  --page: #f4f6f9; --hue: #2563c9; --good: #1d7a46; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --soft: #9aa5b8; --line: #343c4b;
  --card: #1d232e; --page: #12161d; --hue: #78a9ff; --good: #6fd39a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
header p, .soft { color: var(--soft); margin: .2rem 0 1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1rem 0; break-inside: avoid; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  gap: .2rem 1.5rem; margin: .6rem 0 0; }
.facts div { display: flex; flex-direction: column; border-top: 1px solid var(--line);
  padding: .3rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; } th { text-align: left; color: var(--soft);
  font-weight: 500; font-size: .85rem; }
td, th { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { height: .5rem; border-radius: .25rem; background: var(--hue); min-width: 2px; }
.share { width: 35%; }
svg { width: 100%; height: auto; display: block; } .grid { stroke: var(--line); stroke-width: 1; }
.axis { fill: var(--soft); font-size: 11px; } .line { fill: none; stroke: var(--hue);
  stroke-width: 1.8; stroke-linejoin: round; } .area { fill: var(--hue); opacity: .12; }
.dot { fill: var(--hue); } .hit { fill: transparent; }
.hit:hover { fill: var(--hue); opacity: .15; }
h3 { font-size: .95rem; margin: .8rem 0 0; } .strip { height: 1.4rem; margin: 0 0 .3rem; }
.strip .up { fill: var(--good); } .strip .part { fill: var(--hue); }
.strip .down { fill: var(--bad); } .strip .unknown { fill: var(--soft); opacity: .6; }
.strip .hole { fill: var(--card); }
section > p { margin: .3rem 0; } .verdict { font-size: 1.1rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .wide th { white-space: nowrap; }
.wide td { overflow-wrap: break-word; vertical-align: top; }
td.when { min-width: 5.5rem; } td.word { white-space: nowrap; }
@media (max-width: 40rem) { .axis { font-size: 19px; } .axis.even { display: none; }
  .share { display: none; } .wide th { display: none; }
  .wide tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .wide td { display: block; border: 0; padding: 0; overflow-wrap: anywhere; }
  .wide td::before { content: attr(data-of) " "; color: var(--soft); font-size: .85rem; } }
@media print { body { background: #fff; } section { border-color: #bbb; } main { padding: 0; } }
"""


def page(head: str, body: Sequence[str]) -> str:
    """A whole page of escaped parts; `head` is its title. It fetches nothing from anywhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{head}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


# -- how each component stood in the last day and month, as a bar of small parts.
# A part of which less than half was watched is not known, which is a look of its own: low and grey,
# so that it can be told from up and down without colour too.

#: (name, seconds, parts)
WINDOWS = (("24 h", 86400.0, 48), ("30 d", 30 * 86400.0, 30))
_ENOUGH = 0.5  # of a part that must be watched
UP, PART, DOWN, UNKNOWN = "up", "part", "down", "unknown"


@dataclass(frozen=True)
class Bar:
    """`parts`: up, part (down for a while), down or unknown, the oldest first; `whole`: of all."""

    window: str
    parts: Tuple[str, ...]
    whole: Span


def measure(points: Sequence[Point], now: float) -> Tuple[Bar, ...]:
    """The bars of one component; `points` are of the last month, oldest first."""
    ends = [point.at for point in points]
    found = []
    for window, seconds, count in WINDOWS:
        width = seconds / count
        parts = []
        for number in range(count):
            end = now - seconds + (number + 1) * width
            before = points[: bisect_right(ends, end)]
            parts.append(_word(span(before, now=end, seconds=width)))
        found.append(Bar(window, tuple(parts), span(points, now=now, seconds=seconds)))
    return tuple(found)


def _word(seen: Span) -> str:
    if seen.watched < _ENOUGH * seen.seconds:
        return UNKNOWN
    if seen.down <= 0:
        return UP
    return DOWN if seen.down >= seen.up else PART


def render(bars: Mapping[str, Sequence[Bar]]) -> str:
    """A block for each component; empty for none."""
    return "".join(_component(name, found) for name, found in bars.items() if found)


def _component(name: str, found: Sequence[Bar]) -> str:
    lines = "".join(
        f"<p>{bar.window}: {escape(_said(bar))}</p>{_drawn(name, bar)}" for bar in found
    )
    return f"<h3>{escape(name)}</h3>{lines}"


def _said(bar: Bar) -> str:
    seen = bar.whole
    if seen.availability is None:
        return "nobody watched"
    share = 100.0 * min(1.0, seen.watched / seen.seconds)
    down = f", down for {say(seen.down)}" if seen.down > 0 else ""
    return f"up {_percent(seen.availability)} of the {share:.0f} % that was watched{down}"


def _percent(ratio: float) -> str:
    """Never 100 % of what was not all."""
    cut = int(ratio * 1e5) / 1e3
    return f"{cut:.3f}".rstrip("0").rstrip(".") + " %"


_HEIGHTS = {UP: 20, PART: 20, DOWN: 20, UNKNOWN: 7}


def _drawn(name: str, bar: Bar) -> str:
    parts: List[str] = []
    for number, word in enumerate(bar.parts):
        height = _HEIGHTS[word]
        parts.append(
            f'<rect class="{word}" x="{number * 10}" y="{20 - height}" width="8" '
            f'height="{height}"/>'
        )
        if word == DOWN:  # a hole in it, for eyes and printers without colour
            parts.append(f'<rect class="hole" x="{number * 10 + 2}" y="4" width="4" height="12"/>')
        if word == PART:
            parts.append(f'<rect class="hole" x="{number * 10 + 2}" y="13" width="4" height="4"/>')
    counts = ", ".join(
        f"{bar.parts.count(word)} {word}" for word in (UP, PART, DOWN, UNKNOWN) if word in bar.parts
    )
    label = escape(f"{name}, {bar.window}: of {len(bar.parts)} parts {counts}")
    return (
        f'<svg class="strip" viewBox="0 0 {len(bar.parts) * 10} 20" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


LEGEND = (
    '<p class="soft">Full: up; with a small hole: down for a while; with a long hole: down; '
    "low: not watched, so not known.</p>"
)


def of(history: Any, names: Sequence[str], now: float) -> Mapping[str, Tuple[Bar, ...]]:
    """The bars of each component that was ever recorded. Raises HistoryError."""
    from monitoring.sla.history import availability

    longest = max(seconds for _, seconds, _ in WINDOWS)
    found = {name: availability(history, name, now=now, lookback=longest) for name in names}
    return {name: measure(points, now) for name, points in found.items() if points}


# -- the page about one's own system: the verdict first, then what each script saw last.

_SCOPE = "status"
_STALE = 2  # intervals of a script since its last cycle: what it saw is then no news any more
_MOST = 50  # rows of a table; the rest is counted
_SHOWN = ("firing", "pending", "suppressed", "silenced")  # states of an alert, in this order
_UP = {True: "up", False: "down", None: "not known"}

Document = Mapping[str, Any]


def keep(state: Any, seen: Document) -> None:
    """Remember the document of a cycle. Raises StateError."""
    state.put(_SCOPE, str(seen["script"]), json.dumps(seen))


def with_others(state: Any, own: Document) -> List[Document]:
    """`own`, and what each other script of the same environment and version saw last. `state` None:
    `own` alone. Raises StateError."""
    if state is None:
        return [own]
    sql = "SELECT value FROM kv WHERE scope = ? AND key != ? ORDER BY key"
    rows = state.read(sql, (_SCOPE, own["script"]))
    return [own, *filter(None, state.parsed(rows, partial(_kept, own=own)))]


def _kept(row: Tuple[Any, ...], own: Document) -> Optional[Document]:
    seen: Document = json.loads(row[0])
    same = all(seen[name] == own[name] for name in ("environment", "version"))
    return seen if same else None


def document(outcome: Outcome, interval: float) -> Document:
    """What the page shows of a cycle, secrets masked; `interval` is the seconds to the next one.
    `findings`, `alerts` and the `rows` of `credentials` are the worst, `more` counts the rest."""
    findings = sorted(outcome.findings, key=lambda found: -found.severity)
    alerts = _by_urgency(report.alert_json(row) for row in outcome.alerts if row.state in _SHOWN)
    made = {
        "script": outcome.script,
        "environment": outcome.environment,
        "version": outcome.version,
        "at": outcome.at + outcome.seconds,
        "interval": interval,
        "status": outcome.status.word,
        "sentence": report.sentence(outcome),
        "components": [
            {
                "name": c.name,
                "configured": c.configured,
                **{k: v for k, v in report.component_json(c).items() if k != "details"},
            }
            for c in sorted(outcome.components, key=report.cause_first)
        ],
        "findings": _worst([report.finding_json(found) for found in findings[:_MOST]], findings),
        "alerts": _worst(alerts[:_MOST], alerts),
        "unread": list(_unread(outcome)),
        "tokens": None if outcome.tokens is None else list(terminal_tokens.rows(outcome.tokens)),
        "credentials": None if outcome.credentials is None else _credentials(outcome.credentials),
    }
    return dict(redacted(report.plain_json(made)))


def _worst(shown: List[Any], of: Sequence[Any]) -> Dict[str, Any]:
    return {"rows": shown, "more": len(of) - len(shown)}


def _by_urgency(alerts: Iterable[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """What fires before what waits or is held back, then the worst first."""
    return sorted(alerts, key=lambda a: (_SHOWN.index(a["state"]), -_severity(a["severity"])))


def _severity(word: Any) -> Severity:
    return Severity[str(word).upper()]


def _unread(outcome: Outcome) -> Iterator[Dict[str, str]]:
    """What was not read, was not read to its end, or makes the whole doubtful."""
    for source in outcome.sources:
        if source.configured and (not source.ok or source.truncated):
            cut = "the look ended before its end" if source.ok else "could not be read"
            yield {"name": source.name, "why": source.why or cut}
    for doubt in outcome.doubts:
        yield {"name": outcome.script, "why": doubt.sentence}


def _credentials(credentials: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    unwell = {name: row for name, row in credentials.items() if not report.is_well(row)}
    rows = [
        {"client": safe_id(name), **{k: row.get(k) for k in ("verdict", "state", "why")}}
        for name, row in list(unwell.items())[:_MOST]
    ]
    verdicts = Counter(str(row.get("verdict")) for row in credentials.values())
    return {"verdicts": verdicts, **_worst(rows, list(unwell))}


def render_status(
    documents: Sequence[Document],
    told: Optional[Mapping[str, Sequence[str]]],
    now: float,
    note: str = "",
    *,
    past: Optional[Mapping[str, Sequence[Bar]]] = MappingProxyType({}),
) -> str:
    """The page as of `now`. `told`: key of an alert -> the channels that know of it; None: that
    could not be read. `past`: component -> how it stood in the last day and month, None
    likewise. `note` is HTML below the headline, for whoever serves the page; a page without one is
    a file, and says that it grows old."""
    environment = str(documents[0]["environment"])
    word = verdict(documents, now)
    head = escape(f"{environment}: {_HEADS[word]}")
    body = [
        f'<header><h1 class="{_TONE[word]}">{head}</h1>',
        *(f'<p class="verdict">{escape(printable(line))}</p>' for line in _firing(documents)),
        f"<p>{iso_seconds(now)} &middot; version {escape(str(documents[0]['version']))}</p>",
        f"{note or _A_FILE}</header>",
        _section("What each script says", _looks(documents, now)),
        _section("What fires", _alerts(documents, told)),
        _section("Components", _components(documents)),
        _section("The last day and month", _past(past)),
        _section("Findings", _findings(documents)),
        _section("Tokens", _tokens(documents)),
        _section("Credentials and rotations", _rotations(documents)),
        _section("What could not be read", _sources(documents)),
    ]
    return redact(page(head, body))


_A_FILE = "<p>This file does not change by itself: of what came later it says nothing.</p>"
_HEADS = {
    "ok": "all is well",
    "unknown": "not everything is known",
    "warning": "something needs a look",
    "critical": "something is broken",
}
_TONE = {"ok": "good", "unknown": "soft", "warning": "bad", "critical": "bad"}


def verdict(documents: Sequence[Document], now: float) -> str:
    """The worst that any script says. Without a recent look of each script it is never `ok`."""
    recent = {each["script"] for each in documents if not _stale(each, now)} & {*SCRIPTS}
    looked = Basis(coverage=(Coverage("scripts", len(recent), len(SCRIPTS)),))
    return severity((_severity(each["status"]) for each in documents), looked).word


def _stale(document: Document, now: float) -> bool:
    return now - float(document["at"]) > _STALE * float(document["interval"])


def _firing(documents: Sequence[Document]) -> List[str]:
    """What fires, the worst first: three sentences, and how many more."""
    said = [a["summary"] for a in _by_urgency(_rows(documents, "alerts")) if a["state"] == "firing"]
    more = [f"and {len(said) - 3} more"] if len(said) > 3 else []
    return [*said[:3], *more]


def _looks(documents: Sequence[Document], now: float) -> str:
    found = {each["script"]: each for each in documents}
    rows = []
    for script in SCRIPTS:
        seen = found.get(script)
        if seen is None:
            rows.append((script, "unknown", "-", "has not looked; nothing is known of its part"))
            continue
        age = say(max(0.0, now - float(seen["at"]))) + " ago"
        old = " (overdue: what it says may be over)" if _stale(seen, now) else ""
        rows.append((script, seen["status"], age + old, seen["sentence"]))
    return _table(("script", "status", "looked", "what it says"), rows)


def _alerts(documents: Sequence[Document], told: Optional[Mapping[str, Sequence[str]]]) -> str:
    rows = [
        (
            alert["severity"],
            alert["state"],
            alert["summary"],
            (alert.get("since") or "-").partition(".")[0].replace("T", " "),
            "not known" if told is None else ", ".join(told.get(alert["key"], ())) or "nobody",
        )
        for alert in _by_urgency(_rows(documents, "alerts"))
    ]
    header = ("severity", "state", "what", "since (UTC)", "told")
    table = _table(header, rows) or "<p>Nothing, of what was looked at.</p>"
    return table + _more(documents, "alerts")


def _components(documents: Sequence[Document]) -> str:
    rows = [
        (
            c["name"],
            c["status"] if c["configured"] else "not configured",
            _UP[c["up"]],
            report.milliseconds(c["response_time_ms"]),
            c["message"],
        )
        for each in documents
        for c in each["components"]
    ]
    header = ("component", "status", "up", "response", "what was seen")
    return _table(header, rows) or _NOT_LOOKED.format("health_check.py")


def _past(past: Optional[Mapping[str, Sequence[Bar]]]) -> str:
    if past is None:
        return "<p>Not known: what was recorded could not be read.</p>"
    drawn = render(past)
    return f"{LEGEND}{drawn}" if drawn else _NOT_RECORDED


_NOT_RECORDED = "<p>Nothing is recorded yet.</p>"


def _findings(documents: Sequence[Document]) -> str:
    found = sorted(_rows(documents, "findings"), key=lambda f: -_severity(f["severity"]))
    rows = [(f["severity"], f["sentence"], f.get("action") or "-") for f in found]
    table = _table(("severity", "what", "first step"), rows)
    return (table or "<p>None, of what was looked at.</p>") + _more(documents, "findings")


def _tokens(documents: Sequence[Document]) -> str:
    for each in documents:
        if each["tokens"] is not None:
            return _table(("figure", ""), [tuple(row) for row in each["tokens"]])
    return _NOT_LOOKED.format("token_usage_metrics.py")


def _rotations(documents: Sequence[Document]) -> str:
    for each in documents:
        found = each["credentials"]
        if found is not None:
            counts = ", ".join(f"{n} {word}" for word, n in sorted(found["verdicts"].items()))
            rows = [tuple(row.values()) for row in found["rows"]]
            table = _table(("client", "verdict", "rotation", "why"), rows)
            said = escape(counts or "no credential was seen")
            return f"<p>{said}</p>{table}{_more([each], 'credentials')}"
    return _NOT_LOOKED.format("credential_usage_metrics.py")


def _sources(documents: Sequence[Document]) -> str:
    rows = [(source["name"], source["why"]) for each in documents for source in each["unread"]]
    return _table(("source", "why"), rows) or "<p>Everything that was asked answered.</p>"


_NOT_LOOKED = "<p>Not known: {} has not looked on this state folder.</p>"


def _rows(documents: Sequence[Document], name: str) -> Iterator[Any]:
    for document in documents:
        yield from document[name]["rows"]


def _more(documents: Sequence[Document], name: str) -> str:
    count = sum(each[name]["more"] for each in documents)
    return f"<p>and {count} more</p>" if count else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(header: Sequence[str], rows: Sequence[Tuple[Any, ...]]) -> str:
    """Empty without rows."""
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "".join(f"<tr>{''.join(map(_cell, header, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{heads}</tr>{lines}</table></div>'


def _cell(name: str, value: Any) -> str:
    """`name` is the column's, which a phone shows beside the value."""
    text = "-" if value is None else str(value)
    tone = f' class="word {_TONE[text]}"' if text in _TONE else ""
    return f'<td data-of="{escape(name)}"{tone}>{escape(printable(text))}</td>'
