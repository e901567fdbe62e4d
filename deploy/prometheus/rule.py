"""The nouns of the rule files: a rule, and the sample series that prove it.

A rule's example lives beside it, so that nobody adds a rule without showing when it fires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    series: tuple[Series, ...]
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    before: int = 5
    wrong: int = 16
    after: int = 8
    spared: int = 0
    also: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One alert. `hold` is minutes it must last. `meaning` and `action` are for a person who was
    just woken up; `runbook` is a page of docs/runbooks; `dashboard` a Grafana uid.

    `series` is what the expression looks at (empty: it ends when its series do), `by` the labels
    that tell its alerts apart, beside the environment; `script` exports it (empty: all do);
    `place` is the component that must be up for a finding to be seen (empty: none)."""

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
    by: tuple[str, ...] = ()
    script: str = ""
    place: str = ""

    def all_labels(self) -> dict[str, str]:
        """Labels the rule sets; what the series brings is not among them."""
        own = {"severity": self.severity, "category": self.category, "component": self.component}
        return {name: text for name, text in {**own, **self.labels}.items() if text}


#: What is not known any more is remembered for so long: whatever dies on Friday evening is told
#: of all weekend.
REMEMBERED = "3d"
LAST_CYCLE = "payment_api_last_cycle_timestamp_seconds"


def last_cycle(script: str, **labels: str) -> str:
    """The series that says when the last cycle of a script ended."""
    inside = ",".join(f'{k}="{v}"' for k, v in sorted({**labels, "script": script}.items()))
    return f"{LAST_CYCLE}{{{inside}}}"


def held(rule: Rule) -> str:
    """The rule's expression. What cannot be seen any more (its exporter is gone, its component
    unknown) is not over, so what fires goes on until it is seen again; nor is what the scripts hold
    as flapping. Nothing new begins by either."""
    if not rule.series:
        return rule.expr
    last = f"(last_over_time({rule.series}[{REMEMBERED}]) {_unless_seen(rule)})"
    labels = {"alertname": rule.alert, "alertstate": "firing", "component": rule.component}
    if "severity" not in rule.by:
        labels["severity"] = rule.severity
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items() if text)
    by = ", ".join(("environment", *rule.by))
    fires = f"and on ({by}) ALERTS{{{inside}}}"
    gone = rule.expr.replace(rule.series, last)
    return f"{rule.expr} or {gone} {fires} or {_restless(rule)} {fires} and {_flapping(rule)}"


def _restless(rule: Rule) -> str:
    """The rule's expression of the worst in the time for which the scripts hold what flaps."""
    worst = "min" if rule.expr.startswith("min by") else "max"
    window = "1h" if two_cycles(rule.script) == 2 else "3h"
    return rule.expr.replace(rule.series, f"{worst}_over_time({rule.series}[{window}])")


def _flapping(rule: Rule) -> str:
    """What the scripts hold under the rule's name."""
    where = f',component="{rule.component}"' if rule.component else ""
    held_there = f'payment_api_alert_flapping{{alert="{rule.alert}"{where}}}'
    by = ["environment", *(label for label in ("component", "client") if label in rule.by)]
    return f"on ({', '.join(by)}) {by_client(held_there) if 'client' in by else held_there}"


def _unless_seen(rule: Rule) -> str:
    """A figure is seen where there is one. A client's, or a finding, is also over when it is gone;
    it is missed where its place was not looked at, as the scripts' own alerts have it: a component
    that is not up, else any source of the script that could not be read."""
    if "client" not in rule.by:
        return f"unless on ({', '.join(('environment', *rule.by))}) {rule.series}"
    if rule.place:
        return (
            f'unless on (environment) (payment_api_health_status{{component="{rule.place}"}} == 1)'
        )
    if rule.script:
        alive, unread, by = last_cycle(rule.script), f'{{script="{rule.script}"}}', "environment"
    else:
        alive, unread, by = LAST_CYCLE, "", "environment, script"
    return f"unless on ({by}) ({alive} unless on ({by}) (payment_api_up{unread} == 0))"


def two_cycles(script: str) -> int:
    """Minutes in which the script (empty: any) has looked twice, so that one look alone tells
    nobody and ends nothing."""
    return 6 if script in ("token_usage_metrics", "credential_usage_metrics") else 2


def by_client(series: str) -> str:
    """`series` with the label `client` as the scripts' alerts have it; none where no client is
    known."""
    return f'label_replace({series}, "client", "$1", "client_id", "([^(].*)")'
