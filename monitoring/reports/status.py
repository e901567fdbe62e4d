"""Present: the page about one's own system: the verdict first, then what each script saw last.

Each script keeps what it saw in the state folder, so that any of them can show the whole. The page
is one file: no script, nothing fetched from anywhere, and what a stranger said is escaped.
"""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from monitoring import report, terminal_tokens
from monitoring.catalog import SCRIPTS
from monitoring.durations import say
from monitoring.model import Outcome
from monitoring.redact import printable, redact, redacted
from monitoring.reports import as_html
from monitoring.timestamps import iso_seconds

#: Where the exporter puts what is only known when somebody looks.
SERVED = "<!-- served -->"
_SCOPE = "status"
_STALE = 2  # intervals of a script since its last cycle: what it saw is then no news any more
_MOST = 50  # rows of a table; the rest is counted
_RANK = {"ok": 0, "unknown": 1, "warning": 2, "critical": 3}

Document = Mapping[str, Any]


def keep(state: Any, outcome: Outcome, interval: float) -> None:
    """Remember what the page shows of a cycle; `interval` is the seconds to the next one. Raises
    StateError."""
    state.put(_SCOPE, outcome.script, json.dumps(document(outcome, interval)))


def documents(state: Any, outcome: Outcome, interval: float) -> List[Document]:
    """What each script saw last, this one of `outcome` first; those of another environment left
    out. `state` None: of this one alone. Raises StateError."""
    own = document(outcome, interval)
    if state is None:
        return [own]
    rows = state.read(
        "SELECT value FROM kv WHERE scope = ? AND key != ? ORDER BY key", (_SCOPE, outcome.script)
    )
    others = state.parsed(rows, lambda row: json.loads(row[0]))
    return [own, *(each for each in others if each and each["environment"] == own["environment"])]


def document(outcome: Outcome, interval: float) -> Dict[str, Any]:
    """What the page shows of a cycle, secrets masked."""
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
                "status": c.status.word if c.configured else "not configured",
                "up": {True: "up", False: "down", None: "not known"}[c.up],
                "response_time_ms": c.response_time_ms,
                "message": c.message,
            }
            for c in outcome.components
        ],
        "findings": [report.finding_json(found) for found in outcome.findings[:_MOST]],
        "alerts": [report.alert_json(row) for row in outcome.alerts if row.state != "ok"][:_MOST],
        "unread": [
            {"name": s.name, "why": s.why or "could not be read"}
            for s in outcome.sources
            if s.configured and not s.ok
        ],
        "tokens": None if outcome.tokens is None else list(terminal_tokens.rows(outcome.tokens)),
        "credentials": None if outcome.credentials is None else _credentials(outcome),
    }
    return dict(redacted(report.plain_json(made)))


def _credentials(outcome: Outcome) -> Dict[str, Any]:
    header, rows = report.table(outcome)
    named = [dict(zip(header, row)) for row in rows]
    told = [row for row in named if row.get("verdict") != "ok" or row.get("state") != "active"]
    return {
        "verdicts": Counter(str(row.get("verdict")) for row in named),
        "rows": [
            {name: row.get(name) for name in ("client", "verdict", "state", "why")}
            for row in told[:_MOST]
        ],
        "more": max(0, len(told) - _MOST),
    }


def render(documents: Sequence[Document], told: Mapping[str, Sequence[str]], now: float) -> str:
    """The page. `told`: key of an alert -> the channels that know of it (of others: not known)."""
    environment = str(documents[0]["environment"])
    word = verdict(documents, now)
    head = escape(f"{environment}: {_HEADS[word]}")
    body = [
        f'<header><h1 class="{_TONE[word]}">{head}</h1>',
        *(f'<p class="verdict">{escape(printable(line))}</p>' for line in _firing(documents)),
        f"<p>{iso_seconds(now)} &middot; version {escape(str(documents[0]['version']))}</p>",
        f"{SERVED}</header>",
        _section("What each script says", _looks(documents, now)),
        _section("What fires", _alerts(documents, told)),
        _section("Components", _components(documents)),
        _section("Findings", _findings(documents)),
        _section("Tokens", _tokens(documents)),
        _section("Credentials and rotations", _rotations(documents)),
        _section("What could not be read", _unread(documents)),
    ]
    return redact(as_html.page(head, body))


