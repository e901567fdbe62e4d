"""Vault: what Conjur holds: variables with versions, who may do what, API keys, access tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from sandbox.clock import iso_time

VERSIONS_KEPT = 20
TOKEN_SECONDS = 480


@dataclass(frozen=True)
class Version:
    """One value of a variable. `expires_at` is epoch seconds; None for values set by hand."""

    number: int
    value: bytes
    expires_at: Optional[float] = None


@dataclass
class Variable:
    """A variable; `permits` maps a privilege to the roles that hold it. `owner`: the role that
    owns it, a policy as a rule."""

    name: str
    created_at: float
    annotations: dict[str, str] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    permits: dict[str, set[str]] = field(default_factory=dict)
    owner: str = "policy:payment"


class Vault:
    """The database behind the Conjur server. Roles are `host:name`, `group:name`, `policy:name`.

    `groups` are members by group, groups in groups as `group:name`; `owners` by owned policy."""

    def __init__(self, *, now: Callable[[], float], account: str = "payment-system") -> None:
        self.account = account
        self.now = now
        self.variables: dict[str, Variable] = {}
        self.api_keys: dict[str, str] = {}
        self.groups: dict[str, set[str]] = {}
        self.owners: dict[str, set[str]] = {"policy:payment": {"user:admin"}}
        self.token_seconds = TOKEN_SECONDS
        self._key = hashlib.sha256(b"sandbox slosilo " + account.encode()).digest()
        self._lock = threading.RLock()

    def full(self, kind: str, name: str) -> str:
        """`account:kind:name`."""
        return f"{self.account}:{kind}:{name}"

    def add_host(self, login: str, api_key: str, *groups: str) -> None:
        """A machine identity (`host/monitoring`) and the groups it belongs to."""
        self.api_keys[login] = api_key
        for group in groups:
            self.groups.setdefault(group, set()).add(self.role(login))

    def delete_host(self, login: str) -> None:
        """The identity goes; tokens that it has already live on."""
        del self.api_keys[login]
        for members in (*self.groups.values(), *self.owners.values()):
            members.discard(self.role(login))

    def delete_variable(self, name: str) -> None:
        """The variable goes, with its versions."""
        with self._lock:
            del self.variables[name]

    @staticmethod
    def role(login: str) -> str:
        """`host/x` as `host:x`, a bare login as `user:x`."""
        kind, slash, name = login.partition("/")
        return f"{kind}:{name}" if slash else f"user:{login}"

    def add_variable(
        self, name: str, *, permits: Optional[dict[str, set[str]]] = None, **annotations: str
    ) -> Variable:
        """A variable without a value; annotation names use `__` for `/`."""
        notes = {key.replace("__", "/"): value for key, value in annotations.items()}
        variable = Variable(name, self.now(), notes, [], permits or {})
        self.variables[name] = variable
        return variable

    def set_value(self, name: str, value: bytes, expires_at: Optional[float] = None) -> int:
        """Store a value, return its version; an identical value makes no new version."""
        with self._lock:
            variable = self.variables[name]
            last = variable.versions[-1] if variable.versions else None
            if last is not None and last.value == value:
                return last.number
            number = last.number + 1 if last else 1
            variable.versions.append(Version(number, value, expires_at))
            del variable.versions[:-VERSIONS_KEPT]
            return number

    def version(self, name: str, number: Optional[int] = None) -> Optional[Version]:
        """One version (the newest without `number`), or None."""
        with self._lock:
            versions = list(self.variables[name].versions)
        wanted = [v for v in versions if number in (None, v.number)]
        return wanted[-1] if wanted else None

    def _members(self, role: str) -> set[str]:
        """Who is in the group, or owns the policy: both act as that role."""
        kind, _, name = role.partition(":")
        return self.groups.get(name, set()) if kind == "group" else self.owners.get(role, set())

    def acting_as(self, roles: set[str]) -> set[str]:
        """`roles`, their members, the members of these, and so on."""
        found = set(roles)
        while True:
            more = {member for role in found for member in self._members(role)} - found
            if not more:
                return found
            found |= more

    def privileges(self, role: str, variable: Variable) -> set[str]:
        """What `role` may do with `variable`; any privilege makes it visible."""
        if role in self.acting_as({variable.owner}):
            return {"read", "execute", "update", "create"}
        return {p for p, roles in variable.permits.items() if role in self.acting_as(roles)}

    def permitted(self, variable: Variable, privilege: str) -> list[str]:
        """Full ids of all roles that hold `privilege`: by name, as members, as owners; in no
        order."""
        named = variable.permits.get(privilege, set())
        roles = self.acting_as({variable.owner, *named})
        return [self.full(*role.split(":", 1)) for role in sorted(roles, key=lambda r: r[::-1])]

    def visible(self, role: str) -> list[Variable]:
        """All variables `role` can see, ordered by id."""
        with self._lock:
            found = [v for v in self.variables.values() if self.privileges(role, v)]
        return sorted(found, key=lambda variable: variable.name)

    def newest(self) -> dict[str, int]:
        """The newest version number of every variable, 0 where none was ever set."""
        with self._lock:
            found = {name: v.versions[-1:] for name, v in self.variables.items()}
        return {name: versions[0].number if versions else 0 for name, versions in found.items()}

    def describe(self, variable: Variable, *, newest: Optional[int] = None) -> dict[str, Any]:
        """A variable as GET /resources shows it; with `newest` without the versions above it."""
        root = self.full("policy", "root")
        return {
            "created_at": iso_time(variable.created_at),
            "id": self.full("variable", variable.name),
            "owner": self.full(*variable.owner.split(":", 1)),
            "policy": root,
            "permissions": [
                {"privilege": privilege, "role": self.full(*role.split(":", 1)), "policy": root}
                for privilege, roles in sorted(variable.permits.items())
                for role in sorted(roles)
            ],
            "annotations": [
                {"name": name, "value": value, "policy": root}
                for name, value in variable.annotations.items()
            ],
            "secrets": [
                {
                    "version": version.number,
                    "expires_at": None
                    if version.expires_at is None
                    else iso_time(version.expires_at),
                }
                for version in list(variable.versions)
                if newest is None or version.number <= newest
            ],
        }

    def _mac(self, payload: str) -> str:
        whole = payload.encode(
            "utf-8", "replace"
        )  # of a mangled token half a character may be left
        return hmac.new(self._key, whole, hashlib.sha256).hexdigest()

    def issue(self, login: str) -> dict[str, str]:
        """An access token for `login`."""
        now = int(self.now())
        claims = {"sub": login, "iat": now, "exp": now + self.token_seconds}
        protected = {"alg": "conjur.org/slosilo/v2", "kid": self._mac("kid")[:32]}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return {
            "protected": base64.urlsafe_b64encode(json.dumps(protected).encode()).decode(),
            "payload": payload,
            "signature": self._mac(payload),
        }

    def login_of(self, token: Any) -> Optional[tuple[str, int]]:
        """(login, issued at) of a token that is ours and not expired, else None."""
        if not isinstance(token, dict) or not isinstance(token.get("payload"), str):
            return None
        signature = str(token.get("signature")).encode("utf-8", "replace")
        if not hmac.compare_digest(signature, self._mac(token["payload"]).encode()):
            return None
        claims = json.loads(base64.urlsafe_b64decode(token["payload"]))
        return (claims["sub"], claims["iat"]) if claims["exp"] > self.now() else None
