"""How tests run the three scripts: as a user would, each a process, from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    name
    for name in ("health_check", "token_usage_metrics", "credential_usage_metrics")
    if (ROOT / f"{name}.py").exists()
]


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The process's environment with `extra`; asks Python to show every warning."""
    return {**os.environ, "PYTHONWARNINGS": "default", **extra}


def start(
    script: str,
    *words: str,
    env: Mapping[str, str],
    cwd: Path,
    stderr: Optional[int] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """The script, started and not waited for."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / f"{script}.py"), *words],
        env=environment(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def run(
    script: str, *words: str, env: Mapping[str, str], cwd: Path, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The script, run to its end."""
    process = start(script, *words, env=env, cwd=cwd)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def lines(text: str) -> list[dict[str, Any]]:
    """Every line as the JSON object it must be; fails naming the line that is none."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise AssertionError(f"not JSON: {line!r}") from error
    return found


def check_lines(text: str) -> Sequence[Mapping[str, Any]]:
    """Every line is JSON with what Filebeat needs."""
    found = lines(text)
    for line in found:
        assert {"@timestamp", "log.level", "message"} <= set(line), line
    return found
