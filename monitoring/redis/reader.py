"""Acquire: one node's SCAN, page after page, and the commands that it may use."""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter, Counter as CounterOf
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, groupby
from typing import (
    Any,
    Optional,
)

from monitoring.model import Fault
from monitoring.redis.count import Page, Part
from monitoring.redis.faults import refused
from monitoring.redis.pipeline import Client, Command, ErrorTranslation, Refusal, Wire
from monitoring.redis.profiles import COMPANIONS, CREDENTIAL, TOKEN, VALIDATION, KeySorter, Rule
from monitoring.tokens.codecs.table import CREDENTIAL_FIELDS, TOKEN_FIELDS

# -- what to ask a server for, for which keys: the commands of a scan, and no other.

FIELDS_ALL_PAGES = 3  # after these only the fields that are in use are asked for
FIELDS_AGAIN_EVERY = 64

COMMANDS = {
    "string": b"MGET", "hash": b"HMGET", "set": b"SCARD", "type": b"TYPE", "ttl": b"PTTL",
    "length": b"STRLEN",
}  # fmt: skip
#: What each of them answers with, where it is one word.
ANSWERS = {"set": int, "ttl": int, "length": int, "type": bytes}
PTTL = b"PTTL"


@dataclass
class Ask:
    """Commands on their way for some keys of a rule, and what was tried on these keys before."""

    what: str  # string, hash, set, type, ttl, length
    rule: Rule
    keys: list[bytes]
    ttls: bool = False
    fields: tuple[bytes, ...] = ()
    tried: tuple[str, ...] = ()
    context: Any = None
    runs: tuple[int, ...] = ()  # string: how many of the keys go into each MGET

    @property
    def command(self) -> bytes:
        return COMMANDS[self.what]

    @property
    def replies(self) -> int:
        """How many replies come before those to PTTL."""
        return len(self.runs) if self.what == "string" else len(self.keys)

    def commands(self) -> list[Command]:
        return [*self._reads(), *([(PTTL, key) for key in self.keys] if self.ttls else ())]

    def _reads(self) -> Iterable[Command]:
        if self.what == "string":
            ends = list(accumulate(self.runs))
            return [(b"MGET", *self.keys[end - n : end]) for n, end in zip(self.runs, ends)]
        if self.what == "hash":
            return [(b"HMGET", key, *self.fields) for key in self.keys]
        return [(self.command, key) for key in self.keys]


class FieldPlan:
    """Which fields of a family's hashes to ask for: all at first, then those that are in use."""

    def __init__(self) -> None:
        self._used: dict[Rule, set[bytes]] = {}

    def wanted(self, rule: Rule, page: int) -> tuple[bytes, ...]:
        if rule.role == CREDENTIAL:
            return CREDENTIAL_FIELDS
        used = self._used.get(rule)
        if not used or page <= FIELDS_ALL_PAGES or page % FIELDS_AGAIN_EVERY == 0:
            return TOKEN_FIELDS
        return tuple(sorted(used))

    def note(self, rule: Rule, hashes: Iterable[dict[bytes, bytes]]) -> None:
        self._used.setdefault(rule, set()).update(*hashes)


