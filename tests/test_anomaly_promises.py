"""What the detector promises whatever comes: no look ahead, gaps are unknown, old state is read."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings, strategies as st

from monitoring.anomaly.detector import PLATFORM_KEY, Anomaly, Bucket, Detector, Usage
from monitoring.anomaly.store import AnomalyStore, Told
from monitoring.anomaly.types import Sensitivity
from monitoring.credentials.findings import of_anomalies
from monitoring.store.state import State
from tests.anomaly_worlds import (
    START,
    Client,
    bucket,
    crowd,
    hour_of,
    run,
    shaped,
    steady,
    with_hours,
)

STRANGE, OTHER = "198.18.0.7", "203.0.113.9"
HOUR = 3600.0


def _guessing(source: str, hours: range, failed: int = 2) -> Dict[int, Usage]:
    return dict.fromkeys(hours, Usage(0, failed, {source: failed}))


def _without_addresses(client: Client) -> Client:
    def changed(t: int) -> Optional[Usage]:
        usage = client(t)
        return usage and Usage(usage.ok, usage.failed)

    return changed


def _failing(client: Client, hours: range) -> Client:
    """The client, half of its calls failing besides."""

    def changed(t: int) -> Optional[Usage]:
        usage = client(t)
        if usage is None or t not in hours:
            return usage
        lost = usage.ok // 2
        return Usage(usage.ok - lost, usage.failed + lost, usage.sources)

    return changed


# --- no look ahead

counts = st.integers(min_value=0, max_value=500)
rows = st.dictionaries(
    st.sampled_from(["client-0", "client-1", "client-2", "new"]),
    st.builds(
        lambda ok, failed, who: Usage(ok, failed, who and {who: ok + failed}),
        counts,
        counts,
        st.sampled_from([None, "10.0.0.1", STRANGE]),
    ),
    max_size=4,
)
_BEFORE = 400


@pytest.fixture(scope="module")
def learned() -> Dict[str, str]:
    detector = Detector()
    run(crowd(4), range(_BEFORE), detector)
    return detector.dump()


def _fed(learned: Dict[str, str], hours: List[Optional[Dict[str, Usage]]]) -> List[List[Anomaly]]:
    """What each hour brings; None is an hour that nobody observed."""
    detector = Detector(profiles=learned)
    found = []
    for number, clients in enumerate(hours, _BEFORE):
        at = START + HOUR * number
        found.append([] if clients is None else detector.feed(Bucket(at, HOUR, clients)))
    return found


@settings(max_examples=30, deadline=None)
@given(past=st.lists(rows, min_size=1, max_size=6), one=st.lists(rows), other=st.lists(rows))
def test_what_comes_later_changes_nothing_that_was_said(
    learned: Dict[str, str],
    past: List[Any],
    one: List[Any],
    other: List[Any],
) -> None:
    told = _fed(learned, past)
    assert _fed(learned, past + one)[: len(past)] == told
    assert _fed(learned, past + other)[: len(past)] == told
    for number, found in enumerate(told, _BEFORE):
        assert {hour_of(anomaly) for anomaly in found} <= {number}


@settings(max_examples=30, deadline=None)
@given(gap=st.integers(min_value=1, max_value=200))
def test_hours_that_nobody_observed_are_neither_rest_nor_silence(
    learned: Dict[str, str], gap: int
) -> None:
    world = crowd(4)
    detector = Detector(profiles=learned)
    assert run(world, range(_BEFORE + gap, _BEFORE + gap + 30), detector) == []


@settings(max_examples=20, deadline=None)
@given(lost=st.sets(st.integers(min_value=0, max_value=99)))
def test_hours_that_are_missing_here_and_there_raise_nothing(
    learned: Dict[str, str], lost: set[int]
) -> None:
    world = crowd(4)
    hours = [None if t in lost else dict(bucket(world, _BEFORE + t).clients) for t in range(100)]
    assert not any(_fed(learned, hours))


# --- what is known of addresses


def test_without_addresses_no_failure_is_excused_as_ones_own() -> None:
    world = {n: _failing(_without_addresses(c), range(500, 501)) for n, c in crowd(12).items()}
    found = run(world, range(520))
    assert found
    assert {f.reason for f in found} == {"failure_burst"}
    assert all(f.evidence["own"] is False for f in found)


def test_who_gets_in_more_often_than_not_is_no_guesser() -> None:
    """A colleague on a strange network who mistypes: two failures an hour, and many calls."""
    visits = {t: Usage(9, 0, {STRANGE: 9}) for t in range(501, 520, 2)}
    tries = _guessing(STRANGE, range(500, 520, 2))
    world = {**crowd(6), "c": with_hours(steady(64, 12.0, "10.0.62.1"), {**tries, **visits})}
    assert "slow_guessing" not in {f.reason for f in run(world, range(530))}
    world["c"] = with_hours(steady(64, 12.0, "10.0.62.1"), tries)
    assert "slow_guessing" in {f.reason for f in run(world, range(530))}


def test_the_sentences_about_strangers_claim_no_more_than_is_known() -> None:
    world = {**crowd(6), "c": steady(64, 12.0, "10.0.62.1")}
    world["c"] = with_hours(world["c"], _guessing(STRANGE, range(500, 520)))
    world = {n: with_hours(c, _guessing(OTHER, range(510, 511))) for n, c in world.items()}
    told = {f.reason: f.sentence for f in run(world, range(530))}
    assert {"slow_guessing", "failure_spray"} <= set(told)
    for sentence in told.values():
        assert "refused" not in sentence
        assert "let in" not in sentence


def test_two_sprays_by_two_strangers_are_both_told(tmp_path: Any) -> None:
    world = crowd(12)
    for source, clients in ((STRANGE, range(5)), (OTHER, range(6, 12))):
        for number in clients:
            name = f"client-{number}"
            world[name] = with_hours(world[name], _guessing(source, range(500, 501)))
    with State(tmp_path / "state.sqlite3") as state:
        store, now = AnomalyStore(state, Sensitivity()), START + 501 * HOUR
        told: tuple[Told, ...] = ()
        for t in range(501):
            told = store.feed(bucket(world, t), now, HOUR)
        kept = store.feed(None, now, HOUR)  # as the state file has them
    for each in (told, kept):
        (finding,) = of_anomalies([one.anomaly for one in each])
        assert finding.reason == "failure_spray"
        assert STRANGE in finding.sentence
        assert OTHER in finding.sentence


# --- what is kept


def _platform_of(texts: Dict[str, str]) -> Dict[str, Any]:
    platform: Dict[str, Any] = json.loads(texts[PLATFORM_KEY])["platform"]
    return platform


def test_a_clock_that_was_ahead_leaves_no_hour_of_the_future() -> None:
    world = {n: _failing(c, range(500, 501)) for n, c in crowd(12).items()}
    world = {n: with_hours(c, _guessing(STRANGE, range(502, 503))) for n, c in world.items()}
    detector = Detector()
    assert {f.reason for f in run(world, range(510), detector)} == {
        *("shared_failures", "failure_spray"),
    }
    back = START + 300 * HOUR
    detector.mind_clock(back)
    texts, latest = detector.dump(), int(back // HOUR)
    platform = _platform_of(texts)
    assert max(platform[key] for key in ("born", "hour", "shared_told", "hushed")) <= latest
    assert max(platform["sprays"].values()) <= latest
    for name, text in texts.items():
        profile = {} if name == PLATFORM_KEY else json.loads(text)
        for hold in profile.get("holds", {}).values():
            assert hold[0] <= latest
        for at in (*profile.get("known", {}).values(), profile.get("last_call", 0)):
            assert at <= latest


def test_what_one_hour_alone_needs_is_not_kept() -> None:
    detector = Detector()
    run({n: _failing(c, range(50, 51)) for n, c in crowd(12).items()}, range(51), detector)
    assert not {"shared", "hush"} & set(_platform_of(detector.dump()))


def _older(texts: Dict[str, str]) -> Dict[str, str]:
    """As version 1.0 and the one after it wrote profiles."""
    old = {}
    for name, text in texts.items():
        state = json.loads(text)
        if name == PLATFORM_KEY:
            state["platform"]["shared"] = 7
            for key in ("shared_told", "sprays"):
                del state["platform"][key]
        else:
            state["guessers"] = {STRANGE: [state["last_call"], 2.0]}
            for key in ("failing", "starts", "odd_starts", "idle", "busy"):
                state.pop(key, None)
        old[name] = json.dumps(state)
    return old


def test_profiles_of_earlier_versions_are_read(learned: Dict[str, str]) -> None:
    detector = Detector(profiles=_older(learned))
    assert detector.counts["unreadable"] == 0
    assert run(crowd(4), range(_BEFORE, _BEFORE + 100), detector) == []
    grown = {n: json.loads(t) for n, t in detector.dump().items() if n != PLATFORM_KEY}
    for name, profile in grown.items():
        assert profile["seen"] == json.loads(learned[name])["seen"] + 100


numbers = st.sampled_from([float("nan"), float("inf"), -1, "x", None, [], {}, 1e300, "1e999"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_value_is_set_aside_and_the_run_goes_on(
    learned: Dict[str, str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(learned)))
    state = json.loads(learned[name])
    part = state
    if name == PLATFORM_KEY:
        part = state[data.draw(st.sampled_from(["platform", "clock"]))]
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(numbers)
    texts = {**learned, name: json.dumps(state)}
    detector = Detector(profiles=texts)
    run(crowd(4), range(_BEFORE, _BEFORE + 30), detector)
    again = Detector(profiles={**texts, **detector.dump()})
    assert again.counts["unreadable"] == 0


# --- the budget of few


def test_few_clients_share_the_budget_of_five() -> None:
    """A surge that one of many is not told of is told of the only one, and of five not."""
    extra = {500: Usage(20, 0, {"10.0.0.1": 20})}

    def told(fewest: int) -> List[str]:
        world = {"c0": with_hours(steady(9), extra)}
        return [f.client for f in run(world, range(520), Detector(fewest_clients=fewest))]

    assert told(5) == ["c0"]
    assert told(1) == []


def test_a_client_with_wild_hours_is_told_far_beyond_all_of_them() -> None:
    """Hours that jump ten-fold by chance have no habit; forty-fold is beyond the last days."""
    wild = shaped(5, lambda t: 10.0 * (1 + (t * 7919) % 11), None)
    world = {"c": with_hours(wild, {600: Usage(900, 0)})}
    assert [(hour_of(f), f.reason) for f in run(world, range(620))] == [(600, "volume_spike")]
