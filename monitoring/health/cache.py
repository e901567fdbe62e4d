"""Decision: how the Redis cache is: what PING says and what it hides.

One server, a Sentinel group or a cluster: the primaries decide whether the cache is up, a lost
replica or link is a warning. Figures carry the node they are of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Optional

from monitoring.certainty import Coverage
from monitoring.health.judging import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Call,
    Context,
    ProbeVerdict,
    basics,
    call_of,
    clean,
    component_of,
    good,
    number,
)
from monitoring.model import Fault, Measurement, Reading, worst
from monitoring.text import counted

_PRIMARY = ("primary", "node", "master")
_ROLES = {"master": "primary", "slave": "replica"}  # INFO's words, and ours
_REPLICA, _ACTIVE = ("slave", "replica"), "active-replica"
#: Only there where writes need replicas; 0: there are too few, whatever the number asked for.
_GOOD_REPLICAS = ("min_slaves_good_slaves", "min_replicas_good_replicas")
_FAILED_SAVES = (
    ("rdb_last_bgsave_status", "save its data set; writes may be refused"),
    ("aof_last_write_status", "write its append-only file"),
    ("aof_last_bgrewrite_status", "rewrite its append-only file, which grows meanwhile"),
)
_LINK = re.compile(r"master(_\d+)?_link_status", re.ASCII)
_FEWEST_LOOKUPS = 100.0  # a hit ratio of less is chance

# Metric -> field of INFO, where the figure is the field.
_FIELDS = (
    ("redis_memory_used_bytes", "used_memory"),
    ("redis_memory_max_bytes", "maxmemory"),
    ("redis_connected_clients", "connected_clients"),
    ("redis_blocked_clients", "blocked_clients"),
    ("redis_rejected_connections_total", "rejected_connections"),
    ("redis_evicted_keys_total", "evicted_keys"),
    ("redis_keyspace_hits_total", "keyspace_hits"),
    ("redis_keyspace_misses_total", "keyspace_misses"),
    ("redis_last_save_timestamp_seconds", "rdb_last_save_time"),
    ("redis_uptime_seconds", "uptime_in_seconds"),
)
_SINCE = (
    ("redis_evictions_recent", "evicted_keys"),
    ("redis_rejections_recent", "rejected_connections"),
)
_SHOWN = (
    *("redis_version", "valkey_version", "maxmemory_policy", "used_memory_human"),
    *("connected_clients", "maxclients", "blocked_clients", "evicted_keys", "rejected_connections"),
    *("loading", "loading_loaded_perc", "loading_eta_seconds", "master_link_status"),
    *("connected_slaves", "rdb_last_bgsave_status", "aof_last_write_status", "uptime_in_seconds"),
)


def judge_cache(reading: Reading, context: Context) -> ProbeVerdict:
    """`facts` as `probes.probe_cache` gives them: `mode` (single, sentinel, cluster), `nodes`
    (each: name, role, seconds, fault, info, info_fault, slow, slow_fault), `cluster`, `sentinel`,
    `user`, `blind`."""
    nodes = reading.facts.get("nodes", ())
    component = component_of(reading, _call(reading), dict(_details(reading)))
    figures = [m for node in nodes for m in _node_figures(node, reading.at, context)]
    return ProbeVerdict(
        component,
        (*basics(component), *figures),
        counters=dict(_counters(nodes)),
        blind=tuple(_blind(reading)),
    )


def _call(reading: Reading) -> Call:
    nodes = reading.facts.get("nodes", ())
    if not nodes:
        return _fault_call(reading.fault or Fault("internal", "the probe brought no answer"))
    calls = [_node_calls(node, reading.facts.get("mode", "single")) for node in nodes]
    deciding = [c for c, n in zip(calls, nodes) if n["role"] in _PRIMARY]
    if not deciding:
        calls.append([Call(UNKNOWN, None, "no primary is among the nodes that are known")])
    primaries = [call for each in deciding or calls for call in each]
    everything = [call for each in calls for call in each]
    everything += _topology_calls(reading.facts, primaries)
    return _combined(everything, _up(reading.facts, primaries))


def _up(facts: Mapping[str, Any], deciding: Iterable[Call]) -> Optional[bool]:
    """Whether the cache serves: every primary does, or the cluster itself says it covers all
    slots. None: of one at least we cannot tell."""
    if _field(facts.get("cluster"), "cluster_state") == "ok":
        return True
    ups = [call.up for call in deciding]
    if False in ups:
        return False
    return None if None in ups else True


def _combined(calls: list[Call], up: Optional[bool]) -> Call:
    """The worst call speaks, the other troubles follow. What is up is no outage: a node that is
    lost while the rest serves is a warning."""
    troubled = sorted((c for c in calls if c.severity is not OK), key=lambda c: -c.severity)
    if not troubled:
        sentence = f"{counted(len(calls), 'node')} in working order"
        return good(Coverage("nodes", len(calls), len(calls)), sentence, up)
    severity = worst(c.severity for c in troubled)
    if up and severity is CRITICAL:
        severity = WARNING
    message = "; ".join(dict.fromkeys(c.message for c in troubled))
    return Call(severity, up, message, troubled[0].error)


def _node_calls(node: Mapping[str, Any], mode: str) -> list[Call]:
    """Every trouble of the node; one good call where it has none."""
    fault: Optional[Fault] = node.get("fault")
    if fault is not None:
        call = _fault_call(fault)
        return [call if mode == "single" else replace(call, message=_placed(node, call.message))]
    return list(_info_calls(node.get("info") or {}, node, mode)) or [good(Coverage("nodes", 1, 1))]


def _placed(node: Mapping[str, Any], sentence: str) -> str:
    """The sentence with the node's name before it, unless it holds it."""
    return sentence if node["name"] in sentence else f"{node['name']}: {sentence}"


