"""Proxies before the sandbox's servers: what passes is spoiled, and handed over in a bad way."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from typing import BinaryIO, Callable, Iterator, List, Sequence

from tests.faults.resp_proxy import read_command, read_reply
from tests.fuzzing import moves

MOST = 64 << 20  # of an endless answer: more than anybody may read
Wire = socket.socket


class HostilePeer:
    """Listens on `port` and talks to 127.0.0.1:`target` in between. `ways`: how an answer is
    handed over; a third of the answers, or all (`dice`), is spoiled."""

    def __init__(self, target: int, seed: str, secrets: Sequence[str]) -> None:
        self._target, self._seed, self._secrets = target, seed, tuple(secrets)
        self._dice = random.Random(f"{seed}:ways")
        self._share = self._dice.choice((0.1, 0.4, 1.0))
        self._way = self._dice.choice(_WAYS)
        self._count = 0
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._wires: List[Wire] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                wire, _ = self._listener.accept()
                self._wires.append(wire)
                threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        with contextlib.suppress(OSError, ValueError), wire:
            wire.settimeout(20)
            with socket.create_connection(("127.0.0.1", self._target), timeout=20) as real:
                for answer in self.answers(wire, real):
                    if not self._hand_over(wire, answer):
                        return

    def answers(self, wire: Wire, real: Wire) -> Iterator[bytes]:
        """Each answer of the real server to what came over the wire."""
        raise NotImplementedError

    move: moves.Move

    def _hand_over(self, wire: Wire, answer: bytes) -> bool:
        """Send it, spoiled or not; False: this ends the connection."""
        self._count += 1
        dice = random.Random(f"{self._seed}:{self._count}")
        if dice.random() > self._share:
            wire.sendall(answer)
            return True
        if dice.random() < 0.75:
            wire.sendall(type(self).move(answer, dice, self._secrets))
            return True
        self._way(self, wire, answer, dice)
        return False

    def cut(self, wire: Wire, answer: bytes, dice: random.Random) -> None:
        wire.sendall(answer[: dice.randrange(len(answer) + 1)])

    def reset(self, wire: Wire, answer: bytes, dice: random.Random) -> None:
        wire.sendall(answer[: dice.randrange(len(answer) + 1)])
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def drip(self, wire: Wire, answer: bytes, dice: random.Random) -> None:
        for byte in answer * 50:
            wire.sendall(bytes([byte]))
            if self._over.wait(0.05):
                return

    def endless(self, wire: Wire, answer: bytes, dice: random.Random) -> None:
        block = answer[-max(1, dice.randrange(len(answer) + 1)) :] or b"x"
        block *= 1 + 65536 // len(block)
        wire.sendall(answer[: dice.randrange(len(answer) + 1)])
        for _ in range(MOST // len(block)):
            wire.sendall(block)

    def hang(self, wire: Wire, answer: bytes, dice: random.Random) -> None:
        wire.sendall(answer[: dice.randrange(len(answer) + 1)])
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


_WAYS: Sequence[Callable[[HostilePeer, Wire, bytes, random.Random], None]] = (
    HostilePeer.cut,
    HostilePeer.reset,
    HostilePeer.drip,
    HostilePeer.endless,
    HostilePeer.hang,
)


class HostileRedis(HostilePeer):
    move = staticmethod(moves.resp)

    def answers(self, wire: Wire, real: Wire) -> Iterator[bytes]:
        asked, told = wire.makefile("rb"), real.makefile("rb")
        while (command := read_command(asked)) is not None:
            real.sendall(command[0])
            yield read_reply(told)


class HostileHttp(HostilePeer):
    move = staticmethod(moves.http)

    def answers(self, wire: Wire, real: Wire) -> Iterator[bytes]:
        stream = wire.makefile("rb")
        head, size = _request(stream)
        if not head:
            return
        real.sendall(head + stream.read(size))
        said = b""
        while part := real.recv(65536):
            said += part
        time.sleep(0)
        yield said


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

    def answers(self, wire: Wire, real: Wire) -> Iterator[bytes]:
        asked, told = wire.makefile("rb"), real.makefile("rb")
        yield _replied(told)
        data = False
        while line := asked.readline(65536):
            real.sendall(line)
            if not data or line == b".\r\n":
                reply = _replied(told)
                data = reply.startswith(b"354")
                yield reply


def _replied(stream: BinaryIO) -> bytes:
    whole = b""
    while line := stream.readline(65536):
        whole += line
        if line[3:4] != b"-":
            break
    return whole
