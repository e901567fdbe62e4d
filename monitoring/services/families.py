"""Decision: which of a page's families to believe, so that no login or validation counts twice.

A page may count the same thing in several families: with or without client labels, the ends by a
label or by names of their own, or attempts alone. Of each instance the family that says most is
taken; what it does not say is a doubt, and no figure that rests on it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Any,
    NamedTuple,
    Optional,
)

from monitoring.certainty import Doubt
from monitoring.model import Finding, Severity
from monitoring.services.counters import ENDED, READ, TIMED, CounterKey, CounterSample, Delta, Seen
from monitoring.services.labels import ATTEMPTS, BAD, BAD_NAME, GOOD, GOOD_NAME, UNKNOWN_END

#: What a doubt leaves open: how many failed; how many there were at all; whose they are; how some
#: ended, which are counted as unknown; and whether there were more (the counts are lower bounds).
FAILURES, USES, CLIENTS, ENDS, MORE = "failures", "uses", "clients", "ends", "more"
#: Two counts of one thing that differ by no more agree: a page is not read in one moment.
_CLOSE, _CLOSE_SHARE = 2.0, 0.02
_LABEL = {"authentication_attempts": "success", "token_validation": "valid"}
LOGINS, VALIDATIONS, TOKENS = "logins", "validations", "generated tokens"
_NOUN = {
    "authentication_attempts": LOGINS,
    "token_validation": VALIDATIONS,
    "token_generation": TOKENS,
}
_NOBODY = ("", "")

Who = tuple[str, str]  # client ("": no label says it), reason
Amounts = dict[Who, float]


@dataclass(frozen=True)
class Unsure:
    """A doubt about counted logins, validations or tokens (`about`), and the figures that it leaves
    open."""

    about: str
    figures: tuple[str, ...]
    doubt: Doubt


@dataclass(frozen=True)
class Settled:
    """Each event once: keys without `family`, `end` and `word`; those that end well or badly have
    `success` (or `valid`) true, false or unknown, and `client` "" where no label says it."""

    deltas: Mapping[CounterKey, Delta] = field(default_factory=dict)
    unsure: tuple[Unsure, ...] = ()


def leaves_open(unsure: Iterable[Unsure], *figures: str) -> bool:
    """Whether some doubt leaves one of these figures open."""
    return any(set(figures) & set(each.figures) for each in unsure)


def doubts_of(unsure: Iterable[Unsure], *figures: str) -> tuple[Doubt, ...]:
    """The doubts that leave one of these figures open."""
    return tuple(each.doubt for each in unsure if set(figures) & set(each.figures))


def about(noun: str, unsure: Iterable[Unsure]) -> tuple[Unsure, ...]:
    """The doubts about LOGINS, VALIDATIONS or TOKENS."""
    return tuple(each for each in unsure if each.about == noun)


def as_rows(unsure: Iterable[Unsure]) -> list[list[object]]:
    """As JSON keeps them."""
    return [
        [each.about, list(each.figures), each.doubt.reason, each.doubt.sentence] for each in unsure
    ]


def from_rows(rows: Iterable[Any]) -> list[Unsure]:
    """From `as_rows`. Raises ValueError, TypeError for what is none."""
    return [Unsure(about, tuple(open_), Doubt(why, said)) for about, open_, why, said in rows]


def settled(found: Mapping[CounterKey, Delta], page: Seen) -> Settled:
    """`found` are the increases of the series in `page`, both by raw keys. The shape of the page
    decides what is believed, the increases are what is counted. An instance of `page` that has none
    is new: nothing of it is counted, and that is a doubt."""
    groups: dict[tuple[str, str, str], list[CounterKey]] = {}
    for key in page:
        if key.name == READ:
            continue
        groups.setdefault((key.source, key.name, key.instance), []).append(key)
    deltas: dict[CounterKey, Delta] = {}
    unsure: list[Unsure] = []
    for (_, name, _), keys in groups.items():
        known = {key: found[key] for key in keys if key in found}
        unsure += _lower_bounds(name, known.values())
        if name not in ENDED:
            deltas.update(_preferred(known))
            continue
        if not known:
            continue
        account = _account(_sides(keys, known, page), _NOUN[name])
        deltas.update(_canonical(keys[0], account, known.values()))
        unsure += account.unsure
    return Settled(deltas, tuple(dict.fromkeys(unsure)))


def _lower_bounds(name: str, deltas: Collection[Delta]) -> Iterator[Unsure]:
    """What one instance counts is not all: it is new, or began anew."""
    if name in _NOUN and (not deltas or any(delta.reset for delta in deltas)):
        why = "a service restarted" if deltas else "an instance is new to this monitor"
        said = f"{why}: {_NOUN[name]} that it counted and nobody read are missing, so that counts"
        yield Unsure(_NOUN[name], (MORE,), Doubt("lower_bound", f"{said} are lower bounds"))


def _preferred(known: Mapping[CounterKey, Delta]) -> dict[CounterKey, Delta]:
    """What ends neither well nor badly: the increases of the first family, of those with client
    labels where there are any."""
    rows = {key: dict(key.labels) for key in known}
    ranked = sorted(("client" not in row, row.get("family", "")) for row in rows.values())
    kept: dict[CounterKey, Delta] = {}
    for key, row in rows.items():
        if row.pop("family", "") == ranked[0][1]:
            labels = row if "status" in row else {"client": "", **row}
            kept[key._replace(labels=tuple(sorted(labels.items())))] = known[key]
    return kept


def _canonical(
    one: CounterKey, account: _Account, deltas: Iterable[Delta]
) -> Iterator[tuple[CounterKey, Delta]]:
    """The account under the keys that are kept, the reset and the time being the instance's."""
    every = list(deltas)
    seconds, reset = max(d.seconds for d in every), any(d.reset for d in every)
    for end, amounts in ((GOOD, account.good), (BAD, account.bad), (UNKNOWN_END, account.odd)):
        for (client, reason), amount in amounts.items():
            labels = {"client": client, _LABEL[one.name]: end}
            if one.name == "token_validation":
                labels["reason"] = reason
            key = one._replace(labels=tuple(sorted(labels.items())))
            yield key, Delta(amount, seconds, reset)