_HEADS = {
    "ok": "all is well",
    "unknown": "not everything is known",
    "warning": "something needs a look",
    "critical": "something is broken",
}
_TONE = {"ok": "good", "unknown": "soft", "warning": "bad", "critical": "bad"}


def verdict(documents: Sequence[Document], now: float) -> str:
    """The worst that any script says. Without a recent look of each script it is never `ok`."""
    words = [str(each["status"]) for each in documents]
    recent = {str(each["script"]) for each in documents if not _stale(each, now)}
    if not set(SCRIPTS) <= recent:
        words.append("unknown")
    return max(words, key=_RANK.__getitem__)


def _firing(documents: Sequence[Document]) -> List[str]:
    """What fires, the worst first: three sentences, and how many more."""
    said = [alert["summary"] for alert in _by_urgency(documents) if alert["state"] == "firing"]
    more = [f"and {len(said) - 3} more"] if len(said) > 3 else []
    return [*said[:3], *more]


def _by_urgency(documents: Sequence[Document]) -> List[Mapping[str, Any]]:
    """What fires before what waits or is held back, then the worst first."""
    found = [alert for alert in _each(documents, "alerts") if alert["state"] != "resolved"]
    return sorted(found, key=lambda a: (_ORDER.index(a["state"]), -_RANK[a["severity"]]))


_ORDER = ("firing", "pending", "suppressed", "silenced")


def _stale(document: Document, now: float) -> bool:
    return now - float(document["at"]) > _STALE * float(document["interval"])


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


def _alerts(documents: Sequence[Document], told: Mapping[str, Sequence[str]]) -> str:
    rows = [
        (
            alert["severity"],
            alert["state"],
            alert["summary"],
            (alert.get("since") or "-").partition(".")[0].replace("T", " "),
            ", ".join(told.get(alert["key"], ())) or "-",
        )
        for alert in _by_urgency(documents)
    ]
    header = ("severity", "state", "what", "since (UTC)", "told")
    return _table(header, rows) or "<p>Nothing, of what was looked at.</p>"


def _components(documents: Sequence[Document]) -> str:
    rows = [
        (c["name"], c["status"], c["up"], _milliseconds(c["response_time_ms"]), c["message"])
        for c in sorted(_each(documents, "components"), key=lambda c: -_RANK.get(c["status"], -1))
    ]
    header = ("component", "status", "up", "response", "what was seen")
    return _table(header, rows) or _NOT_LOOKED.format("health_check.py")


def _findings(documents: Sequence[Document]) -> str:
    rows = [
        (found["severity"], found["sentence"], found.get("action") or "-")
        for found in sorted(_each(documents, "findings"), key=lambda f: -_RANK[f["severity"]])
    ]
    header = ("severity", "what", "first step")
    return _table(header, rows) or "<p>None, of what was looked at.</p>"


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
            more = f"<p>and {found['more']} more</p>" if found["more"] else ""
            table = _table(("client", "verdict", "rotation", "why"), rows)
            return f"<p>{escape(counts or 'no credential was seen')}</p>{table}{more}"
    return _NOT_LOOKED.format("credential_usage_metrics.py")


def _unread(documents: Sequence[Document]) -> str:
    rows = [(source["name"], source["why"]) for source in _each(documents, "unread")]
    return _table(("source", "why"), rows) or "<p>Everything that was asked answered.</p>"


_NOT_LOOKED = "<p>Not known: {} has not looked on this state folder.</p>"


def _each(documents: Sequence[Document], name: str) -> Iterator[Any]:
    for document in documents:
        yield from document[name]


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(header: Sequence[str], rows: Sequence[Tuple[Any, ...]]) -> str:
    """Empty without rows. A word of severity has a mark of its own beside its colour."""
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


def _milliseconds(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:,.1f} ms"
