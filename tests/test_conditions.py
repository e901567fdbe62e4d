"""From outcomes to alerts: what fires, what resolves, what stays silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts.conditions import BLIND, UP, conditions
from monitoring.alerts.lifecycle import vanished
from monitoring.model import Alert, Component, Finding, Measurement, Severity, Source, Verdict
from tests.alerting_kit import CRITICAL, OK, UNKNOWN, WARNING, alert, component, outcome


def one(found: tuple[Alert, ...], metric: str, place: str = "redis-cache") -> Alert:
    (got,) = [a for a in found if a.key.metric == metric and a.key.component == place]
    return got


def verdict(
    severity: Any, name: str, value: float | None, limit: float | None, **labels: str
) -> Verdict:
    metric = {
        "performance.api_response_time": "response_time_ms",
        "availability.tls_certificate_days": "tls_certificate_remaining_seconds",
        "performance.redis_memory_used": "redis_memory_used_ratio",
        "security.authentication_failures": "authentication_failures_recent",
    }[name]
    why = "within_limits" if severity is OK else f"above_{severity.word}"
    return Verdict(Measurement(f"payment_api_{metric}", value, labels), severity, limit, why, name)


def test_a_slow_login_is_explained_by_whatever_lies_behind_it() -> None:
    slow = verdict(WARNING, "performance.api_response_time", 900.0, 500.0,
                   component="authentication-flow")  # fmt: skip
    got = one(conditions(outcome(verdicts=(slow,))), "api_response_time", "authentication-flow")
    assert {"payment-eapi", "payment-sapi", "conjur-vault", "redis-cache"} < {*got.parent.split()}


# -- what a resolve will say


@pytest.mark.parametrize(
    ("found", "metric", "said"),
    [
        (outcome(component(OK, message="answers")), UP, "redis-cache is up: answers"),
        (outcome(component(OK)), BLIND, "the monitor sees redis-cache again"),
        (
            outcome(
                verdicts=(
                    verdict(
                        OK, "performance.api_response_time", 45.0, None, component="redis-cache"
                    ),
                )
            ),
            "api_response_time",
            "redis-cache: response time 45 ms, within its limits",
        ),
    ],
)
def test_what_is_fine_says_so(found: Any, metric: str, said: str) -> None:
    assert one(conditions(found), metric).summary == said


def test_what_is_no_longer_found_says_so() -> None:
    finding = Finding("volume_spike", WARNING, "far too much", "redis-cache", "client-7")
    bad = [a for a in conditions(outcome(findings=(finding,))) if a.key.metric == "volume_spike"]
    (gone,) = vanished(bad, (), outcome(component(OK)))
    assert (gone.severity, gone.value) == (OK, None)
    assert gone.summary == "redis-cache, client client-7: volume spike is no longer found"


# -- components


@pytest.mark.parametrize(
    ("sentence", "row", "up", "blind"),
    [
        ("healthy", component(OK), OK, OK),
        ("down is critical", component(CRITICAL, error="timeout"), CRITICAL, OK),
        ("down is critical whatever its status says", component(WARNING, up=False), CRITICAL, OK),
        ("degraded is a warning", component(WARNING), WARNING, OK),
        ("cannot tell: the monitor is blind", component(UNKNOWN, error="http"), UNKNOWN, WARNING),
        (
            "up, but we are not let in: blind, not down, and nothing earlier is over",
            component(UNKNOWN, up=True, error="auth"),
            UNKNOWN,
            WARNING,
        ),
    ],
)
def test_components(sentence: str, row: Component, up: Any, blind: Any) -> None:
    found = conditions(outcome(row))
    assert one(found, UP).severity is up, sentence
    assert one(found, BLIND).severity is blind, sentence


def test_what_is_not_configured_is_nobodys_business() -> None:
    row = Component("authentication-flow", UNKNOWN, None, message="no canary", configured=False)
    assert conditions(outcome(row)) == ()


def test_a_slow_component_is_told_by_its_threshold_and_not_twice() -> None:
    slow = verdict(
        CRITICAL, "performance.api_response_time", 800.0, 500.0, component="payment-eapi"
    )
    row = component(CRITICAL, "payment-eapi", up=True)
    found = conditions(outcome(row, verdicts=(slow,)))
    assert one(found, UP, "payment-eapi").severity is OK
    assert one(found, "api_response_time", "payment-eapi").severity is CRITICAL


def test_a_component_worse_than_its_verdicts_is_degraded() -> None:
    slow = verdict(WARNING, "performance.api_response_time", 400.0, 300.0, component="payment-eapi")
    found = conditions(outcome(component(CRITICAL, "payment-eapi", up=True), verdicts=(slow,)))
    assert one(found, UP, "payment-eapi").severity is CRITICAL


def test_a_dead_component_says_what_where_and_what_to_do() -> None:
    row = component(CRITICAL, error="refused", message="nothing listens on 127.0.0.1:6379")
    got = one(conditions(outcome(row)), UP)
    assert got.summary == "redis-cache is down: nothing listens on 127.0.0.1:6379"
    assert "token" in got.meaning.lower()
    assert "Nothing listens on the port" in got.action
    assert (got.runbook, got.dashboard) == ("redis-cache-down", "payment-api-health")


@pytest.mark.parametrize(
    ("severity", "name", "parents"),
    [
        (CRITICAL, "authentication-flow", "payment-eapi payment-sapi"),
        (CRITICAL, "payment-eapi", ""),  # what is dead itself is its own cause
        (WARNING, "payment-eapi", "payment-sapi conjur-vault redis-cache"),
        (WARNING, "payment-sapi", "redis-cache"),
    ],
)
def test_what_a_component_leans_on_explains_its_trouble(
    severity: Severity, name: str, parents: str
) -> None:
    assert one(conditions(outcome(component(severity, name))), UP, name).parent == parents


@pytest.mark.parametrize(
    ("error", "failed_at", "parents"),
    [
        ("http", "payment-eapi", "payment-eapi payment-sapi conjur-vault redis-cache"),
        ("timeout", "payment-sapi", "payment-eapi payment-sapi redis-cache"),
        ("auth", "payment-eapi", "payment-eapi payment-sapi"),  # refused: a reason of its own
        ("tls", "payment-eapi", "payment-eapi payment-sapi"),
    ],
)
def test_how_a_login_fails_says_what_explains_it(error: str, failed_at: str, parents: str) -> None:
    row = component(CRITICAL, "authentication-flow", error=error)
    row = replace(row, details={"parent": failed_at})
    assert one(conditions(outcome(row)), UP, "authentication-flow").parent == parents


# -- sources


@pytest.mark.parametrize(
    ("sentence", "source", "severity", "parent"),
    [
        ("read: fine", Source("redis", True), OK, "redis-cache"),
        (
            "not read: blind, explained by a dead cache",
            Source("redis", False, why="timeout"),
            WARNING,
            "redis-cache",
        ),
        ("one with no component behind it", Source("ledger", False, error="internal"), WARNING, ""),
        ("a failed cycle", Source("monitor", False, why="KeyError: x"), WARNING, ""),
    ],
)
def test_sources(sentence: str, source: Source, severity: Any, parent: str) -> None:
    (got,) = conditions(outcome(sources=(source,), script="token_usage_metrics"))
    assert (got.severity, got.parent, got.key.metric) == (severity, parent, BLIND), sentence


def test_a_source_that_is_not_configured_is_left_out() -> None:
    assert conditions(outcome(sources=(Source("conjur", False, configured=False),))) == ()


# -- verdicts


def test_a_verdict_speaks_in_the_thresholds_unit() -> None:
    tls = verdict(
        *(WARNING, "availability.tls_certificate_days", 12.5 * 86400, 30 * 86400.0),
        component="payment-eapi",
    )
    got = one(conditions(outcome(verdicts=(tls,))), "tls_certificate_days", "payment-eapi")
    assert (got.value, got.threshold, got.unit) == (12.5, 30.0, "days")
    assert got.summary.startswith(
        "payment-eapi: a certificate expires in 12.5 days (warning up to 30 days)"
    )
    assert got.runbook == "certificate-expiry"


@pytest.mark.parametrize(
    ("days", "limit", "step"),
    [
        (40, 45, 45),
        (30, 45, 30),
        (29.9, 30, 30),
        (14, 30, 14),
        (7.01, 30, 14),
        (1, 30, 1),
        (-3, 30, 1),
    ],
)
def test_expiry_steps(days: float, limit: float, step: int) -> None:
    tls = verdict(
        *(WARNING, "availability.tls_certificate_days", days * 86400, limit * 86400.0),
        component="payment-eapi",
    )
    assert conditions(outcome(verdicts=(tls,)))[0].step == step


def test_of_several_nodes_the_worst_speaks_under_one_key() -> None:
    nodes = [
        verdict(severity, "performance.redis_memory_used", value, 0.9, node=f"10.0.0.{n}:6379")
        for n, (severity, value) in enumerate([(OK, 0.2), (CRITICAL, 0.97), (WARNING, 0.91)])
    ]
    (got,) = conditions(outcome(verdicts=tuple(nodes)))
    assert (got.severity, got.key.component) == (CRITICAL, "redis-cache")
    assert got.evidence["node"] == "10.0.0.1:6379"
    assert "97 %" in got.summary


@pytest.mark.parametrize(
    ("label", "client", "said"),
    [
        ("client-7", "client-7", "client client-7"),
        ("all", "", "payment-eapi:"),
        ("other", "other", "all other clients"),
    ],
)
def test_client_labels(label: str, client: str, said: str) -> None:
    failures = verdict(CRITICAL, "security.authentication_failures", 80.0, 50.0, client_id=label)
    (got,) = conditions(outcome(verdicts=(failures,), script="credential_usage_metrics"))
    assert (got.key.client, got.key.component, got.hold) == (client, "payment-eapi", 1)
    assert said in got.summary
    assert got.parent == "", "an attack may be why EAPI is down"


def test_a_hostile_client_id_is_escaped_in_the_sentence() -> None:
    failures = verdict(
        CRITICAL, "security.authentication_failures", 80.0, 50.0, client_id="a\r\nBcc: x\x1b[31m"
    )
    (got,) = conditions(outcome(verdicts=(failures,)))
    assert "\n" not in got.summary
    assert "\x1b" not in got.summary


def test_hostile_client_ids_make_clean_keys_that_stay_apart() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    ids = ["x" * 80 + "a", "x" * 80 + "b", "a\r\nb", jwt, "plain"]
    found = [
        conditions(outcome(findings=(Finding("r", WARNING, "s", "c", client=i),)))[0] for i in ids
    ]
    clients = [a.key.client for a in found]
    assert len(set(clients)) == len(ids)
    assert clients[-1] == "plain"
    assert all(client.isprintable() and len(client) <= 64 for client in clients)
    assert not any("eyJ" in client for client in clients)


def test_not_measured_is_unknown_and_fine_is_ok() -> None:
    known = verdict(OK, "performance.api_response_time", 20.0, None, component="payment-eapi")
    dark = verdict(UNKNOWN, "performance.api_response_time", None, None, component="payment-sapi")
    assert [a.severity for a in conditions(outcome(verdicts=(known, dark)))] == [OK, UNKNOWN]


# -- findings


def test_a_finding_keeps_its_own_words() -> None:
    finding = Finding(
        *("half_done", WARNING, "client-1 still uses its old secret", "conjur-vault"),
        client="client-1",
        meaning="mine",
        action="do this",
    )
    (got,) = conditions(outcome(findings=(finding,), script="credential_usage_metrics"))
    assert (got.summary, got.meaning, got.action) == (finding.sentence, "mine", "do this")
    assert (got.key.metric, got.key.client, got.hold) == ("half_done", "client-1", 1)
    assert got.runbook


@pytest.mark.parametrize(
    ("place", "category", "parent"),
    [
        ("redis-cache", "security", "redis-cache"),
        ("redis-cache", "performance", "redis-cache"),
        ("payment-eapi", "security", ""),
        ("payment-eapi", "performance", "payment-eapi"),
        ("somewhere", "performance", ""),
    ],
)
def test_whose_failure_explains_a_finding(place: str, category: str, parent: str) -> None:
    finding = Finding("reason", WARNING, "text", place, category=category)
    (got,) = conditions(outcome(findings=(finding,), script="token_usage_metrics"))
    assert got.parent == parent


# -- what is no longer mentioned


def gone(known: Alert, **now: Any) -> Any:
    seen = outcome(*now.pop("components", ()), **now)
    (got,) = vanished([known], conditions(seen), seen)
    return got.severity


def finding_alert(place: str, script: str, **evidence: Any) -> Alert:
    finding = Finding("reason", WARNING, "text", place, evidence=evidence)
    return conditions(outcome(findings=(finding,), script=script))[0]


@pytest.mark.parametrize(
    ("sentence", "place", "now", "severity"),
    [
        ("its component is up", "redis-cache", {"components": (component(OK),)}, OK),
        ("its component is down", "redis-cache", {"components": (component(CRITICAL),)}, UNKNOWN),
        (
            "its component was not judged",
            "redis-cache",
            {"components": (component(UNKNOWN),)},
            UNKNOWN,
        ),
        (
            "this run asked others only",
            "redis-cache",
            {"components": (component(OK, "payment-eapi"),)},
            UNKNOWN,
        ),
        (
            "of all of them, and this run asked one only",
            "overall",
            {"components": (component(OK),), "sources": (Source("redis-cache", True),)},
            UNKNOWN,
        ),
        (
            "it is no longer configured",
            "redis-cache",
            {"components": (Component("redis-cache", UNKNOWN, None, configured=False),)},
            OK,
        ),
        (
            "every source was read",
            "tokens",
            {"sources": (Source("redis", True), Source("eapi", True))},
            OK,
        ),
        (
            "a source was not read",
            "tokens",
            {"sources": (Source("redis", True), Source("eapi", False))},
            UNKNOWN,
        ),
        ("nothing was looked at", "tokens", {}, UNKNOWN),
        (
            "a scan was cut short",
            "tokens",
            {
                "sources": (Source("redis", True),),
                "measurements": (Measurement("payment_api_scan_truncated", 1.0),),
            },
            UNKNOWN,
        ),
    ],
)
def test_vanished(sentence: str, place: str, now: dict[str, Any], severity: Any) -> None:
    assert gone(finding_alert(place, "health_check"), **now) is severity, sentence


def test_a_finding_that_names_its_source_needs_that_one_only() -> None:
    known = finding_alert("tokens", "token_usage_metrics", source="redis")
    now = {"sources": (Source("redis", True), Source("eapi", False)), "script": known.key.script}
    assert gone(known, **now) is OK


@pytest.mark.parametrize(
    ("dark", "severity"), [("eapi", OK), ("redis", UNKNOWN), ("vault", UNKNOWN)]
)
def test_a_finding_that_names_several_sources_needs_them_all(dark: str, severity: Any) -> None:
    names = ["redis", "vault"]
    known = finding_alert("tokens", "token_usage_metrics", source="redis", sources=names)
    sources = tuple(Source(name, name != dark) for name in (*names, "eapi"))
    assert gone(known, sources=sources, script=known.key.script) is severity


@pytest.mark.parametrize(
    ("sentence", "sources", "severity"),
    [
        (
            "it is no longer configured",
            (Source("redis", False, configured=False), Source("eapi", True)),
            OK,
        ),
        ("the whole cycle failed", (Source("monitor", False, why="boom"),), UNKNOWN),
    ],
)
def test_blindness_about_a_source_ends_when_the_source_goes(
    sentence: str, sources: tuple[Source, ...], severity: Any
) -> None:
    (known,) = conditions(outcome(sources=(Source("redis", False, why="x"),)))
    assert gone(known, sources=sources) is severity, sentence


@pytest.mark.parametrize(
    ("listed", "severity"), [("eapi-metrics", UNKNOWN), ("sapi-metrics", OK), ("monitor", UNKNOWN)]
)
def test_a_source_that_is_still_read_from_has_not_gone(listed: str, severity: Any) -> None:
    """`monitor` alone: the script itself did not run, so nobody knows."""
    known = alert(WARNING, "eapi-metrics", metric=BLIND)
    (got,) = vanished([known], (), outcome(sources=(Source(listed, ok=True),)))
    assert got.severity == severity


def test_what_is_still_mentioned_has_not_vanished() -> None:
    seen = outcome(component(CRITICAL))
    found = conditions(seen)
    assert vanished(found, found, seen) == ()


def spiked(sentence: str, severity: Any = WARNING, place: str = "redis-cache") -> Finding:
    return Finding("volume_spike", severity, sentence, place, "client-7")


def test_of_two_that_are_one_alert_the_worse_speaks_and_of_equals_the_first() -> None:
    for findings, said in (
        ((spiked("first"), spiked("second")), "first"),
        ((spiked("first"), spiked("second", CRITICAL)), "second"),
        ((spiked("first", CRITICAL), spiked("second")), "first"),
    ):
        found = one(conditions(outcome(findings=findings)), "volume_spike")
        assert said in found.summary


@pytest.mark.parametrize(
    ("up", "status", "error", "evidence"),
    [
        (False, CRITICAL, "refused", {"error": "refused"}),
        (False, CRITICAL, None, {}),
        (True, WARNING, "noperm", {}),
        (True, OK, None, {}),
    ],
)
def test_what_is_down_says_by_which_error(up: Any, status: Any, error: Any, evidence: Any) -> None:
    found = one(conditions(outcome(component(status, up=up, error=error))), UP)
    assert (found.threshold, dict(found.evidence)) == (1.0, evidence)
    assert found.value == float(up)


@pytest.mark.parametrize(
    ("row", "severity"),
    [
        (component(UNKNOWN, up=None), UNKNOWN),
        (component(UNKNOWN, up=True), UNKNOWN),
        (component(OK, up=None), UNKNOWN),
        (component(WARNING, up=True), WARNING),
        (component(OK, up=True), OK),
    ],
)
def test_what_is_not_known_ends_nothing(row: Component, severity: Any) -> None:
    assert one(conditions(outcome(row)), UP).severity is severity


@pytest.mark.parametrize(("place", "severity"), [("redis-cache", OK), ("conjur-vault", WARNING)])
def test_what_a_finding_says_of_the_component_is_not_said_twice(place: str, severity: Any) -> None:
    found = conditions(outcome(component(WARNING), findings=(spiked("x", place=place),)))
    assert one(found, UP).severity is severity
