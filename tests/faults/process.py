"""Rows: what the machine does to the process: signals, clocks, limits, closed streams."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from tests import scripts
from tests.faults.channels import alerting, told
from tests.faults.ground import PATIENCE, Ground, Run
from tests.faults.row import CACHE, EAPI, Row

SCRIPT = "health_check"
YEAR = 365 * 86400.0


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal; before that, it is Python starting up."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def listening(process: subprocess.Popen[str]) -> bool:
    """Wait until the script handles SIGTERM; False when it has ended before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if _catches(process.pid, signal.SIGTERM):
                return True
        time.sleep(0.005)
    return False


def _fresh() -> None:
    """As from a terminal: whoever runs this may have been started by nohup, or with `&`."""
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


def interrupted(ground: Ground, words: tuple[str, ...], sent: int, wait: float) -> Run:
    """A run that is sent a signal so many seconds after it began to listen."""
    process = ground.start(SCRIPT, *words, preexec_fn=_fresh)
    listening(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait)
    process.send_signal(sent)
    out, err = process.communicate(timeout=PATIENCE)
    return Run(SCRIPT, process.returncode, out, err, None)


def signalled(sent: signal.Signals, words: tuple[str, ...], allowed: tuple[int, ...]) -> Any:
    """At random moments of a run; the seed is the signal's, so that a failure comes again."""

    def play(ground: Ground) -> str:
        dice, ends = random.Random(sent), []
        for _ in range(4):
            run = interrupted(ground, words, sent, dice.uniform(0, 0.6))
            run.check_form()
            assert run.status in allowed, f"exit {run.status}: {run.said()}"
            ends.append(run.status)
        _still_sound(ground)
        return f"exits {ends}, state sound"

    return play


def hung_up(ground: Ground) -> str:
    """SIGHUP at random moments of a loop without a terminal: one that it does not end (it came
    before the first cycle) reads its settings again and goes on, until SIGTERM."""
    dice, ends = random.Random(signal.SIGHUP), []
    for number in range(4):
        target = ground.folder / f"r{number}.jsonl"
        process = ground.start(SCRIPT, *LOOP, "--output", str(target), preexec_fn=_fresh)
        listening(process)
        if number == 3:  # on a busy machine the other three may all come before the loop
            _until(target.exists, process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0, 0.6))
        process.send_signal(signal.SIGHUP)
        ends.append(_goes_on(process, target))
    assert ends[-1] == 0, f"a loop at work was ended by it: {ends}"
    _still_sound(ground)
    return f"exits {ends}, state sound"


def _goes_on(process: subprocess.Popen[str], target: Path) -> int:
    """The exit status of a loop after SIGHUP: ended at once, or by SIGTERM two cycles later."""

    def cycles() -> int:
        return len(target.read_text().splitlines()) if target.exists() else 0

    enough, until = cycles() + 2, time.monotonic() + PATIENCE
    while process.poll() is None and cycles() < enough:
        assert time.monotonic() < until, "no cycle after SIGHUP"
        time.sleep(0.02)
    early = process.poll() is not None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    run = Run(SCRIPT, process.returncode, out, err, None)
    run.check_form()
    assert run.status == (3 if early else 0), run.said()
    assert early or "reading the settings again" in run.said()
    return run.status


