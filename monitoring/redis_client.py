"""Acquire: the cache, single, behind sentinels or as a cluster: one attempt, our own timeouts.

The only importer of redis, whose defaults retry eleven times and bound neither name lookups nor
drips (FACTS.md section 8). So connections are ours, RESP2 is spoken, nodes are found with commands.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from monitoring.cache import faults, sentinels, topology
from monitoring.cache.door import Door
from monitoring.cache.faults import RedisFault
from monitoring.cache.topology import Member
from monitoring.http import tls, wire
from monitoring.model import Fault
from monitoring.settings import RedisSettings, Secret


class _NotConnected(redis.ConnectionError):  # type: ignore[misc]
    """What our connections raise: a ConnectionError, so that the library tidies up after it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


#: Everything a client of a Cache may raise that `translate` gives a Fault for.
ERRORS = (redis.RedisError, wire.WireFault, RedisFault)


def translate(error: BaseException, where: str = "the cache") -> Optional[Fault]:
    """The Fault of anything raised while using a client of a Cache; None: not its error."""
    return faults.classify(error, where) if isinstance(error, ERRORS) else None


@dataclass(frozen=True)
class Node:
    """A server of the cache. `name` is "host:port"; `role` primary, replica, or node (a single
    server: INFO tells). `up` False: its fellows call it down. `client` is a redis.Redis."""

    name: str
    role: str
    client: Any
    up: bool = True


class _Connection(redis.Connection):  # type: ignore[misc]
    """redis-py's connection over a socket of ours."""

    door: Door

    def _connect(self) -> wire.TimedSocket:
        try:
            return self.door.open(self.host, int(self.port))
        except wire.WireFault as error:
            raise _NotConnected(error.fault) from None

    def can_read(self, timeout: float = 0) -> bool:
        """TLS 1.3 session tickets lie unread on a new connection, and redis-py 8 takes them for
        leftover data; so whatever is there is decrypted first (and kept)."""
        if self._sock is None or not self.door.secured:
            waiting = bool(super().can_read(timeout))
        else:
            self._sock.settle(0)
            waiting = bool(super().can_read(0) or (timeout and self._sock.settle(timeout)))
        if waiting and self._sock is not None and self._sock.sent_at is None:
            self.read_response()  # it spoke before it was asked: maxclients, and it hangs up
        return waiting


def _ready_to_follow(connection: Any) -> None:
    """A replica of a cluster answers reads only on a connection that said READONLY."""
    connection.on_connect()
    connection.send_command("READONLY")
    connection.read_response()


class _Login(redis.CredentialProvider):  # type: ignore[misc]
    """User and password for each new connection, so that a rotated file is picked up."""

    def __init__(self, username: str, password: Secret) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> Tuple[str, ...]:
        """(password) or (user, password)."""
        try:
            password = self._password.reveal()
        except (OSError, ValueError):
            text = "the file with the password of the cache cannot be read"
            raise _NotConnected(Fault("config", text)) from None
        return (self._username, password) if self._username else (password,)


def _silent() -> Dict[str, Any]:
    """Arguments that stop CLIENT SETINFO: a user with few rights would fill the ACL log."""
    known = inspect.signature(AbstractConnection.__init__).parameters
    if "driver_info" in known:
        return {"driver_info": None}
    return {name: None for name in ("lib_name", "lib_version") if name in known}


def _options(door: Door, settings: RedisSettings, login: bool) -> Dict[str, Any]:
    options: Dict[str, Any] = {
        "socket_timeout": door.timeout,
        "socket_connect_timeout": door.timeout,
        "protocol": 2,
        "connection_class": type("_Ours", (_Connection,), {"door": door}),
        **_silent(),
    }
    if login and (settings.username or settings.password):
        options["credential_provider"] = _Login(settings.username, settings.password)
    return options


