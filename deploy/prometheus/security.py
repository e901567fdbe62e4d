"""Findings: what the scripts have seen that no single figure says.

One rule for each reason, named as the scripts' own alert is, with its component, client and
severity, so that the two are one alert for Alertmanager.
"""

from __future__ import annotations

from typing import Iterator, Mapping, Tuple

from deploy.prometheus.rule import Proof, Rule, Series, by_client
from monitoring.alerts import advice
from monitoring.catalog import HYGIENE
from monitoring.model import AlertKey

_CACHE, _EAPI, _SAPI = "redis-cache", "payment-eapi", "payment-sapi"
_LOGIN, _VAULT, _ROTATION = "authentication-flow", "conjur-vault", "rotation-service"
#: Script -> reason -> (where it is found, what it is in a few words).
REASONS: Mapping[str, Mapping[str, Tuple[str, str]]] = {
    "health_check": {
        "accepts_wrong_secret": (_LOGIN, "EAPI accepts a wrong secret"),
        "accepts_tampered": (_LOGIN, "SAPI accepts a token whose signature is wrong"),
        "accepts_expired": (_LOGIN, "SAPI accepts a token that has expired"),
        "accepts_alg_none": (_LOGIN, "SAPI accepts a token without a signature (alg none)"),
        "token_unreadable": (_LOGIN, "EAPI gives a token that is no JWT"),
        "token_unsigned": (_LOGIN, "EAPI gives tokens without a signature"),
        "token_algorithm": (_LOGIN, "EAPI signs tokens with an algorithm outside the policy"),
        "token_without_expiry": (_LOGIN, "EAPI gives tokens that never expire"),
        "token_born_expired": (_LOGIN, "EAPI gives tokens that have already expired"),
        "token_without_issue_time": (_LOGIN, "EAPI gives tokens without a time of issue"),
        "token_clock_skew": (_LOGIN, "the clock of EAPI differs from ours"),
        "token_lifetime": (_LOGIN, "tokens live longer than the policy allows"),
        "token_of_another": (_LOGIN, "EAPI gave one client the token of another"),
        "token_permission": (_LOGIN, "the canary's token lacks its permission"),
    },
    "token_usage_metrics": {
        **{name: (_CACHE, f"tokens break the rule {name}") for name in HYGIENE},
        "out_of_habit": (_CACHE, "tokens are minted, held or refused as never at this hour"),
        "no_tokens": (_CACHE, "no token was found"),
        "clients_going_dark": (_CACHE, "clients do not renew and will lose their last token"),
        "renewing_every_call": (_CACHE, "clients log in for every call"),
        "generation_sources_disagree": (_CACHE, "cache and services count new tokens differently"),
        "validation_sources_disagree": (_SAPI, "cache and services count validations differently"),
        "token_client_claim": (_CACHE, "another claim than the one used seems to name the client"),
        "tokens_of_no_known_client": (_CACHE, "live tokens belong to no known client"),
    },
    "credential_usage_metrics": {
        "failures_then_success": (_EAPI, "many logins failed, then one succeeded"),
        "failure_burst": (_EAPI, "many logins fail at once"),
        "volume_spike": (_EAPI, "many more calls than ever at this hour"),
        "slow_abuse": (_EAPI, "a little more use than usual, for long"),
        "off_habit": (_EAPI, "active at hours at which it never was"),
        "dormant_woken": (_EAPI, "used again after a long silence"),
        "new_client": (_EAPI, "a client that was never seen logs in"),
        "source_fanout": (_EAPI, "used from many more addresses than usual"),
        "source_takeover": (_EAPI, "all its calls come from a strange network"),
        "slow_guessing": (_EAPI, "a strange address guesses its secret, slowly"),
        "failure_spray": (_EAPI, "one strange address tries secrets on many clients"),
        "shared_failures": (_EAPI, "many clients fail at once from their own hosts"),
        "silence": (_EAPI, "a client that always calls has stopped"),
        "disabled_credential_used": (_EAPI, "a credential that was taken out of use is tried"),
        "rotation_failed": (_ROTATION, "a rotation has failed"),
        "rotation_stuck": (_ROTATION, "a rotation is stuck: two secrets are valid"),
        "rotation_unclear": (_ROTATION, "a rotation cannot be followed"),
        "rotation_never_adopted": (_ROTATION, "the new secret of a rotation is not used"),
        "rotation_half_done": (_ROTATION, "a rotation is half done"),
        "rotation_overdue": (_ROTATION, "a secret is overdue for rotation"),
        "rotation_due_soon": (_ROTATION, "a secret is soon due for rotation"),
        "rotation_annotation_broken": (_VAULT, "the vault cannot rotate a secret by itself"),
        "rotation_ttl_malformed": (_VAULT, "a malformed rotation/ttl stops the vault's rotator"),
        "rotator_stuck": (_VAULT, "the vault's own rotator has stopped"),
        "tokens_outlive_credential": (_CACHE, "tokens live on after their secret"),
        "vault_secret_never_set": (_VAULT, "a secret was never set"),
        "vault_client_vanished": (_VAULT, "a client is gone from the vault's list"),
        "vault_client_missing": (_VAULT, "a client is not in the vault"),
        "vault_client_made_again": (_VAULT, "a client was deleted and made again"),
        "permitted_roles_drift": (_VAULT, "more identities may read a secret"),
        "identity_holds_execute": (_VAULT, "the monitor's own identity may read secrets"),
        "identity_holds_update": (_VAULT, "the monitor's own identity may change secrets"),
    },
}
#: Reasons that a rule of another file tells: thresholds of these names, and the monitor's own.
ELSEWHERE = ("tokens_without_ttl", "undecodable_tokens", "expiry_cliff", "scan_truncated")
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
