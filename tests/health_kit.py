"""Real parts for the health tests: settings of a sandbox stack, and what probes ask with."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitoring.config import load as configuration
from monitoring.config.settings import Settings
from monitoring.conjur.client import ConjurClient
from monitoring.health.probing import ProbeContext, RetainedToken
from monitoring.http.client import HttpClient
from monitoring.redis import client as redis_client
from sandbox.stack import Stack

ROOT = Path(__file__).parent.parent
AGENT = "health-tests/1 (canary)"


def settings_of(stack: Stack, cwd: Path, timeout: float = 5.0) -> Settings:
    """The settings the scripts would have, every component's timeout replaced."""
    loaded = configuration.load(
        script="health_check", root=ROOT, config_file=None, environ=stack.environment, cwd=cwd
    )
    return replace(
        loaded,
        eapi=replace(loaded.eapi, timeout=timeout),
        sapi=replace(loaded.sapi, timeout=timeout),
        conjur=replace(loaded.conjur, timeout=timeout),
        redis=replace(loaded.redis, timeout=timeout),
    )


def live_of(settings: Settings, **more: Any) -> ProbeContext:
    """What the script gives its probes."""

    def client(part: Any) -> HttpClient:
        return HttpClient(tls=part.tls, timeout=part.timeout, user_agent=AGENT)

    conjur = ConjurClient(client(settings.conjur), settings.conjur, time.time)
    parts: dict[str, Any] = {
        "clock": time.time,
        "eapi": client(settings.eapi),
        "sapi": client(settings.sapi),
        "cache": lambda: redis_client.Cache(settings.redis),
        "conjur": lambda: conjur,
        "keepsake": RetainedToken(),
    }
    return ProbeContext(settings=settings, **{**parts, **more})
