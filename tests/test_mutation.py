"""A sample of the mistakes of `tests/mutation.py` in each run; all of them: `make mutants`."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests import mutation, scripts

#: Decisions whose tests are quick; chosen anew in each run would be a test that fails by chance.
SAMPLED = (
    "monitoring.thresholds",
    "monitoring.certainty",
    "monitoring.credentials.rotation_states",
    "monitoring.credentials.revocation",
)


def test_a_sample_of_mistakes_is_found() -> None:
    """At most a few seconds: a mistake for each function of the decisions that matter most."""
    words = [sys.executable, "-m", "tests.mutation", "--sample", "16", "--seed", "7", *SAMPLED]
    done = subprocess.run(
        words, cwd=scripts.ROOT, capture_output=True, text=True, check=False, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " of 16 die" in done.stdout


def test_a_mistake_that_no_test_could_find_is_seen_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit itself can fail: without tests nothing dies, and as it is nothing is red."""
    several = random.Random(1).sample(list(mutation.mutants("monitoring.alerts.lifecycle")), 2)
    code = (
        "from tests import mutation\n"
        f"tried = [m for m in mutation.mutants('monitoring.alerts.lifecycle') if m.place in "
        f"{[each.place for each in several]}]\n"
        "assert tried and not any(mutation.dies(each, ('durations',)) for each in tried)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts.ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(scripts.ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_listed_survivor_is_a_mistake_that_can_be_made() -> None:
    there = {mutant.name for module in mutation.TARGETS for mutant in mutation.mutants(module)}
    listed = mutation.survivors_known()
    assert set(listed) <= there
    assert all(len(why) > 10 for why in listed.values())
