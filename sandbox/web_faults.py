"""Web faults: the ways an HTTP answer can go wrong.

ANSWERS replace the answer: path to (status, body, headers). WIRES take the connection over and
write whatever they like until the client leaves, the fault is cleared or the server stops.
"""

from __future__ import annotations

import contextlib
import json
import select
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from sandbox.web import Connection, WebServer

Broken = tuple[int, bytes, dict[str, str]]
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _internal_error(path: str) -> Broken:
    body = {"status": 500, "error": "Internal Server Error", "path": path}
    return 500, json.dumps(body).encode(), {}


def _redirect(path: str) -> Broken:
    return 302, b"", {"Location": path}


def _garbage(_path: str) -> Broken:
    return 200, b"\x00\xff<html>this is not the JSON you are looking for", {}


def _login_page(_path: str) -> Broken:
    page = b'<html><body><form action="/sso">Please sign in</form></body></html>'
    return 200, page, {}


def _deep(_path: str) -> Broken:
    return 200, b"[" * 200_000, {}


ANSWERS: dict[str, Callable[[str], Broken]] = {
    "500": _internal_error,
    "redirect-loop": _redirect,
    "garbage": _garbage,
    "login-page": _login_page,
    "deep": _deep,
}


def _gone(connection: Connection) -> bool:
    # Readable without having been asked anything: the client closed (or talks out of turn).
    with contextlib.suppress(OSError, ValueError):
        return bool(select.select([connection.connection], [], [], 0)[0])
    return True


def _wait(server: WebServer, connection: Connection, fault: str, seconds: float) -> bool:
    """Wait; False when there is no reason to go on."""
    stopped = server.stopping.wait(seconds)
    return not stopped and server.faults.on(fault) and not _gone(connection)


def _hang(server: WebServer, connection: Connection) -> None:
    while _wait(server, connection, f"{server.name}-hang", 0.1):
        pass


def _drip_bytes(server: WebServer, connection: Connection, *, fault: str, data: bytes) -> None:
    pause = server.faults.seconds(fault)
    for number in range(1_000_000):
        connection.wfile.write(data[number : number + 1] or b" ")
        connection.wfile.flush()
        if not _wait(server, connection, fault, pause):
            return


def _drip(server: WebServer, connection: Connection) -> None:
    connection.wfile.write(JSON_HEAD + b"Content-Length: 1000000\r\n\r\n")
    _drip_bytes(server, connection, fault=f"{server.name}-drip", data=b'{"status":')


def _drip_headers(server: WebServer, connection: Connection) -> None:
    fault = f"{server.name}-drip-headers"
    _drip_bytes(server, connection, fault=fault, data=JSON_HEAD + b"X-Slow: ")


def _huge(server: WebServer, connection: Connection) -> None:
    connection.wfile.write(JSON_HEAD + b"Connection: close\r\n\r\n" + b'{"status":"')
    chunk = b"U" * 65536
    while server.faults.on(f"{server.name}-huge") and not server.stopping.is_set():
        connection.wfile.write(chunk)


def _truncated(_server: WebServer, connection: Connection) -> None:
    connection.wfile.write(JSON_HEAD + b'Content-Length: 5000\r\n\r\n{"status":"UP","ser')


WIRES: dict[str, Callable[[WebServer, Connection], None]] = {
    "hang": _hang,
    "drip": _drip,
    "drip-headers": _drip_headers,
    "huge": _huge,
    "truncated": _truncated,
}
