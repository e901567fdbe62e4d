"""Servers that answer wrongly, each a context manager that gives its URL or port."""

from __future__ import annotations

import contextlib
import socket
import struct
import zlib
from collections.abc import Iterator

from tests.raw_server import RawServer, Say, answers, http

MEGABYTE = 1 << 20


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A port that neither accepts nor refuses: its queue is full, so that SYNs are dropped."""
    waiting: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
            waiting.append(caller)
        yield port
    for caller in waiting:
        caller.close()


def politely(data: bytes) -> Say:
    """`data`, and the line stays up until the other side has read it: hanging up on a request that
    was not read to its end makes the kernel take back what was sent."""

    def say(wire: socket.socket, _request: bytes) -> None:
        wire.sendall(data)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(65536):
            pass

    return say


def resetting(wire: socket.socket, _request: bytes) -> None:
    """Half a body, then a RST."""
    wire.sendall(http(b'{"status":"UP"}' * 100)[:200])
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def gigabyte(wire: socket.socket, _request: bytes) -> None:
    """A body of 1 GB, announced and sent."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    wire.sendall(head % (1 << 30))
    for _ in range(1 << 10):
        wire.sendall(b" " * MEGABYTE)


def bomb() -> bytes:
    """An answer of one megabyte that unpacks to 1 GB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b" " * MEGABYTE
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    body = first + again * 1023
    return http(body, Content_Encoding="gzip", Content_Type="application/json")


def spread(data: bytes, every: float = 0.2) -> Say:
    """`data`, a byte at a time."""

    def say(wire: socket.socket, _request: bytes) -> None:
        stop = socket.socket()
        stop.close()
        for byte in data:
            wire.sendall(bytes([byte]))
            wire.settimeout(every)
            with contextlib.suppress(socket.timeout):
                if not wire.recv(1):
                    return
            wire.settimeout(30)

    return say


__all__ = [
    "RawServer",
    "answers",
    "blackhole",
    "bomb",
    "gigabyte",
    "http",
    "politely",
    "resetting",
    "spread",
]
