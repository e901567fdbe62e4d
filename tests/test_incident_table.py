"""Faults and what people are told of each: notices per channel, severity and title. Each runs
through conditions, life cycle, grouping and routing, and is laid out as each channel sends it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from monitoring.alerts import lifecycle, messages
from monitoring.alerts.conditions import conditions
from monitoring.alerts.delivery import channels_for
from monitoring.alerts.lifecycle import Policy
from monitoring.channels import email, pagerduty, slack
from monitoring.channels.base import ChannelContext
from monitoring.config.settings import AlertSettings, NotificationSettings, Settings
from monitoring.health.judges import raised
from monitoring.model import Component, Finding, Measurement, Notice, Outcome, Severity, Source
from monitoring.thresholds import judge
from tests.configuring import load, scripts_in

T0 = 1_795_400_000.0
RULES = AlertSettings()  # as shipped: two cycles, or one for what is about security
EVERYONE = NotificationSettings(
    by_severity={"critical": ("pagerduty", "slack", "email"), "warning": ("slack", "email")},
    channels={"pagerduty": {}, "slack": {}, "email": {"recipients": "a@example.org"}, "log": {}},
)
PAGED, WRITTEN = ("pagerduty", "slack", "email", "log"), ("slack", "email", "log")
#: Of a phone's lock screen: what shows of the first line of a push message.
LOCK_SCREEN = 110
SINCE = re.compile(r" \(since .*? UTC\)")


class Fault(NamedTuple):
    """What is seen while it lasts, and the incidents that it makes: title and who hears of it."""

    name: str
    script: str
    components: tuple[Component, ...]
    figures: tuple[Measurement, ...]
    findings: tuple[Finding, ...]
    incidents: tuple[tuple[str, tuple[str, ...]], ...]


def up(name: str, took: float = 5.0, said: str = "says UP") -> Component:
    return Component(name, Severity.OK, True, took, None, said)


def down(name: str, error: str, said: str) -> Component:
    return Component(name, Severity.CRITICAL, False, None, error, said)


def failed_login(at: str, error: str, said: str) -> Component:
    details = {"parent": at, "failed_step": "token", "trace_id": "4bf92f35"}
    return Component("authentication-flow", Severity.CRITICAL, False, 5.0, error, said, details)


def degraded(name: str, said: str) -> Component:
    return Component(name, Severity.WARNING, True, 5.0, None, said)


EAPI, SAPI, VAULT = up("payment-eapi"), up("payment-sapi"), up("conjur-vault")
CACHE, LOGIN = up("redis-cache"), up("authentication-flow")


def took(name: str, ms: float) -> Measurement:
    return Measurement("payment_api_response_time_ms", ms, {"component": name})


def failed(client: str, count: float) -> Measurement:
    return Measurement("payment_api_authentication_failures_recent", count, {"client_id": client})


REFUSED = "10.0.0.7:6379 refused the connection: nothing listens there"
REFUSES = "EAPI refuses the canary's secret (HTTP 401)"
USELESS = "a token is given, but no service can use it"
NO_ANSWER = "no answer from 10.0.0.9:443 within 5 s"
GUESSED = Finding(
    "failures_then_success", Severity.CRITICAL,
    "client-004: a login succeeded after 180 failed logins: somebody may have guessed its secret",
    "payment-eapi", "client-004",
)  # fmt: skip
BURST = Finding(
    "failure_burst", Severity.CRITICAL, "client-004: 180 logins failed in the hour, 2 are usual",
    "payment-eapi", "client-004",
)  # fmt: skip
STUCK = Finding(
    "rotation_stuck", Severity.CRITICAL,
    "client-007: rotation stuck: dual_active for 3 h, the limit is 1 h", "rotation-service",
    "client-007",
    action="Ask the client whether it has its new secret, then let the rotation go on.",
)  # fmt: skip
NO_TTL = Finding(
    "without_ttl", Severity.WARNING, "200 tokens have no end in the cache: they stay for ever",
    "redis-cache",
)  # fmt: skip
HEALTH, TOKENS, CREDENTIALS = "health_check", "token_usage_metrics", "credential_usage_metrics"

FAULTS = (
    Fault(
        "the cache refuses connections, and who leans on it suffers", HEALTH,
        (degraded("payment-eapi", "says DEGRADED: redis is down"), SAPI, VAULT,
         down("redis-cache", "refused", REFUSED), up("authentication-flow", 1510.0)),
        (took("authentication-flow", 1510.0),), (),
        ((f"CRITICAL in prod: redis-cache is down: {REFUSED}", PAGED),),
    ),
    Fault(
        "EAPI hangs, so no login is possible", HEALTH,
        (down("payment-eapi", "timeout", NO_ANSWER), SAPI, VAULT, CACHE,
         down("authentication-flow", "timeout", f"no login is possible: {NO_ANSWER}")),
        (), (), ((f"CRITICAL in prod: payment-eapi is down: {NO_ANSWER}", PAGED),),
    ),
    Fault(
        "the vault's database is gone", HEALTH,
        (EAPI, SAPI, down("conjur-vault", "http", "answers 500: its database does not answer"),
         CACHE, LOGIN),
        (), (),
        (("CRITICAL in prod: conjur-vault is down: answers 500: its database does not answer",
          PAGED),),
    ),
    Fault(
        "the vault's database is gone, and no login misses the cache any more", HEALTH,
        (degraded("payment-eapi", "says DEGRADED: vault is down"), SAPI,
         down("conjur-vault", "http", "answers 500: its database does not answer"), CACHE,
         failed_login("payment-eapi", "http", "no login is possible: EAPI answers HTTP 503")),
        (), (),
        (("CRITICAL in prod: conjur-vault is down: answers 500: its database does not answer",
          PAGED),),
    ),
    Fault(
        "the vault is down, and EAPI refuses a right secret", HEALTH,
        (EAPI, SAPI, down("conjur-vault", "timeout", NO_ANSWER), CACHE,
         failed_login("payment-eapi", "auth", REFUSES)),
        (), (),
        ((f"CRITICAL in prod: conjur-vault is down: {NO_ANSWER}", PAGED),
         (f"CRITICAL in prod: authentication-flow is down: {REFUSES}", PAGED)),
    ),
    Fault(
        "the vault is down, and SAPI fails over a token that was given", HEALTH,
        (EAPI, SAPI, down("conjur-vault", "timeout", NO_ANSWER), CACHE,
         failed_login("payment-sapi", "http", USELESS)),
        (), (),
        ((f"CRITICAL in prod: conjur-vault is down: {NO_ANSWER}", PAGED),
         (f"CRITICAL in prod: authentication-flow is down: {USELESS}", PAGED)),
    ),
    Fault(
        "EAPI is slow, and so is the login", HEALTH,
        (up("payment-eapi", 900.0), SAPI, VAULT, CACHE, up("authentication-flow", 1600.0)),
        (took("payment-eapi", 900.0), took("authentication-flow", 1600.0)), (),
        (("CRITICAL in prod: payment-eapi: response time 900 ms (critical from 500 ms)", PAGED),),
    ),
    Fault(
        "the cache is slow, and everything with it", HEALTH,
        (up("payment-eapi", 900.0), up("payment-sapi", 700.0), VAULT, up("redis-cache", 400.0),
         up("authentication-flow", 1600.0)),
        (took("payment-eapi", 900.0), took("payment-sapi", 700.0), took("redis-cache", 400.0),
         took("authentication-flow", 1600.0)), (),
        (("CRITICAL in prod: redis-cache: response time 400 ms (critical from 100 ms)", PAGED),),
    ),
    Fault(
        "somebody guesses a secret and gets in", CREDENTIALS, (),
        (failed("client-004", 180.0),
         Measurement("payment_api_authentication_failure_ratio", 0.93)), (BURST, GUESSED),
        ((f"CRITICAL in prod: {GUESSED.sentence}", PAGED),),
    ),
    Fault(
        "a few failed logins", CREDENTIALS, (), (failed("client-004", 6.0),), (),
        (("WARNING in prod: payment-eapi, client client-004: failed logins 6 (warning from 5)",
          WRITTEN),),
    ),
    Fault(
        "a rotation is stuck", CREDENTIALS, (), (), (STUCK,),
        ((f"CRITICAL in prod: {STUCK.sentence}", PAGED),),
    ),
    Fault(
        "tokens without an end in the cache", TOKENS, (), (), (NO_TTL,),
        ((f"WARNING in prod: {NO_TTL.sentence}", WRITTEN),),
    ),
    Fault(
        "both services and the vault are cut off: each is a cause of its own", HEALTH,
        (down("payment-eapi", "timeout", NO_ANSWER), down("payment-sapi", "timeout", NO_ANSWER),
         down("conjur-vault", "timeout", NO_ANSWER), CACHE,
         down("authentication-flow", "timeout", f"no login is possible: {NO_ANSWER}")),
        (), (),
        tuple((f"CRITICAL in prod: {name} is down: {NO_ANSWER}", PAGED)
              for name in ("conjur-vault", "payment-sapi", "payment-eapi")),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(scripts_in(tmp_path_factory.mktemp("shipped")), env={"MONITORING_ENV": "test"})


def seen(fault: Fault, settings: Settings, at: float) -> Outcome:
    verdicts = judge(fault.figures, settings.thresholds)
    return Outcome(
        fault.script, "prod", "1.0.0", at, 0.1,
        components=tuple(raised(one, verdicts) for one in fault.components),
        measurements=fault.figures, verdicts=verdicts, findings=fault.findings,
        sources=(Source("redis", ok=True), Source("eapi-metrics", ok=True)),
    )  # fmt: skip


def told(fault: Fault, settings: Settings, cycles: int = 3) -> list[Notice]:
    states: Any = {}
    notices: list[Notice] = []
    for number in range(cycles):
        now = T0 + 60 * number
        step = lifecycle.step(states, conditions(seen(fault, settings, now)), Policy(RULES), now)
        states = step.states
        notices += step.notices
    return notices


def titles(notices: Sequence[Notice]) -> dict[str, list[str]]:
    """Channel -> the titles that it sends, each as that channel lays it out."""
    kit = ChannelContext({"recipients": "a@example.org"})
    made: dict[str, list[str]] = {}
    for notice in notices:
        message = messages.render(notice, RULES)
        laid_out = {
            "pagerduty": lambda n=notice: pagerduty.event(n, kit)["payload"]["summary"],
            "slack": lambda m=message: re.sub(
                r" \(since .*? UTC\)", "", slack.payload([m], kit)["text"]
            ),
            "email": lambda m=message: email.subject([m]).replace("[payment-api] ", ""),
            "log": lambda m=message: m.title,
        }
        for channel in channels_for(notice, EVERYONE):
            made.setdefault(channel, []).append(laid_out[channel]())
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_who_is_told_what_of_a_fault(fault: Fault, shipped: Settings) -> None:
    expected: dict[str, list[str]] = {}
    for title, channels in fault.incidents:
        for channel in channels:
            expected.setdefault(channel, []).append(slack.escape(title) if channel == "slack"
                                                    else title)  # fmt: skip
    assert titles(told(fault, shipped)) == expected


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_lock_screen_shows_severity_where_and_what(fault: Fault, shipped: Settings) -> None:
    for notice in told(fault, shipped):
        message = messages.render(notice, RULES)
        first = message.title[:LOCK_SCREEN]
        assert first.startswith(f"{notice.alert.severity.word.upper()} in prod: ")
        subject = notice.alert.key.client or notice.alert.key.component
        root = notice.also[0].key if notice.also else notice.alert.key
        names = {subject, root.client or root.component, "tokens"}
        assert any(name in first for name in names), first
        assert message.lines[0][0] == "Since"
        assert message.lines[-1][0] == "First thing to do", "somebody has to know what to do"
        shown = slack.payload([message], ChannelContext({}))["text"]
        assert "(since 2026-11-23 02:1" in shown[: LOCK_SCREEN + 60], "it is not cut off"


def test_what_is_down_names_what_suffers_from_it(shipped: Settings) -> None:
    fault = next(one for one in FAULTS if one.name.endswith("no login misses the cache any more"))
    (notice,) = told(fault, shipped)
    assert dict(messages.render(notice, RULES).lines)["Because of it"] == (
        "authentication-flow is down: no login is possible: EAPI answers HTTP 503; "
        "payment-eapi is degraded: says DEGRADED: vault is down"
    )


def test_a_login_that_fails_by_itself_says_where_to_look(shipped: Settings) -> None:
    fault = next(one for one in FAULTS if "SAPI fails over a token" in one.name)
    login = next(n for n in told(fault, shipped) if "authentication" in n.alert.key.component)
    assert login.alert.action == "Look in payment-sapi's log for this login, by its trace id."
    assert dict(messages.render(login, RULES).fields)["Trace id"] == "4bf92f35"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_its_end_closes_what_it_opened(fault: Fault, shipped: Settings) -> None:
    """Each incident is resolved under the key that it was opened with, and nothing else is."""
    well = fault._replace(
        components=tuple(up(one.name) for one in fault.components),
        figures=tuple(Measurement(one.name, 0.0, one.labels) for one in fault.figures),
        findings=(),
    )
    states: Any = {}
    opened, closed = set(), set()
    for number in range(8):
        now = T0 + 60 * number
        outcome = seen(fault if number < 3 else well, shipped, now)
        found = conditions(outcome)
        found += lifecycle.vanished([s.alert for s in states.values()], found, outcome)
        step = lifecycle.step(states, found, Policy(RULES), now)
        states = step.states
        for notice in step.notices:
            (closed if notice.over else opened).add(notice.alert.key.text)
    assert opened == closed
    assert len(opened) == len(fault.incidents)
