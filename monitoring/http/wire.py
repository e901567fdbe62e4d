"""Acquire: sockets that keep a deadline, and names resolved within one.

A socket's own timeout starts again with every byte, so a server that drips keeps a caller for
ever (docs/protocols.md). Here each operation gets what is left of one deadline.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from typing import Any, Optional

from monitoring.http import tls
from monitoring.http.reply import say_size
from monitoring.model import Fault
from monitoring.text import printable

# -- host names to addresses, within a deadline: getaddrinfo has no timeout of its own.

#: family, type, protocol, canonical name, address: a row of socket.getaddrinfo.
Address = tuple[Any, Any, int, str, Any]


class LookupFailed(Exception):  # noqa: N818 - read as a sentence
    """The text says why, e.g. "cannot be resolved: Name or service not known"."""


class Resolver:
    """Looks names up in threads that can be given up on. A name whose lookup still hangs is not
    asked for again: everybody who wants it waits for the same thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], list[queue.Queue[Any]]] = {}

    def lookup(self, host: str, port: int, seconds: float) -> list[Address]:
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
        found: list[Address] = answer
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


#: Of an answer whose bytes are bounded: those that are not looked at, and the lines after them.
_UNCOUNTED, _MOST_LINES = 1 << 20, 400_000


class WireFault(Exception):  # noqa: N818 - it carries a Fault
    """No usable connection; `fault` says why (dns, refused, timeout, connect, tls)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(kind, message)


class Deadline:
    """`seconds` from now. `left()` raises socket.timeout once they are over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, above zero."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return left

    def renew(self) -> None:
        """Start again: the exchange before this one is over."""
        self.at = time.monotonic() + self.seconds


class TimedSocket:
    """A connected socket held to `deadline`, and a stopwatch of what passed through it.

    `renewing`: every send starts the deadline anew (one request after the other on a kept
    connection). `sent_at`, `first_at`, `last_at` are time.perf_counter() of the first byte sent,
    the first and the newest byte received since the last `restart()`; None: none yet.
    They are taken right beside the system call: what our own interpreter does before and after
    (headers, JSON, waiting for its lock) is not the server's response time.
    `most`: bytes that may come in answer to one send, all of which a parser above may keep in
    memory; more raise WireFault (too_large), and so do lines by the hundred thousand, which a
    parser would make objects of. None: whoever reads counts for himself. `heard`: whether
    anything was ever received.
    """

    def __init__(
        self,
        sock: Any,
        deadline: Deadline,
        *,
        renewing: bool = False,
        most: Optional[int] = None,
    ) -> None:
        self._sock = sock
        self._deadline = deadline
        self._renewing = renewing
        self.most = most
        self._count = self._lines = 0
        self._parsed = True
        self._limit: Optional[float] = None
        self._references = 0
        self._closing = False
        self._held = b""
        self.heard = False
        self.restart()

    def restart(self) -> None:
        """Forget the times and what was counted: another exchange begins."""
        self._count = self._lines = 0
        self.sent_at: Optional[float] = None
        self.first_at: Optional[float] = None
        self.last_at: Optional[float] = None

    def allow(self, most: int) -> None:
        """From now on so many bytes may come, in lines as short as they like: no parser keeps
        them."""
        self._count, self.most, self._parsed = 0, most, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: Optional[float]) -> None:
        """A further bound on single operations; 0 means "do not wait at all"."""
        self._limit = seconds

    def gettimeout(self) -> Optional[float]:
        """The bound last set."""
        return self._limit

    def _arm(self) -> None:
        if self._limit == 0:
            self._sock.settimeout(0)
            return
        left = self._deadline.left()
        self._sock.settimeout(left if self._limit is None else min(left, self._limit))

    def sendall(self, data: Any, *flags: int) -> None:
        """Send everything within the deadline."""
        if self._renewing:
            self._deadline.renew()
            self._count = self._lines = 0
        self._arm()
        if self.sent_at is None:
            self.sent_at = time.perf_counter()
        self._sock.sendall(data, *flags)

    def _received(self, data: Any) -> None:
        size = len(data)
        self.heard = self.heard or size > 0
        self.last_at = time.perf_counter()
        if self.first_at is None:
            self.first_at = self.last_at
        self._count += size
        if self.most is None:
            return
        if self._parsed and self._count > _UNCOUNTED:
            self._lines += bytes(data).count(b"\n")
        if self._count > self.most or self._lines > _MOST_LINES:
            self._sock.close()  # the rest may be gigabytes
            raise WireFault("too_large", f"more than {say_size(min(self._count, self.most))}")

    def recv(self, size: int, *flags: int) -> bytes:
        """As socket.recv, within the deadline."""
        if self._held:
            held = self._held
            self._held = held if flags else held[size:]  # the one flag ever used is MSG_PEEK
            return held[:size]
        self._arm()
        data: bytes = self._sock.recv(size, *flags)
        self._received(data)
        return data

    def recv_into(self, buffer: Any, *size: int) -> int:
        """As socket.recv_into, within the deadline."""
        if self._held:
            data = self.recv(size[0] if size and size[0] else len(buffer))
            buffer[: len(data)] = data
            return len(data)
        self._arm()
        count: int = self._sock.recv_into(buffer, *size)
        self._received(memoryview(buffer)[:count])
        return count

    def pending(self) -> int:
        """Bytes that can be had without the kernel."""
        return len(self._held) + int(getattr(self._sock, "pending", int)())

    def settle(self, seconds: float) -> bool:
        """Read what arrives within `seconds` (0: what is there) and hold it for the next `recv`.
        True if there is something, the end included. For TLS, where the kernel having bytes does
        not mean that there are data."""
        if self._held:
            return True
        self._sock.settimeout(seconds)
        try:
            self._held = self._sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, socket.timeout):
            return False
        except OSError:
            return True
        self._received(self._held)
        return True

    def makefile(self, mode: str = "rb", *_: Any, **__: Any) -> io.BufferedReader:
        """A buffered reader that goes through this object, so that the deadline holds for it."""
        if mode != "rb":
            raise ValueError("only for reading")
        self._references += 1
        return io.BufferedReader(_Reader(self))

    def let_go(self) -> None:
        """A reader was closed; the socket follows when it was to be closed already."""
        self._references -= 1
        if self._closing and self._references <= 0:
            self._end()

    def close(self) -> None:
        """Close now, or with the last open reader (http.client closes the socket first)."""
        self._closing = True
        if self._references <= 0:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(OSError):  # all was said; libraries close in their finalizers
            self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, source: TimedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.let_go()


