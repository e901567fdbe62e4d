"""What is remembered between two looks: rotations, expiries that move; and hostile answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring.conjur.answers import Variable
from monitoring.credentials.assembly import ttl_seconds
from monitoring.credentials.facts import Heard, RotationFacts
from monitoring.credentials.memory import RotationMemory, VaultMemory, remembered, to_ask
from monitoring.credentials.sources import MAX_ROTATIONS, ask_rotations
from monitoring.store.state import State
from monitoring.text import parse_iso
from tests.credential_kit import asked_of, quiet_stack, settings_of

NOW = 1_795_400_000.0
HOUR = 3600.0
DUAL = RotationFacts("r1", "dual_active", "v5", "v6", HOUR, NOW - 1800)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "s") as opened:
        yield opened


def heard_of(rotation: Optional[RotationFacts], at: float = NOW, version: int = 6) -> Heard:
    return Heard(rotation, at, version)


def test_who_is_asked_again() -> None:
    done = replace(DUAL, state="new_active")
    known = {
        "running": heard_of(DUAL),
        "ended": heard_of(DUAL),
        "done": heard_of(done, NOW - 10),
        "older": heard_of(None, NOW - 20),
        "changed": heard_of(done),
    }
    clients = [*known, "new"]
    versions = {**dict.fromkeys(clients, 6), "changed": 7}
    active = {"running": DUAL}
    asked = to_ask(clients, known, active, versions=versions, again=0)
    assert set(asked) == {"ended", "changed", "new"}
    asked = to_ask(clients, known, active, versions=versions, again=1)
    assert set(asked) == {"ended", "changed", "new", "older"}
    assert "running" not in to_ask(clients, known, active, versions=versions, again=99)


def test_a_change_of_state_is_between_two_looks_where_the_timeline_has_it() -> None:
    old = replace(DUAL, state="old_deprecated")
    due = NOW - 1800 + HOUR + 120
    daily = remembered(old, heard_of(DUAL, NOW), NOW + 20 * HOUR).rotation
    assert daily is not None
    assert daily.entered_at == due
    late = remembered(old, heard_of(DUAL, NOW + 5 * HOUR), NOW + 6 * HOUR).rotation
    assert late is not None
    assert late.entered_at == NOW + 5 * HOUR  # it was dual_active still when last seen
    early = remembered(old, heard_of(DUAL, NOW), NOW + 60).rotation
    assert early is not None
    assert early.entered_at == NOW + 60


def test_a_rotation_without_a_start_lasts_since_it_was_first_heard_of() -> None:
    nameless = replace(DUAL, started_at=None)
    first = remembered(nameless, None, NOW)
    again = remembered(nameless, first, NOW + HOUR)
    assert again.rotation is not None
    assert again.rotation.entered_at == NOW
    assert remembered(DUAL, None, NOW).rotation.entered_at is None  # type: ignore[union-attr]


def test_what_an_older_version_of_this_monitor_kept_is_read(state: State) -> None:
    memory = RotationMemory(state)
    memory.save({}, {"c": heard_of(DUAL)}, NOW)
    row = json.loads(state.get("rotations", "c") or "")
    del row["rotation"]["status"], row["rotation"]["rivals"]
    state.put("rotations", "c", json.dumps(row))
    assert memory.load() == {"c": heard_of(DUAL)}


def test_the_end_of_the_old_secret_is_never_put_too_early() -> None:
    """The first look at which it had ended; of a finished rotation what the service says, unless
    we saw the old secret log in after that."""
    back = replace(DUAL, state="new_active", completed_at=NOW + 60)
    seen = remembered(back, heard_of(DUAL, NOW + 600), NOW + 900).rotation
    assert seen is not None
    assert seen.deprecated_by == NOW + 600
    old = replace(DUAL, state="old_deprecated")
    first = remembered(old, heard_of(DUAL), NOW + HOUR)
    assert first.rotation is not None
    assert first.rotation.deprecated_by == NOW + HOUR
    later = remembered(old, first, NOW + 2 * HOUR).rotation
    assert later is not None
    assert later.deprecated_by == NOW + HOUR
    done = replace(DUAL, state="new_active", completed_at=NOW + 1.5 * HOUR)
    assert remembered(done, first, NOW + 3 * HOUR).rotation.deprecated_by == NOW + HOUR  # type: ignore[union-attr]
    fresh = remembered(done, None, NOW + 3 * HOUR).rotation
    assert fresh is not None
    assert fresh.deprecated_by == NOW + 1.5 * HOUR
    assert remembered(DUAL, None, NOW).rotation.deprecated_by is None  # type: ignore[union-attr]
    back = remembered(replace(DUAL, state="failed"), first, NOW + 3 * HOUR).rotation
    assert back is not None
    assert back.deprecated_by is None  # rolled back: the old one logs in again


def test_the_rotation_before_tells_when_the_old_version_came() -> None:
    before = RotationFacts("r0", "new_active", "v4", "v5", HOUR, NOW - 90 * 86400)
    assert remembered(DUAL, heard_of(before), NOW).rotation.old_since == before.started_at  # type: ignore[union-attr]
    other = replace(before, new_version="v9")
    assert remembered(DUAL, heard_of(other), NOW).rotation.old_since is None  # type: ignore[union-attr]


def test_rotations_survive_in_the_file_and_damage_is_asked_anew(state: State) -> None:
    memory = RotationMemory(state)
    after = {"c1": heard_of(DUAL), "c2": heard_of(None)}
    memory.save({}, after, NOW)
    assert RotationMemory(state).load() == after
    state.put("rotations", "c1", '{"rotation": {"odd": 1}}')
    assert RotationMemory(state).load() == {"c2": heard_of(None)}


def expiring(version: int, at: Optional[float]) -> dict[str, Variable]:
    return {"c1": Variable("payment/credentials/c1", "c1", version, expires_at=at)}


def test_an_expiry_that_moves_while_the_version_stays(state: State) -> None:
    memory = VaultMemory(state)
    assert memory.moving(expiring(1, NOW)) == frozenset()
    assert memory.moving(expiring(1, NOW)) == frozenset()
    assert memory.moving(expiring(1, NOW + 9)) == {"c1"}
    assert memory.moving(expiring(1, NOW + 9)) == {"c1"}  # until a new version comes
    assert memory.moving(expiring(2, NOW + 99)) == frozenset()
    assert memory.moving(expiring(3, NOW + 199)) == frozenset()
    assert memory.moving(expiring(3, None)) == frozenset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P30D", 30 * 86400.0),
        ("P1DT12H", 1.5 * 86400),
        ("PT15M", 900.0),
        ("P1M", 30 * 86400.0),
        ("P2WT36H", 14 * 86400.0 + 36 * 3600),
        ("PT1.5H", 5400.0),
        ("P0,5D", 43200.0),
        ("P-1D", None),
        ("P\u0663D", None),
        ("p2w", 14 * 86400.0),
        ("", None),
        ("P", None),
        ("30 days", None),
        ("P" + "9" * 500 + "D", None),
    ],
)
def test_durations_of_annotations(text: str, seconds: Optional[float]) -> None:
    assert ttl_seconds(text) == seconds


ODD = {"client_id": "c1", "current_state": "DUAL_ACTIVE", "transition_period_minutes": "x"}
HOSTILE: list[tuple[str, Any, Optional[int]]] = [
    ("no list", {"a": 1}, None),
    ("as many as are read", [{**ODD}] * MAX_ROTATIONS, 1),
    ("one more than are read", [{**ODD}] * (MAX_ROTATIONS + 1), None),
    ("a number", 7, None),
    ("elements that are no rotations", [1, None, "x", {}, {"client_id": 5}], None),
    ("no state", [{"client_id": "c1"}], None),
    ("an empty list", [], 0),
    ("one that is, beside ones that are none", [{**ODD}, {"client_id": "c2"}, 7], 1),
    (
        "wrong types everywhere",
        [{**ODD, "started_at": {}, "success": "yes", "old_version": [], "message": 9.5}],
        1,
    ),
    (
        "times out of the calendar",
        [{**ODD, "started_at": "9999-99-99T00:00:00Z", "transition_period_minutes": -5}],
        1,
    ),
    ("a wrapped list", {"rotations": [{"client_id": "c1", "current_state": "initiated"}]}, 1),
    (
        "epoch milliseconds",
        [{"client_id": "c1", "current_state": "initiated", "started_at": NOW * 1000}],
        1,
    ),
]


@pytest.mark.parametrize(("what", "body", "count"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile_answers_of_the_rotation_service(
    what: str, body: Any, count: Optional[int], tmp_path: Path
) -> None:
    class Reply:
        status, url = 200, "http://rotations"
        headers: Mapping[str, str] = {"date": "Sun, 22 Nov 2026 16:00:00 GMT"}

        def json(self) -> Any:
            return json.loads(json.dumps(body))

    class Http:
        def get(self, *_: Any, **__: Any) -> Reply:
            return Reply()

    with quiet_stack(1) as stack:
        asked = replace(asked_of(stack, settings_of(stack, tmp_path)), rotations=Http())
        answer = ask_rotations(asked)
    assert answer.source.ok is (count is not None), (what, answer)
    if count is None:
        assert answer.source.error == "body"
        return
    assert len(answer.data.active) == count
    assert answer.data.unreadable == ({"c2"} if "beside" in what else frozenset())
    assert bool(answer.source.why) == ("beside" in what)
    assert answer.data.clock == pytest.approx(parse_iso("2026-11-22T16:00:00Z") - stack.now())
    for rotation in answer.data.active.values():
        assert rotation.transition is None
        assert rotation.started_at in (None, NOW)
        assert rotation.success is None
