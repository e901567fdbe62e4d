"""Acquire: HTTP with a true deadline, measured phases, and nobody followed to a strange host.

The only importer of requests and urllib3. requests is kept for what it does well (URLs, headers,
forms, JSON, proxies); connecting, TLS and the clock are ours (`wire`), since its own timeout
bounds a single read and not the exchange.
"""

from __future__ import annotations

import functools
import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional
from urllib.parse import SplitResult

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from monitoring.config.settings import TlsSettings
from monitoring.http import reply as http_urls, tls, wire
from monitoring.http.reply import (
    PHASES,
    BodyError,
    HttpFault,
    Reply,
    causes,
    date_of,
    describe,
    fault,
    read_body,
    say_size,
)
from monitoring.http.tls import TlsFacts
from monitoring.text import printable, redact

# -- one HTTP exchange: its deadline, its connection, and how long each phase took.

#: Bytes of a status line and headers, and what is read ahead of the body with them.
MOST_HEAD = 128 << 10


class Exchange:
    """One request and its answer: the deadline, what was measured, the connection's TLS. `most`:
    bytes that may come until `body`."""

    def __init__(
        self, deadline: wire.Deadline, context: Optional[ssl.SSLContext], most: int = MOST_HEAD
    ) -> None:
        self.deadline = deadline
        self.most = most
        self.context = context
        self.spent: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.socket: Optional[wire.TimedSocket] = None
        self.tls: Optional[TlsFacts] = None

    def open(self, host: str, port: int) -> Any:
        """A connected socket; raises WireFault."""
        opened = wire.open_socket(host.strip("[]"), port, self.deadline)
        self.spent["dns"] += opened.dns
        self.spent["connect"] += opened.connect
        return opened.sock

    def secure(self, sock: Any, host: str) -> Any:
        """TLS over `sock`; raises WireFault."""
        if self.context is None:
            raise wire.WireFault("internal", "no TLS context for an https URL")
        began = time.perf_counter()
        secured = wire.secure(sock, self.context, host.strip("[]"), self.deadline)
        self.spent["tls"] += time.perf_counter() - began
        self.tls = tls.facts(secured)
        return secured

    def hold(self, sock: Any) -> wire.TimedSocket:
        """`sock` under the deadline, remembered for `phases`."""
        self.socket = wire.TimedSocket(sock, self.deadline, most=self.most)
        return self.socket

    def body(self, limit: int) -> None:
        """The head has come. `read_body` counts the rest, but sees nothing of a chunk before it is
        whole, and Python's parser reads one of the size -1 to the end of the connection; framing
        may double what comes."""
        if self.socket is not None:
            self.socket.allow(2 * limit + MOST_HEAD)

    def phases(self) -> dict[str, float]:
        """Seconds of each phase so far."""
        sock, spent = self.socket, dict(self.spent)
        if sock and sock.sent_at is not None and sock.first_at is not None:
            spent["first_byte"] = sock.first_at - sock.sent_at
            spent["transfer"] = (sock.last_at or sock.first_at) - sock.first_at
        return spent


__all__ = ["HttpClient", "HttpFault", "Reply", "TlsFacts"]

MAX_REDIRECTS = 3
LONGEST = 8192  # characters of a header's value
_WRONG_ASK = (  # what we were told to ask cannot be asked: nothing was sent
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidJSONError,
)
_TIMEOUTS = (socket.timeout, requests.Timeout, urllib3.exceptions.TimeoutError)
_log = logging.getLogger("monitoring.http.client")
logging.getLogger("urllib3").setLevel(logging.WARNING)  # below, it logs whole paths
_BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    OverflowError,  # of a chunk that claims to be larger than any memory
)


class _Plain(HTTPConnection):
    """urllib3's connection over a socket of ours."""

    exchange: Exchange

    def _new_conn(self) -> Any:
        return self.exchange.open(self.host, int(self.port))

    def connect(self) -> None:
        super().connect()
        self.sock: Any = self.exchange.hold(self.sock)


class _Secure(HTTPSConnection):
    """The same with TLS by our own context: urllib3 would load requests' CA bundle into it."""

    exchange: Exchange

    def _new_conn(self) -> Any:
        return self.exchange.open(self.host, int(self.port))

    def connect(self) -> None:
        self.sock: Any = self._new_conn()
        host = self.host
        tunnel: Optional[str] = getattr(self, "_tunnel_host", None)
        if tunnel:
            self._tunnel()  # type: ignore[attr-defined]
            host = tunnel
        self.sock = self.exchange.hold(self.exchange.secure(self.sock, host))
        self.is_verified = True  # what was verified is the context's affair; no warning per request


