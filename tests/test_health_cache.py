"""The Redis cache judged: error classes, roles, topologies, and what PING hides."""

from __future__ import annotations

import pytest

from monitoring.catalog import METRICS
from monitoring.health.judges import judge, sources_of
from monitoring.health.judging import Context
from monitoring.model import Fault, Reading, Severity

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
NOW = 1_795_400_000.0
INFO = {
    "role": "master",
    "used_memory": 600,
    "maxmemory": 1000,
    "connected_clients": 7,
    "blocked_clients": 1,
    "evicted_keys": 30,
    "rejected_connections": 5,
    "keyspace_hits": 900,
    "keyspace_misses": 100,
    "connected_slaves": 2,
    "slave0": {"ip": "10.0.0.2", "state": "online", "lag": 1},
    "slave1": {"ip": "10.0.0.3", "state": "online", "lag": 4},
    "rdb_last_save_time": 1795390000,
    "uptime_in_seconds": 5000,
    "maxmemory_policy": "noeviction",
    "loading": 0,
}


def node(name="cache:6379", role="primary", fault=None, info=INFO, **more):
    seconds = None if fault else 0.002
    base = {"name": name, "role": role, "seconds": seconds, "fault": fault}
    return {**base, "info": None if fault else info, **more}


def read(*nodes, mode="single", fault=None, **more):
    facts = {"mode": mode, "nodes": nodes, **more} if nodes else {}
    return Reading("redis-cache", NOW, 0.002 if nodes else None, facts, fault)


def figures(judged):
    return {(m.name[12:], m.labels.get("node", "")): m.value for m in judged.measurements}


@pytest.mark.parametrize("at_connect", [True, False])
@pytest.mark.parametrize(
    ("kind", "severity", "up", "said"),
    [
        ("refused", CRITICAL, False, "why"),
        ("timeout", CRITICAL, False, "why"),
        ("dns", CRITICAL, False, "why"),
        ("tls", CRITICAL, False, "why"),
        ("maxclients", CRITICAL, False, "why"),
        ("clusterdown", CRITICAL, False, "why"),
        ("auth", UNKNOWN, True, "REDIS_PASSWORD"),  # the monitor is blind, the cache is not down
        ("noperm", UNKNOWN, True, "why"),
        ("loading", WARNING, True, "why"),
        ("busy", WARNING, True, "why"),
        ("readonly", WARNING, True, "why"),
        ("masterdown", WARNING, True, "why"),
        ("oom", WARNING, True, "why"),
    ],
)
def test_each_error_class(*, at_connect, kind, severity, up, said):
    fault = Fault(kind, "why")
    reading = read(fault=fault) if at_connect else read(node(fault=fault))
    component = judge(reading, Context()).component
    assert (component.status, component.up, component.error) == (severity, up, kind)
    assert said in component.message


@pytest.mark.parametrize(
    ("info", "severity", "error"),
    [
        ({}, OK, None),
        ({"loading": 1}, WARNING, "loading"),
        ({"role": "slave", "master_link_status": "up"}, WARNING, "readonly"),
        ({"role": "slave", "master_link_status": "down"}, WARNING, "masterdown"),
        ({"rdb_last_bgsave_status": "err"}, WARNING, None),
        ({"rdb_last_bgsave_status": "ok"}, OK, None),
        ({"aof_last_write_status": "err"}, WARNING, None),
        ({"aof_last_bgrewrite_status": "err"}, WARNING, None),
        ({"async_loading": 1}, WARNING, "loading"),
        ({"min_slaves_good_slaves": 0}, WARNING, "readonly"),
        ({"min_slaves_good_slaves": 1}, OK, None),
        ({"role": "replica", "master_link_status": "up"}, WARNING, "readonly"),
        # KeyDB's active replica takes writes; whether it follows has to be said
        ({"role": "active-replica", "master_link_status": "up"}, OK, None),
        ({"role": "active-replica", "master_link_status": "down"}, WARNING, "masterdown"),
        ({"role": "active-replica"}, WARNING, "masterdown"),
        (
            {
                "role": "active-replica",
                "master_link_status": "up",
                "master_1_link_status": "down",
            },
            WARNING,
            "masterdown",
        ),
        ({"role": "arbiter"}, UNKNOWN, "body"),
    ],
)
def test_what_ping_hides(info, severity, error):
    component = judge(read(node(info={**INFO, **info})), Context()).component
    assert (component.status, component.up, component.error) == (severity, True, error)


