"""Vault: both editions, every refusal, all pages, one new login, and hostile answers."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from monitoring.config.secret import Secret
from monitoring.config.settings import ConjurSettings, TlsSettings
from monitoring.conjur import answers as conjur_health, answers as conjur_variables
from monitoring.conjur.client import ConjurClient, ConjurFault
from monitoring.http.client import HttpClient, Reply
from monitoring.model import FAULT_KINDS
from sandbox.clock import SimulatedClock
from sandbox.conjur import ConjurServer
from sandbox.vault import Vault
from tests.raw_server import RawServer, answers, http

LOGIN, KEY = "host/monitoring", "k3y-of-the-monitor"
READERS = "monitoring-access"


def filled(clock: Callable[[], float] = time.time, variables: int = 3) -> Vault:
    vault = Vault(now=clock)
    vault.add_host(LOGIN, KEY, READERS)
    for number in range(variables):
        name = f"payment/credentials/client-{number:04d}"
        vault.add_variable(name, permits={"read": {f"group:{READERS}"}}, rotation__ttl="P30D")
        vault.set_value(name, b"secret value")
    return vault


@contextlib.contextmanager
def serving(vault: Vault, **options: Any) -> Iterator[ConjurServer]:
    server = ConjurServer(vault, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def client_of(url: str, clock: Callable[[], float] = time.time, **options: Any) -> ConjurClient:
    defaults: dict[str, Any] = {"url": url, "login": LOGIN, "api_key": Secret(KEY)}
    settings = ConjurSettings(**{**defaults, **options})
    asking = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="tests")
    return ConjurClient(asking, settings, clock)


def fault_of(ask: Callable[[], object]) -> Any:
    with pytest.raises(ConjurFault) as caught:
        ask()
    assert caught.value.fault.kind in FAULT_KINDS
    assert KEY not in caught.value.fault.message
    return caught.value.fault


# --- health ---------------------------------------------------------------------------------------


def test_oss_is_known_by_its_refusal_and_judged_by_its_authenticators() -> None:
    with serving(filled(), flavour="oss") as server:
        health = client_of(server.url).health()
    assert (health.edition, health.ok, health.version) == ("oss", True, "1.24.0-1234")
    assert health.reply is not None
    assert health.reply.seconds == health.steps["authenticators"]


def test_enterprise_shows_role_release_and_space() -> None:
    with serving(filled(), flavour="enterprise") as server:
        health = client_of(server.url).health()
    assert (health.edition, health.ok, health.degraded) == ("enterprise", True, False)
    assert (health.role, health.version, health.cluster) == ("master", "13.10.0", "running")
    assert health.free_bytes == 11860424 * 1024
    assert health.replication_lag_bytes == 0
    assert health.messages == ()
    assert set(health.steps) == {"health", "info"}


def test_a_degraded_leader_says_what_lags() -> None:
    with serving(filled(), flavour="enterprise") as server:
        server.faults.set("conjur-degraded")
        health = client_of(server.url).health()
    assert health.degraded is True
    assert health.replication_lag_bytes == 67612024
    assert any("is catchup" in text for text in health.messages)


def test_a_stale_follower_says_ok_and_is_found_out() -> None:
    with serving(filled(), flavour="enterprise") as server:
        server.faults.set("conjur-follower-stale")
        health = client_of(server.url).health()
    assert (health.ok, health.role, health.stale) == (True, "follower", True)
    assert any("switched off" in text for text in health.messages)


def test_a_healthy_follower_is_not_stale() -> None:
    with serving(filled(), flavour="enterprise", role="follower") as server:
        health = client_of(server.url).health()
    assert (health.role, health.stale, health.messages) == ("follower", False, ())


def test_health_needs_no_credentials() -> None:
    with serving(filled(), flavour="enterprise") as server:
        asked = client_of(server.url, login="", api_key=Secret())
        assert asked.health().ok is True
        assert asked.has_credentials is False
        assert fault_of(asked.count).kind == "config"


ANSWERS: list[tuple[str, bytes, str]] = [
    ("a page of a proxy", http(b"<html>bad</html>", "502 Bad Gateway"), "http"),
    ("bare text of a load balancer", http(b"OK"), "body"),
    ("a JSON list", http(b"[]"), "body"),
    ("a redirect", http(b"", "302 Found", Location="https://login.example/"), "redirect"),
    ("500", http(b"{}", "500 Oops"), "http"),
    ("403", http(b"", "403 Forbidden"), "http"),
    ("404 everywhere", http(b"", "404 Not Found"), "http"),
    ("401 everywhere", http(b"", "401 No"), "http"),
    ("deep JSON", http(b"[" * 200_000), "body"),
    ("not HTTP", b"hello\r\n", "protocol"),
]


def test_behind_a_load_balancer_that_answers_health_itself() -> None:
    lists = {"installed": ["authn"], "configured": ["authn"], "enabled": ["authn"]}

    def say(wire: Any, request: bytes) -> None:
        own = http(json.dumps(lists).encode()) if b"/authenticators" in request else http(b"OK")
        wire.sendall(own)

    with RawServer(say) as server:
        found = client_of(server.url).health()
    assert (found.ok, found.edition) == (True, "unknown")
    assert "something before the vault" in found.remarks[0]


def test_a_health_page_is_no_place_for_megabytes() -> None:
    with RawServer(answers(http(b"x" * (2 << 20)))) as server:
        fault = fault_of(client_of(server.url).health)
    assert (fault.kind, "more than 1 MiB" in fault.message) == ("too_large", True)


@pytest.mark.parametrize(("what", "data", "kind"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_what_is_no_health_page(what: str, data: bytes, kind: str) -> None:
    with RawServer(answers(data)) as server:
        assert fault_of(client_of(server.url).health).kind == kind, what


def _reply(body: Any, status: int = 200, date: Optional[float] = None) -> Reply:
    return Reply(status, {}, json.dumps(body).encode(), 0.1, {}, "http://h", server_date=date)


def _judged(body: Any, status: int = 200) -> conjur_health.ConjurHealth:
    reply = _reply(body, status)
    return conjur_health.read_enterprise(reply.json(), reply)


HEALTH: list[tuple[str, Any, int, Any]] = [
    ("it says ok", {"ok": True}, 200, True),
    ("it says not ok", {"ok": False}, 502, False),
    ("ok with a status of 502 is not ok", {"ok": True}, 502, False),
    ("services.ok is not the top level", {"ok": False, "services": {"ok": True}}, 200, False),
    ("a word is no truth", {"ok": "true"}, 200, None),
    ("nothing said", {}, 200, None),
]


@pytest.mark.parametrize(("why", "body", "status", "ok"), HEALTH, ids=[h[0] for h in HEALTH])
def test_only_the_top_level_ok_counts(why: str, body: Any, status: int, ok: Any) -> None:
    assert _judged(body, status).ok is ok, why


HOSTILE = [
    None,
    True,
    0,
    -1,
    1e308,
    "x" * 100_000,
    "\x1b[31m\n",
    [],
    [[]],
    [None, {}],
    {},
    {"a": 1},
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:12])
def test_no_type_of_any_field_upsets_it(value: Any) -> None:
    fields = ["degraded", "role", "services", "database", "audit", "cluster"]
    inner = dict.fromkeys(("free_space", "replication_status", "connect", "ok"), value)
    logical = {"subscriptions": value}
    rows = [value, {"replication_lag_bytes": value, "state": value, "enabled": value}]
    bodies = [
        {"ok": True, **dict.fromkeys(fields, value)},
        {"ok": True, "database": {**inner, "logical_replication_status": logical}},
        {"ok": True, "database": {"replication_status": {"pg_stat_replication": rows}}},
        {"ok": True, "database": {"logical_replication_status": {"subscriptions": rows}}},
        {"ok": True, "database": {"free_space": {"main": {"kbytes": value}}}},
        {"ok": True, "services": {"possum": value}},
    ]
    for body in bodies:
        health = _judged(body)
        assert len(health.messages) <= 20
        assert all(len(text) < 400 and text.isprintable() for text in health.messages)


FOLLOWED = {"name": "s", "enabled": True, "last_msg_receipt_time": "2026-11-23 02:00:00 UTC"}
STANDBY = {"state": "streaming", "sent_lsn": "0/10", "replay_lsn": "0/10"}


def _page(*, logical: Any = None, **database: Any) -> dict[str, Any]:
    """A healthy page, of a follower where `logical` is given."""
    page = {"ok": True, "role": "follower" if logical else "master", "services": {"possum": "ok"}}
    more = {"logical_replication_status": logical} if logical else {}
    return {**page, "database": {"ok": True, "connect": {"main": "ok"}, **more, **database}}


def _follower(**changed: Any) -> dict[str, Any]:
    return _page(logical={"subscriptions": [{**FOLLOWED, **changed}]})


def _leader(status: Any = None, **standby: Any) -> dict[str, Any]:
    rows = {"pg_stat_replication": [{**STANDBY, **standby}], **(status or {})}
    return _page(replication_status=rows)


#: What is not as it should be, however it is spelt: the page, and a word of the message or doubt.
NOT_WELL: list[tuple[Any, str]] = [
    (_follower(enabled="f"), "switched off"),
    (_follower(enabled="false"), "switched off"),
    (_follower(last_msg_receipt_time="a while ago"), "does not say when"),
    (_page(logical={"subscriptions": [{"name": "s", "enabled": True}]}), "does not say when"),
    (_page(connect={"main": "could not connect"}), "could not connect"),
    ({**_page(), "services": {"possum": "ok", "ok": False}}, "services are not ok"),
    ({**_page(), "role": "unconfigured"}, "unconfigured"),
    ({**_page(), "degraded": "perhaps"}, "degraded"),
    (_page(free_space={"main": {"kbytes": -1}}), "free kbytes"),
    ({"ok": True}, "nothing of its services"),
]


@pytest.mark.parametrize(("page", "said"), NOT_WELL, ids=[said for _, said in NOT_WELL])
def test_what_is_not_well_is_said_however_it_is_spelt(page: Any, said: str) -> None:
    health = _judged(page)
    assert said in " ".join([*health.messages, *(doubt.sentence for doubt in health.doubts)])


@pytest.mark.parametrize("page", [_page(), _follower(), _leader()])
def test_a_page_that_is_well_has_no_doubts(page: Any) -> None:
    health = _judged(page)
    assert (health.messages, health.doubts) == ((), ())


@pytest.mark.parametrize(
    "page",
    [
        _leader(sent_lsn="1/0", replay_lsn="0/F0000000"),
        _leader(sent_lsn=4294967296, replay_lsn=4026531840),
        _leader(sent_location_bytes=4294967296, replay_location_bytes=4026531840, replay_lsn=None),
        _leader({"pg_current_xlog_location_bytes": 4294967296}, replay_lsn="0/F0000000"),
        _leader({"pg_current_wal_lsn": "1/0"}, replay_lsn="0/F0000000"),
    ],
)
def test_a_lag_is_counted_from_positions_of_every_form(page: Any) -> None:
    assert _judged(page).replication_lag_bytes == 1 << 28


def test_flags_may_be_text() -> None:
    logical = {"subscriptions": [FOLLOWED], "initial_replication_in_progress": "true"}
    health = _judged({**_page(logical=logical), "degraded": "t"})
    assert (health.initial_replication, health.degraded) == (True, True)


def test_a_subscription_that_fell_silent_is_stale_by_the_vaults_own_clock() -> None:
    row = {"name": "s", "enabled": True, "last_msg_receipt_time": "2026-11-23T02:00:00+00:00"}
    body = {"ok": True, "database": {"logical_replication_status": {"subscriptions": [row]}}}
    heard = 1795399200.0
    fresh = conjur_health.read_enterprise(body, _reply(body, date=heard + 60))
    silent = conjur_health.read_enterprise(body, _reply(body, date=heard + 3600))
    assert conjur_health.outdated(fresh, 600.0) == ""
    assert "nothing for 3600 s" in conjur_health.outdated(silent, 600.0)


# --- login ----------------------------------------------------------------------------------------


def test_a_token_is_kept_for_three_quarters_of_its_life() -> None:
    clock = SimulatedClock()
    with serving(filled(clock), now=clock) as server:
        asked = client_of(server.url, clock)
        for moment in (0.0, 300.0, 350.0):
            clock.set(1795400000.0 + moment)
            asked.count()
        assert server.authentications == 1
        clock.set(1795400000.0 + 361.0)
        asked.count()
        assert server.authentications == 2


def test_a_token_refused_early_is_replaced_once() -> None:
    clock = SimulatedClock()
    vault = filled(clock)
    with serving(vault, now=clock) as server:
        asked = client_of(server.url, clock)
        asked.count()
        vault._key = b"another key"  # as after a restore: every token is void
        assert asked.count() == 3
        assert server.authentications == 2


def test_a_vault_that_refuses_every_token_is_asked_twice_and_no_more() -> None:
    token = b'{"protected":"a","payload":"b","signature":"c"}'

    def say(sock: socket.socket, request: bytes) -> None:
        good = request.startswith(b"POST")
        sock.sendall(http(token) if good else http(b"Unauthorized", "401 No"))

    with RawServer(say) as server:
        fault = fault_of(client_of(server.url).count)
        asked = [r.split(b" ")[0] for r in server.requests]
    assert fault.kind == "auth"
    assert asked == [b"POST", b"GET", b"POST", b"GET"]


@pytest.mark.parametrize("options", [{"api_key": Secret("wrong")}, {"account": "other"}])
def test_a_wrong_key_or_account_is_refused(options: Any) -> None:
    with serving(filled()) as server:
        fault = fault_of(client_of(server.url, **options).authenticate)
    assert fault.kind == "auth"
    assert "401" in fault.message


def test_the_login_may_be_encoded_already() -> None:
    with serving(filled()) as server:
        assert client_of(server.url, login="host%2Fmonitoring").count() == 3


def test_a_rotated_api_key_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old\n")
    vault = filled()
    vault.api_keys[LOGIN] = "new"
    with serving(vault) as server:
        asked = client_of(server.url, api_key=Secret(path=str(path)))
        assert fault_of(asked.count).kind == "auth"
        path.write_text("new\n")
        assert asked.count() == 3


def test_a_jwt_file_logs_in(tmp_path: Path) -> None:
    path = tmp_path / "jwt"
    options = {"jwt_file": str(path), "jwt_service_id": "payment", "api_key": Secret()}
    with serving(filled()) as server:
        server.jwt_logins["pod"] = LOGIN
        asked = client_of(server.url, **options)
        assert fault_of(asked.count).kind == "config", "the file is not there yet"
        path.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJwb2QifQ.\n")
        assert asked.count() == 3
        anonymous = client_of(server.url, **{**options, "login": ""})
        assert anonymous.count() == 3
        assert anonymous.own_role == "payment-system:host:monitoring"
        assert (
            fault_of(client_of(server.url, **{**options, "jwt_service_id": ""}).count).kind
            == "config"
        )


@pytest.mark.parametrize(
    "token",
    [b"", b"[]", b"<html>", b"null", b'{"payload":7}', b'{"payload":"%%%"}', b'{"payload":"WzFd"}'],
)
def test_an_odd_token_is_a_fault_or_lives_as_usual(token: bytes) -> None:
    with RawServer(answers(http(token))) as server, contextlib.suppress(ConjurFault):
        client_of(server.url).authenticate()


# --- metadata -------------------------------------------------------------------------------------


def test_a_variable_is_read_with_what_matters() -> None:
    vault = filled(variables=1)
    expires = 1795400000.0
    for number in range(30):
        vault.set_value("payment/credentials/client-0000", f"{number}".encode(), expires + number)
    with serving(vault) as server:
        (variable,) = client_of(server.url).variables("payment/").variables
    assert (variable.id, variable.client) == ("payment/credentials/client-0000", "client-0000")
    assert (variable.version, len(variable.expiries)) == (31, 20), "20 are kept, the number goes on"
    assert variable.expires_at == expires + 29 == variable.expiries[-1]
    assert variable.annotations == {"rotation/ttl": "P30D"}
    assert variable.permissions == (("read", f"payment-system:group:{READERS}"),)


def test_five_thousand_variables_are_read_by_pages() -> None:
    with serving(filled(variables=5000)) as server:
        asked = client_of(server.url)
        found = asked.variables("payment/credentials/").variables
        pages = [r for r, _ in server.recorded if "limit" in r.query]
    assert len(found) == len({v.id for v in found}) == 5000
    assert [p.query["offset"] for p in pages] == ["0", "1000", "2000", "3000", "4000"]


def test_a_lower_limit_of_the_server_makes_smaller_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.conjur.MAX_LIMIT", 100)
    with serving(filled(variables=250)) as server:
        assert len(client_of(server.url).variables().variables) == 250


def test_a_list_cut_short_is_noticed() -> None:
    page = [{"id": f"a:variable:v{n}", "secrets": []} for n in range(3)]

    def say(sock: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n")[0]
        if line.startswith(b"POST"):
            sock.sendall(http(b'{"payload":""}'))
        elif b"count=true" in line:
            sock.sendall(http(b'{"count":5}'))
        else:
            more = b"offset=0" in line
            sock.sendall(http(json.dumps(page if more else []).encode()))

    with RawServer(say) as server:
        fault = fault_of(client_of(server.url).variables)
    assert fault.kind == "body"
    assert "3 of 5" in fault.message


def test_a_page_that_repeats_itself_for_ever_ends() -> None:
    def say(sock: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n")[0]
        counted = b'{"count":40}' if b"count=true" in line else b'[{"id":"a:variable:v"}]'
        sock.sendall(http(b'{"payload":""}' if line.startswith(b"POST") else counted))

    with RawServer(say) as server:
        assert fault_of(client_of(server.url).variables).kind == "body"
        assert len(server.requests) < 6


def test_an_entry_that_is_no_variable_does_not_cost_the_others() -> None:
    page = [{"id": f"a:variable:v{n}", "secrets": []} for n in range(5)]
    page[1:3] = [7, {"id": "a:variable:" + "x" * 3000}]  # type: ignore[list-item]

    def say(sock: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n")[0]
        listed = b'{"count":5}' if b"count=true" in line else json.dumps(page).encode()
        sock.sendall(http(b'{"payload":""}' if line.startswith(b"POST") else listed))

    with RawServer(say) as server:
        listing = client_of(server.url).variables()
    assert ([v.id for v in listing.variables], listing.unreadable) == (["v0", "v3", "v4"], 2)


def test_a_vault_that_claims_without_end_is_given_up() -> None:
    def say(sock: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n")[0]
        counted = b'{"count":900000000}' if b"count=true" in line else b'[{"id":"a:variable:v"}]'
        sock.sendall(http(b'{"payload":""}' if line.startswith(b"POST") else counted))

    with RawServer(say) as server:
        assert "1 of 900000000" in fault_of(client_of(server.url).variables).message


def test_what_our_identity_may_do() -> None:
    with serving(filled()) as server:
        asked = client_of(server.url)
        name = "payment/credentials/client-0000"
        own = f"payment-system:host:{LOGIN.partition('/')[2]}"
        assert own in asked.holders(name, "read")
        assert asked.own_role == own
        owners = {"payment-system:policy:payment", "payment-system:user:admin"}
        assert set(asked.holders(name)) == owners
        assert fault_of(lambda: asked.holders("no/such")).kind == "http"
        server.faults.set("conjur-overprivileged")
        assert own in asked.holders(name)


REFUSALS = {
    "conjur-502": "http",
    "conjur-forbidden": "noperm",
    "conjur-unauthorized": "auth",
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refusals_have_their_kind(fault: str) -> None:
    with serving(filled()) as server:
        server.faults.set(fault)
        assert fault_of(client_of(server.url).variables).kind == REFUSALS[fault]


STATUSES = {403: "noperm", 404: "http", 405: "readonly", 422: "config", 502: "http", 503: "busy"}


@pytest.mark.parametrize("status", [*STATUSES, 418, 500])
def test_every_status_has_its_kind(status: int) -> None:
    def say(sock: socket.socket, request: bytes) -> None:
        posted = request.startswith(b"POST")
        sock.sendall(http(b'{"payload":""}') if posted else http(b"", f"{status} Hm"))

    with RawServer(say) as server:
        assert fault_of(client_of(server.url).count).kind == STATUSES.get(status, "http")


@pytest.mark.parametrize(
    "listed",
    [b"{}", b"null", b"7", b"[7]", b"[null]", b"[[]]", b'[{"id":7}]', b'[{"id":"short"}]', b"[{}"],
)
def test_a_hostile_list_is_a_fault_of_the_body(listed: bytes) -> None:
    def say(sock: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n")[0]
        body = b'{"count":9}' if b"count=true" in line else listed
        sock.sendall(http(b'{"payload":""}' if line.startswith(b"POST") else body))

    with RawServer(say) as server:
        assert fault_of(client_of(server.url).variables).kind == "body"


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:12])
def test_no_type_of_any_field_of_a_variable_upsets_it(value: Any) -> None:
    fields = ("secrets", "annotations", "permissions", "created_at", "owner")
    entry = {"id": "a:variable:x", **dict.fromkeys(fields, value)}
    inner = {
        "id": "a:variable:x",
        "secrets": [{"version": value, "expires_at": value}, {"version": 2, "expires_at": None}],
        "annotations": [{"name": value, "value": value}],
    }
    assert conjur_variables.read_variable(entry, "{client_id}").client == "x"
    assert conjur_variables.read_variable(inner, "{client_id}").version == 2


TEMPLATES = [
    ("payment/credentials/c1", "payment/credentials/{client_id}", "c1"),
    ("payment/c1/secret", "payment/{client_id}/secret", "c1"),
    ("payment/credentials/c1/extra", "payment/credentials/{client_id}", ""),
    ("other/c1", "payment/credentials/{client_id}", ""),
    ("a.b/c1", "a+b/{client_id}", ""),
    ("x", "no mark", ""),
]


@pytest.mark.parametrize(("name", "template", "client"), TEMPLATES)
def test_the_client_of_a_variable(name: str, template: str, client: str) -> None:
    assert conjur_variables.client_of(name, template) == client


def test_the_vault_under_a_path_and_away() -> None:
    with serving(filled(), prefix="/vault") as server:
        assert client_of(server.url + "/").count() == 3
    assert fault_of(client_of(server.url).health).kind == "refused"
    assert fault_of(client_of("").health).kind == "config"
