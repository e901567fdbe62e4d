"""Rows: the state file and the disk under it. A run without memory still measures and tells."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from monitoring.store.state import State
from tests.faults.ground import Ground, Run
from tests.faults.row import Row

Breaking = Callable[[Ground], AbstractContextManager[None]]
FILE = "state.sqlite3"


class NotHere(Exception):  # noqa: N818 - read as a sentence
    """This machine cannot make the fault; the text says why."""


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system of its own; raises NotHere."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise NotHere("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)


def forgetful(breaking: Breaking, said: str) -> Callable[[Ground], str]:
    """Everything is measured, exit 0, and one critical line says what happened to the memory."""

    def play(ground: Ground) -> str:
        with breaking(ground):
            run = ground.run("health_check")
        assert run.status in (0, 1), run.said()
        _measured(run)
        loud = [line["message"] for line in run.lines() if line["log.level"] == "critical"]
        assert any(said in message for message in loud), loud
        return f"exit {run.status}, measured; {len(loud)} critical line"

    return play


def sound(breaking: Breaking) -> Callable[[Ground], str]:
    """Nobody notices anything."""

    def play(ground: Ground) -> str:
        with breaking(ground):
            run = ground.run("health_check")
        assert run.status == 0, run.said()
        _measured(run)
        return "exit 0, measured and kept"

    return play


def _measured(run: Run) -> None:
    run.check_form()
    assert run.document is not None
    components = run.document["components"].values()
    assert [c["up"] for c in components] == [True] * 5, components


def prepared(change: Callable[[Path], None]) -> Breaking:
    """A state file of earlier cycles, then changed."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        with State.open(ground.state) as state:
            state.put("test", "a", "b" * 5000)
        change(ground.state / FILE)
        yield

    return make


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def _torn(path: Path) -> None:
    """Every page but the first is nonsense: what a failing disk leaves behind."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + os.urandom(max(0, len(data) - 4096)))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def version(number: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {number}")

    return change


def _older(path: Path) -> None:
    """A file that has no table yet, as a version before the first would have."""
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE something (a)")
        connection.commit()


@contextlib.contextmanager
def full_disk(ground: Ground) -> Iterator[None]:
    with mounted(ground.folder / "small", "size=64k"):
        ground.state = ground.folder / "small" / "state"
        ground.env["MONITORING_STATE_DIR"] = str(ground.state)
        (ground.folder / "small" / "ballast").write_bytes(b"x" * 40_000)
        yield


@contextlib.contextmanager
def all_full(ground: Ground) -> Iterator[None]:
    """The disk of the temporary files is full as well."""
    with full_disk(ground):
        ground.env["TMPDIR"] = str(ground.folder / "small")
        yield


@contextlib.contextmanager
def read_only(ground: Ground) -> Iterator[None]:
    with mounted(ground.folder / "still", "ro,size=1m"):
        ground.env["MONITORING_STATE_DIR"] = str(ground.folder / "still")
        yield


@contextlib.contextmanager
def quota(ground: Ground) -> Iterator[None]:
    """No file may grow beyond 16 kB, wherever it lies."""
    ground.launch["files"] = 16_384
    yield


@contextlib.contextmanager
def not_a_folder(ground: Ground) -> Iterator[None]:
    (ground.folder / "file").write_text("")
    ground.env["MONITORING_STATE_DIR"] = str(ground.folder / "file" / "state")
    yield


@contextlib.contextmanager
def replaced_by_a_file(ground: Ground) -> Iterator[None]:
    """Whoever may write beside the state folder can do that."""
    ground.state.write_text("")
    yield


@contextlib.contextmanager
def locked(ground: Ground) -> Iterator[None]:
    """Another program holds a write transaction and does not end it."""
    ground.launch["patience"] = 0.5
    with State.open(ground.state):
        pass
    with contextlib.closing(sqlite3.connect(ground.state / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def lock_held(ground: Ground) -> str:
    """Another run of the same script is at it."""
    ground.setting("RUN", {"lock_wait": "0.2s"})
    with State.open(ground.state) as state, state.lock("health_check"):
        run = ground.run("health_check")
    run.check_form()
    assert run.status == 3, run.said()
    assert f"process {os.getpid()} " in run.err
    return "exit 3, names who holds it"


def full_output(ground: Ground) -> str:
    """The disk that --output writes to is full."""
    with mounted(ground.folder / "small", "size=16k"):
        (ground.folder / "small" / "ballast").write_bytes(b"x" * 16_384)
        words = ("--single-run", "--output", str(ground.folder / "small" / "r.json"))
        run = ground.run("health_check", *words)
    run.check_form()
    assert run.status in (0, 1), run.said()
    assert "cannot write --output" in run.said()
    return f"exit {run.status}, says that the result was not written"


def _row(name: str, play: Callable[[Ground], str]) -> Row:
    return Row(name, play=play)


def _aside(play: Callable[[Ground], str]) -> Callable[[Ground], str]:
    """And the damaged file is kept for inspection."""

    def also(ground: Ground) -> str:
        said = play(ground)
        assert list(ground.state.glob(f"{FILE}.corrupt-*")), "the damaged file is gone"
        again: Any = ground.run("health_check")
        assert not [line for line in again.lines() if line["log.level"] == "critical"]
        return f"{said}; moved aside, the next run is quiet"

    return also


_ROWS = (
    _row("state: garbage", _aside(forgetful(prepared(_garbage), "corrupt"))),
    _row("state: cut off", _aside(forgetful(prepared(_cut), "corrupt"))),
    _row("state: torn pages", _aside(forgetful(prepared(_torn), "damaged"))),
    _row("state: an empty file", sound(prepared(_empty))),
    _row("state: an older file", sound(prepared(_older))),
    _row("state: a newer file", forgetful(prepared(version(99)), "schema 99")),
    _row("state: folder cannot be made", forgetful(not_a_folder, "without memory")),
    _row("state: a file in place of the folder", forgetful(replaced_by_a_file, "without memory")),
    _row("state: read-only medium", forgetful(read_only, "without memory")),
    _row("state: disk full", forgetful(full_disk, "without memory")),
    _row("state: every disk full", forgetful(all_full, "without memory")),
    _row("state: files may not grow", forgetful(quota, "without memory")),
    _row("state: locked by another program", forgetful(locked, "locked")),
    _row("state: locked by another run", lock_held),
    _row("output: disk full", full_output),
)
ROWS = tuple(replace(row, group="state") for row in _ROWS)
