"""Every sentence is true: its figures are counted again from the world it speaks of."""

from __future__ import annotations

import re

import pytest

from monitoring.anomaly.detector import REASONS, Anomaly, Usage
from monitoring.anomaly.telling import WRITERS
from monitoring.anomaly.types import SHARED_REASONS
from tests.anomaly_worlds import Client, hour_of, office, run, with_hours
from tests.test_anomalies import misused

HOURS = 620


@pytest.fixture(scope="module")
def findings() -> list[Anomaly]:
    return run(misused(), range(HOURS))


def _number(pattern: str, sentence: str) -> float:
    match = re.search(pattern, sentence)
    assert match, (pattern, sentence)
    return float(match[1])


def _calls(client: Client, hours: range) -> float:
    used = [client(t) for t in hours]
    return sum(u.ok + u.failed for u in used if u is not None)


def _known_before(client: Client, hour: int) -> set[str]:
    return {s for t in range(hour) for s in ((client(t) or Usage(0, 0)).sources or {})}


def test_every_reason_has_its_writer() -> None:
    assert set(WRITERS) == {*REASONS, *SHARED_REASONS}


def test_every_sentence_ends_with_the_age_of_the_profile(findings: list[Anomaly]) -> None:
    world = misused()
    for found in findings:
        first = next(t for t in range(HOURS) if _calls(world[found.client], range(t, t + 1)))
        age = _number(r"\(profile of ([\d.]+) days\)\.$", found.sentence)
        assert age == pytest.approx((hour_of(found) - first) / 24, abs=0.051)
        assert age == pytest.approx(found.profile_age_days, abs=0.051)


def test_every_sentence_names_its_client_and_is_one_sentence(findings: list[Anomaly]) -> None:
    for found in findings:
        assert found.sentence.startswith(found.client)
        assert found.sentence.count("\n") == 0
        assert len(found.sentence) < 250


def test_figures_are_those_of_the_world(findings: list[Anomaly]) -> None:
    world = misused()
    seen: dict[str, int] = {}
    for found in findings:
        CHECKS[found.reason](found, world[found.client])
        seen[found.reason] = seen.get(found.reason, 0) + 1
    assert set(seen) == set(REASONS)


def test_of_a_client_with_ever_new_addresses_none_is_called_never_seen() -> None:
    def roaming(t: int) -> Usage:
        failed = 60 if t == 400 else 0
        return Usage(9, failed, {f"100.64.{t % 200}.{i}": 1.0 for i in range(9 + failed)})

    found = run({"c": roaming}, range(401))
    assert [f.reason for f in found] == ["failure_burst"]
    assert "never" not in found[0].sentence


def test_an_expectation_of_next_to_nothing_is_said_in_words() -> None:
    world = {"c": with_hours(office(1), {t: Usage(20, 0) for t in (411, 435)})}
    told = [f.sentence for f in run(world, range(420)) if f.reason == "off_habit"]
    assert told
    assert "in which it usually makes hardly any" in told[0]


def _check_volume(found: Anomaly, client: Client) -> None:
    usage = client(hour_of(found))
    assert usage is not None
    assert _number(r"made (\d+) calls?", found.sentence) == usage.ok == found.observed
    if "never seen" in found.sentence:
        fresh = set(usage.sources or {}) - _known_before(client, hour_of(found))
        calls = sum((usage.sources or {})[s] for s in fresh)
        assert _number(r"; (\d+) came from", found.sentence) == calls
        assert _number(r"from (\d+) address", found.sentence) == len(fresh)


def _check_slow(found: Anomaly, client: Client) -> None:
    now = hour_of(found)
    least = _number(r"at least (\d+) calls", found.sentence)
    assert found.expected * 1.1 < least - 0.5 <= _calls(client, range(now - 23, now + 1))
    began = int(_number(r"in the (\d+) hours since", found.sentence))
    part = _number(r"; ([\d.]+) against", found.sentence)
    assert part - 0.5 <= _calls(client, range(now - began + 1, now + 1))


def _check_dormant(found: Anomaly, client: Client) -> None:
    now = hour_of(found)
    days = _number(r"after ([\d.]+) days out", found.sentence)
    assert _calls(client, range(now - int(days * 24) + 24, now)) == 0
    assert _number(r"made (\d+) calls", found.sentence) == _calls(client, range(now, now + 1))
    longest = _number(r"longer than (\d+) hours", found.sentence)
    active = [t for t in range(200) if _calls(client, range(t, t + 1))]
    assert max(b - a for a, b in zip(active, active[1:])) <= longest


def _check_newcomer(found: Anomaly, client: Client) -> None:
    assert _calls(client, range(hour_of(found))) == 0
    assert _number(r"made (\d+) calls", found.sentence) == _calls(
        client, range(hour_of(found), hour_of(found) + 1)
    )
    assert "100% of them from networks" in found.sentence


def _check_failures(found: Anomaly, client: Client) -> None:
    usage = client(hour_of(found))
    assert usage is not None
    assert _number(r"failed (\d+) of", found.sentence) == usage.failed == found.observed
    assert _number(r"of (\d+) calls", found.sentence) == usage.ok + usage.failed


def _check_fanout(found: Anomaly, client: Client) -> None:
    sources = set((client(hour_of(found)) or Usage(0, 0)).sources or {})
    fresh = sources - _known_before(client, hour_of(found))
    assert _number(r"from (\d+) address", found.sentence) == len(sources)
    assert _number(r", (\d+) of them never", found.sentence) == len(fresh)


def _check_takeover(found: Anomaly, client: Client) -> None:
    usage = client(hour_of(found))
    assert usage is not None
    assert _number(r"made (\d+) of its", found.sentence) == found.observed
    assert _number(r"of its (\d+) calls", found.sentence) == usage.ok + usage.failed
    assert not set(usage.sources or {}) & _known_before(client, hour_of(found))


def _check_guessing(found: Anomaly, client: Client) -> None:
    hours = int(_number(r"in (\d+) hours", found.sentence))
    source = str(found.evidence["source"])
    now = hour_of(found)
    tried = [(client(t) or Usage(0, 0)).sources or {} for t in range(now - hours + 1, now + 1)]
    called = sum(sources.get(source, 0) for sources in tried)
    assert _number(r"at least (\d+) calls?", found.sentence) <= called
    assert source in found.sentence


def _check_silence(found: Anomaly, client: Client) -> None:
    hours = int(_number(r"in (\d+) hours?", found.sentence))
    assert "made no call" in found.sentence
    now = hour_of(found)
    assert _calls(client, range(now - hours + 1, now + 1)) == 0
    assert _calls(client, range(now - hours, now)) > 0


CHECKS = {
    "volume_spike": _check_volume,
    "off_habit": _check_volume,
    "slow_abuse": _check_slow,
    "dormant_woken": _check_dormant,
    "new_client": _check_newcomer,
    "failure_burst": _check_failures,
    "source_fanout": _check_fanout,
    "source_takeover": _check_takeover,
    "slow_guessing": _check_guessing,
    "silence": _check_silence,
}
