"""Acquire: every source of what is known about credentials, all asked at the same time.

A row of `SOURCES` per source, a module per kind. Each is optional: its `Source` row says that it
was seen, is not configured, or failed and why; one that fails or hangs harms no other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Optional
from urllib.parse import quote

from monitoring.config.settings import ServiceSettings
from monitoring.credentials.facts import BROKEN, CACHE, EAPI, ROTATIONS, SAPI, VAULT, RotationFacts
from monitoring.credentials.source_cache import ask_cache
from monitoring.credentials.source_kit import Asked, SourceAnswer, absent, unavailable
from monitoring.credentials.source_vault import ask_vault
from monitoring.health.probing import bearer
from monitoring.http.client import HttpClient, HttpFault, Reply
from monitoring.http.reply import date_of
from monitoring.model import Fault, Source
from monitoring.peers import PeerThreads
from monitoring.services import metrics as service_metrics
from monitoring.services.families import LOGINS as LOGINS_NOUN, none_counted
from monitoring.services.metrics import ServiceMetrics
from monitoring.text import identity_of, parse_iso

# -- what the services count of logins, by client.

LOGINS = "authentication_attempts"


def ask_eapi(asked: Asked) -> SourceAnswer:
    """The counters of Payment-EAPI, where clients log in."""
    return _ask(EAPI, asked, asked.eapi, asked.settings.eapi)


def ask_sapi(asked: Asked) -> SourceAnswer:
    """The counters of Payment-SAPI; some deployments count logins there."""
    return _ask(SAPI, asked, asked.sapi, asked.settings.sapi)


def _ask(name: str, asked: Asked, http: HttpClient, service: ServiceSettings) -> SourceAnswer:
    settings = asked.settings
    try:
        headers = bearer(settings.auth_token)
    except HttpFault as error:
        return unavailable(name, error.fault)
    found = service_metrics.read(http, service, settings.service_metrics, headers=headers)
    return _answer(name, found)


def _answer(name: str, found: ServiceMetrics) -> SourceAnswer:
    """One instance of several that fails makes the sum incomplete, so the source is not sound."""
    if not found.configured:
        return absent(name)
    data = found if found.instances else None
    if found.faults:
        _, fault = found.faults[0]  # its sentence names the instance
        return unavailable(name, fault, data)
    seen = sum(sample.name == LOGINS for sample in found.samples)
    left = found.clients_left_out
    why = f"{left} clients above the bound are not counted" if left else ""
    why = why or none_counted(LOGINS_NOUN, found.samples)
    return SourceAnswer(Source(name, True, seen, found.seconds, why), data)


# -- the rotation service: which rotations run, and how those of a client went.

MAX_BYTES = 16 << 20
MAX_ROTATIONS = 20_000
AT_ONCE = 8
ACTIVE = "/api/v1/rotations/active"
UNREADABLE = "what it says is no rotation (client_id and current_state are needed)"
_WORD = 200
#: Minutes. The services know transitions of up to 24 hours (docs/protocols.md); more is another
#: unit, so the policy's own limit is taken.
_LONGEST_TRANSITION = 24 * 60


@dataclass(frozen=True)
class RotationsSeen:
    """The newest running rotation by client; `unreadable` names clients of whom something was
    said that is no rotation. `clock`: theirs minus ours in seconds, None where it is not told."""

    active: Mapping[str, RotationFacts]
    unreadable: frozenset[str] = frozenset()
    clock: Optional[float] = None


class RotationFault(Exception):  # noqa: N818 - it carries a Fault
    """The rotation service did not answer with rotations."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def ask_rotations(asked: Asked) -> SourceAnswer:
    """The rotations that run now."""
    if not asked.settings.rotation_url:
        return absent(ROTATIONS)
    started = time.monotonic()
    try:
        reply = _source_rotations_ask(asked, ACTIVE)
        rows = _rotations(reply)
    except RotationFault as error:
        return unavailable(ROTATIONS, error.fault)
    active = {client: found[0] for client, found in _by_client(rows).items()}
    took = time.monotonic() - started
    bad = [row for row in rows if not _is_rotation(row)]
    if rows and len(bad) == len(rows):
        return unavailable(ROTATIONS, Fault("body", f"{ACTIVE}: {UNREADABLE}"))
    said = f"{len(bad)} of {len(rows)} entries under {ACTIVE}: {UNREADABLE}" if bad else ""
    unreadable = frozenset(_client(row) for row in bad) - {""}
    seen = RotationsSeen(active, unreadable, _clock_difference(reply, asked.clock()))
    return SourceAnswer(Source(ROTATIONS, True, len(active), took, said), seen)