def slot_of(key: bytes) -> int:
    """The cluster slot of a key: CRC16 (XMODEM) of it, or of what stands in its first braces."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) & 16383


def runs_by_slot(keys: list[bytes]) -> tuple[int, ...]:
    """Sort keys so that those of one slot stand together; how many there are of each."""
    keys.sort(key=slot_of)
    return tuple(len(list(run)) for _slot, run in groupby(keys, key=slot_of))


# -- one node's SCAN, page after page, each key read by its type, a page asked ahead.

TTL_ALL_UP_TO = 20_000  # keys; above, one page in TTL_PAGE_EVERY, and those of expired tokens
TTL_PAGE_EVERY = 64
MOST_VALUE = 32 * 1024  # bytes of a value, where a page of them was too much to take


class NodeReader:
    """Reads one node. ``step`` until ``done``; then ``close``.

    Order on the wire: the next SCAN is sent before the values of the page in hand are asked for,
    and both before the previous page's values are read, so that the server always has work while
    we decode.
    """

    #: Roles whose every key is asked for its expiry; empty: tokens, of a large cache a sample.
    dated: tuple[str, ...] = ()

    def __init__(
        self,
        client: Client,
        sorter: KeySorter,
        door: ErrorTranslation,
        *,
        count: int,
        start: bytes = b"0",
    ) -> None:
        """`start`: the cursor with which an earlier scan ended; this one then sees the rest."""
        self._client, self._door = client, door
        self.resumed, self._wrapped = start != b"0", False
        self._wire = Wire(client, door)
        self._sorter = sorter
        self._count = b"%d" % count
        self._cursor = start
        self._cut = False
        self._page = Page()
        self._ready: list[Ask] = []
        self._due: list[Ask] = []
        self._coming: list[Ask] = []
        self._later: list[Ask] = []
        self._scanning = True
        self._kinds: dict[Rule, str] = {}
        self._fields = FieldPlan()
        self._found: CounterOf[tuple[Rule, str]] = Counter()
        self._denied: set[bytes] = set()
        self._token_keys = 0
        self._pages = 0
        self.seen = 0
        self.expected: Optional[int] = None
        self.unread = 0
        self._scanned = False
        self.faults: list[Fault] = []
        self._first = True
        self._stopping = False
        self._by_slot = False
        self._wire.send(self._scan_commands())

    @property
    def done(self) -> bool:
        return not (self._scanning or self._due or self._later)

    @property
    def complete(self) -> bool:
        """Every key was seen and everything asked for came."""
        return self._scanned and self.done and not self.resumed

    @property
    def cursor(self) -> bytes:
        """Where another scan may go on; 0 after the last key."""
        return self._cursor

    def ready(self, timeout: float) -> bool:
        """Whether a step would not have to wait (longer than for the rest of an answer)."""
        return not (self._scanning or self._due) or self._wire.ready(timeout)

    def stop(self) -> None:
        """Ask for no further page; what is under way is still read."""
        self._stopping = True

    def ask_ttls(self, rule: Rule, keys: list[bytes], context: Any) -> None:
        """Have the expiries of these keys come along with a later page."""
        if PTTL not in self._denied:
            self._later.append(Ask("ttl", rule, keys, context=context))

    def step(self) -> Page:
        """One page further. Raises the library's errors, and RedisFault; see `resume`."""
        commands: list[Command] = []
        self._coming, self._later = self._later, []
        if self._scanning:
            commands = self._next_page()
        for ask in self._coming:
            commands += ask.commands()
        self._wire.send(commands)
        self._ready, self._due, self._coming = self._due, self._coming, []
        while self._ready:
            self._receive(self._ready[0], self._page)
            del self._ready[0]
        page, self._page = self._page, Page()
        return page

    def resume(self, fault: Fault) -> bool:
        """After a step that raised `fault`: ask anew, over a new connection, for all that did not
        come. A connection that was cut is tried once more. What is too large is asked for by size
        first, or left out. False: nothing is left to try. Raises as `step` does."""
        if fault.kind == "connect" and not self._cut:
            self._cut = True
        elif fault.kind == "too_large" and self._ready:
            self._lighten(self._ready.pop(0))
        else:
            return False
        asks = [*self._ready, *self._due, *self._coming]
        self._ready, self._due, self._coming = [], asks, []
        self._wire.close()
        self._wire = Wire(self._client, self._door)
        commands = self._scan_commands()
        for ask in asks:
            commands += ask.commands()
        self._wire.send(commands)
        return True

    def _lighten(self, ask: Ask) -> None:
        """Values that are too large together: strings are asked for their lengths, others left."""
        if ask.what == "string":
            self._coming += self._ask("length", ask.rule, ask.keys, ttls=ask.ttls, tried=ask.tried)
        else:
            self._too_large(len(ask.keys))

    def _too_large(self, count: int) -> None:
        self.unread += count
        text = f"values of more than {MOST_VALUE >> 10} KiB under token keys, which were not read"
        fault = Fault("too_large", text)
        if count and fault not in self.faults:
            self.faults.append(fault)

    def _scan_commands(self) -> list[Command]:
        if not self._scanning:
            return []
        scan = (b"SCAN", self._cursor, b"COUNT", self._count)
        return [(b"DBSIZE",), scan] if self._first else [scan]

    def close(self) -> None:
        self._wire.close()

    def _next_page(self) -> list[Command]:
        """Take a page of keys; what to ask for next, and `_coming` for the page's values."""
        if self._first:
            (size,) = self._wire.read_each("DBSIZE", int, 1)
            self.expected = None if isinstance(size, Refusal) else size
            self._wire.take_refusals()  # the size is a nicety
            self._first = False
        page = self._wire.read_page()
        if isinstance(page, Refusal):
            for _position, fault in self._wire.take_refusals():
                self._refused(b"SCAN", fault)
            self._scanning = False
            return []
        self._cursor, keys = page
        self.seen += len(keys)
        self._pages += 1
        self._scanned = int(self._cursor) == 0
        if self._scanned and self.resumed and not self._wrapped:
            self._wrapped, self._scanned = True, False  # what an earlier scan saw comes last
        if self._wrapped and self.seen >= (self.expected or 0):
            self._scanned = True
        self._scanning = not (self._scanned or self._stopping)
        for rule, some in self._sorter.sort(keys):
            self._coming += self._plan(rule, some)
        return self._scan_commands()

    def _plan(self, rule: Rule, keys: list[bytes]) -> list[Ask]:
        kind = self._kinds.get(rule, rule.kind)
        if self.dated:
            ttls = rule.role in self.dated and PTTL not in self._denied
        else:
            ttls = rule.role == TOKEN and self._ttls_due(len(keys))
        return self._ask(kind, rule, keys, ttls=ttls)

    def _ask(
        self, what: str, rule: Rule, keys: list[bytes], *, ttls: bool = False,
        tried: tuple[str, ...] = (),
    ) -> list[Ask]:  # fmt: skip
        if COMMANDS[what] in self._denied:
            self.unread += len(keys)
            return []
        if what == "hash":
            keys = [key for key in keys if not key.endswith(COMPANIONS)]
        if not keys:
            return []
        ask = Ask(what, rule, keys, ttls, tried=tried)
        if what == "hash":
            ask.fields = self._fields.wanted(rule, self._pages)
        elif what == "string":
            ask.runs = self._runs(keys)
        return [ask]

    def _runs(self, keys: list[bytes]) -> tuple[int, ...]:
        """One MGET for all; on a cluster, where each MGET is for one slot, sorted to be few.

        Newer servers scan slot by slot, so that even there a page is a handful of commands.
        """
        if not self._by_slot:
            return (len(keys),)
        return runs_by_slot(keys)

    def _ttls_due(self, keys: int) -> bool:
        before, self._token_keys = self._token_keys, self._token_keys + keys
        sampled = self._pages % TTL_PAGE_EVERY == 0
        return PTTL not in self._denied and (before < TTL_ALL_UP_TO or sampled)

    def _receive(self, ask: Ask, page: Page) -> None:
        self._wire.take_refusals()
        replies = self._read_strings(ask) if ask.what == "string" else self._read_each(ask)
        ttls = self._wire.read_each("PTTL", int, len(ask.keys)) if ask.ttls else None
        self._note_refusals(ask)
        part = Part(ask.rule, ask.what, ask.keys, replies, _numbers(ttls), ask.context)
        _RECEIVERS[ask.what](self, ask, part, page)

    def _read_each(self, ask: Ask) -> list[Any]:
        command = ask.command.decode()
        if ask.what == "hash":
            return [self._wire.read_values(command, len(ask.fields)) for _ in ask.keys]
        return self._wire.read_each(command, ANSWERS[ask.what], len(ask.keys))

    def _read_strings(self, ask: Ask) -> list[Any]:
        values: list[Any] = []
        for run in ask.runs:
            reply = self._wire.read_values("MGET", run)
            values += [reply] * run if isinstance(reply, Refusal) else reply
        return values

    def _receive_strings(self, ask: Ask, part: Part, page: Page) -> None:
        """What MGET gives nothing for is gone, or of another type."""
        if part.values[0] == _OTHER_SLOTS:
            self._by_slot = True
            self._later += self._ask("string", ask.rule, ask.keys, ttls=ask.ttls, tried=ask.tried)
            return
        if None in part.values:
            missing = [key for key, value in zip(part.keys, part.values) if value is None]
            if "hash" in ask.tried:
                _note_others(page, ask, len(missing))
            else:
                self._later += self._ask(
                    "hash", ask.rule, missing, ttls=ask.ttls, tried=("string",)
                )
        self._keep(part, page)

    def _receive_hashes(self, ask: Ask, part: Part, page: Page) -> None:
        wrong = [k for k, v in zip(part.keys, part.values) if v == _WRONG_TYPE]
        empty = [
            k for k, v in zip(part.keys, part.values) if isinstance(v, list) and not any(v)
        ]  # gone, or a hash with none of our fields
        if "string" in ask.tried:
            _note_others(page, ask, len(wrong))
        else:
            self._later += self._ask("string", ask.rule, wrong, ttls=ask.ttls, tried=("hash",))
        self._later += self._ask("type", ask.rule, empty)
        names = ask.fields
        part.values = [
            {n: f for n, f in zip(names, value) if f is not None}
            if isinstance(value, list) and any(value)
            else None
            for value in part.values
        ]
        self._keep(part, page)
        if names is TOKEN_FIELDS:
            self._fields.note(ask.rule, part.values)

    def _receive_types(self, ask: Ask, part: Part, page: Page) -> None:
        page.gone += part.values.count(b"none")
        hashes = [k for k, v in zip(part.keys, part.values) if v == b"hash"]
        _note_others(page, ask, len(part.keys) - part.values.count(b"none") - len(hashes))
        if hashes:
            page.parts.append(Part(ask.rule, "hash", hashes, [{} for _ in hashes]))

    def _receive_lengths(self, ask: Ask, part: Part, _page: Page) -> None:
        """What has no length is of another type, which MGET shows."""
        small = [
            key
            for key, length in zip(part.keys, part.values)
            if length == _WRONG_TYPE or (type(length) is int and length <= MOST_VALUE)
        ]
        self._too_large(sum(type(n) is int and n > MOST_VALUE for n in part.values))
        self._later += self._ask("string", ask.rule, small, ttls=ask.ttls, tried=ask.tried)

    def _receive_numbers(self, _ask: Ask, part: Part, page: Page) -> None:
        page.others += part.values.count(_WRONG_TYPE)
        part.values = _numbers(part.values) or []
        page.parts.append(part)

    def _keep(self, part: Part, page: Page) -> None:
        """The part without the keys that gave nothing, and what that teaches about the rule."""
        if None in part.values or isinstance(part.values[0], Refusal):
            there = [value is not None and not isinstance(value, Refusal) for value in part.values]
            part.keys = list(compress(part.keys, there))
            part.values = list(compress(part.values, there))
            part.ttls = None if part.ttls is None else list(compress(part.ttls, there))
        self._found[part.rule, part.kind] += len(part.keys)
        hashes, strings = self._found[part.rule, "hash"], self._found[part.rule, "string"]
        if hashes or strings:
            self._kinds[part.rule] = "hash" if hashes > strings else "string"
        if part.keys:
            page.parts.append(part)

    def _note_refusals(self, ask: Ask) -> None:
        """Name each command that was refused, once, and ask no more for it."""
        for position, fault in self._wire.take_refusals():
            command = PTTL if ask.ttls and position >= ask.replies else ask.command
            self._refused(command, fault)
            if command == ask.command and command != PTTL:
                self.unread += len(ask.keys) if ask.what == "string" else 1

    def _refused(self, command: bytes, fault: Fault) -> None:
        if command not in self._denied:
            self._denied.add(command)
            self.faults.append(refused(command.decode(), fault))


