"""The history of a Prometheus-compatible server: recorded replies, and a real server."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import HistorySettings, TlsSettings
from monitoring.http.client import HttpClient
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import FAULT_KINDS, Fault
from monitoring.store import lookback as history
from monitoring.store.history import LocalHistory
from monitoring.store.lookback import HistoryError, Point
from monitoring.store.prometheus_history import (
    MAX_POINTS,
    PrometheusHistory,
    open_history,
    query,
    step_for,
)
from monitoring.store.state import State

MS = "payment_api_response_time_ms"
DAY = 86400.0
NOW = 20000 * DAY


class Door:
    """An HttpClient that gives recorded answers and remembers what it was asked."""

    def __init__(self, status: int, body: object, fault: Optional[Fault] = None) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.reply = Reply(status, {"content-type": "?"}, text, 0.1, {}, "http://prometheus:9090")
        self.fault = fault
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def get(self, url: str, *, headers: Mapping[str, str], **_: Any) -> Reply:
        self.asked.append((url, headers))
        if self.fault:
            raise HttpFault(self.fault)
        return self.reply

    @property
    def params(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.asked[-1][0]).query).items()}


def matrix(*entries: object, **more: object) -> dict[str, object]:
    data = {"resultType": "matrix", "result": list(entries)}
    return {"status": "success", "data": data, **more}


def entry(stat: str, values: object, **labels: str) -> dict[str, object]:
    return {"metric": {"payment_api_stat": stat, **labels}, "values": values}


def ask(door: Door, **more: Any) -> list[history.Series]:
    settings = HistorySettings(prometheus_url="http://prometheus:9090", **more)
    return PrometheusHistory(door, settings).series(MS, {"component": "a"}, NOW - 600, NOW)


def test_the_four_figures_of_each_label_set_become_points() -> None:
    door = Door(
        200,
        matrix(
            entry("mean", [[NOW - 60, "50.5"], [NOW, "60"]], component="b"),
            entry("low", [[NOW - 60, "40"], [NOW, "60"]], component="b"),
            entry("high", [[NOW - 60, "61"], [NOW, "60"]], component="b"),
            entry("n", [[NOW - 60, "4"], [NOW, "1"]], component="b"),
            entry("mean", [[NOW, "7"]], component="a"),
        ),
    )
    first, second = ask(door)
    assert first.labels == {"component": "a"}
    assert first.points == (Point(NOW, 60.0, 7.0, 7.0, 7.0, 1),)
    assert second.points == (
        Point(NOW - 60, 60.0, 50.5, 40.0, 61.0, 4),
        Point(NOW, 60.0, 60.0, 60.0, 60.0, 1),
    )
    assert second.warnings == ()


def test_nan_and_infinity_are_not_measured() -> None:
    values = [[NOW - 180, "NaN"], [NOW - 120, "+Inf"], [NOW - 60, "-Inf"], [NOW, "1e3"]]
    (series,) = ask(Door(200, matrix(entry("mean", values, component="a"))))
    assert [point.mean for point in series.points] == [1000.0]
    assert ask(Door(200, matrix(entry("mean", [[NOW, "NaN"]], component="a")))) == []


def test_warnings_mean_incomplete() -> None:
    body = matrix(entry("mean", [[NOW, "1"]], component="a"), warnings=["store x\nis down"])
    (series,) = ask(Door(200, body))
    assert series.warnings == ("store x\\nis down",)
    with pytest.raises(HistoryError, match="incomplete, empty answer: store x"):
        ask(Door(200, matrix(warnings=["store x is down"])))
    assert ask(Door(200, matrix())) == []


def test_path_headers_and_params_are_sent(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer s3cret\n")
    door = Door(200, matrix())
    settings = HistorySettings(
        prometheus_url="https://mimir.example/prometheus/",
        prometheus_headers={
            "X-Scope-OrgID": Secret("team"),
            "Authorization": Secret(path=str(token)),
        },
        prometheus_params={"dedup": "true", "partial_response": "true"},
    )
    PrometheusHistory(door, settings).series(MS, {}, NOW - 600, NOW)
    url, headers = door.asked[0]
    assert url.startswith("https://mimir.example/prometheus/api/v1/query_range?")
    assert headers == {"X-Scope-OrgID": "team", "Authorization": "Bearer s3cret"}
    assert (door.params["dedup"], door.params["partial_response"]) == ("true", "true")


def test_labels_are_quoted() -> None:
    text = query(MS, {"component": 'a"}\\\n', "environment": "prod"}, 60)
    assert r'{component="a\"}\\\n",environment="prod"}[120s]' in text
    assert "by (component)" in text


def test_a_name_that_is_not_in_the_catalogue_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        PrometheusHistory(Door(200, matrix()), HistorySettings()).series("nope", {}, 0, 1)


@pytest.mark.parametrize(
    ("days", "step"),
    [(0.01, 60), (1, 60), (7, 60), (7.6, 60), (7.7, 120), (30, 240), (90, 720), (3650, 28680)],
)
def test_step_keeps_below_the_limit_of_points(days: float, step: float) -> None:
    assert step_for(NOW - days * DAY, NOW) == step
    assert days * DAY / step <= MAX_POINTS


@pytest.mark.parametrize("length", [600.0, 601.0, 30.0, 7 * DAY, 31 * DAY + 17])
def test_start_and_end_lie_on_the_grid_inside_the_window(length: float) -> None:
    door = Door(200, matrix())
    start, end = NOW + 13.5, NOW + 13.5 + length
    PrometheusHistory(door, HistorySettings()).series(MS, {}, start, end)
    asked = {key: float(door.params[key]) for key in ("start", "end", "step")}
    assert asked["start"] % asked["step"] == asked["end"] % asked["step"] == 0
    assert start < asked["start"] <= asked["end"]
    assert asked["end"] <= end or asked["end"] == asked["start"]
    assert (asked["end"] - asked["start"]) / asked["step"] < MAX_POINTS


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            400,
            {"status": "error", "errorType": "bad_data", "error": "no\x1b[1m"},
            "http",
            "bad_data",
        ),
        (401, b"<html>no</html>", "auth", "credentials"),
        (403, b"", "auth", "credentials"),
        (404, b"404 page not found", "http", "/prometheus for Mimir"),
        (422, {"status": "error", "errorType": "execution", "error": "x"}, "http", "shorten"),
        (429, b"", "busy", "retry later"),
        (503, {"status": "error", "errorType": "timeout", "error": "x"}, "timeout", "lookback"),
        (500, {"status": "error", "errorType": "timeout", "error": "x"}, "timeout", "lookback"),
        (502, b"<html>bad gateway</html>", "http", "502"),
        (200, b"<html>login</html>", "body", "not JSON"),
        (200, {"status": "error", "error": "odd"}, "body", "odd"),
        (200, [1, 2], "body", "200"),
        (200, {"status": "success", "data": {"resultType": "vector"}}, "body", "no matrix"),
        (200, {"status": "success"}, "body", "no matrix"),
        (200, matrix({"metric": {}, "values": [[1]]}), "body", "malformed"),
        (200, matrix({"metric": {}, "values": [[1, "x"]]}), "body", "malformed"),
        (200, matrix("text"), "body", "malformed"),
    ],
)
def test_errors_have_their_class(status: int, body: object, kind: str, says: str) -> None:
    with pytest.raises(HistoryError, match=says) as caught:
        ask(Door(status, body))
    assert caught.value.fault.kind == kind
    assert kind in FAULT_KINDS
    assert str(caught.value).isprintable()


def test_no_answer_keeps_its_fault() -> None:
    with pytest.raises(HistoryError) as caught:
        ask(Door(0, b"", Fault("refused", "nothing listens on prometheus:9090")))
    assert caught.value.fault.kind == "refused"


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    headers = {"Authorization": Secret(path=str(tmp_path / "none"))}
    with pytest.raises(HistoryError, match="secret of a header") as caught:
        ask(Door(200, matrix()), prometheus_headers=headers)
    assert caught.value.fault.kind == "config"


def test_the_setting_picks_the_history(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    local = open_history(state, HistorySettings(), lambda: pytest.fail("not needed"))
    assert isinstance(local, LocalHistory)
    settings = HistorySettings(prometheus_url="http://x")
    remote = open_history(state, settings, lambda: Door(200, matrix()))
    assert isinstance(remote, PrometheusHistory)
    state.close()


# -- a real server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A Prometheus with six hours of backfilled samples; its base URL."""
    program, tool = shutil.which("prometheus"), shutil.which("promtool")
    if not program or not tool:
        pytest.skip("prometheus and promtool are not on PATH (apt install prometheus)")
    begin = math.floor(time.time() / 7200) * 7200 - 6 * 3600
    lines = [f"# TYPE {MS} gauge"]
    for turn in range(6 * 60):
        if not 120 <= turn < 180:  # an hour in which nobody looked
            value = 100 if turn % 2 else 50
            at = begin + 60 * turn
            pod = "old" if turn < 240 else "new"  # the monitor was restarted elsewhere
            lines.append(f'{MS}{{component="redis-cache",instance="{pod}"}} {value} {at}')
            lines.append(f'{MS}{{component="conjur-vault",instance="{pod}"}} 7 {at}')
    (tmp_path / "in.om").write_text("\n".join([*lines, "# EOF", ""]))
    data = tmp_path / "data"
    command = [tool, "tsdb", "create-blocks-from", "openmetrics", tmp_path / "in.om", data]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    port = free_port()
    process = subprocess.Popen(
        [
            *(program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={data}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--web.route-prefix=/prometheus"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}/prometheus"
    try:
        _wait_ready(base)
        yield base
    finally:
        process.kill()
        process.wait()


def _wait_ready(base: str) -> None:
    client = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="test")
    for _ in range(600):
        try:
            if client.get(f"{base}/-/ready").status == 200:
                return
        except HttpFault:
            pass
        time.sleep(0.1)  # the only way to ask a foreign process whether it is up
    pytest.fail("prometheus did not become ready in a minute")


@pytest.mark.prometheus
def test_a_real_prometheus(server: str) -> None:
    begin = math.floor(time.time() / 7200) * 7200 - 6 * 3600
    client = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="test")
    reader = PrometheusHistory(client, HistorySettings(prometheus_url=server))
    vault, cache = reader.series(MS, {}, begin - 60, begin + 6 * 3600)
    assert (vault.labels, cache.labels) == (
        {"component": "conjur-vault"},
        {"component": "redis-cache"},
    )
    assert {point.mean for point in vault.points} == {7.0}
    assert sum(p.mean for p in cache.points) / len(cache.points) == pytest.approx(75, abs=0.5)
    assert {(p.low, p.high) for p in cache.points} >= {(50.0, 100.0)}
    gap = [p for p in cache.points if begin + 122 * 60 <= p.at < begin + 179 * 60]
    assert gap == []
    assert sum(p.seconds for p in cache.points) == pytest.approx(5 * 3600, abs=240)
    (one,) = reader.series(MS, {"component": "conjur-vault"}, begin - 90 * DAY, begin + 6 * 3600)
    assert one.points[-1].n > 3
    wrong = PrometheusHistory(client, HistorySettings(prometheus_url=server[: -len("/prometheus")]))
    with pytest.raises(HistoryError) as caught:
        wrong.series(MS, {}, begin, begin + 600)
    assert caught.value.fault.kind in ("http", "body")
