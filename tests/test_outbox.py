"""The outbox: merging, order, at least once, giving up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import example, given, settings, strategies as st

from monitoring.alerts.outbox import KEPT, Outbox, Pause, backoff
from monitoring.alerts.outbox_merge import FIRING, Waiting, merge, together
from monitoring.model import Notice
from monitoring.store.state import State
from tests.alerting_kit import T0, notice

DAY = 86400.0


def row(reason: str, begun: bool = False, number: int = 1) -> Waiting:
    return Waiting(number, "k", "slack", notice(reason), T0, begun=begun)


@pytest.mark.parametrize(
    ("sentence", "told", "waiting", "comes", "then"),
    [
        ("they believe it fires: a reminder is one", True, [], "reminder", "reminder"),
        ("an escalation too", True, [], "escalated", "escalated"),
        ("a newer one takes the place of an older", True, ["reminder"], "escalated", "escalated"),
        ("an escalation that waits is not softened", True, ["escalated"], "reminder", "escalated"),
        ("the end takes the place of all", True, ["escalated"], "resolved", "resolved"),
        ("the end alone", True, [], "resolved", "resolved"),
        ("its end was given up: it still fires", True, [], "first", "reminder"),
        ("they never heard of the end: it still fires", True, ["resolved"], "first", "reminder"),
        ("nobody was told: whatever comes is the first", False, [], "escalated", "first"),
        ("still the first, with newer text", False, ["first"], "escalated", "first"),
        ("nobody was told and it is over: they missed it", False, ["first"], "resolved", "missed"),
        ("it is back: the first", False, ["missed"], "first", "first"),
        ("nobody was told, nothing waits: nothing to resolve", False, [], "resolved", None),
        ("missed already", False, ["missed"], "resolved", None),
        ("what may be on the wire is left alone", False, ["first!"], "escalated", "+escalated"),
        ("and is believed to have arrived", False, ["first!"], "resolved", "+resolved"),
        ("behind it one row waits", False, ["first!", "escalated"], "resolved", "resolved"),
        ("an end that may be on the wire", True, ["resolved!"], "first", "+first"),
        ("an end ahead of it, failed meanwhile", True, ["resolved", "first"], "escalated", "first"),
    ],
)  # fmt: skip
def test_merge(
    *, sentence: str, told: bool, waiting: list[str], comes: str, then: Optional[str]
) -> None:
    rows = [row(w.rstrip("!"), w.endswith("!"), n) for n, w in enumerate(waiting)]
    got = merge(rows, told, notice(comes, at=T0 + 60))
    assert (got.notice.reason if got.notice else None) == (then.lstrip("+") if then else None), (
        sentence
    )
    free = [r.id for r in rows if not r.begun]
    assert got.replace_id == (free[-1] if free and then else None)
    if got.notice:
        assert got.notice.at == T0 + 60, "always the newer text"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def outbox(state: State) -> Outbox:
    return Outbox(state, give_up_after=DAY, past=("slack", "email"))


def put(outbox: Outbox, told: Notice, *channels: str) -> tuple[str, ...]:
    with outbox.turn():
        return outbox.enqueue(told, channels, told.at)


def go(outbox: Outbox, channel: str, now: float = T0 + 1) -> list[str]:
    """Deliver what is due; the reasons told."""
    rows = outbox.due(channel, now, 100)
    if rows:
        outbox.begin(rows)
        outbox.notified(rows, now)
    return [r.notice.reason for r in rows]


def waits(number: int, whom: str, what: str = "first", *, begun: bool = False) -> Waiting:
    return Waiting(number, "k", f"email:{whom}", notice(what), T0, begun=begun)


@pytest.mark.parametrize(
    ("sentence", "rows", "most", "goes"),
    [
        ("nothing waits", [], 5, []),
        ("one mail for both", [waits(1, "a"), waits(2, "b")], 5, [1, 2]),
        ("another text goes apart", [waits(1, "a"), waits(2, "b", "resolved")], 5, [1]),
        ("the oldest, and who waits for just that",
         [waits(1, "a"), waits(2, "a", "escalated"), waits(3, "b"), waits(4, "b", "escalated")],
         1, [1, 3]),
        ("no more than it can carry",
         [waits(1, "a"), waits(2, "a", "escalated"), waits(3, "a", "resolved")], 2, [1, 2]),
        ("what may have arrived goes apart, first",
         [waits(1, "a", begun=True), waits(2, "a", "escalated")], 5, [1]),
        ("and what has not, before it",
         [waits(1, "a"), waits(2, "a", "escalated", begun=True), waits(3, "a", "resolved")],
         5, [1, 3]),
        ("nobody else is in a mail that may have arrived",
         [waits(1, "a", begun=True), waits(2, "b")], 5, [1]),
        ("but who was in it is again",
         [waits(1, "a", begun=True), waits(2, "b", begun=True)], 5, [1, 2]),
    ],
)  # fmt: skip
def test_what_one_send_can_carry(
    sentence: str, rows: list[Waiting], most: int, goes: list[int]
) -> None:
    assert [each.id for each in together(rows, most)] == goes, sentence


def test_a_resolve_goes_to_exactly_those_who_were_told(outbox: Outbox) -> None:
    put(outbox, notice(), "slack", "pagerduty", "email")
    go(outbox, "slack"), go(outbox, "email")
    assert outbox.notified_channels() == {notice().alert.key.text: ("email", "slack")}
    concerned = put(outbox, notice("resolved", at=T0 + 60))
    assert concerned == ("email", "pagerduty", "slack")
    assert go(outbox, "slack", T0 + 61) == ["resolved"]
    assert go(outbox, "email", T0 + 61) == ["resolved"]
    assert go(outbox, "pagerduty", T0 + 61) == [], "a pager is not woken for what is over"
    assert outbox.notified_channels() == {}
    assert outbox.waiting() == ()


def test_who_heard_nothing_in_time_hears_what_was_missed(outbox: Outbox) -> None:
    put(outbox, notice(), "slack")
    put(outbox, notice("resolved", at=T0 + 60))
    assert go(outbox, "slack", T0 + 61) == ["missed"]


def test_a_day_of_changes_with_a_dead_channel_is_one_row(outbox: Outbox) -> None:
    for cycle in range(500):
        reason = "resolved" if cycle % 2 else "first"
        put(outbox, notice(reason, at=T0 + cycle), *(() if cycle % 2 else ("slack",)))
        assert len(outbox.waiting()) == 1


def test_order_is_kept_per_alert(outbox: Outbox) -> None:
    put(outbox, notice(), "slack")
    outbox.begin(outbox.due("slack", T0, 9))  # it may be on the wire
    put(outbox, notice("resolved", at=T0 + 60))
    put(outbox, notice(component="payment-eapi", at=T0 + 61), "slack")
    due = outbox.due("slack", T0 + 62, 9)
    assert [(r.notice.reason, r.begun) for r in due] == [("first", True), ("first", False)]
    outbox.notified(due, T0 + 62)
    assert go(outbox, "slack", T0 + 63) == ["resolved"]


def test_a_failure_frees_the_row_for_merging_unless_it_may_have_arrived(outbox: Outbox) -> None:
    put(outbox, notice(), "slack", "email")
    for channel, unsure in (("slack", False), ("email", True)):
        rows = outbox.due(channel, T0, 9)
        outbox.begin(rows)
        outbox.failed(rows, "no", due=T0 + 30, unsure=unsure, now=T0)
        assert outbox.due(channel, T0 + 29, 9) == ()
    put(outbox, notice("resolved", at=T0 + 60))
    assert go(outbox, "slack", T0 + 61) == ["missed"]
    assert go(outbox, "email", T0 + 61) == ["first"]
    assert go(outbox, "email", T0 + 62) == ["resolved"]


def test_what_may_have_arrived_once_stays_so_when_a_later_attempt_fails_for_sure(
    outbox: Outbox,
) -> None:
    """A pager that took the first and whose answer was lost must hear of the end."""
    put(outbox, notice(), "pagerduty")
    for now, unsure in ((T0, True), (T0 + 30, False), (T0 + 60, False)):
        rows = outbox.due("pagerduty", now, 9)
        outbox.begin(rows)
        outbox.failed(rows, "no", due=now, unsure=unsure, now=now)
    put(outbox, notice("resolved", at=T0 + 90))
    assert go(outbox, "pagerduty", T0 + 91) == ["first"]
    assert go(outbox, "pagerduty", T0 + 92) == ["resolved"]


def test_a_clock_set_back_holds_up_neither_a_notice_nor_a_channel(outbox: Outbox) -> None:
    put(outbox, notice(at=T0 + 400 * DAY), "slack")
    outbox.set_pause("slack", Pause(1, T0 + 400 * DAY, T0 + 400 * DAY + 15, "503"))
    assert outbox.paused("slack", T0 + 400 * DAY)
    assert not outbox.paused("slack", T0)
    assert go(outbox, "slack", T0) == ["first"]


def test_what_waits_for_a_channel_that_was_switched_off_is_given_up_in_time(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    put(outbox, notice(), "slack", "email")
    for now, left in ((T0 + DAY - 1, ["email", "slack"]), (T0 + DAY, ["email"])):
        with outbox.turn() as tx:
            outbox.prune(tx, now, on=("email",), known=())
        assert sorted(row.channel for row in outbox.waiting()) == left
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "the channel is off" in line


def test_given_up_after_a_day_with_a_critical_line(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    put(outbox, notice(), "slack")
    for now, expected in ((T0 + DAY - 1, 0), (T0 + DAY, 1)):
        rows = outbox.due("slack", now, 9)
        outbox.begin(rows)
        assert len(outbox.failed(rows, "gone", due=now, unsure=False, now=now)) == expected
    assert outbox.waiting() == ()
    (line,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "slack" in line.getMessage()
    assert "gone" in line.getMessage()
    assert put(outbox, notice("resolved", at=T0 + DAY + 9)) == (), "nobody was told"


def test_settled_notices_are_forgotten_after_a_week(outbox: Outbox, state: State) -> None:
    put(outbox, notice(), "slack")
    go(outbox, "slack", T0)
    for now, left in ((T0 + KEPT, 1), (T0 + KEPT + 1, 0)):
        with outbox.turn() as tx:
            outbox.prune(tx, now, on=("slack",), known=())
        assert state.read("SELECT count(*) FROM notices") == [(left,)]


def test_a_pause_is_remembered_and_ends_with_success(outbox: Outbox) -> None:
    outbox.set_pause("slack", Pause(3, T0, T0 + 60, "503", single=True))
    assert outbox.pause("slack") == Pause(3, T0, T0 + 60, "503", single=True)
    put(outbox, notice(), "slack")
    go(outbox, "slack")
    assert outbox.pause("slack") == Pause()


def test_backoff_grows_to_five_minutes() -> None:
    assert [backoff(n) for n in (1, 2, 3, 4, 5, 6, 99)] == [15, 30, 60, 120, 240, 300, 300]


EVENTS = st.sampled_from(
    ["first", "escalated", "reminder", "resolved", "begin", "told", "failed", "unsure"]
)


@given(st.lists(EVENTS, max_size=40))
@example(["first", "told", "resolved", "unsure", "first", "failed", "escalated"])
@settings(max_examples=400, deadline=None)
def test_any_mix_of_changes_and_failures_ends_as_a_true_story(events: list[str]) -> None:
    """A channel, row by row as `merge` leaves them; `heard` is what its people have been told."""
    rows: list[Waiting] = []
    heard: list[str] = []
    firing = told = False
    for number, event in enumerate(events):
        if event in ("first", "escalated", "reminder", "resolved"):
            if (event == "first") is firing:
                continue  # the state machine does not do that
            firing = event != "resolved"
            got = merge(rows, told, notice(event, at=T0 + number))
            if got.notice is not None:
                if got.replace_id is not None:
                    rows.pop()
                rows.append(Waiting(number, "k", "slack", got.notice, T0))
        elif rows:
            first = replace(rows[0], begun=event in ("begin", "unsure"))
            rows[0] = first
            if event == "told":
                heard.append(rows.pop(0).notice.reason)
                told = heard[-1] in FIRING
        assert len(rows) <= 2
    for waiting in rows:
        heard.append(waiting.notice.reason)
    believed = False
    for reason in heard:
        assert reason not in ("escalated", "reminder", "resolved") or believed
        believed = reason in FIRING
    assert believed == firing, "in the end people believe what is true"
