"""health_check.py as a user runs it: from another folder, against a real stack."""

from __future__ import annotations

import json
import time

import pytest

from monitoring.components import COMPONENTS
from monitoring.config.settings import HistorySettings
from monitoring.model import Measurement, Outcome
from monitoring.store.history import LocalHistory
from monitoring.store.state import State
from sandbox.options import CANARY, Options
from sandbox.stack import Stack
from tests import scripts

EAPI, SAPI, VAULT, CACHE, LOGIN = COMPONENTS
HOUR = 3600.0


@pytest.fixture(scope="module")
def stack():
    options = Options(clients=2, traffic=False, rotating=False, redis_patience=0.05)
    with Stack(options) as started:
        yield started


@pytest.fixture
def run(stack, tmp_path):
    """Run the script on the stack with a state folder of its own; gives (status, JSON lines)."""
    stack.faults.clear()
    state = tmp_path / "state"
    environ = {**stack.environment, "MONITORING_STATE_DIR": str(state)}

    def start(*words, **more):
        return scripts.run("health_check", *words, env={**environ, **more}, cwd=tmp_path)

    start.state = state
    return start


def outcome_of(done):
    """The document that `--output -` prints."""
    return next(d for d in scripts.lines(done.stdout) if "components" in d)


def once(run, *words, **more):
    done = run("--single-run", "--no-alerts", "--output", "-", *words, **more)
    return done.returncode, outcome_of(done)


def test_a_healthy_stack(run):
    status, document = once(run)
    assert (status, document["status"]) == (0, "ok")
    assert list(document["components"]) == list(COMPONENTS)
    assert {c["status"] for c in document["components"].values()} == {"ok"}
    assert all(source["ok"] for source in document["sources"].values())
    found = {(m["name"], *m["labels"].values()): m["value"] for m in document["metrics"]}
    assert found["payment_api_health_status", LOGIN] == 1.0
    assert found["payment_api_system_up",] == 1.0
    assert found["payment_api_authentication_proof", "tampered"] == 1.0


@pytest.mark.parametrize(
    ("fault", "status", "name", "word"),
    [
        ("eapi-degraded", 1, EAPI, "warning"),
        ("eapi-part-down", 1, EAPI, "warning"),
        ("sapi-part-down", 1, SAPI, "warning"),
        ("sapi-breaker-open", 1, SAPI, "warning"),
        ("sapi-down", 2, SAPI, "critical"),
        ("redis-noauth", 1, CACHE, "unknown"),
        ("conjur-down", 2, VAULT, "critical"),
        ("auth-broken", 2, LOGIN, "critical"),
    ],
)
def test_faults_and_the_exit_status(*, run, stack, fault, status, name, word):
    stack.faults.set(fault)
    ended, document = once(run)
    assert (ended, document["components"][name]["status"]) == (status, word)


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("eapi-login-page", (EAPI, LOGIN)),
        ("sapi-redirect-loop", (SAPI, LOGIN)),
        ("conjur-login-page", (VAULT,)),
        ("conjur-garbage", (VAULT,)),
    ],
)
def test_what_stands_in_for_a_component_that_has_answered_is_an_outage(run, stack, fault, names):
    stack.faults.set(fault)
    _, never = once(run)
    assert {never["components"][name]["status"] for name in names} <= {"unknown", "critical"}
    assert any(never["components"][name]["status"] == "unknown" for name in names)
    stack.faults.clear()
    assert once(run)[0] == 0
    stack.faults.set(fault)
    ended, document = once(run)
    assert ended == 2
    assert {document["components"][name]["status"] for name in names} == {"critical"}


def test_nothing_could_be_judged(run, stack):
    stack.faults.set("redis-noauth")
    status, document = once(run, "--component", CACHE)
    assert (status, document["status"]) == (3, "unknown")


