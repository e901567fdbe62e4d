"""`--web-config`: TLS, certificates of clients and users, over real connections."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import bcrypt
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitoring.model import Measurement, Outcome
from monitoring.output import server as web_config
from monitoring.output.exposition import Exporter
from monitoring.output.server import MetricsServer, WebConfigError, admits, rules_of
from sandbox.tls import Authority

PASSWORD = "käse:brot"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
def exporter() -> Exporter:
    made = Exporter("health_check", attempts=[("slack", "sent")])
    figure = Measurement("payment_api_response_time_ms", 1.5, {"component": "redis-cache"})
    made.publish(Outcome("health_check", "test", "1.0.0", 1.7e9, 0.5, measurements=(figure,)))
    return made


class Pki:
    """An authority with a certificate for this machine, and one for a client."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.ca = authority.ca_file
        self.server, self.client = authority.issue("server"), authority.issue("client")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def written(folder: Path, text: str) -> str:
    path = folder / "web.yml"
    path.write_text(text)
    return str(path)


def tls_of(pki: Pki, **more: str) -> str:
    rows = {"cert_file": pki.server, "key_file": pki.server, **more}
    return "tls_server_config:\n" + "".join(f"  {key}: {value}\n" for key, value in rows.items())


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(
    server: MetricsServer,
    path: str = "/metrics",
    context: Optional[ssl.SSLContext] = None,
    headers: Mapping[str, str] = {},
) -> http.client.HTTPResponse:
    link: Any = (
        http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    )
    with contextlib.closing(link):
        link.request("GET", path, headers=dict(headers))
        reply: http.client.HTTPResponse = link.getresponse()
        reply.body = reply.read()  # type: ignore[attr-defined]
    return reply


def trusting(pki: Pki, client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki.ca))
    if client:
        context.load_cert_chain(pki.client)
    return context


@pytest.fixture
def serve(exporter: Exporter) -> Iterator[Any]:
    running = []

    def start(path: Optional[str]) -> MetricsServer:
        running.append(exporter.serve("127.0.0.1", 0, rules_of(path)[0]))
        return running[-1]

    yield start
    for server in running:
        server.close()


def test_tls_and_a_user(serve: Any, pki: Pki, tmp_path: Path) -> None:
    text = tls_of(pki) + f"basic_auth_users:\n  prom: {HASH}\n"
    server, context = serve(written(tmp_path, text)), trusting(pki)
    assert ask(server, context=context).status == 401
    assert ask(server, context=context, headers=basic("prom", PASSWORD)).status == 200
    assert ask(server, context=context, headers=basic("prom", PASSWORD + "x")).status == 401
    assert ask(server, context=context, headers=basic("other", PASSWORD)).status == 401
    assert ask(server, "/-/healthy", context, basic("prom", PASSWORD)).status == 200
    assert ask(server, "/", context).status == 401
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(server)


def test_certificates_of_clients(serve: Any, pki: Pki, tmp_path: Path) -> None:
    more = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(pki.ca)}
    server = serve(written(tmp_path, tls_of(pki, **more)))
    assert ask(server, context=trusting(pki, client=True)).status == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(server, context=trusting(pki))


