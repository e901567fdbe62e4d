"""Keep: logins per client across runs, and what the kept buckets of logins say.

A bucket spans the time from the last look to this one; what no look covers stays a gap. Logins are
counted where they happen, at EAPI, or at the first service that counts any; never twice. Client ids
that nobody registered are pooled under '' and never kept one by one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional

from monitoring.anomaly.types import Bucket, Usage
from monitoring.credentials.facts import EAPI, SAPI, UNKNOWN_CLIENT, Totals, Window
from monitoring.services import counters, families
from monitoring.services.counters import READ, CounterKey, CounterSample, Delta, Seen
from monitoring.services.families import CLIENTS, USES, Settled, Unsure, leaves_open
from monitoring.services.labels import BAD, GOOD, UNKNOWN_END
from monitoring.services.metrics import ServiceMetrics
from monitoring.store.state import State, Transaction
from monitoring.text import safe_id

# -- what the kept buckets of logins say: sums over the window, last times, and all of them in order
# for a back-test.

_HOUR = 3600.0
#: Failures to a success in one bucket above which they count as guesses before it.
GUESSES_PER_SUCCESS = 10.0


class UsageHistory:
    """Reads what UsageBook keeps."""

    def __init__(self, state: State) -> None:
        self._state = state

    def totals(self) -> dict[str, Totals]:
        """By client; '' is everybody who is not registered."""
        sql = "SELECT client, attempts, failures, last_ok, last_failed, old_seen, unknown FROM uses"
        return {row[0]: Totals(*row[1:]) for row in self._state.read(sql)}

    def window(self, now: float, seconds: float, *, guesses: float) -> Window:
        """The last `seconds`; `guesses` failures in a row make a success after them notable."""
        since = (now - seconds, now + 1.0)
        spans = self._state.read(
            "SELECT at, seconds, unsure FROM bucket_hours WHERE at + seconds > ? AND at <= ?", since
        )
        if not spans:
            return Window(span=seconds)
        shares = {at: _share(at, lasted, now - seconds) for at, lasted, _ in spans}
        watched = sum(lasted * shares[at] for at, lasted, _ in spans)
        said = dict.fromkeys(unsure for _, _, unsure in spans)
        unsure = [each for text in said for each in unsure_of(text)]
        rows = self._state.read(
            "SELECT at, client, ok, failed, unknown FROM buckets "
            "WHERE at + seconds > ? AND at <= ? ORDER BY at", since,
        )  # fmt: skip
        found: dict[str, Usage] = {}
        for at, client, ok, failed, unknown in rows:
            before, share = found.get(client, Usage(0.0, 0.0)), shares.get(at, 1.0)
            found[client] = added(before, Usage(ok, failed, unknown=unknown), share)
        kept = tuple(dict.fromkeys(unsure))
        return Window(watched, found, _recovered(rows, guesses), seconds, kept)

    def buckets(self, since: float) -> Iterator[Bucket]:
        """Every kept bucket from `since` on, in order. Those too long to tell hours apart are left
        out: a gap is better than a spike that never was."""
        spans = self._state.read(
            "SELECT at, seconds, unsure FROM bucket_hours WHERE at >= ? AND seconds <= ? "
            "ORDER BY at", (since, LONGEST),
        )  # fmt: skip
        for at, seconds, said in spans:
            rows = self._state.read(
                "SELECT client, ok, failed, unknown FROM buckets WHERE at = ? AND client != ''",
                (at,),
            )
            clients = {row[0]: Usage(row[1], row[2], unknown=row[3]) for row in rows}
            bucket = LoginsSeen(
                Bucket(at, min(seconds, _HOUR), clients), unsure=tuple(unsure_of(said))
            )
            if bucket.to_learn is not None:
                yield bucket.to_learn


def _share(at: float, lasted: float, start: float) -> float:
    """How much of the bucket lies after `start`."""
    return 1.0 if at >= start or lasted <= 0 else (at + lasted - start) / lasted


def _recovered(
    rows: Iterable[tuple[float, str, float, float, float]], guesses: float
) -> dict[str, tuple[float, float]]:
    """Within one bucket nobody knows what came first: there, failures that outnumber the successes
    by far are taken to come before them. A busy client with a few failures is not meant."""
    runs: dict[str, float] = {}
    found: dict[str, tuple[float, float]] = {}
    for at, client, ok, failed, _ in rows:
        run = runs.get(client, 0.0)
        if failed >= GUESSES_PER_SUCCESS * ok:
            run += failed
        if ok and run >= guesses:
            found[client] = (run, at)
        runs[client] = 0.0 if ok else run
    return found


# -- logins per client across runs: the services' counters become buckets of ok and failed.

LOGINS = "authentication_attempts"
SERVICES = (EAPI, SAPI)
_TAKEN = (LOGINS, READ)
#: A bucket longer than this says too little of when its calls were made to be learnt from.
LONGEST = 3600.0 + 60.0
#: Buckets are kept as they come for so long, then folded into hours, then dropped (seconds).
RAW_FOR = 6 * 3600.0
KEPT_FOR = 35 * 86400.0
_SCOPE, _UNSURE = "logins", "unsure"
_PREFIX = "credential_usage_metrics/"
_COUNTERS_FOR = 7 * 86400.0
#: A look that is older than the last by less than this came late; by more, the clock was wrong.
_LATE = 900.0


@dataclass(frozen=True)
class LoginsSeen:
    """What one look added. `bucket` None: there was no earlier look to count from. `clients` holds
    every client id that the services count, registered or not; `succeeded` those of them that are
    not registered and logged in. `unsure`: what the counts of the bucket leave open; without one,
    those of the newest page. `read`: a page was read at some time."""

    bucket: Optional[Bucket] = None
    clients: Collection[str] = field(default_factory=tuple)
    succeeded: Collection[str] = ()
    unsure: tuple[Unsure, ...] = ()
    read: bool = False

    @property
    def to_learn(self) -> Optional[Bucket]:
        """The bucket for the detector, which counts an attempt of unknown end as a call that went
        well. None where it is not known whose calls they were, or how many."""
        if self.bucket is None or leaves_open(self.unsure, CLIENTS, USES):
            return None
        return replace(self.bucket, clients=plainly(self.bucket.clients))


def plainly(clients: Mapping[str, Usage]) -> dict[str, Usage]:
    """Without unknown ends: those calls as good ones."""
    return {name: Usage(u.ok + u.unknown, u.failed) for name, u in clients.items()}


class _Page(NamedTuple):
    """The page of the service whose logins are counted, and the one before it."""

    now: Seen
    before: Seen

    @property
    def comparable(self) -> bool:
        return bool(counters.deltas(self.before, self.now))

    def settled(self) -> Settled:
        """What grew; at a first look, what was ever counted."""
        found = counters.deltas(self.before, self.now) or counters.whole(self.now)
        return families.settled(found, self.now)


class UsageBook:
    """The tables `counters`, `buckets`, `bucket_hours` and `uses`."""

    def __init__(self, state: State, *, ignored: Collection[str] = ()) -> None:
        self._state = state
        self._ignored = frozenset(safe_id(client) for client in ignored if client)

    def look(
        self,
        services: Mapping[str, ServiceMetrics],
        registered: Optional[Collection[str]],
        now: float,
    ) -> LoginsSeen:
        """Take in the counters of the services that were read, by EAPI, SAPI. `registered` None:
        it is not known who is, so everybody counts under the own name."""
        rows = {n: [s for s in m.samples if s.name in _TAKEN] for n, m in services.items()}
        # as `services.counters` makes them fit to print -> as the vault has them
        names = None if registered is None else {safe_id(client): client for client in registered}
        seen = {_client(s) for found in rows.values() for s in found} - self._ignored - {""}
        clients = {(names or {}).get(client, client) for client in seen}
        with self._state.transaction() as tx:
            name = _counting(tx, rows)
            pages = {n: _take(tx, _PREFIX + n, found, now) for n, found in rows.items()}
            if not name:
                _looked(tx, now)  # nobody has logged in yet: from here on the first login counts
            page = pages.get(name)
            if page is None or not page.now:  # what it counts meanwhile comes with the next look
                known = bool(pages) or bool(tx.execute("SELECT 1 FROM uses LIMIT 1"))
                return LoginsSeen(None, clients, unsure=_remembered(tx), read=known)
            done = page.settled()
            unsure = _remember(tx, done.unsure, now)
            looked = _looked(tx, now)
            if looked is None or now <= looked or not page.comparable:
                return LoginsSeen(None, clients, unsure=unsure, read=True)
            bucket = self._bucket(done.deltas, names, (looked, now - looked))
            _keep(tx, bucket, unsure)
        ok = {client for client, usage in _usage(done.deltas).items() if client and usage.ok > 0}
        strangers = ok - set(ok if names is None else names) - self._ignored
        return LoginsSeen(bucket, clients, strangers, unsure, True)

    def _bucket(
        self,
        grown: Mapping[CounterKey, Delta],
        names: Optional[Mapping[str, str]],
        span: tuple[float, float],
    ) -> Bucket:
        rows: dict[str, Usage] = {}
        for client, usage in _usage(grown).items():
            if client not in self._ignored and usage.attempts:
                name = client if names is None else names.get(client, UNKNOWN_CLIENT)
                rows[name] = added(rows.get(name, Usage(0.0, 0.0)), usage)
        return Bucket(span[0], span[1], rows)

    def sighted(self, clients: Iterable[str], now: float) -> None:
        """The replaced version of these clients' secrets was seen in use now."""
        sql = """INSERT INTO uses VALUES (?, 0, 0, NULL, NULL, ?, 0)
            ON CONFLICT (client) DO UPDATE SET old_seen = excluded.old_seen"""
        with self._state.transaction() as tx:
            tx.executemany(sql, [(client, now) for client in clients])

    def fold(self, now: float) -> None:
        """Make hours of buckets past RAW_FOR and drop those past KEPT_FOR; once an hour is due."""
        until = (now - RAW_FOR) // 3600.0 * 3600.0
        with self._state.transaction() as tx:
            done = tx.execute("SELECT value FROM kv WHERE scope = ? AND key = 'folded'", (_SCOPE,))
            since = float(done[0][0]) if done else 0.0
            if until <= since <= now:
                return
            _fold(tx, min(since, until), until)
            tx.execute("DELETE FROM buckets WHERE at < ?", (now - KEPT_FOR,))
            tx.execute("DELETE FROM bucket_hours WHERE at < ?", (now - KEPT_FOR,))
            row = (_SCOPE, "folded", repr(until), now)
            tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)


