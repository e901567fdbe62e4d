"""The alert state machine: tables whose rows carry the sentence they prove."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts import lifecycle as alerts
from monitoring.alerts.grouping import group_alert
from monitoring.alerts.lifecycle import Policy
from monitoring.alerts.state import RESOLVED_RETENTION, AlertState, dump_state, load_state
from monitoring.config.settings import AlertSettings, Maintenance, Silence
from monitoring.model import Alert, Notice, Severity
from tests.alerting_kit import CRITICAL, OK, T0, UNKNOWN, WARNING, alert, reasons

LETTERS = {"o": OK, "u": UNKNOWN, "w": WARNING, "c": CRITICAL}


class Machine:
    """Runs `step` cycle by cycle, through the JSON form of the states as the state file does."""

    def __init__(self, policy: Policy | None = None, every: float = 60.0) -> None:
        self.policy = policy or Policy()
        self.every = every
        self.now = T0
        self.states: dict[str, AlertState] = {}
        self.rows: Sequence[Any] = ()

    def cycle(self, *conditions: Alert) -> tuple[Notice, ...]:
        self.now += self.every
        result = alerts.step(self.states, conditions, self.policy, self.now)
        self.states = {key: load_state(dump_state(s)) for key, s in result.states.items()}
        assert self.states == result.states
        self.rows = result.rows
        return result.notices

    def notified(self, letters: str, **more: Any) -> str:
        """Reasons' first letters by cycle for the verdicts in `letters`; `.` for none."""
        said = []
        for letter in letters:
            got = self.cycle() if letter == "-" else self.cycle(alert(LETTERS[letter], **more))
            said.append("".join(n.reason[0] for n in got) or ".")
        return "".join(said)


def rules(**more: Any) -> Policy:
    return Policy(AlertSettings(**more))


@pytest.mark.parametrize(
    ("sentence", "verdicts", "notices"),
    [
        ("one bad cycle is noise", "oocoo", "....."),
        ("two in a row fire, once", "cccccc", ".f...."),
        ("two good ones resolve", "ccoo", ".f.r"),
        ("one good one does not", "ccococ", ".f...."),
        ("unknown neither fires", "cuucuu", "...f.."),
        ("nor resolves", "ccouuo", ".f...r"),
        ("unknown from the start is nobody's business", "uuuu", "...."),
        ("what is not mentioned counts as unknown", "cc----o-o", ".f......r"),
        ("worse is told at once", "wwc", ".fe"),
        ("better is not told", "ccww", ".f.."),
        ("worse again is what was told already", "ccwwc", ".f..."),
        ("a warning while pending does not delay", "wc", ".f"),
        ("a new incident is told anew", "ccoocc", ".f.r.f"),
        ("after a resolve it must hold again", "ccooc", ".f.r."),
    ],
)
def test_transitions(sentence: str, verdicts: str, notices: str) -> None:
    assert Machine().notified(verdicts) == notices, sentence


@pytest.mark.parametrize(
    ("sentence", "policy", "more", "verdicts", "notices"),
    [
        ("threshold 3 waits for three", {"failure_threshold": 3}, {}, "ccoccc", ".....f"),
        ("recovery 3 waits for three", {"recovery_threshold": 3}, {}, "ccoocooo", ".f.....r"),
        ("a security finding fires at once", {}, {"hold": 1}, "c", "f"),
        ("3 of 5 fire without being in a row", {"window": (3, 5)}, {}, "cococ", "....f"),
        ("2 of 5 do not", {"window": (3, 5)}, {}, "coocoo", "......"),
        ("and resolve once the window has emptied", {"window": (2, 3)}, {}, "cococoo", "..f...r"),
        (
            "a full window holds back a quick recovery",
            *({"window": (2, 3), "recovery_threshold": 1}, {}, "ccoo", ".f.r"),
        ),
        ("unknown does not count in the window", {"window": (2, 3)}, {}, "cuuuc", "....f"),
        ("hold wins over the window", {"window": (3, 5)}, {"hold": 1}, "c", "f"),
    ],
)
def test_thresholds(
    *, sentence: str, policy: dict[str, Any], more: dict[str, Any], verdicts: str, notices: str
) -> None:
    assert Machine(rules(**policy)).notified(verdicts, **more) == notices, sentence


