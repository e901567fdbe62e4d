"""`--can-revoke` as a user types it, in a world where all is well but for one thing.

The old secret of client-001 ended 6 h ago, tokens live 1 h by policy, client-002 has a new token.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional, Union

import pytest

from monitoring.store.state import State
from sandbox import jwt_codec
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.credential_kit import HOUR, cache_credential, log_in, say_rotations, set_versions

CLIENT = "client-001"
CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "can-revoke.jsonl").read_text().splitlines()
]
ENDED = {
    "current_state": "new_active",
    "started_at": -7 * HOUR,
    "completed_at": -6 * HOUR,
    "status": "COMPLETED",
    "success": True,
}
STATUSES = {"yes": (0,), "no": (2,), "not yes": (2, 3)}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = Options(clients=2, preload=0, traffic=False, rotating=False, redis_password="")
    with Stack(options) as running:
        running.book.add("other")
        set_versions(running, CLIENT, [1, 2])
        yield running


@pytest.fixture(scope="module")
def watched(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder after a look, as if the looks had begun ten hours ago."""
    cwd = tmp_path_factory.mktemp("watched")
    usual(stack)
    env = {**stack.environment, "MONITORING_STATE_DIR": str(cwd / "state")}
    scripts.run("credential_usage_metrics", "--single-run", "--no-alerts", env=env, cwd=cwd)
    with State.open(cwd / "state") as state, state.transaction() as tx:
        tx.execute("UPDATE ledger SET watched_since = watched_since - 36000")
    return cwd / "state"


Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ask(stack: Stack, watched: Path, tmp_path: Path) -> Ask:
    """Asks once more on the same state, in the usual world."""
    shutil.copytree(watched, tmp_path / "looks")
    usual(stack)
    env = {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "looks")}

    def run(*words: str, client: str = CLIENT) -> subprocess.CompletedProcess[str]:
        return scripts.run(
            "credential_usage_metrics", "--can-revoke", client, *words, env=env, cwd=tmp_path
        )

    return run


def usual(stack: Stack) -> None:
    stack.faults.clear()
    with stack.redis_client() as redis:
        redis.flushall()
    say_rotations(stack, CLIENT, [ENDED])
    assert log_in(stack, "client-002")
    cache_credential(stack, "client-002", None)


def moment(stack: Stack, told: Any) -> Any:
    """A time as cases write it: `{"now": SECONDS, "in": UNIT}`."""
    if not isinstance(told, dict) or "now" not in told:
        return told
    at = stack.now() + told["now"]
    return {
        "s": lambda: int(at),
        "ms": lambda: int(at * 1000),
        "us": lambda: int(at * 1e6),
        "text": lambda: str(int(at)),
        "decimal": lambda: f"{at:.3f}",
        "float": lambda: round(at, 3),
    }[told.get("in", "s")]()


Value = Union[str, bytes]


def jwt(stack: Stack, claims: Mapping[str, Any]) -> str:
    said = {name: moment(stack, value) for name, value in claims.items()}
    return jwt_codec.sign(stack.eapi.minter.key, said)


def put(stack: Stack, value: Value, key: str = "token:row") -> None:
    with stack.redis_client() as redis:
        redis.set(key, value, ex=600)


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_the_case(row: Mapping[str, Any], stack: Stack, ask: Ask) -> None:
    if "claims" in row:
        put(stack, row.get("prefix", "") + jwt(stack, row["claims"]))
    answer = ask()
    assert answer.returncode in STATUSES[row["expect"]], answer.stdout
    assert ("ask again" in answer.stdout) == (row["expect"] != "yes")
    for again in range(2):  # once it has been seen it is remembered, in the cache or not
        with stack.redis_client() as redis:
            redis.delete("token:row")
        told = ask()
        assert told.returncode in STATUSES["yes" if row["expect"] == "yes" else "not yes"], (
            again,
            told.stdout,
        )


OLD = {"sub": CLIENT, "iat": {"now": -23400}, "exp": {"now": 600}}
UUID = "7c1d0e52-90aa-4b7e-8f1e-0d6a5b1c2f33"


def of(**claims: Any) -> Mapping[str, Any]:
    """The old token with other claims; None takes one out."""
    return {name: value for name, value in {**OLD, **claims}.items() if value is not None}


