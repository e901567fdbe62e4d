"""Decision: how the Conjur vault is: OSS or Enterprise, leader or follower, and whether a client
with an API key gets through.

Judged by the top-level `ok` (FACTS.md section 1). A follower that says ok may still serve old
data, so its subscriptions are looked at too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator, Mapping, Optional, Tuple

from monitoring.certainty import Basis, Coverage, severity
from monitoring.judging.common import (
    CRITICAL,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    Judged,
    basics,
    call_of,
    clean,
    compared,
    component_of,
    milliseconds_of,
    number,
    proper,
    sentence,
    transport,
    transport_details,
)
from monitoring.model import Fault, Measurement, Reading
from monitoring.timestamps import iso_seconds

_SHOWN = (
    *("edition", "role", "version", "free_bytes", "free_inodes", "replication_lag_bytes"),
    *("subscriptions", "initial_replication", "silence", "cluster"),
)
_FIGURES = {
    "degraded": "conjur_degraded",
    "replication_lag_bytes": "conjur_replication_lag_bytes",
    "free_bytes": "conjur_free_bytes",
    "free_inodes": "conjur_free_inodes",
    "subscriptions": "conjur_subscriptions",
    "initial_replication": "conjur_initial_replication",
    "silence": "conjur_follower_silence_seconds",
}
#: What makes less of an answer that says ok, worst first.
_IMPAIRED = {
    "degraded": "says that it is degraded",
    "stale": "is a follower that does not receive every change, and serves old data",
    "messages": "is ok by its own word, but not all of it is",
}
_VARIABLES = "conjur/variables"
_NOTHING_SEEN = (
    "check CONJUR_ACCOUNT and that our identity's group holds read on the clients' variables, "
    "then load deploy/conjur/policy.yml"
)


def judge_vault(reading: Reading, context: Context) -> Judged:
    """`facts` as `probes_vault.probe` gives them: `health` (fields of ConjurHealth), `steps`
    (name -> seconds), `step_fault` ((step, Fault, HTTP status) of the first authenticated step
    that failed), `variables`, `credentials` (whether any are configured), `identity` of the login,
    `target` (digest of the address), transport facts; `http_status` where the vault refused."""
    facts = reading.facts
    known = context.known(reading.source, facts.get("target"))
    call = compared(_call(reading, context), known, (facts.get("http_status"),))
    component = component_of(reading, call, dict(_details(facts, reading.at)))
    measurements = (
        *basics(component),
        *transport(facts, reading.source, reading.at),
        *_figures(facts),
    )
    seen = facts.get("variables")
    logged_in = (facts.get("steps") or {}).get("authenticate") is not None
    spoke = "target" in facts and (facts.get("health") or {}).get("ok") is not None
    return Judged(
        component,
        measurements,
        counters={_VARIABLES: float(seen)} if seen else {},
        worked=(
            *((_login_of(facts),) if logged_in else ()),
            *((proper(reading.source, facts["target"]),) if spoke else ()),
        ),
    )


def _login_of(facts: Mapping[str, Any]) -> str:
    return f"conjur-login/{facts.get('identity', '')}"


def _call(reading: Reading, context: Context) -> Call:
    health = reading.facts.get("health")
    if not health:
        return _no_word(reading)
    own = _own_word(health, _seen(reading.facts, context))
    failed = reading.facts.get("step_fault")
    if failed is None:
        return own
    access = _access(*failed, worked=context.worked.get(_login_of(reading.facts)))
    if own.severity >= access.severity:
        return replace(own, message=f"{own.message}; {access.message}")
    return access


def _no_word(reading: Reading) -> Call:
    fault = reading.fault or Fault("internal", "the probe brought no answer")
    status = reading.facts.get("http_status")
    if status is not None and status >= 500:
        return Call(CRITICAL, False, fault.message, "http")
    return call_of(fault)


def _seen(facts: Mapping[str, Any], context: Context) -> Coverage:
    """What of the vault was looked at: variables, where we log in, else its health page alone."""
    seen = facts.get("variables")
    if seen is None:
        return Coverage("health page", 1, 1)
    before = context.counters.get(_VARIABLES)
    showed = f"no variable any more (it showed {before:.0f} before)" if before else "no variable"
    sentence = f"the vault lets our identity in and shows it {showed}; {_NOTHING_SEEN}"
    return Coverage("variables", min(seen, 1), 1, sentence=sentence)


def _own_word(health: Mapping[str, Any], seen: Coverage) -> Call:
    wrong = health.get("messages", ())
    said = "; ".join(sentence(m) for m in (*wrong, *health.get("remarks", ()))[:5])
    because = f": {said}" if said else ""
    if health.get("ok") is False:
        return Call(CRITICAL, False, f"is not ok{because}")
    if health.get("ok") is None:
        return Call(UNKNOWN, None, f"answers, but does not say whether it is ok{because}", "body")
    impaired = next((text for key, text in _IMPAIRED.items() if health.get(key)), "")
    if impaired:
        return Call(WARNING, True, f"{impaired}{because}")
    basis = Basis((seen,), tuple(health.get("doubts", ())))
    if basis.missing:
        return Call(severity((), basis), True, f"{'; '.join(basis.missing)}{because}", "config")
    return Call(severity((), basis), True, f"all its parts work{because}")


def _access(
    step: str, fault: Fault, status: Optional[int], *, worked: Optional[float] = None
) -> Call:
    """The vault calls itself ok and a client with credentials does not get through. `worked`: when
    this login did last."""
    if call_of(fault).severity is CRITICAL or (status is not None and status >= 500):
        said = f"answers, but {step} fails: {fault.message}"
        return Call(CRITICAL, False, said, fault.kind)
    said = f"answers, but {step} is refused: {fault.message}"
    if fault.kind == "auth" and step == "authenticate" and worked is not None:
        said += (
            f"; this login worked at {iso_seconds(worked)}: its key was rotated, the host deleted, "
            "or the vault has lost its data key, and then none of its clients gets in: see "
            "whether payment-eapi still logs in"
        )
    return Call(WARNING, True, said, fault.kind)


def _figures(facts: Mapping[str, Any]) -> Iterator[Measurement]:
    health = facts.get("health") or {}
    for key, name in _FIGURES.items():
        if health.get(key) is not None:
            yield Measurement(f"payment_api_{name}", number(health[key]))
    for step, seconds in facts.get("steps", {}).items():
        yield Measurement("payment_api_conjur_step_seconds", seconds, {"step": step})


def _details(facts: Mapping[str, Any], at: float) -> Iterator[Tuple[str, Any]]:
    health = facts.get("health") or {}
    for key in _SHOWN:
        if health.get(key) is not None:
            value = health[key]
            yield key, clean(value) if isinstance(value, str) else value
    for key in ("messages", "remarks"):
        if health.get(key):
            yield key, [sentence(m) for m in health[key][:10]]
    if facts.get("steps"):
        yield "steps_ms", milliseconds_of(facts["steps"])
    if facts.get("variables") is not None:
        yield "variables_readable", facts["variables"]
    if facts.get("credentials") is False:
        yield "access", "not tried: no CONJUR_AUTHN_LOGIN and CONJUR_AUTHN_API_KEY configured"
    yield from transport_details(facts, at).items()