def under_nohup(ground: Ground) -> str:
    """The terminal goes, the loop stays: `nohup health_check.py &`."""

    def deaf() -> None:
        _fresh()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    target = ground.folder / "r.jsonl"
    process = ground.start(SCRIPT, *LOOP, "--output", str(target), preexec_fn=deaf)
    _until(target.exists, process)
    process.send_signal(signal.SIGHUP)
    before = len(target.read_text().splitlines())
    _until(lambda: len(target.read_text().splitlines()) > before + 1, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    run = Run(SCRIPT, process.returncode, out, err, None)
    run.check_form()
    assert run.status == 0, run.said()
    return "cycles go on, then SIGTERM ends it with 0"


def _until(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.02)


def killed(ground: Ground) -> str:
    """SIGKILL at random moments while alerts are sent: told at least once, under the same key."""
    alerting(ground)
    ground.stack.faults.set("eapi-down")
    dice = random.Random(9)
    words = ("--single-run",)
    ends = [
        interrupted(ground, words, signal.SIGKILL, dice.uniform(0.1, 0.8)).status for _ in range(4)
    ]
    ground.launch["clock"] = 1800.0
    last = ground.run(SCRIPT)
    last.check_form()
    assert last.status == 2, last.said()
    keys = [text for text in told(ground, "pagerduty") if EAPI in text and "trigger" in text]
    assert keys, "a kill lost the alert"
    assert len(set(keys)) == 1, keys
    _still_sound(ground)
    return f"exits {ends}; the alert arrived, its key is one"


def _still_sound(ground: Ground) -> None:
    path = ground.state / "state.sqlite3"
    if path.exists():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(ground.state.glob("*.corrupt-*"))


def overlapping(ground: Ground) -> str:
    """Two runs at once take turns, and tell everybody once."""
    alerting(ground)
    ground.stack.faults.set("eapi-down")
    both = [ground.start(SCRIPT, "--single-run") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=PATIENCE)
        run = Run(SCRIPT, process.returncode, out, err, None)
        run.check_form()
        assert run.status == 2, run.said()
    for kind in ("pagerduty", "smtp", "webhook", "slack"):
        counts = collections.Counter(told(ground, kind))
        assert counts, f"{kind} was not told"
        assert max(counts.values()) == 1, counts
    return "exit 2 twice, each notice once"


def clock(**launch: Any) -> Callable[[Ground], str]:
    """A first cycle at the right time, one with the wrong clock, one at the right time again."""

    def play(ground: Ground) -> str:
        assert ground.run(SCRIPT).status == 0
        ground.launch.update(launch)
        wrong = ground.run(SCRIPT)
        wrong.check_form()
        _up(wrong)
        ground.launch.clear()
        last = ground.run(SCRIPT)
        last.check_form()
        assert last.status == 0, last.said()
        with contextlib.closing(sqlite3.connect(ground.state / "state.sqlite3")) as connection:
            (count,) = connection.execute("SELECT count(*) FROM cycles").fetchone()
        assert count >= 2, "history was lost to a wrong clock"
        return f"exit {wrong.status}, then 0; nothing lost"

    return play


def _up(run: Run) -> None:
    assert run.document is not None, run.said()
    rows = run.document["components"]
    # by another clock than ours every token and certificate is old or not yet good
    assert [rows[name]["up"] for name in (EAPI, CACHE)] == [True, True], rows


def limited(status: tuple[int, ...], said: str = "", **launch: Any) -> Callable[[Ground], str]:
    """A limit of the operating system; the run ends, in good form."""

    def play(ground: Ground) -> str:
        ground.launch.update(launch)
        run = ground.run(SCRIPT)
        for line in run.lines():
            assert "Traceback" not in line["message"]
        assert run.status in status, run.said()
        assert said in run.said(), run.said()
        return f"exit {run.status}"

    return play


def streams(closed: tuple[int, ...], words: tuple[str, ...] = ("--single-run",)) -> Any:
    """Started with some of the standard streams closed, as a careless daemon does."""

    def play(ground: Ground) -> str:
        def close() -> None:
            for number in closed:
                os.close(number)

        target = ground.folder / "r.json"
        asked = (*words, "--output", str(target))
        run = ground.run(SCRIPT, *asked, preexec_fn=close)
        assert run.status == 0, run.said()
        assert json.loads(target.read_text())["status"] == "ok"
        assert "Traceback" not in run.said()
        return "exit 0, the result is whole"

    return play


def into(path: str, status: tuple[int, ...]) -> Callable[[Ground], str]:
    """Standard output is a device that takes nothing."""

    def play(ground: Ground) -> str:
        target = ground.folder / "r.json"
        with open(path, "w") as sink:
            run = ground.run(SCRIPT, "--single-run", "--output", str(target), stdout=sink)
        assert run.status in status, run.said()
        assert json.loads(target.read_text())["status"] == "ok"
        for line in run.lines():
            assert "error.stack_trace" not in line, line
        return f"exit {run.status}, the result is whole"

    return play


def reader_gone(ground: Ground) -> str:
    """`health_check.py ... | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    target = ground.folder / "r.json"
    words = ("--single-run", "--output", str(target))
    run = ground.run(SCRIPT, *words, stdout=writing)
    os.close(writing)
    assert "Traceback" not in run.said(), run.said()
    assert json.loads(target.read_text())["status"] == "ok"
    return f"exit {run.status}, the result is whole"


def surroundings(**env: str) -> Callable[[Ground], str]:
    """Locale and time zone; an alert with a dash and an umlaut must survive an ASCII terminal."""

    def play(ground: Ground) -> str:
        ground.env.update(env)
        ground.env["MONITORING_CLIENT_ID"] = "käse-\u2028-客户"
        run = ground.run(SCRIPT, "--single-run", "--verbose")
        run.check_form()
        assert run.status in (1, 2), run.said()
        stamps = {line["@timestamp"][-1] for line in run.lines()}
        assert stamps == {"Z"}
        hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
        assert run.lines()[0]["@timestamp"][:11] == hour[:11]
        return f"exit {run.status}"

    return play


def no_home(ground: Ground) -> str:
    """No home is known, and the folder we stand in is gone."""
    gone = ground.folder / "gone"
    gone.mkdir()

    def lose() -> None:
        os.chdir(gone)
        gone.rmdir()

    env = scripts.environment(ground.env)
    for name in ("HOME", "XDG_STATE_HOME", "MONITORING_STATE_DIR"):
        env.pop(name, None)
    env["XDG_STATE_HOME"] = str(ground.folder / "xdg")
    run = ground.run(SCRIPT, "--single-run", "--no-alerts", env=env, cwd=None, preexec_fn=lose)
    run.check_form()
    assert run.status in (0, 3), run.said()
    return f"exit {run.status}"


ONCE, LOOP = ("--single-run",), ("--interval", "0.2")
SOME = (0, 1, 2, 3)

_ROWS = (
    Row("process: SIGTERM in a single run", play=signalled(signal.SIGTERM, ONCE, (0, 3))),
    Row("process: Ctrl-C in a single run", play=signalled(signal.SIGINT, ONCE, (0, 3))),
    Row("process: SIGTERM in a loop", play=signalled(signal.SIGTERM, LOOP, (0, 3))),
    Row("process: Ctrl-C in a loop", play=signalled(signal.SIGINT, LOOP, (0, 3))),
    Row("process: SIGHUP in a loop", play=hung_up),
    Row("process: SIGHUP under nohup", play=under_nohup),
    Row("process: SIGKILL while telling", play=killed),
    Row("process: two runs overlap", play=overlapping),
    Row("clock: ten years ahead", play=clock(clock=10 * YEAR)),
    Row("clock: ten years behind", play=clock(clock=-10 * YEAR)),
    Row("clock: leaps ahead in the cycle", play=clock(jump=[0.02, 7200])),
    Row("clock: leaps back in the cycle", play=clock(jump=[0.02, -7200])),
    Row("limit: no thread can be started", play=limited((3,), threads=0)),
    Row("limit: three threads", play=limited(SOME, threads=3)),
    Row("limit: sixteen open files", play=limited(SOME, handles=16)),
    Row("streams: stdout closed", play=streams((1,))),
    Row("streams: stdout and stderr closed", play=streams((1, 2))),
    Row("streams: all closed", play=streams((0, 1, 2))),
    Row("streams: nobody reads stdout", play=reader_gone),
    Row("streams: stdout is full", play=into("/dev/full", (1,))),
    Row(
        "surroundings: locale C, no UTF-8",
        play=surroundings(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    ),
    Row("surroundings: Latin-1 terminal", play=surroundings(PYTHONIOENCODING="latin-1")),
    Row("surroundings: Pacific/Chatham", play=surroundings(TZ="Pacific/Chatham")),
    Row("surroundings: no home, folder gone", play=no_home),
)
ROWS = tuple(replace(row, group="process") for row in _ROWS)
