"""The Prometheus files: they are what the catalogue and the thresholds say, promtool agrees with
them, and every rule is proven to be silent, to wait, to fire and to end."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus import build, security, thresholds
from deploy.prometheus.rule import Rule
from monitoring.alerts import advice, advice as advice_findings
from monitoring.catalog import HYGIENE, METRICS, SCRIPTS, THRESHOLDS
from monitoring.components import COMPONENTS
from monitoring.config.settings import Limit, Settings
from tests.deploying import metrics_in

HERE = build.HERE
FILES = sorted((HERE / "rules").glob("*.yml"))
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt: prometheus)"
)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return build.defaults({"MONITORING_CONFIG": ""})


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in FILES for group in load(path)["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def records() -> set[str]:
    groups = load(HERE / "rules" / "recording.yml")["groups"]
    return {rule["record"] for group in groups for rule in group["rules"]}


def run(*words: str, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_files_are_what_a_build_would_make(settings: Settings) -> None:
    made = build.files(settings)
    assert list(build.differences(made)) == []
    kept = {str(path.relative_to(HERE)) for path in HERE.glob("*/*.yml")}
    assert kept == set(made) - {build.OPERATOR}


@pytest.mark.prometheus
@needs_promtool
def test_the_operator_gets_the_same_rules(tmp_path: Path) -> None:
    """A PrometheusRule is what the Prometheus Operator reads, and its spec a rule file."""
    resource = load(HERE / build.OPERATOR)
    assert (resource["kind"], resource["metadata"]["name"]) == (
        "PrometheusRule",
        "payment-api-monitoring",
    )
    groups = {g["name"]: g for path in FILES for g in load(path)["groups"]}
    assert {g["name"]: g for g in resource["spec"]["groups"]} == groups
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(resource["spec"]))
    assert run("promtool", "check", "rules", str(tmp_path / "rules.yml")).returncode == 0


@pytest.mark.prometheus
@needs_promtool
def test_promtool_accepts_rules_and_configuration() -> None:
    done = run("promtool", "check", "rules", "--lint=all", *map(str, FILES))
    assert done.returncode == 0, done.stdout + done.stderr
    for config in (HERE / "prometheus.yml", HERE.parent / "container" / "prometheus.yml"):
        done = run("promtool", "check", "config", "--lint=all", str(config))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
@needs_promtool
@pytest.mark.parametrize("path", sorted((HERE / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_every_rule_fires_and_resolves(path: Path) -> None:
    done = run("promtool", "test", "rules", path.name, cwd=path.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
@needs_promtool
def test_a_wrong_rule_is_found(tmp_path: Path) -> None:
    """The proofs can fail: a rule whose limit is off by a little does."""
    for folder in ("rules", "tests"):
        shutil.copytree(HERE / folder, tmp_path / folder)
    proofs = tmp_path / "tests" / "security.yml"
    made = yaml.safe_load(proofs.read_text(encoding="utf-8"))
    made["tests"] = [one for one in made["tests"] if "PaymentApiAcceptsAlgNone" in one["name"]]
    proofs.write_text(yaml.safe_dump(made), encoding="utf-8")
    assert run("promtool", "test", "rules", proofs.name, cwd=proofs.parent).returncode == 0
    rules = tmp_path / "rules" / "security.yml"
    text = rules.read_text(encoding="utf-8")
    rules.write_text(text.replace('reason="accepts_alg_none"', 'reason="accepts_nothing"'))
    done = run("promtool", "test", "rules", proofs.name, cwd=proofs.parent)
    assert done.returncode != 0
    assert "PaymentApiAcceptsAlgNone" in done.stdout + done.stderr


FINDING = (
    'payment_api_findings{script="credential_usage_metrics",reason="failures_then_success",'
    'severity="critical",category="security",component="payment-eapi",client_id="client-004"}'
)
clock = 'payment_api_last_cycle_timestamp_seconds{{script="{script}"}}'
#: Half a minute between scrapes, as prometheus.yml has it; a minute between cycles.
SCRAPES = "30s"
TIMESTAMPS = 'payment_api_last_cycle_timestamp_seconds{environment="prod",script="health_check"}'


def watched(after_an_hour: str) -> list[dict[str, str]]:
    """An hour in which conjur-vault (99.99 %) is up, then these scrapes."""
    labels = 'environment="prod",component="conjur-vault"'
    clock = " ".join(f"{minute * 60} {minute * 60}" for minute in range(90))
    return [
        {"series": f"payment_api_health_status{{{labels}}}",
         "values": f"1x119 {after_an_hour}"},
        {"series": f"payment_api_sla_target_ratio{{{labels}}}", "values": "0.9999x180"},
        {"series": TIMESTAMPS, "values": clock},
    ]  # fmt: skip


@pytest.mark.prometheus
@needs_promtool
@pytest.mark.parametrize(
    ("scrapes", "told"),
    [
        ("0x1 1x40", set()),
        ("0x2 1x40", set()),
        ("0x5 1x40", {"PaymentApiHealthStatus"}),
        ("0x19 1x40", {"PaymentApiHealthStatus"}),
        ("0 0 1 1 1 1 " * 4 + "1x40", {"PaymentApiErrorBudgetBurnRate"}),
    ],
    ids=[
        "one failed probe",
        "one slow failed probe",
        "down",
        "down for ten minutes",
        "now and then",
    ],
)
def test_somebody_is_woken_once_and_for_what_lasts(
    scrapes: str, told: set[str], tmp_path: Path
) -> None:
    """One failed probe, scraped twice or three times, is nothing; an outage pages as such and not
    again when it is over; probes that fail now and then page by the budget they burn."""
    critical = 'ALERTS{alertstate="firing",severity="critical",component="conjur-vault"}'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(told)]
    test = {
        "interval": SCRAPES,
        "input_series": watched(scrapes),
        "promql_expr_test": [
            {
                "expr": f"group by (alertname) (max_over_time({critical}[25m]))",
                "eval_time": "85m",
                "exp_samples": samples,
            }
        ],
    }
    names = ("recording", "error-budgets", "availability")
    files = [str(HERE / "rules" / f"{name}.yml") for name in names]
    content = {"rule_files": files, "evaluation_interval": SCRAPES, "tests": [test]}
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(content))
    done = run("promtool", "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_from_cron_is_not_called_stale_between_two_runs(settings: Settings) -> None:
    """With the textfile collector the page of the last run is read until the next one."""
    for rule in build.groups_of_rules(settings)["monitor"]:
        if rule.alert == "PaymentApiCycleStale":
            assert float(rule.expr.rpartition(" ")[2]) > 2 * settings.run.cron_interval


def test_every_rule_is_proven_silent_firing_and_over(settings: Settings) -> None:
    for name, rules in build.groups_of_rules(settings).items():
        proofs = load(HERE / "tests" / f"{name}.yml")["tests"]
        stories = [story for proof in proofs for story in _stories(proof)]
        assert len(stories) == len(rules)
        for alert, seen in stories:
            assert seen[0] is False, alert
            assert seen[-1] is False, alert
            assert True in seen, alert


def _stories(proof: Mapping[str, Any]) -> Iterable[tuple[str, list[bool]]]:
    """Each alert of one test of promtool, and whether it is to fire, check by check."""
    stories: dict[str, list[bool]] = {}
    for check in (*proof.get("alert_rule_test", ()), *proof.get("promql_expr_test", ())):
        fires = bool(check.get("exp_alerts") or check.get("exp_samples"))
        stories.setdefault(check.get("alertname") or check["expr"], []).append(fires)
    return stories.items()


@pytest.mark.parametrize(
    "rule", alerts(), ids=lambda r: f"{r['alert']}-{r['labels'].get('severity')}"
)
def test_an_alert_says_what_whom_and_where_to_read_on(rule: Mapping[str, Any]) -> None:
    labels, notes = rule.get("labels", {}), rule["annotations"]
    brought = re.search(r"by \(environment, (?:reason, )?category, client, component, severity\)",
                        rule["expr"])  # fmt: skip
    assert brought or labels["severity"] in ("critical", "warning")
    assert brought or labels["category"] in ("security", "performance", "availability")
    assert "component" in labels or "component" in rule["expr"] or _brings_component(rule["expr"])
    assert set(notes) == {"summary", "description"}, "nobody said where pages can be read"
    assert re.search(r"\. First: [A-Z].*\.$", notes["description"])


def test_an_alert_links_to_pages_that_exist_where_somebody_said_they_are(
    settings: Settings,
) -> None:
    for rules in build.groups_of_rules(settings).values():
        for rule in rules:
            notes = build.as_dict(rule, "https://docs.test/r/", "https://graphs.test")[
                "annotations"
            ]
            base, _, page = notes["runbook_url"].rpartition("/")
            assert base == "https://docs.test/r"
            assert page in {f"{name}.md" for name in advice.runbooks()}
            base, _, uid = notes["dashboard"].rpartition("/")
            assert base == "https://graphs.test"
            assert uid in (advice.SECURITY, advice.HEALTH, advice.AUTHENTICATION)


def _brings_component(expr: str) -> bool:
    return all("component" in METRICS[name].labels for name in metrics_in(expr) if name in METRICS)


def test_rules_name_metrics_that_are_exported() -> None:
    known = set(METRICS) | records() | {"up", "ALERTS"}
    groups = [group for path in FILES for group in load(path)["groups"]]
    exprs = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(exprs) > 90
    for expr in exprs:
        assert metrics_in(expr), expr
        assert metrics_in(expr) <= known, expr


def test_every_threshold_has_its_rules(settings: Settings) -> None:
    made = {(rule.alert, rule.severity) for rule in thresholds.rules(settings.thresholds)}
    for name, limit in settings.thresholds.items():
        if name in thresholds.ELSEWHERE:
            continue
        key = THRESHOLDS[name].key
        alert = "PaymentApi" + "".join(word.capitalize() for word in key.split("_"))
        for severity, number in (("critical", limit.critical), ("warning", limit.warning)):
            assert ((alert, severity) in made) is (number is not None), name


def test_a_threshold_that_is_off_has_no_rule() -> None:
    name = "performance.api_response_time"
    assert list(thresholds.rules({name: Limit(None, None)})) == []
    rules = list(thresholds.rules({name: Limit(250, None)}))
    assert [(rule.severity, rule.expr.rpartition(" ")[2]) for rule in rules] == [("warning", "250")]


def test_what_the_scripts_and_the_rules_tell_is_one_alert(settings: Settings) -> None:
    """Whatever else a series has (instance, node, step, reason) is no part of the alert's name:
    the label set is the one that the scripts push, or Alertmanager would send it twice."""
    same = {"alertname", "environment", "component", "client", "category", "severity"}
    for name, rules in build.groups_of_rules(settings).items():
        if name == "monitor":
            continue
        for rule in rules:
            whole = rule.expr.rpartition(" or ")[2]  # of one client, after that of all
            brought = re.match(r"(?:max|min) by \(([\w, ]+)\) \(", whole)
            if rule.alert in ("PaymentApiErrorBudgetBurnRate", "PaymentApiFinding"):
                continue  # recorded by environment and component; a reason of no known name
            assert brought, rule.expr
            assert {*brought[1].split(", "), *rule.all_labels()} <= same, rule.alert


def test_units_are_turned_into_the_metrics_own(settings: Settings) -> None:
    rules: dict[str, Rule] = {
        f"{rule.alert}/{rule.severity}": rule for rule in thresholds.rules(settings.thresholds)
    }
    table = {
        "PaymentApiTlsCertificateDays/critical": "<= 604800",  # 7 days in seconds
        "PaymentApiTokenValidationTime/warning": ">= 0.05",  # 50 ms in seconds
        "PaymentApiRedisMemoryUsed/critical": ">= 0.95",  # % as a ratio
        "PaymentApiApiResponseTime/critical": ">= 500",
        "PaymentApiCredentialAgeDays/critical": ">= 7776000",  # 90 days
    }
    for name, end in table.items():
        assert rules[name].expr.endswith(end), rules[name].expr
    assert rules["PaymentApiClockSkew/critical"].expr.startswith(
        "max by (environment, component) (abs("
    )


def test_security_speaks_at_once_and_the_rest_after_two_cycles(settings: Settings) -> None:
    for rule in thresholds.rules(settings.thresholds):
        assert (rule.hold == 0) is (rule.category == "security"), rule.alert


def test_every_component_that_can_be_down_has_an_alert() -> None:
    named = [r for r in alerts() if r["alert"] == "PaymentApiHealthStatus"]
    down = {r["labels"]["component"] for r in named if r["labels"]["severity"] == "critical"}
    assert down == set(COMPONENTS)
    degraded = {r["labels"].get("component") for r in named if r["labels"]["severity"] == "warning"}
    assert degraded == {"payment-eapi", "payment-sapi", "authentication-flow", None}


@pytest.mark.prometheus
@needs_promtool
def test_an_exporter_that_dies_resolves_nothing(tmp_path: Path) -> None:
    """payment-sapi is down, then the exporter is gone for an hour, then it is back and all is
    well. What fires goes on and whoever was told hears that nobody watches; what was well stays
    silent; and the end is told within five minutes."""
    series = [
        ('payment_api_health_status{component="payment-sapi"}', "1x9 0x10 _x60 1x20"),
        ('payment_api_health_status{component="payment-eapi"}', "1x9 1x10 _x60 1x20"),
        ('payment_api_response_time_ms{component="payment-eapi"}', "9x9 900x10 _x60 9x20"),
        (FINDING, "0x9 1x10 _x60 0x20"),
        *((clock.format(script=script), "0+60x19 _x60 4800+60x20") for script in SCRIPTS),
    ]
    told = {
        "PaymentApiHealthStatus": 'component="payment-sapi"',
        "PaymentApiApiResponseTime": 'category="performance",severity="critical"',
        "PaymentApiFailuresThenSuccess": 'client="client-004"',
    }
    checks = [(8, set()), (17, set(told)), (40, set(told)), (79, set(told)), (90, set())]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing",{labels}}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if name in firing else [],
            }
            for minute, firing in checks
            for name, labels in told.items()
        ]
        + [
            {
                "expr": 'count(ALERTS{alertname="PaymentApiIncidentUnwatched",'
                f'alertstate="firing",{labels}}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if gone else [],
            }
            for minute, gone in ((17, False), (30, True), (79, True), (90, False))
            for labels in told.values()
        ],
    }
    content = {"rule_files": [str(path) for path in FILES], "tests": [test]}
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(content))
    done = run("promtool", "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def firing_at(
    tmp_path: Path,
    series: Mapping[str, str],
    told: Mapping[int, set[str]],
    *,
    by: str = "alertname",
    never: Sequence[str] = (),
) -> None:
    """promtool finds exactly these alerts firing (of those named anywhere) at these minutes."""
    names = set().union(never, *told.values())
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'group by ({by}) (ALERTS{{{by}="{name}",alertstate="firing"}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{{by}="{name}"}}', "value": 1}]
                if name in firing
                else [],
            }
            for minute, firing in told.items()
            for name in sorted(names)
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(p) for p in FILES], "tests": [test]}))
    done = run("promtool", "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
@needs_promtool
def test_what_becomes_unknown_is_not_over(tmp_path: Path) -> None:
    """payment-sapi is down and slow, then our token is refused: nobody knows how it is. What fires
    goes on, as the scripts' own alerts do, and ends once it is seen to be well."""
    where = '{component="payment-sapi"}'
    alive = {clock.format(script=script): "0+60x80" for script in SCRIPTS}
    firing = {"PaymentApiHealthStatus"}
    firing_at(
        tmp_path,
        {
            **alive,
            f"payment_api_health_status{where}": "1x9 0x9 stale _x38 1x20",
            f"payment_api_component_degraded{where}": "0x9 0x9 stale _x38 0x20",
            'payment_api_up{source="payment-sapi",script="health_check"}': "1x9 0x49 1x20",
        },
        {9: set(), 18: firing, 30: firing, 57: firing, 65: set()},
    )


