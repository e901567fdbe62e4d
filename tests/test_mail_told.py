"""Each recipient of a mail is told or not told by itself: through the script, from cron, with a
real mail server that refuses some of them for now or for good."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.alerting_kit import free_port
from tests.raw_server import RawServer, http
from tests.scripts import run, start
from tests.test_channel_email import Sink, smtp

TEAM, ONCALL = "team@mail.example", "oncall@mail.example"
CASES = {
    case["case"]: case
    for case in map(
        json.loads,
        (Path(__file__).parent / "data" / "cases" / "mail.jsonl").read_text().splitlines(),
    )
}


class Monitor:
    """health_check from cron, of a Payment-EAPI that is up or down, telling by mail alone."""

    def __init__(self, folder: Path, port: int, recipients: Sequence[str] = (TEAM, ONCALL)) -> None:
        self.folder, self.up = folder, True
        self.server = RawServer(lambda wire, _: wire.sendall(self._answer()))
        config = folder / "mail.json"
        config.write_text(
            json.dumps(
                {
                    "SERVICE_PATHS": {"payment-eapi": {"detailed": "", "metrics": ""}},
                    "NOTIFICATION_CHANNELS": {"critical": ["email"], "warning": ["email"]},
                    "ALERTS": {"failure_threshold": 1, "recovery_threshold": 1},
                }
            )
        )
        self.words = ("--single-run", "--component", "payment-eapi", "--config", str(config))
        self.environ = {
            "EAPI_ENDPOINT": self.server.url,
            "MONITORING_STATE_DIR": str(folder / "state"),
            "EMAIL_RECIPIENTS": ",".join(recipients),
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(port),
        }

    def _answer(self) -> bytes:
        return http(b'{"status": "UP"}') if self.up else http(b"", "503 Gone")

    def looks(self, *states: bool) -> str:
        """A run for each: whether EAPI is up. What they wrote."""
        written = ""
        for self.up in states:
            done = run("health_check", *self.words, env=self.environ, cwd=self.folder)
            written += done.stdout + done.stderr
        return written


@contextlib.contextmanager
def watched(tmp_path: Path, sink: Sink, **options: Any) -> Iterator[Monitor]:
    with smtp(sink):
        monitor = Monitor(tmp_path, sink.port, **options)
        with monitor.server:
            yield monitor


def told(sink: Sink, who: str) -> list[str]:
    """What the recipient heard: fires or over, mail by mail."""
    subjects = [str(mail["Subject"]).lower() for got, mail in sink.mails if who in got]
    return ["over" if "resolved" in s or "over" in s else "fires" for s in subjects]


class Refusing(Sink):
    """Refuses each recipient as its answers say, one a try; then it is accepted."""

    def __init__(self, **answers: Sequence[str]) -> None:
        super().__init__()
        self.answers = {f"{name}@mail.example": list(rows) for name, rows in answers.items()}
        self.tried: list[str] = []

    async def handle_RCPT(  # noqa: N802, PLR0917 - aiosmtpd's
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        self.tried.append(address)
        waiting = self.answers.get(address)
        if waiting:
            return waiting.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"


def test_nobody_is_refused(tmp_path: Path) -> None:
    sink = Refusing()
    with watched(tmp_path, sink) as monitor:
        monitor.looks(True, False, False, True, True)
    for who in CASES["nobody is refused"]["recipients"]:
        assert told(sink, who) == ["fires", "over"]
    assert len(sink.mails) == 2, "one mail for both"


def test_one_is_greylisted_at_the_first_try(tmp_path: Path) -> None:
    case = CASES["one of two recipients is greylisted (451) at the first try"]
    sink = Refusing(oncall=[case["refused"][ONCALL]])
    with watched(tmp_path, sink) as monitor:
        monitor.looks(True, False)
        assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires"], [])
        monitor.looks(False)
        assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires"], ["fires"])
        monitor.looks(True, True)
    assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires", "over"], ["fires", "over"])


def test_who_was_not_told_that_it_fires_is_not_told_that_it_is_over(tmp_path: Path) -> None:
    case = CASES["one of two is refused for as long as the alert fires"]
    sink = Refusing(oncall=[case["refused"][ONCALL]] * 50)
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False, False, False)
        sink.answers.clear()
        monitor.looks(True, True)
        assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires", "over"], [])
        _no_pauses(monitor)
        monitor.looks(False)
    assert told(sink, ONCALL) == ["fires"], "the next incident is told as ever"


def test_a_recipient_refused_for_good_is_said_once_and_the_others_hear_all(tmp_path: Path) -> None:
    sink = Refusing(oncall=["550 5.1.1 no such user"] * 50)
    with watched(tmp_path, sink) as monitor:
        written = monitor.looks(False, False, False, True)
        assert told(sink, TEAM) == ["fires", "over"]
        assert told(sink, ONCALL) == []
    assert written.count("given up: email:oncall@mail.example was not told") == 1
    assert sink.tried.count(ONCALL) == 1, "not asked again about the same notice"


def test_all_are_refused_for_now(tmp_path: Path) -> None:
    sink = Refusing(team=["451 later"], oncall=["451 later"])
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False)
        assert sink.mails == []
        monitor.looks(False, True)
    assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires", "over"], ["fires", "over"])
    assert len(sink.mails) == 2, "one mail for both"


def test_all_are_refused_for_good_and_the_server_is_mended(tmp_path: Path) -> None:
    sink = Refusing(team=["554 relay access denied"], oncall=["554 relay access denied"])
    with watched(tmp_path, sink) as monitor:
        written = monitor.looks(False)
        assert "given up" not in written, "a server that refuses everybody is the channel's trouble"
        _no_pauses(monitor)
        monitor.looks(False)
    assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires"], ["fires"])


def _no_pauses(monitor: Monitor) -> None:
    """As if the time to wait were over."""
    with contextlib.closing(_state(monitor)) as file:
        file.execute("DELETE FROM kv WHERE scope = 'channel'")
        file.execute("UPDATE notices SET due = 0")
        file.commit()


def _state(monitor: Monitor) -> sqlite3.Connection:
    (path,) = (monitor.folder / "state").glob("*.sqlite*")
    return sqlite3.connect(path)


def test_a_server_that_takes_one_recipient_a_mail_tells_all_at_once(tmp_path: Path) -> None:
    many = [f"r{n}@mail.example" for n in range(6)]
    sink = OneAtATime()
    with watched(tmp_path, sink, recipients=many) as monitor:
        monitor.looks(False)
    assert [told(sink, who) for who in many] == [["fires"]] * 6


class OneAtATime(Sink):
    async def handle_RCPT(  # noqa: N802, PLR0917 - aiosmtpd's
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if envelope.rcpt_tos:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def test_a_server_that_hangs_up_in_the_middle_told_nobody(tmp_path: Path) -> None:
    sink = Refusing(oncall=["421 4.3.2 going down"])
    with watched(tmp_path, sink, recipients=(TEAM, ONCALL, "third@mail.example")) as monitor:
        monitor.looks(False)
        assert sink.mails == []
        monitor.looks(False, True)
    for who in (TEAM, ONCALL, "third@mail.example"):
        assert told(sink, who) == ["fires", "over"]


def test_a_connection_lost_after_the_mail_is_the_same_mail_again(tmp_path: Path) -> None:
    """Each is told at least once, and a second copy bears the identity of the first."""
    sink = Losing()
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False)
        _no_pauses(monitor)
        monitor.looks(False, True)
    assert told(sink, TEAM) == told(sink, ONCALL) == ["fires", "fires", "over"]
    assert sink.mails[0][1]["Message-ID"] == sink.mails[1][1]["Message-ID"]


class Losing(Sink):
    """Keeps the first mail and hangs up without a word."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        if len(self.mails) == 1:
            server.transport.abort()
        return answer


