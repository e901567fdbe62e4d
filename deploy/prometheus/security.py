"""Findings: what the scripts have seen that no single figure says.

One rule for each reason, named as the scripts' own alert is, with its component, client and
severity, so that the two are one alert for Alertmanager.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.prometheus.rule import Proof, Rule, Series, by_client, two_cycles
from monitoring.alerts import advice
from monitoring.model import AlertKey
from monitoring.reasons import CATEGORIES, ELSEWHERE, REASONS

_BY = ("category", "client", "component", "severity")


def rules() -> Iterator[Rule]:
    """Every rule of this file."""
    for script, reasons in REASONS.items():
        for reason, (where, words) in reasons.items():
            yield _of_reason(script, reason, where, words)
    named = [reason for reasons in REASONS.values() for reason in reasons]
    yield _of_others((*named, *ELSEWHERE))


def _of_reason(script: str, reason: str, component: str, words: str) -> Rule:
    texts = advice.for_finding(reason)
    return _rule(
        AlertKey("", "", "", reason).labels()["alertname"],
        f'reason="{reason}"',
        _BY,
        words=words,
        meaning=texts.meaning,
        action=texts.action,
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        script=script,
        place=component if script == "health_check" else "",
        hold=two_cycles(script) if reason in CATEGORIES else 0,
        proof=_proof(script, reason, component, f"{component}, client client-004: {words}"),
    )


_WHERE = "{{ $labels.component }}{{ if $labels.client }}, client {{ $labels.client }}{{ end }}"


def _rule(alert: str, reasons: str, by: tuple[str, ...], *, words: str, **more: Any) -> Rule:
    """A rule for findings whose reason the matcher `reasons` selects. What tells one alert from
    another (`by`) comes from the series; `words` say what it is."""
    series = f'payment_api_findings{{{reasons},severity=~"warning|critical"}}'
    return Rule(
        alert=alert,
        expr=f"max by (environment, {', '.join(by)}) ({by_client(series)}) > 0",
        severity="",
        category="",
        component="",
        summary=f"{_WHERE}: {words}",
        series=series,
        by=by,
        **more,
    )


def _of_others(named: tuple[str, ...]) -> Rule:
    """Reasons that have no rule yet are told all the same."""
    texts = advice.for_finding("")
    return _rule(
        "PaymentApiFinding",
        f'reason!~"{"|".join(named)}"',
        ("reason", *_BY),
        words="{{ $labels.reason }}",
        meaning="The script has seen something that no single figure says.",
        action="Run the script with --single-run --verbose: the sentence says what to do.",
        runbook=texts.runbook,
        dashboard=texts.dashboard,
        proof=_proof(
            "health_check",
            "something_new",
            "payment-sapi",
            "payment-sapi, client client-004: something_new",
        ),
    )


def _proof(script: str, reason: str, component: str, summary: str) -> Proof:
    """A finding that somebody has to know, beside one that the configuration accepts."""
    category = CATEGORIES.get(reason, "security")
    labels = {"component": component, "client": "client-004", "category": category}
    if reason not in REASONS[script]:
        labels["reason"] = reason
    found = {"script": script, "reason": reason, "category": category, "component": component}
    accepted = _series({**found, "severity": "ok", "client_id": "client-005"})
    told = _series({**found, "severity": "critical", "client_id": "client-004"})
    return Proof(
        (Series(told, "0", "1"), Series(accepted, "1", "1")),
        summary,
        {**labels, "severity": "critical"},
        before=2,  # each minute is one of all the rules of this file
        wrong=two_cycles(script) + 2 if reason in CATEGORIES else 4,  # else it speaks at once
        after=4,
    )


def _series(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"payment_api_findings{{{inside}}}"