def _fault_call(fault: Fault) -> Call:
    """Being refused at the door is the monitor's blindness, not the cache's outage."""
    call = call_of(fault)
    if fault.kind != "auth":
        return call
    cure = "it runs, but does not let the monitor in: check REDIS_USERNAME and REDIS_PASSWORD"
    return replace(call, message=f"{call.message}; {cure}")


def _info_calls(info: Mapping[str, Any], node: Mapping[str, Any], mode: str) -> Iterator[Call]:
    """What a server that answers PING says of its own troubles."""
    name = node["name"]
    # Sentinels answer PING too; Valkey has another word for the field.
    if "sentinel" in (_field(info, "redis_mode"), _field(info, "server_mode")):
        sentence = f"{name} is a Sentinel and not the cache: name it in REDIS_SENTINELS instead"
        yield Call(UNKNOWN, None, sentence, "config")
        return
    if number(info.get("loading")):
        yield Call(WARNING, True, f"{name} is loading its data set", "loading")
    if number(info.get("async_loading")):
        sentence = f"{name} is loading a new data set and serves the old one meanwhile"
        yield Call(WARNING, True, sentence, "loading")
    yield from _replica_calls(info, node, mode)
    if _first(info, *_GOOD_REPLICAS) == 0.0:
        sentence = f"{name} refuses every write: no replica is near enough (min-replicas-to-write)"
        yield Call(WARNING, True, sentence, "readonly")
    for field, what in _FAILED_SAVES:
        if _field(info, field) == "err":
            yield Call(WARNING, True, f"{name} could not {what}")
    odd = [field for _, field in _FIELDS if field in info and _figure(info, field) is None]
    if odd:
        yield Call(WARNING, True, f"{name}: in INFO no number is {', '.join(odd)}", "protocol")


def _replica_calls(info: Mapping[str, Any], node: Mapping[str, Any], mode: str) -> Iterator[Call]:
    """An active replica (KeyDB) takes writes as well; its links (it may have several primaries)
    have to be up like any other's."""
    name, role, link = node["name"], _field(info, "role"), _field(info, "master_link_status")
    if any(_LINK.fullmatch(str(key)) and _field(info, key) == "down" for key in info):
        yield Call(WARNING, True, f"{name} has lost its primary and serves old data", "masterdown")
    elif role in (*_REPLICA, _ACTIVE) and link != "up":
        sentence = f"{name} is a replica and does not say whether its link is up"
        yield Call(WARNING, True, sentence, "masterdown")
    if role in _REPLICA and (mode == "single" or node["role"] in _PRIMARY):
        sentence = f"{name} is a replica, so tokens cannot be cached there: was there a failover?"
        yield Call(WARNING, True, sentence, "readonly")
    if role and role not in (*_REPLICA, _ACTIVE, *_PRIMARY, "sentinel"):
        yield Call(UNKNOWN, True, f"{name} has a role that is not known: {clean(role)}", "body")


def _first(info: Mapping[str, Any], *names: str) -> Optional[float]:
    return next((number(info[name]) for name in names if name in info), None)


def _topology_calls(facts: Mapping[str, Any], deciding: Iterable[Call]) -> list[Call]:
    calls = []
    state = _field(facts.get("cluster"), "cluster_state")
    if state and state != "ok":
        failed = number((facts.get("cluster") or {}).get("cluster_slots_fail"))
        lost = f", {failed:.0f} slots lost" if failed else ""
        calls.append(Call(CRITICAL, False, f"the cluster says {clean(state)}{lost}", "clusterdown"))
    fellows = (number((facts.get("cluster") or {}).get("cluster_known_nodes")) or 1) - 1
    if facts.get("mode") == "single" and fellows > 0:
        sentence = f"is part of a cluster, and its {fellows:.0f} other nodes are not watched"
        calls.append(Call(WARNING, True, f"{sentence}: set REDIS_CLUSTER", "config"))
    sentinel = facts.get("sentinel") or {}
    if sentinel.get("quorum_ok") is False:
        sentence = "the sentinels have no quorum: nobody would take over for a lost primary"
        calls.append(Call(WARNING, all(c.up for c in deciding), sentence))
    silent = (number(sentinel.get("asked")) or 0) - (number(sentinel.get("answering")) or 0)
    if silent > 0:
        sentence = f"{silent:.0f} of {sentinel['asked']} sentinels do not answer"
        calls.append(Call(WARNING, all(c.up for c in deciding), sentence))
    return calls