def test_components_one_by_one(run):
    status, document = once(run, "--component", CACHE, "--component", EAPI, "--component", CACHE)
    assert status == 0
    assert list(document["components"]) == [CACHE, EAPI]
    # the whole is not known to who looked at a part
    assert not any(m["name"] == "payment_api_system_up" for m in document["metrics"])


def test_without_a_canary(run):
    status, document = once(run, MONITORING_CLIENT_ID="", MONITORING_CLIENT_SECRET="")
    assert status == 0  # nothing that is set up is wrong
    login = document["components"][LOGIN]
    assert (login["status"], login["up"]) == ("unknown", None)
    assert "MONITORING_CLIENT_ID" in login["message"]


def test_a_slow_service_is_judged_by_the_configured_limits(run, stack, tmp_path):
    overlay = tmp_path / "limits.yaml"
    limits = {"performance": {"api_response_time": {"warning": 50, "critical": 100}}}
    overlay.write_text(json.dumps({"ALERT_THRESHOLDS": limits}))
    stack.faults.set("sapi-slow", "120ms")
    status, document = once(run, "--component", SAPI, "--config", str(overlay))
    row = document["components"][SAPI]
    assert (status, row["status"], row["up"]) == (2, "critical", True)
    assert "response time" in row["message"]


def test_forgeries_are_sent_once_an_hour_and_an_acceptance_stays_found(run, stack):
    stack.faults.set("auth-accepts-tampered")
    first_status, first = once(run)
    stack.faults.clear()
    second_status, second = once(run)
    assert (first_status, second_status) == (2, 2)
    for document in (first, second):
        assert [f["reason"] for f in document["findings"]] == ["accepts_tampered"]
    steps = [d["components"][LOGIN]["details"]["steps_ms"] for d in (first, second)]
    assert ["tampered" in each for each in steps] == [True, False]
    # an hour later the refusal is seen, and clears it
    with State.open(run.state) as state:
        key = f"proofs/{first['environment']}/{CANARY}"
        memory = json.loads(state.get("health_check", key))
        state.put("health_check", key, json.dumps({**memory, "tried": memory["tried"] - 3601}))
    assert once(run)[1]["findings"] == []


def test_a_proof_that_was_not_reached_is_tried_again(run, stack):
    stack.faults.set("sapi-down")
    once(run)
    stack.faults.clear()
    steps = once(run)[1]["components"][LOGIN]["details"]["steps_ms"]
    assert "tampered" in steps


def test_evictions_are_counted_from_cycle_to_cycle(run):
    def recent(document):
        name = "payment_api_redis_evictions_recent"
        return [m["value"] for m in document["metrics"] if m["name"] == name]

    assert recent(once(run, "--component", CACHE)[1]) == [None]
    assert recent(once(run, "--component", CACHE)[1]) == [0.0]


def test_no_secret_is_ever_printed(run, stack):
    stack.faults.set("auth-accepts-alg-none")
    done = run("--single-run", "--debug", "--verbose", "--output", "-", "--no-alerts")
    said = done.stdout + done.stderr
    assert "accepts_alg_none" in said
    assert "eyJ" not in said
    for secret in (stack.book.secret(CANARY), stack.conjur_api_key):
        assert secret not in said


def test_debug_shows_settings_requests_sizes_and_where_time_went(run, stack):
    done = run(
        "--single-run", "--debug", "--no-alerts", HEARTBEAT_URL="http://127.0.0.1:9/hush-hush"
    )
    lines = scripts.check_lines(done.stderr)
    said = [line["message"] for line in lines if line["log.level"] == "debug"]
    eapi, port = stack.environment["EAPI_ENDPOINT"], stack.environment["REDIS_PORT"]
    for start in (
        *(f"EAPI_ENDPOINT = '{eapi}'", "TIMEOUTS['redis-cache'] = '2s'", "REDIS_PASSWORD = "),
        *(f"GET {eapi}/api/v1/health: 200, ", f"127.0.0.1:{port} PING: ", "cycle took "),
    ):
        assert any(line.startswith(start) for line in said), (start, said)
    (health,) = [line for line in said if line.startswith(f"GET {eapi}/api/v1/health: ")]
    assert "bytes in" in health
    assert "first_byte" in health
    assert "hush-hush" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--component", "redis-cash"), "did you mean redis-cache?"),
        (("--component", "nothing-like-it-zzz"), "payment-eapi"),
        (("--lookback", "30d"), "--lookback belongs to --sla"),
        (("--format", "json"), "--format belongs to --sla"),
        (("--sla", "--lookback", "soon"), "soon"),
        (("--sla", "--format", "xml"), "xml"),
    ],
)
def test_wrong_usage(run, words, said):
    done = run(*words)
    assert done.returncode == 3
    assert said in "".join(line["message"] for line in scripts.check_lines(done.stderr))


