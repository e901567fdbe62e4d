"""Decision: what the vault's answers say: of its faults, of its variables and of its health.

Shapes differ by role and version (docs/protocols.md): `services` holds strings, `subscriptions`
is a sentence on a leader and a list on a follower, `cluster` is absent on single nodes, and older
appliances write `sent_location` for `sent_lsn`. Whatever has another type than expected is not
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from monitoring.certainty import Doubt
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault
from monitoring.text import identity_of, parse_iso, printable, redact

# -- why the vault did not serve us, by the status of its answer (docs/protocols.md).

_STATUS: Mapping[int, tuple[str, str]] = {
    401: ("auth", "refused our token"),
    403: ("noperm", "does not let our identity do this"),
    404: ("http", "knows no such account or resource"),
    405: ("readonly", "is a read-only follower"),
    422: ("config", "refused the request as invalid"),
    429: ("busy", "says that we ask too often"),
    502: ("http", "says that it is unhealthy, or the proxy before it does"),
    503: ("busy", "has no room for the request"),
}
_DATABASE = "answers, but its database does not, so no login and no secret can be had from it"
#: Conjur quotes it in its own log, so whoever looks there finds the line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,80}\Z")
_ELSEWHERE = "is CONJUR_URL the vault's own address?"
#: The same for pages that every vault shows to everybody: another answer comes from another server.
_PUBLIC: Mapping[int, tuple[str, str]] = {
    **dict.fromkeys((401, 403), ("http", f"wants a login where a vault wants none: {_ELSEWHERE}")),
    404: ("http", f"has none of the pages that tell a vault's health: {_ELSEWHERE}"),
    429: _STATUS[429],
    502: _STATUS[502],
    503: ("http", "is unavailable, or the proxy before it has no vault to ask"),
}


class ConjurFault(Exception):  # noqa: N818 - it carries a Fault
    """The vault could not be asked; `reply` is its refusal, when there was one."""

    def __init__(self, fault: Fault, reply: Optional[Reply] = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.reply = reply


def refused(reply: Reply, *, public: bool = False, aside: bool = False) -> ConjurFault:
    """The ConjurFault for an answer of the wrong status; `public`: to a page for everybody;
    `aside`: to a side question, which says nothing of the whole vault."""
    kind, said = (_PUBLIC if public else _STATUS).get(reply.status, _other(reply.status))
    if database_down(reply) and not aside:
        kind, said = "http", _DATABASE
    text = f"the vault {said} ({reply.url}, {status_of(reply)})"
    return ConjurFault(Fault(kind, text), reply)


def status_of(reply: Reply) -> str:
    """`HTTP 401, X-Request-Id 83098af1-...`; the id only where it is a plain one."""
    request = reply.headers.get("x-request-id", "")
    quoted = f", X-Request-Id {request}" if _REQUEST_ID.match(request) else ""
    return f"HTTP {reply.status}{quoted}"


def database_down(reply: Reply) -> bool:
    """Conjur that lost its database answers 500 with nothing in it (docs/protocols.md)."""
    return reply.status == 500 and not reply.body


def reason_of(reply: Reply) -> str:
    """The reason that the answer itself gives, such as `CONJ00016E Token expired`; "": none."""
    try:
        body = reply.json()
    except HttpFault:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    text = redact(said)[:200] if isinstance(said, str) else ""
    return printable(text)


def _other(status: int) -> tuple[str, str]:
    if status >= 500:
        return "http", "fails"
    if 300 <= status < 400:
        return "redirect", f"answers with a redirect: {_ELSEWHERE}"
    return "http", f"answers as no vault does: {_ELSEWHERE}"


def read_json(reply: Reply) -> object:
    """The body as JSON; raises ConjurFault of kind body."""
    try:
        return reply.json()
    except HttpFault as error:
        raise ConjurFault(error.fault, reply) from None


def read_object(reply: Reply) -> Mapping[str, Any]:
    """The body as a JSON object; raises ConjurFault of kind body."""
    body = read_json(reply)
    if not isinstance(body, dict):
        raise ConjurFault(Fault("body", f"{reply.url} answered JSON that is no object"), reply)
    return body


# -- what a vault's metadata says of its variables; never a value.


@dataclass(frozen=True)
class Variable:
    """One variable. `id` without account and kind; `client` by the template ("" if it does not
    fit). `version`: the highest number (None: never set), not the count. `expires_at`, epoch: that
    of the highest version (None: set by hand, or never); `expiries` of every version kept, in
    order. `created_at` is when the *variable* was made: no version has a time of its own.
    `permissions`: (privilege, full role id); `owner` the full id of the role that owns it."""

    id: str
    client: str
    version: Optional[int]
    expires_at: Optional[float] = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    created_at: Optional[float] = None
    expiries: tuple[Optional[float], ...] = ()
    permissions: tuple[tuple[str, str], ...] = ()
    owner: str = ""


def read_variable(entry: Any, template: str) -> Variable:
    """One element of GET /resources. Raises ValueError for what is no variable."""
    full = entry.get("id") if isinstance(entry, Mapping) else None
    if not isinstance(full, str) or full.count(":") < 2 or len(full) > 2000:
        raise ValueError("an entry that is no variable")
    name = full.split(":", 2)[2]
    versions = _versions(entry.get("secrets"))
    return Variable(
        id=name,
        client=client_of(name, template),
        version=versions[-1][0] if versions else None,
        expires_at=versions[-1][1] if versions else None,
        annotations={
            word(a.get("name")): word(a.get("value")) for a in items(entry.get("annotations"))
        },
        created_at=_moment(entry.get("created_at")),
        expiries=tuple(expires for _, expires in versions),
        permissions=tuple(
            (word(p.get("privilege")), identifier(p.get("role")))
            for p in items(entry.get("permissions"))
        ),
        owner=identifier(entry.get("owner")),
    )


def _versions(value: Any) -> list[tuple[int, Optional[float]]]:
    found = {
        row["version"]: _moment(row.get("expires_at"))
        for row in items(value)
        if type(row.get("version")) is int and 0 < row["version"] < 10**9
    }
    return sorted(found.items())


def _moment(value: Any) -> Optional[float]:
    try:
        return parse_iso(word(value))
    except (ValueError, OverflowError):
        return None


def client_of(name: str, template: str) -> str:
    """The client id that makes `template` into `name`; "" when none does."""
    before, mark, after = template.partition("{client_id}")
    if not mark:
        return ""
    found = re.fullmatch(re.escape(before) + r"([^/]+)" + re.escape(after), name)
    return identity_of(found.group(1)) if found else ""


# -- what the vault's own health page says, leader or follower, believed field by field.

_MOST_MESSAGES = 20
_FOLLOWER = "follower"
_FLAGS = {"true": True, "t": True, "false": False, "f": False}
_UNITS = ("lsn", "location", "lsn_bytes", "location_bytes")
_ROLES = ("", "master", "leader", "standby", _FOLLOWER)
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


def identifier(value: Any) -> str:
    """The id of a role, whole, for it is compared; "" for anything else."""
    return identity_of(value) if isinstance(value, str) else ""


def items(value: Any) -> list[Mapping[str, Any]]:
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
        degraded=_flag(body.get("degraded")),
        role=role,
        replication_lag_bytes=_lag(body),
        stale=any(_stale_reasons(body)),
        free_bytes=_kilobytes(_least(body, "kbytes")),
        free_inodes=_least(body, "inodes"),
        subscriptions=None
        if subscriptions is None
        else float(sum(_flag(row.get("enabled", True)) is not False for row in subscriptions)),
        initial_replication=_flag(first) if follows else None,
        silence=_silence(subscriptions or [], now if clock is None else clock),
        cluster=word(at(body, "cluster", "status")),
        messages=tuple(messages[:_MOST_MESSAGES]),
        doubts=tuple(_doubts(body, role, subscriptions)),
        reply=reply,
    )


def _flag(value: Any) -> Optional[bool]:
    """A boolean, or one as text (PostgreSQL says `t`); None for anything else."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _replication(body: Any) -> list[Mapping[str, Any]]:
    return items(at(body, "database", "replication_status", "pg_stat_replication"))


