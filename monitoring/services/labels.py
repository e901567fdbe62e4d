"""Decision: the samples of a metrics page, and what their labels say.

Names and values are compared by their letters and digits in lower case: `clientId`, `client_id` and
`client.id` are one label. The words come from the configuration (`SERVICE_METRICS`); what is not
known there stays unknown, and is named so that somebody can add it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from operator import methodcaller
from typing import Callable, NamedTuple, Optional

from monitoring.config.settings import ServiceMetricsSettings
from monitoring.text import printable, safe_id

# -- the samples in a Prometheus text exposition: classic, OpenMetrics, or with the quoted names of
# Prometheus 3 (`{"http.server.requests", "label.x"="y"} 1`).
# Our own reader of the sample lines: the classic parser of prometheus_client takes an OpenMetrics
# exemplar for a timestamp without a word (docs/protocols.md), and both give up at the first bad
# line of a body of which we want ten names.

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)?"
    r'(?:[ \t]*\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
    r"(?(labels)\s*|\s+)(?P<value>[-+.\w]+)"
    r"(?=\s|$)",
    re.ASCII,
)
_LABEL = re.compile(
    r'\s*(?:([a-zA-Z_]\w*)|"((?:[^"\\]|\\.)*)")\s*(?:=\s*"((?:[^"\\]|\\.)*)")?\s*(?:,|\Z)',
    re.ASCII,
)
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
_MOST_LABELS = 32
_LONGEST = 2000  # characters of a label
_LINE = re.compile(r"[^\r\n]+")


class Sample(NamedTuple):
    """One line: its full name, labels and finite value."""

    name: str
    labels: dict[str, str]
    value: float


class Exposition(NamedTuple):
    """`samples` of the wanted names; `lines`, all sample lines; `broken`, lines that are none."""

    samples: list[Sample]
    lines: int
    broken: int


def read(text: str, wanted: Callable[[str], bool]) -> Exposition:
    """The samples whose name is wanted. Raises ValueError when no line of a body that is not
    empty is one (HTML, JSON)."""
    samples: list[Sample] = []
    lines = broken = 0
    same: dict[str, str] = {}  # a page says the same words of every client
    for found_line in _LINE.finditer(text):  # not a list: a page may be millions of lines
        line = found_line.group().strip()
        if not line or line.startswith("#"):
            continue
        found = _SAMPLE.match(line)
        name = _name(found) if found is not None else ""
        if found is None or not name:
            broken += 1
            continue
        lines += 1
        value = _number(found["value"]) if wanted(name) else None
        if value is not None:
            labels = _labels(found["labels"] or "", same)
            samples.append(Sample(same.setdefault(name, name), labels, value))
    if broken and not lines:
        raise ValueError("no Prometheus metrics in the answer")
    return Exposition(samples, lines, broken)


def _name(found: re.Match[str]) -> str:
    """The name, which may stand in quotes among the labels; "" where there is none."""
    if found["name"]:
        return found["name"]
    quoted = (
        pair[2] for pair in _LABEL.finditer(found["labels"] or "") if pair[2] and pair[3] is None
    )
    return _unescaped(next(quoted, ""))


def _labels(text: str, same: dict[str, str]) -> dict[str, str]:
    """`same`: texts that were met before, of which one copy is enough."""
    labels: dict[str, str] = {}
    for bare, quoted, value in islice(map(_PARTS, _LABEL.finditer(text)), _MOST_LABELS):
        if value is not None:
            name, said = bare or _unescaped(quoted), printable(_unescaped(value), _LONGEST)
            labels[same.setdefault(name, name)] = same.setdefault(said, said)
    return labels


_PARTS = methodcaller("group", 1, 2, 3)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\.", lambda m: _ESCAPES.get(m.group(), m.group()), text)


def _number(text: str) -> Optional[float]:
    """None for what is no number, and for NaN and infinities, which say "not measured"."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# -- what the labels of a counted series say: whose it is, how the attempts ended, and why.

#: How an attempt ended, as a label of its series says it; or by the name of the family (GOOD_NAME,
#: BAD_NAME); ATTEMPTS: the series counts attempts and nothing says how they ended.
GOOD, BAD, UNKNOWN_END = "true", "false", "unknown"
GOOD_NAME, BAD_NAME, ATTEMPTS = "success", "failure", "attempts"
#: Reasons of failed validations; any other one is counted as OTHER_REASON, and failures whose
#: family says no reason as UNSPECIFIED.
REASONS = ("expired", "invalid_signature", "invalid_claims", "revoked", "parse_error")
OTHER_REASON, UNSPECIFIED = "other", "unspecified"