TOKENS = {
    "cid is the client": of(sub=UUID, cid=CLIENT),
    "clientId is the client": of(sub=UUID, clientId=CLIENT),
    "client@clients": of(sub=f"{CLIENT}@clients"),
    "the sub of another known client, azp is ours": of(sub="client-002", azp=CLIENT),
    "azp of another known client, sub is ours": of(azp="client-002"),
    "sub is a mail and nothing else tells": of(sub="somebody@example.com"),
    "sub is a uuid and nothing else tells": of(sub=UUID),
    "no claim names anybody": of(sub=None),
    "our name in capitals": of(sub=CLIENT.upper()),
    "our name with a blank": of(sub=f" {CLIENT}"),
    "a sub that is a number": of(sub=7),
    "a list of owners": of(sub=[CLIENT]),
    "an owner within an object": of(sub=None, client={"id": CLIENT}),
    "exp in microseconds": of(exp={"now": -600, "in": "us"}),
    "exp in milliseconds as text": of(exp=str(1000 * 4102444800)),
    "exp is 999999999999": of(exp=999999999999),
    "exp as text": of(exp={"now": 600, "in": "text"}),
    "exp as text with a fraction": of(exp={"now": 600, "in": "decimal"}),
    "exp with a fraction": of(exp={"now": 600, "in": "float"}),
    "iat in microseconds": of(iat={"now": -23400, "in": "us"}),
    "iat as text": of(iat={"now": -23400, "in": "text"}),
    "iat with a fraction": of(iat={"now": -23400, "in": "float"}),
    "without iat": of(iat=None),
    "iat in the future": of(iat={"now": 7200}, exp={"now": 10800}),
    "somebody's, with iat in the future": of(sub=UUID, iat={"now": 7200}, exp={"now": 10800}),
    "iat after exp": of(iat={"now": 900}, exp={"now": 600}),
    "iat null": {**OLD, "iat": None},
    "exp null": {**OLD, "exp": None},
    "exp false": of(exp=False),
    "exp 0": of(exp=0),
    "exp below 0": of(exp=-1),
    "exp as a huge number": of(exp=10**30),
    "exp as an object": of(exp={"seconds": 5}),
    "iat in a zone-less time": of(iat="2020-01-01T00:00:00"),
    "it will be valid later": of(nbf={"now": 300}),
    "it died two minutes ago, by our clock": of(exp={"now": -120}),
    "it died long ago, and lived for so long that others may live": of(exp={"now": -1000}),
    "minted as EAPI's cache of the old secret ran out": of(
        iat={"now": -6 * 3600 + 900}, exp={"now": 600}
    ),
}


@pytest.mark.parametrize("claims", TOKENS.values(), ids=TOKENS.keys())
def test_a_token_that_may_be_of_the_old_secret(
    claims: Mapping[str, Any], stack: Stack, ask: Ask
) -> None:
    put(stack, jwt(stack, claims))
    answer = ask()
    assert answer.returncode in (2, 3), answer.stdout