def test_a_run_that_is_killed_between_two_tries_loses_nobody(tmp_path: Path) -> None:
    sink = Refusing(oncall=["451 later"])
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False)  # the team is told, oncall is not
        with Hanging() as hanging:
            environ = {**monitor.environ, "SMTP_PORT": str(hanging.port)}
            killed = start("health_check", *monitor.words, env=environ, cwd=tmp_path)
            assert hanging.asked.wait(30), "the second try is under way"
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
        monitor.looks(False)
        assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires"], ["fires"])
        monitor.looks(True)
    assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires", "over"], ["fires", "over"])


class Hanging:
    """A mail server that says nothing; `asked` is set when somebody has called."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._held: Optional[socket.socket] = None
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        with contextlib.suppress(OSError):
            self._held, _ = self._listener.accept()
            self.asked.set()

    def __enter__(self) -> Hanging:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        if self._held is not None:
            self._held.close()


def test_what_an_older_version_told_the_channel_ends_for_each_recipient(tmp_path: Path) -> None:
    sink = Refusing()
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False)
        with contextlib.closing(_state(monitor)) as file:
            file.execute("DELETE FROM alert_told WHERE channel LIKE 'email:%oncall%'")
            file.execute("UPDATE alert_told SET channel = 'email' WHERE channel LIKE 'email:%'")
            file.commit()
        monitor.looks(True)
    assert (told(sink, TEAM), told(sink, ONCALL)) == (["fires", "over"], ["fires", "over"])


@pytest.mark.parametrize(("answer", "status"), [("550 no such user", 2), ("451 later", 2)])
def test_a_test_alert_names_who_was_refused(answer: str, status: int, tmp_path: Path) -> None:
    sink = Refusing(oncall=[answer] * 9)
    with watched(tmp_path, sink) as monitor:
        done = run("health_check", "--test-alerts", "email", env=monitor.environ, cwd=tmp_path)
    assert done.returncode == status
    assert f"refused the recipient {ONCALL} ({answer[:3]})" in done.stdout + done.stderr


def test_who_was_told_is_reported_by_name(tmp_path: Path) -> None:
    sink = Refusing(oncall=["451 later"] * 9)
    with watched(tmp_path, sink) as monitor:
        monitor.looks(False)
        port = str(free_port())
        done = run(
            "health_check",
            *("--alerts", "--config", monitor.words[-1]),
            env={**monitor.environ, "SMTP_PORT": port},
            cwd=tmp_path,
        )
    report = json.loads(done.stdout)
    (alert,) = report["alerts"]
    assert f"email:{TEAM}" in alert["notified"]
    assert f"email:{ONCALL}" not in alert["notified"]
    (waits,) = report["waiting"]
    assert waits["channel"] == f"email:{ONCALL}"
