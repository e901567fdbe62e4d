"""Run by test_notifier: dies at every step of a delivery, starts again, and tells what it kept.

A step is the beginning or end of a transaction or of a send. For each step a forked child runs an
incident and kills itself there; a second child then only delivers. One JSON line per step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitoring import channels
from monitoring.alerts.notifier import Notifier
from monitoring.config.secret import Secret
from monitoring.model import Notice
from monitoring.store.state import State
from tests.alerting_kit import CRITICAL, OK, T0, Clock, component, outcome, settings

STEPS = {"left": 0}


def step() -> None:
    """Die here if it is this step's turn."""
    STEPS["left"] -= 1
    if STEPS["left"] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(transaction: Any) -> Any:
    """`State.transaction`, each of which may be the last thing that happens."""

    @contextlib.contextmanager
    def dying(self: State, *, write: bool = True) -> Iterator[Any]:
        step()
        with transaction(self, write=write) as tx:
            yield tx
            step()
        step()

    return dying


def mortal_send(send: Any) -> Any:
    def sending(notices: Sequence[Notice], kit: Any) -> None:
        step()
        send(notices, kit)
        step()

    return sending


def incident(folder: Path, url: str, clock: Clock) -> None:
    """Down, then up again."""
    State.transaction = mortal(State.transaction)  # type: ignore[method-assign]
    with State.open(folder) as state:
        notifier = Notifier(settings(folder, {"webhook": {"url": Secret(url)}}), state, clock)
        for severity in (CRITICAL, OK):
            notifier.process(outcome(component(severity), at=clock.at))
            notifier.deliver(20.0)
            clock.at += 60


def recovery(folder: Path, url: str, clock: Clock) -> None:
    """Deliver what the dead one left."""
    with State.open(folder) as state:
        notifier = Notifier(settings(folder, {"webhook": {"url": Secret(url)}}), state, clock)
        for _ in range(2):
            notifier.deliver(20.0)
        rows = state.read("SELECT channel, reason, told IS NOT NULL FROM notices ORDER BY id")
        firing = state.read("SELECT body FROM alert_states")
        fires = any(json.loads(body)["phase"] == "firing" for (body,) in firing)
        print(json.dumps({"url": url, "rows": rows, "fires": fires}), flush=True)


def in_child(work: Any, *args: Any) -> int:
    child = os.fork()
    if child == 0:
        work(*args)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main(folder: Path, url: str) -> None:
    webhook = channels.CHANNELS["webhook"]
    channels.CHANNELS["webhook"] = replace(webhook, send=mortal_send(webhook.send))  # type: ignore[index]
    for number in range(1, 300):
        STEPS["left"] = number
        state, address = folder / str(number), f"{url}/{number}"
        died = in_child(incident, state, address, Clock(T0))
        STEPS["left"] = 0
        assert in_child(recovery, state, address, Clock(T0 + 120)) == 0
        if died == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
