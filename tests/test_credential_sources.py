"""The sources over real sockets: what each gives, and how it fails without harming others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring.credentials.facts import CACHE, EAPI, ROTATIONS, SAPI, VAULT
from monitoring.credentials.revocation import can_revoke
from monitoring.credentials.source_kit import SourceAnswer
from monitoring.credentials.sources import SOURCES, Sources, ask_clients, ask_rotations
from monitoring.model import Finding, Source
from monitoring.store.state import State
from sandbox.stack import Stack
from tests.credential_kit import (
    DAY,
    HOUR,
    asked_of,
    by_client,
    log_in,
    quiet_stack,
    reasons,
    settings_of,
    watch_of,
)

CLIENT = "client-002"


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    with quiet_stack(6, conjur="enterprise") as running:
        yield running


@pytest.fixture
def stack(shared: Stack) -> Iterator[Stack]:
    """The module's stack, without faults and with an empty cache."""
    with shared.redis_client() as client:
        client.flushall()
    for name in shared.options.client_ids():
        shared.eapi.cache.store_credential(shared.book.credential(name))  # type: ignore[union-attr]
    yield shared
    shared.faults.clear()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


def rows(stack: Stack, tmp_path: Path, state: State) -> dict[str, Source]:
    picture = watch_of(stack, settings_of(stack, tmp_path), state).look(stack.now())
    return {source.name: source for source in picture.sources}


def test_a_healthy_stack(stack: Stack, tmp_path: Path, state: State) -> None:
    found = rows(stack, tmp_path, state)
    assert list(found) == list(SOURCES)
    assert all(source.ok for source in found.values()), found
    assert found[VAULT].seen == 7  # the canary's too


def test_nothing_configured_is_said_and_nothing_is_asked(
    stack: Stack, tmp_path: Path, state: State
) -> None:
    settings = settings_of(stack, tmp_path)
    bare = replace(
        settings,
        rotation_url="",
        conjur=replace(settings.conjur, login="", jwt_file=""),
        eapi=replace(settings.eapi, paths={}),
        sapi=replace(settings.sapi, paths={}),
    )
    picture = watch_of(stack, bare, state).look(stack.now())
    configured = {source.name: source.configured for source in picture.sources}
    assert configured == {VAULT: False, CACHE: True, ROTATIONS: False, EAPI: False, SAPI: False}
    assert len(picture.judged) == 6  # the cache alone knows them
    answer = can_revoke(by_client(picture)[CLIENT].facts, stack.now())
    assert answer.yes is None


VAULT_FAULTS = [
    ("conjur-unauthorized", "auth"),
    ("conjur-forbidden", "noperm"),
    ("conjur-502", "http"),
    ("conjur-500", "http"),
    ("conjur-down", "refused"),
    ("conjur-truncated", "body"),
    ("conjur-garbage", "body"),
    ("conjur-deep", "body"),
    ("conjur-huge", "too_large"),
    ("conjur-redirect-loop", "redirect"),
]


@pytest.mark.parametrize("trouble", VAULT_FAULTS, ids=str)
def test_a_vault_that_fails_leaves_the_rest_standing(
    trouble: tuple[str, str], stack: Stack, tmp_path: Path, state: State
) -> None:
    fault, kind = trouble
    settings = settings_of(stack, tmp_path)
    watch = watch_of(stack, settings, state)
    before = watch.look(stack.now())
    stack.faults.set(fault)
    picture = watch.look(stack.now() + 60)
    told = {source.name: source for source in picture.sources}
    assert not told[VAULT].ok
    assert told[VAULT].why
    assert told[VAULT].error == kind, told[VAULT]
    assert all(told[name].ok for name in (CACHE, ROTATIONS, EAPI, SAPI))
    assert len(picture.judged) == len(before.judged) == 6
    for each in picture.judged:
        assert each.verdict.age.source == "cache"
        assert can_revoke(each.facts, stack.now()).yes is not True


def test_a_vault_that_knows_no_such_account_is_404(
    stack: Stack, tmp_path: Path, state: State
) -> None:
    settings = settings_of(stack, tmp_path)
    elsewhere = replace(settings, conjur=replace(settings.conjur, account="nobody"))
    picture = watch_of(stack, elsewhere, state).look(stack.now())
    assert next(s for s in picture.sources if s.name == VAULT).ok is False
    assert len(picture.judged) == 6


