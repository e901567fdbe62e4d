"""Mutation tests: a small mistake is put into a decision, and one of its tests must turn red.

`python -m tests.mutation [MODULE ...] [--sample N] [--seed S]` tries every mistake (or N of them)
and prints those that no test finds. Each is tried in a forked process: first in one that has
collected the tests already and gets the changed code of the function; what survives there, in one
that loads the module from its changed source. The file itself is not touched. Exit status: 0 when
every survivor is listed in SURVIVORS with its reason, else 1.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
SURVIVORS = ROOT / "tests" / "data" / "mutation-survivors.txt"
PATIENCE = 60.0  # seconds beyond thrice the usual; a test that hangs has found the mistake
AT_FIRST = 1200.0  # seconds that the tests may take without a mistake
#: Further tests of a decision, which need servers; tried where the first ones find nothing.
SLOWER: Mapping[str, tuple[str, ...]] = {
    "monitoring.credentials.revocation": ("revocation_tricked", "cache_losses"),
    "monitoring.credentials.rotation_states": ("rotations_said",),
    "monitoring.tokens.hygiene": ("token_readings", "jwt_claims", "token_cycle"),
    "monitoring.thresholds": ("report", "messages", "conditions"),
    "monitoring.alerts.grouping": ("incidents",),
    "monitoring.alerts.lifecycle": ("alerts_properties",),
}
#: The decisions -> the tests that hold them, those that need no server.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "monitoring.credentials.revocation": ("boundaries", "revocation", "credential_stats"),
    "monitoring.credentials.rotation_states": ("boundaries", "rotations", "revocation"),
    "monitoring.thresholds": (
        "boundaries",
        "thresholds",
    ),
    "monitoring.certainty": ("boundaries", "hygiene_limits", "certainty", "service_levels"),
    "monitoring.alerts.conditions": ("conditions",),
    "monitoring.sla.levels": ("service_levels",),
    "monitoring.credentials.ages": ("credential_ages",),
    "monitoring.health.judges": ("health_vault", "health_rows", "health_service"),
    "monitoring.alerts.maintenance": ("maintenance",),
    "monitoring.alerts.delivery": (
        *("routing", "recipients", "delivery", "channel_alertmanager", "notifier"),
    ),
    "monitoring.alerts.outbox_merge": ("outbox",),
    "monitoring.alerts.lifecycle": ("boundaries", "alerts", "conditions", "maintenance"),
    "monitoring.alerts.grouping": ("hygiene_limits", "alerts", "messages"),
    "monitoring.tokens.hygiene": (
        *("hygiene_limits", "token_findings", "token_stats", "token_measurements"),
    ),
    "monitoring.alerts.outbox": ("outbox_file", "outbox"),
}

_NOWHERE = -1

_COMPARED: Mapping[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_SUMS: Mapping[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}


class Mutant(NamedTuple):
    """One mistake: `line` of the module's file, what stood there and what stands there now."""

    module: str
    function: str
    line: int
    was: str
    becomes: str
    place: int  # number of the node in `ast.walk`'s order
    variant: int

    @property
    def name(self) -> str:
        """As SURVIVORS lists it; without the line, which moves."""
        return f"{self.module} {self.function}: {self.was} -> {self.becomes}"


def changed(node: ast.AST) -> list[ast.AST]:
    """What may stand in the place of `node` by mistake."""
    found: list[ast.AST] = []
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            for other in _COMPARED[type(operator)]:
                new = copy.deepcopy(node)
                new.ops[at] = other()
                found.append(new)
    elif isinstance(node, ast.BoolOp):
        new_op = copy.deepcopy(node)
        new_op.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        found.append(new_op)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        found.append(copy.deepcopy(node.operand))
    elif isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        new_sum = copy.deepcopy(node)
        new_sum.op = _SUMS[type(node.op)]()
        found.append(new_sum)
    elif isinstance(node, ast.IfExp):
        new_if = copy.deepcopy(node)
        new_if.body, new_if.orelse = new_if.orelse, new_if.body
        found.append(new_if)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        other = not node.value if isinstance(node.value, bool) else node.value + 1
        found.append(ast.Constant(other))
    return found


def mutants(module: str) -> Iterator[Mutant]:
    """Every mistake inside the module's functions; annotations, decorators and texts left alone."""
    tree = ast.parse(_path(module).read_text())
    places = {id(node): at for at, node in enumerate(ast.walk(tree))}
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        for part in function.body:
            for node in ast.walk(part):
                for variant, other in enumerate(changed(node)):
                    yield Mutant(
                        module,
                        function.name,
                        getattr(node, "lineno", 0),
                        _said(node),
                        _said(other),
                        places[id(node)],
                        variant,
                    )


def _said(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:120]


def _path(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def mutated(mutant: Mutant) -> ast.Module:
    """The module's tree with the mistake in it."""
    tree = ast.parse(_path(mutant.module).read_text())
    if mutant.place == _NOWHERE:
        return tree
    wanted = next(n for at, n in enumerate(ast.walk(tree)) if at == mutant.place)
    instead = changed(wanted)[mutant.variant]

    class Change(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return instead if node is wanted else self.generic_visit(node)

    return ast.fix_missing_locations(Change().visit(tree))


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a tree instead of its file."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module, self._tree = module, tree

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, _path(name), loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self._tree, module.__file__, "exec"), module.__dict__)


