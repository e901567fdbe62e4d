"""Decision: what the services' counters say about tokens: minted, validated, refused and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Optional

from monitoring.services.counters import CounterKey
from monitoring.services.families import (
    ENDS,
    FAILURES,
    MORE,
    USES,
    VALIDATIONS,
    Growth,
    Unsure,
    Window,
    about,
    leaves_open,
)
from monitoring.services.labels import GOOD, OTHER_REASON, REASONS, UNKNOWN_END, UNSPECIFIED
from monitoring.text import safe_id

GENERATED = "generated"
VALID = "valid"
UNKNOWN = "unknown"  # validations of which nothing says how they ended
INVALID = "invalid:"  # + the reason
_NOBODY = ("", "unknown", "anonymous", "none", "null")


@dataclass(frozen=True)
class Validations:
    """Validations that were counted as good, as bad by reason, and as `unknown` where nothing says
    how they ended. `source` names where they were counted: "services", or "cache" (one verdict per
    token and permission, kept for 100 s). `seconds` is the time they were counted in; None: since
    the services were first seen. `unsure`: what is left open of it. The properties give only what
    is known."""

    good: float
    by_reason: Mapping[str, float]
    source: str
    seconds: Optional[float] = None
    unknown: float = 0.0
    unsure: tuple[Unsure, ...] = ()

    @property
    def bad(self) -> float:
        """Those that are known to have failed: a lower bound where `failure` is None."""
        return sum(self.by_reason.values())

    @property
    def success(self) -> Optional[float]:
        return None if self.unknown or leaves_open(self.unsure, USES, ENDS) else self.good

    @property
    def failure(self) -> Optional[float]:
        return None if self.unknown or leaves_open(self.unsure, FAILURES, ENDS) else self.bad

    @property
    def total(self) -> float:
        return self.good + self.bad + self.unknown

    @property
    def at_least(self) -> bool:
        """A restart lies between: there were more than were counted."""
        return leaves_open(self.unsure, MORE)

    @property
    def success_rate(self) -> Optional[float]:
        """0..1; None when nothing was validated, or it is not known how all of it ended."""
        good, bad = self.success, self.failure
        return None if good is None or bad is None or not good + bad else good / (good + bad)


@dataclass(frozen=True)
class ServiceFigures:
    """`generated` and `validations` since the services were first seen, `recent_*` in the window
    of which `seconds` were watched. None: no service counts it. `read`: a service's page could be
    read, whatever it counts. `unsure`: what the pages leave open."""

    generated: Optional[float] = None
    validations: Optional[Validations] = None
    recent_generated: Optional[float] = None
    recent_validations: Optional[Validations] = None
    seconds: float = 0.0
    read: bool = False
    unsure: tuple[Unsure, ...] = ()

    @property
    def generation_rate(self) -> Optional[float]:
        """Tokens per minute in the window; None when nothing of it was watched."""
        if self.recent_generated is None or self.seconds <= 0:
            return None
        return self.recent_generated / self.seconds * 60


class _Tally:
    """Sums up what the services count. `reasons` are those that have a name of their own: one that
    appears for the first time would begin a series at its first event, which hides that event."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self._reasons = frozenset(reasons) | {UNSPECIFIED}
        self.generated: Optional[float] = None
        self.good: Optional[float] = None
        self.unknown = 0.0
        self.bad: dict[str, float] = {}

    def take(self, key: CounterKey, value: float) -> None:
        labels = dict(key.labels)
        if key.name == "token_generation":
            self.generated = (self.generated or 0.0) + value
        elif key.name == "token_validation":
            self.good = self.good or 0.0
            self._take_validation(labels.get("valid", ""), labels.get("reason", ""), value)

    def _take_validation(self, end: str, why: str, value: float) -> None:
        if end == GOOD:
            self.good = (self.good or 0.0) + value
        elif end == UNKNOWN_END:
            self.unknown += value
        else:
            word = why.lower() or UNSPECIFIED
            reason = word if word in self._reasons else OTHER_REASON
            self.bad[reason] = self.bad.get(reason, 0.0) + value


