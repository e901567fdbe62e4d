"""credential_usage_metrics.py as a user types it: reports, formats, exit statuses, wrong usage."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from monitoring.store.state import State
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.credential_kit import log_in
from tests.scripts import check_lines

SCRIPT = "credential_usage_metrics"
NOWHERE = {"EAPI_ENDPOINT": "http://127.0.0.1:1", "SAPI_ENDPOINT": "http://127.0.0.1:1"}
NOWHERE.update(REDIS_HOST="127.0.0.1", REDIS_PORT="1", CONJUR_URL="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=4, preload=10, traffic=False)) as running:
        yield running


@pytest.fixture
def env(stack: Stack, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    yield {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
    stack.faults.clear()


def run(*words: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return scripts.run(SCRIPT, *words, env=env, cwd=cwd)


def test_check_rotation_exits_by_the_worst(
    stack: Stack, env: Mapping[str, str], tmp_path: Path
) -> None:
    fine = run("--check-rotation", env=env, cwd=tmp_path)
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout.startswith("ok: 4 credentials ok;")
    stack.rotation.begin("client-003", fate="stuck", ago=3 * 3600)
    stuck = run("--check-rotation", "--format", "json", env=env, cwd=tmp_path)
    assert stuck.returncode == 2
    document = json.loads(stuck.stdout)
    first, told = next(iter(document["credentials"].items()))
    assert (first, told["verdict"], document["status"]) == ("client-003", "stuck", "critical")
    assert told["todo"].startswith("ask the client whether it has its new")
    stack.rotation.rotations[-1].fate = "normal"  # and lets it finish
    stack.rotation.advance()


def test_a_source_that_is_away_is_named_and_at_least_a_warning(
    stack: Stack, env: Mapping[str, str], tmp_path: Path
) -> None:
    stack.faults.set("rotation-down")
    done = run("--check-rotation", env=env, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "rotation-service" in done.stdout.splitlines()[-1]
    (warning,) = check_lines(done.stderr)
    assert str(warning["message"]).startswith("source rotation-service: ")


@pytest.mark.parametrize("form", ["csv", "markdown", "json", "text"])
def test_the_inventory_in_every_format(form: str, env: Mapping[str, str], tmp_path: Path) -> None:
    done = run("--inventory", "--format", form, env=env, cwd=tmp_path)
    assert done.returncode in (0, 1, 2)
    assert all(f"client-00{number}" in done.stdout for number in range(1, 5))
    assert env["CONJUR_AUTHN_API_KEY"] not in done.stdout


def test_can_revoke(stack: Stack, env: Mapping[str, str], tmp_path: Path) -> None:
    no = run("--can-revoke", "client-002", env=env, cwd=tmp_path)
    assert no.returncode == 2
    assert no.stdout.startswith("no: version v2 of client-002 must not be revoked now")
    stack.rotation.begin("client-001", ago=4 * 3600)  # over for 2 h
    fresh = run("--can-revoke", "client-001", env=env, cwd=tmp_path)
    assert (fresh.returncode, "logins were watched for" in fresh.stdout) == (3, True)
    with State.open(Path(env["MONITORING_STATE_DIR"])) as state, state.transaction() as tx:
        tx.execute("UPDATE ledger SET watched_since = watched_since - 3600")  # an hour later
    yes = run("--can-revoke", "client-001", "--format", "json", env=env, cwd=tmp_path)
    assert (yes.returncode, json.loads(yes.stdout)["can_revoke"]) == (0, True), yes.stdout
    stack.faults.set("conjur-forbidden")
    unavailable = run("--can-revoke", "client-001", env=env, cwd=tmp_path)
    assert unavailable.returncode == 3
    assert unavailable.stdout.startswith("cannot tell")
    assert "not known: conjur is unavailable" in unavailable.stdout
    stack.faults.clear()
    stranger = run("--can-revoke", "nobody", env=env, cwd=tmp_path)
    assert stranger.returncode == 3
    assert stranger.stdout.startswith("cannot tell whether the old version of nobody may be")
    assert "no source that was read knows this client" in stranger.stdout


@pytest.mark.parametrize("words", [["--check-rotation"], ["--can-revoke", "c"], ["--inventory"]])
def test_nothing_in_reach_is_3(words: list[str], tmp_path: Path) -> None:
    done = run(*words, env=NOWHERE, cwd=tmp_path)
    assert done.returncode == 3
    check_lines(done.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "json"], "--format belongs to"),
        (["--can-revoke", "c", "--format", "csv"], "answers as text or json"),
        (["--inventory", "--check-rotation"], "not allowed with"),
        (["--inventory", "--output", "x.json"], "--output is for cycles"),
        (["--can-revoke", "c", "--interval", "60"], "--interval is for cycles"),
        (["--replay", "-", "--format", "json"], "--format belongs to"),
        (["--lookback", "7d"], "--lookback belongs to"),
    ],
)
def test_wrong_usage(words: list[str], said: str, tmp_path: Path) -> None:
    done = run(*words, env={}, cwd=tmp_path)
    assert done.returncode == 3
    (line,) = check_lines(done.stderr)
    assert said in str(line["message"])


# -- one state of the world, one exit status (issue 11, "Coverage")

NO_REGISTER = {
    **dict.fromkeys(("CONJUR_URL", "CONJUR_AUTHN_LOGIN", "CONJUR_AUTHN_API_KEY"), ""),
    "ROTATION_ENDPOINT": "",
}
CLIENTS = ("client-001", "client-002", "client-003", "client-004")
VIEWS = ("--single-run", "--check-rotation", "--inventory")


def statuses(env: Mapping[str, str], cwd: Path) -> dict[str, tuple[int, str]]:
    """Exit status and standard output of the three views, each with a state folder of its own."""
    found = {}
    for view in VIEWS:
        words = (view, "--no-alerts", "--output", "-") if view == VIEWS[0] else (view,)
        own = {**env, "MONITORING_STATE_DIR": str(cwd / view)}
        done = run(*words, env=own, cwd=cwd)
        found[view] = (done.returncode, done.stdout)
    return found


def test_all_in_order_is_0_in_every_view(env: Mapping[str, str], tmp_path: Path) -> None:
    assert [status for status, _ in statuses(env, tmp_path).values()] == [0, 0, 0]


@pytest.fixture
def all_logged_in(stack: Stack) -> None:
    assert all(log_in(stack, client) for client in CLIENTS)


@pytest.mark.usefixtures("all_logged_in")
@pytest.mark.parametrize("away", [{}, {"CONJUR_URL": NOWHERE["CONJUR_URL"]}])
@pytest.mark.parametrize("cached", [True, False])
def test_without_a_vault_and_a_rotation_service_nobody_can_tell(
    away: Mapping[str, str], cached: bool, env: Mapping[str, str], tmp_path: Path
) -> None:
    """Not configured or not reachable; with EAPI's cached credentials and with its counters
    alone, which know a client from its first login on."""
    env = {**env, **NO_REGISTER, **away}
    env = env if cached else {**env, "REDIS_DB": "7"}
    for view, (status, said) in statuses(env, tmp_path).items():
        assert status == 3, (view, said)
        for client in CLIENTS:
            assert client in said, view
        assert "nobody knows which clients there are" in said
    document = json.loads(statuses(env, tmp_path)[VIEWS[0]][1])
    assert document["status"] == "unknown"
    assert {row["verdict"] for row in document["credentials"].values()} == {"unknown"}


def test_day_one_is_one_sentence_and_one_status(
    stack: Stack, env: Mapping[str, str], tmp_path: Path
) -> None:
    """The vault tells no ages; nothing else is there."""
    env = {**env, "ROTATION_ENDPOINT": "", "REDIS_DB": "7"}
    found = statuses(env, tmp_path)
    assert {status for status, _ in found.values()} == {1}
    for _, said in found.values():
        assert said.count("here before this monitor") == 1
        assert "CREDENTIALS['rotated_at'] names a date" in said
    report = [line for line in found["--check-rotation"][1].splitlines() if line]
    assert len([line for line in report if "at least" in line and "at most" not in line]) == 0


def test_a_date_in_the_configuration_is_the_age(env: Mapping[str, str], tmp_path: Path) -> None:
    names = [f"client-{number:03}" for number in range(1, 5)]
    days = {name: time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400 * 3)) for name in names}
    file = tmp_path / "extra.yaml"
    file.write_text(
        json.dumps({"CREDENTIALS": {"rotated_at": {**days, "client-oo1": "2026-01-01"}}})
    )
    env = {**env, "ROTATION_ENDPOINT": "", "REDIS_DB": "7"}
    done = run("--check-rotation", "--format", "json", "--config", str(file), env=env, cwd=tmp_path)
    document = json.loads(done.stdout)
    assert {row["age_source"] for row in document["credentials"].values()} == {"configuration"}
    assert {row["verdict"] for row in document["credentials"].values()} == {"ok"}
    assert done.returncode == 0
    (remark,) = document["findings"]
    assert (remark["reason"], remark["client"], remark["severity"]) == (
        "rotated_at_unused", "client-oo1", "ok")  # fmt: skip
