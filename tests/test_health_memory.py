"""What health_check remembers: counters of the last cycle, and when forgeries were last tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.config import load as configuration
from monitoring.config.settings import RunSettings, SlaSettings
from monitoring.health.judging import Proof
from monitoring.health.memory import Memory
from monitoring.model import Fault
from monitoring.sla.history import SlaGauges, availability, overdue_after, targets_of
from monitoring.sla.levels import OVERALL
from monitoring.store.lookback import HistoryError, Point, Series
from monitoring.store.state import State
from tests.health_kit import ROOT

NOW = 1_795_400_000.0
HOUR = 3600.0


@pytest.fixture
def settings(tmp_path):
    environ = {"MONITORING_STATE_DIR": str(tmp_path / "state"), "MONITORING_CLIENT_ID": "canary"}
    environ["MONITORING_CLIENT_SECRET"] = "canary-secret-of-tests"
    return configuration.load(
        script="health_check", root=ROOT, config_file=None, environ=environ, cwd=tmp_path
    )


@pytest.fixture
def state(settings):
    with State.open(settings.state_dir) as opened:
        yield opened


def test_the_first_cycle_knows_nothing(state, settings):
    before = Memory(state, settings).load()
    assert (before.context.at, before.context.counters, before.tried) == (None, {}, None)
    assert before.context.canary is settings.canary


def test_counters_come_back_and_those_not_asked_stay(state, settings):
    memory = Memory(state, settings)
    memory.save(NOW, {"a": 1.0, "b": 2.0}, before=memory.load())
    memory.save(NOW + 60, {"a": 5.0}, before=memory.load())
    context = Memory(state, settings).load().context
    assert (context.at, context.counters) == (NOW + 60, {"a": 5.0, "b": 2.0})


@pytest.mark.parametrize(
    ("tried", "after", "due"),
    [
        (None, 0.0, True),  # never tried
        (NOW, 60.0, False),
        (NOW, HOUR - 1, False),
        (NOW, HOUR, True),
        (NOW, -60.0, True),  # the clock was wrong, and has been put right
    ],
)
def test_proofs_are_due_once_per_interval(*, state, settings, tried, after, due):
    memory = Memory(state, settings)
    if tried is not None:
        memory.save_proofs(tried, {})
    assert memory.claim(memory.load(), NOW + after) is due


def test_a_claim_is_written_before_the_proofs_run(state, settings):
    memory = Memory(state, settings)
    assert memory.claim(memory.load(), NOW)
    # a crash now does not repeat them in the next run
    assert not Memory(state, settings).claim(Memory(state, settings).load(), NOW + 60)


def test_proofs_come_back_for_the_same_canary_only(state, settings):
    proofs = {"tampered": Proof("accepted", NOW, "seen"), "expired": Proof("refused", NOW)}
    Memory(state, settings).save_proofs(NOW, proofs)
    assert Memory(state, settings).load().context.proofs == proofs
    assert Memory(state, settings).load().tried == NOW
    other = replace(settings, canary=replace(settings.canary, client_id="another"))
    assert Memory(state, other).load().context.proofs == {}
    staging = replace(settings, environment="staging")
    assert Memory(state, staging).load().tried is None


def test_without_a_state_file_that_remembers_no_forgery_is_sent(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with State.open(tmp_path / "file" / "state") as nowhere:
        memory = Memory(nowhere, settings)
        before = memory.load()
        assert before.tried is None
        memory.save(NOW, {"a": 1.0}, before=before)
        assert not memory.claim(before, NOW)  # what cannot be noted is not done


@pytest.mark.parametrize(
    "stored",
    ["not json", "[1]", '{"at": "x", "totals": [1]}', '{"at": true, "totals": {"a": "b"}}'],
)
def test_a_damaged_memory_starts_anew(state, settings, stored):
    state.put("health_check", "counters", stored)
    state.put("health_check", "proofs/dev/canary", stored)
    before = Memory(state, settings).load()
    assert (before.context.at, before.context.counters, before.tried) == (None, {}, None)


def test_odd_proofs_are_left_out(state, settings):
    rows = '{"tampered": 1, "expired": {"outcome": "maybe", "at": 1}, "x": {"outcome": "refused"}}'
    state.put("health_check", f"proofs/{settings.environment}/canary", f'{{"proofs": {rows}}}')
    assert Memory(state, settings).load().context.proofs == {}


# -- the history behind the service levels


class _History:
    def __init__(self, **series):
        self.found, self.asked = series, 0

    def series(self, name, labels, start, end):
        self.asked += 1
        wanted = labels.items()
        return [s for s in self.found.get(name, []) if wanted <= s.labels.items()]


def up(seconds, count=10, **labels):
    points = tuple(Point(NOW - 60 * i, seconds, 1.0, 1.0, 1.0, 1) for i in reversed(range(count)))
    return Series(labels, points)


def test_availability_by_component_and_of_the_whole():
    history = _History(
        payment_api_health_status=[up(60, component="a"), up(60, count=3, component="b")],
        payment_api_system_up=[up(60, count=5)],
    )
    found = {n: availability(history, n, now=NOW, lookback=HOUR) for n in ("a", "b", OVERALL, "c")}
    assert [len(points) for points in found.values()] == [10, 3, 5, 0]


def test_before_the_first_look_nobody_watched():
    history = _History(payment_api_health_status=[up(300, count=2, component="a")])
    first, second = availability(history, "a", now=NOW, lookback=HOUR)
    assert (first.seconds, second.seconds) == (1.0, 300)
    going_on = up(60, count=60, component="a")  # from before the hour
    history = _History(payment_api_health_status=[going_on])
    assert availability(history, "a", now=NOW, lookback=HOUR) == going_on.points


def test_of_two_monitors_the_one_that_looked_most_is_believed():
    rows = [up(60, count=2, component="a", instance="1"), up(60, count=9, component="a")]
    history = _History(payment_api_health_status=rows)
    assert len(availability(history, "a", now=NOW, lookback=HOUR)) == 9


def test_what_a_hung_exporter_shows_is_not_watched():
    """The page of its last cycle is served for ever: its newest cycle says how old it is."""
    ended = NOW - 300  # the last cycle; the points of the five minutes after it repeat it
    cycles = tuple(
        Point(NOW - 60 * i, 60, ended, ended, min(ended, NOW - 60 * i), 1)
        for i in reversed(range(10))
    )
    history = _History(
        payment_api_health_status=[up(60, component="a")],
        payment_api_last_cycle_timestamp_seconds=[Series({"script": "health_check"}, cycles)],
    )

    def watched(overdue):
        found = availability(history, "a", now=NOW, lookback=HOUR, overdue=overdue)
        return [NOW - point.at for point in found]

    assert watched(300) == [540, 480, 420, 360, 300, 240, 180, 120, 60, 0]  # equal is not overdue
    assert watched(299) == [540, 480, 420, 360, 300, 240, 180, 120, 60]
    assert watched(60) == [540, 480, 420, 360, 300, 240]
    assert overdue_after(RunSettings({"health_check": 600}, 300, 30)) == 1830


def test_gauges_are_read_once_a_minute():
    history = _History(payment_api_health_status=[up(60, count=40, component="a")])
    levels = SlaGauges(history, SlaSettings({"a": 0.99}, 0.95))
    first = levels.measurements(NOW)
    asked = history.asked
    assert levels.measurements(NOW + 59) is first
    assert history.asked == asked
    levels.measurements(NOW + 60)
    assert history.asked > asked
    found = {(m.name[12:], *m.labels.values()): m.value for m in first}
    assert found["sla_availability_ratio", "a", "1h"] == 1.0
    assert found["error_budget_burn_rate", "a", "1h"] == 0.0
    assert found["error_budget_burning", "a"] == 0.0
    assert found["system_sla_target_ratio",] == 0.95
    assert found["system_sla_unknown_ratio", "30d"] == 1.0
    assert ("system_sla_availability_ratio", "30d") not in found  # nobody looked
    assert not [key for key in found if OVERALL in key], "no sum among its parts"


def test_a_burn_rate_needs_half_an_hour_of_watching():
    bad = Series({"component": "a"}, (Point(NOW, 300, 0.0, 0.0, 0.0, 1),))
    history = _History(payment_api_health_status=[bad])
    figures = SlaGauges(history, SlaSettings({"a": 0.99})).measurements(NOW)
    names = {m.name[12:] for m in figures if m.labels.get("component") == "a"}
    assert "sla_availability_ratio" in names
    assert not {"error_budget_burn_rate", "error_budget_burning"} & names


def test_an_outage_that_is_over_burns_no_more():
    down = [Point(NOW - 60 * n, 60, 0.0, 0.0, 0.0, 1) for n in range(40, 30, -1)]
    fine = [Point(NOW - 60 * n, 60, 1.0, 1.0, 1.0, 1) for n in range(30, -1, -1)]
    history = _History(payment_api_health_status=[Series({"component": "a"}, (*down, *fine))])
    found = {
        m.name[12:]: m.value
        for m in SlaGauges(history, SlaSettings({"a": 0.99})).measurements(NOW)
        if m.labels.get("component") == "a" and m.labels.get("window", "1h") == "1h"
    }
    assert found["error_budget_burn_rate"] > 14.4
    assert found["error_budget_burning"] == 0.0


def test_a_history_that_cannot_be_read_gives_no_figures(caplog):
    class Broken:
        def series(self, *_):
            raise HistoryError(Fault("timeout", "no answer from the history"))

    assert SlaGauges(Broken(), SlaSettings({"a": 0.99})).measurements(NOW) == ()
    assert "no answer from the history" in caplog.text


def test_targets_end_with_the_whole():
    assert list(targets_of(SlaSettings({"b": 0.9, "a": 0.8}, 0.7))) == ["b", "a", OVERALL]