# -- the ends of each family


class _Row(NamedTuple):
    who: Who
    total: float  # on the page
    grown: float


class _Side(NamedTuple):
    """One end of one family. `labelled`: its series name clients. `words`: what was not understood
    of its labels, with what grew under it."""

    family: str
    amounts: Amounts
    totals: Amounts
    words: Mapping[str, float]
    double: bool = False

    @property
    def labelled(self) -> bool:
        return any(client for client, _ in self.totals)

    @property
    def sum(self) -> float:
        return sum(self.amounts.values())


Sides = Mapping[str, Sequence[_Side]]  # end -> its sides, preferred families first


def _sides(keys: Iterable[CounterKey], known: Mapping[CounterKey, Delta], page: Seen) -> Sides:
    rows: dict[tuple[str, str], list[_Row]] = {}
    words: dict[tuple[str, str], dict[str, float]] = {}
    for key in _counted_plainly(keys):
        labels = dict(key.labels)
        place = labels.get("end", ATTEMPTS), labels.get("family", "")
        grown = known[key].increase if key in known else 0.0
        who = labels.get("client", ""), labels.get("reason", "")
        rows.setdefault(place, []).append(_Row(who, page[key][0], grown))
        said = words.setdefault(place, {})
        if "word" in labels:
            said[labels["word"]] = said.get(labels["word"], 0.0) + grown
    found: dict[str, list[_Side]] = {}
    for (end, family), group in sorted(rows.items(), key=lambda item: item[0][1]):
        found.setdefault(end, []).append(_side(family[4:], group, words[end, family]))
    return found


def _counted_plainly(keys: Iterable[CounterKey]) -> Sequence[CounterKey]:
    """The counts of timers and histograms only where there is no plain counter."""
    every = list(keys)
    plain = [key for key in every if dict(key.labels).get("family", "") < TIMED]
    return plain or every


