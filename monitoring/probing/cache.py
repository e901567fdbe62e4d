"""Acquire: the Redis cache: every node's PING, INFO and slow log, and its topology's own word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from monitoring.cache.faults import RedisFault
from monitoring.cache.topology import Node
from monitoring.model import Fault, Reading
from monitoring.probing.kit import Live
from monitoring.redis_client import Cache
from monitoring.settings import RedisSettings

NAME = "redis-cache"
_SLOWEST = 5
_AT_ONCE = 8
T = TypeVar("T")


def probe_cache(live: Live) -> Reading:
    """Facts: `mode` (single, sentinel, cluster), `nodes` (each: name, role, seconds, fault, info,
    info_fault, slow, slow_fault), `cluster`, `sentinel`, `user`, `blind`. `seconds` is the PING of
    the slowest primary."""
    at = live.clock()
    cache: Optional[Cache] = None
    try:
        cache = live.cache()
        return _read(cache, live.settings.redis, at)
    except RedisFault as error:
        return Reading(NAME, at, fault=error.fault)
    finally:
        if cache is not None:
            cache.close()


def _read(cache: Cache, settings: RedisSettings, at: float) -> Reading:
    nodes = _ask_nodes(cache, cache.nodes())
    facts: Dict[str, Any] = {"mode": mode_of(settings), "nodes": nodes}
    if any(node["fault"] is None for node in nodes):
        clustered = settings.cluster or any(_says_cluster(node) for node in nodes)
        facts.update(_topology(cache, settings, clustered))
    return Reading(NAME, at, _seconds(nodes), facts)


def mode_of(settings: RedisSettings) -> str:
    if settings.sentinels:
        return "sentinel"
    return "cluster" if settings.cluster else "single"


def _ask_nodes(cache: Cache, nodes: Tuple[Node, ...]) -> Tuple[Mapping[str, Any], ...]:
    """In threads when there are several: six dead nodes must not cost six timeouts."""
    if len(nodes) < 2:
        return tuple(_node(cache, node) for node in nodes)
    with ThreadPoolExecutor(min(_AT_ONCE, len(nodes)), "redis-node") as threads:
        return tuple(threads.map(lambda node: _node(cache, node), nodes))


def _node(cache: Cache, node: Node) -> Mapping[str, Any]:
    row: Dict[str, Any] = {"name": node.name, "role": node.role, "info": None, "slow": None}
    row["seconds"], row["fault"] = _try(lambda: cache.ping(node))
    # INFO is answered during loading and a busy script, and tells how long they will last.
    if row["fault"] is None or row["fault"].kind in ("loading", "busy", "masterdown"):
        row["info"], row["info_fault"] = _try(lambda: cache.info(node))
    if row["fault"] is None:
        row["slow"], row["slow_fault"] = _try(lambda: cache.slow_commands(node, _SLOWEST))
    return row


def _says_cluster(node: Mapping[str, Any]) -> bool:
    info = node["info"] or {}
    return "cluster" in (info.get("redis_mode"), info.get("server_mode"))


def _topology(cache: Cache, settings: RedisSettings, clustered: bool) -> Dict[str, Any]:
    """What the cluster or the sentinels say, and who we are; what is refused goes to `blind`."""
    facts: Dict[str, Any] = {}
    blind: List[Fault] = []
    asked: Dict[str, Callable[[], Any]] = {"user": cache.whoami}
    if clustered:
        asked["cluster"] = cache.cluster_info
    if settings.sentinels:
        asked["sentinel"] = cache.sentinel_info
    for name, ask in asked.items():
        facts[name], fault = _try(ask)
        # ACL WHOAMI is a nicety: servers before version 6 lack it, strict users may not ask it.
        if fault is not None and name != "user":
            blind.append(fault)
    return {**facts, "blind": tuple(blind)}


def _try(ask: Callable[[], T]) -> Tuple[Optional[T], Optional[Fault]]:
    try:
        return ask(), None
    except RedisFault as error:
        return None, error.fault


def _seconds(nodes: Tuple[Mapping[str, Any], ...]) -> Optional[float]:
    primaries = [n["seconds"] for n in nodes if n["role"] != "replica"]
    known = [seconds for seconds in primaries if seconds is not None]
    return max(known) if known else None
