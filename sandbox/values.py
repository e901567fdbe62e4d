"""Values: what the services keep in Redis, as plain frozen objects before any encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

PERMISSIONS = ("process_payment", "view_status")


@dataclass(frozen=True)
class Token:
    """A minted token. Times are epoch seconds; `permissions` None is a Java null."""

    jwt: Optional[str]
    jti: str
    client_id: str
    issued_at: float
    expires_at: float
    permissions: Optional[tuple[str, ...]] = PERMISSIONS
    immutable_permissions: bool = False


@dataclass(frozen=True)
class Validation:
    """SAPI's verdict on one token, as it is answered and cached."""

    is_valid: bool
    is_expired: bool = False
    is_forbidden: bool = False
    is_renewed: bool = False
    error_message: Optional[str] = None
    renewed_token: Optional[str] = None


@dataclass(frozen=True)
class Credential:
    """EAPI's cached view of a client's credential. Times are epoch seconds."""

    client_id: str
    hashed_secret: str
    active: bool
    version: str
    rotation_state: Optional[str]
    created_at: float
    updated_at: float
    expires_at: Optional[float]
