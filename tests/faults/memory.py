"""Rows: an outage is told, and its end, whatever happens to the state file in the meantime."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from tests.failing_sqlite import EXCEPTIONS
from tests.faults.channels import told
from tests.faults.ground import PATIENCE, Ground, Run
from tests.faults.process import interrupted, listening
from tests.faults.row import EAPI, Row
from tests.faults.state import FILE, mounted

SCRIPT = "health_check"
USUAL = 2  # bad cycles in a row until an alert fires
KINDS = ("pagerduty", "slack", "smtp", "webhook")
LATER = 30.0  # seconds that a loop is given
Breaking = Callable[[Ground], AbstractContextManager[None]]


def everyone(ground: Ground) -> None:
    """All five channels are told of what is critical, after the usual number of bad cycles."""
    names = ["pagerduty", "slack", "email", "webhook"]
    ground.setting("NOTIFICATION_CHANNELS", {"critical": names, "warning": names})
    ground.setting("ALERTS", {"send_budget": "5s"})
    ground.stack.bag.clear()
    ground.stack.faults.clear()


def heard(ground: Ground, event: str) -> list[str]:
    """The dedup keys of EAPI's alert that PagerDuty was sent for `event`, trigger or resolve."""
    texts = (text.partition(" ") for text in told(ground, "pagerduty"))
    return [key for what, _, key in texts if what == event and f"/{EAPI}/" in key]


def who_knows(ground: Ground) -> list[str]:
    """The channels that were told of EAPI."""
    knows = [kind for kind in KINDS if any(EAPI in text for text in told(ground, kind))]
    fires = any(EAPI in json.dumps(alert) for alert in ground.stack.receivers.alerts())
    return knows + ["alertmanager"] * fires


def bad_run(ground: Ground) -> Run:
    """A run from cron while EAPI answers 500: the exit status is the world's."""
    ground.stack.faults.set("eapi-500")
    run = ground.run(SCRIPT)
    run.check_form()
    assert run.status == 2, run.said()
    assert run.document is not None
    assert run.document["components"][EAPI]["status"] == "critical"
    return run


def from_cron(breaking: Breaking, runs: int = 4) -> Callable[[Ground], str]:
    """The outage is told on every channel within the usual number of bad cycles, under one key."""

    def play(ground: Ground) -> str:
        everyone(ground)
        with breaking(ground):
            for number in range(1, runs + 1):
                run = bad_run(ground)
                if number == USUAL:
                    assert len(who_knows(ground)) == 5, (who_knows(ground), run.said())
        keys = heard(ground, "trigger")
        assert len(set(keys)) == 1, keys
        return f"exit 2 each time, told on every channel, {len(keys)} times under one key"

    return play


def damaged(change: Callable[[Path], None]) -> Breaking:
    """A healthy run has made the file; then it is changed."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        ground.run(SCRIPT)
        change(ground.state / FILE)
        yield

    return make


def random_byte(seed: int) -> Callable[[Path], None]:
    """One byte, of the first page for even seeds, is changed."""

    def change(path: Path) -> None:
        data, dice = bytearray(path.read_bytes()), random.Random(seed)
        position = dice.randrange(4096) if seed % 2 == 0 else dice.randrange(len(data))
        data[position] ^= dice.randrange(1, 256)
        path.write_bytes(data)

    return change


def byte_after(text: bytes, offset: int, value: int) -> Callable[[Path], None]:
    """The byte so far behind the first occurrence of `text`."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[data.index(text) + offset] = value
        path.write_bytes(data)

    return change


def statements(*sql: str) -> Callable[[Path], None]:
    """As a careless hand, or a bug, would change it."""

    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for each in sql:
                connection.execute(each)

    return change


def small_disk(kilobytes: int) -> Breaking:
    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        with mounted(ground.folder / "small", f"size={kilobytes}k"):
            ground.env["MONITORING_STATE_DIR"] = str(ground.folder / "small" / "state")
            yield

    return make


