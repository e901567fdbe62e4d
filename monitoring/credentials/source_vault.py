"""Acquire: what Conjur says of the clients' variables: metadata alone, never a value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Tuple
from urllib.parse import unquote

from monitoring.conjur import ConjurClient, ConjurFault, Variable
from monitoring.credentials.facts import VAULT
from monitoring.credentials.source_kit import Answer, Asked, absent, dark
from monitoring.model import Fault, Source
from monitoring.settings import ConjurSettings

#: What our identity must not hold: execute reads the secret, update writes one.
FORBIDDEN = ("execute", "update")
#: Variables that grant the same to the same are asked about once; more kinds than this are not.
KINDS_ASKED = 5


@dataclass(frozen=True)
class VaultSeen:
    """`variables` by client. `held`: (privilege, variable) that our identity holds and should
    not. `readers`: by client, the full ids of the roles that may read the value, members of
    groups included where the vault said them."""

    variables: Mapping[str, Variable]
    held: Tuple[Tuple[str, str], ...] = ()
    readers: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


def ask_vault(asked: Asked) -> Answer:
    """All variables that fit the template. A follower that no longer replicates is a failed
    source whose data is there all the same; so is a vault in which none of ours is seen."""
    settings, client = asked.settings.conjur, asked.conjur
    if not settings.url or not client.has_credentials:
        return absent(VAULT)
    started = time.monotonic()
    try:
        trouble, remark = _trouble(client)
        prefix = settings.variable_template.partition("{client_id}")[0]
        listing = client.variables(prefix)
        variables = {v.client: v for v in listing.variables if v.client}
        seen = _with_access(client, variables, _own_role(settings))
    except ConjurFault as error:
        return dark(VAULT, error.fault)
    if not variables:
        text = f"no variable like {settings.variable_template} is visible to our identity"
        return dark(VAULT, Fault("config", text))
    if trouble:
        return dark(VAULT, Fault("http", trouble), seen)
    took = time.monotonic() - started
    if listing.unreadable:
        remark = f"{listing.unreadable} entries of its list are no variables"
    return Answer(Source(VAULT, True, len(variables), took, remark), seen)


def _trouble(client: ConjurClient) -> Tuple[str, str]:
    """Why its metadata may be out of date, and a remark where it does not say."""
    try:
        health = client.health()
    except ConjurFault as error:
        return "", f"whether it is up to date is not known: {error.fault.message}"
    if health.stale:
        said = "; ".join(health.messages[:2])
        return f"a follower that no longer gets changes{': ' + said if said else ''}", ""
    return "", ""


def _own_role(settings: ConjurSettings) -> str:
    """The full id of our identity; "" where the vault alone knows it (a JWT without a login)."""
    login = unquote(settings.login)
    kind, slash, name = login.partition("/")
    if not login:
        return ""
    role = f"{kind}:{name}" if slash else f"user:{login}"
    return f"{settings.account}:{role}"


def _with_access(client: ConjurClient, variables: Mapping[str, Variable], own: str) -> VaultSeen:
    """The kinds with most variables are asked about; what is granted to us by name is seen on
    every variable, without asking."""
    kinds: Dict[Tuple[Tuple[str, str], ...], List[str]] = {}
    held: List[Tuple[str, str]] = []
    for name, variable in variables.items():
        kinds.setdefault(tuple(sorted(variable.permissions)), []).append(name)
        held += [(p, variable.id) for p, role in variable.permissions if _forbidden(p, role, own)]
    readers: Dict[str, Tuple[str, ...]] = {}
    common_first = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    for number, (kind, clients) in enumerate(common_first):
        granted = sorted({role for privilege, role in kind if privilege in FORBIDDEN})
        if number < KINDS_ASKED:
            example = variables[clients[0]].id
            held += [(p, example) for p in FORBIDDEN if client.may(example, p)]
            granted = sorted({*granted, *client.readers(example)})
        readers.update(dict.fromkeys(clients, tuple(granted)))
    return VaultSeen(variables, tuple(dict.fromkeys(held)), readers)


def _forbidden(privilege: str, role: str, own: str) -> bool:
    return privilege in FORBIDDEN and role == own and bool(own)
