"""From the first line of a script to its end: signals at any moment, missing libraries, SIGHUP, the
service manager's watchdog."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.scripts import ROOT, SCRIPTS, check_lines, environment

CASES = [
    json.loads(line)
    for line in (ROOT / "tests" / "data" / "signals.jsonl").read_text().splitlines()
]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Nothing answers anywhere."""
    return environment(
        {
            "MONITORING_STATE_DIR": str(tmp_path / "state"),
            "EAPI_ENDPOINT": "http://127.0.0.1:9",
            "SAPI_ENDPOINT": "",
            "REDIS_PORT": "9",
            "CONJUR_URL": "",
        }
    )


def start(
    words: list[str], env: dict[str, str], cwd: Path, python: str = sys.executable
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, *words],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_a_signal_at_any_moment_leaves_no_trace_of_ours(
    case: dict[str, object], env: dict[str, str], tmp_path: Path
) -> None:
    given: dict[str, object] = case["given"]  # type: ignore[assignment]
    name = str(given["signal"])
    script = SCRIPTS[int(str(given["script"]))]
    process = start([str(ROOT / f"{script}.py"), "--single-run"], env, tmp_path)
    time.sleep(float(str(given["after_ms"])) / 1000)
    process.send_signal(signal.Signals[name])
    _, err = process.communicate(timeout=30)
    # it may have been done before the signal came: then the world's own status
    # before a first line of ours: Python names its own start, or (3.13) no place at all
    within_python = "Fatal Python error: init_" in err or err.strip() == "KeyboardInterrupt"
    within_python = within_python or ", line 0, in <module>" in err
    assert within_python or process.returncode in (3, 2, -signal.Signals[name]), err
    ours = [line for line in err.splitlines() if str(ROOT) in line and "Traceback" not in line]
    # line 0 is Python about to begin with the first one
    begun = [line for line in ours if ", line 0, in <module>" not in line]
    assert not [line for line in begun if line.lstrip().startswith("File")], err


def test_a_signal_while_the_libraries_load_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    """A library that takes its time stands for the moment: the guard is up before it."""
    (tmp_path / "argparse.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n"
    )
    env = {**env, "PYTHONPATH": str(tmp_path)}
    for script in SCRIPTS:
        process = start([str(ROOT / f"{script}.py"), "--single-run"], env, tmp_path)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 3
        assert out == ""
        (line,) = check_lines(err)
        assert "SIGTERM" in line["message"]


@pytest.mark.parametrize(
    ("script", "library"),
    [(script, library) for script in SCRIPTS for library in ("requests", "dotenv", "redis")]
    + [("token_usage_metrics", "msgspec"), ("credential_usage_metrics", "msgspec")],
)
def test_a_missing_library_is_one_sentence_and_status_3(
    script: str, library: str, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / f"{library}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{library}'\", name='{library}')\n"
    )
    env = {**env, "PYTHONPATH": str(tmp_path)}
    process = start([str(ROOT / f"{script}.py"), "--single-run", "--no-alerts"], env, tmp_path)
    _, err = process.communicate(timeout=60)
    said = [line for line in check_lines(err) if f"'{library}'" in str(line["message"])]
    assert said, err
    assert "Traceback" not in err
    assert process.returncode == 3


@pytest.mark.parametrize("flag", ["-I", "-S"])
def test_an_isolated_python_finds_our_own_files(
    flag: str, env: dict[str, str], tmp_path: Path
) -> None:
    """-I leaves the script's folder out of the path, -S what pip installed."""
    process = start([flag, str(ROOT / "health_check.py"), "--version"], env, tmp_path)
    out, err = process.communicate(timeout=30)
    if flag == "-I":
        assert (process.returncode, out[:15]) == (0, "health_check.py")
    else:
        assert process.returncode == 3
        (line,) = check_lines(err)
        assert "requirements.txt" in line["message"]


# -- a loop


@pytest.fixture
def loop(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts health_check in a loop with a configuration that the test may change."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest may run under nohup
    running: list[subprocess.Popen[str]] = []

    def begin(config: str) -> subprocess.Popen[str]:
        file = tmp_path / "settings.yaml"
        file.write_text(config)
        words = [str(ROOT / "health_check.py"), "--interval", "3600", "--no-alerts"]
        running.append(start([*words, "--config", str(file)], env, tmp_path))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()
    signal.signal(signal.SIGHUP, before)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Lines of its standard error up to the one that holds `words`."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was never said:\n{seen}")


def drain(process: subprocess.Popen[str]) -> None:
    """A cycle's lines on standard output: wait for the summary."""
    assert process.stdout is not None
    process.stdout.readline()


def test_sighup_has_a_loop_read_its_settings_again(
    loop: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = loop("MONITORING_ENV: test\n")
    read_until(process, "every 3600 s")
    drain(process)
    (tmp_path / "settings.yaml").write_text("MONITORING_ENV: staging\n")
    process.send_signal(signal.SIGHUP)
    read_until(process, "reading the settings again")
    line = json.loads(read_until(process, "every 3600 s").splitlines()[-1])
    assert line["service.environment"] == "staging"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_settings_that_cannot_be_used_leave_the_old_ones_in_force(
    loop: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = loop("MONITORING_ENV: staging\n")
    read_until(process, "every 3600 s")
    drain(process)
    (tmp_path / "settings.yaml").write_text("MONITORING_ENV: nowhere\n")
    process.send_signal(signal.SIGHUP)
    assert "nowhere" in read_until(process, "are kept")
    line = json.loads(read_until(process, "every 3600 s").splitlines()[-1])
    assert line["service.environment"] == "staging"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_the_service_manager_hears_that_a_loop_lives(env: dict[str, str], tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        words = [str(ROOT / "health_check.py"), "--interval", "3600", "--no-alerts"]
        process = start(words, {**env, "NOTIFY_SOCKET": str(address)}, tmp_path)
        try:
            heard = [manager.recv(64) for _ in range(3)]
        finally:
            process.kill()
            process.communicate()
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_no_manager_no_word() -> None:
    from monitoring.stopping import notify_service_manager

    notify_service_manager("", "READY=1")
    notify_service_manager("relative", "READY=1")
    notify_service_manager(f"/nowhere/{os.getpid()}", "READY=1")