# -- service levels


def fill(folder, down=(), components=COMPONENTS):
    """A day of five-minute cycles; `down` are the numbers of those in which SAPI was down."""
    now = time.time()
    with State.open(folder) as state:
        history = LocalHistory(state, HistorySettings())
        for number in range(288):
            up = 0.0 if number in down else 1.0
            ups = {name: up if name == SAPI else 1.0 for name in components}
            figures = [
                Measurement("payment_api_health_status", each, {"component": name})
                for name, each in ups.items()
            ]
            figures.append(Measurement("payment_api_system_up", up))
            at = now - 300.0 * (288 - number) + 1
            outcome = Outcome("health_check", "dev", "1", at, 1.0, measurements=tuple(figures))
            history.record(outcome, 300.0)


@pytest.mark.parametrize(
    ("down", "status", "verdict"),
    [
        ((), 0, "met"),
        (range(100, 110), 2, "missed"),
    ],
)
def test_service_levels(*, run, down, status, verdict):
    fill(run.state, down)
    done = run("--sla", "--lookback", "24h", "--format", "json")
    assert done.returncode == status
    (document,) = scripts.lines(done.stdout)
    levels = document["levels"]
    assert levels[EAPI]["verdict"] == "met"
    assert levels[SAPI]["verdict"] == verdict
    assert levels["overall"]["verdict"] == verdict
    assert levels[SAPI]["downtime_minutes"] == pytest.approx(5.0 * len(down), abs=0.1)
    assert levels[EAPI]["unknown_seconds"] == pytest.approx(0.0, abs=600.0)


def test_a_component_that_was_never_watched_is_at_least_a_warning(run):
    fill(run.state, components=[name for name in COMPONENTS if name != CACHE])
    done = run("--sla", "--lookback", "24h", "--format", "json")
    levels = json.loads(done.stdout)["levels"]
    assert (levels[CACHE]["verdict"], levels[EAPI]["verdict"]) == ("unknown", "met")
    assert done.returncode == 1


def test_a_burning_budget_says_so_and_is_no_business_of_who_asks_another(run):
    fill(run.state, range(270, 288))
    done = run("--single-run", "--no-alerts")
    (line,) = scripts.check_lines(done.stdout)
    assert done.returncode == 2
    assert "payment-sapi: error budget burn rate" in line["message"]
    assert run("--single-run", "--no-alerts", "--component", CACHE).returncode == 0


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_the_report_in_words(run, form):
    fill(run.state)
    done = run("--sla", "--format", form)
    assert done.returncode == 3
    assert "too little watched (3.3 %)" in done.stdout
    assert " met" not in done.stdout
    assert "payment-sapi" in done.stdout
    assert "(30 d)" in done.stdout


def test_no_history_at_all(run):
    done = run("--sla")
    assert done.returncode == 3
    assert "nothing was recorded" in done.stdout


def test_recorded_cycles_become_service_levels(run):
    once(run)
    once(run)
    done = run("--sla", "--lookback", "1h", "--format", "json")
    levels = json.loads(done.stdout)["levels"]
    assert levels[CACHE]["availability"] == 1.0
    assert levels["overall"]["availability"] == 1.0
    assert levels["overall"]["unknown_seconds"] > 0
