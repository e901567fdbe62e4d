"""Decision: the effective values as the frozen settings of `monitoring.config.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timezone
from pathlib import Path
from typing import Any, Callable, TypeVar
from zoneinfo import ZoneInfo

from monitoring.catalog import THRESHOLDS
from monitoring.components import CACHE, COMPONENTS, EAPI, ROTATION, SAPI, VAULT
from monitoring.config.kinds import epoch
from monitoring.config.layers import Values
from monitoring.config.nodes import Free, Leaf, Path as Keys, Table
from monitoring.config.problems import Problem, shown, spell
from monitoring.config.schema_alerts import ALERT_MANAGER, SECTIONS
from monitoring.config.settings import (
    SEVERITIES,
    AlertSettings,
    CanarySettings,
    ComponentSettings,
    ConjurSettings,
    CredentialSettings,
    HistorySettings,
    Limit,
    Maintenance,
    NotificationSettings,
    Origin,
    RedisSettings,
    Route,
    RunSettings,
    ServiceMetricsSettings,
    ServiceSettings,
    Settings,
    Silence,
    SlaSettings,
    TlsSettings,
    TokenSettings,
)

# -- the settings of alerting: which channels are on, which are off and why.

T = TypeVar("T")
_SILENCE_NEEDS = {
    "match": "without it the silence would cover everything",
    "owner": "say who answers for it",
    "reason": "say why",
    "until": "say when it ends",
}
_LOCAL = ("localhost", "127.0.0.1", "::1")


def alert_settings(values: Values) -> AlertSettings:
    """ALERTS as it is."""
    return _made(AlertSettings, values, "ALERTS")


def notifications(values: Values, problems: list[Problem]) -> NotificationSettings:
    """Channels, routes, silences and maintenance windows; what is wrong goes to `problems`."""
    sections = _sections(values)
    off = {name: why for name, why in ((n, _off(n, s)) for n, s in sections.items()) if why}
    on = {name: section for name, section in sections.items() if name not in off}
    return NotificationSettings(
        by_severity=_by_severity(values, on),
        channels=on,
        off=off,
        routes=tuple(_routes(values, on, problems)),
        silences=tuple(_silences(values, problems)),
        maintenance=tuple(_maintenance(values, problems)),
    )


def _sections(values: Values) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = values.table("CHANNEL_CONFIG")
    sections["alertmanager"] = values.table("ALERT_MANAGER")
    sections["log"] = {}
    sections["webhook"].setdefault("headers", {})
    email = sections["email"]
    if email["starttls"] == "auto":
        email["starttls"] = email["smtp_server"] not in _LOCAL
    for section in sections.values():
        if "ca_file" in section:
            section["ca_file"] = section["ca_file"] or values["MONITORING_CA_FILE"]
    return sections


def _off(name: str, section: Mapping[str, Any]) -> str:
    if name == "alertmanager" and not section["enabled"]:
        return "ALERT_MANAGER['enabled'] is False; ALERTMANAGER_URL enables it"
    shape = ALERT_MANAGER if name == "alertmanager" else SECTIONS[name]
    return "; ".join(
        f"{key} is empty: set {node.env or spell(('CHANNEL_CONFIG', name, key))}"
        for key, node in shape.keys.items()
        if isinstance(node, Leaf) and node.needed and not section[key]
    )


def _by_severity(values: Values, on: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for severity in SEVERITIES:
        wanted = values["NOTIFICATION_CHANNELS", severity]
        names = [name for name in wanted if name in on]
        if "alertmanager" in on and "alertmanager" not in names:
            names.append("alertmanager")  # it gets every alert: it does its own routing
        # somebody wanted to be told and no channel can: the log is better than silence
        found[severity] = tuple(names) if names or not wanted else ("log",)
    return found


def _routes(values: Values, on: Mapping[str, Any], problems: list[Problem]) -> list[Route]:
    found = []
    note = _noter(values, "NOTIFICATION_ROUTES", problems)
    for number, row in enumerate(values["NOTIFICATION_ROUTES"]):
        if not row.get("channels"):
            note((str(number), "channels"), "name at least one channel")
            continue
        names = tuple(n for n in row["channels"] if n in on)
        if names:  # else the next row or the severity's list has it: too many told, and not none
            found.append(Route(names, row.get("match", {}), tuple(row.get("severities", ()))))
    return found


def _noter(values: Values, name: str, problems: list[Problem]) -> Callable[..., None]:
    def note(path: tuple[str, ...], cure: str, value: str = "") -> None:
        problems.append(Problem(values.where(name), spell((name, *path)), value, cure))

    return note


def _silences(values: Values, problems: list[Problem]) -> list[Silence]:
    found = []
    note = _noter(values, "SILENCES", problems)
    for number, row in enumerate(values["SILENCES"]):
        missing = [key for key in _SILENCE_NEEDS if not row.get(key)]
        for key in missing:
            note((str(number), key), f"is missing: {_SILENCE_NEEDS[key]}")
        if not missing:
            until = epoch(row["until"], timezone.utc)
            found.append(Silence(row["match"], row["owner"], row["reason"], until or 0.0))
    return found


def _maintenance(values: Values, problems: list[Problem]) -> list[Maintenance]:
    found = []
    note = _noter(values, "MAINTENANCE_WINDOWS", problems)
    for number, row in enumerate(values["MAINTENANCE_WINDOWS"]):
        before = len(problems)
        zone = _zone(row.get("timezone", "UTC"))
        for key, cure in _window_faults(row, zone):
            value = repr(str(row[key])) if key in row else ""
            note((str(number), key), cure, value)
        if len(problems) == before:
            found.append(_window(row, zone, number))
    return found


def _window(row: Mapping[str, Any], zone: Any, number: int) -> Maintenance:
    return Maintenance(
        name=row.get("name", f"window {number + 1}"),
        cron=row.get("cron", ""),
        duration=row.get("duration", 0.0),
        start=epoch(row.get("start"), zone),
        end=epoch(row.get("end"), zone),
        zone=row.get("timezone", "UTC"),
        components=tuple(row.get("components", ())),
    )


def _window_faults(row: Mapping[str, Any], zone: Any) -> list[tuple[str, str]]:
    if zone is None:
        return [("timezone", "no such time zone; write an IANA name such as Europe/Berlin")]
    if row.get("cron"):
        return _cron_faults(row)
    start, end = epoch(row.get("start"), zone), epoch(row.get("end"), zone)
    if start is None or end is None:
        return [
            (
                "cron" if start is None and end is None else "end" if start else "start",
                "is missing: write cron and duration, or start and end",
            )
        ]
    return [] if start < end else [("end", "must be later than start")]


def _cron_faults(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    from croniter import croniter  # heavy, and most configurations have no window

    faults = []
    if not croniter.is_valid(row["cron"]):
        faults.append(("cron", "write a cron expression such as '0 2 * * sun'"))
    if not row.get("duration"):
        faults.append(("duration", "is missing: say how long the window lasts, such as 2h"))
    if row.get("start") or row.get("end"):
        faults.append(("start", "write cron and duration, or start and end, not both"))
    return faults


def _zone(name: str) -> Any:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; '../x'; a folder such as 'Europe'
        return None


# -- the effective values as the frozen settings of `config.settings`.


def build(values: Values, state_dir: Path, problems: list[Problem]) -> Settings:
    """Settings from checked values; what the alerting rows get wrong goes to `problems`."""
    return Settings(
        environment=values["MONITORING_ENV"],
        eapi=_service(values, EAPI, "EAPI_ENDPOINT"),
        sapi=_service(values, SAPI, "SAPI_ENDPOINT"),
        rotation_url=values["ROTATION_ENDPOINT"],
        rotation_tls=_tls(values, ROTATION),
        auth_token=values["MONITORING_AUTH_TOKEN"],
        components=_components(values),
        status_words=values.table("STATUS_WORDS"),
        redis=_redis(values),
        conjur=_made(ConjurSettings, values, tls=_tls(values, VAULT, "CONJUR_CERT_FILE")),
        canary=_made(CanarySettings, values, "CANARY"),
        thresholds=_thresholds(values),
        sla=_sla(values),
        tokens=_made(TokenSettings, values, "TOKENS"),
        credentials=_made(CredentialSettings, values, "CREDENTIALS"),
        service_metrics=_made(ServiceMetricsSettings, values, "SERVICE_METRICS"),
        alerts=alert_settings(values),
        notifications=notifications(values, problems),
        history=_made(HistorySettings, values, "HISTORY"),
        run=_made(RunSettings, values, "RUN"),
        state_dir=state_dir,
    )


def _made(cls: Callable[..., T], values: Values, table: str = "", **more: Any) -> T:
    """An object of `cls`: each field that is a setting from its place, the rest from `more`."""
    found = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if each.metadata:
            node, path = each.metadata.get("node"), each.metadata["at"] or (table, each.name)
            many = isinstance(node, (Free, Table))
            found[each.name] = values.table(*path) if many else values[path]
    return cls(**{**found, **more})


def _components(values: Values) -> tuple[ComponentSettings, ...]:
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
    nodes = values["REDIS_CLUSTER"]
    return _made(
        RedisSettings,
        values,
        tls=_tls(values, CACHE, "REDIS_CA_FILE"),
        cluster=bool(nodes),
        seeds=() if isinstance(nodes, bool) else nodes,
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


#: Where a value comes from that is as it would be had nobody set it.
DEFAULT = "default"


def origins(values: Values, order: list[Keys]) -> tuple[Origin, ...]:
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
    if values.of_environment.get(path) is entry and where != DEFAULT:
        where = f"{where}, for MONITORING_ENV={values['MONITORING_ENV']}"
    return Origin(spell(path), shown(value, secret=node.secret, longest=160), where)
