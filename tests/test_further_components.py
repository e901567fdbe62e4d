"""`COMPONENTS`: what a user adds is watched like the five."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monitoring.config import schema as further
from monitoring.config.secret import Secret
from sandbox import redis_server
from sandbox.options import Options
from sandbox.stack import Stack
from sandbox.tls import Authority, server_context
from tests.faults.servers import RawServer, http, politely
from tests.scripts import run

SIX = "ledger-database"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=3, preload=5, traffic=False)) as running:
        yield running


@pytest.fixture
def env(stack: Stack, tmp_path: Path) -> Mapping[str, str]:
    return {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def check(env: Mapping[str, str], folder: Path, rows: Any, *words: str) -> Any:
    config = folder / "more.py"
    config.write_text(f"COMPONENTS = {rows!r}\n")
    words = ("--single-run", "--config", str(config), "--output", str(folder / "r.json"), *words)
    return run("health_check", *words, env=env, cwd=folder)


def found(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return document


def test_a_port_that_accepts(env: Mapping[str, str], tmp_path: Path, listening: int) -> None:
    rows = {SIX: {"kind": "tcp", "host": "127.0.0.1", "port": listening}}
    done = check(env, tmp_path, rows)
    assert done.returncode == 0, done.stderr
    components = found(tmp_path)["components"]
    assert len(components) == 6
    assert components[SIX]["status"] == "ok"
    assert components[SIX]["response_time_ms"] >= 0
    page = run("health_check", "--single-run", "--config", str(tmp_path / "more.py"), "--output",
               str(tmp_path / "r.prom"), env=env, cwd=tmp_path)  # fmt: skip
    assert page.returncode == 0
    text = (tmp_path / "r.prom").read_text()
    assert f'payment_api_health_status{{component="{SIX}"}} 1.0' in text
    assert f'payment_api_sla_target_ratio{{component="{SIX}"}} 0.999' in text
    levels = run("health_check", "--sla", "--format", "json", "--config",
                 str(tmp_path / "more.py"), env=env, cwd=tmp_path)  # fmt: skip
    assert SIX in levels.stdout


def test_a_closed_port_is_told_after_the_hysteresis(env: Mapping[str, str], tmp_path: Path) -> None:
    rows = {SIX: {"kind": "tcp", "address": f"127.0.0.1:{closed_port()}"}}
    for _ in range(3):
        done = check(env, tmp_path, rows)
    assert done.returncode == 2
    components = found(tmp_path)["components"]
    assert (components[SIX]["status"], components[SIX]["error"]) == ("critical", "refused")
    assert {row["status"] for name, row in components.items() if name != SIX} == {"ok"}
    firing = [row for row in found(tmp_path)["alerts"] if row["state"] == "firing"]
    assert [(row["component"], row["metric"]) for row in firing] == [(SIX, "health_status")]


def test_asked_alone_and_misspelt(env: Mapping[str, str], tmp_path: Path, listening: int) -> None:
    rows = {SIX: {"kind": "tcp", "host": "127.0.0.1", "port": listening}}
    assert check(env, tmp_path, rows, "--component", SIX).returncode == 0
    assert set(found(tmp_path)["components"]) == {SIX}
    wrong = check(env, tmp_path, rows, "--component", "ledger-databse")
    assert wrong.returncode == 3
    assert f"did you mean {SIX}?" in wrong.stderr


GOOD = (((), 200), ((), 299), (204, 204), ([200, 503], 503))
BAD = (((), 300), ((), 404), ((), 500), (204, 200))


@pytest.mark.parametrize(("status", "answered"), [*GOOD, *BAD])
def test_http(env: Mapping[str, str], tmp_path: Path, status: Any, answered: int) -> None:
    with RawServer(politely(http(b"", status=f"{answered} Said"))) as server:
        row = {"kind": "http", "url": f"http://127.0.0.1:{server.port}/ready"}
        check(env, tmp_path, {"partner": {**row, **({"status": status} if status else {})}})
    component = found(tmp_path)["components"]["partner"]
    good = (status, answered) in GOOD
    assert component["status"] == ("ok" if good else "critical")
    assert good or str(answered) in component["message"]


def test_redis_with_a_password(env: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "word").write_text("geheim-geheim\n")
    with redis_server.start({"requirepass": "geheim-geheim"}, tmp_path / "redis") as server:
        row = {"kind": "redis", "host": "127.0.0.1", "port": server.port}
        rows = {"other": row, "one": {**row, "password_file": str(tmp_path / "word")}}
        check(env, tmp_path, rows)
    components = found(tmp_path)["components"]
    assert components["one"]["status"] == "ok"
    assert (components["other"]["status"], components["other"]["error"]) == ("unknown", "auth")


def test_a_certificate(env: Mapping[str, str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    context = server_context(authority.issue("ledger"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                    context.wrap_socket(link, server_side=True).close()
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        row = {"kind": "tls", "host": "127.0.0.1", "port": listener.getsockname()[1]}
        rows = {"ledger": {**row, "ca_file": str(authority.ca_file)}, "strange": row}
        check(env, tmp_path, rows)
    components = found(tmp_path)["components"]
    assert components["ledger"]["status"] == "ok"
    assert components["ledger"]["details"]["tls"]["days_left"] == pytest.approx(90, abs=1)
    assert (components["strange"]["status"], components["strange"]["error"]) == ("critical", "tls")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (5432, "write a dict"),
        ({}, "write its kind"),
        ({"kind": "udp"}, "kind:"),
        ({"kind": "tcp", "host": "h"}, "kind tcp needs port"),
        ({"kind": "tcp"}, "needs host and port"),
        ({"kind": "tcp", "host": "h", "port": 0}, "port:"),
        ({"kind": "tcp", "host": "h", "port": 1, "url": "http://h"}, "url means nothing"),
        ({"kind": "http", "url": "ftp://h"}, "url:"),
        ({"kind": "http", "url": "http://h", "status": 99}, "status:"),
        ({"kind": "http", "url": "http://h", "status": []}, "status:"),
        ({"kind": "tcp", "host": "h", "port": 1, "target": 100}, "target:"),
        ({"kind": "tcp", "host": "h", "prot": 1}, "there is no 'prot'"),
    ],
)
def test_a_row_that_cannot_be_used(row: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        further.component(row)


@pytest.mark.parametrize("name", ["payment-eapi", "overall", "Ledger", "", "a" * 41, "1a", 7])
def test_a_name_that_cannot_be_used(name: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        further.name(name)
    assert further.name("a" * 40) == "a" * 40


def test_the_whole_row() -> None:
    row = {"kind": "redis", "address": "h:1", "password_file": "/p", "ssl": True, "timeout": "2s"}
    made = further.component({**row, "verify": False, "target": 99})
    assert (made.host, made.port, made.password) == ("h", 1, Secret(path="/p"))
    assert (made.ssl, made.tls.verify, made.timeout, made.target) == (True, False, 2.0, 0.99)


def test_a_mistake_in_it_is_one_sentence_of_many(env: Mapping[str, str], tmp_path: Path) -> None:
    done = check(env, tmp_path, {SIX: {"kind": "tcp"}, "overall": {"kind": "tcp"}})
    assert done.returncode == 3
    assert f"COMPONENTS['{SIX}']" in done.stderr
    assert "overall is a name of ours" in done.stderr
    assert "Traceback" not in done.stderr
