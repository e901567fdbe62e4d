"""Present: the page about one's own system: the verdict first, then what each script saw last.

Each script keeps what it saw in the state folder, so that any of them can show the whole. What a
stranger said is escaped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import (
    Any,
    NamedTuple,
    Optional,
)
from urllib.parse import quote

from monitoring.catalog import SCRIPTS
from monitoring.certainty import Basis, Coverage, severity
from monitoring.model import AlertRow, Outcome, Severity
from monitoring.output import headline, report, token_rows
from monitoring.output.pages import Bar, page, percent, watched_share
from monitoring.text import iso_seconds, redact, redacted, safe_id, say

_SCOPE = "status"
_STALE = 2  # intervals of a script since its last cycle: what it saw is then no news any more
_MOST = 50  # rows of a table; the rest is counted
_SHOWN = ("firing", "pending", "suppressed", "silenced")  # states of an alert, in this order
_UP = {True: "up", False: "down", None: "not known"}

Document = Mapping[str, Any]


def keep(state: Any, seen: Document) -> None:
    """Remember the document of a cycle. Raises StateError."""
    state.put(_SCOPE, str(seen["script"]), json.dumps(seen))


def with_others(state: Any, own: Document) -> list[Document]:
    """`own`, and what each other script of the same environment and version saw last. `state` None:
    `own` alone. Raises StateError."""
    if state is None:
        return [own]
    sql = "SELECT value FROM kv WHERE scope = ? AND key != ? ORDER BY key"
    rows = state.read(sql, (_SCOPE, own["script"]))
    return [own, *filter(None, state.parsed(rows, partial(_kept, own=own)))]


def _kept(row: tuple[Any, ...], own: Document) -> Optional[Document]:
    seen: Document = json.loads(row[0])
    same = all(seen[name] == own[name] for name in ("environment", "version"))
    return seen if same else None


def document(outcome: Outcome, interval: float, runbooks: str = "") -> Document:
    """What the page shows of a cycle, secrets masked; `interval` is the seconds to the next one,
    `runbooks` where they can be read (empty: no links). `findings`, `alerts` and the `rows` of
    `credentials` are the worst, `more` counts the rest."""
    findings = sorted(outcome.findings, key=lambda found: -found.severity)
    shown = (row for row in outcome.alerts if row.state in _SHOWN)
    alerts = _by_urgency(_alert(row, runbooks) for row in shown)
    made = {
        "script": outcome.script,
        "environment": outcome.environment,
        "version": outcome.version,
        "at": outcome.at + outcome.seconds,
        "interval": interval,
        "status": outcome.status.word,
        "sentence": headline.headline(outcome),
        "first": headline.first_step(outcome),
        "levels": list(_levels(outcome)),
        "components": [
            {
                "name": c.name,
                "configured": c.configured,
                **{k: v for k, v in report.component_json(c).items() if k != "details"},
            }
            for c in headline.in_order(outcome.components)
        ],
        "findings": _worst([report.finding_json(found) for found in findings[:_MOST]], findings),
        "alerts": _worst(alerts[:_MOST], alerts),
        "unread": list(_unread(outcome)),
        "tokens": None if outcome.tokens is None else list(token_rows.rows(outcome.tokens)),
        "credentials": None if outcome.credentials is None else _credentials(outcome.credentials),
    }
    return dict(redacted(report.plain_json(made)))


def _alert(row: AlertRow, runbooks: str) -> dict[str, Any]:
    """An alert with the first thing to do and the address of its page, if there is one."""
    link = ""
    if row.alert.runbook and runbooks.startswith(("https://", "http://")):
        link = f"{runbooks.rstrip('/')}/{quote(row.alert.runbook)}.md"
    return {**report.alert_json(row), "action": row.alert.action, "link": link}


_MONTH = "30d"
#: Column of the service levels -> the measurement that fills it, `payment_api_` of a component and
#: `payment_api_system_` of all together.
_LEVELS = {
    "target": "sla_target_ratio",
    "up": "sla_availability_ratio",
    "budget left": "error_budget_remaining_ratio",
    "not watched": "sla_unknown_ratio",
}
_SYSTEM = "overall"


def _levels(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """A row for each component that has a target, then one of all together: the last month as
    ratios, None for what is not known."""
    names = {f"payment_api_{name}": column for column, name in _LEVELS.items()}
    names.update({f"payment_api_system_{name}": column for column, name in _LEVELS.items()})
    found: dict[str, dict[str, Optional[float]]] = {}
    for figure in sorted(outcome.measurements, key=lambda each: "component" not in each.labels):
        column = names.get(figure.name)
        if column and figure.labels.get("window", _MONTH) == _MONTH:
            component = figure.labels.get("component", _SYSTEM)
            found.setdefault(component, {})[column] = figure.value
    for component, ratios in found.items():
        yield {"component": component, **{column: ratios.get(column) for column in _LEVELS}}


def _worst(shown: list[Any], of: Sequence[Any]) -> dict[str, Any]:
    return {"rows": shown, "more": len(of) - len(shown)}


def _by_urgency(alerts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What fires before what waits or is held back, then the worst first."""
    return sorted(alerts, key=lambda a: (_SHOWN.index(a["state"]), -_severity(a["severity"])))


