"""Web: a threaded HTTP server on the standard library, with hooks for faults."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, Optional
from urllib.parse import parse_qsl, unquote

from sandbox.faults import FaultBoard
from sandbox.web_faults import ANSWERS, WIRES

MAX_BODY = 16 * 1024 * 1024
Clock = Callable[[], float]


@dataclass(frozen=True)
class Request:
    """What a client asked. `params` are the placeholders of the route, decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    params: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Answer:
    """What we say to it."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """`value` as a JSON answer."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, body, headers=headers)


def text_answer(text: str, status: int = 200, content_type: str = "text/plain") -> Answer:
    """`text` as a UTF-8 answer."""
    return Answer(status, text.encode(), f"{content_type};charset=utf-8")


class Route:
    """`GET /a/{name}` to a handler; `{*name}` takes slashes too."""

    def __init__(self, line: str, handler: Callable[[Request], Answer]) -> None:
        self.method, self.uri = line.split(" ", 1)
        self.handler = handler
        pattern = re.sub(r"\{\*(\w+)\}", r"(?P<\1>.+)", self.uri)
        self._pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern))

    def match(self, method: str, path: str) -> Optional[dict[str, str]]:
        """The decoded placeholders, or None when the route is another's."""
        found = self._pattern.fullmatch(path) if method == self.method else None
        return {k: unquote(v) for k, v in found.groupdict().items()} if found else None


class Connection(BaseHTTPRequestHandler):
    """One client connection, kept alive as HTTP/1.1 does."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write
    disable_nagle_algorithm = True
    timeout = 60
    server: WebServer  # type: ignore[assignment]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the console belongs to whoever runs the sandbox."""

    def date_time_string(self, timestamp: Optional[float] = None) -> str:
        """The Date header, by the clock that the server lives in."""
        return super().date_time_string(self.server.now() if timestamp is None else timestamp)

    def read_request(self) -> Request:
        """The request whose head has just been read."""
        length = min(int(self.headers.get("Content-Length") or 0), MAX_BODY)
        # self.path has lost one of two slashes in front
        path, _, asked = self.requestline.split()[1].partition("#")[0].partition("?")
        query = dict(parse_qsl(asked, keep_blank_values=True))
        body = self.rfile.read(length) if length else b""
        return Request(self.command, path, query, dict(self.headers.items()), body)

    def send(self, answer: Answer) -> None:
        """Write `answer`."""
        if self.server.says_date:
            self.send_response(answer.status)
        else:
            self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name.replace("_", "-"), value)
        if answer.body or answer.status not in (204, 304):
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _serve(self) -> None:
        self.server.serve(self)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve  # noqa: N815


class WebServer:
    """Base of every HTTP server here. `name` is the prefix of the faults that apply to it."""

    name = "web"
    says_date = True  # Date and Server headers, as most servers send them

    def __init__(
        self,
        *,
        now: Clock = time.time,
        faults: Optional[FaultBoard] = None,
        tls: Optional[Callable[[], ssl.SSLContext]] = None,
        port: int = 0,
        prefix: str = "",
    ) -> None:
        self.now = now
        self.faults = faults or FaultBoard()
        self.port = port
        self.prefix = prefix
        self.stopping = threading.Event()
        self.recorded: deque[tuple[Request, int]] = deque(maxlen=2000)
        self._tls = tls
        self._routes = self.routes()
        self._listener: Optional[socket.socket] = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.faults.listen(f"{self.name}-down", self._on_down)

    def routes(self) -> list[Route]:
        """The routes this server answers; subclasses say."""
        return []

    def observe(self, uri: str, request: Request, status: int, *, seconds: float) -> None:
        """Called after each answer, for metrics; `uri` is the route's template."""

    @property
    def url(self) -> str:
        """Where it listens, context path included."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{self.prefix}"

    def start(self) -> WebServer:
        """Listen and serve in the background; returns itself."""
        self._listen()
        return self

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                wire, peer = listener.accept()
            except OSError:
                return
            if self._listener is not listener:
                wire.close()
                return
            threading.Thread(target=self._converse, args=(wire, peer), daemon=True).start()

    def _converse(self, wire: socket.socket, peer: object) -> None:
        with self._lock:
            self._connections.add(wire)
        talk: Optional[socket.socket] = None
        # A client that leaves early, or dislikes our certificate, is its own business.
        with contextlib.suppress(OSError, ValueError):
            talk = self._wrap(wire)
            Connection(talk, peer, self)  # type: ignore[arg-type]
        with self._lock:
            self._connections.discard(wire)
        for each in (talk, wire):
            if each is not None:
                each.close()

    def _wrap(self, wire: socket.socket) -> socket.socket:
        if self._tls is None:
            return wire
        wire.settimeout(10)
        return self._tls().wrap_socket(wire, server_side=True)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        # Closing a socket does not wake a thread inside accept() everywhere; a caller does.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._acceptor.join(timeout=5)  # until then the kernel goes on accepting for it
        listener.close()

    def _sever(self) -> None:
        with self._lock:
            wires = list(self._connections)
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def _on_down(self, _name: str, value: Optional[str]) -> None:
        if value is None and self._listener is None and not self.stopping.is_set():
            self._listen()
        elif value is not None:
            self._close_listener()
            self._sever()

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        self.stopping.set()
        self._close_listener()
        self._sever()

    def __enter__(self) -> Any:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def serve(self, connection: Connection) -> None:
        """Answer one request, faults first."""
        started = time.perf_counter()
        request = connection.read_request()
        if self.faults.on(f"{self.name}-slow"):
            self.stopping.wait(self.faults.seconds(f"{self.name}-slow"))
        for kind, take_over in WIRES.items():
            if self.faults.on(f"{self.name}-{kind}"):
                connection.close_connection = True
                take_over(self, connection)
                return
        uri, answer = self._answer(request)
        self.recorded.append((request, answer.status))
        self.observe(uri, request, answer.status, seconds=time.perf_counter() - started)
        connection.send(answer)

    def _answer(self, request: Request) -> tuple[str, Answer]:
        for kind, make in ANSWERS.items():
            if self.faults.on(f"{self.name}-{kind}"):
                status, body, headers = make(request.path)
                return "FAULT", Answer(status, body, headers=headers)
        if not request.path.startswith(self.prefix):
            return "UNKNOWN", self.missing(request)
        path = request.path[len(self.prefix) :] or "/"
        for route in self._routes:
            params = route.match(request.method, path)
            if params is not None:
                found = Request(**{**vars(request), "path": path, "params": params})
                return route.uri, route.handler(found)
        return "UNKNOWN", self.missing(request)

    def missing(self, request: Request) -> Answer:
        """The answer where no route matches."""
        return json_answer({"status": 404, "error": "Not Found", "path": request.path}, 404)
