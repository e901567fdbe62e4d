"""Real parts for the tests of credentials: a sandbox stack, and a watch that looks at it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Optional

from monitoring import configuration, redis_client
from monitoring.conjur import ConjurClient
from monitoring.credentials.judged import Judged
from monitoring.credentials.source_kit import Asked, rotation_service
from monitoring.credentials.watch import CredentialWatch, Picture
from monitoring.http_client import HttpClient
from monitoring.settings import Settings
from monitoring.state import State
from sandbox.clock import SimulatedClock
from sandbox.options import Options
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


def by_client(picture: Picture) -> Mapping[str, Judged]:
    return {each.client: each for each in picture.judged}


def reasons(picture: Picture, client: Optional[str] = None) -> list[str]:
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
