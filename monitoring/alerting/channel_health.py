"""Decision: is a channel so broken that people on the others should know?"""

from __future__ import annotations

from typing import Collection, Iterator, Mapping, Protocol

from monitoring.alerting import advice
from monitoring.durations import say
from monitoring.model import Alert, AlertKey, Outcome, Severity

METRIC = "notification_channel_failing"
#: A hiccup shorter than this is nobody's business: the outbox bridges it.
PATIENCE = 300.0
#: All scripts share the channels; one of them speaks, or each would.
SPEAKER = "health_check"


class Failing(Protocol):
    """What is known of a channel: failures in a row, since when (epoch seconds), why."""

    @property
    def failures(self) -> int: ...

    @property
    def since(self) -> float: ...

    @property
    def why(self) -> str: ...


def failing_channels(
    pauses: Mapping[str, Failing], wanted: Collection[str], outcome: Outcome
) -> Iterator[Alert]:
    """One alert per channel: a warning when it has failed for PATIENCE and something is to go
    through it (`wanted`), else OK: what nobody tries any more would stay broken for ever."""
    if outcome.script != SPEAKER:
        return
    for name, pause in pauses.items():
        lasts = outcome.at - pause.since if pause.failures else 0.0
        bad = lasts >= PATIENCE and name in wanted
        key = AlertKey(outcome.environment, outcome.script, f"notifications-{name}", METRIC)
        lost = f"alerts have not reached {name} for {say(lasts)}: {pause.why}"
        yield Alert(
            key,
            Severity.WARNING if bad else Severity.OK,
            lost if bad else _well(name, pause),
            **advice.for_finding(METRIC, "availability").fields(),
        )


def _well(name: str, pause: Failing) -> str:
    return f"nothing waits for {name} any more" if pause.failures else f"alerts reach {name} again"