@pytest.mark.parametrize(
    ("sentence", "interval", "severity", "expected"),
    [
        ("default: every four hours", {}, "c", 6),
        ("by severity", {"critical": 3600.0}, "c", 24),
        ("another severity's does not matter", {"critical": 3600.0}, "w", 6),
        ("none wanted", {"critical": 0.0}, "c", 0),
        ("never, as configuration says it", {"critical": None}, "c", 0),
    ],
)
def test_reminders(sentence: str, interval: dict[str, Any], severity: str, expected: int) -> None:
    machine = Machine(rules(reminder_interval=interval))
    said = machine.notified(severity * (24 * 60 + 2))
    assert said.count("r") == expected, sentence
    assert said.count("f") == 1


def test_a_reminder_is_as_bad_as_it_is_now() -> None:
    machine = Machine(rules(reminder_interval={"critical": 60, "warning": 60}))
    machine.notified("cc")
    (reminder,) = machine.cycle(alert(WARNING))
    assert (reminder.reason, reminder.alert.severity) == ("reminder", WARNING)


def test_an_escalation_starts_the_reminder_anew() -> None:
    machine = Machine(rules(reminder_interval={"critical": 600.0, "warning": 600.0}))
    assert machine.notified("w" * 8 + "c" * 12) == ".f......e.........r."


def test_an_expiry_tells_once_per_step_and_never_reminds() -> None:
    machine = Machine(every=86400.0)
    said = ""
    for days in range(40, -1, -1):
        step = next((s for s in (1, 7, 14, 30) if days <= s), None)
        severity = OK if step is None else CRITICAL if step <= 7 else WARNING
        said += "".join(reasons(machine.cycle(alert(severity, step=step, hold=1)))[:1]) or "."
    assert said.replace(".", "") == "firstescalatedescalatedescalated"


def test_a_renewed_certificate_forgets_its_steps() -> None:
    machine = Machine(every=86400.0)
    machine.cycle(alert(WARNING, step=30, hold=1))
    machine.cycle(alert(OK)), machine.cycle(alert(OK))
    assert reasons(machine.cycle(alert(WARNING, step=30, hold=1))) == ["first"]


def test_the_resolve_says_how_long_it_lasted_and_how_bad_it_was() -> None:
    machine = Machine()
    machine.notified("wwcc")
    (resolved,) = [n for letter in "oo" for n in machine.cycle(alert(LETTERS[letter]))]
    assert (resolved.reason, resolved.alert.severity) == ("resolved", CRITICAL)
    assert resolved.since == T0 + 60
    assert resolved.lasted == 5 * 60


def test_who_heard_the_worst_hears_the_end_of_the_worst() -> None:
    """The last bad cycles were milder than what people were notified of."""
    machine = Machine()
    machine.notified("ccw")
    (resolved,) = [n for letter in "oo" for n in machine.cycle(alert(LETTERS[letter]))]
    assert resolved.alert.severity is CRITICAL


def test_how_bad_it_was_and_whether_it_grew_is_kept_for_the_incident() -> None:
    def kept(letters: str) -> tuple[Any, ...]:
        machine = Machine(rules(reminder_interval={"critical": 60, "warning": 60}))
        machine.notified(letters)
        (state,) = machine.states.values()
        return state.notified, state.worst, state.grown

    assert kept("ww") == (WARNING, WARNING, False)
    assert kept("www") == (WARNING, WARNING, False), "a reminder is no growth"
    assert kept("wwc") == (CRITICAL, CRITICAL, True)
    assert kept("cc") == (CRITICAL, CRITICAL, False)
    assert kept("ccw") == (WARNING, CRITICAL, False), "reminded of what it is now"
    assert kept("wwcw") == (WARNING, CRITICAL, True)
    assert kept("wwcoo")[0] is None
    assert kept("wwcooww") == (WARNING, WARNING, False), "another incident"


def test_what_flaps_is_held_at_the_worst_that_was_notified() -> None:
    machine = Machine(rules(reminder_interval={"critical": 0, "warning": 0}, flap_changes=3))
    assert machine.notified("wwoo" + "wwcw") == ".f.r" + ".fe."
    assert machine.notified("oo") == ".f", "the turn that names it flapping"
    (state,) = machine.states.values()
    assert (state.flapping, state.alert.severity, state.notified) == (True, WARNING, CRITICAL)


