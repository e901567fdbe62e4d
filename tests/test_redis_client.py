"""Cache: one attempt, the right fault by its code, and the topologies over real servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import redis

from monitoring.config.secret import Secret
from monitoring.config.settings import RedisSettings, TlsSettings
from monitoring.model import FAULT_KINDS
from monitoring.redis import (
    client as redis_client,
    faults as redis_faults,
    topology as redis_topology,
)
from monitoring.redis.client import Cache, RedisFault
from sandbox import redis_topologies
from sandbox.redis_server import RedisServer, start
from sandbox.tls import Authority, server_context
from sandbox.tls_proxy import TlsProxy
from tests.raw_server import RawServer

LONG = 8.0
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjMSJ9.c2lnbmF0dXJl"


@contextlib.contextmanager
def cache_at(port: int, **options: Any) -> Iterator[Cache]:
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": port, "timeout": 5.0}
    opened = redis_client.Cache(RedisSettings(**{**defaults, **options}))
    try:
        yield opened
    finally:
        opened.close()


def fault_of(ask: Callable[[], object]) -> Any:
    with pytest.raises(RedisFault) as caught:
        ask()
    assert caught.value.fault.kind in FAULT_KINDS
    return caught.value.fault


class Wire:
    """A server of canned RESP: every command gets the next answer (the last one for ever)."""

    def __init__(self, *replies: bytes, hang_up: bool = False) -> None:
        self.replies = list(replies)
        self.hang_up = hang_up
        self.commands: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(30)
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                self.commands.append(data)
                if not self.replies:
                    self.over.wait(30)
                    return
                self._answer(
                    sock, self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                )
                if self.hang_up:
                    return

    def _answer(self, sock: socket.socket, reply: bytes) -> None:
        if not reply.startswith(b"drip:"):
            sock.sendall(reply)
            return
        while not self.over.wait(0.02):
            sock.sendall(reply[5:])

    def __enter__(self) -> Wire:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"*1000000000\r\n",
        b"~1000000000\r\n",
        b"%500000000\r\n",
        b">1000000000\r\n",
        b"*1\r\n*1000000000\r\n",
        b"*2\r\n$100000\r\n" + b"x" * 100000 + b"\r\n*99999999999999999999999\r\n",
    ],
)
def test_room_for_an_endless_array_is_not_made(reply: bytes) -> None:
    with Wire(reply) as server, cache_at(server.port) as asked:
        client = next(iter(asked.nodes())).client
        with pytest.raises(redis_client.ERRORS) as caught:
            client.execute_command("PING")
    fault = redis_client.translate(caught.value)
    assert fault is not None
    assert fault.kind == "protocol"
    assert "elements, more than" in fault.message


# --- one server -----------------------------------------------------------------------------------


def test_a_server_is_asked(redis_server: RedisServer) -> None:
    with cache_at(redis_server.port) as asked:
        (node,) = asked.nodes()
        assert (node.name, node.role) == (f"127.0.0.1:{redis_server.port}", "node")
        assert 0 < asked.ping(node) < LONG
        assert asked.info(node)["role"] == "master"
        assert asked.whoami() == "default"
        assert asked.nodes()[0].client.ping() is True
        assert [c.connection_pool.connection_kwargs["port"] for c in asked.scan_clients()] == [
            redis_server.port
        ]


def test_the_ping_is_timed_on_an_open_connection() -> None:
    with Wire(b"+PONG\r\n") as server, cache_at(server.port) as asked:
        asked.ping(asked.nodes()[0])
        assert server.connections == 1
        assert len(server.commands) == 2, "one to connect, one to time; no CLIENT SETINFO, no HELLO"


def test_values_stay_bytes(redis_server: RedisServer, cache: Any) -> None:
    cache.set("k", b"\xac\xed\x00\x05")
    with cache_at(redis_server.port) as asked:
        assert asked.nodes()[0].client.get("k") == b"\xac\xed\x00\x05"


def test_the_slow_log_gives_names_and_never_arguments(
    redis_server: RedisServer, cache: Any
) -> None:
    cache.execute_command("CONFIG", "SET", "slowlog-log-slower-than", "0")
    try:
        cache.get(f"validation:{JWT}:none")
        with cache_at(redis_server.port) as asked:
            slow = asked.slow_commands(asked.nodes()[0], 50)
    finally:
        cache.execute_command("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        cache.execute_command("SLOWLOG", "RESET")
    assert "GET" in [name for name, _ in slow]
    assert all(ms >= 0 for _, ms in slow)
    assert "eyJ" not in repr(slow)


def test_one_wrong_login_is_one_failed_login(redis_server: RedisServer) -> None:
    redis_server.add_user("limited", "reset", "on", ">right", "+ping")
    admin = redis_server.client()
    before = admin.info("stats").get("acl_access_denied_auth", 0)
    with cache_at(redis_server.port, username="limited", password=Secret("wr0ng")) as asked:
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
    after = admin.info("stats").get("acl_access_denied_auth", before + 1)
    admin.close()
    assert fault.kind == "auth"
    assert after - before == 1
    assert "wr0ng" not in fault.message


def test_noperm_names_the_command_that_is_missing(redis_server: RedisServer) -> None:
    redis_server.add_user("limited", "reset", "on", ">right", "+ping")
    with cache_at(redis_server.port, username="limited", password=Secret("right")) as asked:
        node = asked.nodes()[0]
        assert asked.ping(node) > 0, "the rest goes on"
        asks: dict[str, Callable[[], object]] = {
            "info": lambda: asked.info(node),
            "slowlog": lambda: asked.slow_commands(node, 3),
            "acl": asked.whoami,
        }
        for command, ask in asks.items():
            fault = fault_of(ask)
            assert fault.kind == "noperm"
            assert f"+{command}" in fault.message


def test_a_rotated_password_file_is_read_again(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("first\n")
    redis_server.add_user("rotated", "reset", "on", ">first", "+ping")
    settings = {"username": "rotated", "password": Secret(path=str(path))}
    with cache_at(redis_server.port, **settings) as asked:
        asked.ping(asked.nodes()[0])
        redis_server.add_user("rotated", "resetpass", ">second")
        path.write_text("second\n")
        asked.nodes()[0].client.connection_pool.disconnect()
        assert asked.ping(asked.nodes()[0]) > 0


def test_a_password_file_that_is_gone_is_a_fault_of_the_configuration(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    missing = Secret(path=str(tmp_path / "nope"))
    with cache_at(redis_server.port, password=missing) as asked:
        assert fault_of(lambda: asked.ping(asked.nodes()[0])).kind == "config"


def test_a_database_that_is_not_there_is_our_mistake(redis_server: RedisServer) -> None:
    with cache_at(redis_server.port, db=99) as asked:
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
    assert (fault.kind, "REDIS_DB" in fault.message) == ("config", True)


@pytest.mark.parametrize("head", [b"$5000000000\r\n", b"*500000\r\n"])
def test_an_answer_without_end_is_cut_off(head: bytes) -> None:
    sent: list[int] = []
    block = b":12345\r\n" * 8192

    def flood(wire: socket.socket, _request: bytes) -> None:
        wire.recv(65536)
        wire.sendall(head)
        while sum(sent) < 400 << 20:
            wire.sendall(block)
            sent.append(len(block))

    with RawServer(flood, deaf=True) as server, cache_at(server.port) as asked:
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
    assert fault.kind == "too_large", fault
    assert "more than 2 MiB" in fault.message
    assert sum(sent) < 100 << 20, "the rest was not waited for"


def test_the_database_is_selected(redis_server: RedisServer, cache: Any) -> None:
    with cache_at(redis_server.port, db=3) as asked:
        asked.nodes()[0].client.set("here", "1")
        assert cache.get("here") is None
        asked.nodes()[0].client.delete("here")


# --- failures -------------------------------------------------------------------------------------

CODES = {
    b"-NOAUTH Authentication required.": "auth",
    b"-WRONGPASS invalid username-password pair": "auth",
    b"-DENIED Redis is running in protected mode": "auth",
    b"-ERR invalid password": "auth",
    b"-NOPERM this user has no permissions to run the 'ping' command": "noperm",
    b"-LOADING Redis is loading the dataset in memory": "loading",
    b"-LOADING Valkey is loading the dataset in memory": "loading",
    b"-BUSY Redis is busy running a script.": "busy",
    b"-BUSY Valkey is busy running a script.": "busy",
    b"-READONLY You can't write against a read only replica.": "readonly",
    b"-MISCONF Errors writing to the AOF file: No space left on device": "readonly",
    b"-NOREPLICAS Not enough good replicas to write.": "readonly",
    b"-MASTERDOWN Link with MASTER is down": "masterdown",
    b"-CLUSTERDOWN The cluster is down": "clusterdown",
    b"-TRYAGAIN Multiple keys request during rehashing": "clusterdown",
    b"-OOM command not allowed when used memory > 'maxmemory'.": "oom",
    b"-MOVED 866 127.0.0.1:7001": "config",
    b"-ERR max number of clients reached": "maxclients",
    b"-ERR unknown command 'PING'": "protocol",
    b"-SOMETHINGNEW and unheard of": "protocol",
}


@pytest.mark.parametrize("reply", CODES, ids=lambda r: r.decode()[:20])
def test_every_error_code_has_its_kind(reply: bytes) -> None:
    with Wire(reply + b"\r\n") as server, cache_at(server.port) as asked:
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
        assert fault.kind == CODES[reply], fault
        assert f"127.0.0.1:{server.port}" in fault.message
        assert server.connections == 1
        assert len(server.commands) == 1, "one attempt"


BROKEN = {
    "mute": ((), False, "timeout"),
    "drips a reply without end": ((b"drip:+",), False, "timeout"),
    "drips bytes of a bulk": ((b"drip:$99999999\r\n",), False, "timeout"),
    "speaks HTTP": ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), False, "protocol"),
    "garbage": ((b"\x15\x03\x01\x00\x02\x02\x16\r\n",), False, "protocol"),
    "hangs up": ((b"",), True, "connect"),
    "half a reply": ((b"+PO",), True, "connect"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_connections(how: str) -> None:
    replies, hang_up, kind = BROKEN[how]
    began = time.monotonic()
    with Wire(*replies, hang_up=hang_up) as server:
        with cache_at(server.port, timeout=0.4) as asked:
            fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
        assert server.connections == 1, "one attempt"
    assert fault.kind == kind, fault
    assert time.monotonic() - began < LONG


NONSENSE = [
    b":7\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"$-1\r\n",
    b"$3\r\n\xff\xfe\x00\r\n",
    b"*1\r\n*1\r\n:1\r\n",
]


@pytest.mark.parametrize("reply", NONSENSE, ids=repr)
@pytest.mark.parametrize("topology", ["one", "cluster", "sentinel"])
def test_answers_of_the_wrong_shape_never_raise_anything_else(reply: bytes, topology: str) -> None:
    with Wire(reply) as server:
        more: dict[str, Any] = {
            "one": {},
            "cluster": {"cluster": True},
            "sentinel": {"sentinels": (("127.0.0.1", server.port),)},
        }[topology]
        with cache_at(server.port, timeout=0.5, **more) as asked:
            node = redis_client.Node("n", "node", asked._connect("127.0.0.1", server.port))
            asks: list[Callable[[], object]] = [
                asked.nodes,
                lambda: asked.info(node),
                lambda: asked.slow_commands(node, 3),
                asked.cluster_info,
            ]
            asks += [asked.sentinel_info] if topology == "sentinel" else []
            for ask in asks:
                with contextlib.suppress(RedisFault):
                    ask()


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with cache_at(port) as asked:
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
    assert fault.kind == "refused"
    assert f"127.0.0.1:{port}" in fault.message


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with cache_at(6379, host="cache.example") as asked:
        assert fault_of(lambda: asked.ping(asked.nodes()[0])).kind == "dns"


def test_a_stopped_server_costs_one_timeout(tmp_path: Path) -> None:
    with start({}, tmp_path) as server, cache_at(server.port, timeout=0.5) as asked:
        asked.ping(asked.nodes()[0])
        server.pause()
        fault = fault_of(lambda: asked.ping(asked.nodes()[0]))
        server.resume()
        assert fault.kind == "timeout"
        assert fault.message == f"no answer from 127.0.0.1:{server.port} within 0.5 s"
        assert asked.ping(asked.nodes()[0]) > 0, "the same client recovers"


def test_maxclients_of_a_real_server(tmp_path: Path) -> None:
    with start({"maxclients": 1}, tmp_path) as server, cache_at(server.port) as first:
        first.ping(first.nodes()[0])
        with cache_at(server.port) as second:
            fault = fault_of(lambda: second.ping(second.nodes()[0]))
    assert fault.kind in ("maxclients", "connect"), "the server may hang up before we read"


def test_no_fault_shows_a_key_or_what_the_server_said(redis_server: RedisServer) -> None:
    key = f"validation:{JWT}:none"
    server = Wire(f"-NOPERM No permissions to access {key}\r\n".encode())
    with server, cache_at(server.port) as asked, pytest.raises(RedisFault) as caught:
        asked.info(asked.nodes()[0])
    error = caught.value
    shown = "".join(traceback.format_exception(None, error, error.__traceback__))
    assert "eyJ" not in shown


def test_what_is_no_error_of_the_cache_is_not_translated() -> None:
    assert redis_client.translate(KeyError("x")) is None
    assert redis_client.translate(redis.TimeoutError("x")).kind == "timeout"  # type: ignore[union-attr]
    own = RedisFault(redis_faults.classify(redis.ReadOnlyError("no"), "h:1"))
    assert redis_client.translate(own) is own.fault
    loading = redis_client.translate(redis.BusyLoadingError("any words"))
    assert loading is not None
    assert loading.kind == "loading"


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "Cache CA")


def test_tls_with_a_ca_file(redis_server: RedisServer, authority: Authority) -> None:
    context = server_context(authority.issue("cache"))
    with TlsProxy(redis_server.port, context) as proxy:
        trusted = TlsSettings(ca_file=str(authority.ca_file))
        with cache_at(proxy.port, ssl=True, tls=trusted) as asked:
            assert asked.ping(asked.nodes()[0]) > 0
            assert asked.info(asked.nodes()[0])["role"] == "master"
        with cache_at(proxy.port, ssl=True) as distrusting:
            assert fault_of(lambda: distrusting.ping(distrusting.nodes()[0])).kind == "tls"
        with cache_at(proxy.port, ssl=True, tls=TlsSettings(verify=False)) as trusting:
            assert trusting.ping(trusting.nodes()[0]) > 0


def test_a_pipelined_reader_over_tls_loses_nothing_by_looking_ahead(
    redis_server: RedisServer, authority: Authority, cache: Any
) -> None:
    cache.mset({f"k{n}": "v" * 30_000 for n in range(20)})
    trusted = TlsSettings(ca_file=str(authority.ca_file))
    context = server_context(authority.issue("ahead"))
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(TlsProxy(redis_server.port, context))
        asked = stack.enter_context(cache_at(proxy.port, ssl=True, tls=trusted))
        single = asked.nodes()[0].client.client()
        connection = single.connection
        connection.send_packed_command(
            connection.pack_commands([("MGET", *(f"k{n}" for n in range(20))), ("PING",)])
        )
        while not connection.can_read(0.01):
            pass
        connection.can_read(0)
        values = connection.read_response()
        assert connection.can_read(5)
        assert connection.read_response() in (b"PONG", "PONG")
        assert connection.can_read(0) is False
        single.close()
    assert values == [b"v" * 30_000] * 20


def test_tls_against_a_plain_server(redis_server: RedisServer) -> None:
    with cache_at(redis_server.port, ssl=True, timeout=0.5) as asked:
        assert fault_of(lambda: asked.ping(asked.nodes()[0])).kind in ("tls", "timeout")


def test_a_ca_file_that_is_missing(tmp_path: Path) -> None:
    settings = RedisSettings(ssl=True, tls=TlsSettings(ca_file=str(tmp_path / "no.pem")))
    assert fault_of(lambda: redis_client.Cache(settings)).kind == "config"


# --- cluster --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_topologies.Cluster]:
    with redis_topologies.start_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def test_a_cluster_of_three(cluster: redis_topologies.Cluster) -> None:
    with cache_at(cluster.ports[0], cluster=True) as asked:
        nodes = asked.nodes()
        assert [n.role for n in nodes] == ["primary"] * 3
        assert {n.name for n in nodes} == {f"127.0.0.1:{port}" for port in cluster.ports}
        assert all(asked.ping(node) > 0 for node in nodes)
        assert asked.cluster_info()["cluster_state"] == "ok"
        whole = redis.RedisCluster(host="127.0.0.1", port=cluster.ports[0])
        for number in range(60):
            whole.set(f"key:{number}", number)
        whole.close()
        found = [key for scan in asked.scan_clients() for key in scan.scan_iter("key:*")]
        assert sorted(found) == sorted(f"key:{n}".encode() for n in range(60)), "each key once"


def test_without_the_cluster_setting_a_cluster_says_so(cluster: redis_topologies.Cluster) -> None:
    with cache_at(cluster.ports[0]) as asked:
        faults = set()
        for number in range(20):
            try:
                asked.nodes()[0].client.get(f"k{number}")
            except redis.RedisError as error:
                fault = redis_client.translate(error)
                assert fault is not None
                faults.add(fault.kind)
    assert faults == {"config"}


def test_a_dead_node_is_named_and_the_others_answer(tmp_path: Path) -> None:
    broken = redis_topologies.start_cluster(tmp_path)
    with broken, cache_at(broken.ports[0], cluster=True, timeout=1.0) as asked:
        nodes = asked.nodes()
        dead = f"127.0.0.1:{broken.ports[2]}"
        broken.nodes[2].halt()
        kinds = {}
        for node in nodes:
            try:
                asked.ping(node)
                kinds[node.name] = "up"
            except RedisFault as error:
                kinds[node.name] = error.fault.kind
    assert kinds.pop(dead) == "refused"
    assert set(kinds.values()) == {"up"}


def test_asking_a_lone_server_for_a_cluster_is_refused(redis_server: RedisServer) -> None:
    with cache_at(redis_server.port, cluster=True) as asked:
        fault = fault_of(asked.nodes)
    assert fault.kind == "config", "our mistake, and no outage"
    assert "REDIS_CLUSTER" in fault.message


def test_a_dead_seed_hides_no_cluster(cluster: redis_topologies.Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()[1]
    seeds = (("127.0.0.1", dead), ("127.0.0.1", cluster.ports[1]))
    with cache_at(dead, cluster=True, seeds=seeds) as asked:
        assert len(asked.nodes()) == 3
        assert asked.cluster_info()["cluster_state"] == "ok"
        assert asked.whoami() == "default"
    with cache_at(dead, cluster=True, seeds=seeds[:1]) as asked:
        assert fault_of(asked.nodes).kind == "refused"


# --- sentinel -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_topologies.SentinelSet]:
    with redis_topologies.start_sentinel(tmp_path_factory.mktemp("sentinel")) as started:
        yield started


def test_the_sentinels_lead_to_the_primary(sentinels: redis_topologies.SentinelSet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()[1]
    known = (("127.0.0.1", dead), ("127.0.0.1", sentinels.sentinel.port))
    with cache_at(1, sentinels=known) as asked:
        roles = {n.name: n.role for n in asked.nodes()}
        assert roles == {
            f"127.0.0.1:{sentinels.primary.port}": "primary",
            f"127.0.0.1:{sentinels.replica.port}": "replica",
        }
        assert asked.info(asked.nodes()[0])["role"] == "master"
        told = asked.sentinel_info()
    assert (told["name"], told["asked"], told["answering"]) == ("mymaster", 2, 1)
    assert told["quorum_ok"] is True
    assert "master" in told["flags"]


def test_a_name_the_sentinels_do_not_know(sentinels: redis_topologies.SentinelSet) -> None:
    known = (("127.0.0.1", sentinels.sentinel.port),)
    with cache_at(1, sentinels=known, master="nobody") as asked:
        fault = fault_of(asked.nodes)
    assert fault.kind == "config", "a wrong name is our mistake, and no outage"
    assert "REDIS_MASTER" in fault.message


def test_what_is_no_sentinel_is_our_mistake(redis_server: RedisServer) -> None:
    with cache_at(1, sentinels=(("127.0.0.1", redis_server.port),)) as asked:
        fault = fault_of(asked.nodes)
    assert (fault.kind, "REDIS_SENTINELS" in fault.message) == ("config", True)


def test_no_sentinel_answers() -> None:
    with cache_at(1, sentinels=(("127.0.0.1", 1), ("127.0.0.1", 2))) as asked:
        fault = fault_of(asked.nodes)
        assert fault.kind == "refused"
        assert "127.0.0.1:1, 127.0.0.1:2" in fault.message
        assert fault_of(asked.sentinel_info).kind == "refused"


def test_a_replica_is_scanned_where_preferred(sentinels: redis_topologies.SentinelSet) -> None:
    with cache_at(sentinels.primary.port, prefer_replicas=True) as asked:
        (scan,) = asked.scan_clients()
        assert b"role:slave" in scan.info("replication")


def test_a_sentinel_with_a_password_gets_ours() -> None:
    address = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"
    noauth = b"-NOAUTH Authentication required.\r\n"
    with Wire(noauth, b"+OK\r\n", address, b"*0\r\n") as server:
        settings = {"sentinels": (("127.0.0.1", server.port),), "password": Secret("pw")}
        with cache_at(1, **settings) as asked:
            assert [m.name for m in asked.members()] == ["127.0.0.1:6379"]
        assert b"AUTH" in server.commands[1]


# --- topology by text -----------------------------------------------------------------------------

NODES = b"""\
aaa 10.0.0.1:7001@17001,one.example myself,master - 0 0 1 connected 0-8191
bbb 10.0.0.2:7001@17001,two.example master,fail - 1 1 2 disconnected 8192-16383
ccc 10.0.0.3:7001@17001 slave aaa 0 0 1 connected
ddd :0@0 slave,noaddr bbb 0 0 1 disconnected
eee 10.0.0.9:7001@17001 handshake - 0 0 0 connected
"""


def test_cluster_nodes_are_read() -> None:
    rows = redis_topology.cluster_members(NODES, "seed", prefer_names=False)
    assert [(r.name, r.role, r.up, r.of) for r in rows] == [
        ("10.0.0.1:7001", "primary", True, ""),
        ("10.0.0.2:7001", "primary", False, ""),
        ("10.0.0.3:7001", "replica", True, "10.0.0.1:7001"),
    ]
    named = redis_topology.cluster_members(NODES, "seed", prefer_names=True)
    assert named[-1].of == "one.example:7001", "with TLS the certificate names hosts"


def test_a_lone_node_without_an_address_is_the_seed() -> None:
    (row,) = redis_topology.cluster_members(
        b"aaa :7001@17001 myself,master - 0 0 1 connected 0-16383\n", "seed", prefer_names=False
    )
    assert row.name == "seed:7001"


@pytest.mark.parametrize("reply", [b"", b"\xff\xfe", b"a b c", b"x " * 400, None, 7, [b"1"]])
def test_nonsense_has_no_members(reply: Any) -> None:
    assert redis_topology.cluster_members(reply, "s", prefer_names=False) == []
    assert redis_topology.slow_commands(reply, 3) == []


def test_replicas_of_a_sentinel_that_are_down_are_so() -> None:
    row = [b"ip", b"10.0.0.2", b"port", b"6379", b"flags", b"slave", b"master-link-status", b"ok"]
    down = [*row[:5], b"slave,s_down", *row[6:]]
    broken = [*row[:7], b"err"]
    members = redis_topology.sentinel_replicas([row, down, broken], "p:1")
    assert [m.up for m in members] == [True, False, False]


def test_a_live_replica_stands_in_for_its_primary() -> None:
    def member(port: int, role: str, up: bool = True, of: str = "") -> redis_topology.Member:
        return redis_topology.Member("h", port, role, up, of)

    one, two = member(1, "primary"), member(2, "primary")
    mine, dead = member(3, "replica", of="h:1"), member(4, "replica", up=False, of="h:2")
    assert redis_topology.scanned([one, two, mine, dead], [mine, dead]) == [mine, two]
    assert redis_topology.scanned([one, two, mine, dead], []) == [one, two]


def test_a_slow_log_beyond_any_float_is_nonsense_and_no_crash() -> None:
    """Found by fuzzing, 2026-11."""

    class Client:
        def execute_command(self, *_: object) -> object:
            return [[1, 2, 10**400, [b"GET", b"k"]]]

    with cache_at(1) as cache:
        node = redis_client.Node("h:1", "node", Client())
        fault = fault_of(lambda: cache.slow_commands(node, 5))
    assert (fault.kind, fault.message) == ("protocol", "h:1 answers SLOWLOG with nonsense")
