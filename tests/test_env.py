"""The process environment and .env files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from monitoring.config import env
from monitoring.config.layers import variables
from monitoring.config.schema import SETTINGS

ROOT = Path(__file__).resolve().parent.parent


def gather(folder: Path, text: str, **environ: str) -> env.Environment:
    (folder / ".env").write_text(text, encoding="utf-8")
    return env.gather(environ, (folder,))


def test_a_set_variable_is_never_replaced(tmp_path: Path) -> None:
    found = gather(tmp_path, "A=file\nB=file\nC=file\n", A="real", B="")
    assert (found.values["A"], found.values["B"], found.values["C"]) == ("real", "", "file")
    assert found.where == {"A": "environment", "B": "environment", "C": str(tmp_path / ".env")}


def test_quotes_comments_export_and_references_are_understood(tmp_path: Path) -> None:
    text = "\ufeffexport A='x # y'\nB=1 # note\nC=\nD=${A}/${HOST}\n\n# E=5\n"
    found = gather(tmp_path, text, HOST="h").values
    assert (found["A"], found["B"], found["C"], found["D"]) == ("x # y", "1", "", "x # y/h")
    assert "E" not in found


def test_the_folder_of_the_scripts_comes_before_the_working_directory(tmp_path: Path) -> None:
    scripts, cwd = tmp_path / "scripts", tmp_path / "cwd"
    for folder, text in ((scripts, "A=scripts\n"), (cwd, "A=cwd\nB=cwd\n")):
        folder.mkdir()
        (folder / ".env").write_text(text)
    found = env.gather({}, (scripts, cwd)).values
    assert (found["A"], found["B"]) == ("scripts", "cwd")


def test_a_secret_set_for_real_hides_the_other_spelling_in_a_file(tmp_path: Path) -> None:
    found = gather(tmp_path, "P_FILE=/x\nQ=y\n", P="real", Q_FILE="/real").values
    assert "P_FILE" not in found
    assert "Q" not in found


@pytest.mark.parametrize(
    ("content", "key", "cure"),
    [
        (b"A=1\nthis is prose\nB=2\n", "line 2", "NAME=value"),
        (b"A=\xff\xfe\n", "", "UTF-8"),
        (b"A=" + b"x" * 70_000, "", "64 KiB"),
    ],
)
def test_a_broken_file_is_a_problem_with_its_cure(
    tmp_path: Path, content: bytes, key: str, cure: str
) -> None:
    (tmp_path / ".env").write_bytes(content)
    found = env.gather({"A": "real"}, (tmp_path,))
    (problem,) = found.problems
    assert problem.file == str(tmp_path / ".env")
    assert problem.key == key
    assert cure in problem.cure
    assert found.values == {"A": "real"}


def test_no_file_and_a_folder_of_that_name_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert env.gather({}, (tmp_path, tmp_path / "none")).problems == ()


def test_the_environment_is_read_and_not_changed(tmp_path: Path) -> None:
    before = dict(os.environ)
    gather(tmp_path, "NEW_NAME=1\n", **before)
    assert dict(os.environ) == before


def test_overlay_is_exact_inside_and_undone_after_an_error() -> None:
    before = dict(os.environ)

    def inside() -> None:
        with env.overlay({"ONLY": "this"}):
            assert dict(os.environ) == {"ONLY": "this"}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        inside()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/xdg/payment-api-monitoring"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/payment-api-monitoring"),
        ({"HOME": "/h"}, "/h/.local/state/payment-api-monitoring"),
    ],
)
def test_the_state_folder_follows_xdg(environ: dict[str, str], folder: str) -> None:
    assert env.state_folder(environ) == Path(folder)


BRIEF = [
    "MONITORING_ENV",
    "EAPI_ENDPOINT",
    "SAPI_ENDPOINT",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_PASSWORD",
    "CONJUR_URL",
    "MONITORING_AUTH_TOKEN",
    "SLACK_WEBHOOK_URL",
    "PAGERDUTY_SERVICE_KEY",
    "EMAIL_RECIPIENTS",
]
OURS = [
    "ROTATION_ENDPOINT",
    "REDIS_USERNAME",
    "REDIS_DB",
    "REDIS_SSL",
    "REDIS_CA_FILE",
    "REDIS_SENTINELS",
    "REDIS_MASTER",
    "REDIS_CLUSTER",
    "CONJUR_ACCOUNT",
    "CONJUR_AUTHN_LOGIN",
    "CONJUR_AUTHN_API_KEY",
    "CONJUR_CERT_FILE",
    "CONJUR_JWT_FILE",
    "MONITORING_CLIENT_ID",
    "MONITORING_CLIENT_SECRET",
    "MONITORING_CA_FILE",
    "MONITORING_STATE_DIR",
    "MONITORING_CONFIG",
    "ALERTMANAGER_URL",
    "PROMETHEUS_URL",
    "SMTP_SERVER",
    "SMTP_PORT",
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "SMTP_FROM",
    "HEARTBEAT_URL",
]
SECRETS = [
    "REDIS_PASSWORD",
    "MONITORING_AUTH_TOKEN",
    "SLACK_WEBHOOK_URL",
    "PAGERDUTY_SERVICE_KEY",
    "CONJUR_AUTHN_API_KEY",
    "MONITORING_CLIENT_SECRET",
    "SMTP_PASSWORD",
    "HEARTBEAT_URL",
]


def test_the_documented_names_are_the_names_that_are_read() -> None:
    documented = set(BRIEF + OURS) | {name + "_FILE" for name in SECRETS}
    assert set(variables(SETTINGS)) == documented


def test_the_template_of_env_names_exactly_what_is_read() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    assert sorted(named) == sorted(set(named)), "a name stands twice"
    assert set(named) == set(variables(SETTINGS))


def test_the_template_of_env_sets_nothing_and_reads_well(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert gather(tmp_path, text).values == {}
    uncommented = re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", text, flags=re.MULTILINE)
    found = gather(tmp_path, uncommented)
    assert found.problems == ()
    assert set(found.values) == set(variables(SETTINGS))


def test_config_example_marks_the_variables_that_are_read() -> None:
    text = (ROOT / "config.example.py").read_text(encoding="utf-8")
    marked = set(re.findall(r"\[([A-Z][A-Z0-9_]+)\]", text)) - {"NAME"}
    read = {n for n in variables(SETTINGS) if not n.endswith("_FILE")} | {
        "REDIS_CA_FILE",
        "CONJUR_CERT_FILE",
        "CONJUR_JWT_FILE",
        "MONITORING_CA_FILE",
    }
    assert marked == read - {"MONITORING_CONFIG"}  # the file cannot name itself
