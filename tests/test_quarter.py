"""A quarter of days on the sandbox's clock: 200 clients through every state, rotations of every
outcome, two monitors on one state file, which is lost on the way. Each verdict is held against
what the sandbox knows to be true."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from monitoring.credentials.judged import ClientVerdict
from monitoring.credentials.revocation import can_revoke
from monitoring.credentials.watch import CredentialWatch
from monitoring.store.state import State
from sandbox.rotation import ADOPTED, Rotation
from sandbox.stack import Stack
from tests.credential_kit import (
    DAY,
    HOUR,
    MINUTE,
    by_client,
    log_in,
    quiet_stack,
    settings_of,
    watch_of,
)

CLIENTS = 200
DAYS = 90
LOST_ON = 45
#: Minutes before a look at which the day's rotations begin, so that looks meet every state.
BEGUN = (0.5, 20, 55, 75, 110, 150, 300, 600)
FATES = ("normal", "normal", "stuck", "normal", "failed", "normal", "half-done", "normal")
DISABLED = ("client-007", "client-077")
BY_HAND = ("client-101", "client-142")


class Truth:
    """What ought to be said of each client, from the sandbox's own books."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.cached = set(stack.options.client_ids()[::2])  # of these EAPI had a credential cached
        self.watched_since = stack.now()
        self.by_hand: dict[str, float] = {}

    def rotation(self, client: str) -> Optional[Rotation]:
        mine = [r for r in self.stack.rotation.rotations if r.client_id == client]
        return max(mine, key=lambda r: r.started_at, default=None)

    def born(self, client: str) -> float:
        account = self.stack.book.accounts[client]
        return account.created[account.version]

    def state(self, client: str) -> str:
        if not self.stack.book.accounts[client].active:
            return "disabled"
        rotation = self.rotation(client)
        if rotation is None:
            return "active"
        return "active" if rotation.state == "new_active" else rotation.state

    def entered(self, rotation: Rotation) -> float:
        steps = [moment for moment, state in rotation.timeline() if state == rotation.state]
        return steps[0] if steps else rotation.started_at

    def age_is_known(self, client: str) -> bool:
        return client in self.cached or client in self.by_hand or self.rotation(client) is not None

    def verdict(self, client: str) -> str:
        state, rotation, now = self.state(client), self.rotation(client), self.stack.now()
        if state in ("disabled", "failed"):
            return {"disabled": "ok", "failed": "failed"}[state]
        if rotation is not None and rotation.completed_at is None:
            return "stuck" if now - self.entered(rotation) > HOUR + 2 * MINUTE else "ok"
        known = self.age_is_known(client)
        age = now - (self.born(client) if known else self.watched_since)
        if age > 90 * DAY:
            return "overdue"
        if age >= 76 * DAY:
            return "due_soon"
        return "ok" if known or self.surely_young(client) else "unknown"

    def surely_young(self, client: str) -> bool:
        variable = self.stack.vault.variables[self.stack.book.variable(client)]
        return self.stack.now() - variable.created_at < 76 * DAY


@pytest.fixture
def stack() -> Iterator[Stack]:
    with quiet_stack(CLIENTS) as running:
        yield running


