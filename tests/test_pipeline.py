"""What happens with a finished outcome, where no other test looks."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.model import Source
from monitoring.run import Pipeline
from tests.alerting_kit import CRITICAL, OK, UNKNOWN, component, outcome


class Heart:
    """A notifier that only beats."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def heartbeat(self, stage: str) -> None:
        self.stages.append(stage)


@pytest.mark.parametrize(
    ("sentence", "seen", "stage"),
    [
        ("all is well", outcome(component(OK)), "success"),
        ("what is watched is down; the monitor does its work", outcome(component(CRITICAL)),
         "success"),
        ("nothing could be judged", outcome(component(UNKNOWN)), "fail"),
        ("the cycle itself broke", outcome(sources=(Source("monitor", False),)), "fail"),
        ("alerts could not be kept",
         outcome(component(OK), sources=(Source("monitor:tell", False),)), "fail"),
        ("a source could not be read", outcome(component(OK), sources=(Source("eapi", False),)),
         "success"),
    ],
)  # fmt: skip
def test_the_heartbeat_is_of_the_monitor(sentence: str, seen: Any, stage: str) -> None:
    heart = Heart()
    (beat,) = [s for s in Pipeline(60.0, notifier=heart).steps() if s.name == "heartbeat"]
    beat.run(seen)
    assert heart.stages == [stage], sentence
