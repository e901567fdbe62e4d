"""Decision: how a component is that the user added (`COMPONENTS`)."""

from __future__ import annotations

from monitoring.certainty import Coverage
from monitoring.judging.common import (
    CRITICAL,
    Call,
    Context,
    Judged,
    basics,
    call_of,
    component_of,
    good,
    transport,
    transport_details,
)
from monitoring.model import Reading


def judge_further(reading: Reading, _context: Context) -> Judged:
    """`facts` as `probing.further.probe_further` gives them. One that cannot be asked is down where
    that is its own fault, and unknown where it is ours."""
    component = component_of(
        reading, _call(reading), dict(transport_details(reading.facts, reading.at))
    )
    figures = tuple(transport(reading.facts, reading.source, reading.at))
    return Judged(component, (*basics(component), *figures))


def _call(reading: Reading) -> Call:
    if reading.fault is not None:
        return call_of(reading.fault)
    status, wanted = reading.facts.get("status"), reading.facts.get("wanted") or range(200, 300)
    if status is not None and status not in wanted:
        return Call(CRITICAL, False, f"answers with HTTP {status}", "http")
    return good(Coverage("answers", 1, 1))
