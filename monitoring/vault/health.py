"""Decision: what the vault's own health page says, leader or follower, believed field by field.

Shapes differ by role and version (FACTS.md section 1): `services` holds strings, `subscriptions`
is a sentence on a leader and a list on a follower, `cluster` is absent on single nodes. Whatever
has another type than expected is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator, List, Mapping, Optional

from monitoring.http.reply import Reply
from monitoring.redact import redact
from monitoring.timestamps import parse_iso

#: A subscription that received nothing for so long (seconds) is stale, whatever else it says.
SILENT_AFTER = 600.0
_MOST_MESSAGES = 20


@dataclass(frozen=True)
class ConjurHealth:
    """`edition` oss, enterprise or unknown. `ok` None: it does not say. `role` master, standby,
    follower or "". `stale`: a follower that no longer gets changes. `replication_lag_bytes`: the
    largest of the standbys; `free_bytes`: the least of the volumes; None: not told. `cluster` is
    its status word. `messages`: what is wrong, a short sentence each. `steps`: seconds of each
    request by name; `reply` the deciding answer."""

    edition: str
    ok: Optional[bool]
    degraded: Optional[bool] = None
    role: str = ""
    version: str = ""
    replication_lag_bytes: Optional[float] = None
    stale: bool = False
    free_bytes: Optional[float] = None
    cluster: str = ""
    messages: tuple[str, ...] = ()
    steps: Mapping[str, float] = field(default_factory=dict)
    reply: Optional[Reply] = None


def at(value: Any, *path: str) -> Any:
    """The item under nested keys; None where anything on the way is missing or no object."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(value: Any) -> Optional[float]:
    """A finite, non-negative number (no bool) as float, else None."""
    fit = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18
    return float(value) if fit else None


def word(value: Any) -> str:
    """Text of at most 120 printable characters; "" for anything else."""
    text = redact(value)[:120] if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "?" for c in text)


def items(value: Any) -> List[Mapping[str, Any]]:
    """The objects in a list of at most 1000; [] for anything else."""
    return [i for i in value[:1000] if isinstance(i, Mapping)] if isinstance(value, list) else []


def read_enterprise(body: Mapping[str, Any], reply: Reply) -> ConjurHealth:
    """The appliance's `/health`, of any role."""
    claimed = body.get("ok") if isinstance(body.get("ok"), bool) else None
    messages = list(_messages(body, reply))
    ok = claimed
    if claimed and reply.status >= 500:
        ok = False
        messages.insert(0, f"it answers {reply.status}, whatever its body says")
    return ConjurHealth(
        edition="enterprise" if claimed is not None else "unknown",
        ok=ok,
        degraded=body.get("degraded") if isinstance(body.get("degraded"), bool) else None,
        role=word(body.get("role")),
        replication_lag_bytes=_lag(body),
        stale=any(_stale_reasons(body, reply)),
        free_bytes=_free(body),
        cluster=word(at(body, "cluster", "status")),
        messages=tuple(messages[:_MOST_MESSAGES]),
        reply=reply,
    )


def _replication(body: Any) -> List[Mapping[str, Any]]:
    return items(at(body, "database", "replication_status", "pg_stat_replication"))


def _lag(body: Any) -> Optional[float]:
    lags = [number(row.get("replication_lag_bytes")) for row in _replication(body)]
    return max((lag for lag in lags if lag is not None), default=None)


def _free(body: Any) -> Optional[float]:
    volumes = at(body, "database", "free_space")
    rows = volumes.values() if isinstance(volumes, Mapping) else ()
    free = [number(at(row, "kbytes")) for row in rows]
    least = min((size for size in free if size is not None), default=None)
    return None if least is None else least * 1024


def _messages(body: Any, reply: Reply) -> Iterator[str]:
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
    yield from _stale_reasons(body, reply)


def _stale_reasons(body: Any, reply: Reply) -> Iterator[str]:
    """A follower says ok while it serves old data; its subscriptions tell."""
    found = at(body, "database", "logical_replication_status", "subscriptions")
    for row in items(found):
        name = word(row.get("name")) or "unnamed"
        if row.get("enabled") is False:
            yield f"subscription {name} is switched off"
        for kind in ("apply_error_count", "sync_error_count"):
            if number(row.get(kind)):
                yield f"subscription {name}: {kind} is {number(row.get(kind)):.0f}"
        silent = _silence(row, reply)
        if silent > SILENT_AFTER:
            yield f"subscription {name} received nothing for {silent:.0f} s"


def _silence(row: Mapping[str, Any], reply: Reply) -> float:
    """Seconds since the last message, by the vault's own clock; 0 when it cannot be told."""
    try:
        heard = parse_iso(word(row.get("last_msg_receipt_time")))
    except ValueError:
        return 0.0
    return max(0.0, reply.server_date - heard) if reply.server_date is not None else 0.0
