"""Values: what a source of credential facts is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from monitoring.config.settings import ServiceSettings, Settings
from monitoring.conjur.client import ConjurClient
from monitoring.credentials.facts import NOT_CONFIGURED
from monitoring.credentials.shared_census import SharedCensus
from monitoring.http.client import HttpClient
from monitoring.model import Fault, Source
from monitoring.redis.client import Cache

#: Seconds a question to the rotation service may take.
ROTATION_TIMEOUT = 5.0


@dataclass(frozen=True)
class SourceAnswer:
    """A source's row, and what it gave (None: nothing; its type is the source's own)."""

    source: Source
    data: Any = None

    @property
    def why_unavailable(self) -> str:
        """Why nothing may rest on this source now; "" when it is sound."""
        if not self.source.configured:
            return NOT_CONFIGURED
        return "" if self.source.ok else self.source.why or "no reason given"


@dataclass(frozen=True)
class Asked:
    """Live things for the questions. `clock` gives epoch seconds; `cache` makes a new, lazily
    connected cache that the question closes; the HTTP clients are shared by threads. `shared`: the
    census of the other script, which may stand for one of our own (None: it may not)."""

    settings: Settings
    clock: Callable[[], float]
    eapi: HttpClient
    sapi: HttpClient
    rotations: HttpClient
    conjur: ConjurClient
    cache: Callable[[], Cache]
    shared: Optional[SharedCensus] = None


def rotation_service(settings: Settings) -> ServiceSettings:
    """The rotation service as a service, for its HTTP client."""
    return ServiceSettings(
        "rotation-service",
        settings.rotation_url,
        {},
        timeout=ROTATION_TIMEOUT,
        tls=settings.rotation_tls,
    )


def unavailable(
    name: str, fault: Fault, data: Optional[Any] = None, *, truncated: bool = False
) -> SourceAnswer:
    """A source that failed, and why; `truncated`: its time was over first."""
    row = Source(name, False, why=fault.message, error=fault.kind, truncated=truncated)
    return SourceAnswer(row, data)


def absent(name: str) -> SourceAnswer:
    """A source that nobody configured."""
    return SourceAnswer(Source(name, False, why=NOT_CONFIGURED, configured=False))
