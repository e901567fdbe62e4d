"""Acquire: what changes in one server of the cache, as the server itself reports it.

By keyspace events where they are on, else by CLIENT TRACKING that is redirected to a subscriber.
Both come over a RESP2 connection of the server's class `pubsub`, which the server cuts when its
reader stalls; pushes of RESP3 would make the server's memory grow instead (docs/protocols.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from monitoring.model import Fault
from monitoring.redis.faults import NONSENSE, RedisFault
from monitoring.redis.pipeline import Client, ErrorTranslation, odd, packed
from monitoring.redis.profiles import prefixes_of

EVENTS, TRACKING = "events", "tracking"
INVALIDATE = b"__redis__:invalidate"
SETTING = b"notify-keyspace-events"
MOST = 200_000  # keys that may wait to be read
_REMOVED = {
    b"del": "deleted",
    b"expired": "expired",
    b"evicted": "evicted",
    b"rename_from": "deleted",
    b"move_from": "deleted",
}
#: Events that leave the value of a key as it is.
_TOUCHED = frozenset((b"expire", b"persist", b"new", b"hexpire", b"hpersist"))


class GapError(Exception):
    """Changes were missed; the text says why."""


@dataclass
class Changes:
    """What was reported since the last look. `written`: how often each key was, 0 where only its
    expiry was set. With tracking every report counts, that of an expiry or a removal too. `gone`:
    keys that were taken away last, and how ("deleted", "expired", "evicted")."""

    written: dict[bytes, int] = field(default_factory=dict)
    gone: dict[bytes, str] = field(default_factory=dict)

    def note(self, event: bytes, key: bytes) -> None:
        """A keyspace event."""
        how = _REMOVED.get(event)
        if how is not None:
            self.gone[key] = how
            return
        self.gone.pop(key, None)
        self.written[key] = self.written.get(key, 0) + (event not in _TOUCHED)

    def add(self, other: Changes) -> None:
        """Take in later ones."""
        for key, many in other.written.items():
            self.written[key] = self.written.get(key, 0) + many
            if key not in other.gone:
                self.gone.pop(key, None)
        self.gone.update(other.gone)

    def to_read(self) -> list[bytes]:
        """Keys whose value is to be read."""
        return [key for key in self.written if key not in self.gone]


def events_suffice(flags: str, hashes: bool) -> bool:
    """Whether the server's notify-keyspace-events reports all that is followed: E with g$xe (and h
    where tokens are hashes), or E with A."""
    wanted = set("g$xe") | (set("h") if hashes else set())
    return "E" in flags and ("A" in flags or wanted <= set(flags))


class Line:
    """One connection of a client, for requests and for what the server sends unasked."""

    def __init__(self, client: Client, door: ErrorTranslation) -> None:
        self._door = door
        self._client: Any = client.client()
        self._connection: Any = self._client.connection

    def send(self, *command: bytes) -> None:
        self._connection.send_packed_command([packed(command)])

    def read(self) -> Any:
        """The next reply or message, in bytes. Raises RedisFault."""
        try:
            message = self._connection.read_response(disable_decoding=True)
            self._connection._sock.restart()  # what is bounded is one message, not all since `send`
            return message
        except self._door.errors as error:
            fault = self._door.translate(error)
            raise RedisFault(fault or Fault("internal", "the stream could not be read")) from None
        except NONSENSE:
            raise odd("a subscription") from None

    def ask(self, *command: bytes) -> Any:
        """The reply to a command. Raises RedisFault."""
        try:
            self.send(*command)
        except self._door.errors as error:
            fault = self._door.translate(error)
            raise RedisFault(fault or Fault("internal", "the stream is closed")) from None
        return self.read()

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()


class Stream:
    """The changes of one server. `how` is "events" or "tracking". Raises RedisFault where neither
    can be had, and GapError where changes were missed."""

    def __init__(
        self,
        client: Client,
        door: ErrorTranslation,
        *,
        patterns: Sequence[str],
        db: int,
        hashes: bool,
    ) -> None:
        self._prefixes = prefixes_of(patterns)
        self._begins = tuple(self._prefixes)
        self._db, self._hashes, self._number = db, hashes, 0
        self._line, self._asker = Line(client, door), Line(client, door)
        try:
            self.how = self._begin()
        except RedisFault:
            self.close()
            raise

    def close(self) -> None:
        self._line.close()
        self._asker.close()

    def changes(self) -> Changes:
        """All that happened before this call, and since the last one."""
        if self.how == TRACKING:
            self._asker.ask(b"PING")  # were this connection lost, so would be the tracking
        found, mark = Changes(), b"%d" % self._number
        self._number += 1
        self._line.send(b"PING", mark)
        while True:
            message = self._line.read()
            if type(message) is not list or len(message) < 2:
                raise odd("a subscription")
            if message[0] == b"pong":
                if message[1] != mark:
                    raise odd("PING")
                return found
            self._take(message, found)
            if len(found.written) + len(found.gone) > MOST:
                raise GapError(f"more than {MOST:,} keys changed before they could be read")

    def still_reports(self) -> bool:
        """Whether the server's setting, if it matters, is as it was."""
        return self.how == TRACKING or self._events_on()

    def _take(self, message: list[Any], found: Changes) -> None:
        if message[0] == b"pmessage" and len(message) == 4:
            channel, key = message[2], message[3]
            if type(key) is bytes and key.startswith(self._begins):
                found.note(channel.rpartition(b":")[2], key)
        elif message[0] == b"message" and message[1] == INVALIDATE:
            if message[2] is None:
                raise GapError("the cache was flushed")
            for key in message[2]:
                found.written[key] = found.written.get(key, 0) + 1
        else:
            raise odd("a subscription")

    def _begin(self) -> str:
        if self._events_on():
            self._line.ask(b"PSUBSCRIBE", b"__keyevent@%d__:*" % self._db)
            return EVENTS
        number = self._line.ask(b"CLIENT", b"ID")
        if type(number) is not int:
            raise odd("CLIENT ID")
        self._line.ask(b"SUBSCRIBE", INVALIDATE)
        words: tuple[bytes, ...] = (b"ON", b"REDIRECT", b"%d" % number, b"BCAST")
        for prefix in self._prefixes:
            words += (b"PREFIX", prefix)
        self._asker.ask(b"CLIENT", b"TRACKING", *words)
        return TRACKING

    def _events_on(self) -> bool:
        """False where that is not known: CONFIG GET shows passwords too, so few may run it."""
        try:
            reply = self._asker.ask(b"CONFIG", b"GET", SETTING)
        except RedisFault as error:
            if error.fault.kind in ("noperm", "protocol"):
                return False
            raise
        flags: Optional[Any] = reply[1] if type(reply) is list and len(reply) == 2 else None
        return type(flags) is bytes and events_suffice(
            flags.decode("ascii", "replace"), self._hashes
        )
