"""The fault matrix (tests/faults): each row played against real servers by the scripts as users
run them. `python -m sandbox chaos` prints the same rows as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.options import Options
from sandbox.stack import Stack
from tests.faults import ROWS
from tests.faults.ground import Ground
from tests.faults.row import Row, play
from tests.faults.state import NotHere


@dataclass
class Stacks:
    """One running stack per kind, started when it is first asked for."""

    running: dict[Options, Stack]

    def of(self, options: Options) -> Stack:
        if options not in self.running:
            self.running[options] = Stack(options).start()
        stack = self.running[options]
        stack.faults.clear()
        stack.bag.clear()
        return stack


@pytest.fixture(scope="module")
def stacks() -> Iterator[Stacks]:
    made = Stacks({})
    yield made
    for stack in made.running.values():
        stack.stop()


# Rows of a group share a stack, and so a worker; the slow ones begin.
_PARAMS = [pytest.param(row, id=row.name, marks=pytest.mark.xdist_group(row.group)) for row in ROWS]


@pytest.mark.parametrize("row", _PARAMS)
def test_fault(row: Row, stacks: Stacks, tmp_path: Path) -> None:
    try:
        print(row.name, "|", play(row, Ground(stacks.of(row.options), tmp_path)))
    except NotHere as why:
        pytest.skip(str(why))


def test_the_matrix_is_as_wide_as_it_is_said_to_be() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= 60