def _node_figures(node: Mapping[str, Any], at: float, context: Context) -> Iterator[Measurement]:
    info = node.get("info")
    if not info:
        return
    labels = {"node": node["name"]}
    for metric, name in _FIELDS:
        if name in info:
            yield Measurement(f"payment_api_{metric}", _figure(info, name), labels)
    for metric, name in _SINCE:
        if name in info:
            key = _counter_key(node, name)
            grown = context.increase(key, _figure(info, name), at)
            yield Measurement(f"payment_api_{metric}", grown, labels)
    for metric, value in (*_ratios(info), *_replication(info)):
        yield Measurement(f"payment_api_{metric}", value, labels)


def _ratios(info: Mapping[str, Any]) -> Iterator[tuple[str, Optional[float]]]:
    used, most = _figure(info, "used_memory"), _figure(info, "maxmemory")
    if used is not None and most:  # maxmemory 0: there is no limit to hold it against
        yield "redis_memory_used_ratio", used / most
    clients, room = _figure(info, "connected_clients"), _figure(info, "maxclients")
    if clients is not None and room:
        yield "redis_clients_used_ratio", clients / room
    hits, misses = _figure(info, "keyspace_hits"), _figure(info, "keyspace_misses")
    if hits is not None and misses is not None:
        lookups = hits + misses
        yield "redis_hit_ratio", hits / lookups if lookups >= _FEWEST_LOOKUPS else None


def _replication(info: Mapping[str, Any]) -> Iterator[tuple[str, Optional[float]]]:
    if _field(info, "role") in (*_REPLICA, _ACTIVE):
        up = _field(info, "master_link_status") == "up"
        yield "redis_replication_link_up", float(up)
        silent = number(info.get("master_last_io_seconds_ago"))
        yield "redis_replication_lag_seconds", silent if up and silent != -1 else None
        return
    if "connected_slaves" in info:
        yield "redis_connected_replicas", number(info["connected_slaves"])
    lags = [number(r.get("lag")) for r in _replicas(info)]
    known = [lag for lag in lags if lag is not None]
    if known:
        yield "redis_replication_lag_seconds", max(known)


def _replicas(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`slave0`, `slave1`, ... as the client library parses them."""
    rows = [v for k, v in info.items() if str(k).startswith("slave") and str(k)[5:].isdigit()]
    return [row for row in rows if isinstance(row, Mapping)]


def _counter_key(node: Mapping[str, Any], name: str) -> str:
    return f"redis-cache|{node['name']}|{name}"


def _counters(nodes: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for node in nodes:
        for _, name in _SINCE:
            total = _figure(node.get("info"), name)
            if total is not None:
                yield _counter_key(node, name), total


def _details(reading: Reading) -> Iterator[tuple[str, Any]]:
    facts = reading.facts
    for key in ("mode", "user"):
        if facts.get(key):
            yield key, clean(facts[key])
    for key in ("cluster", "sentinel"):
        if facts.get(key):
            yield key, {clean(k): v for k, v in facts[key].items()}
    if facts.get("nodes"):
        yield "nodes", {n["name"]: dict(_node_details(n)) for n in facts["nodes"]}


def _node_details(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    info = node.get("info") or {}
    yield "role", _ROLES.get(_field(info, "role"), node["role"])
    if node.get("seconds") is not None:
        yield "ping_ms", round(node["seconds"] * 1000.0, 3)
    for fault in (node.get("fault"), node.get("info_fault"), node.get("slow_fault")):
        if fault is not None:
            yield "error" if fault is node.get("fault") else f"{fault.kind}", fault.message
    yield from ((field, info[field]) for field in _SHOWN if field in info)
    for name, value in (*_ratios(info), *_replication(info)):
        yield name[len("redis_") :], None if value is None else round(value, 3)
    if node.get("slow"):
        yield "slowest_commands", [f"{clean(name)} {ms:.1f} ms" for name, ms in node["slow"]]


def _blind(reading: Reading) -> Iterator[Fault]:
    """What could not be looked at although the server answers."""
    yield from reading.facts.get("blind", ())
    for node in reading.facts.get("nodes", ()):
        fault = node.get("info_fault")
        if node.get("info") == {}:
            fault = Fault("body", "INFO is empty, so nothing but PING is known")
        if fault is not None and node.get("fault") is None:
            yield Fault(fault.kind, _placed(node, fault.message))


def _figure(info: Optional[Mapping[str, Any]], name: str) -> Optional[float]:
    """A field that counts something: a number, and none below nought."""
    found = number((info or {}).get(name))
    return found if found is not None and found >= 0 else None


def _field(info: Optional[Mapping[str, Any]], name: str) -> str:
    return str((info or {}).get(name, "")).lower()