def _tally(
    values: Iterable[tuple[CounterKey, float]],
    excluded: AbstractSet[str],
    reasons: Iterable[str],
) -> _Tally:
    hidden = {safe_id(client) for client in excluded}
    tally = _Tally(reasons)
    for key, value in values:
        if dict(key.labels).get("client") not in hidden:
            tally.take(key, value)
    return tally


def increases(
    growth: Growth, excluded: AbstractSet[str], reasons: Iterable[str] = REASONS
) -> dict[str, float]:
    """What grew since the last look, by the names that `figures` knows; `excluded` clients (the
    canary) left out."""
    rows = ((key, delta.increase) for key, delta in growth.deltas.items())
    tally = _tally(rows, excluded, reasons)
    found = {f"{INVALID}{reason}": n for reason, n in tally.bad.items()}
    if tally.generated is not None:
        found[GENERATED] = tally.generated
    if tally.good is not None:
        found[VALID] = tally.good
    if tally.unknown:
        found[UNKNOWN] = tally.unknown
    return found


def figures(
    growth: Growth,
    window: Window,
    excluded: AbstractSet[str],
    reasons: Iterable[str] = REASONS,
) -> ServiceFigures:
    """The totals of `growth` beside the sums of `window` (made of `increases`)."""
    tally = _tally(growth.totals.items(), excluded, reasons)
    now = tuple(dict.fromkeys(each for unsure in growth.unsure.values() for each in unsure))
    watched, counted = window.seconds > 0, tally.good is not None
    unsure = _lasting(about(VALIDATIONS, now))
    ever = Validations(
        tally.good or 0.0, tally.bad, "services", unknown=tally.unknown, unsure=unsure
    )
    return ServiceFigures(
        generated=tally.generated,
        validations=ever if counted else None,
        recent_generated=window.sums.get(GENERATED, 0.0)
        if watched and tally.generated is not None
        else None,
        recent_validations=_recent(window) if watched and counted else None,
        seconds=window.seconds,
        read=bool(growth.unsure),
        unsure=window.unsure if watched else now,
    )


def _recent(window: Window) -> Validations:
    sums = window.sums
    reasons = {name[len(INVALID) :]: n for name, n in sums.items() if name.startswith(INVALID)}
    seconds, unknown = window.seconds, sums.get(UNKNOWN, 0.0)
    unsure = about(VALIDATIONS, window.unsure)
    return Validations(sums.get(VALID, 0.0), reasons, "services", seconds, unknown, unsure)


def _lasting(unsure: Iterable[Unsure]) -> tuple[Unsure, ...]:
    """Without what concerns the last look alone: totals are lower bounds anyway."""
    return tuple(each for each in unsure if each.figures not in ((MORE,), (ENDS,)))


# -- the canary's forgeries


def without(growth: Growth, *, ever: int, since: int, canary: AbstractSet[str]) -> Growth:
    """`growth` less the canary's refused forgeries: `ever` of them in the totals, `since` in the
    increases. They are taken from failures (or validations of unknown end) of no known client
    alone, and only as many as the service did not count under the `canary`'s own id; no figure
    falls below 0."""
    totals = _less(growth.totals, ever, canary)
    rises = {key: delta.increase for key, delta in growth.deltas.items()}
    deltas = {
        key: replace(growth.deltas[key], increase=increase)
        for key, increase in _less(rises, since, canary).items()
    }
    return replace(growth, totals=totals, deltas=deltas)


def _less(
    values: Mapping[CounterKey, float], forged: int, canary: AbstractSet[str]
) -> dict[CounterKey, float]:
    ours = {safe_id(client) for client in canary}
    own = sum(n for key, n in values.items() if _refused(key) and _client(key) in ours)
    left, found = max(0.0, forged - own), dict(values)
    for key in sorted(filter(_refused, values), key=_order):
        if left > 0 and _client(key).lower() in _NOBODY:
            taken = min(left, found[key])
            found[key] -= taken
            left -= taken
    return found


def _refused(key: CounterKey) -> bool:
    return key.name == "token_validation" and dict(key.labels).get("valid") != GOOD


def _client(key: CounterKey) -> str:
    return dict(key.labels).get("client", "")


def _order(key: CounterKey) -> tuple[str, str]:
    return key.name, str(key.labels)
