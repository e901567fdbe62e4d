"""Decision: how Payment-EAPI and Payment-SAPI are, from what their endpoints answered.

The basic answer decides whether a service is up. The detailed one, and parts in trouble inside an
answer that says UP, may lower that to a warning; what a service says of a component that has a
check of our own is shown and never believed over it (EAPI calls its cache UP whatever happens). An
address that has answered properly before and no longer does is an outage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Optional

from monitoring.certainty import Doubt
from monitoring.components import SERVICES, SOURCES
from monitoring.health.judging import (
    CHANGED,
    OK,
    UNKNOWN,
    WARNING,
    Answered,
    Call,
    Context,
    ProbeVerdict,
    basics,
    call_of,
    clean,
    compared,
    component_of,
    outage,
    proper,
    transport,
    transport_details,
)
from monitoring.health.words import (
    Words,
    blamed,
    call_for,
    dependencies,
    dependency_up,
    is_bare,
    is_worded,
    meaning,
    no_word,
    strange,
    vocabulary,
    word_of,
)
from monitoring.model import Fault, Measurement, Reading
from monitoring.services import counters
from monitoring.text import iso_seconds

_REQUESTS = "http_requests"
_FEWEST_REQUESTS = 20.0  # one failure among fewer is no ratio to wake anybody for
_ABSENT = (401, 403, 404, 405)
#: What in a part's name says that it is a component with a check of our own.
_OURS = re.compile(
    f"(?:payment)?({'|'.join(SOURCES)})"
    "(?:cache|vault|reactive|service|client|server|connection|health|indicator|check|api)*"
)


def judge_service(reading: Reading, context: Context) -> ProbeVerdict:
    """`facts` as `probes.probe_service` gives them: `targets` (digests of the addresses),
    `health` and `detailed` answers, `with_token`, `phases`, `tls`, `server_date`, `answered_at`,
    `metrics`; all may be absent."""
    facts, words = reading.facts, vocabulary(context.status_words)
    call = _call(reading, context, words)
    reported = _dependencies(facts, words)
    component = component_of(reading, call, dict(_details(facts, reported, reading.at)))
    measurements = (
        *basics(component),
        *transport(facts, reading.source, reading.at),
        *_dependency_status(reported, reading.source, words),
        *_figures(facts.get("metrics") or {}, reading, context),
    )
    totals = dict(_counters(facts.get("metrics") or {}, reading.source))
    worked = tuple(_proper(reading, context, words))
    return ProbeVerdict(component, measurements, counters=totals, worked=worked)


# -- the call


def _call(reading: Reading, context: Context, words: Words) -> Call:
    facts = reading.facts
    known = context.known(reading.source, _target(facts, "health"))
    if "health" not in facts:
        call = call_of(reading.fault or Fault("internal", "the probe brought no answer"))
        return compared(call, known)
    basic = _basic(reading, words)
    if known is not None and _changed(basic, facts, known, words):
        return outage(basic, known)
    detailed = context.known(f"{reading.source}/detailed", _target(facts, "detailed"))
    lowered = _lowered(facts.get("detailed"), detailed, words)
    blind = _unchecked(_dependencies(facts, words), context)
    lowered = lowered or _troubled(blind, words)
    if basic.severity is OK and lowered:
        return replace(basic, severity=WARNING, message=lowered)
    unread = _unread(facts.get("detailed"), blind, words)
    if basic.severity is OK and unread:
        return replace(basic, severity=UNKNOWN, message=f"is up, but {unread}")
    return basic


def _unread(
    detailed: Optional[Mapping[str, Any]], blind: Mapping[str, str], words: Words
) -> Optional[str]:
    """What it says in a word that nobody knows, and the cure; None: nothing."""
    whole = word_of((detailed or {}).get("body"), words=words)
    if whole and whole not in words and (detailed or {}).get("status") == 200:
        return f"its detailed health says {whole}, {no_word(whole)}"
    return next((f"says {n} {w}, {no_word(w)}" for n, w in strange(blind, words).items()), None)


def _basic(reading: Reading, words: Words) -> Call:
    """What the basic answer says, unless it is the other service that answers."""
    other = _other(reading.source, reading.facts["health"])
    if other:
        sentence = f"{other} answers at its address; correct EAPI_ENDPOINT or SAPI_ENDPOINT"
        return Call(UNKNOWN, None, sentence, "body")
    return call_for(reading.facts["health"], words)


def _other(source: str, answer: Mapping[str, Any]) -> str:
    """The other service whose name the answer bears; empty: it bears none, or the right one."""
    body = answer.get("body")
    said = _spelt(str(body.get("service", ""))) if isinstance(body, Mapping) else ""
    return next((name for name in SERVICES if name != source and _spelt(name) == said), "")


def _spelt(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _changed(call: Call, facts: Mapping[str, Any], known: Answered, words: Words) -> bool:
    """Whether an address that has answered properly no longer does."""
    answer = facts["health"]
    if call.error == "auth":
        # A token of ours that ran out is no outage; a page, or a sudden wish for one, is.
        return not facts.get("with_token") or _is_page(answer)
    if call.severity is OK:
        return known.worded and is_bare(answer)
    if call.severity is not UNKNOWN or answer["status"] == 429:
        return False
    if call.error in CHANGED:
        return True
    return not is_worded(answer, words) and not {*known.keys} & {*_keys(answer)}


def _is_page(answer: Mapping[str, Any]) -> bool:
    return str(answer.get("text", "")).lstrip().startswith("<")


def _keys(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The names at the top of the body, without that of the word, which every service has."""
    body = answer.get("body")
    names = body if isinstance(body, Mapping) else ()
    return tuple(sorted(clean(name) for name in names if str(name).lower() != "status"))[:20]


