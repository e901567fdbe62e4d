"""Conjur, both flavours: who gets in, what a reader sees, and the rules of its lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox.clock import SimulatedClock
from sandbox.conjur import ConjurServer
from sandbox.credentials import CredentialBook
from sandbox.jwt_codec import sign
from sandbox.vault import Vault

ACCOUNT = "payment-system"
ONE = "payment%2Fcredentials%2Fclient-0001"


class Reader:
    """A client that logs in as the monitor's host."""

    def __init__(self, server: ConjurServer, login: str = "host/monitoring") -> None:
        self.server = server
        self.web = requests.Session()
        path = f"/authn/{ACCOUNT}/{login.replace('/', '%2F')}/authenticate"
        headers = {"Accept-Encoding": "base64"}
        self.grant = self.web.post(server.url + path, data="key", headers=headers, timeout=5)
        self.web.headers["Authorization"] = f'Token token="{self.grant.text}"'

    def get(self, path: str) -> requests.Response:
        return self.web.get(self.server.url + path, timeout=5)

    def variables(self, query: str = "") -> Any:
        return self.get(f"/resources/{ACCOUNT}/variable{query}")


@pytest.fixture(scope="module")
def vault() -> Vault:
    made = Vault(now=SimulatedClock())
    made.add_host("host/monitoring", "key", "monitoring-access")
    made.add_host("host/payment-eapi", "key", "payment-services")
    made.add_host("host/stranger", "key")
    book = CredentialBook(made)
    for number in range(1, 1206):
        book.add(f"client-{number:04d}", version=2 if number == 1 else 1)
    made.add_variable("payment/empty", permits={"read": {"group:monitoring-access"}})
    return made


@pytest.fixture
def oss(vault: Vault) -> Iterator[ConjurServer]:
    with ConjurServer(vault, now=vault.now) as server:
        server.jwt_logins["monitoring"] = "host/monitoring"
        yield server


@pytest.fixture
def enterprise(vault: Vault) -> Iterator[ConjurServer]:
    with ConjurServer(vault, flavour="enterprise", now=vault.now) as server:
        yield server


@pytest.fixture
def reader(oss: ConjurServer) -> Iterator[Reader]:
    made = Reader(oss)
    yield made
    made.web.close()


def test_the_grant_is_json_or_base64_of_it(oss: ConjurServer, reader: Reader) -> None:
    url = f"{oss.url}/authn/{ACCOUNT}/host%2Fmonitoring/authenticate"
    plain = requests.post(url, data="key", timeout=5).json()
    assert set(plain) == {"protected", "payload", "signature"}
    payload = json.loads(
        base64.b64decode(json.loads(base64.b64decode(reader.grant.text))["payload"])
    )
    assert payload["exp"] - payload["iat"] == 480


def test_a_wrong_key_gets_401_and_an_empty_body(oss: ConjurServer) -> None:
    url = f"{oss.url}/authn/{ACCOUNT}/host%2Fmonitoring/authenticate"
    answer = requests.post(url, data="wrong", timeout=5)
    assert (answer.status_code, answer.content) == (401, b"")


def _token(**fields: str) -> str:
    """A token whose bytes were changed on the way."""
    return f'Token token="{base64.b64encode(json.dumps(fields).encode()).decode()}"'


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "Authorization missing"),
        ("Bearer x", "Authorization missing"),
        ("Token token=abc", "Authorization missing"),
        ('Token token="***"', "Malformed authorization token"),
        ('Token token="e30="', "Unauthorized: Invalid token"),
        (_token(payload="e30=", signature="\u00e9"), "Unauthorized: Invalid token"),
        (_token(payload="\ud800", signature=""), "Unauthorized: Invalid token"),
    ],
)
def test_bad_tokens_are_told_apart(oss: ConjurServer, header: Any, text: str) -> None:
    headers = {"Authorization": header} if header else {}
    answer = requests.get(f"{oss.url}/whoami", headers=headers, timeout=5)
    assert (answer.status_code, answer.text) == (401, text)
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_token_ends_after_eight_minutes(oss: ConjurServer, reader: Reader, vault: Vault) -> None:
    assert reader.get("/whoami").json()["username"] == "host/monitoring"
    vault.now.advance(481)  # type: ignore[attr-defined]
    assert reader.get("/whoami").text == "Unauthorized: Invalid token"


@pytest.mark.parametrize(("subject", "status"), [("monitoring", 200), ("somebody", 401)])
def test_authn_jwt(oss: ConjurServer, subject: str, status: int) -> None:
    body = {"jwt": sign(b"key", {"sub": subject})}
    url = f"{oss.url}/authn-jwt/payment/{ACCOUNT}"
    assert requests.post(f"{url}/authenticate", data=body, timeout=5).status_code == status
    named = f"{url}/host%2Fmonitoring/authenticate"
    assert requests.post(named, data=body, timeout=5).status_code == status


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("", 1000),
        ("?limit=1000", 1000),
        ("?limit=1000&offset=1000", 206),
        ("?limit=5", 5),
        ("?offset=3", 10),
        ("?search=client-0007", 1),
        ("?search=ient-0007", 0),
    ],
)
def test_paging(reader: Reader, query: str, size: int) -> None:
    assert len(reader.variables(query).json()) == size


