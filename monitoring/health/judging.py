"""Decision: what every component's judge shares: the shape of a judgement, and what each kind of
fault means for a component."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from monitoring.certainty import Basis, Coverage, severity
from monitoring.components import COMPONENTS
from monitoring.config.settings import CanarySettings, TokenSettings
from monitoring.model import Component, Fault, Finding, Measurement, Reading, Severity
from monitoring.text import identity_of, iso_seconds, printable, safe_id

OK, UNKNOWN = Severity.OK, Severity.UNKNOWN
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL

_LONGEST_NAME = 64
#: Counters older than this say nothing about "since the last cycle".
OLDEST_COUNTERS = 3600.0


@dataclass(frozen=True)
class Call:
    """What one answer means: severity, up (None: cannot tell), the `error` word, a sentence. What
    stands in it after the first semicolon is more of the same, or the cure."""

    severity: Severity
    up: Optional[bool]
    message: str = ""
    error: Optional[str] = None


@dataclass(frozen=True)
class Proof:
    """The last answer to one forgery: `outcome` is refused, accepted or unknown, `at` when."""

    outcome: str
    at: float
    why: str = ""


@dataclass(frozen=True)
class Answered:
    """What an address has answered properly: when last (`at`), whether with a status word
    (`worded`; liveness paths give none), and the names at the top of its body (`keys`)."""

    at: float
    worded: bool = True
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a judge needs besides the reading: the canary's policy, what STATUS_WORDS makes of
    status words, which components have a check of our own (`checked`), and what the cycle before
    left: when it ran (`at`; None: there was none), its counters, the last proofs by name. `worked`:
    what once worked, by its identity, and when it did last (epoch), however long ago."""

    at: Optional[float] = None
    counters: Mapping[str, float] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    worked: Mapping[str, float] = field(default_factory=dict)
    canary: CanarySettings = field(default_factory=CanarySettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    status_words: Mapping[str, str] = field(default_factory=dict)
    checked: tuple[str, ...] = COMPONENTS

    def known(self, endpoint: str, target: Optional[str]) -> Optional[Answered]:
        """What `endpoint` answered properly at this very address (its digest); None: nothing."""
        rows = {tuple(k.split("|")): at for k, at in self.worked.items() if k.count("|") == 3}
        own = {row[2:]: at for row, at in rows.items() if row[:2] == (endpoint, target)}
        if not own:
            return None
        keys = tuple(key for _, names in own for key in names.split(","))
        return Answered(max(own.values()), any(form == "word" for form, _ in own), keys)

    def seconds(self, now: float) -> Optional[float]:
        """Seconds since that cycle; None: none, too long ago, or in the future."""
        if self.at is None or not 0 < now - self.at <= OLDEST_COUNTERS:
            return None
        return now - self.at

    def increase(self, key: str, total: Optional[float], now: float) -> Optional[float]:
        """By how much a counter grew since then. A counter below its old value was reset: what
        it shows has all come since. None: not known now, or not known then."""
        before = self.counters.get(key)
        if total is None or before is None or self.seconds(now) is None:
            return None
        return total - before if total >= before else total


@dataclass(frozen=True)
class ProbeVerdict:
    """Everything one reading says. `counters`, `proofs` and `worked` (identities of what worked)
    are to be remembered for the next cycle; `blind` says what could not be looked at although the
    component itself answered."""

    component: Component
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    worked: tuple[str, ...] = ()
    blind: tuple[Fault, ...] = ()


def keepable(judged: ProbeVerdict) -> ProbeVerdict:
    """`judged` if every number in it is finite and every text can be encoded, else ValueError."""
    figures = [(dict(m.labels), m.value) for m in judged.measurements]
    parts = (asdict(judged.component), figures, dict(judged.counters), list(judged.findings))
    json.dumps(parts, default=str, allow_nan=False, ensure_ascii=False).encode()
    return judged


# What a fault means: (severity, up). Callers who cannot connect have no service; one who is let
# in no further than the door knows only that somebody is home.
FAULT_MEANS: Mapping[str, tuple[Severity, Optional[bool]]] = {
    "dns": (CRITICAL, False),
    "connect": (CRITICAL, False),
    "refused": (CRITICAL, False),
    "timeout": (CRITICAL, False),
    "tls": (CRITICAL, False),
    "protocol": (CRITICAL, False),
    "maxclients": (CRITICAL, False),
    "clusterdown": (CRITICAL, False),
    "http": (UNKNOWN, None),
    "redirect": (UNKNOWN, None),
    "body": (UNKNOWN, None),
    "too_large": (UNKNOWN, None),
    "config": (UNKNOWN, None),
    "internal": (UNKNOWN, None),
    "auth": (UNKNOWN, True),
    "noperm": (UNKNOWN, True),
    "loading": (WARNING, True),
    "busy": (WARNING, True),
    "readonly": (WARNING, True),
    "masterdown": (WARNING, True),
    "oom": (WARNING, True),
}


def good(seen: Coverage, message: str = "", up: Optional[bool] = True) -> Call:
    """The one place where a judge calls something in order: it needs something that was seen."""
    return Call(severity((), Basis((seen,))), up, message)


#: Errors of an answer that is not the one it used to be, where it used to be proper.
CHANGED = ("http", "redirect", "body", "too_large")


def call_of(fault: Fault) -> Call:
    """What `fault` means for the component that was asked."""
    severity, up = FAULT_MEANS.get(fault.kind, (UNKNOWN, None))
    return Call(severity, up, fault.message, fault.kind)


def proper(endpoint: str, target: str, *, worded: bool = True, keys: Iterable[str] = ()) -> str:
    """The identity, for `ProbeVerdict.worked`, of a proper answer; `Context.known` reads it."""
    names = ",".join(key.replace("|", "?").replace(",", "?") for key in keys)
    return f"{endpoint}|{target}|{'word' if worded else 'bare'}|{names}"


def compared(call: Call, known: Optional[Answered], statuses: Iterable[object] = ()) -> Call:
    """`call`, or an outage where nobody can read the answer of what has answered before. That we
    ask too often (429 among `statuses`) never is one."""
    unread = call.severity is UNKNOWN and call.error in CHANGED and 429 not in statuses
    return outage(call, known) if known is not None and unread else call


def outage(call: Call, known: Answered) -> Call:
    """An answer that cannot be read, of an address that gave a proper one before: whoever answers
    there now (a login page, a gateway) stands in for a service that is gone."""
    what = call.message.partition("; ")[0]
    sentence = f"{what}; until {iso_seconds(known.at)} it answered properly, so this is an outage"
    return Call(CRITICAL, False, sentence, call.error)


def component_of(reading: Reading, call: Call, details: Mapping[str, Any]) -> Component:
    """The row for `reading` judged as `call`."""
    milliseconds = None if reading.seconds is None else reading.seconds * 1000.0
    return Component(
        reading.source,
        call.severity,
        call.up,
        milliseconds,
        call.error,
        call.message,
        details,
        reading.configured,
    )


def basics(component: Component) -> Iterator[Measurement]:
    """Status and response time, which every configured component has."""
    labels = {"component": component.name}
    up = None if component.up is None else float(component.up)
    yield Measurement("payment_api_health_status", up, labels)
    yield Measurement("payment_api_response_time_ms", component.response_time_ms, labels)


def clean(name: object) -> str:
    """A name that came from a stranger, fit for a label: printable, at most 64 characters, no two
    alike. Masked here, where it is whole: it may be written in capitals or joined behind."""
    shown = printable(identity_of(str(name)))
    return shown if len(shown) <= _LONGEST_NAME else safe_id(shown, _LONGEST_NAME)


def sentence(text: object) -> str:
    """A sentence of ours with names of strangers in it, each bounded where it was put in: made
    printable, never cut."""
    return printable(str(text))


def number(value: object) -> Optional[float]:
    """`value` as a float when it is a number, else None."""
    return float(value) if isinstance(value, (int, float)) else None


def milliseconds_of(seconds: Mapping[str, Optional[float]]) -> Mapping[str, Optional[float]]:
    """Durations in seconds as milliseconds with one decimal, for `details`."""
    return {k: None if v is None else round(v * 1000.0, 1) for k, v in seconds.items()}


def transport(facts: Mapping[str, Any], name: str, at: float) -> Iterator[Measurement]:
    """Phases, certificate and clock of an HTTP reply, as far as the probe noted them."""
    for phase, seconds in facts.get("phases", {}).items():
        labels = {"component": name, "phase": phase}
        yield Measurement("payment_api_request_phase_seconds", seconds, labels)
    labels = {"component": name}
    expires = (facts.get("tls") or {}).get("expires_at")
    if expires is not None:
        figure = "payment_api_tls_certificate_remaining_seconds"
        yield Measurement(figure, expires - at, labels)
    skew = clock_skew(facts)
    if skew is not None:
        yield Measurement("payment_api_clock_skew_seconds", skew, labels)


def transport_details(facts: Mapping[str, Any], at: float) -> Mapping[str, Any]:
    """The same for people: phases in ms, protocol, days left of each certificate."""
    details: dict[str, Any] = {}
    if facts.get("phases"):
        details["phases_ms"] = milliseconds_of(facts["phases"])
    tls = facts.get("tls")
    if tls:
        details["tls"] = {
            "protocol": tls.get("protocol"),
            "days_left": _days(tls.get("expires_at"), at),
            "chain": [
                {"subject": clean(subject), "days_left": _days(expires, at)}
                for subject, expires in tls.get("chain", ())
            ],
        }
        if tls.get("complete") is False:
            details["tls"]["note"] = "this Python shows the first certificate only"
    skew = clock_skew(facts)
    if skew is not None:
        details["clock_skew_seconds"] = round(skew, 1)
    return details


def clock_skew(facts: Mapping[str, Any]) -> Optional[float]:
    """Seconds by which the server's `Date` header is ahead of us; None without one. The header
    counts whole seconds, cut, so its middle is meant and less than a second is no difference."""
    date, answered = facts.get("server_date"), facts.get("answered_at")
    if date is None or answered is None:
        return None
    skew = float(date) + 0.5 - float(answered)
    return skew if abs(skew) > 1.0 else 0.0


def _days(expires: Optional[float], at: float) -> Optional[float]:
    return None if expires is None else round((expires - at) / 86400.0, 1)
