"""Rotations: the state machine on a simulated clock, what each state does, how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox.clock import SimulatedClock
from sandbox.options import Options
from sandbox.stack import Stack

CLIENT = "client-001"
MINUTE = 60.0


@pytest.fixture
def stack() -> Iterator[Stack]:
    options = Options(clients=3, traffic=False, rotating=False, now=SimulatedClock())
    with Stack(options) as started:
        yield started


def get(stack: Stack, path: str) -> Any:
    return requests.get(f"{stack.rotation.url}/api/v1/rotations/{path}", timeout=5).json()


def logs_in(stack: Stack, version: int) -> bool:
    body = {"client_id": CLIENT, "client_secret": stack.book.secret(CLIENT, version)}
    url = f"{stack.eapi.url}/api/v1/auth/token"
    return requests.post(url, json=body, timeout=5).status_code == 200


# minutes since the start -> state, old secret logs in, new one does, the client uses the new one
NORMAL = [
    (0, "initiated", True, False, False),
    (2, "dual_active", True, True, False),
    (32, "dual_active", True, True, True),
    (62, "old_deprecated", False, True, True),
    (122, "new_active", False, True, True),
]


def test_a_normal_rotation_goes_through_its_states(stack: Stack) -> None:
    rotation = stack.rotation.begin(CLIENT)
    old, new = rotation.old_version, rotation.new_version
    at = 0
    for minutes, state, old_works, new_works, adopted in NORMAL:
        stack.advance((minutes - at) * MINUTE)
        at = minutes
        assert rotation.state == state, minutes
        assert (logs_in(stack, old), logs_in(stack, new)) == (old_works, new_works), state
        assert (stack.book.accounts[CLIENT].in_use == new) is adopted, state
    assert rotation.completed_at == rotation.started_at + 121 * MINUTE


def test_a_leap_skips_no_step(stack: Stack) -> None:
    rotation = stack.rotation.begin(CLIENT)
    stack.advance(30 * 86400)
    assert rotation.state == "new_active"
    assert stack.book.accounts[CLIENT].in_use == rotation.new_version


@pytest.mark.parametrize(
    ("fate", "expected"),
    [
        ("normal", ("new_active", "COMPLETED", True)),
        ("failed", ("failed", "FAILED", False)),
        ("stuck", ("dual_active", "IN_PROGRESS", None)),
        ("half-done", ("old_deprecated", "IN_PROGRESS", None)),
    ],
)
def test_each_fate_after_a_day(stack: Stack, fate: str, expected: tuple[Any, ...]) -> None:
    rotation = stack.rotation.begin(CLIENT, fate=fate)
    stack.advance(86400)
    shown = get(stack, rotation.rotation_id)
    assert (shown["current_state"], shown["status"], shown["success"]) == expected


def test_a_failed_rotation_leaves_the_old_secret_valid(stack: Stack) -> None:
    rotation = stack.rotation.begin(CLIENT, fate="failed")
    stack.advance(86400)
    assert logs_in(stack, rotation.old_version)
    assert not logs_in(stack, rotation.new_version)


def test_the_three_endpoints(stack: Stack) -> None:
    first = stack.rotation.begin(CLIENT)
    stack.advance(86400)
    second = stack.rotation.begin(CLIENT)
    assert [r["rotation_id"] for r in get(stack, "active")] == [second.rotation_id]
    shown = get(stack, f"client/{CLIENT}")
    assert [r["rotation_id"] for r in shown] == [second.rotation_id, first.rotation_id]
    assert set(shown[0]) == {
        "rotation_id",
        "client_id",
        "current_state",
        "target_state",
        "old_version",
        "new_version",
        "transition_period_minutes",
        "started_at",
        "completed_at",
        "status",
        "message",
        "success",
    }
    assert shown[1]["started_at"] == "2026-11-23T02:13:20.000+0000"
    assert get(stack, "nonsense")["errorCode"] == "ROTATION_NOT_FOUND"


def test_a_rotation_writes_a_version_and_the_cached_credential(stack: Stack) -> None:
    variable = stack.book.variable(CLIENT)
    before = stack.vault.version(variable)
    rotation = stack.rotation.begin(CLIENT)
    stack.advance(2 * MINUTE)
    after = stack.vault.version(variable)
    assert before is not None
    assert after is not None
    assert after.number == before.number + 1 == rotation.new_version
    with stack.redis_client() as client:
        assert b"DUAL_ACTIVE" in client.get(f"credential:{CLIENT}")


def test_faults_start_a_rotation_in_trouble_and_mend_it(stack: Stack) -> None:
    stack.faults.set("rotation-stuck", CLIENT)
    shown = get(stack, "active")[0]
    assert (shown["client_id"], shown["current_state"]) == (CLIENT, "dual_active")
    stack.faults.clear("rotation-stuck")
    assert get(stack, "active") == []
    assert stack.book.accounts[CLIENT].rotation_state is None


def test_two_hundred_clients_through_a_quarter() -> None:
    clock = SimulatedClock()
    with Stack(Options(clients=200, traffic=False, rotating=False, now=clock)) as stack:
        fates = ("normal", "failed", "stuck", "half-done")
        for day in range(90):
            for number, client in enumerate(stack.options.client_ids()):
                if number % 90 == day:
                    stack.rotation.begin(client, fate=fates[number % 4])
            stack.advance(86400)
        states = [rotation.state for rotation in stack.rotation.rotations]
    counted = {state: states.count(state) for state in set(states)}
    assert counted == dict.fromkeys(("new_active", "failed", "dual_active", "old_deprecated"), 50)
