"""Each call in turn fails, once: of SQLite, of the file system, of sockets to one kind of peer.
With an outage standing, whatever call it is, everybody is told, the exit status is right, the
document is whole, and no traceback is shown.

`FAULTS=all` (`make faults`) tries every call; else as many of each family as `SAMPLE` says, others
every day.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from sandbox.stack import Stack
from tests import scripts
from tests.failing_sqlite import EXCEPTIONS
from tests.faults.ground import Ground, Run
from tests.faults.memory import everyone, heard, who_knows
from tests.faults.row import EAPI
from tests.fuzzing.nursery import Nursery

SCRIPT = "health_check"
SAMPLE = 4
FILES = ("OSError", "PermissionError", "ValueError", "FileNotFoundError", "InterruptedError")
NET = ("ConnectionResetError", "TimeoutError", "BrokenPipeError", "OSError", "PermissionError")
#: Family -> with what a call of it fails.
FAMILIES: Mapping[str, Sequence[str]] = {
    "sqlite": EXCEPTIONS,
    "files": FILES,
    "http": NET,
    "redis": NET,
    "smtp": NET,
}
LATER = 1800.0  # seconds after which a channel that failed is tried again


@dataclass(frozen=True)
class Fault:
    """The `number`th call of the family fails with `exception`."""

    family: str
    number: int
    exception: str

    @classmethod
    def of(cls, family: str, number: int, round_: int) -> Fault:
        kinds = FAMILIES[family]
        return cls(family, number, kinds[(number + round_) % len(kinds)])


def the_round() -> int:
    """Which sample it is: another one every day."""
    return int(os.environ.get("FAULT_ROUND", time.time() // 86400))


def chosen(calls: int, round_: int) -> list[int]:
    """The calls to fail of so many."""
    if os.environ.get("FAULTS") == "all":
        return list(range(1, calls + 1))
    step = max(1, calls // SAMPLE)
    return list(range(1 + round_ % step, calls + 1, step))[:SAMPLE]


class Site:
    """A stack with a state in which an outage is about to be told: it was bad once, and two bad
    looks are wanted."""

    def __init__(self, stack: Stack, nursery: Nursery, folder: Path) -> None:
        self.stack, self.nursery, self.folder = stack, nursery, folder
        self.ground = ground = Ground(stack, folder)
        everyone(ground)
        stack.receivers._alerts.clear()
        ground.setting("ALERTS", {"recovery_threshold": 1, "send_budget": "20s"})
        ground.env["HEARTBEAT_URL"] = ""
        assert self.run({}).status == 0
        stack.faults.set("eapi-500")
        assert self.run({}).status == 2
        assert who_knows(ground) == []
        self._kept = folder / "kept"
        shutil.copytree(ground.state, self._kept)

    def run(self, tricks: Mapping[str, Any]) -> Run:
        """A run from cron with what is done to the process before it."""
        target = self.ground.folder / "r.json"
        target.unlink(missing_ok=True)
        words = self.ground.command(SCRIPT, "--single-run", "--output", str(target))[2:]
        env = scripts.environment(self.ground.env)
        done = self.nursery.run(SCRIPT, words, env, self.folder, patience=60, tricks=tricks)
        said = done["out"] + done["err"]
        document = json.loads(target.read_text()) if target.exists() else None
        assert done["status"] is not None, f"it never ended: {said[-3000:]}"
        run = Run(SCRIPT, done["status"], done["out"], done["err"], document)
        run.check_form()
        return run

    def _again(self) -> None:
        """As it was before the outage is told."""
        shutil.rmtree(self.ground.state, ignore_errors=True)
        shutil.copytree(self._kept, self.ground.state)
        self.stack.faults.clear()
        self.stack.faults.set("eapi-500")
        self.stack.bag.clear()
        self.stack.receivers._alerts.clear()

    def _plan(self, family: str, number: int, exception: str) -> dict[str, Any]:
        counted = str(self.folder / "calls")
        where: Any = {
            "files": [str(self.ground.state), str(self.ground.folder / "r.json")],
            "redis": [self.stack.redis_port],
            "smtp": [self.stack.smtp.port],
            "http": [urlsplit(url).port for url in self._urls()],
        }.get(family)
        return {"in_turn": [family, where, number, exception, counted]}

    def _urls(self) -> list[str]:
        stack = self.stack
        servers = (stack.eapi, stack.sapi, stack.conjur, stack.rotation, stack.receivers)
        return [server.url for server in servers]

    def count(self, family: str) -> int:
        """How many calls of the family such a run makes."""
        self._again()
        self.run(self._plan(family, 0, "OSError"))
        return (self.folder / "calls").stat().st_size

    def play(self, fault: Fault) -> bool:
        """Raises AssertionError saying what did not hold. Whether the end was told as well, in the
        first run after it."""
        self._again()
        run = self.run(self._plan(fault.family, fault.number, fault.exception))
        assert run.status == 2, run.said()
        if run.document is not None:
            assert run.document["components"][EAPI]["status"] == "critical", run.document
        else:  # it is the call that would have written it
            assert "--output" in run.said(), run.said()
        knows = who_knows(self.ground)
        if fault.family in ("sqlite", "files", "redis"):
            assert len(knows) == 5, (knows, run.said())
        else:
            assert len(knows) >= 4, (knows, run.said())
            run = self.run({"clock": LATER})
            assert run.status == 2, run.said()
            assert len(who_knows(self.ground)) == 5, (knows, who_knows(self.ground), run.said())
        assert len(set(heard(self.ground, "trigger"))) == 1, heard(self.ground, "trigger")
        return self._ended()

    def _ended(self) -> bool:
        self.stack.faults.clear()
        self.run({"clock": LATER + 60})
        kinds = ("slack", "smtp", "webhook")
        said = {kind: json.dumps(self.stack.received(kind)) for kind in kinds}
        over = ["RESOLVED" in text or '"resolved"' in text for text in said.values()]
        return bool(heard(self.ground, "resolve")) and all(over)


def play(site: Site, family: str, round_: Optional[int] = None) -> tuple[int, int]:
    """Each chosen call of the family fails in turn; how many, and after how many of them the end of
    the outage was told. Raises AssertionError naming those that did not hold."""
    number = the_round() if round_ is None else round_
    failed, ended = [], 0
    every = chosen(site.count(family), number)
    assert every, f"no call of {family} was seen"
    for each in every:
        fault = Fault.of(family, each, number)
        try:
            ended += site.play(fault)
        except AssertionError as error:
            failed.append(f"{fault}: {str(error)[:1500]}")
    assert not failed, f"{len(failed)} of {len(every)} (round {number}):\n" + "\n\n".join(failed)
    return len(every), ended
