"""What the vault shows of clients: who is gone, hidden, never set or made again; who may read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring.config.settings import Secret
from monitoring.credentials.assembly import rotator_reads
from monitoring.credentials.facts import VAULT
from monitoring.credentials.watch import CredentialSnapshot, CredentialWatch
from monitoring.model import Severity, Source
from monitoring.store.state import State
from sandbox.stack import Stack
from sandbox.web import Answer
from tests.credential_kit import (
    DAY,
    HOUR,
    by_client,
    log_in,
    quiet_stack,
    reasons,
    settings_of,
    watch_of,
)

OWN = "host:monitoring"
MINUTE = 60.0


@pytest.fixture
def stack() -> Iterator[Stack]:
    with quiet_stack(4) as running:
        for name in running.options.client_ids():
            running.eapi.cache.store_credential(running.book.credential(name))  # type: ignore[union-attr]
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def watch(stack: Stack, tmp_path: Path, state: State) -> CredentialWatch:
    return watch_of(stack, settings_of(stack, tmp_path), state)


def vault_row(picture: CredentialSnapshot) -> Source:
    return next(source for source in picture.sources if source.name == VAULT)


def variable_of(stack: Stack, client: str) -> Any:
    return stack.vault.variables[stack.book.variable(client)]


def forget(stack: Stack, client: str) -> None:
    """EAPI's cached credential ends."""
    with stack.redis_client() as redis:
        redis.delete(f"credential:{client}")


def sentence_of(picture: CredentialSnapshot, reason: str) -> str:
    (found,) = [f for f in picture.findings if f.reason == reason]
    assert found.severity is Severity.WARNING
    return found.sentence


# -- who was seen


def test_a_client_that_vanishes_is_told_for_a_day(stack: Stack, watch: CredentialWatch) -> None:
    assert reasons(watch.look(stack.now())) == []
    stack.vault.delete_variable(stack.book.variable("client-003"))
    forget(stack, "client-003")
    picture = watch.look(stack.now() + 60)
    assert "client-003 is gone from the vault's list" in sentence_of(
        picture, "vault_client_vanished"
    )
    assert vault_row(picture).ok
    assert reasons(watch.look(stack.now() + HOUR)) == ["vault_client_vanished"]
    assert reasons(watch.look(stack.now() + 2 * DAY)) == []


def test_hidden_and_shown_again_is_no_new_client(stack: Stack, watch: CredentialWatch) -> None:
    first = by_client(watch.look(stack.now()))["client-003"].verdict.age
    variable = stack.vault.variables.pop(stack.book.variable("client-003"))
    assert "EAPI has its credential cached" in sentence_of(
        watch.look(stack.now() + 60), "vault_client_vanished"
    )
    stack.vault.variables[variable.name] = variable
    picture = watch.look(stack.now() + 120)
    assert reasons(picture) == []
    assert by_client(picture)["client-003"].verdict.age == first


def test_known_to_the_cache_and_not_to_the_vault(stack: Stack, watch: CredentialWatch) -> None:
    """From the first look on: nothing was ever seen of it in the vault."""
    variable_of(stack, "client-003").permits.clear()
    said = sentence_of(watch.look(stack.now()), "vault_client_missing")
    assert said.startswith("client-003 is not in the vault as our identity sees it")
    assert "EAPI has its credential cached" in said


def test_known_to_a_rotation_and_not_to_the_vault(stack: Stack, watch: CredentialWatch) -> None:
    variable_of(stack, "client-003").permits.clear()
    forget(stack, "client-003")
    stack.rotation.begin("client-003", ago=10 * 60)
    forget(stack, "client-003")
    said = sentence_of(watch.look(stack.now()), "vault_client_missing")
    assert "a rotation of it runs" in said


def test_one_that_logs_in_and_is_not_in_the_vault(stack: Stack, watch: CredentialWatch) -> None:
    variable_of(stack, "client-003").permits.clear()
    watch.look(stack.now())
    stack.now.advance(300)  # type: ignore[attr-defined]
    assert log_in(stack, "client-003")
    forget(stack, "client-003")
    for later in (0, HOUR):
        said = sentence_of(watch.look(stack.now() + later), "vault_client_missing")
        assert "client-003 is not in the vault" in said
        assert "it logs in at EAPI" in said


