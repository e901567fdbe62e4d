"""Decision: what an alert means for whom, the first thing to do, and where to read on.

The texts are data in `advice_texts` and `advice_findings`; the runbook of a threshold is the
catalogue's. Every name gets an answer: what has no text of its own gets its category's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional, Tuple

from monitoring.alerting import advice_findings as findings
from monitoring.alerting import advice_texts as texts
from monitoring.catalog import THRESHOLDS

#: Dashboard uids of deploy/grafana by category.
SECURITY, HEALTH, AUTHENTICATION = (
    "payment-api-security",
    "payment-api-health",
    "payment-api-auth",
)
_DASHBOARDS = {"security": SECURITY, "performance": HEALTH, "availability": HEALTH}
_AUTHENTICATION = ("authentication_time", "token_validation_time", "expiry_cliff")


@dataclass(frozen=True)
class Advice:
    """`runbook`: a page of docs/runbooks without `.md`; `dashboard`: a Grafana uid."""

    meaning: str
    action: str
    runbook: str
    dashboard: str

    def fields(self) -> dict[str, Any]:
        """The keyword arguments of an Alert."""
        return asdict(self)


def for_threshold(name: str) -> Advice:
    """Advice on a crossed threshold, by `Threshold.name`; unknown names get general advice."""
    threshold = THRESHOLDS.get(name)
    if threshold is None:
        return _general("performance")
    meaning, action = texts.THRESHOLDS.get(name, texts.CATEGORIES[threshold.category])
    own = AUTHENTICATION if threshold.key in _AUTHENTICATION else _DASHBOARDS[threshold.category]
    return Advice(meaning, action, threshold.runbook, own)


def for_component(component: str, error: str = "") -> Advice:
    """Advice on a component that is down or degraded. `error` is the fault's kind: what it hints
    at comes after the first thing to do."""
    meaning, action, runbook = texts.COMPONENTS.get(component, texts.ANY_COMPONENT)
    hint = texts.FAULTS.get(error, "")
    board = AUTHENTICATION if component == "authentication-flow" else HEALTH
    return Advice(meaning, f"{action} {hint}".strip(), runbook, board)


def for_blindness() -> Advice:
    """Advice on something that the monitor should see and cannot."""
    return Advice(*texts.BLIND, HEALTH)


def for_finding(reason: str, category: str = "security") -> Advice:
    """Advice on a finding by its reason."""
    found = findings.FINDINGS.get(reason) or _family(reason)
    if found is None:
        return _general(category)
    meaning, action, runbook = found
    return Advice(meaning, action, runbook, _DASHBOARDS.get(category, HEALTH))


def runbooks() -> tuple[str, ...]:
    """Every page of docs/runbooks that an alert may link to, sorted."""
    pages = {threshold.runbook for threshold in THRESHOLDS.values()}
    pages |= {row[2] for row in texts.COMPONENTS.values()} | {texts.ANY_COMPONENT[2]}
    pages |= {row[2] for row in findings.FINDINGS.values()} | set(texts.GENERAL.values())
    pages |= {text[2] for _, text in findings.FAMILIES}
    return tuple(sorted(pages | {texts.BLIND[2]}))


def _family(reason: str) -> Optional[Tuple[str, str, str]]:
    return next((text for glob, text in findings.FAMILIES if fnmatchcase(reason, glob)), None)


def _general(category: str) -> Advice:
    known = category if category in texts.CATEGORIES else "security"
    meaning, action = texts.CATEGORIES[known]
    return Advice(meaning, action, texts.GENERAL[known], _DASHBOARDS[known])