def _severity(word: Any) -> Severity:
    return Severity[str(word).upper()]


def _unread(outcome: Outcome) -> Iterator[dict[str, str]]:
    """What was not read, was not read to its end, or makes the whole doubtful."""
    for source in outcome.sources:
        if source.configured and (not source.ok or source.truncated):
            cut = "the look ended before its end" if source.ok else "could not be read"
            yield {"name": source.name, "why": source.why or cut}
    for doubt in outcome.doubts:
        yield {"name": outcome.script, "why": doubt.sentence}


def _credentials(credentials: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    unwell = {name: row for name, row in credentials.items() if not report.is_well(row)}
    rows = [
        {"client": safe_id(name), **{k: row.get(k) for k in ("verdict", "state", "why")}}
        for name, row in list(unwell.items())[:_MOST]
    ]
    verdicts = Counter(str(row.get("verdict")) for row in credentials.values())
    due = headline.next_due(credentials).lstrip("; ")
    return {"verdicts": verdicts, "due": due, **_worst(rows, list(unwell))}


def render_status(
    documents: Sequence[Document],
    notified: Optional[Mapping[str, Sequence[str]]],
    now: float,
    note: str = "",
    *,
    past: Optional[Mapping[str, Sequence[Bar]]] = MappingProxyType({}),
) -> str:
    """The page as of `now`. `notified`: key of an alert -> the channels that know of it; None: that
    could not be read. `past`: component -> how it stood in the last day and month, None
    likewise. `note` is HTML below the headline, for whoever serves the page; a page without one is
    a file, and says that it grows old."""
    word = verdict(documents, now)
    text = page(
        "status.html",
        head=f"{documents[0]['environment']}: {_HEADS[word]}",
        word=word,
        tones=_TONE,
        wrong=_wrong(documents),
        first=_first(documents),
        at=iso_seconds(now),
        version=str(documents[0]["version"]),
        note=note,
        sections=[
            _looks(documents, now),
            _alerts(documents, notified),
            _components(documents),
            _past(past),
            _service_levels(documents),
            _findings(documents),
            _tokens(documents),
            _rotations(documents),
            _sources(documents),
        ],
    )
    return redact(text)


@dataclass(frozen=True)
class Section:
    """A part of the page: a sentence, a table or bars, and a sentence below them. Each row is as
    long as the header; a cell is a text, a word of `_TONE`, None (shown as -) or a `_Step`."""

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    said: str = ""
    more: str = ""
    bars: Mapping[str, Sequence[Bar]] = field(default_factory=dict)


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


def _worst_first(documents: Sequence[Document]) -> list[Document]:
    return sorted(documents, key=lambda each: -_severity(each["status"]))


def _wrong(documents: Sequence[Document]) -> list[str]:
    """The headline of each script that has something to say, the worst first."""
    return [str(each["sentence"]) for each in _worst_first(documents) if each["status"] != "ok"]


def _first(documents: Sequence[Document]) -> list[str]:
    """What to do first; none while nothing is wrong."""
    return [str(each["first"]) for each in _worst_first(documents) if each.get("first")][:1]


def _looks(documents: Sequence[Document], now: float) -> Section:
    found = {each["script"]: each for each in documents}
    rows = []
    for script in SCRIPTS:
        seen = found.get(script)
        if seen is None:
            rows.append((script, "unknown", "-", "has not looked; nothing is known of its part"))
            continue
        age = say(float(max(1, round(now - float(seen["at"]))))) + " ago"
        old = " (overdue: what it says may be over)" if _stale(seen, now) else ""
        said = seen["sentence"] if seen["status"] == "ok" else "said above"
        rows.append((script, seen["status"], age + old, said))
    header = ("script", "status", "looked", "what it says")
    return Section("What each script says", header, rows)


def _alerts(
    documents: Sequence[Document], notified: Optional[Mapping[str, Sequence[str]]]
) -> Section:
    rows = [
        (
            alert["severity"],
            _state(alert),
            alert["summary"],
            _clock(alert.get("since")),
            "not known"
            if notified is None
            else ", ".join(notified.get(alert["key"], ())) or "nobody",
            _Step(alert.get("action") or "-", alert.get("link") or ""),
        )
        for alert in _by_urgency(_rows(documents, "alerts"))
    ]
    header = ("severity", "state", "what", "since", "notified", "do first")
    said = "" if rows else "Nothing, of what was looked at."
    return Section("What fires", header, _once(rows), said, _more(documents, "alerts"))


def _state(alert: Mapping[str, Any]) -> str:
    """`suppressed (conjur-vault is down)`; what goes on by itself has no reason."""
    why = alert.get("why")
    return f"{alert['state']} ({why})" if why else str(alert["state"])


def _clock(at: Optional[str]) -> str:
    """`2026-11-23T02:13:20Z`, without the milliseconds."""
    return f"{at.partition('.')[0].rstrip('Z')}Z" if at else "-"


class _Step(NamedTuple):
    """What to do first; `link` is the address of the page that says more, if there is one."""

    text: str
    link: str


def _service_levels(documents: Sequence[Document]) -> Section:
    rows = [
        (
            row["component"],
            _share(row["target"]),
            _watched(row["up"], row["not watched"]),
            _share(row["budget left"]),
        )
        for each in documents
        for row in each.get("levels") or ()
    ]
    header = ("component", "target", "up", "error budget left")
    title = "Service levels of the last 30 days"
    return Section(title, header, rows, _not_looked(rows, "health_check.py"))


def _watched(up: Optional[float], unknown: Optional[float]) -> str:
    """`99.9 % of the time watched (42 %)`: a month that was hardly watched was not a good one."""
    if up is None or unknown is None:
        return "not known"
    return f"{percent(up)} of the time watched ({watched_share(1.0 - unknown)})"


def _share(ratio: Optional[float]) -> str:
    return "not known" if ratio is None else percent(ratio)


def _components(documents: Sequence[Document]) -> Section:
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
    return Section("Components", header, rows, _not_looked(rows, "health_check.py"))


def _past(past: Optional[Mapping[str, Sequence[Bar]]]) -> Section:
    said = "" if past else "Nothing is recorded yet."
    if past is None:
        said = "Not known: what was recorded could not be read."
    return Section("The last day and month", said=said, bars=past or {})


def _findings(documents: Sequence[Document]) -> Section:
    """What no alert above tells in the same words."""
    told = {alert["summary"] for alert in _rows(documents, "alerts")}
    found = sorted(_rows(documents, "findings"), key=lambda f: -_severity(f["severity"]))
    rows = [
        (f["severity"], f["sentence"], f.get("action") or "-")
        for f in found
        if f["sentence"] not in told
    ]
    none = "None but what fires." if found else "None, of what was looked at."
    said = "" if rows else none
    header = ("severity", "what", "first step")
    return Section("Findings", header, rows, said, _more(documents, "findings"))


def _tokens(documents: Sequence[Document]) -> Section:
    for each in documents:
        if each["tokens"] is not None:
            return Section("Tokens", ("figure", ""), each["tokens"])
    return Section("Tokens", said=_not_looked((), "token_usage_metrics.py"))


def _rotations(documents: Sequence[Document]) -> Section:
    title = "Credentials and rotations"
    for each in documents:
        found = each["credentials"]
        if found is not None:
            counts = ", ".join(f"{n} {word}" for word, n in sorted(found["verdicts"].items()))
            rows = [tuple(row.values()) for row in found["rows"]]
            said = "; ".join(filter(None, (counts, found.get("due")))) or "no credential was seen"
            header = ("client", "verdict", "rotation", "why")
            return Section(title, header, rows, said, _more([each], "credentials"))
    return Section(title, said=_not_looked((), "credential_usage_metrics.py"))


def _sources(documents: Sequence[Document]) -> Section:
    rows = [(source["name"], source["why"]) for each in documents for source in each["unread"]]
    said = "" if rows else "Everything that was asked answered."
    return Section("What could not be read", ("source", "why"), _once(rows), said)


def _once(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows without those that another script has in the same words."""
    return list(dict.fromkeys(rows))


def _not_looked(rows: Sequence[Any], script: str) -> str:
    return "" if rows else f"Not known: {script} has not looked on this state folder."


def _rows(documents: Sequence[Document], name: str) -> Iterator[Any]:
    for document in documents:
        yield from document[name]["rows"]


def _more(documents: Sequence[Document], name: str) -> str:
    count = sum(each[name]["more"] for each in documents)
    return f"and {count} more" if count else ""