def test_many_that_vanish_at_once_have_one_cause(tmp_path: Path, state: State) -> None:
    with quiet_stack(12) as stack:
        watch = watch_of(stack, settings_of(stack, tmp_path), state)
        watch.look(stack.now())
        for client in stack.options.client_ids()[:9]:
            variable_of(stack, client).permits.clear()
        said = sentence_of(watch.look(stack.now() + 60), "vault_client_vanished")
        assert said.startswith("9 clients are gone from the vault's list: client-001")
        assert said.endswith("and 4 more")


def test_another_vault_is_no_vanishing(stack: Stack, tmp_path: Path, state: State) -> None:
    settings = settings_of(stack, tmp_path)
    watch_of(stack, settings, state).look(stack.now())
    stack.vault.delete_variable(stack.book.variable("client-003"))
    forget(stack, "client-003")
    stack.conjur.prefix = "/other"
    moved = replace(settings, conjur=replace(settings.conjur, url=stack.conjur.url))
    picture = watch_of(stack, moved, state).look(stack.now() + 60)
    assert vault_row(picture).ok
    assert reasons(picture) == []


def test_never_set_is_said_so(stack: Stack, watch: CredentialWatch) -> None:
    del variable_of(stack, "client-003").versions[:]
    forget(stack, "client-003")
    picture = watch.look(stack.now())
    assert "was never set" in sentence_of(picture, "vault_secret_never_set")
    each = by_client(picture)["client-003"]
    assert each.verdict.verdict == "unknown"
    assert "never set" in each.verdict.why


def make_again(stack: Stack, client: str) -> None:
    name = stack.book.variable(client)
    permits = variable_of(stack, client).permits
    stack.vault.delete_variable(name)
    stack.vault.add_variable(name, permits=permits)
    stack.vault.set_value(name, b"a new secret")


@pytest.mark.parametrize("after", [1, 2 * MINUTE, 4 * MINUTE, 20 * MINUTE])
@pytest.mark.parametrize("versions", [1, 3])
def test_made_again_also_within_five_minutes(
    after: float, versions: int, stack: Stack, watch: CredentialWatch
) -> None:
    """Its numbers begin anew, and its age is known: it came between two looks."""
    for number in range(versions - len(variable_of(stack, "client-003").versions)):
        stack.vault.set_value(stack.book.variable("client-003"), b"value %d" % number)
    watch.look(stack.now())
    stack.now.advance(after)  # type: ignore[attr-defined]
    make_again(stack, "client-003")
    forget(stack, "client-003")
    stack.now.advance(30)  # type: ignore[attr-defined]
    picture = watch.look(stack.now())
    assert "was deleted in the vault and made again" in sentence_of(
        picture, "vault_client_made_again"
    )
    verdict = by_client(picture)["client-003"].verdict
    assert (verdict.verdict, verdict.age.at_least) == ("ok", False)
    assert verdict.age.seconds(stack.now()) == 0
    assert VAULT not in by_client(picture)["client-003"].facts.unavailable
    # and it is not found again
    later = watch.look(stack.now() + 2 * DAY)
    assert reasons(later) == []


def test_what_was_said_of_the_earlier_one_says_nothing_of_the_new(
    stack: Stack, watch: CredentialWatch
) -> None:
    """EAPI's cache and the rotation service still speak of the secret that was deleted."""
    stack.vault.set_value(stack.book.variable("client-003"), b"next")
    stack.rotation.begin("client-003", ago=3 * HOUR)
    stack.rotation.advance()
    watch.look(stack.now())
    stack.now.advance(120)  # type: ignore[attr-defined]
    make_again(stack, "client-003")
    stack.now.advance(60)  # type: ignore[attr-defined]
    for later in (0, 3 * DAY):
        each = by_client(watch.look(stack.now() + later))["client-003"]
        assert each.facts.vault is not None
        assert (each.facts.vault.version, each.facts.cached, each.facts.rotation) == (1, None, None)
        assert each.verdict.age.source == "ledger"
        assert each.verdict.age.seconds(stack.now()) == 0
        assert each.verdict.verdict == "ok"


