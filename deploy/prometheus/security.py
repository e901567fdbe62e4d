"""Security beyond thresholds: rotations, proofs of the login, hygiene of tokens, findings."""

from __future__ import annotations

from typing import Iterator, Tuple

from deploy.prometheus.rule import AUTHENTICATION, SECURITY, Proof, Rule, Series
from monitoring.catalog import HYGIENE

#: Verdict on a credential -> (severity, summary, meaning, action).
_VERDICTS = {
    "failed": (
        "critical",
        "a rotation has failed",
        "The client may be left between two secrets, and neither may be the one its owner knows.",
        "Run credential_usage_metrics.py --check-rotation: it names the client and the next step.",
    ),
    "stuck": (
        "critical",
        "a rotation is stuck",
        "Two secrets of a client are valid for longer than planned: the old one should be gone.",
        "Run --check-rotation, then --can-revoke CLIENT to see who still uses the old secret.",
    ),
    "overdue": (
        "warning",
        "a secret is overdue for rotation",
        "The older a secret, the more places may know it; policy wants it replaced.",
        "Run --check-rotation and start the rotations that it lists as overdue.",
    ),
}
#: Reasons of findings that a rule of their own tells, as severely and with more to say.
ELSEWHERE = (
    *HYGIENE,
    *("tokens_without_ttl", "undecodable_tokens", "expiry_cliff"),  # thresholds of these names
    *("rotation_failed", "rotation_stuck", "rotator_stuck"),  # PaymentApiRotation...
    "accepts_.+",  # PaymentApiAuthenticationProof
)


def rules() -> Iterator[Rule]:
    """Every rule of this file."""
    for verdict in _VERDICTS:
        yield _rotation(verdict)
    yield _refusal()
    for severity in ("critical", "warning"):
        yield _hygiene(severity)
        yield _findings(severity)


def _rule(alert: str, expr: str, texts: Tuple[str, str, str, str], **more: object) -> Rule:
    severity, summary, meaning, action = texts
    return Rule(
        alert=alert,
        expr=expr,
        severity=severity,
        summary=summary,
        meaning=meaning,
        action=action,
        **{"category": "security", "dashboard": SECURITY, **more},  # type: ignore[arg-type]
    )


def _rotation(verdict: str) -> Rule:
    severity, summary, meaning, action = _VERDICTS[verdict]
    labels = {"verdict": verdict}
    series = f'payment_api_credential_verdicts{{verdict="{verdict}"}}'
    return _rule(
        f"PaymentApiRotation{verdict.capitalize()}",
        f"{series} > 0",
        (severity, f"{summary} (clients: {{{{ $value }}}})", meaning, action),
        component="conjur-vault",
        runbook="rotation-overdue",
        proof=Proof((Series(series, "0", "2"),), f"{summary} (clients: 2)", labels),
    )


def _refusal() -> Rule:
    labels = {"proof": "wrong_secret"}
    return _rule(
        "PaymentApiAuthenticationProof",
        "payment_api_authentication_proof == 0",
        (
            "critical",
            "what must be refused was accepted: {{ $labels.proof }}",
            "Whoever knows of it can log in or pay without a right.",
            "Treat it as an incident: find which release changed the check, and roll it back.",
        ),
        component="authentication-flow",
        runbook="proof-accepted",
        dashboard=AUTHENTICATION,
        proof=Proof(
            (Series('payment_api_authentication_proof{proof="wrong_secret"}', "1", "0"),),
            "what must be refused was accepted: wrong_secret",
            labels,
        ),
    )


def _hygiene(severity: str) -> Rule:
    """The script decides what is severe, accepted by the configuration, or a clock's doing; the
    other metric has the number of tokens."""
    labels = {"finding": "alg_none"}
    judged = f'payment_api_findings{{severity="{severity}"}}'
    named = f'label_replace({judged} > 0, "finding", "$1", "reason", "(.+)")'
    return _rule(
        "PaymentApiTokenHygiene",
        f"payment_api_token_hygiene > 0 and on (environment, finding) {named}",
        (
            severity,
            "{{ $value }} tokens in the cache have the finding {{ $labels.finding }}",
            "These tokens break a rule that protects them: some may be usable by strangers.",
            "Run token_usage_metrics.py --analyze; the finding says what to change in the minter.",
        ),
        component="redis-cache",
        runbook="token-hygiene",
        proof=Proof(
            (
                Series('payment_api_token_hygiene{finding="alg_none"}', "0", "3"),
                Series(_finding("token_usage_metrics", "alg_none", severity), "0", "1"),
                # Accepted by the configuration: no severity that anybody is told of.
                Series('payment_api_token_hygiene{finding="missing_aud"}', "5", "5"),
                Series(_finding("token_usage_metrics", "missing_aud", "ok"), "1", "1"),
            ),
            "3 tokens in the cache have the finding alg_none",
            labels,
        ),
    )


def _finding(script: str, reason: str, severity: str) -> str:
    labels = {"script": script, "reason": reason, "severity": severity}
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"payment_api_findings{{{inside}}}"


def _findings(severity: str) -> Rule:
    script = "credential_usage_metrics"
    return _rule(
        "PaymentApiFinding",
        f'payment_api_findings{{severity="{severity}",reason!~"{"|".join(ELSEWHERE)}"}} > 0',
        (
            severity,
            "{{ $labels.script }} has found {{ $labels.reason }} ({{ $value }})",
            "The script has seen something that no single figure says.",
            "Run the script named with --single-run --verbose: the sentences name client and act.",
        ),
        component="payment-api",
        runbook="security-finding",
        proof=Proof(
            (
                Series(_finding(script, "volume_spike", severity), "0", "2"),
                Series(_finding(script, "rotation_stuck", severity), "1", "1"),
            ),
            f"{script} has found volume_spike (2)",
            {"script": script, "reason": "volume_spike"},
        ),
    )
