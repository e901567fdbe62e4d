"""The sentence that heads every view, the first step, and what changes between two cycles."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from typing import Any

import pytest

from monitoring.model import (
    RECOVERING,
    Alert,
    AlertKey,
    AlertRow,
    Component,
    Outcome,
    Severity,
    Source,
)
from monitoring.output import logs, terminal
from monitoring.output.headline import changes, first_step, headline, in_order
from tests.screens import (
    AT,
    CACHE,
    CRITICAL,
    EAPI,
    FIRES,
    GUESSED,
    LEANS,
    LOGIN,
    MUTE,
    NO_CANARY,
    OK,
    SAPI,
    SLOW,
    TOKENS,
    UNKNOWN,
    UNREAD,
    VAULT,
    WARNING,
    WELL,
    component,
    credential,
    outcome,
)

DOWN_EAPI = component("payment-eapi", CRITICAL, "connection refused")
DOWN_FLOW = component("authentication-flow", CRITICAL, "no login is possible")


def fires(name: str, since: float, state: str = "firing", **more: Any) -> AlertRow:
    key = AlertKey("prod", "health_check", name, more.pop("metric", "health_status"))
    return AlertRow(Alert(key, CRITICAL, f"{name} is down", value=0.0, **more), state, since)


@pytest.mark.parametrize(
    ("components", "alerts", "said"),
    [
        (WELL, (), "all 5 work"),
        (
            (EAPI, SAPI, VAULT, CACHE, NO_CANARY),
            (),
            "all 4 work; authentication-flow is not configured",
        ),
        (
            (EAPI, SAPI, VAULT, MUTE, SLOW),
            (fires("redis-cache", AT - 52),),
            "1 of 5 is down: redis-cache, for 52 s; authentication-flow suffers from it",
        ),
        (
            (LEANS, SAPI, VAULT, MUTE, SLOW),
            (fires("redis-cache", AT - 52, "pending"),),
            (
                "1 of 5 is down: redis-cache, for 52 s; payment-eapi and authentication-flow "
                "suffer from it"
            ),
        ),
        # what refuses connections is down by itself, whatever else is down
        (
            (DOWN_EAPI, SAPI, VAULT, MUTE, LOGIN),
            (fires("redis-cache", AT - 52),),
            "2 of 5 are down: redis-cache (for 52 s), payment-eapi",
        ),
        (
            (DOWN_EAPI, SAPI, VAULT, CACHE, DOWN_FLOW),
            (),
            "2 of 5 are down: payment-eapi; authentication-flow suffers from it",
        ),
        ((EAPI, SAPI, VAULT, CACHE, SLOW), (), "1 of 5 is not well: authentication-flow"),
        # of what another time begins it is not known since when
        ((MUTE,), (fires("redis-cache", AT),), "1 of 1 is down: redis-cache"),
        (
            (EAPI, component("conjur-vault", UNKNOWN)),
            (),
            "the state of conjur-vault is not known",
        ),
    ],
)
def test_components_in_a_sentence(
    components: tuple[Component, ...], alerts: tuple[AlertRow, ...], said: str
) -> None:
    assert headline(outcome("health_check", *components, alerts=alerts)) == said


@pytest.mark.parametrize("up", [True, None])
def test_what_nothing_down_explains_suffers_from_nothing(up: Any) -> None:
    slow = replace(MUTE, up=up, status=WARNING)
    assert "suffer" not in headline(outcome("health_check", LEANS, slow, SLOW))


def test_the_cause_stands_first_and_what_is_not_configured_last() -> None:
    rows = in_order((NO_CANARY, EAPI, SLOW, LEANS, MUTE, SAPI))
    assert next(c.name for c in rows) == "redis-cache"
    assert [c.name for c in rows][-1] == "authentication-flow"
    assert [c.name for c in in_order((SLOW, LEANS, MUTE))] == [
        "redis-cache", "payment-eapi", "authentication-flow",
    ]  # fmt: skip


TROUBLE = {
    "client-007": credential(verdict="stuck", why="two secrets", todo="see --can-revoke"),
    **{f"client-{n:03}": credential(due_in_days=float(n)) for n in range(10, 20)},
}


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ({}, "no credential is known"),
        ({"a": credential()}, "1 credential ok; next due a in 49 d"),
        (
            {"a": credential(due_in_days=9.0), "b": credential(due_in_days=None)},
            "2 credentials ok; the next known to be due is a in 9 d",
        ),
        (
            {"a": credential(verdict="unknown", due_in_days=None), "b": credential()},
            "the state of 1 of 2 credentials is not known",
        ),
        (
            {**TROUBLE, "x": credential(verdict="unknown")},
            "1 of 12 credentials needs a look: client-007 stuck; the state of 1 more is not known",
        ),
        (TROUBLE, "1 of 11 credentials needs a look: client-007 stuck"),
        (
            {f"c{n}": credential(verdict="due_soon") for n in range(5)},
            "5 of 5 credentials need a look: c0 due soon, c1 due soon, c2 due soon and 2 more",
        ),
        (
            {"a": credential(state="dual_active", due_in_days=None), "b": credential(failures=3)},
            (
                "2 credentials ok; the next known to be due is b in 49 d; 1 in rotation or "
                "disabled; logins of 1 client failed"
            ),
        ),
    ],
)
def test_credentials_in_a_sentence(credentials: Any, said: str) -> None:
    assert headline(outcome("credential_usage_metrics", credentials=credentials)) == said


def test_the_most_dangerous_sentence_comes_before_the_counts() -> None:
    seen = outcome("credential_usage_metrics", credentials=TROUBLE, findings=(GUESSED,))
    assert headline(seen).startswith(GUESSED.sentence)
    assert first_step(seen) == GUESSED.action


def test_what_the_first_sentence_says_is_not_said_again() -> None:
    stuck = replace(GUESSED, sentence="client-007: stuck: the same, in other words")
    seen = outcome("credential_usage_metrics", credentials=TROUBLE, findings=(stuck,))
    assert headline(seen) == f"{stuck.sentence}; 1 of 11 credentials needs a look"
    seen = replace(seen, findings=(GUESSED,))
    assert headline(seen).endswith("1 of 11 credentials needs a look: client-007 stuck")


def test_tokens_in_a_sentence_and_what_could_not_be_read() -> None:
    seen = outcome("token_usage_metrics", tokens=TOKENS)
    assert headline(seen) == (
        "1,500 live tokens, 24.5 generated per minute, 100.00 % of validations succeed"
    )
    nearly = {**TOKENS, "validations": {"success_rate": 0.999999}}
    assert "99.99 % of validations" in headline(replace(seen, tokens=nearly))
    assert "redis" in headline(outcome("token_usage_metrics", sources=(UNREAD,)))
    assert headline(outcome("token_usage_metrics")) == "nothing was measured"


def test_sources_that_could_not_be_read_are_named_and_the_rest_is_counted() -> None:
    def unread(*names: str) -> str:
        sources = [replace(UNREAD, name=name) for name in names]
        return headline(outcome("credential_usage_metrics", credentials={}, sources=sources))

    assert unread("redis").startswith("the monitor cannot judge redis")
    assert unread("redis").endswith("no credential is known")
    assert unread("redis", "s-one", "s-two").endswith("; s-one and s-two could not be read")
    five = unread("redis", *(f"source-{n}" for n in range(5)))
    assert five.endswith("; source-0, source-1, source-2 and 2 more could not be read")


def test_the_first_step_is_about_the_cause() -> None:
    child = fires("payment-eapi", AT, metric="api_response_time", action="look at EAPI")
    root = AlertRow(replace(FIRES, action="start Redis"), "firing", AT)
    quiet = AlertRow(replace(FIRES, action="nothing"), "silenced", AT)
    seen = outcome("health_check", MUTE)
    assert first_step(replace(seen, alerts=(child, root))) == "start Redis"
    assert first_step(replace(seen, alerts=(quiet,))) == ""
    assert first_step(outcome("health_check", *WELL)) == ""


def test_without_alerts_the_first_step_is_known_too() -> None:
    step = first_step(outcome("health_check", LEANS, MUTE))
    assert step.startswith("Check the server process")


def test_the_first_step_for_a_credential_is_that_of_its_row() -> None:
    row = TROUBLE["client-007"]
    found = replace(GUESSED, sentence=f"client-007: rotation stuck: {row['why']}",
                    client="client-007", reason="rotation_stuck")  # fmt: skip
    seen = outcome("credential_usage_metrics", credentials=TROUBLE, findings=(found,))
    assert first_step(seen) == "client-007: see --can-revoke"
    assert headline(seen) == "1 of 11 credentials needs a look: client-007 stuck"


# -- what has changed


def test_nothing_has_changed_at_first_and_while_all_stays() -> None:
    seen = outcome("health_check", *WELL)
    assert changes(None, seen) == []
    assert changes(seen, replace(seen, at=AT + 60, seconds=9.0)) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"components": (CACHE,)}, {"components": (MUTE,)}, "redis-cache: ok -> down: no answer"),
        ({"components": (MUTE,)}, {"components": (CACHE,)}, "redis-cache: down -> ok: primary"),
        ({}, {"findings": (GUESSED,)}, f"new: {GUESSED.sentence}"),
        ({"findings": (GUESSED,)}, {}, "no longer found: failures then success, client-004"),
        ({}, {"alerts": (fires("x", AT),)}, "alert fires: x, health status"),
        ({}, {"alerts": (fires("x", AT, "resolved"),)}, "alert ends: x, health status"),
        (
            {"credentials": {"a": credential()}},
            {"credentials": {"a": credential(verdict="stuck", why="two secrets")}},
            "a: verdict ok -> stuck: two secrets",
        ),
        ({"sources": (Source("redis", True),)}, {"sources": (UNREAD,)}, "redis could not be read"),
        ({"sources": (UNREAD,)}, {"sources": (Source("redis", True),)}, "redis is read again"),
        ({"tokens": {"active": 1500}}, {"tokens": {"active": 900}}, "live tokens: 1,500 -> 900"),
    ],
)
def test_each_change_is_a_line(before: Any, after: Any, said: str) -> None:
    seen = outcome("health_check")
    (line,) = changes(replace(seen, **before), replace(seen, **after))
    assert line.startswith(said)


def test_live_tokens_that_wander_are_no_news() -> None:
    one, two = (outcome("token_usage_metrics", tokens={"active": n}) for n in (1000, 1150))
    assert changes(one, two) == []


# -- the loop on a terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Standard output is a terminal of 80 columns from now on. No fixture: between a fixture and
    its test pytest puts its own stream there."""
    for name, value in (("COLUMNS", "80"), ("LINES", "40"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    made = Tty()
    monkeypatch.setattr(sys, "stdout", made)
    return made


def painted(written: str, height: int = 60) -> list[str]:
    """What a terminal shows after that was written: cursor up, line erased, carriage return."""
    screen, row = [""] * height, 0
    for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
        elif part.endswith("A") and part[0] == "\x1b":
            row -= int(part[2:-1])
        elif part.endswith("K") and part[0] == "\x1b":
            screen[row] = ""
        elif part[0] not in "\x1b\r":
            screen[row] += part
    return [line.rstrip() for line in screen]


def test_a_loop_is_updated_in_place_with_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    tty = on_a_terminal(monkeypatch)
    live = terminal.LiveScreen(60.0)
    assert not live.on
    live.show(outcome("health_check", *WELL))
    assert live.on
    assert "all 5 work" in "\n".join(painted(tty.getvalue()))
    live.show(outcome("health_check", EAPI, SAPI, VAULT, MUTE, LOGIN))
    seen = "\n".join(painted(tty.getvalue()))
    assert seen.count("took") == 1, "the second cycle took the place of the first"
    assert "all 5 work" not in seen
    assert "1 of 5 is down: redis-cache" in seen
    assert "redis-cache: ok -> down: no answer" in seen
    assert "next look at 2026-11-23T02:14:20Z" in seen
    live.close()
    assert tty.getvalue().rstrip("\n").endswith("\x1b[?25h"), "the cursor is shown again"
    assert not live.on
    live.close()


def test_log_lines_of_a_loop_go_above_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    tty = on_a_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stderr", tty)
    logs.setup("INFO", "text", "health_check", "test")
    live = terminal.LiveScreen(60.0)
    live.show(outcome("health_check", *WELL))
    logs.LOGGER.warning("slack could not be reached")
    seen = painted(tty.getvalue())
    assert "slack could not be reached" in seen[0]
    assert seen[1].startswith("ok        all 5 work")
    live.close()
    logs.LOGGER.warning("after the end")
    assert "after the end" in tty.getvalue()


@pytest.mark.parametrize(
    ("form", "term", "wanted"),
    [("auto", "xterm", True), ("text", "xterm", True), ("json", "xterm", False),
     ("auto", "dumb", False)],
)  # fmt: skip
def test_when_a_loop_is_updated_in_place(
    form: str, term: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", term)
    assert terminal.live_wanted(form) is wanted


def test_a_loop_whose_output_goes_elsewhere_prints_as_ever() -> None:
    assert not terminal.live_wanted("text")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("short", ["short"]),
        ("one two three four five six seven", ["one two three four", "  five six seven"]),
        ("  a  one two three four five", ["  a  one two three", "     four five"]),
        ("key  word  one two", ["key  word  one two"]),
        ("a  b  one two three four", ["a  b  one two three", "      four"]),
    ],
)
def test_a_line_goes_on_below_what_it_says(line: str, shown: list[str]) -> None:
    assert terminal.wrapped(line, 20).split("\n") == shown


def test_severities_are_what_the_screens_take_them_for() -> None:
    assert tuple(Severity) == (OK, UNKNOWN, WARNING, CRITICAL)
    assert isinstance(outcome(), Outcome)


def test_what_is_well_again_is_no_headline_while_its_alert_goes_on() -> None:
    recovering = replace(fires("redis-cache", AT - 52), why=RECOVERING)
    seen = outcome("health_check", *WELL, alerts=(recovering,))
    assert headline(seen) == "all 5 work"
    assert first_step(seen) == ""