def test_a_row_says_that_it_is_getting_well() -> None:
    machine = Machine()
    for letters, why in (("cc", ""), ("o", alerts.RECOVERING), ("c", "")):
        machine.notified(letters)
        (row,) = machine.rows
        assert (row.state, row.why) == ("firing", why), letters
    assert not alerts.is_recovering(AlertState(alert(OK), good=1)), "it does not fire"


def test_the_resolve_says_what_is_well_again() -> None:
    machine = Machine()
    machine.notified("cc")
    good = alert(OK, summary="redis-cache is up: answers", value=1.0)
    machine.cycle(good)
    (resolved,) = machine.cycle(good)
    assert resolved.ended == "redis-cache is up: answers"
    assert resolved.alert.summary == "redis-cache is in trouble", "what it was"
    (row,) = machine.rows
    assert (row.state, row.alert.summary, row.alert.value) == ("resolved", resolved.ended, 1.0)
    assert row.alert.severity is CRITICAL


# -- flapping


def test_flapping_is_named_once_and_then_held() -> None:
    machine = Machine(rules(reminder_interval={"critical": 0}))
    said = machine.notified("ccoo" * 12)
    assert said.startswith(".f.r.f.r.f.f"), "the third resolve within the hour becomes flapping"
    assert set(said[12:]) == {"."}, "from then on it is quiet"
    assert any(row.why == "flapping" and row.state == "firing" for row in machine.rows)


@pytest.mark.parametrize(
    ("changes", "said"), [(4, ".f.r.f.f...."), (5, ".f.r.f.r.f.f"), (6, ".f.r.f.r.f.f")]
)
def test_the_change_that_reaches_the_limit_is_the_one_held_back(changes: int, said: str) -> None:
    assert Machine(rules(flap_changes=changes)).notified("ccoo" * 3) == said


@pytest.mark.parametrize(
    ("interval", "window"),
    [(1.0, 3600.0), (60.0, 3600.0), (61.0, 3660.0), (300.0, 18000.0), (1440.0, 86400.0),
     (1441.0, 86400.0), (86400.0, 86400.0)],
)  # fmt: skip
def test_the_window_of_flapping_grows_with_the_interval_up_to_a_day(
    interval: float, window: float
) -> None:
    assert alerts.paced(AlertSettings(), interval) == AlertSettings(flap_window=window)
    longer = AlertSettings(flap_window=2 * 86400.0)
    assert alerts.paced(longer, interval) == longer, "what somebody set longer stays"


@pytest.mark.parametrize("verdicts", ["wwwooo", "wwwwwwoooooo", "wwwwoooooooooooo"])
@pytest.mark.parametrize("every", [60.0, 300.0])  # the shipped intervals
def test_a_warning_that_comes_and_goes_is_told_six_times_and_no_more(
    verdicts: str, every: float
) -> None:
    policy = rules(reminder_interval={"warning": 0})
    machine = Machine(replace(policy, rules=alerts.paced(policy.rules, every)), every)
    said = machine.notified(verdicts * 40).replace(".", "")
    assert said == "frfrff", "two that ended, a third that is held as flapping"


def test_one_cycle_bad_and_one_good_is_one_notice_at_five_minutes_as_well() -> None:
    policy = rules(reminder_interval={"warning": 0})
    machine = Machine(replace(policy, rules=alerts.paced(policy.rules, 300.0)), 300.0)
    assert machine.notified("wo" * 300).replace(".", "") == "f"
    assert machine.notified("o" * 29).replace(".", "") == "", "half a window, less a cycle"
    assert machine.notified("oo").replace(".", "") == "r"


def test_flapping_ends_with_a_resolve_when_it_is_quiet() -> None:
    machine = Machine()
    machine.notified("ccoo" * 3)
    said = machine.notified("o" * 40)
    assert said.count("r") == 1
    # It had last changed two cycles before: half a flap window after that.
    assert said.index("r") == 28
    (state,) = machine.states.values()
    assert (state.flapping, state.flapped) == (False, True)
    machine.notified("cc")
    (state,) = machine.states.values()
    assert (state.flapping, state.flapped) == (False, False), "the next one is one of its own"


