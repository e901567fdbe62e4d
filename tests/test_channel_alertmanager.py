"""Alertmanager: the v2 API, every peer, and a real one where it is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring.alerts.delivery import send_now
from monitoring.alerts.notifier import Notifier
from monitoring.alerts.state import FIRING, OK, AlertState
from monitoring.catalog import SCRIPTS
from monitoring.channels import CHANNELS, alertmanager
from monitoring.channels.base import ChannelContext, TransportError
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings
from monitoring.store.state import State
from tests import alerting_kit as have
from tests.alerting_kit import (
    CRITICAL,
    T0,
    WARNING,
    Clock,
    alert,
    component,
    notice,
    outcome,
    receiver,
    wait_for,
)


def kit(*urls: str, **more: Any) -> ChannelContext:
    rules = AlertSettings(runbooks="https://wiki.example", dashboards="https://grafana.example/d")
    return ChannelContext({"url": urls, **more}, rules, timeout=2.0)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://am:9093", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/api/v2/", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/api/v1/alerts", "http://am:9093/api/v2/alerts"),
        ("https://host/prefix/api/v1/alerts", "https://host/prefix/api/v2/alerts"),
        ("https://host/prefix", "https://host/prefix/api/v2/alerts"),
    ],
)
def test_addresses(url: str, asked: str) -> None:
    assert alertmanager.endpoints(kit(url)) == (asked,)


def state(phase: str, **more: Any) -> AlertState:
    return AlertState(alert(runbook="page", dashboard="board"), phase, since=T0 - 600, **more)


def test_a_firing_alert_ends_four_intervals_ahead() -> None:
    (got,) = alertmanager.mirror([state(FIRING)], [], kit("x"), now=T0, interval=90.0)
    assert got["startsAt"] == "2026-11-23T02:03:20.000Z"
    assert got["endsAt"] == "2026-11-23T02:19:20.000Z"
    assert got["labels"] == {
        "alertname": "PaymentApiHealthStatus",
        "environment": "test",
        "component": "redis-cache",
        "category": "availability",
        "severity": "critical",
    }
    assert got["annotations"]["severity"] == "critical"
    assert got["annotations"]["runbook_url"] == "https://wiki.example/page.md"
    assert got["generatorURL"].startswith("https://grafana.example/d/board")


@pytest.mark.parametrize("interval", [0.5, 5.0, 60.0, 75.0])
def test_it_stands_for_five_minutes_after_the_last_word_however_short_the_interval(
    interval: float,
) -> None:
    (got,) = alertmanager.mirror([state(FIRING)], [], kit("x"), now=T0, interval=interval)
    assert got["endsAt"] == "2026-11-23T02:18:20.000Z"


def test_the_labels_do_not_change_with_value_or_time() -> None:
    later = replace(state(FIRING), alert=alert(value=7.0, evidence={"x": 1}), since=T0)
    pair = [
        alertmanager.mirror([s], [], kit("x"), now=at, interval=60.0)[0]["labels"]
        for s, at in ((state(FIRING), T0), (later, T0 + 999))
    ]
    assert pair[0] == pair[1]


def said(state: AlertState, now: float = T0) -> list[tuple[str, str]]:
    """(severity, end) of what is posted for the state."""
    posted = alertmanager.mirror([state], [], kit("x"), now=now, interval=60.0)
    return [(p["labels"]["severity"], p["endsAt"]) for p in posted]


def test_one_that_grew_is_another_alert_and_ends_the_milder_one() -> None:
    told = {"notified": CRITICAL, "worst": CRITICAL, "grown": True}
    grown = state(FIRING, **told)
    assert said(grown) == [
        ("critical", "2026-11-23T02:18:20.000Z"),
        ("warning", "2026-11-23T02:13:20.000Z"),
    ]
    over = replace(grown, phase=OK, notified=None, resolved_at=T0 - 30)
    assert said(over) == [
        ("critical", "2026-11-23T02:12:50.000Z"),
        ("warning", "2026-11-23T02:12:50.000Z"),
    ]


def test_of_one_that_is_milder_now_the_worse_is_left_to_end_as_prometheus_ends_it() -> None:
    """Its rules fire by severity: what they end and we still send would be news each time."""
    milder = replace(state(FIRING, notified=WARNING, worst=CRITICAL), alert=alert(WARNING))
    assert said(milder) == [("warning", "2026-11-23T02:18:20.000Z")]
    grown = replace(milder, grown=True)
    assert said(grown) == said(milder)
    over = replace(milder, phase=OK, notified=None, resolved_at=T0 - 30)
    assert [severity for severity, _ in said(over)] == ["critical", "warning"]


def test_an_end_is_said_for_two_cycles_and_not_for_ever() -> None:
    over = state(OK, resolved_at=T0)
    assert [len(said(over, T0 + n * 60)) for n in range(5)] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(("interval", "said_at_once"), [(900.0, False), (901.0, True)])
def test_who_looks_seldom_says_the_end_before_it_is_forgotten(
    interval: float, said_at_once: bool
) -> None:
    """A good cycle was enough, and by the next one the alert is no longer remembered."""
    over = state(OK, resolved_at=T0, steady_since=T0, good=1)
    posted = alertmanager.mirror([over], [], kit("x"), now=T0, interval=interval)
    assert bool(posted) == said_at_once


def test_the_next_incident_does_not_inherit_the_severity_of_the_last() -> None:
    anew = replace(state(FIRING, worst=CRITICAL), alert=alert(WARNING))  # told: nobody yet
    assert [severity for severity, _ in said(anew)] == ["warning"]


def test_pending_and_quiet_ones_are_not_sent_and_resolved_ones_end() -> None:
    over = state(OK, resolved_at=T0 - 30)
    hushed = replace(state(FIRING), alert=alert(component="payment-eapi"))
    states = [state("pending"), hushed, over]
    (got,) = alertmanager.mirror(states, [hushed.key], kit("x"), now=T0, interval=60.0)
    assert got["endsAt"] == "2026-11-23T02:12:50.000Z"


WELL = {"good": 1, "judged_at": T0, "steady_since": T0 - 60}


@pytest.mark.parametrize(
    ("state", "posted"),
    [
        # what Prometheus ends a little later is not ended before, nor begun again after
        (state(FIRING, **WELL), 0),
        (state(OK, resolved_at=T0, **WELL), 0),
        (state(OK, resolved_at=T0 - 180, **{**WELL, "steady_since": T0 - 240}), 1),
        (state(OK, resolved_at=T0 - 180, **{**WELL, "steady_since": T0 - 400}), 0),  # said before
        # held: not known in this cycle, or flapping
        (state(FIRING, **{**WELL, "judged_at": T0 - 60}), 1),
        (state(FIRING, flapping=True, **WELL), 1),
        # ended by nobody's good cycle: it is no longer watched
        (state(OK, resolved_at=T0, steady_since=T0 - 60), 1),
    ],
)
def test_an_end_waits_until_the_rules_of_prometheus_let_go(state: AlertState, posted: int) -> None:
    got = alertmanager.mirror([state], [], kit("x"), now=T0, interval=60.0)
    assert len(got) == posted


@pytest.mark.parametrize(("well", "posted"), [(239, 0), (240, 1)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_over_ends_within_five_minutes_whoever_looks(
    script: str, well: int, posted: int
) -> None:
    over = state(OK, resolved_at=T0, **{**WELL, "steady_since": T0})
    key = replace(over.alert.key, script=script)
    over = replace(over, alert=replace(over.alert, key=key))
    got = alertmanager.mirror([over], [], kit("x"), now=T0 + well, interval=300.0)
    assert len(got) == posted


@pytest.mark.parametrize(("after", "posted"), [(0, 0), (239, 0), (240, 1), (361, 0)])
def test_what_flapped_ends_when_the_rules_have_seen_that_it_does_no_longer(
    after: int, posted: int
) -> None:
    over = state(OK, resolved_at=T0, flapped=True, **{**WELL, "steady_since": T0 - 1800})
    got = alertmanager.mirror([over], [], kit("x"), now=T0 + after, interval=60.0)
    assert len(got) == posted


def test_every_peer_gets_them_though_one_fails() -> None:
    with receiver((500, {}, b'"boom"')) as broken, receiver((200, {}, b"")) as healthy:
        both = kit(broken.url, healthy.url)
        with pytest.raises(TransportError, match="answered 500"):
            alertmanager.send([notice()], both)
    assert len(broken.seen) == len(healthy.seen) == 1
    assert healthy.seen[0].path == "/api/v2/alerts"
    assert json.loads(healthy.seen[0].body)[0]["labels"]["component"] == "redis-cache"


def test_a_peer_that_hangs_keeps_nothing_from_the_next() -> None:
    with receiver("hang") as mute, receiver((200, {}, b"")) as healthy:
        both = kit(mute.url, healthy.url)
        sending = threading.Thread(
            target=send_now, args=(CHANNELS["alertmanager"], both, [notice()]), daemon=True
        )
        sending.start()
        wait_for(lambda: bool(healthy.seen))
        assert sending.is_alive(), "the first still hangs"


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({}, None),
        ({"bearer_token": Secret("t0ken")}, "Bearer t0ken"),
        ({"username": "u", "password": Secret("p")}, "Basic dTpw"),
    ],
)
def test_authentication(more: dict[str, Any], header: Any) -> None:
    with receiver((200, {}, b"")) as got:
        alertmanager.send([notice()], kit(got.url, **more))
    assert got.seen[0].headers.get("authorization") == header


# -- a real one


@pytest.fixture
def real(tmp_path: Path) -> Iterator[str]:
    """Address of a running Alertmanager."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("no alertmanager on this machine")
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    port = have.free_port()
    flags = [
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'am'}",
        "--cluster.listen-address=",
    ]
    log = (tmp_path / "am.log").open("w")
    process = subprocess.Popen(
        [program, *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        have.wait_for(lambda: _ready(url), 60)
        yield url
    finally:
        process.terminate()
        process.wait()
        log.close()


def _ready(url: str) -> bool:
    try:
        return _get(url, "/-/ready").status == 200
    except Exception:  # noqa: BLE001 - not there yet, in whatever way
        return False


def _get(url: str, path: str) -> Any:
    return ChannelContext({}, timeout=5.0).http(trust_env=False).get(url + path)


def _alerts(url: str) -> list[dict[str, Any]]:
    found = _get(url, "/api/v2/alerts").json()
    assert isinstance(found, list)
    return found


@pytest.mark.alertmanager
def test_active_kept_and_resolved_in_a_real_alertmanager(real: str, tmp_path: Path) -> None:
    settings = have.settings(
        tmp_path / "state",
        {"alertmanager": {"url": (real + "/api/v1/alerts",), "resolve_after": 0.0}},
    )
    # Alertmanager has its own clock; ours runs ten cycles in the last ten minutes up to now.
    clock = Clock(time.time() - 600)
    with State.open(tmp_path / "state") as state_file:
        notifier = Notifier(settings, state_file, clock, interval=300.0)
        for _ in range(10):
            notifier.process(outcome(component(CRITICAL, message="no answer"), at=clock.at))
            (sent, *_) = notifier.deliver(10.0)
            assert (sent.outcome, sent.why) == ("sent", "")
            (active,) = _alerts(real)
            assert active["status"]["state"] == "active"
            assert active["labels"]["component"] == "redis-cache"
            clock.at += 60
        assert active["annotations"]["severity"] == "critical"
        notifier.process(outcome(component(have.OK), at=clock.at))
        assert notifier.deliver(10.0)[0].outcome == "sent"
        # Ended ones are no longer listed: they are resolved for Alertmanager.
        have.wait_for(lambda: _alerts(real) == [])


@pytest.mark.alertmanager
def test_amtool_sees_a_hostile_client_as_text(real: str) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("no amtool on this machine")
    now = time.time()
    told = notice(client="<b>x\r\ny", summary="bad", at=now, since=now - 60)
    alertmanager.send([told], kit(real))
    done = subprocess.run(
        [amtool, "alert", "query", "-o", "json", f"--alertmanager.url={real}"],
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
    (seen,) = json.loads(done.stdout)
    assert re.fullmatch(r"<b>x\\r\\ny~[0-9a-f]{8}", seen["labels"]["client"])
    alertmanager.send([replace(told, reason="resolved", at=now)], kit(real))
    have.wait_for(lambda: _alerts(real) == [])
