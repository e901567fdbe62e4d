"""Rows: what Redis, or the way to it, can do wrong, in its own words."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Callable

from tests.faults.ground import Ground, Run
from tests.faults.resp_proxy import Answer, Judge, RespProxy, refusing
from tests.faults.row import CACHE, Expect, Make, Row, classes
from tests.faults.servers import blackhole
from tests.faults.web import switched

TOKENS, CREDENTIALS = "token_usage_metrics", "credential_usage_metrics"
#: What the scan runs beyond SCAN and MGET -> how many of the two scripts that scan need it.
LESSER = {"pttl": 1, "hmget": 2, "type": 2, "scard": 1, "dbsize": 0}
#: What the scan of the other scripts says: they cannot count, everything else stands.
BLIND = (1, 2)


def all_scripts(kinds: str, status: int, *, others: str = "") -> Mapping[str, Expect]:
    """health_check's exit status, and the error class in all three scripts (`others`: in the two
    that scan)."""
    named = classes(kinds)
    scanned = classes(others or kinds)
    blind = Expect({"redis": scanned}, BLIND)
    return {
        "health_check": Expect({CACHE: named}, (status,)),
        TOKENS: blind,
        CREDENTIALS: blind,
    }


def health_only(kinds: str, status: int) -> Mapping[str, Expect]:
    return {"health_check": Expect({CACHE: classes(kinds)}, (status,))}


def scanning(kinds: str) -> Mapping[str, Expect]:
    """Only those who scan are hit."""
    blind = Expect({"redis": classes(kinds)}, BLIND)
    return {"health_check": Expect(), TOKENS: blind, CREDENTIALS: blind}


def hurried(ground: Ground) -> None:
    """A second for the cache; the services keep their time."""
    ground.setting("TIMEOUTS", {CACHE: "1s", "redis-scan": "1s"})


def hung(ground: Ground) -> AbstractContextManager[None]:
    hurried(ground)
    return switched("redis-hang")(ground)


def lesser(scripts: int) -> Mapping[str, Expect]:
    """A command without which the scan of so many scripts knows less; they say so, and go on."""
    less = Expect({"redis": classes("noperm")}, (1,))
    sound = Expect({}, (0, 1))
    return {
        "health_check": Expect(),
        TOKENS: less if scripts >= 1 else sound,
        CREDENTIALS: less if scripts >= 2 else sound,
    }


def hashes(make: Make) -> Make:
    """Some keys are hashes, as older deployments write them."""
    keys = {"token:client-009:abc": {"iat": "1795000000", "exp": "1795999999"}}
    keys["credential:rotation:client-001"] = {"status": "rotating", "last_rotation": "1"}

    @contextlib.contextmanager
    def also(ground: Ground) -> Iterator[None]:
        with ground.stack.redis_client() as admin:
            for key, fields in keys.items():
                admin.hset(key, mapping=fields)
            try:
                with make(ground):
                    yield
            finally:
                admin.delete(*keys)

    return also


def proxied(judge_of: Callable[[], Judge]) -> Make:
    """The monitor's cache is a proxy; the services keep the real one."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        hurried(ground)
        with RespProxy(ground.stack.redis_port, judge_of()) as proxy:
            ground.env["REDIS_PORT"] = str(proxy.port)
            yield

    return make


def says(reply: str, *commands: str) -> Make:
    answers = dict.fromkeys(commands or ("*",), f"-{reply}\r\n".encode())
    return proxied(lambda: refusing(answers))


def port(server: Callable[[], AbstractContextManager[int]]) -> Make:
    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        hurried(ground)
        with server() as number:
            ground.env["REDIS_PORT"] = str(number)
            yield

    return make


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    yield 1


def gone(launch: Mapping[str, Any]) -> Make:
    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        hurried(ground)
        ground.env["REDIS_HOST"] = "cache.invalid"
        ground.launch.update(launch)
        yield

    return make


