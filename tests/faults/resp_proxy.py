"""A Redis-protocol proxy before a real server: what it is told to break is broken, the rest goes
through, so that a fault hits one command and no other."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Callable, Optional, Union

#: Bytes to answer with, or what to do with the client's socket; None: pass the command on.
Answer = Union[bytes, Callable[[socket.socket], None], None]
Judge = Callable[[str, int], Answer]


def refusing(answers: Mapping[str, bytes], *, first: int = 0) -> Judge:
    """`answers`: command name (or `*`) -> the reply it gets, from its call number `first` on."""
    seen: dict[str, int] = {}

    def judge(command: str, _connection: int) -> Answer:
        seen[command] = seen.get(command, 0) + 1
        reply = answers.get(command, answers.get("*"))
        return reply if reply is not None and seen[command] > first else None

    return judge


def read_command(stream: BinaryIO) -> Optional[tuple[bytes, list[bytes]]]:
    """(raw bytes, words) of one command; None at the end."""
    head = stream.readline()
    if not head:
        return None
    if head[:1] != b"*":
        return head, head.split()
    raw, words = head, []
    for _ in range(int(head[1:])):
        size = stream.readline()
        word = stream.read(int(size[1:]) + 2)
        raw += size + word
        words.append(word[:-2])
    return raw, words


def read_reply(stream: BinaryIO) -> bytes:
    """The raw bytes of one reply (RESP2 and RESP3)."""
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind in (b"$", b"!", b"=") and rest != b"-1":
        return line + stream.read(int(rest) + 2)
    if kind in (b"*", b"~", b">", b"%", b"|") and rest != b"-1":
        count = int(rest) * (2 if kind in (b"%", b"|") else 1)
        return line + b"".join(read_reply(stream) for _ in range(count))
    return line


class RespProxy:
    """Listens on `port`, passes commands to 127.0.0.1:`target` unless `judge` answers itself;
    `noise` comes before every reply."""

    def __init__(self, target: int, judge: Judge, *, noise: bytes = b"") -> None:
        self._target, self._judge, self._noise = target, judge, noise
        self.commands: list[str] = []
        self._connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self._listener.accept()
                self._connections += 1
                number = self._connections
                threading.Thread(target=self._serve, args=(wire, number), daemon=True).start()

    def _serve(self, wire: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError), wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with socket.create_connection(("127.0.0.1", self._target)) as real:
                real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asked, told = wire.makefile("rb"), real.makefile("rb")
                while self._one(wire, (asked, told), real, number):
                    pass

    def _one(
        self,
        wire: socket.socket,
        streams: Sequence[BinaryIO],
        real: socket.socket,
        number: int,
    ) -> bool:
        command = read_command(streams[0])
        if command is None:
            return False
        raw, words = command
        name = words[0].decode("latin-1").upper() if words else ""
        self.commands.append(name)
        answer = self._judge(name, number)
        if callable(answer):
            answer(wire)
            return False
        if answer is None:
            real.sendall(raw)
            answer = read_reply(streams[1])
        wire.sendall(self._noise + answer)
        return True

    def __enter__(self) -> RespProxy:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
