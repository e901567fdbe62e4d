"""What people read: sentence first, then meaning, action, figures, links; nothing secret."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.alerts.messages import clean, render
from monitoring.config.settings import AlertSettings
from monitoring.text import register
from tests.alerting_kit import T0, WARNING, alert, notice

LINKS = AlertSettings(
    runbooks="https://wiki.example/runbooks/", dashboards="https://grafana.example/d"
)


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("first", "CRITICAL in test: redis-cache is in trouble"),
        ("escalated", "CRITICAL in test, worse than before: redis-cache is in trouble"),
        ("reminder", "STILL CRITICAL in test after 2 min: redis-cache is in trouble"),
        ("flapping", "FLAPPING, CRITICAL in test: redis-cache is in trouble"),
        ("resolved", "RESOLVED in test after 2 min: redis-cache is back"),
        (
            "missed",
            "OVER in test, could not be told in time (critical for 2 min): redis-cache is back",
        ),
    ],
)
def test_titles(reason: str, title: str) -> None:
    told = notice(reason)
    told = replace(told, ended="redis-cache is back" if told.over else "")
    assert render(told, LINKS).title == title


def test_the_parts_of_a_notice() -> None:
    told = notice(
        component="payment-eapi", client="client-7", value=812.3456, threshold=500.0, unit="ms",
        meaning="Logins are slow.", action="Look at EAPI.", runbook="slow-service",
        dashboard="payment-api-health", evidence={"live_tokens": 42, "nested": {"a": 1}},
    )  # fmt: skip
    got = render(told, LINKS)
    assert got.lines == (
        ("Since", "2026-11-23 02:11:20 UTC"),
        ("What it means", "Logins are slow."),
        ("First thing to do", "Look at EAPI."),
    )
    assert got.fields == (
        ("Component", "payment-eapi"),
        ("Client", "client-7"),
        ("Environment", "test"),
        ("Found by", "health_check"),
        ("Live tokens", "42"),
    )
    assert got.links == (
        ("Runbook", "https://wiki.example/runbooks/slow-service.md"),
        (
            "Dashboard",
            f"https://grafana.example/d/payment-api-health?from={int(T0 - 1020) * 1000}&to=now",
        ),
    )


def test_value_and_limit_stand_with_their_unit() -> None:
    told = notice(metric="api_response_time", value=812.3456, threshold=500.0, unit="ms")
    fields = dict(render(told, LINKS).fields)
    assert (fields["Value"], fields["Limit"]) == ("812.3 ms", "500 ms")


def test_without_base_addresses_there_are_no_links() -> None:
    assert render(notice(runbook="x", dashboard="y"), AlertSettings()).links == ()


def test_a_resolve_says_when_and_how_long_and_asks_nothing() -> None:
    was = notice("resolved", meaning="Bad.", action="Run.", value=812.0, threshold=500.0, unit="ms",
        metric="api_response_time", dashboard="board", evidence={"error": "timeout"})  # fmt: skip
    got = render(replace(was, ended="payment-eapi: response time 45 ms"), LINKS)
    assert got.over
    assert got.sentence == "payment-eapi: response time 45 ms"
    assert got.lines == (("It was", "redis-cache is in trouble"),)
    fields = dict(got.fields)
    assert (fields["Until"], fields["Lasted"]) == ("2026-11-23 02:13:20 UTC", "2 min")
    assert not {"Value", "Limit", "Error"} & set(fields), "they read as if they were of now"
    ((_, href),) = got.links
    assert href.endswith(f"&to={int(T0 + 900) * 1000}"), "the picture ends with the incident"


def test_a_resolve_kept_by_an_older_version_still_says_what_it_was() -> None:
    got = render(notice("resolved"), LINKS)
    assert got.sentence == "redis-cache is in trouble"
    assert got.lines == ()


def test_flapping_is_explained() -> None:
    assert render(notice(evidence={"flapping": True}), LINKS).lines[1][0] == "Flapping"


def test_a_group_names_twenty_and_counts_the_rest() -> None:
    also = tuple(alert(WARNING, client=f"client-{n:02}") for n in range(33))
    got = render(notice(client="*", also=also), LINKS)
    assert len(got.members) == 21
    assert got.members[0] == "client-00: redis-cache is in trouble"
    assert got.members[-1] == "and 13 more"
    assert "Client" not in dict(got.fields)


def test_a_group_says_where_to_look_first_and_a_hostile_name_only_once() -> None:
    bad = "x: client y"
    said = f"payment-eapi, client {bad}: failed logins 12 (critical from 10)"
    also = (alert(client=f"{bad}~1234abcd", summary=said, value=12.0, threshold=10.0),)
    got = render(notice(client="*", also=also), LINKS)
    assert got.lines[1][0] == "All at once"
    assert got.members == (f"{bad}~1234abcd: failed logins 12 (critical from 10)",)


def test_nothing_secret_and_nothing_that_moves_the_cursor() -> None:
    register("hunter2-hunter2")
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    nasty = f"a\r\nb\x1b[31m hunter2-hunter2 {jwt} \u202e"
    told = notice(
        summary=nasty, meaning=nasty, action=nasty, client=nasty, evidence={"why": nasty, nasty: 1}
    )
    told = replace(told, also=(alert(summary=nasty, client=nasty),))
    shown = repr(render(told, LINKS)).replace("key='", "key=", 1)
    shown = shown[shown.index("title=") :]
    for bad in ("hunter2", "eyJ", "\\r", "\\n", "\x1b", "\\u202e'"):
        assert bad not in shown.replace("\\\\", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand tab", "two lines and tab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("ünïcödé ✓", "ünïcödé ✓"),
        ("x" * 2000, "x" * 999 + "…"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_page_is_linked_or_not_named() -> None:
    """A path alone leads nowhere from a phone; what to do first stands in the message."""
    said = notice(runbook="redis-down")
    assert "redis-down" not in str(render(said, AlertSettings()))
    assert dict(render(said, LINKS).links)["Runbook"].endswith("/redis-down.md")