def _side(family: str, rows: Sequence[_Row], words: Mapping[str, float]) -> _Side:
    """Series without a client beside those of clients are their sum, where they count as much;
    where they count less, they count others. `double`: neither fits, and they may be either."""
    amounts = _summed((row.who, row.grown) for row in rows)
    totals = _summed((row.who, row.total) for row in rows)
    bare = sum(n for (client, _), n in totals.items() if not client)
    named = sum(totals.values()) - bare
    if not bare or not named or bare < named - _close(named):
        return _Side(family, amounts, totals, words)
    rest = sum(n if not client else -n for (client, _), n in amounts.items())
    kept = {who: n for who, n in amounts.items() if who[0]}
    if rest > _close(sum(kept.values())):
        kept[_NOBODY] = rest
    return _Side(family, kept, totals, words, bare > named + _close(named))


def _summed(pairs: Iterable[tuple[Who, float]]) -> Amounts:
    found: Amounts = {}
    for who, amount in pairs:
        found[who] = found.get(who, 0.0) + amount
    return found


def _close(amount: float) -> float:
    return max(_CLOSE, _CLOSE_SHARE * amount)


# -- the accounts that the sides make, and the best of them


class _Account(NamedTuple):
    """One way to read the page. `sides` are those it rests on."""

    good: Amounts
    bad: Amounts
    odd: Amounts
    sides: Sequence[_Side]
    unsure: tuple[Unsure, ...] = ()

    @property
    def labelled(self) -> bool:
        return all(side.labelled for side in self.sides if side.totals)

    @property
    def open(self) -> int:
        """How many figures it leaves open."""
        return sum(len({FAILURES, USES} & set(each.figures)) for each in self.unsure)

    @property
    def all(self) -> Amounts:
        parts = (self.good, self.bad, self.odd)
        return _summed(((c, ""), n) for part in parts for (c, _), n in part.items())


def _account(sides: Sides, noun: str) -> _Account:
    """The account that leaves least open, with clients if one has them. What another one, or a
    family of attempts, counts beyond it is not lost."""
    accounts = [*_by_label(sides, noun), *_by_name(sides, noun)]
    best = min(accounts, key=lambda one: (one.open, bool(one.odd), not one.labelled))
    others = [one for one in accounts if not (one.open or one.odd or one.labelled)]
    if best.labelled and not best.open and others:
        best = best._replace(
            good=_with_rest(best.good, others[0].good), bad=_with_rest(best.bad, others[0].bad)
        )
    best = _short_of_attempts(best, sides.get(ATTEMPTS, ()), noun)
    return best._replace(unsure=(*best.unsure, *_doubts(best, noun)))


def _with_rest(named: Amounts, whole: Amounts) -> Amounts:
    rest = sum(whole.values()) - sum(named.values())
    return {**named, _NOBODY: rest} if rest > _close(sum(named.values())) else named


def _by_label(sides: Sides, noun: str) -> Iterator[_Account]:
    """One account for each family whose label says how it ended. An end that it does not have may
    be counted by a family of its own."""
    ends = (GOOD, BAD, UNKNOWN_END)
    apart = {GOOD: sides.get(GOOD_NAME, ()), BAD: sides.get(BAD_NAME, ())}
    for family in dict.fromkeys(side.family for end in ends for side in sides.get(end, ())):
        own = {end: rows[0] for end, rows in apart.items() if rows}
        own.update((end, s) for end in ends for s in sides.get(end, ()) if s.family == family)
        good, bad, odd = (own[end].amounts if end in own else {} for end in ends)
        words = own[UNKNOWN_END].words if odd else {}
        unsure = _unknown_words(family, words, noun) if sum(odd.values()) else ()
        yield _Account(good, bad, odd, list(own.values()), unsure)


