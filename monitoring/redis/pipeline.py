"""Acquire: one connection of a Redis client, with commands sent before earlier replies are read.

The client is passed in; this module knows no Redis library. It needs of it what every version of
redis-py from 5.0 has: ``client()`` gives a client on one connection of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol, Union

from monitoring.model import Fault
from monitoring.redis.faults import NONSENSE, RedisFault

Command = Sequence[bytes]  # its name and its arguments
MOST_KEYS = 100_000  # of one page; a table that grows gives many more than were asked for
_VALUE: frozenset[type] = frozenset((bytes, type(None)))
_KEY: frozenset[type] = frozenset((bytes,))
_HEADS = [b"$%d\r\n" % length for length in range(512)]


class Connection(Protocol):
    def send_packed_command(self, command: Any) -> None: ...
    def read_response(self, disable_decoding: bool = ...) -> Any: ...
    def can_read(self, timeout: float = ...) -> bool: ...
    def disconnect(self) -> None: ...


class OneConnection(Protocol):
    @property
    def connection(self) -> Any: ...
    def close(self) -> None: ...


class Client(Protocol):
    """What a redis.Redis offers that a scan needs."""

    def client(self) -> Any: ...


@dataclass(frozen=True)
class ErrorTranslation:
    """How the library's errors become faults. ``errors`` are its exception classes; ``translate``
    gives None for what is not the cache's doing, and that is raised on."""

    translate: Callable[[Exception], Optional[Fault]]
    errors: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Refusal:
    """An error reply to one command that leaves the connection sound.

    ``why`` is "type" (the key holds another), "slot" (a cluster wants keys of one slot in a
    command) or "noperm" (then there is a fault).
    """

    why: str
    fault: Optional[Fault] = None


def packed(command: Command) -> bytes:
    """A command as the protocol has it; a third of the library's time for a thousand keys."""
    try:
        words = [_HEADS[len(word)] + word for word in command]
    except IndexError:  # a key name that holds a token
        words = [b"$%d\r\n%b" % (len(word), word) for word in command]
    return b"*%d\r\n%b\r\n" % (len(command), b"\r\n".join(words))


def odd(command: str) -> RedisFault:
    """The fault of a server whose reply to `command` has another shape than Redis gives it."""
    text = f"the answer to {command} is not what Redis answers: another server, or a broken proxy?"
    return RedisFault(Fault("protocol", text))


class Wire:
    """Commands out, replies in, in the same order. Replies are of the shape that the command has,
    or a Refusal; anything else raises RedisFault (protocol)."""

    def __init__(self, client: Client, door: ErrorTranslation) -> None:
        self._door = door
        self._client: OneConnection = client.client()
        self._connection: Connection = self._client.connection
        self._owed = 0
        self._read = 0
        self._refusals: list[tuple[int, Fault]] = []

    def send(self, commands: Sequence[Command]) -> None:
        if commands:
            self._owed += len(commands)
            self._connection.send_packed_command([b"".join(map(packed, commands))])

    def ready(self, timeout: float) -> bool:
        """Whether a reply has begun to arrive, after at most ``timeout`` seconds."""
        return self._connection.can_read(timeout)

    def read(self) -> Any:
        """The next reply, in bytes. An error reply is a Refusal when the scan can go on (a key of
        another type, a command not permitted), and is raised as the library's error otherwise."""
        self._owed -= 1
        self._read += 1
        try:
            return self._connection.read_response(disable_decoding=True)
        except self._door.errors as error:
            return self._refusal(error)
        except NONSENSE:  # of the library's parser
            self._owed += 1
            raise odd("a command") from None

    def read_page(self) -> Union[Refusal, tuple[bytes, list[bytes]]]:
        """The reply to SCAN: the next cursor, and keys."""
        reply = self.read()
        if isinstance(reply, Refusal):
            return reply
        if type(reply) is list and len(reply) == 2:
            cursor, keys = reply
            known = type(cursor) is bytes and cursor.isdigit() and len(cursor) <= 20
            if known and type(keys) is list and _all(keys, _KEY) and len(keys) <= MOST_KEYS:
                return cursor, keys
        raise odd("SCAN")

    def read_values(self, command: str, count: int) -> Union[Refusal, list[Optional[bytes]]]:
        """The reply to MGET or HMGET: so many values, None for each that is not there."""
        reply = self.read()
        if isinstance(reply, Refusal) or (
            type(reply) is list and len(reply) == count and _all(reply, _VALUE)
        ):
            return reply
        raise odd(command)

    def read_each(self, command: str, kind: type, count: int) -> list[Any]:
        """The replies to `count` commands, each of `kind` (int or bytes) or a Refusal."""
        replies = [self.read() for _ in range(count)]
        if not _all(replies, frozenset((kind, Refusal))):
            raise odd(command)
        return replies

    def take_refusals(self) -> list[tuple[int, Fault]]:
        """Commands not permitted since this was last called: how many replies after that call
        (from 0), and the fault."""
        taken, self._refusals, self._read = self._refusals, [], 0
        return taken

    def close(self) -> None:
        """Give the connection back; a connection with replies still due is dropped."""
        if self._owed:
            self._connection.disconnect()
        self._client.close()

    def _refusal(self, error: Exception) -> Refusal:
        if str(error).startswith("WRONGTYPE"):  # the protocol's code, not the message's words
            return Refusal("type")
        # redis-py takes the code CROSSSLOT off the text and puts a class in its place
        if type(error).__name__ == "ClusterCrossSlotError" or str(error).startswith("CROSSSLOT"):
            return Refusal("slot")
        fault = self._door.translate(error)
        if fault is not None and fault.kind == "noperm":
            self._refusals.append((self._read - 1, fault))
            return Refusal("noperm", fault)
        self._owed += 1  # whatever comes now, this connection is not to be used again
        raise error


def _all(values: Sequence[Any], kinds: frozenset[type]) -> bool:
    """Whether all values are of these types; a set of 500 types costs 8 us."""
    return set(map(type, values)) <= kinds
