"""Acquire: the cache, single, behind sentinels or as a cluster, and the connection to one server.

The only importer of redis, whose defaults retry eleven times and bound neither name lookups nor
drips (docs/protocols.md). So connections are ours, RESP2 is spoken, nodes are found with commands.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any, Optional

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from monitoring.config.secret import Secret
from monitoring.config.settings import RedisSettings
from monitoring.http import tls, wire
from monitoring.model import Fault
from monitoring.redis import faults, sentinels, sentinels as seeds, topology
from monitoring.redis.faults import RedisFault
from monitoring.redis.topology import Member, Node
from monitoring.text import printable

# -- the way to one Redis server: name, TCP and TLS within its timeout, replies too.


#: The head of an array, set, map or push, where its number of elements has at least six digits.
_LONG = re.compile(rb"\n[*~%>](\d{6,})")
_HEAD = 24  # bytes of a head that may be cut in two
_LEAST = 4  # bytes of the shortest element
_ENDLESS = "the cache announces an answer of {} elements, more than any that was asked for"


class _ReplySocket(wire.TimedSocket):
    """Refuses an array that cannot be whole within `most` bytes: the parser makes room for all
    elements at once, and a billion of them hold up every other thread for seconds."""

    _before = b"\n"

    def sendall(self, data: Any, *flags: int) -> None:
        """Send everything; a new reply begins."""
        self._before = b"\n"
        super().sendall(data, *flags)

    def _received(self, data: Any) -> None:
        super()._received(data)
        whole = self._before + bytes(data)
        self._before = whole[-_HEAD:]
        if not any(mark in whole for mark in (b"*", b"~", b"%", b">")):
            return
        for head in _LONG.finditer(whole):
            if self.most is not None and int(head[1][:20]) * _LEAST > self.most:
                self._sock.close()
                raise wire.WireFault("protocol", _ENDLESS.format(int(head[1][:20])))


class DeadlineConnector:
    """Opens connections and keeps the socket opened last, for its stopwatch."""

    def __init__(self, context: Optional[ssl.SSLContext], timeout: float, most: int) -> None:
        self.timeout = timeout
        self._context = context
        self._most = most
        self._socket: Optional[_ReplySocket] = None

    @property
    def secured(self) -> bool:
        """Whether TLS is spoken."""
        return self._context is not None

    def open(self, host: str, port: int) -> _ReplySocket:
        """A connected socket whose every reply must be whole within the timeout, and hold `most`
        bytes at most. WireFault."""
        deadline = wire.Deadline(self.timeout)
        sock: Any = wire.open_socket(host, port, deadline).sock
        if self._context is not None:
            sock = wire.secure(sock, self._context, host, deadline)
        fresh = wire.Deadline(self.timeout)
        self._socket = _ReplySocket(sock, fresh, renewing=True, most=self._most)
        return self._socket

    @property
    def heard(self) -> bool:
        """Whether the server has sent anything on the connection opened last."""
        return self._socket is not None and self._socket.heard

    def restart(self) -> None:
        """Set the stopwatch to nothing."""
        if self._socket is not None:
            self._socket.restart()

    def seconds(self) -> float:
        """From the first byte sent to the last received since `restart`."""
        sock = self._socket
        if sock is None or sock.sent_at is None or sock.last_at is None:
            raise ValueError("nothing was sent and answered")
        return sock.last_at - sock.sent_at


# -- the cache, single, behind sentinels or as a cluster: one attempt, our own timeouts.


class _NotConnected(redis.ConnectionError):  # type: ignore[misc]
    """What our connections raise: a ConnectionError, so that the library tidies up after it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


_log = logging.getLogger("monitoring.redis.client")

#: Bytes of one reply that are read: of PING, INFO and the like, and of a page of a scan.
_MOST, _MOST_SCANNED = 2 << 20, 24 << 20

#: Everything a client of a Cache may raise that `translate` gives a Fault for.
ERRORS = (redis.RedisError, wire.WireFault, RedisFault)


def translate(
    error: BaseException, where: str = "the cache", *, heard: bool = False
) -> Optional[Fault]:
    """The Fault of anything raised while using a client of a Cache; None: not its error. `heard`:
    the server had answered before on this connection."""
    asked = faults.Question(heard=heard)
    return faults.classify(error, where, asked) if isinstance(error, ERRORS) else None


