"""Present: the HTTP server behind `--prometheus-port`, and its `--web-config FILE`.

It knows nothing of metrics: it hands out answers that are ready.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import hmac
import logging
import socketserver
import ssl
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from typing import Any, Callable, NamedTuple, Optional, final
from urllib.parse import urlsplit

import yaml

from monitoring.config.secret import small_file
from monitoring.http import wire
from monitoring.model import OperatorError

# -- `--web-config FILE`, in the format of Prometheus' exporter toolkit: TLS, certificates of
# clients, and users with bcrypt hashes. The file is read again when it changes.
# https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md

#: Keys that are understood. Others are refused: one that is ignored would be thought to protect.
_KEYS = {
    "tls_server_config": (
        *("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version"),
    ),
    "basic_auth_users": (),
}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_OPTIONAL,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAnyClientCert": ssl.CERT_REQUIRED,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
#: Compared with where the user is unknown, so that a guess takes as long for one as for another.
_NOBODY = b"$2b$10$BXmHDFdgg4wkWGLEbqlLZeq0p1Ya0XwWJvHmZKLZmmpmrjbq0VnbS"

_SETTLED = 5.0  # seconds since the last change of a file that asks for less than before
_MOST_RULES = 1 << 20  # bytes of the file, of a certificate or a key

_log = logging.getLogger("monitoring.output.server")


class WebConfigError(OperatorError):
    """The file cannot be used; one sentence: which, what in it, and the cure."""


class Rules(NamedTuple):
    """What a connection needs: `tls` None: none; `users`: name -> bcrypt hash, empty: anybody."""

    tls: Optional[ssl.SSLContext] = None
    users: Mapping[str, bytes] = {}


class WebConfig:
    """The rules of a file, read anew when its text, certificate or key changed; while it cannot be
    used, the rules before stay in force, and a log line says so. Raises WebConfigError at first.

    Protection is taken away only by a file that has something in it and was left alone for
    `_SETTLED` seconds: one that is being written, or that found no room on the disk, opens none."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: Any = None
        self._said = ""
        self.rules = Rules()
        self._read()

    def current(self) -> Rules:
        """The rules for a connection that begins now."""
        with self._lock:
            said = ""
            try:
                self._read()
            except WebConfigError as error:
                said = str(error)
            if said and said != self._said:  # once, however many connections come
                _log.error("%s; the rules before stay in force", said)
            self._said = said
        return self.rules

    def _read(self) -> None:
        try:
            text = small_file(self._path, _MOST_RULES)
            found = _parsed(text, self._path)
            tls = found.get("tls_server_config") or {}
            files = [self._path.parent / str(tls[k]) for k in tls if k.endswith("_file")]
            stamps = [(f, f.stat().st_mtime_ns if f.exists() else 0) for f in files]
        except OSError as error:
            raise WebConfigError(f"--web-config {self._path}: {error.strerror}") from error
        if self._seen == (text, stamps):
            return
        rules = Rules(self._tls(tls) if tls else None, _users(found, self._path))
        if self._seen is not None and _opens(self.rules, rules) and self._unfinished(found):
            return
        self._seen, self.rules = (text, stamps), rules

    def _unfinished(self, found: Mapping[str, Any]) -> bool:
        """Whether the file may still be written to. Raises WebConfigError where it is empty."""
        if not found:
            raise WebConfigError(f"--web-config {self._path}: is empty; restart to need nothing")
        with contextlib.suppress(OSError):
            return abs(time.time() - self._path.stat().st_mtime) < _SETTLED
        return True

    def _tls(self, given: Mapping[str, Any]) -> ssl.SSLContext:
        def fail(why: str) -> WebConfigError:
            return WebConfigError(f"--web-config {self._path}: tls_server_config: {why}")

        def place(key: str) -> str:
            if not given.get(key):
                raise fail(f"{key} is missing")
            named = self._path.parent / str(given[key])
            small_file(named, _MOST_RULES)  # OpenSSL would wait for what a pipe has to say
            return str(named)

        asked = given.get("client_auth_type", "NoClientCert")
        version = given.get("min_version", "TLS12")
        if asked not in _CLIENTS:
            raise fail(f"client_auth_type is one of {', '.join(_CLIENTS)}")
        if version not in _VERSIONS:
            raise fail(f"min_version is one of {', '.join(_VERSIONS)}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[version]
        try:
            context.load_cert_chain(place("cert_file"), place("key_file"))
            context.verify_mode = _CLIENTS[asked]
            if context.verify_mode is not ssl.CERT_NONE:
                context.load_verify_locations(place("client_ca_file"))
        except (OSError, ssl.SSLError) as error:
            said = error.strerror or str(error)
            raise fail(f"a certificate or key cannot be used ({said})") from error
        return context


def _opens(before: Rules, after: Rules) -> bool:
    """Whether somebody gets in by the new rules for want of what the old ones asked for."""
    if before.tls and (not after.tls or after.tls.verify_mode < before.tls.verify_mode):
        return True
    return bool(before.users and not after.users)


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        said = str(error).splitlines()[0]
        raise WebConfigError(f"--web-config {path}: no YAML ({said})") from error
    if not isinstance(found, dict):
        raise WebConfigError(f"--web-config {path}: wanted are keys and values")
    for key, value in found.items():
        known = _KEYS.get(key)
        inner = set(value or {}) - set(known or value or ()) if isinstance(value, dict) else {"?"}
        if known is None or inner:
            name = key if known is None else f"{key}.{sorted(map(str, inner))[0]}"
            raise WebConfigError(
                f"--web-config {path}: {name} is not understood; there are "
                f"basic_auth_users and tls_server_config ({', '.join(_KEYS['tls_server_config'])})"
            )
    return found


def _users(found: Mapping[str, Any], path: Path) -> dict[str, bytes]:
    users = {
        str(name): str(word).encode()
        for name, word in (found.get("basic_auth_users") or {}).items()
    }
    for name, word in users.items():
        if not word.startswith((b"$2a$", b"$2b$", b"$2y$")) or len(word) != 60:
            raise WebConfigError(
                f"--web-config {path}: basic_auth_users.{name} is no bcrypt hash; make one with "
                "htpasswd -nBC 10 NAME"
            )
    if users:
        _bcrypt()
    return users


def _bcrypt() -> Any:
    try:
        import bcrypt
    except ImportError as error:
        raise WebConfigError(
            "--web-config: basic_auth_users need the library bcrypt: pip install bcrypt"
        ) from error
    return bcrypt


def admits(users: Mapping[str, bytes], header: str) -> bool:
    """Whether the Authorization header names a user with the right password."""
    if not users:
        return True
    kind, _, packed = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(packed, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    if kind.lower() != "basic" or not colon:
        return False
    return _checked(password.encode()[:72], users.get(name, _NOBODY)) and name in users


class _Once:
    """Answers of bcrypt that were right: each costs 50 ms, and a scraper asks every few seconds.
    Kept as keyed digests of this process."""

    def __init__(self) -> None:
        self._key = hashlib.sha256(str(id(self)).encode()).digest()
        self._right: dict[bytes, None] = {}

    def __call__(self, password: bytes, word: bytes, check: Callable[[], bool]) -> bool:
        digest = hmac.digest(self._key, password + b"\0" + word, "sha256")
        if digest in self._right:
            return True
        if not check():
            return False
        if len(self._right) >= 64:
            self._right.clear()
        self._right[digest] = None
        return True


_ONCE = _Once()


def _checked(password: bytes, word: bytes) -> bool:
    return _ONCE(password, word, functools.partial(_right, password, word))


def _right(password: bytes, word: bytes) -> bool:
    try:
        return bool(_bcrypt().checkpw(password, word))
    except ValueError:  # no hash, or a password with a null byte
        return False


#: What a server needs of a WebConfig.
RulesOf = Callable[[], Rules]
NO_RULES = Rules()


def rules_of(path: Optional[str]) -> tuple[RulesOf, bool]:
    """Gives the rules for each connection; and whether they ask for TLS now. Raises
    WebConfigError."""
    if not path:
        return (lambda: NO_RULES), False
    config = WebConfig(path)
    return config.current, config.rules.tls is not None


# -- the small HTTP server behind `--prometheus-port`.

#: All interfaces, as `prometheus_client.start_http_server` of the brief does: the scraper is
#: rarely on this machine, and the page holds nothing secret.
DEFAULT_ADDRESS = "0.0.0.0"  # noqa: S104
_CONNECTIONS = 64  # held at a time; a scraper needs one. The oldest gives way to a new one
_WHOLE = 10.0  # seconds from accepting a connection to the end of what is said on it
_MOST = 32 << 10  # bytes of a request

_metrics_server_log = logging.getLogger("monitoring.output.server")


class ServeError(OperatorError):
    """The server cannot listen; one sentence: where, why, and the cure."""


class HttpAnswer(NamedTuple):
    """What goes out for a path."""

    status: int
    content_type: str
    body: bytes
    gzipped: bool = False
    headers: tuple[tuple[str, str], ...] = ()


Asked = Callable[[str, Any], HttpAnswer]


@final
class MetricsServer:
    """Serves `answer(path, headers)` in threads until `close`; `headers` are the request's, which
    have `get(name, default)`. Port 0 picks a free one. `rules` says what a connection needs."""

    def __init__(
        self, address: str, port: int, answer: Asked, rules: RulesOf = lambda: NO_RULES
    ) -> None:
        self._server = _listen(address, port, answer, rules)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="metrics-server",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; returns within a second whatever clients do. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _listen(address: str, port: int, answer: Asked, rules: RulesOf) -> _Server:
    parts = {"answer": staticmethod(answer), "rules": staticmethod(rules)}
    handler = type("_Bound", (_Handler,), parts)
    server = _Server6 if ":" in address else _Server
    try:
        return server((address, port), handler)
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise ServeError(
            f"cannot serve metrics on {address}:{port} ({why}); "
            "choose another --prometheus-port or --prometheus-address"
        ) from exc


class _Server(socketserver.ThreadingTCPServer):
    address_family = AF_INET
    allow_reuse_address = True
    daemon_threads = True  # so that nobody waits for a client that reads slowly
    request_queue_size = 1024

    def __init__(self, *args: Any) -> None:
        # open connections, the oldest first: since when, and what to hang up on (of TLS another)
        self._held: dict[Any, tuple[float, Any]] = {}
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it in a thread of its own. Whoever is slow costs the place of the oldest alone."""
        with self._lock:
            if len(self._held) >= _CONNECTIONS:
                _hang_up(self._held.pop(next(iter(self._held)))[1])
            self._held[request] = time.monotonic(), request
        super().process_request(request, client_address)

    def renew(self, request: Any, spoken: Any) -> None:
        """Another request begins on a kept connection: its time starts anew. `spoken`: the socket
        that is spoken through, of TLS another than `request`."""
        with self._lock:
            if self._held.pop(request, None) is not None:
                self._held[request] = time.monotonic(), spoken

    def shutdown_request(self, request: Any) -> None:
        with self._lock:  # so that nobody hangs up on the next to get the number of this socket
            self._held.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called several times a second: hang up on those whose time is over, whatever they do."""
        with self._lock:
            late = time.monotonic() - _WHOLE
            for request in [each for each, (since, _) in self._held.items() if since < late]:
                _hang_up(self._held.pop(request)[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client went away in the middle; socketserver would print a traceback."""
        _metrics_server_log.debug("a scrape from %s broke off", client_address, exc_info=True)


def _hang_up(request: socket) -> None:
    """End every read and write on it; its thread closes it."""
    with contextlib.suppress(OSError):
        request.shutdown(SHUT_RDWR)


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    answer: Asked
    rules: RulesOf
    protocol_version = "HTTP/1.1"  # scrapers keep the connection
    server_version = "payment-api-monitoring"
    sys_version = ""
    timeout = _WHOLE
    wbufsize = -1  # headers and body in one segment: Nagle would hold the second back
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self._given, self._needs = self.request, self.rules()
        if self._needs.tls is not None:  # here, in the connection's own thread
            self.request = self._needs.tls.wrap_socket(
                self._given, server_side=True, do_handshake_on_connect=False
            )
            self.request.settimeout(_WHOLE)
            self._begin()
            with contextlib.ExitStack() as failed:
                failed.callback(self.request.close)
                self.request.do_handshake()
                failed.pop_all()
        super().setup()
        self._time = wire.Deadline(_WHOLE)
        self._whole = wire.TimedSocket(self.connection, self._time, renewing=True, most=_MOST)
        self.rfile = self._whole.makefile("rb")

    def handle_one_request(self) -> None:
        self._time.renew()
        self._whole.restart()
        self._begin()
        super().handle_one_request()

    def _begin(self) -> None:
        if isinstance(self.server, _Server):
            self.server.renew(self._given, self.request)

    def finish(self) -> None:
        super().finish()
        if self._needs.tls is not None:
            self.request.close()  # its own; the server closes the one it gave

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        if self.rules() is not self._needs:  # this connection was let in by rules of before
            self.close_connection = True
            return
        if admits(self._needs.users, self.headers.get("Authorization", "")):
            found = self.answer(urlsplit(self.path).path, self.headers)
        else:
            found = HttpAnswer(
                401, "text/plain; charset=utf-8", b"A user and a password are needed\n"
            )
        self.send_response(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        if found.status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="metrics", charset="UTF-8"')
        if self._has_body():  # unread, it would be taken for the next request
            self.send_header("Connection", "close")
        self.send_header("Content-Type", found.content_type)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Vary", "Accept, Accept-Encoding")
        if found.gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if with_body:
            self.wfile.write(found.body)

    def _has_body(self) -> bool:
        length = self.headers.get("Content-Length", "0").strip()
        return length != "0" or "Transfer-Encoding" in self.headers

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Scrapes are no news, and stderr carries JSON lines alone."""
        _metrics_server_log.debug(format, *args)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110 section 12.5.3)."""
    weights = {}
    for part in header.lower().split(","):
        coding, _, params = part.partition(";")
        weights[coding.strip()] = params.replace(" ", "")
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return not (weight.startswith("q=0") and not weight[3:].strip(".0"))