def test_what_flapped_and_stays_bad_is_simply_bad() -> None:
    machine = Machine()
    machine.notified("ccoo" * 3)
    machine.notified("c" * 40)
    assert machine.notified("oo") == ".r"


def test_an_escalation_passes_through_flapping() -> None:
    machine = Machine()
    machine.notified("wwoo" * 3)
    assert "e" in machine.notified("c")


def test_a_verdict_that_alternates_for_ever_is_not_hidden_by_hysteresis() -> None:
    machine = Machine()
    (first,) = [n for _ in range(10) for v in (CRITICAL, OK) for n in machine.cycle(alert(v))]
    assert first.reason == "first"
    assert first.alert.evidence["flapping"] is True


# -- quiet


def silence(**match: str) -> Silence:
    return Silence(match, "ops", "rebuild", until=T0 + 600)


def test_a_silence_tells_nothing_and_ends_by_itself() -> None:
    machine = Machine(Policy(silences=(silence(component="redis-*"),)))
    assert machine.notified("c" * 9) == "........."
    assert [row.state for row in machine.rows] == ["silenced"]
    assert "ops" in machine.rows[0].why
    assert machine.notified("cc") == "f.", "still bad at its end: now people hear"


def test_a_silence_that_ends_during_recovery_wakes_nobody() -> None:
    machine = Machine(Policy(silences=(silence(component="redis-*"),)))
    assert machine.notified("ccccccccc" + "oo") == "...........", (
        "the silence ended one good cycle ago"
    )


def test_what_came_and_went_in_silence_is_never_told() -> None:
    assert Machine(Policy(silences=(silence(component="redis-*"),))).notified("ccoo") == "...."


def test_who_was_told_before_a_silence_hears_the_end() -> None:
    machine = Machine()
    machine.notified("cc")
    machine.policy = Policy(silences=(silence(metric="health_*"),))
    assert machine.notified("coo") == "..r"


def test_a_maintenance_window_is_quiet_for_its_components() -> None:
    window = Maintenance("patch", start=T0, end=T0 + 3600, components=("redis-cache",))
    machine = Machine(Policy(maintenance=(window,)))
    machine.cycle(alert(), alert(component="payment-eapi"))
    told = machine.cycle(alert(), alert(component="payment-eapi"))
    assert [n.alert.key.component for n in told] == ["payment-eapi"]


# -- parents


def test_a_dead_parent_suppresses_its_children_until_it_is_back() -> None:
    machine = Machine()
    child = alert(CRITICAL, "redis-cache", metric="no_tokens_seen", parent="redis-cache", hold=1)
    fine = replace(child, severity=OK)
    assert [reasons(machine.cycle(alert(CRITICAL), child)) for _ in range(3)] == [[], ["first"], []]
    assert sorted(row.state for row in machine.rows) == ["firing", "suppressed"]
    machine.cycle(alert(OK), child)
    assert reasons(machine.cycle(alert(OK), child)) == ["resolved"], "of the parent"
    assert reasons(machine.cycle(alert(OK), child)) == ["first"], "now it speaks for itself"
    assert reasons(machine.cycle(alert(OK), fine)) == []


def test_what_is_down_names_what_suffers_and_only_then() -> None:
    machine = Machine()
    child = alert(WARNING, "payment-eapi", metric="api_response_time", parent="redis-cache", hold=1)
    machine.cycle(alert(CRITICAL), child)
    (down,) = machine.cycle(alert(CRITICAL), child)
    assert down.suffers == (child.summary,)
    machine.cycle(alert(OK), replace(child, severity=OK))
    (up,) = machine.cycle(alert(OK), replace(child, severity=OK))
    assert (up.reason, up.suffers) == ("resolved", ())
    full = alert(CRITICAL, metric="redis_memory_used", hold=1)
    (told,) = Machine().cycle(alert(CRITICAL), full, child)
    assert (told.alert.key, told.suffers) == (full.key, ()), "a full cache explains nothing"


