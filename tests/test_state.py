"""The state file under everything that happens to files: crowds, kills, damage, full disks."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from monitoring.store import schema, state
from monitoring.store.state import State, StateLocked

ROOT = Path(__file__).resolve().parents[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def child(body: str, *args: object) -> subprocess.Popen[str]:
    """A Python process that runs `body` with the folder and further arguments in sys.argv."""
    head = "import sys, os\nfrom pathlib import Path\nfrom monitoring.store.state import State\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + body, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line the child wrote."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


# -- the plain life of it


def test_what_is_put_is_got_also_after_reopening(tmp_path: Path) -> None:
    first = State.open(tmp_path / "deep" / "state")
    assert first.get("scope", "key") is None
    first.put("scope", "key", "one")
    first.put("scope", "key", "two")
    first.put("other", "key", "three")
    first.close()
    again = State.open(tmp_path / "deep" / "state")
    assert (again.get("scope", "key"), again.get("other", "key")) == ("two", "three")
    assert again.read("SELECT count(*) FROM kv") == [(schema.VERSION,)]
    again.close()


def test_every_table_of_the_contract_exists(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    names = {row[0] for row in kept.read("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names >= {
        *("kv", "series", "samples", "cycles", "alert_states", "notices", "ledger"),
        *("counters", "buckets", "bucket_hours", "profiles"),
    }
    assert kept.read("PRAGMA user_version") == [(schema.VERSION,)]
    assert kept.read("PRAGMA journal_mode") == [("wal",)]
    kept.close()


def test_folder_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        kept = State.open(tmp_path / "state")
        kept.put("a", "b", "c")
        with kept.lock("run"):
            pass
    finally:
        os.umask(previous)
    assert mode(tmp_path / "state") == 0o700
    files = {entry.name: mode(entry) for entry in (tmp_path / "state").iterdir()}
    assert {"state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm", "run.lock"} <= set(files)
    assert set(files.values()) == {0o600}
    kept.close()


@pytest.mark.parametrize(("guest", "expected"), [("", 0o700), ("somebody.txt", 0o755)])
def test_a_folder_is_tightened_only_when_it_is_ours(
    tmp_path: Path, guest: str, expected: int
) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    folder.chmod(0o755)
    if guest:
        (folder / guest).write_text("mine")
    State.open(folder).close()
    assert mode(folder) == expected


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    with pytest.raises(ValueError, match="stop"), kept.transaction() as tx:  # noqa: PT012
        tx.execute("INSERT INTO bucket_hours (at, seconds) VALUES (1, 60)")
        raise ValueError("stop")
    assert kept.read("SELECT * FROM bucket_hours") == []
    with kept.transaction() as tx:
        tx.executemany("INSERT INTO bucket_hours (at, seconds) VALUES (?, 60)", [(1,), (2,)])
        assert tx.execute("SELECT count(*) FROM bucket_hours") == [(2,)]
    assert kept.read("SELECT at FROM bucket_hours") == [(1.0,), (2.0,)]
    kept.close()


def test_a_transaction_inside_another_joins_it(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    with pytest.raises(ValueError, match="stop"), kept.transaction():  # noqa: PT012
        kept.put("a", "b", "c")
        assert kept.get("a", "b") == "c"
        raise ValueError("stop")
    assert kept.get("a", "b") is None
    kept.close()


def test_a_wrong_statement_gives_nothing_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = State.open(tmp_path)
    assert kept.read("SELECT * FROM nowhere") == []
    with kept.transaction() as tx:
        tx.executemany("INSERT INTO bucket_hours (at, seconds) VALUES (?, 60)", [(1,), (1,)])
    assert not tx.kept
    kept.retry()
    kept.put("a", "b", "c")
    assert kept.get("a", "b") == "c"
    assert kept.read("SELECT count(*) FROM bucket_hours") == [(0,)]
    assert list(tmp_path.glob("*.corrupt-*")) == [], "the file is sound"
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert any("no such table" in line for line in said)
    assert any("UNIQUE" in line for line in said)
    kept.close()
    assert kept.get("a", "b") is None


def test_pruned_pages_go_back_to_the_file_system(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    with kept.transaction() as tx:
        tx.executemany(
            "INSERT INTO kv VALUES ('big', ?, ?, 0)", [(str(n), "x" * 1000) for n in range(2000)]
        )
    pages = kept.read("PRAGMA page_count")[0][0]
    with kept.transaction() as tx:
        tx.execute("DELETE FROM kv")
    kept.shrink()
    assert kept.read("PRAGMA page_count")[0][0] < pages / 5
    assert kept.size() > 0
    kept.close()


# -- crowds


def test_threads_share_one_connection(tmp_path: Path) -> None:
    kept = State.open(tmp_path)

    def work(name: int) -> None:
        for turn in range(40):
            with kept.transaction() as tx:
                (row,) = tx.execute("SELECT coalesce(max(at), 0) FROM bucket_hours")
                tx.execute(
                    "INSERT INTO bucket_hours (at, seconds) VALUES (?, ?)", (row[0] + 1, name)
                )
            kept.read("SELECT count(*) FROM bucket_hours")
            kept.put("thread", str(name), str(turn))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))  # raises what a thread raised
    assert kept.read("SELECT max(at), count(*) FROM bucket_hours") == [(240.0, 240)]
    kept.close()


def _add(folder: str, turns: int) -> None:
    kept = State.open(Path(folder))
    for _ in range(turns):
        with kept.transaction() as tx:
            (row,) = tx.execute("SELECT coalesce(max(at), 0) FROM bucket_hours")
            tx.execute("INSERT INTO bucket_hours (at, seconds) VALUES (?, 1)", (row[0] + 1,))
    kept.close()


def test_processes_that_start_at_once_share_a_new_file(tmp_path: Path) -> None:
    """All create, migrate and count up the same file: no update is lost."""
    context = multiprocessing.get_context("spawn")
    crowd = [context.Process(target=_add, args=(str(tmp_path), 50)) for _ in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert [process.exitcode for process in crowd] == [0] * 4
    kept = State.open(tmp_path)
    assert kept.read("SELECT max(at), count(*) FROM bucket_hours") == [(200.0, 200)]
    kept.close()


def test_a_writer_that_never_ends_is_named_after_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state, "BUSY_SECONDS", 0.1)
    kept = State.open(tmp_path)
    kept.put("a", "b", "before")
    other = sqlite3.connect(kept.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert kept.get("a", "b") == "before", "readers do not wait for writers"
    kept.put("a", "b", "c")
    assert "another process has kept it locked" in kept.trouble
    assert kept.get("a", "b") == "c", "in memory"
    kept.retry()
    kept.put("a", "b", "d")
    other.execute("ROLLBACK")
    other.close()
    assert len([r for r in caplog.records if r.levelno == logging.CRITICAL]) == 1
    kept.retry()
    assert kept.get("a", "b") == "before"
    assert kept.trouble == ""
    kept.close()


# -- kill -9


def test_kill_9_loses_only_the_transaction_under_way(tmp_path: Path) -> None:
    writer = child(
        "kept = State.open(Path(sys.argv[1]))\n"
        "kept.put('done', 'first', 'yes')\n"
        "with kept.transaction() as tx:\n"
        "    tx.executemany(\"INSERT INTO kv VALUES ('half', ?, ?, 0)\",\n"
        "        [(str(n), 'x' * 2000) for n in range(5000)])\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.read()\n",
        tmp_path,
    )
    assert said(writer) == "written"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    kept = State.open(tmp_path)
    assert kept.get("done", "first") == "yes"
    assert kept.read("SELECT count(*) FROM kv") == [(1,)]
    assert kept.read("PRAGMA integrity_check") == [("ok",)]
    kept.close()


def test_kill_9_at_any_moment_leaves_what_was_reported_as_done(tmp_path: Path) -> None:
    body = (
        "kept = State.open(Path(sys.argv[1]))\n"
        "for n in range(10 ** 6):\n"
        "    with kept.transaction() as tx:\n"
        "        tx.execute(\"INSERT OR REPLACE INTO kv VALUES ('turn', 'a', ?, 0)\", (n,))\n"
        "        tx.execute(\"INSERT OR REPLACE INTO kv VALUES ('turn', 'b', ?, 0)\", (n,))\n"
        "    print(n, flush=True)\n"
    )
    for lines in (1, 7, 40):
        writer = child(body, tmp_path)
        last = [said(writer) for _ in range(lines)][-1]
        writer.kill()
        assert writer.stdout is not None
        later = writer.stdout.read().split()
        writer.communicate()
        last = later[-1] if later else last
        kept = State.open(tmp_path)
        first, second = kept.get("turn", "a"), kept.get("turn", "b")
        assert first == second
        assert first is not None
        assert int(first) >= int(last) - 1  # the pipe may end in the middle of a number
        kept.close()


@pytest.mark.parametrize("statement", [1, 4, 9, 20, 24])
def test_kill_9_while_the_file_is_made(tmp_path: Path, statement: int) -> None:
    maker = child(
        "import sqlite3, signal, itertools\n"
        "steps, plain = itertools.count(1), sqlite3.connect\n"
        "def traced(*args, **more):\n"
        "    connection = plain(*args, **more)\n"
        "    connection.set_trace_callback(lambda sql: next(steps) == int(sys.argv[2])\n"
        "        and os.kill(os.getpid(), signal.SIGKILL))\n"
        "    return connection\n"
        "sqlite3.connect = traced\n"
        "State.open(Path(sys.argv[1]))\n",
        tmp_path,
        statement,
    )
    maker.communicate()
    assert maker.returncode == -signal.SIGKILL
    kept = State.open(tmp_path)
    kept.put("a", "b", "c")
    assert kept.read("PRAGMA user_version") == [(schema.VERSION,)]
    assert kept.read("PRAGMA auto_vacuum") == [(schema.VERSION,)]
    kept.close()
    assert list(tmp_path.glob("*.corrupt-*")) == []


# -- the lock


def test_a_lock_names_its_holder_and_is_freed_by_the_kernel(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    (tmp_path / "health_check.lock").write_text("what an earlier holder wrote\n" * 5)
    holder = child(
        "with State.open(Path(sys.argv[1])).lock('health_check'):\n"
        "    print(os.getpid(), flush=True)\n"
        "    sys.stdin.read()\n",
        tmp_path,
    )
    pid = said(holder)
    with pytest.raises(StateLocked) as caught, kept.lock("health_check", wait=0.1):
        pass
    assert caught.value.holder == f"process {pid}"
    assert caught.value.since.endswith("Z")
    assert "earlier" not in (tmp_path / "health_check.lock").read_text()
    assert pid in str(caught.value)
    assert "health_check.lock" in str(caught.value)
    with kept.lock("token_usage_metrics", wait=0):
        pass  # another name is another lock
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with kept.lock("health_check", wait=0):
        pass
    kept.close()


def test_a_lock_keeps_threads_apart_and_waits(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    entered, leave, got = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with kept.lock("run"):
            entered.set()
            leave.wait()

    def second() -> None:
        with kept.lock("run", wait=60):
            got.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    with pytest.raises(StateLocked), kept.lock("run", wait=0):
        pass
    assert not got.is_set()
    leave.set()
    assert got.wait(30)
    for thread in threads:
        thread.join()
    kept.close()


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "UPPER", "x" * 65])
def test_a_lock_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    kept = State.open(tmp_path)
    with pytest.raises(ValueError, match="lock name"):
        kept.lock(name)
    kept.close()


# -- damage


def fill(folder: Path, rows: int = 3000) -> Path:
    kept = State.open(folder)
    with kept.transaction() as tx:
        tx.executemany(
            "INSERT INTO kv VALUES ('fill', ?, ?, 0)", [(str(n), "y" * 300) for n in range(rows)]
        )
    kept.shrink()
    kept.close()
    return kept.path


@pytest.mark.parametrize(
    "damage",
    [b"this is no database, somebody redirected a log here\n" * 40, b"SQLite format 3\0" * 300],
)
def test_a_file_that_is_no_database_is_moved_aside(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.sqlite3").write_bytes(damage)
    with caplog.at_level(logging.CRITICAL):
        kept = State.open(tmp_path)
    kept.put("a", "b", "c")
    assert kept.get("a", "b") == "c"
    kept.close()
    (aside,) = tmp_path.glob("state.sqlite3.corrupt-*Z")
    assert aside.read_bytes() == damage
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert aside.name in record.getMessage()


def test_damage_found_in_use_starts_a_new_file_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = fill(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as handle:  # the header stays, the pages of the table do not
        handle.seek(32768)
        handle.write(b"\xff" * (size - 40960))
    kept = State.open(tmp_path)
    kept.read("SELECT sum(length(value)) FROM kv")
    kept.put("a", "b", "c")  # the very same object goes on
    assert kept.usable
    assert kept.get("a", "b") == "c"
    kept.close()
    assert len(list(tmp_path.glob("state.sqlite3.corrupt-*Z"))) == 1
    assert [r.levelname for r in caplog.records] == ["CRITICAL"]


def test_damage_found_by_two_at_once_costs_one_file(tmp_path: Path) -> None:
    """The second finds a sound new file and must not move that one aside too."""
    path = fill(tmp_path)
    with path.open("r+b") as handle:
        handle.seek(32768)
        handle.write(b"\xff" * (path.stat().st_size - 40960))
    first, second = State.open(tmp_path), State.open(tmp_path)
    for kept in (first, second):
        kept.read("SELECT sum(length(value)) FROM kv")
        kept.put("from", str(id(kept)), "x")
    assert first.read("SELECT count(*) FROM kv WHERE scope = 'from'") == [(2,)]
    assert len(list(tmp_path.glob("state.sqlite3.corrupt-*Z"))) == 1
    first.close()
    second.close()


def test_only_a_few_damaged_files_are_kept(tmp_path: Path) -> None:
    for year in range(2010, 2020):
        (tmp_path / f"state.sqlite3.corrupt-{year}0101T000000Z").write_text("old")
        (tmp_path / f"state.sqlite3.corrupt-{year}0101T000000Z-wal").write_text("old")
    (tmp_path / "state.sqlite3").write_bytes(b"nonsense" * 100)
    State.open(tmp_path).close()
    kept = sorted(entry.name for entry in tmp_path.glob("*.corrupt-*Z"))
    assert len(kept) == 3
    assert kept[0].endswith("20180101T000000Z")
    assert len(list(tmp_path.glob("*-wal"))) == 2


def test_a_deleted_folder_does_not_swallow_the_records_of_a_running_loop(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    kept = State.open(folder)
    kept.put("a", "b", "before")
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    with kept.lock("run", wait=0):
        pass
    kept.put("a", "b", "after")
    other = State.open(folder)
    assert other.get("a", "b") == "after"
    other.close()
    kept.close()


# -- versions


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = fill(tmp_path, rows=1)
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("PRAGMA user_version = 99")
    plain.close()
    kept = State.open(tmp_path)
    assert re.search(r"schema 99.*upgrade these scripts", kept.trouble)
    kept.put("a", "b", "c")
    kept.close()
    assert list(tmp_path.glob("*.corrupt-*")) == []
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        assert plain.execute("SELECT count(*) FROM kv").fetchone() == (1,)
    plain.close()


def test_an_older_file_is_brought_forward_with_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, rows=5)
    more = (*schema.MIGRATIONS, ("ALTER TABLE kv ADD COLUMN note TEXT NOT NULL DEFAULT 'old'",))
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    monkeypatch.setattr(schema, "VERSION", len(schema.MIGRATIONS))
    kept = State.open(tmp_path)
    assert kept.read("SELECT DISTINCT note, count(*) FROM kv") == [("old", 5)]
    assert kept.read("PRAGMA user_version") == [(schema.VERSION,)]
    kept.close()


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, rows=5)
    broken = (*schema.MIGRATIONS, ("CREATE TABLE extra (a)", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    monkeypatch.setattr(schema, "VERSION", len(schema.MIGRATIONS))
    broken_one = State.open(tmp_path)
    assert "nowhere" in broken_one.trouble
    broken_one.close()
    monkeypatch.undo()
    kept = State.open(tmp_path)
    assert kept.read("SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    kept.close()


# -- read-only, full, in the way


def as_nobody(body: str, folder: Path) -> Any:
    """Run `body` where file modes count: root ignores them, so it becomes nobody first."""
    script = (
        "import os, sys, json, sqlite3, urllib.parse\nfrom pathlib import Path\n"
        "from monitoring.store.state import State\n"
        "if os.geteuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps((lambda folder: " + body + ")(Path(sys.argv[1]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def open_for_all(folder: Path) -> None:
    """Let nobody reach `folder` through pytest's private parents."""
    for parent in [folder, *folder.parents]:
        if "pytest-" not in str(parent):
            break
        parent.chmod(0o755)


