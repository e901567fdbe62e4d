"""A row of the matrix: how a fault is made, and what must be true of a run while it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Callable, Optional

from sandbox.options import Options
from tests.faults.ground import Ground, Run
from tests.scripts import SCRIPTS

EAPI, SAPI, VAULT, CACHE = "payment-eapi", "payment-sapi", "conjur-vault", "redis-cache"
LOGIN = "authentication-flow"
#: A cycle in which something hangs: its timeout is set to a second, the rest is a busy machine.
DEADLINE = 15.0

QUIET = Options(clients=3, traffic=False, rotating=False, redis_patience=0.05)
Make = Callable[[Ground], AbstractContextManager[None]]
Check = Callable[[Ground, Run], None]


@dataclass(frozen=True)
class Expect:
    """What a script must say. `errors`: component (health_check) or source (the others) -> error
    class; `status`: exit statuses that are right; `free`: rows that follow from the fault and may
    say what they like. Every other row must be fine."""

    errors: Mapping[str, tuple[Optional[str], ...]] = field(default_factory=dict)
    status: tuple[int, ...] = (0,)
    free: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """`make` breaks something for as long as its block lasts. `expect` says per script what a
    single run must show; a row with a `play` of its own acts itself and returns what it saw."""

    name: str
    make: Optional[Make] = None
    expect: Mapping[str, Expect] = field(default_factory=dict)
    check: Optional[Check] = None
    play: Optional[Callable[[Ground], str]] = None
    options: Options = QUIET
    group: str = "plain"


def classes(kinds: str) -> tuple[Optional[str], ...]:
    """`a|b` as (a, b); `none`: troubled, but by no error of a class."""
    return tuple(None if kind == "none" else kind for kind in kinds.split("|"))


def health(
    errors: Mapping[str, str], status: int = 2, free: Sequence[str] = (LOGIN,)
) -> Mapping[str, Expect]:
    """What health_check must say."""
    named = {name: classes(kinds) for name, kinds in errors.items()}
    return {"health_check": Expect(named, (status,), frozenset(free))}


def play(row: Row, ground: Ground) -> str:
    """Play the row; the words for its line of the table. Raises AssertionError."""
    if row.play is not None:
        return row.play(ground)
    assert row.make is not None
    said = []
    with row.make(ground):
        for script, expect in row.expect.items():
            if script in SCRIPTS:
                run = ground.run(script)
                said.append(f"{script.partition('_')[0]}: {_checked(run, expect)}")
                if row.check is not None:
                    row.check(ground, run)
    return "; ".join(said)


def _checked(run: Run, expect: Expect) -> str:
    run.check_form()
    rows = run.rows()
    for name, kinds in expect.errors.items():
        assert rows[name]["error"] in kinds, f"{name} says {rows[name]}, expected {kinds}"
        assert rows[name]["message"], f"{name} has no sentence"
    for name, row in rows.items():
        assert row["fine"] or name in expect.errors or name in expect.free, f"{name}: {row}"
    assert run.status in expect.status, f"exit {run.status}, expected {expect.status}: {run.said()}"
    assert run.seconds < DEADLINE, f"the cycle took {run.seconds:.1f} s"
    named = ", ".join(f"{name} {rows[name]['error']}" for name in expect.errors)
    return f"exit {run.status}, {named or 'nothing amiss'}, {run.seconds:.1f} s"
