"""The tables that others make their decisions by can be printed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import scripts


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("benchmarks", ("--only", "scrape", "--scrapes", "3"), "| scrape with 500 clients, p99 |"),
        ("benchmarks", ("--only", "alerts"), "| notices per incident, as shipped |"),
        ("sandbox", ("chaos", "eapi answers 404"), "1 faults: 1 holds"),
        ("sandbox", ("chaos", "no such fault"), "0 faults"),
    ],
)
def test_a_table(module: str, words: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=scripts.ROOT, capture_output=True, text=True, check=False)
    assert said in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
