"""Present: the small HTTP server behind `--prometheus-port`.

It knows nothing of metrics: it hands out answers that are ready.
"""

from __future__ import annotations

import contextlib
import logging
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from typing import Any, Callable, Dict, NamedTuple, Tuple, final
from urllib.parse import urlsplit

from monitoring.http import wire
from monitoring.model import OperatorError
from monitoring.web_config import NO_RULES, RulesOf, admits

#: All interfaces, as `prometheus_client.start_http_server` of the brief does: the scraper is
#: rarely on this machine, and the page holds nothing secret.
DEFAULT_ADDRESS = "0.0.0.0"  # noqa: S104
_CONNECTIONS = 64  # held at a time; a scraper needs one. The oldest gives way to a new one
_WHOLE = 10.0  # seconds from accepting a connection to the end of what is said on it
_MOST = 32 << 10  # bytes of a request

_log = logging.getLogger("monitoring.metrics_server")


class ServeError(OperatorError):
    """The server cannot listen; one sentence: where, why, and the cure."""


class Answer(NamedTuple):
    """What goes out for a path."""

    status: int
    content_type: str
    body: bytes
    gzipped: bool = False
    headers: Tuple[Tuple[str, str], ...] = ()


Asked = Callable[[str, Any], Answer]


@final
class MetricsServer:
    """Serves `answer(path, headers)` in threads until `close`; `headers` are the request's, which
    have `get(name, default)`. Port 0 picks a free one. `rules` says what a connection needs."""

    def __init__(
        self, address: str, port: int, answer: Asked, rules: RulesOf = lambda: NO_RULES
    ) -> None:
        self._server = _listen(address, port, answer, rules)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="metrics-server",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; returns within a second whatever clients do. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _listen(address: str, port: int, answer: Asked, rules: RulesOf) -> _Server:
    parts = {"answer": staticmethod(answer), "rules": staticmethod(rules)}
    handler = type("_Bound", (_Handler,), parts)
    server = _Server6 if ":" in address else _Server
    try:
        return server((address, port), handler)
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise ServeError(
            f"cannot serve metrics on {address}:{port} ({why}); "
            "choose another --prometheus-port or --prometheus-address"
        ) from exc


class _Server(socketserver.ThreadingTCPServer):
    address_family = AF_INET
    allow_reuse_address = True
    daemon_threads = True  # so that nobody waits for a client that reads slowly
    request_queue_size = 1024

    def __init__(self, *args: Any) -> None:
        # open connections, the oldest first: since when, and what to hang up on (of TLS another)
        self._held: Dict[Any, Tuple[float, Any]] = {}
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it in a thread of its own. Whoever is slow costs the place of the oldest alone."""
        with self._lock:
            if len(self._held) >= _CONNECTIONS:
                _hang_up(self._held.pop(next(iter(self._held)))[1])
            self._held[request] = time.monotonic(), request
        super().process_request(request, client_address)

    def renew(self, request: Any, spoken: Any) -> None:
        """Another request begins on a kept connection: its time starts anew. `spoken`: the socket
        that is spoken through, of TLS another than `request`."""
        with self._lock:
            if self._held.pop(request, None) is not None:
                self._held[request] = time.monotonic(), spoken

    def shutdown_request(self, request: Any) -> None:
        with self._lock:  # so that nobody hangs up on the next to get the number of this socket
            self._held.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called several times a second: hang up on those whose time is over, whatever they do."""
        with self._lock:
            late = time.monotonic() - _WHOLE
            for request in [each for each, (since, _) in self._held.items() if since < late]:
                _hang_up(self._held.pop(request)[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client went away in the middle; socketserver would print a traceback."""
        _log.debug("a scrape from %s broke off", client_address, exc_info=True)


def _hang_up(request: socket) -> None:
    """End every read and write on it; its thread closes it."""
    with contextlib.suppress(OSError):
        request.shutdown(SHUT_RDWR)


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    answer: Asked
    rules: RulesOf
    protocol_version = "HTTP/1.1"  # scrapers keep the connection
    server_version = "payment-api-monitoring"
    sys_version = ""
    timeout = _WHOLE
    wbufsize = -1  # headers and body in one segment: Nagle would hold the second back
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self._given, self._needs = self.request, self.rules()
        if self._needs.tls is not None:  # here, in the connection's own thread
            self.request = self._needs.tls.wrap_socket(
                self._given, server_side=True, do_handshake_on_connect=False
            )
            self.request.settimeout(_WHOLE)
            self._begin()
            with contextlib.ExitStack() as failed:
                failed.callback(self.request.close)
                self.request.do_handshake()
                failed.pop_all()
        super().setup()
        self._time = wire.Deadline(_WHOLE)
        self._whole = wire.TimedSocket(self.connection, self._time, renewing=True, most=_MOST)
        self.rfile = self._whole.makefile("rb")

    def handle_one_request(self) -> None:
        self._time.renew()
        self._whole.restart()
        self._begin()
        super().handle_one_request()

    def _begin(self) -> None:
        if isinstance(self.server, _Server):
            self.server.renew(self._given, self.request)

    def finish(self) -> None:
        super().finish()
        if self._needs.tls is not None:
            self.request.close()  # its own; the server closes the one it gave

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        if admits(self._needs.users, self.headers.get("Authorization", "")):
            found = self.answer(urlsplit(self.path).path, self.headers)
        else:
            found = Answer(401, "text/plain; charset=utf-8", b"A user and a password are needed\n")
        self.send_response(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        if found.status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="metrics", charset="UTF-8"')
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Vary", "Accept, Accept-Encoding")
        if found.gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Scrapes are no news, and stderr carries JSON lines alone."""
        _log.debug(format, *args)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110 section 12.5.3)."""
    weights = {}
    for part in header.lower().split(","):
        coding, _, params = part.partition(";")
        weights[coding.strip()] = params.replace(" ", "")
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not (weight.startswith("q=0") and not weight[3:].strip(".0"))