def test_the_file_is_read_again_and_a_bad_one_changes_nothing(
    serve: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(written(tmp_path, ""))
    server = serve(str(path))
    assert ask(server).status == 200
    path.write_text(f"basic_auth_users:\n  prom: {HASH}\n")
    assert ask(server).status == 401
    path.write_text("basic_auth_user:\n")
    assert ask(server).status == 401
    assert ask(server, headers=basic("prom", PASSWORD)).status == 200
    assert "basic_auth_user is not understood" in caplog.text


def test_a_file_that_is_being_written_opens_nothing(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"basic_auth_users:\n  prom: {HASH}\n{tls_of(pki)}"
    path = Path(written(tmp_path, text))
    config = web_config.WebConfig(str(path))
    for length in range(len(text)):  # wherever the writer stands
        path.write_text(text[:length])
        rules = config.current()
        assert rules.tls is not None, text[:length]
        assert rules.users, text[:length]
    caplog.clear()
    path.write_text("")
    os.utime(path, (1.0, 1.0))
    assert config.current().users, "the disk was full"
    assert config.current().users
    assert caplog.text.count("is empty; restart to need nothing") == 1, "not once a connection"
    path.write_text(tls_of(pki))
    assert config.current().users
    os.utime(path, (1.0, 1.0))
    assert not config.current().users, "meant so"
    assert config.rules.tls is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "no YAML"),
        ("- a", "keys and values"),
        ("http_server_config:\n  http2: true\n", "http_server_config is not understood"),
        ("tls_server_config:\n  cert_fil: x\n", "tls_server_config.cert_fil is not understood"),
        ("tls_server_config:\n  key_file: x\n", "cert_file is missing"),
        ("tls_server_config:\n  cert_file: none\n  key_file: none\n", "cannot be used"),
        ("tls_server_config:\n  min_version: TLS10\n", "min_version is one of"),
        ("tls_server_config:\n  client_auth_type: Some\n", "client_auth_type is one of"),
        ("basic_auth_users:\n  prom: secret\n", "basic_auth_users.prom is no bcrypt hash"),
        ("basic_auth_users: [prom]\n", "basic_auth_users"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(WebConfigError) as error:
        rules_of(written(tmp_path, text))
    assert says in str(error.value)
    assert str(tmp_path / "web.yml") in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("place", ["pipe", "/dev/zero", "."])
@pytest.mark.parametrize("what", ["the file", "a key"])
def test_what_never_ends_is_refused(tmp_path: Path, pki: Pki, place: str, what: str) -> None:
    """Python and OpenSSL would wait for ever, or fill the memory."""
    endless = str(tmp_path / place)
    if place == "pipe":
        os.mkfifo(endless)
    path = endless if what == "the file" else written(tmp_path, tls_of(pki, key_file=endless))
    with pytest.raises(WebConfigError, match="no regular file"):
        rules_of(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WebConfigError, match="No such file"):
        rules_of(str(tmp_path / "none.yml"))


@pytest.mark.parametrize(
    ("header", "in_"),
    [
        (basic("prom", PASSWORD)["Authorization"], True),
        (basic("prom", PASSWORD)["Authorization"].replace("Basic", "basic"), True),
        (basic("prom", PASSWORD)["Authorization"].replace("Basic", "Bearer"), False),
        (basic("prom", "")["Authorization"], False),
        (basic("prom", "a\0b")["Authorization"], False),
        (basic("", PASSWORD)["Authorization"], False),
        ("Basic " + base64.b64encode(b"prom").decode(), False),
        ("Basic \xff", False),
        ("Basic", False),
        ("", False),
    ],
)
def test_who_is_admitted(header: str, in_: bool) -> None:
    assert admits({"prom": HASH.encode()}, header) is in_
    assert admits({}, header)


def test_a_right_password_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_config, "_ONCE", web_config._Once())
    calls = []
    monkeypatch.setattr(
        web_config, "_right", lambda *given: calls.append(given) or given[0] == PASSWORD.encode()
    )
    users = {"prom": HASH.encode()}
    for password in (PASSWORD, PASSWORD, "wrong", "wrong"):
        admits(users, basic("prom", password)["Authorization"])
    assert [given[0].decode() for given in calls] == [PASSWORD, "wrong", "wrong"]


# -- what every scraper may ask


def test_open_metrics_where_it_is_asked_for(serve: Any) -> None:
    server = serve(None)
    asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    found = ask(server, headers={"Accept": asked})
    assert found.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    text = found.body.decode()  # type: ignore[attr-defined]
    assert text.endswith("# EOF\n")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"payment_api_response_time_ms", "payment_api_notifications"} <= names


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain;version=0.0.4",
        "*/*",
        "",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;version=1.0.0;q=0",
        "application/openmetrics-text;q=0.4,text/plain;q=0.5",
        "application/openmetrics-text;q=x",
    ],
)
def test_else_the_older_text(serve: Any, accept: str) -> None:
    found = ask(serve(None), headers={"Accept": accept})
    assert found.getheader("Content-Type").startswith("text/plain; version=0.0.4")


def test_head_says_what_get_says_and_the_connection_is_kept(serve: Any) -> None:
    server = serve(None)
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    replies = []
    for method in ("HEAD", "GET", "GET", "HEAD"):
        link.request(method, "/metrics")
        if not replies:
            first = link.sock
        assert link.sock is first
        reply = link.getresponse()
        said = (reply.getheader("Content-Type"), reply.getheader("Content-Length"))
        replies.append((reply.status, *said))
        body = reply.read()
        assert (method == "GET") == bool(body)
    link.close()
    assert len(set(replies)) == 1


@pytest.mark.parametrize("head", ["Content-Length: 37", "Transfer-Encoding: chunked"])
def test_a_body_is_not_the_next_request(serve: Any, head: str) -> None:
    """Behind a proxy its answer would go to somebody else."""
    body = "GET /secret HTTP/1.1\r\nHost: else\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serve(None).port), timeout=30) as link:
        link.sendall(f"GET /-/healthy HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}".encode())
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while more := link.recv(65536):
                heard += more
    assert heard.count(b"HTTP/1.1 ") == heard.count(b"HTTP/1.1 200") == 1


def test_a_connection_that_is_kept_outlives_no_change_of_the_rules(
    serve: Any, tmp_path: Path
) -> None:
    path = Path(written(tmp_path, f"basic_auth_users:\n  prom: {HASH}\n"))
    link = http.client.HTTPConnection("127.0.0.1", serve(str(path)).port, timeout=30)
    link.request("GET", "/-/healthy", headers=basic("prom", PASSWORD))
    assert link.getresponse().read()
    kept = link.sock
    path.write_text(f"basic_auth_users:\n  other: {HASH}\n")
    link.request("GET", "/-/healthy", headers=basic("prom", PASSWORD))
    assert link.sock is kept
    with pytest.raises((OSError, http.client.HTTPException)):
        link.getresponse()
    link.close()


def test_a_page_for_a_browser(serve: Any) -> None:
    found = ask(serve(None), "/")
    assert (found.status, found.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in found.getheader("Content-Security-Policy")
    assert b'href="/metrics"' in found.body  # type: ignore[attr-defined]


def test_whoever_says_nothing_after_tls_began_gives_way(
    serve: Any, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.output.server._CONNECTIONS", 4)
    server = serve(written(tmp_path, tls_of(pki)))
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
    assert ask(server, context=trusting(pki)).status == 200
    for each in idle:
        each.close()


def test_a_real_openssl_is_refused_below_tls_1_2(serve: Any, pki: Pki, tmp_path: Path) -> None:
    server = serve(written(tmp_path, tls_of(pki, min_version="TLS13")))
    old = trusting(pki)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(server, context=old)
    assert ask(server, context=trusting(pki)).status == 200