def _by_name(sides: Sides, noun: str) -> Iterator[_Account]:
    """The account of families that count one end alone, and of attempts."""
    good = next(iter(sides.get(GOOD_NAME, ())), None)
    tried = next(iter(sides.get(ATTEMPTS, ())), None)
    bad, unsure = _failures(sides.get(BAD_NAME, ()), good, tried, noun)
    used = [side for side in (good, bad, tried) if side is not None]
    if good and bad:
        yield _Account(good.amounts, bad.amounts, {}, [good, bad], unsure)
    elif good and tried:
        yield _Account(good.amounts, _less(tried, good), {}, used)
    elif bad and tried:
        yield _Account(_less(tried, bad), bad.amounts, {}, used, unsure)
    elif bad:
        said = f"{bad.family} counts the {noun} that failed, and no family those that succeeded"
        unsure = (*unsure, Unsure(noun, (USES,), Doubt("not_read", said)))
        yield _Account({}, bad.amounts, {}, used, unsure)
    elif good:
        said = f"{good.family} counts the {noun} that succeeded, and no family those that failed"
        doubt = Unsure(noun, (USES, FAILURES), Doubt("not_read", said))
        yield _Account(good.amounts, {}, {}, used, (doubt,))
    elif tried:
        unsure = _untold(tried, noun) if tried.sum else ()
        yield _Account({}, {}, dict(tried.amounts), used, unsure)


def _less(whole: _Side, part: _Side) -> Amounts:
    """What is left of the attempts of each client, or of all where only one of both names them."""
    if whole.labelled != part.labelled:
        return {_NOBODY: max(0.0, whole.sum - part.sum)}
    left = _summed(((client, ""), n) for (client, _), n in whole.amounts.items())
    for (client, _), amount in part.amounts.items():
        left[client, ""] = left.get((client, ""), 0.0) - amount
    return {who: max(0.0, amount) for who, amount in left.items()}


def _failures(
    sides: Sequence[_Side], good: Optional[_Side], tried: Optional[_Side], noun: str
) -> tuple[Optional[_Side], tuple[Unsure, ...]]:
    """The failures. Several families of them may be spellings of one count, or parts of it: what
    the attempts leave over decides."""
    distinct = {tuple(sorted(side.totals.items())): side for side in reversed(sides)}
    rows = sorted(distinct.values(), key=lambda side: -side.sum)
    if len(rows) < 2 or not rows[1].sum:
        return (rows[0] if rows else None), ()
    joined = rows[0]._replace(
        amounts=_summed(item for side in rows for item in side.amounts.items()),
        totals=_summed(item for side in rows for item in side.totals.items()),
    )
    if good is not None and tried is not None:
        left = tried.sum - good.sum
        for side in (joined, rows[0]):
            if abs(side.sum - left) <= _close(left):
                return side, ()
    names = " and ".join(side.family for side in rows)
    said = f"{names} may count the same failed {noun} or different ones: name the right family in "
    unsure = Unsure(
        noun, (FAILURES, USES), Doubt("two_readings", said + "SERVICE_METRICS['names']")
    )
    return rows[0], (unsure,)


def _short_of_attempts(best: _Account, tried: Sequence[_Side], noun: str) -> _Account:
    """Attempts beyond those whose end is counted ended in some way that is not."""
    reported, odd = best.all, dict(best.odd)
    side = next((side for side in tried if side not in best.sides), None)
    if side is None or best.open:
        return best
    if side.labelled != best.labelled:
        reported = {_NOBODY: sum(reported.values())}
        side = side._replace(amounts={_NOBODY: side.sum})
    for (client, _), amount in side.amounts.items():
        missing = amount - reported.get((client, ""), 0.0)
        if missing > _close(amount):
            odd[client, ""] = odd.get((client, ""), 0.0) + missing
    if odd == best.odd:
        return best
    said = f"{side.family} counts more {noun} than the families that say how they ended"
    unsure = Unsure(noun, (ENDS,), Doubt("not_read", said))
    return best._replace(odd=odd, unsure=(*best.unsure, unsure))


# -- what stays open


def _unknown_words(family: str, words: Mapping[str, float], noun: str) -> tuple[Unsure, ...]:
    grown = sorted((word for word, n in words.items() if n), key=lambda word: (-words[word], word))
    said = (
        f"{family}: how {noun} ended is not known where {' or '.join(grown[:3])}; add the word to "
        "SERVICE_METRICS['success_words'] or ['failure_words']"
    )
    return (Unsure(noun, (ENDS,), Doubt("unknown_word", said)),)


