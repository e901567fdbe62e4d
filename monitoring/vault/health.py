"""Decision: what the vault's own health page says, leader or follower, believed field by field.

Shapes differ by role and version (FACTS.md section 1): `services` holds strings, `subscriptions`
is a sentence on a leader and a list on a follower, `cluster` is absent on single nodes, and older
appliances write `sent_location` for `sent_lsn`. Whatever has another type than expected is not
there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterator, List, Mapping, Optional

from monitoring.certainty import Doubt
from monitoring.http.reply import Reply
from monitoring.redact import redact
from monitoring.timestamps import parse_iso

_MOST_MESSAGES = 20
_FOLLOWER = "follower"
#: A position in the write-ahead log, as PostgreSQL prints it: two hexadecimal numbers.
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


@dataclass(frozen=True)
class ConjurHealth:
    """`edition` oss, enterprise or unknown. `ok` None: it does not say. `role` master, standby,
    follower or "". `stale`: a follower that does not get every change. `replication_lag_bytes`:
    the largest of the standbys; `free_bytes`, `free_inodes`: the least of the volumes. Of a
    follower: `subscriptions` that are enabled, `initial_replication` whether it still makes its
    first copy, `silence` the longest time (seconds) since a subscription received anything. None:
    not told. `cluster` is its status word. `messages`: what is wrong, a short sentence each;
    `remarks`: what else should be known of this look; `doubts`: what the page should say and does
    not. `steps`: seconds of each request by name; `reply` the deciding answer."""

    edition: str
    ok: Optional[bool]
    degraded: Optional[bool] = None
    role: str = ""
    version: str = ""
    replication_lag_bytes: Optional[float] = None
    stale: bool = False
    free_bytes: Optional[float] = None
    free_inodes: Optional[float] = None
    subscriptions: Optional[float] = None
    initial_replication: Optional[bool] = None
    silence: Optional[float] = None
    cluster: str = ""
    messages: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    steps: Mapping[str, float] = field(default_factory=dict)
    reply: Optional[Reply] = None


def at(value: Any, *path: str) -> Any:
    """The item under nested keys; None where anything on the way is missing or no object."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(value: Any) -> Optional[float]:
    """A finite, non-negative number (no bool), or one in digits, as float, else None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return float(value)
    fit = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18
    return float(value) if fit else None


def word(value: Any) -> str:
    """Text of at most 120 characters; "" for anything else."""
    return redact(value)[:120] if isinstance(value, str) else ""


def items(value: Any) -> List[Mapping[str, Any]]:
    """The objects in a list of at most 1000; [] for anything else."""
    return [i for i in value[:1000] if isinstance(i, Mapping)] if isinstance(value, list) else []


def read_enterprise(
    body: Mapping[str, Any], reply: Reply, now: Optional[float] = None
) -> ConjurHealth:
    """The appliance's `/health`, of any role. `now` is our clock, for answers without a Date."""
    claimed = body.get("ok") if isinstance(body.get("ok"), bool) else None
    messages = list(_messages(body))
    ok = claimed
    if claimed and reply.status >= 500:
        ok = False
        messages.insert(0, f"it answers {reply.status}, whatever its body says")
    role, clock = word(body.get("role")).lower(), reply.server_date
    listed = _subscriptions(body)
    follows = role == _FOLLOWER or (not role and listed is not None)
    subscriptions = listed if follows else None
    first = at(body, "database", "logical_replication_status", "initial_replication_in_progress")
    return ConjurHealth(
        edition="enterprise" if claimed is not None else "unknown",
        ok=ok,
        degraded=body.get("degraded") if isinstance(body.get("degraded"), bool) else None,
        role=role,
        replication_lag_bytes=_lag(body),
        stale=any(_stale_reasons(body)),
        free_bytes=_kilobytes(_least(body, "kbytes")),
        free_inodes=_least(body, "inodes"),
        subscriptions=None
        if subscriptions is None
        else float(sum(row.get("enabled") is not False for row in subscriptions)),
        initial_replication=first if follows and isinstance(first, bool) else None,
        silence=_silence(subscriptions or [], now if clock is None else clock),
        cluster=word(at(body, "cluster", "status")),
        messages=tuple(messages[:_MOST_MESSAGES]),
        doubts=tuple(_doubts(role, subscriptions)),
        reply=reply,
    )


def _replication(body: Any) -> List[Mapping[str, Any]]:
    return items(at(body, "database", "replication_status", "pg_stat_replication"))


