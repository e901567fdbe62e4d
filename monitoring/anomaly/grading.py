"""Decision: how many false alerts a replay told against those asked for, and, with labels, what of
the misuse it found.

An event is found by a finding from its start to an hour after its end. Other findings are false;
repeats within 12 hours count once, what follows an event within 12 hours does not count, nor does
the silence of a client that never calls again. A finding that names no client of the recording
speaks of the platform: it finds a spray (by `address`, or as failures), and is never false. The
first 14 days are not graded: habits are being learned.
"""

from __future__ import annotations

from collections import Counter, Counter as Counts, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from monitoring.anomaly.detector import FEWEST_CLIENTS, Anomaly, Bucket, Sensitivity

HOUR, DAY, MONTH_HOURS = 3600.0, 86400.0, 730.0
WARM_UP, MERGE = 14 * DAY, 12 * HOUR
SPRAYED = 10  # clients of a spray that are told of failures one by one: that names it too
_FAILURES = ("fail", "spray", "guess")


@dataclass(frozen=True)
class Label:
    """One injected or known event: `start` to `end` (not included), in epoch seconds."""

    kind: str
    start: float
    end: float
    client: str = ""
    clients: frozenset[str] = frozenset()
    address: str = ""
    number: int = 0  # of repeated misuse: the how manieth time


@dataclass(frozen=True)
class Graded:
    """The figures of one replay; `found` and `events` by kind, `false` by reason."""

    asked: float
    client_months: float
    reported: int
    false: Mapping[str, int]
    found: Mapping[str, int]
    events: Mapping[str, int]
    hits: Sequence[Label] = ()

    @property
    def observed(self) -> float:
        return sum(self.false.values()) / self.client_months if self.client_months else 0.0

    @property
    def recall(self) -> float:
        return sum(self.found.values()) / max(1, sum(self.events.values()))

    @property
    def precision(self) -> float:
        hits = sum(self.found.values())
        return hits / max(1, hits + sum(self.false.values()))

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2.0 * self.precision * self.recall / both if both else 0.0


class Grader:
    """Takes what is replayed and what is found, and says at the end how good it was."""

    def __init__(self, sensitivity: Sensitivity, labels: Optional[Sequence[Label]] = None) -> None:
        self._sensitivity, self._labels = sensitivity, labels
        self._begun: Optional[float] = None
        self._until = 0.0
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._reported: list[Anomaly] = []

    def note(self, bucket: Bucket) -> None:
        """Who called, and when."""
        if self._begun is None:
            self._begun = bucket.at // HOUR * HOUR
        self._until = max(self._until, bucket.at + bucket.seconds)
        for name, usage in bucket.clients.items():
            if usage.ok + usage.failed > 0:
                self._first.setdefault(name, bucket.at)
                self._last[name] = bucket.at // HOUR * HOUR

    def take(self, anomaly: Anomaly) -> None:
        """A finding."""
        self._reported.append(anomaly)

    def result(self) -> Graded:
        """The figures of all that was taken."""
        start = (self._begun or 0.0) + WARM_UP
        events = [label for label in self._labels or () if label.start >= start]
        reported = [anomaly for anomaly in self._reported if anomaly.at >= start]
        sprays = _Sprays([event for event in events if event.clients], self._first.keys())
        rest = [anomaly for anomaly in reported if not sprays.take(anomaly)]
        hits = [e for e in events if e in sprays.found or any(_finds(a, e) for a in rest)]
        hours = sum(max(0.0, self._until - max(at, start)) for at in self._first.values()) / HOUR
        return Graded(
            asked=self._asked(),
            client_months=hours / MONTH_HOURS,
            reported=sum(anomaly.client in self._first for anomaly in reported),
            false=self._false(rest),
            found=Counter(event.kind for event in hits),
            events=Counter(event.kind for event in events),
            hits=hits,
        )

    def _asked(self) -> float:
        """False alerts a client and month, over all clients; few share the budget of five."""
        budget, own = self._sensitivity.false_alerts_per_client_month, self._sensitivity.per_client
        names = self._first or {"": 0.0}
        budget *= max(1.0, FEWEST_CLIENTS / len(names))
        return sum(own.get(name, budget) for name in names) / len(names)

    def _false(self, reported: Sequence[Anomaly]) -> Counts[str]:
        false: Counts[str] = Counter()
        latest: dict[str, float] = {}
        for anomaly in sorted(reported, key=lambda each: each.at):
            name, at = anomaly.client, anomaly.at
            if name not in self._first or self._of_misuse(anomaly) or self._ended(anomaly):
                continue
            if at - latest.get(name, -2.0 * MERGE) > MERGE:
                false[anomaly.reason] += 1
            latest[name] = at
        return false

    def _of_misuse(self, anomaly: Anomaly) -> bool:
        near = (label for label in self._labels or () if label.client == anomaly.client)
        return any(label.start <= anomaly.at < label.end + MERGE for label in near)

    def _ended(self, anomaly: Anomaly) -> bool:
        return anomaly.reason == "silence" and self._last[anomaly.client] <= anomaly.at


def _finds(anomaly: Anomaly, event: Label) -> bool:
    return anomaly.client == event.client and event.start <= anomaly.at < event.end + HOUR


class _Sprays:
    """Told by its address, of the platform, or by failures of ten of its clients."""

    def __init__(self, events: Sequence[Label], known: Any) -> None:
        self._events, self._known = events, known
        self._clients: dict[Label, set[str]] = defaultdict(set)
        self.found: list[Label] = []

    def take(self, anomaly: Anomaly) -> bool:
        """Whether a finding belongs to a spray, and so to nothing else."""
        for event in self._events:
            if event.start <= anomaly.at < event.end + MERGE and self._belongs(event, anomaly):
                return True
        return False

    def _belongs(self, event: Label, anomaly: Anomaly) -> bool:
        failures = any(word in anomaly.reason for word in _FAILURES)
        platform = anomaly.client not in self._known and failures
        if failures and anomaly.client in event.clients:
            self._clients[event].add(anomaly.client)
        named = bool(event.address) and event.address in anomaly.sentence
        many = len(self._clients[event]) >= SPRAYED
        if anomaly.at <= event.end and (platform or named or many) and event not in self.found:
            self.found.append(event)
        return platform or anomaly.client in event.clients


def reported(graded: Graded, labelled: bool) -> list[str]:
    """The figures in sentences."""
    if graded.client_months <= 0.0:
        return ["nothing is graded: the recording is not longer than 14 days, while habits form"]
    false = sum(graded.false.values())
    said = (
        f"false alerts per client and month: {graded.asked:.3g} asked for, {graded.observed:.3g} "
        f"observed ({false} in {graded.client_months:.1f} client-months after the first 14 days"
    )
    if not labelled:
        return [f"{said}, if nothing that was told is misuse: --labels says what is)"]
    return [
        f"{said}; by reason: {_shares(graded.false)})",
        f"{sum(graded.found.values())} of {sum(graded.events.values())} labelled events found: "
        f"recall {graded.recall:.2f}, precision {graded.precision:.2f}, F1 {graded.f1:.2f}; by "
        "kind: " + _shares({k: f"{graded.found.get(k, 0)}/{n}" for k, n in graded.events.items()}),
    ]


def _shares(figures: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {figures[name]}" for name in sorted(figures)) or "none"
