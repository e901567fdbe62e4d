"""Acquire: what Conjur says of the clients' variables: metadata alone, never a value."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import unquote

from monitoring.config.settings import ConjurSettings, Limit, Settings
from monitoring.conjur.answers import Variable, outdated
from monitoring.conjur.client import ConjurClient, ConjurFault
from monitoring.credentials.facts import VAULT, VaultSeen
from monitoring.credentials.source_kit import Asked, SourceAnswer, absent, unavailable
from monitoring.model import Fault, Source

#: What our identity must not hold: execute reads the secret, update writes one.
FORBIDDEN = ("execute", "update")
#: Variables with the same grants and owner are asked about once. So many kinds a cycle, those not
#: asked for longest first; what was heard of the others stands.
KINDS_ASKED = 100
#: Examples of one kind that are tried: a variable may be deleted between the list and the question.
_EXAMPLES = 3
#: After so many kinds in a row that could not be asked about, the rest is not tried.
_FAILURES = 3
_SILENCE = "availability.conjur_follower_silence"
_SILENT_AFTER = 600.0


@dataclass(frozen=True)
class Rights:
    """Who holds a forbidden privilege on one kind of variable, as heard `at`: privilege -> full
    ids of roles, members of groups and owners included."""

    at: float
    holders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RightsSeen:
    """`held`: (privilege, variable) that our identity holds and should not. `readers`: by client,
    the full ids of the other roles that may read the value, where that is known. `kinds`: what is
    to be remembered. `remark`: what could not be asked, and why; "": everything could."""

    held: tuple[tuple[str, str], ...] = ()
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, Rights] = field(default_factory=dict)
    remark: str = ""


def ask_vault(asked: Asked) -> SourceAnswer:
    """All variables that fit the template. A follower that does not get every change is a failed
    source whose data is there all the same; so is a vault in which none of ours is seen."""
    settings, client = asked.settings.conjur, asked.conjur
    if not settings.url or not client.has_credentials:
        return absent(VAULT)
    started = time.monotonic()
    try:
        trouble, remark = _trouble(client, asked.settings)
        prefix = settings.variable_template.partition("{client_id}")[0]
        listing = client.variables(prefix)
    except ConjurFault as error:
        return unavailable(VAULT, error.fault)
    variables = {v.client: v for v in listing.variables if v.client}
    if not variables:
        text = (
            f"no variable like {settings.variable_template} is visible to our identity: check "
            "CONJUR_ACCOUNT and that our identity's group holds read on them"
        )
        return unavailable(VAULT, Fault("config", text))
    seen = VaultSeen(variables, _identity(settings))
    if trouble:
        return unavailable(VAULT, Fault("http", trouble), seen)
    took = time.monotonic() - started
    broken = f"{listing.unreadable} entries of its list are no variables"
    remarks = (remark, listing.remark, broken if listing.unreadable else "")
    said = "; ".join(each for each in remarks if each)
    return SourceAnswer(Source(VAULT, True, len(variables), took, said), seen)


def _trouble(client: ConjurClient, settings: Settings) -> tuple[str, str]:
    """Why its metadata may be out of date, and a remark where it does not say."""
    try:
        health = client.health()
    except ConjurFault as error:
        return "", f"whether it is up to date is not known: {error.fault.message}"
    limit = settings.thresholds.get(_SILENCE, Limit(None, None))
    levels = [level for level in (limit.warning, limit.critical) if level is not None]
    return outdated(health, min(levels, default=_SILENT_AFTER)), ""


def _identity(settings: ConjurSettings) -> str:
    whole = "\n".join((settings.url, settings.account, settings.variable_template))
    return hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16]


# -- who may read and write the secrets


def ask_rights(
    asked: Asked, variables: Mapping[str, Variable], known: Mapping[str, Rights], now: float
) -> RightsSeen:
    """Asks who holds what on one variable of each kind, within a quarter of the cycle. What cannot
    be asked costs itself alone: what was `known` of it stands, and the remark names it."""
    kinds = _kinds(variables.values())
    heard = {kind: known[kind] for kind in kinds if kind in known}
    due = sorted(kinds, key=lambda kind: (heard[kind].at if kind in heard else 0.0, kind))
    until = time.monotonic() + asked.settings.run.cycle_deadline / 4
    failures: list[str] = []
    for kind in due[:KINDS_ASKED]:
        if len(failures) >= _FAILURES or time.monotonic() > until:
            break
        try:
            heard[kind] = _rights(asked.conjur, kinds[kind][:_EXAMPLES], now)
        except ConjurFault as error:
            failures.append(error.fault.message)
            if error.reply is None:  # it hangs or is gone: the rest would fare no better
                break
    remark = f"who may read the secrets was not told: {failures[0]}" if failures else ""
    own = asked.conjur.own_role or _own_role(asked.settings.conjur)
    held = [h for kind, members in kinds.items() for h in _held(members, heard.get(kind), own)]
    readers = {
        variable.client: tuple(
            sorted({*_granted(variable), *heard[kind].holders["execute"]} - {own})
        )
        for kind, members in kinds.items()
        if kind in heard
        for variable in members
    }
    return RightsSeen(tuple(dict.fromkeys(held)), readers, heard, remark)


def _kinds(variables: Iterable[Variable]) -> dict[str, list[Variable]]:
    """Variables by their distinct set of grantees and owner, under a short name of it."""
    kinds: dict[str, list[Variable]] = {}
    for variable in variables:
        whole = repr((sorted(variable.permissions), variable.owner))
        name = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16]
        kinds.setdefault(name, []).append(variable)
    return kinds


def _rights(client: ConjurClient, examples: list[Variable], now: float) -> Rights:
    """Of the first example that is still there. Raises ConjurFault."""
    gone: Optional[ConjurFault] = None
    for example in examples:
        try:
            return Rights(now, {p: tuple(client.holders(example.id, p)) for p in FORBIDDEN})
        except ConjurFault as error:
            if error.reply is None or error.reply.status != 404:
                raise
            gone = error
    raise gone or ConjurFault(Fault("internal", "no variable to ask about"))


def _granted(variable: Variable) -> list[str]:
    return [role for privilege, role in variable.permissions if privilege in FORBIDDEN]


def _held(members: list[Variable], rights: Optional[Rights], own: str) -> list[tuple[str, str]]:
    """What is granted to us by name is seen on every variable, without asking."""
    if not own:
        return []
    found = [(p, v.id) for v in members for p, r in v.permissions if p in FORBIDDEN and r == own]
    found += [(p, v.id) for v in members for p in FORBIDDEN if v.owner == own]
    if rights is not None:
        found += [(p, members[0].id) for p, roles in rights.holders.items() if own in roles]
    return found


def _own_role(settings: ConjurSettings) -> str:
    """The full id of our identity; "" where the vault alone knows it (a JWT without a login)."""
    login = unquote(settings.login)
    kind, slash, name = login.partition("/")
    if not login:
        return ""
    role = f"{kind}:{name}" if slash else f"user:{login}"
    return f"{settings.account}:{role}"
