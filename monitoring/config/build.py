"""Decision: the effective values as the frozen settings of `settings.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone
from pathlib import Path
from typing import List, Tuple

from monitoring.catalog import COMPONENTS, THRESHOLDS
from monitoring.config import notify as config_notify
from monitoring.config.layers import Values
from monitoring.config.moments import epoch
from monitoring.config.nodes import Leaf
from monitoring.config.nodes import Path as Keys
from monitoring.config.problems import Problem, shown, spell
from monitoring.settings import (
    CanarySettings,
    ComponentSettings,
    ConjurSettings,
    CredentialSettings,
    HistorySettings,
    Limit,
    Origin,
    RedisSettings,
    RunSettings,
    ServiceMetricsSettings,
    ServiceSettings,
    Settings,
    SlaSettings,
    TlsSettings,
    TokenSettings,
)


def build(values: Values, state_dir: Path, problems: List[Problem]) -> Settings:
    """Settings from checked values; what the alerting rows get wrong goes to `problems`."""
    return Settings(
        environment=values["MONITORING_ENV"],
        eapi=_service(values, "payment-eapi", "EAPI_ENDPOINT"),
        sapi=_service(values, "payment-sapi", "SAPI_ENDPOINT"),
        rotation_url=values["ROTATION_ENDPOINT"],
        rotation_tls=_tls(values, "rotation-service"),
        auth_token=values["MONITORING_AUTH_TOKEN"],
        components=_components(values),
        status_words=values.table("STATUS_WORDS"),
        redis=_redis(values),
        conjur=_conjur(values),
        canary=_canary(values),
        thresholds=_thresholds(values),
        sla=_sla(values),
        tokens=TokenSettings(**values.table("TOKENS")),
        credentials=_credentials(values),
        service_metrics=_service_metrics(values),
        alerts=config_notify.alert_settings(values),
        notifications=config_notify.notifications(values, problems),
        history=_history(values),
        run=_run(values),
        state_dir=state_dir,
    )


def _components(values: Values) -> Tuple[ComponentSettings, ...]:
    found = values.table("COMPONENTS")
    otherwise = values["MONITORING_CA_FILE"]
    return tuple(
        replace(row, name=name, tls=replace(row.tls, ca_file=row.tls.ca_file or otherwise))
        for name, row in found.items()
    )


def _tls(values: Values, target: str, own_ca: str = "") -> TlsSettings:
    ca_file = (values[own_ca] if own_ca else "") or values["MONITORING_CA_FILE"]
    return TlsSettings(verify=values["TLS_VERIFY", target], ca_file=ca_file)


def _service(values: Values, name: str, endpoint: str) -> ServiceSettings:
    return ServiceSettings(
        name=name,
        url=values[endpoint],
        paths=values.table("SERVICE_PATHS", name),
        timeout=values["TIMEOUTS", name],
        tls=_tls(values, name),
        metrics_urls=values["METRICS_URLS", name],
    )


def _redis(values: Values) -> RedisSettings:
    return RedisSettings(
        host=values["REDIS_HOST"],
        port=values["REDIS_PORT"],
        username=values["REDIS_USERNAME"],
        password=values["REDIS_PASSWORD"],
        db=values["REDIS_DB"],
        ssl=values["REDIS_SSL"],
        tls=_tls(values, "redis-cache", "REDIS_CA_FILE"),
        sentinels=values["REDIS_SENTINELS"],
        master=values["REDIS_MASTER"],
        cluster=bool(values["REDIS_CLUSTER"]),
        seeds=() if isinstance(values["REDIS_CLUSTER"], bool) else values["REDIS_CLUSTER"],
        prefer_replicas=values["REDIS_PREFER_REPLICAS"],
        timeout=values["TIMEOUTS", "redis-cache"],
        scan_timeout=values["TIMEOUTS", "redis-scan"],
    )


def _conjur(values: Values) -> ConjurSettings:
    return ConjurSettings(
        url=values["CONJUR_URL"],
        account=values["CONJUR_ACCOUNT"],
        login=values["CONJUR_AUTHN_LOGIN"],
        api_key=values["CONJUR_AUTHN_API_KEY"],
        jwt_file=values["CONJUR_JWT_FILE"],
        jwt_service_id=values["CONJUR_JWT_SERVICE_ID"],
        variable_template=values["CONJUR_VARIABLE_TEMPLATE"],
        timeout=values["TIMEOUTS", "conjur-vault"],
        tls=_tls(values, "conjur-vault", "CONJUR_CERT_FILE"),
    )


def _canary(values: Values) -> CanarySettings:
    return CanarySettings(
        client_id=values["MONITORING_CLIENT_ID"],
        client_secret=values["MONITORING_CLIENT_SECRET"],
        **values.table("CANARY"),
    )


def _thresholds(values: Values) -> dict[str, Limit]:
    configured = values.table("ALERT_THRESHOLDS")
    found = {}
    for name, threshold in THRESHOLDS.items():
        levels = configured.get(threshold.category, {}).get(threshold.key, {})
        found[name] = Limit(levels.get("warning"), levels.get("critical"))
    return found


def _sla(values: Values) -> SlaSettings:
    targets = values.table("SLA_TARGETS")
    further = {row.name: row.target for row in _components(values)}
    return SlaSettings(
        availability={**{name: targets[name] for name in COMPONENTS}, **further},
        overall=targets["overall"],
        authentication_success=targets["authentication_success"],
        minimum_watched=values["SLA_MINIMUM_WATCHED"],
    )


def _credentials(values: Values) -> CredentialSettings:
    table = values.table("CREDENTIALS")
    dates = {
        client: epoch(when, timezone.utc) for client, when in table.get("rotated_at", {}).items()
    }
    known = {client: at for client, at in dates.items() if at is not None}
    return CredentialSettings(**{**table, "rotated_at": known})


def _service_metrics(values: Values) -> ServiceMetricsSettings:
    return ServiceMetricsSettings(**values.table("SERVICE_METRICS"))


def _history(values: Values) -> HistorySettings:
    return HistorySettings(prometheus_url=values["PROMETHEUS_URL"], **values.table("HISTORY"))


def _run(values: Values) -> RunSettings:
    return RunSettings(
        intervals=values.table("MONITORING_INTERVALS"),
        heartbeat_url=values["HEARTBEAT_URL"],
        **values.table("RUN"),
    )


#: Where a value comes from that is as it would be had nobody set it.
DEFAULT = "default"


def origins(values: Values, order: List[Keys]) -> tuple[Origin, ...]:
    """One row per effective setting, in the order of the schema (`order` holds its paths)."""
    rank = {path: number for number, path in enumerate(order)}

    def place(path: Keys) -> tuple[int, Keys]:
        known = [path[:n] for n in range(len(path), 0, -1) if path[:n] in rank]
        return (rank[known[0]] if known else len(rank), path)

    return tuple(_origin(values, path) for path in sorted(values.entries, key=place))


def _origin(values: Values, path: Keys) -> Origin:
    entry = values.entries[path]
    node: Leaf = entry.node
    value = entry.value if node.secret else entry.raw
    where = DEFAULT if values.is_default(path) else entry.where
    return Origin(spell(path), shown(value, secret=node.secret, longest=160), where)
