"""Decision: how the Conjur vault is: OSS or Enterprise, leader or follower, and whether a client
with an API key gets through.

Judged by the top-level `ok` (FACTS.md section 1). A follower that says ok may still serve old
data, so its subscriptions are looked at too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator, Mapping, Optional, Tuple

from monitoring.judging.common import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    Judged,
    basics,
    call_of,
    clean,
    component_of,
    milliseconds_of,
    number,
    transport,
    transport_details,
)
from monitoring.model import Fault, Measurement, Reading

_SHOWN = ("edition", "role", "version", "free_bytes", "replication_lag_bytes", "cluster")


def judge_vault(reading: Reading, context: Context) -> Judged:  # noqa: ARG001 - the family's shape
    """`facts` as `probes_vault.probe` gives them: `health` (edition, ok, degraded, role, version,
    replication_lag_bytes, stale, free_bytes, messages), `steps` (name -> seconds), `step_fault`
    ((step, Fault, HTTP status) of the first authenticated step that failed), `variables`,
    `credentials` (whether any are configured), transport facts; `http_status` where the vault
    refused."""
    facts = reading.facts
    component = component_of(reading, _call(reading), dict(_details(facts, reading.at)))
    measurements = (
        *basics(component),
        *transport(facts, reading.source, reading.at),
        *_figures(facts),
    )
    return Judged(component, measurements)


def _call(reading: Reading) -> Call:
    health = reading.facts.get("health")
    if not health:
        return _no_word(reading)
    own = _own_word(health)
    failed = reading.facts.get("step_fault")
    if failed is None:
        return own
    access = _access(*failed)
    if own.severity >= access.severity:
        return replace(own, message=f"{own.message}; {access.message}")
    return access


def _no_word(reading: Reading) -> Call:
    fault = reading.fault or Fault("internal", "the probe brought no answer")
    status = reading.facts.get("http_status")
    if status is not None and status >= 500:
        return Call(CRITICAL, False, fault.message, "http")
    return call_of(fault)


def _own_word(health: Mapping[str, Any]) -> Call:
    said = "; ".join(clean(m) for m in health.get("messages", ())[:5])
    because = f": {said}" if said else ""
    if health.get("ok") is False:
        return Call(CRITICAL, False, f"is not ok{because}")
    if health.get("ok") is None:
        sentence = f"answers, but does not say whether it is ok{because}"
        return Call(UNKNOWN, None, sentence, "body")
    if health.get("degraded"):
        return Call(WARNING, True, f"says that it is degraded{because}")
    if health.get("stale"):
        sentence = "is a follower that no longer receives changes, and serves old data"
        return Call(WARNING, True, f"{sentence}{because}")
    return Call(OK, True, f"says that it is ok{because}")


def _access(step: str, fault: Fault, status: Optional[int]) -> Call:
    """The vault calls itself ok and a client with credentials does not get through."""
    if call_of(fault).severity is CRITICAL or (status is not None and status >= 500):
        sentence = f"is ok by its own word, but {step} fails: {fault.message}"
        return Call(CRITICAL, False, sentence, fault.kind)
    sentence = f"is ok by its own word, but {step} is refused: {fault.message}"
    if fault.kind == "auth":
        sentence += "; check CONJUR_AUTHN_LOGIN and CONJUR_AUTHN_API_KEY"
    return Call(WARNING, True, sentence, fault.kind)


def _figures(facts: Mapping[str, Any]) -> Iterator[Measurement]:
    health = facts.get("health") or {}
    if health.get("degraded") is not None:
        yield Measurement("payment_api_conjur_degraded", float(bool(health["degraded"])))
    for key in ("replication_lag_bytes", "free_bytes"):
        if health.get(key) is not None:
            yield Measurement(f"payment_api_conjur_{key}", number(health[key]))
    for step, seconds in facts.get("steps", {}).items():
        yield Measurement("payment_api_conjur_step_seconds", seconds, {"step": step})


def _details(facts: Mapping[str, Any], at: float) -> Iterator[Tuple[str, Any]]:
    health = facts.get("health") or {}
    for key in _SHOWN:
        if health.get(key) is not None:
            value = health[key]
            yield key, clean(value) if isinstance(value, str) else value
    if health.get("messages"):
        yield "messages", [clean(m) for m in health["messages"][:10]]
    if facts.get("steps"):
        yield "steps_ms", milliseconds_of(facts["steps"])
    if facts.get("variables") is not None:
        yield "variables_readable", facts["variables"]
    if facts.get("credentials") is False:
        yield "access", "not tried: no CONJUR_AUTHN_LOGIN and CONJUR_AUTHN_API_KEY configured"
    yield from transport_details(facts, at).items()
