"""Rotation: replaces client secrets in steps, as time passes, and reports over REST.

A rotation is a timeline of (moment, state); `advance()` carries out every step whose moment has
come, in order, so that a clock which leaps a day skips nothing.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any, Optional

from sandbox.clock import jackson_time
from sandbox.credentials import CredentialBook
from sandbox.service import SpringService
from sandbox.token_cache import TokenCache
from sandbox.web import Answer, Request, Route, json_answer

INITIATED, DUAL, OLD, NEW, FAILED = (
    "initiated",
    "dual_active",
    "old_deprecated",
    "new_active",
    "failed",
)
ADOPTED = "adopted"  # no state of the service: the moment the client starts using its new secret
SPREAD_SECONDS = 60.0
GRACE_SECONDS = 3600.0
# Each step: the state, its start as a part of the transition period, and seconds on top.
FATES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "normal": (
        (DUAL, 0, SPREAD_SECONDS),
        (ADOPTED, 0.5, SPREAD_SECONDS),
        (OLD, 1, SPREAD_SECONDS),
        (NEW, 1, SPREAD_SECONDS + GRACE_SECONDS),
    ),
    "stuck": ((DUAL, 0, SPREAD_SECONDS),),
    "failed": ((DUAL, 0, SPREAD_SECONDS), (FAILED, 0.5, SPREAD_SECONDS)),
    "half-done": ((DUAL, 0, SPREAD_SECONDS), (OLD, 1, SPREAD_SECONDS)),
}
FAILURE = "New secret was rejected by the client's configuration service"


@dataclass
class Rotation:
    """One replacement of one client's secret. Times are epoch seconds."""

    client_id: str
    started_at: float
    old_version: int
    new_version: int
    transition_minutes: float = 60
    fate: str = "normal"
    state: str = INITIATED
    steps_done: int = 0
    completed_at: Optional[float] = None
    message: str = "Rotation initiated"
    rotation_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def timeline(self) -> list[tuple[float, str]]:
        """Moment and state of every step after the first."""
        period = self.transition_minutes * 60
        return [
            (self.started_at + part * period + extra, state)
            for state, part, extra in FATES[self.fate]
        ]

    def describe(self) -> dict[str, Any]:
        """The rotation as the REST interface shows it."""
        over = self.completed_at is not None
        word = ("FAILED" if self.state == FAILED else "COMPLETED") if over else "IN_PROGRESS"
        return {
            "rotation_id": self.rotation_id,
            "client_id": self.client_id,
            "current_state": self.state,
            "target_state": NEW,
            "old_version": f"v{self.old_version}",
            "new_version": f"v{self.new_version}",
            "transition_period_minutes": self.transition_minutes,
            "started_at": jackson_time(self.started_at),
            "completed_at": jackson_time(self.completed_at) if self.completed_at else None,
            "status": word,
            "message": self.message,
            "success": self.state == NEW if over else None,
        }


class RotationServer(SpringService):
    """The rotation service: three ways to read, `begin()` to start one."""

    name = "rotation"
    title = "Rotation-Service"

    def __init__(
        self, book: CredentialBook, cache: Optional[TokenCache] = None, **options: Any
    ) -> None:
        self.book = book
        self.cache = cache
        self.rotations: list[Rotation] = []
        self._steps = threading.RLock()
        super().__init__(**options)
        self.faults.listen("rotation-", self._on_fault)

    def routes(self) -> list[Route]:
        """The three reading endpoints besides what every service has."""
        return [
            *super().routes(),
            Route("GET /api/v1/rotations/active", self._active),
            Route("GET /api/v1/rotations/client/{client_id}", self._by_client),
            Route("GET /api/v1/rotations/{rotation_id}", self._by_id),
        ]

    def parts(self) -> dict[str, bool]:
        """What its detailed health names."""
        return {"conjurVault": not (self.faults.broken("conjur") or self._degraded())}

    def begin(
        self,
        client_id: str,
        *,
        fate: str = "normal",
        transition_minutes: float = 60,
        ago: float = 0,
    ) -> Rotation:
        """Start a rotation that began `ago` seconds in the past and ends as `fate` says."""
        account = self.book.accounts[client_id]
        started = self.now() - ago
        with self._steps:
            new = self.book.add_version(client_id)
            account.created[new] = account.updated_at = started
            rotation = Rotation(client_id, started, account.version, new, transition_minutes, fate)
            self.rotations.append(rotation)
            self._tell(rotation)
            self.advance()
        return rotation

    def advance(self) -> None:
        """Carry out every step whose moment has come."""
        now = self.now()
        with self._steps:
            for rotation in self.rotations:
                timeline = rotation.timeline()
                due = [step for step in timeline[rotation.steps_done :] if step[0] <= now]
                for moment, state in due:
                    rotation.steps_done += 1
                    self._enter(rotation, state, moment)

    def _enter(self, rotation: Rotation, state: str, moment: float) -> None:
        account = self.book.accounts[rotation.client_id]
        old, new = rotation.old_version, rotation.new_version
        if state == ADOPTED:
            account.in_use = new
            return
        rotation.state = state
        rotation.message = FAILURE if state == FAILED else f"Rotation is in state {state}"
        account.accepted = {DUAL: {old, new}, FAILED: {old}}.get(state, {new})
        account.version = old if state == FAILED else new
        account.rotation_state = {DUAL: "DUAL_ACTIVE", OLD: "OLD_DEPRECATED"}.get(state)
        account.updated_at = moment
        if state in (NEW, FAILED):
            rotation.completed_at = moment
        self._tell(rotation)

    def _tell(self, rotation: Rotation) -> None:
        self.metrics.rotation(rotation.client_id, rotation.state)
        if self.cache is None:
            return
        self.cache.store_credential(self.book.credential(rotation.client_id))

    def _idle_client(self) -> str:
        busy = {r.client_id for r in self.rotations if r.completed_at is None}
        idle = (c for c, a in self.book.accounts.items() if a.active and c not in busy)
        return next(idle)

    def _on_fault(self, name: str, value: Optional[str]) -> None:
        fate = name[len("rotation-") :]
        if fate not in FATES:
            return
        if value is None:
            self._mend(fate)
        else:  # begun long enough ago that the trouble shows at once
            self.begin(value or self._idle_client(), fate=fate, ago=3 * 3600)

    def _mend(self, fate: str) -> None:
        with self._steps:
            for rotation in self.rotations:
                if rotation.fate == fate and rotation.completed_at is None:
                    rotation.fate = "normal"
                    rotation.steps_done = 0
            self.advance()

    def _active(self, _request: Request) -> Answer:
        self.advance()
        running = [r.describe() for r in self.rotations if r.completed_at is None]
        return json_answer(running)

    def _by_client(self, request: Request) -> Answer:
        self.advance()
        wanted = request.params["client_id"]
        found = [r for r in self.rotations if r.client_id == wanted]
        newest_first = sorted(found, key=lambda r: r.started_at, reverse=True)
        return json_answer([rotation.describe() for rotation in newest_first])

    def _by_id(self, request: Request) -> Answer:
        self.advance()
        for rotation in self.rotations:
            if rotation.rotation_id == request.params["rotation_id"]:
                return json_answer(rotation.describe())
        return self.error(404, "ROTATION_NOT_FOUND", "No rotation has this id")
