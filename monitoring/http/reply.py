"""Values: what an HTTP exchange ended in, which URLs may be asked, and what an exception hides."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Optional
from urllib.parse import SplitResult, urljoin, urlsplit

from monitoring.http.tls import TlsFacts
from monitoring.model import Fault
from monitoring.text import UnboundedNumberError, printable, redact, strict_json

# -- every exception inside an exception, however a library has nested them.


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, then all that it wraps: causes, contexts, `reason` and exceptions among its
    arguments (requests around urllib3 around http.client around a socket)."""
    waiting: list[BaseException] = [error]
    seen = set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None))
        waiting += [e for e in (*inner, *current.args) if isinstance(e, BaseException)]


# -- which URLs may be asked, what may be said of them, and which redirect is followed.

DEFAULT_PORTS = {"http": 80, "https": 443}


def parse(url: str) -> SplitResult:
    """`url` taken apart. Raises ValueError, one sentence without the URL, if it cannot be used."""
    if any(c <= " " or c == "\x7f" for c in url):
        raise ValueError("the URL holds a space or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the URL is malformed") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("the URL does not begin with http:// or https://")
    if not parts.hostname or port == 0:
        raise ValueError("the URL names no host")
    return parts


def port_of(parts: SplitResult) -> int:
    """The port, also when the URL leaves it to the scheme."""
    return parts.port or DEFAULT_PORTS[parts.scheme]


def origin(parts: SplitResult) -> str:
    """scheme://host[:port]: all of a URL that is never secret."""
    host = printable(parts.hostname or "", 120)
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def may_follow(method: str, status: int) -> bool:
    """True if repeating the request elsewhere keeps its meaning: a POST that becomes a GET (301,
    302, 303) would report a login page as an answer."""
    return method == "GET" or status in (307, 308)


def next_url(url: str, location: str) -> Optional[str]:
    """Where `location`, seen at `url`, leads within the same origin; None: to another one.

    The same host on another port is another service, and would be sent our secrets. http to https
    on the default ports is the one step up allowed. Raises ValueError as `parse` does."""
    here, there = parse(url), parse(urljoin(url, location))
    if here.hostname != there.hostname:
        return None
    upgrade = (port_of(here), port_of(there)) == (80, 443)
    same = (here.scheme, port_of(here)) == (there.scheme, port_of(there))
    return there._replace(fragment="").geturl() if same or upgrade else None


def follow(method: str, url: str, location: str, reply: Reply) -> str:
    """The URL to follow; raises HttpFault of kind redirect."""
    if not may_follow(method, reply.status):
        text = f"{reply.url} answers {method} with a redirect ({reply.status}), not followed"
        raise fault("redirect", text, reply)
    try:
        target = next_url(url, location)
    except ValueError:
        raise fault("redirect", f"{reply.url} redirects to an unusable address", reply) from None
    if target is None:
        raise fault("redirect", f"{reply.url} redirects to another host, not followed", reply)
    return target


# -- what an HTTP exchange ended in: an answer, or why there is none; the rules of a body.

PHASES = ("dns", "connect", "tls", "first_byte", "transfer")
CHUNK = 65536
MOST_VALUES = 1_000_000  # in one JSON document


