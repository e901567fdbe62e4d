"""Decision: why the vault did not serve us, by the status of its answer (FACTS.md section 1)."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault

_STATUS = {
    401: ("auth", "refused our token"),
    403: ("noperm", "does not let our identity do this"),
    404: ("http", "knows no such account or resource"),
    405: ("readonly", "is a read-only follower"),
    422: ("config", "refused the request as invalid"),
    502: ("http", "is unhealthy by its own word, or the proxy before it is"),
    503: ("busy", "has no room for the request"),
}


class ConjurFault(Exception):  # noqa: N818 - it carries a Fault
    """The vault could not be asked; `reply` is its refusal, when there was one."""

    def __init__(self, fault: Fault, reply: Optional[Reply] = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.reply = reply


def refused(reply: Reply) -> ConjurFault:
    """The ConjurFault for an answer of the wrong status."""
    kind, said = _STATUS.get(reply.status, ("http", "answered what no vault answers"))
    text = f"the vault at {reply.url} {said} (HTTP {reply.status})"
    return ConjurFault(Fault(kind, text), reply)


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
