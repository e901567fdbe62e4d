"""Values: every name a configuration may hold, what it may be, and the variable that sets it.

Adding a setting: one line here, one in config.example.py (and config.py), one field in settings.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping

from monitoring.catalog import HYGIENE, SCRIPTS, THRESHOLDS, Threshold
from monitoring.components import CACHE, COMPONENTS, EAPI, ROTATION, SAPI, SERVICES, VAULT
from monitoring.config import kinds as k
from monitoring.config.kinds import moment
from monitoring.config.nodes import Free, Leaf, Node, Table, each, leaf, secret
from monitoring.config.schema_alerts import ALERTING
from monitoring.config.settings import ComponentSettings, Secret, TlsSettings

# -- what a row of `COMPONENTS` may hold: a component that the user adds to the five.

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RESERVED = (*COMPONENTS, "overall", "monitor", "rotation-service")
_codes = k.items(k.number(100, 599, whole=True), least=1)


def name(value: Any) -> str:
    """The name of a further component."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("write small letters, digits and hyphens, such as ledger-database")
    if value in _RESERVED:
        raise ValueError(f"{value} is a name of ours; choose another")
    return value


def _status(value: Any) -> Any:
    return _codes(value if isinstance(value, (list, tuple)) else [value])


_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "kind": k.choice("http", "tcp", "tls", "redis"),
    "host": k.host,
    "port": k.port,
    "address": k.endpoint(),
    "url": k.url(empty=False, query=True),
    "status": _status,
    "password_file": k.path,
    "ssl": k.flag,
    "verify": k.flag,
    "ca_file": k.path,
    "timeout": k.duration(0.05),
    "target": k.percent,
}
_NEEDED = {"http": ("url",), **dict.fromkeys(("tcp", "tls", "redis"), ("host", "port"))}
_ALLOWED = {
    "http": ("url", "status", "verify", "ca_file"),
    "tcp": ("host", "port", "address"),
    "tls": ("host", "port", "address", "verify", "ca_file"),
    "redis": ("host", "port", "address", "password_file", "ssl", "verify", "ca_file"),
}
_ALL = ("kind", "timeout", "target")


def component(value: Any) -> ComponentSettings:
    """The row, without its name. Raises ValueError, one sentence."""
    if not isinstance(value, Mapping):
        raise ValueError("write a dict, such as {'kind': 'tcp', 'host': 'ledger', 'port': 5432}")
    found: Dict[str, Any] = {}
    for key, given in value.items():
        if key not in _PARTS:
            raise ValueError(f"there is no {str(key)[:40]!r}; there are {', '.join(_PARTS)}")
        try:
            found[key] = _PARTS[key](given)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    kind = found.get("kind", "")
    if not kind:
        raise ValueError("write its kind: http, tcp, tls or redis")
    if odd := [key for key in found if key not in (*_ALLOWED[kind], *_ALL)]:
        raise ValueError(f"{odd[0]} means nothing for kind {kind}")
    if "address" in found:
        found["host"], found["port"] = found.pop("address")
    if missing := [key for key in _NEEDED[kind] if not found.get(key)]:
        raise ValueError(f"kind {kind} needs {' and '.join(missing)}")
    return _made(found)


def _made(found: Dict[str, Any]) -> ComponentSettings:
    tls = TlsSettings(found.pop("verify", True), found.pop("ca_file", ""))
    password = Secret(path=found.pop("password_file", ""))
    return replace(ComponentSettings("", **found), tls=tls, password=password)


ENVIRONMENTS = ("dev", "test", "staging", "prod")
#: The counters of service_counters.CANONICAL.
COUNTERS = (
    *("authentication_attempts", "token_generation", "token_validation"),
    *("credential_access", "http_requests", "authentication_success", "authentication_failures"),
    *("token_validation_success", "token_validation_failures"),
)
TARGETS = (*SERVICES, VAULT, CACHE, ROTATION)

_count = k.number(1, 100_000, whole=True)
_short = k.duration(0.05)
_patterns = k.items(k.text(empty=False, longest=200))


