"""Values: the frozen nouns that flow from a probe to a page.

`Reading` (what the world answered, or why it did not) -> `Measurement` -> `Verdict` -> `Alert` ->
`Notice`; a cycle ends in one `Outcome`. Times are epoch seconds (UTC), durations seconds, unless
a name says otherwise. None means "not measured", never zero.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from monitoring.certainty import (
    Basis,
    Doubt,
    Severity as Severity,  # noqa: PLC0414 - exported again
    combined,
    severity,
)

#: The words an `error` may be.
FAULT_KINDS = (
    *("dns", "connect", "refused", "timeout", "tls", "http", "auth", "redirect", "body"),
    *("protocol", "too_large", "loading", "busy", "readonly", "masterdown", "clusterdown"),
    *("oom", "noperm", "maxclients", "config", "internal"),
)


class OperatorError(Exception):
    """Something the operator can mend; the text is one sentence: what, where, and the cure."""


class ExitStatus(enum.IntEnum):
    """What a single run ends with."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


EXIT_OF = {
    Severity.OK: ExitStatus.OK,
    Severity.WARNING: ExitStatus.WARNING,
    Severity.CRITICAL: ExitStatus.CRITICAL,
    Severity.UNKNOWN: ExitStatus.UNKNOWN,
}


@dataclass(frozen=True)
class Fault:
    """Why something could not be measured: `kind` is one of FAULT_KINDS, `message` one sentence
    fit for an operator, free of secrets."""

    kind: str
    message: str


@dataclass(frozen=True)
class Reading:
    """What one component answered: `facts` as the probe names them, or the `fault` that stopped
    it (both may be present: a 503 with a body). `seconds` is the response time of the deciding
    request; None when nothing answered. `configured` False: there was nothing to ask.
    `truncated`: the cycle's time was over first."""

    source: str
    at: float
    seconds: Optional[float] = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    fault: Optional[Fault] = None
    configured: bool = True
    truncated: bool = False


@dataclass(frozen=True)
class Measurement:
    """One figure of a catalogued metric. `value` None: we looked and could not tell; then
    `at_least` may say what is known of it: a limit that this crosses is crossed. `doubts`: why it
    may be other than it reads; it is then never called within its limits."""

    name: str
    value: Optional[float]
    labels: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    at_least: Optional[float] = None


@dataclass(frozen=True)
class Verdict:
    """A measurement held against its limit. `limit` is the threshold crossed (None: none was),
    `why` a named reason such as `above_critical`, `within_limits`, `in_doubt`, `not_measured`."""

    measurement: Measurement
    severity: Severity
    limit: Optional[float]
    why: str
    threshold: str = ""  # category.key of the threshold, e.g. performance.api_response_time


@dataclass(frozen=True)
class Component:
    """One row of `components`: a judged reading. `up` None: cannot tell."""

    name: str
    status: Severity
    up: Optional[bool]
    response_time_ms: Optional[float] = None
    error: Optional[str] = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    configured: bool = True


@dataclass(frozen=True)
class Source:
    """One row of `sources`: what we could and could not look at. `seen` counts what it gave (its
    unit is the source's own: keys, variables, series). `why` says what was wrong or missing.
    `truncated`: a budget or the cycle's time ended the look before its end. `silent`: it gave
    nothing to read (it hangs, say), and that is known to be its own outage, not our blindness."""

    name: str
    ok: bool
    seen: Optional[int] = None
    seconds: Optional[float] = None
    why: str = ""
    error: Optional[str] = None
    configured: bool = True
    truncated: bool = False
    silent: bool = False

    @property
    def read(self) -> bool:
        """Whether anything could be read from it, whoever is to blame."""
        return self.ok and not self.silent


@dataclass(frozen=True)
class Finding:
    """Something wrong that no single threshold says. `reason` is a stable name, `sentence` is what
    the operator reads first, `evidence` the figures it is true of. `component` is where."""

    reason: str
    severity: Severity
    sentence: str
    component: str
    client: str = ""
    category: str = "security"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    meaning: str = ""
    action: str = ""


