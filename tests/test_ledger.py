"""The ledger: first sightings that are shared, survive, and are never invented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.conjur.answers import Variable
from monitoring.credentials.facts import WATCH_GAP, Age, LedgerFacts
from monitoring.credentials.memory import Ledger
from monitoring.store.state import State

NOW = 1_795_400_000.0
DAY = 86400.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "s") as opened:
        yield opened


def listing(made: float = NOW - 400 * DAY, **versions: Optional[int]) -> dict[str, Variable]:
    return {
        client: Variable(f"payment/credentials/{client}", client, version, created_at=made)
        for client, version in versions.items()
    }


def facts(state: State, client: str, version: int) -> Any:
    return Ledger(state).facts().get((client, version))


def test_what_was_there_at_the_first_look_is_a_minimum(state: State) -> None:
    Ledger(state).note(listing(c1=4), NOW)
    assert facts(state, "c1", 4) == LedgerFacts(NOW, NOW)
    assert facts(state, "c1", 4).is_minimum


def test_a_version_seen_to_come_is_exact(state: State) -> None:
    Ledger(state).note(listing(c1=4), NOW)
    Ledger(state).note(listing(c1=4), NOW + 300)
    Ledger(state).note(listing(c1=5, c2=1), NOW + 600)
    assert facts(state, "c1", 5) == LedgerFacts(NOW + 600, NOW + 300)
    assert not facts(state, "c1", 5).is_minimum
    assert not facts(state, "c2", 1).is_minimum  # a new client, absent from a complete listing
    assert facts(state, "c1", 4) == LedgerFacts(NOW, NOW)


def test_a_version_that_came_while_nobody_looked_is_a_minimum(state: State) -> None:
    Ledger(state).note(listing(c1=4), NOW)
    Ledger(state).note(listing(c1=5), NOW + WATCH_GAP + 1)
    assert facts(state, "c1", 5).is_minimum
    assert facts(state, "c1", 5).watched_since == NOW


def test_two_monitors_keep_the_earlier_sighting(tmp_path: Path) -> None:
    with State.open(tmp_path / "s") as one, State.open(tmp_path / "s") as two:
        Ledger(one).note(listing(c1=4), NOW)
        Ledger(two).note(listing(c1=5), NOW + 100)
        Ledger(one).note(listing(c1=5), NOW + 200)
        assert facts(one, "c1", 5) == facts(two, "c1", 5) == LedgerFacts(NOW + 100, NOW)


def test_a_lost_file_gives_minima_again(tmp_path: Path) -> None:
    with State.open(tmp_path / "a") as before:
        Ledger(before).note(listing(c1=4), NOW - 50 * DAY)
        Ledger(before).note(listing(c1=5), NOW - 50 * DAY + 60)
    with State.open(tmp_path / "b") as after:
        Ledger(after).note(listing(c1=5), NOW)
        assert facts(after, "c1", 5).is_minimum


def test_old_data_changes_nothing_and_is_named(state: State) -> None:
    """Two followers behind one address, one of them behind."""
    ledger = Ledger(state)
    ledger.note(listing(c1=4), NOW)
    ledger.note(listing(c1=5), NOW + 60)
    assert ledger.note(listing(c1=4), NOW + 120) == {"c1": 5}
    assert ledger.note(listing(c1=5), NOW + 180) == {}
    assert facts(state, "c1", 5) == LedgerFacts(NOW + 60, NOW)


def test_a_variable_that_was_made_anew_begins_anew(state: State) -> None:
    """Its versions start at 1 again, which has nothing to do with the version 1 of long ago."""
    ledger = Ledger(state)
    ledger.note(listing(c1=1), NOW)
    ledger.note(listing(c1=2), NOW + DAY)
    assert ledger.note(listing(made=NOW + 2 * DAY, c1=1), NOW + 2 * DAY + 60) == {}
    assert facts(state, "c1", 1) == LedgerFacts(NOW + 2 * DAY + 60, NOW + DAY)
    assert facts(state, "c1", 2) is None


def test_a_clock_set_back_does_not_make_a_first_look_a_change(state: State) -> None:
    ledger = Ledger(state)
    ledger.note(listing(c1=1), NOW)
    ledger.note(listing(c1=1, c2=1), NOW - DAY)
    assert facts(state, "c2", 1).is_minimum


def test_variables_without_a_value_have_no_sighting(state: State) -> None:
    Ledger(state).note(listing(c1=None), NOW)
    assert Ledger(state).facts() == {}
    Ledger(state).note(listing(c1=1), NOW + 60)
    assert not facts(state, "c1", 1).is_minimum


def test_what_a_better_source_said_is_kept_for_that_version(state: State) -> None:
    ledger = Ledger(state)
    ledger.note(listing(c1=4, c2=4), NOW)
    ledger.learn(
        [
            ("c1", 4, Age(NOW - 30 * DAY, "cache")),
            ("c2", 4, Age(NOW, "ledger", at_least=True)),  # would be our own word again
            ("c9", 1, Age(NOW, "cache")),
            ("c2", None, Age(None, "unknown")),
        ]
    )
    assert facts(state, "c1", 4).born == NOW - 30 * DAY
    assert facts(state, "c2", 4).born is None
    assert facts(state, "c9", 1) is None
    ledger.note(listing(c1=5), NOW + 60)
    assert facts(state, "c1", 5).born is None


def test_5000_clients_are_quick_enough_to_note(state: State) -> None:
    many = listing(**{f"client-{n:05d}": n % 9 + 1 for n in range(5000)})
    Ledger(state).note(many, NOW)
    assert len(Ledger(state).facts()) == 5000