def test_a_template_that_fits_nothing_is_said_loudly(
    stack: Stack, tmp_path: Path, state: State
) -> None:
    settings = settings_of(stack, tmp_path)
    wrong = replace(
        settings, conjur=replace(settings.conjur, variable_template="other/{client_id}")
    )
    row = watch_of(stack, wrong, state).look(stack.now()).sources[0]
    assert (row.ok, row.error) == (False, "config")
    assert "other/{client_id}" in row.why


def test_a_stale_follower_is_not_believed(stack: Stack, tmp_path: Path, state: State) -> None:
    """It says ok and shows what was; the ledger does not learn from it, nothing is revoked on its
    word."""
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    watch.look(stack.now())
    stack.faults.set("conjur-follower-stale")
    stack.rotation.begin(CLIENT, ago=3 * HOUR)
    picture = watch.look(stack.now())
    row = next(s for s in picture.sources if s.name == VAULT)
    assert not row.ok
    assert "no longer gets changes" in row.why
    each = by_client(picture)[CLIENT]
    assert each.verdict.age.source == "rotation_service"
    assert can_revoke(each.facts, stack.now()).yes is not True
    assert state.read("SELECT count(*) FROM ledger WHERE client = ?", (CLIENT,)) == [(1,)]


def test_our_own_identity_must_not_be_able_to_read_secrets(
    stack: Stack, tmp_path: Path, state: State
) -> None:
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    assert reasons(watch.look(stack.now())) == []
    stack.faults.set("conjur-overprivileged")
    assert "identity_holds_execute" in reasons(watch.look(stack.now()))


def test_roles_that_may_newly_read_a_secret(stack: Stack, tmp_path: Path, state: State) -> None:
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    assert reasons(watch.look(stack.now())) == []
    variable = stack.vault.variables[stack.book.variable("client-003")]
    variable.permits["execute"].add("host:intruder")
    picture = watch.look(stack.now() + 60)
    (finding,) = picture.findings
    assert (finding.reason, finding.client) == ("permitted_roles_drift", "client-003")
    assert "host:intruder" in finding.sentence
    assert reasons(watch.look(stack.now() + HOUR)) == ["permitted_roles_drift"]
    assert reasons(watch.look(stack.now() + 2 * DAY)) == []
    variable.permits["execute"].discard("host:intruder")


def test_members_of_a_group_count_as_readers(stack: Stack, tmp_path: Path, state: State) -> None:
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    watch.look(stack.now())
    stack.vault.groups["payment-services"].add("host:newcomer")
    sentences = [f.sentence for f in watch.look(stack.now() + 60).findings]
    assert sentences == ["payment-system:host:newcomer may newly read the secrets of 7 clients"]
    stack.vault.groups["payment-services"].discard("host:newcomer")


@pytest.mark.parametrize(
    "fault", ["rotation-down", "rotation-500", "rotation-garbage", "rotation-truncated"]
)
def test_a_rotation_service_that_is_away_leaves_the_rest_standing(
    fault: str, stack: Stack, tmp_path: Path, state: State
) -> None:
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    before = by_client(watch.look(stack.now()))
    stack.faults.set(fault)
    picture = watch.look(stack.now() + 60)
    told = {source.name: source for source in picture.sources}
    assert not told[ROTATIONS].ok
    assert all(told[name].ok for name in (VAULT, CACHE, EAPI, SAPI))
    for client, each in by_client(picture).items():
        assert each.verdict.verdict == before[client].verdict.verdict
        assert can_revoke(each.facts, stack.now()).yes is not True


REDIS = ["redis-refused", "redis-loading", "redis-noauth"]


@pytest.mark.parametrize("fault", REDIS)
def test_a_cache_that_fails_leaves_the_rest_standing(
    fault: str, stack: Stack, tmp_path: Path, state: State
) -> None:
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    before = by_client(watch.look(stack.now()))
    stack.faults.set(fault)
    picture = watch.look(stack.now() + 60)
    told = {source.name: source for source in picture.sources}
    assert not told[CACHE].ok
    assert all(told[name].ok for name in (VAULT, ROTATIONS, EAPI, SAPI))
    for client, each in by_client(picture).items():
        # what the cache said of a version's birth is remembered
        assert each.verdict.age == before[client].verdict.age
        assert each.facts.tokens is None
        assert can_revoke(each.facts, stack.now()).yes is not True


