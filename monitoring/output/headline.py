"""Present: the sentence that heads every view of a cycle, its first step, and what has changed.

Pure functions of an Outcome, used by the terminal, by the loop that is updated in place and by the
status page, so that all of them lead with the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

from monitoring.alerts import conditions
from monitoring.alerts.grouping import foremost
from monitoring.certainty import OK, UNKNOWN
from monitoring.components import NEAREST_FIRST, explained_by
from monitoring.model import RECOVERING, Alert, Component, Outcome, Severity
from monitoring.output import token_rows
from monitoring.reasons import of_rotation
from monitoring.text import amount, counted, percentage, safe_id, say

_MOST_NAMED = 3
_RECENT = ("firing", "pending")
_GROWN = 0.2  # share by which the live tokens must change between two cycles to be worth a line

# -- which component explains which


def in_order(components: Sequence[Component]) -> list[Component]:
    """What is down first, the cause before what leans on it, then the worst, of equals what the
    others lean on, then what is well; what nobody configured last."""
    troubled = {c.name for c in components if _unwell(c)}

    def place(component: Component) -> tuple[bool, bool, bool, int, int, int]:
        behind = len(troubled.intersection(explained_by(component.name, down=False)))
        well = component.status is Severity.OK
        known = component.name in NEAREST_FIRST and not well
        depth = NEAREST_FIRST.index(component.name) if known else len(NEAREST_FIRST)
        up = component.up is not False
        return not component.configured, well, up, behind, -component.status, depth

    return sorted(components, key=place)


def _unwell(component: Component) -> bool:
    bad = component.up is False or component.status > Severity.UNKNOWN
    return component.configured and bad


# -- the headline


def headline(outcome: Outcome) -> str:
    """What is wrong, since when and with what consequence, in one sentence; or that all is well."""
    worst = _worst_sentence(outcome)
    told = "" if outcome.components else worst  # it comes first then
    said = [*_of_components(outcome), *_of_credentials(outcome, told), *_of_tokens(outcome)]
    if worst and not outcome.components:
        said.insert(0, worst)
    unread = [] if outcome.components else list(_of_sources(outcome, worst))
    if outcome.components:  # sources are components, and said as such
        well = all(c.status is Severity.OK or not c.configured for c in outcome.components)
        said += [worst] if worst and well else []
    doubts = [] if said or unread else [doubt.sentence for doubt in outcome.doubts]
    parts = [part.rstrip(".") for part in (*said, *unread, *doubts)]
    return "; ".join(parts) or "nothing was measured"


def _of_sources(outcome: Outcome, said: str) -> Iterator[str]:
    """What could not be read, unless it stands in `said`."""
    unread = [s.name for s in outcome.sources if s.configured and not s.ok and s.name not in said]
    named, more = unread[:_MOST_NAMED], len(unread) - _MOST_NAMED
    if unread:
        yield f"{_listed([*named, *([f'{more} more'] if more > 0 else [])])} could not be read"


def _of_components(outcome: Outcome) -> Iterator[str]:
    """What is down with who suffers from it, what else is not well, what is not known."""
    asked = [c for c in outcome.components if c.configured]
    ordered = [c for c in in_order(asked) if _unwell(c)]
    down = [c for c in ordered if c.up is False]
    names = {c.name for c in down}
    suffer = [c.name for c in ordered if names.intersection(conditions.causes_of(c))]
    roots = [c for c in down if c.name not in suffer]
    behind = [c for c in ordered if c not in roots]
    alone = [c for c in behind if c.name not in suffer]
    if roots:
        it = "it" if len(roots) == 1 else "them"
        verb = "suffers" if len(suffer) == 1 else "suffer"
        yield f"{_so_many(down, asked)} down: {_with_times(roots, outcome)}"
        yield from [f"{_listed(suffer)} {verb} from {it}"] if suffer else []
    if alone:
        yield f"{_so_many(alone, asked)} not well: {_with_times(alone, outcome)}"
    unknown = [c.name for c in asked if c.status is Severity.UNKNOWN and c.up is not False]
    if unknown:
        states = "state" if len(unknown) == 1 else "states"
        yield f"the {states} of {_listed(unknown)} {_is(unknown)} not known"
    if asked and not ordered and not unknown:
        yield f"all {len(asked)} work" if len(asked) > 1 else f"{asked[0].name} works"
    unasked = [c.name for c in outcome.components if not c.configured]
    if unasked:
        yield f"{_listed(unasked)} {_is(unasked)} not configured"


def _so_many(some: Sequence[Component], of: Sequence[Component]) -> str:
    return f"{len(some)} of {len(of)} {_is(some)}"


def _is(some: Sequence[Any]) -> str:
    return "is" if len(some) == 1 else "are"


def _with_times(components: Sequence[Component], outcome: Outcome) -> str:
    """`redis-cache, for 52 s`; of several each with its time in brackets."""
    found = [(c.name, _since(c.name, outcome)) for c in components]
    if len(found) == 1:
        name, lasts = found[0]
        return f"{name}, for {lasts}" if lasts else name
    return ", ".join(f"{name} (for {lasts})" if lasts else name for name, lasts in found)


def _since(name: str, outcome: Outcome) -> str:
    """How long the component has not been well; empty: from this cycle on, or not known."""
    rows = [row for row in outcome.alerts if row.state in _RECENT and row.since is not None]
    about = [row for row in rows if row.alert.key.component == name]
    down = [row for row in about if row.alert.key.metric == conditions.UP] or about
    begun = min((row.since for row in down if row.since is not None), default=outcome.at)
    lasts = outcome.at + outcome.seconds - begun
    return say(round(lasts)) if lasts >= 1.0 and begun < outcome.at else ""


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _worst_sentence(outcome: Outcome) -> str:
    """The most dangerous thing that no row of the table tells; empty: there is none."""
    rows = set(row_sentences(outcome))
    first = foremost(alert for alert in _to_do(outcome) if alert.summary not in rows)
    return "" if first is None else first.summary


def _of_credentials(outcome: Outcome, told: str) -> Iterator[str]:
    """What is to be said of them; `told` is the sentence before it."""
    rows = outcome.credentials
    if rows is None:
        return
    bad = [(name, str(row.get("verdict")).replace("_", " ")) for name, row in rows.items()
           if row.get("verdict") not in (OK, UNKNOWN)]  # fmt: skip
    unknown = sum(row.get("verdict") == UNKNOWN for row in rows.values())
    of = counted(len(rows), "credential")
    if not rows:
        yield "no credential is known"
    elif bad:
        named = [f"{safe_id(name)} {word}" for name, word in bad[:_MOST_NAMED]]
        more = [f"{len(bad) - _MOST_NAMED} more"] if len(bad) > _MOST_NAMED else []
        verb = "needs" if len(bad) == 1 else "need"
        new = len(bad) > 1 or not all(part in told for part in (safe_id(bad[0][0]), bad[0][1]))
        which = f": {_listed([*named, *more])}" if new else ""
        yield f"{len(bad)} of {of} {verb} a look{which}"
    elif not unknown:
        yield f"{of} {next(iter(rows.values()))['verdict']}{next_due(rows)}"
    if unknown:
        yield f"the state of {f'{unknown} more' if bad else f'{unknown} of {of}'} is not known"
    moving = (r for r in rows.values() if r.get("verdict") == OK and r.get("state") != "active")
    rotating = sum(1 for _ in moving)
    failing = sum(bool(row.get("failures")) for row in rows.values())
    yield from [f"{rotating} in rotation or disabled"] if rotating else []
    yield from [f"logins of {counted(failing, 'client')} failed"] if failing else []


def next_due(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """`; next due client-012 in 21 d`. Of an age that is only a minimum it is not known when it
    ends, so that client may be due before; empty where nothing is known. Who is overdue is no
    longer next."""
    known = [(row["due_in_days"], name) for name, row in rows.items()
             if isinstance(row.get("due_in_days"), (int, float))]  # fmt: skip
    due = [each for each in known if each[0] >= 0]
    if not due:
        return ""
    first = "next due" if len(known) == len(rows) else "the next known to be due is"
    return f"; {first} {safe_id(min(due)[1])} in {min(due)[0]:.0f} d"


def _of_tokens(outcome: Outcome) -> Iterator[str]:
    tokens = outcome.tokens
    if tokens is None or tokens.get("active") is None:
        return
    parts = [token_rows.live_tokens(tokens)]
    rate = tokens.get("generation_rate_per_minute")
    share = (tokens.get("validations") or {}).get("success_rate")
    parts += [] if rate is None else [f"{amount(rate)} generated per minute"]
    parts += [] if share is None else [f"{percentage(share)} of validations succeed"]
    yield ", ".join(parts)


# -- the first step


def first_step(outcome: Outcome) -> str:
    """What to do first about the worst of this cycle; empty: nothing is to be done."""
    alert = foremost(_to_do(outcome))
    if alert is None:
        return ""
    if alert.summary in row_sentences(outcome):
        bad = ((n, r) for n, r in (outcome.credentials or {}).items() if r.get("verdict") != OK)
        name, row = next(bad, (alert.key.client, {}))  # the rows are sorted, the worst first
        return f"{safe_id(name)}: {row.get('todo') or alert.action}"
    several = sum(component.up is False for component in outcome.components) > 1
    return f"{alert.key.component}: {alert.action}" if several and alert.action else alert.action


def _to_do(outcome: Outcome) -> tuple[Alert, ...]:
    """What somebody has to see to: what fires or is about to; where nobody is told, what would."""
    rows = [row.alert for row in outcome.alerts if row.state in _RECENT and row.why != RECOVERING]
    if rows or outcome.alerts:
        return tuple(rows)
    bad = [a for a in conditions.conditions(outcome) if a.severity > Severity.UNKNOWN]
    down = {a.key.component for a in bad if a.key.metric == conditions.UP and a.value == 0.0}
    return tuple(alert for alert in bad if not down.intersection(alert.parent.split()))


# -- what need not be said again, because it stands above


def said_in_rows(outcome: Outcome) -> frozenset[str]:
    """Sentences of findings and alerts that the table's rows or the headline tell."""
    return frozenset([*row_sentences(outcome), _worst_sentence(outcome)])