@contextlib.contextmanager
def full_house(ground: Ground) -> Iterator[None]:
    """maxclients is reached, by others."""
    with ground.stack.redis_client() as admin:
        before = admin.config_get("maxclients")["maxclients"]
        wires: list[socket.socket] = []
        admin.config_set("maxclients", int(admin.info("clients")["connected_clients"]) + 3)
        for _ in range(8):
            wires.append(socket.create_connection(("127.0.0.1", ground.stack.redis_port)))
            wires[-1].sendall(b"PING\r\n")
            wires[-1].recv(64)
        try:
            yield
        finally:
            admin.config_set("maxclients", before)
            for wire in wires:
                wire.close()


@contextlib.contextmanager
def busy_script(ground: Ground) -> Iterator[None]:
    """A Lua script that never ends blocks the server."""
    client = ground.stack.redis_client(socket_timeout=60)
    client.config_set("busy-reply-threshold", 50)

    def loop() -> None:
        with contextlib.suppress(Exception):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    with ground.stack.redis_client() as admin:
        while not _is_busy(admin):
            pass
        try:
            yield
        finally:
            admin.execute_command("SCRIPT", "KILL")
            thread.join(10)
    client.close()


def _is_busy(admin: Any) -> bool:
    import redis

    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


def wrong_password(ground: Ground) -> AbstractContextManager[None]:
    return _with_env(ground, REDIS_PASSWORD="not the password")


def unknown_user(ground: Ground) -> AbstractContextManager[None]:
    return _with_env(ground, REDIS_USERNAME="nobody", REDIS_PASSWORD="guess")


@contextlib.contextmanager
def _with_env(ground: Ground, **names: str) -> Iterator[None]:
    ground.env.update(names)
    yield


