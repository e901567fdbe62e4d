"""Acquire: one HTTP exchange: its deadline, its connection, and how long each phase took."""

from __future__ import annotations

import ssl
import time
from typing import Any, Dict, Optional

from monitoring.http import tls, wire
from monitoring.http.reply import PHASES
from monitoring.http.tls import TlsFacts

#: Bytes of a status line and headers, and what is read ahead of the body with them.
MOST_HEAD = 128 << 10


class Exchange:
    """One request and its answer: the deadline, what was measured, the connection's TLS. `most`:
    bytes that may come until `lift`."""

    def __init__(
        self, deadline: wire.Deadline, context: Optional[ssl.SSLContext], most: int = MOST_HEAD
    ) -> None:
        self.deadline = deadline
        self.most = most
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
        self.socket = wire.TimedSocket(sock, self.deadline, most=self.most)
        return self.socket

    def lift(self) -> None:
        """From now on bytes are not counted here."""
        if self.socket is not None:
            self.socket.most = None

    def phases(self) -> Dict[str, float]:
        """Seconds of each phase so far."""
        sock, spent = self.socket, dict(self.spent)
        if sock and sock.sent_at is not None and sock.first_at is not None:
            spent["first_byte"] = sock.first_at - sock.sent_at
            spent["transfer"] = (sock.last_at or sock.first_at) - sock.first_at
        return spent
