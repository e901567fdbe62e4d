"""Observers: the three scripts as exporters; a real Prometheus and Alertmanager where installed.

They use the files of deploy/, with only addresses and times changed, so that what is seen here is
what somebody who deploys them will see.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import yaml

from sandbox.redis_server import free_port
from sandbox.watchdog import Watchdog

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SCRIPTS = ("health_check", "token_usage_metrics", "credential_usage_metrics")
STARTED = 20.0  # seconds a program may take until it answers
STOPPED = 5.0


class NotStartedError(RuntimeError):
    """A program did not come up; the text has the end of its log."""


class Program:
    """One child process, its log in a file, killed with us by the watchdog."""

    def __init__(self, words: Sequence[str], log: Path, env: Optional[Mapping[str, str]] = None):
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=log.parent
            )
        self._watchdog = Watchdog()
        self._watchdog.guard(self._process.pid)

    def wait_for(self, url: str) -> None:
        """Until `url` answers 200. Raises NotStartedError."""
        deadline = time.monotonic() + STARTED
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                get(url)
                return
            time.sleep(0.05)
        raise NotStartedError(f"{self.log.stem}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """End it, gently first. Harmless when repeated."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOPPED)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._watchdog.close()


def get(url: str, timeout: float = 5.0) -> bytes:
    """The body of a 200. Raises OSError (URLError is one) for anything else."""
    with urllib.request.urlopen(url, timeout=timeout) as reply:
        return bytes(reply.read())


class Exporter(Program):
    """One script with `--prometheus-port`; `url` is where its metrics are."""

    def __init__(
        self,
        script: str,
        environment: Mapping[str, str],
        folder: Path,
        *,
        interval: float = 5.0,
        flags: Sequence[str] = (),
    ) -> None:
        self.script = script
        words = [sys.executable, str(ROOT / f"{script}.py"), "--prometheus-port", "0"]
        words += ["--prometheus-address", "127.0.0.1", "--interval", str(interval), *flags]
        super().__init__(words, folder / f"{script}.log", {**os.environ, **environment})
        self.address = self._address()
        self.url = f"http://{self.address}/metrics"

    def _address(self) -> str:
        """As it says itself, once it serves."""
        deadline = time.monotonic() + STARTED
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self.log.read_text(encoding="utf-8", errors="replace")  # the first lines too
            found = re.search(r"serving metrics on http://([\d.:]+)/metrics", said)
            if found:
                return found.group(1)
            time.sleep(0.05)
        tail = self.tail()
        self.stop()
        raise NotStartedError(f"{self.script}: {tail}")


def exporters(
    environment: Mapping[str, str],
    folder: Path,
    *,
    interval: float = 5.0,
    flags: Sequence[str] = (),
) -> list[Exporter]:
    """One for each script."""
    return [
        Exporter(script, environment, folder, interval=interval, flags=flags)
        for script in SCRIPTS
        if (ROOT / f"{script}.py").exists()
    ]


def find(*names: str) -> Optional[str]:
    """The first of these programs that is installed."""
    return next((path for path in map(shutil.which, names) if path), None)


def hurried(text: str, minute: float) -> str:
    """Rules that hold for `minute` seconds instead of each minute: a demo is short."""

    def shorter(found: re.Match[str]) -> str:
        minutes = int(found[2]) / (60 if found[3] == "s" else 1)
        return f"{found[1]}{max(1, round(minutes * minute))}s"

    return re.sub(r"^(\s*(?:keep_firing_)?for: )(\d+)([ms])$", shorter, text, flags=re.MULTILINE)


class Alertmanager(Program):
    """A real one, routing by deploy/alertmanager to one webhook per receiver:
    `{webhook}?receiver=NAME` gets everything, two seconds after it began."""

    def __init__(self, folder: Path, webhook: str) -> None:
        home = folder / "alertmanager"
        home.mkdir()
        path = home / "alertmanager.yml"
        path.write_text(yaml.safe_dump(self._config(webhook)))
        self.url = f"http://127.0.0.1:{free_port()}"
        program = find("prometheus-alertmanager", "alertmanager")
        if program is None:
            raise NotStartedError("alertmanager is not installed")
        super().__init__(
            [
                program,
                f"--config.file={path}",
                f"--storage.path={home}",
                f"--web.listen-address={self.url[7:]}",
                "--cluster.listen-address=",
            ],
            folder / "alertmanager.log",
        )
        self.wait_for(f"{self.url}/-/ready")

    @staticmethod
    def _config(webhook: str) -> Any:
        config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
        for receiver in config["receivers"]:
            name = receiver["name"]
            hook = {"url": f"{webhook}?receiver={name}", "send_resolved": True}
            receiver.clear()
            receiver.update(name=name, webhook_configs=[hook])
        _soon(config["route"])
        return config

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds as active, hushed ones too."""
        found: list[dict[str, Any]] = json.loads(get(f"{self.url}/api/v2/alerts"))
        return found

    def post(self, alerts: Sequence[Mapping[str, str]]) -> None:
        """Fire alerts with these labels, as any client of its API does. Raises OSError."""
        body = json.dumps([{"labels": dict(labels)} for labels in alerts]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", body, headers)
        urllib.request.urlopen(request, timeout=5.0).close()


def _soon(route: dict[str, Any]) -> None:
    """What explains something else may come a moment later, so not at once."""
    route.update(group_wait="2s", group_interval="2s")
    for child in route.get("routes", []):
        _soon(child)


class Prometheus(Program):
    """A real one with the rules of deploy/prometheus, scraping `targets` (host:port). What must
    last a minute must last `minute` seconds here. `blocks`: a folder of what it shall know already
    (`promtool tsdb create-blocks-from`)."""

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str],
        *,
        alertmanager: str = "",
        environment: str = "demo",
        every: str = "1s",
        minute: float = 1.0,
        blocks: Optional[Path] = None,
    ) -> None:
        home = folder / "prometheus"
        (home / "rules").mkdir(parents=True)
        for rules in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
            (home / "rules" / rules.name).write_text(hurried(rules.read_text(), minute))
        path = home / "prometheus.yml"
        config = self._config(targets, alertmanager, environment)
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        config["scrape_configs"][0]["scrape_timeout"] = every
        path.write_text(yaml.safe_dump(config))
        if blocks is not None:
            shutil.copytree(blocks, home / "data")
        self.url = f"http://127.0.0.1:{free_port()}"
        program = find("prometheus")
        if program is None:
            raise NotStartedError("prometheus is not installed")
        words = [program, f"--config.file={path}", f"--storage.tsdb.path={home / 'data'}"]
        words += [
            f"--web.listen-address={self.url[7:]}",
            f"--rules.alert.resend-delay={minute:g}s",
        ]
        super().__init__(words, folder / "prometheus.log")
        self.wait_for(f"{self.url}/-/ready")

    @staticmethod
    def _config(targets: Sequence[str], alertmanager: str, environment: str) -> Any:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        static = config["scrape_configs"][0]["static_configs"][0]
        static.update(targets=list(targets), labels={"environment": environment})
        peers = config["alerting"]["alertmanagers"][0]["static_configs"][0]
        peers["targets"] = [alertmanager.rpartition("/")[2]] if alertmanager else []
        return config

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an API answer. Raises OSError; an error of a query is one too (HTTP 400)."""
        query = urllib.parse.urlencode(parameters)
        return json.loads(get(f"{self.url}/api/v1/{path}?{query}"))["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Samples of an instant query."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found