def dies(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether one of the tests turns red (or hangs) with the mistake in it."""
    child = os.fork()
    if not child:
        _become(mutant, tests)
    return _ended_badly(child, AT_FIRST / 2)


def _ended_badly(child: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


class _Loop:
    """A plugin of pytest: in place of running the collected tests once, it runs them for each
    mistake in a process of its own. `died`: those that were found."""

    def __init__(self, tried: Sequence[Mutant]) -> None:
        self._tried = tried
        self.died: set[Mutant] = set()

    def pytest_runtestloop(self, session: Any) -> bool:
        gc.freeze()  # shared with the children, and not looked through by each
        patience = AT_FIRST
        for mutant in self._tried:
            child, began = os.fork(), time.monotonic()
            if not child:
                os._exit(_status_with(mutant, session))
            if _ended_badly(child, patience):
                self.died.add(mutant)
            if mutant.place != _NOWHERE:
                continue
            patience = PATIENCE + 3 * (time.monotonic() - began)
            if mutant in self.died:
                break
        return True


def _status_with(mutant: Mutant, session: Any) -> int:
    """In the forked process: 0 when all tests pass with the mistake in the running code."""
    from _pytest import main as pytest_main

    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        _patch(mutant)
        pytest_main.pytest_runtestloop(session)
    except BaseException:  # noqa: BLE001 - the first red test ends the session by an exception
        return 1
    return int(session.testsfailed > 0)


def _patch(mutant: Mutant) -> None:
    """Give each function of the module, whoever holds it by now, its code with the mistake."""
    found: dict[tuple[str, int], types.CodeType] = {}
    made = compile(mutated(mutant), str(_path(mutant.module)), "exec", dont_inherit=True)
    waiting = [made]
    while waiting:
        code = waiting.pop()
        inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
        found.update({(each.co_name, each.co_firstlineno): each for each in inner})
        waiting += inner
    gc.unfreeze()
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and function.__module__ == mutant.module:
            code = function.__code__
            function.__code__ = found.get((code.co_name, code.co_firstlineno), code)


def found_quickly(module: str, tried: Sequence[Mutant], names: Sequence[str]) -> set[Mutant]:
    """Which of the mistakes of the module the tests find in running code. Raises RuntimeError when
    the tests fail without any mistake: then they find nothing."""
    import pytest

    asis = Mutant(module, "", 0, "", "", _NOWHERE, 0)
    every = [asis, *tried]
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        loop, null = _Loop(every), os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        status = pytest.main(_words(names), plugins=[loop])
        died = [every.index(mutant) for mutant in loop.died] if status == 0 else [0]
        with os.fdopen(writer, "w") as answer:
            answer.write(json.dumps(died))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        died = json.loads(answer.read() or "[0]")
    os.waitpid(child, 0)
    if 0 in died:
        raise RuntimeError(f"the tests of {module} fail as it is: {', '.join(names)}")
    return {every[at] for at in died}


def _words(names: Sequence[str]) -> list[str]:
    tests = [str(ROOT / "tests" / f"test_{name}.py") for name in names]
    return ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", *tests]


def _become(mutant: Mutant, names: Sequence[str]) -> None:
    """In the forked process: run the tests with the mistake, and end."""
    import pytest

    status = 3
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        for name in [n for n in sys.modules if n.split(".")[0] in ("monitoring", "tests", "utils")]:
            if name != __name__:
                del sys.modules[name]
        sys.meta_path.insert(0, _Loader(mutant.module, mutated(mutant)))
        status = int(pytest.main(_words(names)))
    finally:
        os._exit(status)


def survivors_known() -> dict[str, str]:
    """Mistakes that no test can find -> why that is no fault."""
    rows = (line.partition("  # ") for line in SURVIVORS.read_text().splitlines())
    return {name.strip(): why.strip() for name, _, why in rows if name.strip() and why.strip()}


def survivors(tried: Sequence[Mutant], *, quick: bool = False) -> list[Mutant]:
    """Those that no test finds; `quick`: in running code, of which a few more may be left. Raises
    RuntimeError when the tests of a module fail without any mistake."""
    import pytest  # noqa: F401 - once, for all forked processes

    known, alive = survivors_known(), list(tried)
    for table in (TARGETS, SLOWER):
        for module in dict.fromkeys(m.module for m in alive if m.name not in known):
            own = [m for m in alive if m.module == module and m.name not in known]
            died = found_quickly(module, own, table[module]) if module in table else set()
            alive = [mutant for mutant in alive if mutant not in died]
    for table in () if quick else (TARGETS, SLOWER):
        new = [mutant for mutant in alive if mutant.name not in known and mutant.module in table]
        alive = [m for m in alive if m not in new or not dies(m, table[m.module])]
    return alive


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="of these only")
    parser.add_argument("--sample", type=int, help="so many, chosen by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="in running code only")
    args = parser.parse_args()
    found = [mutant for module in args.modules or TARGETS for mutant in mutants(module)]
    if args.sample:
        found = random.Random(args.seed).sample(found, min(args.sample, len(found)))
    alive = survivors(found, quick=args.quick)
    known = survivors_known()
    for mutant in alive:
        mark = "known" if mutant.name in known else "NEW"
        print(f"{mark}  line {mutant.line}: {mutant.name}")
    died = len(found) - len(alive)
    print(f"{died} of {len(found)} die ({died / max(1, len(found)):.1%})")
    return int(any(mutant.name not in known for mutant in alive))


if __name__ == "__main__":
    sys.exit(main())
