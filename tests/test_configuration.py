"""The layers of the configuration: what is shipped, what wins, what is told of it."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from monitoring.catalog import THRESHOLDS
from monitoring.config import load as configuration
from monitoring.config.nodes import leaves
from monitoring.config.schema import SETTINGS
from monitoring.config.secret import Secret
from monitoring.config.settings import COUNTERS, Limit
from monitoring.services.counters import CANONICAL
from tests.configuring import DATA, ROOT, load, origin, scripts_in, shown


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scripts_in(tmp_path)


def test_config_is_its_template() -> None:
    assert (ROOT / "config.py").read_bytes() == (ROOT / "config.example.py").read_bytes()


def test_the_template_alone_is_a_configuration(root: Path) -> None:
    settings = load(root)
    assert settings.environment == "test"
    assert settings.warnings == ()
    urls = (settings.eapi.url, settings.sapi.url, settings.conjur.url)
    assert urls == ("http://localhost:8080", "http://localhost:8081", "https://localhost:8443")
    assert (settings.redis.host, settings.redis.port) == ("localhost", 6379)
    assert settings.state_dir == root / ".local/state/payment-api-monitoring"


def test_the_figures_of_the_brief_are_the_defaults(root: Path) -> None:
    limits = load(root).thresholds
    assert limits["security.authentication_failures"] == Limit(5, 10)
    assert limits["security.token_validation_failures"] == Limit(5, 10)
    assert limits["performance.api_response_time"] == Limit(300, 500)


def test_every_threshold_and_every_setting_stands_in_the_template(root: Path) -> None:
    settings = load(root)
    assert set(settings.thresholds) == set(THRESHOLDS)
    named = {o.name for o in settings.origins}
    for name, threshold in THRESHOLDS.items():
        assert f"ALERT_THRESHOLDS['{threshold.category}']['{threshold.key}']['warning']" in named, (
            name
        )
    text = (root / "config.example.py").read_text()
    for path, _ in leaves(SETTINGS):
        assert f'"{path[-1]}"' in text or f"\n{path[-1]} = " in text, path


def test_every_field_of_settings_can_be_configured(root: Path) -> None:
    """A value other than the default reaches every field, so none is out of reach."""
    plain, changed = load(root), load(root, extra=json.dumps(_EVERYTHING))
    # a cluster has no Sentinels: see test_variables
    fixed = {"eapi.name", "sapi.name", "redis.cluster", "redis.seeds"}
    same = [n for n in _fields(plain) if _fields(plain)[n] == _fields(changed)[n]]
    assert set(same) - fixed == set()


def _fields(value: Any, name: str = "") -> dict[str, Any]:
    if not dataclasses.is_dataclass(value) or isinstance(value, Secret):
        return {name: value}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        found.update(_fields(getattr(value, field.name), f"{name}.{field.name}".lstrip(".")))
    return found


_EVERYTHING: dict[str, Any] = {
    "MONITORING_ENV": "staging",
    "EAPI_ENDPOINT": "https://e.internal/ctx/",
    "SAPI_ENDPOINT": "https://s.internal",
    "ROTATION_ENDPOINT": "https://r.internal",
    "MONITORING_AUTH_TOKEN": "t-1",
    "SERVICE_PATHS": {
        "payment-eapi": {"health": "actuator/health"},
        "payment-sapi": {"health": ""},
    },
    "STATUS_WORDS": {"FATAL": "critical"},
    "COMPONENTS": {"ledger-database": {"kind": "tcp", "host": "ledger", "port": 5432}},
    "METRICS_URLS": {
        "payment-eapi": ["http://e1/m"],
        "payment-sapi": ["http://s1/m"],
    },
    "TIMEOUTS": {
        "payment-eapi": 1,
        "payment-sapi": 1,
        "conjur-vault": 1,
        "redis-cache": 1,
        "redis-scan": 1,
    },
    "TLS_VERIFY": dict.fromkeys(
        ("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache", "rotation-service"), False
    ),
    "MONITORING_CA_FILE": str(DATA / "ca.pem"),
    "REDIS_HOST": "r",
    "REDIS_PORT": 1,
    "REDIS_USERNAME": "u",
    "REDIS_PASSWORD": "p",
    "REDIS_DB": 1,
    "REDIS_SSL": True,
    "REDIS_SENTINELS": "a:1,b",
    "REDIS_MASTER": "m",
    "REDIS_PREFER_REPLICAS": True,
    "CONJUR_URL": "https://c.internal",
    "CONJUR_ACCOUNT": "acc",
    "CONJUR_AUTHN_LOGIN": "host/m",
    "CONJUR_AUTHN_API_KEY": "k",
    "CONJUR_JWT_FILE": str(Path(__file__)),
    "CONJUR_JWT_SERVICE_ID": "id",
    "CONJUR_VARIABLE_TEMPLATE": "x/{client_id}",
    "MONITORING_CLIENT_ID": "canary",
    "MONITORING_CLIENT_SECRET": "s-1",
    "CANARY": {
        "audience": "a",
        "permission": "p",
        "max_lifetime": 5,
        "max_clock_skew": 5,
        "proof_interval": "2h",
    },
    "ALERT_THRESHOLDS": {"performance": {"api_response_time": None}},
    "SLA_MINIMUM_WATCHED": 75,
    "SLA_TARGETS": {"payment-eapi": 99.5, "overall": 99, "authentication_success": 99},
    "TOKENS": {
        "profile": "eapi",
        "patterns": ["x:*"],
        "max_keys": 5,
        "time_budget": "1m",
        "max_lifetime": "2h",
        "algorithms": ["ES256"],
        "issuer": "i",
        "audience": "a",
        "permissions": ["p"],
        "rate_window": "5m",
        "top_clients": 5,
        "clock_skew": 1,
        "ttl_tolerance": 1,
        "accepted_findings": ["jwt_in_key"],
        "follow": True,
        "exclude": ["token:blacklist:*"],
        "client_claims": ["tenant.client"],
        "permission_claims": ["grants"],
    },
    "CREDENTIALS": {
        "rotation_days": 30,
        "due_soon_days": 5,
        "per_client_days": {"c": 7},
        "rotated_at": {"c": "2026-03-01"},
        "excluded": ["c"],
        "transition": "2h",
        "failure_window": "2h",
        "top_clients": 5,
        "false_alerts_per_client_month": 2,
        "per_client_sensitivity": {"c": 3},
    },
    "SERVICE_METRICS": {
        "names": {"token_generation": ["n"]},
        "client_labels": ["c"],
        "outcome_labels": ["o"],
        "success_words": ["s"],
        "failure_words": ["f"],
        "validation_reasons": ["v"],
    },
    "ALERTS": {
        "failure_threshold": 3,
        "recovery_threshold": 3,
        "window": [2, 3],
        "reminder_interval": {"warning": "never"},
        "give_up_after": "1h",
        "send_budget": 5,
        "group_above": 3,
        "flap_changes": 3,
        "flap_window": "2h",
        "runbooks": "https://w/",
        "dashboards": "https://g/d/",
    },
    "NOTIFICATION_CHANNELS": {"critical": ["slack"]},
    "CHANNEL_CONFIG": {"slack": {"webhook_url": "https://hooks.internal/x"}},
    "NOTIFICATION_ROUTES": [{"channels": "log", "match": {"category": "security"}}],
    "SILENCES": [
        {"match": {"client": "c"}, "owner": "o", "reason": "r", "until": "2026-12-24T12:00:00Z"}
    ],
    "MAINTENANCE_WINDOWS": [{"cron": "0 2 * * sun", "duration": "2h"}],
    "MONITORING_INTERVALS": {"health_check": 5},
    "MONITORING_STATE_DIR": "/elsewhere",
    "PROMETHEUS_URL": "http://p",
    "HISTORY": {
        "raw_for": "24h",
        "fine_for": "7d",
        "retention": "30d",
        "max_series": 10,
        "prometheus_headers": {"X": "y"},
        "prometheus_params": {"dedup": "true"},
    },
    "RUN": {
        "cron_interval": 60,
        "cycle_deadline": 3,
        "lock_wait": 1,
        "user_agent": "us",
    },
    "HEARTBEAT_URL": "https://hc.internal/uuid",
}


def test_everything_can_come_in_python_too(root: Path) -> None:
    text = "\n".join(f"{name} = {value!r}" for name, value in _EVERYTHING.items())
    from_yaml = load(root, extra=json.dumps(_EVERYTHING))
    (root / "mine.py").write_text(text)
    from_python = configuration.load(
        script="health_check",
        root=root,
        config_file="../scripts/mine.py",
        environ={"HOME": str(root)},
        cwd=root,
    )
    assert dataclasses.replace(from_python, origins=()) == dataclasses.replace(
        from_yaml, origins=()
    )


def test_each_layer_wins_over_the_one_before_it(root: Path) -> None:
    own, extra = "REDIS_HOST = 'own'\nREDIS_PORT = 2", "REDIS_HOST: extra\nREDIS_MASTER: extra"
    settings = load(root, own, extra, env={"REDIS_HOST": "env"})
    redis = settings.redis
    assert (redis.host, redis.port, redis.master, redis.db) == ("env", 2, "extra", 0)
    assert origin(settings, "REDIS_HOST") == "environment REDIS_HOST"
    assert origin(settings, "REDIS_PORT") == "config.py"
    assert origin(settings, "REDIS_MASTER") == str(root.parent / "extra.yaml")
    assert origin(settings, "REDIS_DB") == "default"


def test_env_file_is_an_environment_and_config_py_sees_it(root: Path) -> None:
    (root / ".env").write_text("REDIS_HOST=dotenv\nTEAM=blue\nREDIS_PORT=7\n")
    own = "import os\nREDIS_MASTER = os.environ.get('TEAM', 'none')\nREDIS_HOST = 'own'"
    before = dict(os.environ)
    settings = load(root, own, env={"REDIS_PORT": "8"})
    redis = settings.redis
    assert (redis.master, redis.host, redis.port) == ("blue", "dotenv", 8)
    assert origin(settings, "REDIS_HOST") == f"{root / '.env'} REDIS_HOST"
    assert dict(os.environ) == before


def test_monitoring_config_names_the_file_unless_the_flag_does(root: Path) -> None:
    other = root / "other.yaml"
    other.write_text("REDIS_HOST: other")
    env = {"MONITORING_CONFIG": str(other)}
    assert load(root, env=env).redis.host == "other"
    assert load(root, extra="REDIS_HOST: flag", env=env).redis.host == "flag"


def test_a_short_old_config_falls_back_key_by_key(root: Path) -> None:
    own = "ALERT_THRESHOLDS = {'performance': {'api_response_time': {'critical': 900}}}"
    limits = load(root, own).thresholds
    assert limits["performance.api_response_time"] == Limit(300, 900)
    assert limits["performance.vault_response_time"] == Limit(100, 250)


@pytest.mark.parametrize("left_out", ["", "import os\n"])
def test_the_snippets_of_the_brief_work_as_they_are(root: Path, left_out: str) -> None:
    """Pasted one below the other too: they use `os` and do not import it."""
    env = {
        "SLACK_WEBHOOK_URL": "https://hooks.internal/T/B",
        "PAGERDUTY_SERVICE_KEY": "k" * 32,
        "EMAIL_RECIPIENTS": "a@example.com, b@example.com",
    }
    own = (DATA / "config_of_the_brief.py").read_text(encoding="utf-8")
    assert left_out in own
    own = own.replace(left_out, "")
    notify = load(root, own, env=env).notifications
    assert notify.by_severity["critical"] == ("pagerduty", "slack", "email", "alertmanager")
    assert notify.channels["email"]["recipients"] == ("a@example.com", "b@example.com")
    assert notify.channels["email"]["smtp_server"] == "smtp.example.com"
    assert notify.channels["slack"]["webhook_url"].reveal() == env["SLACK_WEBHOOK_URL"]
    assert notify.channels["alertmanager"]["url"] == ("http://alertmanager:9093/api/v1/alerts",)


DEV = "performance.api_response_time"
_DEV_OVERRIDE = (
    "ENVIRONMENTS = {'dev': {'ALERT_THRESHOLDS': {'performance': "
    "{'api_response_time': {'warning': 7}}}}}"
)


@pytest.mark.parametrize(
    ("own", "extra", "limit"),
    [
        ("", "", Limit(500, 1000)),
        ("<a copy of the template>", "", Limit(500, 1000)),
        ("ALERT_THRESHOLDS = {'performance': {'api_response_time': {'warning': 200}}}", "", 200),
        ("", "{ALERT_THRESHOLDS: {performance: {api_response_time: {warning: 300}}}}", 300),
        (_DEV_OVERRIDE, "", 7),
        (_DEV_OVERRIDE.replace("'dev'", "'prod'"), "", 500),
    ],
)
def test_an_environment_relaxes_what_nobody_set(
    root: Path, own: str, extra: str, limit: Any
) -> None:
    if own.startswith("<"):
        own = (root / "config.example.py").read_text()
    found = load(root, own, extra, env={"MONITORING_ENV": "dev"}).thresholds[DEV]
    assert limit in (found, found.warning)


def test_an_edited_copy_wins_over_the_overrides_it_still_holds(root: Path) -> None:
    text = (root / "config.example.py").read_text()
    old = '"api_response_time": {"warning": 300, "critical": 500}'
    assert old in text
    own = text.replace(old, '"api_response_time": {"warning": 200, "critical": 400}')
    assert load(root, own, env={"MONITORING_ENV": "dev"}).thresholds[DEV] == Limit(200, 400)


@pytest.mark.parametrize(
    ("name", "raw", "read", "value"),
    [
        ("EMAIL_RECIPIENTS", "", lambda s: s.notifications.off["email"][:10], "recipients"),
        ("REDIS_PORT", "", lambda s: s.redis.port, 6379),
        ("REDIS_HOST", "", lambda s: s.redis.host, ""),
        ("REDIS_PASSWORD", "", lambda s: bool(s.redis.password), False),
        ("EAPI_ENDPOINT", "", lambda s: s.eapi.url, ""),
        ("EAPI_ENDPOINT", "http://h:1/ctx/", lambda s: s.eapi.url, "http://h:1/ctx"),
        ("REDIS_SSL", "yes", lambda s: s.redis.ssl, True),
        ("REDIS_SSL", "0", lambda s: s.redis.ssl, False),
        ("REDIS_DB", "3", lambda s: s.redis.db, 3),
        (
            "REDIS_SENTINELS",
            "a:1, [::1]:2,b",
            lambda s: s.redis.sentinels,
            (("a", 1), ("::1", 2), ("b", 26379)),
        ),
        ("REDIS_CLUSTER", "true", lambda s: (s.redis.cluster, s.redis.seeds), (True, ())),
        ("REDIS_CLUSTER", "0", lambda s: (s.redis.cluster, s.redis.seeds), (False, ())),
        (
            "REDIS_CLUSTER",
            "node-1:7000,[::1]:7001",
            lambda s: (s.redis.cluster, s.redis.seeds),
            (True, (("node-1", 7000), ("::1", 7001))),
        ),
        ("MONITORING_ENV", "PROD", lambda s: s.environment, "prod"),
        ("SMTP_FROM", "m@h", lambda s: shown(s, "CHANNEL_CONFIG['email']['sender']"), "'m@h'"),
        ("SMTP_SERVER", "", lambda s: "smtp_server" in s.notifications.off["email"], True),
        (
            "ALERTMANAGER_URL",
            "http://a:9093, http://b:9093/am/",
            lambda s: s.notifications.channels["alertmanager"]["url"],
            ("http://a:9093", "http://b:9093/am"),
        ),
        ("ALERTMANAGER_URL", "", lambda s: "alertmanager" in s.notifications.off, True),
        ("HEARTBEAT_URL", "https://hc/x", lambda s: s.run.heartbeat_url.reveal(), "https://hc/x"),
        ("PROMETHEUS_URL", "http://p:9090/", lambda s: s.history.prometheus_url, "http://p:9090"),
        ("MONITORING_STATE_DIR", "rel", lambda s: s.state_dir.is_absolute(), True),
    ],
)
def test_variables(root: Path, name: str, raw: str, read: Any, value: Any) -> None:  # noqa: PLR0917
    assert read(load(root, env={name: raw})) == value


def test_an_empty_variable_switches_off_what_config_py_sets(root: Path) -> None:
    own = "CHANNEL_CONFIG = {'email': {'recipients': ['a@example.com']}}"
    assert "email" in load(root, own).notifications.channels
    assert "email" in load(root, own, env={"EMAIL_RECIPIENTS": ""}).notifications.off


def test_the_reference_names_every_setting_once() -> None:
    rows = configuration.reference()
    names = [row.name for row in rows]
    assert len(names) == len(set(names)) == len(list(leaves(SETTINGS)))
    by_name = {row.name: row for row in rows}
    assert by_name["REDIS_PORT"].default == "6379"
    assert by_name["CHANNEL_CONFIG['slack']['webhook_url']"].env == "SLACK_WEBHOOK_URL"
    assert all(row.meaning for row in rows)


def test_the_counters_that_may_be_renamed_are_those_that_are_read() -> None:
    assert COUNTERS == CANONICAL


def test_loading_is_quiet(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(root, (root / "config.example.py").read_text())
    assert capfd.readouterr() == ("", "")


def test_a_class_has_the_defaults_of_the_template(root: Path) -> None:
    """Who makes one without a configuration (a test, a benchmark) has what a user has."""
    made = load(root)
    parts = [made.redis, made.conjur, made.canary, made.tokens, made.credentials]
    parts += [made.service_metrics, made.alerts, made.history, made.run]
    ours = {type(part).__name__: part for part in parts}
    for name, part in ours.items():
        for field in dataclasses.fields(part):
            if field.default is not dataclasses.MISSING:
                assert getattr(part, field.name) == field.default, (name, field.name)
