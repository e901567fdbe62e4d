"""Acquire: one node's SCAN, page after page, each key read by its type, a page asked ahead."""

from __future__ import annotations

from collections import Counter
from itertools import compress
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple
from typing import Counter as CounterOf

from monitoring.cache.asks import COMMANDS, PTTL, Ask, FieldPlan, runs_by_slot
from monitoring.cache.faults import refused
from monitoring.cache.pages import Page, Part
from monitoring.cache.pipeline import Client, Command, Door, Refusal, Wire
from monitoring.cache.profiles import COMPANIONS, KeySorter, Rule
from monitoring.model import Fault
from monitoring.token_codecs import TOKEN_FIELDS

TTL_ALL_UP_TO = 20_000  # keys; above, one page in TTL_PAGE_EVERY, and those of expired tokens
TTL_PAGE_EVERY = 64


class NodeReader:
    """Reads one node. ``step`` until ``done``; then ``close``.

    Order on the wire: the next SCAN is sent before the values of the page in hand are asked for,
    and both before the previous page's values are read, so that the server always has work while
    we decode.
    """

    def __init__(self, client: Client, sorter: KeySorter, door: Door, *, count: int) -> None:
        self._wire = Wire(client, door)
        self._sorter = sorter
        self._count = b"%d" % count
        self._due: List[Ask] = []
        self._later: List[Ask] = []
        self._scanning = True
        self._kinds: Dict[Rule, str] = {}
        self._fields = FieldPlan()
        self._found: CounterOf[Tuple[Rule, str]] = Counter()
        self._denied: Set[bytes] = set()
        self._token_keys = 0
        self._pages = 0
        self.seen = 0
        self.expected: Optional[int] = None
        self.unread = 0
        self._scanned = False
        self.faults: List[Fault] = []
        self._wire.send([(b"DBSIZE",), (b"SCAN", b"0", b"COUNT", self._count)])
        self._first = True
        self._stopping = False
        self._by_slot = False

    @property
    def done(self) -> bool:
        return not (self._scanning or self._due or self._later)

    @property
    def complete(self) -> bool:
        """Every key was seen and everything asked for came."""
        return self._scanned and self.done

    def ready(self, timeout: float) -> bool:
        """Whether a step would not have to wait (longer than for the rest of an answer)."""
        return not (self._scanning or self._due) or self._wire.ready(timeout)

    def stop(self) -> None:
        """Ask for no further page; what is under way is still read."""
        self._stopping = True

    def ask_ttls(self, rule: Rule, keys: List[bytes], context: Any) -> None:
        """Have the expiries of these keys come along with a later page."""
        if PTTL not in self._denied:
            self._later.append(Ask("ttl", rule, keys, context=context))

    def step(self) -> Page:
        """One page further. Raises the library's errors."""
        commands: List[Command] = []
        coming, self._later = self._later, []
        if self._scanning:
            commands, asks = self._next_page()
            coming += asks
        for ask in coming:
            commands += ask.commands()
        self._wire.send(commands)
        ready, self._due = self._due, coming
        page = Page()
        for ask in ready:
            self._receive(ask, page)
        return page

    def close(self) -> None:
        self._wire.close()

    def _next_page(self) -> Tuple[List[Command], List[Ask]]:
        if self._first:
            size = self._wire.read()
            self.expected = None if isinstance(size, Refusal) else int(size)
            self._wire.take_refusals()  # the size is a nicety
            self._first = False
        reply = self._wire.read()
        if isinstance(reply, Refusal):
            for _position, fault in self._wire.take_refusals():
                self._refused(b"SCAN", fault)
            self._scanning = False
            return [], []
        cursor, keys = reply
        self.seen += len(keys)
        self._pages += 1
        self._scanned = int(cursor) == 0
        self._scanning = not (self._scanned or self._stopping)
        following: List[Command] = []
        if self._scanning:
            following = [(b"SCAN", cursor, b"COUNT", self._count)]
        groups = self._sorter.sort(keys)
        return following, [ask for rule, some in groups for ask in self._plan(rule, some)]

    def _plan(self, rule: Rule, keys: List[bytes]) -> List[Ask]:
        kind = self._kinds.get(rule, rule.kind)
        ttls = rule.role == "token" and self._ttls_due(len(keys))
        return self._ask(kind, rule, keys, ttls=ttls)

    def _ask(
        self, what: str, rule: Rule, keys: List[bytes], *, ttls: bool = False,
        tried: Tuple[str, ...] = (),
    ) -> List[Ask]:  # fmt: skip
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

    def _runs(self, keys: List[bytes]) -> Tuple[int, ...]:
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
        ttls = self._wire.read_many(len(ask.keys)) if ask.ttls else None
        self._note_refusals(ask)
        part = Part(ask.rule, ask.what, ask.keys, replies, _numbers(ttls), ask.context)
        _RECEIVERS[ask.what](self, ask, part, page)

    def _read_each(self, ask: Ask) -> List[Any]:
        return self._wire.read_many(len(ask.keys))

    def _read_strings(self, ask: Ask) -> List[Any]:
        values: List[Any] = []
        for run in ask.runs:
            reply = self._wire.read()
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
                page.others += len(missing)
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
            page.others += len(wrong)
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
        page.others += len(part.keys) - part.values.count(b"none") - len(hashes)
        if hashes:
            page.parts.append(Part(ask.rule, "hash", hashes, [{} for _ in hashes]))

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


_WRONG_TYPE = Refusal("type")
_OTHER_SLOTS = Refusal("slot")
_RECEIVERS = {
    "string": NodeReader._receive_strings,
    "hash": NodeReader._receive_hashes,
    "type": NodeReader._receive_types,
    "set": NodeReader._receive_numbers,
    "ttl": NodeReader._receive_numbers,
}


def _numbers(replies: Optional[Sequence[Any]]) -> Optional[List[Optional[int]]]:
    if replies is None:
        return None
    return [reply if isinstance(reply, int) else None for reply in replies]
