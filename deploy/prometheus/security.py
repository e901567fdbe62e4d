"""Findings: what the scripts have seen that no single figure says.

One rule for each reason, named as the scripts' own alert is, with its component, client and
severity, so that the two are one alert for Alertmanager.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Tuple

from deploy.prometheus.rule import Proof, Rule, Series, by_client
from monitoring.alerts import advice
from monitoring.model import AlertKey
from monitoring.reasons import ELSEWHERE, REASONS

_BY = ("category", "client", "component", "severity")


def rules() -> Iterator[Rule]:
    """Every rule of this file."""
    for script, reasons in REASONS.items():
        for reason, (where, words) in reasons.items():
            yield _rule(script, reason, where, words)
    named = [reason for reasons in REASONS.values() for reason in reasons]
    yield _others((*named, *ELSEWHERE))


def _rule(script: str, reason: str, component: str, words: str) -> Rule:
    texts = advice.for_finding(reason)
    series = f'payment_api_findings{{reason="{reason}",severity=~"warning|critical"}}'
    return Rule(
        alert=AlertKey("", "", "", reason).labels()["alertname"],
        expr=f"max by (environment, {', '.join(_BY)}) ({by_client(series)}) > 0",
        severity="",
        category="",
        component="",
        summary=f"{_WHERE}: {words}",
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        series=series,
        by=_BY,
        script=script,
        proof=_proof(script, reason, component, f"{component}, client client-004: {words}"),
    )


_WHERE = "{{ $labels.component }}{{ if $labels.client }}, client {{ $labels.client }}{{ end }}"


def _others(named: Tuple[str, ...]) -> Rule:
    """Reasons that have no rule yet are told all the same."""
    texts = advice.for_finding("")
    series = f'payment_api_findings{{reason!~"{"|".join(named)}",severity=~"warning|critical"}}'
    return Rule(
        alert="PaymentApiFinding",
        expr=f"max by (environment, reason, {', '.join(_BY)}) ({by_client(series)}) > 0",
        severity="",
        category="",
        component="",
        summary=f"{_WHERE}: {{{{ $labels.reason }}}}",
        meaning="The script has seen something that no single figure says.",
        action="Run the script with --single-run --verbose: the sentence says what to do.",
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        series=series,
        by=("reason", *_BY),
        script="",
        proof=_proof(
            "health_check",
            "something_new",
            "payment-sapi",
            "payment-sapi, client client-004: something_new",
        ),
    )


def _proof(script: str, reason: str, component: str, summary: str) -> Proof:
    """A finding that somebody has to know, beside one that the configuration accepts."""
    labels = {"component": component, "client": "client-004", "category": "security"}
    if reason not in REASONS[script]:
        labels["reason"] = reason
    found = {"script": script, "reason": reason, "category": "security", "component": component}
    accepted = _series({**found, "severity": "ok", "client_id": "client-005"})
    told = _series({**found, "severity": "critical", "client_id": "client-004"})
    return Proof(
        (Series(told, "0", "1"), Series(accepted, "1", "1")),
        summary,
        {**labels, "severity": "critical"},
        before=2,  # it speaks at once; each minute is one of all the rules of this file
        wrong=4,
        after=3,
    )


def _series(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"payment_api_findings{{{inside}}}"
