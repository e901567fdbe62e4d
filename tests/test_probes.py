"""The five components asked over real sockets: healthy, with each fault, and hanging."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from monitoring.components import COMPONENTS
from monitoring.config.secret import Secret
from monitoring.health.asking import PROBES, Team, patience
from monitoring.health.judges import judge
from monitoring.health.judging import Context
from monitoring.model import Reading, Severity
from sandbox.options import Options
from sandbox.stack import Stack
from tests.health_kit import live_of, settings_of

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
EAPI, SAPI, VAULT, CACHE, LOGIN = COMPONENTS
QUIET = Options(clients=2, traffic=False, rotating=False, redis_patience=0.05)


@pytest.fixture(scope="module")
def stack():
    with Stack(QUIET) as started:
        yield started


@pytest.fixture(scope="module")
def enterprise():
    with Stack(replace(QUIET, conjur="enterprise")) as started:
        yield started


@pytest.fixture
def settings(stack, tmp_path):
    stack.faults.clear()
    return settings_of(stack, tmp_path)


def row(live, name):
    """The component's row after one probe."""
    (reading,) = Team().ask(live, [name])
    return judge(reading, Context(canary=live.settings.canary)).component


def test_a_healthy_stack(settings):
    readings = Team().ask(live_of(settings))
    assert [reading.source for reading in readings] == list(COMPONENTS)
    for reading in readings:
        judged = judge(reading, Context(canary=settings.canary, tokens=settings.tokens))
        assert (judged.component.status, judged.component.up) == (OK, True), judged.component
        assert judged.findings == ()
        assert judged.component.response_time_ms is not None
    details = {r.source: judge(r, Context()).component.details for r in readings}
    assert details[EAPI]["reported_dependencies"]["conjurVault"] == "UP"
    assert details[VAULT]["variables_readable"] == 3  # two clients and the canary
    assert set(details[LOGIN]["steps_ms"]) == {"token", "decode", "validate"}
    figures = judge(readings[0], Context()).measurements
    assert any(m.name == "payment_api_service_memory_used_ratio" for m in figures)


@pytest.mark.parametrize(
    ("fault", "name", "severity", "up", "error"),
    [
        ("eapi-500", EAPI, CRITICAL, False, "http"),
        ("eapi-down", EAPI, CRITICAL, False, "refused"),
        ("eapi-degraded", EAPI, WARNING, True, None),
        ("eapi-status=DOWN", EAPI, CRITICAL, False, None),
        ("eapi-status=OUT_OF_SERVICE", EAPI, CRITICAL, False, None),
        ("eapi-status=BANANA", EAPI, UNKNOWN, None, None),
        ("eapi-redirect-loop", EAPI, UNKNOWN, None, "redirect"),
        ("eapi-garbage", EAPI, UNKNOWN, None, "body"),
        ("eapi-deep", EAPI, UNKNOWN, None, "body"),
        ("eapi-truncated", EAPI, UNKNOWN, None, "body"),
        ("eapi-huge", EAPI, UNKNOWN, None, "too_large"),
        ("sapi-500", SAPI, CRITICAL, False, "http"),
        ("conjur-500", VAULT, CRITICAL, False, "http"),
        ("conjur-down", VAULT, CRITICAL, False, "refused"),
        ("conjur-unauthorized", VAULT, WARNING, True, "auth"),
        ("conjur-forbidden", VAULT, WARNING, True, "noperm"),
        ("redis-refused", CACHE, CRITICAL, False, "refused"),
        ("redis-noauth", CACHE, UNKNOWN, True, "auth"),
        ("redis-loading", CACHE, WARNING, True, "loading"),
        ("redis-readonly", CACHE, WARNING, True, "masterdown"),
        ("eapi-down", LOGIN, CRITICAL, False, "refused"),
        ("sapi-down", LOGIN, CRITICAL, False, "refused"),
        ("eapi-500", LOGIN, CRITICAL, False, "http"),
        ("auth-broken", LOGIN, CRITICAL, False, "auth"),
        ("eapi-garbage", LOGIN, CRITICAL, False, "body"),
    ],
)
def test_faults(*, stack, settings, fault, name, severity, up, error):
    stack.faults.set(*fault.split("=")[:2]) if "=" in fault else stack.faults.set(fault)
    component = row(live_of(settings), name)
    assert (component.status, component.up, component.error) == (severity, up, error), component


