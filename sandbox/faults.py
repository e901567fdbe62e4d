"""Faults: everything that can go wrong on request, one table row each, switchable while it runs."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Callable, Optional

Listener = Callable[[str, Optional[str]], None]
SERVICES = ("eapi", "sapi", "conjur", "rotation")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


@dataclass(frozen=True)
class Fault:
    """One row: its name, what it does, and the value taken when none is given."""

    name: str
    meaning: str
    default: str = ""


WEB_KINDS = (
    Fault("500", "every answer is a 500"),
    Fault("down", "connections are refused"),
    Fault("degraded", "health says degraded, part of it is down"),
    Fault("status", "health answers 200 with this word as its status", "OUT_OF_SERVICE"),
    Fault("slow", "every answer comes late by this much", "800ms"),
    Fault("hang", "connections are accepted, nothing is answered"),
    Fault("drip", "the head comes at once, the body one byte per this time", "1s"),
    Fault("drip-headers", "even the head comes one byte per this time", "1s"),
    Fault("huge", "the body never ends"),
    Fault("redirect-loop", "every answer redirects to itself"),
    Fault("garbage", "200 with bytes that are no JSON"),
    Fault("login-page", "every answer is a login page with 200, as a gateway shows it"),
    Fault("deep", "200 with JSON nested 200,000 deep"),
    Fault("truncated", "the connection closes in the middle of the body"),
)
OTHER = (
    *(
        Fault(f"{service}-{name}", f"{service}: {meaning}", default)
        for service in ("eapi", "sapi")
        for name, meaning, default in (
            ("part-down", "health says UP, and this part inside it DOWN", "database"),
            (
                "breaker-open",
                "health says UP, and the circuit breaker before this is open",
                "vault",
            ),
        )
    ),
    Fault("conjur-502", "health and API answer 502, as an unhealthy appliance does"),
    Fault("conjur-unauthorized", "no API key and no token is good any more (401)"),
    Fault("conjur-forbidden", "every metadata read is refused (403)"),
    Fault("conjur-database-down", "its PostgreSQL is gone: 500 where it needs it, with no body"),
    Fault(
        "conjur-database-readonly", "its PostgreSQL takes no writes: logins work, stores end in 500"
    ),
    Fault(
        "conjur-wrong-data-key", "started with another data key: every login and token is refused"
    ),
    Fault("conjur-sees-nothing", "our identity lost its rights: lists are empty, counts 0"),
    Fault("conjur-roles", "who may read is answered with this status", "403"),
    Fault("conjur-follower-stale", "a follower that says ok and no longer replicates"),
    Fault("conjur-overprivileged", "the monitor's host may execute: it could read secrets"),
    Fault("redis-hang", "Redis accepts and stays silent"),
    Fault("redis-refused", "Redis refuses connections"),
    Fault("redis-loading", "Redis is loading its data set"),
    Fault("redis-noauth", "Redis wants a password the monitor does not have"),
    Fault("redis-readonly", "Redis is a replica whose primary is gone"),
    Fault("redis-maxmemory", "Redis is full and evicts nothing: writes fail"),
    Fault("auth-broken", "EAPI refuses right secrets"),
    Fault("auth-accepts-wrong-secret", "EAPI accepts any secret"),
    Fault("auth-accepts-tampered", "SAPI does not check signatures"),
    Fault("auth-accepts-alg-none", "SAPI accepts unsigned tokens"),
    Fault("auth-accepts-expired", "SAPI accepts expired tokens"),
    Fault("tls-expired", "the certificate ran out yesterday (needs --tls)"),
    Fault("tls-self-signed", "the certificate is signed by nobody known (needs --tls)"),
    Fault("tls-wrong-host", "the certificate is for another host (needs --tls)"),
    Fault("rotation-stuck", "a rotation stays in dual_active past its transition period"),
    Fault("rotation-failed", "a rotation ends in failed, with a reason"),
    Fault(
        "rotation-half-done", "a rotation stops in old_deprecated, its client keeps its old secret"
    ),
    Fault("cache-no-ttl", "tokens are cached without a TTL"),
    Fault("failures-burst", "this client fails five logins a second", "client-001"),
    Fault(
        "forged-token",
        "somebody with the signing key calls SAPI as this client, with a token nobody minted",
        "client-001",
    ),
    Fault("expiry-cliff", "all new tokens expire at one moment, this far from now", "10m"),
    Fault("slack-429", "Slack answers 429 with this Retry-After", "2"),
    Fault("slack-500", "Slack answers 500"),
    Fault("pagerduty-429", "PagerDuty answers 429"),
    Fault("pagerduty-500", "PagerDuty answers 500"),
    Fault("alertmanager-500", "Alertmanager answers 500"),
    Fault("webhook-500", "the generic webhook answers 500"),
    Fault("smtp-refuse", "the mail server refuses every recipient"),
)
FAULTS: dict[str, Fault] = {
    **{
        f"{service}-{kind.name}": Fault(
            f"{service}-{kind.name}", f"{service}: {kind.meaning}", kind.default
        )
        for service in SERVICES
        for kind in WEB_KINDS
    },
    **{fault.name: fault for fault in OTHER},
}


def seconds(text: str) -> float:
    """`800ms`, `2s`, `10m`, `1h` or bare seconds; raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 800ms, 2s, 10m or 1h")
    return float(match.group(1)) * UNITS[match.group(2)]


