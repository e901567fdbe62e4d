"""`pip install .`: what the wheel holds, and that its commands work from any folder."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts

ROOT = scripts.ROOT
COMMANDS = tuple(f"payment-api-{name.replace('_', '-')}" for name in scripts.SCRIPTS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git tracks, and so from nothing that lies about."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    wanted = re.compile(r"monitoring/|deploy/package/|[^/]+\Z")
    for name in filter(wanted.match, filter(None, names.split("\0"))):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "-w", str(folder), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment; the libraries are those of this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "pip"), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def test_nothing_but_one_package_stands_at_the_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"payment_api_monitoring"}
    app = {name.partition("/app/")[2] for name in names if "/app/" in name}
    assert {"config.example.py", "config.py", "utils.py", "health_check.py"} <= app
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "monitoring").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in app if name.startswith("monitoring/")} == tracked
    assert not [name for name in app if name.startswith(("tests", "sandbox", "setup"))]
    assert "payment_api_monitoring/py.typed" in names
    assert "License-Expression: MIT" in metadata
    needs = re.findall(r"^Requires-Dist: ([a-z0-9-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    extras = re.findall(
        r"^Requires-Dist: ([a-z0-9-]+).*extra == .completion.", metadata, re.MULTILINE
    )
    assert extras == ["argcomplete"]
    wanted = re.findall(r"^([a-z0-9-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(needs) == set(wanted)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(Options(clients=3, preload=5, traffic=False)) as running:
        yield running


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_works_from_an_empty_folder(
    command: str, installed: Path, stack: Stack, tmp_path: Path
) -> None:
    env = scripts.environment(stack.environment)
    env["MONITORING_STATE_DIR"] = str(tmp_path / "state")
    (tmp_path / "empty").mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed / command), *words],
            cwd=tmp_path / "empty",
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("--version").stdout.split()[-1] == "1.0.0"
    checked = run("--check-config")
    assert checked.returncode == 0, checked.stderr
    single = run("--single-run", "--no-alerts")
    assert single.returncode in (0, 1, 2), single.stderr
    assert "Traceback" not in single.stdout + single.stderr
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_lock_file_has_every_library_with_its_hashes() -> None:
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    wanted = re.findall(r"^([a-z0-9-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    pinned = re.findall(r"^([a-z0-9-]+)==\S+.*\\\n +--hash=sha256:", lock, re.MULTILINE)
    assert set(wanted) <= set(pinned)
    assert len(pinned) == len(re.findall(r"^[a-z]", lock, re.MULTILINE))
    assert "://" not in lock


def test_no_file_names_a_package_index() -> None:
    """Which one is asked is the machine's matter: a mirror, or none."""
    done = subprocess.run(
        ["git", "grep", "-lIE", r"pypi\.org|pythonhosted\.org|--(extra-)?index-url[= ]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert set(done.stdout.split()) <= {"tests/test_package.py"}
