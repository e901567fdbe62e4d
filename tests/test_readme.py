"""README.md is true: every command runs, the tables are the code's, the links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.options import Options
from sandbox.stack import Stack
from tests import readme_tables
from tests.scripts import ROOT, environment

TEXT = readme_tables.README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:bash|cron)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
INLINE = re.findall(r"`(python [^`]+)`", TEXT)
COMMANDS = list(dict.fromkeys([line for line in LINES if line] + INLINE))
PYTHON = [line for line in COMMANDS if line.startswith("python ")]
#: A word in it marks a command that ends by itself; any other one loops until it is told to stop.
ENDS = (
    *(
        "--setup",
        "--single-run",
        "--check-config",
        "--test-alerts",
        "--alerts",
        "--sla",
        "--analyze",
    ),
    *("--inventory", "--check-rotation", "--can-revoke", "--replay", "-m "),
)
#: Not run here, but there: (file, what it says).
ELSEWHERE = {
    "make demo": (".ci/run", "make demo"),
    "make test": (".ci/run", "make test"),
    "make lint": (".ci/run", "make lint"),
    "make demo-web": ("tests/test_sandbox_web_demo.py", "web_demo.serve("),
    "make matrix": (".ci/run", "make matrix"),
}

pytestmark = pytest.mark.xdist_group("readme")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=6, preload=30, traffic=False)) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy for the commands that write: a test changes no file of the repository."""
    copy = tmp_path_factory.mktemp("repository") / "copy"
    left = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "demo-results")
    shutil.copytree(ROOT, copy, ignore=left)
    return copy


def words_of(command: str, root: Path) -> list[str]:
    """The command with this Python, the scripts in `root`, and a port that is free."""
    words = shlex.split(command.replace("9090", "0"))
    paths = [str(root / w) if w.endswith(".py") else w for w in words]
    return [sys.executable if w == "python" else w for w in paths]


@pytest.mark.parametrize("command", PYTHON)
def test_every_python_command_runs(
    command: str, stack: Stack, folder: Path, repository: Path
) -> None:
    env = environment({**stack.environment, "PYTHONPATH": str(repository)})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words_of(command, repository), env=env, cwd=folder, **streams)  # type: ignore[call-overload]
    if not any(word in command for word in ENDS):
        process.stdout.readline()  # one cycle is done
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "can't open file" not in err
    assert "failed: " not in err, err  # no step of a cycle
    assert "without memory" not in err
    # 3: after one cycle, too little of a week or a month was watched to call a target met
    young = (3,) if "--sla" in command or "--analyze" in command else ()
    allowed = (0, 1, 2, *young) if any(word in command for word in ENDS) else (0,)
    assert process.returncode in allowed, f"{command}\n{out[-2000:]}\n{err[-2000:]}"


def test_the_other_commands_are_run_elsewhere() -> None:
    others = [line for line in COMMANDS if not line.startswith("python ")]
    for line in others:
        if line.startswith("make "):
            file, says = ELSEWHERE[line]
            assert says in (ROOT / file).read_text(), line
            assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text(), line
    known = ("make ", "python3 -m venv .venv && ", "*/5 ")
    assert [line for line in others if not line.startswith(known)] == []


def test_the_copied_configuration_is_the_shipped_one() -> None:
    example, shipped = ROOT / "config.example.py", ROOT / "config.py"
    assert example.read_bytes() == shipped.read_bytes()


@pytest.mark.parametrize("name", readme_tables.TABLES)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    text = readme_tables.page(name).read_text(encoding="utf-8")
    assert readme_tables.filled(name, text) == text, "run: make generate"
    assert f"(docs/reference/{name}.md)" in TEXT


def test_the_readme_stays_short() -> None:
    assert len(TEXT.encode()) <= 20_000


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    anchors = re.findall(r"\]\(#([^)]+)\)", TEXT)
    heads = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    made = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
    assert [anchor for anchor in anchors if anchor not in made] == []


def test_every_requirement_has_its_reason() -> None:
    text = (ROOT / "requirements.txt").read_text()
    names = re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?>=", text, re.MULTILINE)
    table = TEXT[TEXT.index("| package |") : TEXT.index("The floors in")]
    assert [name for name in names if name not in table] == []


def test_every_flag_of_every_script_is_in_the_readme() -> None:
    for script in ("health_check", "token_usage_metrics", "credential_usage_metrics"):
        helped = subprocess.run(
            [sys.executable, str(ROOT / f"{script}.py"), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        flags = set(re.findall(r"(--[a-z][a-z-]+)", helped.stdout.split("examples:")[0]))
        assert sorted(flag for flag in flags if flag not in TEXT) == [], script
