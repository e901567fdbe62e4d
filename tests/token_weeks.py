"""Three simulated weeks of token cycles, recorded as the pipeline records them: working days in
Berlin, the night in which summer time ends, two gaps, and samples that thin out with age."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Callable, Optional
from zoneinfo import ZoneInfo

from monitoring.config.settings import HistorySettings
from monitoring.model import Measurement, Outcome
from monitoring.store.history import LocalHistory
from monitoring.store.state import State

BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86400.0
INTERVAL = 300.0
#: Monday, before the change of 25 October 2026.
START = dt.datetime(2026, 10, 12, tzinfo=BERLIN).timestamp()
END = dt.datetime(2026, 11, 2, tzinfo=BERLIN).timestamp()
#: From, to: a night and half a day in which nobody looked.
GAPS = (
    (START + 3 * DAY + 1 * 3600, START + 3 * DAY + 7 * 3600),
    (START + 16 * DAY + 6 * 3600, START + 16 * DAY + 18 * 3600),
)
BUSIEST = (10, 11)  # o'clock in Berlin, before and after the change
JOINED_AT = START + 10 * DAY
LEFT_AT = START + 8 * DAY

Shape = Callable[[float], float]


def rate(at: float) -> float:
    """Tokens a minute: 20 at rest, 200 more around 11 in Berlin, the same every day."""
    local = dt.datetime.fromtimestamp(at, BERLIN)
    hour = local.hour + local.minute / 60
    return 20.0 + 200.0 * math.exp(-(((hour - 11.0) / 3.0) ** 2))


def clients(at: float, shape: Shape = rate) -> Mapping[str, float]:
    """Rate by client: two that stay, one that joins, one that leaves."""
    found = {"client-big": shape(at) * 0.7, "client-small": shape(at) * 0.1}
    if at >= JOINED_AT:
        found["client-new"] = shape(at) * 0.2
    if at < LEFT_AT:
        found["client-old"] = shape(at) * 0.2
    return found


class Counters:
    """The services' counters: they go on while nobody looks."""

    def __init__(self, shape: Shape, failing: float) -> None:
        self._shape, self._failing = shape, failing
        self.minted = self.good = self.bad = 0.0

    def step(self, at: float) -> None:
        tokens = self._shape(at) * INTERVAL / 60
        self.minted += tokens
        self.good += 3 * tokens * (1 - self._failing)
        self.bad += 3 * tokens * self._failing

    def measurements(self) -> Sequence[Measurement]:
        return (
            Measurement("payment_api_tokens_generated_total", self.minted),
            Measurement("payment_api_token_validations_total", self.good, {"result": "success"}),
            Measurement("payment_api_token_validations_total", self.bad, {"result": "failure"}),
            Measurement(
                "payment_api_token_validation_failures_total", self.bad, {"reason": "expired"}
            ),
        )


def record(
    state: State,
    *,
    shape: Shape = rate,
    failing: float = 0.0001,
    start: float = START,
    end: float = END,
    gaps: Sequence[tuple[float, float]] = GAPS,
    settings: Optional[HistorySettings] = None,
) -> Counters:
    """Record cycles every five minutes, thinning as time goes on; the counters at the end."""
    history = LocalHistory(state, settings or HistorySettings())
    counters = Counters(shape, failing)
    at = start
    with state.transaction():
        while at < end:
            at += INTERVAL
            counters.step(at)
            if not any(first < at <= last for first, last in gaps):
                history.record(_outcome(at, shape, failing, counters=counters), INTERVAL)
    while start < end:
        start += 0.5 * DAY
        history.prune(start)
    return counters


def _outcome(at: float, shape: Shape, failing: float, *, counters: Counters) -> Outcome:
    measured = [
        Measurement("payment_api_token_generation_rate", shape(at)),
        Measurement("payment_api_tokens_active", shape(at) * 60),
        Measurement("payment_api_token_validation_success_ratio", 1 - failing),
        Measurement("payment_api_token_validation_failures_recent", shape(at) * 45 * failing),
        Measurement("payment_api_token_expiry_cliff_ratio", 0.02),
        *counters.measurements(),
    ]
    measured += [
        Measurement("payment_api_client_token_generation_rate", value, {"client_id": client})
        for client, value in clients(at, shape).items()
    ]
    return Outcome("token_usage_metrics", "test", "1.0.0", at, 0.1, measurements=tuple(measured))
