"""What the token script has counted stands for the credential script's own look, or it does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import Settings
from monitoring.credentials.cache_memory import CacheMemory
from monitoring.credentials.facts import CacheSeen, CredentialFacts, RotationFacts, TokenFacts
from monitoring.credentials.old_tokens import tokens_of
from monitoring.credentials.shared_census import SharedCensus, scope_of
from monitoring.credentials.source_cache import ask_cache
from monitoring.credentials.source_kit import Asked, SourceAnswer
from monitoring.redis import client as redis_client
from monitoring.store.state import State
from sandbox.redis_server import RedisServer, start
from tests import token_kit

INTERVAL = 60.0
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with closing(_Stopped(start({}, tmp_path / "redis"))) as each:
        with each.server.client() as client:
            token_kit.fill(client, 300)
        yield each.server


class _Stopped:
    def __init__(self, server: RedisServer) -> None:
        self.server = server

    def close(self) -> None:
        self.server.stop()


class World:
    """Both scripts on one state folder and one cache."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder, self.server = folder, server
        self.settings = token_kit.settings(folder, {}, host="127.0.0.1", port=server.port)
        self.state = State.open(folder / "state")
        self.now = time.time()

    def count(self, settings: Settings, at: float) -> None:
        """A cycle of the token script."""
        token_kit.usage(settings, self.state).cycle(at)

    def ask(self, settings: Settings, now: float, *, shared: bool = True) -> SourceAnswer:
        """The credential script's question to the cache."""
        none: Any = None
        return ask_cache(
            Asked(
                settings,
                *(lambda: now, none, none, none, none),
                cache=lambda: redis_client.Cache(settings.redis),
                shared=SharedCensus(self.state, settings, INTERVAL) if shared else None,
            )
        )


@pytest.fixture
def world(tmp_path: Path, server: RedisServer) -> Iterator[World]:
    made = World(tmp_path, server)
    yield made
    made.state.close()


def used(answer: SourceAnswer) -> bool:
    assert answer.source.ok, answer.source.why
    assert (answer.data.at is not None) == ("by the token script" in answer.source.why)
    return answer.data.at is not None


def tokens(settings: Settings, **more: Any) -> Settings:
    return replace(settings, tokens=replace(settings.tokens, **more))


def redis(settings: Settings, **more: Any) -> Settings:
    return replace(settings, redis=replace(settings.redis, **more))


def test_it_stands_for_a_look_and_its_age_is_told(world: World) -> None:
    world.count(world.settings, world.now)
    answer = world.ask(world.settings, world.now + 20)
    assert used(answer)
    assert answer.data.at == world.now
    assert answer.source.why == "counted 20 s ago by the token script"
    assert answer.source.seen == 300


def test_it_shows_what_a_look_of_our_own_shows(world: World) -> None:
    world.count(world.settings, world.now)
    lent = world.ask(world.settings, world.now).data
    own = world.ask(world.settings, world.now, shared=False).data
    assert isinstance(lent, CacheSeen)
    assert isinstance(own, CacheSeen)
    assert lent.result.by_client.keys() == own.result.by_client.keys() != set()
    for name in ("active", "clients_exact", "nameless", "by_client", "total"):
        assert getattr(lent.result, name) == getattr(own.result, name), name
    assert [node.lives for node in lent.primaries] == [node.lives for node in own.primaries]
    for number in range(10):
        ended = world.now - 300 * number
        rotation = RotationFacts("r", "old_deprecated", started_at=ended, deprecated_by=ended)
        facts = CredentialFacts(f"client-{number:03d}", rotation=rotation)
        assert tokens_of(lent, facts) == tokens_of(own, facts)
    assert lent.stats.last_ends() == own.stats.last_ends()


@pytest.mark.parametrize(
    ("age", "stands"), [(0.0, True), (60.0, True), (75.0, True), (76.0, False), (-1.0, False)]
)
def test_its_age_decides_and_a_clock_ahead_is_not_believed(
    age: float, stands: bool, world: World
) -> None:
    world.count(world.settings, world.now)
    assert used(world.ask(world.settings, world.now + age)) is stands


_OTHERS: dict[str, Callable[[Settings], Settings]] = {
    "another database": lambda s: redis(s, db=1),
    "another name of the host": lambda s: redis(s, host="localhost"),
    "another user": lambda s: redis(s, username="default"),
    "replicas": lambda s: redis(s, prefer_replicas=True),
    "other patterns": lambda s: tokens(s, patterns=("token:*",)),
    "keys left out": lambda s: tokens(s, exclude=("token:blacklist:*",)),
    "another claim of the client": lambda s: tokens(s, client_claims=("azp",)),
    "another lifetime": lambda s: tokens(s, max_lifetime=1800.0),
    "another issuer": lambda s: tokens(s, issuer="other"),
    "another canary": lambda s: replace(s, canary=replace(s.canary, client_id="client-001")),
    "another environment": lambda s: replace(s, environment="staging"),
}


