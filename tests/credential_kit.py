"""Real parts for the tests of credentials: a sandbox stack, and a watch that looks at it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from monitoring.config import load as configuration
from monitoring.config.settings import Settings
from monitoring.conjur.client import ConjurClient
from monitoring.credentials.judged import ClientVerdict
from monitoring.credentials.source_kit import Asked, rotation_service
from monitoring.credentials.watch import CredentialSnapshot, CredentialWatch
from monitoring.http.client import HttpClient
from monitoring.redis import client as redis_client
from monitoring.store.state import State
from sandbox.clock import SimulatedClock, jackson_time
from sandbox.options import Options
from sandbox.rotation import Rotation
from sandbox.stack import Stack

ROOT = Path(__file__).parent.parent
AGENT = "credential-tests/1 (canary)"
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0


def quiet_stack(clients: int, **more: Any) -> Stack:
    """Nobody but the test, on a clock that the test moves."""
    options = {"traffic": False, "rotating": False, "now": SimulatedClock(), **more}
    return Stack(Options(clients=clients, **options))


def settings_of(stack: Stack, cwd: Path, **credentials: Any) -> Settings:
    """The settings the script would have; `credentials` replaces some of CredentialSettings."""
    loaded = configuration.load(
        script="credential_usage_metrics",
        root=ROOT,
        config_file=None,
        environ=stack.environment,
        cwd=cwd,
    )
    return replace(
        loaded,
        conjur=replace(loaded.conjur, timeout=5.0),
        redis=replace(loaded.redis, timeout=5.0),
        credentials=replace(loaded.credentials, **credentials),
    )


def asked_of(stack: Stack, settings: Settings) -> Asked:
    """What the script gives its sources."""

    def http(part: Any) -> HttpClient:
        return HttpClient(tls=part.tls, timeout=part.timeout, user_agent=AGENT)

    return Asked(
        settings=settings,
        clock=stack.now,
        eapi=http(settings.eapi),
        sapi=http(settings.sapi),
        rotations=http(rotation_service(settings)),
        conjur=ConjurClient(http(settings.conjur), settings.conjur, stack.now),
        cache=lambda: redis_client.Cache(settings.redis),
    )


def watch_of(stack: Stack, settings: Settings, state: State) -> CredentialWatch:
    return CredentialWatch(asked_of(stack, settings), state)


def by_client(picture: CredentialSnapshot) -> Mapping[str, ClientVerdict]:
    return {each.client: each for each in picture.judged}


def reasons(picture: CredentialSnapshot, client: Optional[str] = None) -> list[str]:
    """The reasons of all findings, or of one client's."""
    return [f.reason for f in picture.findings if client is None or f.client == client]


def log_in(stack: Stack, client: str, secret: Optional[str] = None) -> bool:
    """One login at EAPI, with the client's own secret unless told otherwise."""
    if secret is None:
        secret = stack.book.secret(client, stack.book.accounts[client].in_use)
    body = json.dumps({"client_id": client, "client_secret": secret}).encode()
    request = urllib.request.Request(
        f"{stack.eapi.url}/api/v1/auth/token", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except urllib.error.HTTPError as refused:
        refused.close()
        return False


# -- what the other services say, word for word


@dataclass
class ToldRotation(Rotation):
    """A rotation of which the service says `words`."""

    words: Mapping[str, Any] = field(default_factory=dict)

    def timeline(self) -> list[tuple[float, str]]:
        return []

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), **self.words}


def say_rotations(
    stack: Stack,
    client: str,
    told: Iterable[Mapping[str, Any]],
    cached: Optional[Mapping[str, Any]] = None,
) -> None:
    """The rotation service tells of these rotations of the client alone, and EAPI has `cached` its
    credential. Times are seconds from now; what a row does not name is as usual (old 1, new 2,
    60 min)."""
    now, made = stack.now(), []
    for row in told:
        words = {"old_version": "1", "new_version": "2", "success": None, **row}
        for name in ("started_at", "completed_at"):
            at = words.get(name)
            words[name] = None if at is None else jackson_time(now + at)
        began = now + (row.get("started_at") or 0)
        rotation = ToldRotation(client, began, 1, 2, words=words)
        rotation.completed_at = 1.0 if words["current_state"] in ("new_active", "failed") else None
        made.append(rotation)
    stack.rotation.rotations[:] = [r for r in stack.rotation.rotations if r.client_id != client]
    stack.rotation.rotations += made
    cache_credential(stack, client, cached)


def cache_credential(stack: Stack, client: str, said: Optional[Mapping[str, Any]]) -> None:
    """EAPI's cached credential of the client (None: it has none now). Times are seconds from
    now."""
    with stack.redis_client() as redis:
        redis.delete(f"credential:{client}")
    if said is None:
        return
    now = stack.now()
    credential = replace(
        stack.book.credential(client),
        version=said.get("version", "2"),
        rotation_state=said.get("rotationState"),
        created_at=now + said.get("createdAt", -60 * DAY),
        updated_at=now + said.get("updatedAt", -60 * DAY),
    )
    assert stack.eapi.cache is not None
    stack.eapi.cache.store_credential(credential)


def set_versions(stack: Stack, client: str, versions: Sequence[int]) -> None:
    """The vault holds these versions of the client's secret."""
    variable = stack.vault.variables[stack.book.variable(client)]
    del variable.versions[:]
    for _ in versions:
        stack.vault.set_value(stack.book.variable(client), b"secret-%d" % len(variable.versions))