def _limits(threshold: Threshold) -> Table:
    high = 100.0 if threshold.unit == "%" else float("inf")
    kind = k.number(0, high, optional=True)
    text = f"{threshold.help} ({threshold.unit})"
    return Table({"warning": Leaf(kind, text), "critical": Leaf(kind, text)}, called="level")


def _thresholds() -> Table:
    categories: dict[str, dict[str, Node]] = {}
    for threshold in THRESHOLDS.values():
        categories.setdefault(threshold.category, {})[threshold.key] = _limits(threshold)
    tables = {name: Table(keys, called="metric") for name, keys in categories.items()}
    return Table(dict(tables), called="category")


_SERVICE: dict[str, Node] = {
    "EAPI_ENDPOINT": leaf(k.url(), "URL of Payment-EAPI", "EAPI_ENDPOINT"),
    "SAPI_ENDPOINT": leaf(k.url(), "URL of Payment-SAPI", "SAPI_ENDPOINT"),
    "ROTATION_ENDPOINT": leaf(
        k.url(), "URL of the rotation service; empty: there is none", "ROTATION_ENDPOINT"
    ),
    "MONITORING_AUTH_TOKEN": secret(
        "Bearer token sent to the monitored services", "MONITORING_AUTH_TOKEN"
    ),
    "SERVICE_PATHS": Table(
        {
            EAPI: each(
                ("health", "detailed", "metrics", "token"), k.url_path, "Path below the endpoint"
            ),
            SAPI: each(
                ("health", "detailed", "metrics", "validate"), k.url_path, "Path below the endpoint"
            ),
        },
        called="service",
    ),
    "STATUS_WORDS": Free(
        leaf(k.choice("ok", "warning", "critical", "unknown"), "What a health word means"),
        k.text(empty=False, longest=64),
    ),
    "COMPONENTS": Free(
        Leaf(component, "A further component to watch: its kind, and where it is"),
        name,
    ),
    "METRICS_URLS": each(
        SERVICES,
        k.items(k.url(empty=False, query=True)),
        "Metrics URLs of the instances, to be summed",
        called="service",
    ),
    "TIMEOUTS": each(
        (*SERVICES, VAULT, CACHE, "redis-scan"),
        _short,
        "Deadline of one request",
        called="target",
    ),
    "TLS_VERIFY": each(TARGETS, k.flag, "Check the certificate", called="target"),
    "MONITORING_CA_FILE": leaf(
        k.path, "CA file (PEM) for what has none of its own", "MONITORING_CA_FILE"
    ),
}


def _cluster(value: Any) -> Any:
    """True, False, or nodes of the cluster as a tuple of (host, port)."""
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and ":" in value):
        return k.items(k.endpoint(), least=1)(value)
    try:
        return k.flag(value)
    except ValueError:
        raise ValueError("write True, False, or nodes such as ['node-1:6379']") from None


_REDIS: dict[str, Node] = {
    "REDIS_HOST": leaf(k.host, "Host name of Redis", "REDIS_HOST"),
    "REDIS_PORT": leaf(k.port, "Port of Redis", "REDIS_PORT"),
    "REDIS_USERNAME": leaf(k.text(), "ACL user; empty: the default user", "REDIS_USERNAME"),
    "REDIS_PASSWORD": secret("Password of Redis", "REDIS_PASSWORD"),
    "REDIS_DB": leaf(k.number(0, 1_000_000, whole=True), "Database number", "REDIS_DB"),
    "REDIS_SSL": leaf(k.flag, "TLS to Redis and its Sentinels", "REDIS_SSL"),
    "REDIS_CA_FILE": leaf(k.path, "CA file of Redis", "REDIS_CA_FILE"),
    "REDIS_SENTINELS": leaf(
        k.items(k.endpoint(26379)), "Sentinels as host:port,host:port", "REDIS_SENTINELS"
    ),
    "REDIS_MASTER": leaf(k.text(empty=False), "Name the Sentinels know it by", "REDIS_MASTER"),
    "REDIS_CLUSTER": leaf(
        _cluster, "Redis Cluster: some nodes as host:port,host:port, or True", "REDIS_CLUSTER"
    ),
    "REDIS_PREFER_REPLICAS": leaf(k.flag, "Scan replicas rather than primaries"),
}


