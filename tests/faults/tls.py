"""Rows: certificates and protocols that must not be trusted."""

from __future__ import annotations

import contextlib
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from sandbox.tls_proxy import TlsProxy
from tests.faults.cache import all_scripts, health_only
from tests.faults.ground import Ground
from tests.faults.row import CACHE, EAPI, Make, Row
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
    if kind == "itself":
        return _self_signed(ours, folder)
    if kind == "host":
        return server_context(ours.issue("server", "elsewhere.example"))
    return server_context(ours.issue("server", days=-1 if kind == "expired" else 90))


def _self_signed(authority: Any, folder: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for but itself, and that we were never told of."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from sandbox.tls import Authority, server_context

    lonely = folder / "lonely"
    lonely.mkdir()
    made = Authority(lonely, "payment-eapi")
    key = made._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (lonely / "self.pem").write_bytes(key + made.certificate.public_bytes(Encoding.PEM))
    return server_context(lonely / "self.pem")


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


def cache(kind: str) -> Make:
    """Redis behind TLS with such a certificate."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        ground.setting("TIMEOUTS", {CACHE: "1s", "redis-scan": "1s"})
        with TlsProxy(ground.stack.redis_port, _issue(ground, kind)) as proxy:
            ground.env.update(REDIS_SSL="true", REDIS_PORT=str(proxy.port))
            ground.env["REDIS_CA_FILE"] = ground.env["MONITORING_CA_FILE"]
            yield

    return make


@contextlib.contextmanager
def plain_cache(ground: Ground) -> Iterator[None]:
    """REDIS_SSL is on, the server speaks no TLS."""
    ground.setting("TIMEOUTS", {CACHE: "1s", "redis-scan": "1s"})
    ground.env["REDIS_SSL"] = "true"
    yield


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


_ROWS = (
    Row("TLS: expired", secured(lambda g: _issue(g, "expired")), at(EAPI, "tls")),
    Row("TLS: signed by a stranger", secured(lambda g: _issue(g, "stranger")), at(EAPI, "tls")),
    Row("TLS: self-signed", secured(lambda g: _issue(g, "itself")), at(EAPI, "tls")),
    Row("TLS: for another host", secured(lambda g: _issue(g, "host")), at(EAPI, "tls")),
    Row("TLS: 1.1 at most", secured(_old), at(EAPI, "tls")),
    Row("TLS: plain HTTP on the port", plain_text, at(EAPI, "tls")),
    Row("TLS: handshake hangs", silent_handshake, at(EAPI, "timeout")),
    Row("TLS: redis expired", cache("expired"), all_scripts("tls", 2)),
    Row("TLS: redis signed by a stranger", cache("stranger"), all_scripts("tls", 2)),
    Row("TLS: redis for another host", cache("host"), all_scripts("tls", 2)),
    Row("TLS: redis speaks none", plain_cache, health_only("tls|connect|timeout", 2)),
    Row("TLS: nobody listens", named(EAPI, "https://127.0.0.1:1"), at(EAPI, "refused")),
)
ROWS = tuple(replace(row, group="tls") for row in _ROWS)
