"""What a person at a terminal sees: at 80 columns, at 40, and with what strangers send."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
import typing
import unicodedata
from typing import Any

import pytest

from monitoring.model import Alert, AlertKey, AlertRow, Component, Outcome, Severity
from monitoring.output import logs, terminal
from monitoring.text import safe_lines

LONG = "no login is possible: 127.0.0.1:38323 refused the connection: nothing listens there"
DOWN = Component("authentication-flow", Severity.CRITICAL, False, None, "refused", LONG)
UP = Component("redis-cache", Severity.OK, True, 0.0439, None, "answers")


def outcome(*components: Component, alerts: tuple[AlertRow, ...] = ()) -> Outcome:
    return Outcome(
        *("health_check", "test", "1.0.0", 1_700_000_000.0),
        seconds=0.1,
        components=components,
        alerts=alerts,
    )


def shown(monkeypatch: Any, capsys: Any, width: int, *what: Component, **more: Any) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal.show(outcome(*what, alerts=more.pop("alerts", ())), **more)
    said: str = capsys.readouterr().out
    assert all(len(line) <= width for line in said.splitlines()), said
    return said


@pytest.mark.parametrize("width", [36, 48, 71, 80, 120, 200])
def test_words_stay_whole_at_every_width(monkeypatch: Any, capsys: Any, width: int) -> None:
    said = shown(monkeypatch, capsys, width, DOWN, UP)
    for word in ("authentication-flow", "critical", "down", "redis-cache", "0.04 ms", "possible:"):
        assert word in said, said


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "-"), (0.0439, "0.04 ms"), (3.456, "3.46 ms"), (51.94, "51.9 ms"), (1511, "1,511 ms")],
)
def test_response_times_are_for_people(
    monkeypatch: Any, capsys: Any, milliseconds: float | None, text: str
) -> None:
    component = Component("payment-eapi", Severity.OK, True, milliseconds, None, "says UP")
    assert f" {text} " in shown(monkeypatch, capsys, 80, component)


def test_details_are_lines_and_no_dicts(monkeypatch: Any, capsys: Any) -> None:
    details = {
        "phases_ms": {"dns": 0.1, "connect": None},
        "nodes": {"a:1": {"role": "primary", "slow": []}, "b:1": {"role": "replica"}},
        "chain": [{"subject": "x"}, {"subject": "y"}],
        "messages": ["one", "two"],
    }
    component = Component("redis-cache", Severity.OK, True, 1.0, None, "answers", details)
    said = shown(monkeypatch, capsys, 80, component, verbose=True)
    for line in (
        *("  phases_ms: dns 0.1, connect -", "  nodes:", "    a:1: role primary, slow none"),
        *("    b:1: role replica", "  chain:", "    2: subject y", "  messages: one, two"),
    ):
        assert line in said.splitlines(), said
    assert "{" not in said


def test_markup_and_control_characters_of_strangers_are_text(monkeypatch: Any, capsys: Any) -> None:
    nasty = Component("payment-eapi", Severity.WARNING, True, 1.0, None, "[red]says [/nope] x")
    assert "[red]says [/nope]" in shown(monkeypatch, capsys, 80, nasty)


def test_an_alert_names_its_component_once(monkeypatch: Any, capsys: Any) -> None:
    key = AlertKey("test", "health_check", "redis-cache", "health_status")
    alert = Alert(key, Severity.CRITICAL, "redis-cache is down: no answer", value=0.0)
    said = shown(monkeypatch, capsys, 80, alerts=(AlertRow(alert, "firing"),))
    assert said.count("redis-cache") == 1
    assert "redis-cache is down: no answer" in said
    other = AlertKey("test", "health_check", "redis-cache", "redis_memory")
    full = AlertRow(Alert(other, Severity.WARNING, "memory 91 %", value=91.0), "firing")
    said = shown(monkeypatch, capsys, 80, UP, alerts=(full, AlertRow(alert, "pending")))
    assert "firing    redis-cache: memory 91 %" in said


def test_what_the_table_says_is_not_said_again(monkeypatch: Any, capsys: Any) -> None:
    key = AlertKey("test", "health_check", "authentication-flow", "health_status")
    alert = Alert(key, Severity.CRITICAL, f"authentication-flow is down: {LONG}", value=0.0)
    said = shown(monkeypatch, capsys, 200, DOWN, UP, alerts=(AlertRow(alert, "firing"),))
    assert said.count("no login is possible") == 1
    assert "1 firing; --alerts shows" in said


# -- what strangers say commands no terminal

EVIL = "\x1b]8;;http://evil.example\x07X\x1b[2J\u202e\x9b31m\r\x85\u2028\x00\x7f\u2066"


def evil(kind: Any) -> Any:  # noqa: PLR0911 - one line a type
    """A value of the type `kind` in which every text is EVIL, whatever fields it will have."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Severity:
        return Severity.CRITICAL
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: evil(hints[f.name]) for f in dataclasses.fields(kind)})  # type: ignore[operator]
    if origin is typing.Union:
        return evil(next(part for part in inner if part is not type(None)))
    if origin is tuple:
        return (evil(inner[0]),)
    if kind is Any or kind is str or (not isinstance(kind, type) and origin is None):
        return EVIL
    if origin is not None:  # a Mapping
        return {EVIL: evil(inner[1]), "nested": EVIL if inner[1] is str else {EVIL: [EVIL]}}
    return {bool: True, int: 1, float: 1.0}[kind]


def commands(text: str) -> list[str]:
    return [
        c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")
    ]