def test_what_became_unknown_is_no_consequence() -> None:
    machine = Machine()
    child = alert(WARNING, "payment-eapi", metric="api_response_time", parent="redis-cache", hold=1)
    assert reasons(machine.cycle(child)) == ["first"]
    unknown = replace(child, severity=UNKNOWN)
    machine.cycle(alert(CRITICAL), unknown)
    (down,) = machine.cycle(alert(CRITICAL), unknown)
    assert down.suffers == ()
    assert [row.state for row in machine.rows if row.alert.key == child.key] == ["firing"]


def test_any_of_several_parents_is_enough() -> None:
    machine = Machine()
    child = alert(CRITICAL, metric="slow", parent="payment-sapi redis-cache", hold=1)
    assert [reasons(machine.cycle(alert(CRITICAL), child)) for _ in range(2)] == [[], ["first"]]
    assert {row.why for row in machine.rows if row.state == "suppressed"} == {"redis-cache is down"}


def test_a_parent_known_by_another_script_suppresses_too() -> None:
    child = alert(CRITICAL, metric="stale", script="token_usage_metrics", parent="redis-cache")
    machine = Machine(Policy(down=frozenset({"redis-cache"})))
    assert [reasons(machine.cycle(child)) for _ in range(3)] == [[], [], []]
    machine.policy = Policy()
    assert [reasons(machine.cycle(child)) for _ in range(2)] == [[], ["first"]]


def test_a_child_that_was_told_before_keeps_its_state_and_may_resolve() -> None:
    machine = Machine()
    child = alert(CRITICAL, metric="slow", parent="redis-cache")
    machine.cycle(child), machine.cycle(child)
    for _ in range(3):
        machine.cycle(alert(CRITICAL), child)
    assert machine.states[child.key.text].firing
    told = [machine.cycle(alert(CRITICAL), replace(child, severity=OK)) for _ in range(2)]
    assert [n.alert.key.metric for n in told[1]] == ["slow"]


def test_a_degraded_parent_explains_nothing() -> None:
    machine = Machine()
    child = alert(CRITICAL, metric="slow", parent="redis-cache")
    machine.cycle(alert(WARNING), child)
    assert len(machine.cycle(alert(WARNING), child)) == 2


def test_what_people_were_told_of_is_not_called_unread_as_well() -> None:
    """The vault refuses us: health_check has told that it is degraded, and another script cannot
    read it. Not while it is, nor at once when it is well again; and what is slow is not hushed."""
    machine = Machine(Policy(impaired=frozenset({"redis-cache"})))
    unread = alert(WARNING, metric="monitoring_blind", parent="redis-cache")
    slow = alert(WARNING, metric="slow", parent="redis-cache", hold=1)
    assert [reasons(machine.cycle(unread, slow)) for _ in range(3)] == [["first"], [], []]
    assert [row.why for row in machine.rows if row.state == "suppressed"] == [
        "redis-cache is degraded"
    ]
    machine.policy = Policy()
    assert [reasons(machine.cycle(unread, slow)) for _ in range(3)] == [[], [], ["first"]]


def test_a_source_of_a_component_is_told_a_cycle_later_than_the_component_would_be() -> None:
    """health_check, which looks a little later, says what is wrong; ours says that we are blind."""
    unread = alert(WARNING, metric="monitoring_blind", parent="redis-cache")
    alone = alert(WARNING, metric="monitoring_blind", component="history")
    machine = Machine()
    told = [machine.cycle(unread, alone) for _ in range(3)]
    named = [[notice.alert.key.component for notice in each] for each in told]
    assert named == [[], ["history"], ["redis-cache"]]
    assert len(Machine(rules(failure_threshold=1)).cycle(unread)) == 1, "one cycle is one cycle"


def test_other_scripts_states_say_what_is_down_while_they_are_fresh() -> None:
    machine = Machine()
    machine.notified("cc")
    states = machine.states.values()
    assert alerts.down_components(states, machine.now - 600) == {"redis-cache"}
    assert alerts.down_components(states, machine.now) == {"redis-cache"}, "of this very cycle"
    assert alerts.down_components(states, machine.now + 1) == frozenset()


