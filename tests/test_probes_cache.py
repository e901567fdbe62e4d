"""The cache probe against real servers: ACL users, a replica, a cluster, sentinels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import RedisSettings
from monitoring.health.judges import judge, sources_of
from monitoring.health.judging import Context
from monitoring.health.probes import probe_cache
from monitoring.health.probing import ProbeContext
from monitoring.model import Severity
from monitoring.redis import client as redis_client
from sandbox import redis_server as servers
from sandbox.redis_topologies import start_cluster, start_replica, start_sentinel

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL

pytestmark = pytest.mark.skipif(servers.find_binary() is None, reason="no Redis-protocol server")


class _Settings:
    def __init__(self, redis):
        self.redis = redis


def probe(**settings):
    redis = RedisSettings(host="127.0.0.1", timeout=2.0, **settings)
    live = ProbeContext(_Settings(redis), lambda: 0.0, None, None,
                lambda: redis_client.Cache(redis), None)  # fmt: skip
    return probe_cache("redis-cache", live)


def judged(**settings):
    return judge(probe(**settings), Context())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.start({"requirepass": "s3cret-of-all"}, tmp_path_factory.mktemp("redis")) as it:
        admin = it.client(password="s3cret-of-all")
        ping = ("+ping", "+hello", "+auth")
        for name, more in (("figures", ("+info", "+slowlog|get", "+acl|whoami")), ("bare", ())):
            rules = ("on", ">pw-of-user", "resetkeys", "-@all", *ping, *more)
            admin.execute_command("ACL", "SETUSER", name, *rules)
        admin.close()
        yield it


def test_a_user_who_may_ask_for_figures(server):
    found = judged(port=server.port, username="figures", password=Secret("pw-of-user"))
    assert (found.component.status, found.component.up) == (OK, True)
    assert found.component.details["user"] == "figures"
    assert any(m.name == "payment_api_redis_uptime_seconds" for m in found.measurements)
    assert found.blind == ()


def test_a_user_who_may_only_ping(server):
    reading = probe(port=server.port, username="bare", password=Secret("pw-of-user"))
    found = judge(reading, Context())
    assert (found.component.status, found.component.up) == (OK, True)
    assert found.blind[0].kind == "noperm"
    assert "+info" in found.blind[0].message.lower()
    assert [s.ok for s in sources_of(reading, found)] == [True, False]


@pytest.mark.parametrize("password", ["", "wrong-password"])
def test_being_kept_out_is_the_monitors_blindness(server, password):
    component = judged(port=server.port, password=Secret(password)).component
    assert (component.status, component.up, component.error) == (UNKNOWN, True, "auth")
    assert "REDIS_PASSWORD" in component.message
    assert "wrong-password" not in repr(component)


def test_slow_commands_are_shown_by_name_only(server):
    admin = server.client(password="s3cret-of-all")
    admin.config_set("slowlog-log-slower-than", 0)
    admin.set("validation:secret-token", "x")
    found = judged(port=server.port, password=Secret("s3cret-of-all"))
    admin.config_set("slowlog-log-slower-than", 10000)
    admin.close()
    (node,) = found.component.details["nodes"].values()
    assert node["slowest_commands"]
    assert "secret-token" not in repr(found)


def test_a_replica_where_a_primary_is_expected(tmp_path):
    with servers.start({}, tmp_path / "primary") as primary:
        replica = start_replica(primary, tmp_path / "replica")
        component = judged(port=replica.port).component
        replica.stop()
    assert (component.status, component.up, component.error) == (WARNING, True, "readonly")


def test_a_cluster_whole_and_with_a_lost_node(tmp_path):
    with start_cluster(tmp_path) as cluster:
        found = judged(port=cluster.ports[0], cluster=True)
        assert (found.component.status, found.component.up) == (OK, True), found.component
        nodes = {m.labels["node"] for m in found.measurements if "node" in m.labels}
        assert nodes == {f"127.0.0.1:{port}" for port in cluster.ports}
        assert found.component.details["cluster"]["cluster_state"] == "ok"
        alone = judged(port=cluster.ports[0]).component
        assert (alone.status, alone.up) == (WARNING, True)
        assert "its 2 other nodes are not watched" in alone.message
        cluster.nodes[2].halt()
        lost = judged(port=cluster.ports[0], cluster=True).component
        assert lost.status in (WARNING, CRITICAL)  # critical once the others noticed
        assert str(cluster.ports[2]) in lost.message


def test_sentinels_name_the_primary(tmp_path):
    with start_sentinel(tmp_path) as group:
        addresses = (("127.0.0.1", group.sentinel.port),)
        found = judged(sentinels=addresses, master=group.master_name)
        assert (found.component.status, found.component.up) == (OK, True), found.component
        roles = [node["role"] for node in found.component.details["nodes"].values()]
        assert roles == ["primary", "replica"]
        at_the_wrong_door = judged(port=group.sentinel.port).component
        assert (at_the_wrong_door.status, at_the_wrong_door.error) == (UNKNOWN, "config")
        assert "REDIS_SENTINELS" in at_the_wrong_door.message
        group.replica.halt()
        component = judged(sentinels=addresses, master=group.master_name).component
        assert (component.status, component.up) == (WARNING, True)
        unknown = judged(sentinels=addresses, master="nobody").component
        assert (unknown.status, unknown.error) == (UNKNOWN, "config")


def test_nobody_listens():
    component = judge(probe(port=servers.free_port()), Context()).component
    assert (component.status, component.up, component.error) == (CRITICAL, False, "refused")


def test_a_ca_file_that_is_not_there_is_a_config_fault():
    tls = replace(RedisSettings().tls, ca_file="/nonexistent/ca.pem")
    component = judge(probe(port=1, ssl=True, tls=tls), Context()).component
    assert (component.status, component.error) == (UNKNOWN, "config")
