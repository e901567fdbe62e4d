"""Decision: what the services' counters say about tokens: minted, validated, refused and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Dict, Iterable, Mapping, Optional, Tuple

from monitoring.counter_memory import Growth, Window
from monitoring.counters import CounterKey
from monitoring.redact import safe_id
from monitoring.service_counters import TOTAL

GENERATED = "generated"
VALID = "valid"
INVALID = "invalid:"  # + the reason
UNSPECIFIED = "unspecified"  # the family counts failures without their reason
_REASONS_KEPT = 20
OTHER_REASON = "other"


@dataclass(frozen=True)
class Validations:
    """Validations that ended well and badly. `source` names where they were counted: "services",
    or "cache" (one verdict per token and permission, kept for 100 s). `seconds` is the time they
    were counted in; None: since the services were first seen."""

    success: float
    by_reason: Mapping[str, float]
    source: str
    seconds: Optional[float] = None

    @property
    def failure(self) -> float:
        return sum(self.by_reason.values())

    @property
    def total(self) -> float:
        return self.success + self.failure

    @property
    def success_rate(self) -> Optional[float]:
        """0..1; None when nothing was validated."""
        return self.success / self.total if self.total > 0 else None


@dataclass(frozen=True)
class ServiceFigures:
    """`generated` and `validations` since the services were first seen, `recent_*` in the window
    of which `seconds` were watched. None: no service counts it."""

    generated: Optional[float] = None
    validations: Optional[Validations] = None
    recent_generated: Optional[float] = None
    recent_validations: Optional[Validations] = None
    seconds: float = 0.0

    @property
    def generation_rate(self) -> Optional[float]:
        """Tokens per minute in the window; None when nothing of it was watched."""
        if self.recent_generated is None or self.seconds <= 0:
            return None
        return self.recent_generated / self.seconds * 60


@dataclass
class _Tally:
    generated: Optional[float] = None
    valid: Optional[float] = None
    attempts: Optional[float] = None
    invalid: Dict[str, float] = field(default_factory=dict)

    def take(self, key: CounterKey, value: float) -> None:
        labels = dict(key.labels)
        if key.name == "token_generation":
            self.generated = (self.generated or 0.0) + value
        elif key.name == "token_validation" and labels.get("valid") == "true":
            self.valid = (self.valid or 0.0) + value
        elif key.name == "token_validation" and labels.get("valid") == TOTAL:
            self.attempts = (self.attempts or 0.0) + value
        elif key.name == "token_validation":
            reason = self._reason(labels.get("reason", ""))
            self.invalid[reason] = self.invalid.get(reason, 0.0) + value

    def _reason(self, word: str) -> str:
        word = word.lower() or UNSPECIFIED
        return word if word in self.invalid or len(self.invalid) < _REASONS_KEPT else OTHER_REASON

    @property
    def success(self) -> Optional[float]:
        """Where attempts are counted whole, what did not fail went well."""
        if self.attempts is None:
            return self.valid
        return (self.valid or 0.0) + max(0.0, self.attempts - sum(self.invalid.values()))


def _tally(values: Iterable[Tuple[CounterKey, float]], excluded: Collection[str]) -> _Tally:
    hidden = {safe_id(client) for client in excluded if client}
    tally = _Tally()
    for key, value in values:
        if dict(key.labels).get("client") not in hidden:
            tally.take(key, value)
    return tally


def increases(growth: Growth, excluded: Collection[str]) -> Dict[str, float]:
    """What grew since the last look, by the names that `figures` knows; `excluded` clients (the
    canary) left out."""
    rows = ((key, delta.increase) for key, delta in growth.deltas.items())
    tally = _tally(rows, excluded)
    found = {f"{INVALID}{reason}": n for reason, n in tally.invalid.items()}
    if tally.generated is not None:
        found[GENERATED] = tally.generated
    if tally.success is not None:
        found[VALID] = tally.success
    return found


def figures(growth: Growth, window: Window, excluded: Collection[str]) -> ServiceFigures:
    """The totals of `growth` beside the sums of `window` (made of `increases`)."""
    tally = _tally(growth.totals.items(), excluded)
    reasons = {
        name[len(INVALID) :]: n for name, n in window.sums.items() if name.startswith(INVALID)
    }
    watched = window.seconds > 0
    counted = tally.success is not None or bool(tally.invalid)
    recent = Validations(window.sums.get(VALID, 0.0), reasons, "services", window.seconds)
    return ServiceFigures(
        generated=tally.generated,
        validations=Validations(tally.success or 0.0, tally.invalid, "services")
        if counted
        else None,
        recent_generated=window.sums.get(GENERATED, 0.0)
        if watched and tally.generated is not None
        else None,
        recent_validations=recent if watched and counted else None,
        seconds=window.seconds,
    )
