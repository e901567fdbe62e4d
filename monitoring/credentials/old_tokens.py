"""Decision: how many of a client's live tokens may be of the secret before the present one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Optional

from monitoring.certainty import Doubt
from monitoring.credentials.ages import UNBORN, age_of, current_version
from monitoring.credentials.facts import (
    SKEW,
    CredentialFacts,
    NodeFacts,
    TokenFacts,
    version_number,
)
from monitoring.text import counted
from monitoring.tokens.clients import MintedBefore
from monitoring.tokens.results import ANY_VERSION, ClientTokens

if TYPE_CHECKING:
    from monitoring.credentials.facts import CacheSeen

#: Seconds for which EAPI goes on with a secret it has cached (docs/protocols.md).
EAPI_CACHE = 900.0
#: Its keys of tokens end so many seconds before the tokens do.
EAPI_EARLY = 30.0
_FOR_EVER = 1e12  # a moment after every token


def tokens_of(cache: CacheSeen, facts: CredentialFacts) -> TokenFacts:
    """The client's tokens by a census that could be made."""
    share, ended = cache.result.by_client.get(facts.client), ended_at(facts)
    till = _FOR_EVER if ended is None else ended + EAPI_CACHE + SKEW
    strange = cache.stats.may_be_of(facts.client, till, slack=SKEW)
    nameless = cache.result.nameless or ClientTokens(0, 0, 0.0)
    conflicts = _with_one_id(cache)
    unsaid = conflicts or nameless.endless or strange.endless
    ends = (strange.last_dies, nameless.last_expiry if nameless.active else None)
    found = TokenFacts(
        share.active if share else 0,
        complete=cache.whole and (share is not None or cache.result.clients_exact),
        unreadable=cache.unreadable,
        unowned=max(strange.live, nameless.active) + conflicts,
        unowned_until=None if unsaid else max((at for at in ends if at), default=None),
        any_live=cache.result.active > 0,
        longest=_longest(share),
        doubts=doubts_of(cache.readers, cache.cluster) + _of_the_future(cache, facts.client),
    )
    return _with_old(found, cache, facts, share or ClientTokens(0, 0, 0.0))


def _of_the_future(cache: CacheSeen, client: str) -> tuple[Doubt, ...]:
    """A time of issue that is still to come is wrong, so the token may be of any secret."""
    if not any(each.name == "iat_in_future" for each in cache.result.hygiene):
        return ()
    by_now = cache.stats.now + SKEW
    mine, strange = _minted(cache, client), cache.stats.may_be_of
    many = mine(_FOR_EVER).live - mine(by_now).live
    many += strange(client, _FOR_EVER).live - strange(client, by_now).live
    why = f"{counted(many, 'live token')} issued in the future, by its own word: maybe an old one"
    return (Doubt("two_readings", why),) if many > 0 else ()


def _longest(share: Optional[ClientTokens]) -> float:
    if share is None:
        return 0.0
    return math.inf if share.endless else float(share.longest)


def _with_one_id(cache: CacheSeen) -> int:
    """Tokens left out of the count because another has the same id and other times."""
    return sum(each.count for each in cache.result.hygiene if each.name == "jti_conflict")


def _with_old(
    found: TokenFacts, cache: CacheSeen, facts: CredentialFacts, share: ClientTokens
) -> TokenFacts:
    ended, version = ended_at(facts), current_version(facts)
    if version == 1 and facts.rotation is None:
        return replace(found, old=0)  # there was none before it
    older = _of_older(share.by_version, version)
    if ended is None:
        return replace(found, old=older or None)
    minted = _minted(cache, facts.client)
    before, always = minted(ended), minted(_FOR_EVER)
    both = facts.rotation is not None and facts.rotation.deprecated_by is None
    near = minted(ended if both else ended + EAPI_CACHE + SKEW, SKEW)
    # no time of issue: could be of any version
    timeless = max(0, found.live - always.live)
    unsaid = timeless or older > before.live
    doubts = [*found.doubts, *before.doubts, *near.doubts]
    return replace(
        found,
        old=max(older, before.live + timeless),
        old_until=_last_end(before, share) if unsaid else before.last_dies,
        near=near.live - before.live,
        near_until=near.last_dies,
        doubts=tuple(dict.fromkeys(doubts)),
    )


def _minted(cache: CacheSeen, client: str) -> Callable[..., MintedBefore]:
    """The client's tokens minted before a moment, those that died so many seconds ago too."""

    def before(moment: float, slack: float = 0.0) -> MintedBefore:
        found = cache.stats.minted_before(client, moment, slack=slack)
        return found if found is not None else MintedBefore()

    return before


def _last_end(before: MintedBefore, share: ClientTokens) -> Optional[float]:
    """The end of those that are old by their own word is not told apart: that of all tokens."""
    if before.endless or share.endless or share.last_expiry is None:
        return None
    return max(share.last_expiry, before.last_dies or 0.0)


def ended_at(facts: CredentialFacts) -> Optional[float]:
    """Tokens minted before this may be of the version before the present one, those after are not.
    While both log in: when the new one came, so that those before are surely old. None: the
    present version is the old one still, or nobody knows."""
    rotation = facts.rotation
    if rotation is not None and rotation.state in UNBORN:
        return None
    if rotation is not None and rotation.running and rotation.deprecated_by is None:
        return rotation.started_at
    if rotation is not None and rotation.deprecated_by is not None:
        return rotation.deprecated_by
    age = age_of(facts)
    return None if age.at_least else age.since


def _of_older(by_version: Mapping[str, int], version: Optional[int]) -> int:
    """Live tokens that name an older version themselves, or one that was not kept."""
    numbers = ((version_number(name), many) for name, many in by_version.items())
    older = sum(n for v, n in numbers if v is not None and version is not None and v < version)
    return older + by_version.get(ANY_VERSION, 0)


# -- the servers that were read


def doubts_of(readers: Sequence[NodeFacts], cluster: str) -> tuple[Doubt, ...]:
    """Why the servers that were read may show other tokens than the cache was given."""
    return tuple(doubt for node in readers for doubt in _doubts(node)) + _uncovered(cluster)


def _doubts(node: NodeFacts) -> Iterator[Doubt]:
    if node.fault:
        why = f"INFO of the cache ({node.name}) cannot be read ({node.fault}), so nobody knows "
        yield Doubt("not_read", why + "whether it is a whole and present copy")
    elif node.role not in ("primary", "replica"):
        yield Doubt("unknown_word", f"the cache ({node.name}) does not say that it is a primary")
    elif not node.linked:
        why = f"the cache that is read ({node.name}) is a replica whose link to its primary is down"
        yield Doubt("may_be_stale", f"{why}: it shows old data")
    elif node.loading:
        yield Doubt("may_be_stale", f"the cache ({node.name}) is loading its data")


def _uncovered(cluster: str) -> tuple[Doubt, ...]:
    return (
        (Doubt("not_read", f"the cluster of the cache is not whole: {cluster}"),) if cluster else ()
    )
