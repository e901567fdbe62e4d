"""Logins across runs: counters become buckets, each call counted once, gaps stay gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from monitoring.anomaly.types import Usage
from monitoring.config.settings import ServiceMetricsSettings
from monitoring.credentials.facts import EAPI, SAPI, Totals
from monitoring.credentials.usage import KEPT_FOR, LOGINS, RAW_FOR, UsageBook, UsageHistory
from monitoring.services.counters import CounterSample, read_at
from monitoring.services.labels import ATTEMPTS, BAD_NAME
from monitoring.services.metrics import ServiceMetrics
from monitoring.store.state import State
from monitoring.text import safe_id

NOW = 1_795_392_000.0  # a whole hour
HOUR = 3600.0
CANARY = "monitoring-canary"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "s") as opened:
        yield opened


def samples(instance: str = "eapi:8080@100", **clients: tuple[float, float]) -> list[CounterSample]:
    """(ok, failed) totals by client, as one instance counts them."""
    return [
        CounterSample(LOGINS, labels(client=name, end=end), instance, value)
        for name, (ok, failed) in clients.items()
        for end, value in (("true", ok), ("false", failed))
    ]


def labels(**more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"family": "000 payment_authentication_attempts", **more}.items()))


def book(state: State) -> UsageBook:
    return UsageBook(state, ignored=(CANARY,))


def metrics(found: list[CounterSample], *instances: str) -> ServiceMetrics:
    every = instances or tuple(dict.fromkeys(sample.instance for sample in found))
    marks = [read_at(instance, ServiceMetricsSettings()) for instance in every]
    return ServiceMetrics("any", samples=(*marks, *found), instances=every)


def grown(
    state: State, at: float, found: list[CounterSample], known: Optional[set[str]] = None
) -> Optional[Mapping[str, Usage]]:
    bucket = book(state).look({EAPI: metrics(found)}, known, at).bucket
    return None if bucket is None else bucket.clients


def test_the_first_look_counts_nothing(state: State) -> None:
    assert grown(state, NOW, samples(c1=(100, 7))) is None
    assert UsageHistory(state).totals() == {}
    assert UsageHistory(state).window(NOW, HOUR, guesses=9).seconds is None


def test_each_call_is_counted_once_by_two_monitors(tmp_path: Path) -> None:
    with State.open(tmp_path / "s") as one, State.open(tmp_path / "s") as two:
        grown(one, NOW, samples(c1=(100, 0)))
        assert grown(two, NOW + 100, samples(c1=(103, 0))) == {"c1": Usage(3, 0)}
        assert grown(one, NOW + 200, samples(c1=(110, 1))) == {"c1": Usage(7, 1)}
        # one began its look before two's, and comes to write after it
        assert grown(two, NOW + 300, samples(c1=(120, 1))) == {"c1": Usage(10, 0)}
        assert grown(one, NOW + 299, samples(c1=(119, 1))) is None
        window = UsageHistory(one).window(NOW + 300, HOUR, guesses=9)
        assert window.clients == {"c1": Usage(20, 1)}
        assert window.seconds == 300
        assert UsageHistory(two).totals()["c1"] == Totals(21, 1, NOW + 300, NOW + 200)


def test_a_restart_counts_from_nought_and_a_second_instance_adds_up(state: State) -> None:
    grown(state, NOW, samples("a@1", c1=(100, 0)) + samples("b@1", c1=(50, 0)))
    later = samples("a@1795392100", c1=(4, 1)) + samples("b@1", c1=(53, 0))
    assert grown(state, NOW + 300, later) == {"c1": Usage(7, 1)}


def test_a_source_that_is_dark_is_a_gap_and_its_calls_come_later(state: State) -> None:
    grown(state, NOW, samples(c1=(100, 0)))
    assert book(state).look({}, None, NOW + 300).bucket is None
    assert book(state).look({SAPI: metrics([])}, None, NOW + 450).bucket is None
    bucket = book(state).look({EAPI: metrics(samples(c1=(130, 0)))}, None, NOW + 600).bucket
    assert bucket is not None
    assert (bucket.at, bucket.seconds, bucket.clients) == (NOW, 600, {"c1": Usage(30, 0)})


def test_logins_are_counted_at_one_service_only(state: State) -> None:
    both = {name: metrics(samples(c1=(1, 0))) for name in (EAPI, SAPI)}
    book(state).look(both, None, NOW)
    both = {name: metrics(samples(c1=(3, 0))) for name in (EAPI, SAPI)}
    bucket = book(state).look(both, None, NOW + 60).bucket
    assert bucket is not None
    assert bucket.clients == {"c1": Usage(2, 0)}


def test_a_deployment_that_counts_logins_at_sapi(state: State) -> None:
    book(state).look({EAPI: metrics([]), SAPI: metrics(samples(c1=(1, 0)))}, None, NOW)
    bucket = (
        book(state)
        .look({EAPI: metrics([]), SAPI: metrics(samples(c1=(3, 0)))}, None, NOW + 60)
        .bucket
    )
    assert bucket is not None
    assert bucket.clients == {"c1": Usage(2, 0)}


def test_attempts_without_their_end_are_successes_less_the_failures(state: State) -> None:
    def counted(attempts: float, failed: float) -> list[CounterSample]:
        return [
            CounterSample(LOGINS, labels(client="c1", end=end), "i", value)
            for end, value in ((ATTEMPTS, attempts), (BAD_NAME, failed))
        ]

    grown(state, NOW, counted(10, 1))
    assert grown(state, NOW + 60, counted(20, 4)) == {"c1": Usage(7, 3)}


def test_strangers_are_pooled_and_the_canary_is_left_out(state: State) -> None:
    def looked(n: float) -> list[CounterSample]:
        strange = {f"stranger-{i}": (0.0, n) for i in range(50)}
        return samples(c1=(n, 0), **{CANARY: (n, n)}, **strange)

    grown(state, NOW, looked(0), {"c1"})
    assert grown(state, NOW + 60, looked(2), {"c1"}) == {"c1": Usage(2, 0), "": Usage(0, 100)}
    assert {row[0] for row in state.read("SELECT client FROM buckets")} == {"c1", ""}
    assert CANARY not in UsageHistory(state).totals()


def test_a_registered_client_with_an_odd_id_is_no_stranger(state: State) -> None:
    odd = ["c" * 90, "line\nbreak", "caf\u00e9"]
    counted = [safe_id(name) for name in odd]
    grown(state, NOW, samples(**dict.fromkeys(counted, (0, 0))), set(odd))
    found = book(state).look(
        {EAPI: metrics(samples(**dict.fromkeys(counted, (1, 2))))}, set(odd), NOW + 60
    )
    assert found.bucket is not None
    assert found.bucket.clients == dict.fromkeys(odd, Usage(1, 2))
    assert set(found.clients) == set(odd)


def test_the_very_first_login_of_all_counts(state: State) -> None:
    """Services that are up and count requests, and nobody has logged in yet."""
    quiet = {name: metrics([], name) for name in (EAPI, SAPI)}
    assert book(state).look(quiet, None, NOW).bucket is None
    busy = {**quiet, SAPI: metrics(samples(SAPI, c1=(0, 3)))}
    bucket = book(state).look(busy, None, NOW + 60).bucket
    assert bucket is not None
    assert (bucket.seconds, bucket.clients) == (60, {"c1": Usage(0, 3)})


def test_a_watched_span_without_calls_is_rest_not_a_gap(state: State) -> None:
    grown(state, NOW, samples(c1=(5, 0)))
    assert grown(state, NOW + 60, samples(c1=(5, 0))) == {}
    assert UsageHistory(state).window(NOW + 60, HOUR, guesses=9).seconds == 60


def test_a_success_after_failures_in_a_row(state: State) -> None:
    ok, failed = 0.0, 0.0
    for minute, (good, bad) in enumerate([(0, 0), (0, 6), (0, 6), (1, 0), (5, 0)]):
        ok, failed = ok + good, failed + bad
        grown(state, NOW + 60 * minute, samples(c1=(ok, failed), c2=(failed, failed)))
    window = UsageHistory(state).window(NOW + 240, HOUR, guesses=10)
    assert window.recovered == {"c1": (12.0, NOW + 120)}  # c2 succeeded all along


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [(1, 40, True), (3, 40, True), (5, 40, False), (1, 9, False), (500, 40, False)],
)
def test_guesses_within_one_bucket(state: State, good: int, bad: int, told: bool) -> None:
    """An attack between two looks; and a busy client that also failed a few times."""
    grown(state, NOW, samples(c1=(0, 0)))
    grown(state, NOW + 300, samples(c1=(good, bad)))
    window = UsageHistory(state).window(NOW + 300, HOUR, guesses=10)
    assert window.recovered == ({"c1": (float(bad), NOW)} if told else {})


def test_of_a_bucket_that_reaches_back_before_the_window_its_share_counts(state: State) -> None:
    """The monitor stood still for ten hours: sixty failures were not all made in the last one."""
    grown(state, NOW - 10 * HOUR, samples(c1=(0, 0)))
    grown(state, NOW, samples(c1=(100, 60)))
    window = UsageHistory(state).window(NOW, HOUR, guesses=9)
    assert window.clients["c1"] == Usage(pytest.approx(10.0), pytest.approx(6.0))
    assert (window.seconds, window.span) == (pytest.approx(HOUR), HOUR)


def test_old_buckets_become_hours_and_then_go(state: State) -> None:
    total = 0.0
    for step in range(37):  # three hours of five minutes
        grown(state, NOW + 300 * step, samples(c1=(total, 0)))
        total += 1
    late = NOW + 2 * HOUR + RAW_FOR
    book(state).fold(late)
    rows = state.read("SELECT at, seconds, ok FROM buckets ORDER BY at")
    assert rows[:2] == [(NOW, 3600.0, 12.0), (NOW + HOUR, 3600.0, 12.0)]
    assert len(rows) == 2 + 12
    assert [b.seconds for b in UsageHistory(state).buckets(NOW)][:2] == [3600.0, 3600.0]
    book(state).fold(late + HOUR)
    assert len(state.read("SELECT at FROM buckets")) == 3
    assert sum(b.clients["c1"].ok for b in UsageHistory(state).buckets(NOW)) == 36
    book(state).fold(late + KEPT_FOR + 9 * HOUR)
    assert state.read("SELECT * FROM buckets") == state.read("SELECT * FROM bucket_hours") == []


def test_a_bucket_of_many_hours_is_no_hour_of_a_back_test(state: State) -> None:
    grown(state, NOW, samples(c1=(0, 0)))
    grown(state, NOW + 300, samples(c1=(3, 0)))
    grown(state, NOW + 300 + 7 * HOUR, samples(c1=(700, 0)))
    grown(state, NOW + 600 + 7 * HOUR, samples(c1=(703, 0)))
    for _ in range(2):
        told = [(b.at, b.clients["c1"].ok) for b in UsageHistory(state).buckets(NOW)]
        assert [ok for _at, ok in told] == [3, 3]
        book(state).fold(NOW + 8 * HOUR + RAW_FOR)
    assert UsageHistory(state).totals()["c1"].attempts == 703


def test_a_clock_set_back_by_much_does_not_stop_the_count(state: State) -> None:
    grown(state, NOW + 86400, samples(c1=(1, 0)))
    assert grown(state, NOW, samples(c1=(2, 0))) is None
    assert grown(state, NOW + 60, samples(c1=(5, 0))) == {"c1": Usage(3, 0)}


def test_a_sighting_of_the_old_version_is_kept_beside_the_counts(state: State) -> None:
    book(state).sighted(["c1"], NOW)
    grown(state, NOW, samples(c1=(1, 0)))
    grown(state, NOW + 60, samples(c1=(2, 0)))
    assert UsageHistory(state).totals()["c1"] == Totals(1, 0, NOW + 60, None, NOW)
