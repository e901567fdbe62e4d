"""Values: the frozen settings every part is built from; `config.load` makes one.

Durations are seconds, sizes bytes. An empty string means "not configured". Secrets are `Secret`:
they print masked and are read with `reveal()`, at the door that needs them.

A field made by `setting` is a setting: what it may be, what it means, what it is by default (the
same as in config.example.py), and the variable that sets it. It stands in the table of its class
(`TOKENS`), or `at` a name of its own; `stands` only says where the value of a field is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from monitoring.catalog import HYGIENE, SCRIPTS
from monitoring.components import CACHE, COMPONENTS, EAPI, LOGIN, SAPI, VAULT
from monitoring.config import kinds as k
from monitoring.config.nodes import Free, each, hidden, leaf, secret, setting, stands
from monitoring.config.secret import Secret

SEVERITIES = ("critical", "warning", "info")
#: The counters of `services.families`.
COUNTERS = (
    *("authentication_attempts", "token_generation", "token_validation"),
    *("credential_access", "http_requests", "authentication_success", "authentication_failures"),
    *("token_validation_success", "token_validation_failures"),
)
_count = k.number(1, 100_000, whole=True)
_cycles = k.number(1, 100, whole=True)
_words = k.items(k.text(empty=False))
_patterns = k.items(k.text(empty=False, longest=200))


def _cluster(value: Any) -> Any:
    """True, False, or nodes of the cluster as a tuple of (host, port)."""
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and ":" in value):
        return k.items(k.endpoint(), least=1)(value)
    try:
        return k.flag(value)
    except ValueError:
        raise ValueError("write True, False, or nodes such as ['node-1:6379']") from None


def _template(value: Any) -> str:
    found: str = k.text(empty=False)(value)
    if found.count("{client_id}") != 1 or found.replace("{client_id}", "").strip("/") == "":
        raise ValueError("write a variable id that holds {client_id} exactly once")
    return found


@dataclass(frozen=True)
class TlsSettings:
    verify: bool = True
    ca_file: str = ""


@dataclass(frozen=True)
class ServiceSettings:
    """One Spring Boot service. `paths` by purpose: health, detailed, metrics, and for EAPI
    token, for SAPI validate. Values are paths below `url`; empty: the service has none.
    `metrics_urls`: several instances to be summed (empty: url + paths['metrics'])."""

    name: str
    url: str
    paths: Mapping[str, str]
    timeout: float = 5.0
    tls: TlsSettings = TlsSettings()
    metrics_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComponentSettings:
    """A component that the user added. `kind`: http (`url`, `status`: the codes that are good;
    empty: 2xx), tcp or tls (`host`, `port`), redis (also `password`, `ssl`). `target`: its service
    level, 0..1."""

    name: str
    kind: str
    host: str = ""
    port: int = 0
    url: str = ""
    status: tuple[int, ...] = ()
    password: Secret = Secret()
    ssl: bool = False
    timeout: float = 5.0
    target: float = 0.999
    tls: TlsSettings = TlsSettings()


@dataclass(frozen=True)
class RedisSettings:
    """`cluster`: whether it is one; `seeds`: nodes of it to ask (empty: host and port)."""

    host: str = setting(
        k.either("", k.host), "Host name of Redis; empty: not watched", "localhost", at="REDIS_HOST"
    )
    port: int = setting(k.port, "Port of Redis", 6379, at="REDIS_PORT")
    username: str = setting(k.text(), "ACL user; empty: the default user", "", at="REDIS_USERNAME")
    password: Secret = hidden("Password of Redis", at="REDIS_PASSWORD")
    db: int = setting(k.number(0, 1_000_000, whole=True), "Database number", 0, at="REDIS_DB")
    ssl: bool = setting(k.flag, "TLS to Redis and its Sentinels", False, at="REDIS_SSL")
    sentinels: tuple[tuple[str, int], ...] = setting(
        k.items(k.endpoint(26379)), "Sentinels as host:port,host:port", (), at="REDIS_SENTINELS"
    )
    master: str = setting(
        k.text(empty=False), "Name the Sentinels know it by", "mymaster", at="REDIS_MASTER"
    )
    cluster: bool = setting(
        _cluster, "Redis Cluster: some nodes as host:port,host:port, or True", False,
        at="REDIS_CLUSTER",
    )  # fmt: skip
    prefer_replicas: bool = setting(
        k.flag, "Scan replicas rather than primaries", False, at="REDIS_PREFER_REPLICAS",
        variable=False,
    )  # fmt: skip
    seeds: tuple[tuple[str, int], ...] = ()
    tls: TlsSettings = TlsSettings()
    timeout: float = stands("TIMEOUTS", CACHE, default=2.0)
    scan_timeout: float = stands("TIMEOUTS", "redis-scan", default=10.0)

    @property
    def configured(self) -> bool:
        """Whether there is a cache to ask."""
        return bool(self.host or self.sentinels or self.seeds)


@dataclass(frozen=True)
class ConjurSettings:
    url: str = setting(k.url(), "URL of Conjur", "https://localhost:8443", at="CONJUR_URL")
    account: str = setting(
        k.text(empty=False), "Conjur account", "payment-system", at="CONJUR_ACCOUNT"
    )
    login: str = setting(
        k.text(), "Our identity, such as host/monitoring", "", at="CONJUR_AUTHN_LOGIN"
    )
    api_key: Secret = hidden("Its API key", at="CONJUR_AUTHN_API_KEY")
    jwt_file: str = setting(
        k.path, "JWT to log in with, instead of a key", "", at="CONJUR_JWT_FILE"
    )
    jwt_service_id: str = setting(
        k.text(), "Service id of authn-jwt", "", at="CONJUR_JWT_SERVICE_ID", variable=False
    )
    variable_template: str = setting(
        _template, "Where a client's secret stands", "payment/credentials/{client_id}",
        at="CONJUR_VARIABLE_TEMPLATE", variable=False,
    )  # fmt: skip
    timeout: float = stands("TIMEOUTS", VAULT, default=5.0)
    tls: TlsSettings = TlsSettings()


@dataclass(frozen=True)
class CanarySettings:
    """The client that proves logins work."""

    client_id: str = setting(k.text(), "The canary's client id", "", at="MONITORING_CLIENT_ID")
    client_secret: Secret = hidden("The canary's secret", at="MONITORING_CLIENT_SECRET")
    audience: str = setting(k.text(empty=False), "Audience its token must name", "payment-sapi")
    permission: str = setting(k.text(empty=False), "Permission it asks SAPI for", "view_status")
    max_lifetime: float = setting(k.duration(1), "Longest life its token may have", 3600.0)
    max_clock_skew: float = setting(k.duration(), "Clock difference its token may show", 30.0)
    proof_interval: float = setting(
        k.duration(60), "Time between two rounds of negative proofs", 3600.0
    )

    @property
    def clients(self) -> frozenset[str]:
        """The client ids to leave out of counts: the canary's, or none where none is configured.
        Filters use this and never `client_id`, which may be empty and would then match logins
        that carry no client id."""
        return frozenset({self.client_id} if self.client_id else ())


@dataclass(frozen=True)
class Limit:
    """A threshold as configured, in the unit of the catalogue's Threshold (not yet scaled)."""

    warning: Optional[float]
    critical: Optional[float]


