"""Acquire: the way to one Redis server: name, TCP and TLS within its timeout, replies too."""

from __future__ import annotations

import ssl
from typing import Any, Optional

from monitoring.http import wire


class Door:
    """Opens connections and keeps the socket opened last, for its stopwatch."""

    def __init__(self, context: Optional[ssl.SSLContext], timeout: float, most: int) -> None:
        self.timeout = timeout
        self._context = context
        self._most = most
        self._socket: Optional[wire.TimedSocket] = None

    @property
    def secured(self) -> bool:
        """Whether TLS is spoken."""
        return self._context is not None

    def open(self, host: str, port: int) -> wire.TimedSocket:
        """A connected socket whose every reply must be whole within the timeout, and hold `most`
        bytes at most. WireFault."""
        deadline = wire.Deadline(self.timeout)
        sock: Any = wire.open_socket(host, port, deadline).sock
        if self._context is not None:
            sock = wire.secure(sock, self._context, host, deadline)
        fresh = wire.Deadline(self.timeout)
        self._socket = wire.TimedSocket(sock, fresh, renewing=True, most=self._most)
        return self._socket

    @property
    def heard(self) -> bool:
        """Whether the server has sent anything on the connection opened last."""
        return self._socket is not None and self._socket.heard

    def restart(self) -> None:
        """Set the stopwatch to nothing."""
        if self._socket is not None:
            self._socket.restart()

    def seconds(self) -> float:
        """From the first byte sent to the last received since `restart`."""
        sock = self._socket
        if sock is None or sock.sent_at is None or sock.last_at is None:
            raise ValueError("nothing was sent and answered")
        return sock.last_at - sock.sent_at