def shown(text: str) -> str:
    """A host name fit for a message: printable, at most 120 characters."""
    return printable(text, 120)


def place(host: str, port: int) -> str:
    """`host:port`, or `[host]:port` for IPv6, as messages name it."""
    return f"[{shown(host)}]:{port}" if ":" in host else f"{shown(host)}:{port}"


class Opened:
    """A connected socket and how long its `dns` and `connect` phases took, in seconds."""

    def __init__(self, sock: socket.socket, dns: float, connect: float) -> None:
        self.sock = sock
        self.dns = dns
        self.connect = connect


def open_socket(host: str, port: int, deadline: Deadline) -> Opened:
    """Connect to `host` within the deadline; several addresses share what is left of it.

    Raises WireFault: dns, refused, timeout or connect."""
    began = time.perf_counter()
    addresses = _lookup(host, port, deadline)
    resolved = time.perf_counter()
    fault = WireFault("dns", f"the name {shown(host)} has no address")
    for number, address in enumerate(addresses):
        try:
            share = deadline.left() / (len(addresses) - number)
            sock = _connect(address, share)
            return Opened(sock, resolved - began, time.perf_counter() - resolved)
        except OSError as error:
            fault = connect_fault(error, place(host, port), deadline)
    raise fault


def _lookup(host: str, port: int, deadline: Deadline) -> list[Address]:
    try:
        return RESOLVER.lookup(host, port, deadline.left())
    except socket.timeout:
        why = "was not resolved in time"
    except LookupFailed as error:
        why = str(error)
    raise WireFault("dns", f"the name {shown(host)} {why}")


def _connect(address: Address, seconds: float) -> socket.socket:
    sock = socket.socket(address[0], address[1], address[2])
    try:
        sock.settimeout(seconds)
        sock.connect(address[4])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def connect_fault(error: OSError, where: str, deadline: Deadline) -> WireFault:
    """Why a TCP connection to `where` was not made."""
    if isinstance(error, socket.timeout):
        return WireFault("timeout", f"no connection to {where} within {deadline.seconds:g} s")
    if isinstance(error, ConnectionRefusedError):
        return WireFault("refused", f"{where} refused the connection: nothing listens there")
    return WireFault("connect", f"no connection to {where}: {error.strerror or 'failed'}")


def secure(
    sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline
) -> ssl.SSLSocket:
    """TLS over `sock`, its handshake within the deadline. Raises WireFault (tls, timeout)."""
    where = shown(host)
    try:
        sock.settimeout(deadline.left())  # the handshake takes this as its whole time, not per byte
        return context.wrap_socket(sock, server_hostname=host)
    except socket.timeout:
        sock.close()
        text = (
            f"{where} did not finish the TLS handshake within {deadline.seconds:g} s "
            "(does this port speak TLS?)"
        )
        raise WireFault("timeout", text) from None
    except (OSError, ValueError) as error:
        sock.close()
        raise WireFault("tls", f"TLS with {where} failed: {tls.reason(error)}") from None
