"""Decision: what a health answer says: its status word, its HTTP code, its parts.

Read are the services' own flat bodies, Spring Actuator's trees (`components`, before Boot 2.2
`details`), circuit breakers of Resilience4j and Hystrix, MicroProfile (`checks` as a list),
health+json (`checks` as an object), ASP.NET (`entries`) and Dropwizard (`healthy` per check, no
word for the whole). Keys and words in any case. Bodies come from strangers: what is walked, shown
and named is bounded, and a tree that is larger than that is never called healthy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from monitoring.certainty import Basis, Coverage, Doubt, severity
from monitoring.health.judging import CRITICAL, OK, UNKNOWN, WARNING, Call, clean, good
from monitoring.model import Severity

#: A status word -> (severity, whether what says it still serves; None: not known).
Words = Mapping[str, tuple[Severity, Optional[bool]]]

# Spring's words, and those that other stacks say for the same thing.
WORDS: Words = {
    **dict.fromkeys(("UP", "OK", "HEALTHY", "PASS", "GREEN"), (OK, True)),
    **dict.fromkeys(("DEGRADED", "WARN", "WARNING", "PARTIAL", "YELLOW"), (WARNING, True)),
    "WILL_EXPIRE_SOON": (WARNING, True),
    "CIRCUIT_HALF_OPEN": (WARNING, True),
    "CIRCUIT_OPEN": (WARNING, False),
    "RATE_LIMITED": (WARNING, True),
    **dict.fromkeys(("DOWN", "FAIL", "FAILED", "UNHEALTHY", "ERROR", "RED"), (CRITICAL, False)),
    "OUT_OF_SERVICE": (CRITICAL, False),
    "UNKNOWN": (UNKNOWN, None),
}
#: What a word of STATUS_WORDS may mean.
MEANINGS: Words = {
    "ok": (OK, True),
    "warning": (WARNING, True),
    "critical": (CRITICAL, False),
    "unknown": (UNKNOWN, None),
}
_SAID = {
    "OUT_OF_SERVICE": "is out of service: taken out by its operators, or not ready yet",
    "UNKNOWN": "answers, and does not know its own state",
}
_API_WORDS = ("FAIL", "FAILED", "ERROR")  # what an API says of a request, too
_SHOWN_DEPTH = 6
_MAX_DEPTH = 64
_MAX_NODES = 20_000
_MAX_DEPENDENCIES = 64
_NAMED = 5  # parts named in a sentence
_CURE = "is this path the service's own? Set the endpoint and its health path in SERVICE_PATHS"
_OTHER_PATHS = "/api/v1/health, /internal/v1/health, /actuator/health or /management/health"
#: Keys of the word itself; of the later ones only words that are known count.
_WORD_KEYS = ("status", "healthy", "outcome", "state", "health")
_TREES = ("components", "details", "checks", "entries", "dependencies")
_NAMES = ("name", "id")
_BREAKERS = re.compile("circuit|breaker|hystrix", re.IGNORECASE)
_OPEN = {"OPEN": "CIRCUIT_OPEN", "FORCED_OPEN": "CIRCUIT_OPEN", "HALF_OPEN": "CIRCUIT_HALF_OPEN"}


def vocabulary(configured: Mapping[str, str]) -> Words:
    """WORDS with those of STATUS_WORDS (word -> ok, warning, critical or unknown) laid over it."""
    return {**WORDS, **{normal(word): MEANINGS[name] for word, name in configured.items()}}


def normal(word: object) -> str:
    """A status word as the table spells it: `out-of-service` is `OUT_OF_SERVICE`."""
    return clean(str(word).strip()).upper().replace("-", "_").replace(" ", "_")


def word_of(body: object, text: str = "", words: Words = WORDS) -> Optional[str]:
    """The status word of a decoded body, or of a bare text such as `OK`; None: it has none."""
    if isinstance(body, Mapping):
        return _word_in(body, words)
    bare = normal(body if isinstance(body, str) else text.lstrip("\ufeff")[:65])
    return bare if bare in words else None


def _word_in(body: Mapping[str, Any], words: Words) -> Optional[str]:
    fields = _lowered(body)
    for key in _WORD_KEYS:
        word = _as_word(fields.get(key))
        if key == "healthy" and isinstance(fields.get(key), bool):
            return "HEALTHY" if fields[key] else "UNHEALTHY"
        if word and (key == "status" or word in words):
            return word
    return None


def _as_word(value: object) -> Optional[str]:
    """Text, a number (HTTP codes, enumerations) or `{"code": "UP", "description": ""}`."""
    if isinstance(value, Mapping):
        value = value.get("code", value.get("status"))
    if isinstance(value, (str, int, float)) and str(value).strip():
        return normal(value)
    return None


def _broken(name: str, value: object, word: Optional[str], words: Words) -> Optional[str]:
    """The word of a part that is a circuit breaker, else `word`. One that was forced open says
    UNKNOWN, and one may be told to say UP: its `state` says more. A breaker is known by its
    `failureRate`, or by its name or that of what it stands in."""
    named = _BREAKERS.search(name) is not None
    if isinstance(value, str):
        return _OPEN.get(normal(value), word) if named else word
    details = _lowered(value).get("details")
    for facts in (_lowered(value), _lowered(details)):
        state = _OPEN.get(normal(facts.get("state", "")))
        if state and (named or "failurerate" in facts) and _worse(state, word, words):
            return state
    return word


def _lowered(value: object) -> Mapping[str, Any]:
    """The entries of an object by their names in lower case; none of anything else."""
    return {str(k).lower(): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def _worse(word: str, than: Optional[str], words: Words) -> bool:
    return than is None or meaning(than, words)[0] < meaning(word, words)[0]


def meaning(word: str, words: Words = WORDS) -> tuple[Severity, Optional[bool]]:
    """Severity and whether it serves; a word nobody knows says neither."""
    return words.get(word, (UNKNOWN, None))


# -- the parts


@dataclass
class _Found:
    """What a walk through a body found: part -> word, and how much was looked at."""

    words: Words
    shallow: dict[str, str] = field(default_factory=dict)
    deep: dict[str, str] = field(default_factory=dict)
    nodes: int = 0
    wordless: int = 0  # entries of a list of checks that hold no word
    cut: bool = False

    def note(self, name: str, word: str, depth: int) -> None:
        """Keep `word`; of two under one name the worse."""
        kept = self.shallow if depth <= _SHOWN_DEPTH else self.deep
        if _worse(word, kept.get(name), self.words):
            kept[name] = word


def _walked(body: object, words: Words) -> _Found:
    found = _Found(words)
    _walk(_children(body, words, top=True), "", 0, found)
    return found


def _walk(children: Iterable[tuple[str, Any]], prefix: str, depth: int, found: _Found) -> None:
    if depth > _MAX_DEPTH or found.nodes > _MAX_NODES:
        found.cut = True
        return
    for name, value in children:
        found.nodes += 1
        path = f"{prefix}{name}" if name else prefix.rstrip("/")
        word = word_of(value, "", found.words) if isinstance(value, (Mapping, str)) else None
        word = _broken(path, value, word, found.words)
        if word:
            found.note(clean(path), word, depth)
        if word or isinstance(value, list):
            _walk(_children(value, found.words), f"{path}/", depth + 1, found)
        elif isinstance(value, Mapping):
            found.wordless += 1
            if depth == 0:  # a container of its own name, such as `services`
                _walk(_members("details", value), f"{path}/", 1, found)


def _children(
    body: object, words: Words = WORDS, *, top: bool = False
) -> Iterator[tuple[str, Any]]:
    """Entries that may be parts: those of the known trees anywhere, flat ones at the top, and the
    members of a list, by their name. Below the top a flat entry is a fact such as `version`,
    unless it is an object with a known word of its own, as in the composites of Boot 1."""
    if isinstance(body, list):
        yield from ((_name_of(each), each) for each in body if isinstance(each, (Mapping, list)))
    if not isinstance(body, Mapping):
        return
    for key, tree in body.items():
        if str(key).lower() in _TREES:
            yield from _members(str(key).lower(), tree)
    own = ("service", "groups", *_WORD_KEYS, *_TREES)
    for name, value in body.items():
        if str(name).lower() not in own and (top or _is_part(value, words)):
            yield name, value


def _is_part(value: object, words: Words) -> bool:
    return isinstance(value, Mapping) and _word_in(value, words) in words


def _members(key: str, tree: object) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, list):
        yield from _children(tree)
    elif isinstance(tree, Mapping):
        # Texts among `details` are facts, not words.
        kinds = (Mapping, list) if key == "details" else (Mapping, list, str)
        yield from (e for e in tree.items() if isinstance(e[1], kinds) or _is_open(*e))


def _is_open(name: object, value: object) -> bool:
    """Whether a text may be the whole of a breaker, as in `{"vault": "OPEN"}`."""
    return isinstance(value, str) and str(name).lower() != "state" and normal(value) in _OPEN


def _name_of(member: object) -> str:
    fields = _lowered(member)
    return next((str(fields[key]) for key in _NAMES if isinstance(fields.get(key), str)), "")


def dependencies(body: object, words: Words = WORDS) -> Mapping[str, str]:
    """Part -> status word, as the service reports it; nested names as `broker/b1`. Empty: it
    reports none. At most 64, those in trouble first."""
    found = _walked(body, words)
    troubled = in_trouble({**found.deep, **found.shallow}, words)
    parts = {**troubled, **found.shallow}
    for name in [name for name, word in found.shallow.items() if word == "UNKNOWN"]:
        # An aggregate of breakers does not know a word for the whole; its members have one.
        members = [word for member, word in troubled.items() if member.startswith(f"{name}/")]
        parts[name] = max([*members, "UNKNOWN"], key=lambda word: meaning(word, words)[0])
    return dict(list(parts.items())[:_MAX_DEPENDENCIES])


def in_trouble(parts: Mapping[str, str], words: Words = WORDS) -> Mapping[str, str]:
    """The parts whose word is a warning or worse."""
    return {name: word for name, word in parts.items() if meaning(word, words)[0] > UNKNOWN}


def strange(parts: Mapping[str, str], words: Words = WORDS) -> Mapping[str, str]:
    """The parts whose word nobody knows."""
    return {name: word for name, word in parts.items() if word not in words}


def blamed(parts: Mapping[str, str], words: Words = WORDS) -> str:
    """`db DOWN, broker/b1 DOWN and 3 more`: the parts in trouble, of a whole and its member the
    member alone. Empty: there are none."""
    troubled = in_trouble(parts, words)
    exact = [n for n in troubled if not any(m.startswith(f"{n}/") for m in troubled)]
    more = f" and {len(exact) - _NAMED} more" if len(exact) > _NAMED else ""
    return ", ".join(f"{name} {troubled[name]}" for name in exact[:_NAMED]) + more


def dependency_up(word: str, words: Words = WORDS) -> Optional[float]:
    """1 up, 0 down, None cannot tell; degraded still serves."""
    up = meaning(word, words)[1]
    return None if up is None else float(up)


# -- the whole


def is_worded(answer: Mapping[str, Any], words: Words = WORDS) -> bool:
    """Whether the answer is a health answer by a word that is known, good or bad."""
    code, body = int(answer["status"]), answer.get("body")
    word = word_of(body, str(answer.get("text", "")), words)
    word = word or _derived(body, code, _walked(body, words))
    return word in words and (code < 300 or (code >= 500 and word not in _API_WORDS))


def is_bare(answer: Mapping[str, Any]) -> bool:
    """Whether its HTTP code is all it says, as on liveness paths."""
    return not str(answer.get("text", "")).strip() and answer.get("body") is None


def call_for(answer: Mapping[str, Any], words: Words = WORDS) -> Call:
    """What `answer` ({"status": HTTP code, "body": decoded JSON or None, "text": its beginning})
    means, by code and body together."""
    code = int(answer["status"])
    body, text = answer.get("body"), str(answer.get("text", ""))
    found = _walked(body, words)
    word = word_of(body, text, words) or _derived(body, code, found)
    if 200 <= code < 300:
        call = _by_word(word, words) if word else _without_word(body, text)
    elif code >= 500:
        call = _failing(code, word, words)
    else:
        call = _refusing(code, word, words)
    return _with_parts(call, found) if word else call


def _derived(body: object, code: int, found: _Found) -> Optional[str]:
    """A word for a body that says something of each check and nothing of the whole, as Dropwizard
    does; None where it has no checks, or one of them could not be read."""
    if not isinstance(body, (Mapping, list)):
        return None
    checks = found.shallow if isinstance(body, list) or _says_each(body) else {}
    if not checks or found.wordless:
        return None
    return "DOWN" if code >= 500 and in_trouble(checks, found.words) else "UP"


def _says_each(body: Mapping[str, Any]) -> bool:
    held = [
        v for k, v in body.items() if str(k).lower() in _TREES and isinstance(v, (Mapping, list))
    ]
    flat = [
        v for v in body.values() if isinstance(v, Mapping) and isinstance(v.get("healthy"), bool)
    ]
    return bool(held or flat)


def _with_parts(call: Call, found: _Found) -> Call:
    """The call with the parts to blame, and never good where parts were left out."""
    named = blamed({**found.deep, **found.shallow}, found.words)
    if call.severity > UNKNOWN and named:
        return Call(call.severity, call.up, f"{call.message}; {named}", call.error)
    doubts = (Doubt("not_read", "its answer has more parts than are read"),) if found.cut else ()
    basis = Basis((Coverage("status words", 1, 1),), doubts)
    if call.severity is OK and severity((OK,), basis) is not OK:
        return Call(UNKNOWN, None, f"{call.message}, but {basis.missing[0]}", "too_large")
    return call


def _by_word(word: str, words: Words) -> Call:
    if word not in words:
        if re.fullmatch(r"5\d\d", word):
            return Call(CRITICAL, False, f"answers with status {word} inside HTTP 200", "http")
        return Call(UNKNOWN, None, f"says {word}, {no_word(word)}")
    level = words[word][0]
    up = {OK: True, WARNING: True, CRITICAL: False}.get(level)
    return Call(level, up, _SAID.get(word, f"says {word}"))


def no_word(word: str) -> str:
    """That `word` is not known, and the cure."""
    cure = f"if it is one, say what it means in STATUS_WORDS, as in {{'{word}': 'warning'}}"
    return f"which is no status word we know; {cure}"


def _without_word(body: object, text: str) -> Call:
    if body is None and not text.strip():
        seen = Coverage("answers", 1, 1)
        return good(seen, "answers with an empty body, as liveness paths do")
    page = text.lstrip().startswith("<")
    sentence = "answers with a web page" if page else "answers, but its body holds no health status"
    return Call(UNKNOWN, None, f"{sentence}; {_CURE}", "body")


def _failing(code: int, word: Optional[str], words: Words) -> Call:
    """HTTP 5xx: a useful body says how bad it is; without one it is what the code says."""
    level = meaning(word, words)[0] if word else UNKNOWN
    if level > UNKNOWN or (code == 503 and word == "UNKNOWN"):
        return _by_word(str(word), words)
    if level is OK and code == 503:
        sentence = f"says {word}, but with HTTP 503, and load balancers believe the code"
        return Call(WARNING, True, sentence, "http")
    what = "unavailable" if code == 503 else "the server itself fails"
    return Call(CRITICAL, False, f"answers with HTTP {code}: {what}", "http")


def _refusing(code: int, word: Optional[str], words: Words) -> Call:
    """Any other code: Spring's `http-mapping` may choose it for DOWN; else it says nothing."""
    if word and meaning(word, words)[0] is CRITICAL and word not in _API_WORDS:
        return _by_word(word, words)
    if code in (401, 403):
        sentence = (
            f"answers with HTTP {code}: it wants credentials for this path; set "
            "MONITORING_AUTH_TOKEN, or open the path to the monitor"
        )
        return Call(UNKNOWN, None, sentence, "auth")
    if code == 404:
        sentence = (
            "answers with HTTP 404: no such path; set the health path (and a context path in "
            f"front of it) in the configuration, it is often {_OTHER_PATHS}"
        )
        return Call(UNKNOWN, None, sentence, "http")
    if 300 <= code < 400:
        sentence = f"answers with HTTP {code}, a redirect; configure the address it leads to"
        return Call(UNKNOWN, None, sentence, "redirect")
    if code == 429:
        return Call(UNKNOWN, None, "answers with HTTP 429: we ask too often for it", "http")
    return Call(UNKNOWN, None, f"answers with HTTP {code}, which says nothing on health", "http")
