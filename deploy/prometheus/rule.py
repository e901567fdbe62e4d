"""The nouns of the rule files: a rule, and the sample series that prove it.

A rule's example lives beside it, so that nobody adds a rule without showing when it fires.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Tuple

SECURITY, HEALTH, AUTHENTICATION = (
    "payment-api-security",
    "payment-api-health",
    "payment-api-auth",
)


@dataclass(frozen=True)
class Series:
    """One input series of the proof: values while all is well, then while it is not (each as
    promtool spells them: `1`, or `0+60` for a counter or clock; `_` for no sample)."""

    name: str
    good: str
    bad: str


@dataclass(frozen=True)
class Proof:
    """What makes the rule fire, and the summary somebody then reads. `labels` are those that the
    alert has beside the rule's own (they come from the series). The phases last `before`, `wrong`
    and `after` minutes; for the first `spared` of `wrong` it is still silent.
    `also` are rules of the same name that fire on the same values: severity -> summary."""

    series: Tuple[Series, ...]
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    before: int = 5
    wrong: int = 16
    after: int = 6
    spared: int = 0
    also: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One alert. `hold` is minutes it must last. `meaning` and `action` are for a person who was
    just woken up; `runbook` is a page of docs/runbooks; `dashboard` a Grafana uid."""

    alert: str
    expr: str
    severity: str
    category: str
    component: str  # empty: the series has the label
    summary: str
    meaning: str
    action: str
    runbook: str
    dashboard: str
    proof: Proof
    hold: float = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    series: str = ""
    by: Tuple[str, ...] = ()
    script: str = ""

    def all_labels(self) -> dict[str, str]:
        """Labels the rule sets; what the series brings is not among them."""
        own = {"severity": self.severity, "category": self.category, "component": self.component}
        return {name: text for name, text in {**own, **self.labels}.items() if text}


#: For so long what an exporter said last keeps an alert alive.
_REMEMBERED = "1d"
LAST_CYCLE = "payment_api_last_cycle_timestamp_seconds"


def held(rule: Rule) -> str:
    """The rule's expression. An exporter that is gone has mended nothing, so what fires goes on
    until it is back and says otherwise; nothing new begins by it."""
    if not rule.series:
        return rule.expr
    alive, same = LAST_CYCLE, "environment, script"
    if rule.script:
        alive, same = f'{LAST_CYCLE}{{script="{rule.script}"}}', "environment"
    last = f"(last_over_time({rule.series}[{_REMEMBERED}]) unless on ({same}) {alive})"
    labels = {"alertname": rule.alert, "alertstate": "firing", "component": rule.component}
    if "severity" not in rule.by:
        labels["severity"] = rule.severity
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items() if text)
    by = ", ".join(("environment", *rule.by))
    return f"{rule.expr} or {rule.expr.replace(rule.series, last)} and on ({by}) ALERTS{{{inside}}}"


def by_client(series: str) -> str:
    """`series` with the label `client` as the scripts' alerts have it; none where no client is
    known."""
    return f'label_replace({series}, "client", "$1", "client_id", "([^(].*)")'
