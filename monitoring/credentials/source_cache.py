"""Acquire: what the cache knows of credentials: EAPI's cached ones and a census of live
tokens. Read-only; values are decoded at once and the secret's hash never asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from monitoring.config.settings import Settings
from monitoring.credentials.facts import CACHE, CachedFacts, CacheSeen, NodeFacts
from monitoring.credentials.shared_census import Seen
from monitoring.credentials.source_kit import Asked, SourceAnswer, absent, unavailable
from monitoring.model import Fault, Source
from monitoring.redis import client as redis_client
from monitoring.redis.count import CREDENTIALS_KEPT, ScanReport
from monitoring.redis.faults import RedisFault
from monitoring.redis.profiles import INDEX
from monitoring.redis.scan import Budget, ErrorTranslation, census, profile_of
from monitoring.redis.topology import Node
from monitoring.text import say
from monitoring.tokens.codecs.facts import CredentialFact
from monitoring.tokens.stats import CLIENTS_TRACKED, TokenStats

#: Of the time in which peers are asked; the rest is for what the servers say of themselves.
SHARE_OF_TIME = 0.75
_DOOR = ErrorTranslation(redis_client.translate, redis_client.ERRORS)


def ask_cache(asked: Asked) -> SourceAnswer:
    """One scan of the token and credential keys of every primary."""
    if not asked.settings.redis.configured:
        return absent(CACHE)
    cache: Optional[redis_client.Cache] = None
    try:
        cache = asked.cache()
        return _shared(cache, asked) or _read(cache, asked)
    except redis_client.ERRORS as error:
        fault = redis_client.translate(error) or Fault("internal", "the cache could not be read")
        return unavailable(CACHE, fault)
    finally:
        if cache is not None:
            cache.close()


def seen_of(cache: redis_client.Cache, report: ScanReport, at: float) -> Seen:
    """What a census that began `at` leaves for others beside its tokens."""
    readers, primaries = _nodes(cache, cache.scan_clients())
    facts = [fact for fact in report.counted.credentials if _informs(fact)]
    return Seen(at, report.seen, report.matched, facts, readers, primaries)


def _shared(cache: redis_client.Cache, asked: Asked) -> Optional[SourceAnswer]:
    """What the other script has counted lately, where that may stand for a look of our own; not
    where no key is a token's."""
    settings, now, started = asked.settings, asked.clock(), time.monotonic()
    found = asked.shared.find(now) if asked.shared is not None else None
    if found is None or not any(found.matched.values()):
        return None
    if not found.same_servers(*_nodes(cache, cache.scan_clients())):
        return None
    policy = replace(settings.tokens, top_clients=CLIENTS_TRACKED)
    stats = found.stats(replace(settings, tokens=policy))
    unreadable = sum(found.undecodable.values())
    seen = CacheSeen(
        stats,
        stats.result(None),
        _cached(found.credentials),
        unreadable=unreadable,
        readers=tuple(found.readers),
        primaries=tuple(found.primaries),
        cluster=_unserved(cache) if settings.redis.cluster else "",
        at=found.at,
    )
    why = f"counted {say(now - found.at)} ago by the token script"
    if unreadable:
        why += f"; {unreadable} values under token keys could not be read"
    return SourceAnswer(Source(CACHE, True, found.seen, time.monotonic() - started, why), seen)


def _read(cache: redis_client.Cache, asked: Asked) -> SourceAnswer:
    settings, started = asked.settings, time.monotonic()
    policy = replace(settings.tokens, top_clients=CLIENTS_TRACKED)
    stats = TokenStats(
        asked.clock(),
        policy,
        excluded=settings.canary.clients,
        reads_names=True,
        reads_expiries=False,
    )
    clients = cache.scan_clients()
    report = census(
        [(f"node {number}", client) for number, client in enumerate(clients, 1)],
        [r for r in profile_of(policy.profile, policy.patterns, policy.exclude) if r.role != INDEX],
        stats,
        door=_DOOR,
        budget=_budget(settings),
    )
    result = stats.result(None)
    facts = [fact for fact in report.counted.credentials if _informs(fact)]
    kept = len(report.counted.credentials) < CREDENTIALS_KEPT
    whole = kept and not report.truncated and not report.faults and not report.unread
    unreadable = sum(result.undecodable.values()) + report.counted.foreign
    seen = CacheSeen(stats, result, _cached(facts), whole, unreadable)
    seen = _with_nodes(seen, cache, clients)  # last: what was lost under the scan shows
    seen = replace(seen, cluster=_unserved(cache) if settings.redis.cluster else "")
    return _answer(report, seen, time.monotonic() - started)


# -- the servers that were read


def _with_nodes(seen: CacheSeen, cache: redis_client.Cache, clients: Sequence[Any]) -> CacheSeen:
    readers, primaries = _nodes(cache, clients)
    return replace(seen, readers=readers, primaries=primaries)