def name_of(client: Any) -> str:
    """`host:port` of a client of a Cache."""
    where = client.connection_pool.connection_kwargs
    return wire.place(str(where["host"]), int(where["port"]))


class _Connection(redis.Connection):  # type: ignore[misc]
    """redis-py's connection over a socket of ours."""

    door: DeadlineConnector

    def _connect(self) -> wire.TimedSocket:
        try:
            return self.door.open(self.host, int(self.port))
        except wire.WireFault as error:
            raise _NotConnected(error.fault) from None

    def read_response(self, *args: Any, **named: Any) -> Any:
        """One reply. What the library's parser trips over is the server's doing, also while it
        greets and before it was asked anything."""
        try:
            return super().read_response(*args, **named)
        except faults.NONSENSE:
            self.disconnect()
            place = wire.place(self.host, int(self.port))
            text = f"{place} answers with what is not the protocol of Redis"
            raise _NotConnected(Fault("protocol", text)) from None

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


def _greet(db: int, follow: bool, connection: Any) -> None:
    """What is said on each new connection. A replica of a cluster answers reads only on one that
    said READONLY. A wrong number of a database is our mistake and not the cache's outage."""
    connection.on_connect()
    if follow:
        connection.send_command("READONLY")
        connection.read_response()
    if not db:
        return
    connection.send_command("SELECT", db)
    try:
        connection.read_response()
    except redis.ResponseError as error:
        place = wire.place(connection.host, int(connection.port))
        if faults.classify(error, place).kind != "protocol":  # a right we lack, a busy script
            raise
        text = f"{place} has no database {db}: correct REDIS_DB"
        raise _NotConnected(Fault("config", text)) from None


class _Login(redis.CredentialProvider):  # type: ignore[misc]
    """User and password for each new connection, so that a rotated file is picked up."""

    def __init__(self, username: str, password: Secret) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str, ...]:
        """(password) or (user, password)."""
        try:
            password = self._password.reveal()
        except (OSError, ValueError):
            text = "the file with the password of the cache cannot be read"
            raise _NotConnected(Fault("config", text)) from None
        return (self._username, password) if self._username else (password,)


def _silent() -> dict[str, Any]:
    """Arguments that stop CLIENT SETINFO: a user with few rights would fill the ACL log."""
    known = inspect.signature(AbstractConnection.__init__).parameters
    if "driver_info" in known:
        return {"driver_info": None}
    return {name: None for name in ("lib_name", "lib_version") if name in known}


