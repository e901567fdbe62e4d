"""Each call that touches the state, the file system or a peer fails in turn (tests/faults/in_turn):
a sample that changes every day; `make faults` tries all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.stack import Stack
from tests.faults.in_turn import FAMILIES, Site, play
from tests.faults.row import QUIET
from tests.fuzzing.nursery import Nursery

GROUP = pytest.mark.xdist_group("in turn")


@pytest.fixture(scope="module")
def around() -> Iterator[tuple[Stack, Nursery]]:
    with Stack(QUIET) as stack, Nursery() as nursery:
        yield stack, nursery


@GROUP
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_call_fails(family: str, around: tuple[Stack, Nursery], tmp_path: Path) -> None:
    stack, nursery = around
    stack.faults.clear()
    calls, ended = play(Site(stack, nursery, tmp_path), family)
    print(f"{family}: {calls} calls, the end was told after {ended}")
