"""What prod refuses, what is warned of, how alerting is set up, and that secrets stay secret."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.channels import CHANNELS
from monitoring.components import CACHE
from monitoring.config import load as configuration, schema_alerts
from monitoring.config.load import ConfigurationError
from monitoring.config.settings import unconfigured
from tests.configuring import load, origin, problems, scripts_in, shown


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scripts_in(tmp_path)


def test_a_secret_in_a_file_is_read_again_at_each_use(root: Path) -> None:
    file = root / "password"
    file.write_text("one\n")
    settings = load(root, env={"REDIS_PASSWORD_FILE": str(file)})
    assert settings.redis.password.reveal() == "one"
    file.write_text("two\n")
    assert settings.redis.password.reveal() == "two"
    assert shown(settings, "REDIS_PASSWORD") == f"file {file}"
    assert origin(settings, "REDIS_PASSWORD") == "environment REDIS_PASSWORD_FILE"


def test_a_file_of_config_py_starts_at_its_folder(root: Path) -> None:
    (root / "hook").write_text("https://hooks.internal/x")
    own = "CHANNEL_CONFIG = {'slack': {'webhook_url': {'file': 'hook'}}}"
    slack = load(root, own).notifications.channels["slack"]
    assert slack["webhook_url"].reveal() == "https://hooks.internal/x"


CANARY = "Geh31m-Kanarienvogel"


def test_no_secret_is_ever_shown(root: Path) -> None:
    url = f"https://user:{CANARY}@host.internal/{CANARY}?token={CANARY}"
    bare = f"https://user:{CANARY}@host.internal/x"
    env = {
        **dict.fromkeys(("EAPI_ENDPOINT", "SAPI_ENDPOINT", "ROTATION_ENDPOINT"), bare),
        **dict.fromkeys(("CONJUR_URL", "PROMETHEUS_URL", "ALERTMANAGER_URL"), bare),
        **dict.fromkeys(("REDIS_PASSWORD", "MONITORING_AUTH_TOKEN", "SMTP_PASSWORD"), CANARY),
        **dict.fromkeys(("CONJUR_AUTHN_API_KEY", "PAGERDUTY_SERVICE_KEY"), CANARY),
        "SLACK_WEBHOOK_URL": url,
        "HEARTBEAT_URL": bare,
        "CONJUR_AUTHN_LOGIN": "host/m",
        "MONITORING_CLIENT_ID": "canary",
        "MONITORING_CLIENT_SECRET": CANARY,
        "EMAIL_RECIPIENTS": "a@example.com",
        "MONITORING_ENV": "prod",
    }
    extra = {
        "CHANNEL_CONFIG": {"webhook": {"url": url, "headers": {"Authorization": CANARY}}},
        "ALERT_MANAGER": {"bearer_token": CANARY},
        "HISTORY": {"prometheus_headers": {"Authorization": CANARY}},
        "METRICS_URLS": {"payment-eapi": [bare, f"{bare}?token={CANARY}"]},
    }
    settings = load(root, extra=json.dumps(extra), env=env)
    rows = configuration.describe(settings)
    assert {"slack", "pagerduty", "webhook", "alertmanager"} <= set(settings.notifications.channels)
    assert CANARY not in repr(rows)
    assert CANARY not in repr(settings.warnings)
    kept = dataclasses.replace(settings, eapi=None, sapi=None, conjur=None, history=None)
    assert CANARY not in repr(dataclasses.replace(kept, rotation_url="", notifications=None))
    assert shown(settings, "EAPI_ENDPOINT") == "'https://***@host.internal/x'"


@pytest.mark.parametrize(
    ("own", "env"),
    [
        ("", {"EAPI_ENDPOINT": f"https://user:{CANARY}@host:99999"}),
        ("", {"EAPI_ENDPOINT": f"user:{CANARY}@host"}),
        ("", {"EAPI_ENDPOINT": f"https://user:a/{CANARY}@host"}),
        ("", {"EAPI_ENDPOINT": f"https://user:a {CANARY}@host"}),
        ("", {"REDIS_HOST": f"redis://:{CANARY}@host:6379"}),
        ("", {"REDIS_HOST": f":{CANARY}@host"}),
        ("", {"REDIS_HOST": f"user:{CANARY}@host"}),
        ("", {"REDIS_SENTINELS": f"redis://:{CANARY}@host:6379"}),
        ("", {"PROMETHEUS_URL": f"http://p?token={CANARY}"}),
        ("", {"SLACK_WEBHOOK_URL": CANARY}),
        ("", {"ALERTMANAGER_URL": f"ftp://user:{CANARY}@h"}),
        ("", {"REDIS_PASSWORD": f"{CANARY}\nx"}),
        (f"REDIS_PASWORD = {CANARY!r}", {}),
        (f"CHANNEL_CONFIG = {{'slack': {{'webhook': {CANARY!r}}}}}", {}),
        (f"CHANNEL_CONFIG = {{'slak': {{'webhook_url': {CANARY!r}}}}}", {}),
        (f"CHANNEL_CONFIG = [{CANARY!r}]", {}),
        (f"REDIS_PASSWORD = [{CANARY!r}]", {}),
        (f"REDIS_PORT = int({CANARY!r})", {}),
        (f"REDIS_PASSWORD = '{CANARY}", {}),
        ("", {"REDIS_PASSWORD_FILE": CANARY}),
        (f"REDIS_PASSWORD = {{'file': {CANARY!r}}}", {}),
        ("", {"EAPI_ENDPOINT": f"https://host/#{CANARY}"}),
    ],
)
def test_no_problem_quotes_a_secret(root: Path, own: str, env: dict[str, str]) -> None:
    found = problems(root, own=own, env=env)
    assert CANARY not in repr(found)
    assert CANARY not in str(ConfigurationError(found))


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"p\xe4ssword", "is not UTF-8 text"),
        (b"one\ntwo\n", "holds more than one line"),
        (b" \n", "is an empty file"),
        (None, "cannot be read: No such file or directory; name the file, not the secret itself"),
    ],
)
def test_a_file_that_holds_no_secret(root: Path, content: Optional[bytes], cure: str) -> None:
    if content is not None:
        (root / "password").write_bytes(content)
    (problem,) = problems(root, env={"REDIS_PASSWORD_FILE": str(root / "password")})
    said = f"environment: REDIS_PASSWORD_FILE = file {root / 'password'}: {cure}"
    assert problem.sentence == said


def test_both_spellings_of_a_secret_are_one_too_many(root: Path) -> None:
    (root / "p").write_text("x")
    env = {"REDIS_PASSWORD": "a", "REDIS_PASSWORD_FILE": str(root / "p")}
    (problem,) = problems(root, env=env)
    assert problem.sentence == (
        "environment: REDIS_PASSWORD_FILE: is set and REDIS_PASSWORD too; keep one of them"
    )


PROD = {"MONITORING_ENV": "prod"}


@pytest.mark.parametrize(
    ("extra", "key", "cure"),
    [
        ("TLS_VERIFY: {conjur-vault: false}", "TLS_VERIFY['conjur-vault']", "verified"),
        ("REDIS_PASSWORD: changeme", "REDIS_PASSWORD", "is an example"),
        ("REDIS_PASSWORD: foobared", "REDIS_PASSWORD", "is an example"),
        ("MONITORING_AUTH_TOKEN: <token>", "MONITORING_AUTH_TOKEN", "is an example"),
        (
            "CHANNEL_CONFIG: {slack: {webhook_url: 'https://hooks.slack.com/services/T00000/B/X'}}",
            "CHANNEL_CONFIG['slack']['webhook_url']",
            "is an example",
        ),
        ("REDIS_PASSWORD: {file: SECRET}", "REDIS_PASSWORD", "holds an example"),
    ],
)
def test_prod_refuses(root: Path, extra: str, key: str, cure: str) -> None:
    (root / "secret").write_text("your-password-here\n")
    extra = extra.replace("SECRET", str(root / "secret"))
    assert load(root, extra=extra, env={"MONITORING_ENV": "staging"}).environment == "staging"
    (problem,) = problems(root, extra=extra, env=PROD)
    assert problem.key == key
    assert cure in problem.cure


def test_prod_takes_a_mesh_and_says_so(root: Path) -> None:
    env = {**PROD, "EAPI_ENDPOINT": "http://eapi.svc:8080", "SAPI_ENDPOINT": "http://localhost:1"}
    found = load(root, extra="REDIS_HOST: redis.svc", env=env).warnings
    assert [w.partition(" ")[0] for w in found] == [
        "EAPI_ENDPOINT", "REDIS_SSL", "CONJUR_URL", "no",
    ]  # fmt: skip


def test_tls_switched_off_is_a_warning_elsewhere(root: Path) -> None:
    (warning,) = load(root, extra="TLS_VERIFY: {redis-cache: false}").warnings
    assert warning.startswith("TLS_VERIFY['redis-cache'] is off")


@pytest.mark.parametrize("word", ["redis", "Message", "true", "1234567890"])
def test_a_secret_that_is_a_plain_word_cannot_be_masked(root: Path, word: str) -> None:
    env = {"MONITORING_ENV": "staging", "SMTP_PASSWORD": word, "REDIS_PASSWORD": "Pa55-in-r3dis"}
    plain = [w for w in load(root, env=env).warnings if "plain word" in w]
    said = "is a plain word or short: it cannot be masked in what is printed"
    assert plain == [f"CHANNEL_CONFIG['email']['password'] {said}"]


def test_other_warnings(root: Path) -> None:
    own = "MONITORING_INTERVALS = {'token_usage_metrics': '10s'}"
    (root / ".env").write_text("REDIS_PASSWROD=x\nMY_OWN=1\n")
    env = {"EAPI_ENDPOINT": "", "ALERTMANAGER_URL": "http://a/api/v1/alerts"}
    found = load(root, own, env=env, script="token_usage_metrics").warnings
    parts = ("did you mean REDIS_PASSWORD?", "EAPI_ENDPOINT is empty", "cycle_deadline", "v1 API")
    assert len(found) == len(parts)
    for part, warning in zip(parts, found):
        assert part in warning


def test_a_channel_without_address_is_off_and_says_why(root: Path) -> None:
    settings = load(root)
    assert set(settings.notifications.channels) == {"log"}
    assert settings.notifications.off["slack"] == "webhook_url is empty: set SLACK_WEBHOOK_URL"
    assert shown(settings, "channel slack").startswith("off: webhook_url is empty")
    assert settings.notifications.by_severity["critical"] == ("log",)


def test_alertmanager_gets_every_alert(root: Path) -> None:
    own = "NOTIFICATION_CHANNELS = {'info': []}"
    notify = load(root, own, env={"ALERTMANAGER_URL": "http://a:9093"}).notifications
    assert notify.by_severity == dict.fromkeys(("critical", "warning", "info"), ("alertmanager",))


def test_a_severity_nobody_wants_stays_quiet(root: Path) -> None:
    assert (
        load(root, "NOTIFICATION_CHANNELS = {'info': []}").notifications.by_severity["info"] == ()
    )


@pytest.mark.parametrize(
    ("server", "starttls", "wanted"),
    [
        ("localhost", "auto", False),
        ("smtp.internal", "auto", True),
        ("smtp.internal", False, False),
        ("localhost", True, True),
    ],
)
def test_mail_is_encrypted_unless_it_stays_here(
    root: Path, server: str, starttls: Any, wanted: bool
) -> None:
    email = {"recipients": "a@example.com", "smtp_server": server, "starttls": starttls}
    notify = load(root, extra=json.dumps({"CHANNEL_CONFIG": {"email": email}})).notifications
    assert notify.channels["email"]["starttls"] is wanted


def test_a_route_to_channels_that_are_off_falls_through(root: Path) -> None:
    """Somebody is told too much rather than nobody anything."""
    routes = (
        "NOTIFICATION_ROUTES = [{'match': {'category': 'security'}, 'channels': 'pagerduty'},\n"
        "                       {'match': {'category': 'security'}, 'channels': 'log'}]"
    )
    (route,) = load(root, routes).notifications.routes
    assert route.channels == ("log",)


def test_rows_become_values(root: Path) -> None:
    settings = load(
        root,
        "from datetime import datetime\n"
        "NOTIFICATION_ROUTES = [{'match': {'category': 'security'}, 'channels': 'slack,log'}]\n"
        "SILENCES = [{'match': {'client': 'c*'}, 'owner': 'o', 'reason': 'r',\n"
        "             'until': '2026-12-24 12:00+0100'}]\n"
        "MAINTENANCE_WINDOWS = [\n"
        "    {'name': 'n', 'cron': '0 2 * * sun', 'duration': '2h', 'timezone': 'Europe/Berlin',\n"
        "     'components': ['redis-cache']},\n"
        "    {'start': '2026-07-01 12:00', 'end': datetime(2026, 7, 1, 13), \n"
        "     'timezone': 'Europe/Berlin'}]",
    ).notifications
    (route,), (silence,) = settings.routes, settings.silences
    assert route.channels == ("log",)  # slack is off
    assert route.match == {"category": "security"}
    assert silence.until == 1798110000.0
    weekly, once = settings.maintenance
    assert (weekly.cron, weekly.duration, weekly.zone) == ("0 2 * * sun", 7200, "Europe/Berlin")
    assert weekly.components == ("redis-cache",)
    assert (once.name, once.start, once.end) == ("window 2", 1782900000.0, 1782903600.0)


def test_reminders_may_be_never(root: Path) -> None:
    reminders = load(root).alerts.reminder_interval
    assert reminders == {"critical": 14400, "warning": 14400, "info": math.inf}


def test_every_channel_has_its_section_and_every_section_its_channel() -> None:
    assert set(schema_alerts.CHANNELS) == set(CHANNELS)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PAGERDUTY_SERVICE_KEY": "a" * 31}, "has 31 characters"),
        ({"PAGERDUTY_SERVICE_KEY": "a" * 32}, ""),
        ({"PAGERDUTY_SERVICE_KEY": "a" * 33}, "has 33 characters"),
        ({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/x"}, ""),
        ({"SLACK_WEBHOOK_URL": "http://127.0.0.1:8080/slack"}, ""),
        ({"SLACK_WEBHOOK_URL": "https://hooks.slack.com.evil.example/x"}, "hooks.slack.com.evil"),
        ({"EAPI_ENDPONT": "https://eapi.example"}, "did you mean EAPI_ENDPOINT?"),
        ({"REDIS_SERVICE_HOST": "10.0.0.1", "REDIS_PORT_6379_TCP": "tcp://x"}, ""),
    ],
)
def test_what_was_pasted_into_the_wrong_place_is_warned_of(
    root: Path, env: dict[str, str], said: str
) -> None:
    found = " ".join(load(root, env={"EAPI_ENDPOINT": "http://eapi.example", **env}).warnings)
    assert said in found if said else found == ""
    assert env.get("PAGERDUTY_SERVICE_KEY", "no such") not in found


def test_whoever_has_set_nothing_is_told_how_to_begin(root: Path) -> None:
    assert configuration.untouched(load(root))
    for name in ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL"):
        assert not configuration.untouched(load(root, env={name: "https://x.example"}))
    assert not configuration.untouched(load(root, env={"REDIS_HOST": "cache.example"}))


def test_a_month_is_not_taken_for_a_minute() -> None:
    from monitoring.text import parse_duration

    with pytest.raises(ValueError, match="30d"):
        parse_duration("1M")
    assert parse_duration("7D") == 7 * 86400.0


@pytest.mark.parametrize("name", ["REDIS_PORT", "MONITORING_ENV"])
def test_an_empty_value_that_switches_nothing_off_is_said(name: str, tmp_path: Path) -> None:
    settings = load(scripts_in(tmp_path), env={name: ""})
    assert [w for w in settings.warnings if f"{name} is empty, which switches nothing off" in w]
    assert settings.redis.host == "localhost"


def test_an_empty_host_of_the_cache_switches_it_off_unless_others_are_named(root: Path) -> None:
    off = load(root, env={"REDIS_HOST": "", "MONITORING_ENV": "prod"})
    assert CACHE in unconfigured(off)
    assert [w for w in off.warnings if "REDIS" in w] == [
        "REDIS_HOST is empty: the cache is not watched, and no token is counted"
    ]
    for name in ("REDIS_SENTINELS", "REDIS_CLUSTER"):
        elsewhere = load(root, env={"REDIS_HOST": "", name: "node-1:7000"})
        assert CACHE not in unconfigured(elsewhere)
        assert not [w for w in elsewhere.warnings if "not watched" in w]
    with pytest.raises(configuration.ConfigurationError, match="needs a node to ask"):
        load(root, env={"REDIS_HOST": "", "REDIS_CLUSTER": "true"})
