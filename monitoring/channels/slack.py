"""Present: notices in Slack, through an incoming webhook and Block ChannelContext.

Limits (api.slack.com/reference/block-kit, read 2026-11): 50 blocks a message, 150 characters of
plain text in a header, 3000 in a section, 10 fields of 2000, about 13 000 in all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from monitoring.alerts.messages import Message, render
from monitoring.channels.base import ChannelContext, TransportError, refuse, unreached
from monitoring.http.reply import HttpFault
from monitoring.model import Notice, Severity
from monitoring.text import printable

BATCH = 8  # notices a message: 8 x 6 blocks stay below 50
_BUDGET = 12_000  # characters of all blocks together
_ICONS = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠"}

_LOCK_SCREEN = 110  # characters of a message that a phone shows
_LEAST = 60  # of them that say more than the heading
_CLAUSE = re.compile(r"[,;:] | \((?!HTTP)")

_HALF = re.compile(r"&[a-z]{0,3}$")
_MARKUP = re.compile(r"(?<!\w)[*_~]|[*_~](?!\w)|`")

# slack_sdk logs the whole webhook URL, which is a secret, below INFO (docs/protocols.md); a
# logger of our own keeps that true whatever level the root has.
_MUTE = logging.Logger("payment-api-slack", logging.CRITICAL)


def send(notices: Sequence[Notice], kit: ChannelContext) -> None:
    """Post one message. Raises TransportError."""
    try:
        answer = _client(kit).send_dict(payload([render(n, kit.rules) for n in notices], kit))
    except HttpFault as exc:
        raise unreached("Slack cannot be reached", exc.fault) from None
    headers = {str(name).lower(): str(value) for name, value in dict(answer.headers).items()}
    refuse("Slack", answer.status_code, headers, _word(answer.body))
    if answer.body not in ("ok", '{"success":true}'):
        # A redirect to a login page answers 200 as well.
        raise TransportError("Slack answered 200, but not with ok: is the webhook URL right?")


def _client(kit: ChannelContext) -> Any:
    """The library's client, which reads answers without end: its requests go out by ours."""
    from slack_sdk.webhook import WebhookClient, WebhookResponse

    class Client(WebhookClient):  # type: ignore[misc]
        def _perform_http_request_internal(self, url: str, req: Any) -> WebhookResponse:
            headers = {"Content-Type": "application/json;charset=utf-8"}
            reply = kit.http(trust_env=True).post(url, data=req.data, headers=headers)
            text = printable(reply.body.decode("utf-8", "replace").strip(), 1000)
            return WebhookResponse(
                url=url, status_code=reply.status, body=text, headers=dict(reply.headers)
            )

    # when to try again is not decided here
    return Client(kit.text("webhook_url"), logger=_MUTE, retry_handlers=[])


def payload(messages: Sequence[Message], kit: ChannelContext) -> dict[str, Any]:
    """The webhook's JSON. `channel` and `username` are heeded by legacy webhooks only."""
    blocks: list[dict[str, Any]] = []
    spent = 0
    for message in messages:
        for block in _blocks(message):
            spent += len(str(block))
            if spent <= _BUDGET or block["type"] == "header":
                blocks.append(block)
    body: dict[str, Any] = {"text": _fallback(messages), "blocks": blocks[:50]}
    for name in ("channel", "username"):
        if kit.text(name):
            body[name] = kit.text(name)
    return body


def escape(text: str) -> str:
    """Text that Slack shows as it is: no link, mention or markup comes of it."""
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    # A zero-width space keeps *bold*, _italic_, ~strike~ and `code` from being read as such; inside
    # a word they mean nothing, and names such as health_check stay fit to be copied.
    return _MARKUP.sub("\\g<0>\u200b", text)


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    icon = "🟢" if message.over else _ICONS.get(message.severity, "⚪")
    yield {
        "type": "header",
        "text": {"type": "plain_text", "text": _cut(f"{icon} {message.title}", 150)},
    }
    text = "\n".join(f"*{label}*: {escape(said)}" for label, said in message.lines)
    if len(message.title) > 145:
        text = f"{escape(message.sentence)}\n{text}"
    if text.strip():
        yield _section(text)
    if message.members:
        yield _section("\n".join(f"• {escape(line)}" for line in message.members))
    fields = [
        _markdown(f"*{escape(name)}*\n{escape(value)}", 2000) for name, value in message.fields
    ]
    for start in range(0, len(fields), 10):
        yield {"type": "section", "fields": fields[start : start + 10]}
    if message.links:
        links = "  ·  ".join(f"<{_href(href)}|{escape(name)}>" for name, href in message.links)
        yield {"type": "context", "elements": [_markdown(links, 2000)]}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(text, 3000)}


def _markdown(text: str, limit: int) -> dict[str, Any]:
    # verbatim: else Slack itself makes links and mentions of what looks like an address or @here.
    return {"type": "mrkdwn", "text": _cut(text, limit), "verbatim": True}


def _href(href: str) -> str:
    return href.replace("&", "&amp;").replace("|", "%7C").replace(">", "%3E").replace("<", "%3C")


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters; no half of an escaped sign is left at the end."""
    return text if len(text) <= limit else _HALF.sub("", text[: limit - 1]) + "…"


def _fallback(messages: Sequence[Message]) -> str:
    """What the lock screen of a phone shows: severity, what and where, then since when."""
    return _cut(escape("\n".join(map(_short, messages))), 3000)


def _short(message: Message) -> str:
    """The title with since when; a long one has it after the clause that a lock screen shows."""
    since = dict(message.lines).get("Since")
    if not since:
        return message.title
    breaks = _CLAUSE.finditer(message.title, _LEAST) if len(message.title) > _LOCK_SCREEN else ()
    end = next((found.start() for found in breaks), len(message.title))
    return f"{message.title[:end]} (since {since}){message.title[end:]}"


def _word(body: str) -> str:
    """Slack's error word (`no_service`); nothing of anything longer."""
    word = body.strip()
    return word if word.replace("_", "").isalnum() and len(word) <= 40 else ""
