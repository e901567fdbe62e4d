"""Keep: logins per client across runs: the services' counters become buckets of ok and failed.

A bucket spans the time from the last look to this one; what no look covers stays a gap. Logins are
counted where they happen, at EAPI, or at the first service that counts any; never twice. Client ids
that nobody registered are pooled under '' and never kept one by one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from monitoring import counters
from monitoring.anomaly.types import Bucket, Usage
from monitoring.counters import CounterKey, Delta
from monitoring.credentials.facts import EAPI, SAPI
from monitoring.redact import safe_id
from monitoring.service_counters import TOTAL, CounterSample
from monitoring.service_metrics import ServiceMetrics
from monitoring.state import State, Transaction

LOGINS = "authentication_attempts"
SERVICES = (EAPI, SAPI)
UNKNOWN_CLIENT = ""
#: A bucket longer than this says too little of when its calls were made to be learnt from.
LONGEST = 3600.0 + 60.0
#: Buckets are kept as they come for so long, then folded into hours, then dropped (seconds).
RAW_FOR = 6 * 3600.0
KEPT_FOR = 35 * 86400.0
_SCOPE = "logins"
_PREFIX = "credential_usage_metrics/"
_COUNTERS_FOR = 7 * 86400.0
#: A look that is older than the last by less than this came late; by more, the clock was wrong.
_LATE = 900.0


@dataclass(frozen=True)
class Look:
    """What one look added. `bucket` None: there was no earlier look to count from. `clients` holds
    every client id that the services count, registered or not; `succeeded` those of them that are
    not registered and logged in."""

    bucket: Optional[Bucket] = None
    clients: Collection[str] = field(default_factory=tuple)
    succeeded: Collection[str] = ()


class UsageBook:
    """The tables `counters`, `buckets`, `bucket_hours` and `uses`."""

    def __init__(self, state: State, *, ignored: Collection[str] = ()) -> None:
        self._state, self._ignored = state, frozenset(ignored)

    def look(
        self,
        services: Mapping[str, ServiceMetrics],
        registered: Optional[Collection[str]],
        now: float,
    ) -> Look:
        """Take in the counters of the services that were read, by EAPI, SAPI. `registered` None:
        it is not known who is, so everybody counts under the own name."""
        rows = {n: [s for s in m.samples if s.name == LOGINS] for n, m in services.items()}
        # as service_counters makes them fit to print -> as the vault has them
        names = None if registered is None else {safe_id(client): client for client in registered}
        seen = {_client(s) for found in rows.values() for s in found} - self._ignored
        clients = {(names or {}).get(client, client) for client in seen}
        with self._state.transaction() as tx:
            name = _counting(tx, rows)
            if not name:
                _begin(tx, services, now)
            if name not in rows:
                return Look(None, clients)  # what it counts meanwhile comes with the next look
            grown = self._grown(tx, name, rows[name], now)
            looked = _looked(tx, now)
            if looked is None or now <= looked:
                return Look(None, clients)
            bucket = self._bucket(grown, names, (looked, now - looked))
            _keep(tx, bucket)
        ok = {client for client, usage in _usage(grown).items() if client and usage.ok > 0}
        return Look(bucket, clients, ok - set(ok if names is None else names) - self._ignored)

    def _grown(
        self, tx: Transaction, name: str, samples: List[CounterSample], now: float
    ) -> Dict[CounterKey, Delta]:
        source = _PREFIX + name
        before = _read(tx, source)
        newest = max((at for _, at in before.values()), default=now)
        if now < newest < now + _LATE:
            return {}  # another monitor looked meanwhile and has counted all of this
        current = counters.keyed(source, samples, now)
        tx.executemany(
            "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?)",
            [(k.source, k.name, json.dumps(k.labels), k.instance, *v) for k, v in current.items()],
        )
        old = (source, now - _COUNTERS_FOR)
        tx.execute("DELETE FROM counters WHERE source = ? AND at < ?", old)
        return counters.deltas(before, current)

    def _bucket(
        self,
        grown: Mapping[CounterKey, Delta],
        names: Optional[Mapping[str, str]],
        span: Tuple[float, float],
    ) -> Bucket:
        rows: Dict[str, Usage] = {}
        for client, usage in _usage(grown).items():
            if client not in self._ignored and (usage.ok or usage.failed):
                name = client if names is None else names.get(client, UNKNOWN_CLIENT)
                before = rows.get(name, Usage(0.0, 0.0))
                rows[name] = Usage(before.ok + usage.ok, before.failed + usage.failed)
        return Bucket(span[0], span[1], rows)

    def sighted(self, clients: Iterable[str], now: float) -> None:
        """The replaced version of these clients' secrets was seen in use now."""
        sql = """INSERT INTO uses VALUES (?, 0, 0, NULL, NULL, ?)
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


def _client(sample: CounterSample) -> str:
    return dict(sample.labels).get("client", "")


def _counting(tx: Transaction, rows: Mapping[str, List[CounterSample]]) -> str:
    """The service whose count of logins is taken: the first that ever counted any; "" for none."""
    for name in SERVICES:
        known = "SELECT 1 FROM counters WHERE source = ? AND name = ? AND value > 0 LIMIT 1"
        if rows.get(name) or tx.execute(known, (_PREFIX + name, LOGINS)):
            return name
    return ""


def _begin(tx: Transaction, services: Mapping[str, ServiceMetrics], now: float) -> None:
    """Nobody has logged in yet anywhere: from here on the first login will count."""
    labels = json.dumps((("client", UNKNOWN_CLIENT), ("success", "true")))
    rows = {(_PREFIX + name, i) for name, found in services.items() for i in found.instances}
    tx.executemany(
        "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, 0, ?)",
        [(source, LOGINS, labels, instance, now) for source, instance in sorted(rows)],
    )
    _looked(tx, now)


def _usage(grown: Mapping[CounterKey, Delta]) -> Dict[str, Usage]:
    """By client; where only attempts are counted, successes are what is left of them."""
    failed = counters.by_label(grown, LOGINS, "client", success="false")
    ok = counters.by_label(grown, LOGINS, "client", success="true")
    for client, attempts in counters.by_label(grown, LOGINS, "client", success=TOTAL).items():
        ok[client] = ok.get(client, 0.0) + max(0.0, attempts - failed.get(client, 0.0))
    return {name: Usage(ok.get(name, 0.0), failed.get(name, 0.0)) for name in {*ok, *failed}}


def _read(tx: Transaction, source: str) -> Dict[CounterKey, Tuple[float, float]]:
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


def _keep(tx: Transaction, bucket: Bucket) -> None:
    tx.execute("INSERT OR REPLACE INTO bucket_hours VALUES (?, ?)", (bucket.at, bucket.seconds))
    end = bucket.at + bucket.seconds
    rows = [
        (bucket.at, bucket.seconds, client, usage.ok, usage.failed, "")
        for client, usage in bucket.clients.items()
    ]
    tx.executemany("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", rows)
    uses = [
        (client, u.ok + u.failed, u.failed, end if u.ok else None, end if u.failed else None)
        for client, u in bucket.clients.items()
    ]
    tx.executemany(
        """INSERT INTO uses VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (client) DO UPDATE SET
        attempts = attempts + excluded.attempts, failures = failures + excluded.failures,
        last_ok = coalesce(excluded.last_ok, last_ok),
        last_failed = coalesce(excluded.last_failed, last_failed)""",
        uses,
    )


def _fold(tx: Transaction, since: float, until: float) -> None:
    """Buckets that begin in [since, until) become one row an hour and client. Those that are too
    long to belong to one hour stay as they are."""
    span = (since, until, LONGEST)
    hours = tx.execute(
        "SELECT CAST(at / 3600 AS INTEGER) * 3600.0, min(3600.0, sum(seconds)) FROM bucket_hours "
        "WHERE at >= ? AND at < ? AND seconds <= ? GROUP BY 1", span,
    )  # fmt: skip
    rows = tx.execute(
        "SELECT CAST(at / 3600 AS INTEGER) * 3600.0, 0, client, sum(ok), sum(failed), '' "
        "FROM buckets WHERE at >= ? AND at < ? AND seconds <= ? GROUP BY 1, client", span,
    )  # fmt: skip
    watched: Dict[float, float] = dict(hours)
    tx.execute("DELETE FROM buckets WHERE at >= ? AND at < ? AND seconds <= ?", span)
    tx.execute("DELETE FROM bucket_hours WHERE at >= ? AND at < ? AND seconds <= ?", span)
    tx.executemany("INSERT OR IGNORE INTO bucket_hours VALUES (?, ?)", hours)
    folded = [(row[0], watched.get(row[0], 0.0), *row[2:]) for row in rows]
    tx.executemany("INSERT OR IGNORE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", folded)
