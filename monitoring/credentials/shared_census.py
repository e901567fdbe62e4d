"""Keep: the last whole census of the token script, for the credential script of the same minute.

A file beside the state file holds when each client's live tokens were issued and die, counts, and
the cached credentials: no token, no id of one, no secret. It is made only of a census that saw
every key, and used only for the same cache, settings and servers, by a look that is not much later,
and while nothing was taken away from the cache. In every other case the reader looks for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Optional

import msgspec

from monitoring import __version__
from monitoring.certainty import Doubt
from monitoring.config.settings import Settings
from monitoring.credentials.facts import NodeFacts
from monitoring.store.state import State
from monitoring.tokens.clients import ClientLedger, Tally
from monitoring.tokens.codecs.facts import CredentialFact
from monitoring.tokens.owners import Nobody, Reading
from monitoring.tokens.stats import TokenStats

#: A census may be older than the reader's interval by this factor: two jobs of one minute do not
#: start at the same moment of it.
SLACK = 1.25
MOST = 64 * 1024 * 1024  # bytes of a file that is believed
_AT_ONCE = 250  # rows that are packed together: all of ten thousand clients would be there twice
_SUFFIX = "-census"
_DIGEST, _LENGTH = 32, 4  # bytes of a digest, and of the length of a part
#: Settings that change what is shown, or when a scan ends, and not what a whole one finds.
_SHOWN = (
    *("top_clients", "max_keys", "time_budget", "accepted_findings", "ttl_tolerance"),
    "follow",
)
_ASIDE = ("password", "timeout", "scan_timeout")


class _Row(msgspec.Struct, array_like=True):
    """A ledger and whose it is: texts are clients, numbers places in `Nobody`."""

    names: list[Any]
    several: bool
    tally: Tally
    kept: bytes
    named: bytes
    minutes: dict[int, tuple[int, int]]
    odd: list[tuple[Optional[int], Optional[int], int]]
    named_odd: list[tuple[Optional[int], Optional[int]]]
    doubts: list[Doubt]
    versions: dict[str, int]


class Shared(msgspec.Struct):
    """A census as it is kept. `at`: its beginning, epoch seconds. `readers` are the servers that
    were read, `primaries` those that are written to, after the scan."""

    scope: str
    at: float
    seen: int
    matched: dict[str, int]
    undecodable: dict[str, int]
    conflicts: int
    credentials: list[CredentialFact]
    readers: list[NodeFacts]
    primaries: list[NodeFacts]
    rows: list[_Row] = []

    def same_servers(self, readers: Sequence[NodeFacts], primaries: Sequence[NodeFacts]) -> bool:
        """Whether these are the servers of the census, and nothing was taken away since. What
        cannot be told is no."""
        now, then = (readers, primaries), (self.readers, self.primaries)
        reported = all(node.lives and node.losses and not node.fault for node in primaries)
        return bool(primaries) and reported and [*map(_known, now)] == [*map(_known, then)]

    def stats(self, settings: Settings) -> TokenStats:
        """The census as it was at `at`."""
        stats = TokenStats(
            self.at, settings.tokens, excluded=settings.canary.clients, reads_names=True
        )
        clients = {_reading(row): _ledger(row) for row in self.rows}
        versions = {_reading(row): row.versions for row in self.rows if row.versions}
        stats.take_over(clients, versions, self.undecodable, self.conflicts)
        return stats


@dataclass(frozen=True)
class Seen:
    """What of a census is kept beside the tokens."""

    at: float
    keys: int
    matched: Mapping[str, int]
    credentials: Sequence[CredentialFact]
    readers: Sequence[NodeFacts]
    primaries: Sequence[NodeFacts]


class SharedCensus:
    """The file of one state folder, for the cache and the settings given."""

    def __init__(self, state: State, settings: Settings, interval: float) -> None:
        """`interval`: seconds between the reader's cycles."""
        self._state, self._interval = state, interval
        self._scope = scope_of(settings)
        self._path = Path(f"{state.path}{_SUFFIX}")

    def keep(self, stats: TokenStats, seen: Seen) -> bool:
        """Keep a whole census; whether it could be."""
        rows = _rows(stats)
        if rows is None or not self._state.usable:
            return False
        head = Shared(
            scope=self._scope,
            at=seen.at,
            seen=seen.keys,
            matched=dict(seen.matched),
            undecodable=dict(stats.undecodable),
            conflicts=stats.hygiene.count("jti_conflict"),
            credentials=list(seen.credentials),
            readers=list(seen.readers),
            primaries=list(seen.primaries),
        )
        fresh = Path(f"{self._path}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
                _write(file, head, rows)
            fresh.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            return False
        return True

    def find(self, now: float) -> Optional[Shared]:
        """The census that may stand for one made now; None: there is none, so look."""
        if not self._state.usable:
            return None
        try:
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                found = _read(file.read(MOST + 1))
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return None
        age = now - found.at
        fresh = 0.0 <= age <= SLACK * self._interval
        return found if fresh and found.scope == self._scope else None


def scope_of(settings: Settings) -> str:
    """What two looks must have alike to count the same: the whole address of the cache and who
    asks, and every setting that decides what is counted, and how."""
    redis = {k: v for k, v in asdict(settings.redis).items() if k not in _ASIDE}
    tokens = {k: v for k, v in asdict(settings.tokens).items() if k not in _SHOWN}
    whole = [
        *(__version__, settings.environment, redis, tokens),
        sorted(settings.canary.clients),
    ]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _write(file: IO[bytes], head: Shared, rows: Iterable[_Row]) -> None:
    """A digest of what follows, then the head and the rows in parts, each after its length."""
    digest, some = hashlib.sha256(), iter(rows)
    file.write(bytes(_DIGEST))
    part: Any = head
    while part:
        packed = msgspec.msgpack.encode(part)
        for piece in (len(packed).to_bytes(_LENGTH, "big"), packed):
            digest.update(piece)
            file.write(piece)
        part = list(islice(some, _AT_ONCE))
    file.seek(0)
    file.write(digest.digest())


def _read(whole: bytes) -> Shared:
    """Raises ValueError where the file was cut or changed, or is of another version."""
    body = memoryview(whole)[_DIGEST:]
    if len(whole) > MOST or hashlib.sha256(body).digest() != whole[:_DIGEST]:
        raise ValueError("not a census that was written whole")
    first, *others = _parts(body)
    found = msgspec.msgpack.decode(first, type=Shared)
    for part in others:
        found.rows += msgspec.msgpack.decode(part, type=list[_Row])
    return found


def _parts(body: memoryview) -> Iterator[memoryview]:
    while body:
        end = _LENGTH + int.from_bytes(body[:_LENGTH], "big")
        yield body[_LENGTH:end]
        body = body[end:]


def _known(nodes: Sequence[NodeFacts]) -> list[tuple[str, Mapping[str, int]]]:
    return sorted(((node.lives, node.losses) for node in nodes), key=lambda pair: pair[0])


_NOBODY = tuple(Nobody)


def _rows(stats: TokenStats) -> Optional[Iterator[_Row]]:
    """None where readings were folded: those are known to the process that made them alone. None
    also where tokens were issued in the future: the file does not hold that doubt."""
    if stats.folded or stats.hygiene.count("iat_in_future"):
        return None
    return (_row(*ledger) for ledger in stats.ledgers())


def _row(reading: Reading, ledger: ClientLedger, versions: Mapping[str, int]) -> _Row:
    return _Row(
        names=[
            name if isinstance(name, str) else _NOBODY.index(name)
            for name in (reading if isinstance(reading, tuple) else (reading,))
        ],
        several=isinstance(reading, tuple),
        tally=ledger.tally,
        kept=ledger.kept.tobytes(),
        named=array("q", sorted(set(ledger.named))).tobytes(),
        minutes=ledger.minutes,
        odd=[(*times, many) for times, many in ledger.odd.items()],
        named_odd=list(ledger.named_odd),
        doubts=list(ledger.doubts),
        versions=dict(versions),
    )


def _reading(row: _Row) -> Reading:
    names = [name if isinstance(name, str) else _NOBODY[name] for name in row.names]
    return tuple(names) if row.several else names[0]


def _ledger(row: _Row) -> ClientLedger:
    made = ClientLedger()
    made.tally, made.minutes = row.tally, row.minutes
    made.kept.frombytes(row.kept)
    made.named.frombytes(row.named)
    made.odd = {(issued, dies): many for issued, dies, many in row.odd}
    made.named_odd = set(row.named_odd)
    made.doubts = dict.fromkeys(row.doubts)
    return made
