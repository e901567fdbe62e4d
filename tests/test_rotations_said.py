"""What a rotation service may say, through `--check-rotation` and `--can-revoke`: one knowledge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.credential_kit import say_rotations, set_versions

CLIENT = "client-001"
CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "rotations.jsonl").read_text().splitlines()
]
RUNS = {"current_state": "dual_active", "started_at": -600, "status": "IN_PROGRESS"}
DONE = {
    "current_state": "new_active",
    "started_at": -90000,
    "completed_at": -86400,
    "status": "COMPLETED",
    "success": True,
}


def case(name: str, expect: str, *rotations: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    return {"case": name, "vault": [1, 2], "rotations": rotations, "expect": expect, **more}


VARIANTS = [
    case("the same in small letters", "told", {**RUNS, "status": "failed"}),
    case("a word with a blank", "told", {**RUNS, "status": "rolled back"}),
    case("a word that nobody knows", "told", {**RUNS, "status": "PAUSED"}),
    case("success false as text", "told", {**RUNS, "status": "", "success": "false"}),
    case("success false while it goes on", "told", {**RUNS, "success": False}),
    case("success false and no status", "told", {**RUNS, "status": None, "success": False}),
    case("no status at all", "on track", {**RUNS, "status": None}),
    case("completed, and both log in", "told", {**RUNS, "status": "COMPLETED"}),
    case("an end, and both log in", "told", {**RUNS, "status": None, "completed_at": -60}),
    case("ended and in progress", "told", {**DONE, "status": "IN_PROGRESS", "completed_at": None}),
    case("ended without success", "told", {**DONE, "success": False}),
    case("the vault has no second version", "told", RUNS, vault=[1]),
    case("ended, and the vault has no second version", "told", DONE, vault=[1]),
    case("just begun, and the vault has no second version", "told", {**RUNS, "started_at": -5},
         vault=[1]),
    case("the vault has no version at all", "told", RUNS, vault=[]),
    case("initiated, no second version yet", "on track", {**RUNS, "current_state": "initiated"},
         vault=[1]),
    case("two run", "told", RUNS, {**RUNS, "new_version": "3"}, vault=[1, 2, 3]),
    case("three run, one of them stuck", "told", RUNS, RUNS, {**RUNS, "started_at": -28800}),
    case("one runs and one failed before it", "on track", RUNS,
         {**RUNS, "status": "FAILED", "started_at": -5000}),
    case("one runs and one ended before it", "on track", RUNS, DONE),
    case("old and new are one", "told", {**RUNS, "new_version": "1"}),
    case("old and new are one in two spellings", "told", {**RUNS, "new_version": "v1"}),
    case("the new one is the older", "told", {**RUNS, "old_version": "2", "new_version": "1"}),
    case("it does not say when it began", "told", {**RUNS, "started_at": None}),
    case("it begins in an hour", "told", {**RUNS, "started_at": 3600}),
    case("both log in for 2 h; the cached credential was refreshed just now", "stuck",
         {**RUNS, "started_at": -7200},
         cached={"rotationState": "DUAL_ACTIVE", "createdAt": -7200, "updatedAt": -5}),
    case("the old one is deprecated for too long", "stuck",
         {**RUNS, "current_state": "old_deprecated", "started_at": -8000}),
    case("the old one is deprecated", "on track",
         {**RUNS, "current_state": "old_deprecated", "started_at": -5000}),
    case("no new version is named", "told", {**RUNS, "new_version": None}),
    case("the new version has no number", "told", {**RUNS, "new_version": "b7c9"}),
    case("a state in another spelling", "on track", {**RUNS, "current_state": "dualActive"}),
    case("success 0", "told", {**RUNS, "success": 0}),
    case("a status that is no word", "told", {**RUNS, "status": True}),
    case("one runs and a later one failed", "told", {**RUNS, "started_at": -3000},
         {**RUNS, "status": "FAILED", "started_at": -60}),
    case("a transition of a thousand days", "stuck",
         {**RUNS, "started_at": -28800, "transition_period_minutes": 1440000}),
]  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=2, preload=10, traffic=False, rotating=False)) as running:
        yield running


@pytest.mark.parametrize("row", [*CASES, *VARIANTS], ids=lambda row: row["case"])
def test_what_is_said_of_a_rotation(row: Mapping[str, Any], stack: Stack, tmp_path: Path) -> None:
    set_versions(stack, CLIENT, row["vault"])
    say_rotations(stack, CLIENT, row["rotations"], row.get("cached"))
    env = {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
    words = ("--check-rotation", "--format", "json")
    done = scripts.run("credential_usage_metrics", *words, env=env, cwd=tmp_path)
    said = json.loads(done.stdout)["credentials"][CLIENT]
    verdict = said["verdict"]
    if row["expect"] == "on track":
        assert (done.returncode, verdict) == (0, "ok"), said
    elif row["expect"] == "stuck":
        assert (done.returncode, verdict) == (2, "stuck"), said
    else:
        assert done.returncode in (1, 2), said
        assert verdict in ("failed", "stuck", "unknown")
    assert row["expect"] == "on track" or "on track" not in said["todo"]
    words = ("--can-revoke", CLIENT)
    answer = scripts.run("credential_usage_metrics", *words, env=env, cwd=tmp_path)
    assert answer.returncode in (2, 3), answer.stdout  # each of these worlds is at its first look
