"""The web demo: what the page gets, what its switches do, that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator
from urllib.parse import urlsplit

import pytest

from sandbox import observers, redis_server, web_demo
from sandbox.web_told import told
from tests.deploying import ROOT

pytestmark = [
    pytest.mark.xdist_group("ecosystem"),
    pytest.mark.skipif(redis_server.find_binary() is None, reason="no real Redis server"),
]

PROGRAM = """
import pathlib, sys
from sandbox import web_demo
from sandbox.options import Options
from sandbox.stack import Stack
with Stack(Options(clients=4, preload=10)) as stack:
    sys.exit(web_demo.serve(stack, pathlib.Path(sys.argv[1]), interval=1))
"""


def eventually(look: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    folder = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout
    line = next(line for line in process.stdout if line.startswith("Open "))
    yield process, line.split()[1]
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


def state(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(observers.get(f"{url}/state"))
    return found


def post(url: str, body: bytes, kind: str = "application/json") -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/faults", body, {"Content-Type": kind})
        return connection.getresponse().status


def test_the_page_gets_what_the_scripts_wrote(demo: tuple[Any, str]) -> None:
    _, url = demo

    def all_ran() -> bool:
        return all(row["at"] for row in state(url)["scripts"])

    eventually(all_ran, "each script has finished a cycle")
    found = state(url)
    assert [row["name"] for row in found["scripts"]] == list(web_demo.OUTPUTS)
    assert {row["name"] for row in found["components"]} >= {"payment-eapi", "redis-cache"}
    assert found["figures"][0]["name"] == "live tokens"
    assert found["figures"][0]["value"] > 0
    assert "health_check /metrics" in found["links"]
    for name, link in found["links"].items():
        assert urllib.request.urlopen(link, timeout=10).status == 200, name


def test_a_fault_is_switched_seen_and_told(demo: tuple[Any, str]) -> None:
    _, url = demo
    assert post(url, b'{"name":"sapi-500","on":true}') == 200
    sapi = {"name": "payment-sapi", "status": "critical"}
    eventually(
        lambda: any(sapi.items() <= row.items() for row in state(url)["components"]),
        "payment-sapi is shown as down",
    )
    eventually(lambda: any("sapi" in row["text"] for row in state(url)["told"]), "it is told")
    assert post(url, b'{"name":"sapi-500","on":false}') == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"name":"smtp-refuse","on":true}', "application/json"),
        (b"[]", "application/json"),
        (b"nonsense", "application/json"),
        (b'{"name":"sapi-500","on":true}', "text/plain"),
    ],
)
def test_nothing_else_is_switched(demo: tuple[Any, str], body: bytes, kind: str) -> None:
    """Least of all by another page in the same browser, which cannot send JSON."""
    assert post(demo[1], body, kind) == 400


def test_the_report_is_html(demo: tuple[Any, str]) -> None:
    assert observers.get(f"{demo[1]}/report", timeout=60).startswith(b"<!doctype html>")


@pytest.mark.chromium
@pytest.mark.skipif(not observers.find("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_a_browser_shows_it(demo: tuple[Any, str], scheme: str, tmp_path: Path) -> None:
    """Headless Chromium runs the page's script and finds components in it."""
    done = subprocess.run(
        [
            str(observers.find("chromium")),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000"),
            f"--user-data-dir={tmp_path}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--dump-dom",
            demo[1],
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert '<div class="name">redis-cache</div>' in done.stdout, done.stderr[-2000:]
    assert "HTML report" in done.stdout


def test_it_ends_when_asked_and_leaves_nothing(demo: tuple[Any, str]) -> None:
    process, url = demo
    children = [
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and _parent(int(pid)) == process.pid
    ]
    assert len(children) >= 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    eventually(lambda: not any(_alive(pid) for pid in children), "every child is gone")
    with pytest.raises(OSError, match="refused"):
        observers.get(url)


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_messages_of_every_channel_become_lines() -> None:
    arrived: dict[str, list[dict[str, Any]]] = {
        "slack": [
            {"at": "3", "body": {"text": "RESOLVED after 2 min: it is over"}},
            {"at": "0", "body": "?"},
        ],
        "pagerduty": [
            {
                "at": "2",
                "body": {"event_action": "trigger", "payload": {"summary": "CRITICAL: down"}},
            },
            {
                "at": "4",
                "body": {
                    "event_action": "resolve",
                    "dedup_key": "dev/health_check/redis-cache/up/",
                },
            },
        ],
        "webhook": [
            {
                "at": "1",
                "body": {
                    "receiver": "page",
                    "alerts": [
                        {
                            "status": "firing",
                            "labels": {"severity": "critical"},
                            "annotations": {"summary": "x"},
                        }
                    ],
                },
            }
        ],
        "smtp": [{"at": "5", "subject": "[payment-api] WARNING: slow"}],
    }
    rows = told(lambda kind: arrived[kind])
    assert [(row["channel"], row["state"], row["text"]) for row in rows] == [
        ("mail", "warning", "WARNING: slow"),
        ("pagerduty", "resolved", "resolved: redis-cache up"),
        ("slack", "resolved", "RESOLVED after 2 min: it is over"),
        ("pagerduty", "critical", "CRITICAL: down"),
        ("alertmanager", "critical", "page: x"),
    ]
