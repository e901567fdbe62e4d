"""health_check.py on vaults as real ones answer: Enterprise's page, OSS from the transcripts."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import scripts
from tests.raw_server import RawServer, http
from tests.transcripts import ConjurReplay, raw, serve, token

VAULT = "conjur-vault"
LINES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cases" / "vault-health.jsonl")
    .read_text("utf-8")
    .splitlines()
]
BODIES = {line["body"]: line["is"] for line in LINES if "body" in line}
CASES = [line for line in LINES if "case" in line]
_STANDBY = "database.replication_status.pg_stat_replication.0"
_LOGICAL = "database.logical_replication_status"
_SUBSCRIPTION = f"{_LOGICAL}.subscriptions.0"
_FREE = "database.free_space.main"


def more(  # noqa: PLR0917 - a row of a table
    case: str, of: str, change: Mapping[str, Any], says: str = "", expect: str = "not ok"
) -> dict[str, Any]:
    return {"case": case, "of": of, "change": change, "says": says, "expect": expect}


#: Variants of our own, of the same kinds.
MORE = [
    more(
        "an old appliance: only positions",
        "leader",
        {_STANDBY: {"state": "streaming", "sent_location": "1/0", "replay_location": "0/F0000000"}},
        "256 MiB",
    ),
    more("a standby that catches up, level", "leader", {f"{_STANDBY}.state": "catchup"}, "catchup"),
    more("a lag in digits", "leader", {f"{_STANDBY}.replication_lag_bytes": "1000000000"}, "MiB"),
    more("just below the limit", "leader", {f"{_STANDBY}.replication_lag_bytes": 16777215}, "",
         "ok"),
    more("no inodes", "leader", {f"{_FREE}.inodes": 0}, "inodes 0"),
    more("the second volume is full", "leader",
         {"database.free_space": {"main": {"kbytes": 22000000}, "wal": {"kbytes": 10}}}, "MiB"),
    more("a first copy", "follower", {f"{_LOGICAL}.initial_replication_in_progress": True},
         "first cop"),
    more("never a message", "follower", {f"{_SUBSCRIPTION}.last_msg_receipt_time": None},
         "received nothing"),
    more("switched off", "follower", {f"{_SUBSCRIPTION}.enabled": False}, "switched off"),
    more("errors while applying", "follower", {f"{_SUBSCRIPTION}.apply_error_count": 3},
         "apply_error_count is 3"),
    more("a follower that does not say", "follower", {_LOGICAL: {}}, "does not say"),
    more("a follower with a leader's sentence", "follower",
         {f"{_LOGICAL}.subscriptions": "Subscriptions are only available on Conjur Followers."},
         "does not say"),
    more("a service that is not ok", "leader", {"services.possum": "error"}, "possum is error"),
    more("a database that is not ok", "leader", {"database.ok": False}, "database is not ok"),
    more("silent for 9 min", "follower",
         {f"{_SUBSCRIPTION}.last_msg_receipt_time": {"now": -540, "in": "space"}}, "", "ok"),
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run health_check.py once on the vault at `url`; gives its status and the vault's row."""

    def once(url: str, **environ: str) -> tuple[int, dict[str, Any]]:
        words = ("--single-run", "--no-alerts", "--component", VAULT, "--output", "-")
        base = {
            "MONITORING_ENV": "dev",
            "CONJUR_URL": url,
            "MONITORING_STATE_DIR": str(tmp_path / "state"),
        }
        done = scripts.run("health_check", *words, env={**base, **environ}, cwd=tmp_path)
        document = next(d for d in scripts.lines(done.stdout) if "components" in d)
        return done.returncode, document["components"][VAULT]

    return once


LOGIN = {"CONJUR_AUTHN_LOGIN": "host/monitoring", "CONJUR_AUTHN_API_KEY": "k3y-of-the-monitor"}


def changed(case: Mapping[str, Any]) -> Any:
    body = copy.deepcopy(BODIES[case["of"]])
    for path, value in case["change"].items():
        *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place = body
        for step in parents:
            place = place[step]
        place[last] = value
    return dated(body)


