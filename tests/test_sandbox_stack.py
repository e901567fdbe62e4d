"""The whole stack: its environment, its command line, its past and traffic, and that it goes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.clock import SimulatedClock
from sandbox.faults import FAULTS
from sandbox.options import Options
from sandbox.stack import Stack
from tests.test_sandbox_redis_server import gone, wait_for

ROOT = Path(__file__).parent.parent
QUIET = ("--clients", "2", "--no-traffic", "--preload", "0")
NAMES = {
    "MONITORING_ENV",
    "EAPI_ENDPOINT",
    "SAPI_ENDPOINT",
    "ROTATION_ENDPOINT",
    "REDIS_HOST",
    "REDIS_PORT",
    "CONJUR_URL",
    "CONJUR_ACCOUNT",
    "CONJUR_AUTHN_LOGIN",
    "CONJUR_AUTHN_API_KEY",
    "MONITORING_CLIENT_ID",
    "MONITORING_CLIENT_SECRET",
    "SLACK_WEBHOOK_URL",
    "PAGERDUTY_SERVICE_KEY",
    "ALERTMANAGER_URL",
    "SMTP_SERVER",
    "SMTP_PORT",
    "EMAIL_RECIPIENTS",
    "HEARTBEAT_URL",
    "MONITORING_STATE_DIR",
    "MONITORING_CONFIG",
    "SANDBOX_URL",
}
SHOW = "import json,os;print(json.dumps(dict(os.environ)))"


def sandbox(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **more
    )


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    words = [sys.executable, "-m", "sandbox", *QUIET]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        found: dict[str, str] = {}
        while "SANDBOX_URL" not in found:
            match = re.match(r"export (\w+)='?([^'\n]*)'?$", process.stdout.readline())
            assert match is not None
            found[match.group(1)] = match.group(2)
        yield process, found
        process.kill()


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_command_gets_the_environment_and_everything_is_gone_afterwards() -> None:
    done = sandbox(*QUIET, "--", sys.executable, "-c", SHOW)
    seen = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert set(seen) >= NAMES
    assert not Path(seen["MONITORING_STATE_DIR"]).exists()
    assert not Path(seen["MONITORING_CONFIG"]).exists()
    assert refused(int(seen["REDIS_PORT"]))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os,signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
    ],
)
def test_the_commands_status_is_ours(code: str, status: int) -> None:
    assert sandbox(*QUIET, "--", sys.executable, "-c", code).returncode == status


def test_a_command_that_is_not_there() -> None:
    done = sandbox(*QUIET, "--", "/no/such/program")
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(running: Any, number: int) -> None:
    process, names = running
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert refused(int(names["REDIS_PORT"]))
    assert not Path(names["MONITORING_STATE_DIR"]).parent.exists()


def test_kill_9_leaves_nothing_behind(running: Any) -> None:
    process, names = running
    process.kill()
    wait_for("Redis gone", lambda: refused(int(names["REDIS_PORT"])))
    wait_for("folder gone", lambda: not Path(names["MONITORING_STATE_DIR"]).parent.exists())


def test_kill_9_takes_the_command_along(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os,time; open({str(note)!r},'w').write(str(os.getpid())); time.sleep(60)"
    words = [sys.executable, "-m", "sandbox", *QUIET, "--", sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=ROOT) as process:
        wait_for("the command", lambda: note.exists() and note.read_text() != "")
        process.kill()
    wait_for("the command's end", lambda: gone(int(note.read_text())))


def test_faults_are_switched_from_another_terminal(running: Any) -> None:
    _, names = running
    environment = {**os.environ, "SANDBOX_URL": names["SANDBOX_URL"]}
    assert sandbox("fault", "eapi-status", "AWAY", env=environment).returncode == 0
    url = f"{names['EAPI_ENDPOINT']}/api/v1/health"
    assert requests.get(url, timeout=5).json()["status"] == "AWAY"
    assert sandbox("fault", "eapi-status", "off", env=environment).returncode == 0
    assert requests.get(url, timeout=5).json()["status"] == "UP"
    assert sandbox("fault", "tls-expired", "on", env=environment).returncode == 1
    assert sandbox("fault", "nonsense", env=environment).returncode == 2


def test_the_list_of_faults_is_complete() -> None:
    listed = [
        line.split()[0].split("=")[0] for line in sandbox("--list-faults").stdout.splitlines()
    ]
    assert listed == list(FAULTS)


def test_an_unknown_fault_is_a_usage_error() -> None:
    done = sandbox("--fault", "redis-hnag")
    assert (done.returncode, "redis-hnag" in done.stderr) == (2, True)


def test_control_shows_what_arrived() -> None:
    with Stack(Options(clients=2, traffic=False)) as stack:
        names, url = stack.environment, stack.environment["SANDBOX_URL"]
        requests.post(names["SLACK_WEBHOOK_URL"], json={"text": "<b>hello</b>"}, timeout=5)
        assert stack.received("slack")[0]["body"] == {"text": "<b>hello</b>"}
        kept = requests.get(f"{url}/received/slack", timeout=5).json()
        assert kept[0]["body"] == {"text": "<b>hello</b>"}
        page = requests.get(url, timeout=5).text
        assert "&lt;b&gt;hello" in page
        assert "<b>hello" not in page
        assert all(fault in page for fault in FAULTS)
        assert requests.delete(f"{url}/received", timeout=5).status_code == 204
        assert stack.received("slack") == []
        assert requests.get(f"{url}/received/nobody", timeout=5).status_code == 404


def test_the_past_fills_redis_and_the_counters() -> None:
    with Stack(Options(clients=6, traffic=False, preload=90, now=SimulatedClock())) as stack:
        registry = stack.eapi.metrics.registry
        minted = registry.value(
            "payment_token_generation_count", application="payment-eapi", clientId="client-001"
        )
        with stack.redis_client() as client:
            alive = len(list(client.scan_iter("token_id:*", count=1000)))
            members = client.scard("client:tokens:client-001")
    assert minted == members > 45
    assert alive > 200
    assert alive < 6 * 90 * 3


def test_traffic_on_a_simulated_clock_is_real_traffic() -> None:
    options = Options(clients=6, now=SimulatedClock(), rotating=False)
    with Stack(options) as stack:
        for _ in range(10):
            stack.advance(60)
        tokens = [r for r, status in stack.eapi.recorded if status == 200]
        assert 20 <= len(tokens) <= 200
        assert len(stack.sapi.recorded) > len(tokens)
        before = len(stack.eapi.recorded)
        stack.faults.set("failures-burst", "client-003")
        stack.advance(10)
        failed = [r for r, s in list(stack.eapi.recorded)[before:] if s == 401]
        assert 45 <= len(failed) <= 55


def test_without_a_server_binary_a_fake_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.redis_server.find_binary", lambda prefer=None: None)
    with Stack(Options(clients=1, traffic=False, preload=30)) as stack:
        assert stack.redis.kind == "fakeredis"
        with stack.redis_client() as client:
            assert client.dbsize() > 10
        with pytest.raises(ValueError, match="real server"):
            stack.faults.set("redis-hang")


def test_the_same_seed_gives_the_same_secrets() -> None:
    first, second, other = (
        Stack(Options(clients=1, traffic=False, seed=seed)) for seed in (1, 1, 2)
    )
    secrets = []
    for stack in (first, second, other):
        with stack:
            secrets.append(stack.book.secret("client-001"))
    assert secrets[0] == secrets[1] != secrets[2]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("tls-expired", "expired"),
        ("tls-self-signed", "self.signed|unable to get"),
        ("tls-wrong-host", "not valid for|doesn't match|mismatch"),
    ],
)
def test_tls_and_its_faults(fault: str, words: str) -> None:
    with Stack(Options(clients=1, traffic=False, tls=True)) as stack:
        ca_file = stack.environment["MONITORING_CA_FILE"]
        url = f"{stack.environment['EAPI_ENDPOINT']}/api/v1/health"
        assert url.startswith("https:")
        assert requests.get(url, verify=ca_file, timeout=5).status_code == 200
        stack.faults.set(fault)
        with pytest.raises(requests.exceptions.SSLError, match=words):
            requests.get(url, verify=ca_file, timeout=5)
        stack.faults.clear()
        assert requests.get(url, verify=ca_file, timeout=5).status_code == 200
        assert ssl.create_default_context(cafile=ca_file).get_ca_certs()
