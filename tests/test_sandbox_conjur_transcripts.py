"""The sandbox's Conjur answers as the real one did: status, type, headers, shape of the body."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import pytest

from sandbox.clock import SimulatedClock
from sandbox.conjur import ConjurServer
from sandbox.jwt_codec import sign
from sandbox.vault import Vault
from tests.transcripts import ALL

KEY = "<api key>"
#: Beginnings of cases that the sandbox has no part for, and why.
LEFT_OUT = {
    "policy": "the sandbox's vault is filled by the test, not by policies",
    "project's policy": "the same",
    "api key age": "nothing asks for it",
    "authn status": "nothing asks for it",
    "authn-jwt status": "nothing asks for it",
    "telemetry on": "nothing asks for it",
    "read-only database: policy load": "policies again",
}
ODD = ("client with space", "clïent-ü", "client.dot", "client+plus", "client%25pct", "nested/a")
ODD += ("client:colon", "client#hash", "client?q=1&x=2", 'client"dq', "CLIENT-UPPER")
READ = {"read": {"group:monitoring-access"}}
#: Who asked, by words of the case; the transcripts hide the token.
ASKED_BY = (
    ("no rights", "host/norights"),
    ("(exec host)", "host/exec"),
    ("secret: execute", "host/exec"),
    ("secrets batch: execute", "host/exec"),
    ("secrets batch: one never set", "host/exec"),
    ("(updater)", "host/updater"),
    ("read-only database: store", "host/updater"),
    ("expire a variable", "host/updater"),
    ("admin", "admin"),
    ("owns the policy", "host/owner-of-all"),
    ("X-Forwarded-For", "admin"),
    ("token of a", "host/deleteme"),
    ("before the key was rotated", "host/updater"),
)
FAULTS = {
    "PostgreSQL stopped": "conjur-database-down",
    "wrong data key": "conjur-wrong-data-key",
    "read-only database": "conjur-database-readonly",
}


def world(clock: SimulatedClock) -> Vault:
    """What lay in the real one, as far as the cases look at it."""
    vault = Vault(now=clock)
    vault.add_host("host/monitoring", KEY, "monitoring-access")
    vault.add_host("host/exec", KEY, "readers")
    for login in ("host/norights", "host/updater", "host/nokey", "host/deleteme", "admin"):
        vault.add_host(login, KEY)
    vault.add_host("host/owner-of-all", KEY)
    vault.owners["policy:owned"] = {"host:owner-of-all", "user:admin"}
    for number in range(1, 31):
        permits = {**READ, "execute": {"group:readers"}, "update": {"host:updater"}}
        name = f"payment/credentials/client-{number:03d}"
        hidden = number == 24
        vault.add_variable(
            name, permits=READ if hidden else {k: set(v) for k, v in permits.items()}
        )
        for version in range(1, number % 25 + 1 if number != 27 else 1):
            vault.set_value(name, f"client-{number:03d}-value-{version}".encode())
    vault.set_value("payment/credentials/client-030", b"\x00\xff binary")
    for odd in ODD:
        vault.add_variable(f"payment/credentials/{odd}", permits=READ)
    rotated = {"rotation__rotator": "postgresql/password", "rotation__ttl": "P30D"}
    for name in ("rot-good", "rot-short", "rot-neverset"):
        permits = {**READ, "update": {"host:updater"}}
        vault.add_variable(f"payment/credentials/{name}", permits=permits, **rotated)
    for name in ("rot-good", "rot-short"):
        vault.set_value(f"payment/credentials/{name}", b"one", clock() + 100)
    for name, owner in (("team/k-08", "payment"), ("team/k-09", "payment"), ("owned/o-1", "owned")):
        permits = {**READ, "execute": {"group:monitoring-access"}} if "09" in name else READ
        vault.add_variable(name, permits=permits).owner = f"policy:{owner}"
    return vault


@pytest.fixture
def server() -> Iterator[ConjurServer]:
    clock = SimulatedClock()
    with ConjurServer(world(clock), now=clock) as started:
        started.jwt_logins["good"] = "host/monitoring"
        yield started


def asked_by(case: str) -> str:
    return next((login for part, login in ASKED_BY if part in case), "host/monitoring")


def headers_of(entry: Mapping[str, Any], vault: Vault) -> dict[str, str]:
    """The request's headers, with a real token where a placeholder stands."""
    case, found = entry["case"], dict(entry["request"]["headers"] or {})
    said = found.get("Authorization", "")
    if "<token>" in said:
        token = vault.issue(asked_by(case))
        if "forged" in case:
            token = {**token, "signature": "0" * len(token["signature"])}
        packed = base64.b64encode(json.dumps(token).encode()).decode()
        packed = packed.replace("+", "-").replace("/", "_") if "urlsafe" in case else packed
        quote = '"' if '"' in said else ""
        found["Authorization"] = f"{said.split('=')[0]}={quote}{packed}{quote}" if (
            "=" in said) else f"{said.split('<')[0]}{packed}"  # fmt: skip
    return found


