"""Acquire: one HTTP exchange: its deadline, its connection, and how long each phase took."""

from __future__ import annotations

import ssl
import time
from typing import Any, Dict, Optional

from monitoring.http import tls, wire
from monitoring.http.reply import PHASES
from monitoring.http.tls import TlsFacts


class Exchange:
    """One request and its answer: the deadline, what was measured, the connection's TLS."""

    def __init__(self, deadline: wire.Deadline, context: Optional[ssl.SSLContext]) -> None:
        self.deadline = deadline
        self.context = context
        self.spent: Dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.socket: Optional[wire.TimedSocket] = None
        self.tls: Optional[TlsFacts] = None

    def open(self, host: str, port: int) -> Any:
        """A connected socket; raises WireFault."""
        opened = wire.open_socket(host.strip("[]"), port, self.deadline)
        self.spent["dns"] += opened.dns
        self.spent["connect"] += opened.connect
        return opened.sock

    def secure(self, sock: Any, host: str) -> Any:
        """TLS over `sock`; raises WireFault."""
        if self.context is None:
            raise wire.WireFault("internal", "no TLS context for an https URL")
        began = time.perf_counter()
        secured = wire.secure(sock, self.context, host.strip("[]"), self.deadline)
        self.spent["tls"] += time.perf_counter() - began
        self.tls = tls.facts(secured)
        return secured

    def hold(self, sock: Any) -> wire.TimedSocket:
        """`sock` under the deadline, remembered for `phases`."""
        self.socket = wire.TimedSocket(sock, self.deadline)
        return self.socket

    def phases(self) -> Dict[str, float]:
        """Seconds of each phase so far."""
        sock, spent = self.socket, dict(self.spent)
        if sock and sock.sent_at is not None and sock.first_at is not None:
            spent["first_byte"] = sock.first_at - sock.sent_at
            spent["transfer"] = (sock.last_at or sock.first_at) - sock.first_at
        return spent