def added(one: Usage, other: Usage, share: float = 1.0) -> Usage:
    """Both together, of the other its share."""
    return Usage(
        one.ok + other.ok * share,
        one.failed + other.failed * share,
        unknown=one.unknown + other.unknown * share,
    )


def _client(sample: CounterSample) -> str:
    return dict(sample.labels).get("client", "")


def _counting(tx: Transaction, rows: Mapping[str, list[CounterSample]]) -> str:
    """The service whose count of logins is taken: the first that ever counted any; "" for none."""
    for name in SERVICES:
        known = "SELECT 1 FROM counters WHERE source = ? AND name = ? AND value > 0 LIMIT 1"
        counts = any(sample.name == LOGINS for sample in rows.get(name, ()))
        if counts or tx.execute(known, (_PREFIX + name, LOGINS)):
            return name
    return ""


def _take(tx: Transaction, source: str, samples: list[CounterSample], now: float) -> _Page:
    """Keep the page and return it with the one before. Empty where another monitor looked
    meanwhile and has counted all of this."""
    before = _read(tx, source)
    newest = max((at for _, at in before.values()), default=now)
    if now < newest < now + _LATE:
        return _Page({}, before)
    current = counters.keyed(source, samples, now)
    tx.executemany(
        "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?)",
        [(k.source, k.name, json.dumps(k.labels), k.instance, *v) for k, v in current.items()],
    )
    old = (source, now - _COUNTERS_FOR)
    tx.execute("DELETE FROM counters WHERE source = ? AND at < ?", old)
    return _Page(current, before)


