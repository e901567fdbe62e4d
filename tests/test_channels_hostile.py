"""Receivers that answer without end, or with a page for people: no channel reads more than a bound,
none calls it delivered, and none holds the send for longer than its time."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from monitoring.channels import CHANNELS
from monitoring.channels.base import ChannelContext, TransportError
from monitoring.config.secret import Secret
from tests.alerting_kit import notice
from tests.raw_server import RawServer, Say, answers, http

BLOCK = b"x" * 65536
#: More than any channel may read, less than would take a machine down with it.
MOST = 256 << 20


def flood(head: bytes, block: bytes) -> Say:
    """`head`, then `block` again and again."""

    def say(wire: socket.socket, _request: bytes) -> None:
        wire.sendall(head)
        for _ in range(MOST // len(block)):
            wire.sendall(block)

    return say


ENDLESS_HTTP = {
    "body": flood(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", BLOCK),
    "chunks": flood(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + BLOCK + b"\r\n"
    ),
    "a chunk of the size -1": flood(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", BLOCK
    ),
    "an error's body": flood(b"HTTP/1.1 500 No\r\n\r\n", BLOCK),
    "headers": flood(b"HTTP/1.1 200 OK\r\n", b"Set-Cookie: a=b; " + b"c" * 4000 + b"\r\n"),
    "a header": flood(b"HTTP/1.1 200 OK\r\nX: ", BLOCK),
    "a status line": flood(b"HTTP/1.1 200 ", BLOCK),
    "continues": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
}
ENDLESS_SMTP = {
    "greeting": flood(b"", b"220-hello\r\n" * 4000),
    "a line": flood(b"220 ", BLOCK),
    "reply to EHLO": flood(b"220 x\r\n", b"250-SIZE\r\n" * 4000),
}


def config(channel: str, url: str, port: int) -> dict[str, Any]:
    return {
        "slack": {"webhook_url": Secret(f"{url}/services/T/B/x")},
        "pagerduty": {"service_key": Secret("k" * 32), "url": url},
        "webhook": {"url": url},
        "alertmanager": {"url": url},
        "email": {
            "recipients": ("a@b.example",),
            "sender": "m@b.example",
            "smtp_server": "127.0.0.1",
            "smtp_port": port,
        },
    }[channel]


def failed(channel: str, say: Say, *, deaf: bool = False, timeout: float = 20.0) -> TransportError:
    with RawServer(say, deaf=deaf) as server:
        kit = ChannelContext(config(channel, server.url, server.port), timeout=timeout)
        with pytest.raises(TransportError) as error:
            CHANNELS[channel].send([notice()], kit)
    return error.value


@pytest.mark.parametrize("what", ENDLESS_HTTP)
@pytest.mark.parametrize("channel", ["slack", "pagerduty", "webhook", "alertmanager"])
def test_an_answer_without_end_is_cut_off(channel: str, what: str) -> None:
    said = str(failed(channel, ENDLESS_HTTP[what]))
    words = ["more than", "500", "of HTTP", "in proper HTTP"]
    if "the size -1" in what:  # urllib3 1.26 refuses it, later ones read on
        words.append("broke off")
    assert any(word in said for word in words), said
    assert len(said) < 300


@pytest.mark.parametrize("what", ENDLESS_SMTP)
def test_a_mail_server_without_end_is_cut_off(what: str) -> None:
    said = str(failed("email", ENDLESS_SMTP[what], deaf=True))
    assert said.startswith("the mail server"), said
    assert "Error" not in said


def test_a_mail_server_that_drips_costs_the_time_of_a_send() -> None:
    def say(wire: socket.socket, _request: bytes) -> None:
        server.drip(wire, b"220-hello\r\n", 0.05)

    with RawServer(say, deaf=True) as server:
        kit = ChannelContext(config("email", "", server.port), timeout=0.5)
        with pytest.raises(TransportError, match="no answer in time"):
            CHANNELS["email"].send([notice()], kit)


PAGES = [
    b"<!DOCTYPE html><html><form>Sign in</form></html>",
    b"\n\n  <html lang=en><head>",
    b"<!-- proxy --><HTML>",
    b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x">',
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("channel", ["webhook", "alertmanager", "slack", "pagerduty"])
def test_a_login_page_is_no_delivery(channel: str, page: bytes) -> None:
    error = failed(channel, answers(http(page, Content_Type="text/html")))
    assert not error.permanent, "the proxy may let us through again"


@pytest.mark.parametrize("body", [b"", b"ok", b"{}", b"<ok/>", b"<3"])
def test_what_is_no_page_is_a_delivery(body: bytes) -> None:
    with RawServer(answers(http(body, Content_Type="text/html"))) as server:
        kit = ChannelContext(config("webhook", server.url, server.port), timeout=5.0)
        CHANNELS["webhook"].send([notice()], kit)


def test_a_redirect_carries_no_key_elsewhere() -> None:
    """requests would follow a 307 with the body, and with the routing key in it."""
    with RawServer(answers(http(b"{}"))) as thief:
        moved = http(b"", "307 Temporary Redirect", Location=f"{thief.url}/v2/enqueue")
        failed("pagerduty", answers(moved))
        assert thief.requests == []
