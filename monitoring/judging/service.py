"""Decision: how Payment-EAPI and Payment-SAPI are, from what their endpoints answered.

The basic answer decides whether a service is up. The detailed one may lower that to a warning and
names dependencies, which are shown and never believed over our own check of them (FACTS.md
section 0: EAPI calls its cache UP whatever happens).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable, Iterator, Mapping, Optional, Tuple

from monitoring import counters
from monitoring.judging.common import (
    OK,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    Judged,
    basics,
    call_of,
    component_of,
    transport,
    transport_details,
)
from monitoring.judging.words import call_for, dependencies, dependency_up, word_of
from monitoring.model import Fault, Measurement, Reading

_REQUESTS = "http_requests"
_FEWEST_REQUESTS = 20.0  # one failure among fewer is no ratio to wake anybody for
_ABSENT = (401, 403, 404, 405)


def judge_service(reading: Reading, context: Context) -> Judged:
    """`facts` as `probes_service.probe` gives them: `health` and `detailed` answers, `phases`,
    `tls`, `server_date`, `answered_at`, `metrics`; all may be absent."""
    facts = reading.facts
    call = _call(reading)
    reported = _dependencies(facts)
    component = component_of(reading, call, dict(_details(facts, reported, reading.at)))
    measurements = (
        *basics(component),
        *transport(facts, reading.source, reading.at),
        *_dependency_status(reported, reading.source),
        *_figures(facts.get("metrics") or {}, reading, context),
    )
    totals = dict(_counters(facts.get("metrics") or {}, reading.source))
    return Judged(component, measurements, counters=totals)


def _call(reading: Reading) -> Call:
    if "health" not in reading.facts:
        return call_of(reading.fault or Fault("internal", "the probe brought no answer"))
    basic = call_for(reading.facts["health"])
    lowered = _lowered(reading.facts.get("detailed"))
    if basic.severity is OK and lowered is not None:
        return replace(basic, severity=WARNING, message=lowered)
    return basic


def _lowered(detailed: Optional[Mapping[str, Any]]) -> Optional[str]:
    """Why the detailed answer makes a healthy service a degraded one; None: it does not."""
    if not detailed:
        return None
    fault = detailed.get("fault")
    if fault is not None:
        return f"is up, but its detailed health cannot be read: {fault.message}"
    if detailed["status"] in _ABSENT:
        return None
    call = call_for(detailed)
    if call.severity in (OK, UNKNOWN):
        return None
    down = [n for n, word in dependencies(detailed.get("body")).items() if _is_down(word)]
    word = word_of(detailed.get("body")) or f"HTTP {detailed['status']}"
    blamed = f"; it calls {', '.join(sorted(down))} down" if down else ""
    return f"is up, but its detailed health says {word}{blamed}"


def _is_down(word: str) -> bool:
    return dependency_up(word) == 0.0


def _dependencies(facts: Mapping[str, Any]) -> Mapping[str, str]:
    """From both answers; the detailed one wins."""
    answers = [facts.get("health") or {}, facts.get("detailed") or {}]
    return {n: w for answer in answers for n, w in dependencies(answer.get("body")).items()}


def _dependency_status(reported: Mapping[str, str], name: str) -> Iterator[Measurement]:
    for dependency, word in reported.items():
        labels = {"component": name, "dependency": dependency}
        yield Measurement("payment_api_dependency_status", dependency_up(word), labels)


def _details(
    facts: Mapping[str, Any], reported: Mapping[str, str], at: float
) -> Iterator[Tuple[str, Any]]:
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


def _metrics_details(metrics: Optional[Mapping[str, Any]]) -> Iterator[Tuple[str, Any]]:
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
        yield Measurement("payment_api_service_error_ratio", _ratio(failed, total), labels)


def _ratio(failed: Optional[float], total: Optional[float]) -> Optional[float]:
    if failed is None or total is None or total < _FEWEST_REQUESTS:
        return None
    return failed / total


def _counters(metrics: Mapping[str, Any], name: str) -> Iterator[Tuple[str, float]]:
    """`metrics["requests"]` maps (instance, HTTP status) to a total."""
    for (instance, status), total in (metrics.get("requests") or {}).items():
        yield f"{name}|{_REQUESTS}|{instance}|{status}", float(total)


def _requests_since(
    metrics: Mapping[str, Any], reading: Reading, context: Context
) -> Tuple[Optional[float], Optional[float]]:
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
    totals: Iterable[Tuple[str, float]], source: str, at: float
) -> Iterator[Tuple[counters.CounterKey, Tuple[float, float]]]:
    """Remembered totals of `source` as `counters.deltas` wants them."""
    for key, total in totals:
        parts = key.split("|")
        if len(parts) == 4 and parts[:2] == [source, _REQUESTS]:
            labels = (("status", parts[3]),)
            yield counters.CounterKey(source, _REQUESTS, labels, parts[2]), (total, at)