def test_old_data_is_still_found_out(stack: Stack, watch: CredentialWatch) -> None:
    """A lower version of the same variable: a stale node, not a new client."""
    stack.vault.set_value(stack.book.variable("client-001"), b"next")
    watch.look(stack.now())
    variable_of(stack, "client-001").versions.pop()
    picture = watch.look(stack.now() + 60)
    assert not [reason for reason in reasons(picture) if reason.startswith("vault_")]
    assert "old data" in by_client(picture)["client-001"].facts.unavailable[VAULT]


# -- an extra never costs the list

ODD = {
    "an object": b'{"roles":[]}',
    "a text": b'"payment-system:host:x"',
    "no JSON": b"<html>",
    "null": b"null",
    "objects": b'[{"role":"payment-system:host:monitoring"}]',
}


@pytest.mark.parametrize("what", ["403", "404", "500", "502", "429", *ODD])
def test_who_may_read_is_an_extra(what: str, stack: Stack, watch: CredentialWatch) -> None:
    before = by_client(watch.look(stack.now()))
    if what.isdigit():
        stack.faults.set("conjur-roles", what)
    else:
        stack.conjur._permitted = lambda *_: Answer(200, ODD[what])  # type: ignore[method-assign]
    picture = watch.look(stack.now() + 60)
    row = vault_row(picture)
    assert (row.ok, row.seen) == (True, 5)
    assert "who may read the secrets was not told" in row.why
    for client, each in by_client(picture).items():
        assert each.facts.vault == before[client].facts.vault
        assert each.verdict.verdict == before[client].verdict.verdict


def test_a_variable_deleted_meanwhile_costs_nothing(stack: Stack, watch: CredentialWatch) -> None:
    """Another one with the same grants is asked about."""
    real, gone = stack.conjur._show, []

    def show(request: Any) -> Answer:
        if "permitted_roles" in request.query and not gone:
            gone.append(stack.vault.variables.pop(request.params["id"]))
        return real(request)

    for route in stack.conjur._routes:
        if route.handler == real:
            route.handler = show
    picture = watch.look(stack.now())
    assert (vault_row(picture).ok, vault_row(picture).why) == (True, "")
    assert len(gone) == 1


@pytest.mark.parametrize("body", [b"[]", b'{"count":null}', b"x"])
def test_a_count_is_an_extra(
    body: bytes, stack: Stack, watch: CredentialWatch, monkeypatch: Any
) -> None:
    real = stack.conjur._list

    def listed(request: Any) -> Answer:
        return Answer(200, body) if "count" in request.query else real(request)

    for route in stack.conjur._routes:
        if route.handler == real:
            monkeypatch.setattr(route, "handler", listed)
    picture = watch.look(stack.now())
    assert (vault_row(picture).ok, vault_row(picture).seen) == (True, 5)
    assert "could not be held against a count" in vault_row(picture).why


# -- what our identity may do


def test_each_kind_is_asked_about_once_and_nothing_is_audited_as_a_refusal(
    stack: Stack, watch: CredentialWatch
) -> None:
    watch.look(stack.now())
    asked = [r for r, _ in stack.conjur.recorded if "permitted_roles" in r.query]
    assert len(asked) == 2  # execute and update, of five variables with the same grants
    assert not [r for r, _ in stack.conjur.recorded if "check" in r.query]
    assert {record.severity for record in stack.conjur.audit} == {"INFO"}


def test_execute_held_through_a_group(stack: Stack, watch: CredentialWatch) -> None:
    assert reasons(watch.look(stack.now())) == []
    stack.vault.groups["payment-services"].add("group:platform")
    stack.vault.groups["platform"] = {OWN}
    assert "identity_holds_execute" in reasons(watch.look(stack.now() + 60))


