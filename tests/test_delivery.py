"""How notices are carried to a channel: what hangs, what was begun late, what is refused, and the
jobs beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from monitoring.alerts.delivery import Delivery, failing_channels, send_now
from monitoring.alerts.notifier import Notifier
from monitoring.alerts.outbox import Pause
from monitoring.channels import CHANNELS
from monitoring.channels.base import Refusal, TransportError
from monitoring.config.secret import Secret
from monitoring.model import Severity
from monitoring.store.state import State
from tests import alerting_kit as have
from tests.alerting_kit import CRITICAL, OK, WARNING, Clock, component, outcome

NAME = "slack"


class Site:
    """One channel whose sends a test decides on: the n-th is answered by the n-th of `says`."""

    def __init__(self, state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.jump = Clock(), 0.0
        self.says: list[Callable[[], Optional[Mapping[str, Refusal]]]] = []
        self.sent: list[list[str]] = []
        self.free = threading.Event()
        self.channels = monkeypatch
        self.batches(1)
        channels = {NAME: {"webhook_url": Secret("http://127.0.0.1:9/x")}}
        self.settings, self.state = have.settings(folder, channels), state
        self.begin()

    def batches(self, most: int) -> None:
        changed = replace(CHANNELS[NAME], send=self.send, batch=most)  # type: ignore[arg-type]
        self.channels.setitem(CHANNELS, NAME, changed)

    def ticks(self) -> float:
        return time.monotonic() + self.jump

    def begin(self) -> None:
        """As a run of the script does."""
        self.notifier = Notifier(self.settings, self.state, self.clock, ticks=self.ticks)

    def send(self, notices: Sequence[Any], _kit: Any) -> Optional[Mapping[str, Refusal]]:
        self.sent.append([notice.alert.key.component for notice in notices])
        return self.says.pop(0)() if self.says else None

    def hang(self) -> None:
        assert self.free.wait(30)

    def bad(self, *names: str) -> None:
        self.notifier.process(outcome(*(component(CRITICAL, n) for n in names), at=self.clock.at))

    def deliver(self, budget: float = 5.0) -> list[tuple[str, int]]:
        """What became of each attempt on the channel, and of how many notices."""
        done = self.notifier.deliver(budget)
        return [(each.outcome, each.notices) for each in done if each.channel == NAME]

    @property
    def pause(self) -> Any:
        return self.notifier._outbox.pause(NAME)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with State.open(tmp_path / "state") as state:
        made = Site(state, tmp_path / "state", monkeypatch)
        yield made
        made.free.set()


def test_a_thread_that_hangs_is_waited_for_two_minutes_then_the_channel_is_tried_anew(
    site: Site,
) -> None:
    site.says[:] = [site.hang]
    site.bad("one")
    assert site.deliver(0.05) == [("unfinished", 1)]
    site.jump, site.clock.at = 60.0, site.clock.at + 60
    assert site.deliver(0.05) == [("unfinished", 1)]
    assert len(site.sent) == 1, "one thread a channel"
    site.jump, site.clock.at = 180.0, site.clock.at + 120
    assert site.deliver() == [("sent", 1)]
    assert site.sent == [["one"], ["one"]]


def test_what_lands_in_a_later_cycle_counts_there(site: Site) -> None:
    site.says[:] = [site.hang]
    site.bad("one")
    assert site.deliver(0.05) == [("unfinished", 1)]
    site.free.set()
    deadline = time.monotonic() + 20
    while site.notifier._courier._landed.empty() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert site.deliver(0.0) == [("sent", 1)]
    assert site.notifier.waiting()[NAME] == 0
    assert len(site.sent) == 1


def test_what_was_only_begun_late_is_no_failure_of_the_channel(site: Site) -> None:
    def slow() -> None:
        site.jump = 9.7

    site.says[:] = [slow, site.hang]
    site.bad("one", "two")
    assert site.deliver(10.0) == [("sent", 1), ("unfinished", 1)]
    assert (site.pause.failures, site.pause.until) == (0, 0.0)
    assert len(site.sent) == 2


def test_what_hung_for_more_than_half_of_the_time_is_one(site: Site) -> None:
    site.says[:] = [site.hang]
    site.bad("one")
    assert site.deliver(0.1) == [("unfinished", 1)]
    assert site.pause.failures == 1
    assert site.pause.until > site.clock.at
    rows = [row for row in site.notifier._outbox.waiting() if row.channel == NAME]
    assert [row.begun for row in rows] == [True], "it may have arrived"


def test_what_fails_for_now_goes_again_when_the_pause_is_over(site: Site) -> None:
    def fail() -> None:
        raise TransportError("busy")

    site.says[:] = [fail]
    site.bad("one")
    assert site.deliver() == [("failed", 1)]
    site.clock.at = site.pause.until - 1
    assert site.deliver() == []
    site.clock.at = site.pause.until
    assert site.deliver() == [("sent", 1)]


def test_a_batch_that_is_refused_goes_one_by_one_until_one_is_taken(site: Site) -> None:
    def refuse() -> None:
        raise TransportError("one of them", permanent=True)

    site.batches(3)
    site.begin()
    site.says[:] = [refuse]
    site.bad("one", "two", "three")
    assert site.deliver() == [("failed", 3), ("sent", 1), ("sent", 2)]
    assert [len(names) for names in site.sent] == [3, 1, 2]


@pytest.mark.parametrize(
    ("pause", "wanted", "severity", "said"),
    [
        (Pause(failures=2, since=have.T0 - 600, why="404"), {NAME}, WARNING, "have not reached"),
        (Pause(failures=2, since=have.T0 - 600, why="404"), set(), OK, "nothing waits for slack"),
        (Pause(), {NAME}, OK, "alerts reach slack again"),
    ],
)
def test_what_is_said_of_a_channel(
    pause: Pause, wanted: set[str], severity: Severity, said: str
) -> None:
    (alert,) = failing_channels({NAME: pause}, wanted, outcome(at=have.T0))
    assert (alert.severity, said in alert.summary) == (severity, True), alert.summary
    assert ("404" in alert.summary) == (severity is WARNING)


def test_a_single_notice_that_is_refused_for_good_waits_for_five_minutes(site: Site) -> None:
    def refuse() -> None:
        raise TransportError("no such thing", permanent=True)

    site.says[:] = [refuse]
    site.bad("one")
    assert site.deliver() == [("failed", 1)]
    began = site.clock.at
    for seconds, want in ((299.0, []), (300.0, [("sent", 1)])):
        site.clock.at = began + seconds
        assert site.deliver() == want


def test_of_three_refusals_in_a_row_the_channel_is_to_blame(site: Site) -> None:
    def refuse() -> None:
        raise TransportError("no such channel", permanent=True)

    site.says[:] = [refuse] * 9
    site.bad("one", "two", "three", "four")
    assert site.deliver() == [("failed", 1)] * 3
    assert site.pause.until > site.clock.at
    assert site.pause.failures == 3
    site.says.clear()
    site.clock.at = site.pause.until
    assert site.deliver() == [("sent", 1)] * 2, "the first two wait for their five minutes"


def test_a_success_between_two_refusals_clears_the_channel(site: Site) -> None:
    def refuse() -> None:
        raise TransportError("that one not", permanent=True)

    def take() -> None:
        return None

    site.says[:] = [refuse, refuse, take, refuse, refuse]
    site.bad("one", "two", "three", "four", "five")
    assert [what for what, _many in site.deliver()] == ["failed", "failed", "sent", *["failed"] * 2]
    assert site.pause.until <= site.clock.at


def test_a_fault_of_our_own_in_a_channel_is_a_failure_with_its_name(site: Site) -> None:
    def fall() -> None:
        raise KeyError("text")

    site.says[:] = [fall]
    site.bad("one")
    assert site.deliver() == [("failed", 1)]
    assert site.pause.why == "internal: KeyError: 'text'"


def test_a_job_beside_it_runs_once_and_its_failures_are_counted_and_forgotten(site: Site) -> None:
    courier, ran = site.notifier._courier, list[int]()

    def job() -> None:
        ran.append(len(ran))
        if len(ran) <= 2:
            raise TransportError("it does not answer")

    for failures in (1, 2, 0):
        (done,) = courier.deliver(5.0, {"mirror": job})
        assert done.channel == "mirror"
        assert done.outcome == ("failed" if failures else "sent")
        assert done.notices == 1
        assert site.notifier._outbox.pause("mirror").failures == failures
    assert ran == [0, 1, 2]


def test_a_job_that_still_runs_is_not_begun_again(site: Site) -> None:
    courier, ran = site.notifier._courier, list[int]()

    def job() -> None:
        ran.append(1)
        site.hang()

    for _ in range(2):
        (done,) = courier.deliver(0.05, {"mirror": job})
        assert done == Delivery("mirror", "unfinished", "no answer within the time for sending", 1)
    assert ran == [1]
    assert site.notifier._outbox.pause("mirror").failures == 2


def test_sent_at_once_it_ends_with_the_first_failure(site: Site) -> None:
    channel, kit = site.notifier._table[NAME]
    site.bad("one", "two")
    notices = [row.notice for row in site.notifier._outbox.waiting() if row.channel == NAME]
    assert len(notices) == 2
    assert send_now(channel, kit, notices) == ""
    assert len(site.sent) == 2
    refused = {"a": Refusal(550, "a is not known"), "b": Refusal(450, "b is busy")}
    site.says[:] = [lambda: refused]
    assert send_now(channel, kit, notices) == "a is not known; b is busy"
    assert len(site.sent) == 3
