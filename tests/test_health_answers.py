"""What a service answers, look by look, through the script: what is down, what is our own mistake,
what a part says inside an answer that says UP."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

from sandbox.redis_server import start as start_redis
from tests.raw_server import RawServer, http
from tests.scripts import run

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cases" / "health.jsonl").read_text().splitlines()
]
UP = {"service": "Payment-EAPI", "status": "UP"}
PAGE = '<html><body><form action="/sso">sign in</form></body></html>'


class Eapi:
    """Payment-EAPI whose health answers as `answer` says, asked by health_check from cron."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer = http()
        self.settings: dict[str, Any] = {
            "SERVICE_PATHS": {"payment-eapi": {"detailed": "", "metrics": ""}}
        }
        self.server = RawServer(self._say)

    def _say(self, wire: socket.socket, _request: bytes) -> None:
        wire.sendall(self.answer)

    def look(self, **environ: str) -> Mapping[str, Any]:
        """One run; its result, with the exit status under `exit`."""
        config, result = self.folder / "more.yaml", self.folder / "result.json"
        config.write_text(json.dumps(self.settings))
        env = {"EAPI_ENDPOINT": self.server.url, "MONITORING_STATE_DIR": str(self.folder / "state")}
        words = ("--single-run", "--component", "payment-eapi", "--output", str(result))
        done = run(
            "health_check", *words, "--config", str(config), env={**env, **environ}, cwd=self.folder
        )
        return {**json.loads(result.read_text()), "exit": done.returncode}

    def looks(self, body: Any, times: int = 1, **how: Any) -> Mapping[str, Any]:
        """So many looks at one answer; the last result."""
        raw = body if isinstance(body, (bytes, str)) else json.dumps(body)
        self.answer = http(raw.encode() if isinstance(raw, str) else raw, **how)
        return [self.look() for _ in range(times)][-1]


@pytest.fixture
def eapi(tmp_path: Path) -> Iterator[Eapi]:
    made = Eapi(tmp_path)
    with made.server:
        yield made


