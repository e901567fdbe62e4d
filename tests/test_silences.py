"""Silences from the command line: who, until when, why; shown, ended, and told of once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitoring.alerts import silences
from monitoring.alerts.maintenance import matches
from monitoring.alerts.outbox_merge import merge
from monitoring.config.settings import Silence
from monitoring.model import AlertKey, OperatorError
from monitoring.store.state import State
from tests import scripts
from tests.alerting_kit import T0, alert, notice

KEY = AlertKey("prod", "health_check", "payment-eapi", "health_status")


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ("health_status", {"metric": "health_status"}),
        ("PaymentApiHealthStatus", {"metric": "health_status"}),
        ("PaymentApiApiResponseTime", {"metric": "api_response_time"}),
        ("redis_*", {"metric": "redis_*"}),
        ("invented_by_a_test", {"metric": "invented_by_a_test"}),
        (
            KEY.text,
            {"environment": "prod", "script": "health_check", "component": "payment-eapi",
             "metric": "health_status", "client": ""},
        ),
        ("accepts_tampered", {"metric": "accepts_tampered"}),
        ("PaymentApiRotationStuck", {"metric": "rotation_stuck"}),
        (
            AlertKey("prod", "s", "payment-eapi", "failure_burst", "a/b[1]").text,
            {"environment": "prod", "script": "s", "component": "payment-eapi",
             "metric": "failure_burst", "client": "a/b[[]1]"},
        ),
    ],
)  # fmt: skip
def test_an_alert_is_named_as_any_message_names_it(asked: str, match: dict[str, str]) -> None:
    seen = [AlertKey("prod", "s", "c", "invented_by_a_test")]
    assert silences.names(asked, seen) == [match]


def test_an_incident_is_all_that_its_cause_explains() -> None:
    found = silences.names("prod/s/payment-eapi/failed_logins/", [])
    assert {"environment": "prod", "script": "s", "metric": "failures_then_success"} in found
    assert silences.names("failed_logins", []) == [
        {"metric": row["metric"]} for row in found
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("helth_status", "did you mean health_status"),
        ("payment-sap", "did you mean payment-sapi"),
        ("zzzzzz", "--alerts"),
        ("prod/health_check/payment-eapi/helth_status/", "did you mean health_status"),
        ("prod/health_check/payment-eapi/zzzzzz/", "--alerts"),
        ("payment-sapi", "Alerts there: prod/health_check/payment-sapi/health_status/"),
    ],
)
def test_what_names_nothing_is_refused_with_a_hint(asked: str, hint: str) -> None:
    with pytest.raises(OperatorError, match=hint):
        silences.names(asked, [AlertKey("prod", "health_check", "payment-sapi", "health_status")])


def silence(until: float) -> Silence:
    return Silence({"metric": "health_status"}, "ops", "deploy", until)


@pytest.mark.parametrize(("before", "over"), [(1.0, False), (0.0, True), (-1.0, True)])
def test_it_is_over_at_its_end_and_not_a_second_earlier(before: float, over: bool) -> None:
    found = list(silences.ended({"x": [silence(T0 + before)]}, "prod", "s", T0))
    assert [name for name, _ in found] == (["x"] if over else [])


def test_it_is_kept_replaced_and_removed(tmp_path: Path) -> None:
    state = State.open(str(tmp_path / "s"))
    silences.put(state, "x", [silence(T0)])
    silences.put(state, "x", [silence(T0 + 1)])
    assert silences.kept(state) == {"x": (silence(T0 + 1),)}
    assert silences.remove(state, "x")
    assert not silences.remove(state, "x")
    assert silences.kept(state) == {}
    state.close()


def test_the_key_of_an_alert_without_a_client_is_not_that_of_every_client() -> None:
    (match,) = silences.names(AlertKey("p", "s", "c", "failure_burst").text, [])
    one = alert(component="c", metric="failure_burst")
    keys = {
        client: AlertKey("p", "s", "c", "failure_burst", client) for client in ("", "client-004")
    }
    hushed = {name: matches(replace(one, key=key), match) for name, key in keys.items()}
    assert hushed == {"": True, "client-004": False}


def test_it_ends_under_any_spelling_of_its_name(tmp_path: Path) -> None:
    state = State.open(str(tmp_path / "s"))
    silences.put(state, "PaymentApiHealthStatus", [silence(T0)])
    assert list(silences.kept(state)) == ["health_status"]
    assert silences.remove(state, "health_status")
    silences.put(state, "health_status", [silence(T0)])
    assert silences.remove(state, "PaymentApiHealthStatus")
    state.close()


def test_a_damaged_one_hushes_nothing(tmp_path: Path) -> None:
    state = State.open(str(tmp_path / "s"))
    state.put("silences", "x", '{"no": "list')
    assert silences.in_force(silences.kept(state)) == ()
    state.close()


def test_a_note_is_never_taken_for_the_word_that_something_fires() -> None:
    assert merge((), True, notice("note")).notice == notice("note")
    assert notice("note").over
    assert alert().key.text


def run(*words: str, env: dict[str, str], cwd: Path) -> Any:
    return scripts.run("health_check", *words, env=env, cwd=cwd)


def test_from_the_command_line_to_the_note_that_it_is_over(tmp_path: Path) -> None:
    """Nothing listens, so everything is down; the log is the channel."""
    env = {"MONITORING_STATE_DIR": str(tmp_path / "state"), "MONITORING_ENV": "dev",
           "EAPI_ENDPOINT": "http://127.0.0.1:9", "SAPI_ENDPOINT": "http://127.0.0.1:9",
           "REDIS_HOST": "127.0.0.1", "REDIS_PORT": "9"}  # fmt: skip

    def said() -> list[str]:
        done = run("--single-run", env=env, cwd=tmp_path)
        return [
            json.loads(line)["message"]
            for line in (done.stdout + done.stderr).splitlines()
            if "alert" in line
        ]

    run("--single-run", env=env, cwd=tmp_path)
    done = run("--silence", "health_status", "--for", "2h", "--reason", "deploy", env=env,
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert not [line for line in said() if "is down" in line and "CRITICAL" in line]
    shown = json.loads(run("--alerts", env=env, cwd=tmp_path).stdout.splitlines()[-1])
    assert [row["reason"] for row in shown["silences"]] == ["deploy"]
    assert {row["state"] for row in shown["alerts"] if "health_status" in row["key"]} == {
        "silenced"
    }
    again = run("--silence", "health_status", "--for", "1s", "--reason", "x", env=env, cwd=tmp_path)
    assert again.returncode == 0
    for _ in range(20):  # until the second is over
        first = said()
        if any("has ended" in line for line in first):
            break
    assert sum("the silence of health_status has ended" in line for line in first) == 1
    assert any("is down" in line for line in first), "it speaks again"
    assert not any("has ended" in line for line in said()), "told once"
    assert run("--unsilence", "health_status", env=env, cwd=tmp_path).returncode == 3


@pytest.mark.parametrize(
    "words",
    [
        ("--silence", "health_status"),
        ("--silence", "health_status", "--for", "2h"),
        ("--silence", "health_status", "--for", "2h", "--reason", " "),
        ("--silence", "health_status", "--for", "soon", "--reason", "x"),
        ("--for", "2h"),
        ("--silence", "health_status", "--for", "2h", "--reason", "x", "--unsilence", "y"),
        ("--silence", "nothing_of_the_kind", "--for", "2h", "--reason", "x"),
    ],
)
def test_half_a_silence_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    env = {"MONITORING_STATE_DIR": str(tmp_path / "state")}
    done = run(*words, env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