def _usage(grown: Mapping[CounterKey, Delta]) -> dict[str, Usage]:
    """By client, over all instances."""
    rows: dict[str, Usage] = {}
    for key, delta in grown.items():
        labels = dict(key.labels)
        end, client = labels["success"], labels["client"]
        one = Usage(
            delta.increase if end == GOOD else 0.0,
            delta.increase if end == BAD else 0.0,
            unknown=delta.increase if end == UNKNOWN_END else 0.0,
        )
        rows[client] = added(rows.get(client, Usage(0.0, 0.0)), one)
    return rows


def unsure_of(text: str) -> list[Unsure]:
    """What the state keeps of it; nothing where that cannot be read."""
    try:
        return families.from_rows(json.loads(text))
    except (ValueError, TypeError):
        return []


def _remember(tx: Transaction, unsure: Iterable[Unsure], now: float) -> tuple[Unsure, ...]:
    kept = families.about(families.LOGINS, unsure)
    row = (_SCOPE, _UNSURE, json.dumps(families.as_rows(kept)), now)
    tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
    return kept


def _remembered(tx: Transaction) -> tuple[Unsure, ...]:
    rows = tx.execute("SELECT value FROM kv WHERE scope = ? AND key = ?", (_SCOPE, _UNSURE))
    return tuple(unsure_of(str(rows[0][0]))) if rows else ()


