"""Canaries: strings that must never be seen again, and how to look for them everywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus


def canary(name: str) -> str:
    """A secret of our own; every character that some encoding changes is in it."""
    return f"C4n/{name}+<'\"\\{hashlib.sha256(name.encode()).hexdigest()[:16]}=ü"


def plain(name: str) -> str:
    """One for places that take letters and digits only (a header, a path)."""
    return f"C4nary{name.replace('-', '')}{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def forms(secret: str) -> set[str]:
    """The secret plain, as JSON, HTML, URLs and Python write it, hex, and in base64 wherever it
    begins in what was encoded."""
    raw = secret.encode()
    found = {secret, quote(secret, safe=""), quote_plus(secret), quote(secret), raw.hex()}
    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {html.escape(secret), repr(secret)[1:-1]}
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            # the first and last characters also hold bits of the neighbours
            found.add(text[(0, 2, 3)[shift] : len(text) - 2])
    return found


class Search:
    """Texts and files gathered from a run, searched for canaries."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, where: str, text: str) -> None:
        """Keep a text; `where` names it when something is found there."""
        self.texts[f"{where} #{len(self.texts)}"] = text

    def add_folder(self, folder: Path) -> None:
        """Every file below the folder, as bytes read as Latin-1 and as UTF-8."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                raw = path.read_bytes()
                self.add(str(path), raw.decode("latin-1") + raw.decode("utf-8", "replace"))

    def hits(self, secrets: Mapping[str, str]) -> list[str]:
        """`name in where` for each canary that was found."""
        found = []
        for name, secret in secrets.items():
            shapes = forms(secret)
            for where, text in self.texts.items():
                for shape in shapes:
                    at = text.find(shape)
                    if at >= 0:
                        around = text[max(0, at - 60) : at + len(shape) + 20]
                        found.append(f"{name} in {where}: …{around!r}…")
        return found


class CommandLines:
    """Reads the command line and the environment's *names* of processes while they run: the
    arguments of a process can be read by every user of the machine."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    text = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except OSError:
                    continue
                if "usage_metrics" in text or "health_check" in text:
                    self.seen.add(text)
            time.sleep(0.05)

    def __enter__(self) -> CommandLines:  # noqa: PYI034 - Self needs 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def of_alerts(received: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a person reads of notices: not the address, headers and key that carried them."""
    shown = []
    for item in received:
        body = item.get("body")
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if name != "routing_key"}
        shown.append(str(body) + str(item.get("raw", "")))
    return shown


def of_cache(client: Any) -> dict[str, str]:
    """Every token's signature, its id, and every long key name that lies in the cache."""
    secrets: dict[str, str] = {}
    for number, key in enumerate(client.scan_iter(count=1000)):
        name = key.decode("utf-8", "replace")
        if name.startswith(("validation:", "token_id:")):
            secrets[f"key {number}"] = name.split(":")[1]
        value = client.get(key) if client.type(key) == b"string" else b""
        for part in value.split(b"."):
            if len(part) == 43:  # an HS256 signature
                secrets[f"signature {number}"] = part.decode("ascii", "replace")
    return secrets
