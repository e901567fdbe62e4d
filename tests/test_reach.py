"""Whom an outage concerns: tokens and clients, as the cache was last counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.alerts.notifier import CLIENTS, REMAINING, TOKENS, Count, last_count, with_reach
from monitoring.config.settings import HistorySettings
from monitoring.model import Measurement
from monitoring.store.history import LocalHistory
from monitoring.store.state import State
from tests.alerting_kit import OK, T0, WARNING, alert, outcome


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path) as opened:
        yield opened


def counted(state: State, at: float, tokens: float, *clients: str, half: float = 1740.0) -> None:
    """A cycle of the token script."""
    found = [Measurement(TOKENS, tokens, {})]
    found += [Measurement(CLIENTS, 1.0, {"client_id": name}) for name in clients]
    found.append(Measurement(REMAINING, half, {"stat": "p50"}))
    seen = outcome(at=at, script="token_usage_metrics", measurements=tuple(found))
    LocalHistory(state, HistorySettings()).record(seen, 300.0)


def test_the_last_count_is_of_one_moment(state: State) -> None:
    counted(state, T0 - 900, 10, "client-1", "client-gone")
    counted(state, T0 - 300, 1541, "client-1", "client-2")
    assert last_count(state, T0) == Count(T0 - 300, 1541, 2, False, 1740.0)
    counted(state, T0 - 200, 9, "client-1", "other")
    got = last_count(state, T0)
    assert got == Count(T0 - 200, 9, 1, True, 1740.0)
    assert "of more than 1 clients" in got.sentence


def test_nothing_counted_or_long_ago_is_not_said(state: State) -> None:
    assert last_count(state, T0) is None
    counted(state, T0 - 90_000, 10, "client-1")
    assert last_count(state, T0) is None
    bad = alert(meaning="Bad.")
    assert with_reach([bad], state, T0) == (bad,)


def test_a_component_in_trouble_says_whom_it_concerns(state: State) -> None:
    counted(state, T0 - 300, 1541, "client-1", "client-2")
    bad, good = alert(meaning="Bad."), replace(alert(OK), meaning="x")
    slow = alert(WARNING, metric="api_response_time", meaning="Slow.")
    told, same, other = with_reach([bad, good, slow], state, T0)
    assert told.meaning == (
        "Bad. At the last count (2026-11-23 02:08 UTC) 1,541 tokens of 2 clients were alive,"
        " half of them for 29 min or longer."
    )
    assert (same, other) == (good, slow)
