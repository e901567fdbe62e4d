"""Values: what a row of `COMPONENTS` may hold: a component that the user adds to the five."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping

from monitoring.catalog import COMPONENTS
from monitoring.config import kinds as k
from monitoring.settings import ComponentSettings, Secret, TlsSettings

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RESERVED = (*COMPONENTS, "overall", "monitor", "rotation-service")
_codes = k.items(k.number(100, 599, whole=True), least=1)


def name(value: Any) -> str:
    """The name of a further component."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("write small letters, digits and hyphens, such as ledger-database")
    if value in _RESERVED:
        raise ValueError(f"{value} is a name of ours; choose another")
    return value


def _status(value: Any) -> Any:
    return _codes(value if isinstance(value, (list, tuple)) else [value])


_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "kind": k.choice("http", "tcp", "tls", "redis"),
    "host": k.host,
    "port": k.port,
    "address": k.endpoint(),
    "url": k.url(empty=False, query=True),
    "status": _status,
    "password_file": k.path,
    "ssl": k.flag,
    "verify": k.flag,
    "ca_file": k.path,
    "timeout": k.duration(0.05),
    "target": k.percent,
}
_NEEDED = {"http": ("url",), **dict.fromkeys(("tcp", "tls", "redis"), ("host", "port"))}
_ALLOWED = {
    "http": ("url", "status", "verify", "ca_file"),
    "tcp": ("host", "port", "address"),
    "tls": ("host", "port", "address", "verify", "ca_file"),
    "redis": ("host", "port", "address", "password_file", "ssl", "verify", "ca_file"),
}
_ALL = ("kind", "timeout", "target")


def component(value: Any) -> ComponentSettings:
    """The row, without its name. Raises ValueError, one sentence."""
    if not isinstance(value, Mapping):
        raise ValueError("write a dict, such as {'kind': 'tcp', 'host': 'ledger', 'port': 5432}")
    found: Dict[str, Any] = {}
    for key, given in value.items():
        if key not in _PARTS:
            raise ValueError(f"there is no {str(key)[:40]!r}; there are {', '.join(_PARTS)}")
        try:
            found[key] = _PARTS[key](given)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    kind = found.get("kind", "")
    if not kind:
        raise ValueError("write its kind: http, tcp, tls or redis")
    if odd := [key for key in found if key not in (*_ALLOWED[kind], *_ALL)]:
        raise ValueError(f"{odd[0]} means nothing for kind {kind}")
    if "address" in found:
        found["host"], found["port"] = found.pop("address")
    if missing := [key for key in _NEEDED[kind] if not found.get(key)]:
        raise ValueError(f"kind {kind} needs {' and '.join(missing)}")
    return _made(found)


def _made(found: Dict[str, Any]) -> ComponentSettings:
    tls = TlsSettings(found.pop("verify", True), found.pop("ca_file", ""))
    password = Secret(path=found.pop("password_file", ""))
    return replace(ComponentSettings("", **found), tls=tls, password=password)