class DatedReader(NodeReader):
    """Reads one node with the expiry of every key that may hold a token, a verdict or a
    credential."""

    dated = (TOKEN, VALIDATION, CREDENTIAL)


class UndatedReader(NodeReader):
    """Reads one node and asks for the expiry of no key."""

    def ask_ttls(self, _rule: Rule, _keys: list[bytes], _context: Any) -> None:
        pass

    def _ttls_due(self, _keys: int) -> bool:
        return False


class KeyReader(DatedReader):
    """Reads keys that are named, in pages, over one connection that stays open."""

    def __init__(
        self, client: Client, sorter: KeySorter, door: ErrorTranslation, *, count: int
    ) -> None:
        self._left: list[bytes] = []
        self._size = count
        super().__init__(client, sorter, door, count=count)
        self._scanning = False

    def read(self, keys: Sequence[bytes]) -> Iterator[Page]:
        """What these keys hold. Raises as `NodeReader.step` does, after one try to go on."""
        self._left, self._scanning, self._cut = list(keys), bool(keys), False
        while not self.done:
            try:
                yield self.step()
            except self._door.errors as error:
                fault = self._door.translate(error)
                if fault is None or not self.resume(fault):
                    raise

    def _scan_commands(self) -> list[Command]:
        return []

    def _next_page(self) -> list[Command]:
        keys, self._left = self._left[: self._size], self._left[self._size :]
        self._scanning = bool(self._left)
        for rule, some in self._sorter.sort(keys):
            self._coming += self._plan(rule, some)
        return []


_WRONG_TYPE = Refusal("type")


def _note_others(page: Page, ask: Ask, many: int) -> None:
    """Keys that are neither texts nor hashes: lists and sets, which may hold tokens too."""
    page.others += many
    page.foreign += many if ask.rule.role == TOKEN else 0


_OTHER_SLOTS = Refusal("slot")
_RECEIVERS = {
    "string": NodeReader._receive_strings,
    "hash": NodeReader._receive_hashes,
    "type": NodeReader._receive_types,
    "set": NodeReader._receive_numbers,
    "ttl": NodeReader._receive_numbers,
    "length": NodeReader._receive_lengths,
}


def _numbers(replies: Optional[Sequence[Any]]) -> Optional[list[Optional[int]]]:
    if replies is None:
        return None
    return [reply if isinstance(reply, int) else None for reply in replies]
