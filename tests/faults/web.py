"""Rows: what an HTTP service, or the way to it, can do wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Callable

from tests.faults.ground import Ground, Run
from tests.faults.row import EAPI, LOGIN, SAPI, VAULT, Make, Row, health
from tests.faults.servers import (
    RawServer,
    answers,
    blackhole,
    bomb,
    gigabyte,
    http,
    politely,
    resetting,
    spread,
)

SETTING = {EAPI: "EAPI_ENDPOINT", SAPI: "SAPI_ENDPOINT", VAULT: "CONJUR_URL"}
HTML = http(b"<html><title>Welcome</title></html>", Content_Type="text/html")
DEEP = http(b"[" * 200_000, Content_Type="application/json")


def hurried(ground: Ground, component: str) -> None:
    """A second for the component that will hang; the others keep their time."""
    ground.setting("TIMEOUTS", {component: "1s"})


def pointing(component: str, server: Callable[[], AbstractContextManager[Any]]) -> Make:
    """The component's endpoint is `server` (which gives a port, or has a url)."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        hurried(ground, component)
        with server() as made:
            url = made.url if isinstance(made, RawServer) else f"http://127.0.0.1:{made}"
            ground.env[SETTING[component]] = url
            yield

    return make


def raw(component: str, say: Any) -> Make:
    return pointing(component, lambda: RawServer(politely(say) if isinstance(say, bytes) else say))


def named(component: str, url: str, **launch: float) -> Make:
    """The component's endpoint is `url`."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        hurried(ground, component)
        ground.env[SETTING[component]] = url
        ground.launch.update(launch)
        yield

    return make


def switched(fault: str, component: str = "", value: str = "") -> Make:
    """A fault of the sandbox is on."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        if component:
            hurried(ground, component)
        ground.stack.faults.set(fault, value)
        yield

    return make


@contextlib.contextmanager
def silence(component: str, ground: Ground) -> Iterator[None]:
    server = RawServer(lambda wire, request: server.hold())
    with server:
        hurried(ground, component)
        ground.env[SETTING[component]] = server.url
        yield


@contextlib.contextmanager
def elsewhere(ground: Ground) -> Iterator[None]:
    """EAPI sends everybody to another host, which must never hear of us."""
    with RawServer(answers(http())) as stranger:
        target = f"http://localhost:{stranger.port}/login"
        with RawServer(politely(http(b"", "302 Found", Location=target))) as server:
            ground.env["EAPI_ENDPOINT"] = server.url
            yield
        assert stranger.requests == [], "the redirect was followed to another host"


def at(component: str, kinds: str, *, status: int = 2) -> Any:
    free = (LOGIN,) if component in (EAPI, SAPI) else ()
    return health({component: kinds}, status, free)


def _everywhere() -> list[Row]:
    """The ways that every HTTP component can fail in."""
    rows = []
    for name in SETTING:
        # what answers strangely is not known to be down; but nobody can log in at such an EAPI
        odd = 2 if name == EAPI else 1
        gone = f"http://{name}.invalid:8080"
        rows += [
            Row(f"{name} refuses", named(name, "http://127.0.0.1:1"), at(name, "refused")),
            Row(f"{name} is unreachable", pointing(name, blackhole), at(name, "timeout|connect")),
            Row(f"{name} has no name in DNS", named(name, gone, dns=0.0), at(name, "dns")),
            Row(f"{name}: DNS hangs", named(name, gone, dns=30.0), at(name, "dns|timeout")),
            Row(
                f"{name} accepts and is silent",
                lambda ground, name=name: silence(name, ground),
                at(name, "timeout"),
            ),
            Row(
                f"{name} resets mid-body", raw(name, resetting), at(name, "body|connect", status=1)
            ),
            Row(f"{name} speaks no HTTP", raw(name, b"SSH-2.0-x\r\n"), at(name, "protocol")),
            Row(f"{name} serves a web page", raw(name, HTML), at(name, "body", status=odd)),
            Row(f"{name}: JSON 200,000 deep", raw(name, DEEP), at(name, "body", status=odd)),
        ]
    return rows


def _at_eapi() -> list[Row]:
    """Ways that are tried on one component: the client is the same for all."""
    drip = http(b'{"status": "UP"}' + b" " * 1000)
    return [
        Row(f"{EAPI} {what}", raw(EAPI, say), at(EAPI, kinds, status=status))
        for what, say, kinds, status in (
            ("drips its body", spread(drip), "timeout", 2),
            ("drips its head", spread(drip[:40]), "timeout", 2),
            ("sends 1 GB", gigabyte, "too_large", 1),
            ("sends a gzip bomb", bomb(), "too_large", 1),
            ("sends broken gzip", http(b"\x1f\x8b junk", Content_Encoding="gzip"), "body", 1),
            ("sends half a JSON", http(b'{"status": "U'), "body", 2),
            ("sends bytes that are no text", http(b"\xff\xfe{}\x00"), "body", 2),
            ("closes without an answer", b"", "connect|protocol|body", 2),
            (
                "sends an endless head",
                b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
                "protocol|too_large",
                2,
            ),
            ("answers 404", http(b"{}", "404 Not Found"), "http", 1),
            ("answers 401", http(b"{}", "401 Unauthorized"), "auth", 2),
            ("answers 429", http(b"{}", "429 Too Many Requests", Retry_After="9999"), "http", 1),
            ("answers 502 with a page", http(b"<html>", "502 Bad Gateway"), "http", 2),
        )
    ]


def _message_names_host(_ground: Ground, run: Run) -> None:
    assert "another host" in run.rows()[EAPI]["message"], run.rows()[EAPI]


ROWS = (
    *_everywhere(),
    *_at_eapi(),
    Row(
        f"{EAPI} redirects to itself",
        switched("eapi-redirect-loop"),
        at(EAPI, "redirect", status=1),
    ),
    Row(
        f"{EAPI} redirects to another host",
        elsewhere,
        at(EAPI, "redirect", status=1),
        _message_names_host,
    ),
    Row(f"{EAPI} answers 500", switched("eapi-500"), at(EAPI, "http")),
    Row(f"{SAPI} answers 500", switched("sapi-500"), health({SAPI: "http"}, 2, (LOGIN, EAPI))),
    Row(f"{EAPI} body never ends", switched("eapi-huge", EAPI), at(EAPI, "too_large", status=1)),
)