@pytest.mark.parametrize("fault", ["eapi-hang", "eapi-drip", "eapi-drip-headers", "redis-hang"])
def test_what_hangs_costs_its_timeout_and_harms_no_other(stack, tmp_path, fault):
    stack.faults.clear()
    stack.faults.set(fault)
    hung = CACHE if fault.startswith("redis") else EAPI
    readings = {r.source: r for r in Team().ask(live_of(settings_of(stack, tmp_path, 0.4)))}
    rows = {name: judge(r, Context()).component for name, r in readings.items()}
    assert (rows[hung].status, rows[hung].error) == (CRITICAL, "timeout")
    assert "given up" not in rows[hung].message  # the request kept its own deadline
    for name in {SAPI, VAULT, CACHE} - {hung}:
        assert rows[name].up, rows[name]


def test_a_late_answer_is_measured(stack, settings):
    stack.faults.set("sapi-slow", "150ms")
    component = row(live_of(settings), SAPI)
    assert component.up
    assert component.response_time_ms >= 150.0


@pytest.mark.parametrize(
    ("fault", "severity", "up"),
    [
        ("", OK, True),
        ("conjur-degraded", WARNING, True),
        ("conjur-502", CRITICAL, False),
        ("conjur-follower-stale", WARNING, True),
    ],
)
def test_the_enterprise_vault(*, enterprise, tmp_path, fault, severity, up):
    enterprise.faults.clear()
    if fault:
        enterprise.faults.set(fault)
    component = row(live_of(settings_of(enterprise, tmp_path)), VAULT)
    assert (component.status, component.up) == (severity, up)
    if not fault:
        assert component.details["edition"] == "enterprise"
        assert component.details["free_bytes"] > 0


def test_a_vault_without_credentials_is_judged_by_its_own_word(settings):
    bare = replace(settings, conjur=replace(settings.conjur, login="", api_key=Secret()))
    component = row(live_of(bare), VAULT)
    assert component.status is OK
    assert "CONJUR_AUTHN_LOGIN" in component.details["access"]


@pytest.mark.parametrize(
    ("part", "change", "name"),
    [
        ("conjur", {"url": ""}, VAULT),
        ("canary", {"client_id": ""}, LOGIN),
        ("canary", {"client_secret": Secret()}, LOGIN),
        ("eapi", {"paths": {}}, EAPI),
        ("eapi", {"url": ""}, EAPI),
        ("sapi", {"url": ""}, SAPI),
        ("eapi", {"url": ""}, LOGIN),
        ("sapi", {"url": ""}, LOGIN),
        ("redis", {"host": ""}, CACHE),
    ],
)
def test_what_is_not_configured_is_unknown_with_the_cure(settings, part, change, name):
    bare = replace(settings, **{part: replace(getattr(settings, part), **change)})
    component = row(live_of(bare), name)
    assert (component.status, component.up, component.configured) == (UNKNOWN, None, False)
    assert component.message


@pytest.mark.parametrize(
    ("part", "change", "name"),
    [
        ("canary", {"client_secret": Secret(path="/nonexistent/secret")}, LOGIN),
        ("sapi", {"paths": {"health": "/internal/v1/health"}}, LOGIN),
    ],
)
def test_a_setting_that_cannot_be_used_is_a_config_fault(settings, part, change, name):
    bare = replace(settings, **{part: replace(getattr(settings, part), **change)})
    component = row(live_of(bare), name)
    assert (component.status, component.error) == (UNKNOWN, "config")


def test_an_unreadable_auth_token_is_named(settings):
    bare = replace(settings, auth_token=Secret(path="/nonexistent/token"))
    component = row(live_of(bare), EAPI)
    assert component.error == "config"
    assert "MONITORING_AUTH_TOKEN_FILE" in component.message


