"""Redis topologies: a replica, a three-node cluster and a sentinel made of plain servers."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Union

from sandbox.redis_server import RedisServer, RedisServerError, free_port, start

SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
READY_SECONDS = 20.0


@dataclass
class Cluster:
    """Three primaries that share the 16384 slots."""

    nodes: list[RedisServer]

    @property
    def ports(self) -> list[int]:
        """The three client ports."""
        return [node.port for node in self.nodes]

    def stop(self) -> None:
        """End all three."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Cluster:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@dataclass
class SentinelSet:
    """One primary, one replica, one sentinel that watches them as `master_name`."""

    primary: RedisServer
    replica: RedisServer
    sentinel: RedisServer
    master_name: str = "mymaster"

    def stop(self) -> None:
        """End all three, the watcher first."""
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()

    def __enter__(self) -> SentinelSet:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _cluster_node(number: int, folder: Path, prefer: Optional[str]) -> RedisServer:
    port = free_port()
    config = {
        "port": port,
        "cluster-enabled": "yes",
        "cluster-config-file": f"nodes-{port}.conf",
        "cluster-node-timeout": 2000,
        "cluster-port": port + 10000,
    }
    return start(config, folder / f"node-{number}", prefer=prefer)


def _wait(what: str, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.05)
    raise RedisServerError(f"{what} was not ready within {seconds:.0f} s")


def _join(nodes: list[RedisServer]) -> None:
    for number, (node, slots) in enumerate(zip(nodes, SLOTS), start=1):
        client = node.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        client.close()
    first = nodes[0].client()
    for node in nodes[1:]:
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.port + 10000)
    first.close()


def _agrees(node: RedisServer) -> bool:
    client = node.client()
    try:
        info = client.execute_command("CLUSTER", "INFO")
    finally:
        client.close()
    if isinstance(info, dict):
        return info.get("cluster_state") == "ok" and info.get("cluster_known_nodes") == "3"
    text = info.decode() if isinstance(info, bytes) else str(info)
    return "cluster_state:ok" in text and "cluster_known_nodes:3" in text


def start_cluster(folder: Union[str, Path], *, prefer: Optional[str] = None) -> Cluster:
    """Three joined primaries, ready for writes (about 2 s: the server's own writable delay)."""
    nodes: list[RedisServer] = []
    with contextlib.ExitStack() as undo:
        for number in range(3):
            nodes.append(undo.enter_context(_cluster_node(number, Path(folder), prefer)))
        _join(nodes)
        _wait("the cluster", lambda: all(_agrees(node) for node in nodes))
        undo.pop_all()
    return Cluster(nodes)


def _link_is_up(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")


def start_replica(
    primary: RedisServer, folder: Union[str, Path], *, prefer: Optional[str] = None
) -> RedisServer:
    """A replica of `primary`, returned once its link is up."""
    config = {
        "replicaof": f"127.0.0.1 {primary.port}",
        "repl-diskless-sync-delay": 0,
        "repl-diskless-load": "disabled",
    }
    with contextlib.ExitStack() as undo:
        replica = undo.enter_context(start(config, folder, prefer=prefer or primary.binary))
        _wait("the replica", lambda: _link_is_up(replica))
        undo.pop_all()
    return replica


def _knows_a_replica(sentinel: RedisServer) -> bool:
    with sentinel.client() as client:
        return int(client.info("sentinel")["master0"]["slaves"]) >= 1


def _start_watcher(primary: RedisServer, home: Path, prefer: Optional[str]) -> RedisServer:
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    conf = home / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {home}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 2000\n"
    )
    settings = {"port": port, "conf": str(conf), "sentinel": "yes"}
    return start(settings, home, prefer=prefer)


def start_sentinel(folder: Union[str, Path], *, prefer: Optional[str] = None) -> SentinelSet:
    """A primary with a replica and one sentinel (quorum 1) that knows both."""
    base = Path(folder)
    with contextlib.ExitStack() as undo:
        config = {"repl-diskless-sync-delay": 0}
        primary = undo.enter_context(start(config, base / "primary", prefer=prefer))
        replica = undo.enter_context(start_replica(primary, base / "replica", prefer=prefer))
        sentinel = undo.enter_context(_start_watcher(primary, base / "sentinel", prefer))
        _wait("the sentinel", lambda: _knows_a_replica(sentinel))
        undo.pop_all()
    return SentinelSet(primary, replica, sentinel)
