"""The detector on small worlds: what it must find, and what must leave it calm."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc
from typing import Optional

import pytest

from monitoring.anomaly.detector import (
    PLATFORM_KEY,
    REASONS,
    Anomaly,
    Bucket,
    Detector,
    Sensitivity,
    Usage,
)
from monitoring.anomaly.series import SeriesDetector
from tests.anomaly_worlds import (
    START,
    Client,
    bucket,
    crowd,
    hour_of,
    office,
    run,
    shaped,
    silent_during,
    steady,
    waves,
    with_hours,
)

WEEKS = 168
EVIL = "203.0.113.7"


def misused() -> dict[str, Client]:
    """The crowd, each kind of misuse once, in the fourth week (from hour 504)."""
    world = crowd()
    world["client-0"] = with_hours(world["client-0"], {520: Usage(90, 0, {EVIL: 90})})
    world["client-1"] = with_hours(world["client-1"], {531: Usage(25, 0, {"10.0.1.1": 25})})
    world["client-2"] = with_hours(world["client-2"], {540: Usage(0, 40, {EVIL: 40})})
    world["client-3"] = silent_during(world["client-3"], range(550, 560))
    world["client-5"] = with_hours(
        world["client-5"], {t: Usage(25, 0, {"10.0.5.1": 25}) for t in range(580, 610)}
    )
    spread = {f"198.51.100.{i}": 2.0 for i in range(9)}
    world["client-6"] = with_hours(world["client-6"], {565: Usage(18, 0, spread)})
    world["client-7"] = silent_during(world["client-7"], range(200, 600))
    world["client-7"] = with_hours(world["client-7"], {590: Usage(12, 0, {EVIL: 12})})
    own = steady(61, 12.0, "10.0.61.1")
    world["taken"] = lambda t: Usage(12, 0, {STRANGE: 12}) if 600 <= t < 604 else own(t)
    world["guessed"] = with_hours(
        steady(64, 12.0, "10.0.62.1"), dict.fromkeys(range(500, 520), GUESS)
    )
    world["stranger"] = lambda t: Usage(60, 0, {EVIL: 60}) if t == 545 else None
    return world


@pytest.fixture(scope="module")
def findings() -> list[Anomaly]:
    return run(misused(), range(620))


STRANGE, GUESSER = "198.51.100.7", "198.18.0.7"


#: Two refused logins from a strange address, beside the client's own calls.
GUESS = Usage(0, 2, {GUESSER: 2})
EXPECTED = [
    ("client-0", "volume_spike", range(520, 521)),
    ("client-1", "off_habit", range(531, 532)),
    ("client-2", "failure_burst", range(540, 541)),
    ("client-3", "silence", range(552, 560)),
    ("client-5", "slow_abuse", range(582, 610)),
    ("client-6", "source_fanout", range(565, 566)),
    ("client-7", "dormant_woken", range(590, 591)),
    ("taken", "source_takeover", range(600, 601)),
    ("guessed", "slow_guessing", range(503, 520)),
    ("stranger", "new_client", range(545, 546)),
]


def test_the_table_covers_every_reason() -> None:
    assert {reason for _client, reason, _hours in EXPECTED} == set(REASONS)


@pytest.mark.parametrize(("client", "reason", "hours"), EXPECTED)
def test_each_misuse_is_found_under_its_name(
    findings: list[Anomaly], client: str, reason: str, hours: range
) -> None:
    assert [
        f for f in findings if f.client == client and f.reason == reason and hour_of(f) in hours
    ]


def test_nothing_else_is_said(findings: list[Anomaly]) -> None:
    spans = {client: hours for client, _reason, hours in EXPECTED}
    resting = [f for f in findings if f.client == "client-7" and hour_of(f) < 590]
    assert [f.reason for f in resting] == ["silence"]  # going to rest is said once
    strays = [f for f in findings if f not in resting and hour_of(f) not in spans.get(f.client, ())]
    assert not strays


def test_an_ordinary_month_is_quiet() -> None:
    assert run(crowd(9), range(720)) == []


def test_causality_a_prefix_gives_the_same_findings(findings: list[Anomaly]) -> None:
    for end in (521, 546, 592):
        assert run(misused(), range(end)) == [f for f in findings if hour_of(f) < end]


def test_isolation_permuted_clients(findings: list[Anomaly]) -> None:
    world = misused()
    backwards = {name: world[name] for name in sorted(world, reverse=True)}
    assert run(backwards, range(620)) == findings


def test_isolation_renamed_clients(findings: list[Anomaly]) -> None:
    def facts(found: list[Anomaly], names: dict[str, str]) -> list[object]:
        return sorted((f.at, names[f.client], f.reason, f.score, f.observed) for f in found)

    world = misused()
    names = {name: f"z{9 - i}" for i, name in enumerate(sorted(world))}
    renamed = run({names[name]: client for name, client in world.items()}, range(620))
    back = {new: old for old, new in names.items()}
    assert facts(renamed, back) == facts(findings, {name: name for name in world})


def test_one_clients_misuse_never_becomes_anothers_finding(findings: list[Anomaly]) -> None:
    alone = run(crowd(), range(620))
    assert alone == []
    assert {f.client for f in findings} == {client for client, _reason, _hours in EXPECTED}


@pytest.mark.parametrize("shift", [1, -1])
def test_daylight_saving_moves_every_habit_by_an_hour_and_nobody_cries(shift: int) -> None:
    def moved(client: Client) -> Client:
        return lambda t: client(t if t < 672 else t + shift)

    world = {name: moved(client) for name, client in crowd(9).items()}
    assert run(world, range(900)) == []
    assert run({"client-1": world["client-1"]}, range(900)) == []


def test_a_client_that_moves_to_another_continent_is_told_less_and_less() -> None:
    client = office(3, 30.0)
    told = {hour_of(f) for f in run({"c": lambda t: client(t if t < 672 else t + 7)}, range(1100))}
    assert 1 <= len(told) <= 8
    assert len([t for t in told if t >= 672 + 7 * 24]) <= 2


def test_duplicated_and_late_buckets_change_nothing(findings: list[Anomaly]) -> None:
    world, detector, found = misused(), Detector(), []
    for t in range(620):
        found += detector.feed(bucket(world, t))
        found += detector.feed(bucket(world, t))
        if t % 50 == 49:
            found += detector.feed(bucket(world, t - 30))
    assert found == findings
    assert detector.counts["ignored"] == 620 + 12


@pytest.mark.parametrize("missing", [1, 5, 30, 168, 400])
def test_missing_collection_is_unknown_and_not_silence_nor_rest(missing: int) -> None:
    hours = [t for t in range(900) if not 430 <= t < 430 + missing]
    assert run(crowd(9), hours) == []


def test_the_same_absence_observed_is_a_silence() -> None:
    world = crowd(4)
    world["client-0"] = silent_during(world["client-0"], range(430, 470))
    found = run(world, range(500))
    assert [(f.client, f.reason) for f in found] == [("client-0", "silence")]


def test_counters_that_reset_are_unknown_and_said_so() -> None:
    world, detector = crowd(4), Detector()
    found = []
    for t in range(500):
        hour = bucket(world, t)
        if t in (300, 400, 450):
            broken = [Usage(-500.0, 0.0), Usage(math.nan, 1.0), Usage(3.0, math.inf)][t % 7 % 3]
            hour = dataclasses.replace(hour, clients={**hour.clients, "client-0": broken})
        found += detector.feed(hour)
    assert found == []
    assert detector.counts["unknown"] == 3


def test_the_outage_of_the_collector_is_one_gap_and_no_silences() -> None:
    world = crowd(9)
    dark = {name: silent_during(client, range(490, 500)) for name, client in world.items()}
    detector = Detector()
    assert run(dark, range(560), detector) == []
    assert detector.counts["outages"] >= 8


def test_a_busy_day_of_the_whole_platform_is_nobodys_anomaly() -> None:
    def busy(i: int) -> Client:
        return shaped(100 + i, lambda t: 20.0 * (1.7 if 500 <= t < 518 else 1.0), f"10.0.{i}.1")

    assert run({f"c{i}": busy(i) for i in range(30)}, range(560)) == []
    alone = run({**crowd(9), "only": busy(77)}, range(560))
    assert alone
    assert {f.reason for f in alone} <= {"slow_abuse", "volume_spike"}


def test_a_change_of_address_within_the_platforms_networks_is_no_anomaly() -> None:
    before, after = waves(5, 25.0, "10.0.5.1"), waves(5, 25.0, "10.0.3.9")
    world = {**crowd(5), "mover": lambda t: (before if t < 500 else after)(t)}
    assert run(world, range(600)) == []


def test_a_move_to_a_strange_network_is_told_once_for_it_may_be_theft() -> None:
    before, after = waves(5, 25.0, "10.0.5.1"), waves(5, 25.0, "192.0.2.9")
    world = {**crowd(5), "mover": lambda t: (before if t < 500 else after)(t)}
    assert [(f.client, f.reason) for f in run(world, range(600))] == [("mover", "source_takeover")]


def failing(client: Client, share: float, hours: range) -> Client:
    """The client, with that share of its calls failing besides, from its own hosts."""

    def changed(t: int) -> Usage | None:
        usual = client(t)
        if usual is None or t not in hours:
            return usual
        lost = round(usual.ok * share)
        return Usage(usual.ok - lost, usual.failed + lost, usual.sources)

    return changed


def test_failures_that_many_clients_share_are_told_of_the_platform() -> None:
    world = {name: failing(client, 0.5, range(500, 501)) for name, client in crowd(12).items()}
    (told,) = run(world, range(520))
    assert (told.client, told.reason) == ("", "shared_failures")
    assert "look at the platform" in told.sentence


def test_some_failures_from_the_clients_own_hosts_are_no_misuse() -> None:
    world = crowd(12)
    world["client-0"] = failing(world["client-0"], 0.5, range(500, 503))
    assert run(world, range(520)) == []


def test_a_client_for_which_nothing_works_any_more_is_told_in_the_second_hour() -> None:
    world = crowd(12)
    world["client-0"] = failing(world["client-0"], 0.9, range(500, 506))
    told = run(world, range(520))
    assert [(hour_of(f), f.client, f.reason) for f in told] == [(501, "client-0", "failure_burst")]


@pytest.mark.parametrize(("clients", "told"), [(4, 0), (5, 1)])
def test_an_address_that_fails_on_many_clients_is_told_as_one(clients: int, told: int) -> None:
    world = crowd(12)
    for number in range(clients):
        name = f"client-{number}"
        world[name] = with_hours(world[name], {500: GUESS})
    found = run(world, range(510))
    assert [f.reason for f in found] == ["failure_spray"] * told
    assert all(GUESSER in f.sentence and f.client == "" for f in found)
    assert all(f.evidence["technique"] == "T1110.003" for f in found)


def test_misuse_that_comes_again_and_again_does_not_become_habit() -> None:
    world = crowd(8)
    spikes = {t: Usage(160, 0, {"10.0.0.1": 160}) for t in range(400, 1000, 72)}
    world["client-0"] = with_hours(world["client-0"], spikes)
    told = {hour_of(f) for f in run(world, range(1010)) if f.client == "client-0"}
    assert len(told & set(spikes)) >= len(spikes) - 1


def test_a_stranger_that_begins_with_few_calls_is_told_when_it_makes_more() -> None:
    owner = shaped(9, lambda _hour: 2.0, "10.0.5.1")

    def taken(t: int) -> Optional[Usage]:
        calls = {500: 2, 501: 5}.get(t)
        return Usage(calls, 0, {EVIL: calls}) if calls else owner(t)

    found = [f for f in run({**crowd(5), "seldom": taken}, range(505)) if f.client == "seldom"]
    assert [(hour_of(f), f.reason) for f in found] == [(501, "source_takeover")]


def test_onboarding_from_the_platforms_own_network_is_no_anomaly() -> None:
    grown = steady(40, 12.0, "10.0.40.1")
    world = {**crowd(12), "fresh": lambda t: grown(t) if t >= 500 else None}
    assert run(world, range(700)) == []


def test_before_a_week_only_failures_new_clients_and_gross_surges_speak() -> None:
    world = crowd(6)
    world["client-0"] = with_hours(
        silent_during(world["client-0"], range(110, 130)),
        {
            60: Usage(30, 0, {"10.0.0.1": 30}),
            100: Usage(500, 0, {EVIL: 500}),
            140: Usage(0, 60, {EVIL: 60}),
        },
    )
    found = run(world, range(168))
    assert [(hour_of(f), f.reason) for f in found] == [
        (100, "volume_spike"),
        (140, "failure_burst"),
    ]


def test_a_success_after_a_burst_of_failures_is_critical() -> None:
    world = crowd(4)
    world["client-0"] = with_hours(
        world["client-0"], {400: Usage(0, 40, {EVIL: 40}), 402: Usage(6, 0, {EVIL: 6})}
    )
    first, then = (f for f in run(world, range(420)) if f.reason == "failure_burst")
    assert (hour_of(first), hour_of(then), then.severity) == (400, 402, "critical")
    assert f"at least 6 calls from {EVIL} succeeded" in then.sentence


def test_failures_from_known_addresses_after_a_burst_are_no_break_in() -> None:
    world = crowd(4)
    world["client-0"] = with_hours(
        world["client-0"], {400: Usage(0, 40, {EVIL: 40}), 402: Usage(0, 6, {EVIL: 6})}
    )
    told = [hour_of(f) for f in run(world, range(420)) if f.reason == "failure_burst"]
    assert told == [400]


def test_addresses_may_be_unknown() -> None:
    world: dict[str, Client] = {f"c{i}": waves(i, 20.0, None) for i in range(5)}
    world["c0"] = with_hours(world["c0"], {500: Usage(160, 0), 530: Usage(0, 50)})
    found = run(world, range(560))
    assert [(hour_of(f), f.reason) for f in found] == [
        (500, "volume_spike"),
        (530, "failure_burst"),
    ]


def test_a_finding_is_held_back_for_a_day_unless_it_grows() -> None:
    def told(extra: dict[int, int]) -> list[int]:
        more = {t: Usage(n, 0, {"10.0.0.1": n}) for t, n in extra.items()}
        world = {**crowd(4), "c": with_hours(steady(9, 20.0), more)}
        return [hour_of(f) for f in run(world, range(600)) if f.reason == "volume_spike"]

    assert told({500: 200, 501: 200, 510: 210}) == [500]
    assert told({500: 200, 510: 900}) == [500, 510]


def test_misuse_told_once_is_not_repeated_daily_and_does_not_become_habit() -> None:
    nightly = {t: Usage(40, 0, {"10.0.0.1": 40}) for t in (500, 524, 668)}
    found = run({**crowd(4), "c": with_hours(office(9, 30.0), nightly)}, range(700))
    assert [hour_of(f) for f in found if f.reason == "off_habit"] == [500, 668]


# --- time within and across hours


def _cut(whole: Bucket, parts: int) -> list[Bucket]:
    """The bucket as equal parts: counts go where they fall, the last part takes the rest."""
    cut = []
    for i in range(parts):
        rows = {}
        for name, u in whole.clients.items():
            share = {s: _share(n, i, parts) for s, n in (u.sources or {}).items()}
            usage = Usage(_share(u.ok, i, parts), _share(u.failed, i, parts), share)
            if usage.ok + usage.failed > 0:
                rows[name] = usage
        seconds = whole.seconds / parts
        cut.append(Bucket(whole.at + i * seconds, seconds, rows))
    return cut


def _share(count: float, i: int, parts: int) -> float:
    return count * (i + 1) // parts - count * i // parts


def test_five_minute_buckets_give_what_hours_give() -> None:
    world = crowd(4)
    world["client-0"] = with_hours(world["client-0"], {380: Usage(90, 0, {EVIL: 90})})
    whole, cut = Detector(), Detector()
    coarse, fine = [], []
    for t in range(400):
        coarse += whole.feed(bucket(world, t))
        for part in _cut(bucket(world, t), 12):
            fine += cut.feed(part)
    assert [(f.client, f.reason, f.at) for f in fine] == [
        (f.client, f.reason, f.at) for f in coarse
    ]
    assert [f.reason for f in fine] == ["volume_spike"]


def test_an_hour_seen_in_part_is_judged_in_part() -> None:
    world, detector = crowd(6), Detector()
    found = []
    for t in range(500):
        parts = _cut(bucket(world, t), 4)
        for part in parts[:1] if t % 10 == 3 else parts:  # every tenth hour a quarter was seen
            found += detector.feed(part)
    assert found == []


def test_a_restart_in_the_middle_of_an_hour_loses_nothing() -> None:
    world, store, found, uncut = misused(), {}, [], Detector()
    key: list[Anomaly] = []
    for t in range(620):
        for part in _cut(bucket(world, t), 3):
            if t in (3, 250, 545, 583):
                detector = Detector(profiles=store)
            elif t == 0 and part.at == START:
                detector = Detector()
            found += detector.feed(part)
            key += uncut.feed(part)
            if t in (2, 3, 249, 250, 544, 545, 582, 583):
                store.update(detector.dump())
    assert len(key) > 5
    assert found == key


# --- what is kept


def test_a_dump_holds_what_changed_and_stays_small() -> None:
    world = crowd(6)
    wide = {f"10.9.{i}.{j}": 1.0 for i in range(20) for j in range(20)}
    world["client-0"] = with_hours(world["client-0"], {t: Usage(400, 0, wide) for t in range(300)})
    detector = Detector()
    run(world, range(400), detector)
    first = detector.dump()
    assert set(first) == {*world, PLATFORM_KEY}
    assert max(len(text) for name, text in first.items() if name != PLATFORM_KEY) < 6000
    assert detector.dump() == {}
    detector.feed(Bucket(START + 400 * 3600.0, 300.0, {}))
    assert set(detector.dump()) == {PLATFORM_KEY}


def test_profiles_of_another_version_or_broken_start_afresh_and_are_counted() -> None:
    detector = Detector()
    run(crowd(3), range(300), detector)
    stored = detector.dump()
    newer = json.loads(stored["client-1"])
    newer["v"] = 99
    stored["client-1"] = json.dumps(newer)
    stored["client-2"] = stored["client-2"][:-40]
    again = Detector(profiles=stored)
    assert again.counts["unreadable"] == 2
    run(crowd(3), range(345, 355), again)
    ages = {name: json.loads(text).get("seen") for name, text in again.dump().items()}
    assert (ages["client-0"], ages["client-1"], ages["client-2"]) == (310, 10, 10)


def test_fields_that_came_later_or_are_gone_do_no_harm() -> None:
    detector = Detector()
    run(crowd(3), range(300), detector)
    stored = detector.dump()
    state = json.loads(stored["client-0"])
    state["something_of_tomorrow"] = [1, 2]
    del state["residual"], state["week"]
    stored["client-0"] = json.dumps(state).encode()  # type: ignore[assignment]
    again = Detector(profiles=stored)
    assert again.counts["unreadable"] == 0
    assert run(crowd(3), range(300, 400), again) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "nonsense",
        '{"v":1}',
        '{"v":1,"clock":[],"platform":{}}',
        '{"v":1,"platform":3}',
        "null",
    ],
)
def test_a_ruined_store_never_stops_the_detector(text: str) -> None:
    detector = Detector(profiles={"client-0": text, PLATFORM_KEY: text})
    assert run(crowd(3), range(30), detector) == []


def test_ten_thousand_clients_fit_and_the_rest_is_counted() -> None:
    rows = {f"c{i}": Usage(3.0, 0.0, {f"10.0.{i >> 8}.{i & 255}": 3.0}) for i in range(10_500)}
    tracemalloc.start()
    detector = Detector()
    for t in range(2):
        detector.feed(Bucket(START + 3600.0 * t, 3600.0, rows))
    used, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert detector.counts["left_out"] == 1_000
    assert len(detector.dump()) == 10_001
    assert used < 120e6


def test_long_gone_clients_make_room_and_are_forgotten_in_the_store() -> None:
    detector = Detector(max_clients=3)
    world = {name: silent_during(client, range(100, 3000)) for name, client in crowd(3).items()}
    run({**world, "kept": steady(8)}, range(200), detector)
    assert detector.counts["left_out"] > 0
    run({"a": steady(1)}, range(200, 200 + 61 * 24, 24), detector)
    detector.dump()
    detector.feed(bucket({"b": steady(2)}, 200 + 70 * 24))
    assert detector.counts["left_out"] > 0


# --- the budget


def test_a_smaller_budget_says_less_and_never_more() -> None:
    world = {**crowd(5), "c": with_hours(steady(9, 20.0), {500: Usage(26, 0, {"10.0.0.1": 26})})}
    loud = run(world, range(520), Detector(Sensitivity(2.0)))
    calm = run(world, range(520), Detector(Sensitivity(1e-9)))
    assert "c" in {f.client for f in loud}
    assert calm == []


def test_a_client_may_have_its_own_budget() -> None:
    extra = {500: Usage(26, 0, {"10.0.0.1": 26})}
    world = {**crowd(5), "a": with_hours(steady(9), extra), "b": with_hours(steady(9), extra)}
    found = run(world, range(520), Detector(Sensitivity(1e-9, {"a": 1e3})))
    assert {f.client for f in found} == {"a"}


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_must_be_a_number_above_zero(budget: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Detector(Sensitivity(budget))


def test_severity_follows_the_score() -> None:
    def severity(extra: int) -> list[str]:
        more = {500: Usage(extra, 0, {"10.0.0.1": extra})}
        found = run({**crowd(5), "c": with_hours(steady(9), more)}, range(510))
        return [f.severity for f in found]

    assert severity(29) == ["warning"]
    assert severity(400) == ["critical"]


# --- one aggregate series


def _series(values: list[float], unit: float = 1.0) -> list[Anomaly]:
    watch = SeriesDetector("tokens a minute", unit)
    return [f for t, v in enumerate(values) for f in watch.feed(START + 3600 * t, 3600.0, v)]


def _gauge(t: int) -> float:
    return waves(1, 2000.0, None)(t).ok / 100.0  # type: ignore[union-attr]


def test_a_series_spike_and_a_series_silence_are_told_in_its_own_unit() -> None:
    values = [_gauge(t) for t in range(600)]
    assert _series(values, 0.01) == []
    values[500] *= 4
    values[550:558] = [0.0] * 8
    found = _series(values, 0.01)
    assert [(hour_of(f), f.reason) for f in found][:1] == [(500, "volume_spike")]
    assert [f.reason for f in found][1:] == ["silence"]
    assert found[0].observed == pytest.approx(values[500])
    assert found[0].sentence.startswith(f"tokens a minute averaged {values[500]:.0f} in this hour")


def test_a_series_that_was_not_measured_is_a_gap() -> None:
    watch = SeriesDetector("active tokens")
    found = []
    for t in range(600):
        value = None if 500 <= t < 540 else 50.0 + t % 5
        found += watch.feed(START + 3600 * t, 3600.0, value)
    assert found == []
