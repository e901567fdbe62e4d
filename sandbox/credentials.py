"""Credentials: the clients, the secrets they may use now, and how old those are.

The secrets themselves lie in the vault, one variable per client; this book remembers what the
vault does not: which versions EAPI accepts, since when, and in which rotation state.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Optional

from sandbox.values import Credential
from sandbox.vault import Vault

DAY = 86400.0
POLICY_SECONDS = 90 * DAY
GROUPS = {"read": {"group:monitoring-access"}, "execute": {"group:payment-services"}}


@dataclass
class Account:
    """One client: its current version, the versions that log in, when each was made, and the
    version the client itself uses (it learns of a new one only after a while)."""

    client_id: str
    active: bool = True
    version: int = 1
    in_use: int = 1
    accepted: set[int] = field(default_factory=set)
    rotation_state: Optional[str] = None
    created: dict[int, float] = field(default_factory=dict)
    updated_at: float = 0.0


class CredentialBook:
    """All clients. `template` names a client's variable in the vault."""

    def __init__(
        self, vault: Vault, *, template: str = "payment/credentials/{client_id}", seed: int = 1
    ) -> None:
        self.vault = vault
        self.template = template
        self.accounts: dict[str, Account] = {}
        self._seed = str(seed).encode()

    def variable(self, client_id: str) -> str:
        """The name of the client's variable."""
        return self.template.format(client_id=client_id)

    def secret(self, client_id: str, version: Optional[int] = None) -> str:
        """The secret of a version (default: the current one). Derived, so that a seed fixes it."""
        number = version or self.accounts[client_id].version
        text = f"{client_id}:{number}".encode()
        return hmac.new(self._seed, text, hashlib.sha256).hexdigest()[:40]

    def add(
        self, client_id: str, *, version: int = 1, age_days: float = 10, active: bool = True
    ) -> Account:
        """A client whose `version`-th secret is `age_days` old."""
        name, now = self.variable(client_id), self.vault.now()
        variable = self.vault.add_variable(name, permits={k: set(v) for k, v in GROUPS.items()})
        born = now - age_days * DAY
        variable.created_at = born - (version - 1) * POLICY_SECONDS
        for number in range(1, version + 1):
            self.vault.set_value(name, self.secret(client_id, number).encode())
        account = Account(client_id, active, version, version, {version}, updated_at=born)
        account.created[version] = born
        self.accounts[client_id] = account
        return account

    def add_version(self, client_id: str) -> int:
        """Write a fresh secret into the vault; nobody may log in with it yet."""
        account = self.accounts[client_id]
        stored = self.vault.version(self.variable(client_id))
        number = (stored.number if stored else 0) + 1
        self.vault.set_value(self.variable(client_id), self.secret(client_id, number).encode())
        account.created[number] = account.updated_at = self.vault.now()
        return number

    def matching_version(self, client_id: str, secret: str) -> Optional[int]:
        """The accepted version this secret belongs to; None: it does not log in."""
        account = self.accounts.get(client_id)
        if account is None or not account.active:
            return None
        for number in sorted(account.accepted, reverse=True):
            right = self.secret(client_id, number).encode()
            if hmac.compare_digest(right, secret.encode("utf-8", "replace")):
                return number
        return None

    def credential(self, client_id: str) -> Credential:
        """The object EAPI caches in Redis. The hash is bcrypt in shape only."""
        account = self.accounts[client_id]
        digest = hashlib.sha384(self.secret(client_id).encode()).digest()
        born = account.created[account.version]
        return Credential(
            client_id=client_id,
            hashed_secret="$2a$10$" + base64.b64encode(digest, b"./").decode()[:53],
            active=account.active,
            version=f"v{account.version}",
            rotation_state=account.rotation_state,
            created_at=born,
            updated_at=account.updated_at,
            expires_at=born + POLICY_SECONDS,
        )
