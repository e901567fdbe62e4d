"""`--can-revoke` before a whole stack where all is well, and then one thing lies or is away."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from credential_usage_metrics import outcome_of
from monitoring.credentials.facts import CACHE, EAPI, ROTATIONS, SAPI, VAULT
from monitoring.credentials.revocation import RevocationAnswer, can_revoke
from monitoring.credentials.source_kit import Asked
from monitoring.credentials.watch import CredentialWatch
from monitoring.http.client import HttpClient, Reply
from monitoring.store.state import State
from monitoring.tokens.stats import VERSIONS_KEPT
from sandbox import jwt_codec
from sandbox.eapi import claims_of
from sandbox.stack import Stack
from tests.credential_kit import (
    HOUR,
    MINUTE,
    asked_of,
    by_client,
    log_in,
    quiet_stack,
    settings_of,
    watch_of,
)

CLIENT = "client-002"


@pytest.fixture
def stack() -> Iterator[Stack]:
    with quiet_stack(3) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def asked(stack: Stack, state: State, tmp_path: Path) -> Asked:
    """A rotation was watched from beginning to end, and the client has come with its new secret."""
    settings = settings_of(stack, tmp_path)
    watch = watch_of(stack, settings, state)
    watch.look(stack.now())
    stack.rotation.begin(CLIENT)
    for _ in range(20):
        stack.advance(12 * MINUTE)
        log_in(stack, CLIENT)
        watch.look(stack.now())
    return asked_of(stack, settings)


def answer_of(asked: Asked, state: State, now: float) -> RevocationAnswer:
    picture = CredentialWatch(asked, state).look(now, about=CLIENT)
    return can_revoke(by_client(picture)[CLIENT].facts, now)


def put(stack: Stack, key: str, **fields: Any) -> None:
    with stack.redis_client() as client:
        client.hset(key, mapping=fields)


def put_jwt(stack: Stack, key: str, *, without: str = "", **claims: Any) -> None:
    token = stack.eapi.minter.mint(CLIENT, stack.now() - 30)
    said = {**claims_of(token), **claims}
    said.pop(without, None)
    with stack.redis_client() as client:
        client.set(key, jwt_codec.sign(stack.eapi.minter.key, said), ex=600)


def test_all_is_well(stack: Stack, asked: Asked, state: State) -> None:
    answer = answer_of(asked, state, stack.now())
    assert answer.yes is True, answer
    assert answer.old_version == "v2"


def older(stack: Stack) -> None:
    at = stack.now()
    put(stack, f"token:{CLIENT}:t1", iat=int(at - 3.5 * HOUR), exp=int(at + 600))


def without_times(stack: Stack) -> None:
    put(stack, f"token:{CLIENT}:t1", created="yesterday", client_id=CLIENT)


def without_issue(stack: Stack) -> None:
    put_jwt(stack, "token:x", without="iat")


def without_end(stack: Stack) -> None:
    put_jwt(stack, "token:x", without="exp", iat=int(stack.now() - 3.5 * HOUR))


def of_nobody(stack: Stack) -> None:
    put_jwt(stack, "token:x", without="sub")


def by_its_own_word(stack: Stack) -> None:
    put_jwt(stack, "token:x", credential_version="v1")


def more_versions_than_are_kept(stack: Stack) -> None:
    for number in range(3, 4 + VERSIONS_KEPT):  # 3 is the present one
        put_jwt(stack, f"token:x{number}", jti=f"x{number}", credential_version=f"v{number}")


def one_id_twice(stack: Stack) -> None:
    put_jwt(stack, "token:x", jti="same")
    put_jwt(stack, "token:y", jti="same", iat=int(stack.now() - 3.5 * HOUR))


def no_tokens_at_all(stack: Stack) -> None:
    with stack.redis_client() as client:
        for key in client.scan_iter("token*"):
            client.delete(key)


def unreadable(stack: Stack) -> None:
    with stack.redis_client() as client:
        client.set("token:x", b"\x00\x01\x02 encrypted", ex=600)


def still_cached(stack: Stack) -> None:
    credential = replace(stack.book.credential(CLIENT), version="v1")
    stack.eapi.cache.store_credential(credential)  # type: ignore[union-attr]


def both_cached(stack: Stack) -> None:
    credential = replace(stack.book.credential(CLIENT), rotation_state="DUAL_ACTIVE")
    stack.eapi.cache.store_credential(credential)  # type: ignore[union-attr]


def cached_and_unreadable(stack: Stack) -> None:
    with stack.redis_client() as client:
        client.set(f"credential:{CLIENT}", b"\x01\x00java.lang.Obj", ex=900)


def new_version_is_gone(stack: Stack) -> None:
    stack.vault.variables[stack.book.variable(CLIENT)].versions.pop()


def another_runs(stack: Stack) -> None:
    stack.rotation.begin(CLIENT)


def fault(name: str) -> Callable[[Stack], None]:
    return lambda stack: stack.faults.set(name)


CACHE_TRICKS = (older, without_times, without_issue, without_end, of_nobody, by_its_own_word)
MORE = (one_id_twice, no_tokens_at_all, unreadable, still_cached, both_cached)
TRICKS = (
    *CACHE_TRICKS,
    *MORE,
    cached_and_unreadable,
    more_versions_than_are_kept,
    new_version_is_gone,
    another_runs,
)


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_one_thing_lies(
    trick: Callable[[Stack], None], stack: Stack, asked: Asked, state: State
) -> None:
    trick(stack)
    answer = answer_of(asked, state, stack.now())
    assert answer.yes is not True, answer
    assert answer.reasons or answer.unknowns


AWAY = ("rotation-500", "rotation-garbage", "rotation-truncated", "redis-refused", "redis-loading")
DARK = ("conjur-502", "conjur-forbidden", "conjur-truncated", "eapi-500", "sapi-500")


@pytest.mark.parametrize("name", [*AWAY, *DARK])
def test_one_source_is_dark(name: str, stack: Stack, asked: Asked, state: State) -> None:
    stack.faults.set(name)
    assert answer_of(asked, state, stack.now()).yes is None


FAULTS = {
    VAULT: "conjur-502",
    CACHE: "redis-refused",
    ROTATIONS: "rotation-500",
    EAPI: "eapi-500",
    SAPI: "sapi-500",
}


def test_sources_are_dark_in_every_combination(stack: Stack, asked: Asked, state: State) -> None:
    """The rest stands, what is unavailable is named, and the answer is not yes."""
    for number in (1, 2, 3, 4, 5):
        for unavailable in itertools.combinations(FAULTS, number):
            stack.faults.clear()
            for name in unavailable:
                stack.faults.set(FAULTS[name])
            now = stack.now()
            picture = CredentialWatch(asked, state).look(now, about=CLIENT)
            assert {s.name for s in picture.sources if not s.ok} == set(unavailable)
            each = by_client(picture)[CLIENT]
            answer = can_revoke(each.facts, now)
            assert answer.yes is None, (unavailable, answer)
            assert all(any(name in said for said in answer.unknowns) for name in unavailable)
            known = not {VAULT, ROTATIONS} <= set(
                unavailable
            )  # the cache alone shows no one in order
            assert (each.verdict.verdict == "ok") == known, (unavailable, each.verdict)
            outcome = outcome_of(picture, asked.settings)
            assert outcome.exit_status == (1 if known else 3), unavailable
            stack.advance(1)


@pytest.mark.parametrize("minutes", [-300, -50, -20, 20, 50, 300])
def test_our_clock_is_wrong(minutes: int, stack: Stack, asked: Asked, state: State) -> None:
    now = stack.now() + minutes * MINUTE
    wrong = replace(asked, clock=lambda: now)
    assert answer_of(wrong, state, now).yes is not True


class Deaf(HttpClient):
    """The rotation service tells what runs, and nothing of single clients."""

    inner: HttpClient
    body: Optional[bytes] = None

    def get(self, url: str, **how: Any) -> Reply:
        reply = self.inner.get(url, **how)
        if "/client/" not in url:
            return reply
        return replace(reply, status=200 if self.body else 500, body=self.body or b"")


DONE = {
    "client_id": CLIENT,
    "current_state": "new_active",
    "old_version": "v1",
    "new_version": "v2",
    "started_at": "2026-11-20T00:00:00Z",
}
ROWS = [
    None,
    json.dumps([{"client_id": CLIENT, "state": "dual_active"}]).encode(),
    json.dumps([DONE, {"client_id": CLIENT, "current_state": "initiated"}]).encode(),
]


@pytest.mark.parametrize("body", ROWS, ids=["500", "another field", "one without a start"])
def test_the_rotation_service_does_not_tell_of_this_client(
    body: Optional[bytes], stack: Stack, asked: Asked, state: State
) -> None:
    deaf = object.__new__(Deaf)
    deaf.inner, deaf.body = asked.rotations, body
    assert answer_of(replace(asked, rotations=deaf), state, stack.now()).yes is not True


def test_a_scan_that_ends_early(stack: Stack, asked: Asked, state: State) -> None:
    with stack.redis_client() as client:
        client.mset({f"elsewhere:{number}": "" for number in range(5000)})
    settings = replace(asked.settings, tokens=replace(asked.settings.tokens, max_keys=1))
    answer = answer_of(replace(asked, settings=settings), state, stack.now())
    assert answer.yes is None
    assert "ended early" in " ".join(answer.unknowns)


def test_the_state_file_is_lost(stack: Stack, asked: Asked, tmp_path: Path) -> None:
    with State.open(tmp_path / "another") as state:
        assert answer_of(asked, state, stack.now()).yes is not True


def test_a_client_nobody_knows_leaves_no_trace(stack: Stack, asked: Asked, state: State) -> None:
    picture = CredentialWatch(asked, state).look(stack.now(), about="nobody")
    assert "nobody" not in by_client(picture)
    rows = state.read("SELECT key FROM kv WHERE scope = 'rotations'", ())
    assert ("nobody",) not in rows
