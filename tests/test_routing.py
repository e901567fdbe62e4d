"""Which channels hear of an alert: a table with a sentence for each row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts.delivery import LOG, MIRROR, channels_for
from monitoring.config.settings import NotificationSettings, Route
from tests.alerting_kit import CRITICAL, WARNING, alert, notice

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
