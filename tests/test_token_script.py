"""token_usage_metrics.py as its users run it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from monitoring.store.state import State
from sandbox.options import CANARY, Options
from sandbox.stack import Stack
from tests import token_weeks
from tests.scripts import ROOT, check_lines, environment, run
from tests.token_kit import jwt

SCRIPT = "token_usage_metrics"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=8, preload=30, traffic=False)) as running:
        yield running


@pytest.fixture
def env(stack: Stack, tmp_path: Path) -> Mapping[str, str]:
    return {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def recorded(env: Mapping[str, str]) -> Mapping[str, str]:
    """Three days of history that end now; the success target is met."""
    now = time.time()
    with State.open(Path(env["MONITORING_STATE_DIR"])) as state:
        token_weeks.record(state, start=now - 3 * 86400, end=now, gaps=((now - 9e4, now - 8e4),))
    return env


def measured(document: Mapping[str, object], name: str) -> dict[str, float]:
    rows = [m for m in document["metrics"] if m["name"] == f"payment_api_{name}"]  # type: ignore
    return {",".join(m["labels"].values()): m["value"] for m in rows}


def test_a_single_run_tells_the_whole_document(env: Mapping[str, str], tmp_path: Path) -> None:
    done = run(SCRIPT, "--single-run", "--output", "t.json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "t.json").read_text())
    tokens = document["tokens"]
    assert tokens["total"] == tokens["active"] + tokens["expired"] > 100
    assert sum(row["tokens"] for row in tokens["by_client"].values()) == tokens["total"]
    assert CANARY not in tokens["by_client"]
    assert measured(document, "tokens_active")[""] == tokens["active"]
    assert measured(document, "token_generation_rate")[""] > 0
    assert "expired" in measured(document, "token_validation_failures_total")
    assert {"redis", "eapi-metrics", "sapi-metrics"} == set(document["sources"])


def test_the_prometheus_names_of_the_brief(env: Mapping[str, str], tmp_path: Path) -> None:
    run(SCRIPT, "--single-run", "--no-alerts", "--output", "t.prom", env=env, cwd=tmp_path)
    page = (tmp_path / "t.prom").read_text()
    assert "\npayment_api_token_generation_rate " in page
    assert '\npayment_api_token_validation_failures_total{reason="expired"} ' in page
    assert '\npayment_api_client_tokens_active{client_id="client-001"} ' in page
    assert "eyJ" not in page


def test_failures_grow_with_the_services_counters(
    stack: Stack, env: Mapping[str, str], tmp_path: Path
) -> None:
    def failures() -> float:
        run(SCRIPT, "--single-run", "--no-alerts", "--output", "t.json", env=env, cwd=tmp_path)
        found = measured(
            json.loads((tmp_path / "t.json").read_text()), "token_validation_failures_total"
        )
        return sum(found.values())

    before = failures()
    for _ in range(4):
        stack.sapi.metrics.validated("client-001", "expired", 0.001)
    assert failures() == before + 4


def test_budgets_and_top_from_the_command_line(env: Mapping[str, str], tmp_path: Path) -> None:
    words = ("--single-run", "--no-alerts", "--max-keys", "1", "--top", "2", "--output", "t.json")
    done = run(SCRIPT, *words, env=env, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    tokens = json.loads((tmp_path / "t.json").read_text())["tokens"]
    assert len(tokens["by_client"]) == 3
    assert "other" in tokens["by_client"]
    assert tokens["scan"]["truncated"] in ("max_keys", None)  # a small cache is one page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lookback", "7d"], "--lookback belongs to --analyze"),
        (["--format", "html"], "--format belongs to --analyze"),
        (["--analyze", "--format", "pdf"], "invalid choice"),
        (["--analyze", "--max-keys", "5"], "--max-keys limits a scan"),
        (["--analyze", "--lookback", "soon"], "soon"),
        (["--max-keys", "0"], "whole number above zero"),
        (["--time-budget", "-1s"], "time-budget"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    words: list[str], said: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    done = run(SCRIPT, *words, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = check_lines(done.stderr)
    assert said in line["message"]


def test_with_nothing_recorded_it_says_what_to_do(env: Mapping[str, str], tmp_path: Path) -> None:
    done = run(SCRIPT, "--analyze", env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = check_lines(done.stderr)
    assert "nothing was recorded in the last 7 d" in line["message"]
    assert "--single-run" in line["message"]
    assert env["MONITORING_STATE_DIR"] in line["message"]


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("text", "99.99 % of validations succeeded"),
        ("json", "{"),
        ("markdown", "# Token"),
        ("html", "<!doctype"),
    ],
)
def test_a_report_goes_to_standard_output_and_nothing_else_does(
    form: str, begins: str, recorded: Mapping[str, str], tmp_path: Path
) -> None:
    words = ("--analyze", "--lookback", "3d", "--format", form)
    done = run(SCRIPT, *words, env={**recorded, "TZ": "Europe/Berlin"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(begins)
    assert "Europe/Berlin" in done.stdout
    check_lines(done.stderr)


def test_a_missed_target_is_exit_1(env: Mapping[str, str], tmp_path: Path) -> None:
    now = time.time()
    with State.open(Path(env["MONITORING_STATE_DIR"])) as state:
        token_weeks.record(state, start=now - 7200, end=now, failing=0.05, gaps=())
    done = run(SCRIPT, "--analyze", "--lookback", "2h", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "misses the target" in done.stdout


def test_what_was_hardly_watched_is_not_called_met(env: Mapping[str, str], tmp_path: Path) -> None:
    now = time.time()
    with State.open(Path(env["MONITORING_STATE_DIR"])) as state:
        token_weeks.record(state, start=now - 7200, end=now, gaps=())
    done = run(SCRIPT, "--analyze", "--format", "json", env=env, cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["meets_target"], document["verdict"]) == (3, None, "unknown")
    assert document["why"].startswith("too little watched (1.")
    assert document["success"] > 0.99
    enough = run(SCRIPT, "--analyze", "--lookback", "2h", env=env, cwd=tmp_path)
    assert enough.returncode == 0
    assert "meets the target" in enough.stdout


def test_a_prometheus_that_does_not_answer_is_exit_3(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    env = {**env, "PROMETHEUS_URL": "http://127.0.0.1:1"}
    done = run(SCRIPT, "--analyze", env=env, cwd=tmp_path)
    assert done.returncode == 3
    (line,) = check_lines(done.stderr)
    assert "history cannot be read" in line["message"]


def test_no_output_holds_a_token_though_key_names_do(
    stack: Stack, env: Mapping[str, str], tmp_path: Path
) -> None:
    key = b"validation:" + jwt("client-001", "secret-jti") + b":view_status"
    with stack.redis.client() as client:
        client.set(key, b"valid", ex=100)
        done = run(SCRIPT, "--single-run", "--debug", "--output", "t.json", env=env, cwd=tmp_path)
        client.delete(key)
    document = json.loads((tmp_path / "t.json").read_text())
    (finding,) = (f for f in document["findings"] if f["reason"] == "jwt_in_key")
    assert finding["evidence"]["count"] == 1
    assert done.returncode == 1
    said = done.stdout + done.stderr + json.dumps(document)
    assert "eyJ" not in said
    assert "secret-jti" not in said
    state = Path(env["MONITORING_STATE_DIR"])
    for path in state.iterdir():
        assert b"eyJhbGciOi" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("fault", "kind"), [("redis-loading", "loading"), ("redis-noauth", "auth")]
)
def test_a_cache_that_refuses_is_named(fault: str, kind: str, tmp_path: Path) -> None:
    with Stack(Options(clients=2, traffic=False, faults=(fault,))) as broken:
        env = {**broken.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
        words = ("--single-run", "--no-alerts", "--output", "t.json")
        done = run(SCRIPT, *words, env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # the services could be read
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["sources"]["redis"]["error"] == kind
    assert document["tokens"]["total"] is None
    assert measured(document, "tokens_active") == {"": None}


def on_terminal(words: list[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str]:
    """Exit status and what a terminal of 100 columns gets."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / f"{SCRIPT}.py"), *words]
    shown = environment({**env, "TERM": "xterm", "COLUMNS": "100"})
    process = subprocess.Popen(command, env=shown, cwd=cwd, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = drained(ours)
    return process.wait(timeout=60), said


def drained(terminal: int) -> str:
    """Everything that was written to the terminal, whose other side is closed by its end."""
    said = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the last writer is gone
            part = b""
        if not part:
            os.close(terminal)
            return said.decode()
        said += part


def test_on_a_terminal_it_is_a_table(env: Mapping[str, str], tmp_path: Path) -> None:
    status, said = on_terminal(["--single-run", "--no-alerts"], env, tmp_path)
    assert status == 0
    for wanted in ("generated per minute", "remaining life", "client-001"):
        assert wanted in said
    assert "Traceback" not in said


def test_a_long_scan_shows_its_progress(
    stack: Stack, env: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitoring.tokens import present as token_progress

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(token_progress, "_PATIENCE", 0.0)
        monkeypatch.setattr(token_progress, "_EVERY", 0.0)
        bar = token_progress.ProgressBar()
        bar(1000, None)
        bar(2500, 10_000)
        bar.close()
    said = drained(ours)
    assert "reading the cache" in said
    assert "2500/10000" in said
