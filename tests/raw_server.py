"""A TCP server of raw bytes: each test says what goes over the wire, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Callable, Optional

Say = Callable[[socket.socket, bytes], None]


class RawServer:
    """Reads a request up to its blank line (unless `deaf`) and lets `say(wire, request)` answer.
    `requests` keeps what came. Leaving the context ends every connection."""

    def __init__(
        self, say: Say, *, context: Optional[ssl.SSLContext] = None, deaf: bool = False
    ) -> None:
        self._say = say
        self._context = context
        self._deaf = deaf
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            if self.over.is_set():
                wire.close()
                return
            thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(wire.close)
            wire.settimeout(30)
            if self._context is not None:
                wire = self._context.wrap_socket(wire, server_side=True)
                stack.callback(wire.close)
            request = b"" if self._deaf else self._head(wire)
            self.requests.append(request)
            self._say(wire, request)

    def _head(self, wire: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            more = wire.recv(65536)
            if not more:
                break
            head += more
        return head

    def hold(self, *_: object) -> None:
        """A `say` that says nothing until the test is over."""
        self.over.wait(30)

    def drip(self, wire: socket.socket, data: bytes = b"x", every: float = 0.02) -> None:
        """`data` again and again, a byte at a time, until somebody hangs up."""
        while not self.over.is_set():
            for byte in data:
                wire.sendall(bytes([byte]))
                if self.over.wait(every):
                    return

    def __enter__(self) -> RawServer:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


def http(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer; underscores in header names become dashes."""
    lines = {
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def answers(data: bytes) -> Say:
    """A `say` that sends `data` and hangs up."""
    return lambda wire, request: wire.sendall(data)
