"""Decision: the settings of alerting: which channels are on, which are off and why."""

from __future__ import annotations

from datetime import timezone
from typing import Any, Callable, Dict, List, Mapping
from zoneinfo import ZoneInfo

from monitoring.config.layers import Values
from monitoring.config.moments import epoch
from monitoring.config.nodes import Leaf
from monitoring.config.problems import Problem, spell
from monitoring.config.schema_alerts import ALERT_MANAGER, SECTIONS, SEVERITIES
from monitoring.settings import AlertSettings, Maintenance, NotificationSettings, Route, Silence

_SILENCE_NEEDS = {
    "match": "without it the silence would cover everything",
    "owner": "say who answers for it",
    "reason": "say why",
    "until": "say when it ends",
}
_LOCAL = ("localhost", "127.0.0.1", "::1")


def alert_settings(values: Values) -> AlertSettings:
    """ALERTS as it is."""
    return AlertSettings(**values.table("ALERTS"))


def notifications(values: Values, problems: List[Problem]) -> NotificationSettings:
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


def _sections(values: Values) -> Dict[str, Dict[str, Any]]:
    sections: Dict[str, Dict[str, Any]] = values.table("CHANNEL_CONFIG")
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


def _by_severity(values: Values, on: Mapping[str, Any]) -> Dict[str, tuple[str, ...]]:
    found = {}
    for severity in SEVERITIES:
        wanted = values["NOTIFICATION_CHANNELS", severity]
        names = [name for name in wanted if name in on]
        if "alertmanager" in on and "alertmanager" not in names:
            names.append("alertmanager")  # it gets every alert: it does its own routing
        # somebody wanted to be told and no channel can: the log is better than silence
        found[severity] = tuple(names) if names or not wanted else ("log",)
    return found


def _routes(values: Values, on: Mapping[str, Any], problems: List[Problem]) -> List[Route]:
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


def _noter(values: Values, name: str, problems: List[Problem]) -> Callable[..., None]:
    def note(path: tuple[str, ...], cure: str, value: str = "") -> None:
        problems.append(Problem(values.where(name), spell((name, *path)), value, cure))

    return note


def _silences(values: Values, problems: List[Problem]) -> List[Silence]:
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


def _maintenance(values: Values, problems: List[Problem]) -> List[Maintenance]:
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


def _window_faults(row: Mapping[str, Any], zone: Any) -> List[tuple[str, str]]:
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


def _cron_faults(row: Mapping[str, Any]) -> List[tuple[str, str]]:
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
