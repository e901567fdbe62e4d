"""The Alertmanager file: amtool accepts it, and alerts of either kind reach the right people."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus import build
from monitoring.alerts.grouping import LOGINS, metrics_of
from monitoring.components import COMPONENTS
from monitoring.model import AlertKey
from tests.deploying import DEPLOY

FILE = DEPLOY / "alertmanager" / "alertmanager.yml"
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not installed (apt: prometheus-alertmanager)"
)


def config() -> Any:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def route(labels: Mapping[str, str]) -> str:
    """Who gets an alert with these labels."""
    words = [f"{name}={text}" for name, text in labels.items()]
    done = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={FILE}", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.alertmanager
@needs_amtool
def test_amtool_accepts_it() -> None:
    done = subprocess.run(
        ["amtool", "check-config", str(FILE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PROMETHEUS = {"environment": "prod", "component": "redis-cache"}
SCRIPT = AlertKey("prod", "health_check", "redis-cache", "health_status").labels()
ROUTES = [
    ("down wakes somebody", {"severity": "critical", "category": "availability"}, "page"),
    ("slow does not", {"severity": "warning", "category": "performance"}, "team-chat"),
    ("security has its own people", {"severity": "warning", "category": "security"},
     "security-chat"),
    ("critical security pages them", {"severity": "critical", "category": "security"},
     "security-page"),
    ("the monitor itself is the platform's",
     {"severity": "critical", "category": "availability", "component": "monitoring"}, "platform"),
    ("down, said by a script",
     {**SCRIPT, "category": "availability", "severity": "critical"}, "page"),
    ("a forged token accepted, said by a script",
     {**AlertKey("prod", "health_check", "authentication-flow", "accepts_tampered").labels(),
      "category": "security", "severity": "critical"}, "security-page"),
    ("slow, said by a script",
     {**AlertKey("prod", "health_check", "payment-eapi", "api_response_time").labels(),
      "category": "performance", "severity": "warning"}, "team-chat"),
    ("a client's failures, said by a script",
     {**AlertKey("prod", "credential_usage_metrics", "payment-eapi", "authentication_failures",
                 "client-017").labels(), "category": "security", "severity": "warning"},
     "security-chat"),
]  # fmt: skip


@pytest.mark.alertmanager
@needs_amtool
@pytest.mark.parametrize(
    ("labels", "receiver"), [row[1:] for row in ROUTES], ids=[row[0] for row in ROUTES]
)
def test_who_is_told(labels: Mapping[str, str], receiver: str) -> None:
    assert route({**PROMETHEUS, **labels}) == receiver


def test_every_alert_of_prometheus_has_the_labels_that_routes_ask_for() -> None:
    for rules in build.groups_of_rules(build.defaults({})).values():
        for rule in rules:
            brought = set(re.findall(r"\w+", (re.findall(r"by \(([^)]*)\)", rule.expr) or [""])[0]))
            assert {"severity", "category"} <= set(rule.all_labels()) | brought, rule.alert


def test_receivers_are_all_used_and_all_there() -> None:
    def named(node: Mapping[str, Any]) -> set[str]:
        return {node["receiver"]}.union(*(named(child) for child in node.get("routes", [])))

    assert named(config()["route"]) == {receiver["name"] for receiver in config()["receivers"]}


def test_no_secret_stands_in_the_file() -> None:
    text = FILE.read_text(encoding="utf-8")
    for line in text.splitlines():
        name = line.strip().partition(":")[0].lstrip("- ")
        assert name not in ("routing_key", "service_key", "api_url", "smtp_auth_password")


def _hushed(source: Mapping[str, str], target: Mapping[str, str]) -> bool:
    """Whether some inhibition rule lets `source` hush `target`, read as Alertmanager reads it."""
    return any(
        all(_matches(m, source) for m in rule["source_matchers"])
        and all(_matches(m, target) for m in rule["target_matchers"])
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in config()["inhibit_rules"]
    )


def _matches(matcher: str, labels: Mapping[str, str]) -> bool:
    name, sign, text = re.fullmatch(r'(\w+) (=~|!~|!=|=) "(.*)"', matcher).groups()  # type: ignore[union-attr]
    value = labels.get(name, "")
    if sign.endswith("~"):
        return (re.fullmatch(text, value) is not None) is (sign == "=~")
    return (value == text) is (sign == "=")


DOWN = {"alertname": "PaymentApiHealthStatus", "component": "redis-cache", "severity": "critical"}
TOKENS = {"alertname": "PaymentApiTokensWithoutTtl", "component": "redis-cache",
          "category": "security", "severity": "warning"}  # fmt: skip
SLOW = {"alertname": "PaymentApiApiResponseTime", "component": "payment-eapi",
        "category": "performance", "severity": "warning"}  # fmt: skip
FAILURES = {"alertname": "PaymentApiAuthenticationFailures", "component": "payment-eapi",
            "category": "security", "severity": "critical"}  # fmt: skip
HUSHED = [
    ("no word of tokens while the cache is down", DOWN, TOKENS, True),
    ("nor in another environment's name", {**DOWN, "environment": "b"}, TOKENS, False),
    ("slow is not said of what is down", {**DOWN, "component": "payment-eapi"}, SLOW, True),
    ("of another component it is", DOWN, SLOW, False),
    (
        "security is said even so: an attack may be why it is down",
        {**DOWN, "component": "payment-eapi"},
        {**SLOW, "category": "security"},
        False,
    ),
    ("the critical hushes its own warning", {**SLOW, "severity": "critical"}, SLOW, True),
    (
        "not another component's",
        {**SLOW, "severity": "critical", "component": "payment-sapi"},
        SLOW,
        False,
    ),
    (
        "no payment can be made without SAPI either: the login flow says nothing of its own",
        {**DOWN, "component": "payment-sapi"},
        {**DOWN, "component": "authentication-flow"},
        True,
    ),
    (
        "who leans on SAPI is degraded by it",
        {**DOWN, "component": "payment-sapi"},
        {**DOWN, "component": "payment-eapi", "severity": "warning", "category": "availability"},
        True,
    ),
    (
        "not the other way round",
        {**DOWN, "component": "payment-eapi"},
        {**DOWN, "component": "payment-sapi", "severity": "warning", "category": "availability"},
        False,
    ),
    (
        "that nobody watches it any more goes where the incident went",
        DOWN,
        {
            "alertname": "PaymentApiIncidentUnwatched",
            "component": "redis-cache",
            "category": "availability",
            "severity": "critical",
        },
        False,
    ),
    (
        "a login that waits for a dead cache is slow",
        DOWN,
        {**SLOW, "component": "authentication-flow", "severity": "critical"},
        True,
    ),
    (
        "no login without EAPI",
        {**DOWN, "component": "payment-eapi"},
        {**DOWN, "component": "authentication-flow"},
        True,
    ),
    (
        "degraded explains nothing",
        {**DOWN, "severity": "warning", "component": "payment-eapi"},
        {**SLOW, "severity": "critical"},
        False,
    ),
    (
        "the budget of the whole is explained by what is down",
        DOWN,
        {"alertname": "PaymentApiErrorBudgetBurnRate", "component": "overall"},
        True,
    ),
    (
        "what refuses us is degraded, and not unread as well",
        {**DOWN, "severity": "warning"},
        {
            "alertname": "PaymentApiMonitoringBlind",
            "component": "redis-cache",
            "severity": "warning",
            "category": "availability",
        },
        True,
    ),
    (
        "the share of failed logins is no second message beside their number",
        {**FAILURES, "severity": "warning"},
        {**FAILURES, "alertname": "PaymentApiAuthenticationFailureRatio", "severity": "warning"},
        True,
    ),
    (
        "but a page is no warning's to hush",
        {**FAILURES, "severity": "warning"},
        {**FAILURES, "alertname": "PaymentApiAuthenticationFailureRatio"},
        False,
    ),
    (
        "nor does the share hush the number, which names clients",
        {**FAILURES, "alertname": "PaymentApiAuthenticationFailureRatio"},
        {**FAILURES, "severity": "warning", "client": "client-001"},
        False,
    ),
    (
        "unless it is a page, and the number a warning that names none",
        {**FAILURES, "alertname": "PaymentApiAuthenticationFailureRatio"},
        {**FAILURES, "severity": "warning"},
        True,
    ),
    (
        "a login that came through after failures tells of these, too",
        {**FAILURES, "alertname": "PaymentApiFailuresThenSuccess", "client": "client-001"},
        {**FAILURES, "client": "client-001"},
        True,
    ),
    (
        "it is told even where the failures are",
        {**FAILURES, "client": "client-001"},
        {**FAILURES, "alertname": "PaymentApiFailuresThenSuccess", "client": "client-001"},
        False,
    ),
    (
        "a burst of failures is their number once more",
        {**FAILURES, "client": "client-001"},
        {**FAILURES, "alertname": "PaymentApiFailureBurst", "client": "client-001"},
        True,
    ),
    (
        "of another client it is news",
        {**FAILURES, "client": "client-002"},
        {**FAILURES, "alertname": "PaymentApiFailureBurst", "client": "client-001"},
        False,
    ),
    (
        "and a page, where the number is a warning",
        {**FAILURES, "severity": "warning", "client": "client-001"},
        {**FAILURES, "alertname": "PaymentApiFailureBurst", "client": "client-001"},
        False,
    ),
    ("the number of all is told with that of one", {**FAILURES, "client": "c"}, FAILURES, True),
    ("and does not hush that of one", FAILURES, {**FAILURES, "client": "c"}, False),
    (
        "a spray over many clients is told beside one of them",
        {**FAILURES, "client": "client-001"},
        {**FAILURES, "alertname": "PaymentApiFailureSpray"},
        False,
    ),
    (
        "two pages do not hush each other",
        {**FAILURES, "alertname": "PaymentApiAuthenticationFailureRatio"},
        FAILURES,
        False,
    ),
    ("a dead component does not hush another", DOWN, {**DOWN, "component": "payment-sapi"}, False),
]


@pytest.mark.parametrize(
    ("source", "target", "expected"), [row[1:] for row in HUSHED], ids=[row[0] for row in HUSHED]
)
def test_what_hushes_what(
    source: Mapping[str, str], target: Mapping[str, str], expected: bool
) -> None:
    assert _hushed(source, target) is expected


def test_what_has_one_cause_in_the_scripts_has_one_here() -> None:
    """Each way in which failed logins show hushes the least telling one."""
    least = AlertKey("", "", "", "authentication_failure_ratio").labels()["alertname"]
    others = {AlertKey("", "", "", m).labels()["alertname"] for m in metrics_of(LOGINS)} - {least}
    assert len(others) > 4
    for alertname in others:
        assert _hushed({**FAILURES, "alertname": alertname}, {**FAILURES, "alertname": least})


def test_every_component_can_hush_what_hangs_on_it() -> None:
    for component in COMPONENTS:
        down = {**DOWN, "component": component}
        assert _hushed(down, {**SLOW, "component": component})


def test_the_tree_is_not_deeper_than_a_person_can_follow() -> None:
    assert len(config()["route"]["routes"]) <= 6
    assert Path(FILE).stat().st_size < 8000
