"""Receivers keep what they get, and refuse what the real ones refuse."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
import requests

from sandbox.clock import SimulatedClock, iso_time
from sandbox.receivers import ReceiverServer, parse_time
from sandbox.smtp_receiver import SmtpReceiver

EVENT = {
    "routing_key": "0" * 32,
    "event_action": "trigger",
    "dedup_key": "k",
    "payload": {"summary": "s", "source": "here", "severity": "critical"},
}


@pytest.fixture
def receivers() -> Iterator[ReceiverServer]:
    with ReceiverServer(now=SimulatedClock()) as server:
        yield server


def post(server: ReceiverServer, path: str, body: Any) -> requests.Response:
    return requests.post(server.url + path, json=body, timeout=5)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": "hello"}, 200),
        ({"text": "hello", "blocks": [{"type": "section", "text": {"text": "x" * 3000}}]}, 200),
        ({"blocks": [{"type": "section", "text": {"text": "x" * 3001}}]}, 400),
        ({"blocks": [{"type": "header", "text": {"text": "x" * 151}}]}, 400),
        ({"blocks": [{"type": "divider"}] * 51}, 400),
        ({"blocks": [{"type": "section", "fields": [{}] * 11}]}, 400),
        ({}, 400),
        ([], 400),
    ],
)
def test_slack(receivers: ReceiverServer, body: Any, status: int) -> None:
    assert post(receivers, "/slack/services/T/B/x", body).status_code == status
    assert receivers.bag.get("slack")[0]["body"] == body


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 202),
        ({"event_action": "resolve", "payload": None}, 202),
        ({"routing_key": "short"}, 400),
        ({"event_action": "explode"}, 400),
        ({"dedup_key": "k" * 256}, 400),
        ({"event_action": "resolve", "dedup_key": ""}, 400),
        ({"payload": {"summary": "s", "source": "x", "severity": "bad"}}, 400),
        ({"payload": {}}, 400),
    ],
)
def test_pagerduty(receivers: ReceiverServer, change: Any, status: int) -> None:
    answer = post(receivers, "/v2/enqueue", {**EVENT, **change})
    assert answer.status_code == status
    assert receivers.bag.get("pagerduty")[0]["status"] == status


def alert(now: float, ends: float, **labels: str) -> dict[str, Any]:
    times = {"startsAt": iso_time(now - 60), "endsAt": iso_time(now + ends)}
    return {"labels": {"alertname": "A", **labels}, **times}


def active(server: ReceiverServer) -> list[dict[str, Any]]:
    return list(requests.get(f"{server.url}/api/v2/alerts", timeout=5).json())


def test_alertmanager_keeps_until_the_end_and_resolves(receivers: ReceiverServer) -> None:
    now = receivers.now()
    assert post(receivers, "/api/v2/alerts", [alert(now, 240)]).content == b""
    assert [a["labels"] for a in active(receivers)] == [{"alertname": "A"}]
    assert post(receivers, "/api/v2/alerts", [alert(now, 0)]).status_code == 200
    assert active(receivers) == []


def test_alertmanager_without_an_end_lasts_five_minutes(receivers: ReceiverServer) -> None:
    post(receivers, "/api/v2/alerts", [{"labels": {"alertname": "A"}}])
    assert len(active(receivers)) == 1
    receivers.now.advance(301)  # type: ignore[attr-defined]
    assert active(receivers) == []


def test_a_400_of_alertmanager_is_a_partial_success(receivers: ReceiverServer) -> None:
    now = receivers.now()
    batch = [alert(now, 60, component="redis"), {"labels": {"empty": ""}}, alert(now, -120)]
    answer = post(receivers, "/api/v2/alerts", batch)
    assert (answer.status_code, type(answer.json())) == (400, str)
    assert [a["labels"]["component"] for a in active(receivers)] == ["redis"]


def test_alertmanagers_v1_is_gone(receivers: ReceiverServer) -> None:
    assert post(receivers, "/api/v1/alerts", []).status_code == 410


@pytest.mark.parametrize(
    ("path", "stage"), [("", "success"), ("/start", "start"), ("/fail", "fail"), ("/3", "3")]
)
def test_heartbeat(receivers: ReceiverServer, path: str, stage: str) -> None:
    requests.get(f"{receivers.url}/heartbeat/0b9f7c1e{path}", timeout=5)
    expected = stage if path != "" else "success"
    assert receivers.bag.get("heartbeat")[0]["stage"] == expected


@pytest.mark.parametrize(
    ("fault", "path", "status"),
    [
        ("slack-429", "/slack/x", 429),
        ("slack-500", "/slack/x", 500),
        ("pagerduty-429", "/v2/enqueue", 429),
        ("pagerduty-500", "/v2/enqueue", 500),
        ("alertmanager-500", "/api/v2/alerts", 500),
        ("webhook-500", "/webhook", 500),
    ],
)
def test_receiver_faults(receivers: ReceiverServer, fault: str, path: str, status: int) -> None:
    receivers.faults.set(fault)
    answer = post(receivers, path, EVENT)
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == ("2" if fault == "slack-429" else None)
    receivers.faults.clear()
    assert post(receivers, "/webhook", EVENT).status_code == 200


@pytest.mark.parametrize(
    "text", ["2026-11-22T16:53:20Z", "2026-11-22T16:53:20.000000000Z", "2026-11-22T17:53:20+01:00"]
)
def test_times(text: str) -> None:
    assert parse_time(text) == 1795366400.0


def mail() -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"] = "Redis is down – now", "monitoring@example.com"
    message["To"] = "a@example.org, b@example.org"
    message.set_content("plain\n.\nwith a dot\n")
    message.add_alternative("<p>rich</p>", subtype="html")
    return message


def test_smtp_keeps_mails_whole() -> None:
    with SmtpReceiver() as server, smtplib.SMTP("127.0.0.1", server.port, timeout=5) as client:
        client.send_message(mail())
        kept = server.bag.get("smtp")[0]
    assert kept["recipients"] == ["a@example.org", "b@example.org"]
    assert kept["subject"] == "Redis is down – now"
    assert kept["text"].splitlines() == ["plain", ".", "with a dot"]
    assert kept["html"].strip() == "<p>rich</p>"


def test_smtp_can_refuse_everybody() -> None:
    with SmtpReceiver() as server, smtplib.SMTP("127.0.0.1", server.port, timeout=5) as client:
        server.faults.set("smtp-refuse")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.send_message(mail())
        assert server.bag.get("smtp") == []