def _connection(kind: Any, exchange: Exchange, *args: Any, **options: Any) -> Any:
    connection = kind(*args, **options)
    connection.exchange = exchange
    return connection


class _Adapter(HTTPAdapter):
    """requests' transport for a single exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def _pool(self, kind: Any, connection: Any, *args: Any, **options: Any) -> Any:
        pool = kind(*args, **options)
        pool.ConnectionCls = functools.partial(_connection, connection, self.exchange)
        return pool

    def _ours(self, manager: Any) -> Any:
        manager.pool_classes_by_scheme = {
            "http": functools.partial(self._pool, HTTPConnectionPool, _Plain),
            "https": functools.partial(self._pool, HTTPSConnectionPool, _Secure),
        }
        return manager

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)  # type: ignore[no-untyped-call]
        self._ours(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        return self._ours(super().proxy_manager_for(*args, **options))  # type: ignore[no-untyped-call]

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Nothing: see _Secure."""


class HttpClient:
    """One way of asking: TLS settings, a default timeout, a User-Agent. Safe to share by threads.

    `secret_paths`: a log shows the host of a URL alone.

    Every request has a connection of its own (a kept one would hide connect and TLS time) and is
    tried once. `timeout` is the deadline of the whole exchange, redirects included, in seconds."""

    def __init__(
        self,
        *,
        tls: TlsSettings,
        timeout: float,
        user_agent: str,
        max_bytes: int = 1 << 20,
        trust_env: bool = False,
        secret_paths: bool = False,
    ) -> None:
        self._tls = tls
        self._timeout = timeout
        self._agent = user_agent
        self._max_bytes = max_bytes
        self._trust_env = trust_env
        self._secret_paths = secret_paths
        self._context: Optional[ssl.SSLContext] = None
        self._lock = threading.Lock()

    def get(
        self,
        url: str,
        *,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        max_bytes: Optional[int] = None,
    ) -> Reply:
        """GET `url`; redirects within its origin are followed, three at most. Any status is a
        Reply; raises HttpFault when there is no answer to read."""
        return self._ask("GET", url, headers=headers, timeout=timeout, max_bytes=max_bytes)

    def post(
        self,
        url: str,
        *,
        json: Any = None,
        data: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
    ) -> Reply:
        """POST `json`, or `data` (bytes, text, or a mapping for a form). As `get`, but only 307
        and 308 are followed: any other redirect would turn it into a GET."""
        body = {"json": json, "data": data.encode() if isinstance(data, str) else data}
        return self._ask("POST", url, headers=headers, timeout=timeout, body=body)

    def adapter(self, url: str) -> HTTPAdapter:
        """The transport of one exchange with `url` for a requests.Session of somebody else, within
        the timeout and `max_bytes`. Beside the errors of requests it raises WireFault."""
        context = self._secured(http_urls.parse(url))
        return _Adapter(Exchange(wire.Deadline(self._timeout), context, self._max_bytes))

    def close(self) -> None:
        """Nothing is kept open; here so that every client closes the same way."""

    def _ask(self, method: str, url: str, **how: Any) -> Reply:
        deadline = wire.Deadline(how.get("timeout") or self._timeout)
        try:
            reply = self._followed(method, url, deadline, how)
        except HttpFault as error:
            _log.debug("%s %s failed: %s", method, self._shown(url), error)
            raise
        _log.debug("%s %s: %s", method, self._shown(url), describe(reply))
        return reply

    def _shown(self, url: str) -> str:
        """`url` for a log: whole URLs that are secrets are known, what a query holds is not."""
        shown = redact(url).partition("?")[0]
        return "/".join(shown.split("/", 3)[:3]) if self._secret_paths else shown

    def _followed(self, method: str, url: str, deadline: wire.Deadline, how: Any) -> Reply:
        spent: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        for hop in range(MAX_REDIRECTS + 1):
            reply = self._once(method, url, deadline, how)
            for name, seconds in reply.phases.items():
                spent[name] += seconds
            location = reply.headers.get("location")
            if reply.status not in (301, 302, 303, 307, 308) or location is None:
                return replace(reply, phases=spent, seconds=sum(spent.values()), redirects=hop)
            url = http_urls.follow(method, url, location, reply)
        raise fault("redirect", f"{reply.url} redirects more than {MAX_REDIRECTS} times", reply)

    def _once(self, method: str, url: str, deadline: wire.Deadline, how: Any) -> Reply:
        try:
            parts = http_urls.parse(url)
            exchange = Exchange(deadline, self._secured(parts))
        except ValueError as error:
            raise fault("config", str(error)) from None
        limit = how.get("max_bytes") or self._max_bytes
        try:
            with (
                self._session(exchange) as session,
                self._send(session, method, url, how) as answer,
            ):
                return _read(answer, exchange, parts, limit)
        except wire.WireFault as error:
            if error.fault.kind == "too_large":
                said = f"{http_urls.origin(parts)} answered a head of {error.fault.message}"
                raise fault("too_large", said) from None
            raise HttpFault(error.fault) from None
        except _BROKEN as error:  # from None: library texts hold URLs and header values
            raise _translated(error, parts, exchange) from None

    def _session(self, exchange: Exchange) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # never .netrc; proxies by hand, below
        session.headers.clear()
        for prefix in ("http://", "https://"):
            session.mount(prefix, _Adapter(exchange))
        return session

    def _send(
        self, session: requests.Session, method: str, url: str, how: Any
    ) -> requests.Response:
        own = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        proxies = requests.utils.get_environ_proxies(url) if self._trust_env else {}
        return session.request(
            method,
            url,
            headers={**own, "Connection": "close", **(how.get("headers") or {})},
            allow_redirects=False,
            stream=True,
            proxies=proxies,
            **(how.get("body") or {}),
        )

    def _secured(self, parts: SplitResult) -> Optional[ssl.SSLContext]:
        """The TLS context, made once: reading a CA bundle costs more than a handshake."""
        if parts.scheme != "https":
            return None
        with self._lock:
            if self._context is None:
                self._context = tls.context(self._tls, bundle=certifi.where())
            return self._context


