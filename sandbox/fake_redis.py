"""Fake Redis: the last resort where no server binary is to be had. It says so in `kind`.

It keeps tokens well enough for a look around; it knows no INFO, so a health check of it must
come out as unknown or failed, never as healthy.
"""

from __future__ import annotations

import threading
from typing import Any

import redis


class FakeRedisServer:
    """fakeredis behind a TCP port, in this process."""

    kind = "fakeredis"
    host = "127.0.0.1"

    def __init__(self) -> None:
        from fakeredis import TcpFakeServer

        self._server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def client(self, **options: Any) -> redis.Redis:
        """A client of it; user names are dropped, it has one user only."""
        kept = {k: v for k, v in options.items() if k not in ("username", "password")}
        return redis.Redis(host=self.host, port=self.port, **{"socket_timeout": 2, **kept})

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
