"""The whole way of an alert, on a real state file, over real sockets."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from monitoring.alerts import report as alert_report
from monitoring.alerts.notifier import Notifier
from monitoring.alerts.outbox_merge import FIRING
from monitoring.alerts.state import load_state
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings, Maintenance, Route, RunSettings, Settings
from monitoring.model import Finding, Severity, Source
from monitoring.store.state import State
from tests import alerting_kit as have
from tests.alerting_kit import CRITICAL, OK, UNKNOWN, WARNING, Clock, Receiver, component, receiver

ROOT = Path(__file__).resolve().parent.parent


class World:
    """A state folder, a clock, two receivers (a webhook and a Slack) and a notifier."""

    def __init__(self, folder: Path, hook: Receiver, slack: Receiver, **more: Any) -> None:
        self.hook, self.slack, self.clock = hook, slack, Clock()
        channels = {
            "webhook": {"url": Secret(hook.url)},
            "slack": {"webhook_url": Secret(slack.url)},
        }
        self.settings: Settings = have.settings(folder, channels, **more)
        self.state = State.open(folder)
        self.notifier = Notifier(self.settings, self.state, self.clock)

    def cycle(self, *components: Any, budget: float = 10.0, **more: Any) -> Any:
        """Process and deliver at the clock's time; then a minute passes."""
        seen = have.outcome(*components, at=self.clock.at, **more)
        rows = self.notifier.process(seen)
        deliveries = self.notifier.deliver(budget)
        self.clock.at += 60
        return rows, deliveries

    def hooked(self) -> list[tuple[str, str]]:
        """(component, reason) as the webhook heard them."""
        return heard(self.hook)


def heard(hook: Receiver) -> list[tuple[str, str]]:
    told = [entry for seen in hook.seen for entry in seen.json()["notices"]]
    return [(entry["key"].split("/")[2], entry["reason"]) for entry in told]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []
    with receiver() as hook, receiver() as slack:

        def made(**more: Any) -> World:
            worlds.append(World(tmp_path / "state", hook, slack, **more))
            return worlds[-1]

        yield made
        for world in worlds:
            world.state.close()


DOWN = component(CRITICAL, message="no answer")
UP = component(OK)


# -- who hears what


def test_an_incident_from_first_to_resolved(make: Callable[..., World]) -> None:
    world = make()
    rows, deliveries = world.cycle(DOWN)
    assert [(r.state, r.alert.key.metric) for r in rows] == [("firing", "health_status")]
    assert sorted((d.channel, d.outcome) for d in deliveries) == [
        ("log", "sent"),
        ("slack", "sent"),
        ("webhook", "sent"),
    ]
    rows, deliveries = world.cycle(DOWN)
    assert deliveries == ()
    rows, _ = world.cycle(UP)
    assert [r.state for r in rows] == ["resolved"]
    assert world.hooked() == [("redis-cache", "first"), ("redis-cache", "resolved")]
    assert len(world.slack.seen) == 2
    assert world.cycle(UP) == ((), ())


def test_the_state_survives_from_run_to_run_as_under_cron(make: Callable[..., World]) -> None:
    for severity in (CRITICAL, CRITICAL, OK, OK):
        world = make(alerts=AlertSettings())
        world.clock.at += len(world.state.read("SELECT 1 FROM alert_states")) * 300
        world.cycle(component(severity))
    assert [reason for _, reason in world.hooked()] == ["first", "resolved"]


def test_a_resolve_reaches_exactly_those_who_were_told(make: Callable[..., World]) -> None:
    world = make(by_severity={"warning": ("slack",), "critical": ("slack", "webhook")})
    degraded = component(WARNING)
    world.cycle(degraded), world.cycle(UP)
    assert (len(world.slack.seen), world.hooked()) == (2, [])
    world.cycle(degraded), world.cycle(DOWN), world.cycle(degraded), world.cycle(UP)
    assert len(world.slack.seen) == 5
    assert [reason for _, reason in world.hooked()] == ["first", "resolved"], (
        "the escalation is the first it hears, the de-escalation nothing"
    )


