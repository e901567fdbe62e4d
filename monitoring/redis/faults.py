"""Acquire: which fault an error of the cache is, by its code or class, never by English text.

Texts differ ("Redis is loading", "Valkey is loading") and may quote our arguments, so messages
are our own words plus the server's code. No import of redis: classes are known by name, since
each version of the library has its own set (docs/protocols.md).
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple, Optional

from monitoring.http.reply import causes
from monitoring.http.wire import WireFault
from monitoring.model import Fault

#: Why a cache without a host cannot be read.
NOT_CONFIGURED = Fault("config", "no cache is configured: set REDIS_HOST")


class RedisFault(Exception):  # noqa: N818 - it carries a Fault
    """The cache could not be asked; `fault.kind` as in model.FAULT_KINDS."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


KIND_OF_CODE = {
    **dict.fromkeys(("NOAUTH", "WRONGPASS", "DENIED"), "auth"),
    "NOPERM": "noperm",
    "LOADING": "loading",
    "BUSY": "busy",
    **dict.fromkeys(("READONLY", "MISCONF", "NOREPLICAS"), "readonly"),
    **dict.fromkeys(("MASTERDOWN", "NOQUORUM", "NOGOODSLAVE", "IDONTKNOW"), "masterdown"),
    **dict.fromkeys(("CLUSTERDOWN", "TRYAGAIN"), "clusterdown"),
    "OOM": "oom",
    **dict.fromkeys(("MOVED", "ASK", "CROSSSLOT"), "config"),
}
#: Classes that strip the code from their text, most special first (an AuthenticationError is a
#: ConnectionError); the code is what the server must have sent.
_CODE_OF_CLASS = {
    "AuthenticationError": "NOAUTH or WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "AUTH",
    "AuthorizationError": "AUTH",
    "NoPermissionError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterNotFoundError": "IDONTKNOW",
    "SlaveNotFoundError": "NOGOODSLAVE",
    "SlotNotCoveredError": "CLUSTERDOWN",
}
_SENTENCES = {
    "auth": "{where} refused our user name or password ({code})",
    "noperm": "{where}: our user may not run {command} (NOPERM); grant +{lower}",
    "loading": "{where} is loading its data set and answers nothing yet (LOADING)",
    "busy": "{where} is blocked by a running script ({code})",
    "readonly": "{where} takes no writes ({code})",
    "masterdown": "{where} has no primary in reach ({code})",
    "clusterdown": "{where}: the cluster does not serve all slots ({code})",
    "oom": "{where} is out of memory and refuses {command} (OOM)",
    "config": "{where} is part of a cluster: switch the cluster setting on ({code})",
    "maxclients": "{where} has no room for another client (maxclients)",
    "protocol": "{where} does not accept {command} ({code})",
}
_NO_REDIS = "{where} answers {command} with what is not the protocol of Redis"
#: What redis-py's own parsers raise at a reply of the wrong shape.
NONSENSE = (
    *(ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError),
    RecursionError,  # it calls itself for each push message
)
_NAMED = re.compile(r"to run the '([a-z|-]{1,30})' command")
_MAXCLIENTS = "max number of clients"  # an ERR with no code of its own in any version


def code_of(error: BaseException) -> str:
    """The error code the server sent, e.g. LOADING; "" when it sent none."""
    for kind in type(error).__mro__:
        if kind.__name__ in _CODE_OF_CLASS:
            return _CODE_OF_CLASS[kind.__name__]
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
    plain = isinstance(code, str) and code.isascii() and code.isalpha() and code.isupper()
    return code if plain and len(code) <= 20 else ""


def _server_kind(error: BaseException, code: str) -> Optional[str]:
    names = {kind.__name__ for kind in type(error).__mro__}
    if _MAXCLIENTS in str(error).lower():
        return "maxclients"
    if "AUTH" in code:
        return "auth"
    if code in KIND_OF_CODE:
        return KIND_OF_CODE[code]
    return "protocol" if names & {"ResponseError", "InvalidResponse"} else None


class Question(NamedTuple):
    """What was asked (empty: the server may tell), how long an answer was waited for, and whether
    the server had answered anything before on the connection."""

    command: str = ""
    seconds: float = 0.0
    heard: bool = False


NOTHING = Question()


def classify(error: BaseException, where: str, asked: Question = NOTHING) -> Fault:
    """The Fault of an error that redis-py raised while `where` was asked."""
    command = asked.command
    for cause in causes(error):
        found = getattr(cause, "fault", None)
        if isinstance(found, Fault):
            if found.kind == "too_large":
                asked_for = f" {command}" if command else ""
                return Fault(found.kind, f"{where} answers{asked_for} with {found.message}")
            return found
    code = code_of(error)
    kind = _server_kind(error, code)
    if kind is None:
        return _broken(error, where, asked)
    command = command or _command_in(error)
    if type(error).__name__ == "InvalidResponse":
        return Fault("protocol", _NO_REDIS.format(where=where, command=command))
    words = {"where": where, "code": code or "ERR", "command": command, "lower": command.lower()}
    return Fault(kind, _SENTENCES[kind].format(**words))


def _command_in(error: BaseException) -> str:
    """The command that a NOPERM names; of a pipeline's errors nothing else says which it was."""
    found = _NAMED.search(str(error))
    return found[1].upper() if found else "a command"


def refused(command: str, fault: Fault) -> Fault:
    """`fault`, of a reply in a pipeline, which does not say of which command it was."""
    if fault.kind == "noperm":
        text = _SENTENCES["noperm"].partition(": ")[2]
        return Fault("noperm", text.format(command=command, lower=command.lower()))
    return Fault(fault.kind, f"{command} is refused: {fault.message}")


def _broken(error: BaseException, where: str, asked: Question) -> Fault:
    """A connection that was made and then failed."""
    nested = list(causes(error))
    if any(isinstance(c, WireFault) for c in nested):
        return next(c.fault for c in nested if isinstance(c, WireFault))
    late = isinstance(error, socket.timeout) or type(error).__name__ == "TimeoutError"
    if late or any(isinstance(c, socket.timeout) for c in nested):
        return Fault("timeout", f"no answer from {where} within {asked.seconds:g} s")
    if any(isinstance(c, ssl.SSLError) for c in nested):
        return Fault("tls", f"TLS with {where} broke: {_reason(nested)}")
    if type(error).__name__ == "MaxConnectionsError":
        return Fault("internal", f"our own pool of connections to {where} is used up")
    if any(isinstance(c, ConnectionRefusedError) for c in nested):
        return Fault("refused", f"{where} refused the connection: nothing listens there")
    hint = "in the middle of the exchange" if asked.heard else "(is it a TLS port, or not one?)"
    return Fault("connect", f"{where} closed the connection {hint}")


def _reason(nested: list[BaseException]) -> str:
    found = next(c for c in nested if isinstance(c, ssl.SSLError))
    return (getattr(found, "reason", None) or "handshake refused").replace("_", " ").lower()
