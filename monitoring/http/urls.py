"""Decision: which URLs may be asked, what may be said of them, and which redirect is followed."""

from __future__ import annotations

from typing import Optional
from urllib.parse import SplitResult, urljoin, urlsplit

from monitoring.http.reply import Reply, fault
from monitoring.redact import printable

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
