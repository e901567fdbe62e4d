from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import credential_usage_metrics
import health_check
import token_usage_metrics
import utils
from monitoring import cli


def parser() -> cli.Parser:
    made = cli.Parser("health_check", "Checks.", "  health_check.py --single-run")
    cli.add_common_arguments(made)
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sngle-run"], "did you mean --single-run?"),
        (["--interval", "soon"], "soon"),
        (["--interval", "0"], "not above zero"),
        (["--prometheus-port", "70000"], "not a port"),
        (["--log-level", "LOUD"], "not one of"),
        (["--output", "x.txt"], "no known ending"),
        (["--single-run", "--prometheus-port", "9"], "textfile collector"),
        (["--single-run", "--interval", "5"], "no meaning"),
        (["--prometheus-address", "::1"], "needs --prometheus-port"),
        (["--single"], "unrecognized"),  # no abbreviations
        (["--for", "-2h"], "argument --for: '-2h': a duration cannot be negative: write 2h;"),
        (["--for=-2h"], "argument --for: '-2h': a duration cannot be negative: write 2h;"),
        (["--interval", "-5m"], "'-5m': a duration cannot be negative: write 5m;"),
        (["--prometheus-port", "-1"], "'-1' is not a port"),
        (["--output", "-x"], "no known ending"),
        (["--log-level", "-x"], "'-x' is not one of"),
        (["--for", "--reason", "x"], "--for needs a value, and none follows it;"),
        (["--for", "-h"], "--for needs a value, and none follows it;"),
        (["--silence"], "--silence needs a value, and none follows it;"),
        (["--single-run", "-5"], "unrecognized arguments: -5;"),
        *(
            (
                [*report, *flag],
                f"{flag[0]} is for cycles; what {report[0]} says goes to standard output",
            )
            for report in (
                ["--alerts"],
                ["--check-config"],
                ["--test-alerts"],
                ["--silence", "health_status", "--for", "2h", "--reason", "x"],
            )
            for flag in (["--output", "x.json"], ["--prometheus-port", "9791"])
        ),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_3(words: list[str], said: str, caplog: Any) -> None:
    made = parser()
    with pytest.raises(SystemExit) as stopped:
        cli.check(made, made.parse_args(words))
    assert stopped.value.code == 3
    assert said in caplog.text
    assert len(caplog.records) == 1


def test_a_text_may_begin_with_a_minus() -> None:
    words = ["--reason", "-no reason-", "--silence", "-x", "--output", "-"]
    args = parser().parse_args(words)
    assert (args.reason, args.silence, args.output) == ("-no reason-", "-x", "-")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (health_check, ["--sla"]),
        (health_check, ["--setup"]),
        (token_usage_metrics, ["--analyze"]),
        (credential_usage_metrics, ["--check-rotation"]),
        (credential_usage_metrics, ["--inventory"]),
        (credential_usage_metrics, ["--can-revoke", "client-001"]),
        (credential_usage_metrics, ["--replay", "history"]),
    ],
)
def test_a_report_of_any_script_refuses_an_output_file(
    script: Any, words: list[str], tmp_path: Path, caplog: Any
) -> None:
    made, target = script.build_parser(), tmp_path / "x.json"
    with pytest.raises(SystemExit) as stopped:
        cli.check(made, made.parse_args([*words, "--output", str(target)]))
    assert (stopped.value.code, target.exists()) == (3, False)
    assert f"what {words[0]} says goes to standard output" in caplog.text


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60.0), ("90s", 90.0), ("15m", 900.0), ("2w", 1209600.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert cli.duration(text) == seconds


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "auto"),
        (["--log-format", "json"], "json"),
        (["--log-format=text"], "text"),
        (["--log-format", "xml"], "auto"),
        (["--log-format"], "auto"),
    ],
)
def test_the_log_format_is_known_before_the_rest_is_parsed(words: list[str], wanted: str) -> None:
    assert cli.requested_format(words) == wanted


def test_verbosity() -> None:
    assert cli.effective_level(parser().parse_args([])) == "INFO"
    assert cli.effective_level(parser().parse_args(["--debug"])) == "DEBUG"
    assert cli.effective_level(parser().parse_args(["--debug", "--log-level", "error"])) == "ERROR"


def test_help_shows_examples_and_the_exit_status() -> None:
    text = parser().format_help()
    assert "--single-run" in text
    assert "3 cannot tell" in text
    assert isinstance(parser(), argparse.ArgumentParser)


def test_a_shell_may_ask_how_a_line_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library gets the parser with all its flags before anything is parsed, and parses with it
    what stands on the line so far."""
    asked: list[argparse.ArgumentParser] = []
    library = types.ModuleType("argcomplete")

    def autocomplete(given: argparse.ArgumentParser) -> None:
        asked.append(given)
        given.parse_known_args(["--single-run"])

    library.autocomplete = autocomplete  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "argcomplete", library)
    made = parser()
    utils.parsed(made, "health_check", ["--single-run"])
    assert asked == []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    utils.parsed(made, "health_check", ["--single-run"])
    assert asked == [made]


def test_without_the_library_the_line_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert utils.parsed(parser(), "health_check", ["--single-run"]).single_run


def test_a_shell_may_ask_which_components_there_are() -> None:
    """The names that argcomplete looks for, tried by hand with the library itself."""
    (which,) = [a for a in health_check.build_parser()._actions if a.dest == "component"]
    asked = {"prefix": "re", "action": which, "parser": None, "parsed_args": None}
    assert "redis-cache" in which.completer(**asked)  # type: ignore[attr-defined]
