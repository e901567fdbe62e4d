"""PagerDuty: events under the alert's key; pdpyras tamed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from monitoring.channels import pagerduty
from monitoring.channels.base import ChannelContext, TransportError
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings
from tests.alerting_kit import WARNING, alert, free_port, notice, receiver

KEY = "0123456789abcdef0123456789abcdef"
ACCEPTED = (202, {}, b'{"status":"success","message":"Event processed","dedup_key":"k"}')


def kit(url: str) -> ChannelContext:
    rules = AlertSettings(runbooks="https://wiki.example")
    config = {"service_key": Secret(KEY), "url": url, "client": "Payment API Monitoring"}
    return ChannelContext(config, rules, timeout=1.0)


def test_an_incident_from_trigger_to_resolve_has_one_key() -> None:
    with receiver(ACCEPTED) as got:
        for reason in ("first", "escalated", "reminder", "flapping", "resolved"):
            pagerduty.send([notice(reason)], kit(got.url))
    bodies = [seen.json() for seen in got.seen]
    assert [seen.path for seen in got.seen] == ["/v2/enqueue"] * 5
    assert [b["event_action"] for b in bodies] == ["trigger"] * 4 + ["resolve"]
    assert {b["dedup_key"] for b in bodies} == {"test/health_check/redis-cache/health_status/"}
    assert {b["routing_key"] for b in bodies} == {KEY}
    assert "payload" not in bodies[-1]


def test_the_fields_of_an_event() -> None:
    told = notice(
        severity=WARNING, runbook="redis-cache-down", meaning="Bad.", action="Look.",
        client="*", also=(alert(client="client-1"),),
    )  # fmt: skip
    event = pagerduty.event(told, kit(""))
    payload = event["payload"]
    assert payload["severity"] == "warning"
    assert payload["summary"] == "WARNING in test: redis-cache is in trouble"
    assert payload["timestamp"] == "2026-11-23T02:11:20.000Z"
    assert (payload["component"], payload["class"]) == ("redis-cache", "health_status")
    assert payload["custom_details"]["First thing to do"] == "Look."
    assert payload["custom_details"]["Concerned"] == ["client-1: redis-cache is in trouble"]
    assert event["links"] == [
        {"href": "https://wiki.example/redis-cache-down.md", "text": "Runbook"}
    ]


def test_within_its_limits() -> None:
    also = tuple(alert(client="c" * 300, summary="s" * 5000) for _ in range(500))
    event = pagerduty.event(notice(summary="x" * 9000, client="y" * 900, also=also), kit(""))
    assert len(event["payload"]["summary"]) <= 1024
    assert len(event["dedup_key"]) <= 255
    assert len(json.dumps(event)) < 512 * 1024


REFUSED = b'{"status":"invalid event","message":"Event object is invalid","errors":["no summary"]}'
ANSWERS = [
    ("400 names what is wrong", (400, {}, REFUSED), True, None, "no summary"),
    ("401", (401, {}, b"{}"), True, None, "401"),
    ("403", (403, {}, b"{}"), True, None, "403"),
    ("429 is not repeated by the library", (429, {"Retry-After": "60"}, b""), False, 60.0, "429"),
    ("500", (500, {}, b""), False, None, "500"),
    ("503", (503, {}, b""), False, None, "503"),
    ("200 from something else", (200, {}, b"<html>"), False, None, "is the URL right"),
    ("reset", "reset", False, None, "cannot be reached"),
    ("hang", "hang", False, None, "cannot be reached"),
]


@pytest.mark.parametrize(("case", "answer", "expected"), [(c, a, e) for c, a, *e in ANSWERS])
def test_answers(case: str, answer: Any, expected: list[Any]) -> None:
    permanent, wait, said = expected
    started = time.monotonic()
    with receiver(answer) as got, pytest.raises(TransportError) as failed:
        pagerduty.send([notice()], kit(got.url))
    assert failed.value.permanent is permanent, case
    assert failed.value.retry_after == wait
    assert said in str(failed.value)
    assert KEY[-4:] not in str(failed.value), "the library's own words end with the key"
    assert len(got.seen) == 1, "the library's own retries take minutes"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(("answer", "unsure"), [("hang", True), ("reset", True), (None, False)])
def test_what_may_have_arrived(answer: Any, unsure: bool) -> None:
    with receiver(answer or ACCEPTED) as got:
        url = got.url if answer else f"http://127.0.0.1:{free_port()}"
        with pytest.raises(TransportError) as failed:
            pagerduty.send([notice()], kit(url))
    assert failed.value.unsure is unsure


def test_an_address_with_its_path_works_too() -> None:
    with receiver(ACCEPTED) as got:
        pagerduty.send([notice()], kit(got.url + "/v2/enqueue"))
    assert got.seen[0].path == "/v2/enqueue"


def test_the_librarys_warning_at_import_is_not_fatal() -> None:
    code = (
        "from monitoring.channels.pagerduty import _library\n"
        "import sys\n"
        "assert 'pdpyras' not in sys.modules, 'imported before it is needed'\n"
        "assert _library().__name__ == 'pdpyras'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
