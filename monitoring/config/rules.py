"""Decision: what settings must be to each other: the order of levels, what prod demands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timezone
from typing import Any, Optional
from urllib.parse import urlsplit

from monitoring.catalog import THRESHOLDS, Threshold
from monitoring.config.kinds import epoch
from monitoring.config.layers import Entry, Values
from monitoring.config.problems import Environment, Problem, is_example, spell
from monitoring.config.secret import Secret
from monitoring.config.settings import Settings
from monitoring.text import is_word, say

_YEAR_2000 = 946_684_800.0
_LOCAL = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0")
_ENDPOINTS = ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "ROTATION_ENDPOINT", "CONJUR_URL")
_TEMPLATE = "config.example.py"
_WATCHED = ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL")

#: The variable that names a file to execute.
NAMES_A_FILE = "MONITORING_CONFIG"
#: Where each secret is sent: the first part of its path in the settings -> the variables that move
#: its target, or say how the target proves who it is.
SENT_TO: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("MONITORING_AUTH_TOKEN",): ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "ROTATION_ENDPOINT"),
    # SAPI is shown the token that the canary's secret bought.
    ("MONITORING_CLIENT_SECRET",): ("EAPI_ENDPOINT", "SAPI_ENDPOINT"),
    ("REDIS_PASSWORD",): (
        *("REDIS_HOST", "REDIS_PORT", "REDIS_SSL", "REDIS_CA_FILE", "REDIS_SENTINELS"),
        *("REDIS_MASTER", "REDIS_CLUSTER"),
    ),
    ("CONJUR_AUTHN_API_KEY",): ("CONJUR_URL", "CONJUR_CERT_FILE"),
    ("CONJUR_JWT_FILE",): ("CONJUR_URL", "CONJUR_CERT_FILE"),
    ("CHANNEL_CONFIG", "email", "password"): ("SMTP_SERVER", "SMTP_PORT"),
    ("ALERT_MANAGER",): ("ALERTMANAGER_URL",),
    ("HISTORY", "prometheus_headers"): ("PROMETHEUS_URL",),
}
#: A path that is no Secret, and leads to one.
_PLAIN_PATHS = (("CONJUR_JWT_FILE",),)
_TRUST_ANCHOR = "MONITORING_CA_FILE"
#: Variables of a working directory's `.env` that a configuration file does not see either.
TARGETS = frozenset({name for names in SENT_TO.values() for name in names} | {_TRUST_ANCHOR})


def problems(values: Values, now: float) -> Iterator[Problem]:
    """Everything about the effective values that contradicts itself, the time (`now` is epoch
    seconds) or its environment."""
    for threshold in THRESHOLDS.values():
        yield from _order(values, threshold)
    yield from _pairs(values)
    yield from _dates(values, now)
    if values["MONITORING_ENV"] == "prod":
        yield from _prod(values)


def _problem(values: Values, path: tuple[str, ...], cure: str) -> Problem:
    return values.entries[path].problem(path, cure)


def _order(values: Values, threshold: Threshold) -> Iterator[Problem]:
    path = ("ALERT_THRESHOLDS", threshold.category, threshold.key)
    levels = values.table(*path)
    warning, critical = levels.get("warning"), levels.get("critical")
    if warning is None or critical is None or warning == critical:
        return
    if (critical < warning) == (threshold.worse == "lower"):
        return
    # the level to put right is the one somebody wrote, not the one left as it came
    level, other, limit = "critical", "warning", warning
    if values.where(*path, "critical") == _TEMPLATE:
        level, other, limit = "warning", "critical", critical
    side = "above" if (threshold.worse == "higher") == (level == "critical") else "below"
    cure = f"{threshold.worse} is worse here, so {level} lies {side} {other} ({limit:g})"
    yield _problem(values, (*path, level), cure)


def _pairs(values: Values) -> Iterator[Problem]:
    if bool(values["MONITORING_CLIENT_ID"]) != bool(values["MONITORING_CLIENT_SECRET"]):
        missing = ("MONITORING_CLIENT_SECRET", "MONITORING_CLIENT_ID")
        name = missing[0] if values["MONITORING_CLIENT_ID"] else missing[1]
        yield _problem(values, (name,), "the canary needs both its id and its secret")
    if values["CONJUR_JWT_FILE"] and not values["CONJUR_JWT_SERVICE_ID"]:
        cure = "CONJUR_JWT_FILE needs the service id of authn-jwt"
        yield _problem(values, ("CONJUR_JWT_SERVICE_ID",), cure)
    if values["CONJUR_AUTHN_API_KEY"] and not values["CONJUR_AUTHN_LOGIN"]:
        cure = "CONJUR_AUTHN_API_KEY needs the login it belongs to, such as host/monitoring"
        yield _problem(values, ("CONJUR_AUTHN_LOGIN",), cure)
    if values["CONJUR_AUTHN_LOGIN"] and not (
        values["CONJUR_AUTHN_API_KEY"] or values["CONJUR_JWT_FILE"]
    ):
        cure = "CONJUR_AUTHN_LOGIN needs its key, or CONJUR_JWT_FILE to log in with"
        yield _problem(values, ("CONJUR_AUTHN_API_KEY",), cure)
    if values["REDIS_CLUSTER"] and values["REDIS_SENTINELS"]:
        yield _problem(values, ("REDIS_SENTINELS",), "use REDIS_CLUSTER or Sentinels, not both")
    if values["REDIS_CLUSTER"] is True and not values["REDIS_HOST"]:
        yield _problem(values, ("REDIS_HOST",), "REDIS_CLUSTER = True needs a node to ask")
    if values["REDIS_CLUSTER"] and values["REDIS_DB"]:
        yield _problem(values, ("REDIS_DB",), "a Redis Cluster has database 0 alone")
    yield from _ladders(values)


def _ladders(values: Values) -> Iterator[Problem]:
    kept = [("HISTORY", key) for key in ("raw_for", "fine_for", "retention")]
    for shorter, longer in zip(kept, kept[1:]):
        if values[shorter] > values[longer]:
            cure = f"must not be shorter than {shorter[1]} ({say(values[shorter])})"
            yield _problem(values, longer, cure)
    days = values.table("CREDENTIALS")
    if days["due_soon_days"] >= days["rotation_days"]:
        cure = f"must be less than rotation_days ({days['rotation_days']:g})"
        yield _problem(values, ("CREDENTIALS", "due_soon_days"), cure)
    manager = values.table("ALERT_MANAGER")
    if manager["password"] and manager["bearer_token"]:
        cure = "give a password or a bearer token, not both"
        yield _problem(values, ("ALERT_MANAGER", "bearer_token"), cure)


def _dates(values: Values, now: float) -> Iterator[Problem]:
    """A secret was not rotated in the future, nor before there was any."""
    for client, when in values.table("CREDENTIALS", "rotated_at").items():
        at = epoch(when, timezone.utc)
        if at is not None and not _YEAR_2000 <= at <= now:
            where = "in the future" if at > now else "before 2000"
            cure = f"lies {where}; write the day of its last rotation, such as 2026-03-01"
            yield _problem(values, ("CREDENTIALS", "rotated_at", client), cure)


def _prod(values: Values) -> Iterator[Problem]:
    for path, entry in values.entries.items():
        if path[0] == "TLS_VERIFY" and not entry.value:
            yield _problem(values, path, "prod demands that certificates are verified")
        secret = entry.value if isinstance(entry.value, Secret) else None
        if secret is not None and is_example(secret.value):
            yield _problem(values, path, "is an example; prod refuses to run with it")


def warnings(settings: Settings, values: Values, script: str) -> list[str]:
    """Sentences for the log: allowed, and worth knowing."""
    found = [*_unwatched(values), *_insecure(settings, values), *_late(settings, script)]
    found += _addresses(values)
    v1 = [u for u in values["ALERT_MANAGER", "url"] if "/api/v1" in u]
    if v1 and values["ALERT_MANAGER", "enabled"]:
        found.append("ALERT_MANAGER['url'] names the v1 API, which is gone; v2 is used instead")
    if settings.environment in ("staging", "prod"):
        found += _unready(settings, values)
    return found


def _addresses(values: Values) -> Iterator[str]:
    """What was pasted into the wrong place, as far as it can be seen."""
    key = values["CHANNEL_CONFIG", "pagerduty", "service_key"].value
    if key and not re.fullmatch(r"\w{32}", key, re.ASCII):
        yield (
            f"PAGERDUTY_SERVICE_KEY has {len(key)} characters; an integration key (Events API v2) "
            "has 32 letters and digits"
        )
    webhook = values["CHANNEL_CONFIG", "slack", "webhook_url"].value
    host = urlsplit(webhook).hostname or ""
    if webhook and not (host.endswith((".slack.com", ".slack-gov.com")) or _is_local(host)):
        yield f"SLACK_WEBHOOK_URL leads to {host or 'no host'}, and Slack's are at hooks.slack.com"


def _unwatched(values: Values) -> Iterator[str]:
    for name in _WATCHED:
        if not values[name]:
            yield f"{name} is empty: it is not watched"
    if not values["REDIS_HOST"] and not values["REDIS_SENTINELS"] and not values["REDIS_CLUSTER"]:
        yield "REDIS_HOST is empty: the cache is not watched, and no token is counted"


def _insecure(settings: Settings, values: Values) -> Iterator[str]:
    for target, verified in values.table("TLS_VERIFY").items():
        if not verified:
            yield f"TLS_VERIFY['{target}'] is off: anybody on the way can pose as it"
    if settings.environment != "prod":
        return
    for name in _ENDPOINTS:
        parts = urlsplit(values[name])
        if parts.scheme == "http" and not _is_local(parts.hostname):
            yield f"{name} is plain http: right inside a service mesh, wrong anywhere else"
    if not (settings.redis.ssl or _is_local(settings.redis.host)) and settings.redis.configured:
        yield "REDIS_SSL is off: passwords and tokens cross the network in clear"


def _is_local(host: Optional[str]) -> bool:
    return bool(host and _LOCAL.fullmatch(host))


def _unready(settings: Settings, values: Values) -> Iterator[str]:
    for name in (*_WATCHED, "REDIS_HOST"):
        # elsewhere than in the file that began as a copy of the template it was said on purpose
        template = values.where(name) in (_TEMPLATE, "config.py")
        host = values[name] if name == "REDIS_HOST" else urlsplit(values[name]).hostname
        if template and _is_local(host):
            yield f"{name} is not set: watching this machine"
    for path, entry in values.entries.items():
        if isinstance(entry.value, Secret) and entry.value.value and is_word(entry.value.value):
            yield f"{spell(path)} is a plain word or short: it cannot be masked in what is printed"
    if settings.notifications.by_severity.get("critical") == ("log",):
        yield "no channel for critical alerts is on: they go to the log alone"


def _late(settings: Settings, script: str) -> Iterator[str]:
    run = settings.run
    interval: Any = run.intervals.get(script)
    if interval is not None and run.cycle_deadline > interval:
        yield (
            f"RUN['cycle_deadline'] ({say(run.cycle_deadline)}) is longer than the interval of "
            f"{script} ({say(interval)}): cycles may start late"
        )


def lured(values: Values, visited: str) -> Mapping[str, str]:
    """The variables of the working directory's `.env` (`visited`) that would move a target to
    which secrets from elsewhere are sent: variable -> those secrets."""
    moved = {entry.variable for entry in values.entries.values() if entry.file == visited}
    found: dict[str, list[str]] = {}
    for path, entry in values.entries.items():
        drawn = moved & _targets_of(path) if _from_elsewhere(path, entry, visited) else ()
        for name in drawn:
            found.setdefault(name, []).append(entry.variable or spell(path))
    return {name: " and ".join(dict.fromkeys(secrets)) for name, secrets in found.items()}


def _targets_of(path: tuple[str, ...]) -> set[str]:
    """The variables that say where the secret at `path` is sent, and who is trusted there."""
    sent = [names for secret, names in SENT_TO.items() if path[: len(secret)] == secret]
    return {_TRUST_ANCHOR}.union(*sent)


def _from_elsewhere(path: tuple[str, ...], entry: Entry, visited: str) -> bool:
    """A secret that is set, and that the `.env` does not hold itself (a path is not the secret)."""
    if path in _PLAIN_PATHS:
        return bool(entry.value)
    if not isinstance(entry.value, Secret) or not entry.value:
        return False
    return entry.file != visited or bool(entry.value.path)


def no_config_from(found: Environment) -> list[str]:
    """The sentence for a `.env` of the working directory that names a file to execute."""
    if not found.visited or found.where.get(NAMES_A_FILE) != found.visited:
        return []
    why = "a .env of the working directory may not name a configuration; use --config"
    return [f"{found.visited}: {NAMES_A_FILE} is not obeyed: {why}"]


def refusals(lured_by: Mapping[str, str], visited: str) -> list[str]:
    """One sentence for each variable that was not obeyed."""
    return [
        f"{visited}: {name} is not taken from the working directory's .env, because "
        f"{secrets} from elsewhere would be sent there; set {name} in the environment, or in the "
        ".env beside the scripts"
        for name, secrets in sorted(lured_by.items())
    ]
