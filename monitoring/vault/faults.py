"""Decision: why the vault did not serve us, by the status of its answer (FACTS.md section 1)."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Tuple

from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault
from monitoring.redact import printable, redact

_STATUS: Mapping[int, Tuple[str, str]] = {
    401: ("auth", "refused our token"),
    403: ("noperm", "does not let our identity do this"),
    404: ("http", "knows no such account or resource"),
    405: ("readonly", "is a read-only follower"),
    422: ("config", "refused the request as invalid"),
    429: ("busy", "says that we ask too often"),
    502: ("http", "is unhealthy by its own word, or the proxy before it is"),
    503: ("busy", "has no room for the request"),
}
_DATABASE = "answers, but its database does not, so no login and no secret can be had from it"
#: Conjur quotes it in its own log, so whoever looks there finds the line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,80}\Z")
_ELSEWHERE = "is CONJUR_URL the vault's own address?"
#: The same for pages that every vault shows to everybody: another answer comes from another server.
_PUBLIC: Mapping[int, Tuple[str, str]] = {
    **dict.fromkeys((401, 403), ("http", f"wants a login where a vault wants none: {_ELSEWHERE}")),
    404: ("http", f"has none of the pages that tell a vault's health: {_ELSEWHERE}"),
    429: _STATUS[429],
    502: _STATUS[502],
    503: ("http", "is unavailable, or the proxy before it has no vault to ask"),
}


class ConjurFault(Exception):  # noqa: N818 - it carries a Fault
    """The vault could not be asked; `reply` is its refusal, when there was one."""

    def __init__(self, fault: Fault, reply: Optional[Reply] = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.reply = reply


def refused(reply: Reply, *, public: bool = False, aside: bool = False) -> ConjurFault:
    """The ConjurFault for an answer of the wrong status; `public`: to a page for everybody;
    `aside`: to a side question, which says nothing of the whole vault."""
    kind, said = (_PUBLIC if public else _STATUS).get(reply.status, _other(reply.status))
    if database_down(reply) and not aside:
        kind, said = "http", _DATABASE
    text = f"the vault at {reply.url} {said} ({status_of(reply)})"
    return ConjurFault(Fault(kind, text), reply)


def status_of(reply: Reply) -> str:
    """`HTTP 401, X-Request-Id 83098af1-...`; the id only where it is a plain one."""
    request = reply.headers.get("x-request-id", "")
    quoted = f", X-Request-Id {request}" if _REQUEST_ID.match(request) else ""
    return f"HTTP {reply.status}{quoted}"


def database_down(reply: Reply) -> bool:
    """Conjur that lost its database answers 500 with nothing in it (FACTS.md section 1, what a
    real server showed, point 8)."""
    return reply.status == 500 and not reply.body


def reason_of(reply: Reply) -> str:
    """The reason that the answer itself gives, such as `CONJ00016E Token expired`; "": none."""
    try:
        body = reply.json()
    except HttpFault:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    text = redact(said)[:200] if isinstance(said, str) else ""
    return printable(text)


def _other(status: int) -> Tuple[str, str]:
    if status >= 500:
        return "http", "fails"
    if 300 <= status < 400:
        return "redirect", f"answers with a redirect: {_ELSEWHERE}"
    return "http", f"answers as no vault does: {_ELSEWHERE}"


def read_json(reply: Reply) -> object:
    """The body as JSON; raises ConjurFault of kind body."""
    try:
        return reply.json()
    except HttpFault as error:
        raise ConjurFault(error.fault, reply) from None


def read_object(reply: Reply) -> Mapping[str, Any]:
    """The body as a JSON object; raises ConjurFault of kind body."""
    body = read_json(reply)
    if not isinstance(body, dict):
        raise ConjurFault(Fault("body", f"{reply.url} answered JSON that is no object"), reply)
    return body
