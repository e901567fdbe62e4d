"""The outbox and its file at "one" and "equal": taken over, written, forgotten, numbered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.alerts import outbox as module
from monitoring.alerts.outbox import LONGEST_RETRY_AFTER, SLOWEST, Outbox, Pause, Shelf, backoff
from monitoring.alerts.outbox_merge import EVERYONE, Waiting
from monitoring.store import files
from monitoring.store.state import State
from tests.alerting_kit import T0, notice

DAY = 86400.0
KEY = notice().alert.key.text
FORGOTTEN = 90 * DAY


class Tx:
    """Stands for a transaction: what a shelf stores in it."""


def shelf() -> tuple[Shelf[str, int], dict[str, Optional[int]]]:
    stored: dict[str, Optional[int]] = {}

    def store(tx: Any, key: str, value: Optional[int]) -> None:
        stored[key] = value

    return Shelf("", lambda row: str(row[0]), lambda row: int(row[1]), store), stored


def written(made: Shelf[str, int], stored: dict[str, Optional[int]]) -> Mapping[str, Optional[int]]:
    """What the next write would store."""
    stored.clear()
    made.write(Tx())  # type: ignore[arg-type]
    return dict(stored)


def filed(**rows: Optional[int]) -> tuple[Shelf[str, int], dict[str, Optional[int]]]:
    made, stored = shelf()
    made.adopt(list(rows.items()), another=False, examined=True)
    return made, stored


def test_what_the_file_holds_is_taken_over_and_not_written_back() -> None:
    made, stored = filed(a=1, b=2)
    assert made == {"a": 1, "b": 2}
    assert written(made, stored) == {}


def test_what_was_changed_here_outlives_what_the_file_says() -> None:
    made, stored = filed(a=1, b=2)
    made["a"] = 7
    made.remove("b")
    made.adopt([("a", 1), ("b", 2), ("c", 3)], another=False, examined=True)
    assert made == {"a": 7, "c": 3}
    assert written(made, stored) == {"a": 7, "b": None}
    made.written()
    made.adopt([("a", 8)], another=False, examined=True)
    assert made == {"a": 8}, "once written, the file's word counts"


def test_a_row_that_cannot_be_read_is_deleted() -> None:
    made, stored = filed(a=1, b=None)
    assert made == {"a": 1}
    assert written(made, stored) == {"b": None}


@pytest.mark.parametrize("examined", [False, True])
def test_what_is_known_of_a_row_outlives_that_it_cannot_be_read(*, examined: bool) -> None:
    made, stored = filed(a=1, b=2)
    made.adopt([("a", None), ("b", 2), ("c", None)], another=False, examined=examined)
    assert made == {"a": 1, "b": 2}
    assert written(made, stored) == ({"a": 1, "c": None} if examined else {})


def test_a_row_that_never_was_in_the_file_is_not_deleted_there() -> None:
    made, stored = shelf()
    made["a"] = 1
    made.remove("a")
    assert written(made, stored) == {}


def test_another_file_gets_all_that_this_process_answers_for() -> None:
    made, stored = filed(a=1, b=2)
    made.own = lambda value: value == 2
    made.adopt([], another=True, examined=True)
    assert made == {"b": 2}
    assert written(made, stored) == {"b": 2}
    plain, kept = filed(a=1)
    plain.adopt([], another=True, examined=True)
    assert written(plain, kept) == {"a": 1}, "everything, unless somebody says otherwise"
    same, nothing = filed(a=1)
    same.adopt([], another=False, examined=True)
    assert (same, written(same, nothing)) == ({}, {}), "another process deleted it"


def test_as_it_was_before_writes_only_what_differs() -> None:
    made, stored = filed(a=1, b=2, c=3)
    before = dict(made)
    made["b"] = 9
    made["new"] = 4
    made.written()
    made.restore(before)
    assert made == before
    assert written(made, stored) == {"b": 2, "new": None}


@pytest.mark.parametrize(
    ("sentence", "in_file", "kept", "left"),
    [
        ("written, and known to be: forgotten here", True, True, False),
        ("not written, but the file knows an older state: still to be written", True, False, True),
        ("never in the file: nobody waits for it", False, False, False),
        ("never in the file, and the turn was written", False, True, False),
    ],
)
def test_what_is_done_is_forgotten_once_the_file_has_it(
    *, sentence: str, in_file: bool, kept: bool, left: bool
) -> None:
    made, stored = filed(**({"a": 1} if in_file else {}))
    made["a"] = 2
    made["b"] = 3
    made.drop(lambda value: value == 2, kept=kept)
    assert ("a" in made, "b" in made) == (left, True), sentence
    assert written(made, stored) == ({"a": 2, "b": 3} if left else {"b": 3}), sentence


# -- with a real file


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


def made(state: State, **more: Any) -> Outbox:
    return Outbox(state, **{"give_up_after": DAY, "past": ("slack", "email"), **more})


def put(outbox: Outbox, reason: str = "first", *channels: str, **more: Any) -> tuple[str, ...]:
    with outbox.turn():
        return outbox.enqueue(notice(reason, **more), channels, more.get("at", T0))


def deliver(outbox: Outbox, channel: str, now: float = T0 + 1) -> list[Waiting]:
    rows = outbox.due(channel, now, 100)
    outbox.begin(rows)
    outbox.notified(rows, now)
    return list(rows)


def test_two_processes_see_what_the_other_one_did(state: State, tmp_path: Path) -> None:
    one = made(state)
    assert not one.kept, "nothing was written yet"
    put(one, "first", "slack")
    assert one.kept
    with State.open(tmp_path / "state") as opened:
        other = made(opened)
        other.refresh()
        (row,) = other.waiting()
        assert (row.attempts, row.begun, row.why) == (0, False, "")
        other.begin([row])
        assert other.waiting()[0].attempts == 1
        other.begin(other.waiting())
        assert other.waiting()[0].attempts == 2, "one more for each time on the wire"
        one.refresh()
        assert [(r.attempts, r.begun) for r in one.waiting()] == [(2, True)]
        other.notified(other.waiting(), T0 + 2)
    one.refresh()
    assert one.waiting() == (), "settled by the other one"
    assert one.notified_channels() == {KEY: ("slack",)}


def test_a_look_writes_nothing(state: State) -> None:
    """`refresh` takes no write lock: it works while another process writes."""
    outbox = made(state)
    put(outbox, "first", "slack")
    asked: list[bool] = []
    transaction = state.transaction

    def watched(*, write: bool = True) -> Any:
        asked.append(write)
        return transaction(write=write)

    state.transaction = watched  # type: ignore[method-assign]
    outbox.refresh()
    assert asked == [False]


def test_a_change_that_the_file_did_not_take_is_written_by_the_next_turn(state: State) -> None:
    outbox = made(state)
    put(outbox, "first", "slack")
    outbox.begin(outbox.waiting())
    real, state.path = state.path, state.path.parent  # a folder cannot be opened as a file
    outbox.notified(outbox.waiting(), T0 + 1)
    assert not outbox.kept
    outbox.refresh()
    assert outbox.waiting() == (), "it is settled all the same"
    state.path = real
    state.retry()
    outbox.refresh()
    assert outbox.waiting() == (), "what the file still says is older"
    outbox.set_pause("email", Pause(1))
    assert outbox.kept
    assert state.read("SELECT count(*) FROM notices WHERE told IS NULL") == [(0,)]


@pytest.mark.parametrize("reused", [False, True])
def test_a_new_file_is_given_what_the_lost_one_held(
    state: State, monkeypatch: pytest.MonkeyPatch, *, reused: bool
) -> None:
    """Also where the file system gives it the inode of the lost one, as ext4 and tmpfs may do."""
    if reused:
        monkeypatch.setattr(files, "identity", lambda path: (path.stat().st_dev, 1))
        state.mend(ValueError("to be opened anew"))
    outbox = made(state)
    put(outbox, "first", "slack")
    put(outbox, "first", "email", component="payment-eapi")
    deliver(outbox, "slack")
    for path in state.folder.glob(f"{state.path.name}*"):
        path.unlink()
    state.retry()
    with outbox.turn():
        pass
    assert outbox.kept
    assert [row.channel for row in outbox.waiting()] == ["email"]
    assert state.read("SELECT key, channel FROM alert_told") == [(KEY, "slack")]
    assert state.read("SELECT channel FROM notices_waiting") == [("email",)]


def test_another_file_is_one_with_another_number_and_the_first_is_none(state: State) -> None:
    """A row that another process deleted is not written anew; only a new file is filled."""
    outbox = made(state)
    put(outbox, "first", "slack")
    outbox.refresh()
    with state.transaction() as tx:
        tx.execute("DELETE FROM notices")
    outbox.refresh()
    assert outbox.waiting() == ()


@pytest.mark.parametrize(
    ("sentence", "examined", "left"),
    [
        ("not looked through yet: the row may be elsewhere in the file", False, 1),
        ("looked through and whole: nothing will ever read it, it is deleted", True, 0),
    ],
)
def test_a_row_that_nobody_can_read(
    state: State, monkeypatch: pytest.MonkeyPatch, *, sentence: str, examined: bool, left: int
) -> None:
    put(made(state), "first", "slack")
    outbox = made(state)  # of a process that does not know the row
    with state.transaction() as tx:
        tx.execute("UPDATE notices SET body = 'no JSON'")
        monkeypatch.setattr(State, "examined", examined)
        state.parsed = lambda rows, parse: [_read(parse, row) for row in rows]  # type: ignore
        with outbox.turn():
            pass
        assert tx.execute("SELECT count(*) FROM notices") == [(left,)], sentence
    assert outbox.waiting() == ()


@pytest.mark.parametrize(("examined", "known"), [(False, {KEY: ("slack",)}), (True, {})])
def test_a_key_that_nobody_can_read_may_be_any_that_is_known(
    state: State, monkeypatch: pytest.MonkeyPatch, *, examined: bool, known: Mapping[str, Any]
) -> None:
    """Until the file was looked through; a sound one that lacks the row has lost it."""
    outbox = made(state)
    put(outbox, "first", "slack")
    deliver(outbox, "slack")
    with state.transaction() as tx:
        tx.execute("UPDATE alert_told SET key = CAST(key AS BLOB)")
        monkeypatch.setattr(State, "examined", examined)
        state.parsed = lambda rows, parse: [_read(parse, row) for row in rows]  # type: ignore
        with outbox.turn(write=False):
            pass
    assert outbox.notified_channels() == known


def _read(parse: Any, row: Any) -> Any:
    try:
        return parse(row)
    except (ValueError, TypeError):
        return None


def test_numbers_are_above_all_known_and_no_more_than_a_random_step(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def below(most: int) -> int:
        steps.append(most)
        return 0

    monkeypatch.setattr(module.secrets, "randbelow", below)
    outbox = made(state)
    put(outbox, "first", "slack")
    put(outbox, "first", "slack", component="payment-eapi")
    assert [row.id for row in outbox.waiting()] == [1, 2]
    assert steps == [1 << 20, 1 << 20]
    deliver(outbox, "slack")
    put(outbox, "first", "slack", component="payment-sapi")
    assert [row.id for row in outbox.waiting()] == [3], "the settled ones' numbers stay theirs"


def test_who_was_told_is_lost_so_all_that_are_chosen_hear_the_end(state: State) -> None:
    outbox = made(state)
    with state.transaction() as tx:
        tx.execute("INSERT INTO alert_told VALUES (?, ?, ?)", (KEY, EVERYONE, T0))
    assert put(outbox, "resolved", "slack", "log", at=T0 + 60) == ("log", "slack")
    assert [row.notice.reason for row in outbox.waiting()] == ["resolved", "resolved"]
    assert outbox.notified_channels() == {KEY: ("log", "slack")}
    assert put(outbox, "resolved", "slack", component="payment-eapi") == (), "of that key alone"


@pytest.mark.parametrize(
    ("sentence", "channel", "failures", "then"),
    [
        ("a channel that was down for all hears of it", "slack", 1, ["missed"]),
        ("a recipient that was refused does not: others may have been told", "email:a@x", 1, []),
        ("a recipient that only waited does", "email:a@x", 0, ["missed"]),
        ("a pager does not", "pagerduty", 0, []),
    ],
)
def test_who_hears_of_what_is_over(
    state: State, *, sentence: str, channel: str, failures: int, then: list[str]
) -> None:
    outbox = made(state)
    put(outbox, "first", channel)
    if failures:
        outbox.set_pause(channel, Pause(failures))
    put(outbox, "resolved", at=T0 + 60)
    assert [row.notice.reason for row in outbox.waiting()] == then, sentence


@pytest.mark.parametrize(
    ("sentence", "due", "goes"),
    [
        ("now", T0, True),
        ("in a second", T0 + 1, False),
        ("as far ahead as we ever wait", T0 + SLOWEST, False),
        ("farther: the clock was set back", T0 + SLOWEST + 1, True),
    ],
)
def test_when_a_row_is_due(state: State, *, sentence: str, due: float, goes: bool) -> None:
    outbox = made(state)
    put(outbox, "first", "slack")
    rows = outbox.due("slack", T0, 9)
    outbox.begin(rows)
    outbox.failed(rows, "no", due=due, unsure=False, now=T0)
    assert bool(outbox.due("slack", T0, 9)) is goes, sentence


@pytest.mark.parametrize(
    ("sentence", "until", "paused"),
    [
        ("over at its end", T0, False),
        ("a second left", T0 + 1, True),
        ("the longest there is", T0 + LONGEST_RETRY_AFTER, True),
        ("longer than there is: the clock was set back", T0 + LONGEST_RETRY_AFTER + 1, False),
    ],
)
def test_when_a_channel_is_paused(
    state: State, *, sentence: str, until: float, paused: bool
) -> None:
    outbox = made(state)
    outbox.set_pause("slack", Pause(1, T0, until))
    assert outbox.paused("slack", T0) is paused, sentence


def test_a_recipient_that_is_paused_is_left_out_and_the_others_are_not(state: State) -> None:
    outbox = made(state, recipients={"email": ("a@x", "b@x")})
    put(outbox, "first", "email")
    outbox.set_pause("email:a@x", Pause(1, T0, T0 + 60))
    assert [row.channel for row in outbox.due("email", T0 + 1, 9)] == ["email:b@x"]
    outbox.set_pause("slack", Pause(1, T0, T0 + 60))
    put(outbox, "first", "slack")
    assert outbox.due("slack", T0 + 1, 9), "a whole channel's pause is its sender's to heed"


def test_a_success_ends_a_pause_that_there_is(state: State) -> None:
    outbox = made(state)
    outbox.set_pause("slack", Pause(1, T0, T0 + 60, "503"))
    outbox.clear_pause("slack")
    assert outbox.pause("slack") == Pause()
    assert state.read("SELECT count(*) FROM kv WHERE scope = 'channel'") == [(0,)]


def test_a_pause_is_read_back_from_the_file(state: State, tmp_path: Path) -> None:
    pause = Pause(3, T0, T0 + 60, "503", single=True, final=True)
    made(state).set_pause("slack", pause)
    with State.open(tmp_path / "state") as opened:
        other = made(opened)
        other.refresh()
        assert other.pause("slack") == pause
        other.set_pause("email", Pause(1))
    again = made(state)
    again.refresh()
    assert (again.pause("slack"), again.pause("email")) == (pause, Pause(1))


def test_what_some_recipients_took_and_one_refused(state: State) -> None:
    outbox = made(state, recipients={"email": ("a@x", "b@x")})
    put(outbox, "first", "email")
    put(outbox, "first", "slack")
    rows = outbox.due("email", T0, 9)
    outbox.begin(rows)
    taken, refused = (
        [r for r in outbox.waiting() if r.channel == f"email:{who}@x"] for who in "ab"
    )
    pause = Pause(1, T0, T0 + 60, "450")
    assert outbox.partly(taken, refused, {"email:b@x": pause}, T0) == ()
    left = {row.channel: row for row in outbox.waiting()}
    assert set(left) == {"email:b@x", "slack"}
    assert not left["email:b@x"].begun, "refused, so it is not on the wire and may be merged"
    assert (left["email:b@x"].why, left["email:b@x"].due) == ("450", T0)
    assert outbox.pause("email:b@x") == pause
    late = T0 + DAY
    given_up = outbox.partly([], [left["email:b@x"]], {"email:b@x": pause}, late)
    assert [row.channel for row in given_up] == ["email:b@x"], "of this channel, not of slack"
    assert [row.channel for row in outbox.waiting()] == ["slack"]


@pytest.mark.parametrize(
    ("sentence", "past", "known", "left"),
    [
        ("an alert that is followed is never forgotten", 1, (KEY,), True),
        ("90 days to the second", 0, (), True),
        ("longer, and nobody follows it", 1, (), False),
    ],
)
def test_how_long_an_end_is_waited_for(
    state: State, *, sentence: str, past: float, known: tuple[str, ...], left: bool
) -> None:
    outbox = made(state)
    put(outbox, "first", "slack")
    deliver(outbox, "slack", T0)
    with outbox.turn() as tx:
        outbox.prune(tx, T0 + FORGOTTEN + past, on=("slack",), known=known)
    assert (KEY in outbox.notified_channels()) is left, sentence


def test_what_was_given_up_long_ago_is_forgotten_too(state: State) -> None:
    outbox = made(state)
    put(outbox, "first", "slack")
    rows = outbox.due("slack", T0, 9)
    outbox.failed(rows, "gone", due=T0, unsure=False, now=T0 + DAY)
    for past, left in ((0, 1), (1, 0)):
        with outbox.turn() as tx:
            outbox.prune(tx, T0 + DAY + module.KEPT + past, on=("slack",), known=())
        assert state.read("SELECT count(*) FROM notices") == [(left,)]


def test_what_an_older_version_kept_for_a_channel_becomes_its_recipients(state: State) -> None:
    old = made(state)
    put(old, "first", "email")
    put(old, "first", "email", component="payment-eapi")
    (first, _) = old.due("email", T0, 9)
    old.begin([first])
    old.notified([replace(first, begun=True)], T0)
    new = made(state, recipients={"email": ("a@x", "b@x")})
    with new.turn():
        pass
    assert sorted(row.channel for row in new.waiting()) == ["email:a@x", "email:b@x"]
    assert new.notified_channels() == {KEY: ("email:a@x", "email:b@x")}


@pytest.mark.parametrize(("failures", "seconds"), [(1, 15.0), (2, 30.0), (5, 240.0), (6, SLOWEST)])
def test_backoff(failures: int, seconds: float) -> None:
    assert backoff(failures) == seconds
    assert isinstance(backoff(failures), float)
