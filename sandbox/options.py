"""Options: what kind of stack to start."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

CANARY = "monitoring-canary"


@dataclass(frozen=True)
class Options:
    """`faults` are NAME[=VALUE]; `preload` is minutes of past traffic; `now` is the clock that
    every server lives by (Redis keeps its own); `redis_binary` as in `redis_server.start`;
    `redis_patience` is how many seconds a service waits for Redis, several times a request;
    `token_seconds` how long a token lives."""

    encoding: str = "java"
    conjur: str = "oss"
    clients: int = 30
    faults: tuple[str, ...] = ()
    redis_password: str = ""
    redis_binary: str = ""
    redis_patience: float = 0.5
    metrics_family: str = "micrometer"
    seed: int = 1
    traffic: bool = True
    preload: float = 0
    rotating: bool = True
    tls: bool = False
    token_seconds: float = 3600
    now: Callable[[], float] = time.time

    @property
    def needs_tls(self) -> bool:
        """Whether the services speak HTTPS: asked for, or implied by a fault."""
        return self.tls or any(fault.startswith("tls-") for fault in self.faults)

    def client_ids(self) -> list[str]:
        """client-001 and so on."""
        return [f"client-{number:03d}" for number in range(1, self.clients + 1)]
