"""Acquire: host names to addresses, within a deadline: getaddrinfo has no timeout of its own."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from typing import Any, List, Tuple

#: family, type, protocol, canonical name, address: a row of socket.getaddrinfo.
Address = Tuple[Any, Any, int, str, Any]


class LookupFailed(Exception):  # noqa: N818 - read as a sentence
    """The text says why, e.g. "cannot be resolved: Name or service not known"."""


class Resolver:
    """Looks names up in threads that can be given up on. A name whose lookup still hangs is not
    asked for again: everybody who wants it waits for the same thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Tuple[str, int], List[queue.Queue[Any]]] = {}

    def lookup(self, host: str, port: int, seconds: float) -> List[Address]:
        """Addresses of `host`, at least one. Raises LookupFailed after `seconds`."""
        if _needs_no_server(host):
            try:
                return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
            except OSError as error:
                raise LookupFailed(f"cannot be resolved: {error.strerror}") from None
        try:
            answer = self._ask(host, port).get(timeout=seconds)
        except queue.Empty:
            raise LookupFailed("was not resolved in time") from None
        if isinstance(answer, Exception):
            reason = getattr(answer, "strerror", None) or "not a valid name"
            raise LookupFailed(f"cannot be resolved: {reason}")
        found: List[Address] = answer
        return found

    def _ask(self, host: str, port: int) -> queue.Queue[Any]:
        box: queue.Queue[Any] = queue.Queue()
        with self._lock:
            waiting = self._asked.setdefault((host, port), [])
            waiting.append(box)
            first = len(waiting) == 1
        if first:
            threading.Thread(target=self._run, args=(host, port), name="dns", daemon=True).start()
        return box

    def _run(self, host: str, port: int) -> None:
        answer: Any
        try:
            answer = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answer = error
        with self._lock:
            waiting = self._asked.pop((host, port))
        for box in waiting:
            box.put(answer)


RESOLVER = Resolver()


def _needs_no_server(host: str) -> bool:
    """An address, or localhost: a file at most. A thread would cost more than the lookup."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return False
    return True