def parse(text: str) -> tuple[str, Optional[str]]:
    """`NAME[=VALUE]` as (name, value or None); raises ValueError on an unknown name."""
    name, _, value = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"{name!r} is no fault; see --list-faults")
    return name, value or None


class FaultBoard:
    """Which faults are on. Thread-safe; listeners hear of changes before set() returns."""

    def __init__(self) -> None:
        self._on: dict[str, str] = {}
        self._listeners: list[tuple[str, Listener]] = []
        self._lock = threading.RLock()

    def listen(self, prefix: str, listener: Listener) -> None:
        """Call `listener(name, value)` when a fault of this prefix changes; value None is off."""
        self._listeners.append((prefix, listener))

    def _announce(self, name: str, value: Optional[str]) -> None:
        for prefix, listener in self._listeners:
            if name.startswith(prefix):
                listener(name, value)

    def set(self, name: str, value: Optional[str] = None) -> None:
        """Switch a fault on. ValueError: no such fault, no such value, or it cannot be had here."""
        if name not in FAULTS:
            raise ValueError(f"{name!r} is no fault; see --list-faults")
        chosen = value or FAULTS[name].default
        if FAULTS[name].default.endswith(("s", "m")):
            seconds(chosen)
        with self._lock:
            self.clear(name)
            self._announce(name, chosen)
            self._on[name] = chosen

    def clear(self, name: Optional[str] = None) -> None:
        """Switch one fault off, or all of them; one that is not on stays off."""
        with self._lock:
            for each in [name] if name else list(self._on):
                if self._on.pop(each, None) is not None:
                    self._announce(each, None)

    def on(self, name: str) -> bool:
        """Whether the fault is on."""
        return name in self._on

    def any_on(self, *names: str) -> bool:
        """Whether one of the faults is on."""
        return any(name in self._on for name in names)

    def value(self, name: str) -> str:
        """The value a fault was switched on with (its default while it is off)."""
        return self._on.get(name, FAULTS[name].default)

    def seconds(self, name: str) -> float:
        """The value of a fault that is a duration."""
        return seconds(self.value(name))

    def active(self) -> dict[str, str]:
        """Name and value of every fault that is on."""
        return dict(self._on)

    def broken(self, service: str) -> bool:
        """Whether `service` cannot be used at all, as its neighbours see it."""
        kinds = ("down", "500", "hang", "garbage", "502", "unauthorized")
        kinds += ("database-down", "wrong-data-key")
        return self.any_on(*(f"{service}-{kind}" for kind in kinds))