def row(result: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result["components"]["payment-eapi"]
    return found


def fires(result: Mapping[str, Any]) -> list[str]:
    return [a["metric"] for a in result["alerts"] if a["state"] == "firing"]


def figures(result: Mapping[str, Any]) -> dict[str, Optional[float]]:
    name = "payment_api_dependency_status"
    rows = [m for m in result["metrics"] if m["name"] == name]
    return {m["labels"]["dependency"]: m["value"] for m in rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_each_case_is_told_as_it_must(case: Mapping[str, Any], eapi: Eapi) -> None:
    eapi.settings["STATUS_WORDS"] = case.get("word", {})
    for _ in range(case.get("before", 0)):
        assert eapi.looks(UP)["status"] == "ok"
    outage = case["expect"].startswith("critical after")
    headers = {"Content_Type": case.get("type", "application/json")}
    headers["Location"] = case.get("location", "")
    raw = case.get("raw", case.get("body"))
    result = eapi.looks(raw, 3 if outage else 1, status=f"{case['http']} X", **headers)
    status = row(result)["status"]
    if outage:
        assert (status, row(result)["up"], fires(result)) == ("critical", False, ["health_status"])
    elif case["expect"] == "bad":
        assert status in ("warning", "critical")
    elif case["expect"].startswith("not ok"):
        assert status == "unknown"
        assert "SERVICE_PATHS" in row(result)["message"]
    else:
        assert status == case["expect"]
    assert case.get("names", "") in row(result)["message"]


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [
        ("an empty body where a word came", http(b"")),
        ("204 where a word came", http(b"", "204 No Content")),
        ("an empty object", http(b"{}")),
        ("an error inside 200", http(b'{"error": "unavailable"}')),
        ("JSON of something else", http(b'{"name": "grafana", "database": "ok"}')),
        ("an API's word that is none of health", http(b'{"status": "success", "data": {}}')),
        ("SAPI's answer", http(b'{"service": "Payment-SAPI", "status": "UP"}')),
        ("a page that calls itself JSON", http(PAGE.encode(), Content_Type="application/json")),
        ("a login page with 401", http(PAGE.encode(), "401 Unauthorized")),
        ("a wish for credentials out of nowhere", http(b"", "403 Forbidden")),
        ("no such path any more", http(b'{"status": 404}', "404 Not Found")),
        ("a redirect to another host", http(b"", "302 Found", Location="http://127.0.0.2/sso")),
        ("more than anybody reads", http(b" " * (1 << 21))),
        ("a body that breaks off", http(b'{"status"', Content_Length="500")),
        ("bytes", http(b"\xff\xfe\x00")),
        ("a page after many line ends", http(b"\n" * 400 + PAGE.encode())),
        ("a word and much else behind it", http(b"OK" + b" " * 300 + b"but this is a page")),
    ],
)
def test_what_stands_in_for_a_dead_service_is_an_outage(
    sentence: str, answer: bytes, eapi: Eapi
) -> None:
    eapi.answer = answer
    assert row(eapi.look())["status"] != "critical", f"{sentence}: it never answered, so it is ours"
    assert eapi.looks(UP, 2)["status"] == "ok"
    eapi.answer = answer
    results = [eapi.look() for _ in range(3)]
    assert [result["exit"] for result in results] == [2, 2, 2], sentence
    assert fires(results[-1]) == ["health_status"], sentence
    assert "outage" in row(results[0])["message"]


@pytest.mark.parametrize(
    ("sentence", "body", "how"),
    [
        ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(UP).encode(), {}),
        ("UTF-16", json.dumps(UP).encode("utf-16"), {}),
        (
            "latin-1, as declared",
            '{"status": "UP", "ort": "Zürich"}'.encode("latin-1"),
            {"Content_Type": "application/json; charset=ISO-8859-1"},
        ),
        ("latin-1, undeclared", '{"status": "UP", "ort": "Zürich"}'.encode("latin-1"), {}),
        ("a bare word", b"OK\n", {"Content_Type": "text/plain"}),
        ("a liveness path", b"", {}),
        ("keys and words in another case", b'{"Status": "Healthy"}', {}),
    ],
)
def test_what_is_an_answer_all_the_same(
    sentence: str, body: bytes, how: Mapping[str, str], eapi: Eapi
) -> None:
    assert eapi.looks(body, **how)["exit"] == 0, sentence


def test_our_own_token_running_out_is_no_outage(eapi: Eapi) -> None:
    token = "a-token-of-the-monitor-1"
    eapi.answer = http(json.dumps(UP).encode())
    assert eapi.look(MONITORING_AUTH_TOKEN=token)["status"] == "ok"
    eapi.answer = http(b'{"error": "token expired"}', "401 Unauthorized")
    found = row(eapi.look(MONITORING_AUTH_TOKEN=token))
    assert (found["status"], found["error"]) == ("unknown", "auth")


def test_another_address_has_answered_nothing_yet(eapi: Eapi) -> None:
    eapi.looks(UP, 2)
    eapi.settings["SERVICE_PATHS"]["payment-eapi"]["health"] = "/helth"
    assert row(eapi.looks(PAGE))["status"] == "unknown"


def test_a_detailed_answer_that_is_gone_is_a_warning(eapi: Eapi) -> None:
    eapi.settings["SERVICE_PATHS"]["payment-eapi"]["detailed"] = "/detailed"
    assert eapi.looks(UP, 2)["status"] == "ok"
    eapi.server._say = lambda wire, request: wire.sendall(
        http(PAGE.encode()) if b"/detailed" in request else http(json.dumps(UP).encode())
    )
    found = row(eapi.look())
    assert (found["status"], found["up"]) == ("warning", True)
    assert "detailed health" in found["message"]


