"""Ground: a running stack, a folder, and the scripts run on it as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sandbox.options import CANARY
from sandbox.stack import Stack
from tests import scripts

LAUNCHER = Path(__file__).parent / "launch.py"
PATIENCE = 60.0
_TIMED = ("api_response_time", "vault_response_time", "redis_response_time", "clock_skew")
_TIMED += ("authentication_time", "token_validation_time")
#: A machine that is busy with other tests is slow, and that is not the fault that is looked for.
CALM = {
    "ALERT_THRESHOLDS": {
        "performance": {name: {"warning": None, "critical": None} for name in _TIMED}
    }
}


@dataclass(frozen=True)
class Run:
    """A finished run. `document` is what `--output FILE` holds, None when it was not written."""

    script: str
    status: int
    out: str
    err: str
    document: Optional[Mapping[str, Any]]

    @property
    def seconds(self) -> float:
        """How long the cycle took."""
        assert self.document is not None, f"no document: {self.said()}"
        return float(self.document["duration_ms"]) / 1000

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """Every line of both streams; fails for one that is no JSON."""
        return [*scripts.check_lines(self.out), *scripts.check_lines(self.err)]

    def said(self) -> str:
        return (self.out + self.err)[-4000:]

    def check_form(self) -> None:
        """JSON lines only, and no traceback: what can go wrong outside is no bug of ours."""
        for line in self.lines():
            assert "error.stack_trace" not in line, line
        assert "Traceback" not in self.out + self.err, self.said()
        assert "eyJ" not in self.out + self.err + json.dumps(self.document)

    def rows(self) -> dict[str, dict[str, Any]]:
        """name -> fine, error, message: of the components, else of the sources."""
        assert self.document is not None, f"no document: {self.said()}"
        components = self.document.get("components", {})
        found = {
            name: {"fine": c["status"] == "ok", "error": c["error"], "message": c["message"]}
            for name, c in components.items()
        }
        for name, source in self.document["sources"].items():
            if name not in found:
                fine = source["ok"] or source.get("configured") is False
                why = source.get("why", "")
                found[name] = {"fine": fine, "error": source.get("error"), "message": why}
        return found


class Ground:
    """`env` and `overlay` (a dict of settings) may be changed before a run; `launch` holds what
    the launcher does to the process (see launch.py)."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.state = folder / "state"
        self.env = {**stack.environment, "MONITORING_STATE_DIR": str(self.state)}
        base = json.loads(Path(self.env.pop("MONITORING_CONFIG")).read_text())
        self.overlay: dict[str, Any] = {**base, **deepcopy(CALM)}
        self.launch: dict[str, Any] = {}
        # as after any login: EAPI knows the canary for 900 s, whichever row was played before
        if stack.eapi.cache is not None:
            stack.eapi.cache.store_credential(stack.book.credential(CANARY))

    def setting(self, name: str, value: Mapping[str, Any]) -> None:
        """Lay `value` over the dict setting `name`."""
        self.overlay[name] = {**self.overlay.get(name, {}), **value}

    def command(self, script: str, *words: str) -> list[str]:
        """The command line, settings file written."""
        config = self.folder / "overlay.yaml"
        config.write_text(json.dumps(self.overlay))
        path = str(scripts.ROOT / f"{script}.py")
        head = [str(LAUNCHER), json.dumps(self.launch), path] if self.launch else [path]
        return [sys.executable, *head, "--config", str(config), *words]

    def start(self, script: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The script, started; both streams are pipes unless `options` say otherwise."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            self.command(script, *words),
            **{"env": scripts.environment(self.env), "cwd": self.folder, **pipes, **options},
        )

    def run(self, script: str, *words: str, **options: Any) -> Run:
        """A single run (with `words`, only as they say), its document kept in a file."""
        target = self.folder / f"{script}.json"
        target.unlink(missing_ok=True)
        asked = words or ("--single-run", "--output", str(target))
        process = self.start(script, *asked, **options)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{script} did not end in {PATIENCE:g} s: {out}{err}") from None
        document = json.loads(target.read_text()) if target.exists() else None
        return Run(script, process.returncode, out or "", err or "", document)