_Nodes = tuple[NodeFacts, ...]


def _nodes(cache: redis_client.Cache, clients: Sequence[Any]) -> tuple[_Nodes, _Nodes]:
    """The servers that are read, and those that are written to."""
    named = [Node(redis_client.name_of(client), "", client) for client in clients]
    readers = tuple(_node(cache, node) for node in named)
    primaries = readers
    if any(node.role == "replica" for node in readers):
        others = [node for node in cache.nodes() if node.role != "replica"]
        primaries = tuple(_node(cache, node) for node in others)
    return readers, primaries


def _unserved(cache: redis_client.Cache) -> str:
    """Why not every slot of the cluster is served, "" where all are."""
    try:
        said = cache.cluster_info()
    except RedisFault as error:
        return error.fault.message
    served = said.get("cluster_slots_ok")
    whole = said.get("cluster_state") == "ok" and served == 16384
    return "" if whole else f"{served or 'it is not known how many'} of its 16384 slots are served"


def _node(cache: redis_client.Cache, node: Node) -> NodeFacts:
    try:
        return node_facts(node.name, cache.info(node, "all"))
    except RedisFault as error:
        return NodeFacts(node.name, error.fault.message)


_ROLES = {"master": "primary", "primary": "primary", "slave": "replica", "replica": "replica"}
#: What takes keys away, and resets the counters of that.
_TAKING = ("flushall", "flushdb", "swapdb", "config|resetstat", "debug", "restore")
#: Errors of writes: a token that could not be written lives all the same.
_REFUSING = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "LOADING")


def node_facts(name: str, info: Mapping[str, Any]) -> NodeFacts:
    """INFO's answer as facts. Without the counters of commands nothing is known of losses."""
    role, run = str(info.get("role", "")), info.get("run_id")
    up = info.get("uptime_in_seconds")
    linked = str(info.get("master_link_status", "up")) == "up"
    syncs = info.get("master_sync_in_progress") == 1
    return NodeFacts(
        name,
        role=_ROLES.get(role, role),
        linked=linked and not syncs,
        loading=1 in (info.get("loading"), info.get("async_loading")),
        lives=f"{run}/{info.get('master_replid', '')}" if run else "",
        uptime=float(up) if isinstance(up, int) else None,
        losses=_losses(info),
    )


def _losses(info: Mapping[str, Any]) -> dict[str, int]:
    plain = [(name, info.get(name)) for name in ("evicted_keys", "rejected_connections")]
    if not all(isinstance(count, int) for _name, count in plain):
        return {}
    if not any(name.startswith("cmdstat_") for name in info):
        return {}
    taken = [(word, _count(info, f"cmdstat_{word}", "calls")) for word in _TAKING]
    refused = [(word, _count(info, f"errorstat_{word}", "count")) for word in _REFUSING]
    return {name: int(count or 0) for name, count in (*plain, *taken, *refused)}


def _count(info: Mapping[str, Any], name: str, field_: str) -> int:
    row = info.get(name)
    count = row.get(field_) if isinstance(row, Mapping) else None
    return count if isinstance(count, int) else 0


def _budget(settings: Settings) -> Budget:
    most = SHARE_OF_TIME * settings.run.looking
    return Budget(settings.tokens.max_keys, min(settings.tokens.time_budget or most, most))


def _answer(report: ScanReport, seen: CacheSeen, took: float) -> SourceAnswer:
    if report.faults and not report.seen:
        return unavailable(CACHE, report.faults[0][1])
    if report.faults:
        return unavailable(CACHE, report.faults[0][1], seen)
    if report.seen and not report.anything_matched:
        tried = ", ".join(sorted(report.matched))
        return unavailable(
            CACHE, Fault("config", f"no key fits {tried}: another database or layout?")
        )
    why = (
        f"the scan ended early ({report.truncated}), counts are minima" if report.truncated else ""
    )
    if seen.unreadable and not why:
        why = f"{seen.unreadable} values under token keys could not be read"
    ended = report.truncated in ("time", "max_keys")
    return SourceAnswer(Source(CACHE, True, report.seen, took, why, truncated=ended), seen)


def _informs(fact: CredentialFact) -> bool:
    known = fact.unreadable or fact.active is not None or fact.version is not None
    return bool(fact.client) and known


def _cached(facts: Iterable[CredentialFact]) -> dict[str, CachedFacts]:
    return {
        fact.client: CachedFacts(
            active=fact.active,
            version=fact.version,
            rotation_state=fact.rotation_state,
            created_at=fact.created_at,
            updated_at=fact.updated_at,
            expires_at=fact.expires_at,
            unreadable=fact.unreadable,
        )
        for fact in facts
        if fact.client
    }
