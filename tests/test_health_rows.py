"""Rows of any component: one that the user added, whether it was looked at, what its figures make
of it, and whether the whole is up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.health.judges import judge, raised, sources_of, system_up
from monitoring.health.judging import Context, ProbeVerdict
from monitoring.model import Component, Fault, Measurement, Reading, Severity, Verdict

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
NOW = 1_795_400_000.0


@pytest.mark.parametrize(
    ("facts", "fault", "severity", "up", "error"),
    [
        ({"status": 200}, None, OK, True, None),
        ({"status": 299}, None, OK, True, None),
        ({"status": 199}, None, CRITICAL, False, "http"),
        ({"status": 300}, None, CRITICAL, False, "http"),
        ({"status": 404, "wanted": (404,)}, None, OK, True, None),
        ({"status": 200, "wanted": (404,)}, None, CRITICAL, False, "http"),
        ({}, None, OK, True, None),  # a port that accepts has no status
        ({"status": 200}, Fault("refused", "why"), CRITICAL, False, "refused"),
    ],
)
def test_a_component_that_the_user_added(*, facts, fault, severity, up, error):
    component = judge(Reading("mq", NOW, 0.01, facts, fault), Context()).component
    assert (component.status, component.up, component.error) == (severity, up, error)


def looked(status, up, error=None, *, message="why", blind=()):
    component = Component("conjur-vault", status, up, 3.0, error, message)
    reading = Reading("conjur-vault", NOW, 0.5, {}, None)
    return sources_of(reading, ProbeVerdict(component, blind=blind))


def test_whether_it_was_looked_at():
    (seen,) = looked(OK, True)
    assert (seen.ok, seen.why, seen.error, seen.silent, seen.seconds) == (
        True,
        "",
        None,
        False,
        0.5,
    )
    (kept_out,) = looked(UNKNOWN, True, "auth")
    assert (kept_out.ok, kept_out.why, kept_out.error) == (False, "why", "auth")
    assert not kept_out.silent
    (dead,) = looked(CRITICAL, False, "refused")
    assert (dead.ok, dead.why, dead.error, dead.silent) == (True, "", None, True)
    (fails,) = looked(CRITICAL, False, "http")
    assert not fails.silent, "it gave an answer"
    (says,) = looked(CRITICAL, False)
    assert not says.silent, "it says so itself"


def test_figures_that_it_hides_are_a_row_of_their_own():
    hidden = (Fault("noperm", "may not run INFO"), Fault("timeout", "SLOWLOG"))
    whole, figures = looked(OK, True, blind=hidden)
    assert whole.ok
    assert (figures.name, figures.ok) == ("conjur-vault-figures", False)
    assert (figures.why, figures.error) == ("may not run INFO; SLOWLOG", "noperm")


@pytest.mark.parametrize(
    ("ups", "value"),
    [
        ((True, True), 1.0),
        ((True, False), 0.0),
        ((None, False), 0.0),
        ((True, None), None),
        ((), None),
    ],
)
def test_the_whole_is_up_when_all_there_is_was(ups, value):
    parts = [Component(f"c{n}", OK, up) for n, up in enumerate(ups)]
    assert system_up(parts) == value
    assert system_up([*parts, Component("none", UNKNOWN, None, configured=False)]) == value


NAMED = "payment_api_response_time_ms"
ROW = Component("payment-eapi", WARNING, True, message="slow")


def crossed(severity, name=NAMED, **labels):
    figure = Measurement(name, 900.0, labels or {"component": "payment-eapi"})
    return Verdict(figure, severity, 500.0, "above_critical", "performance.api_response_time")


def test_the_worst_figure_makes_a_row_worse_and_never_better():
    assert raised(ROW, [crossed(WARNING)]) is ROW, "as bad already"
    assert raised(ROW, [crossed(OK), crossed(UNKNOWN)]) is ROW
    worse = raised(ROW, [crossed(WARNING), crossed(CRITICAL), crossed(CRITICAL)])
    assert worse.status is CRITICAL
    assert worse.message == "slow; response time 900 ms (critical from 500 ms)"
    bare = raised(replace(ROW, message=""), [crossed(CRITICAL)])
    assert bare.message == "response time 900 ms (critical from 500 ms)"
    unknown = replace(ROW, status=UNKNOWN)
    assert raised(unknown, [crossed(CRITICAL)]) is unknown


def test_only_its_own_figures_of_now_count():
    assert raised(ROW, [crossed(CRITICAL, component="payment-sapi")]) is ROW
    past = "payment_api_error_budget_burning"
    assert raised(ROW, [crossed(CRITICAL, past, component="payment-eapi")]) is ROW
    vault = Component("conjur-vault", OK, True)
    step = crossed(CRITICAL, "payment_api_conjur_step_seconds", step="authenticate")
    assert raised(vault, [step]).status is CRITICAL
    assert raised(ROW, [step]) is ROW