LOST = Fault("refused", "nobody listens")
REPLICA = {"role": "slave", "master_link_status": "up", "master_last_io_seconds_ago": 3}


@pytest.mark.parametrize(
    ("nodes", "more", "severity", "up"),
    [
        ([node("a:1"), node("b:1", "replica", info=REPLICA)], {"mode": "sentinel"}, OK, True),
        # a lost replica is a warning, a lost primary is an outage
        ([node("a:1"), node("b:1", "replica", LOST)], {"mode": "sentinel"}, WARNING, True),
        ([node("a:1", fault=LOST), node("b:1", "replica")], {"mode": "sentinel"}, CRITICAL, False),
        ([node("a:1", info=REPLICA)], {"mode": "sentinel"}, WARNING, True),
        ([node("a:1")], {"mode": "sentinel", "sentinel": {"quorum_ok": False}}, WARNING, True),
        ([node("a:1")], {"mode": "sentinel", "sentinel": {"quorum_ok": True}}, OK, True),
        (
            [node("a:1")],
            {"mode": "sentinel", "sentinel": {"asked": 3, "answering": 1}},
            WARNING,
            True,
        ),
        # Sentinels answer PING; asking one says nothing of the cache
        ([node("a:1", info={**INFO, "redis_mode": "sentinel"})], {}, UNKNOWN, None),
        ([node("a:1", info={**INFO, "server_mode": "sentinel"})], {}, UNKNOWN, None),
        # a cluster of which one node is watched; a cluster of one node
        ([node("a:1")], {"cluster": {"cluster_known_nodes": 3}}, WARNING, True),
        ([node("a:1")], {"cluster": {"cluster_known_nodes": 1}}, OK, True),
        (
            [node("a:1"), node("b:1")],
            {"mode": "cluster", "cluster": {"cluster_state": "ok"}},
            OK,
            True,
        ),
        # failed over: a primary is gone, all slots are covered
        (
            [node("a:1"), node("b:1", fault=LOST)],
            {"mode": "cluster", "cluster": {"cluster_state": "ok"}},
            WARNING,
            True,
        ),
        (
            [node("a:1"), node("b:1", fault=LOST)],
            {"mode": "cluster", "cluster": {"cluster_state": "fail", "cluster_slots_fail": 5461}},
            CRITICAL,
            False,
        ),
        ([node("a:1"), node("b:1", fault=LOST)], {"mode": "cluster"}, CRITICAL, False),
    ],
)
def test_topologies(nodes, more, severity, up):
    component = judge(read(*nodes, **more), Context()).component
    assert (component.status, component.up) == (severity, up), component.message


def test_every_trouble_of_a_node_is_said():
    info = {**INFO, "async_loading": 1, "aof_last_bgrewrite_status": "err"}
    message = judge(read(node(info=info)), Context()).component.message
    assert "loading a new data set" in message
    assert "rewrite its append-only file" in message


@pytest.mark.parametrize(
    ("clients", "most", "ratio"), [(95, 100, 0.95), (7, None, None), (7, 0, None)]
)
def test_connections_used(clients, most, ratio):
    info = {**INFO, "connected_clients": clients, "maxclients": most}
    assert (
        figures(judge(read(node(info=info)), Context())).get(
            ("redis_clients_used_ratio", "cache:6379")
        )
        == ratio
    )