@pytest.mark.parametrize("query", ["?limit=1001", "?limit=-1", "?limit=x", "?limit=0"])
def test_paging_errors(reader: Reader, query: str) -> None:
    answer = reader.variables(query)
    assert (answer.status_code, set(answer.json())) == (422, {"error"})


def test_count_and_order(reader: Reader) -> None:
    assert reader.variables("?count=true").json() == {"count": 1206}
    names = [item["id"] for item in reader.variables("?limit=20").json()]
    assert names == sorted(names)


def test_one_variable(reader: Reader) -> None:
    shown = reader.get(f"/resources/{ACCOUNT}/variable/{ONE}").json()
    assert shown["id"] == f"{ACCOUNT}:variable:payment/credentials/client-0001"
    assert shown["secrets"] == [
        {"version": 1, "expires_at": None},
        {"version": 2, "expires_at": None},
    ]


def test_a_reader_may_read_and_no_more(reader: Reader, oss: ConjurServer) -> None:
    base = f"/resources/{ACCOUNT}/variable/{ONE}?check=true&privilege="
    assert reader.get(base + "read").status_code == 204
    assert reader.get(base + "execute").status_code == 404
    value = reader.get(f"/secrets/{ACCOUNT}/variable/{ONE}")
    assert (value.status_code, value.content) == (403, b"")
    oss.faults.set("conjur-overprivileged")
    assert reader.get(base + "execute").status_code == 204


def test_permitted_roles(reader: Reader) -> None:
    path = f"/resources/{ACCOUNT}/variable/{ONE}?permitted_roles=true&privilege=execute"
    roles = ("group:payment-services", "host:payment-eapi", "policy:payment", "user:admin")
    assert set(reader.get(path).json()) == {f"{ACCOUNT}:{role}" for role in roles}


def test_who_may_execute_gets_the_value_of_any_version(oss: ConjurServer) -> None:
    service = Reader(oss, "host/payment-eapi")
    newest = service.get(f"/secrets/{ACCOUNT}/variable/{ONE}").text
    first = service.get(f"/secrets/{ACCOUNT}/variable/{ONE}?version=1").text
    assert len(newest) == len(first) == 40
    assert newest != first
    full = f"{ACCOUNT}:variable:payment/credentials/client-0001"
    assert service.get(f"/secrets?variable_ids={full}").json() == {full: newest}
    service.web.close()


def test_what_one_may_not_see_is_not_there(oss: ConjurServer) -> None:
    stranger = Reader(oss, "host/stranger")
    answer = stranger.get(f"/resources/{ACCOUNT}/variable/{ONE}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert stranger.variables().json() == []
    stranger.web.close()


def test_oss_has_no_health_route_and_answers_401(oss: ConjurServer) -> None:
    for path in ("/health", "/info"):
        answer = requests.get(oss.url + path, timeout=5)
        assert (answer.status_code, answer.text) == (401, "Authorization missing")
    found = requests.get(f"{oss.url}/authenticators", timeout=5).json()
    assert set(found) == {"installed", "configured", "enabled"}
    accept = {"Accept": "application/json"}
    assert "version" in requests.get(oss.url, headers=accept, timeout=5).json()


def health_of(server: ConjurServer) -> Any:
    return requests.get(f"{server.url}/health", timeout=5).json()


def test_enterprise_health_and_info(enterprise: ConjurServer) -> None:
    body = health_of(enterprise)
    assert (body["ok"], body["degraded"], body["role"]) == (True, False, "master")
    assert isinstance(body["database"]["logical_replication_status"]["subscriptions"], str)
    info = requests.get(f"{enterprise.url}/info", timeout=5).json()
    assert info["configuration"]["conjur"]["account"] == ACCOUNT


def test_enterprise_faults(enterprise: ConjurServer) -> None:
    enterprise.faults.set("conjur-degraded")
    assert health_of(enterprise)["degraded"] is True
    enterprise.faults.set("conjur-follower-stale")
    body = health_of(enterprise)
    subscription = body["database"]["logical_replication_status"]["subscriptions"][0]
    assert (body["ok"], body["role"], subscription["enabled"]) == (True, "follower", False)
    enterprise.faults.set("conjur-502")
    assert requests.get(f"{enterprise.url}/health", timeout=5).status_code == 502


def test_a_stale_follower_does_not_see_what_came_later(oss: ConjurServer, reader: Reader) -> None:
    path = f"/resources/{ACCOUNT}/variable/payment%2Fcredentials%2Fclient-0002"
    oss.faults.set("conjur-follower-stale")
    oss.vault.set_value("payment/credentials/client-0002", b"a new one")
    assert len(reader.get(path).json()["secrets"]) == 1
    oss.faults.clear()
    assert len(reader.get(path).json()["secrets"]) == 2


@pytest.mark.parametrize(
    ("fault", "status"), [("conjur-unauthorized", 401), ("conjur-forbidden", 403)]
)
def test_refusals(reader: Reader, oss: ConjurServer, fault: str, status: int) -> None:
    oss.faults.set(fault)
    assert reader.variables().status_code == status


def test_versions_are_kept_up_to_twenty(vault: Vault) -> None:
    vault.add_variable("payment/often")
    for number in range(30):
        vault.set_value("payment/often", f"value {number}".encode())
    vault.set_value("payment/often", b"value 29")
    kept = [version.number for version in vault.variables["payment/often"].versions]
    assert kept == list(range(11, 31))
