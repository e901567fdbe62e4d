"""Decision: what all sources together say of each client, as one CredentialFacts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Optional, TypeVar

from monitoring.credentials.ages import age_of, current_version
from monitoring.credentials.facts import (
    CACHE,
    NOT_ASKED,
    ROTATIONS,
    VAULT,
    CredentialFacts,
    LedgerFacts,
    RotationFacts,
    Totals,
    UseFacts,
    VaultFacts,
    Window,
)
from monitoring.credentials.old_tokens import tokens_of

if TYPE_CHECKING:
    from monitoring.conjur.answers import Variable
    from monitoring.credentials.facts import CacheSeen, Heard, VaultSeen

_T = TypeVar("_T")
_AMOUNT = r"(\d+(?:[.,]\d+)?)"
_TTL = re.compile(
    r"P(?:#Y)?(?:#M)?(?:#W)?(?:#D)?(?:T(?:#H)?(?:#M)?(?:#S)?)?\Z".replace("#", _AMOUNT),
    re.I | re.ASCII,
)
_SECONDS = (365 * 86400.0, 30 * 86400.0, 7 * 86400.0, 86400.0, 3600.0, 60.0, 1.0)
#: What Conjur's rotator reads (`iso8601:lib/iso8601/duration.rb`): capitals, and weeks alone.
_STRICT = re.compile(
    r"\+?P(?:#W|(?=[\dT])(?:#Y)?(?:#M)?(?:#D)?(?:T(?=\d)(?:#H)?(?:#M)?(?:#S)?)?)\Z".replace(
        "#", _AMOUNT
    ),
    re.ASCII,
)


@dataclass(frozen=True)
class CredentialInput:
    """Everything one look brought, with what was remembered. `unavailable`: source -> why nothing
    may rest on it. `behind`: client -> the higher version that was seen before. `reborn`: clients
    whose variable was deleted and made again. `unanswered`: client -> why its rotation could not
    be asked for, though it had to be. `clock`: the rotation service's
    minus ours. `counted`: the clients that the services count. `rotated_at`: client -> when its
    secret was rotated, as the configuration says."""

    unavailable: Mapping[str, str] = field(default_factory=dict)
    vault: Optional[VaultSeen] = None
    cache: Optional[CacheSeen] = None
    heard: Mapping[str, Heard] = field(default_factory=dict)
    unanswered: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[tuple[str, int], LedgerFacts] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)
    moving: frozenset[str] = frozenset()
    reborn: frozenset[str] = frozenset()
    clock: Optional[float] = None
    window: Window = field(default_factory=Window)
    totals: Mapping[str, Totals] = field(default_factory=dict)
    counted: Collection[str] = ()
    rotated_at: Mapping[str, float] = field(default_factory=dict)


#: Clients that are listed because somebody logs in under their name, where nobody knows who is
#: registered: anybody can make names up.
COUNTED_LISTED = 500


def registered(looked: CredentialInput, canary: AbstractSet[str]) -> Optional[frozenset[str]]:
    """Every client that some source knows as registered; those of the ledger too while the vault
    is unavailable. None: the vault cannot tell and never could, so it is not known who is."""
    names = set(looked.vault.variables) if looked.vault else {c for c, _ in looked.ledger}
    if not names:
        return None
    return frozenset(names | _elsewhere(looked)) - canary


def clients_of(looked: CredentialInput, canary: AbstractSet[str]) -> frozenset[str]:
    """The clients to judge. Where nobody knows who is registered, everybody that a source names:
    those who own tokens and those whom the services count."""
    known = registered(looked, canary)
    if known is not None:
        return known
    owners = looked.cache.stats.clients if looked.cache else ()
    counted = sorted(looked.counted)[:COUNTED_LISTED]
    return frozenset({*_elsewhere(looked), *owners, *counted}) - canary - {""}


def _elsewhere(looked: CredentialInput) -> set[str]:
    """Clients that the cache or the rotation service names. Once the vault has been read, an old
    rotation of a client that it no longer has says nothing: it was deleted."""
    cached = looked.cache.named if looked.cache else set()
    rotated = {c: heard.rotation for c, heard in looked.heard.items() if heard.rotation}
    return cached | {c for c, r in rotated.items() if looked.vault is None or r.running}


def known_elsewhere(looked: CredentialInput) -> dict[str, str]:
    """Clients that the cache or the rotation service knows and the vault does not show, with who
    does; empty where the vault was not read."""
    if looked.vault is None:
        return {}
    rotated = {c for c, h in looked.heard.items() if h.rotation and h.rotation.running}
    found = dict.fromkeys(rotated, "a rotation of it runs")
    if looked.cache is not None:
        found.update(dict.fromkeys(looked.cache.named, "EAPI has its credential cached"))
    return {c: why for c, why in found.items() if c not in looked.vault.variables}


def assemble(looked: CredentialInput, clients: Collection[str]) -> dict[str, CredentialFacts]:
    """The facts of each client."""
    return {client: _facts(looked, client) for client in clients}


def _facts(looked: CredentialInput, client: str) -> CredentialFacts:
    cache = looked.cache
    variable = looked.vault.variables.get(client) if looked.vault else None
    cached = cache.credentials.get(client) if cache else None
    cached = _of_it(cached, cached.created_at if cached else None, _made(looked, variable))
    facts = CredentialFacts(
        client,
        vault=_vault(variable, client in looked.moving) if variable else None,
        cached=cached,
        rotation=_rotation(looked, client),
        unavailable=_unavailable(looked, client),
        clock=looked.clock,
        rotated_at=looked.rotated_at.get(client),
    )
    version = current_version(facts)
    ledger = looked.ledger.get((client, version)) if version is not None else None
    facts = replace(facts, ledger=ledger)
    cache = None if CACHE in looked.unavailable else looked.cache
    tokens = tokens_of(cache, facts) if cache is not None else None
    return replace(facts, use=_use(looked, facts), tokens=tokens)


def _made(looked: CredentialInput, variable: Optional[Variable]) -> Optional[float]:
    """When the variable was made, where it took the place of an earlier one: what is older than
    that was said of the earlier one. None: there was none."""
    return variable.created_at if variable and variable.client in looked.reborn else None


def _of_it(fact: Optional[_T], at: Optional[float], made: Optional[float]) -> Optional[_T]:
    return fact if made is None or (at is not None and at >= made) else None


def _unavailable(looked: CredentialInput, client: str) -> dict[str, str]:
    unavailable = dict(looked.unavailable)
    if client in looked.behind:
        unavailable.setdefault(
            VAULT, f"it shows old data: version {looked.behind[client]} was seen before"
        )
    elif looked.vault is not None and client not in looked.vault.variables:
        unavailable.setdefault(VAULT, "it has no variable of this client that we may see")
    if client in looked.unanswered:
        unavailable.setdefault(
            ROTATIONS, f"it did not tell of this client: {looked.unanswered[client]}"
        )
    elif client not in looked.heard:
        unavailable.setdefault(ROTATIONS, NOT_ASKED)
    return unavailable


def _vault(variable: Variable, moving: bool) -> VaultFacts:
    notes = variable.annotations
    written = notes.get("rotation/ttl")
    broken = written is not None and not rotator_reads(written)
    return VaultFacts(
        version=variable.version,
        expires_at=variable.expires_at,
        rotator=notes.get("rotation/rotator", ""),
        rotator_ttl=ttl_seconds(written or ""),
        expiries=variable.expiries,
        created_at=variable.created_at,
        moving=moving,
        broken_ttl=(written or "nothing") if broken else "",
    )


def ttl_seconds(text: str) -> Optional[float]:
    """Seconds of an ISO 8601 duration such as P30D; None for what is none, or no time at all."""
    found = _TTL.match(text.strip()[:40])
    parts = [float((part or "0").replace(",", ".")) for part in found.groups()] if found else []
    return sum(n * seconds for n, seconds in zip(parts, _SECONDS)) or None


def rotator_reads(text: str) -> bool:
    """Whether Conjur's rotator can read it as a time to live: stricter than we are, and what it
    cannot read ends it. A fraction may stand in the last part alone."""
    found = _STRICT.match(text)
    parts = [float(p.replace(",", ".")) for p in (found.groups() if found else ()) if p]
    some = [part for part in parts if part]
    return bool(some) and all(part.is_integer() for part in some[:-1])


def _rotation(looked: CredentialInput, client: str) -> Optional[RotationFacts]:
    """As last heard; one that ran then and cannot be asked for now may be in any state."""
    heard = looked.heard.get(client)
    rotation = heard.rotation if heard and ROTATIONS not in looked.unavailable else None
    variable = looked.vault.variables.get(client) if looked.vault else None
    rotation = _of_it(rotation, rotation.started_at if rotation else None, _made(looked, variable))
    ran = rotation is not None and rotation.running
    return None if ran and client in looked.unanswered else rotation


def _use(looked: CredentialInput, facts: CredentialFacts) -> UseFacts:
    totals = looked.totals.get(facts.client, Totals())
    last_used = _last_used(looked, facts, totals)
    return UseFacts(
        uses=looked.window.uses(facts.client),
        failures=looked.window.failures(facts.client),
        at_least=looked.window.at_least,
        last_used=last_used,
        ends_open=bool(totals.unknown),
        last_used_at_most=last_used is not None and last_used == totals.last_ok,
        last_failed=totals.last_failed,
        old_version_seen=_old_seen(facts, totals.old_seen),
    )


def _last_used(looked: CredentialInput, facts: CredentialFacts, totals: Totals) -> Optional[float]:
    """The last login that succeeded: as counted, or as its newest token says."""
    share = looked.cache.result.by_client.get(facts.client) if looked.cache else None
    seen = (totals.last_ok, share.last_issued if share else None)
    return max((at for at in seen if at is not None), default=None)


def _old_seen(facts: CredentialFacts, seen: Optional[float]) -> Optional[float]:
    """A sighting from before this version came was of another pair of versions."""
    if seen is None:
        return None
    began = facts.rotation.started_at if facts.rotation else age_of(facts).since
    return seen if began is None or seen >= began else None