def _lag(body: Any) -> Optional[float]:
    written = _positions(
        at(body, "database", "replication_status"), "pg_current_xlog", "pg_current_wal"
    )
    lags = [lag for row in _replication(body) for lag in _lags(row, written)]
    return max(lags, default=None)


def _lags(row: Mapping[str, Any], written: list[float]) -> Iterator[float]:
    """What the row counts itself, and how far what it replayed lies behind what was sent to it and
    what was `written` at all."""
    counted = number(row.get("replication_lag_bytes"))
    if counted is not None:
        yield counted
    behind, ahead = _positions(row, "replay"), [*_positions(row, "sent"), *written]
    if behind and ahead:
        yield max(0.0, max(ahead) - max(behind))


def _positions(row: Any, *names: str) -> list[float]:
    """Those positions in the log that a row names so: `sent_lsn`, `sent_location_bytes`, ..."""
    found = [_position(at(row, f"{name}_{unit}")) for name in names for unit in _UNITS]
    return [position for position in found if position is not None]


def _position(value: Any) -> Optional[float]:
    """Bytes from the log's beginning, of a number or of `16/B374D848`; None for what is none."""
    found = _LSN.match(value) if isinstance(value, str) else None
    return float((int(found[1], 16) << 32) + int(found[2], 16)) if found else number(value)