def test_sources_are_asked_at_the_same_time_and_a_hanging_one_is_given_up(
    stack: Stack, tmp_path: Path
) -> None:
    settings = settings_of(stack, tmp_path)
    quick = replace(settings, run=replace(settings.run, cycle_deadline=0.5))
    asked = asked_of(stack, quick)
    done = [False]

    def hang(_asked: Any) -> SourceAnswer:
        while not done[0]:
            time.sleep(0.01)
        return SourceAnswer(Source("b", True))

    def broken(_asked: Any) -> SourceAnswer:
        raise RuntimeError("a bug")

    sources = Sources(
        asked, {"a": lambda _: SourceAnswer(Source("a", True)), "b": hang, "c": broken}
    )
    first = sources.ask()
    assert first["a"].source.ok
    assert "given up" in first["b"].why_unavailable
    assert first["c"].source.error == "internal"
    assert "still hangs" in sources.ask()["b"].why_unavailable
    done[0] = True


def test_5000_variables_come_in_pages(tmp_path: Path, state: State) -> None:
    with quiet_stack(1) as stack:
        stack.eapi.cache.store_credential(stack.book.credential("client-001"))  # type: ignore[union-attr]
        for number in range(5000):
            stack.book.add(f"many-{number:05d}", age_days=3)
        settings = replace(settings_of(stack, tmp_path), rotation_url="")
        watch = watch_of(stack, settings, state)
        assert len(watch.look(stack.now()).judged) == 5001
        row = watch.look(stack.now() + 60).sources[0]
        assert (row.ok, row.seen) == (True, 5002)


def test_what_is_granted_to_us_by_name_is_seen_on_every_variable(
    tmp_path: Path, state: State
) -> None:
    """Each client's variable has a kind of its own, and it is not among those asked about."""
    with quiet_stack(12) as stack:
        for name in stack.options.client_ids():
            variable = stack.vault.variables[stack.book.variable(name)]
            variable.permits["execute"].add(f"host:{name}")
        found = rows_of(stack, tmp_path, state)
        assert [f.reason for f in found] == []
        last = stack.book.variable(stack.options.client_ids()[-1])
        settings = settings_of(stack, tmp_path)
        own = settings.conjur.login.replace("/", ":", 1)
        stack.vault.variables[last].permits.setdefault("update", set()).add(own)
        (found,) = rows_of(stack, tmp_path, state)
        assert (found.reason, last in found.sentence) == ("identity_holds_update", True)


def rows_of(stack: Stack, tmp_path: Path, state: State) -> list[Finding]:
    picture = watch_of(stack, settings_of(stack, tmp_path), state).look(stack.now())
    return [f for f in picture.findings if f.reason.startswith("identity_")]


# -- the rotation service's answers


def test_the_rotation_service_is_read_field_by_field(stack: Stack, tmp_path: Path) -> None:
    stack.rotation.begin("client-004", fate="failed", ago=5 * HOUR, transition_minutes=30)
    stack.rotation.begin("client-004", ago=100, transition_minutes=30)
    asked = asked_of(stack, settings_of(stack, tmp_path))
    seen = ask_rotations(asked).data.active["client-004"]
    assert (seen.state, seen.transition, seen.running) == ("dual_active", 1800.0, True)
    assert seen.started_at == pytest.approx(stack.now() - 100, abs=1)
    told, why = ask_clients(asked, ["client-004", "client-001"], 10.0)
    assert why == {}
    assert told["client-001"] is None
    newest = told["client-004"]
    assert newest is not None
    assert newest.rotation_id == seen.rotation_id


def test_hostile_clients_names_are_quoted_in_the_path(stack: Stack, tmp_path: Path) -> None:
    asked = asked_of(stack, settings_of(stack, tmp_path))
    told, _why = ask_clients(asked, ["../active", "a b/c?d#e%00"], 10.0)
    assert set(told.values()) <= {None}


def test_tokens_are_told_apart_by_the_moment_the_old_secret_ended(
    stack: Stack, tmp_path: Path, state: State
) -> None:
    assert log_in(stack, "client-005")
    watch = watch_of(stack, settings_of(stack, tmp_path), state)
    facts = by_client(watch.look(stack.now()))["client-005"].facts
    assert facts.tokens is not None
    assert (facts.tokens.live, facts.tokens.old, facts.tokens.complete) == (1, 0, True)
