"""Hostile Redis, HTTP and mail servers (tests/fuzzing): whatever a seed makes of their answers, the
run ends in good form, the rest is measured and told, no secret leaks, and memory stays bounded.

In CI as many seeds as fit into FUZZ_SECONDS (default 60), from 0 on. `make fuzz` (FUZZ_EXAMPLES)
plays a hundredth of that number from a random one on, and keeps what failed in
tests/data/fuzz-crashes.jsonl, which is played ever after.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from sandbox.stack import Stack
from tests.fuzzing.nursery import Nursery
from tests.fuzzing.play import OPTIONS, Case, play

CRASHES = Path(__file__).parent / "data" / "fuzz-crashes.jsonl"
KEEP = "FUZZ_EXAMPLES" in os.environ
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3000" if KEEP else "60"))
SEEDS = int(os.environ.get("FUZZ_EXAMPLES", "30000")) // 100
LEAST = 8  # seeds that even a busy machine must play
GROUP = pytest.mark.xdist_group("hostile servers")
Site = Tuple[Stack, Nursery]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Stack(OPTIONS) as stack, Nursery() as nursery:
        yield stack, nursery


def _keep(case: Case, why: str) -> None:
    line = json.dumps({**asdict(case), "why": why[:200]})
    if KEEP and case not in _kept():
        with CRASHES.open("a") as handle:
            handle.write(line + "\n")


def _kept() -> List[Case]:
    found = [json.loads(line) for line in CRASHES.read_text().splitlines()]
    return [Case(each["seed"], each["peer"], each["script"]) for each in found]


@GROUP
@pytest.mark.timeout(3600)
def test_any_seed(site: Site, tmp_path: Path) -> None:
    first = random.randrange(1 << 30) if KEEP else int(os.environ.get("FUZZ_SEED", "0"))
    until, failed = time.monotonic() + SECONDS, []
    for number in range(SEEDS):
        if time.monotonic() > until and number >= LEAST:
            break
        case, folder = Case.of(first + number), tmp_path / str(number)
        folder.mkdir()
        try:
            play(case, *site, folder)
        except AssertionError as error:
            _keep(case, str(error))
            failed.append(f"{case}: {str(error)[-2500:]}")
    assert not failed, f"{len(failed)} of {number} failed:\n" + "\n\n".join(failed)


@GROUP
@pytest.mark.parametrize("case", _kept(), ids=lambda c: f"{c.peer}-{c.script}-{c.seed}")
def test_what_failed_once(case: Case, site: Site, tmp_path: Path) -> None:
    play(case, *site, tmp_path)
