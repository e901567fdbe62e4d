"""Acquire: every source of what is known about credentials, all asked at the same time.

A row of `SOURCES` per source, a module per kind. Each is optional: its `Source` row says that it
was seen, is not configured, or failed and why; one that fails or hangs harms no other.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Callable, Dict, Mapping, Optional

from monitoring.credentials.facts import CACHE, EAPI, ROTATIONS, SAPI, VAULT
from monitoring.credentials.source_cache import ask_cache
from monitoring.credentials.source_kit import Answer, Asked, dark
from monitoring.credentials.source_metrics import ask_eapi, ask_sapi
from monitoring.credentials.source_rotations import ask_rotations
from monitoring.credentials.source_vault import ask_vault
from monitoring.model import Fault

Question = Callable[[Asked], Answer]

SOURCES: Mapping[str, Question] = {
    VAULT: ask_vault,
    CACHE: ask_cache,
    ROTATIONS: ask_rotations,
    EAPI: ask_eapi,
    SAPI: ask_sapi,
}

_log = logging.getLogger("monitoring.credentials.sources")


class Sources:
    """Asks in threads. One that still hangs from the cycle before is not asked again, so that
    threads do not pile up in a resident loop."""

    def __init__(self, asked: Asked, sources: Mapping[str, Question] = SOURCES) -> None:
        self._asked, self._sources = asked, sources
        self._threads = ThreadPoolExecutor(len(sources), thread_name_prefix="source")
        self._hanging: Dict[str, Future[Answer]] = {}

    def ask(self) -> Dict[str, Answer]:
        """One Answer per source, none later than `run.looking`. Never raises for one."""
        until = time.monotonic() + self._asked.settings.run.looking
        started = {name: self._start(name) for name in self._sources}
        return {name: self._answer(name, future, until) for name, future in started.items()}

    def _start(self, name: str) -> Optional[Future[Answer]]:
        before = self._hanging.pop(name, None)
        if before is not None and not before.done():
            self._hanging[name] = before
            return None
        return self._threads.submit(self._sources[name], self._asked)

    def _answer(self, name: str, future: Optional[Future[Answer]], until: float) -> Answer:
        if future is None:
            said = "the question of the cycle before still hangs, so it was not asked again"
            return dark(name, Fault("timeout", said))
        wait([future], timeout=max(0.0, until - time.monotonic()))
        if not future.done():
            self._hanging[name] = future
            said = f"no answer within {self._asked.settings.run.looking:g} s, given up"
            return dark(name, Fault("timeout", said), truncated=True)
        error = future.exception()
        if error is None:
            return future.result()
        # A bug of ours must not cost the other sources their turn.
        _log.error("asking %s broke: %s", name, type(error).__name__, exc_info=error)
        said = "the monitor's own question broke; see the log"
        return dark(name, Fault("internal", said))
