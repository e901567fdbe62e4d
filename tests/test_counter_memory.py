from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.services.counters import CounterSample
from monitoring.services.memory import CounterMemory, Recent, together
from monitoring.store.state import State

NOW = 1795402000.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


def minted(instance: str, value: float, client: str = "a") -> CounterSample:
    return CounterSample("token_generation", (("client", client),), instance, value)


def totals(growth: object) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in growth.totals.items():  # type: ignore[attr-defined]
        found[key.source] = found.get(key.source, 0.0) + value
    return found


def test_the_first_look_has_no_growth_and_brings_what_was_counted(state: State) -> None:
    growth = CounterMemory(state, "token").advance(NOW, {"eapi": [minted("one", 40.0)]})
    assert not growth.deltas
    assert totals(growth) == {"eapi": 40.0}


def test_growth_survives_restarts_of_ours_and_theirs(state: State) -> None:
    CounterMemory(state, "token").advance(NOW, {"eapi": [minted("one", 40.0)]})
    again = CounterMemory(state, "token").advance(NOW + 60, {"eapi": [minted("one", 47.0)]})
    assert [d.increase for d in again.deltas.values()] == [7.0]
    assert totals(again) == {"eapi": 47.0}
    reset = CounterMemory(state, "token").advance(NOW + 120, {"eapi": [minted("one", 3.0)]})
    assert [(d.increase, d.reset) for d in reset.deltas.values()] == [(3.0, True)]
    assert totals(reset) == {"eapi": 50.0}
    assert reset.seconds == 60.0


def test_a_source_that_is_silent_for_a_cycle_keeps_its_total(state: State) -> None:
    memory = CounterMemory(state, "token")
    memory.advance(NOW, {"eapi": [minted("one", 40.0)], "sapi": [minted("s", 5.0)]})
    assert totals(memory.advance(NOW + 60, {"sapi": [minted("s", 6.0)]})) == {
        "eapi": 40.0,
        "sapi": 6.0,
    }
    back = memory.advance(NOW + 120, {"eapi": [minted("one", 44.0)]})
    assert totals(back)["eapi"] == 44.0
    assert back.seconds == 120.0


def test_another_instance_behind_the_balancer_is_not_counted_twice(state: State) -> None:
    memory = CounterMemory(state, "token")
    memory.advance(NOW, {"eapi": [minted("h:1@1000", 40.0)]})
    growth = memory.advance(NOW + 60, {"eapi": [minted("h:1@900", 38.0)]})
    assert not growth.deltas
    assert totals(growth) == {"eapi": 40.0}


def test_scripts_do_not_take_each_others_increases(state: State) -> None:
    CounterMemory(state, "token").advance(NOW, {"eapi": [minted("one", 40.0)]})
    CounterMemory(state, "credential").advance(NOW + 30, {"eapi": [minted("one", 45.0)]})
    growth = CounterMemory(state, "token").advance(NOW + 60, {"eapi": [minted("one", 47.0)]})
    assert [d.increase for d in growth.deltas.values()] == [7.0]


def test_instances_that_are_gone_for_days_are_forgotten(state: State) -> None:
    memory = CounterMemory(state, "token")
    memory.advance(NOW, {"eapi": [minted("old", 1.0)]})
    memory.advance(NOW + 3 * 86400, {"eapi": [minted("new", 1.0)]})
    rows = state.read("SELECT instance FROM counters WHERE source = 'token/eapi'")
    assert rows == [("new",)]


def test_a_closed_state_costs_the_growth_not_the_cycle(tmp_path: Path) -> None:
    state = State.open(tmp_path / "state")
    state.close()
    assert not CounterMemory(state, "token").advance(NOW, {"eapi": [minted("one", 1.0)]}).totals
    assert Recent(state, "token", "x", window=900).add(NOW, 60, {"a": 1}).sums == {"a": 1}


def test_recent_sums_the_window_and_says_how_much_of_it_was_counted(state: State) -> None:
    def recent() -> Recent:
        return Recent(state, "token", "failures", window=900)

    assert recent().add(NOW, 0.0, {}).seconds == 0
    assert recent().add(NOW + 60, 60.0, {"bad": 3}).sums == {"bad": 3}
    both = recent().add(NOW + 120, 60.0, {"bad": 2, "worse": 1})
    assert (both.seconds, both.sums) == (120.0, {"bad": 5, "worse": 1})
    later = recent().add(NOW + 60 + 900, 60.0, {})
    assert (later.seconds, later.sums) == (120.0, {"bad": 2, "worse": 1})


def test_of_a_count_over_a_longer_time_than_the_window_its_share_counts(state: State) -> None:
    found = Recent(state, "token", "failures", window=900).add(NOW, 9000.0, {"bad": 50})
    assert found.sums == {"bad": pytest.approx(5.0)}
    assert found.seconds == 900


def test_a_clock_set_back_leaves_no_counts_from_the_future(state: State) -> None:
    recent = Recent(state, "token", "failures", window=900)
    recent.add(NOW, 60.0, {"bad": 3})
    assert recent.add(NOW - 500, 60.0, {"bad": 1}).sums == {"bad": 1}


def test_a_service_back_after_an_hour_does_not_thin_the_other_ones_counts(state: State) -> None:
    memory = CounterMemory(state, "token")
    memory.advance(NOW, {"eapi": [minted("e", 0.0)], "sapi": [minted("s", 0.0)]})
    memory.advance(NOW + 3540, {"sapi": [minted("s", 100.0)]})
    growth = memory.advance(
        NOW + 3600, {"eapi": [minted("e", 360.0)], "sapi": [minted("s", 107.0)]}
    )
    windows = []
    for source in ("eapi", "sapi"):
        part = growth.of(source)
        (delta,) = part.deltas.values()
        recent = Recent(state, "token", source, window=600)
        windows.append(recent.add(NOW + 3600, part.seconds, {source: delta.increase}))
    found = together(windows)
    assert found.sums == {"eapi": pytest.approx(60.0), "sapi": 7.0}
    assert found.seconds == 600
