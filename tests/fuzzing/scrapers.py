"""Hostile scrapers of `--prometheus-port`: requests that a seed has spoiled, and a proper one."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Sequence
from typing import Callable
from urllib.request import urlopen

from tests.fuzzing import moves

_REQUEST = (
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n"
    b"Accept-Encoding: gzip\r\nUser-Agent: Prometheus/3\r\n\r\n"
)
_LINES = (
    *(b"POST /metrics HTTP/1.1", b"GET //\xff HTTP/1.1", b"GET /metrics", b"\0\0\0", b"PRI * H/2"),
    *(b"GET http://evil.example/metrics HTTP/1.1", b"GET /../../etc/passwd HTTP/1.1", b"GET"),
    *(b"GET /metrics HTTP/9.9", b"GET /metrics HTTP/1.1\nX: y", b"OPTIONS * HTTP/1.1", b"\r\n" * 9),
    *(b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
)


def _spoiled(dice: random.Random, secrets: Sequence[str]) -> bytes:
    """A request, spoiled in its line, its headers or its body."""
    line, *headers = _REQUEST.split(b"\r\n")[:-2]
    said = moves.nonsense(dice, secrets)
    move = dice.randrange(6)
    if move == 0:
        line = dice.choice(_LINES)
    elif move == 1:
        headers.append(dice.choice((b"Authorization: Basic ", b"Cookie: ", b"", b"X")) + said)
    elif move == 2:
        headers += [b"X-%d: %b" % (n, said[:200]) for n in range(dice.choice((99, 300, 5000)))]
    elif move == 3:
        headers.append(b"Content-Length: " + dice.choice((b"-1", b"9" * 30, b"200000000", said)))
    elif move == 4:
        headers += [b"Transfer-Encoding: chunked", b"Accept: " + said, b"Accept-Encoding: " + said]
    else:
        return moves.flipped(_REQUEST, dice) * dice.choice((1, 30))
    return b"\r\n".join([line, *headers]) + b"\r\n\r\n"


class Scrapers:
    """`with Scrapers(port, seed, secrets) as them:` from when the port is open to the end of the
    block they ask, slowly, wrongly, by the dozen. `scraped`: the last proper answer."""

    def __init__(self, port: int, seed: str, secrets: Sequence[str]) -> None:
        self._port, self._seed, self._secrets = port, seed, tuple(secrets)
        self._over = threading.Event()
        self.scraped: list[tuple[float, bytes]] = []  # how long it took, and what came
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]
        self._threads.append(threading.Thread(target=self._properly))

    def _opened(self) -> bool:
        while not self._over.wait(0.02):
            with contextlib.suppress(OSError), self._wire():
                return True
        return False

    def _wire(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=5)

    def _ask(self, number: int) -> None:
        dice = random.Random(f"{self._seed}:{number}")
        held: list[socket.socket] = []
        if self._opened():
            while not self._over.wait(0.01):
                with contextlib.suppress(OSError):
                    _MANNERS[dice.randrange(len(_MANNERS))](self, dice, held)
        for wire in held:
            wire.close()

    def _bluntly(self, dice: random.Random, _held: list[socket.socket]) -> None:
        with self._wire() as wire:
            wire.sendall(_spoiled(dice, self._secrets))
            wire.settimeout(0.3)
            while wire.recv(65536):
                pass

    def _rudely(self, dice: random.Random, _held: list[socket.socket]) -> None:
        """Ask, and go without reading."""
        with self._wire() as wire:
            wire.sendall(_REQUEST * dice.choice((1, 50)))

    def _silently(self, dice: random.Random, held: list[socket.socket]) -> None:
        """Connections by the dozen that say a little, and stay."""
        for _ in range(20):
            wire = self._wire()
            wire.sendall(_REQUEST[: dice.randrange(len(_REQUEST))])
            held.append(wire)
        while len(held) > 60:
            held.pop(0).close()

    def _properly(self) -> None:
        if not self._opened():
            return
        while not self._over.wait(0.2):
            began = time.monotonic()
            try:
                with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
                    self.scraped.append((time.monotonic() - began, answer.read()))
            except OSError as error:
                self.failed.append(repr(error))

    def __enter__(self) -> Scrapers:  # noqa: PYI034 - Self needs 3.11
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


_MANNERS: Sequence[Callable[[Scrapers, random.Random, list[socket.socket]], None]] = (
    Scrapers._bluntly,
    Scrapers._bluntly,
    Scrapers._rudely,
    Scrapers._silently,
)