FORMS: Mapping[str, Callable[[str], Value]] = {
    "gzip": lambda token: gzip.compress(token.encode()),
    "zlib": lambda token: zlib.compress(token.encode()),
    "bearer in small letters": lambda token: f"bearer {token}",
    "in quotes": lambda token: f'"{token}"',
    "with a new line": lambda token: f"{token}\n",
    "in a field": lambda token: json.dumps({"access_token": token}),
    "in base64": lambda token: base64.b64encode(token.encode()),
    "cut short": lambda token: token[:-50],
    "encrypted": lambda token: b"\x01\x02" + token.encode()[::-1],
    "pickled": lambda token: b"\x80\x04\x95" + token.encode(),
    "msgpack": lambda token: b"\x81\xa5token\xd9" + bytes([len(token) % 256]) + token.encode(),
    "empty": lambda _token: b"",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_an_old_token_in_another_form(form: Callable[[str], Value], stack: Stack, ask: Ask) -> None:
    put(stack, form(jwt(stack, OLD)))
    answer = ask()
    assert answer.returncode in (2, 3), answer.stdout


KEYS = (
    *("token_id:x", "token:a:b:c", "validation:{}:none", "validation:{}:process_payment"),
    *("validation:{}", "validation::{}", "validation:{}:a:b", "validation:x:{}"),
    "validation:Bearer {}:none",
)


@pytest.mark.parametrize("key", KEYS)
def test_an_old_token_under_another_key(key: str, stack: Stack, ask: Ask) -> None:
    """In the last ones it stands in the name alone."""
    token = jwt(stack, OLD)
    named = "{}" in key
    put(stack, json.dumps({"valid": True}) if named else token, key.format(token))
    answer = ask()
    assert answer.returncode in (2, 3), answer.stdout
    assert token not in answer.stdout


COLLECTIONS: Mapping[str, Callable[[Any, str], Any]] = {
    "a list": lambda redis, token: redis.rpush("token:row", token),
    "a set": lambda redis, token: redis.sadd("token:row", token),
    "a sorted set": lambda redis, token: redis.zadd("token:row", {token: 1}),
}


@pytest.mark.parametrize("keep", COLLECTIONS.values(), ids=COLLECTIONS.keys())
def test_an_old_token_in_a_collection(
    keep: Callable[[Any, str], Any], stack: Stack, ask: Ask
) -> None:
    with stack.redis_client() as redis:
        keep(redis, jwt(stack, OLD))
    answer = ask()
    assert answer.returncode in (2, 3), answer.stdout


OTHERS = {
    "a future token of another known client": of(
        sub="client-002", iat={"now": 7200}, exp={"now": 10800}
    ),
    "an old token of the client named other": of(sub="other"),
    "a new token of the client named other": of(sub="other", iat={"now": -60}),
    "a user's token from after the end": of(sub=UUID, iat={"now": -60}),
    "a new token of ours": of(iat={"now": -60}),
    "a new token of ours with its times as text": of(
        iat={"now": -60, "in": "text"}, exp={"now": 600, "in": "text"}
    ),
}


@pytest.mark.parametrize("claims", OTHERS.values(), ids=OTHERS.keys())
def test_a_token_that_cannot_be_of_the_old_secret(
    claims: Mapping[str, Any], stack: Stack, ask: Ask
) -> None:
    put(stack, jwt(stack, claims))
    answer = ask()
    assert answer.returncode == 0, answer.stdout


def test_clients_may_have_any_name(stack: Stack, ask: Ask) -> None:
    """`other` and `(none)` stood for what belongs to nobody once."""
    for name in ("other", "(none)", "(other clients)"):
        if name not in stack.book.accounts:
            stack.book.add(name)
        say_rotations(stack, name, [ENDED])
        set_versions(stack, name, [1, 2])
        put(stack, jwt(stack, of(sub=name)))
        assert ask(client=name).returncode in (2, 3)
        assert ask().returncode == 0


def test_a_client_of_that_name_may_be_told_yes(stack: Stack, ask: Ask, tmp_path: Path) -> None:
    say_rotations(stack, "other", [ENDED])
    set_versions(stack, "other", [1, 2])
    first = ask(client="other")
    assert "logins were watched for" in first.stdout
    with State.open(tmp_path / "looks") as state, state.transaction() as tx:
        tx.execute("UPDATE ledger SET watched_since = watched_since - 36000")
    assert ask(client="other").returncode == 0


# -- answers that are away, or speak against it

NO_INFO = ("-info", "-@dangerous -info", "-@all +scan +mget +get +dbsize +select +ping +pttl")


@pytest.mark.parametrize("rights", NO_INFO)
def test_a_right_that_we_lack_is_no_yes(rights: str, stack: Stack, ask: Ask) -> None:
    with stack.redis_client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", *rights.split())
        try:
            answer = ask()
        finally:
            redis.execute_command("ACL", "SETUSER", "default", "+@all")
    assert answer.returncode == 3, answer.stdout
    assert "INFO of the cache" in answer.stdout


SAID: Mapping[str, Mapping[str, Any]] = {
    "it failed": {"status": "FAILED"},
    "without success": {"success": False},
    "a status nobody knows": {"status": "PARTIAL"},
    "in progress": {"status": "IN_PROGRESS"},
    "ended just now": {"completed_at": -60},
    "ended an hour ago": {"completed_at": -3600},
    "ended in the future": {"completed_at": 3600},
    "ended before it began": {"completed_at": -8 * HOUR},
    "it does not say when it ended": {"completed_at": None},
    "versions without numbers": {"old_version": "a", "new_version": "b"},
    "versions upside down": {"old_version": "2", "new_version": "1"},
    "one version": {"old_version": "2", "new_version": "2"},
    "a version that is not in the vault": {"new_version": "3"},
    "both log in": {"current_state": "dual_active", "completed_at": None, "status": "IN_PROGRESS"},
    "a state nobody knows": {"current_state": "paused"},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_rotation_that_is_not_over(said: Mapping[str, Any], stack: Stack, ask: Ask) -> None:
    say_rotations(stack, CLIENT, [{**ENDED, **said}])
    answer = ask()
    assert answer.returncode in (2, 3), answer.stdout


CACHED: Mapping[str, Optional[Mapping[str, Any]]] = {
    "the old version": {"version": "1"},
    "both log in": {"rotationState": "DUAL_ACTIVE"},
}


@pytest.mark.parametrize("cached", CACHED.values(), ids=CACHED.keys())
def test_what_eapi_has_cached(cached: Mapping[str, Any], stack: Stack, ask: Ask) -> None:
    cache_credential(stack, CLIENT, cached)
    answer = ask()
    assert answer.returncode == 2, answer.stdout
    assert "ask again" in answer.stdout


FAULTS = ("rotation-down", "rotation-garbage", "conjur-502", "eapi-500", "sapi-500")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_is_away(fault: str, stack: Stack, ask: Ask) -> None:
    stack.faults.set(fault)
    assert ask().returncode == 3


def test_the_answer_as_json_says_when_to_ask_again(stack: Stack, ask: Ask) -> None:
    put(stack, jwt(stack, OLD))
    document = json.loads(ask("--format", "json").stdout)
    assert (document["can_revoke"], document["old_version_tokens"]) == (False, 1)
    assert document["ask_again_at"] > document["last_old_token_dies"]
    assert document["waiting_is_enough"] is True