def test_and_what_is_degraded_unless_nobody_hears_of_it() -> None:
    """From its first bad cycle on: a script that looked earlier must not be the first to speak."""
    machine = Machine()
    machine.notified("w")
    assert alerts.impaired_components(machine.states.values(), machine.now) == {"redis-cache"}
    machine.notified("w")
    silent = [replace(state, notified=None) for state in machine.states.values()]
    assert alerts.impaired_components(silent, machine.now) == frozenset()
    states = machine.states.values()
    assert alerts.impaired_components(states, machine.now) == {"redis-cache"}
    assert alerts.down_components(states, machine.now) == frozenset()
    assert alerts.impaired_components(states, machine.now + 1) == frozenset()


# -- groups


def clients(count: int, severity: Severity = WARNING, start: int = 0) -> list[Alert]:
    return [
        alert(severity, "payment-eapi", metric="failures", client=f"client-{n:03}", hold=1)
        for n in range(start, start + count)
    ]


def test_many_clients_at_once_are_one_notice_with_a_list() -> None:
    (told,) = Machine().cycle(*clients(30))
    assert told.reason == "first"
    assert told.alert.key.client == "*"
    assert len(told.also) == 30
    assert "30 clients" in told.alert.summary


def test_the_list_begins_with_the_worst() -> None:
    found = [
        replace(one, value=float(number), threshold=10.0)
        for number, one in enumerate(clients(30), start=11)
    ]
    (told,) = Machine().cycle(*found)
    assert [a.key.client for a in told.also[:2]] == ["client-029", "client-028"]


def test_a_few_are_told_one_by_one() -> None:
    assert len(Machine().cycle(*clients(5))) == 5


def test_a_group_resolves_once_when_its_last_member_does() -> None:
    machine = Machine()
    machine.cycle(*clients(30))
    assert machine.cycle(*clients(29, OK), *clients(1, WARNING, 29)) == ()
    assert machine.cycle(*clients(29, OK), *clients(1, WARNING, 29)) == ()
    assert machine.cycle(*clients(30, OK)) == ()
    (told,) = machine.cycle(*clients(30, OK))
    assert (told.reason, told.alert.key.client, len(told.also)) == ("resolved", "*", 30)
    assert told.since == T0 + 60
    assert told.ended.startswith("over for all 30 clients; the last: ")


def test_a_member_that_comes_back_while_the_group_is_open_is_not_told_again() -> None:
    machine = Machine()
    machine.cycle(*clients(30))
    back, rest = clients(1), clients(29, WARNING, 1)
    machine.cycle(*clients(1, OK), *rest), machine.cycle(*clients(1, OK), *rest)
    assert machine.cycle(*back, *rest) == ()


def test_a_group_resolves_though_its_last_member_came_back_unheard() -> None:
    machine = Machine()
    machine.cycle(*clients(30))
    for _ in range(2):
        machine.cycle(*clients(1, OK), *clients(29, WARNING, 1))
    quiet = Silence({"client": "client-000"}, "ops", "test", until=float("inf"))
    machine.policy = Policy(silences=(quiet,))
    for _ in range(2):  # it fires again, in silence, while the others recover
        assert machine.cycle(*clients(1), *clients(29, OK, 1)) == ()
    told = [n for _ in range(2) for n in machine.cycle(*clients(30, OK))]
    assert [(n.reason, n.alert.key.client) for n in told] == [("resolved", "*")]


def test_a_group_escalates_and_reminds_as_one() -> None:
    machine = Machine(rules(reminder_interval={"critical": 600.0, "warning": 600.0}))
    machine.cycle(*clients(30))
    (worse,) = machine.cycle(*clients(10, CRITICAL), *clients(20, WARNING, 10))
    assert (worse.reason, len(worse.also)) == ("escalated", 10)
    told = [n for _ in range(10) for n in machine.cycle(*clients(30))]
    assert reasons(told) == ["reminder"]
    assert len(told[0].also) == 30


def test_one_more_client_later_is_told_alone() -> None:
    machine = Machine()
    machine.cycle(*clients(30))
    (told,) = machine.cycle(*clients(31))
    assert told.alert.key.client == "client-030"