def _read(answer: requests.Response, exchange: Exchange, parts: SplitResult, limit: int) -> Reply:
    """The Reply of `answer`, its body read; raises HttpFault holding the Reply without a body."""
    headers = {name.lower(): printable(value, LONGEST) for name, value in answer.headers.items()}
    exchange.body(limit)
    url = http_urls.origin(parts)
    bare = Reply(answer.status_code, headers, b"", 0.0, {}, url, exchange.tls, date_of(headers))
    try:
        body = read_body(lambda n: answer.raw.read(n, decode_content=False), headers, limit)
    except BodyError as error:
        raise fault(error.kind, f"{url} answered {error}", bare) from None
    except wire.WireFault as error:
        if error.fault.kind != "too_large":
            raise
        raise fault("too_large", f"{url} answered more than {say_size(limit)}", bare) from None
    except _BROKEN as error:
        if _timed_out(error):
            text = f"{url} began to answer but did not end within {exchange.deadline.seconds:g} s"
            raise fault("timeout", text, bare) from None
        raise fault("body", f"{url} broke off in the middle of its answer", bare) from None
    phases = exchange.phases()
    return replace(bare, body=body, phases=phases, seconds=sum(phases.values()))


def _timed_out(error: BaseException) -> bool:
    return any(isinstance(cause, _TIMEOUTS) for cause in causes(error))


def _translated(error: Exception, parts: SplitResult, exchange: Exchange) -> HttpFault:
    """The HttpFault for an exchange that ended before the headers were read."""
    where = wire.place(parts.hostname or "", http_urls.port_of(parts))
    sent = exchange.socket is not None and exchange.socket.sent_at is not None
    if isinstance(error, _WRONG_ASK) or (isinstance(error, ValueError) and not sent):
        return fault("config", f"the request to {where} has an unusable URL, header or body")
    if _timed_out(error):
        return fault("timeout", f"no answer from {where} within {exchange.deadline.seconds:g} s")
    nested = list(causes(error))
    if any(isinstance(c, (http.client.RemoteDisconnected, ConnectionError)) for c in nested):
        return fault("protocol", f"{where} closed the connection without an answer")
    return fault("protocol", f"{where} does not answer in proper HTTP")
