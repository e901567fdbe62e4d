"""Silences and maintenance windows."""

from __future__ import annotations

import pytest

from monitoring.alerts.maintenance import is_open, why_quiet
from monitoring.config.settings import Maintenance, Silence
from monitoring.text import parse_iso
from tests.alerting_kit import T0, alert


def night(zone: str = "UTC", cron: str = "30 2 * * *", **more: object) -> Maintenance:
    return Maintenance("nightly", cron=cron, duration=3600.0, zone=zone, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sentence", "window", "at", "opened"),
    [
        ("before it begins", night(), "2026-11-23T02:29:59Z", False),
        ("the second it begins", night(), "2026-11-23T02:30:00Z", True),
        ("inside", night(), "2026-11-23T03:29:59Z", True),
        ("the second it ends", night(), "2026-11-23T03:30:00Z", False),
        ("in Berlin's winter", night("Europe/Berlin"), "2026-11-23T01:45:00Z", True),
        ("in Berlin's summer", night("Europe/Berlin"), "2026-07-23T00:45:00Z", True),
        ("not at UTC's half past two there", night("Europe/Berlin"), "2026-07-23T02:45:00Z", False),
        (
            "02:30 is skipped in spring: from the jump",
            night("Europe/Berlin"),
            "2026-03-29T01:05:00Z",
            True,
        ),
        ("Saturdays only, on a Saturday", night(cron="30 2 * * 6"), "2026-11-21T02:40:00Z", True),
        ("Saturdays only, on a Monday", night(cron="30 2 * * 6"), "2026-11-23T02:40:00Z", False),
        ("a date that never comes", night(cron="0 0 30 2 *"), "2026-11-23T02:40:00Z", False),
    ],
)
def test_cron_windows(sentence: str, window: Maintenance, at: str, opened: bool) -> None:
    assert is_open(window, parse_iso(at)) is opened, sentence


@pytest.mark.parametrize(
    ("sentence", "window", "opened"),
    [
        ("between its dates", Maintenance("m", start=T0 - 1, end=T0 + 1), True),
        ("start is inside", Maintenance("m", start=T0, end=T0 + 1), True),
        ("end is outside", Maintenance("m", start=T0 - 9, end=T0), False),
        ("start and duration", Maintenance("m", start=T0 - 9, duration=10), True),
        ("start and duration, over", Maintenance("m", start=T0 - 9, duration=8), False),
        ("with no end it stays open", Maintenance("m", start=T0 - 9), True),
        ("with no start it was always open", Maintenance("m", end=T0 + 1), True),
        ("with nothing it is never open", Maintenance("m"), False),
    ],
)
def test_dated_windows(sentence: str, window: Maintenance, opened: bool) -> None:
    assert is_open(window, T0) is opened, sentence


@pytest.mark.parametrize(
    "window", [night(cron="every night"), night(zone="Mars/Olympus"), night(cron="99 * * * *")]
)
def test_nonsense_is_refused(window: Maintenance) -> None:
    with pytest.raises(ValueError, match=r"nightly|time zone"):
        is_open(window, T0)


@pytest.mark.parametrize(
    ("sentence", "match", "quiet"),
    [
        ("by component", {"component": "redis-cache"}, True),
        ("by glob", {"component": "redis-*", "metric": "health_*"}, True),
        ("every field must fit", {"component": "redis-*", "metric": "slow"}, False),
        ("by category", {"category": "availability"}, True),
        ("by environment", {"environment": "prod"}, False),
        ("case counts", {"component": "Redis-*"}, False),
        ("no pattern silences nothing", {}, False),
        ("an unknown field fits nothing", {"colour": "red"}, False),
    ],
)
def test_silences(sentence: str, match: dict[str, str], quiet: bool) -> None:
    silence = Silence(match, "ops", "rebuild", until=T0 + 60)
    assert bool(why_quiet(alert(), [silence], [], T0)) is quiet, sentence


def test_a_silence_names_its_owner_and_ends() -> None:
    silence = Silence({"component": "*"}, "ops", "rebuild", until=T0 + 60)
    assert why_quiet(alert(), [silence], [], T0) == (
        "silenced by ops until 2026-11-23T02:14:20Z: rebuild"
    )
    assert why_quiet(alert(), [silence], [], T0 + 60) == ""


def test_a_window_covers_the_components_it_names() -> None:
    window = Maintenance("patch", start=T0, end=T0 + 60, components=("payment-eapi",))
    assert why_quiet(alert(component="payment-eapi"), [], [window], T0) == "maintenance: patch"
    assert why_quiet(alert(), [], [window], T0) == ""
