"""Decision: what a health answer says: its status word, its HTTP code, its dependencies.

Reads the services' own flat bodies, Spring Actuator's V3 (`components`) and V2 (`details`) trees
(FACTS.md sections 0 and 6). Bodies come from strangers: depth, count and names are bounded.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Tuple

from monitoring.judging.common import CRITICAL, OK, UNKNOWN, WARNING, Call, clean

# Spring's words, and those that other stacks say for the same thing.
WORDS = {
    **dict.fromkeys(("UP", "OK", "HEALTHY", "PASS", "GREEN"), (OK, True)),
    **dict.fromkeys(("DEGRADED", "WARN", "WARNING", "PARTIAL", "YELLOW"), (WARNING, True)),
    "WILL_EXPIRE_SOON": (WARNING, True),
    **dict.fromkeys(("DOWN", "FAIL", "FAILED", "UNHEALTHY", "ERROR", "RED"), (CRITICAL, False)),
    "OUT_OF_SERVICE": (CRITICAL, False),
    "UNKNOWN": (UNKNOWN, None),
}
_SAID = {
    "OUT_OF_SERVICE": "is out of service: taken out by its operators, or not ready yet",
    "UNKNOWN": "answers, and does not know its own state",
}
_MAX_DEPTH = 6
_MAX_DEPENDENCIES = 64
_OTHER_PATHS = "/api/v1/health, /internal/v1/health, /actuator/health or /management/health"


def normal(word: object) -> str:
    """A status word as the table spells it: `out-of-service` is `OUT_OF_SERVICE`."""
    return clean(str(word).strip()).upper().replace("-", "_").replace(" ", "_")


def word_of(body: object, text: str = "") -> Optional[str]:
    """The status word of a decoded body, or of a bare text such as `OK`; None: it has none."""
    if isinstance(body, Mapping):
        status = body.get("status")
        if isinstance(status, Mapping):  # {"status": {"code": "UP", "description": ""}}
            status = status.get("code", status.get("status"))
        return normal(status) if isinstance(status, str) and status.strip() else None
    bare = normal(body if isinstance(body, str) else text[:65])
    return bare if bare in WORDS else None


def call_for(answer: Mapping[str, Any]) -> Call:
    """What `answer` ({"status": HTTP code, "body": decoded JSON or None, "text": its beginning})
    means, by code and body together."""
    code = int(answer["status"])
    body, text = answer.get("body"), str(answer.get("text", ""))
    word = word_of(body, text)
    if 200 <= code < 300:
        return _by_word(word) if word else _without_word(body, text)
    if code == 503:
        return _unavailable(word)
    if code >= 500:
        return Call(CRITICAL, False, f"answers with HTTP {code}: the server itself fails", "http")
    return _cannot_tell(code)


def _by_word(word: str) -> Call:
    if word not in WORDS:
        sentence = f"says {word}, which is no status word we know, so we cannot tell"
        return Call(UNKNOWN, None, sentence)
    severity, up = WORDS[word]
    return Call(severity, up, _SAID.get(word, f"says {word}"))


def _without_word(body: object, text: str) -> Call:
    if body is None and not text.strip():
        return Call(OK, True, "answers with an empty body, as liveness paths do")
    sentence = "answers, but its body holds no health status: is this path the service's own?"
    return Call(UNKNOWN, None, sentence, "body")


def _unavailable(word: Optional[str]) -> Call:
    """HTTP 503: a useful body says how bad it is; without one it is what the code says."""
    if word is None or word not in WORDS:
        return Call(CRITICAL, False, "answers with HTTP 503: unavailable", "http")
    severity, _ = WORDS[word]
    if severity is OK:
        sentence = f"says {word}, but with HTTP 503, and load balancers believe the code"
        return Call(WARNING, True, sentence, "http")
    return _by_word(word)


def _cannot_tell(code: int) -> Call:
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
        sentence = f"answers with HTTP {code}, a redirect: configure the address it leads to"
        return Call(UNKNOWN, None, sentence, "redirect")
    if code == 429:
        return Call(UNKNOWN, None, "answers with HTTP 429: we ask too often for it", "http")
    return Call(UNKNOWN, None, f"answers with HTTP {code}, which says nothing on health", "http")


def dependencies(body: object) -> Mapping[str, str]:
    """Dependency name -> status word, as the service reports it; nested names as `broker/b1`.
    Empty: it reports none. At most 64."""
    found: dict[str, str] = {}
    for name, word in _walk(body, "", 0):
        if len(found) >= _MAX_DEPENDENCIES:
            break
        found[clean(name)] = word
    return found


def _walk(body: object, prefix: str, depth: int) -> Iterator[Tuple[str, str]]:
    if not isinstance(body, Mapping) or depth > _MAX_DEPTH:
        return
    for name, value in _children(body, top=depth == 0):
        path = f"{prefix}{name}"
        word = word_of(value) if isinstance(value, (Mapping, str)) else None
        if word:
            yield path, word
        yield from _walk(value if word else None, f"{path}/", depth + 1)


def _children(body: Mapping[str, Any], *, top: bool) -> Iterator[Tuple[str, Any]]:
    """Entries that may be dependencies: Actuator's trees anywhere, flat entries at the top only
    (below, a flat entry is a fact such as `version`)."""
    for tree in (body.get("components"), body.get("details")):
        if isinstance(tree, Mapping):
            yield from (e for e in tree.items() if isinstance(e[1], Mapping))
    if top:
        own = ("status", "service", "components", "details", "groups")
        yield from (entry for entry in body.items() if entry[0] not in own)


def dependency_up(word: str) -> Optional[float]:
    """1 up, 0 down, None cannot tell; degraded still serves."""
    up = WORDS.get(word, (UNKNOWN, None))[1]
    return None if up is None else float(up)
