"""Decision: how following the cache stands, as figures and findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from monitoring.components import CACHE, SAPI
from monitoring.model import Finding, Measurement, Severity
from monitoring.text import counted, iso_seconds, safe_id
from monitoring.tokens.birth_sample import SampleVerdict

FOLLOWING, CATCHING_UP, CENSUS, OFF = "following", "catching_up", "census", "off"
STATES = (FOLLOWING, CATCHING_UP, CENSUS, OFF)
_SHOWN = 20


@dataclass(frozen=True)
class Orphan:
    """Tokens of one client that are used and were never minted. `since`, `issued`: of the first of
    them; `until`: when the last dies; `shapes` say what stands in them."""

    client: str
    tokens: int
    uses: int
    since: float
    issued: float
    until: float
    shapes: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """How following stands. `whole_since`: since when nothing was missed (None: not whole);
    `blind_since`: since when changes were not followed (None: they are). `how`: "events" or
    "tracking". `changes` counts tokens by what became of them; None where that is not known.
    `uses` counts good verdicts by whether the token's birth was seen. `wrong`: keys that the last
    daily census found otherwise (None: none was made). `per_minute`: tokens minted and renewed in
    the rate window (None: not all of it was followed). `sample`: where the cache is not
    followed, what two looks show."""

    state: str = OFF
    whole_since: Optional[float] = None
    blind_since: Optional[float] = None
    why: str = ""
    how: str = ""
    changes: Mapping[str, Optional[int]] = field(default_factory=dict)
    uses: Mapping[str, int] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()
    per_minute: Optional[float] = None
    sample: Optional[SampleVerdict] = None
    wrong: Optional[int] = None
    gaps: int = 0


NOT_FOLLOWED = Standing()


def lineage_json(standing: Standing) -> dict[str, Any]:
    """The object `tokens.lineage` of a cycle's JSON."""
    return {
        "state": standing.state,
        "whole_since": _iso(standing.whole_since),
        "blind_since": _iso(standing.blind_since),
        "why": standing.why or None,
        "by": standing.how or None,
        "gaps": standing.gaps,
        "changes": dict(standing.changes),
        "uses": dict(standing.uses),
        # none of what was not looked for is not none
        "tokens_without_birth": sum(row.tokens for row in standing.orphans) or _none(standing),
        "census_differs": standing.wrong,
        "sample": _sample_json(standing.sample),
    }


def _sample_json(sample: Optional[SampleVerdict]) -> Optional[dict[str, int]]:
    """Never "none": what is unexplained may be renewed, and what was not looked at is not known."""
    if sample is None:
        return None
    return {
        "looked_at": sample.looked_at,
        "born": sample.born,
        "unexplained": sample.unexplained,
        "one_in": sample.one_in,
    }


def _none(standing: Standing) -> Optional[int]:
    return 0 if standing.state == FOLLOWING else None


def _iso(moment: Optional[float]) -> Optional[str]:
    return None if moment is None else iso_seconds(moment)


def lineage_measurements(standing: Standing) -> Iterator[Measurement]:
    """Every figure of following; counts are there once it was begun."""
    for state in STATES:
        value = float(state == standing.state)
        yield Measurement("payment_api_token_lineage_state", value, {"state": state})
    if standing.state == OFF:
        return
    name = "payment_api_token_lineage_whole_since_timestamp_seconds"
    yield Measurement(name, standing.whole_since)
    for change, count in standing.changes.items():
        if count is not None:
            name = "payment_api_token_changes_total"
            yield Measurement(name, float(count), {"change": change})
    born = standing.uses.get("born", 0)
    for birth, count in (("seen", born), ("unseen", sum(standing.uses.values()) - born)):
        yield Measurement("payment_api_token_uses_total", float(count), {"birth": birth})
    found = float(sum(row.tokens for row in standing.orphans))
    known = standing.state == FOLLOWING or found
    name = "payment_api_tokens_without_birth"
    yield Measurement(name, found if known else None, at_least=found)


def lineage_findings(standing: Standing) -> Iterator[Finding]:
    """Forged tokens, client by client, and what keeps us from finding them."""
    for orphan in standing.orphans[:_SHOWN]:
        yield _without_birth(orphan)
    if standing.state == CENSUS:
        yield Finding(
            "cache_not_followed",
            Severity.WARNING,
            f"The cache cannot be followed: {standing.why}.",
            CACHE,
            evidence={"why": standing.why},
            meaning="Each cycle reads the whole cache, and forged tokens are not looked for.",
            action="Grant what is missing, or set TOKENS['follow'] to False.",
        )
    if standing.wrong:
        yield Finding(
            "follow_differs",
            Severity.WARNING,
            f"A census found {counted(standing.wrong, 'key')} other than following had them: the "
            "figures of the day before may be wrong.",
            CACHE,
            evidence={"keys": standing.wrong},
            meaning="Changes were missed without a sign of it; the census is believed.",
            action="See the log for gaps; report it with the version of the cache's server.",
        )


def _without_birth(orphan: Orphan) -> Finding:
    many = counted(orphan.tokens, "token")
    first, issued = iso_seconds(orphan.since), iso_seconds(orphan.issued)
    verb, it = ("is", "it") if orphan.tokens == 1 else ("are", "them")
    return Finding(
        "token_without_birth",
        Severity.CRITICAL,
        f"{many} of {safe_id(orphan.client) or 'no client'} {verb} accepted, but neither EAPI nor "
        f"SAPI issued {it}: forged with the real signing key. First use {first}, "
        f"{counted(orphan.uses, 'good verdict')} since.",
        SAPI,
        client=orphan.client,
        evidence={
            "tokens": orphan.tokens,
            "first_use": first,
            "uses": orphan.uses,
            "issued": issued,
            "last_dies": iso_seconds(orphan.until),
            "shapes": list(orphan.shapes),
        },
        meaning="Who made it has the signing key, and can be any client.",
        action=f"Rotate {_key_of(orphan.shapes)} on EAPI and SAPI at once, so that every token is "
        "minted anew; then search the access logs of EAPI and SAPI for calls of this client from "
        f"{first} on, and compare their addresses with the owner's hosts.",
    )


def _key_of(shapes: tuple[str, ...]) -> str:
    """Which key the tokens are signed with, by what their headers say."""
    words = dict(part.partition(" ")[::2] for part in (shapes[0].split("; ") if shapes else ()))
    alg, kid = words.get("alg", ""), words.get("kid", "")
    named = f" with the id {kid}" if kid else ""
    if alg.startswith("HS"):
        return f"the shared signing secret ({alg}){named}"
    return f"the private signing key ({alg or 'of an unknown algorithm'}){named}"