def _untold(tried: _Side, noun: str) -> tuple[Unsure, ...]:
    labels = f" (labels: {'; '.join(sorted(tried.words)[:3])})" if tried.words else ""
    said = (
        f"{tried.family} counts {noun} and no label that is known says how they ended{labels}; "
        "name it in SERVICE_METRICS['outcome_labels'], or the families of the ends in ['names']"
    )
    return (Unsure(noun, (ENDS,), Doubt("unknown_word", said)),)


def _doubts(best: _Account, noun: str) -> Iterator[Unsure]:
    for side in best.sides:
        if side.double:
            said = (
                f"{side.family} has series without a client that count more {noun} than those of "
                "all clients: they may be their sum with others, or be others"
            )
            yield Unsure(noun, (USES, FAILURES), Doubt("two_readings", said))
    bare = next((side for side in best.sides if side.totals and not side.labelled), None)
    if bare is not None:
        labels = f" (labels: {'; '.join(sorted(bare.words)[:3])})" if bare.words else ""
        said = (
            f"{bare.family} has no known label that names the client{labels}, so that {noun} are "
            "known in sum and not by client; SERVICE_METRICS['client_labels'] names the label"
        )
        yield Unsure(noun, (CLIENTS,), Doubt("no_owner", said))


def none_counted(noun: str, samples: Iterable[CounterSample]) -> str:
    """One sentence where no sample of a page counts these; else ""."""
    if any(_NOUN.get(sample.name) == noun for sample in samples):
        return ""
    why = "either there was none yet, or the name is not known"
    return f"the page counts no {noun}: {why} (SERVICE_METRICS['names'])"


#: Finding -> (the figures that it says are not known, how bad that is). A family without client
#: labels is a choice that many make; of failures that nobody can see an attack may be made.
_FINDINGS: Mapping[str, tuple[tuple[str, ...], Severity]] = {
    "not_understood": ((USES, FAILURES, ENDS), Severity.WARNING),
    "without_clients": ((CLIENTS,), Severity.OK),
    "lower_bound": ((MORE,), Severity.OK),
}
_REASONS = {LOGINS: "logins", VALIDATIONS: "validations", TOKENS: "generated_tokens"}


def findings(noun: str, unsure: Iterable[Unsure], component: str) -> Iterator[Finding]:
    """What is not known of logins, validations or generated tokens, and why, in one finding a
    kind."""
    mine = about(noun, unsure)
    for kind, (figures, severity) in _FINDINGS.items():
        said = [each.doubt.sentence for each in mine if set(figures) & set(each.figures)]
        if said:
            yield Finding(
                f"{_REASONS[noun]}_{kind}",
                severity,
                f"{'; '.join(dict.fromkeys(said))}.",
                component,
                category="availability",
            )


# -- what they say over a time


@dataclass(frozen=True)
class Growth:
    """What the counters say in this cycle, each event once (`families.settled`). `deltas` since the
    last look, over all sources; empty on the first. `totals` never run backwards, whatever
    restarts: they begin with what the services had counted at our first look. Their keys have the
    plain source and no instance. `unsure`: source -> what its page, as it is now, leaves open."""

    deltas: Mapping[CounterKey, Delta] = field(default_factory=dict)
    totals: Mapping[CounterKey, float] = field(default_factory=dict)
    unsure: Mapping[str, tuple[Unsure, ...]] = field(default_factory=dict)

    def of(self, source: str) -> Growth:
        """That of one source: another may not have been read for longer."""
        return Growth(
            {key: delta for key, delta in self.deltas.items() if key.source == source},
            {key: total for key, total in self.totals.items() if key.source == source},
            {name: unsure for name, unsure in self.unsure.items() if name == source},
        )

    @property
    def seconds(self) -> float:
        """The time that the deltas stand for (the longest, where sources differ)."""
        return max((delta.seconds for delta in self.deltas.values()), default=0.0)


@dataclass(frozen=True)
class Window:
    """What was counted in the last `window` seconds, of which `seconds` were counted at all, and
    what is left open of it."""

    seconds: float = 0.0
    sums: Mapping[str, float] = field(default_factory=dict)
    unsure: tuple[Unsure, ...] = ()