@pytest.mark.parametrize("other", _OTHERS)
def test_what_counts_otherwise_is_another_census(other: str, world: World) -> None:
    changed = _OTHERS[other](world.settings)
    assert scope_of(changed) != scope_of(world.settings)
    world.count(world.settings, world.now)
    kept = SharedCensus(world.state, changed, INTERVAL).find(world.now)
    assert kept is None
    assert SharedCensus(world.state, world.settings, INTERVAL).find(world.now) is not None


def test_how_much_is_shown_and_the_password_do_not_matter(world: World) -> None:
    same = tokens(redis(world.settings, password=Secret("x")), top_clients=3, max_keys=10**9)
    assert scope_of(same) == scope_of(world.settings)


@pytest.mark.parametrize("limit", [{"max_keys": 50}, {"time_budget": 0.000001}])
def test_a_census_that_did_not_see_every_key_is_not_shared(
    limit: dict[str, Any], tmp_path: Path, server: RedisServer, world: World
) -> None:
    with server.client() as client:
        token_kit.fill(client, 3000)
    world.count(tokens(world.settings, **limit), world.now)
    assert not used(world.ask(world.settings, world.now))


def test_a_cache_with_other_types_under_tokens_keys_is_looked_at(
    server: RedisServer, world: World
) -> None:
    with server.client() as client:
        client.rpush("token:row", "what may be a token")
    world.count(world.settings, world.now)
    assert not used(world.ask(world.settings, world.now))


def test_another_server_behind_the_same_address_is_another_cache(
    world: World, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.count(world.settings, world.now)
    found = SharedCensus(world.state, world.settings, INTERVAL).find(world.now)
    assert found is not None
    mine = tuple(found.primaries)
    assert found.same_servers(mine, mine)
    others = tuple(replace(node, lives="other/other") for node in mine)
    assert not found.same_servers(others, others)
    assert not found.same_servers((), ())
    unknown = tuple(replace(node, fault="no right to INFO", lives="") for node in mine)
    assert not found.same_servers(unknown, unknown)


def test_keys_that_were_taken_away_since_are_looked_for(world: World, server: RedisServer) -> None:
    world.count(world.settings, world.now)
    with server.client() as client:
        client.flushall()
        token_kit.fill(client, 7)
    answer = world.ask(world.settings, world.now)
    assert not used(answer)
    assert answer.source.seen == 7


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _changed(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[100] ^= 1
    path.write_bytes(bytes(whole))


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("harm", [_cut, _changed, _linked, Path.unlink])
def test_a_file_that_cannot_be_read_costs_a_look_and_no_more(
    harm: Callable[[Path], None], world: World
) -> None:
    world.count(world.settings, world.now)
    harm(Path(f"{world.state.path}-census"))
    census = SharedCensus(world.state, world.settings, INTERVAL)
    assert census.find(world.now) is None
    assert not used(world.ask(world.settings, world.now))


def test_without_a_state_nothing_is_shared(world: World) -> None:
    world.count(world.settings, world.now)
    world.state.close()
    assert not used(world.ask(world.settings, world.now))


def test_no_token_lies_in_the_file_and_nobody_else_may_read_it(
    world: World, server: RedisServer
) -> None:
    world.count(world.settings, world.now)
    path = Path(f"{world.state.path}-census")
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_bytes()
    with server.client() as client:
        value = bytes(client.get("token:000001"))
    assert b"client-001" in whole
    assert b"eyJ" not in whole
    assert value.rpartition(b".")[2] not in whole


def test_a_lent_look_is_remembered_as_of_when_it_was_made(world: World) -> None:
    """A look that is older than the last one proves nothing that came after it."""
    memory = CacheMemory(world.state, 3600.0)
    facts = {"client-001": CredentialFacts("client-001", tokens=TokenFacts(1))}
    world.count(world.settings, world.now)
    lent = world.ask(world.settings, world.now + 30).data
    first = memory.note(lent, facts, world.now + 30)["client-001"].tokens
    assert first is not None
    assert first.proof.intact_since == world.now
    own = replace(lent, at=None)
    memory.note(own, facts, world.now + 40)
    again = memory.note(lent, facts, world.now + 50)["client-001"].tokens
    assert again is not None
    assert again.proof.intact_since == world.now
    assert again.proof.broken == first.proof.broken
