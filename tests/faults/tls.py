"""Rows: certificates and protocols that must not be trusted."""

from __future__ import annotations

import contextlib
import ssl
import warnings
from dataclasses import replace
from typing import Callable, Iterator

from tests.faults.ground import Ground
from tests.faults.row import EAPI, Make, Row
from tests.faults.servers import RawServer, answers, http
from tests.faults.web import at, hurried, named


def _issue(ground: Ground, kind: str) -> ssl.SSLContext:
    from sandbox.tls import Authority, server_context

    folder = ground.folder / "tls"
    folder.mkdir()
    ours = Authority(folder)
    ground.env["MONITORING_CA_FILE"] = str(ours.ca_file)
    if kind == "stranger":
        other = ground.folder / "other"
        other.mkdir()
        return server_context(Authority(other, "Another CA").issue("server"))
    if kind == "host":
        return server_context(ours.issue("server", "elsewhere.example"))
    return server_context(ours.issue("server", days=-1 if kind == "expired" else 90))


def _old(ground: Ground) -> ssl.SSLContext:
    context = _issue(ground, "good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def secured(context_of: Callable[[Ground], ssl.SSLContext]) -> Make:
    """EAPI speaks TLS with this context."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        body = http(b'{"service":"Payment-EAPI","status":"UP"}')
        with RawServer(answers(body), context=context_of(ground)) as server:
            ground.env["EAPI_ENDPOINT"] = server.url
            yield
            assert server.requests == [], "something was sent over a connection nobody vouches for"

    return make


@contextlib.contextmanager
def plain_text(ground: Ground) -> Iterator[None]:
    """https:// in the settings, http on the wire."""
    hurried(ground, EAPI)
    with RawServer(answers(http(b"", "400 Bad Request")), deaf=True) as server:
        ground.env["EAPI_ENDPOINT"] = f"https://127.0.0.1:{server.port}"
        yield


@contextlib.contextmanager
def silent_handshake(ground: Ground) -> Iterator[None]:
    hurried(ground, EAPI)
    server = RawServer(lambda wire, request: server.hold(), deaf=True)
    with server:
        ground.env["EAPI_ENDPOINT"] = f"https://127.0.0.1:{server.port}"
        yield


@contextlib.contextmanager
def no_ca(ground: Ground) -> Iterator[None]:
    ground.env["MONITORING_CA_FILE"] = "/dev/null"
    ground.env["EAPI_ENDPOINT"] = "https://127.0.0.1:1"
    yield


_ROWS = (
    Row("TLS: expired", secured(lambda g: _issue(g, "expired")), at(EAPI, "tls")),
    Row("TLS: signed by a stranger", secured(lambda g: _issue(g, "stranger")), at(EAPI, "tls")),
    Row("TLS: for another host", secured(lambda g: _issue(g, "host")), at(EAPI, "tls")),
    Row("TLS: 1.1 at most", secured(_old), at(EAPI, "tls")),
    Row("TLS: plain HTTP on the port", plain_text, at(EAPI, "tls")),
    Row("TLS: handshake hangs", silent_handshake, at(EAPI, "timeout")),
    Row("TLS: nobody listens", named(EAPI, "https://127.0.0.1:1"), at(EAPI, "refused")),
)
ROWS = tuple(replace(row, group="tls") for row in _ROWS)
