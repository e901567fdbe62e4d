"""Keep: the tables of the state file, and the steps that turn an older file into today's.

`MIGRATIONS[n]` takes a file from version n to n + 1; SQLite's `user_version` holds the version.
Never change a step that was released: add one. Times are epoch seconds (UTC), durations seconds.

Alerts: a notice is `begun` while it may be on the wire, `told` or `dead` once it is settled, else
waiting; `alert_told` holds which channels know that an alert fires and not yet that it ended.

Credentials: `ledger` holds when a version was first seen, the last look before that (`first_seen`
itself: none), and when it came as a better source once said. `buckets` holds a client's logins in
the `seconds` from `at`, '' being all clients that nobody registered; `bucket_hours` which spans
were watched, so that no row for a client in one means no call; `uses` totals and last times.

Figures: `samples` holds one row per series and time; the row stands for the `seconds` that end at
`at`, was made from `n` measurements, `total` is their sum, `weighted` the sum of value x seconds,
`low` and `high` their extremes. Thinning only ever adds such rows up, so means stay exact.
"""

from __future__ import annotations

_FIRST = (
    """CREATE TABLE kv (
        scope TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, updated REAL NOT NULL,
        PRIMARY KEY (scope, key)) WITHOUT ROWID""",
    """CREATE TABLE series (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (name, labels))""",
    """CREATE TABLE samples (
        series_id INTEGER NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL, n INTEGER NOT NULL,
        total REAL NOT NULL, weighted REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
        PRIMARY KEY (series_id, at)) WITHOUT ROWID""",
    """CREATE TABLE cycles (
        script TEXT NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL, interval REAL NOT NULL,
        status TEXT NOT NULL, PRIMARY KEY (script, at)) WITHOUT ROWID""",
    """CREATE TABLE alert_states (
        key TEXT PRIMARY KEY, script TEXT NOT NULL, body TEXT NOT NULL, updated REAL NOT NULL)""",
    """CREATE TABLE notices (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, channel TEXT NOT NULL, reason TEXT NOT NULL,
        body TEXT NOT NULL, created REAL NOT NULL, due REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, begun REAL, told REAL, dead REAL,
        why TEXT NOT NULL DEFAULT '')""",
    "CREATE INDEX notices_due ON notices (due) WHERE told IS NULL AND dead IS NULL",
    "CREATE INDEX notices_key ON notices (key, id)",
    """CREATE VIEW notices_waiting AS
        SELECT id, key, channel, body, created, attempts, begun, why, due FROM notices
        WHERE told IS NULL AND dead IS NULL""",
    """CREATE TABLE alert_told (
        key TEXT NOT NULL, channel TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (key, channel)) WITHOUT ROWID""",
    """CREATE TABLE ledger (
        client TEXT NOT NULL, version TEXT NOT NULL, first_seen REAL NOT NULL,
        watched_since REAL NOT NULL, born REAL, born_source TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (client, version)) WITHOUT ROWID""",
    """CREATE TABLE counters (
        source TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, instance TEXT NOT NULL,
        value REAL NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (source, name, labels, instance)) WITHOUT ROWID""",
    """CREATE TABLE buckets (
        at REAL NOT NULL, seconds REAL NOT NULL, client TEXT NOT NULL, ok REAL NOT NULL,
        failed REAL NOT NULL, sources TEXT NOT NULL, PRIMARY KEY (at, client)) WITHOUT ROWID""",
    "CREATE INDEX buckets_client ON buckets (client, at)",
    "CREATE TABLE bucket_hours (at REAL PRIMARY KEY, seconds REAL NOT NULL)",
    """CREATE TABLE uses (
        client TEXT PRIMARY KEY, attempts REAL NOT NULL, failures REAL NOT NULL, last_ok REAL,
        last_failed REAL, old_seen REAL) WITHOUT ROWID""",
    """CREATE TABLE profiles (
        client TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL,
        updated REAL NOT NULL)""",
)

#: Attempts of unknown end; what a span leaves open, as JSON. Earlier looks at counters cannot be
#: compared with later ones: their keys say less.
_UNKNOWN_ENDS = (
    "ALTER TABLE buckets ADD COLUMN unknown REAL NOT NULL DEFAULT 0",
    "ALTER TABLE uses ADD COLUMN unknown REAL NOT NULL DEFAULT 0",
    "ALTER TABLE bucket_hours ADD COLUMN unsure TEXT NOT NULL DEFAULT '[]'",
    "DELETE FROM counters WHERE source NOT LIKE 'total/%'",
)

#: One tuple of SQL statements per version step.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _UNKNOWN_ENDS)

#: The version this program writes.
VERSION = len(MIGRATIONS)