def test_routes_replace_the_severitys_list(make: Callable[..., World]) -> None:
    routes = (
        Route(("webhook",), {"category": "security"}),
        Route((), {"component": "payment-*"}, ("warning",)),
    )
    world = make(routes=routes)
    leak = Finding("leak", WARNING, "a leak", "somewhere")
    world.cycle(component(WARNING, "payment-eapi"), DOWN, findings=(leak,))
    assert sorted(world.hooked()) == [("redis-cache", "first"), ("somewhere", "first")]
    assert "leak" not in json.dumps([seen.json() for seen in world.slack.seen])


def test_a_clients_own_route_holds_in_a_crowd_too(make: Callable[..., World]) -> None:
    routes = (Route(("webhook",), {"client": "client-17"}),)
    world = make(routes=routes, by_severity={"warning": ("slack",)})
    crowd = tuple(
        Finding("volume_spike", WARNING, "too much", "somewhere", f"client-{n}") for n in range(20)
    )
    world.cycle(DOWN, findings=crowd)
    assert world.hooked() == [("somewhere", "first")]
    (entry,) = world.hook.seen[0].json()["notices"]
    assert (entry["client"], len(entry["also"])) == ("*", 20)


def test_a_channel_that_is_off_is_not_tried(make: Callable[..., World]) -> None:
    world = make(by_severity={"critical": ("pagerduty", "webhook")})
    _, deliveries = world.cycle(DOWN)
    assert {d.channel for d in deliveries} == {"webhook", "log"}


def test_maintenance_is_measured_and_not_told(make: Callable[..., World]) -> None:
    window = Maintenance("patch", start=have.T0, end=have.T0 + 120)
    world = make(maintenance=(window,))
    rows, _ = world.cycle(DOWN)
    assert [(r.state, r.why) for r in rows] == [("silenced", "maintenance: patch")]
    world.cycle(DOWN)
    assert world.hooked() == []
    world.cycle(DOWN)
    assert world.hooked() == [("redis-cache", "first")]


def test_what_one_script_knows_to_be_down_suppresses_anothers_finding(
    make: Callable[..., World],
) -> None:
    world = make()
    stale = Finding("no_tokens_seen", WARNING, "no tokens", "redis-cache")
    tokens = {"findings": (stale,), "sources": (Source("redis", False, why="timeout"),)}
    world.cycle(DOWN)
    rows, _ = world.cycle(script="token_usage_metrics", **tokens)
    assert {(r.state, r.alert.key.metric) for r in rows} == {
        ("suppressed", "no_tokens_seen"),
        ("suppressed", "monitoring_blind"),
    }
    world.cycle(UP)
    for _ in range(2):
        world.cycle(script="token_usage_metrics", **tokens)
    assert sorted(world.hooked())[-2:] == [("redis-cache", "first"), ("redis-cache", "resolved")]
    # Still blind, and no tokens: now they speak for themselves, blindness a cycle later.
    assert world.hooked()[2:] == [("redis-cache", "first"), ("redis-cache", "first")]


def test_a_script_does_not_touch_the_alerts_of_another(make: Callable[..., World]) -> None:
    world = make()
    world.cycle(DOWN)
    world.cycle(script="token_usage_metrics", sources=(Source("eapi", True),))
    (body,) = world.state.read("SELECT body FROM alert_states")[0]
    assert load_state(body).firing


def test_what_no_run_looks_at_any_more_is_closed_in_the_end(make: Callable[..., World]) -> None:
    """A script that is no longer started, and an environment that was renamed."""
    world = make()
    found = Finding("odd", WARNING, "odd", "somewhere")
    world.cycle(script="token_usage_metrics", findings=(found,))
    world.cycle(replace(DOWN, name="payment-eapi"))
    old = replace(have.outcome(DOWN, at=world.clock.at), environment="before")
    world.notifier.process(old)
    world.clock.at += 7 * 86400 - 180
    world.cycle(UP)
    assert len(world.hooked()) == 3, "not yet a week"
    world.clock.at += 240
    world.cycle(UP)
    assert sorted(world.hooked()[3:]) == [
        ("payment-eapi", "resolved"),
        ("redis-cache", "resolved"),
        ("somewhere", "resolved"),
    ]
    (said,) = {e["summary"] for s in world.hook.seen for e in s.json()["notices"]
               if e["status"] == "resolved"}  # fmt: skip
    assert "may be as bad as it was" in said