@pytest.mark.parametrize(
    ("path", "said"), [("/nowhere", "404"), ("/api/v1/health/liveness", "empty body")]
)
def test_other_health_paths(settings, path, said):
    paths = {**settings.eapi.paths, "health": path, "detailed": ""}
    moved = replace(settings, eapi=replace(settings.eapi, paths=paths))
    assert said in row(live_of(moved), EAPI).message


def test_actuator_paths(settings):
    paths = {**settings.eapi.paths, "health": "/actuator/health", "detailed": ""}
    moved = replace(settings, eapi=replace(settings.eapi, paths=paths))
    component = row(live_of(moved), EAPI)
    assert (component.status, component.up) == (OK, True)


def test_a_missing_detailed_page_and_metrics_page_are_no_errors(settings):
    paths = {**settings.eapi.paths, "detailed": "/nowhere", "metrics": "/nowhere"}
    moved = replace(settings, eapi=replace(settings.eapi, paths=paths))
    component = row(live_of(moved), EAPI)
    assert component.status is OK
    assert component.details["detailed"] == "not offered (HTTP 404)"
    assert "404" in component.details["metrics"]


# -- the team


def test_a_probe_that_breaks_costs_its_own_turn_only(settings, caplog):
    def broken(_live):
        raise ZeroDivisionError("ours")

    readings = Team({**PROBES, EAPI: broken}).ask(live_of(settings))
    assert readings[0].fault.kind == "internal"
    assert readings[0].fault.message == "the monitor itself failed; see the log"
    assert all(reading.fault is None for reading in readings[1:])
    assert any(record.exc_info for record in caplog.records)


def test_a_probe_that_never_ends_is_given_up_and_not_piled_up(settings):
    release, entered = threading.Event(), []

    def hanging(live):
        entered.append(live)
        release.wait(30)
        return Reading(EAPI, 0.0)

    team = Team({EAPI: hanging})
    hurried = replace(settings, run=replace(settings.run, cycle_deadline=0.05))
    try:
        (first,) = team.ask(live_of(hurried), [EAPI])
        (second,) = team.ask(live_of(hurried), [EAPI])
        assert first.fault.kind == second.fault.kind == "timeout"
        assert "given up" in first.fault.message
        assert "not asked again" in second.fault.message
        assert len(entered) == 1
    finally:
        release.set()


def test_a_judge_that_breaks_costs_its_own_component_only(settings):
    def judged(reading):
        if reading.source == CACHE and reading.fault is None:
            raise OverflowError("a figure that no float holds")
        return judge(reading, Context(canary=settings.canary)).component

    rows = {row.name: row for row in Team().ask(live_of(settings), judge=judged)}
    assert (rows[CACHE].status, rows[CACHE].error) == (UNKNOWN, "internal")
    assert all(row.up for name, row in rows.items() if name != CACHE), rows


def test_what_could_not_be_kept_is_seen_where_it_was_made(settings):
    (reading,) = Team().ask(live_of(settings), [CACHE])
    odd = {**reading.facts["nodes"][0]["info"], "uptime_in_seconds": float("inf")}
    node = {**reading.facts["nodes"][0], "info": odd}
    with pytest.raises(ValueError, match="not JSON compliant"):
        judge(replace(reading, facts={**reading.facts, "nodes": (node,)}), Context())


def test_the_cycle_deadline_bounds_them_all(settings):
    gone = threading.Event()

    def hanging(_live):
        gone.wait(30)

    team = Team(dict.fromkeys(COMPONENTS, hanging))
    hurried = replace(settings, run=replace(settings.run, cycle_deadline=0.1))
    try:
        readings = team.ask(live_of(hurried))
        assert {r.fault.kind for r in readings} == {"timeout"}
        assert {r.fault.message for r in readings} == {"no answer within 0.08 s, given up"}
    finally:
        gone.set()


def test_patience_leaves_each_request_its_own_timeout(settings):
    allowed = patience(settings)
    assert set(allowed) == set(COMPONENTS)
    assert allowed[EAPI] > settings.eapi.timeout
    assert allowed[LOGIN] > settings.eapi.timeout + settings.sapi.timeout