def _proper(reading: Reading, context: Context, words: Words) -> Iterator[str]:
    """What to remember: each address that gave a health answer now."""
    for part, endpoint in (("health", reading.source), ("detailed", f"{reading.source}/detailed")):
        answer, target = reading.facts.get(part) or {}, _target(reading.facts, part)
        if target is None or "status" not in answer or _other(reading.source, answer):
            continue
        known = context.known(endpoint, target)
        if is_worded(answer, words):
            yield proper(endpoint, target, keys=_keys(answer))
        elif answer["status"] < 300 and is_bare(answer) and not (known and known.worded):
            yield proper(endpoint, target, worded=False)


def _target(facts: Mapping[str, Any], part: str) -> Optional[str]:
    return (facts.get("targets") or {}).get(part)


def _lowered(
    detailed: Optional[Mapping[str, Any]], known: Optional[Answered], words: Words
) -> Optional[str]:
    """Why the detailed answer makes a healthy service a degraded one; None: it does not."""
    if not detailed:
        return None
    fault = detailed.get("fault")
    if fault is not None:
        return f"is up, but its detailed health cannot be read: {fault.message}"
    call = call_for(detailed, words)
    if known is not None and not is_worded(detailed, words):
        what = call.message.partition("; ")[0]
        return f"is up, but its detailed health, read until {iso_seconds(known.at)}, now {what}"
    if detailed["status"] in _ABSENT or call.severity in (OK, UNKNOWN):
        return None
    parts = dependencies(detailed.get("body"), words)
    down = sorted(name for name in parts if dependency_up(parts[name], words) == 0.0)
    word = word_of(detailed.get("body"), words=words) or f"HTTP {detailed['status']}"
    blame = f"; it calls {', '.join(down)} down" if down else ""
    return f"is up, but its detailed health says {word}{blame}"


def _unchecked(parts: Mapping[str, str], context: Context) -> Mapping[str, str]:
    """The parts that nobody else checks. An open circuit breaker is the service's own, whatever
    lies behind it."""
    return {n: w for n, w in parts.items() if "CIRCUIT" in w or not _checked(n, context.checked)}


def _troubled(blind: Mapping[str, str], words: Words) -> Optional[str]:
    """What a service that calls itself up says of such parts; None: nothing bad."""
    named = blamed(blind, words)
    return f"is up, but says {named}" if named else None


def _checked(part: str, components: Iterable[str]) -> bool:
    """Whether a component of ours is the part: `redisCache`, `conjurVault`, `paymentSapi`, and not
    `redisStream` or `eapiDb`."""
    found = _OURS.fullmatch(_spelt(part.partition("/")[0]))
    return found is not None and SOURCES[found[1]] in components


def _dependencies(facts: Mapping[str, Any], words: Words) -> Mapping[str, str]:
    """From both answers; of a part that they disagree about, the worse word."""
    found: dict[str, str] = {}
    for answer in (facts.get("detailed") or {}, facts.get("health") or {}):
        for name, word in dependencies(answer.get("body"), words).items():
            both = (found.get(name, word), word)
            found[name] = max(both, key=lambda each: meaning(each, words)[0])
    return found


