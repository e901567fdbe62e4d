"""The lower half of Service Health: resources, and the monitor itself."""

from __future__ import annotations

from deploy.grafana.kit import GREEN, RED, Panel, Row, per_second, series, total

_HITS = per_second("redis_keyspace_hits_total", "node")
_MISSES = per_second("redis_keyspace_misses_total", "node")

RESOURCES = Row(
    "Resource utilisation",
    [
        Panel(
            "CPU of the services",
            "As the services report it.",
            [(f"max by (component) ({series('service_cpu_ratio')})", "{{component}}")],
            unit="percentunit", runbook="slow-service", low=0, high=1, width=6,
        ),
        Panel(
            "Heap of the services",
            "JVM heap used of its maximum. A saw tooth is healthy, a ramp is a leak.",
            [(f"max by (component) ({series('service_memory_used_ratio')})", "{{component}}")],
            unit="percentunit", runbook="slow-service", low=0, high=1, width=6,
        ),
        Panel(
            "Memory of the cache",
            "Used of maxmemory. At the limit live tokens are evicted or writes refused.",
            [(f"max by (node) ({series('redis_memory_used_ratio')})", "{{node}}")],
            unit="percentunit", limits="performance.redis_memory_used", runbook="redis-memory",
            low=0, high=1, width=6,
        ),
        Panel(
            "Memory of the cache in bytes",
            "Used, and maxmemory (0: no limit).",
            [
                (f"max by (node) ({series('redis_memory_used_bytes')})", "{{node}} used"),
                (f"max by (node) ({series('redis_memory_max_bytes')})", "{{node}} maxmemory"),
            ],
            unit="bytes", runbook="redis-memory", low=0, width=6,
        ),
        Panel(
            "Clients of the cache",
            "Connected, of these blocked, and the share of maxclients that is used.",
            [
                (f"max by (node) ({series('redis_connected_clients')})", "{{node}} connected"),
                (f"max by (node) ({series('redis_clients_used_ratio')})", "{{node}} share used"),
                (f"max by (node) ({series('redis_blocked_clients')})", "{{node}} blocked"),
            ],
            runbook="redis-connections", low=0, width=6,
        ),
        Panel(
            "Hit ratio of the cache",
            "Lookups that found a key: since the server's start, and of the last minutes.",
            [
                (f"min by (node) ({series('redis_hit_ratio')})", "{{node}} since start"),
                (f"{_HITS} / ({_HITS} + {_MISSES})", "{{node}} now"),
            ],
            unit="percentunit", runbook="redis-hit-ratio", low=0, high=1, width=6,
        ),
        Panel(
            "Replication of the cache",
            "Lag of the slowest replica. What lags is lost in a failover.",
            [(f"max by (node) ({series('redis_replication_lag_seconds')})", "{{node}}")],
            unit="s", limits="performance.redis_replication_lag", runbook="redis-replication",
            low=0, width=6,
        ),
        Panel(
            "Vault requests",
            "Requests to the vault by step.",
            [(f"max by (step) ({series('conjur_step_seconds')})", "{{step}}")],
            unit="s", runbook="slow-vault", low=0, width=6,
        ),
        Panel(
            "Replicas of the cache",
            "Connected replicas; for a replica, whether its link to the primary is up.",
            [
                (f"max by (node) ({series('redis_connected_replicas')})", "{{node}} replicas"),
                (f"min by (node) ({series('redis_replication_link_up')})", "{{node}} link"),
            ],
            runbook="redis-replication", low=0, width=6,
        ),
        Panel(
            "Keys evicted, connections refused",
            "Per second, from the cache's own counters.",
            [
                (per_second("redis_evicted_keys_total", "node"), "{{node}} evicted"),
                (per_second("redis_rejected_connections_total", "node"), "{{node}} refused"),
            ],
            unit="cps", runbook="redis-memory", low=0, width=6,
        ),
        Panel(
            "Last save and last start of the cache",
            "How long ago. What was written since the last save is lost in a crash.",
            [
                (f"time() - max by (node) ({series('redis_last_save_timestamp_seconds')})",
                 "{{node}} saved"),
                (f"min by (node) ({series('redis_uptime_seconds')})", "{{node}} started"),
            ],
            unit="s", runbook="redis-replication", low=0, width=6,
        ),
        Panel(
            "Vault: disk and standby",
            "Free bytes of its database, and how far its standby lags (Enterprise only).",
            [
                (f"min({series('conjur_free_bytes')})", "free"),
                (f"max({series('conjur_replication_lag_bytes')})", "lag"),
            ],
            unit="bytes", runbook="conjur-disk", low=0, width=3,
        ),
        Panel(
            "Vault degraded",
            "Whether the vault calls itself degraded (Enterprise only).",
            [(f"max({series('conjur_degraded')})", "vault")],
            kind="stat", texts={"0": ("fine", GREEN), "1": ("degraded", RED)}, width=3,
            steps=[(None, GREEN), (1, RED)], runbook="conjur-vault-down",
        ),
        Panel(
            "Vault follower: time since it received anything",
            "A follower without messages serves old secrets (Enterprise only).",
            [(f"max({series('conjur_follower_silence_seconds')})", "silence")],
            unit="s", runbook="conjur-replication", low=0, width=12,
        ),
        Panel(
            "Vault: inodes, subscriptions, first copy",
            "Free inodes; of a follower its subscriptions and whether its first copy still runs.",
            [
                (f"min({series('conjur_free_inodes')})", "free inodes"),
                (f"min({series('conjur_subscriptions')})", "subscriptions"),
                (f"max({series('conjur_initial_replication')})", "first copy"),
            ],
            runbook="conjur-disk", low=0, width=12,
        ),
    ],
)  # fmt: skip

MONITOR = Row(
    "The monitor itself",
    [
        Panel(
            "What it can read",
            "Sources of the last cycle. What is red here is not known, whatever stands above.",
            [(f"min by (source) ({series('up')})", "{{source}}")],
            kind="timeline", texts={"0": ("blind", RED), "1": ("reads", GREEN)},
            runbook="monitoring-blind", steps=[(None, RED), (1, GREEN)],
        ),
        Panel(
            "Age of the last cycle",
            "Should stay below two intervals.",
            [(f"time() - max by (script) ({series('last_cycle_timestamp_seconds')})",
              "{{script}}")],
            unit="s", runbook="monitoring-blind", low=0, width=4,
        ),
        Panel(
            "Duration of a cycle",
            "Near the deadline it means that something hangs.",
            [(f"max by (script) ({series('cycle_duration_seconds')})", "{{script}}")],
            unit="s", runbook="monitoring-blind", low=0, width=4,
        ),
        Panel(
            "Alerts",
            "Of the scripts, by severity and state.",
            [(total("alerts", "severity", "state"), "{{severity}} {{state}}")],
            runbook="component-down", low=0, width=4,
        ),
        Panel(
            "Notices",
            "Tries to deliver by channel and outcome, and notices that still wait.",
            [
                (
                    per_second("notifications_total", "channel", "outcome"),
                    "{{channel}} {{outcome}}",
                ),
                (f"max by (channel) ({series('outbox_waiting')})", "{{channel}} waiting"),
            ],
            runbook="notification-channel", low=0, width=4,
        ),
    ],
)  # fmt: skip
