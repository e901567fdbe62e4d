"""Redis faults: what can be done to a running server so that it fails in its own words."""

from __future__ import annotations

import os
from typing import Callable, Optional

import redis

from sandbox.redis_server import RedisServer

#: maxmemory of the cache, in bytes: a production cache has a limit, which its use is held against.
MEMORY_LIMIT = 4 << 30
FILLER_KEYS = 4000  # at 0.1 s each, loading lasts longer than anybody looks
FILLER = "sandbox:filler:"


class RedisFaults:
    """Applies `redis-*` faults to `server`; `admin` makes a client that is allowed everything."""

    def __init__(self, server: RedisServer, admin: Callable[[], redis.Redis]) -> None:
        self.server = server
        self._admin = admin
        self._password = ""
        self._apply: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "redis-hang": (server.pause, server.resume),
            "redis-refused": (self._refuse, server.launch),
            "redis-loading": (self._load, self._loaded),
            "redis-noauth": (self._lock_out, self._let_in),
            "redis-readonly": (self._demote, self._promote),
            "redis-maxmemory": (self._fill, self._empty),
        }

    def __call__(self, name: str, value: Optional[str]) -> None:
        """Listener of a FaultBoard: `value` None ends the fault."""
        begin, end = self._apply[name]
        (end if value is None else begin)()

    def _ask(self, *words: object) -> object:
        client = self._admin()
        try:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            client.close()

    def _refuse(self) -> None:
        # Saved first, so that nothing is lost when the fault ends.
        self._ask("SAVE")
        self.server.halt()

    def _load(self) -> None:
        client = self._admin()
        pipe = client.pipeline(transaction=False)
        for number in range(FILLER_KEYS):
            pipe.set(f"{FILLER}{number}", os.urandom(1024), ex=3600)
        pipe.execute()
        client.close()
        self._refuse()
        self.server.launch(key_load_delay="100000", loading_process_events_interval_bytes="1024")

    def _loaded(self) -> None:
        self.server.halt()
        self.server.launch()
        client = self._admin()
        client.delete(*(f"{FILLER}{number}" for number in range(FILLER_KEYS)))
        client.close()

    def _lock_out(self) -> None:
        found = self._ask("CONFIG", "GET", "requirepass")
        values = list(found.values()) if isinstance(found, dict) else list(found)[1:]  # type: ignore[call-overload]
        self._password = values[0].decode() if isinstance(values[0], bytes) else str(values[0])
        self._ask("CONFIG", "SET", "requirepass", os.urandom(16).hex())
        self._ask("CLIENT", "KILL", "USER", "default")

    def _let_in(self) -> None:
        self._ask("CONFIG", "SET", "requirepass", self._password)

    def _demote(self) -> None:
        self._ask("REPLICAOF", "127.0.0.1", 1)

    def _promote(self) -> None:
        self._ask("REPLICAOF", "NO", "ONE")

    def _fill(self) -> None:
        self._ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self._ask("CONFIG", "SET", "maxmemory", 1024 * 1024)
        # Used memory starts near 1 MB with either server; make sure that it is above.
        client = self._admin()
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", max(1, min(1024 * 1024, used - 1)))
        client.close()

    def _empty(self) -> None:
        self._ask("CONFIG", "SET", "maxmemory", MEMORY_LIMIT)