def _dependency_status(
    reported: Mapping[str, str], name: str, words: Words
) -> Iterator[Measurement]:
    for dependency, word in reported.items():
        labels = {"component": name, "dependency": dependency}
        yield Measurement("payment_api_dependency_status", dependency_up(word, words), labels)


def _details(
    facts: Mapping[str, Any], reported: Mapping[str, str], at: float
) -> Iterator[tuple[str, Any]]:
    health = facts.get("health")
    if health:
        yield "http_status", health["status"]
        yield "says", word_of(health.get("body"), str(health.get("text", "")))
    if facts.get("detailed") is not None:
        yield "detailed", _detailed_note(facts["detailed"])
    if reported:
        yield "reported_dependencies", dict(reported)
    yield from transport_details(facts, at).items()
    yield from _metrics_details(facts.get("metrics"))


def _detailed_note(detailed: Mapping[str, Any]) -> str:
    if detailed.get("fault") is not None:
        return f"not read: {detailed['fault'].message}"
    if detailed["status"] in _ABSENT:
        return f"not offered (HTTP {detailed['status']})"
    return word_of(detailed.get("body")) or f"HTTP {detailed['status']}"


def _metrics_details(metrics: Optional[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    if not metrics:
        return
    if metrics.get("why"):
        yield "metrics", f"not read: {metrics['why']}"
    for name in ("cpu_ratio", "memory_used_ratio"):
        if metrics.get(name) is not None:
            yield name, round(float(metrics[name]), 3)


def _figures(
    metrics: Mapping[str, Any], reading: Reading, context: Context
) -> Iterator[Measurement]:
    """CPU, memory, error ratio and request rate, as far as the service counts them. A service
    without a metrics page gives none of them, which is no error."""
    labels = {"component": reading.source}
    for key in ("cpu_ratio", "memory_used_ratio"):
        if metrics.get(key) is not None:
            yield Measurement(f"payment_api_service_{key}", float(metrics[key]), labels)
    if metrics.get("requests"):
        total, failed = _requests_since(metrics, reading, context)
        seconds = context.seconds(reading.at)
        rate = None if total is None or seconds is None else total / seconds
        yield Measurement("payment_api_service_request_rate", rate, labels)
        ratio = _ratio(failed, total)
        doubts = () if ratio is None else tuple(_unread_statuses(metrics))
        yield Measurement("payment_api_service_error_ratio", ratio, labels, doubts)


def _unread_statuses(metrics: Mapping[str, Any]) -> Iterator[Doubt]:
    """Requests whose status no label says, or says in an unknown word, may have failed."""
    if any(total > 0 for (_, status), total in metrics["requests"].items() if status == "other"):
        yield Doubt("unknown_word", "some requests are counted without an HTTP status")


def _ratio(failed: Optional[float], total: Optional[float]) -> Optional[float]:
    if failed is None or total is None or total < _FEWEST_REQUESTS:
        return None
    return failed / total


def _counters(metrics: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """`metrics["requests"]` maps (instance, HTTP status) to a total."""
    for (instance, status), total in (metrics.get("requests") or {}).items():
        yield f"{name}|{_REQUESTS}|{instance}|{status}", float(total)


def _requests_since(
    metrics: Mapping[str, Any], reading: Reading, context: Context
) -> tuple[Optional[float], Optional[float]]:
    """(requests, of these 5xx) since the last cycle, without our own two; None, None when we did
    not count then."""
    if context.at is None or context.seconds(reading.at) is None:
        return None, None
    before = dict(_keyed(context.counters.items(), reading.source, context.at))
    now = dict(_keyed(_counters(metrics, reading.source), reading.source, reading.at))
    grown = counters.by_label(counters.deltas(before, now), _REQUESTS, "status")
    if not grown:
        return None, None
    ours = [reading.facts[n].get("status") for n in ("health", "detailed") if n in reading.facts]
    failed = sum(n for status, n in grown.items() if status.startswith("5"))
    failed -= sum(status is not None and status >= 500 for status in ours)
    total = sum(grown.values()) - sum(status is not None for status in ours)
    return max(0.0, total), max(0.0, failed)


def _keyed(
    totals: Iterable[tuple[str, float]], source: str, at: float
) -> Iterator[tuple[counters.CounterKey, tuple[float, float]]]:
    """Remembered totals of `source` as `counters.deltas` wants them."""
    for key, total in totals:
        parts = key.split("|")
        if len(parts) == 4 and parts[:2] == [source, _REQUESTS]:
            labels = (("status", parts[3]),)
            yield counters.CounterKey(source, _REQUESTS, labels, parts[2]), (total, at)