def _read(tx: Transaction, source: str) -> dict[CounterKey, tuple[float, float]]:
    sql = "SELECT source, name, labels, instance, value, at FROM counters WHERE source = ?"
    found = {}
    for *key, value, at in tx.execute(sql, (source,)):
        labels = tuple((str(k), str(v)) for k, v in json.loads(key[2]))
        found[CounterKey(key[0], key[1], labels, key[3])] = (value, at)
    return found


def _looked(tx: Transaction, now: float) -> Optional[float]:
    """When counters were last taken in, by whichever monitor; this look is the next."""
    rows = tx.execute("SELECT value FROM kv WHERE scope = ? AND key = 'looked'", (_SCOPE,))
    before = float(rows[0][0]) if rows else None
    if before is None or before < now or before >= now + _LATE:
        row = (_SCOPE, "looked", repr(now), now)
        tx.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", row)
    return before


def _keep(tx: Transaction, bucket: Bucket, unsure: Iterable[Unsure]) -> None:
    said = json.dumps(families.as_rows(unsure))
    hour = (bucket.at, bucket.seconds, said)
    tx.execute("INSERT OR REPLACE INTO bucket_hours VALUES (?, ?, ?)", hour)
    end = bucket.at + bucket.seconds
    rows = [
        (bucket.at, bucket.seconds, client, usage.ok, usage.failed, "", usage.unknown)
        for client, usage in bucket.clients.items()
    ]
    tx.executemany("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    uses = [
        (
            *(client, u.attempts, u.failed),
            *(end if u.ok else None, end if u.failed else None, u.unknown),
        )
        for client, u in bucket.clients.items()
    ]
    tx.executemany(
        """INSERT INTO uses VALUES (?, ?, ?, ?, ?, NULL, ?) ON CONFLICT (client) DO UPDATE SET
        attempts = attempts + excluded.attempts, failures = failures + excluded.failures,
        unknown = unknown + excluded.unknown,
        last_ok = coalesce(excluded.last_ok, last_ok),
        last_failed = coalesce(excluded.last_failed, last_failed)""",
        uses,
    )


def _fold(tx: Transaction, since: float, until: float) -> None:
    """Buckets that begin in [since, until) become one row an hour and client. Those that are too
    long to belong to one hour stay as they are."""
    span = (since, until, LONGEST)
    hours = tx.execute(
        "SELECT CAST(at / 3600 AS INTEGER) * 3600.0, min(3600.0, sum(seconds)), max(unsure) "
        "FROM bucket_hours "
        "WHERE at >= ? AND at < ? AND seconds <= ? GROUP BY 1", span,
    )  # fmt: skip
    rows = tx.execute(
        "SELECT CAST(at / 3600 AS INTEGER) * 3600.0, 0, client, sum(ok), sum(failed), '', "
        "sum(unknown) FROM buckets WHERE at >= ? AND at < ? AND seconds <= ? GROUP BY 1, client",
        span,
    )  # fmt: skip
    watched: dict[float, float] = {at: seconds for at, seconds, _ in hours}
    tx.execute("DELETE FROM buckets WHERE at >= ? AND at < ? AND seconds <= ?", span)
    tx.execute("DELETE FROM bucket_hours WHERE at >= ? AND at < ? AND seconds <= ?", span)
    tx.executemany("INSERT OR IGNORE INTO bucket_hours VALUES (?, ?, ?)", hours)
    folded = [(row[0], watched.get(row[0], 0.0), *row[2:]) for row in rows]
    tx.executemany("INSERT OR IGNORE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?)", folded)