@dataclass(frozen=True)
class SlaSettings:
    """`availability` targets by component as ratios (0.999); `overall` the whole's target;
    `minimum_watched`: the share of the time without which no target is called met."""

    availability: Mapping[str, float] = field(default_factory=dict)
    overall: float = 0.999
    authentication_success: float = 0.9997
    minimum_watched: float = 0.5


@dataclass(frozen=True)
class TokenSettings:
    profile: str = setting(k.choice("auto", "eapi", "sapi", "hash"), "Layout of the keys", "auto")
    patterns: tuple[str, ...] = setting(
        _patterns, "Patterns of token keys, instead of the profile's", ()
    )
    exclude: tuple[str, ...] = setting(_patterns, "Patterns of keys to leave out", ())
    max_keys: Optional[int] = setting(
        k.number(1, 10**12, whole=True, optional=True), "Keys after which a scan ends", None
    )
    time_budget: Optional[float] = setting(
        k.duration(0.1, optional=True), "Time after which a scan ends", None
    )
    max_lifetime: float = setting(k.duration(1), "Longest token life the policy allows", 3600.0)
    algorithms: tuple[str, ...] = setting(
        k.items(k.text(empty=False), least=1), "Algorithms expected", ("HS256",)
    )
    issuer: str = setting(k.text(), "Issuer expected; empty: any", "payment-eapi")
    audience: str = setting(k.text(), "Audience expected; empty: any", "payment-sapi")
    permissions: tuple[str, ...] = setting(
        _words, "Permissions a token may hold", ("process_payment", "view_status")
    )
    client_claims: tuple[str, ...] = setting(
        k.items(k.text(empty=False), least=1),
        "Claims that name the client, in order",
        ("azp", "client_id", "clientId", "appid", "cid", "sub", "client"),
    )
    permission_claims: tuple[str, ...] = setting(
        _words,
        "Claims that grant permissions",
        (
            *("permissions", "scope", "scp", "scopes", "roles", "realm_access.roles"),
            "authorities",
        ),
    )
    rate_window: float = setting(k.duration(60), "Window of the generation rate", 900.0)
    top_clients: int = setting(_count, "Clients with series of their own", 50)
    clock_skew: float = setting(k.duration(), "Clock difference that is no finding", 30.0)
    ttl_tolerance: float = setting(
        k.duration(), "Difference of TTL and exp that is no finding", 60.0
    )
    accepted_findings: tuple[str, ...] = setting(
        k.items(k.choice(*HYGIENE)), "Hygiene findings to report without a warning", ()
    )
    follow: bool = setting(
        k.flag, "In a loop, follow the cache's changes; see docs/following.md", False
    )


