"""Values: the frozen settings every part is built from; `configuration.load` makes one.

Durations are seconds, sizes bytes. An empty string means "not configured". Secrets are `Secret`:
they print masked and are read with `reveal()`, at the door that needs them.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Optional

from monitoring import text as redact
from monitoring.components import CACHE, COMPONENTS, EAPI, LOGIN, SAPI, VAULT

MOST_SECRET = 64 << 10


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for a device, a pipe or a folder: reading
    those may never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "rb")


def small_file(path: Path, most: int = MOST_SECRET) -> bytes:
    """The whole of a regular file of at most `most` bytes. Raises OSError for any other."""
    with open_regular(path) as opened:
        found = opened.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 10} KiB", str(path))
    return found


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that must not be shown. `path` set: re-read on every `reveal()`, so that a rotated
    file is picked up (and masked from then on). Falsy when empty."""

    value: str = ""
    path: str = ""

    def reveal(self) -> str:
        """The secret itself; raises OSError when its file cannot be read, or is no text."""
        if not self.path:
            return self.value
        try:
            found = small_file(Path(self.path)).decode("utf-8").strip()
        except UnicodeDecodeError:  # its own text quotes the file
            raise OSError(errno.EILSEQ, "is not UTF-8 text", self.path) from None
        redact.register(found)
        return found

    def __bool__(self) -> bool:
        return bool(self.value or self.path)

    def __repr__(self) -> str:
        return "Secret(set)" if self else "Secret(empty)"

    __str__ = __repr__


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
    host: str = "localhost"
    port: int = 6379
    username: str = ""
    password: Secret = Secret()
    db: int = 0
    ssl: bool = False
    tls: TlsSettings = TlsSettings()
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = "mymaster"
    cluster: bool = False
    seeds: tuple[tuple[str, int], ...] = ()  # nodes of the cluster to ask; empty: host and port
    prefer_replicas: bool = False
    timeout: float = 2.0
    scan_timeout: float = 10.0


@dataclass(frozen=True)
class ConjurSettings:
    url: str = ""
    account: str = "payment-system"
    login: str = ""
    api_key: Secret = Secret()
    jwt_file: str = ""
    jwt_service_id: str = ""
    variable_template: str = "payment/credentials/{client_id}"
    timeout: float = 5.0
    tls: TlsSettings = TlsSettings()


@dataclass(frozen=True)
class CanarySettings:
    """The client that proves logins work. `proof_interval`: seconds between negative proofs."""

    client_id: str = ""
    client_secret: Secret = Secret()
    audience: str = "payment-sapi"
    permission: str = "view_status"
    max_lifetime: float = 3600.0
    max_clock_skew: float = 30.0
    proof_interval: float = 3600.0

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
    profile: str = "auto"
    patterns: tuple[str, ...] = ()
    max_keys: Optional[int] = None
    time_budget: Optional[float] = None
    max_lifetime: float = 3600.0
    algorithms: tuple[str, ...] = ("HS256",)
    issuer: str = "payment-eapi"
    audience: str = "payment-sapi"
    permissions: tuple[str, ...] = ("process_payment", "view_status")
    rate_window: float = 900.0
    top_clients: int = 50
    clock_skew: float = 30.0
    ttl_tolerance: float = 60.0
    accepted_findings: tuple[str, ...] = ()  # hygiene findings that are reported, not warned of
    client_claims: tuple[str, ...] = (
        *("azp", "client_id", "clientId", "appid", "cid", "sub", "client"),
    )  # fmt: skip
    permission_claims: tuple[str, ...] = (
        *("permissions", "scope", "scp", "scopes", "roles", "realm_access.roles", "authorities"),
    )  # fmt: skip
    exclude: tuple[str, ...] = ()  # patterns of keys that are looked at by nobody


@dataclass(frozen=True)
class CredentialSettings:
    rotation_days: float = 90.0
    due_soon_days: float = 14.0
    per_client_days: Mapping[str, float] = field(default_factory=dict)
    rotated_at: Mapping[str, float] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    transition: float = 3600.0
    failure_window: float = 3600.0
    top_clients: int = 50
    false_alerts_per_client_month: float = 0.1
    per_client_sensitivity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceMetricsSettings:
    """How the counters of the services are named and labelled. `success_words` and
    `failure_words` are values of the `outcome_labels`; `validation_reasons` are counted apart."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    client_labels: tuple[str, ...] = ("clientId", "client_id", "client")
    outcome_labels: tuple[str, ...] = ("success", "valid", "outcome", "result", "status", "code")
    success_words: tuple[str, ...] = (
        *("true", "yes", "success", "successful", "succeeded", "ok", "valid", "accepted"),
        *("granted", "allowed", "passed", "authenticated"),
    )
    failure_words: tuple[str, ...] = (
        *("false", "no", "failure", "failed", "fail", "error", "ko", "invalid", "rejected"),
        *("refused", "denied", "unauthorized", "forbidden", "client_error", "server_error"),
    )
    validation_reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlertSettings:
    """`dashboards` and `runbooks` are base URLs; empty: no links."""

    failure_threshold: int = 2
    recovery_threshold: int = 2
    window: Optional[tuple[int, int]] = None  # M of N
    reminder_interval: Mapping[str, float] = field(default_factory=dict)  # by severity word
    give_up_after: float = 86400.0
    send_budget: float = 10.0
    group_above: int = 5
    flap_changes: int = 6
    flap_window: float = 3600.0
    runbooks: str = ""
    dashboards: str = ""


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
    """Where samples are kept and how long; `prometheus_url` set: lookbacks read from there."""

    raw_for: float = 48 * 3600.0
    fine_for: float = 14 * 86400.0
    retention: float = 90 * 86400.0
    max_series: int = 2000
    prometheus_url: str = ""
    prometheus_headers: Mapping[str, Secret] = field(default_factory=dict)
    prometheus_params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSettings:
    """Intervals of the loops by script name; `cron_interval`: how often cron starts us."""

    intervals: Mapping[str, float] = field(default_factory=dict)
    cron_interval: float = 300.0
    cycle_deadline: float = 30.0
    lock_wait: float = 5.0
    heartbeat_url: Secret = Secret()
    user_agent: str = "payment-api-monitoring/1.0 (canary; see docs/security.md)"

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
        CACHE: settings.redis.host,
        LOGIN: canary.client_id and canary.client_secret and eapi.url and sapi.url,
    }
    return tuple(name for name in COMPONENTS if not needed[name])