def _least(body: Any, what: str) -> Optional[float]:
    free = [number(size) for name, size in _sizes(body) if name == what]
    return min((size for size in free if size is not None), default=None)


def _sizes(body: Any) -> Iterator[tuple[str, Any]]:
    """What is free (kbytes, inodes) on each volume, as the page has it."""
    volumes = at(body, "database", "free_space")
    for row in volumes.values() if isinstance(volumes, Mapping) else ():
        yield from ((what, at(row, what)) for what in ("kbytes", "inodes"))


def _kilobytes(size: Optional[float]) -> Optional[float]:
    return None if size is None else size * 1024


def _messages(body: Any) -> Iterator[str]:
    services = body.get("services")
    for name, state in (services if isinstance(services, Mapping) else {}).items():
        if name != "ok" and state not in ("ok", "disabled", True):
            yield f"service {word(name)} is {word(state) or 'not ok'}"
    for part in ("services", "database", "audit"):
        if at(body, part, "ok") is False:
            yield f"{part} {'are' if part == 'services' else 'is'} not ok"
    connections = at(body, "database", "connect")
    for name, state in (connections if isinstance(connections, Mapping) else {}).items():
        if state not in ("ok", True):
            yield f"connection to database {word(name)} is {word(state) or 'not ok'}"
    if at(body, "cluster", "ok") is False:
        status = word(at(body, "cluster", "message")) or word(at(body, "cluster", "status"))
        yield f"cluster is not ok{status and ': ' + status}"
    for row in _replication(body):
        if word(row.get("state")) not in ("streaming", ""):
            yield f"standby {word(row.get('application_name'))} is {word(row.get('state'))}"
    yield from _stale_reasons(body)


def _subscriptions(body: Any) -> Optional[list[Mapping[str, Any]]]:
    """None where the page has no list of them."""
    found = at(body, "database", "logical_replication_status", "subscriptions")
    return items(found) if isinstance(found, list) else None


def _stale_reasons(body: Any) -> Iterator[str]:
    """A follower says ok while it serves old data; its subscriptions tell."""
    for row in _subscriptions(body) or []:
        name = word(row.get("name")) or "unnamed"
        if _flag(row.get("enabled", True)) is False:
            yield f"subscription {name} is switched off"
        for kind in ("apply_error_count", "sync_error_count"):
            if number(row.get(kind)):
                yield f"subscription {name}: {kind} is {number(row.get(kind)):.0f}"
        if "last_msg_receipt_time" in row and row["last_msg_receipt_time"] is None:
            yield f"subscription {name} has received nothing since it was started"


def _silence(rows: list[Mapping[str, Any]], clock: Optional[float]) -> Optional[float]:
    """Seconds since the last message, by the vault's own clock where it shows one; None when it
    cannot be told."""
    heard = [moment for moment in map(_heard, rows) if moment is not None]
    if clock is None:
        return None
    return max((max(0.0, clock - moment) for moment in heard), default=None)


def _heard(row: Mapping[str, Any]) -> Optional[float]:
    """When the subscription last received anything; None where it does not say."""
    return _moment(row.get("last_msg_receipt_time"))


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
    return "; ".join(d.sentence for d in health.doubts if d.reason == "may_be_stale")


def _doubts(
    body: Any, role: str, subscriptions: Optional[list[Mapping[str, Any]]]
) -> Iterator[Doubt]:
    """What the page should tell, and does not, or not in a form that is known."""
    if role not in _ROLES:
        yield Doubt("unknown_word", f"it calls itself {role}, which is no role that is known")
    if not any(isinstance(body.get(part), Mapping) for part in ("services", "database")):
        yield Doubt("not_read", "it says ok and nothing of its services and its database")
    if role == _FOLLOWER and subscriptions is None:
        text = "this follower does not say what it subscribes to, so its data may be old"
        yield Doubt("may_be_stale", text)
    if any(_heard(row) is None for row in subscriptions or []):
        text = "this follower does not say when it last received anything, so its data may be old"
        yield Doubt("may_be_stale", text)
    status = at(body, "database", "logical_replication_status")
    for name, value, fit in (
        ("degraded", body.get("degraded"), _flag),
        ("initial_replication_in_progress", at(status, "initial_replication_in_progress"), _flag),
        *((f"free {what}", size, number) for what, size in _sizes(body)),
    ):
        if value is not None and fit(value) is None:
            yield Doubt(
                "not_read", f"what it says of {name} cannot be read: {word(str(value))[:40]}"
            )