def test_a_folder_of_another_user_is_named_with_its_cure(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    open_for_all(folder)
    folder.chmod(0o777)
    trouble = as_nobody("State.open(folder).trouble", folder)
    assert str(folder) in trouble
    assert "another user" in trouble
    assert "MONITORING_STATE_DIR" in trouble
    assert list(folder.iterdir()) == []


def test_without_a_lock_file_the_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = State.open(tmp_path)
    (tmp_path / "run.lock").mkdir()
    with kept.lock("run"):
        kept.put("a", "b", "c")
    kept.close()
    assert any("run.lock is not a file" in r.getMessage() for r in caplog.records)


def test_a_folder_name_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    assert "MONITORING_STATE_DIR" in State.open(tmp_path / "state").trouble


def test_a_full_disk_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    kept = State.open(tmp_path)
    kept.put("a", "b", "c")
    kept.read("PRAGMA max_page_count = 60")  # the limit behaves as a full disk does
    with kept.transaction() as tx:
        tx.executemany(
            "INSERT INTO kv VALUES ('fill', ?, ?, 0)", [(str(n), "x" * 4000) for n in range(500)]
        )
    assert not tx.kept
    assert "full; free some space" in kept.trouble
    kept.retry()
    assert kept.read("SELECT count(*) FROM kv WHERE scope = 'fill'") == [(0,)]
    kept.put("a", "b", "again")
    assert kept.get("a", "b") == "again"
    kept.close()
