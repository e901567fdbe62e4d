"""Keep: what looks at the cache show one after another, because a token that is not in it now may
live: it may have been evicted, flushed away, lost by a restart or a fail-over, or never written.

Nothing was lost between two looks when the same servers answered, none of their counters of losses
moved, and tokens that were counted and live still are there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Optional,
)

from monitoring.credentials.facts import (
    SKEW,
    CredentialFacts,
    NodeFacts,
    ProofFacts,
    RotationFacts,
    TokenFacts,
)
from monitoring.credentials.old_tokens import EAPI_CACHE
from monitoring.store.state import State
from monitoring.text import say

if TYPE_CHECKING:
    from monitoring.credentials.facts import CacheSeen

#: Seconds between two looks above which a loss between them may have gone unseen.
GAP = 900.0
#: A key may be gone so many seconds before its token dies (EAPI: 30), with some for clocks.
EARLY = 60.0
#: Clients whose longest-lived token is looked for again at the next look.
WITNESSES = 50
#: Seconds for which what was seen of a client's tokens is remembered.
KEPT = 90 * 86400.0
_SCOPE, _KEY = "cache_memory", "looks"


@dataclass(frozen=True)
class Looks:
    """An unbroken row of looks, the last at `last`: nothing was lost since `since`, and `broken`
    says why not since earlier. `losses`: each primary's counters of losses. `witnesses`: clients
    and when the last of their tokens dies."""

    since: float
    broken: str
    last: float
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    witnesses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Remembered:
    """Of one client. `until`: an old token that was counted at `counted` dies then (infinity:
    never). `clear`: see ProofFacts.clear_since, of the rotation `rotation`. `longest`: a life
    longer than the policy allows, in seconds, seen at `seen`."""

    until: float = 0.0
    counted: float = 0.0
    rotation: str = ""
    clear: Optional[float] = None
    longest: float = 0.0
    seen: float = 0.0


NOTHING = Remembered()


class CacheMemory:
    """Scope `cache_memory` of the state file. Raises StateError."""

    def __init__(self, state: State, allowed: float) -> None:
        """`allowed`: the longest life of a token that the policy allows, in seconds."""
        self._state, self._allowed = state, allowed

    def note(
        self, cache: Optional[CacheSeen], facts: Mapping[str, CredentialFacts], now: float
    ) -> dict[str, CredentialFacts]:
        """The same facts with what is known of tokens that are not in the cache; and this look is
        remembered. Nothing changes where the cache could not be read."""
        counted = {c: each for c, each in facts.items() if each.tokens is not None}
        if cache is None or not counted:
            return dict(facts)
        if cache.at is not None:  # it shows how things were then
            now = min(now, cache.at)
        with self._state.transaction():
            before, rows = _read(self._state.get(_SCOPE, _KEY))
            earlier = cache.at is not None and before is not None and now < before.last
            looks = before if earlier else next_looks(before, cache, now)
            after = {
                client: remember(rows.get(client, NOTHING), each, looks, self._span(now))
                for client, each in counted.items()
            }
            kept = {c: row for c, row in {**rows, **after}.items() if _worth(row)}
            self._state.put(_SCOPE, _KEY, _written(looks or before, kept))
        proofs = {c: proof_of(row, looks, self._allowed) for c, row in after.items()}
        return {c: _proven(each, proofs.get(c)) for c, each in facts.items()}

    def _span(self, now: float) -> Span:
        return Span(now, self._allowed)


class Span(NamedTuple):
    """Now, and how long a token may live by the policy."""

    now: float
    allowed: float


def _proven(facts: CredentialFacts, proof: Optional[ProofFacts]) -> CredentialFacts:
    if facts.tokens is None or proof is None:
        return facts
    return replace(facts, tokens=replace(facts.tokens, proof=proof))


def proof_of(row: Remembered, looks: Optional[Looks], allowed: float) -> ProofFacts:
    return ProofFacts(
        intact_since=looks.since if looks else None,
        broken=looks.broken if looks else "it does not tell what it lost",
        clear_since=row.clear,
        counted_until=row.until or None,
        longest=max(allowed, row.longest),
    )


# -- was anything lost?


def next_looks(before: Optional[Looks], cache: CacheSeen, now: float) -> Optional[Looks]:
    """The row of looks with this one. None: the servers do not tell what they lost, or not every
    key was seen, so that this look proves nothing."""
    primaries = cache.primaries
    reported = bool(primaries) and all(_reports(node) for node in primaries)
    if not reported or not cache.whole:
        return None
    losses = {node.lives: dict(node.losses) for node in primaries}
    why = _broken(before, cache, losses, now)
    since, broken = (before.since, before.broken) if before and not why else (now, why)
    return Looks(since, broken, now, losses, _witnesses(cache, now))


def _reports(node: NodeFacts) -> bool:
    return not node.fault and node.role == "primary" and bool(node.lives and node.losses)


def _broken(
    before: Optional[Looks], cache: CacheSeen, losses: Mapping[str, Any], now: float
) -> str:
    """Why something may have been lost since the look before; "": nothing was."""
    if before is None:
        return "this monitor has not looked at it before"
    if not 0.0 <= now - before.last <= GAP:
        return f"nobody looked at it for {say(abs(now - before.last))}"
    if set(losses) != set(before.losses):
        return _other_servers(cache.primaries, before, now)
    moved = [
        f"{name} of {node.name}"
        for node in cache.primaries
        for name in sorted({*node.losses, *before.losses[node.lives]})
        if node.losses.get(name, 0) != before.losses[node.lives].get(name, 0)
    ]
    if moved:
        return f"its counters of losses moved ({', '.join(moved[:3])})"
    due = [each for each in before.witnesses.items() if each[1] > now + EARLY]
    gone = sum(not cache.stats.holds(*each) for each in due)
    return f"tokens of {gone} clients that were counted are gone before their time" if gone else ""


def _other_servers(primaries: Sequence[NodeFacts], before: Looks, now: float) -> str:
    new = [node for node in primaries if node.lives not in before.losses]
    up = min((node.uptime for node in new if node.uptime is not None), default=None)
    if up is not None and up <= now - before.last:
        return f"it was restarted {say(up)} ago"
    return "other servers answer than at the look before, as after a restart or a fail-over"


def _witnesses(cache: CacheSeen, now: float) -> dict[str, int]:
    """Those whose last token lives longest, so that most of them still live at the next look."""
    ends = ((end, name) for name, end in cache.stats.last_ends().items() if end > now + EARLY)
    return {name: end for end, name in sorted(ends, reverse=True)[:WITNESSES]}


# -- what is remembered of a client's tokens


def remember(
    row: Remembered, facts: CredentialFacts, looks: Optional[Looks], span: Span
) -> Remembered:
    """What is remembered of a client after a look at its tokens."""
    tokens, rotation, now = facts.tokens, facts.rotation, span.now
    if tokens is None:
        return row
    row = _still(row, now)
    name = rotation.rotation_id if rotation else ""
    deaths = list(_deaths(tokens))
    longer = tokens.longest > span.allowed and tokens.longest >= row.longest
    return Remembered(
        until=max((row.until, *deaths)),
        counted=now if deaths else row.counted,
        rotation=name,
        clear=_clear(row if row.rotation == name else NOTHING, facts, looks, span),
        longest=tokens.longest if longer else row.longest,
        seen=now if longer else row.seen,
    )


def _still(row: Remembered, now: float) -> Remembered:
    """Without what is over, or was seen too long ago."""
    if row.until + SKEW <= now or row.counted <= now - KEPT:
        row = replace(row, until=0.0, counted=0.0)
    return row if row.seen > now - KEPT else replace(row, longest=0.0, seen=0.0)


def _deaths(tokens: TokenFacts) -> Iterator[float]:
    """When the tokens die that may be of the old secret; never, where they do not say."""
    for many, until in (
        (tokens.old, tokens.old_until),
        (tokens.near, tokens.near_until),
        (tokens.unowned, tokens.unowned_until),
    ):
        if many:
            yield math.inf if until is None else until


def _clear(
    row: Remembered, facts: CredentialFacts, looks: Optional[Looks], span: Span
) -> Optional[float]:
    """Only a look counts before which nothing was lost for as long as any token lives, and after
    which no token of the old secret can come any more."""
    tokens, last, now = facts.tokens, last_mint(facts.rotation), span.now
    if tokens is None or looks is None or last is None or now < last:
        return None
    shown = tokens.old is None or tokens.old > 0 or tokens.near > 0 or tokens.unowned > 0
    longest = max(span.allowed, tokens.longest, row.longest)
    proves = not shown and tokens.complete and looks.since <= now - longest - SKEW
    if not proves:
        return None
    return row.clear if row.clear is not None and row.clear <= now else now


def last_mint(rotation: Optional[RotationFacts]) -> Optional[float]:
    """The last moment at which EAPI may have minted a token for the old secret: it goes on with one
    that it has cached. None: not known, or it still may."""
    ended = rotation.deprecated_by if rotation is not None else None
    return None if ended is None else ended + EAPI_CACHE + SKEW


def _worth(row: Remembered) -> bool:
    return replace(row, rotation="") != NOTHING


# -- in the state file


def _written(looks: Optional[Looks], rows: Mapping[str, Remembered]) -> str:
    said = {client: asdict(row) for client, row in rows.items()}
    return json.dumps({"looks": asdict(looks) if looks else None, "clients": said})


def _read(text: Optional[str]) -> tuple[Optional[Looks], dict[str, Remembered]]:
    """What another version wrote, or was damaged, is as if it had never been there."""
    try:
        document = json.loads(text or "{}")
        rows = {c: Remembered(**row) for c, row in document.get("clients", {}).items()}
        looks = document.get("looks")
        return (Looks(**looks) if looks else None), rows
    except (ValueError, TypeError, AttributeError):
        return None, {}
