"""Which channels hear of an alert: a table with a sentence for each row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts.delivery import LOG, MIRROR, PATIENCE, channels_for, failing_channels
from monitoring.alerts.outbox import Pause
from monitoring.config.settings import NotificationSettings, Route
from tests.alerting_kit import CRITICAL, OK, T0, WARNING, alert, notice, outcome

ON = {"slack": {}, "email": {}, "pagerduty": {}, MIRROR: {}, LOG: {}}
USUAL = {"critical": ("pagerduty", "slack"), "warning": ("slack", "off", MIRROR, LOG)}
VAULT = Route(match={"component": "conjur-vault"}, channels=("email",))
NOBODY = Route(match={"component": "conjur-vault"}, channels=())
WARNINGS = Route(match={}, channels=("email",), severities=("warning",))


@pytest.mark.parametrize(
    ("sentence", "routes", "severity", "component", "heard"),
    [
        ("without routes the severity decides", (), CRITICAL, "a", ("pagerduty", "slack", LOG)),
        ("what is off, the mirror and a second log are left out", (), WARNING, "a", ("slack", LOG)),
        ("a route that fits", (VAULT,), CRITICAL, "conjur-vault", ("email", LOG)),
        ("one that does not", (VAULT,), CRITICAL, "a", ("pagerduty", "slack", LOG)),
        ("a route to nobody is no missing route", (NOBODY,), CRITICAL, "conjur-vault", (LOG,)),
        ("of its severity", (WARNINGS,), WARNING, "a", ("email", LOG)),
        ("of another", (WARNINGS,), CRITICAL, "a", ("pagerduty", "slack", LOG)),
        ("the first that fits", (VAULT, NOBODY), CRITICAL, "conjur-vault", ("email", LOG)),
    ],
)
def test_who_hears_of_it(
    *, sentence: str, routes: tuple[Route, ...], severity: Any, component: str, heard: Any
) -> None:
    settings = NotificationSettings(by_severity=USUAL, channels=ON, routes=routes)
    told = notice(severity=severity, component=component)
    assert channels_for(told, settings) == heard, sentence


def test_a_group_goes_wherever_a_member_would_and_a_severity_without_channels_to_the_log() -> None:
    settings = NotificationSettings(by_severity=USUAL, channels=ON, routes=(VAULT,))
    members = (alert(WARNING, "a"), alert(WARNING, "conjur-vault"))
    assert channels_for(replace(notice(), also=members), settings) == ("slack", "email", LOG)
    assert channels_for(notice(), replace(settings, by_severity={})) == (LOG,)


@pytest.mark.parametrize(
    ("sentence", "pause", "severity"),
    [
        ("a hiccup is nobody's business", Pause(3, T0 - PATIENCE + 1, why="HTTP 500"), OK),
        ("five minutes are a trouble", Pause(3, T0 - PATIENCE, why="HTTP 500"), WARNING),
        ("one that works again is not failing since then", Pause(0, T0 - 9 * PATIENCE), OK),
    ],
)
def test_from_when_on_a_channel_fails(*, sentence: str, pause: Pause, severity: Any) -> None:
    (got,) = failing_channels({"slack": pause}, ("slack",), outcome())
    assert got.severity is severity, sentence
    (unwanted,) = failing_channels({"slack": pause}, ("email",), outcome())
    assert unwanted.severity is OK, "nothing is to go through it"
    assert not [*failing_channels({"slack": pause}, ("slack",), outcome(script="other"))]
