"""What all three scripts promise: flags, exit statuses, JSON lines, signals, outputs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.scripts import SCRIPTS, check_lines, run, start

pytestmark = pytest.mark.parametrize("script", SCRIPTS)
NOWHERE = {
    "EAPI_ENDPOINT": "http://127.0.0.1:1",
    "SAPI_ENDPOINT": "http://127.0.0.1:1",
    "REDIS_HOST": "127.0.0.1",
    "REDIS_PORT": "1",
    "CONJUR_URL": "http://127.0.0.1:1",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=8, preload=20, traffic=False)) as running:
        yield running


@pytest.fixture
def env(stack: Stack, tmp_path: Path) -> Mapping[str, str]:
    return {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}


def test_help_and_version(script: str, tmp_path: Path) -> None:
    helped = run(script, "--help", env={}, cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "examples:" in helped.stdout
    version = run(script, "--version", env={}, cwd=tmp_path)
    assert version.stdout == f"{script}.py 1.0.0\n"


def test_a_single_run_is_json_lines_when_redirected(
    script: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    done = run(script, "--single-run", env=env, cwd=tmp_path)
    assert done.returncode in (0, 1, 2)
    results = check_lines(done.stdout)
    assert results[0]["message"].startswith(script)
    check_lines(done.stderr)


def test_nothing_to_measure_is_exit_3_or_2_and_still_json(script: str, tmp_path: Path) -> None:
    done = run(script, "--single-run", env=NOWHERE, cwd=tmp_path)
    assert done.returncode == (2 if script == "health_check" else 3)
    assert check_lines(done.stdout + done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["--sngle-run"],
        ["--interval", "never"],
        ["--output", "nowhere/at/all.json"],
        ["--single-run", "--config", "missing.yaml"],
        ["--log-format", "xml"],
        ["--test-alerts", "pigeon"],
    ],
)
def test_wrong_usage_is_one_json_line_and_exit_3(
    script: str, words: list[str], tmp_path: Path
) -> None:
    done = run(script, *words, env={}, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = check_lines(done.stderr)
    assert line["log.level"] in ("error", "critical")


def test_a_broken_configuration_is_named_and_nothing_runs(script: str, tmp_path: Path) -> None:
    broken = tmp_path / "more.yaml"
    broken.write_text(
        "ALERT_THRESHOLDS:\n  performance:\n    api_respose_time: {warning: 1, critical: 2}\n"
        "REDIS_PORT: lots\n"
    )
    done = run(script, "--single-run", "--config", str(broken), env={}, cwd=tmp_path)
    assert done.returncode == 3
    said = " ".join(str(line["message"]) for line in check_lines(done.stderr))
    assert "did you mean 'api_response_time'" in said or "did you mean api_response_time" in said
    assert "REDIS_PORT" in said


def test_check_config_shows_settings_and_no_secret(
    script: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    done = run(script, "--check-config", env=env, cwd=tmp_path)
    assert done.returncode == 0
    *shown, verdict = check_lines(done.stdout)
    assert str(verdict["message"]).startswith("The configuration is valid")
    assert "Channels that are on: " in str(verdict["message"])
    origins = {str(line["payment_api.setting"]): line["payment_api.origin"] for line in shown}
    assert "EAPI_ENDPOINT" in origins["EAPI_ENDPOINT"]
    for name in ("CONJUR_AUTHN_API_KEY", "MONITORING_CLIENT_SECRET", "PAGERDUTY_SERVICE_KEY"):
        assert env[name] not in done.stdout + done.stderr


def test_every_output_is_written(script: str, env: Mapping[str, str], tmp_path: Path) -> None:
    for name in ("r.json", "r.jsonl", "r.csv", "r.prom"):
        done = run(script, "--single-run", "--no-alerts", "--output", name, env=env, cwd=tmp_path)
        assert done.returncode in (0, 1, 2), done.stderr
        assert (tmp_path / name).stat().st_size > 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["script"] == script
    assert (tmp_path / "r.prom").read_text().startswith("# HELP payment_api_")


def test_a_result_on_standard_output_is_the_document(
    script: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    done = run(script, "--single-run", "--no-alerts", "--output", "-", env=env, cwd=tmp_path)
    (document,) = scripts.lines(done.stdout)
    assert document["script"] == script
    assert document["status"] in ("ok", "warning", "critical")
    check_lines(done.stderr)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_ends_at_once_with_0(
    script: str, sent: signal.Signals, env: Mapping[str, str], tmp_path: Path
) -> None:
    process = start(script, "--interval", "1h", env=env, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()  # the first cycle is done
    process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    check_lines(out + err)


def test_a_loop_that_is_measuring_ends_too(script: str, tmp_path: Path) -> None:
    """A cache that accepts and says nothing must not hold the way out."""
    with Stack(Options(clients=2, traffic=False, faults=("redis-hang",))) as hung:
        env = {**hung.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
        process = start(script, "--interval", "1h", env=env, cwd=tmp_path)
        assert process.stderr is not None
        while " every 3600 s" not in process.stderr.readline():  # then the loop has begun
            pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    check_lines(out + err)


def test_the_exporter_serves_the_last_cycle(
    script: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    words = ("--prometheus-port", "0", "--prometheus-address", "127.0.0.1", "--interval", "1h")
    process = start(script, *words, env=env, cwd=tmp_path, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        url = ""
        for text in process.stdout:
            message = str(json.loads(text)["message"])
            if message.startswith("serving metrics on "):
                url = message.rsplit(maxsplit=1)[-1]
            if message.startswith(f"{script} "):
                break
        page = _get_until(url, "payment_api_last_cycle_timestamp_seconds")
        assert f'payment_api_up{{script="{script}",source="' in page
        assert urllib.request.urlopen(url.replace("/metrics", "/-/healthy")).status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url.replace("/metrics", "/elsewhere"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def _get_until(url: str, wanted: str) -> str:
    """The page once it holds `wanted`; the first cycle may still be on its way."""
    for _ in range(600):
        page = urllib.request.urlopen(url).read().decode()
        if wanted in page:
            return page
        time.sleep(0.05)
    raise AssertionError(f"{wanted} never came: {page[:500]}")


def test_a_second_run_says_who_holds_the_lock(
    script: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    from monitoring.store.state import State

    quick = tmp_path / "quick.yaml"
    overlay = Path(env["MONITORING_CONFIG"]).read_text()
    quick.write_text(json.dumps({**json.loads(overlay), "RUN": {"lock_wait": "0.2s"}}))
    state = State.open(Path(env["MONITORING_STATE_DIR"]))
    with state.lock(script):
        done = run(script, "--single-run", "--config", str(quick), env=env, cwd=tmp_path)
        read_only = run(script, "--alerts", env=env, cwd=tmp_path)
    state.close()
    assert done.returncode == 3
    assert f"process {os.getpid()} " in done.stderr
    assert read_only.returncode == 0