def test_a_failed_cycle_is_told_and_resolves_nothing(make: Callable[..., World]) -> None:
    world = make()
    world.cycle(DOWN)
    broken = Source("monitor", False, why="KeyError: 'x'", error="internal")
    world.cycle(sources=(broken,))
    assert world.hooked() == [("redis-cache", "first"), ("monitor", "first")]


# -- nothing is lost


def test_thousand_changes_with_all_channels_down_then_up(make: Callable[..., World]) -> None:
    quick = AlertSettings(failure_threshold=1, recovery_threshold=1, flap_changes=10_000)
    world = make(alerts=quick)
    names = [f"component-{n:02}" for n in range(10)]
    now: dict[str, Severity] = dict.fromkeys(names, OK)
    dice = random.Random(5)
    world.hook.always(503), world.slack.always(500)
    changes = 0
    for _ in range(200):
        for name in dice.sample(names, 5):
            now[name] = CRITICAL if now[name] is OK else OK
            changes += 1
        world.cycle(*(component(s, name) for name, s in now.items()))
        world.clock.at -= 42  # 200 cycles of 18 s are an hour
        waiting = [(row.key, row.channel) for row in world.notifier._outbox.waiting()]
        assert len(waiting) == len(set(waiting)), "one row per alert and channel"
    assert changes == 1000
    assert any(now[name] is CRITICAL for name in names)
    before = len(world.hook.seen)
    world.hook.always(200), world.slack.always(200)
    world.clock.at += 600
    world.cycle(*(component(s, name) for name, s in now.items()))
    told = [t for t in heard(Receiver(seen=world.hook.seen[before:])) if t[0] in names]
    assert sorted(told) == sorted(
        (name, "first" if now[name] is CRITICAL else "missed") for name in names
    )
    assert world.notifier._outbox.waiting() == ()
    for name in names:
        now[name] = OK
    world.cycle(*(component(s, name) for name, s in now.items()))
    assert not any(_stories(world.hook, before).values()), "in the end nobody believes it fires"


def _stories(hook: Receiver, start: int) -> dict[str, bool]:
    """Whether each component fires for a reader of the webhook; fails on a story that is none."""
    believed: dict[str, bool] = defaultdict(bool)
    for name, reason in heard(Receiver(seen=hook.seen[start:])):
        assert believed[name] is (reason not in ("first", "missed")), (name, reason)
        believed[name] = reason in FIRING
    return dict(believed)


