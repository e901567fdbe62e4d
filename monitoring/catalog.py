"""Values: every metric and every threshold, spelt once.

`METRICS` is what may be measured, exported and drawn; `THRESHOLDS` is what `ALERT_THRESHOLDS` may
name. Settings, exposition, dashboards, rules and README tables all read these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.components import CACHE, COMPONENTS, LOGIN, SERVICES, VAULT

SCRIPTS = ("health_check", "token_usage_metrics", "credential_usage_metrics")


_MEASURES = ("ms", "s", "%", "days", "x", "MiB")


@dataclass(frozen=True)
class Metric:
    """One exported metric: full Prometheus name, kind (gauge, counter, histogram), unit, help text
    and label names."""

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def summable(self) -> bool:
        """Whether the values of several clients add up to something (an age does not)."""
        return self.unit in ("", "bytes", "1/s", "1/min")

    @property
    def derived(self) -> bool:
        """Whether it is computed from recorded history: recording it would keep that twice."""
        name = self.name.replace("_system_", "_")
        return name.startswith(("payment_api_sla_", "payment_api_error_budget_"))


@dataclass(frozen=True)
class Threshold:
    """One name that `ALERT_THRESHOLDS[category][key]` may hold; `noun` is what its figure is called
    in a sentence.

    It judges `metric` where its labels are among `where` (empty: all). The configured number times
    `scale` is in the metric's unit (days -> seconds). `worse` is `higher` or `lower`. `runbook`
    names the page in docs/runbooks."""

    category: str
    key: str
    metric: str
    unit: str
    noun: str
    help: str
    worse: str = "higher"
    scale: float = 1.0
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runbook: str = ""

    @property
    def name(self) -> str:
        return f"{self.category}.{self.key}"

    @property
    def spoken_unit(self) -> str:
        """Counted things are in the noun, without a unit: `failed logins 12`."""
        return self.unit if self.unit in _MEASURES else ""

    @property
    def side(self) -> str:
        """On which side of a limit it is bad: `critical from 500 ms`, `warning up to 30 days`."""
        return "up to" if self.worse == "lower" else "from"


def _gauge(name: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(f"payment_api_{name}", "gauge", unit, text, labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"payment_api_{name}_total", "counter", "", text, labels)


_COMMON = (
    _gauge("up", "bool", "1 if the source could be read in the last cycle.", "script", "source"),
    _gauge("status", "", "Last cycle: 0 ok, 1 unknown, 2 warning, 3 critical.", "script"),
    _gauge("last_cycle_timestamp_seconds", "s", "End of the last finished cycle.", "script"),
    _gauge("cycle_duration_seconds", "s", "Duration of the last finished cycle.", "script"),
    _gauge("cycle_interval_seconds", "s", "Time from one cycle to the next.", "script"),
    _counter("cycles", "Cycles finished by this process, by status.", "script", "status"),
    _gauge(
        "findings",
        "",
        "Findings of the last cycle.",
        *("script", "reason", "severity", "category", "component", "client_id"),
    ),
    _gauge("alerts", "", "Alerts by severity and state.", "script", "severity", "state"),
    _gauge(
        "alert_flapping",
        "",
        "Always 1: an alert that comes and goes, and is held firing.",
        *("script", "alert", "component", "client_id"),
    ),
    _counter("notifications", "Deliveries tried, by outcome.", "script", "channel", "outcome"),
    _gauge("outbox_waiting", "", "Notices waiting to be delivered.", "script", "channel"),
    _gauge("figures_stale", "bool", "1 if the script's figures here are old news.", "script"),
    _gauge("build_info", "", "Version of the monitor; always 1.", "script", "version"),
)
_LEVELS = (
    _gauge(
        "sla_availability_ratio",
        "ratio",
        "Share of the watched time in which the component was up.",
        "component",
        "window",
    ),
    _gauge("sla_target_ratio", "ratio", "Availability target.", "component"),
    _gauge(
        "error_budget_remaining_ratio",
        "ratio",
        "Error budget left in the window.",
        "component",
        "window",
    ),
    _gauge(
        "error_budget_burn_rate",
        "",
        "Speed at which the error budget is used (1 = just spent at the window's end).",
        "component",
        "window",
    ),
    _gauge(
        "error_budget_burning",
        "",
        "The most urgent burn rate of 1 h, 6 h and 3 d, as over one hour.",
        "component",
    ),
    _gauge("sla_unknown_ratio", "ratio", "Time we did not look.", "component", "window"),
)
#: The same of all components together, which must not stand among its parts.
_OF_ALL = tuple(
    replace(
        metric,
        name=metric.name.replace("payment_api_", "payment_api_system_"),
        help=f"Of all components together: {metric.help}",
        labels=metric.labels[1:],
    )
    for metric in _LEVELS
)
_HEALTH = (
    _gauge("health_status", "bool", "Health status of each component (0=down, 1=up).", "component"),
    _gauge(
        "component_error",
        "bool",
        "1 for the kind of error for which the component is not well.",
        "component",
        "error",
    ),
    _gauge(
        "component_degraded",
        "bool",
        "1 if the component is up and not well, for a reason that no other figure says.",
        "component",
    ),
    _gauge(
        "component_http_status", "", "HTTP status of a component that is not well.", "component"
    ),
    _gauge("system_up", "bool", "1 if every component was up (unknown counts as not measured)."),
    _gauge("response_time_ms", "ms", "Response time in milliseconds.", "component"),
    Metric(
        "payment_api_response_time_seconds",
        "histogram",
        "s",
        "Response times seen by this process.",
        ("component",),
    ),
    _gauge("request_phase_seconds", "s", "Phases of the last request.", "component", "phase"),
    _gauge(
        "tls_certificate_remaining_seconds",
        "s",
        "Until the first certificate of the chain expires.",
        "component",
    ),
    _gauge(
        "tls_certificate_expiry_timestamp_seconds",
        "s",
        "When the first certificate of the chain expires.",
        "component",
    ),
    _gauge("authentication_step_seconds", "s", "Duration of each canary login step.", "step"),
    _gauge("authentication_proof", "bool", "1 if what must be refused was refused.", "proof"),
    _gauge("clock_skew_seconds", "s", "Clock of the component minus ours.", "component"),
    _gauge(
        "dependency_status",
        "bool",
        "Dependency as the service itself reports it (not our own check).",
        "component",
        "dependency",
    ),
    _gauge("service_cpu_ratio", "ratio", "CPU use the service reports.", "component"),
    _gauge("service_memory_used_ratio", "ratio", "JVM heap used of its maximum.", "component"),
    _gauge("service_error_ratio", "ratio", "Share of 5xx answers since last cycle.", "component"),
    _gauge("service_request_rate", "1/s", "Requests per second since last cycle.", "component"),
    _gauge("conjur_degraded", "bool", "1 if the vault calls itself degraded."),
    _gauge("conjur_replication_lag_bytes", "bytes", "Largest lag of a vault standby."),
    _gauge("conjur_free_bytes", "bytes", "Free space of the vault's database."),
    _gauge("conjur_free_inodes", "", "Free inodes of the vault's database."),
    _gauge("conjur_subscriptions", "", "Enabled subscriptions of a vault follower."),
    _gauge("conjur_initial_replication", "bool", "1 while a follower makes its first copy."),
    _gauge("conjur_follower_silence_seconds", "s", "Since a follower last received anything."),
    _gauge("conjur_step_seconds", "s", "Duration of each vault request.", "step"),
    _gauge("redis_memory_used_bytes", "bytes", "Memory used by the cache.", "node"),
    _gauge("redis_memory_max_bytes", "bytes", "maxmemory of the cache.", "node"),
    _gauge("redis_memory_used_ratio", "ratio", "Memory used of maxmemory.", "node"),
    _gauge("redis_connected_clients", "", "Connected clients.", "node"),
    _gauge("redis_clients_used_ratio", "ratio", "Connected clients of maxclients.", "node"),
    _gauge("redis_blocked_clients", "", "Blocked clients.", "node"),
    _counter("redis_rejected_connections", "Connections refused for maxclients.", "node"),
    _counter("redis_evicted_keys", "Keys evicted under memory pressure.", "node"),
    _counter("redis_keyspace_hits", "Lookups that found a key.", "node"),
    _counter("redis_keyspace_misses", "Lookups that found none.", "node"),
    _gauge("redis_hit_ratio", "ratio", "Hits of all lookups since server start.", "node"),
    _gauge("redis_replication_lag_seconds", "s", "Lag of the slowest replica.", "node"),
    _gauge("redis_replication_link_up", "bool", "1 if a replica's link is up.", "node"),
    _gauge("redis_connected_replicas", "", "Replicas connected.", "node"),
    _gauge("redis_last_save_timestamp_seconds", "s", "Last successful save.", "node"),
    _gauge("redis_uptime_seconds", "s", "Uptime of the server.", "node"),
    _gauge("redis_evictions_recent", "", "Keys evicted since the last cycle.", "node"),
    _gauge("redis_rejections_recent", "", "Connections rejected since the last cycle.", "node"),
    *_LEVELS,
    *_OF_ALL,
)
_TOKENS = (
    _gauge("tokens_active", "", "Tokens that have not expired."),
    _gauge("tokens_expired", "", "Tokens past exp that are still in the cache."),
    _gauge("tokens_undecodable", "", "Values that could not be read as a token.", "reason"),
    _gauge("tokens_without_ttl", "", "Token keys that never expire."),
    _gauge("tokens_expiring", "", "Live tokens that die within the time named.", "within"),
    _gauge("token_generation_rate", "1/min", "Token generation rate (tokens per minute)."),
    _counter("tokens_generated", "Tokens generated, counted by the services."),
    _gauge("token_lifetime_seconds", "s", "Lifetime from iat to exp.", "stat"),
    _gauge("token_remaining_seconds", "s", "Remaining life of live tokens.", "stat"),
    _counter("token_validations", "Token validations, counted by the services.", "result"),
    _counter("token_validation_failures", "Token validation failures.", "reason"),
    _gauge("token_validation_failures_recent", "", "Validation failures in the window."),
    _gauge("token_validation_success_ratio", "ratio", "Share of validations that succeeded."),
    _gauge("token_renewals", "", "The newest renewals of each client, at most 32.", "timing"),
    _gauge("token_hygiene", "", "Tokens with the hygiene finding named.", "finding"),
    _gauge("token_expiry_cliff_ratio", "ratio", "Largest share of tokens dying in one minute."),
    _gauge("client_tokens_active", "", "Live tokens of the client.", "client_id"),
    _gauge("client_token_generation_rate", "1/min", "Tokens per minute.", "client_id"),
    _gauge("scan_keys", "", "Keys seen by the last scan."),
    _gauge("scan_duration_seconds", "s", "Duration of the last scan."),
    _gauge("scan_truncated", "bool", "1 if a budget ended the last scan early."),
    _gauge("token_lineage_state", "bool", "1 for how following the cache stands.", "state"),
    _gauge("token_lineage_whole_since_timestamp_seconds", "s", "No change was missed since."),
    _counter("token_changes", "Tokens by what became of them, while followed.", "change"),
    _counter("token_uses", "Good verdicts by whether the token's birth was seen.", "birth"),
    _gauge("tokens_without_birth", "", "Tokens that are used and were never issued."),
)
_CREDENTIALS = (
    _counter("authentication_attempts", "Authentication attempts.", "client_id"),
    _counter("authentication_failures", "Total authentication failures.", "client_id"),
    _gauge("authentication_failures_recent", "", "Failures in the window.", "client_id"),
    _gauge("authentication_failure_ratio", "ratio", "Share of logins refused in the window."),
    _gauge("authentication_success_ratio", "ratio", "Share of logins accepted in the window."),
    _gauge("credential_age_seconds", "s", "Age of the current secret.", "client_id"),
    _gauge("credential_due_seconds", "s", "Until rotation is due (negative: late).", "client_id"),
    _gauge("credential_rotated_timestamp_seconds", "s", "When the secret was made.", "client_id"),
    _gauge("credential_due_timestamp_seconds", "s", "When rotation is due.", "client_id"),
    _gauge("credential_rotation_state", "bool", "1 for the state it is in.", "client_id", "state"),
    _gauge("credential_verdicts", "", "Credentials by verdict.", "verdict"),
    _gauge("credential_old_version_tokens", "", "Live tokens of an old secret.", "client_id"),
    _gauge("credential_access_anomalies", "", "Anomalies found in this cycle.", "reason"),
    _gauge("credential_access_anomalies_recent", "", "Anomalies found in the window."),
    _gauge("unknown_client_ids", "", "Client ids that tried to log in and are not registered."),
    _gauge("unauthorized_access_attempts", "", "Attempts by unknown or disabled clients."),
)

#: What may be wrong with a token (token_hygiene.RULES says it in words).
HYGIENE = (
    *("without_ttl", "ttl_outlives_exp", "ttl_too_short", "expired_served"),
    *("lifetime_above_policy", "alg_none", "unexpected_alg", "missing_exp", "missing_iat"),
    *("missing_aud", "missing_jti", "missing_client", "unexpected_issuer", "unexpected_audience"),
    *("iat_in_future", "jti_conflict", "jwt_in_key", "permissions_outside"),
    *("token_time_in_milliseconds", "token_far_future", "token_exp_zero", "token_time_as_text"),
    *("token_time_without_zone", "token_nbf_in_future"),
)

METRICS: Mapping[str, Metric] = {m.name: m for m in _COMMON + _HEALTH + _TOKENS + _CREDENTIALS}


def script_of(metric: str) -> str:
    """The script that exports it; empty where all do."""
    owners = zip(SCRIPTS, (_HEALTH, _TOKENS, _CREDENTIALS))
    return next((script for script, its in owners if metric in {m.name for m in its}), "")


_SERVICES = {"component": SERVICES}


def _limit(name: str, metric: str, unit: str, *words: str, **more: Any) -> Threshold:
    category, key = name.split(".")
    noun, text = words
    return Threshold(category, key, f"payment_api_{metric}", unit, noun, text, **more)


_THRESHOLDS = (
    _limit(
        "performance.api_response_time",
        "response_time_ms", "ms", "response time",
        "Response time of Payment-EAPI and Payment-SAPI.",
        where=_SERVICES, runbook="slow-service",
    ),
    _limit(
        "performance.vault_response_time",
        "response_time_ms", "ms", "response time",
        "Response time of Conjur.", where={"component": (VAULT,)}, runbook="slow-vault",
    ),
    _limit(
        "performance.redis_response_time",
        "response_time_ms", "ms", "response time",
        "Response time of Redis.", where={"component": (CACHE,)}, runbook="slow-redis",
    ),
    _limit(
        "performance.authentication_time",
        "response_time_ms", "ms", "login time",
        "Time the canary waits for a token.",
        where={"component": (LOGIN,)}, runbook="slow-authentication",
    ),
    _limit(
        "performance.token_validation_time",
        "authentication_step_seconds", "ms", "token validation time",
        "Time SAPI takes to validate the canary's token.",
        scale=0.001, where={"step": ("validate",)}, runbook="slow-authentication",
    ),
    _limit(
        "performance.clock_skew",
        "clock_skew_seconds", "s", "clock difference",
        "Clock difference to a service (absolute).", runbook="clock-skew",
    ),
    _limit(
        "performance.redis_memory_used",
        "redis_memory_used_ratio", "%", "memory use",
        "Memory used of maxmemory.", scale=0.01, runbook="redis-memory",
    ),
    _limit(
        "performance.redis_hit_ratio",
        "redis_hit_ratio", "%", "hit ratio",
        "Share of lookups that find a key.", worse="lower", scale=0.01, runbook="redis-hit-ratio",
    ),
    _limit(
        "performance.redis_replication_lag",
        "redis_replication_lag_seconds", "s", "replication lag",
        "Lag of the slowest replica.", runbook="redis-replication",
    ),
    _limit(
        "performance.redis_evictions",
        "redis_evictions_recent", "keys", "evictions",
        "Keys evicted since the last cycle.", runbook="redis-memory",
    ),
    _limit(
        "performance.redis_rejected_connections",
        "redis_rejections_recent", "connections", "rejected connections",
        "Connections refused since the last cycle.", runbook="redis-connections",
    ),
    _limit(
        "performance.redis_clients_used",
        "redis_clients_used_ratio", "%", "connections used",
        "Connected clients of maxclients.", scale=0.01, runbook="redis-connections",
    ),
    _limit(
        "performance.redis_blocked_clients",
        "redis_blocked_clients", "clients", "blocked clients",
        "Clients blocked on the cache.", runbook="redis-connections",
    ),
    _limit(
        "performance.service_error_ratio",
        "service_error_ratio", "%", "server errors",
        "Share of 5xx answers since the last cycle.", scale=0.01, runbook="service-errors",
    ),
    _limit(
        "availability.tls_certificate_days",
        "tls_certificate_remaining_seconds", "days", "a certificate expires in",
        "Days until a certificate of the chain expires.",
        worse="lower", scale=86400.0, runbook="certificate-expiry",
    ),
    _limit(
        "availability.conjur_replication_lag",
        "conjur_replication_lag_bytes", "MiB", "replication lag of a standby",
        "How far the vault's slowest standby is behind.",
        scale=1048576.0, runbook="conjur-replication",
    ),
    _limit(
        "availability.conjur_follower_silence",
        "conjur_follower_silence_seconds", "s", "time since the follower received anything",
        "Time since a subscription of a vault follower received anything.",
        runbook="conjur-replication",
    ),
    _limit(
        "availability.conjur_subscriptions",
        "conjur_subscriptions", "subscriptions", "enabled subscriptions of the follower",
        "Enabled subscriptions of a vault follower.", worse="lower", runbook="conjur-replication",
    ),
    _limit(
        "availability.conjur_initial_replication",
        "conjur_initial_replication", "copies", "first copies of the data under way",
        "1 while a vault follower makes its first copy.", runbook="conjur-replication",
    ),
    _limit(
        "availability.conjur_free_space",
        "conjur_free_bytes", "MiB", "free disk space",
        "Free disk of the vault's database.", worse="lower", scale=1048576.0,
        runbook="conjur-disk",
    ),
    _limit(
        "availability.conjur_free_inodes",
        "conjur_free_inodes", "inodes", "free inodes",
        "Free inodes of the vault's database.", worse="lower", runbook="conjur-disk",
    ),
    _limit(
        "availability.error_budget_burn_rate",
        "error_budget_burning", "x", "error budget burn rate (as over one hour)",
        "The most urgent burn rate of 1 h, 6 h and 3 d, as over one hour.",
        where={"component": COMPONENTS}, runbook="error-budget",
    ),
    _limit(
        "availability.expiry_cliff",
        "token_expiry_cliff_ratio", "%", "tokens that die within one minute",
        "Share of live tokens that die within one minute.", scale=0.01, runbook="expiry-cliff",
    ),
    _limit(
        "security.authentication_failures",
        "authentication_failures_recent", "failures", "failed logins",
        "Failed logins in the window, per client and overall.",
        runbook="authentication-failures",
    ),
    _limit(
        "security.authentication_failure_ratio",
        "authentication_failure_ratio", "%", "share of logins refused",
        "Share of logins refused in the window.", scale=0.01, runbook="authentication-failures",
    ),
    _limit(
        "security.token_validation_failures",
        "token_validation_failures_recent", "failures", "failed token validations",
        "Failed token validations in the window.", runbook="token-validation-failures",
    ),
    _limit(
        "security.token_validation_success",
        "token_validation_success_ratio", "%", "share of token validations that succeed",
        "Share of validations that succeed.",
        worse="lower", scale=0.01, runbook="token-validation-failures",
    ),
    _limit(
        "security.credential_access_anomalies",
        "credential_access_anomalies_recent",
        "anomalies", "anomalous uses of credentials",
        "Anomalous uses of credentials in the window.", runbook="credential-anomalies",
    ),
    _limit(
        "security.unauthorized_access_attempts",
        "unauthorized_access_attempts", "attempts", "logins by unknown or disabled clients",
        "Logins by unknown or disabled clients in the window.", runbook="unauthorized-access",
    ),
    _limit(
        "security.credential_age_days",
        "credential_age_seconds", "days", "age of the secret",
        "Age of a client secret.", scale=86400.0, runbook="rotation-overdue",
    ),
    _limit(
        "security.tokens_without_ttl",
        "tokens_without_ttl", "tokens", "tokens without expiry in the cache",
        "Tokens in the cache that never expire.", runbook="token-hygiene",
    ),
    _limit(
        "security.undecodable_tokens",
        "tokens_undecodable", "values", "unreadable values under token keys",
        "Values under token keys that cannot be read.", runbook="token-hygiene",
    ),
)  # fmt: skip

THRESHOLDS: Mapping[str, Threshold] = {t.name: t for t in _THRESHOLDS}