@pytest.mark.parametrize("verbose", [False, True])
def test_no_field_of_an_outcome_commands_a_terminal(
    monkeypatch: Any, capsys: Any, verbose: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    whole = evil(Outcome)
    for tokens, credentials in (
        (None, None),
        (None, {EVIL: {"verdict": EVIL, "why": EVIL, "state": EVIL}}),
        ({"total": 1, "by_client": {EVIL: {"active": 1, "last_issued": EVIL}}}, None),
    ):
        made = dataclasses.replace(whole, at=1.0, tokens=tokens, credentials=credentials)
        terminal.show(made, verbose=verbose)
    said = capsys.readouterr().out
    assert "evil.example" in said
    assert commands(said) == []


def test_nor_does_a_log_line(capsys: Any) -> None:
    for form in ("json", "text"):
        logs.setup("INFO", form, "health_check", "test")
        logs.LOGGER.error("%s", EVIL, extra={"fields": {"payment_api.x": EVIL}})
        assert commands(capsys.readouterr().err) == []


@pytest.mark.parametrize(
    "plain", ["a b", "été — “x”", "1\u202f000\xa0ms", "日本語", "a\tb\n", "😀"]
)
def test_what_is_only_text_stays(plain: str) -> None:
    assert safe_lines(plain) == plain


@pytest.mark.parametrize(
    ("line", "coloured"),
    [
        ("Rotations at 2026: ok (2 ok)", ["ok", "ok"]),
        ("client-1  warning  stuck       why it is critical to look", ["warning"]),
        ("FIRING   critical  redis-cache is down: no answer", ["FIRING", "critical"]),
        ("payment-eapi  99.9 %  -  99.9 %   unknown", ["unknown"]),
        ("the answer is ok or unknown to us", []),
        ("ok-client  okay", []),
    ],
)
def test_verdicts_of_a_report_have_colour_and_words_of_a_sentence_have_none(
    line: str, coloured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Screen())
    shown = terminal.painted(f"Headline\n{line}\n")
    head, body, _ = shown.split("\n")
    assert head == "\x1b[1mHeadline\x1b[0m"
    assert re.findall("\x1b\\[[\\d;]+m(\\w+)\x1b\\[0m", body) == coloured
    assert re.sub("\x1b\\[[\\d;]*m", "", shown) == f"Headline\n{line}\n"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            assert terminal.painted(line) == line


def test_a_pipe_gets_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.painted("all: ok\n") == "all: ok\n"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def credential(**more: Any) -> dict[str, Any]:
    return {"verdict": "ok", "state": "active", "failures": 0, "due_in_days": 30.0, **more}


def test_healthy_credentials_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {f"client-{n:03}": credential(due_in_days=90.0 - n) for n in range(30)}
    seen = dataclasses.replace(outcome(), credentials=rows)
    terminal.show(seen)
    said = capsys.readouterr().out
    assert "30 credentials ok; next due client-029 in 61 d" in said
    assert sum("client-" in line for line in said.splitlines()) == 1
    terminal.show(seen, verbose=True)
    assert "client-000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "unwell", [{"verdict": "unknown"}, {"state": "rotating"}, {"failures": 1}, {"verdict": "stuck"}]
)
def test_what_is_not_plainly_well_keeps_its_row(
    unwell: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"client-a": credential(), "client-b": credential(**unwell)}
    terminal.show(dataclasses.replace(outcome(), credentials=rows))
    said = capsys.readouterr().out
    assert "ok        1 credential; next due client-a in 30 d; --verbose shows all" in said
    assert "client-b" in said


def test_what_is_down_stands_above_what_suffers_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    slow = Component("payment-eapi", Severity.WARNING, True, 900.0, None, "reports itself degraded")
    flow = Component("authentication-flow", Severity.CRITICAL, True, 2000.0, None, "slow")
    down = Component("redis-cache", Severity.CRITICAL, False, None, "timeout", "no answer")
    terminal.show(outcome(slow, flow, down))
    said = capsys.readouterr().out
    assert "1 of 3 is down: redis-cache" in said
    assert "payment-eapi and authentication-flow suffer from it" in " ".join(said.split())
    table = said.partition("component")[2].splitlines()
    rows = [line.split()[0] for line in table if line.startswith("  ") and line.strip()]
    assert rows[-3:] == ["redis-cache", "payment-eapi", "authentication-flow"]


def test_two_clients_that_are_shown_alike_are_two(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is shown is cut; a healthy credential does not hide another of that name."""
    name = "c" * 80
    rows = {f"{name}-a": credential(), f"{name}-b": credential(verdict="stuck", why="half done")}
    terminal.show(dataclasses.replace(outcome(), credentials=rows))
    assert "half done" in " ".join(capsys.readouterr().out.split())


def test_the_next_due_is_only_named_so_where_each_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {"client-a": credential(), "client-b": credential(due_in_days=None)}
    terminal.show(dataclasses.replace(outcome(), credentials=rows))
    assert "the next known to be due is client-a in 30 d" in capsys.readouterr().out


def test_what_is_not_known_is_said_beside_what_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    down = Component("redis-cache", Severity.CRITICAL, False, None, "timeout", "no answer")
    dark = Component("conjur-vault", Severity.UNKNOWN, None)
    unasked = Component("authentication-flow", Severity.UNKNOWN, None, configured=False)
    terminal.show(outcome(down, dark, unasked))
    said = capsys.readouterr().out
    assert "1 of 2 is down: redis-cache" in said
    assert "the state of conjur-vault is not known" in said
    assert "authentication-flow is not configured" in " ".join(said.split())
