"""Recipients of one channel, some of whom are refused: who is tried again, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Union

import pytest

from monitoring.alerts.notifier import Notifier
from monitoring.channels import CHANNELS
from monitoring.channels.base import Refusal, TransportError, listed
from monitoring.store.state import State
from tests import alerting_kit as have
from tests.alerting_kit import CRITICAL, OK, Clock, component, outcome

A, B = "a@example.org", "b@example.org"
LATER, NEVER, TOO_MANY = 450, 550, 452
#: What the server says to a recipient: one status for ever, or one for each try, then yes.
Says = Mapping[str, Union[int, list[int]]]


class Site:
    """A mail channel to two people, whose server answers as a test says."""

    def __init__(self, state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.says = Clock(), dict[str, Any]()
        self.tried: list[tuple[str, ...]] = []
        self.heard: list[tuple[str, str]] = []
        channel = replace(CHANNELS["email"], send=self.send)
        monkeypatch.setitem(CHANNELS, "email", channel)  # type: ignore[arg-type]
        settings = have.settings(folder, {"email": {"recipients": [A, B]}})
        self.notifier = Notifier(settings, state, self.clock)

    def send(self, notices: Sequence[Any], kit: Any) -> Mapping[str, Refusal]:
        names = listed(kit.config["recipients"])
        self.tried.append(names)
        codes = {name: self._code(name) for name in names}
        refused = {n: Refusal(code, f"{code} for {n}") for n, code in codes.items() if code}
        self.heard += [(n, each.reason) for n in names if n not in refused for each in notices]
        if len(refused) == len(names):
            for_good = all(each.permanent for each in refused.values())
            raise TransportError("nobody was taken", permanent=for_good, refused=refused)
        return refused

    def _code(self, name: str) -> int:
        said = self.says.get(name, 0)
        if isinstance(said, list):
            return said.pop(0) if said else 0
        return int(said)

    def cycle(self, severity: Any = CRITICAL, after: float = 60.0) -> list[tuple[str, ...]]:
        """Who was tried in a cycle that comes so many seconds later."""
        self.clock.at += after
        before = len(self.tried)
        self.notifier.process(outcome(component(severity), at=self.clock.at))
        self.deliveries = self.notifier.deliver(5.0)
        return self.tried[before:]

    def outcomes(self) -> list[tuple[str, int]]:
        return [(d.outcome, d.notices) for d in self.deliveries if d.channel == "email"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Says], Site]]:
    with State.open(tmp_path / "state") as state:
        made = Site(state, tmp_path / "state", monkeypatch)

        def asked(says: Says) -> Site:
            made.says.update(says)
            return made

        yield asked


def test_both_are_told_in_one_mail(site: Callable[[Says], Site]) -> None:
    both = site({})
    assert both.cycle() == [(A, B)]
    assert both.outcomes() == [("sent", 1)]
    assert both.cycle() == []


def test_who_is_refused_for_now_is_tried_alone_and_ever_later(site: Callable[[Says], Site]) -> None:
    grey = site({B: LATER})
    assert grey.cycle() == [(A, B)]
    assert grey.outcomes() == [("sent", 1), ("failed", 1)]
    assert grey.cycle(after=0.5) == [(B,)], "after the first refusal in the next cycle"
    assert grey.cycle(after=14) == [], "after the second one in 15 s"
    assert grey.cycle(after=1) == [(B,)]
    assert grey.cycle(after=29) == [], "after the third one in 30 s"
    grey.says.clear()
    assert grey.cycle(after=1) == [(B,)]
    assert grey.heard == [(A, "first"), (B, "first")], "each once"


def test_who_is_refused_for_good_is_not_tried_again(site: Callable[[Says], Site]) -> None:
    gone = site({B: NEVER})
    assert gone.cycle() == [(A, B)]
    assert [gone.cycle() for _ in range(3)] == [[], [], []]
    gone.cycle(OK)
    assert (A, "resolved") in gone.heard
    assert not [name for name, _reason in gone.heard if name == B]


def test_whom_a_crowded_mail_leaves_out_gets_one_at_once(site: Callable[[Says], Site]) -> None:
    crowded = site({B: [TOO_MANY]})
    assert crowded.cycle() == [(A, B), (B,)]
    assert crowded.heard == [(A, "first"), (B, "first")]


def test_where_nobody_was_taken_a_crowded_server_is_not_asked_twice(
    site: Callable[[Says], Site],
) -> None:
    full = site({A: TOO_MANY, B: TOO_MANY})
    assert full.cycle() == [(A, B)]
    full.says.clear()
    assert full.cycle(after=1) == [(A, B)], "two recipients that wait for the same mail"


def test_a_server_that_refuses_everybody_for_now_is_asked_for_each(
    site: Callable[[Says], Site],
) -> None:
    busy = site({A: LATER, B: [LATER]})
    assert busy.cycle() == [(A, B)]
    assert busy.cycle(after=1) == [(A, B)]
    assert busy.heard == [(B, "first")], "whoever is taken is told, and waits for nobody"


def test_a_server_that_refuses_everybody_for_good_has_a_trouble_of_its_own(
    site: Callable[[Says], Site],
) -> None:
    closed = site({A: NEVER, B: NEVER})
    assert closed.cycle()[0] == (A, B)
    closed.says.clear()
    assert (A, B) in [names for _ in range(5) for names in closed.cycle()], "mended: both hear"


def test_the_last_who_waits_may_be_refused_for_good(site: Callable[[Says], Site]) -> None:
    """That is no trouble of the server's: the other one was taken."""
    last = site({B: [LATER, NEVER]})
    assert last.cycle() == [(A, B)]
    assert last.cycle() == [(B,)]
    assert [last.cycle() for _ in range(3)] == [[], [], []]
