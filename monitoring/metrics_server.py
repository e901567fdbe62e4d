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
from typing import Any, Callable, Dict, NamedTuple, final
from urllib.parse import urlsplit

from monitoring.http import wire
from monitoring.model import OperatorError

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


@final
class MetricsServer:
    """Serves `answer(path, gzip_accepted)` in threads until `close`. Port 0 picks a free one."""

    def __init__(self, address: str, port: int, answer: Callable[[str, bool], Answer]) -> None:
        self._server = _listen(address, port, answer)
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


def _listen(address: str, port: int, answer: Callable[[str, bool], Answer]) -> _Server:
    handler = type("_Bound", (_Handler,), {"answer": staticmethod(answer)})
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
        self._held: Dict[Any, float] = {}  # open connections, the oldest first
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it in a thread of its own. Whoever is slow costs the place of the oldest alone."""
        with self._lock:
            if len(self._held) >= _CONNECTIONS:
                oldest = next(iter(self._held))
                del self._held[oldest]
                _hang_up(oldest)
            self._held[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:  # so that nobody hangs up on the next to get the number of this socket
            self._held.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called several times a second: hang up on those whose time is over, whatever they do."""
        with self._lock:
            late = time.monotonic() - _WHOLE
            for request in [each for each, since in self._held.items() if since < late]:
                del self._held[request]
                _hang_up(request)

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
    answer: Callable[[str, bool], Answer]
    server_version = "payment-api-monitoring"
    sys_version = ""
    timeout = _WHOLE
    wbufsize = -1  # headers and body in one segment: Nagle would hold the second back
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        whole = wire.TimedSocket(self.connection, wire.Deadline(_WHOLE), most=_MOST)
        self.rfile = whole.makefile("rb")

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        accepted = accepts_gzip(self.headers.get("Accept-Encoding", ""))
        found = self.answer(urlsplit(self.path).path, accepted)
        self.send_response(found.status)
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Vary", "Accept-Encoding")
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