@pytest.mark.prometheus
@needs_promtool
def test_a_finding_that_nobody_can_look_for_is_not_over(tmp_path: Path) -> None:
    """A client's finding is gone for two reasons: it is over, or its source cannot be read."""
    up = '{source="eapi-metrics",script="credential_usage_metrics"}'
    firing = {"PaymentApiFailuresThenSuccess"}
    firing_at(
        tmp_path,
        {
            clock.format(script="credential_usage_metrics"): "0+60x80",
            FINDING: "_x9 1x9 stale",
            f"payment_api_up{up}": "1x18 0x29 1x30",
        },
        {8: set(), 12: firing, 30: firing, 48: firing, 51: firing, 52: set()},
    )


@pytest.mark.prometheus
@needs_promtool
def test_what_the_scripts_hold_as_flapping_is_held_by_the_rules(tmp_path: Path) -> None:
    """Bad for two looks and good for eight; an alert that does not fire is not begun by it."""
    held = '{alert="PaymentApiTokenValidationSuccess",component="payment-sapi",client_id="",'
    held += 'script="token_usage_metrics"}'
    firing = {"PaymentApiTokenValidationSuccess"}
    firing_at(
        tmp_path,
        {
            clock.format(script="token_usage_metrics"): "0+60x200",
            "payment_api_token_validation_success_ratio": "1x9 0.98x9 1x200",
            f"payment_api_alert_flapping{held}": "_x20 1x64 stale",
            'payment_api_alert_flapping{alert="PaymentApiNoTokens"}': "1x99",
        },
        {9: set(), 12: firing, 25: firing, 60: firing, 84: firing, 95: set()},
        never=["PaymentApiNoTokens"],
    )