def limited_files(size: int) -> Breaking:
    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        ground.launch["files"] = size
        yield

    return make


@contextlib.contextmanager
def held(ground: Ground) -> Iterator[None]:
    """Another process holds a write transaction for ever."""
    ground.run(SCRIPT)
    with contextlib.closing(sqlite3.connect(ground.state / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def linked(ground: Ground) -> Iterator[None]:
    """Links stand where the lock files and the database would be made."""
    ground.state.mkdir(mode=0o700)
    target = ground.folder / "precious"
    target.write_text("precious")
    for name in (f"{SCRIPT}.lock", "open.lock", "deliver-slack.lock", FILE, f"{FILE}-wal"):
        (ground.state / name).symlink_to(target)
    before = target.stat()
    yield
    after = target.stat()
    assert target.read_text() == "precious"
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)


# -- in a loop


@contextlib.contextmanager
def looping(ground: Ground) -> Iterator[subprocess.Popen[str]]:
    """The script in a loop of half seconds that has gone well so far; ended in good form."""
    target = ground.folder / "r.jsonl"
    said = (ground.folder / "err").open("w+")
    process = ground.start(
        SCRIPT, "--interval", "0.5", "--output", str(target), stdout=said, stderr=said
    )
    try:
        until(lambda: target.exists() and target.read_text().count("\n") > 2, process)
        yield process
        assert process.poll() is None, "the loop has ended"
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        said.seek(0)
        run = Run(SCRIPT, process.returncode, said.read(), "", None)
        run.check_form()
        assert run.status == 0, run.said()
    finally:
        process.kill()
        process.wait()
        said.close()


def until(ready: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LATER
    while not ready():
        assert process.poll() is None, "the loop has ended"
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.1)


def in_a_loop(event: Breaking) -> Callable[[Ground], str]:
    """The event, then the outage, then its end: each is told once, to everybody."""

    def play(ground: Ground) -> str:
        everyone(ground)
        with mounted(ground.folder / "disk", "size=3m"):
            ground.state = ground.folder / "disk" / "state"
            ground.env["MONITORING_STATE_DIR"] = str(ground.state)
            with looping(ground) as process, event(ground):
                ground.stack.faults.set("eapi-500")
                until(lambda: len(who_knows(ground)) == 5, process)
                ground.stack.faults.clear()
                until(lambda: heard(ground, "resolve"), process)
        assert heard(ground, "resolve") == heard(ground, "trigger"), "once each, under one key"
        assert len(told(ground, "slack")) <= 4
        return "told once, and its end"

    return play


@contextlib.contextmanager
def disk_fills(ground: Ground) -> Iterator[None]:
    ballast = ground.state.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as handle:
        while True:
            handle.write(b"x" * 512)
    yield


@contextlib.contextmanager
def folder_deleted(ground: Ground) -> Iterator[None]:
    shutil.rmtree(ground.state)
    yield


@contextlib.contextmanager
def file_deleted(ground: Ground) -> Iterator[None]:
    (ground.state / FILE).unlink()
    yield


@contextlib.contextmanager
def folder_is_a_file(ground: Ground) -> Iterator[None]:
    ground.state.rename(ground.state.with_name("old"))
    ground.state.write_text("")
    yield


@contextlib.contextmanager
def overwritten(ground: Ground) -> Iterator[None]:
    """Half of the pages under the running loop are nonsense."""
    size = (ground.state / FILE).stat().st_size
    with (ground.state / FILE).open("r+b") as handle:
        for page in range(1, size // 4096, 2):
            handle.seek(page * 4096)
            handle.write(b"\xa5" * 4096)
    yield


@contextlib.contextmanager
def held_under_it(ground: Ground) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(ground.state / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


# -- every call that touches the state fails in turn

CALLS = (
    *("os.open", "os.mkdir", "os.chmod", "os.fchmod", "os.scandir", "os.close", "os.ftruncate"),
    *("os.pwrite", "os.unlink", "os.stat", "fcntl.flock"),
)


def failing(trick: str, plan: Callable[[Ground], Any]) -> Breaking:
    """After a good run, what the launcher's `trick` does to the process."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        ground.run(SCRIPT)
        ground.launch[trick] = plan(ground)
        yield

    return make


def _sqlite(first: int, exception: str) -> Row:
    """From one call on; each call alone: in_turn.py."""
    name = f"told: SQLite's calls from {first} on fail with {exception}"
    play = from_cron(failing("sqlite", lambda _: [first, 1 << 30, exception]), runs=USUAL)
    return Row(name, play=play)


def _system(call: str, exception: str) -> Row:
    play = from_cron(failing("system", lambda g: [call, str(g.state), exception]), runs=USUAL)
    return Row(f"told: {call} of the state folder fails with {exception}", play=play)


#: How many runs the kill test must have killed in their midst; `make kills` takes 100.
KILLS = int(os.environ.get("KILLS", "6"))
_A_PHASE = 5  # kills before an outage, or its end, is let through


def killed(ground: Ground) -> str:
    """SIGKILL at random moments of an outage and of its end: each of five receivers hears of both,
    however often, under the same key wherever it has one."""
    everyone(ground)
    ground.setting("ALERT_MANAGER", {"resolve_after": "0s"})  # no rules hold the alert here
    usual = _seconds(ground)
    dice, fold, kills, incidents = random.Random(12), ground.state, 0, 0
    while kills < KILLS:
        ground.env["MONITORING_STATE_DIR"] = f"{fold}-{incidents}"
        ground.stack.bag.clear()
        wanted = min(_A_PHASE, max(1, (KILLS - kills) // 2))
        for fault in ("eapi-down", ""):
            ground.stack.faults.set(fault) if fault else ground.stack.faults.clear()
            kills += _kill(ground, wanted, dice, usual)
            for _ in range(2 * USUAL):
                ground.run(SCRIPT).check_form()
        _both_sides(ground)
        _one_key(ground)
        incidents += 1
    return f"{kills} kills in {incidents} incidents, nothing lost"


def _seconds(ground: Ground) -> float:
    """How long a run takes from when it can be told to stop."""
    ground.stack.faults.set("eapi-down")
    ground.env["MONITORING_STATE_DIR"] = str(ground.folder / "timed")
    process = ground.start(SCRIPT, "--single-run")
    listening(process)
    began = time.monotonic()
    process.communicate(timeout=PATIENCE)
    return time.monotonic() - began


def _kill(ground: Ground, wanted: int, dice: random.Random, usual: float) -> int:
    """So many runs that did not come to their end; how many there were."""
    done = tries = 0
    while done < wanted:
        run = interrupted(ground, ("--single-run",), signal.SIGKILL, dice.uniform(0, usual))
        done += run.status == -signal.SIGKILL
        tries += 1
        assert tries < 20 * wanted, "runs end before they can be killed"
    return done


def _both_sides(ground: Ground) -> None:
    """Every receiver heard that it began, and that it is over."""
    for kind in ("slack", "smtp", "webhook"):
        texts = [text.lower() for text in told(ground, kind) if EAPI in text]
        assert any("resolved" in text for text in texts), (kind, texts)
        assert any("resolved" not in text for text in texts), (kind, texts)
    for event in ("trigger", "resolve"):
        assert heard(ground, event), f"pagerduty heard of no {event}"
    firing = [a for a in ground.stack.receivers.alerts() if _is_outage(a["labels"])]
    assert not firing, firing


def _one_key(ground: Ground) -> None:
    """What a receiver tells a repeat by: it is one for the outage and its end, and the same for
    the same text."""
    received = ground.stack.received
    assert len({*heard(ground, "trigger"), *heard(ground, "resolve")}) == 1
    entries = [(post, entry) for post in received("webhook") for entry in post["body"]["notices"]]
    mine = [(post, e) for post, e in entries if (e["component"], e["metric"]) == _OUTAGE]
    assert {entry["status"] for _, entry in mine} == {"firing", "resolved"}
    assert len({entry["key"] for _, entry in mine}) == 1
    _one_to_one((post["body"], _header(post, "idempotency-key")) for post, _ in mine)
    mails = received("smtp")
    talks = {_header(mail, "references") for mail in mails if EAPI in mail["subject"]} - {""}
    assert len(talks) == 1, talks
    _one_to_one(
        ((m["subject"], m["text"], m["recipients"]), _header(m, "message-id")) for m in mails
    )
    posted = [alert for post in received("alertmanager") for alert in post["body"]]
    labels = [alert["labels"] for alert in posted if _is_outage(alert["labels"])]
    assert labels, posted
    assert labels.count(labels[0]) == len(labels), labels


_OUTAGE = (EAPI, "health_status")


def _is_outage(labels: Mapping[str, str]) -> bool:
    names = (labels.get("component"), labels.get("alertname"))
    return names == (EAPI, "PaymentApiHealthStatus")


def _header(item: Mapping[str, Any], name: str) -> str:
    return next((v for k, v in item["headers"].items() if k.lower() == name), "")


def _one_to_one(pairs: Iterable[tuple[Any, str]]) -> None:
    """The same text has the same key, and another text another one."""
    known = {(json.dumps(text, sort_keys=True), key) for text, key in pairs}
    assert len({text for text, _ in known}) == len({key for _, key in known}) == len(known), known


_VALUES = (
    "UPDATE kv SET value = '[1e999]'",
    "UPDATE samples SET seconds = 0, at = 'never'",
    "UPDATE counters SET value = 'many'",
    "UPDATE cycles SET seconds = -1e308",
    "INSERT INTO alert_states VALUES ('a', 'health_check', '{\"alert\":7}', 9e300)",
    "INSERT INTO notices VALUES(9223372036854775807,'k','c','first','',9e9,0,0,0,0,0,0)",
    "INSERT INTO alert_told VALUES ('k', 'nobody', 'yesterday')",
)
_AS_A_VIEW = ("ALTER TABLE kv RENAME TO was", "CREATE VIEW kv AS SELECT * FROM was")
_DAMAGES = {
    "a byte in the schema": byte_after(b"CREATE TABLE kv", 7, 235),
    **{f"random byte {n}": random_byte(n) for n in range(13)},
    "a table is gone": statements("DROP TABLE notices"),
    "a view instead of a table": statements(*_AS_A_VIEW),
    "no version": statements("PRAGMA user_version = 0"),
    "no such version": statements("PRAGMA user_version = -7"),
    "impossible values": statements(*_VALUES),
    "values of another shape": statements("UPDATE kv SET value = '[[1]]'"),
}
_EVENTS = {
    "the disk fills up": disk_fills,
    "the folder is deleted": folder_deleted,
    "the file is deleted": file_deleted,
    "a file in place of the folder": folder_is_a_file,
    "pages are overwritten": overwritten,
    "a transaction is held": held_under_it,
}
_ROWS = (
    *(Row(f"told: disk of {n} KB", play=from_cron(small_disk(n))) for n in (60, 140, 160, 220)),
    Row("told: files of at most 60 KB", play=from_cron(limited_files(60_000))),
    Row("told: another writer holds a transaction", play=from_cron(held, runs=USUAL)),
    Row("told: links in the state folder", play=from_cron(linked, runs=USUAL)),
    *(Row(f"told: {name}", play=from_cron(damaged(each))) for name, each in _DAMAGES.items()),
    *(Row(f"told: {name} under a loop", play=in_a_loop(each)) for name, each in _EVENTS.items()),
    *(_sqlite(n, EXCEPTIONS[n % len(EXCEPTIONS)]) for n in (1, 8, 25, 60, 100)),
    *(_system(call, "ValueError" if n % 2 else "OSError") for n, call in enumerate(CALLS)),
    Row("told: killed at random points", play=killed),
)
ROWS = tuple(replace(row, group="memory") for row in _ROWS)