def row_sentences(outcome: Outcome) -> Iterable[str]:
    """What findings say of a credential that its row tells."""
    for name, row in (outcome.credentials or {}).items():
        yield of_rotation(name, row.get("verdict"), row.get("why"))


def stands_above(summary: str, outcome: Outcome, said: frozenset[str]) -> bool:
    """Whether an alert's sentence is told by a component's row, a finding or the headline; `said`
    as `said_in_rows` gives it."""
    if summary in said or any(f.sentence == summary for f in outcome.findings):
        return True
    tail = summary.partition(": ")[2] or summary
    messages = [c.message for c in outcome.components if c.message]
    return any(message in summary or tail in message for message in messages)


# -- what has changed between two cycles of a loop


def changes(before: Optional[Outcome], after: Outcome) -> list[str]:
    """One line for each thing that is other than a cycle ago; none for the first cycle."""
    if before is None:
        return []
    return [
        *_changed_components(before, after),
        *_changed_credentials(before, after),
        *_changed_findings(before, after),
        *_changed_alerts(before, after),
        *_changed_sources(before, after),
        *_changed_tokens(before, after),
    ]


def _changed_components(before: Outcome, after: Outcome) -> Iterator[str]:
    known = {c.name: _word(c) for c in before.components}
    for c in after.components:
        if known.get(c.name, _word(c)) != _word(c):
            yield f"{c.name}: {known[c.name]} -> {_word(c)}: {c.message}"