def may_not(*commands: str) -> Make:
    """A user that may do all but these."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        user = "watcher-" + "-".join(word.replace("|", "") for word in commands)
        rules = ("on", ">watching", "~*", "+@all", *(f"-{word}" for word in commands))
        with ground.stack.redis_client() as admin:
            admin.execute_command("ACL", "SETUSER", user, *rules)
            ground.env.update(REDIS_USERNAME=user, REDIS_PASSWORD="watching")
            try:
                yield
            finally:
                admin.execute_command("ACL", "DELUSER", user)

    return make


def _hang_up(wire: socket.socket) -> None:
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def lost_in_scan() -> Judge:
    """The primary goes away with the second page of a scan, and what comes back is a replica."""
    pages: list[int] = []

    def judge(command: str, _connection: int) -> Answer:
        pages.extend([1] if command == "SCAN" else [])
        if len(pages) < 2:
            return None
        return _hang_up if command == "SCAN" else b"-MASTERDOWN Link with MASTER is down\r\n"

    return judge


@contextlib.contextmanager
def failover(ground: Ground) -> Iterator[None]:
    """Enough keys for several pages, and the primary lost on the way."""
    with ground.stack.redis_client() as admin:
        admin.mset({f"filler:{number}": "" for number in range(4000)})
        try:
            with proxied(lost_in_scan)(ground):
                yield
        finally:
            admin.delete(*(f"filler:{number}" for number in range(4000)))


def _names(command: str) -> Callable[[Ground, Run], None]:
    """NOPERM says which command to grant; what can be counted without it is counted."""

    def check(_ground: Ground, run: Run) -> None:
        troubled = [row for row in run.rows().values() if row["error"] == "noperm"]
        for row in troubled:
            assert f"may not run {command.upper()} (NOPERM); grant +{command}" in row["message"], (
                row
            )
        tokens = (run.document or {}).get("tokens")
        if tokens is not None and command in LESSER:
            assert tokens["total"] >= 20, tokens["total"]

    return check


def _in_details(command: str) -> Callable[[Ground, Run], None]:
    """What is nice to know is missed in the details alone; the command is named there."""

    def check(_ground: Ground, run: Run) -> None:
        assert run.document is not None
        details = str(run.document["components"][CACHE]["details"])
        assert f"grant +{command}" in details, details

    return check


def _plain_rows() -> list[Row]:
    rows = [
        Row("redis refuses", port(nobody), all_scripts("refused", 2)),
        Row("redis is unreachable", port(blackhole), all_scripts("timeout|connect", 2)),
        Row("redis has no name in DNS", gone({"dns": 0}), all_scripts("dns", 2)),
        Row("redis: DNS hangs", gone({"dns": 30}), health_only("dns|timeout", 2)),
        Row("redis accepts and is silent", hung, all_scripts("timeout", 2)),
        Row("redis: LOADING", switched("redis-loading"), all_scripts("loading", 1)),
        Row("redis: NOAUTH", switched("redis-noauth"), all_scripts("auth", 1)),
        Row("redis: WRONGPASS", wrong_password, all_scripts("auth", 1)),
        Row("redis: unknown ACL user", unknown_user, health_only("auth", 1)),
        Row(
            "redis: a replica without its primary",
            switched("redis-readonly"),
            health_only("masterdown|readonly", 1),
        ),
        Row("redis: BUSY", busy_script, health_only("busy", 1)),
        Row("redis: maxclients", full_house, health_only("maxclients", 2)),
    ]
    replies = (
        ("READONLY You can't write against a read only replica.", "readonly", 1),
        ("MASTERDOWN Link with MASTER is down", "masterdown", 1),
        ("CLUSTERDOWN The cluster is down", "clusterdown", 2),
        ("OOM command not allowed when used memory > 'maxmemory'.", "oom", 1),
        ("MISCONF Redis is configured to save RDB snapshots", "readonly", 1),
        ("MOVED 3999 127.0.0.1:6381", "config", 1),
        ("ERR unknown command", "protocol", 2),
    )
    for reply, kind, status in replies:
        rows.append(Row(f"redis says {reply.split()[0]}", says(reply), all_scripts(kind, status)))
    return rows


def _noise(name: str, data: bytes, kinds: str, status: int = 2) -> Row:
    return Row(
        f"redis sends {name}", proxied(lambda: refusing({"*": data})), health_only(kinds, status)
    )


ROWS = tuple(
    replace(row, group="redis", options=replace(row.options, clients=6, preload=5))
    for row in (
        *_plain_rows(),
        Row("redis: NOPERM for PING", may_not("ping"), health_only("noperm", 1), _names("ping")),
        Row(
            "redis: NOPERM for INFO",
            may_not("info"),
            {"health_check": Expect({"redis-cache-figures": classes("noperm")}, (1,))},
            _names("info"),
        ),
        Row(
            "redis: NOPERM for SLOWLOG",
            may_not("slowlog"),
            {"health_check": Expect({}, (0, 1))},
            _in_details("slowlog"),
        ),
        Row("redis: NOPERM for SCAN", may_not("scan"), scanning("noperm"), _names("scan")),
        Row("redis: NOPERM for MGET", may_not("mget"), scanning("noperm"), _names("mget")),
        *(
            Row(
                f"redis: NOPERM for {word.upper()}",
                hashes(may_not(word)),
                lesser(scripts),
                _names(word),
            )
            for word, scripts in LESSER.items()
        ),
        Row("redis: failover during a scan", failover, scanning("connect|masterdown")),
        _noise("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        _noise("garbage", b"\x00\xff\xfe what?\r\n", "protocol"),
        _noise("a reply of 2 GB", b"$2147483647\r\nx", "timeout|protocol|too_large", 2),
        _noise("an array of a billion", b"*1000000000\r\n", "timeout|protocol|too_large", 2),
        Row(
            "redis resets every command",
            proxied(lambda: lambda command, number: _hang_up),
            health_only("connect", 2),
        ),
    )
)