def _lag(body: Any) -> Optional[float]:
    lags = [lag for row in _replication(body) for lag in _lags(row)]
    return max(lags, default=None)


def _lags(row: Mapping[str, Any]) -> Iterator[float]:
    """What the row counts itself, and what its two positions in the log say."""
    counted = number(row.get("replication_lag_bytes"))
    if counted is not None:
        yield counted
    for sent, replayed in (("sent_lsn", "replay_lsn"), ("sent_location", "replay_location")):
        ahead, behind = _position(row.get(sent)), _position(row.get(replayed))
        if ahead is not None and behind is not None:
            yield max(0.0, ahead - behind)


def _position(value: Any) -> Optional[float]:
    """Bytes from the log's beginning of `16/B374D848`; None for what is no position."""
    found = _LSN.match(value) if isinstance(value, str) else None
    return float((int(found[1], 16) << 32) + int(found[2], 16)) if found else None


def _least(body: Any, what: str) -> Optional[float]:
    volumes = at(body, "database", "free_space")
    rows = volumes.values() if isinstance(volumes, Mapping) else ()
    free = [number(at(row, what)) for row in rows]
    return min((size for size in free if size is not None), default=None)


def _kilobytes(size: Optional[float]) -> Optional[float]:
    return None if size is None else size * 1024


def _messages(body: Any) -> Iterator[str]:
    services = body.get("services")
    for name, state in (services if isinstance(services, Mapping) else {}).items():
        if name != "ok" and state not in ("ok", "disabled", True):
            yield f"service {word(name)} is {word(state) or 'not ok'}"
    for part in ("database", "audit"):
        if at(body, part, "ok") is False:
            yield f"{part} is not ok"
    if at(body, "cluster", "ok") is False:
        status = word(at(body, "cluster", "message")) or word(at(body, "cluster", "status"))
        yield f"cluster is not ok{status and ': ' + status}"
    for row in _replication(body):
        if word(row.get("state")) not in ("streaming", ""):
            yield f"standby {word(row.get('application_name'))} is {word(row.get('state'))}"
    yield from _stale_reasons(body)


def _subscriptions(body: Any) -> Optional[List[Mapping[str, Any]]]:
    """None where the page has no list of them."""
    found = at(body, "database", "logical_replication_status", "subscriptions")
    return items(found) if isinstance(found, list) else None


def _stale_reasons(body: Any) -> Iterator[str]:
    """A follower says ok while it serves old data; its subscriptions tell."""
    for row in _subscriptions(body) or []:
        name = word(row.get("name")) or "unnamed"
        if row.get("enabled") is False:
            yield f"subscription {name} is switched off"
        for kind in ("apply_error_count", "sync_error_count"):
            if number(row.get(kind)):
                yield f"subscription {name}: {kind} is {number(row.get(kind)):.0f}"
        if "last_msg_receipt_time" in row and row["last_msg_receipt_time"] is None:
            yield f"subscription {name} has received nothing since it was started"


def _silence(rows: List[Mapping[str, Any]], clock: Optional[float]) -> Optional[float]:
    """Seconds since the last message, by the vault's own clock where it shows one; None when it
    cannot be told."""
    heard = []
    for row in rows:
        try:
            heard.append(parse_iso(word(row.get("last_msg_receipt_time"))))
        except (ValueError, OverflowError):
            continue
    if clock is None:
        return None
    return max((max(0.0, clock - moment) for moment in heard), default=None)


def outdated(health: ConjurHealth, silent_after: float) -> str:
    """Why what this node shows may be old, in a few sentences; "": nothing says so. `silent_after`:
    seconds without a message after which a follower is behind."""
    if health.subscriptions == 0:
        why = "".join(f": {message}" for message in health.messages[:1])
        return f"a follower that subscribes to nothing, so it no longer gets changes{why}"
    if health.initial_replication:
        return "a follower that still makes its first copy of the data"
    if health.stale:
        return f"a follower that no longer gets every change: {'; '.join(health.messages[:2])}"
    if health.silence is not None and health.silence >= silent_after:
        return f"a follower that has received nothing for {health.silence:.0f} s"
    return "; ".join(doubt.sentence for doubt in health.doubts)


def _doubts(role: str, subscriptions: Optional[List[Mapping[str, Any]]]) -> Iterator[Doubt]:
    if role == _FOLLOWER and subscriptions is None:
        text = "this follower does not say what it subscribes to, so its data may be old"
        yield Doubt("may_be_stale", text)
