"""Decision: why the vault did not serve us, by the status of its answer (FACTS.md section 1)."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple

from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault

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


def refused(reply: Reply, *, public: bool = False) -> ConjurFault:
    """The ConjurFault for an answer of the wrong status; `public`: to a page for everybody."""
    kind, said = (_PUBLIC if public else _STATUS).get(reply.status, _other(reply.status))
    text = f"the vault at {reply.url} {said} (HTTP {reply.status})"
    return ConjurFault(Fault(kind, text), reply)


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
