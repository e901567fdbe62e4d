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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable
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
    assert "health metrics" in found["links"]
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


def at(second: int) -> str:
    return f"2026-11-25T02:00:{second:02}.000+00:00"


def test_what_every_channel_was_told_becomes_one_line() -> None:
    down = "redis-cache is down: no answer"
    trigger = {"event_action": "trigger", "dedup_key": "dev/health_check/redis-cache/up/"}
    arrived: dict[str, list[dict[str, Any]]] = {
        "slack": [
            {"at": at(0), "body": "?"},
            {"at": at(1), "body": {"text": f"CRITICAL: {down}\nWARNING: it is slow"}},
            {"at": at(40), "body": {"text": f"RESOLVED after 2 min: {down}"}},
        ],
        "pagerduty": [
            {"at": at(2), "body": {**trigger, "payload": {"summary": f"CRITICAL: {down}"}}},
            {"at": at(41), "body": {**trigger, "event_action": "resolve"}},
            {"at": at(50), "body": {"event_action": "resolve", "dedup_key": "a/b/c/d/"}},
        ],
        "webhook": [
            {
                "at": at(30),
                "body": {
                    "receiver": "page",
                    "alerts": [
                        {
                            "status": "firing",
                            "labels": {"severity": "critical"},
                            "annotations": {"summary": down},
                        }
                    ],
                },
            }
        ],
        "smtp": [{"at": at(3), "subject": f"[payment-api] CRITICAL: {down} (and 1 more)"}],
    }
    rows = told(lambda kind: arrived[kind])
    assert [(r["at"], r["channels"], r["state"], r["text"], r["note"]) for r in rows] == [
        (at(50), ["pagerduty"], "resolved", "c d", ""),
        (at(40), ["slack", "pagerduty"], "resolved", down, "after 2 min"),
        (at(30), ["alertmanager: page"], "critical", down, ""),  # later: said again
        (at(1), ["slack"], "warning", "it is slow", ""),
        (at(1), ["slack", "pagerduty", "mail"], "critical", down, ""),
    ]


def cycle(status: str, *firing: tuple[str, str], **components: bool) -> dict[str, Any]:
    return {
        "status": status,
        "components": {name.replace("_", "-"): {"up": up} for name, up in components.items()},
        "alerts": [
            {"state": "firing", "severity": severity, "summary": summary}
            for severity, summary in firing
        ],
    }


@pytest.mark.parametrize(
    ("results", "status", "sentence"),
    [
        ([{}, cycle("ok"), cycle("ok")], "starting", "The scripts look for the first time."),
        ([cycle("ok", redis_cache=True), cycle("ok"), cycle("ok")], "ok",
         "Everything is up, fast and on track."),
        ([cycle("critical", redis_cache=False, payment_sapi=False), cycle("ok"), cycle("ok")],
         "critical", "redis-cache and payment-sapi are down."),
        ([cycle("ok"), cycle("warning", ("warning", "a")), cycle("critical", ("critical", "b"))],
         "critical", "b"),
        ([cycle("unknown"), cycle("ok"), cycle("ok")], "unknown",
         "Something is not as it should be; a second look will tell."),
    ],
)  # fmt: skip
def test_the_verdict_is_one_sentence(
    results: list[dict[str, Any]], status: str, sentence: str
) -> None:
    found = web_demo.verdict(dict(zip(web_demo.OUTPUTS, results)))
    assert (found["status"], found["sentence"]) == (status, sentence)