def ask_clients(
    asked: Asked, clients: Iterable[str], seconds: float
) -> tuple[dict[str, Optional[RotationFacts]], dict[str, str]]:
    """The newest rotation of each client (None: it never had one), several at once and for at most
    `seconds`; and of those that could not be asked for, why."""
    until = time.monotonic() + seconds

    def one(client: str) -> tuple[str, Optional[RotationFacts], str]:
        if time.monotonic() > until:
            return client, None, f"not all clients could be asked within {seconds:g} s"
        try:
            return client, _newest(asked, client), ""
        except RotationFault as error:
            return client, None, error.fault.message

    with ThreadPoolExecutor(AT_ONCE, "rotations") as pool:
        answers = list(pool.map(one, clients))
    found = {client: rotation for client, rotation, why in answers if not why}
    return found, {client: why for client, _, why in answers if why}


def _newest(asked: Asked, client: str) -> Optional[RotationFacts]:
    reply = _source_rotations_ask(asked, f"/api/v1/rotations/client/{quote(client, safe='')}")
    rows = [] if reply.status == 404 else _rotations(reply)
    if not all(_is_rotation(row) for row in rows):
        raise RotationFault(Fault("body", UNREADABLE))
    return next(iter(_by_client(rows).get(client, ())), None)


def _clock_difference(reply: Reply, ours: float) -> Optional[float]:
    theirs = date_of(reply.headers)
    return None if theirs is None else theirs - ours


def _source_rotations_ask(asked: Asked, path: str) -> Reply:
    url = asked.settings.rotation_url.rstrip("/") + path
    try:
        headers = {"Accept": "application/json", **bearer(asked.settings.auth_token)}
        return asked.rotations.get(url, headers=headers, max_bytes=MAX_BYTES)
    except HttpFault as error:
        raise RotationFault(error.fault) from None


def _rotations(reply: Reply) -> list[Any]:
    """The elements of the list in an answer."""
    if reply.status != 200:
        raise RotationFault(_refused(reply))
    try:
        body = reply.json()
    except HttpFault as error:
        raise RotationFault(error.fault) from None
    rows = body.get("rotations") if isinstance(body, dict) and "rotations" in body else body
    if isinstance(rows, dict) and "rotation_id" in rows:
        rows = [rows]
    if not isinstance(rows, list):
        raise RotationFault(Fault("body", f"{reply.url} answered JSON that is no list"))
    if len(rows) > MAX_ROTATIONS:
        many = f"{len(rows):,} rotations, and {MAX_ROTATIONS:,} are read at most"
        raise RotationFault(Fault("body", f"{reply.url} answered {many}"))
    return rows


def _refused(reply: Reply) -> Fault:
    kind = "auth" if reply.status in (401, 403) else "http"
    return Fault(kind, f"{reply.url} answered {reply.status} instead of rotations")


def _by_client(rows: Iterable[Any]) -> dict[str, list[RotationFacts]]:
    """Newest first; each knows when the one that brought its old version began."""
    found: dict[str, list[RotationFacts]] = {}
    for row in rows:
        if _is_rotation(row):
            found.setdefault(_client(row), []).append(_rotation(row))
    for client, rotations in found.items():
        rotations.sort(key=_newness, reverse=True)
        found[client] = [_linked(rotations), *rotations[1:]]
    return found


def _is_rotation(row: Any) -> bool:
    return bool(_client(row)) and bool(_text(row.get("current_state")))


def _client(row: Any) -> str:
    client = row.get("client_id") if isinstance(row, dict) else None
    return identity_of(client) if isinstance(client, str) else ""