def _template(value: Any) -> str:
    found: str = k.text(empty=False)(value)
    if found.count("{client_id}") != 1 or found.replace("{client_id}", "").strip("/") == "":
        raise ValueError("write a variable id that holds {client_id} exactly once")
    return found


_CONJUR: dict[str, Node] = {
    "CONJUR_URL": leaf(k.url(), "URL of Conjur", "CONJUR_URL"),
    "CONJUR_ACCOUNT": leaf(k.text(empty=False), "Conjur account", "CONJUR_ACCOUNT"),
    "CONJUR_AUTHN_LOGIN": leaf(
        k.text(), "Our identity, such as host/monitoring", "CONJUR_AUTHN_LOGIN"
    ),
    "CONJUR_AUTHN_API_KEY": secret("Its API key", "CONJUR_AUTHN_API_KEY"),
    "CONJUR_CERT_FILE": leaf(k.path, "CA file of Conjur", "CONJUR_CERT_FILE"),
    "CONJUR_JWT_FILE": leaf(k.path, "JWT to log in with, instead of a key", "CONJUR_JWT_FILE"),
    "CONJUR_JWT_SERVICE_ID": leaf(k.text(), "Service id of authn-jwt"),
    "CONJUR_VARIABLE_TEMPLATE": leaf(_template, "Where a client's secret stands"),
}

_CANARY: dict[str, Node] = {
    "MONITORING_CLIENT_ID": leaf(k.text(), "The canary's client id", "MONITORING_CLIENT_ID"),
    "MONITORING_CLIENT_SECRET": secret("The canary's secret", "MONITORING_CLIENT_SECRET"),
    "CANARY": Table(
        {
            "audience": leaf(k.text(empty=False), "Audience its token must name"),
            "permission": leaf(k.text(empty=False), "Permission it asks SAPI for"),
            "max_lifetime": leaf(k.duration(1), "Longest life its token may have"),
            "max_clock_skew": leaf(k.duration(), "Clock difference its token may show"),
            "proof_interval": leaf(k.duration(60), "Time between two rounds of negative proofs"),
        }
    ),
}

_FIGURES: dict[str, Node] = {
    "ALERT_THRESHOLDS": _thresholds(),
    "SLA_TARGETS": each(
        (*COMPONENTS, "overall", "authentication_success"),
        k.percent,
        "Service level in percent",
        called="component",
    ),
    "SLA_MINIMUM_WATCHED": leaf(
        k.share, "Percent of the time that must be watched before a target is met"
    ),
    "MONITORING_INTERVALS": each(
        SCRIPTS, k.duration(1), "Time between two cycles", called="script"
    ),
    "TOKENS": Table(
        {
            "profile": leaf(k.choice("auto", "eapi", "sapi", "hash"), "Layout of the keys"),
            "patterns": leaf(_patterns, "Patterns of token keys, instead of the profile's"),
            "exclude": leaf(_patterns, "Patterns of keys to leave out"),
            "max_keys": leaf(
                k.number(1, 10**12, whole=True, optional=True), "Keys after which a scan ends"
            ),
            "time_budget": leaf(k.duration(0.1, optional=True), "Time after which a scan ends"),
            "max_lifetime": leaf(k.duration(1), "Longest token life the policy allows"),
            "algorithms": leaf(k.items(k.text(empty=False), least=1), "Algorithms expected"),
            "issuer": leaf(k.text(), "Issuer expected; empty: any"),
            "audience": leaf(k.text(), "Audience expected; empty: any"),
            "permissions": leaf(k.items(k.text(empty=False)), "Permissions a token may hold"),
            "client_claims": leaf(
                k.items(k.text(empty=False), least=1), "Claims that name the client, in order"
            ),
            "permission_claims": leaf(
                k.items(k.text(empty=False)), "Claims that grant permissions"
            ),
            "rate_window": leaf(k.duration(60), "Window of the generation rate"),
            "top_clients": leaf(_count, "Clients with series of their own"),
            "clock_skew": leaf(k.duration(), "Clock difference that is no finding"),
            "ttl_tolerance": leaf(k.duration(), "Difference of TTL and exp that is no finding"),
            "accepted_findings": leaf(
                k.items(k.choice(*HYGIENE)), "Hygiene findings to report without a warning"
            ),
        }
    ),
    "CREDENTIALS": Table(
        {
            "rotation_days": leaf(k.number(1, 3660), "Days after which a secret must rotate"),
            "due_soon_days": leaf(k.number(0, 3660), "Days before, from which it is due soon"),
            "per_client_days": Free(leaf(k.number(1, 3660), "Rotation days of one client")),
            "rotated_at": Free(leaf(moment, "When one client's secret was last rotated")),
            "excluded": leaf(_patterns, "Clients that need no rotation"),
            "transition": leaf(k.duration(60), "Longest dwell in one rotation state"),
            "failure_window": leaf(k.duration(60), "Window of failed logins and anomalies"),
            "top_clients": leaf(_count, "Clients with series of their own"),
            "false_alerts_per_client_month": leaf(
                k.number(0.001, 1000), "Budget of the anomaly detector"
            ),
            "per_client_sensitivity": Free(leaf(k.number(0.001, 1000), "Budget of one client")),
        }
    ),
    "SERVICE_METRICS": Table(
        {
            "names": Free(
                leaf(k.items(k.text(empty=False)), "Further names of one counter"),
                k.choice(*COUNTERS),
            ),
            "client_labels": leaf(
                k.items(k.text(empty=False), least=1), "Labels that name the client"
            ),
            "outcome_labels": leaf(
                k.items(k.text(empty=False)), "Labels that say how a login or validation ended"
            ),
            "success_words": leaf(k.items(k.text(empty=False)), "Their words for a good end"),
            "failure_words": leaf(k.items(k.text(empty=False)), "Their words for a bad end"),
            "validation_reasons": leaf(
                k.items(k.text(empty=False, longest=40)),
                "Further reasons of failed validations to count apart",
            ),
        }
    ),
}

