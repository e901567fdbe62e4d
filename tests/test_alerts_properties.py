"""The alert state machine under any sequence of verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings, strategies as st

from monitoring.alerts import lifecycle as alerts
from monitoring.alerts.lifecycle import Policy
from monitoring.alerts.state import dump_notice, dump_state, load_notice, load_state
from monitoring.config.settings import AlertSettings, Silence
from monitoring.model import Notice, Severity
from tests.alerting_kit import CRITICAL, OK, T0, UNKNOWN, WARNING, alert

severities = st.sampled_from([OK, OK, UNKNOWN, WARNING, CRITICAL, CRITICAL])
sequences = st.lists(severities, max_size=120)
rules = st.builds(
    AlertSettings,
    failure_threshold=st.integers(1, 4),
    recovery_threshold=st.integers(1, 4),
    window=st.one_of(st.none(), st.sampled_from([(2, 3), (3, 5), (1, 2)])),
    reminder_interval=st.sampled_from([{}, {"critical": 300.0, "warning": 0.0}]),
    group_above=st.integers(1, 5),
    flap_changes=st.integers(2, 8),
    flap_window=st.sampled_from([600.0, 3600.0]),
)
FIRED = ("first", "escalated", "reminder", "flapping")


def run(verdicts: list[Severity], policy: Policy, **more: Any) -> tuple[list[Notice], Any]:
    states: Any = {}
    told: list[Notice] = []
    for cycle, severity in enumerate(verdicts):
        step = alerts.step(states, [alert(severity, **more)], policy, T0 + 60 * cycle)
        states = {key: load_state(dump_state(state)) for key, state in step.states.items()}
        told += step.notices
    return told, states


@given(sequences, rules)
@settings(deadline=None)
def test_every_incident_is_told_as_a_story(verdicts: list[Severity], rule: AlertSettings) -> None:
    told, states = run(verdicts, Policy(rule))
    firing = False
    worst = OK
    for notice in told:
        if notice.reason == "first":
            assert not firing, "no duplicate fire"
            firing, worst = True, notice.alert.severity
        else:
            assert firing, f"no {notice.reason} without fire"
        if notice.reason == "escalated":
            assert notice.alert.severity > worst, "only worse is an escalation"
        worst = notice.alert.severity
        firing = notice.reason != "resolved"
        assert notice.alert.key == alert().key, "the same key throughout"
        assert notice.since <= notice.at
        assert notice.alert.severity in (WARNING, CRITICAL)
    state = states.get(alert().key.text)
    assert firing == (state is not None and state.firing), "resolved, or still firing"


@given(sequences, rules)
@settings(deadline=None)
def test_every_fire_resolves_when_it_stays_good(
    verdicts: list[Severity], rule: AlertSettings
) -> None:
    told, states = run([*verdicts, *[OK] * 70], Policy(rule))
    assert not told or told[-1].reason == "resolved"
    assert not any(state.firing for state in states.values())


@given(sequences, rules)
@settings(deadline=None)
def test_every_fire_follows_enough_bad_cycles(
    verdicts: list[Severity], rule: AlertSettings
) -> None:
    rule = replace(rule, window=None, flap_changes=10**6)
    bad = good = 0
    firing = False
    expected = []
    for severity in verdicts:
        if severity is UNKNOWN:
            continue
        bad, good = (bad + 1, 0) if severity > UNKNOWN else (0, good + 1)
        if not firing and bad >= rule.failure_threshold:
            firing = True
            expected.append("first")
        elif firing and good >= rule.recovery_threshold:
            firing = False
            expected.append("resolved")
    told, _ = run(verdicts, Policy(rule))
    assert [n.reason for n in told if n.reason in ("first", "resolved")] == expected


@given(sequences, rules)
@settings(deadline=None)
def test_fewer_fires_than_the_flap_rule_allows(
    verdicts: list[Severity], rule: AlertSettings
) -> None:
    told, _ = run(verdicts, Policy(rule))
    turns = [n.at for n in told if n.reason in ("first", "resolved")]
    for start in turns:
        inside = [at for at in turns if start <= at < start + rule.flap_window]
        # The turn that would reach the limit is held back; the end of a flapping spell is one.
        assert len(inside) <= rule.flap_changes + 1


@given(sequences, rules)
@settings(deadline=None)
def test_a_silence_only_ever_lets_a_resolve_through(
    verdicts: list[Severity], rule: AlertSettings
) -> None:
    silence = Silence({"component": "*"}, "ops", "test", until=float("inf"))
    told, _ = run(verdicts, Policy(rule, silences=(silence,)))
    assert told == []


@given(st.lists(st.lists(severities, min_size=8, max_size=8), max_size=40), rules)
@settings(max_examples=60, deadline=None)
def test_groups_are_stories_too(cycles: list[list[Severity]], rule: AlertSettings) -> None:
    states: Any = {}
    open_keys: set[str] = set()
    quiet = [[OK] * 8] * 70
    for number, verdicts in enumerate([*cycles, *quiet]):
        found = [
            alert(severity, metric="failures", client=f"c{n}")
            for n, severity in enumerate(verdicts)
        ]
        step = alerts.step(states, found, Policy(rule), T0 + 60 * number)
        states = step.states
        for notice in step.notices:
            key = notice.alert.key.text
            assert notice.reason == "first" or key in open_keys
            assert (notice.alert.key.client == "*") == bool(notice.also)
            (open_keys.discard if notice.reason == "resolved" else open_keys.add)(key)
            assert load_notice(dump_notice(notice)) == notice
    assert open_keys == set(), "everything that was told was told to be over"


@given(sequences, sequences, rules)
@settings(max_examples=60, deadline=None)
def test_alerts_do_not_touch_each_other(
    one: list[Severity], other: list[Severity], rule: AlertSettings
) -> None:
    alone, _ = run(one, Policy(rule), component="payment-sapi")
    states: Any = {}
    told = []
    for cycle, severity in enumerate(one):
        neighbour = other[cycle % len(other)] if other else OK
        found = [alert(severity, "payment-sapi"), alert(neighbour, "payment-eapi")]
        step = alerts.step(states, found, Policy(rule), T0 + 60 * cycle)
        states = step.states
        told += [n for n in step.notices if n.alert.key.component == "payment-sapi"]
    assert told == alone