@pytest.mark.prometheus
@needs_promtool
def test_what_is_down_is_not_called_unread_as_well(tmp_path: Path) -> None:
    """The cache hangs: every script says that it read nothing. One alert; and without
    health_check, which would say that it is down, the other."""
    unread = 'payment_api_up{source="redis",script="token_usage_metrics"}'
    told = {"PaymentApiHealthStatus", "PaymentApiMonitoringBlind"}
    status = 'payment_api_health_status{component="redis-cache"}'
    alone = {"PaymentApiMonitoringBlind"}
    firing_at(tmp_path, {unread: "1x9 0x20"}, {9: set(), 20: alone})
    firing_at(tmp_path, {unread: "1x9 0x20", status: "1x9 0x20"}, {9: set(), 20: told - alone})


@pytest.mark.prometheus
@needs_promtool
def test_a_consequence_is_not_told_when_its_cause_is_over_first(tmp_path: Path) -> None:
    """payment-sapi is down; payment-eapi is degraded by it and no login works, and both are well
    a cycle or two later. A login that fails by itself, and goes on to when payment-sapi is down as
    well, is told and stays."""
    sapi, flow = (
        f'payment_api_health_status{{component="{name}"}}'
        for name in ("payment-sapi", "authentication-flow")
    )
    eapi = 'payment_api_component_degraded{component="payment-eapi"}'
    alive = {clock.format(script="health_check"): "0+60x60"}
    suffering = {sapi: "1x9 0x9 1x30", flow: "1x9 0x11 1x30", eapi: "0x9 1x11 0x30"}
    told, lone = {"payment-sapi"}, {"authentication-flow"}
    during = {8: set[str](), 30: set[str](), **dict.fromkeys(range(12, 21), told)}
    firing_at(
        tmp_path,
        {**alive, **suffering},
        during,
        by="component",
        never=("payment-eapi", "authentication-flow"),
    )
    alone = {sapi: "1x19 0x9 1x30", flow: "1x9 0x40"}
    firing_at(
        tmp_path,
        {**alive, **alone},
        {8: set(), 15: lone, 25: told | lone, 40: lone},
        by="component",
    )
    worn = 'payment_api_component_degraded{component="payment-sapi"}'
    beside = {worn: "1x60", sapi: "1x60", flow: "1x19 0x40"}
    firing_at(tmp_path, {**alive, **beside}, {15: told, 25: told | lone}, by="component")


