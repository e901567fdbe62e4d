"""HTTP: every way an exchange can end is told apart, within its deadline, without a secret."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from monitoring.config.settings import TlsSettings
from monitoring.http import reply as http_urls, tls as certificates
from monitoring.http.client import HttpClient, HttpFault, Reply
from monitoring.http.wire import RESOLVER
from sandbox.tls import Authority, server_context
from tests.raw_server import RawServer, answers, http

LONG = 8.0  # no exchange with a deadline below a second takes so long, however busy the machine
FAR = 4_000_000_000.0


def client(**options: Any) -> HttpClient:
    defaults: dict[str, Any] = {"tls": TlsSettings(), "timeout": 5.0, "user_agent": "tests/1.0"}
    return HttpClient(**{**defaults, **options})


def fault_of(ask: Callable[[], object]) -> HttpFault:
    with pytest.raises(HttpFault) as caught:
        ask()
    return caught.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "Test CA", days=200)


# --- an answer ------------------------------------------------------------------------------------


def test_an_answer_of_any_status_is_a_reply() -> None:
    data = http(b'{"status":"DOWN"}', "503 No", Date="Mon, 23 Nov 2026 02:00:00 GMT", X_Y="z")
    with RawServer(answers(data)) as server:
        reply = client().get(server.url + "/health?a=b")
    assert (reply.status, reply.json()) == (503, {"status": "DOWN"})
    assert reply.headers["x-y"] == "z"
    assert reply.server_date == 1795399200.0
    assert reply.url == server.url, "path and query may hold secrets"
    assert reply.tls is None


def test_phases_add_up_to_the_response_time() -> None:
    with RawServer(answers(http())) as server:
        reply = client().get(server.url)
    assert set(reply.phases) == {"dns", "connect", "tls", "first_byte", "transfer"}
    assert reply.seconds == pytest.approx(sum(reply.phases.values()))
    assert reply.phases["connect"] > 0
    assert reply.phases["first_byte"] > 0
    assert reply.phases["tls"] == 0


def test_the_response_time_is_the_servers_own_delay_within_3_ms() -> None:
    true: list[float] = []

    def slow(sock: socket.socket, _: bytes) -> None:
        began = time.perf_counter()
        time.sleep(0.02)
        true.append(time.perf_counter() - began)
        sock.sendall(http())

    with RawServer(slow) as server:
        seen = [client().get(server.url).seconds for _ in range(12)]
    errors = [abs(a - b) for a, b in zip(seen, true)]
    assert min(errors) < 0.003, "the best of twelve: a busy machine delays, it does not hasten"


def test_transfer_is_measured_apart_from_the_first_byte() -> None:
    def halting(sock: socket.socket, _: bytes) -> None:
        sock.sendall(http(b"x" * 10)[:-10])
        time.sleep(0.06)
        sock.sendall(b"x" * 10)

    with RawServer(halting) as server:
        phases = client().get(server.url).phases
    assert phases["transfer"] >= 0.05
    assert phases["first_byte"] < phases["transfer"] + 0.05


@pytest.mark.parametrize("ask", ["json", "form", "bytes", "text"])
def test_a_post_carries_its_body(ask: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "json": {"json": {"a": 1}},
        "form": {"data": {"jwt": "a b"}},
        "bytes": {"data": b"\x00raw"},
        "text": {"data": "käse"},
    }
    sent = {"json": b'{"a": 1}', "form": b"jwt=a+b", "bytes": b"\x00raw", "text": "käse".encode()}
    got: list[bytes] = []

    def say(sock: socket.socket, head: bytes) -> None:
        body = head.partition(b"\r\n\r\n")[2]
        while len(body) < len(sent[ask]):
            body += sock.recv(100)
        got.append(body)
        sock.sendall(http())

    with RawServer(say) as server:
        client().post(server.url, headers={"X-Own": "1"}, **bodies[ask])
    assert got == [sent[ask]]
    assert b"X-Own: 1" in server.requests[0]
    assert b"User-Agent: tests/1.0" in server.requests[0]
    assert b"Accept-Encoding: identity" in server.requests[0]


def test_every_request_has_a_connection_of_its_own() -> None:
    with RawServer(answers(http())) as server:
        asking = client()
        for _ in range(3):
            assert asking.get(server.url).phases["connect"] > 0
        assert len(server.requests) == 3


def test_environment_proxies_count_only_where_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answers(http(b'"proxy"'))) as proxy, RawServer(answers(http(b'"own"'))) as own:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        assert client().get(own.url).json() == "own"
        assert client(trust_env=True).get("http://elsewhere.example:81/").json() == "proxy"


def test_netrc_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login joe password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(answers(http())) as server:
        client(trust_env=True).get(server.url)
    assert b"Authorization" not in server.requests[0]


# --- no answer ------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault = fault_of(lambda: client().get(f"http://127.0.0.1:{port}/")).fault
    assert fault.kind == "refused"
    assert f"127.0.0.1:{port}" in fault.message


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fault = fault_of(lambda: client().get("http://nowhere.example/")).fault
    assert fault.kind == "dns"
    assert "nowhere.example" in fault.message


def test_a_name_server_that_hangs_is_given_up_and_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, asked = threading.Event(), []

    def hangs(host: str, *_: Any) -> Any:
        asked.append(host)
        over.wait(30)
        raise socket.gaierror(-3, "late")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    began = time.monotonic()
    faults = [fault_of(lambda: client(timeout=0.1).get("http://slow.example/")) for _ in range(3)]
    over.set()
    assert {f.fault.kind for f in faults} == {"dns"}
    assert time.monotonic() - began < LONG
    assert asked == ["slow.example"], "a thread that hangs is not joined by two more"


def test_an_address_that_fails_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answers(http())) as server:
        dead = socket.create_server(("127.0.0.1", 0))
        dead_port = dead.getsockname()[1]
        dead.close()
        rows = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p))
            for p in (dead_port, server.port)
        ]
        monkeypatch.setattr(RESOLVER, "lookup", lambda *_: rows)
        assert client().get("http://two.example/").status == 200


def _headers_then(rest: Callable[[RawServer, socket.socket], None]) -> Any:
    def make(server: RawServer) -> Any:
        def say(sock: socket.socket, _: bytes) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            rest(server, sock)

        return say

    return make


HANGING: dict[str, Any] = {
    "says nothing": lambda s: s.hold,
    "drips its headers": lambda s: (
        lambda sock, _: (
            sock.sendall(b"HTTP/1.1 200 OK\r\nX: "),
            s.drip(sock),
        )
    ),
    "drips the status line": lambda s: lambda sock, _: s.drip(sock, b"HTTP/1.1 200 OK"),
    "drips its body": _headers_then(lambda s, sock: s.drip(sock)),
    "stops in the body": _headers_then(lambda s, sock: s.hold()),
    "drips chunks": lambda s: (
        lambda sock, _: (
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            s.drip(sock, b"1\r\nx\r\n"),
        )
    ),
    "continues for ever": lambda s: (
        lambda sock, _: s.drip(sock, b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)
    ),
}


@pytest.mark.parametrize("how", HANGING)
def test_the_timeout_is_a_deadline_for_the_whole_exchange(how: str) -> None:
    def say(sock: socket.socket, request: bytes) -> None:
        HANGING[how](server)(sock, request)

    with RawServer(say) as server:
        began = time.monotonic()
        fault = fault_of(lambda: client(timeout=0.4).get(server.url)).fault
        took = time.monotonic() - began
    assert fault.kind == "timeout", fault
    assert f"127.0.0.1:{server.port}" in fault.message
    assert "0.4 s" in fault.message
    assert 0.39 <= took < LONG


def test_a_mute_tls_port_ends_by_the_deadline() -> None:
    with RawServer(lambda sock, _: server.hold(), deaf=True) as server:
        fault = fault_of(lambda: client(timeout=0.3).get(f"https://127.0.0.1:{server.port}/")).fault
    assert fault.kind == "timeout"
    assert "TLS handshake" in fault.message


def test_a_dripping_tls_handshake_ends_by_the_deadline() -> None:
    record = b"\x16\x03\x03\x40\x00"  # a handshake record of 16 kB, a byte at a time
    with RawServer(lambda sock, _: server.drip(sock, record), deaf=True) as server:
        fault = fault_of(lambda: client(timeout=0.3).get(f"https://127.0.0.1:{server.port}/")).fault
    assert fault.kind == "timeout"


BROKEN = {
    "hangs up at once": (b"", "protocol"),
    "speaks no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "protocol"),
    "half a status line": (b"HTTP/1.1 2", "protocol"),
    "bytes of nothing": (bytes(range(256)) * 40, "protocol"),
    "a header line of 100 kB": (
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        "protocol",
    ),
    "a thousand headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "protocol"),
    "breaks off in the body": (http(b"x" * 100)[:-40], "body"),
    "breaks off in a chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "body",
    ),
    "a chunk size of words": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\nab",
        "body",
    ),
    "broken gzip": (http(b"\x1f\x8bnonsense", Content_Encoding="gzip"), "body"),
    "packing not asked for": (http(b"x", Content_Encoding="br"), "body"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_answers(how: str) -> None:
    data, kind = BROKEN[how]
    with RawServer(answers(data)) as server:
        error = fault_of(lambda: client(timeout=3).get(server.url))
    assert error.fault.kind == kind, error.fault
    assert f"127.0.0.1:{server.port}" in error.fault.message
    assert (error.reply is not None) == (kind == "body"), "status and headers had come"


def test_a_reset_instead_of_an_answer() -> None:
    def reset(sock: socket.socket, _: bytes) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with RawServer(reset) as server:
        assert fault_of(lambda: client().get(server.url)).fault.kind == "protocol"


def test_a_body_without_end_stops_at_the_cap() -> None:
    def flood(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    with RawServer(flood) as server:
        error = fault_of(lambda: client(max_bytes=300_000).get(server.url))
    assert error.fault.kind == "too_large"
    assert error.reply is not None
    assert error.reply.status == 200


def test_the_cap_is_per_request_where_one_is_given() -> None:
    with RawServer(answers(http(b"x" * 500))) as server:
        assert len(client(max_bytes=100).get(server.url, max_bytes=500).body) == 500
        assert fault_of(lambda: client().get(server.url, max_bytes=499)).fault.kind == "too_large"


def test_gzip_is_unpacked_up_to_the_cap() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 100_000
    with RawServer(answers(http(gzip.compress(b'{"a":1}'), Content_Encoding="gzip"))) as server:
        assert client().get(server.url).json() == {"a": 1}
    with RawServer(answers(http(bomb, Content_Encoding="gzip"))) as server:
        assert fault_of(lambda: client().get(server.url)).fault.kind == "too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a":',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"NaN",
        b'{"a":1e999}',
        b"\xff\xfe\x00",
        b"{}{}",
        b"9" * 10_000 if sys.version_info >= (3, 11) else b"{",
    ],
    ids=lambda b: repr(b[:8]),
)
def test_what_is_not_json_is_a_fault_of_the_body(body: bytes) -> None:
    reply = Reply(200, {"content-type": "text/\x1b[31mred"}, body, 0.1, {}, "http://h")
    fault = fault_of(reply.json).fault
    assert fault.kind == "body"
    assert fault.message.isprintable()


# --- redirects ------------------------------------------------------------------------------------


def _redirecting(location: str, status: int = 302) -> bytes:
    return http(b"", f"{status} Moved", Location=location)


def test_redirects_of_the_same_host_are_followed_three_times() -> None:
    count = itertools.count()

    def say(sock: socket.socket, _: bytes) -> None:
        sock.sendall(_redirecting(f"/next/{next(count)}"))

    with RawServer(say) as server:
        fault = fault_of(lambda: client().get(server.url)).fault
        assert (fault.kind, len(server.requests)) == ("redirect", 4)


def test_the_phases_of_redirects_add_up() -> None:
    steps = iter([_redirecting("/2"), _redirecting("http://127.0.0.1:{port}/3", 308), http(b"1")])

    def say(sock: socket.socket, _: bytes) -> None:
        time.sleep(0.02)
        sock.sendall(next(steps).replace(b"{port}", str(server.port).encode()))

    with RawServer(say) as server:
        reply = client().get(server.url)
    assert (reply.json(), reply.redirects) == (1, 2)
    assert reply.seconds >= 0.055


def test_no_redirect_leads_to_another_host_with_our_secrets() -> None:
    with RawServer(answers(http())) as other:
        with RawServer(answers(_redirecting(other.url + "/?token=abc"))) as server:
            headers = {"X-Client-Secret": "s3cret"}
            error = fault_of(lambda: client().get(server.url, headers=headers))
        assert error.fault.kind == "redirect"
        assert error.reply is not None
        assert error.reply.status == 302
        assert "abc" not in error.fault.message
        assert other.requests == []


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_is_never_turned_into_a_get(status: int) -> None:
    with RawServer(answers(_redirecting("/login", status))) as server:
        assert fault_of(lambda: client().post(server.url, json={})).fault.kind == "redirect"
        assert len(server.requests) == 1


NEXT = [
    ("http://h:80/a", "/b", "http://h:80/b", "a path stays"),
    ("http://h/a", "http://h:80/b#frag", "http://h:80/b", "the default port is the same port"),
    ("http://h/a", "https://h/b", "https://h/b", "a step up on the default ports"),
    ("https://h/a", "http://h/b", None, "never a step down"),
    ("http://h:8080/", "http://h:8081/", None, "another port is another service"),
    ("http://h:8080/", "https://h:8443/", None, "and so it is with TLS"),
    ("http://h/", "//evil/", None, "another host without a scheme"),
    ("http://h/", "http://h.evil/", None, "a longer name"),
    ("http://h/", "http://h@evil/", None, "our name as their user"),
]


@pytest.mark.parametrize(("url", "location", "target", "why"), NEXT)
def test_where_a_redirect_may_lead(url: str, location: str, target: Any, why: str) -> None:
    assert http_urls.next_url(url, location) == target, why


@pytest.mark.parametrize(
    "location", ["ftp://h/x", "http://[::1", "http://h/\x00", "javascript:1", "http://"]
)
def test_a_redirect_to_nonsense_is_a_fault_of_the_redirect(location: str) -> None:
    with RawServer(answers(_redirecting(location))) as server:
        fault = fault_of(lambda: client().get(server.url)).fault
    assert fault.kind in ("redirect", "protocol"), fault


# --- what may be asked ----------------------------------------------------------------------------

UNUSABLE: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("127.0.0.1:80/", {}),
    ("ftp://h/", {}),
    ("http://", {}),
    ("http://h:99999/", {}),
    ("http://h:0/", {}),
    ("http://[::1/", {}),
    ("http://127.0.0.1:1/ x", {}),
    ("http://127.0.0.1:1/\r\nX: y", {}),
    ("http://127.0.0.1:1/", {"X-Secret": "s3cret\r\nInjected: 1"}),
]


@pytest.mark.parametrize(("url", "headers"), UNUSABLE)
def test_what_cannot_be_asked_is_a_fault_of_the_configuration(
    url: str, headers: dict[str, str]
) -> None:
    fault = fault_of(lambda: client().get(url, headers=headers)).fault
    assert fault.kind == "config", fault
    assert "s3cret" not in fault.message


def test_a_header_outside_latin_1_is_refused_without_being_quoted() -> None:
    secret = "\N{SNOWMAN}".join(["schl", "ssel"])
    with RawServer(answers(http())) as server:
        error = fault_of(lambda: client().get(server.url, headers={"X-Key": secret}))
    assert error.fault.kind == "config"
    shown = "".join(traceback.format_exception(None, error, error.__traceback__))
    assert "schl\N{SNOWMAN}" not in shown
    assert "\\u2603" not in shown


def test_no_fault_shows_a_secret_of_the_url() -> None:
    def hang_up(sock: socket.socket, _: bytes) -> None:
        sock.close()

    with RawServer(hang_up) as server:
        url = f"http://joe:hunter2@127.0.0.1:{server.port}/hook/T0K3N?key=k3y"
        error = fault_of(lambda: client().get(url))
    shown = "".join(traceback.format_exception(None, error, error.__traceback__))
    for secret in ("hunter2", "T0K3N", "k3y", "joe"):
        assert secret not in shown.replace(url, "").replace(repr(url), ""), secret
    assert b"Authorization: Basic" in server.requests[0], "userinfo is still used"


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def secure(authority: Authority) -> Iterator[RawServer]:
    context = server_context(authority.issue("good", days=90))
    with RawServer(answers(http(b"1")), context=context) as server:
        yield server


def trusting(authority: Authority, *, verify: bool = True) -> HttpClient:
    return client(tls=TlsSettings(verify=verify, ca_file=str(authority.ca_file)))


def test_a_good_certificate_shows_its_chain_and_protocol(
    authority: Authority, secure: RawServer
) -> None:
    reply = trusting(authority).get(secure.url)
    assert reply.phases["tls"] > 0
    assert reply.tls is not None
    assert reply.tls.protocol in ("TLSv1.2", "TLSv1.3")
    leaf, *above = reply.tls.chain
    assert leaf[0] == "good"
    assert reply.tls.expires_at == leaf[1] == pytest.approx(time.time() + 90 * 86400, abs=900)
    assert reply.tls.complete == (sys.version_info >= (3, 10))
    if reply.tls.complete:
        assert [name for name, _ in above] == ["Test CA"]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="3.9 shows the leaf alone")
@pytest.mark.parametrize("verify", [True, False])
def test_the_earliest_expiry_may_be_above_the_leaf(tmp_path: Path, verify: bool) -> None:
    dying = Authority(tmp_path, "Dying CA", days=3)
    context = server_context(dying.issue("leaf", days=300))
    with RawServer(answers(http()), context=context) as server:
        reply = trusting(dying, verify=verify).get(server.url)
    assert reply.tls is not None
    assert reply.tls.expires_at == pytest.approx(time.time() + 3 * 86400, abs=900)


def test_without_verification_the_expiry_is_still_read(tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger")
    context = server_context(stranger.issue("old", "elsewhere.example", days=-2))
    with RawServer(answers(http()), context=context) as server:
        reply = client(tls=TlsSettings(verify=False)).get(server.url)
    assert reply.status == 200
    assert reply.tls is not None
    assert reply.tls.chain[0] == ("old", pytest.approx(time.time() - 2 * 86400, abs=900))


WRONG: dict[str, tuple[list[str], float, str]] = {
    "expired": ([], -1, "expired"),
    "for another host": (["payments.example.org"], 90, "mismatch"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_certificate_is_a_fault_of_tls(authority: Authority, how: str) -> None:
    hosts, days, word = WRONG[how]
    context = server_context(authority.issue(how.replace(" ", "-"), *hosts, days=days))
    with RawServer(answers(http()), context=context) as server:
        fault = fault_of(lambda: trusting(authority).get(server.url)).fault
        assert server.requests == []
    assert fault.kind == "tls"
    assert word in fault.message


def test_an_unknown_authority_is_a_fault_of_tls(secure: RawServer) -> None:
    fault = fault_of(lambda: client().get(secure.url)).fault
    assert (fault.kind, "is its CA in our CA file?" in fault.message) == ("tls", True)


def test_plain_http_on_a_tls_url_is_a_fault_of_tls() -> None:
    with RawServer(answers(http())) as server:
        fault = fault_of(lambda: client(timeout=0.5).get(f"https://127.0.0.1:{server.port}/")).fault
    assert fault.kind in ("tls", "timeout")
    assert "speak TLS" in fault.message


@pytest.mark.parametrize("text", [None, "no certificate here"])
def test_a_ca_file_that_is_none_is_a_fault_of_the_configuration(tmp_path: Path, text: Any) -> None:
    path = tmp_path / "ca.pem"
    if text:
        path.write_text(text)
    asking = client(tls=TlsSettings(ca_file=str(path)))
    fault = fault_of(lambda: asking.get("https://127.0.0.1:1/")).fault
    assert fault.kind == "config"
    assert str(path) in fault.message


def test_certificates_are_read_to_the_second_and_garbage_raises(authority: Authority) -> None:
    pem = authority.ca_file.read_text()
    der = ssl.PEM_cert_to_DER_cert(pem)
    name, expires = certificates.read(der)
    assert (name, expires) == ("Test CA", authority.certificate.not_valid_after_utc.timestamp())
    for cut in range(0, len(der), 7):
        with pytest.raises(ValueError, match=r"certificate|time|format|match"):
            certificates.read(der[:cut])


def test_five_threads_share_a_client(authority: Authority, secure: RawServer) -> None:
    asking, got = trusting(authority), []
    threads = [
        threading.Thread(target=lambda: got.append(asking.get(secure.url).json())) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert json.dumps(got) == "[1, 1, 1, 1, 1]"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        # Python's parser reads to the end of the connection at once; urllib3 1.26's refuses it.
        (b"-1", "too_large or body"),
        (b"-5", "body"),
        (b"-" + b"F" * 30, "body"),
        (b"F" * 30, "too_large"),
        (b"1" * 60_000, "too_large"),
    ],
)
def test_a_chunk_of_an_impossible_size_costs_no_more_than_any_body(size: bytes, kind: str) -> None:
    sent = [0]

    def say(wire: socket.socket, _request: bytes) -> None:
        wire.sendall(CHUNKED + size + b"\r\n")
        for _ in range(2000):
            sent[0] += wire.send(b"x" * 65536)

    with RawServer(say) as server, pytest.raises(HttpFault) as error:
        client(max_bytes=1 << 20).get(server.url)
    assert error.value.fault.kind in kind.split(" or ")
    assert sent[0] < 16 << 20, "what the two kernels hold, and twice the limit"


def test_chunks_of_one_byte_each_are_read() -> None:
    body = b"\n".join(b"x" for _ in range(2000))
    said = CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with RawServer(answers(said)) as server:
        assert client(max_bytes=1 << 20).get(server.url).body == body


def test_a_socket_that_cannot_be_closed_spoils_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries close it in finalizers too, where a failure would be printed as a traceback."""
    real = socket.socket.close

    def failing(self: socket.socket) -> None:
        real(self)
        raise ConnectionResetError(104, "reset")

    from monitoring.http import wire

    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened = wire.open_socket("127.0.0.1", listener.getsockname()[1], wire.Deadline(5.0)).sock
        timed = wire.TimedSocket(opened, wire.Deadline(5.0))
        with monkeypatch.context() as patched:
            patched.setattr(type(opened), "close", failing)
            timed.close()
    assert opened.fileno() == -1