@dataclass(frozen=True)
class AlertKey:
    """The identity of an alert: never severity, value or time."""

    environment: str
    script: str
    component: str
    metric: str
    client: str = ""

    @property
    def text(self) -> str:
        """Stable text form, at most 255 characters (PagerDuty's dedup_key limit)."""
        parts = (self.environment, self.script, self.component, self.metric, self.client)
        text = "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
        if len(text) <= 255:
            return text
        return text[:190] + "#" + hashlib.sha256(text.encode()).hexdigest()

    def labels(self) -> dict[str, str]:
        """The labels that name the thing in Alertmanager, whoever tells of it: the shipped rules
        of Prometheus give it the same ones. Empty ones are left out."""
        named = {
            "alertname": "PaymentApi" + "".join(w.capitalize() for w in self.metric.split("_")),
            "environment": self.environment,
            "component": self.component,
            "client": self.client,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Alert:
    """A condition of this cycle that somebody may have to know, whatever was told before.

    `severity` OK means "this is fine now" (it lets an earlier alert resolve), UNKNOWN means "could
    not be judged this cycle" (an earlier alert neither resolves nor fires). `parent` names the
    component whose failure explains this one, or several, a space between them. `hold` overrides
    the failure threshold (cycles). `steps` are levels of which each tells once, e.g. (30, 14, 7, 1)
    days to an expiry.
    """

    key: AlertKey
    severity: Severity
    summary: str
    category: str = "availability"  # availability | performance | security
    value: Optional[float] = None
    threshold: Optional[float] = None
    unit: str = ""
    meaning: str = ""
    action: str = ""
    runbook: str = ""  # name of the page in docs/runbooks, without .md
    dashboard: str = ""  # uid of the dashboard
    parent: str = ""
    hold: Optional[int] = None
    step: Optional[int] = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Notice:
    """Something to tell about an alert and why now: `reason` is first, escalated, reminder,
    flapping, resolved, missed, or note (of what neither fires nor ends). `since` is when the alert
    began to hold; `also` the alerts grouped into this notice (of one metric or of one cause);
    `ended` one sentence on what is well again, of what is over; `suffers`: a sentence on each
    thing that people are not notified of because this explains it."""

    alert: Alert
    reason: str
    at: float
    since: float
    also: tuple[Alert, ...] = ()
    ended: str = ""
    suffers: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Nothing is wrong any more."""
        return self.reason in ("resolved", "missed", "note")

    @property
    def lasted(self) -> float:
        """Seconds from the first bad cycle to this notice."""
        return max(0.0, self.at - self.since)


#: Why an alert still fires that is no longer bad.
FLAPPING = "flapping"
RECOVERING = "well in this look; it ends when that holds"


@dataclass(frozen=True)
class AlertRow:
    """One row of the `alerts` array; `state` is firing, resolved, pending, suppressed, silenced."""

    alert: Alert
    state: str
    since: Optional[float] = None
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """Everything one cycle found. Exit status, alerts, history, Prometheus, JSON and tables are
    each a function of it. `subjects`: how each of the things stands that the script is about
    (credentials). `doubts`: why nothing good may be said of the whole."""

    script: str
    environment: str
    version: str
    at: float
    seconds: float
    components: tuple[Component, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    sources: tuple[Source, ...] = ()
    conditions: tuple[Alert, ...] = ()
    alerts: tuple[AlertRow, ...] = ()
    tokens: Optional[Mapping[str, Any]] = None
    credentials: Optional[Mapping[str, Mapping[str, Any]]] = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    subjects: tuple[Severity, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    top_clients: int = 50  # how many clients have Prometheus series of their own

    @property
    def status(self) -> Severity:
        """Overall status; see `overall`."""
        return overall(self)

    @property
    def exit_status(self) -> ExitStatus:
        return EXIT_OF[self.status]


def overall(outcome: Outcome) -> Severity:
    """The worst of what is known. What is merely not configured does not count; something we
    should see and cannot is at least a WARNING beside known things, and UNKNOWN when it is all
    there is, or when the whole is in doubt."""
    asked = [c.status for c in outcome.components if c.configured]
    asked += [Severity.OK if s.ok else Severity.UNKNOWN for s in outcome.sources if s.configured]
    if combined(asked) is Severity.UNKNOWN:
        return Severity.UNKNOWN
    crossed = [v.severity for v in outcome.verdicts if v.severity is not Severity.UNKNOWN]
    found = [*asked, *outcome.subjects, *crossed, *(f.severity for f in outcome.findings)]
    if outcome.doubts:
        return severity((s for s in found if s > Severity.UNKNOWN), Basis(doubts=outcome.doubts))
    cut = tuple(cut_short(source) for source in outcome.sources if source.truncated)
    return severity([combined(found)], Basis(doubts=cut)) if cut else combined(found)


def cut_short(source: Source) -> Doubt:
    """What was not looked at of a source may be bad."""
    return Doubt("not_read", f"{source.name}: the look ended before its end")


def worst(severities: Iterable[Severity]) -> Severity:
    """The highest severity; OK for none."""
    return max(severities, default=Severity.OK)
