"""Acquire: `--web-config FILE`, in the format of Prometheus' exporter toolkit: TLS, certificates of
clients, and users with bcrypt hashes. The file is read again when it changes.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import logging
import ssl
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import yaml

from monitoring.model import OperatorError

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

_log = logging.getLogger("monitoring.web_config")


class WebConfigError(OperatorError):
    """The file cannot be used; one sentence: which, what in it, and the cure."""


class Rules(NamedTuple):
    """What a connection needs: `tls` None: none; `users`: name -> bcrypt hash, empty: anybody."""

    tls: Optional[ssl.SSLContext] = None
    users: Mapping[str, bytes] = {}


class WebConfig:
    """The rules of a file, read anew when its text, certificate or key changed; while it cannot be
    used, the rules before stay in force, and a log line says so. Raises WebConfigError at first."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: Any = None
        self.rules = Rules()
        self._read()

    def current(self) -> Rules:
        """The rules for a connection that begins now."""
        with self._lock:
            try:
                self._read()
            except WebConfigError as error:
                _log.error("%s; the rules before stay in force", error)
        return self.rules

    def _read(self) -> None:
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise WebConfigError(f"--web-config {self._path}: {error.strerror}") from error
        found = _parsed(text, self._path)
        tls = found.get("tls_server_config") or {}
        files = [self._path.parent / str(tls[k]) for k in tls if k.endswith("_file")]
        stamps = [(f, f.stat().st_mtime_ns if f.exists() else 0) for f in files]
        if self._seen == (text, stamps):
            return
        self._seen = (text, stamps)
        self.rules = Rules(self._tls(tls) if tls else None, _users(found, self._path))

    def _tls(self, given: Mapping[str, Any]) -> ssl.SSLContext:
        def fail(why: str) -> WebConfigError:
            return WebConfigError(f"--web-config {self._path}: tls_server_config: {why}")

        def place(key: str) -> str:
            if not given.get(key):
                raise fail(f"{key} is missing")
            return str(self._path.parent / str(given[key]))

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


def _parsed(text: bytes, path: Path) -> Dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
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


def _users(found: Mapping[str, Any], path: Path) -> Dict[str, bytes]:
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
        self._right: Dict[bytes, None] = {}

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


def rules_of(path: Optional[str]) -> Tuple[RulesOf, bool]:
    """Gives the rules for each connection; and whether they ask for TLS now. Raises
    WebConfigError."""
    if not path:
        return (lambda: NO_RULES), False
    config = WebConfig(path)
    return config.current, config.rules.tls is not None