@pytest.mark.parametrize(
    ("body", "status", "values"),
    [
        # MicroProfile, health+json, ASP.NET, Dropwizard
        ({"status": "UP", "checks": [{"name": "db", "status": "DOWN"}]}, "warning", {"db": 0.0}),
        (
            {"status": "pass", "checks": {"db:time": [{"status": "pass"}, {"status": "fail"}]}},
            "warning",
            {"db:time": 0.0},
        ),
        (
            {"Status": "Healthy", "Entries": {"sql": {"Status": "Unhealthy"}}},
            "warning",
            {"sql": 0.0},
        ),
        ({"db": {"healthy": True}, "mq": {"healthy": False}}, "warning", {"db": 1.0, "mq": 0.0}),
        ({"db": {"healthy": True}}, "ok", {"db": 1.0}),
        ({"db": {"healthy": True}, "mq": {"message": "?"}}, "unknown", {"db": 1.0}),
        ([{"name": "db", "healthy": True}], "ok", {"db": 1.0}),
        # breakers: Hystrix in Boot 1, Resilience4j forced open, half open, one of ours behind it
        ({"status": "UP", "hystrix": {"status": "CIRCUIT_OPEN"}}, "warning", {"hystrix": 0.0}),
        (
            {
                "status": "UP",
                "components": {
                    "circuitBreakers": {
                        "status": "UNKNOWN",
                        "details": {
                            "redis": {
                                "status": "UNKNOWN",
                                "details": {"failureRate": "-1.0%", "state": "FORCED_OPEN"},
                            }
                        },
                    }
                },
            },
            "warning",
            {"circuitBreakers": 0.0, "circuitBreakers/redis": 0.0},
        ),
        (
            {"status": "UP", "components": {"b": {"status": "CIRCUIT_HALF_OPEN"}}},
            "warning",
            {"b": 1.0},
        ),
        # ours to judge, whatever the service says
        ({"status": "UP", "redisCache": "DOWN", "paymentSapi": "UP"}, "ok", {"redisCache": 0.0}),
        # deep, and behind many
        (
            {
                "status": "UP",
                "components": {
                    **{f"c{n}": {"status": "UP"} for n in range(200)},
                    "z": {"status": "UP", "components": {"y": {"status": "out-of-service"}}},
                },
            },
            "warning",
            {"z/y": 0.0},
        ),
        ({"status": "UP", "components": {"db": {"status": "FATAL"}}}, "warning", {"db": 0.0}),
    ],
)
def test_parts_inside_an_answer(
    body: Any, status: str, values: Mapping[str, float], eapi: Eapi
) -> None:
    eapi.settings["STATUS_WORDS"] = {"fatal": "critical"}
    result = eapi.looks(body)
    assert row(result)["status"] == status
    assert {name: figures(result)[name] for name in values} == values


def test_a_part_in_trouble_is_said_by_an_alert_and_ends(eapi: Eapi) -> None:
    result = eapi.looks({"status": "UP", "components": {"db": {"status": "DOWN"}}}, 2)
    (told,) = [a for a in result["alerts"] if a["state"] == "firing"]
    assert (told["metric"], told["severity"]) == ("health_status", "warning")
    assert "db DOWN" in told["summary"]
    assert fires(eapi.looks(UP, 2)) == []


def test_a_misspelt_meaning_is_named(eapi: Eapi) -> None:
    eapi.settings["STATUS_WORDS"] = {"FATAL": "bad"}
    (eapi.folder / "result.json").write_text("{}")
    assert eapi.looks(UP)["exit"] == 3


@pytest.mark.parametrize(
    ("config", "connections", "status", "said"),
    [
        ({"min-replicas-to-write": "1"}, 0, "warning", "refuses every write"),
        ({"maxclients": "40"}, 38, "critical", "connections used"),
        ({"maxclients": "200"}, 38, "ok", ""),
    ],
)
def test_a_real_cache_that_soon_serves_nobody(  # noqa: PLR0917 - a table
    config: Mapping[str, str], connections: int, status: str, said: str, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    with start_redis(config, tmp_path / "redis") as server, contextlib.ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        env = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        env["MONITORING_STATE_DIR"] = str(tmp_path / "state")
        words = ("--single-run", "--component", "redis-cache", "--output", str(result))
        run("health_check", *words, env=env, cwd=tmp_path)
    found = json.loads(result.read_text())["components"]["redis-cache"]
    assert (found["status"], found["up"]) == (status, True)
    assert said in found["message"]
