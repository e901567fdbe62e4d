"""The client against what a real Conjur answered: every recorded answer to every question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Callable, Optional

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import ConjurSettings, TlsSettings
from monitoring.conjur.client import ConjurClient, ConjurFault
from monitoring.http.client import HttpClient
from monitoring.model import FAULT_KINDS
from tests.transcripts import ALL, BY_CASE, WELL, ConjurReplay, raw

KEY = "k3y-of-the-monitor"
SHOWN = "payment/credentials/client-001"
LOGIN = "POST /authn/"
LIST = "GET /resources/payment-system/variable?limit="
COUNT = "GET /resources/payment-system/variable?count=true"
ROLES = "GET /resources/payment-system/variable/payment"


def client_of(url: str) -> ConjurClient:
    settings = ConjurSettings(url=url, login="host/monitoring", api_key=Secret(KEY))
    asking = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="tests")
    return ConjurClient(asking, settings, lambda: 1_795_400_000.0)


def asks(client: ConjurClient) -> Mapping[str, Callable[[], Any]]:
    """Each question, by the beginning of the request that the recorded answer is given to."""
    return {
        "GET /authenticators": client.health,
        COUNT: client.count,
        LIST: client.variables,
        ROLES: lambda: client.holders(SHOWN),
        LOGIN: client.authenticate,
    }


def outcome(ask: Callable[[], Any]) -> tuple[Optional[str], Any]:
    """(fault's kind or None, what came)."""
    try:
        return None, ask()
    except ConjurFault as error:
        fault = error.fault
    assert fault.kind in FAULT_KINDS
    assert KEY not in fault.message
    assert fault.message.isprintable()
    return fault.kind, fault.message


def is_good(question: str, answer: Mapping[str, Any]) -> bool:
    """Whether the answer can be one to the question: by its status and the shape of its body."""
    if answer["status"] != 200:
        return False
    try:
        body = json.loads(answer.get("body") or "")
    except ValueError:
        return False
    if question == LIST:
        return isinstance(body, list) and (not body or isinstance(body[0], dict))
    if question == ROLES:
        return isinstance(body, list) and all(isinstance(role, str) for role in body)
    needed = {
        "GET /authenticators": "installed",
        COUNT: "count",
        LOGIN: "payload",
    }[question]
    return isinstance(body, dict) and needed in body


@pytest.mark.parametrize("question", list(asks(client_of("http://127.0.0.1:1"))))
def test_every_answer_to_every_question(question: str) -> None:
    """Good comes of those answers alone that are one to the question; the rest is a fault of a
    known kind, whatever it was."""
    wrong = []
    with ConjurReplay() as server:
        server.answers[LIST] = "list: limit 2"
        for entry in ALL:
            server.answers[question] = raw(entry["case"])
            kind, came = outcome(asks(client_of(server.url))[question])
            if (kind is None) is not is_good(question, entry["response"]):
                wrong.append((entry["case"], kind, came))
    if question == LIST:  # the count says 44, so a short list is no list
        wrong = [row for row in wrong if "listed" not in str(row[2])]
    assert wrong == []


EXACT: list[tuple[str, str, Optional[str], str]] = [
    (LOGIN, "authenticate: wrong key", "auth", "CONJUR_AUTHN_API_KEY"),
    (LOGIN, "authenticate: unknown account", "auth", "CONJUR_ACCOUNT"),
    (LOGIN, "PostgreSQL stopped: authenticate", "http", "its database does not"),
    (LOGIN, "wrong data key: authenticate", "auth", "refused our login"),
    (COUNT, "count: token of a deleted host", "noperm", "does not let our identity"),
    (COUNT, "PostgreSQL stopped: count", "http", "its database does not"),
    (COUNT, "list: without token", "auth", "refused our token"),
    (LIST, "PostgreSQL stopped: list", "http", "its database does not"),
    (LIST, "list: limit 1001", "config", "refused the request as invalid"),
    (ROLES, "permitted_roles: no privilege", "config", "refused the request as invalid"),
    (ROLES, "show: not there", "http", "no such account or resource"),
    ("GET /authenticators", "PostgreSQL stopped: GET /authenticators", "http",
     "its database does not"),
    ("GET /authenticators", "GET /authenticators/", "http", "wants a login where a vault wants"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "case", "kind", "says"), EXACT, ids=[e[1] for e in EXACT])
def test_what_is_said_of_a_refusal(*, question: str, case: str, kind: str, says: str) -> None:
    with ConjurReplay() as server:
        server.answers[LIST] = "list: limit 2"
        server.answers[question] = case
        found, said = outcome(asks(client_of(server.url))[question])
    assert (found, says in said) == (kind, True), said
    request = dict(BY_CASE[case]["response"]["headers"])["X-Request-Id"]
    assert f"X-Request-Id {request}" in said


def test_who_may_read_as_recorded() -> None:
    with ConjurReplay() as server:
        server.answers[ROLES] = "permitted_roles execute"
        roles = client_of(server.url).holders(SHOWN)
    assert roles == [
        "payment-system:host:exec",
        "payment-system:policy:payment/credentials",
        "payment-system:user:admin",
        "payment-system:group:readers",
    ]


@pytest.mark.parametrize(
    ("case", "version", "expires"),
    [
        ("show client-001", 1, None),
        ("show client-024", 24, None),  # the newest of the twenty that are kept
        ("show client-027", None, None),  # never set
        ("show rot-neverset", None, None),
        ("show rot-good after ?expirations", 2, None),
        ("show rot-short while its rotator fails on each try", 4, 1795657077.0),
        ("show odd client%25pct", None, None),
        ("show odd client:colon", None, None),
    ],
)
def test_variables_as_recorded(case: str, version: Optional[int], expires: Any) -> None:
    entry = json.loads(BY_CASE[case]["response"]["body"])
    with ConjurReplay() as server:
        server.answers[COUNT] = raw("list: count", b'{"count":1}')
        server.answers[LIST] = raw("list: limit 2", json.dumps([entry]).encode())
        (variable,) = client_of(server.url).variables().variables
    assert (variable.version, variable.expires_at) == (version, expires)
    assert variable.owner == "payment-system:policy:payment/credentials"
    assert variable.id == entry["id"].split(":", 2)[2]


def test_a_page_limit_of_twenty_is_found_out() -> None:
    """api_resource_list_limit_max is a setting of the server's."""
    refusal = "list: limit 1000 where api_resource_list_limit_max is 20"
    with ConjurReplay() as server:
        server.answers[COUNT] = raw("list: count", b'{"count":2}')
        server.answers[LIST] = "list: limit 2"
        for size in (1000, 100):
            server.answers[f"{LIST}{size}&"] = refusal
        assert len(client_of(server.url).variables().variables) == 2
        assert server.asked("limit=10&") == 1


def test_the_replay_is_well_by_itself() -> None:
    assert set(WELL.values()) <= set(BY_CASE)
    with ConjurReplay() as server:
        client = client_of(server.url)
        assert client.health().ok is True
        assert client.count() == 44
        assert client.own_role == "payment-system:host:monitoring"