def test_kill_9_at_every_step_of_a_delivery(tmp_path: Path) -> None:
    with receiver() as hook:
        done = subprocess.run(
            [sys.executable, "-m", "tests.killed_delivery", str(tmp_path), hook.url],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=150,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 20, "steps"
    by_path: dict[str, list[Any]] = defaultdict(list)
    for seen in hook.seen:
        by_path[seen.path] += seen.json()["notices"]
    for number, line in enumerate(lines, start=1):
        got = by_path[f"/{number}"]
        told = [entry["reason"] for entry in got]
        kept = [reason for channel, reason, _ in line["rows"] if channel == "webhook"]
        assert all(done for _, _, done in line["rows"]), f"step {number}: something still waits"
        assert set(kept) <= set(told), f"step {number}: kept, and never delivered"
        assert ("first" in told) >= line["fires"], f"step {number}: it fires and nobody knows"
        assert {entry["key"] for entry in got} <= {"test/health_check/redis-cache/health_status/"}
        assert told == sorted(told), f"step {number}: first before resolved"
    assert by_path[f"/{len(lines)}"][-1]["reason"] == "resolved", "the last one was not killed"
    assert any(len(told) > 2 for told in by_path.values()), "some died between sending and noting"


def test_state_and_notices_are_kept_together_or_not_at_all(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()

    def full(*args: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(world.notifier._outbox, "enqueue", full)
        with pytest.raises(OSError, match="no space"):
            world.notifier.process(have.outcome(DOWN, at=world.clock.at))
    assert world.state.read("SELECT count(*) FROM alert_states") == [(0,)]
    world.cycle(DOWN)
    assert world.hooked() == [("redis-cache", "first")]


def test_two_processes_send_each_notice_once(make: Callable[..., World], tmp_path: Path) -> None:
    world = make()
    with State.open(tmp_path / "state") as second_file:
        second = Notifier(world.settings, second_file, world.clock)
        names = [f"component-{n}" for n in range(30)]
        world.notifier.process(have.outcome(*(component(CRITICAL, n) for n in names)))
        threads = [
            threading.Thread(target=n.deliver, args=(20.0,)) for n in (world.notifier, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(name for name, _ in world.hooked()) == sorted(names)


def test_what_one_script_left_another_delivers(make: Callable[..., World]) -> None:
    world = make()
    world.notifier.process(have.outcome(DOWN))
    world.cycle(script="token_usage_metrics", sources=(Source("eapi", True),))
    assert world.hooked() == [("redis-cache", "first")]


# -- channels that fail


def test_what_may_become_of_a_delivery_is_known_before_the_first(
    make: Callable[..., World],
) -> None:
    world = make()
    pairs = world.notifier.attempts()
    assert {channel for channel, _ in pairs} == {"slack", "webhook", "log"}
    _, deliveries = world.cycle(DOWN, budget=5.0)
    assert {(d.channel, d.outcome) for d in deliveries} <= set(pairs)


def test_a_hanging_channel_delays_no_other_and_keeps_its_notice(
    make: Callable[..., World],
) -> None:
    world = make()
    world.slack.answers[:] = ["hang"]
    _, deliveries = world.cycle(DOWN, budget=0.5)
    outcomes = {d.channel: d.outcome for d in deliveries}
    for _ in range(60):  # a busy machine may need more than one budget for the healthy two
        if outcomes["webhook"] == outcomes["log"] == "sent":
            break
        outcomes.update({d.channel: d.outcome for d in world.notifier.deliver(0.5)})
    assert outcomes == {"webhook": "sent", "log": "sent", "slack": "unfinished"}
    assert world.notifier.waiting() == {"webhook": 0, "log": 0, "slack": 1}
    figures = {m.labels["channel"]: m.value for m in world.notifier.measurements("health_check")}
    assert figures == {"webhook": 0, "log": 0, "slack": 1}
    world.notifier.process(have.outcome(UP, at=world.clock.at))
    left = [r for r in world.notifier._outbox.waiting() if r.channel == "slack"]
    assert [(r.notice.reason, r.begun) for r in left] == [("first", True), ("resolved", False)], (
        "it may have arrived, so its end must be told too"
    )


def test_a_channel_that_hangs_under_cron_counts_as_failing(make: Callable[..., World]) -> None:
    """Each run ends before its thread lands: the next must know that the channel failed."""
    world = make()
    world.slack.answers[:] = ["hang"]
    for _ in range(2):
        world.cycle(DOWN, budget=0.3)
        world.notifier = Notifier(world.settings, world.state, world.clock)
    pause = world.notifier._outbox.pause("slack")
    assert (pause.failures, pause.until) == (2, have.T0 + 60 + 30)
    assert pause.why == "no answer within the time for sending"
    (row,) = [r for r in world.notifier._outbox.waiting() if r.channel == "slack"]
    assert row.begun, "it may have arrived"


@pytest.mark.parametrize(
    ("case", "answer", "pauses"),
    [
        ("429 with Retry-After", (429, {"Retry-After": "90"}, b""), 90.0),
        ("an hour is the longest", (429, {"Retry-After": "99999"}, b""), 3600.0),
        ("500", (500, {}, b""), 15.0),
        ("reset", "reset", 15.0),
    ],
)
def test_when_a_failed_channel_is_tried_again(
    make: Callable[..., World], case: str, answer: Any, pauses: float
) -> None:
    world = make()
    world.hook.answers[:] = [answer]
    started = world.clock.at
    _, deliveries = world.cycle(DOWN)
    assert {d.channel: d.outcome for d in deliveries}["webhook"] == "failed", case
    world.hook.always(200)
    world.clock.at = started + pauses - 1
    assert world.notifier.deliver(5.0) == ()
    world.clock.at = started + pauses
    assert [d.outcome for d in world.notifier.deliver(5.0)] == ["sent"]
    assert len(world.hook.seen) == 2


def test_a_notice_that_is_refused_does_not_hold_up_the_others(make: Callable[..., World]) -> None:
    world = make(by_severity={"critical": ("webhook",)})
    answers = world.hook.answers
    answers[:] = [(400, {}, b""), (400, {}, b""), (200, {}, b"")]  # the batch, its first, the rest
    names = ("poison", "redis-cache", "zebra")
    world.cycle(*(component(CRITICAL, name) for name in names))
    batches = [len(seen.json()["notices"]) for seen in world.hook.seen]
    assert batches == [3, 1, 1, 1], batches
    assert world.notifier.waiting()["webhook"] == 1


def test_a_channel_that_refuses_everything_is_left_alone_for_a_while(
    make: Callable[..., World],
) -> None:
    world = make()
    world.slack.always(404, b"no_service")
    world.cycle(*(component(CRITICAL, f"component-{n:02}") for n in range(20)))
    assert len(world.slack.seen) == 3
    assert world.notifier.waiting()["slack"] == 20


def test_given_up_after_a_day(make: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    world.slack.always(503)
    world.cycle(DOWN)
    world.clock.at += 86400
    deliveries = world.notifier.deliver(5.0)
    assert [d.outcome for d in deliveries if d.channel == "slack"] == ["failed", "given_up"]
    assert [r for r in caplog.records if r.levelno == logging.CRITICAL and "given up" in r.message]


def test_a_channel_that_fails_is_told_on_the_others(make: Callable[..., World]) -> None:
    world = make()
    world.slack.always(503)
    for _ in range(7):
        world.cycle(DOWN)
    assert world.hooked() == [("redis-cache", "first"), ("notifications-slack", "first")]
    world.slack.always(200)
    world.clock.at += 600
    world.cycle(DOWN), world.cycle(DOWN)
    assert world.hooked()[-1] == ("notifications-slack", "resolved")


def test_a_channel_is_not_called_failing_for_ever_when_nothing_waits_for_it(
    make: Callable[..., World],
) -> None:
    """Its notice was taken back before it got through, and nothing else will ever try it."""
    world = make(by_severity={"critical": ("slack",), "warning": ("webhook",)})
    world.slack.always(503)
    for _ in range(7):
        world.cycle(DOWN)
    assert world.hooked() == [("notifications-slack", "first")]
    with world.state.transaction() as tx:
        tx.execute("DELETE FROM notices WHERE channel = 'slack'")
    world.cycle(DOWN)
    assert world.hooked()[1:] == [("notifications-slack", "resolved")]
    assert world.hook.seen[-1].json()["notices"][0]["summary"] == "nothing waits for slack any more"


def test_no_secret_in_what_a_failure_says(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world = make()
    world.slack.always(500), world.hook.always(500)
    _, deliveries = world.cycle(DOWN)
    port = world.slack.url.rsplit(":", 1)[1]
    assert all(port not in d.why for d in deliveries if d.channel == "slack")
    assert f":{port}" not in "".join(r.getMessage() for r in caplog.records if "slack" in r.name)


# -- questions


def test_test_alerts_tries_every_channel_and_says_why_not(make: Callable[..., World]) -> None:
    world = make(off={"pagerduty": "no service_key"})
    world.slack.always(404, b"no_service")
    assert world.notifier.test() == [
        ("slack", False, "Slack answered 404: no_service"),
        ("webhook", True, ""),
    ]
    (first, over) = [seen.json()["notices"][0] for seen in world.hook.seen]
    assert (first["reason"], over["reason"]) == ("first", "resolved")
    assert first["key"] == over["key"]
    assert world.notifier.test("webhook") == [("webhook", True, "")]
    assert world.notifier.test("log") == [("log", True, "")]
    assert world.notifier.test("pagerduty") == [("pagerduty", False, "off: no service_key")]
    ((name, worked, why),) = world.notifier.test("carrier-pigeon")
    assert (name, worked) == ("carrier-pigeon", False)
    assert "there are slack, pagerduty" in why
    assert world.state.read("SELECT count(*) FROM alert_states") == [(0,)], "no trace is left"


def test_a_channel_that_hangs_fails_the_test_within_its_time(make: Callable[..., World]) -> None:
    world = make(alerts=AlertSettings(send_budget=0.3))
    world.hook.answers[:] = ["hang"]
    ((name, worked, why),) = world.notifier.test("webhook")
    assert (name, worked) == ("webhook", False)
    assert why


def test_the_report_says_what_fires_who_knows_and_what_waits(make: Callable[..., World]) -> None:
    world = make()
    world.slack.always(503)
    world.cycle(DOWN), world.cycle(DOWN, component(UNKNOWN, "payment-eapi", error="http"))
    report = world.notifier.report()
    (redis,) = [row for row in report.alerts if "redis" in row.key]
    assert (redis.state, redis.severity, redis.notified) == (
        "firing",
        "critical",
        ("log", "webhook"),
    )
    assert (redis.since, redis.lasts) == ("2026-11-23T02:13:20Z", "2 min")
    assert {row.channel for row in report.waiting} == {"slack"}
    assert report.channels[0].why == "Slack answered 503: ok"
    assert json.loads(alert_report.as_json(report))["alerts"][0]["key"] == report.alerts[0].key
    text = alert_report.as_text(report)
    for said in (
        "2 incidents fire",
        "notified: log, webhook",
        "slack: first",
        "Slack answered 503",
    ):
        assert said in text


def test_an_empty_report_says_so(tmp_path: Path) -> None:
    settings = have.settings(tmp_path / "nothing", {})
    with State.open(tmp_path / "nothing") as state:
        report = Notifier(settings, state, Clock()).report()
    assert alert_report.as_text(report) == alert_report.NEVER_LOOKED


@pytest.mark.parametrize(
    ("stage", "path"),
    [("start", "/ping/u/start"), ("success", "/ping/u"), ("fail", "/ping/u/fail")],
)
def test_heartbeats(tmp_path: Path, stage: str, path: str) -> None:
    with receiver() as alive, State.open(tmp_path) as state:
        run = RunSettings(heartbeat_url=Secret(alive.url + "/ping/u/"))
        settings = have.settings(tmp_path, {})
        settings = type(settings)(**{**settings.__dict__, "run": run})
        Notifier(settings, state, Clock()).heartbeat(stage)
    assert [seen.path for seen in alive.seen] == [path]


@pytest.mark.parametrize("answer", [(500, {}, b""), "reset"])
def test_a_heartbeat_that_fails_is_a_log_line_without_its_address(
    tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(answer) as dead, State.open(tmp_path) as state:
        run = RunSettings(heartbeat_url=Secret(dead.url + "/ping/SECRET"))
        settings = have.settings(tmp_path, {})
        settings = type(settings)(**{**settings.__dict__, "run": run})
        Notifier(settings, state, Clock()).heartbeat("success")
    (line,) = [r.getMessage() for r in caplog.records if "heartbeat" in r.name]
    assert "did not get through" in line
    assert "SECRET" not in line


def test_an_unreadable_state_is_dropped_and_the_rest_stands(make: Callable[..., World]) -> None:
    world = make()
    world.cycle(DOWN)
    with world.state.transaction() as tx:
        tx.execute("INSERT INTO alert_states VALUES ('x', 'health_check', '[1]', 0)")
    world.cycle(UP)
    assert world.hooked()[-1] == ("redis-cache", "resolved")
    world.cycle(UP)  # the file was examined meanwhile: the row is not damage that hides another
    assert world.state.read("SELECT count(*) FROM alert_states WHERE key = 'x'") == [(0,)]
