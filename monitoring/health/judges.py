"""Decision: readings of the components, judged: the vault, those a user added, and all together.

A judge per kind of component (`components.ROWS`); what they share is in `health.judging`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Callable, Optional

from monitoring.catalog import METRICS
from monitoring.certainty import Basis, Coverage, severity
from monitoring.components import ROWS, of_figure
from monitoring.health.cache import judge_cache
from monitoring.health.judging import (
    CRITICAL,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    ProbeVerdict,
    basics,
    call_of,
    clean,
    compared,
    component_of,
    good,
    keepable,
    milliseconds_of,
    number,
    proper,
    sentence,
    transport,
    transport_details,
)
from monitoring.health.login import judge_login
from monitoring.health.service import judge_service
from monitoring.model import (
    Component,
    Fault,
    Measurement,
    Reading,
    Severity,
    Source,
    Verdict,
    worst,
)
from monitoring.text import iso_seconds
from monitoring.thresholds import say

# -- how a component is that the user added (`COMPONENTS`).


def judge_further(reading: Reading, _context: Context) -> ProbeVerdict:
    """`facts` as `probes.probe_further` gives them. One that cannot be asked is down where
    that is its own fault, and unknown where it is ours."""
    component = component_of(
        reading, _call(reading), dict(transport_details(reading.facts, reading.at))
    )
    figures = tuple(transport(reading.facts, reading.source, reading.at))
    return ProbeVerdict(component, (*basics(component), *figures))


def _call(reading: Reading) -> Call:
    if reading.fault is not None:
        return call_of(reading.fault)
    status, wanted = reading.facts.get("status"), reading.facts.get("wanted") or range(200, 300)
    if status is not None and status not in wanted:
        return Call(CRITICAL, False, f"answers with HTTP {status}", "http")
    return good(Coverage("answers", 1, 1))


# -- how the Conjur vault is: OSS or Enterprise, leader or follower, and whether a client with an
# API key gets through.
# Judged by the top-level `ok` (docs/protocols.md). A follower that says ok may still serve old
# data, so its subscriptions are looked at too.

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
    "degraded": "the vault says that it is degraded",
    "stale": "is a follower that does not receive every change, and serves old data",
    "messages": "the vault says that it is ok, but not all of it is",
}
_STEPS = {"authenticate": "our login", "count": "the count of variables"}
_VARIABLES = "conjur/variables"
_NOTHING_SEEN = (
    "check CONJUR_ACCOUNT and that our identity's group holds read on the clients' variables, "
    "then load deploy/conjur/policy.yml"
)


def judge_vault(reading: Reading, context: Context) -> ProbeVerdict:
    """`facts` as `probes.probe_vault` gives them: `health` (fields of ConjurHealth), `steps`
    (name -> seconds), `step_fault` ((step, Fault, HTTP status) of the first authenticated step
    that failed), `variables`, `credentials` (whether any are configured), `identity` of the login,
    `target` (digest of the address), transport facts; `http_status` where the vault refused."""
    facts = reading.facts
    known = context.known(reading.source, facts.get("target"))
    call = compared(_vault_call(reading, context), known, (facts.get("http_status"),))
    component = component_of(reading, call, dict(_details(facts, reading.at)))
    measurements = (
        *basics(component),
        *transport(facts, reading.source, reading.at),
        *_figures(facts),
    )
    seen = facts.get("variables")
    logged_in = (facts.get("steps") or {}).get("authenticate") is not None
    spoke = "target" in facts and (facts.get("health") or {}).get("ok") is not None
    return ProbeVerdict(
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


def _vault_call(reading: Reading, context: Context) -> Call:
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
    return Call(severity((), basis), True, f"the vault says that it is ok{because}")


def _access(
    step: str, fault: Fault, status: Optional[int], *, worked: Optional[float] = None
) -> Call:
    """The vault calls itself ok and a client with credentials does not get through. `worked`: when
    this login did last."""
    if call_of(fault).severity is CRITICAL or (status is not None and status >= 500):
        said = f"answers, but {_STEPS[step]} fails: {fault.message}"
        return Call(CRITICAL, False, said, fault.kind)
    how = "cannot be read" if fault.kind in ("body", "redirect", "too_large") else "is refused"
    said = f"answers, but {_STEPS[step]} {how}: {fault.message}"
    if fault.message.startswith("the vault refused"):
        said = f"answers, but {fault.message}"  # that says already what is refused
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


def _details(facts: Mapping[str, Any], at: float) -> Iterator[tuple[str, Any]]:
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


# -- readings of the five components, judged.

Judge = Callable[[Reading, Context], ProbeVerdict]

#: Kind of a component -> its judge.
JUDGES: Mapping[str, Judge] = {
    "service": judge_service,
    "vault": judge_vault,
    "cache": judge_cache,
    "login": judge_login,
}


def judge(reading: Reading, context: Context) -> ProbeVerdict:
    """The component's row, its figures and findings, and what to remember of it. Pure; raises
    ValueError for what could be neither kept nor shown: called where that spoils the component
    alone (see `asking.Team`)."""
    return keepable(_judge_of(reading.source)(reading, context))


def _judge_of(component: str) -> Judge:
    row = ROWS.get(component)
    return judge_further if row is None else JUDGES[row.kind]


def sources_of(reading: Reading, judged: ProbeVerdict) -> tuple[Source, ...]:
    """The component's row of `sources`: whether we could look at it. One that says "down", or
    refuses connections, was looked at; one that keeps us out, or whose answer we cannot read, was
    not. A second row, `<component>-figures`, where it answers but hides its figures."""
    component = judged.component
    blind = component.status is Severity.UNKNOWN
    whole = Source(
        reading.source,
        ok=not blind,
        seconds=reading.seconds,
        why=component.message if blind else "",
        error=component.error if blind else None,
        configured=reading.configured,
        truncated=reading.truncated,
        silent=component.up is False and component.error not in (None, "http"),
    )
    if not judged.blind:
        return (whole,)
    why = "; ".join(fault.message for fault in judged.blind)
    error = judged.blind[0].kind
    return (whole, Source(f"{reading.source}-figures", ok=False, why=why, error=error))


def system_up(components: Iterable[Component]) -> Optional[float]:
    """1 when every component that there is was up, 0 when one was not, None when of the rest one
    is not known (or none is configured)."""
    ups = [component.up for component in components if component.configured]
    if False in ups:
        return 0.0
    return None if None in ups or not ups else 1.0


def raised(component: Component, verdicts: Iterable[Verdict]) -> Component:
    """The row with the worst that its figures' limits say: a service that answers too slowly is
    not ok. A component we cannot judge stays unknown."""
    crossed = [v for v in verdicts if v.severity > Severity.UNKNOWN and _is_of(v, component)]
    if not crossed or component.status is Severity.UNKNOWN:
        return component
    severity = worst(v.severity for v in crossed)
    if severity <= component.status:
        return component
    said = "; ".join(dict.fromkeys(say(v) for v in crossed if v.severity is severity))
    message = f"{component.message}; {said}" if component.message else said
    return replace(component, status=severity, message=message)


def _is_of(verdict: Verdict, component: Component) -> bool:
    """By its `component` label; figures of a node are the cache's, steps the canary's or the
    vault's. What is computed from history says nothing of how the component is now."""
    labels, name = verdict.measurement.labels, verdict.measurement.name
    if METRICS[name].derived:
        return False
    return (labels.get("component") or of_figure(name)) == component.name