@dataclass(frozen=True)
class Reply:
    """An HTTP answer of any status. `headers` by lower-case name. `seconds` is the response time:
    the sum of `phases` (PHASES, seconds; those of redirects included). `url` is scheme, host and
    port alone: paths and queries may hold secrets. `server_date`: its Date header, epoch."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    phases: Mapping[str, float]
    url: str
    tls: Optional[TlsFacts] = None
    server_date: Optional[float] = None
    redirects: int = field(default=0, compare=False)

    def json(self, most: int = MOST_VALUES) -> Any:
        """The body as `redact.strict_json` reads it. Raises HttpFault: body (not JSON, NaN, a
        number beyond all bounds, too deep), or too_large for more than `most` values: small ones
        cost twenty times their bytes."""
        if sum(map(self.body.count, (b",", b"[", b"{"))) > most:
            text = f"{self.url} answered JSON of too many values"
            raise HttpFault(Fault("too_large", text), self)
        try:
            return strict_json(self.body)
        except RecursionError:
            text = f"{self.url} answered JSON nested too deeply to be read"
        except UnboundedNumberError:
            text = f"{self.url} answered JSON with a number beyond all bounds"
        except ValueError:
            kind = self.headers.get("content-type", "no content type")
            said = f"a body that is not JSON ({printable(kind, 60)})"
            text = f"{self.url} answered {self.status} with {said}"
        raise HttpFault(Fault("body", text), self) from None


class HttpFault(Exception):  # noqa: N818 - the word of the contract: it carries a Fault
    """No usable answer. `fault.kind`: dns, refused, connect, timeout, tls, redirect, body,
    protocol, too_large or config. `reply` holds status and headers when they had come."""

    def __init__(self, fault: Fault, reply: Optional[Reply] = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.reply = reply


def fault(kind: str, message: str, reply: Optional[Reply] = None) -> HttpFault:
    """An HttpFault in one call."""
    return HttpFault(Fault(kind, message), reply)


def date_of(headers: Mapping[str, str]) -> Optional[float]:
    """Epoch seconds of the Date header; None: absent or unreadable."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


def describe(reply: Reply) -> str:
    """Status, size and phases, for `--debug`: `200, 52 bytes in 2.1 ms (dns 0.0, ...)`."""
    phases = ", ".join(f"{name} {s * 1000:.1f}" for name, s in reply.phases.items())
    secured = f", {reply.tls.protocol}" if reply.tls is not None else ""
    took = f"{reply.seconds * 1000:.1f} ms ({phases}{secured})"
    return f"{reply.status}, {len(reply.body)} bytes in {took}"


class BodyError(Exception):
    """The body breaks a rule; `kind` is body or too_large, the text ends "answered ..."."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def say_size(count: int) -> str:
    """`8 MiB`, `512 KiB`, `100 bytes`: the largest unit that leaves a whole number."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} bytes"


def read_body(read: Callable[[int], bytes], headers: Mapping[str, str], limit: int) -> bytes:
    """The whole body, unpacked, at most `limit` bytes before and after unpacking.

    `read(n)` gives up to n bytes, b"" at the end. Raises BodyError."""
    # masked before it is written small, in which a secret is known to no mask
    named = redact(headers.get("content-encoding", "identity"))
    unpack, ended = _unpacker(named.strip().lower(), limit)
    got, parts = 0, []
    while True:
        chunk = read(CHUNK)
        if not chunk:
            break
        got += len(chunk)
        if got > limit:
            raise BodyError("too_large", f"more than {say_size(limit)}")
        parts.append(unpack(chunk))
    _check_length(headers, got)
    if got and not ended():
        raise BodyError("body", "a packed body that broke off, or goes on after its end")
    return b"".join(parts)


def _check_length(headers: Mapping[str, str], got: int) -> None:
    promised = headers.get("content-length", "")
    if promised.isdecimal() and "transfer-encoding" not in headers and got < int(promised[:18]):
        raise BodyError("body", f"{got} of {promised[:18]} bytes, then broke off")


def _unpacker(encoding: str, limit: int) -> tuple[Callable[[bytes], bytes], Callable[[], bool]]:
    """What unpacks a chunk, and whether the packed whole has ended. We ask for no encoding; some
    servers send gzip all the same."""
    if encoding in ("", "identity"):
        return lambda chunk: chunk, lambda: True
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BodyError(
            "body", f"a body packed as {printable(encoding, 60)}, which was not asked for"
        )
    unzip = zlib.decompressobj(32 + zlib.MAX_WBITS)  # 32: gzip and zlib headers told apart
    total = 0

    def unpack(chunk: bytes) -> bytes:
        nonlocal total
        try:
            plain = unzip.decompress(chunk, limit - total + 1)
        except zlib.error:
            raise BodyError("body", "a body whose compression is broken") from None
        total += len(plain)
        if total > limit:
            raise BodyError("too_large", f"a body that unpacks to more than {say_size(limit)}")
        return plain

    return unpack, lambda: unzip.eof and not unzip.unused_data.strip(b"\0")
