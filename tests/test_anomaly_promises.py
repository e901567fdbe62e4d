"""What the detector promises whatever comes: no look ahead, gaps are unknown, old state is read."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest
from hypothesis import given, settings, strategies as st

from monitoring.anomaly.detector import PLATFORM_KEY, Anomaly, Bucket, Detector, Usage
from monitoring.anomaly.store import AnomalyStore, Reported
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


def _guessing(source: str, hours: range, failed: int = 2) -> dict[int, Usage]:
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
def learned() -> dict[str, str]:
    detector = Detector()
    run(crowd(4), range(_BEFORE), detector)
    return detector.dump()


def _fed(learned: dict[str, str], hours: list[Optional[dict[str, Usage]]]) -> list[list[Anomaly]]:
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
    learned: dict[str, str],
    past: list[Any],
    one: list[Any],
    other: list[Any],
) -> None:
    told = _fed(learned, past)
    assert _fed(learned, past + one)[: len(past)] == told
    assert _fed(learned, past + other)[: len(past)] == told
    for number, found in enumerate(told, _BEFORE):
        assert {hour_of(anomaly) for anomaly in found} <= {number}


@settings(max_examples=30, deadline=None)
@given(gap=st.integers(min_value=1, max_value=200))
def test_hours_that_nobody_observed_are_neither_rest_nor_silence(
    learned: dict[str, str], gap: int
) -> None:
    world = crowd(4)
    detector = Detector(profiles=learned)
    assert run(world, range(_BEFORE + gap, _BEFORE + gap + 30), detector) == []


@settings(max_examples=20, deadline=None)
@given(lost=st.sets(st.integers(min_value=0, max_value=99)))
def test_hours_that_are_missing_here_and_there_raise_nothing(
    learned: dict[str, str], lost: set[int]
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
        told: tuple[Reported, ...] = ()
        for t in range(501):
            told = store.feed(bucket(world, t), now, HOUR)
        kept = store.feed(None, now, HOUR)  # as the state file has them
    for each in (told, kept):
        (finding,) = of_anomalies([one.anomaly for one in each])
        assert finding.reason == "failure_spray"
        assert STRANGE in finding.sentence
        assert OTHER in finding.sentence


# --- what is kept


def _platform_of(texts: dict[str, str]) -> dict[str, Any]:
    platform: dict[str, Any] = json.loads(texts[PLATFORM_KEY])["platform"]
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
    assert max(platform[key] for key in ("born", "hour", "shared_reported", "silenced")) <= latest
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


def _older(texts: dict[str, str]) -> dict[str, str]:
    """As version 1.0 and the one after it wrote profiles."""
    old = {}
    for name, text in texts.items():
        state = json.loads(text)
        if name == PLATFORM_KEY:
            state["platform"]["shared"] = 7
            for key in ("shared_reported", "sprays"):
                del state["platform"][key]
        else:
            state["guessers"] = {STRANGE: [state["last_call"], 2.0]}
            for key in ("failing", "starts", "odd_starts", "idle", "busy"):
                state.pop(key, None)
        old[name] = json.dumps(state)
    return old


def test_profiles_of_earlier_versions_are_read(learned: dict[str, str]) -> None:
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
    learned: dict[str, str], data: st.DataObject
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


# --- the first week


def _newcomer(born: int, client: Client, extra: dict[int, Usage]) -> Client:
    grown = with_hours(client, extra)
    return lambda t: grown(t) if t >= born else None


def test_a_gross_surge_of_a_clients_first_week_is_told_and_does_not_become_habit() -> None:
    host = "10.0.1.7"
    surges = {580: Usage(400, 0, {host: 400}), 620: Usage(900, 0, {host: 900})}
    world = {**crowd(9), "young": _newcomer(500, steady(7, 20.0, host), surges)}
    detector = Detector()
    found = run(world, range(660), detector)
    assert [(f.client, hour_of(f), f.reason) for f in found] == [
        ("young", 580, "volume_spike"),
        ("young", 620, "volume_spike"),
    ]
    assert "calls in this hour, where no hour of its first days had more than 29 (" in (
        found[0].sentence
    )
    profile = json.loads(detector.dump()["young"])
    assert profile["level"] < 25.0
    assert profile["most"] < 50.0


@pytest.mark.parametrize("extra", [15, 60])
def test_what_clients_in_their_first_week_often_do_is_not_told(extra: int) -> None:
    surge = {580: Usage(extra, 0, {"10.0.1.7": extra})}
    world = {**crowd(9), "young": _newcomer(500, steady(7, 20.0, "10.0.1.7"), surge)}
    assert run(world, range(600)) == []


def test_the_first_working_day_of_a_client_that_came_at_a_weekend_is_no_surge() -> None:
    saturday = 3 * 168 + 5 * 24
    office_like = shaped(
        5, lambda t: 60.0 if 8 <= t % 24 < 18 and t % 168 < 120 else 0.3, "10.0.1.7"
    )
    world = {**crowd(9), "young": _newcomer(saturday, office_like, {})}
    assert [f for f in run(world, range(saturday + 7 * 24)) if f.client == "young"] == []


def test_what_is_known_of_first_weeks_outlasts_a_restart() -> None:
    surge = {620: Usage(200, 0, {"10.0.1.7": 200})}
    world = {**crowd(9), "young": _newcomer(500, steady(7, 20.0, "10.0.1.7"), surge)}
    first = Detector()
    before = run(world, range(600), first)
    again = Detector(profiles=first.dump())
    assert run(world, range(600, 650), again) == run(world, range(600, 650), first)
    assert before == []
    assert json.loads(again.dump()[PLATFORM_KEY])["platform"]["leap_chances"] > 1.0


# --- the budget of few


def test_few_clients_share_the_budget_of_five() -> None:
    """A surge that one of many is not told of is told of the only one, and of five not."""
    extra = {500: Usage(20, 0, {"10.0.0.1": 20})}

    def told(fewest: int) -> list[str]:
        world = {"c0": with_hours(steady(9), extra)}
        return [f.client for f in run(world, range(520), Detector(fewest_clients=fewest))]

    assert told(5) == ["c0"]
    assert told(1) == []


def test_a_client_with_wild_hours_is_told_far_beyond_all_of_them() -> None:
    """Hours that jump ten-fold by chance have no habit; forty-fold is beyond the last days."""
    wild = shaped(5, lambda t: 10.0 * (1 + (t * 7919) % 11), None)
    world = {"c": with_hours(wild, {600: Usage(900, 0)})}
    assert [(hour_of(f), f.reason) for f in run(world, range(620))] == [(600, "volume_spike")]


# --- within the hour, after misuse, and falls


def _by_minutes(world: dict[str, Client], t: int) -> list[Bucket]:
    """The hour in twelve buckets of five minutes; all failures come in the third."""
    whole = bucket(world, t)
    parts = []
    for part in range(12):
        rows = {}
        for name, usage in whole.clients.items():
            failing = usage.failed and part == 2
            strange = {s: n for s, n in (usage.sources or {}).items() if s in (STRANGE, OTHER)}
            own = {s: n / 12 for s, n in (usage.sources or {}).items() if s not in strange}
            sources = {**own, **(strange if failing else {})}
            rows[name] = Usage(usage.ok / 12, usage.failed if failing else 0, sources)
        parts.append(Bucket(whole.at + 300.0 * part, 300.0, rows))
    return parts


def test_a_strangers_burst_is_told_within_its_hour_and_once() -> None:
    world = crowd(8)
    world["client-1"] = with_hours(world["client-1"], {_BEFORE: Usage(0, 40, {STRANGE: 40})})
    detector = Detector()
    run(world, range(_BEFORE), detector)
    told = [len(detector.feed(part)) for part in _by_minutes(world, _BEFORE)]
    assert told == [0, 0, 1, *[0] * 9]


def test_a_gross_surge_of_one_client_is_told_within_its_hour_and_once() -> None:
    more = {_BEFORE: Usage(600, 0, {"10.0.1.1": 600})}
    world = crowd(8)
    world["client-0"] = with_hours(world["client-0"], more)
    detector = Detector()
    run(world, range(_BEFORE), detector)
    told = [detector.feed(part) for part in _by_minutes(world, _BEFORE)]
    ((first,), at) = next((found, n) for n, found in enumerate(told) if found)
    assert (first.client, first.reason, first.at) == (
        "client-0",
        "volume_spike",
        START + _BEFORE * HOUR,
    )
    assert at <= 4  # of twelve parts
    assert sum(map(len, told)) == 1  # nor is it told again when the hour is over


def test_a_surge_of_many_clients_waits_for_the_hours_end() -> None:
    more = {_BEFORE: Usage(600, 0, {"10.0.1.1": 600})}
    world = {name: with_hours(client, more) for name, client in crowd(8).items()}
    detector = Detector()
    run(world, range(_BEFORE), detector)
    told = [detector.feed(part) for part in _by_minutes(world, _BEFORE)]
    assert sum(map(len, told[:-1])) == 0


def test_a_batch_in_its_hour_is_no_surge_within_it() -> None:
    batch = {t: Usage(600, 0, {"10.0.0.9": 600}) for t in range(_BEFORE % 24, _BEFORE + 1, 24)}
    world = {**crowd(4), "c": with_hours(steady(6, 2.0, "10.0.0.9"), batch)}
    detector = Detector()
    run(world, range(_BEFORE), detector)
    assert [detector.feed(part) for part in _by_minutes(world, _BEFORE)] == [[]] * 12


def test_what_is_told_within_an_hour_is_what_its_end_would_have_told() -> None:
    world = crowd(8)
    world["client-1"] = with_hours(world["client-1"], {_BEFORE: Usage(0, 40, {STRANGE: 40})})
    world["client-2"] = with_hours(world["client-2"], {_BEFORE: Usage(0, 4, {STRANGE: 4})})
    late, early = Detector(), Detector()
    run(world, range(_BEFORE), late)
    run(world, range(_BEFORE), early)
    at_end = late.feed(bucket(world, _BEFORE))
    within = [found for part in _by_minutes(world, _BEFORE) for found in early.feed(part)]
    assert [(f.client, f.reason, f.at) for f in within] == [
        (f.client, f.reason, f.at) for f in at_end
    ]
    assert within[0].evidence["technique"] == "T1110.001"


def test_a_spray_is_told_within_its_hour_and_once() -> None:
    world = crowd(8)
    for name in world:
        world[name] = with_hours(world[name], {_BEFORE: Usage(0, 2, {STRANGE: 2})})
    detector = Detector()
    run(world, range(_BEFORE), detector)
    told = [[f.reason for f in detector.feed(part)] for part in _by_minutes(world, _BEFORE)]
    assert told[2] == ["failure_spray"]
    assert sum("failure_spray" in reasons for reasons in told) == 1


def test_what_follows_told_misuse_is_no_wild_hour_of_the_clients() -> None:
    """After a surge beyond doubt a lesser one, too small to be told, does not raise the bar."""

    def surprises(hours: dict[int, float]) -> float:
        extra = {t: Usage(calls, 0, {"10.0.0.1": calls}) for t, calls in hours.items()}
        detector = Detector()
        told = run({"c": with_hours(steady(4, 12.0), extra)}, range(600), detector)
        assert len(told) == (200 in hours.values())
        return float(json.loads(detector.dump()["c"])["surprise_sum"])

    lesser = {560: 12.0}
    assert surprises(lesser) > surprises({})
    assert surprises({500: 200.0, **lesser}) == surprises({500: 200.0})


def test_a_fall_that_is_no_silence_is_told() -> None:
    world = {"c": steady(4, 200.0)}
    usual = world["c"]

    def fallen(t: int) -> Optional[Usage]:
        return Usage(30, 0, {"10.0.0.1": 30}) if t in (600, 601) else usual(t)

    (found,) = run({"c": fallen}, range(640))
    assert (hour_of(found), found.reason, found.observed) == (600, "silence", 30)
    assert "made only 30 calls in 1 hour, expected about 2" in found.sentence


def test_a_profile_is_five_kilobytes_at_most() -> None:
    """With as many addresses as are remembered, and every table filled."""

    def wandering(t: int) -> Usage:
        return Usage(20 + t % 7, t % 3, {f"198.51.{t % 99}.{(t + n) % 200}": 5 for n in range(4)})

    detector = Detector()
    run({"c": wandering}, range(900), detector)
    text = detector.dump()["c"]
    assert len(json.loads(text)["known"]) >= 32
    assert len(text) <= 5000
