"""Chaos: the fault matrix as a table: each fault made, the scripts run on it, what they said.

python -m sandbox chaos              every row of tests/faults (some minutes)
python -m sandbox chaos redis TLS    the rows whose name or group holds one of the words
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox.options import Options
from sandbox.stack import Stack

HEAD = ("fault", "seconds", "verdict", "what was seen")


def main(words: Sequence[str]) -> int:
    """Play the rows and print the table; 0 when every row held, else 1."""
    from tests.faults import ROWS  # the rows are tests; only their table is ours

    asked = [word.lower() for word in words]
    rows = [r for r in ROWS if not asked or any(w in f"{r.group} {r.name}".lower() for w in asked)]
    width = max((len(row.name) for row in rows), default=0)
    print(f"{HEAD[0]:<{width}}  {HEAD[1]:>7}  {HEAD[2]:7}  {HEAD[3]}")
    stacks: dict[Options, Stack] = {}
    verdicts: list[str] = []
    try:
        for row in rows:
            if row.options not in stacks:
                stacks[row.options] = Stack(row.options).start()
            began = time.monotonic()
            verdict, said = _played(row, stacks[row.options])
            verdicts.append(verdict)
            seconds = time.monotonic() - began
            print(f"{row.name:{width}}  {seconds:7.1f}  {verdict:7}  {said}", flush=True)
    finally:
        for stack in stacks.values():
            stack.stop()
    print(f"{len(verdicts)} faults: " + ", ".join(_counts(verdicts)))
    return int("BROKEN" in verdicts)


def _played(row: object, stack: Stack) -> tuple[str, str]:
    from tests.faults.ground import Ground
    from tests.faults.row import Row, play
    from tests.faults.state import NotHere

    assert isinstance(row, Row)
    stack.faults.clear()
    stack.bag.clear()
    folder = Path(tempfile.mkdtemp(prefix="payment-chaos-"))
    try:
        return "holds", play(row, Ground(stack, folder))
    except NotHere as why:
        return "skipped", str(why)
    except (AssertionError, LookupError, OSError, ValueError, TypeError) as error:
        said = f"{'' if isinstance(error, AssertionError) else type(error).__name__} {error}"
        return "BROKEN", " ".join(said.split())[:300]
    finally:
        stack.faults.clear()
        shutil.rmtree(folder, ignore_errors=True)


def _counts(verdicts: Sequence[str]) -> list[str]:
    kinds = ("holds", "BROKEN", "skipped")
    return [f"{verdicts.count(kind)} {kind}" for kind in kinds if kind in verdicts]
