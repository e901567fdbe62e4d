"""Slack: Block ChannelContext within its limits, escaped, and every answer understood."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts.messages import render
from monitoring.channels import slack
from monitoring.channels.base import ChannelContext, TransportError
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings
from tests.alerting_kit import WARNING, alert, free_port, notice, receiver

PATH = "/services/T000/B000/SECRETSECRETSECRET"


def kit(url: str, **more: Any) -> ChannelContext:
    rules = AlertSettings(runbooks="https://wiki.example", dashboards="https://grafana.example/d")
    return ChannelContext({"webhook_url": Secret(url + PATH), **more}, rules, timeout=2.0)


def test_a_notice_arrives() -> None:
    with receiver() as got:
        slack.send(
            [notice(runbook="redis-cache-down", meaning="Bad.", action="Look.")], kit(got.url)
        )
    (seen,) = got.seen
    body = seen.json()
    assert seen.path == PATH
    assert body["text"] == (
        "CRITICAL in test: redis-cache is in trouble (since 2026-11-23 02:11:20 UTC)"
    )
    assert body["blocks"][0]["text"]["text"] == "🔴 CRITICAL in test: redis-cache is in trouble"
    assert "*First thing to do*: Look." in body["blocks"][1]["text"]["text"]
    assert "<https://wiki.example/redis-cache-down.md|Runbook>" in json.dumps(body["blocks"][-1])
    assert "channel" not in body


def test_since_when_stands_after_a_clause_and_never_within_one() -> None:
    said = "authentication-flow is down: EAPI refuses the canary's secret (HTTP 401): either logins"
    long = replace(notice(), alert=replace(notice().alert, summary=f"{said} are broken, or it is"))
    text = slack.payload([render(long, AlertSettings())], kit("http://x"))["text"]
    assert "secret (HTTP 401) (since 2026-11-23 02:11:20 UTC): either logins" in text


def test_legacy_webhooks_get_channel_and_name() -> None:
    body = slack.payload([], kit("http://x", channel="#alerts", username="Bot"))
    assert (body["channel"], body["username"]) == ("#alerts", "Bot")


ANSWERS = [
    ("400", (400, {}, b"invalid_payload"), True, None, "invalid_payload"),
    ("403", (403, {}, b"action_prohibited"), True, None, "action_prohibited"),
    ("404", (404, {}, b"no_service"), True, None, "no_service"),
    ("410", (410, {}, b"channel_is_archived"), True, None, "channel_is_archived"),
    ("429 with its wait", (429, {"Retry-After": "30"}, b""), False, 30.0, "429"),
    ("429 without", (429, {}, b""), False, None, "429"),
    ("500", (500, {}, b"<html>" + PATH.encode()), False, None, "500"),
    ("a login page", (200, {}, b"<html>sign in</html>"), False, None, "not with ok"),
    ("reset", "reset", False, None, "cannot be reached"),
]


@pytest.mark.parametrize(("case", "answer", "expected"), [(c, a, e) for c, a, *e in ANSWERS])
def test_answers(case: str, answer: Any, expected: list[Any]) -> None:
    permanent, wait, said = expected
    with receiver(answer) as got, pytest.raises(TransportError) as failed:
        slack.send([notice()], kit(got.url))
    assert failed.value.permanent is permanent, case
    assert failed.value.retry_after == wait
    assert said in str(failed.value)
    assert "SECRET" not in str(failed.value)
    assert len(got.seen) == 1, "one attempt: when to try again is not decided here"


def test_a_hanging_slack_is_an_unsure_failure_within_the_timeout() -> None:
    with (
        receiver("hang") as got,
        pytest.raises(TransportError, match="no answer from") as failed,
    ):
        slack.send([notice()], ChannelContext(kit(got.url).config, timeout=1.0))
    assert failed.value.unsure


def test_a_refused_connection_is_sure_not_to_have_arrived() -> None:
    with pytest.raises(TransportError) as failed:
        slack.send([notice()], kit(f"http://127.0.0.1:{free_port()}"))
    assert not failed.value.unsure
    assert "SECRET" not in str(failed.value)


def test_the_webhook_is_not_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver((500, {}, b"")) as got, pytest.raises(TransportError):
        slack.send([notice()], kit(got.url))
    assert "SECRET" not in caplog.text


def test_within_slacks_limits_whatever_is_said() -> None:
    also = tuple(alert(WARNING, client="c" * 200, summary="s" * 5000) for _ in range(40))
    evidence = {f"figure {n}": "x" * 5000 for n in range(30)}
    told = notice(summary="<!channel> " * 600, meaning="m" * 9000, evidence=evidence, also=also)
    body = slack.payload([render(told, AlertSettings())] * slack.BATCH, kit("http://x"))
    blocks = body["blocks"]
    assert len(blocks) <= 50
    assert len(body["text"]) <= 3000
    assert len(json.dumps(blocks, ensure_ascii=False)) < 16_000
    assert sum(b["type"] == "header" for b in blocks) == slack.BATCH, "every notice is named"
    for block in blocks:
        assert len(block.get("text", {}).get("text", "")) <= (
            150 if block["type"] == "header" else 3000
        )
        assert len(block.get("fields", [])) <= 10
        assert all(0 < len(f["text"]) <= 2000 for f in block.get("fields", []))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<!channel> & <https://evil|ok>", "&lt;!channel&gt; &amp; &lt;https://evil|ok&gt;"),
        ("*bold*", "*\u200bbold*\u200b"),
        ("`code`", "`\u200bcode`\u200b"),
        ("health_check", "health_check"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert slack.escape(text) == shown


def test_a_cut_leaves_no_half_sign() -> None:
    body = slack.payload([render(notice(meaning="a" + "<" * 990), AlertSettings())], kit(""))
    for block in body["blocks"]:
        for text in (block.get("text"), *block.get("fields", ()), *block.get("elements", ())):
            if text and text["type"] == "mrkdwn":
                assert text["verbatim"] is True, "no link or mention is made of what looks like one"
                assert "&" not in text["text"].rpartition(";")[2], text["text"][-20:]


def test_a_secret_file_that_is_gone_is_a_failure_with_its_reason() -> None:
    lost = ChannelContext({"webhook_url": Secret(path="/nonexistent/slack")})
    with pytest.raises(TransportError, match="webhook_url: No such file"):
        slack.send([notice()], lost)