def test_figures_carry_their_node():
    found = figures(judge(read(node()), Context()))
    expected = {
        "redis_memory_used_bytes": 600.0,
        "redis_memory_max_bytes": 1000.0,
        "redis_memory_used_ratio": 0.6,
        "redis_hit_ratio": 0.9,
        "redis_connected_clients": 7.0,
        "redis_blocked_clients": 1.0,
        "redis_rejected_connections_total": 5.0,
        "redis_evicted_keys_total": 30.0,
        "redis_keyspace_hits_total": 900.0,
        "redis_keyspace_misses_total": 100.0,
        "redis_connected_replicas": 2.0,
        "redis_replication_lag_seconds": 4.0,  # of the slowest
        "redis_last_save_timestamp_seconds": 1795390000.0,
        "redis_uptime_seconds": 5000.0,
    }
    assert {k: v for (k, n), v in found.items() if n and v is not None} == expected
    assert found["redis_evictions_recent", "cache:6379"] is None  # the first look
    assert found["health_status", ""] == 1.0


def test_every_figure_is_in_the_catalogue():
    for info in (INFO, REPLICA):
        for measurement in judge(read(node(info=info)), Context()).measurements:
            assert set(measurement.labels) == set(METRICS[measurement.name].labels)


@pytest.mark.parametrize(
    ("info", "metric", "value"),
    [
        ({"maxmemory": 0}, "redis_memory_used_ratio", "absent"),  # no limit, no ratio
        ({"keyspace_hits": 9, "keyspace_misses": 9}, "redis_hit_ratio", None),  # chance
        (
            {"connected_slaves": 0, "slave0": None, "slave1": None},
            "redis_replication_lag_seconds",
            "absent",
        ),
        (REPLICA, "redis_replication_lag_seconds", 3.0),
        (REPLICA, "redis_replication_link_up", 1.0),
        ({**REPLICA, "master_link_status": "down"}, "redis_replication_link_up", 0.0),
        ({**REPLICA, "master_link_status": "down"}, "redis_replication_lag_seconds", None),
        ({"evicted_keys": "?"}, "redis_evicted_keys_total", None),
    ],
)
def test_what_is_not_known_is_not_zero(info, metric, value):
    found = figures(judge(read(node(info={**INFO, **info})), Context()))
    assert found.get((metric, "cache:6379"), "absent") == value


@pytest.mark.parametrize(("evicted", "recent"), [(30, 0.0), (42, 12.0), (3, 3.0)])
def test_evictions_since_the_last_cycle(evicted, recent):
    first = judge(read(node()), Context())
    context = Context(at=NOW - 60, counters=first.counters)
    found = figures(judge(read(node(info={**INFO, "evicted_keys": evicted})), context))
    assert found["redis_evictions_recent", "cache:6379"] == recent
    assert found["redis_rejections_recent", "cache:6379"] == 0.0


def test_a_refused_info_blinds_the_figures_and_nothing_else():
    refused = Fault("noperm", "the user monitor may not run INFO; grant +info")
    reading = read(node(info=None, info_fault=refused))
    judged = judge(reading, Context())
    assert (judged.component.status, judged.component.up) == (OK, True)
    whole, figures_row = sources_of(reading, judged)
    assert whole.ok
    assert not figures_row.ok
    assert "+info" in figures_row.why


def test_details_show_the_slowest_commands_by_name():
    reading = read(node(slow=[("GET", 12.34), ("SC\x1bAN", 3.0)]), user="monitor")
    details = judge(reading, Context()).component.details
    assert details["user"] == "monitor"
    shown = details["nodes"]["cache:6379"]
    assert shown["slowest_commands"] == ["GET 12.3 ms", "SC\\x1bAN 3.0 ms"]
    assert (shown["role"], shown["ping_ms"]) == ("primary", 2.0)


def test_no_good_word_without_a_primary_or_figures():
    replicas = read(node("b:1", "replica", info=REPLICA), mode="sentinel")
    component = judge(replicas, Context()).component
    assert (component.status, component.up) == (UNKNOWN, None)
    assert "no primary" in component.message
    empty = read(node(info={}))
    assert [row.ok for row in sources_of(empty, judge(empty, Context()))] == [True, False]
    silent = read(node("a:1"), node("b:1", "replica", info={"role": "slave"}), mode="sentinel")
    assert judge(silent, Context()).component.status is WARNING