class Cache:
    """One cache as settings describe it, asked lazily; every method raises RedisFault. For one
    thread at a time, except its clients (`Node.client`, `scan_clients`)."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._open: List[Any] = []
        self._doors: Dict[int, Door] = {}
        self._members: Optional[Tuple[Member, ...]] = None
        self._nodes: Optional[Tuple[Node, ...]] = None
        self._client: Any = None
        self._watchers: Optional[sentinels.Sentinels] = None
        try:
            self._context = tls.context(settings.tls) if settings.ssl else None
        except ValueError as error:
            raise RedisFault(Fault("config", str(error))) from None

    @property
    def name(self) -> str:
        """`host:port` of the configured server, or of the first sentinel."""
        host, port = (self._settings.sentinels or ((self._settings.host, self._settings.port),))[0]
        return wire.place(host, port)

    @property
    def client(self) -> Any:
        """For commands on keys: a redis.Redis of the (current) primary, or a RedisCluster."""
        if self._client is None and self._settings.cluster:
            self._client = self._cluster_client()
        if self._client is None:
            self._client = self.nodes()[0].client
        return self._client

    def nodes(self) -> Tuple[Node, ...]:
        """Every server, primaries first, those that are down included; looked up once."""
        if self._nodes is None:
            self._nodes = tuple(
                Node(m.name, m.role, self._connect(m.host, m.port), m.up) for m in self.members()
            )
        return self._nodes

    def members(self) -> Tuple[Member, ...]:
        """The topology behind `nodes`, without clients."""
        if self._members is None:
            self._members = tuple(self._discover())
        return self._members

    def scan_clients(self) -> List[Any]:
        """One client per primary (a live replica of it where preferred), with the scan timeout."""
        return [
            self._connect(m.host, m.port, timeout=self._settings.scan_timeout, follow=m.of != "")
            for m in self._scanned()
        ]

    def ping(self, node: Node) -> float:
        """Seconds of one PING on an open connection, from its first byte out to the answer."""
        with self._asking(node.name, "PING"):
            node.client.ping()  # connects and logs in
            door = self._doors[id(node.client)]
            door.restart()
            node.client.ping()
            return door.seconds()

    def info(self, node: Node) -> Dict[str, Any]:
        """INFO as redis-py parses it."""
        with self._asking(node.name, "INFO"):
            return dict(node.client.info())

    def slow_commands(self, node: Node, count: int) -> List[Tuple[str, float]]:
        """The slowest commands of the slow log, (name, milliseconds), never their arguments."""
        with self._asking(node.name, "SLOWLOG"):
            reply = node.client.execute_command("SLOWLOG", "GET", max(count, 32))
            return topology.slow_commands(reply, count)

    def cluster_info(self) -> Dict[str, str]:
        """CLUSTER INFO of the configured server."""
        with self._asking(self.name, "CLUSTER"):
            return topology.lines(self._seed().execute_command("CLUSTER", "INFO"))

    def sentinel_info(self) -> Dict[str, Any]:
        """See sentinels.Sentinels.info."""
        return self._sentinels().info()

    def whoami(self) -> str:
        """The ACL user we are logged in as."""
        with self._asking(self.name, "ACL"):
            return topology.text(self.nodes()[0].client.execute_command("ACL", "WHOAMI"))

    def close(self) -> None:
        """Close every connection."""
        for client in self._open:
            client.connection_pool.disconnect()
        if self._settings.cluster and self._client is not None:
            self._client.close()

    @contextlib.contextmanager
    def _asking(self, where: str, command: str) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, wire.WireFault) as error:
            # from None: texts of the library may quote keys and arguments
            raise RedisFault(
                faults.classify(error, where, command=command, seconds=self._settings.timeout)
            ) from None
        except faults.NONSENSE:
            nonsense = Fault("protocol", f"{where} answers {command} with nonsense")
            raise RedisFault(nonsense) from None

    def _connect(
        self,
        host: str,
        port: int,
        *,
        timeout: Optional[float] = None,
        follow: bool = False,
        login: bool = True,
        db: Optional[int] = None,
    ) -> Any:
        door = Door(self._context, timeout or self._settings.timeout)
        options = _options(door, self._settings, login)
        if follow and self._settings.cluster:
            options["redis_connect_func"] = _ready_to_follow
        number = 0 if self._settings.cluster else self._settings.db
        number = number if db is None else db
        pool = redis.ConnectionPool(
            host=host, port=port, db=number, retry=Retry(NoBackoff(), 0), **options
        )
        client = redis.Redis(connection_pool=pool)
        self._open.append(client)
        self._doors[id(client)] = door
        return client

    def _cluster_client(self) -> Any:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        known = inspect.signature(redis.RedisCluster.__init__).parameters
        old = "cluster_error_retry_attempts" in known and int(redis.__version__.split(".")[0]) < 6
        once = {"cluster_error_retry_attempts": 1} if old else {"retry": Retry(NoBackoff(), 1)}
        options = _options(Door(self._context, settings.timeout), settings, True)
        with self._asking(self.name, "CLUSTER"):
            return redis.RedisCluster(url=f"redis://{host}:{settings.port}", **once, **options)

    def _seed(self) -> Any:
        return self._connect(self._settings.host, self._settings.port)

    def _discover(self) -> List[Member]:
        settings = self._settings
        if settings.sentinels:
            return self._sentinels().members()
        if not settings.cluster:
            return [Member(settings.host, settings.port, "node", True)]
        with self._asking(self.name, "CLUSTER"):
            reply = self._seed().execute_command("CLUSTER", "NODES")
            return topology.cluster_members(reply, settings.host, prefer_names=settings.ssl)

    def _scanned(self) -> List[Member]:
        members = self.members()
        replicas = [m for m in members if m.role == "replica"]
        if members[0].role == "node" and self._settings.prefer_replicas:
            info = self.info(self.nodes()[0])
            replicas = topology.info_replicas(info, members[0].name)
        return topology.scanned(members, replicas if self._settings.prefer_replicas else [])

    def _sentinels(self) -> sentinels.Sentinels:
        """The sentinels share the timeout, so that dead ones cost it but once."""
        if self._watchers is None:
            share = self._settings.timeout / max(1, len(self._settings.sentinels))
            connect = functools.partial(self._connect, timeout=share, db=0)
            found = [sentinels.named(h, p, connect) for h, p in self._settings.sentinels]
            self._watchers = sentinels.Sentinels(found, self._settings.master, self._asking)
        return self._watchers


def connect(settings: RedisSettings) -> Cache:
    """The cache of `settings`; nothing is sent yet. Raises RedisFault (config) for a CA file that
    cannot be read."""
    return Cache(settings)