@pytest.mark.prometheus
@needs_promtool
@pytest.mark.parametrize(
    ("error", "asked", "notified"),
    [
        ("http", False, set()),  # EAPI passes on that the vault is down
        ("auth", False, {"authentication-flow"}),  # refused: a reason of its own
        ("http", True, {"authentication-flow"}),  # a token was given: SAPI fails by itself
    ],
)
def test_a_login_that_needs_a_dead_vault_is_not_told_beside_it(
    tmp_path: Path, error: str, asked: bool, notified: set[str]
) -> None:
    vault, flow = (
        f'payment_api_health_status{{component="{name}"}}'
        for name in ("conjur-vault", "authentication-flow")
    )
    why = f'payment_api_component_error{{component="authentication-flow",error="{error}"}}'
    step = 'payment_api_authentication_step_seconds{step="validate"}'
    series = {vault: "1x9 0x20", flow: "1x9 0x20", why: "_x9 1x20"}
    series |= {step: "0.01x30"} if asked else {step: "0.01x9 stale"}
    alive = {clock.format(script="health_check"): "0+60x60"}
    told = {"conjur-vault"} | notified
    firing_at(tmp_path, {**alive, **series}, {8: set(), 14: told, 25: told}, by="component")


def test_every_reason_with_a_text_of_its_own_has_a_rule() -> None:
    known = {reason for reasons in security.REASONS.values() for reason in reasons}
    elsewhere = {*security.ELSEWHERE, "notification_channel_failing"}
    assert {*advice_findings.FINDINGS, *HYGIENE} - known - elsewhere == set()


def test_targets_of_service_levels_are_not_repeated() -> None:
    text = (HERE / "rules" / "error-budgets.yml").read_text() + (
        HERE / "rules" / "recording.yml"
    ).read_text()
    assert "payment_api_sla_target_ratio" in text
    assert "0.999" not in text