@dataclass(frozen=True)
class CredentialSettings:
    rotation_days: float = setting(k.number(1, 3660), "Days after which a secret must rotate", 90.0)
    due_soon_days: float = setting(
        k.number(0, 3660), "Days before, from which it is due soon", 14.0
    )
    per_client_days: Mapping[str, float] = setting(
        Free(leaf(k.number(1, 3660), "Rotation days of one client")), "", {}
    )
    rotated_at: Mapping[str, float] = setting(
        Free(leaf(k.instant, "When one client's secret was last rotated")), "", {}
    )
    excluded: tuple[str, ...] = setting(_patterns, "Clients that need no rotation", ())
    transition: float = setting(k.duration(60), "Longest dwell in one rotation state", 3600.0)
    failure_window: float = setting(k.duration(60), "Window of failed logins and anomalies", 3600.0)
    top_clients: int = setting(_count, "Clients with series of their own", 50)
    false_alerts_per_client_month: float = setting(
        k.number(0.001, 1000), "Budget of the anomaly detector", 0.1
    )
    per_client_sensitivity: Mapping[str, float] = setting(
        Free(leaf(k.number(0.001, 1000), "Budget of one client")), "", {}
    )


@dataclass(frozen=True)
class ServiceMetricsSettings:
    """How the counters of the services are named and labelled. `success_words` and
    `failure_words` are values of the `outcome_labels`; `validation_reasons` are counted apart."""

    names: Mapping[str, tuple[str, ...]] = setting(
        Free(leaf(_words, "Further names of one counter"), k.choice(*COUNTERS)), "", {}
    )
    client_labels: tuple[str, ...] = setting(
        k.items(k.text(empty=False), least=1),
        "Labels that name the client",
        ("clientId", "client_id", "client"),
    )
    outcome_labels: tuple[str, ...] = setting(
        _words,
        "Labels that say how a login or validation ended",
        (
            *("success", "successful", "valid", "ok", "outcome", "result"),
            *("status", "code", "status_code", "http_status"),
        ),
    )
    success_words: tuple[str, ...] = setting(
        _words,
        "Their words for a good end",
        (
            *("true", "yes", "success", "successful", "succeeded", "ok", "valid", "accepted"),
            *("granted", "allowed", "allow", "passed", "pass", "authenticated", "authorized"),
        ),
    )
    failure_words: tuple[str, ...] = setting(
        _words,
        "Their words for a bad end",
        (
            *("false", "no", "failure", "failed", "fail", "error", "ko", "invalid", "rejected"),
            *("refused", "denied", "deny", "unauthorized", "unauthenticated", "forbidden"),
            *("client_error", "server_error", "bad_credentials", "invalid_credentials"),
            *("invalid_signature", "expired", "revoked"),
        ),
    )
    validation_reasons: tuple[str, ...] = setting(
        k.items(k.text(empty=False, longest=40)),
        "Further reasons of failed validations to count apart",
        (),
    )


@dataclass(frozen=True)
class AlertSettings:
    """`dashboards` and `runbooks`: empty: no links. `window`: M of N cycles."""

    failure_threshold: int = setting(_cycles, "Bad cycles before an alert fires", 2)
    recovery_threshold: int = setting(_cycles, "Good cycles before it resolves", 2)
    window: Optional[tuple[int, int]] = setting(k.m_of_n, "M of N bad cycles, instead", None)
    reminder_interval: Mapping[str, float] = setting(
        each(SEVERITIES, k.duration(60, never=True), "Time between reminders", called="severity"),
        "",
        {},
    )
    give_up_after: float = setting(k.duration(60), "Time after which a notice is given up", 86400.0)
    send_budget: float = setting(k.duration(0.1), "Time for sending in one cycle", 10.0)
    group_above: int = setting(_count, "Equal alerts above which one notice is sent", 5)
    flap_changes: int = setting(_count, "Changes within the window that are flapping", 6)
    flap_window: float = setting(k.duration(60), "Window of flapping with a cycle a minute", 3600.0)
    runbooks: str = setting(k.url(shown=True), "Base URL of docs/runbooks", "")
    dashboards: str = setting(k.url(shown=True), "Base URL of the dashboards", "")