_KEEPING: dict[str, Node] = {
    "MONITORING_STATE_DIR": leaf(
        k.path, "Folder of the state; empty: the XDG state folder", "MONITORING_STATE_DIR"
    ),
    "PROMETHEUS_URL": leaf(k.url(), "Read lookbacks from this server", "PROMETHEUS_URL"),
    "HISTORY": Table(
        {
            "raw_for": leaf(k.duration(3600), "Samples kept as taken"),
            "fine_for": leaf(k.duration(3600), "Samples kept at 5 minutes"),
            "retention": leaf(k.duration(86400), "Samples kept at all, hourly"),
            "max_series": leaf(_count, "Series kept"),
            "prometheus_headers": Free(secret("Header")),
            "prometheus_params": Free(leaf(k.text(), "Query parameter")),
        }
    ),
    "RUN": Table(
        {
            "cron_interval": leaf(k.duration(1), "How often cron starts a script"),
            "cycle_deadline": leaf(k.duration(1), "Time in which a cycle must end"),
            "lock_wait": leaf(k.duration(), "Wait for another run of the same script"),
            "user_agent": leaf(k.text(empty=False), "User-Agent of every request"),
        }
    ),
    "HEARTBEAT_URL": secret(
        "Check to ping at each cycle (Healthchecks style)", "HEARTBEAT_URL", k.url()
    ),
}

SETTINGS = Table(
    {
        "MONITORING_ENV": leaf(k.choice(*ENVIRONMENTS), "Environment", "MONITORING_ENV"),
        **_SERVICE,
        **_REDIS,
        **_CONJUR,
        **_CANARY,
        **_FIGURES,
        **ALERTING,
        **_KEEPING,
    }
)
#: Names that say what is asked and how; `--debug` shows them.
CONNECTIONS = (*_SERVICE, *_REDIS, *_CONJUR, "MONITORING_CLIENT_ID", "PROMETHEUS_URL")
_OVERRIDES = Table({name: n for name, n in SETTINGS.keys.items() if name != "MONITORING_ENV"})
#: What a file may hold: the settings, and overrides of them for one environment each.
SCHEMA = Table(
    {
        **SETTINGS.keys,
        "ENVIRONMENTS": Table(dict.fromkeys(ENVIRONMENTS, _OVERRIDES), called="environment"),
    }
)
