"""The whole of alerting against anything that may happen between and within cycles.

Verdicts, channels that fail before or after they took a notice, deaths in any transaction, clocks
that jump, configuration that changes, clients that vanish: whatever the order, what each channel's
people heard is a story (no second beginning, no end without one), and once all is well for long
enough and everything works again, nobody believes that anything still fires and nothing waits.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from monitoring.alerts import notifier as notifying
from monitoring.alerts.notifier import Notifier
from monitoring.alerts.outbox_merge import FIRING
from monitoring.channels.base import Channel, TransportError
from monitoring.config.settings import AlertSettings, Maintenance, Route, Settings, Silence
from monitoring.model import Finding, Notice, Severity, Source
from monitoring.store.state import State
from tests import alerting_kit as have
from tests.alerting_kit import CRITICAL, OK, UNKNOWN, WARNING, Clock

CHANNELS = ("slack", "pagerduty", "email")
PLACES = ("redis-cache", "payment-eapi", "authentication-flow")
CLIENTS = ("client-1", "client-2", "client-3", "client-4")
RULES = AlertSettings(
    group_above=2, flap_changes=4, flap_window=1800.0, give_up_after=1e9, send_budget=20.0
)


class Killed(BaseException):
    """What `kill -9` looks like from inside: nothing catches it, what is open is rolled back."""


class Mortal(State):  # type: ignore[misc]
    """Dies at the `left`-th beginning or end of a transaction from now."""

    left = 0

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Any]:
        self._step()
        with super().transaction(write=write) as tx:
            yield tx
            self._step()
        self._step()

    def _step(self) -> None:
        Mortal.left -= 1
        if Mortal.left == 0:
            raise Killed


@dataclass
class People:
    """Those behind one channel: what they heard, and what they believe fires."""

    mode: str = "up"
    believed: dict[str, bool] = field(default_factory=lambda: defaultdict(bool))
    last: dict[str, Notice] = field(default_factory=dict)
    notified: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def send(self, notices: Sequence[Notice], kit: Any) -> None:
        if self.mode == "down":
            raise TransportError("connection refused")
        if self.mode == "refusing":
            raise TransportError("answered 400", permanent=True)
        if self.mode == "busy":
            raise TransportError("answered 429", retry_after=90.0)
        for notice in notices:
            self._hear(notice)
        if self.mode == "deaf":  # it took them, and its answer is lost
            raise TransportError("reset", unsure=True)

    def _hear(self, notice: Notice) -> None:
        key, reason = notice.alert.key.text, notice.reason
        again = self.last.get(key)
        if again is not None and (again.reason, again.at) == (reason, notice.at):
            return  # at least once: the same notice, under the same key
        self.notified.append(f"{key} {reason}")
        if self.believed[key] is (reason in ("first", "missed")):
            self.wrong.append(f"{key} {reason} after {self.notified[:-1]}")
        self.believed[key] = reason in FIRING
        self.last[key] = notice


class Stack:
    """One installation: a state file, people, and a configuration that changes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.people = {name: People() for name in CHANNELS}
        self.on, self.silenced, self.maintained = set(CHANNELS), False, False
        self.routed = False
        Mortal.left = 0

    def settings(self) -> Settings:
        chosen = {name: {} for name in CHANNELS if name in self.on}
        forever = Silence({"component": "redis-*"}, "ops", "test", until=float("inf"))
        window = Maintenance("work", start=0.0, end=1e12, components=("payment-eapi",))
        route = Route(("email",), {"client": "client-[12]"})
        return have.settings(
            self.folder,
            chosen,
            by_severity={"critical": ("pagerduty", "slack"), "warning": ("slack",)},
            alerts=RULES,
            silences=(forever,) if self.silenced else (),
            maintenance=(window,) if self.maintained else (),
            routes=(route,) if self.routed else (),
        )

    def cycle(self, seen: Any, *, delivers: bool = True) -> None:
        """One run from cron: opens the state, tells, ends; or dies on the way."""
        with contextlib.suppress(Killed), Mortal.open(self.folder) as state:
            notifier = Notifier(self.settings(), state, self.clock)
            notifier.process(replace(seen, at=self.clock.at))
            if delivers:
                notifier.deliver(20.0)
        self.clock.at += 60.0

    def event(self, name: str, value: Any) -> None:
        if name == "clock":
            self.clock.at += value
        elif name == "die":
            Mortal.left = value
        elif name == "toggle":
            self.on ^= {value}
        elif name == "mode":
            self.people[value[0]].mode = value[1]
        else:
            setattr(self, name, not getattr(self, name))


PEOPLE: dict[str, People] = {}


@pytest.fixture(autouse=True)
def channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channels of this test instead of the real ones."""
    table = {
        name: Channel(partial(_send, name), batch=3, past=name != "pagerduty") for name in CHANNELS
    }
    monkeypatch.setattr(notifying, "CHANNELS", {**table, "log": Channel(lambda *_: None)})


def _send(name: str, notices: Sequence[Notice], kit: Any) -> None:
    PEOPLE[name].send(notices, kit)


def outcome(verdicts: Sequence[Severity], clients: Sequence[str], *, looked: bool) -> Any:
    """Health of the places; one finding for each client named; `looked`: the source was read."""
    components = [have.component(s, place) for place, s in zip(PLACES, verdicts)]
    findings = [
        Finding("volume_spike", WARNING, f"client {name}: far too much", "payment-eapi", name)
        for name in clients
    ]
    source = Source("eapi", looked, why="" if looked else "refused")
    return have.outcome(*components, findings=tuple(findings), sources=(source,))


severities = st.sampled_from([OK, OK, UNKNOWN, WARNING, CRITICAL, CRITICAL])
outcomes = st.builds(
    outcome,
    st.lists(severities, min_size=3, max_size=3),
    st.lists(st.sampled_from(CLIENTS), unique=True),
    looked=st.booleans(),
)
events = st.one_of(
    st.tuples(st.just("clock"), st.sampled_from([-86400.0 * 400, -7200.0, 600.0, 86400.0 * 3])),
    st.tuples(st.just("die"), st.integers(1, 14)),
    st.tuples(st.just("toggle"), st.sampled_from(CHANNELS)),
    st.tuples(
        st.just("mode"),
        st.tuples(
            st.sampled_from(CHANNELS), st.sampled_from(["up", "down", "refusing", "busy", "deaf"])
        ),
    ),
    st.tuples(st.sampled_from(["silenced", "maintained", "routed"]), st.none()),
)
moments = st.tuples(st.lists(events, max_size=2), outcomes, st.booleans())


@given(st.lists(moments, max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_storm_ends_as_a_true_story(storm: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "state")
        PEOPLE.update(stack.people)
        for happens, seen, delivers in storm:
            for name, value in happens:
                stack.event(name, value)
            stack.cycle(seen, delivers=delivers)
        _weather_clears(stack)
        for name, people in stack.people.items():
            assert not people.wrong, name
        believers = {
            (name, key)
            for name, people in stack.people.items()
            for key, fires in people.believed.items()
            if fires
        }
        assert not believers, "they were told, and never that it is over"
        with State.open(stack.folder) as state:
            assert state.read("SELECT key, channel FROM notices_waiting") == []


def _weather_clears(stack: Stack) -> None:
    """Everything works, nothing is wrong, for two hours (a pause lasts an hour at most)."""
    Mortal.left = 0
    stack.on, stack.silenced, stack.maintained = set(CHANNELS), False, False
    for people in stack.people.values():
        people.mode = "up"
    for _ in range(24):
        stack.clock.at += 240.0
        stack.cycle(outcome([OK, OK, OK], [], looked=True))
