"""Acquire: several peers are asked at once, in threads; none of them costs another its turn."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Callable, Generic, Optional, TypeVar, Union

from monitoring.model import Fault

T = TypeVar("T")

_log = logging.getLogger("monitoring.peers")


class PeerThreads(Generic[T]):
    """Threads to ask `most` peers at once. A peer whose last answer is still due is not asked
    again, so that threads do not pile up in a resident loop."""

    def __init__(self, most: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._hanging: dict[str, Future[T]] = {}

    def begin(self, peer: str, ask: Callable[[], T]) -> Optional[Future[T]]:
        """Ask it; None while the question of the cycle before still hangs."""
        before = self._hanging.get(peer)
        if before is not None and not before.done():
            return None
        return self._threads.submit(ask)

    def end(
        self, peer: str, asked: Optional[Future[T]], started: float, seconds: float
    ) -> Union[T, Fault]:
        """What came within `seconds` of `started` (time.monotonic), or why nothing did: a Fault
        (timeout, or internal where `ask` raised). `asked` is what `begin` gave."""
        if asked is None:
            sentence = "the question of the cycle before still hangs, so it was not asked again"
            return Fault("timeout", sentence)
        wait([asked], timeout=max(0.0, started + seconds - time.monotonic()))
        if not asked.done():
            self._hanging[peer] = asked
            return Fault("timeout", f"no answer within {seconds:g} s, given up")
        error = asked.exception()
        if error is None:
            return asked.result()
        # A fault of ours must not cost the other peers their turn.
        _log.error("asking %s broke: %s", peer, type(error).__name__, exc_info=error)
        return Fault("internal", "the monitor itself failed; see the log")