def _word(component: Component) -> str:
    return "down" if component.up is False else component.status.word


def _changed_credentials(before: Outcome, after: Outcome) -> Iterator[str]:
    known = before.credentials or {}
    for name, row in (after.credentials or {}).items():
        was = known.get(name, row)
        for field in ("verdict", "state"):
            if was.get(field) != row.get(field):
                change = f"{safe_id(name)}: {field} {was.get(field)} -> {row.get(field)}"
                yield f"{change}: {row.get('why')}"
                break


def _changed_findings(before: Outcome, after: Outcome) -> Iterator[str]:
    known = {(f.reason, f.component, f.client) for f in before.findings}
    now = {(f.reason, f.component, f.client) for f in after.findings}
    rows = set(row_sentences(after))
    for f in after.findings:
        if (f.reason, f.component, f.client) not in known and f.sentence not in rows:
            yield f"new: {f.sentence}"
    for reason, component, client in sorted(known - now):
        yield f"no longer found: {reason.replace('_', ' ')}, {safe_id(client or component)}"


def _changed_alerts(before: Outcome, after: Outcome) -> Iterator[str]:
    fired = {row.alert.key for row in before.alerts if row.state == "firing"}
    for row in after.alerts:
        key = row.alert.key
        about = safe_id(key.client) if key.client else key.component
        what = f"{about}, {key.metric.replace('_', ' ')}"
        if row.state == "resolved":
            yield f"alert ends: {what}"
        elif row.state == "firing" and key not in fired:
            yield f"alert fires: {what}"


def _changed_sources(before: Outcome, after: Outcome) -> Iterator[str]:
    known = {s.name: s.ok for s in before.sources}
    for source in after.sources:
        if source.configured and known.get(source.name, source.ok) != source.ok:
            yield f"{source.name} {'is read again' if source.ok else 'could not be read'}"


def _changed_tokens(before: Outcome, after: Outcome) -> Iterator[str]:
    was, now = (token_rows.in_the_cache(o.tokens or {}, "active") for o in (before, after))
    if was is not None and now is not None and abs(now - was) > _GROWN * max(was, 1):
        yield f"live tokens: {was:,} -> {now:,}"
