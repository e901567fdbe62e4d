"""What is wrong with a configuration: each thing named, with its cure, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.configuring import DATA, load, problems, scripts_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scripts_in(tmp_path)


#: YAML of --config, the key as the message names it, part of the cure.
WRONG = [
    ("REDIS_HOTS: x", "REDIS_HOTS", "no such setting; did you mean 'REDIS_HOST'?"),
    ("NONSENSE: 1", "NONSENSE", "begin the name of a helper of your own with _"),
    ("redis_host: x", "redis_host", "did you mean 'REDIS_HOST'?"),
    (
        "ALERT_THRESHOLDS: {performance: {api_respose_time: {warning: 1}}}",
        "ALERT_THRESHOLDS['performance']['api_respose_time']",
        "no such metric; did you mean 'api_response_time'?",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {authentication_failures: {warning: 1}}}",
        "ALERT_THRESHOLDS['performance']['authentication_failures']",
        "it belongs into 'security'",
    ),
    (
        "ALERT_THRESHOLDS: {perfomance: {}}",
        "ALERT_THRESHOLDS['perfomance']",
        "no such category; did you mean 'performance'?",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {api_response_time: {warn: 1}}}",
        "ALERT_THRESHOLDS['performance']['api_response_time']['warn']",
        "no such level; did you mean 'warning'?",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {api_response_time: 300}}",
        "ALERT_THRESHOLDS['performance']['api_response_time']",
        "write a dict with warning, critical",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {api_response_time: {warning: fast}}}",
        "ALERT_THRESHOLDS['performance']['api_response_time']['warning']",
        "write a number of 0 or more or None",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {redis_memory_used: {critical: 101}}}",
        "ALERT_THRESHOLDS['performance']['redis_memory_used']['critical']",
        "from 0 to 100",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {api_response_time: {warning: 500, critical: 300}}}",
        "ALERT_THRESHOLDS['performance']['api_response_time']['critical']",
        "higher is worse here, so critical lies above warning (500)",
    ),
    (
        "ALERT_THRESHOLDS: {performance: {api_response_time: {warning: 501}}}",
        "ALERT_THRESHOLDS['performance']['api_response_time']['warning']",
        "higher is worse here, so warning lies below critical (500)",
    ),
    (
        "ALERT_THRESHOLDS: {availability: {tls_certificate_days: {critical: 31}}}",
        "ALERT_THRESHOLDS['availability']['tls_certificate_days']['critical']",
        "lower is worse here, so critical lies below warning (30)",
    ),
    ("NOTIFICATION_CHANNELS: {critical: [slak]}", "NOTIFICATION_CHANNELS['critical']", "'slack'?"),
    (
        "NOTIFICATION_CHANNELS: {critical: [sms]}",
        "NOTIFICATION_CHANNELS['critical']",
        "'sms' is not known here; write one of: slack, pagerduty, email",
    ),
    (
        "NOTIFICATION_CHANNELS: {urgent: [slack]}",
        "NOTIFICATION_CHANNELS['urgent']",
        "no such severity; known are critical, warning, info",
    ),
    ("NOTIFICATION_CHANNELS: {critical: 5}", "NOTIFICATION_CHANNELS['critical']", "write a list"),
    ("CHANNEL_CONFIG: {sms: {}}", "CHANNEL_CONFIG['sms']", "no such channel"),
    (
        "CHANNEL_CONFIG: {email: {recipients: 'a@example.com, nobody'}}",
        "CHANNEL_CONFIG['email']['recipients']",
        "write mail addresses",
    ),
    (
        'CHANNEL_CONFIG: {email: {sender: "a@example.com\\nBcc: b@example.com"}}',
        "CHANNEL_CONFIG['email']['sender']",
        "write mail addresses",
    ),
    (
        "CHANNEL_CONFIG: {email: {smtp_server: 'smtp.example.com:587'}}",
        "CHANNEL_CONFIG['email']['smtp_server']",
        "the port has a name of its own",
    ),
    ("CHANNEL_CONFIG: {slack: {webhook_url: 5}}", "CHANNEL_CONFIG['slack']['webhook_url']", "text"),
    ("REDIS_PORT: 99999", "REDIS_PORT", "a port is a whole number from 1 to 65535"),
    ("REDIS_PORT: 0", "REDIS_PORT", "a port"),
    ("REDIS_PORT: true", "REDIS_PORT", "a port"),
    ("REDIS_PORT: 6379.5", "REDIS_PORT", "a port"),
    ("REDIS_PORT: .nan", "REDIS_PORT", "a port"),
    ("REDIS_SSL: perhaps", "REDIS_SSL", "write True or False"),
    ("REDIS_HOST: 'redis:6379'", "REDIS_HOST", "the port has a name of its own"),
    ("REDIS_HOST: 'redis://h'", "REDIS_HOST", "write the host name alone"),
    ("REDIS_DB: -1", "REDIS_DB", "write a whole number from 0"),
    ("REDIS_SENTINELS: ['a:x']", "REDIS_SENTINELS", "a port"),
    ("CONJUR_AUTHN_LOGIN: host/m", "CONJUR_AUTHN_API_KEY", "needs its key"),
    ("RUN: {cycle_deadline: 0}", "RUN['cycle_deadline']", "must be at least 1 seconds"),
    ("HISTORY: {retention: 1h}", "HISTORY['retention']", "must be at least 1 d"),
    ("REDIS_CLUSTER: perhaps", "REDIS_CLUSTER", "write True, False, or nodes"),
    ("REDIS_CLUSTER: [node-1]", "REDIS_CLUSTER", "write host:port"),
    ("REDIS_CLUSTER: []", "REDIS_CLUSTER", "must not be empty"),
    ("{REDIS_CLUSTER: true, REDIS_SENTINELS: 'a:1'}", "REDIS_SENTINELS", "not both"),
    ("{REDIS_CLUSTER: true, REDIS_DB: 1}", "REDIS_DB", "database 0 alone"),
    ("REDIS_CA_FILE: /nowhere/ca.pem", "REDIS_CA_FILE", "cannot be read: No such file"),
    (f"REDIS_CA_FILE: {__file__}", "REDIS_CA_FILE", "holds no CA certificate"),
    ("REDIS_PASSWORD: {file: /nowhere/p}", "REDIS_PASSWORD", "cannot be read: No such file"),
    ("REDIS_PASSWORD: {path: /p}", "REDIS_PASSWORD", "{'file': "),
    ("REDIS_PASSWORD: 12345", "REDIS_PASSWORD", "write text in quotes"),
    ("EAPI_ENDPOINT: 'payment-eapi:8080'", "EAPI_ENDPOINT", "beginning with http://"),
    ("EAPI_ENDPOINT: 'http://h:99999'", "EAPI_ENDPOINT", "its port is a number"),
    ("EAPI_ENDPOINT: 'http://'", "EAPI_ENDPOINT", "write a URL"),
    ("EAPI_ENDPOINT: 'http://h/?x=1'", "EAPI_ENDPOINT", "ends before the ?"),
    ("EAPI_ENDPOINT: 'http://h/#x'", "EAPI_ENDPOINT", "no #fragment"),
    (
        "ALERTS: {runbooks: 'https://u:p@wiki/x'}",
        "ALERTS['runbooks']",
        "leave user and password out",
    ),
    ("EAPI_ENDPOINT: 'http://h_\u00e4 x'", "EAPI_ENDPOINT", "write a URL"),
    ("EAPI_ENDPOINT: 'http://[::1'", "EAPI_ENDPOINT", "write a URL"),
    ("SERVICE_PATHS: {payment-eapi: {helth: /x}}", "SERVICE_PATHS['payment-eapi']['helth']", "'h"),
    ("SERVICE_PATHS: {eapi: {}}", "SERVICE_PATHS['eapi']", "no such service"),
    (
        "SERVICE_PATHS: {payment-eapi: {health: 'http://h/x'}}",
        "SERVICE_PATHS['payment-eapi']['health']",
        "write the path alone",
    ),
    ("TIMEOUTS: {payment-eapi: -5}", "TIMEOUTS['payment-eapi']", "cannot be negative"),
    ("TIMEOUTS: {payment-eapi: 0}", "TIMEOUTS['payment-eapi']", "at least 0.05 seconds"),
    ("TIMEOUTS: {payment-eapi: '5 parsecs'}", "TIMEOUTS['payment-eapi']", "write a duration"),
    ("TIMEOUTS: {redis: 5}", "TIMEOUTS['redis']", "did you mean 'redis-cache' or 'redis-scan'?"),
    ("TLS_VERIFY: {payment-eapi: 2}", "TLS_VERIFY['payment-eapi']", "write True or False"),
    ("TLS_VERIFY: false", "TLS_VERIFY", "write a dict"),
    ("SLA_TARGETS: {overall: 0.999}", "SLA_TARGETS['overall']", "99.9, not a ratio"),
    ("SLA_TARGETS: {overall: 100}", "SLA_TARGETS['overall']", "no error budget"),
    ("SLA_TARGETS: {payment-eapis: 99}", "SLA_TARGETS['payment-eapis']", "'payment-eapi'?"),
    ("MONITORING_INTERVALS: {health: 60}", "MONITORING_INTERVALS['health']", "'health_check'?"),
    ("MONITORING_ENV: production", "MONITORING_ENV", "did you mean 'prod'?"),
    ("ENVIRONMENTS: {production: {}}", "ENVIRONMENTS['production']", "did you mean 'prod'?"),
    (
        "ENVIRONMENTS: {prod: {REDIS_PORT: x}}",
        "ENVIRONMENTS['prod']['REDIS_PORT']",
        "a port is a whole number",
    ),
    (
        "ENVIRONMENTS: {prod: {MONITORING_ENV: dev}}",
        "ENVIRONMENTS['prod']['MONITORING_ENV']",
        "no such setting",
    ),
    ("CONJUR_VARIABLE_TEMPLATE: x", "CONJUR_VARIABLE_TEMPLATE", "{client_id} exactly once"),
    ("CONJUR_AUTHN_API_KEY: k", "CONJUR_AUTHN_LOGIN", "needs the login it belongs to"),
    (f"CONJUR_JWT_FILE: {__file__}", "CONJUR_JWT_SERVICE_ID", "needs the service id"),
    ("MONITORING_CLIENT_ID: c", "MONITORING_CLIENT_SECRET", "both its id and its secret"),
    ("MONITORING_CLIENT_SECRET: s", "MONITORING_CLIENT_ID", "both its id and its secret"),
    ("TOKENS: {profile: spring}", "TOKENS['profile']", "write one of: auto, eapi, sapi, hash"),
    (
        "SERVICE_METRICS: {names: {logins: [x]}}",
        "SERVICE_METRICS['names']['logins']",
        "write one of: authentication_attempts, token_generation",
    ),
    ("{'a\\u001b[31m': 1}".replace("'", '"'), "'a\\x1b[31m'", "no such setting"),
    ("TOKENS: {algorithms: []}", "TOKENS['algorithms']", "must not be empty"),
    ("TOKENS: {max_keys: 0}", "TOKENS['max_keys']", "or None"),
    ("CREDENTIALS: {due_soon_days: 90}", "CREDENTIALS['due_soon_days']", "less than rotation_days"),
    ("CREDENTIALS: {per_client_days: {c: 0}}", "CREDENTIALS['per_client_days']['c']", "from 1 to"),
    ("CREDENTIALS: {rotated_at: {c: 2999-01-01}}", "CREDENTIALS['rotated_at']['c']", "the future"),
    ("CREDENTIALS: {rotated_at: {c: 20261101}}", "CREDENTIALS['rotated_at']['c']", "before 2000"),
    ("CREDENTIALS: {rotated_at: {c: soon}}", "CREDENTIALS['rotated_at']['c']", "write a time"),
    ("SLA_MINIMUM_WATCHED: 0.5", "SLA_MINIMUM_WATCHED", "not a ratio"),
    ("SLA_MINIMUM_WATCHED: 0", "SLA_MINIMUM_WATCHED", "above 0"),
    ("SLA_MINIMUM_WATCHED: 101", "SLA_MINIMUM_WATCHED", "at most 100"),
    ("CREDENTIALS: 5", "CREDENTIALS", "write a dict"),
    ("HISTORY: {raw_for: 30d}", "HISTORY['fine_for']", "not be shorter than raw_for (30 d)"),
    ("ALERTS: {window: [3, 2]}", "ALERTS['window']", "1 <= M <= N"),
    ("ALERTS: {window: 3}", "ALERTS['window']", "(M, N)"),
    ("ALERTS: {failure_threshold: 0}", "ALERTS['failure_threshold']", "from 1 to 100"),
    (
        "ALERTS: {reminder_interval: {critical: 1s}}",
        "ALERTS['reminder_interval']['critical']",
        "at least 60 seconds",
    ),
    (
        "ALERT_MANAGER: {password: a-b, bearer_token: c-d}",
        "ALERT_MANAGER['bearer_token']",
        "not both",
    ),
    ("SILENCES: {match: {}}", "SILENCES", "write a list of dicts"),
    (
        "SILENCES: [{match: {client: c}, owner: o, reason: r}]",
        "SILENCES[0]['until']",
        "is missing: say when it ends",
    ),
    (
        "SILENCES: [{owner: o, reason: r, until: 2026-12-24}]",
        "SILENCES[0]['match']",
        "would cover everything",
    ),
    ("SILENCES: [{match: {colour: c}}]", "SILENCES[0]['match']['colour']", "as a key: 'colour'"),
    ("SILENCES: [{until: tomorrow}]", "SILENCES[0]['until']", "write a time such as"),
    ("SILENCES: [{until: '2026-02-30'}]", "SILENCES[0]['until']", "no such date"),
    (
        "NOTIFICATION_ROUTES: [{match: {client: c}}]",
        "NOTIFICATION_ROUTES[0]['channels']",
        "name at least one channel",
    ),
    (
        "MAINTENANCE_WINDOWS: [{cron: '61 * * * *', duration: 1h}]",
        "MAINTENANCE_WINDOWS[0]['cron']",
        "write a cron expression",
    ),
    (
        "MAINTENANCE_WINDOWS: [{cron: '* * * * *'}]",
        "MAINTENANCE_WINDOWS[0]['duration']",
        "is missing: say how long",
    ),
    (
        "MAINTENANCE_WINDOWS: [{start: 2026-12-24}]",
        "MAINTENANCE_WINDOWS[0]['end']",
        "is missing: write cron and duration, or start and end",
    ),
    (
        "MAINTENANCE_WINDOWS: [{start: 2026-12-24, end: 2026-12-23}]",
        "MAINTENANCE_WINDOWS[0]['end']",
        "must be later than start",
    ),
    (
        "MAINTENANCE_WINDOWS: [{cron: '* * * * *', duration: 1h, timezone: Mars/Base}]",
        "MAINTENANCE_WINDOWS[0]['timezone']",
        "no such time zone",
    ),
    (
        "MAINTENANCE_WINDOWS: [{cron: '* * * * *', duration: 1h, components: [redis]}]",
        "MAINTENANCE_WINDOWS[0]['components']",
        "did you mean 'redis-cache'?",
    ),
]


@pytest.mark.parametrize(("extra", "key", "cure"), WRONG, ids=[row[0][:60] for row in WRONG])
def test_each_wrong_setting_is_named_with_its_cure(
    root: Path, extra: str, key: str, cure: str
) -> None:
    found = problems(root, extra=extra)
    assert [p.key for p in found] == [key]
    assert cure in found[0].cure
    assert found[0].file in (str(root.parent / "extra.yaml"), "config.example.py")
    assert "\n" not in found[0].sentence


#: Files that cannot be read at all: name, content, the line named, part of the cure.
UNREADABLE = [
    ("x.yaml", "A: 1\nB: [1, 2\nC: 3\n", "line 3", "is not valid YAML"),
    ("x.yaml", "REDIS_DB: 1\nREDIS_DB: 2\n", "line 2", "the key 'REDIS_DB' stands twice"),
    ("x.yaml", "- 1\n- 2\n", "", "must be a mapping of setting names"),
    ("x.yaml", "a: &a [1]\nb: *a\n", "line 2", "holds a YAML alias"),
    ("x.yaml", "A: !!python/object/apply:os.system ['true']\n", "line 1", "is not valid YAML"),
    ("x.yaml", "A: " + "[" * 5000, "line 1", "is nested deeper than 20 levels"),
    ("x.yaml", "A: 2026-13-45\n", "", "a value cannot be read"),
    ("x.yaml", "# " + "x" * 300_000, "", "is larger than 256 KiB"),
    ("x.yaml", b"A: \xff\n", "", "is not UTF-8 text"),
    ("x.yaml", "A: [" + "1, " * 21_000 + "]", "", "holds too many values"),
    ("x.py", "A = 1\nB = {\n", "line 2", "is not valid Python"),
    ("x.py", "A = 1\n\nB = 1 / 0\n", "line 3", "stopped with ZeroDivisionError"),
    ("x.py", "import os\nA = os.environ['NOT_SET']\n", "line 2", "KeyError: 'NOT_SET'"),
    ("x.py", "A = undefined\n", "line 1", "NameError: name 'undefined'"),
    ("x.py", "import nothing_of_that_name\n", "line 1", "ModuleNotFoundError"),
    ("x.py", "def f():\n    raise SystemExit(1)\nf()\n", "line 2", "stopped with SystemExit"),
    ("x.py", "A = []\nA.append(A)\n", "", "contains itself"),
    ("x.toml", "A = 1\n", "", "ends in .py, .yaml, .yml or .json"),
]


@pytest.mark.parametrize(("name", "content", "line", "cure"), UNREADABLE)
def test_a_file_that_cannot_be_read_names_the_line(  # noqa: PLR0917
    root: Path, name: str, content: Any, line: str, cure: str
) -> None:
    file = root / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (problem,) = problems(root, env={"MONITORING_CONFIG": str(file)})
    assert (problem.file, problem.key) == (name, line)
    assert cure in problem.cure


def test_a_missing_file_of_the_flag_is_a_problem(root: Path) -> None:
    (problem,) = problems(root, env={"MONITORING_CONFIG": "/nowhere/x.yaml"})
    assert problem.sentence.startswith("/nowhere/x.yaml: cannot be read: No such file")


def test_a_missing_template_is_a_problem_and_not_a_traceback(root: Path) -> None:
    (root / "config.example.py").unlink()
    (problem,) = problems(root)
    assert problem.file == "config.example.py"


def test_every_problem_of_every_layer_comes_at_once(root: Path) -> None:
    found = problems(
        root,
        own="REDIS_PORT = 'x'\nredis_hosts = 1\nREDIS_HOTS = 1\nredis_host = 'h'",
        extra="TIMEOUTS: {payment-eapi: -1}\nREDIS_CA_FILE: /nowhere",
        env={"SMTP_PORT": "x", "MONITORING_ENV": "production"},
    )
    named = {(p.file.rpartition("/")[2], p.key) for p in found}
    assert named == {
        ("config.py", "REDIS_PORT"),
        ("config.py", "REDIS_HOTS"),
        ("config.py", "redis_host"),
        ("extra.yaml", "TIMEOUTS['payment-eapi']"),
        ("extra.yaml", "REDIS_CA_FILE"),
        ("environment", "SMTP_PORT"),
        ("environment", "MONITORING_ENV"),
    }


def test_a_problem_of_the_environment_names_the_variable(root: Path) -> None:
    (problem,) = problems(root, env={"SMTP_PORT": "smtp"})
    assert problem.sentence == (
        "environment: SMTP_PORT = 'smtp': a port is a whole number from 1 to 65535"
    )
    (problem,) = problems(root, env={"MONITORING_CA_FILE": "/nowhere"})
    assert (problem.file, problem.key) == ("environment", "MONITORING_CA_FILE")


def test_what_kubernetes_puts_into_redis_port_is_explained(root: Path) -> None:
    (problem,) = problems(root, env={"REDIS_PORT": "tcp://10.0.0.1:6379"})
    assert "enableServiceLinks: false" in problem.cure


def test_a_wrong_value_another_layer_replaces_is_still_reported(root: Path) -> None:
    (problem,) = problems(root, own="REDIS_PORT = 'x'", env={"REDIS_PORT": "6379"})
    assert problem.file == "config.py"


def test_a_file_nobody_reads_after_all_may_be_missing(root: Path) -> None:
    own = "MONITORING_CA_FILE = '/nowhere'"
    ca = str(DATA / "ca.pem")
    assert load(root, own, env={"MONITORING_CA_FILE": ca}).eapi.tls.ca_file == ca


def test_own_helpers_in_config_py_are_left_alone(root: Path) -> None:
    own = "import os\n_BASE = 'http://h'\nregion = 'eu'\nEAPI_ENDPOINT = _BASE + '/' + region"
    assert load(root, own).eapi.url == "http://h/eu"