def _options(door: DeadlineConnector, settings: RedisSettings, login: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
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
    """One cache as settings describe it, asked lazily; every method raises RedisFault, and so does
    a CA file that cannot be read (config). For one thread at a time, except its clients
    (`Node.client`, `scan_clients`)."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._open: list[Any] = []
        self._doors: dict[int, DeadlineConnector] = {}
        self._members: Optional[tuple[Member, ...]] = None
        self._nodes: Optional[tuple[Node, ...]] = None
        self._watchers: Optional[sentinels.Sentinels] = None
        try:
            self._context = tls.context(settings.tls) if settings.ssl else None
        except ValueError as error:
            raise RedisFault(Fault("config", str(error))) from None

    @property
    def name(self) -> str:
        """`host:port` of the configured server, or of the first sentinel or seed."""
        return wire.place(*(self._settings.sentinels or self._seeds)[0])

    @property
    def _seeds(self) -> tuple[tuple[str, int], ...]:
        """Configured servers: the one there is, or nodes of the cluster."""
        return self._settings.seeds or ((self._settings.host, self._settings.port),)

    def nodes(self) -> tuple[Node, ...]:
        """Every server, primaries first, those that are down included; looked up once."""
        if self._nodes is None:
            self._nodes = tuple(
                Node(m.name, m.role, self._connect(m.host, m.port), m.up) for m in self.members()
            )
        return self._nodes

    def members(self) -> tuple[Member, ...]:
        """The topology behind `nodes`, without clients."""
        if self._members is None:
            self._members = tuple(self._discover())
        return self._members

    def scan_clients(self) -> list[Any]:
        """One client per primary (a live replica of it where preferred), with the scan timeout."""
        return [
            self._connect(
                *(m.host, m.port),
                timeout=self._settings.scan_timeout,
                most=_MOST_SCANNED,
                follow=m.of != "",
            )
            for m in self._scanned()
        ]

    def primaries(self) -> list[tuple[str, Any]]:
        """(name, client) of each server that is written to, with the scan timeout."""
        return [
            (
                m.name,
                self._connect(
                    m.host, m.port, timeout=self._settings.scan_timeout, most=_MOST_SCANNED
                ),
            )
            for m in self.members()
            if m.role != "replica"
        ]

    def ping(self, node: Node) -> float:
        """Seconds of one PING on an open connection, from its first byte out to the answer."""
        with self._asking(node.name, "PING", node.client):
            node.client.ping()  # connects and logs in
            door = self._doors[id(node.client)]
            door.restart()
            if not node.client.ping():
                raise ValueError("no PONG")
            return door.seconds()

    def info(self, node: Node, section: str = "") -> dict[str, Any]:
        """INFO as `topology.fields` reads it; `section` "all" has the counters of commands and
        errors."""
        words = ("INFO", section) if section else ("INFO",)
        with self._asking(node.name, "INFO", node.client):
            return topology.fields(node.client.execute_command(*words))

    def slow_commands(self, node: Node, count: int) -> list[tuple[str, float]]:
        """The slowest commands of the slow log, (name, milliseconds), never their arguments."""
        with self._asking(node.name, "SLOWLOG", node.client):
            reply = node.client.execute_command("SLOWLOG", "GET", max(count, 32))
            return topology.slow_commands(reply, count)

    def cluster_info(self) -> dict[str, Any]:
        """CLUSTER INFO of the first seed that answers."""
        return topology.fields(self._from_seed("INFO")[1])

    def sentinel_info(self) -> dict[str, Any]:
        """See sentinels.Sentinels.info."""
        return self._sentinels().info()

    def whoami(self) -> str:
        """The ACL user we are logged in as."""
        with self._asking(self.name, "ACL"):
            name = topology.text(self.nodes()[0].client.execute_command("ACL", "WHOAMI"))
            return printable(name, 200)

    def close(self) -> None:
        """Close every connection."""
        for client in self._open:
            client.connection_pool.disconnect()

    @contextlib.contextmanager
    def _asking(self, where: str, command: str, client: Any = None) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (redis.RedisError, wire.WireFault) as error:
            timeout, door = self._settings.timeout, self._doors.get(id(client))
            heard = door is not None and door.heard
            asked = faults.Question(command, timeout, heard)
            fault = faults.classify(error, where, asked)
            _log.debug("%s failed: %s", command, fault.message)
            raise RedisFault(fault) from None  # texts of the library may quote keys and arguments
        except faults.NONSENSE:
            nonsense = Fault("protocol", f"{where} answers {command} with nonsense")
            raise RedisFault(nonsense) from None
        _log.debug("%s %s: %.1f ms", where, command, (time.perf_counter() - began) * 1000)

    def _connect(
        self,
        host: str,
        port: int,
        *,
        timeout: Optional[float] = None,
        most: int = _MOST,
        follow: bool = False,
        login: bool = True,
        db: Optional[int] = None,
    ) -> Any:
        door = DeadlineConnector(self._context, timeout or self._settings.timeout, most)
        number = self._settings.db if db is None else db
        greet = functools.partial(_greet, number, follow and self._settings.cluster)
        pool = redis.ConnectionPool(
            host=host,
            port=port,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=greet,
            **_options(door, self._settings, login),
        )
        client = redis.Redis(connection_pool=pool)
        client.response_callbacks.pop("INFO", None)  # `topology.fields` reads it
        self._open.append(client)
        self._doors[id(client)] = door
        return client

    def _from_seed(self, word: str) -> tuple[str, Any]:
        """(host, its answer to CLUSTER `word`); the seeds share the timeout."""
        share = self._settings.timeout / len(self._seeds)
        connect = functools.partial(self._connect, timeout=share)
        return seeds.ask(self._seeds, word, connect, self._asking)

    def _discover(self) -> list[Member]:
        settings = self._settings
        if settings.sentinels:
            return self._sentinels().members()
        if not settings.cluster:
            return [Member(settings.host, settings.port, "node", True)]
        seed, reply = self._from_seed("NODES")
        with self._asking(seed, "CLUSTER"):
            return topology.cluster_members(reply, seed, prefer_names=settings.ssl)

    def _scanned(self) -> list[Member]:
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
