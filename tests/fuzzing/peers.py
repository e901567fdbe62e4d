"""Proxies before the sandbox's servers: what passes is spoiled, and handed over in a bad way.

What becomes of an answer follows from the seed and from what was asked alone, never from the order
in which connections come: a seed is the same story each time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Callable, Optional
from urllib.parse import parse_qs, urlsplit

from tests.faults.resp_proxy import read_command, read_reply
from tests.fuzzing import moves

MOST = 64 << 20  # of an endless answer: more than anybody may read
LARGEST_KEPT = 200_000  # bytes of base64 that a case may hold
Wire = socket.socket
#: How an answer is handed over (`said`: it is followed by the next), and its bytes.
Spoiled = tuple[str, bytes]


class HostilePeer:
    """Listens on `port` and talks to 127.0.0.1:`target` in between. A tenth, four tenths or all of
    the answers are spoiled: the same ones each time, the first time only, or each time others.
    `spoiled`: what was said instead, by what was asked; `script`: say just that, and else the
    truth."""

    def __init__(
        self,
        target: int,
        seed: str,
        secrets: Sequence[str],
        script: Optional[Mapping[str, Spoiled]] = None,
    ) -> None:
        self._target, self._seed, self._secrets = target, seed, tuple(secrets)
        dice = random.Random(f"{seed}:ways")
        self._share = dice.choice((0.1, 0.4, 1.0))
        self._way = dice.choice(list(_WAYS))
        self._mood = dice.choice(("same", "once", "changing"))
        self._script = script
        self.spoiled: dict[str, Spoiled] = {}
        self._asked: dict[str, int] = {}
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._wires: list[Wire] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                wire, _ = self._listener.accept()
                self._wires.append(wire)
                threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        seen: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError), wire:
            wire.settimeout(20)
            with socket.create_connection(("127.0.0.1", self._target), timeout=20) as real:
                for asked, answer in self.answers(wire, real):
                    seen[asked] = seen.get(asked, 0) + 1
                    if not self._hand_over(wire, f"{asked}#{seen[asked]}", answer):
                        return

    def answers(self, wire: Wire, real: Wire) -> Iterator[tuple[str, bytes]]:
        """What was asked over the wire, without what differs each time, and the real server's
        answer."""
        raise NotImplementedError

    move: moves.Move

    def _hand_over(self, wire: Wire, place: str, answer: bytes) -> bool:
        """Send it, spoiled or not; False: this ends the connection."""
        way, data = self._said(place, answer)
        if way == "said":
            wire.sendall(data)
            return True
        _WAYS[way](self, wire, data)
        return False

    def _said(self, place: str, answer: bytes) -> Spoiled:
        with self._guard:
            number = self._asked[place] = self._asked.get(place, 0) + 1
        if self._mood == "changing":
            place = f"{place}:{number}"
        if self._script is not None:
            return self._script.get(place, ("said", answer))
        dice = random.Random(f"{self._seed}:{place}")
        good = dice.random() > self._share or (self._mood == "once" and number > 1)
        if good:
            return "said", answer
        self.spoiled[place] = spoiled = self._spoil(answer, dice)
        return spoiled

    def _spoil(self, answer: bytes, dice: random.Random) -> Spoiled:
        if dice.random() < 0.75:
            return "said", type(self).move(answer, dice, self._secrets)
        return self._way, answer[: dice.randrange(len(answer) + 1)]

    def cut(self, wire: Wire, data: bytes) -> None:
        wire.sendall(data)

    def reset(self, wire: Wire, data: bytes) -> None:
        wire.sendall(data)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def drip(self, wire: Wire, data: bytes) -> None:
        for byte in (data or b"x") * 50:
            wire.sendall(bytes([byte]))
            if self._over.wait(0.05):
                return

    def endless(self, wire: Wire, data: bytes) -> None:
        """The end of it again and again."""
        block = data[-max(1, len(data) // 2) :] or b"x"
        block *= 1 + 65536 // len(block)
        wire.sendall(data)
        for _ in range(MOST // len(block)):
            wire.sendall(block)

    def hang(self, wire: Wire, data: bytes) -> None:
        wire.sendall(data)
        self._over.wait(20)

    def __enter__(self) -> HostilePeer:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()
        for wire in self._wires:
            wire.close()


_WAYS: Mapping[str, Callable[[HostilePeer, Wire, bytes], None]] = {
    "cut": HostilePeer.cut,
    "reset": HostilePeer.reset,
    "drip": HostilePeer.drip,
    "endless": HostilePeer.endless,
    "hang": HostilePeer.hang,
}


def kept(spoiled: Mapping[str, Spoiled]) -> str:
    """What was said, as a line of fuzz-crashes.jsonl keeps it; empty: too large."""
    said = {place: [way, data.decode("latin-1")] for place, (way, data) in spoiled.items()}
    packed = base64.b64encode(zlib.compress(json.dumps(said).encode(), 9)).decode()
    return packed if len(packed) <= LARGEST_KEPT else ""


def script_of(packed: str) -> dict[str, Spoiled]:
    """What `kept` made of it."""
    said = json.loads(zlib.decompress(base64.b64decode(packed)))
    return {place: (way, text.encode("latin-1")) for place, (way, text) in said.items()}


class HostileRedis(HostilePeer):
    move = staticmethod(moves.resp)

    def answers(self, wire: Wire, real: Wire) -> Iterator[tuple[str, bytes]]:
        asked, told = wire.makefile("rb"), real.makefile("rb")
        while (command := read_command(asked)) is not None:
            raw, words = command
            real.sendall(raw)
            yield words[0].decode("latin-1").upper() if words else "", read_reply(told)


class HostileHttp(HostilePeer):
    move = staticmethod(moves.http)

    def answers(self, wire: Wire, real: Wire) -> Iterator[tuple[str, bytes]]:
        stream = wire.makefile("rb")
        head, size = _request(stream)
        if not head:
            return
        real.sendall(head + stream.read(size))
        said = b""
        while part := real.recv(65536):
            said += part
        time.sleep(0)
        yield _question(head), said


def _question(head: bytes) -> str:
    """Method, path and names of the query: times and numbers in it differ each time."""
    method, url, *_ = [*head.split(b"\r\n")[0].decode("latin-1").split(" "), "", ""]
    parts = urlsplit(url)
    path = re.sub(r"[0-9a-f-]{12,}", "#", parts.path)
    return f"{method} {path} {','.join(sorted(parse_qs(parts.query)))}"


def _request(stream: BinaryIO) -> tuple[bytes, int]:
    """The head, asking for the connection to be closed afterwards, and the size of the body."""
    lines, size = [], 0
    while (line := stream.readline(65536)).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
        if name.lower() != b"connection":
            lines.append(line)
    if not lines:
        return b"", 0
    return b"".join([*lines, b"Connection: close\r\n\r\n"]), size


class HostileSmtp(HostilePeer):
    move = staticmethod(moves.smtp)

    def answers(self, wire: Wire, real: Wire) -> Iterator[tuple[str, bytes]]:
        asked, told = wire.makefile("rb"), real.makefile("rb")
        yield "greeting", _replied(told)
        data = False
        while line := asked.readline(65536):
            real.sendall(line)
            if not data or line == b".\r\n":
                reply = _replied(told)
                data = reply.startswith(b"354")
                yield line[:4].decode("latin-1").upper(), reply


def _replied(stream: BinaryIO) -> bytes:
    whole = b""
    while line := stream.readline(65536):
        whole += line
        if line[3:4] != b"-":
            break
    return whole