def body_of(entry: Mapping[str, Any], now: float) -> Optional[bytes]:
    case, body = entry["case"], entry["request"].get("body")
    if body is None:
        return None
    if body.startswith("jwt="):
        subject = "good" if case in ("authn-jwt: good", "authn-jwt: expired JWT") else "other"
        life = -10 if "expired" in case else 300
        return b"jwt=" + sign(b"key", {"sub": subject, "exp": now + life}).encode()
    if KEY in body:
        return (KEY + ("\n" if body.endswith("\n") else "")).encode()
    return str(body).encode()


def prepare(case: str, server: ConjurServer) -> None:
    for start, fault in FAULTS.items():
        if case.startswith(start):
            server.faults.set(fault)
    if "api_resource_list_limit_max is 20" in case:
        server.list_limit = 20
    if "key from before it was rotated" in case:
        server.vault.api_keys["host/updater"] = "another"
    if "deleted host" in case:
        server.vault.delete_host("host/deleteme")


def shape(value: Any) -> Any:
    """Names and types; of a list the shape of its first element."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


COVERED = [entry for entry in ALL if not entry["case"].startswith(tuple(LEFT_OUT))]


def test_most_of_what_was_recorded_is_held() -> None:
    assert (len(ALL), len(COVERED)) == (195, 178)


@pytest.mark.parametrize("entry", COVERED, ids=[entry["case"] for entry in COVERED])
def test_it_answers_as_the_real_one_did(entry: Mapping[str, Any], server: ConjurServer) -> None:
    case, asked, real = entry["case"], entry["request"], entry["response"]
    headers, body = headers_of(entry, server.vault), body_of(entry, server.now())
    prepare(case, server)
    if "expired token" in case:
        server.now.advance(481)  # type: ignore[attr-defined]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(asked["method"], asked["path"], body, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == real["status"]
    named = {name for name, _ in real["headers"]}
    assert set(answer.headers) == named
    assert answer.headers["Content-Type"] == dict(real["headers"]).get("Content-Type")
    compare(said, real)


def compare(said: bytes, real: Mapping[str, Any]) -> None:
    """Errors and plain text word for word, data by their shape."""
    kind = dict(real["headers"]).get("Content-Type", "")
    if "json" not in kind or not real.get("body"):
        exact = kind == "text/plain" or not real.get("body", "x")
        assert not exact or said.decode() == real["body"]
        return
    expected = json.loads(real["body"])
    if real["status"] >= 400:
        assert json.loads(said) == expected
    elif not (isinstance(expected, list) and expected and isinstance(expected[0], str)):
        assert loose(shape(json.loads(said))) == loose(shape(expected))


def loose(value: Any) -> Any:
    """Without what depends on the world: lists that may be empty, times that may be null."""
    if isinstance(value, dict):
        plain = {n: loose(v) for n, v in value.items() if n not in ("annotations", "secrets")}
        named = all(name.count(":") > 1 for name in plain)
        return "values by id" if plain and named else plain
    return [loose(item) for item in value] if isinstance(value, list) else value


def test_who_may_read_is_transitive_and_not_audited(server: ConjurServer) -> None:
    server.vault.groups["monitoring-access"].add("group:watchers")
    server.vault.groups["watchers"] = {"host:norights"}
    variable = server.vault.variables["team/k-09"]
    found = server.vault.permitted(variable, "execute")
    own = {"group:monitoring-access", "host:monitoring", "group:watchers", "host:norights"}
    expected = {*own, "policy:payment", "user:admin"}
    assert {role.split(":", 1)[1] for role in found} == expected
    assert server.vault.privileges("host:norights", variable) == {"read", "execute"}


def test_what_it_audits(server: ConjurServer) -> None:
    token = base64.b64encode(json.dumps(server.vault.issue("host/monitoring")).encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    base = "/resources/payment-system/variable/payment%2Fcredentials%2Fclient-001"
    for query in ("?permitted_roles=true&privilege=execute", "", "?check=true&privilege=execute"):
        connection.request("GET", base + query, headers={"Authorization": f'Token token="{token}"'})
        connection.getresponse().read()
        assert len(server.audit) == (1 if "check" in query else 0)
    connection.close()
    assert server.audit[0].severity == "WARN"
    assert "failed to check if they can execute" in server.audit[0].text
