"""What a real Conjur answered (tests/data/conjur/), and a server that says it again.

195 exchanges with Conjur OSS 1.24.0, November 2026; secrets are placeholders of the same length.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Union

from tests.raw_server import RawServer

DATA = Path(__file__).parent / "data" / "conjur" / "transcripts.jsonl"
ALL: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
BY_CASE: Mapping[str, dict[str, Any]] = {entry["case"]: entry for entry in ALL}

#: The names of the answers that a `ConjurReplay` gives while all is well, by what is asked.
WELL = {
    "POST /authn/": "authenticate: host, API key, no Accept-Encoding",
    "GET /health": "GET /health without token",
    "GET /info": "GET /info without token",
    "GET /authenticators": "GET /authenticators",
    "GET / ": "GET / Accept json",
    "GET /whoami": "whoami",
    "GET /resources/payment-system/variable?count=true": "list: count",
}

Answer = Union[str, bytes]


def token(**claims: Any) -> bytes:
    """An access token as the vault gives it; `sub` and `iat` may be set otherwise."""
    now = int(time.time())
    said = {"sub": "host/monitoring", "iat": now, "exp": now + 480, **claims}
    payload = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
    return json.dumps({"protected": "eA==", "payload": payload, "signature": "eA=="}).encode()


def raw(case: str, body: bytes | None = None) -> bytes:
    """The whole answer of a case, its headers as they were, in order; with another `body`."""
    answer = BY_CASE[case]["response"]
    said = answer.get("body", "").encode() or base64.b64decode(answer.get("body_base64", ""))
    if case.startswith("authenticate") and answer["status"] == 200:
        said = token()  # the recorded one is a placeholder
    said = said if body is None else body
    head = [f"HTTP/1.1 {answer['status']} {answer['reason']}", "Connection: close"]
    for name, value in answer["headers"]:
        head.append(f"{name}: {len(said) if name == 'Content-Length' else value}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + said


class ConjurReplay(RawServer):
    """Answers as the transcripts do. `answers`: beginning of the request line -> the name of a case
    or a whole answer; the longest that fits counts, and what fits nothing is asked for a token."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = dict(WELL)
        super().__init__(self._speak)

    def _speak(self, wire: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n", 1)[0].decode("latin-1")
        fitting = [start for start in self.answers if line.startswith(start)]
        said = self.answers[max(fitting, key=len)] if fitting else "GET /nothing without token"
        wire.sendall(raw(said) if isinstance(said, str) else said)

    def asked(self, part: str) -> int:
        """How many request lines held `part`."""
        return sum(part.encode() in request.split(b"\r\n", 1)[0] for request in self.requests)


def serve(body: Any) -> Callable[[socket.socket, bytes], None]:
    """A `say` that answers everything with `body` as JSON, without a Date header."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return lambda wire, _request: wire.sendall(head.encode() + b"\r\n" + data)
