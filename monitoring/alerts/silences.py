"""Keep: silences set from the command line (`--silence`), in the state file, for all scripts."""

from __future__ import annotations

import difflib
import fnmatch
import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

from monitoring.alerts import advice as advice_findings, grouping as causes
from monitoring.alerts.conditions import BLIND, UP
from monitoring.catalog import THRESHOLDS
from monitoring.config.settings import Silence
from monitoring.model import Alert, AlertKey, Notice, OperatorError, Severity
from monitoring.reasons import ELSEWHERE, REASONS
from monitoring.text import iso_seconds, say

_SCOPE = "silences"
_FIELDS = ("environment", "script", "component", "metric", "client")
_PREFIX = "PaymentApi"
_MOST_HINTED = 5


def names(asked: str, known: Iterable[AlertKey]) -> list[Mapping[str, str]]:
    """What `--silence ASKED` is about, as patterns of an alert's key: an alert's name as messages
    spells it (`PaymentApiHealthStatus`, `health_status`), or a key as `--alerts` shows it. `known`
    are the keys of alerts that were seen. Raises OperatorError for what names nothing."""
    known = tuple(known)
    there = {*_names(), *(key.metric for key in known)}
    metric = spelt(asked)
    if asked.count("/") == len(_FIELDS) - 1:
        parts = [part.replace("%2F", "/").replace("%25", "%") for part in asked.split("/")]
        metric = parts[3]
        if causes.is_family(asked):  # wherever and of whomever it shows
            match = {name: glob.escape(parts[n]) for n, name in enumerate(_FIELDS[:2])}
            return [{**match, "metric": each} for each in causes.metrics_of(metric)]
        if metric in there:
            return [{name: glob.escape(part) for name, part in zip(_FIELDS, parts)}]
    elif metrics := causes.metrics_of(metric):
        return [{"metric": each} for each in metrics]
    elif fnmatch.filter(there, metric):
        return [{"metric": metric}]
    raise OperatorError(f"--silence {asked}: no alert has that name{_hint(asked, there, known)}")


def _hint(asked: str, there: Iterable[str], known: Sequence[AlertKey]) -> str:
    """What was meant instead; of a component or a client its alerts."""
    of_it = sorted(key.text for key in known if asked in (key.component, key.client))
    if of_it:
        return f"; that is a place. Alerts there: {', '.join(of_it[:_MOST_HINTED])}"
    metric = asked.split("/")[3] if asked.count("/") == len(_FIELDS) - 1 else spelt(asked)
    places = {place for key in known for place in (key.component, key.client)} - {""}
    near = difflib.get_close_matches(metric, sorted({*there, *places}), n=1)
    return f"; did you mean {near[0]}?" if near else "; --alerts names those that fire"


def _names() -> Iterator[str]:
    yield from (UP, BLIND, *ELSEWHERE, *advice_findings.FINDINGS)
    yield from (reason for reasons in REASONS.values() for reason in reasons)
    yield from (threshold.key for threshold in THRESHOLDS.values())


def spelt(name: str) -> str:
    """The one spelling under which a silence is kept: `PaymentApiHealthStatus` ->
    `health_status`; other names stay as they are."""
    bare = name[len(_PREFIX) :] if name.startswith(_PREFIX) else ""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", bare).lower() if bare else name


def put(state: Any, asked: str, found: Sequence[Silence]) -> None:
    """Keep silences under the name that was asked for, replacing an earlier one of that name.
    Raises StateError."""
    rows = [
        {"match": dict(one.match), "owner": one.owner, "reason": one.reason, "until": one.until}
        for one in found
    ]
    state.put(_SCOPE, spelt(asked), json.dumps(rows))


def remove(state: Any, asked: str) -> bool:
    """End a silence before its time; False: there was none of that name. Raises StateError."""
    name = spelt(asked)
    there = state.get(_SCOPE, name) is not None
    with state.transaction() as tx:
        forget(tx, name)
    return there


def forget(tx: Any, name: str) -> None:
    """Take a silence out of the state, within a transaction."""
    tx.execute("DELETE FROM kv WHERE scope = ? AND key = ?", (_SCOPE, name))


def kept(state: Any) -> Mapping[str, tuple[Silence, ...]]:
    """Name -> silences, those included whose time is over. Raises StateError."""
    rows = state.read("SELECT key, value FROM kv WHERE scope = ? ORDER BY key", (_SCOPE,))
    return dict(filter(None, state.parsed(rows, _parsed)))


def _parsed(row: tuple[Any, ...]) -> tuple[str, tuple[Silence, ...]]:
    return str(row[0]), tuple(
        Silence(dict(one["match"]), str(one["owner"]), str(one["reason"]), float(one["until"]))
        for one in json.loads(row[1])
    )


def in_force(found: Mapping[str, Sequence[Silence]]) -> tuple[Silence, ...]:
    """All of them; whether the time of one is over is decided where it is applied."""
    return tuple(silence for silences in found.values() for silence in silences)


def ended(
    found: Mapping[str, Sequence[Silence]], environment: str, script: str, now: float
) -> Iterator[tuple[str, Notice]]:
    """Each silence whose time is over, with the note that tells of its end."""
    for name, silences in found.items():
        if silences and now >= silences[0].until:
            yield (
                name,
                _note(
                    name,
                    silences[0],
                    AlertKey(environment, script, "monitoring", "silence_ended"),
                    now,
                ),
            )


def _note(name: str, silence: Silence, key: AlertKey, now: float) -> Notice:
    summary = (
        f"the silence of {name} has ended: {silence.owner} had set it until "
        f"{iso_seconds(silence.until)} ({silence.reason})"
    )
    return Notice(Alert(key, Severity.WARNING, summary), "note", now, silence.until)


def said(asked: str, silence: Silence, seconds: float) -> str:
    """One sentence for whoever set it."""
    until = iso_seconds(silence.until)
    return (
        f"{asked} is silenced by {silence.owner} for {say(seconds)}, until {until}: "
        f"{silence.reason}"
    )


def owner(environ: Mapping[str, str], login: Optional[str]) -> str:
    """Who sets a silence: the person behind sudo, else the user."""
    return environ.get("SUDO_USER") or login or "somebody"