@dataclass(frozen=True)
class Maintenance:
    """A planned window: either `cron` + `duration` or `start`..`end`; `zone` an IANA name."""

    name: str
    cron: str = ""
    duration: float = 0.0
    start: Optional[float] = None
    end: Optional[float] = None
    zone: str = "UTC"
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class Silence:
    """`match` maps alert key fields (component, metric, client, script) to glob patterns."""

    match: Mapping[str, str]
    owner: str
    reason: str
    until: float


@dataclass(frozen=True)
class Route:
    """Extra routing: alerts that match go to `channels` (replacing the severity's list)."""

    channels: tuple[str, ...]
    match: Mapping[str, str] = field(default_factory=dict)
    severities: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotificationSettings:
    """`by_severity`: critical, warning, info -> channel names. `channels`: name -> its section of
    CHANNEL_CONFIG, checked, secrets as `Secret`; only channels that are on. `off`: name -> why."""

    by_severity: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    silences: tuple[Silence, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()


@dataclass(frozen=True)
class HistorySettings:
    """Where samples are kept and how long."""

    raw_for: float = setting(k.duration(3600), "Samples kept as taken", 48 * 3600.0)
    fine_for: float = setting(k.duration(3600), "Samples kept at 5 minutes", 14 * 86400.0)
    retention: float = setting(k.duration(86400), "Samples kept at all, hourly", 90 * 86400.0)
    max_series: int = setting(_count, "Series kept", 2000)
    prometheus_url: str = setting(
        k.url(), "Read lookbacks from this server", "", at="PROMETHEUS_URL"
    )
    prometheus_headers: Mapping[str, Secret] = setting(Free(secret("Header")), "", {})
    prometheus_params: Mapping[str, str] = setting(Free(leaf(k.text(), "Query parameter")), "", {})


@dataclass(frozen=True)
class RunSettings:
    """Intervals of the loops by script name."""

    intervals: Mapping[str, float] = setting(
        each(SCRIPTS, k.duration(1), "Time between two cycles", called="script"),
        "",
        {},
        at="MONITORING_INTERVALS",
    )
    cron_interval: float = setting(k.duration(1), "How often cron starts a script", 300.0)
    cycle_deadline: float = setting(k.duration(1), "Time in which a cycle must end", 30.0)
    lock_wait: float = setting(k.duration(), "Wait for another run of the same script", 5.0)
    user_agent: str = setting(
        k.text(empty=False),
        "User-Agent of every request",
        "payment-api-monitoring/1.0 (canary; see docs/security.md)",
    )
    heartbeat_url: Secret = hidden(
        "Check to ping at each cycle (Healthchecks style)", at="HEARTBEAT_URL", member=k.url()
    )

    @property
    def looking(self) -> float:
        """Seconds of a cycle in which peers are asked; the rest is for judging and telling."""
        return 0.8 * self.cycle_deadline


@dataclass(frozen=True)
class Origin:
    """Where one effective setting came from, for `--check-config`; secrets already masked."""

    name: str
    shown: str
    where: str


@dataclass(frozen=True)
class Settings:
    environment: str
    eapi: ServiceSettings
    sapi: ServiceSettings
    rotation_url: str
    rotation_tls: TlsSettings
    auth_token: Secret
    status_words: Mapping[str, str]  # word -> ok, warning, critical or unknown
    redis: RedisSettings
    conjur: ConjurSettings
    canary: CanarySettings
    thresholds: Mapping[str, Limit]  # by Threshold.name
    sla: SlaSettings
    tokens: TokenSettings
    credentials: CredentialSettings
    service_metrics: ServiceMetricsSettings
    alerts: AlertSettings
    notifications: NotificationSettings
    history: HistorySettings
    run: RunSettings
    state_dir: Path
    components: tuple[ComponentSettings, ...] = ()  # beside the five
    origins: tuple[Origin, ...] = ()
    warnings: tuple[str, ...] = ()


def unconfigured(settings: Settings) -> tuple[str, ...]:
    """The components that nobody asks, since what their probes need is not configured."""
    canary, eapi, sapi = settings.canary, settings.eapi, settings.sapi
    needed = {
        EAPI: eapi.url and eapi.paths.get("health"),
        SAPI: sapi.url and sapi.paths.get("health"),
        VAULT: settings.conjur.url,
        CACHE: settings.redis.configured,
        LOGIN: canary.client_id and canary.client_secret and eapi.url and sapi.url,
    }
    return tuple(name for name in COMPONENTS if not needed[name])
