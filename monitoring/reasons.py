"""Values: every reason of a finding, spelt once: which script finds it, where, and what it is; and
the sentence of a rotation, which findings, alerts and rows share."""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.catalog import HYGIENE
from monitoring.components import CACHE, EAPI, LOGIN, ROTATION, SAPI, VAULT
from monitoring.text import safe_id, safe_text

#: Script -> reason -> (where it is found, what it is in a few words).
REASONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "health_check": {
        "accepts_wrong_secret": (LOGIN, "EAPI accepts a wrong secret"),
        "accepts_tampered": (LOGIN, "SAPI accepts a token whose signature is wrong"),
        "accepts_expired": (LOGIN, "SAPI accepts a token that has expired"),
        "accepts_alg_none": (LOGIN, "SAPI accepts a token without a signature (alg none)"),
        "token_unreadable": (LOGIN, "EAPI gives a token that is no JWT"),
        "token_unsigned": (LOGIN, "EAPI gives tokens without a signature"),
        "token_algorithm": (LOGIN, "EAPI signs tokens with an algorithm outside the policy"),
        "token_without_expiry": (LOGIN, "EAPI gives tokens that never expire"),
        "token_born_expired": (LOGIN, "EAPI gives tokens that have already expired"),
        "token_without_issue_time": (LOGIN, "EAPI gives tokens without a time of issue"),
        "token_clock_skew": (LOGIN, "the clock of EAPI differs from ours"),
        "token_lifetime": (LOGIN, "tokens live longer than the policy allows"),
        "token_of_another": (LOGIN, "EAPI gave one client the token of another"),
        "token_permission": (LOGIN, "the canary's token lacks its permission"),
    },
    "token_usage_metrics": {
        **{name: (CACHE, f"tokens break the rule {name}") for name in HYGIENE},
        "out_of_habit": (CACHE, "tokens are issued, kept or refused as never at this hour"),
        "no_tokens": (CACHE, "no token was found"),
        "clients_losing_last_token": (CACHE, "clients do not renew and will lose their last token"),
        "renewing_every_call": (CACHE, "clients log in for every call"),
        "generation_sources_disagree": (CACHE, "cache and services count new tokens differently"),
        "validation_sources_disagree": (SAPI, "cache and services count validations differently"),
        "token_client_claim": (CACHE, "another claim than the one used seems to name the client"),
        "tokens_of_no_known_client": (CACHE, "live tokens belong to no known client"),
        "token_without_birth": (SAPI, "a token is used that nobody issued: it is forged"),
        "cache_not_followed": (CACHE, "the cache cannot be followed as configured"),
        "follow_differs": (CACHE, "following the cache and counting it gave different figures"),
    },
    "credential_usage_metrics": {
        "failures_then_success": (EAPI, "many logins failed, then one succeeded"),
        "failure_burst": (EAPI, "many logins fail at once"),
        "volume_spike": (EAPI, "many more calls than ever at this hour"),
        "slow_abuse": (EAPI, "a little more use than usual, for long"),
        "off_habit": (EAPI, "active at hours at which it never was"),
        "dormant_woken": (EAPI, "used again after a long silence"),
        "new_client": (EAPI, "a client that was never seen logs in"),
        "source_fanout": (EAPI, "used from many more addresses than usual"),
        "source_takeover": (EAPI, "all its calls come from a strange network"),
        "slow_guessing": (EAPI, "a strange address guesses its secret, slowly"),
        "failure_spray": (EAPI, "one strange address tries secrets on many clients"),
        "shared_failures": (EAPI, "many clients fail at once from their own hosts"),
        "silence": (EAPI, "a client that always calls has stopped"),
        "disabled_credential_used": (EAPI, "a credential that was taken out of use is tried"),
        "rotation_failed": (ROTATION, "a rotation has failed"),
        "rotation_stuck": (ROTATION, "a rotation is stuck: two secrets are valid"),
        "rotation_unclear": (ROTATION, "a rotation cannot be followed"),
        "rotation_never_adopted": (ROTATION, "the new secret of a rotation is not used"),
        "rotation_half_done": (ROTATION, "a rotation is half done"),
        "rotation_overdue": (ROTATION, "a secret is overdue for rotation"),
        "rotation_due_soon": (ROTATION, "a secret is soon due for rotation"),
        "rotation_annotation_broken": (VAULT, "the vault cannot rotate a secret by itself"),
        "rotation_ttl_malformed": (VAULT, "a malformed rotation/ttl stops the vault's rotator"),
        "rotator_stuck": (VAULT, "the vault's own rotator has stopped"),
        "tokens_outlive_credential": (CACHE, "tokens live on after their secret"),
        "vault_secret_never_set": (VAULT, "a secret was never set"),
        "vault_client_vanished": (VAULT, "a client is gone from the vault's list"),
        "vault_client_missing": (VAULT, "a client is not in the vault"),
        "vault_client_made_again": (VAULT, "a client was deleted and made again"),
        "permitted_roles_drift": (VAULT, "more identities may read a secret"),
        "identity_holds_execute": (VAULT, "the monitor's own identity may read secrets"),
        "identity_holds_update": (VAULT, "the monitor's own identity may change secrets"),
    },
}
#: What is no matter of security: told when it has lasted, as limits are.
CATEGORIES: Mapping[str, str] = {
    "no_tokens": "availability",
    "clients_losing_last_token": "availability",
    "renewing_every_call": "performance",
    "generation_sources_disagree": "performance",
    "validation_sources_disagree": "performance",
}
#: Reasons that are told as a threshold of that name, or are the monitor's own.
ELSEWHERE = ("tokens_without_ttl", "undecodable_tokens", "expiry_cliff", "scan_truncated")


def of_rotation(client: str, verdict: object, why: object) -> str:
    """The sentence of a client's verdict, as its finding, its alert and its row tell it."""
    what = "rotation stuck: " if verdict == "stuck" else ""
    return f"{safe_id(client)}: {what}{safe_text(str(why))}"
