"""Counters: growth between two looks, whatever restarted, joined or left meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.services import counters
from monitoring.services.counters import CounterKey, CounterSample, Delta

AT = 1_795_400_000.0


def look(at: float, *rows: tuple[str, str, float]) -> dict[CounterKey, tuple[float, float]]:
    """A look at `at`: rows of (instance, client, value)."""
    samples = [CounterSample("logins", (("client", c),), instance, v) for instance, c, v in rows]
    return counters.keyed("eapi", samples, at)


LOOKS: list[tuple[str, Any, Any, dict[tuple[str, str], Delta]]] = [
    ("the first look counts nothing", {}, look(AT, ("a", "c", 5)), {}),
    (
        "it grew",
        look(AT, ("a", "c", 5)),
        look(AT + 60, ("a", "c", 8)),
        {("a", "c"): Delta(3, 60)},
    ),
    (
        "it stood still: nought, not unknown",
        look(AT, ("a", "c", 5)),
        look(AT + 60, ("a", "c", 5)),
        {("a", "c"): Delta(0, 60)},
    ),
    (
        "a restart: what it counted since",
        look(AT, ("a", "c", 500)),
        look(AT + 60, ("a", "c", 4)),
        {("a", "c"): Delta(4, 60, True)},
    ),
    (
        "a client seen for the first time began at nought",
        look(AT, ("a", "c", 5)),
        look(AT + 60, ("a", "c", 5), ("a", "new", 2)),
        {("a", "c"): Delta(0, 60), ("a", "new"): Delta(2, 60)},
    ),
    (
        "a second instance has no beginning to count from",
        look(AT, ("a", "c", 5)),
        look(AT + 60, ("a", "c", 6), ("b", "c", 900)),
        {("a", "c"): Delta(1, 60)},
    ),
    (
        "a process that started after our last look is a restart",
        look(AT, (f"h:1@{AT - 999:.0f}", "c", 500)),
        look(AT + 60, (f"h:1@{AT + 30:.0f}", "c", 500)),
        {(f"h:1@{AT + 30:.0f}", "c"): Delta(500, 60, True)},
    ),
    (
        "an older process at the same address is another one behind a load balancer",
        look(AT, (f"h:1@{AT - 10:.0f}", "c", 5)),
        look(AT + 60, (f"h:1@{AT - 999:.0f}", "c", 900)),
        {},
    ),
    (
        "an instance that was away is counted over the time it was",
        {**look(AT, ("a", "c", 5)), **look(AT + 300, ("b", "c", 1))},
        look(AT + 360, ("a", "c", 9), ("b", "c", 2)),
        {("a", "c"): Delta(4, 360), ("b", "c"): Delta(1, 60)},
    ),
    (
        "a counter that is gone counts nothing",
        look(AT, ("a", "c", 5), ("a", "d", 1)),
        look(AT + 60, ("a", "c", 6)),
        {("a", "c"): Delta(1, 60)},
    ),
    (
        "a clock set back gives no rate",
        look(AT, ("a", "c", 5)),
        look(AT - 60, ("a", "c", 8)),
        {("a", "c"): Delta(3, 0)},
    ),
]


@pytest.mark.parametrize(("why", "before", "now", "found"), LOOKS, ids=[row[0] for row in LOOKS])
def test_deltas(why: str, before: Any, now: Any, found: dict[tuple[str, str], Delta]) -> None:
    deltas = counters.deltas(before, now)
    assert {(k.instance, dict(k.labels)["client"]): d for k, d in deltas.items()} == found, why


def test_the_same_address_of_another_source_is_another_thing() -> None:
    before = counters.keyed("sapi", [CounterSample("logins", (), "h:1", 5)], AT)
    now = counters.keyed("eapi", [CounterSample("logins", (), "h:1", 9)], AT + 60)
    assert counters.deltas(before, now) == {}


def test_rates() -> None:
    assert Delta(30, 60).rate == 0.5
    assert Delta(30, 0).rate is None


def _found() -> dict[CounterKey, Delta]:
    def key(client: str, success: str, instance: str) -> CounterKey:
        return CounterKey("eapi", "logins", (("client", client), ("success", success)), instance)

    return {
        key("a", "true", "1"): Delta(10, 60),
        key("a", "false", "1"): Delta(1, 60),
        key("a", "false", "2"): Delta(2, 60),
        key("b", "false", "2"): Delta(4, 60),
    }


def test_totals_by_label() -> None:
    assert counters.by_label(_found(), "logins", "client", success="false") == {"a": 3, "b": 4}
    assert counters.by_label(_found(), "unknown", "client") == {}