def _newness(rotation: RotationFacts) -> tuple[bool, float]:
    """One that runs comes before any that ended, and one without a start before those with one:
    it must not hide behind an older one."""
    began = rotation.started_at if rotation.started_at is not None else float("inf")
    return rotation.ongoing, began


def _linked(rotations: list[RotationFacts]) -> RotationFacts:
    newest, rivals = rotations[0], sum(other.ongoing for other in rotations[1:])
    failure = next((r for r in rotations[1:] if newest.ongoing and _failed_after(r, newest)), None)
    before = (r for r in rotations[1:] if r.state == "new_active" or r.success)
    since = next((r.started_at for r in before if r.new_version == newest.old_version), None)
    return replace(
        newest,
        old_since=since,
        rivals=rivals if newest.ongoing else 0,
        failed_since="" if failure is None else failure.message or "no reason is given",
    )


def _failed_after(other: RotationFacts, began: RotationFacts) -> bool:
    """Whether it failed, and was not begun before `began`."""
    known = other.started_at is not None and began.started_at is not None
    later = known and (other.started_at or 0.0) >= (began.started_at or 0.0)
    return later and (other.state == "failed" or other.status in BROKEN or other.success is False)


def _rotation(row: Mapping[str, Any]) -> RotationFacts:
    minutes = row.get("transition_period_minutes")
    number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    fit = number and 0 < float(minutes or 0) <= _LONGEST_TRANSITION
    return RotationFacts(
        rotation_id=_text(row.get("rotation_id")),
        state=_word_of(row.get("current_state")).lower(),
        old_version=_text(row.get("old_version")) or None,
        new_version=_text(row.get("new_version")) or None,
        transition=float(minutes) * 60 if fit and minutes is not None else None,
        started_at=_moment(row.get("started_at")),
        completed_at=_moment(row.get("completed_at")),
        success=_yes_or_no(row.get("success")),
        message=_text(row.get("message")),
        status=_word_of(row.get("status")).upper(),
    )


def _word_of(value: Any) -> str:
    """`dualActive`, `dual-active` and ` dual active ` are `dual_active`, in the case they have; a
    boolean where a word should stand is a word that nobody knows."""
    said = str(value) if isinstance(value, bool) else _text(value).strip()
    return re.sub(r"[ -]+|(?<=[a-z])(?=[A-Z])", "_", said)


def _yes_or_no(value: Any) -> Optional[bool]:
    """A boolean, its text, or another way to say no; None for anything else."""
    words = {"true": True, "false": False, "no": False, "0": False}
    return value if isinstance(value, bool) else words.get(_text(value).strip().lower())


def _text(value: Any) -> str:
    fit = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value)[:_WORD] if fit else ""


def _moment(value: Any) -> Optional[float]:
    """ISO text as Jackson writes it, or epoch milliseconds, its other habit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1e11 < value < 1e14:
        return value / 1000.0
    try:
        return parse_iso(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


# -- every source of what is known about credentials, all asked at the same time.

Question = Callable[[Asked], SourceAnswer]

SOURCES: Mapping[str, Question] = {
    VAULT: ask_vault,
    CACHE: ask_cache,
    ROTATIONS: ask_rotations,
    EAPI: ask_eapi,
    SAPI: ask_sapi,
}


class Sources:
    """Asks every source in threads."""

    def __init__(self, asked: Asked, sources: Mapping[str, Question] = SOURCES) -> None:
        self._asked, self._sources = asked, sources
        self._threads: PeerThreads[SourceAnswer] = PeerThreads(len(sources), "source")

    def ask(self) -> dict[str, SourceAnswer]:
        """One SourceAnswer per source, none later than `run.looking`. Never raises for one."""
        started, seconds = time.monotonic(), self._asked.settings.run.looking
        asked = {
            n: self._threads.begin(n, partial(q, self._asked)) for n, q in self._sources.items()
        }
        answers = {}
        for name, future in asked.items():
            got = self._threads.end(name, future, started, seconds)
            if isinstance(got, Fault):
                given_up = got.kind == "timeout" and future is not None
                got = unavailable(name, got, truncated=given_up)
            answers[name] = got
        return answers