_REASON = ("failuretype", "reason", "error", "cause")
_STATUS = ("status", "code", "statuscode", "outcome")
#: Labels whose name is itself a good word may say 1 or 0; a status of 0 may mean either.
_DIGITS = {"1": GOOD, "0": BAD}
_CODE = re.compile(r"[1-5]([0-9]{2}|xx)", re.ASCII)
_LINE_OF_STATUS = re.compile(r"[1-5][0-9]{2}[ _-]", re.ASCII)  # `401 Unauthorized`
_CODES = {"2": GOOD, "4": BAD, "5": BAD}  # by the first digit of an HTTP status
_CLASSES = {
    "informational": "100",
    "success": "200",
    "redirection": "300",
    "clienterror": "400",
    "servererror": "500",
}
_WORD = re.compile(r"[A-Za-z_ -]{1,24}", re.ASCII)
#: Labels that say where a series comes from, and nothing of whom or how.
_PLACES = (
    *("application", "app", "service", "instance", "job", "pod", "namespace", "host", "env"),
    *("method", "uri", "le", "quantile"),
)
#: Labels that say why something failed, and perhaps thereby that it did.
_CAUSES = (*_REASON, "exception")


def plain(word: str) -> str:
    """A label's name, or its value, as the tables compare it."""
    return _short_plain(word) if len(word) <= _REMEMBERED else _plain(word)


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


#: Longer ones of a stranger's are worked out each time, and fill no memory.
_REMEMBERED = 200
_short_plain = lru_cache(maxsize=4096)(_plain)


class Tables(NamedTuple):
    """The configured labels and words, as `plain` makes them; `words`: word -> GOOD or BAD."""

    clients: tuple[str, ...]
    outcomes: tuple[str, ...]
    words: Mapping[str, str]
    reasons: Mapping[str, str]


def tables(mapping: ServiceMetricsSettings) -> Tables:
    """What `mapping` configures. A word without a letter or digit is none: it would match all that
    are without one. One that stands for both ends says neither."""
    good = {plain(word) for word in mapping.success_words}
    bad = {plain(word) for word in mapping.failure_words}
    said = sorted((good ^ bad) - {""})  # in one order in every process: see `counters.read_at`
    words = {word: GOOD if word in good else BAD for word in said}
    return Tables(
        tuple(filter(None, map(plain, mapping.client_labels))),
        tuple(filter(None, map(plain, mapping.outcome_labels))),
        words,
        {plain(reason): reason for reason in (*REASONS, *mapping.validation_reasons)},
    )


#: A series' labels: the name as `plain` has it -> the name and the value on the page.
Given = Mapping[str, tuple[str, str]]


def given(labels: Mapping[str, str]) -> Given:
    """The labels that say anything: an empty value is as good as no label."""
    return {plain(name): (name, value) for name, value in labels.items() if value.strip()}


def client(found: Given, known: Tables) -> str:
    """The client id, fit to be kept and shown; "" where no label says it."""
    return safe_id(_first(found, known.clients))


def end(found: Given, known: Tables) -> tuple[str, str]:
    """How the attempts of a series ended, and what was not understood of it. Labels that disagree
    leave it unknown; one with an unknown word does not spoil what another one says."""
    said = [name for name in known.outcomes if name in found]
    meant = {_meaning(name, found[name][1], known) for name in said} - {""}
    if len(meant) == 1:
        return meant.pop(), ""
    if not said:
        return ATTEMPTS, ""
    return UNKNOWN_END, ", ".join(f'{found[n][0]}="{safe_id(found[n][1], 24)}"' for n in said)[:80]


def hint(found: Given, known: Tables, *, ends: bool) -> str:
    """The labels of a series that mean nothing to us, for the sentence that asks what they are:
    which says how the attempts ended (`ends`), else which names the client. With their values only
    where these are words and nobody's name or number. Where there are none, those that commonly
    say where a series comes from: one of them may."""
    ours = {*known.clients, *known.outcomes, *(() if ends else _CAUSES)}
    others = [name for name in sorted(found) if name not in ours]
    likely = [name for name in others if name not in _PLACES]
    return ", ".join(_shown(*found[name]) for name in likely or others)[:80]


def reason(found: Given, known: Tables) -> str:
    """Why a validation failed: a known reason, OTHER_REASON or UNSPECIFIED."""
    word = plain(_first(found, _REASON))
    return known.reasons.get(word, OTHER_REASON) if word else UNSPECIFIED


def status(found: Given) -> str:
    """The HTTP status of requests; of a word its class (`CLIENT_ERROR` is 400); else "other"."""
    for name in _STATUS:
        word = plain(found[name][1]) if name in found else ""
        if _CODE.fullmatch(word):
            return word.replace("x", "0")
        if word in _CLASSES:
            return _CLASSES[word]
    return "other"


def _first(found: Given, names: Iterable[str]) -> str:
    return next((found[name][1] for name in names if name in found), "")


def _meaning(label: str, value: str, known: Tables) -> str:
    """GOOD, BAD, or "" for a word that is not known."""
    word = plain(value)
    if _CODE.fullmatch(word) or _LINE_OF_STATUS.match(value.strip()):
        return _CODES.get(word[0], "")
    if word in _DIGITS:
        return _DIGITS[word] if known.words.get(label) == GOOD else ""
    return known.words.get(word, "")


def _shown(label: str, value: str) -> str:
    label = safe_id(label, 30)
    return f'{label}="{value}"' if _WORD.fullmatch(value) else label
