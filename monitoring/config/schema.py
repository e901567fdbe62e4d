"""Values: every name a configuration may hold, what it may be, and the variable that sets it.

Adding a setting: one field in `config.settings`, one line in config.example.py (and config.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable

from monitoring.catalog import THRESHOLDS, Threshold
from monitoring.components import CACHE, COMPONENTS, EAPI, ROTATION, SAPI, SERVICES, VAULT
from monitoring.config import kinds as k
from monitoring.config.nodes import Free, Leaf, Node, Table, each, leaf, names_of, secret, table_of
from monitoring.config.schema_alerts import ALERTING
from monitoring.config.secret import Secret
from monitoring.config.settings import (
    CanarySettings,
    ComponentSettings,
    ConjurSettings,
    CredentialSettings,
    HistorySettings,
    RedisSettings,
    RunSettings,
    ServiceMetricsSettings,
    TlsSettings,
    TokenSettings,
)

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
    found: dict[str, Any] = {}
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


def _made(found: dict[str, Any]) -> ComponentSettings:
    tls = TlsSettings(found.pop("verify", True), found.pop("ca_file", ""))
    password = Secret(path=found.pop("password_file", ""))
    return replace(ComponentSettings("", **found), tls=tls, password=password)


ENVIRONMENTS = ("dev", "test", "staging", "prod")
TARGETS = (*SERVICES, VAULT, CACHE, ROTATION)

_short = k.duration(0.05)


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


_REDIS: dict[str, Node] = {
    **names_of(RedisSettings),
    "REDIS_CA_FILE": leaf(k.path, "CA file of Redis", "REDIS_CA_FILE"),
}
_CONJUR: dict[str, Node] = {
    **names_of(ConjurSettings),
    "CONJUR_CERT_FILE": leaf(k.path, "CA file of Conjur", "CONJUR_CERT_FILE"),
}
_CANARY = {**names_of(CanarySettings), "CANARY": table_of(CanarySettings)}
_RUN = names_of(RunSettings)
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
    "MONITORING_INTERVALS": _RUN["MONITORING_INTERVALS"],
    "TOKENS": table_of(TokenSettings),
    "CREDENTIALS": table_of(CredentialSettings),
    "SERVICE_METRICS": table_of(ServiceMetricsSettings),
}

_KEEPING: dict[str, Node] = {
    "MONITORING_STATE_DIR": leaf(
        k.path, "Folder of the state; empty: the XDG state folder", "MONITORING_STATE_DIR"
    ),
    **names_of(HistorySettings),
    "HISTORY": table_of(HistorySettings),
    "RUN": table_of(RunSettings),
    "HEARTBEAT_URL": _RUN["HEARTBEAT_URL"],
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
