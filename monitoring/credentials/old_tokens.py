"""Decision: how many of a client's live tokens may be of the secret before the present one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Iterator, Mapping, Optional, Sequence, Tuple

from monitoring.certainty import Doubt
from monitoring.credentials.ages import UNBORN, age_of, current_version
from monitoring.credentials.facts import (
    SKEW,
    CredentialFacts,
    NodeFacts,
    TokenFacts,
    version_number,
)

if TYPE_CHECKING:
    from monitoring.credentials.source_cache import CacheSeen

#: Seconds for which EAPI goes on with a secret it has cached (FACTS.md section 0).
EAPI_CACHE = 900.0
#: Its keys of tokens end so many seconds before the tokens do.
EAPI_EARLY = 30.0
_FOR_EVER = 1e12  # a moment after every token


def tokens_of(cache: CacheSeen, facts: CredentialFacts) -> TokenFacts:
    """The client's tokens by a census that could be made."""
    shares = cache.result.by_client
    share = shares.get(facts.client)
    ended = ended_at(facts)
    till = _FOR_EVER if ended is None else ended + EAPI_CACHE + SKEW
    strange = cache.stats.may_be_of(facts.client, till, slack=SKEW).live
    nameless = cache.result.nameless.active if cache.result.nameless else 0
    found = TokenFacts(
        share.active if share else 0,
        complete=cache.whole and (share is not None or cache.result.clients_exact),
        unreadable=cache.unreadable,
        unowned=max(strange, nameless) + _with_one_id(cache),
        any_live=cache.result.active > 0,
        doubts=doubts_of(cache.readers, cache.cluster),
    )
    return _with_old(found, cache, facts, share.by_version if share else {})


def _with_one_id(cache: CacheSeen) -> int:
    """Tokens left out of the count because another has the same id and other times."""
    return sum(each.count for each in cache.result.hygiene if each.name == "jti_conflict")


def _with_old(
    found: TokenFacts, cache: CacheSeen, facts: CredentialFacts, by_version: Mapping[str, int]
) -> TokenFacts:
    ended, version = ended_at(facts), current_version(facts)
    if version == 1 and facts.rotation is None:
        return replace(found, old=0)  # there was none before it
    older = _of_older(by_version, version)
    if ended is None:
        return replace(found, old=older or None)
    before = cache.stats.minted_before(facts.client, ended)
    always = cache.stats.minted_before(facts.client, _FOR_EVER)
    both = facts.rotation is not None and facts.rotation.deprecated_by is None
    till = ended if both else ended + EAPI_CACHE + SKEW
    near = cache.stats.minted_before(facts.client, till, slack=SKEW)
    by_time = before.live if before else 0
    # no time of issue: could be of any version
    timeless = max(0, found.live - (always.live if always else 0))
    return replace(
        found,
        old=max(older, by_time + timeless),
        old_until=before.last_dies if before and not timeless else None,
        near=(near.live if near else 0) - by_time,
        near_until=near.last_dies if near else None,
    )


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
    """Live tokens that name an older version themselves."""
    numbers = ((version_number(name), many) for name, many in by_version.items())
    return sum(n for v, n in numbers if v is not None and version is not None and v < version)


# -- the servers that were read


def doubts_of(readers: Sequence[NodeFacts], cluster: str) -> Tuple[Doubt, ...]:
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


def _uncovered(cluster: str) -> Tuple[Doubt, ...]:
    return (
        (Doubt("not_read", f"the cluster of the cache is not whole: {cluster}"),) if cluster else ()
    )