def test_execute_held_by_a_host_with_a_long_name(tmp_path: Path, state: State) -> None:
    """Its id is longer than what is shown of a name."""
    with quiet_stack(2) as stack:
        login = "host/" + "/".join(["conjur/authn-jwt/cluster"] * 8) + "/monitoring"
        own = login.replace("host/", "host:", 1)
        stack.vault.add_host(login, "k3y-of-a-long-name", "monitoring-access")
        stack.vault.groups["payment-services"].add(own)
        made = settings_of(stack, tmp_path)
        conjur = replace(made.conjur, login=login, api_key=Secret("k3y-of-a-long-name"))
        picture = watch_of(stack, replace(made, conjur=conjur), state).look(stack.now())
        assert "identity_holds_execute" in reasons(picture)


def test_execute_held_by_ownership(stack: Stack, watch: CredentialWatch) -> None:
    stack.vault.owners["policy:payment"].add(OWN)
    found = reasons(watch.look(stack.now()))
    assert {"identity_holds_execute", "identity_holds_update"} <= set(found)


def test_execute_on_one_variable_among_many_kinds(tmp_path: Path, state: State) -> None:
    """Each has grants of its own, as where every client has a host of its own."""
    with quiet_stack(12) as stack:
        for name in stack.options.client_ids():
            variable_of(stack, name).permits["execute"] = {f"host:{name}"}
        stack.vault.groups["odd"] = {OWN}
        variable_of(stack, "client-011").permits["execute"].add("group:odd")
        watch = watch_of(stack, settings_of(stack, tmp_path), state)
        (found,) = [f for f in watch.look(stack.now()).findings if "holds" in f.reason]
        assert "client-011" in found.sentence


def test_what_is_held_stands_while_it_cannot_be_asked(stack: Stack, watch: CredentialWatch) -> None:
    stack.vault.groups["payment-services"].add(OWN)
    assert "identity_holds_execute" in reasons(watch.look(stack.now()))
    stack.faults.set("conjur-roles", "403")
    assert "identity_holds_execute" in reasons(watch.look(stack.now() + 60))


# -- the rotator's annotations


@pytest.mark.parametrize(
    ("annotations", "versions", "reason", "severity"),
    [
        ({"rotation/ttl": "P30D"}, 1, None, None),
        ({"rotation/ttl": "P30D", "rotation/rotator": "postgresql/password"}, 0,
         "vault_secret_never_set", Severity.WARNING),
        ({"rotation/ttl": "30 days", "rotation/rotator": "postgresql/password"}, 1,
         "rotation_ttl_malformed", Severity.CRITICAL),
        ({"rotation/ttl": "", "rotation/rotator": "postgresql/password"}, 1,
         "rotation_ttl_malformed", Severity.CRITICAL),
        ({"rotation/ttl": "30 days"}, 1, "rotation_ttl_malformed", Severity.WARNING),
    ],
)  # fmt: skip
def test_annotations(
    *, annotations: dict[str, str], versions: int, reason: Any, severity: Any, stack: Stack,
    watch: CredentialWatch,
) -> None:  # fmt: skip
    variable = variable_of(stack, "client-003")
    variable.annotations.update(annotations)
    del variable.versions[versions:]
    forget(stack, "client-003")
    found = {f.reason: f for f in watch.look(stack.now()).findings if f.client == "client-003"}
    assert set(found) == ({reason} if reason else set())
    if reason == "rotation_ttl_malformed":
        assert found[reason].severity is severity
        assert "stop" in found[reason].sentence
        assert "rotator" in found[reason].sentence


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("P30D", True), ("PT20S", True), ("P1Y2M3DT4H5M6S", True), ("P2W", True), ("+P1D", True),
        ("PT1.5H", True), ("P0,5D", True), ("p30d", False), ("30 days", False), ("P30", False),
        ("P", False), ("PT", False), ("P1DT", False), ("PT0S", False), ("-P1D", False),
        ("P1W2D", False), ("P1.5DT1H", False), ("", False), (" P30D", False), ("30", False),
    ],
)  # fmt: skip
def test_what_the_rotator_reads(text: str, reads: bool) -> None:
    assert rotator_reads(text) is reads