class Monitors:
    """Two monitors that share one state file."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.open()

    def open(self) -> None:
        settings = settings_of(self.stack, self.folder)
        self.states = [State.open(self.folder / "shared") for _ in range(2)]
        self.both = [watch_of(self.stack, settings, state) for state in self.states]

    def close(self) -> None:
        for state in self.states:
            state.close()

    def __enter__(self) -> Monitors:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def lose_the_file(self) -> None:
        self.close()
        shutil.rmtree(self.folder / "shared")
        self.open()

    def of(self, number: int) -> CredentialWatch:
        return self.both[number % 2]


def begin_rotations(stack: Stack, day: int) -> None:
    """Two a day, of every fate and at every distance from the look."""
    for slot in range(2):
        number = 2 * day + slot
        client = f"client-{(number * 7) % CLIENTS + 1:03d}"
        last = [r for r in stack.rotation.rotations if r.client_id == client]
        if client not in (*DISABLED, *BY_HAND) and all(r.completed_at for r in last):
            ago = BEGUN[number % len(BEGUN)] * MINUTE
            stack.rotation.begin(client, fate=FATES[(number // 3) % len(FATES)], ago=ago)


def write_by_hand(stack: Stack, truth: Truth) -> None:
    """New versions that no rotation service knows of."""
    for client in BY_HAND:
        account = stack.book.accounts[client]
        account.version = account.in_use = stack.book.add_version(client)
        account.accepted = {account.version}
        truth.by_hand[client] = stack.now()


def disable(stack: Stack) -> None:
    for client in DISABLED:
        stack.book.accounts[client].active = False
        stack.eapi.cache.store_credential(stack.book.credential(client))  # type: ignore[union-attr]


def check(each: ClientVerdict, truth: Truth, day: int) -> None:
    """The verdict, the state, and an age that is never invented."""
    client, now = each.client, truth.stack.now()
    told = (each.verdict.verdict, each.verdict.state)
    assert told == (truth.verdict(client), truth.state(client)), (day, client, each.verdict)
    age = each.verdict.age.seconds(now)
    assert age is not None
    real = now - truth.born(client)
    if each.verdict.age.at_least:
        assert age <= real + 1, (day, client, each.verdict)
    else:
        assert abs(age - real) <= DAY, (day, client, each.verdict)


def test_every_verdict_is_right_on_every_day_of_a_quarter(stack: Stack, tmp_path: Path) -> None:
    with Monitors(stack, tmp_path) as monitors:
        spend_a_quarter(stack, monitors, Truth(stack))


def spend_a_quarter(stack: Stack, monitors: Monitors, truth: Truth) -> None:
    for client in truth.cached:
        stack.eapi.cache.store_credential(stack.book.credential(client))  # type: ignore[union-attr]
    seen: set[str] = set()
    for day in range(DAYS):
        if day == 1:  # what EAPI cached has expired; the ledger remembers what it said
            with stack.redis_client() as client:
                client.flushall()
            disable(stack)
        if day == 10:
            write_by_hand(stack, truth)
        if day == LOST_ON:
            monitors.lose_the_file()
            truth.watched_since = stack.now()
            truth.cached, truth.by_hand = set(), {}
        begin_rotations(stack, day)
        picture = monitors.of(day).look(stack.now())
        assert len(picture.judged) == CLIENTS
        for each in picture.judged:
            check(each, truth, day)
            seen.add(each.verdict.verdict)
        stack.advance(DAY)
    assert seen == {"ok", "due_soon", "overdue", "stuck", "failed", "unknown"}


@pytest.mark.parametrize("fate", ["normal", "stuck", "failed", "half-done"])
def test_a_rotation_is_told_right_at_every_step(fate: str, tmp_path: Path) -> None:
    """Every five minutes of six hours, by two monitors in turn."""
    with quiet_stack(3) as stack, Monitors(stack, tmp_path) as monitors:
        truth = Truth(stack)
        truth.cached = set()
        monitors.of(0).look(stack.now())
        stack.advance(30)
        stack.rotation.begin("client-002", fate=fate)
        for step in range(72):
            judged = by_client(monitors.of(step).look(stack.now()))
            check(judged["client-002"], truth, step)
            stack.advance(5 * MINUTE)


@pytest.mark.parametrize("fate", ["normal", "stuck", "failed", "half-done"])
def test_revocation_is_never_allowed_while_an_old_token_lives(fate: str, tmp_path: Path) -> None:
    """The client logs in at every step with the secret it has; those are its tokens."""
    answers: dict[float, Optional[bool]] = {}
    with quiet_stack(2) as stack, Monitors(stack, tmp_path) as monitors:
        stack.rotation.begin("client-002", fate=fate)
        minted: list[tuple[int, float]] = []
        account = stack.book.accounts["client-002"]
        for step in range(40):
            log_in(stack, "client-001")  # a cache without any live token proves nothing
            if account.in_use in account.accepted:
                token = stack.eapi.minter.mint("client-002", stack.now())
                stack.eapi.cache.store_minted(token)  # type: ignore[union-attr]
                minted.append((account.in_use, token.expires_at))
            facts = by_client(monitors.of(step).look(stack.now()))["client-002"].facts
            answer = can_revoke(facts, stack.now())
            rotation = stack.rotation.rotations[0]
            old = [dies for v, dies in minted if v == rotation.old_version and dies > stack.now()]
            if old or rotation.state not in ("old_deprecated", "new_active"):
                assert answer.yes is False, (step, answer)
            answers[step * 10.0] = answer.yes
            stack.advance(10 * MINUTE)
    assert (True in answers.values()) == (fate in ("normal", "half-done"))
    assert ADOPTED  # the moment of adoption is the sandbox's own; the service does not tell it
