"""CI must not go green because something was missing: there a skip fails, whoever skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.scripts import ROOT

PROGRAM = """
import pytest

def test_in_the_body(): pytest.skip("promtool is not on PATH")

@pytest.mark.skipif(True, reason="chromium is not installed")
def test_by_a_mark(): pass

@pytest.fixture
def server(): pytest.skip("no redis")
def test_in_a_fixture(server): pass

def test_of_a_library(): pytest.importorskip("nosuchmodule")

def test_excused(): pytest.skip("mounting a small file system needs root")
"""


def _played(folder: Path, **env: str) -> str:
    (folder / "test_these.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", str(folder)]
    command += ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    # Its own: pytest closes the shared folder of temporary files to others when it begins, under
    # tests that look into theirs as another user.
    command += ["--basetemp", str(folder / "temporary")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[-1]


def test_a_skip_fails_in_ci_and_nowhere_else(tmp_path: Path) -> None:
    assert _played(tmp_path).startswith("5 skipped")
    assert _played(tmp_path, MONITORING_CI="1").startswith("2 failed, 1 skipped, 2 errors")