def dated(value: Any) -> Any:
    """`{"now": seconds, "in": "space"}` as the time that it means."""
    if isinstance(value, dict) and set(value) == {"now", "in"}:
        moment = time.gmtime(time.time() + value["now"])
        return time.strftime("%Y-%m-%d %H:%M:%S +0000", moment)
    if isinstance(value, dict):
        return {name: dated(item) for name, item in value.items()}
    return [dated(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case["case"])
def test_the_appliances_page(case: Mapping[str, Any], run: Any) -> None:
    with RawServer(serve(changed(case))) as server:
        status, row = run(server.url)
    assert (row["status"] == "ok") is (case["expect"] == "ok"), row["message"]
    assert (status == 0) is (case["expect"] == "ok")
    assert re.search(case.get("says", ""), row["message"]), row["message"]


@pytest.fixture
def vault() -> Iterator[ConjurReplay]:
    with ConjurReplay() as server:
        yield server


def test_a_real_one_that_is_well(vault: ConjurReplay, run: Any) -> None:
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"]) == (0, "ok"), row["message"]
    assert row["details"]["variables_readable"] == 44


def test_its_clock_is_the_tokens(vault: ConjurReplay, run: Any) -> None:
    """It sends no Date header."""
    late = token(iat=int(time.time()) - 900, exp=int(time.time()) + 480)
    vault.answers["POST /authn/"] = raw("authenticate: host, API key, no Accept-Encoding", late)
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"]) == (2, "critical")
    assert row["details"]["clock_skew_seconds"] == pytest.approx(
        -900, abs=60
    )  # a busy machine starts late
    assert "clock difference" in row["message"]


def test_its_database_is_down(vault: ConjurReplay, run: Any) -> None:
    vault.answers.update({
        "GET /authenticators": "PostgreSQL stopped: GET /authenticators",
        "POST /authn/": "PostgreSQL stopped: authenticate",
    })  # fmt: skip
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"], row["up"], row["error"]) == (2, "critical", False, "http")
    assert "answers, but its database does not" in row["message"]
    assert "X-Request-Id 522fbf40-96b1-4a49-9508-fccab1bf0103" in row["message"]


def test_its_database_goes_down_between_two_questions(vault: ConjurReplay, run: Any) -> None:
    vault.answers["POST /authn/"] = "PostgreSQL stopped: authenticate"
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"], row["up"]) == (2, "critical", False)
    assert "database does not" in row["message"]


def test_one_500_for_each_stale_connection_is_no_outage(run: Any) -> None:
    """As PostgreSQL comes back."""
    left = {"GET /authenticators": 2, "POST /authn/": 1, "GET /resources": 3}

    class Recovering(ConjurReplay):
        def _speak(self, wire: Any, request: bytes) -> None:
            for start, times in left.items():
                if request.decode("latin-1").startswith(start) and times:
                    left[start] -= 1
                    wire.sendall(raw("PostgreSQL stopped: count"))
                    return
            super()._speak(wire, request)

    with Recovering() as server:
        status, row = run(server.url, **LOGIN)
    assert (status, row["status"]) == (0, "ok"), row["message"]


def test_a_login_that_never_worked_is_our_configuration(vault: ConjurReplay, run: Any) -> None:
    vault.answers["POST /authn/"] = "authenticate: wrong key"
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"], row["up"], row["error"]) == (1, "warning", True, "auth")
    assert "CONJUR_AUTHN_API_KEY" in row["message"]
    assert "worked" not in row["message"]
    assert re.search(r"X-Request-Id [0-9a-f-]{36}", row["message"])


def test_a_login_that_worked_and_is_refused_now(vault: ConjurReplay, run: Any) -> None:
    """A key that was rotated looks like a vault with the wrong data key; both are named."""
    run(vault.url, **LOGIN)
    vault.answers["POST /authn/"] = "wrong data key: authenticate"
    for _ in range(2):  # remembered for longer than one cycle
        status, row = run(vault.url, **LOGIN)
        assert (status, row["status"], row["error"]) == (1, "warning", "auth")
        assert "this login worked at" in row["message"]
        assert "data key" in row["message"]
    other = {**LOGIN, "CONJUR_AUTHN_LOGIN": "host/other"}
    assert "this login worked at" not in run(vault.url, **other)[1]["message"]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("authn-jwt: expired JWT", "CONJ00016E Token expired"),
        ("authn-jwt: wrong audience", "audience"),
        ("authn-jwt: no body", "JWT"),
    ],
)
def test_a_refused_jwt_does_not_blame_the_key(
    *, case: str, says: str, vault: ConjurReplay, run: Any, tmp_path: Path
) -> None:
    vault.answers["POST /authn-jwt/"] = case
    jwt = tmp_path / "jwt"
    jwt.write_text("a.b.c")
    overlay = tmp_path / "more.yaml"
    overlay.write_text("CONJUR_JWT_SERVICE_ID: payment\n")
    environ = {"CONJUR_JWT_FILE": str(jwt), "MONITORING_CONFIG": str(overlay)}
    status, row = run(vault.url, **environ)
    assert (status, row["error"]) == (1, "auth")
    assert says in row["message"]
    assert "JWT" in row["message"]
    assert "API_KEY" not in row["message"]


def test_a_vault_that_shows_nothing_is_not_green(vault: ConjurReplay, run: Any) -> None:
    count = "GET /resources/payment-system/variable?count=true"
    vault.answers[count] = "no rights: count"
    status, row = run(vault.url, **LOGIN)
    assert (status, row["status"], row["up"]) == (3, "unknown", True)
    assert "no variable" in row["message"]
    assert "CONJUR_ACCOUNT" in row["message"]
    vault.answers[count] = "list: count"
    run(vault.url, **LOGIN)
    vault.answers[count] = "no rights: count"
    assert "it showed 44 before" in run(vault.url, **LOGIN)[1]["message"]


def test_sentences_are_not_cut(run: Any) -> None:
    name = "subscription-of-the-follower-in-the-second-region-" + "n" * 60
    rows = [{"name": name, "enabled": True, "apply_error_count": 17, "last_msg_receipt_time": None}]
    body = changed(more("", "follower", {f"{_LOGICAL}.subscriptions": rows}))
    with RawServer(serve(body)) as server:
        _, row = run(server.url)
    assert f"subscription {name}: apply_error_count is 17" in row["message"]
    assert "has received nothing since it was started" in row["message"]


def test_a_hostile_request_id_is_not_quoted(vault: ConjurReplay, run: Any) -> None:
    answer = http(b"", "500 Oops", X_Request_Id="x\x1b[31m" + "y" * 500)
    vault.answers["GET /authenticators"] = answer
    _, row = run(vault.url, **LOGIN)
    assert "yyy" not in row["message"]
    assert "HTTP 500)" in row["message"]