@pytest.mark.parametrize(
    ("worse", "less"),
    [((30.0, 10.0), (25.0, 10.0)), ((0.0, 10.0), (5.0, 10.0)), ((5.0, 0.0), (4.5, 0.0)),
     ((10.0, 9.0), (None, 10.0)), ((9.5, 9.0), (None, None)), ((0.0, 0.5), (0.2, 0.5)),
     ((4.5, 0.0), (4.4, 0.1)), ((1.5, 0.0), (2.0, 0.6))],
)  # fmt: skip
def test_the_farther_beyond_its_limit_the_worse(worse: Any, less: Any) -> None:
    first, second = clients(2)
    pair = [replace(first, value=less[0], threshold=less[1], summary="less"),
            replace(second, value=worse[0], threshold=worse[1], summary="worse")]  # fmt: skip
    assert group_alert(pair).summary.endswith("the worst: worse")


def test_one_member_that_is_reminded_of_speaks_for_all() -> None:
    machine = Machine(rules(reminder_interval={"critical": 600.0, "warning": 0.0}))
    crowd = (*clients(1, CRITICAL), *clients(29, WARNING, 1))
    machine.cycle(*crowd)
    told = [n for _ in range(10) for n in machine.cycle(*crowd)]
    assert [(n.reason, len(n.also)) for n in told] == [("reminder", 30)]


def test_of_what_is_equally_bad_what_is_down_is_told_first() -> None:
    machine = Machine()
    pair = (alert(component="z-component"), alert(component="a-component", metric="slow"))
    machine.cycle(*pair)
    assert [n.alert.key.component for n in machine.cycle(*pair)] == ["z-component", "a-component"]


# -- memory


def test_nothing_is_remembered_of_what_is_fine() -> None:
    machine = Machine()
    machine.notified("cc" + "o" * 80)
    assert machine.states == {}


def test_what_has_ended_is_remembered_for_so_long() -> None:
    """As long as Alertmanager is told of the end; not a second longer."""
    machine = Machine(rules(flap_window=60.0))
    machine.notified("ccoo")
    ended = machine.now
    for later, kept in ((RESOLVED_RETENTION - 1, True), (RESOLVED_RETENTION, False)):
        result = alerts.step(machine.states, (), machine.policy, ended + later)
        assert bool(result.states) is kept, later


def test_what_nobody_judges_for_a_week_is_over() -> None:
    machine = Machine(every=3600.0)
    machine.notified("cc")
    told = [n for _ in range(180) for n in machine.cycle()]
    assert reasons(told) == ["resolved"]
    assert "may be as bad as it was" in told[0].ended, "nobody saw that it is well"


def test_of_two_conditions_with_one_key_the_worse_counts() -> None:
    machine = Machine()
    machine.cycle(alert(OK), alert(CRITICAL), alert(WARNING))
    (told,) = machine.cycle(alert(CRITICAL), alert(WARNING), alert(CRITICAL, summary="later"))
    assert (told.alert.severity, told.alert.summary) == (CRITICAL, "redis-cache is in trouble")


def test_a_clock_that_steps_back_loses_nothing() -> None:
    machine = Machine()
    machine.notified("cc")
    machine.now -= 7200
    assert machine.notified("coo") == "..r"


def test_a_clock_that_ran_ahead_for_a_while_does_not_put_off_reminders() -> None:
    machine = Machine(rules(reminder_interval={"critical": 600.0}))
    machine.now += 400 * 86400
    machine.notified("cc")
    machine.now = T0
    told = [n for _ in range(12) for n in machine.cycle(alert())]
    assert reasons(told) == ["reminder"]
    assert told[0].lasted <= 12 * 60, "not more than was seen since"


def test_what_resolved_in_the_future_is_not_remembered_until_then() -> None:
    machine = Machine()
    machine.now += 400 * 86400
    machine.notified("ccoo")
    machine.now = T0
    machine.notified("o" * 80)
    assert machine.states == {}


def test_the_worst_is_told_first() -> None:
    machine = Machine()
    pair = (alert(WARNING, "a-component"), alert(CRITICAL, "z-component"))
    machine.cycle(*pair)
    assert [n.alert.key.component for n in machine.cycle(*pair)] == ["z-component", "a-component"]


def test_who_was_notified_is_stored_as_version_1_wrote_it() -> None:
    """Else an upgrade amid an outage would forget who knows of it, and send no resolve."""
    known = AlertState(alert(CRITICAL), phase="firing", notified=CRITICAL, notified_at=T0)
    stored = json.loads(dump_state(known))
    assert (stored["told"], stored["told_at"]) == (CRITICAL, T0)
    assert load_state(json.dumps(stored)) == known
