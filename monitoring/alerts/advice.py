"""Decision: what an alert means for whom, the first thing to do, and where to read on.

The texts are data here and in `advice_texts`; the runbook of a threshold is the
catalogue's. Every name gets an answer: what has no text of its own gets its category's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional

from monitoring.alerts import advice_texts as texts
from monitoring.catalog import THRESHOLDS
from monitoring.components import LOGIN, ROWS

# -- what alerts on findings say, by the finding's reason; see advice_texts.

#: Finding reason -> (meaning, first thing to do, page). A finding's own texts win.
FINDINGS: Mapping[str, tuple[str, str, str]] = {
    "volume_spike": (
        "The client calls far more than it ever did at this hour.",
        "Ask its owner; if nobody knows of it, rotate the secret.",
        "credential-anomalies",
    ),
    "slow_abuse": (
        "The client's use has been a little higher for long: a stolen secret may be in quiet use.",
        "Compare its source addresses with last month's and ask its owner.",
        "credential-anomalies",
    ),
    "off_habit": (
        "The client is active at hours at which it never was.",
        "Ask its owner whether a job was moved; if not, rotate the secret.",
        "credential-anomalies",
    ),
    "dormant_woken": (
        "A client that was silent for long is used again.",
        "Ask its owner; disable it if nobody needs it.",
        "credential-anomalies",
    ),
    "new_client": (
        "A client that was never seen before logs in.",
        "Check that it was registered on purpose.",
        "credential-anomalies",
    ),
    "failure_burst": (
        "Many logins of the client fail at once: a failed rollout, or somebody guesses its secret.",
        "See whether its secret was just rotated; if not, block the callers.",
        "authentication-failures",
    ),
    "source_fanout": (
        "The client's secret is used from many more addresses than usual.",
        "Compare the addresses with its owner's hosts; rotate the secret if some are strange.",
        "credential-anomalies",
    ),
    "source_takeover": (
        "All its calls come from a strange network now, as many as ever: its secret may be stolen.",
        "Ask its owner whether it has moved; if not, rotate the secret and block the addresses.",
        "credential-anomalies",
    ),
    "slow_guessing": (
        "A strange address tries secrets of the client, too seldom to be a burst.",
        "Block the address; see that the client's secret is long and was made at random.",
        "authentication-failures",
    ),
    "failure_spray": (
        "One strange address tries a few secrets on many clients.",
        "Block the address, then look whether one of these clients let it in.",
        "authentication-failures",
    ),
    "shared_failures": (
        "Many clients fail at once from their own hosts: something of the platform broke.",
        "Look at what changed in this hour: a release, a rotation, the vault, the network.",
        "authentication-failures",
    ),
    "out_of_habit": (
        "Taken together, tokens are issued, kept or refused as never before at this hour.",
        "See which client it is with token_usage_metrics.py --analyze, then ask its owner.",
        "credential-anomalies",
    ),
    "silence": (
        "A client that always calls has stopped: its payments may be failing before they reach us.",
        "Ask its owner and check its way to EAPI.",
        "client-silent",
    ),
    "no_tokens": (
        "Either nobody can log in, or the monitor looks for tokens under the wrong keys.",
        "Compare the patterns tried with the key prefixes that are there.",
        "no-tokens",
    ),
    "token_without_birth": (
        "A token is accepted that nobody issued: who has the signing key can act as any client.",
        "Rotate the signing key that the finding names, then see what the token was used for.",
        "forged-token",
    ),
    "cache_not_followed": (
        "TOKENS['follow'] is on, and the cache does not let us: forged tokens are not looked for.",
        "Grant what the finding names (deploy/redis/followers.acl).",
        "monitoring-blind",
    ),
    "follow_differs": (
        "The figures of following the cache were wrong, by a full count beside it.",
        "See the log for gaps; the count is believed from here on.",
        "monitoring-blind",
    ),
    "clients_losing_last_token": (
        "Nothing shows that these clients renew: their payments fail when their tokens end.",
        "Ask their owners to renew before the end.",
        "client-silent",
    ),
    "renewing_every_call": (
        "These clients log in for every call, or run as many instances as they have live tokens.",
        "Where they do not run that many, have them keep a token until shortly before its end.",
        "token-hygiene",
    ),
    "scan_truncated": (
        "Part of the cache was not looked at; figures are of the part that was.",
        "Raise --max-keys or --time-budget, or scan a replica.",
        "monitoring-blind",
    ),
    "generation_sources_disagree": (
        "Tokens live shorter than the window, are evicted, or are issued by somebody else.",
        "Compare rate_window with the token lifetime; see that every EAPI instance is read.",
        "token-hygiene",
    ),
    "validation_sources_disagree": (
        "A few callers that try again and again show in the counters and not in the cache.",
        "See which client fails most in the services' own metrics.",
        "token-validation-failures",
    ),
    "expiry_cliff": (
        "Many clients will log in at the same moment and may overload EAPI and the vault.",
        "See when it is due; renew some clients early or ask them to spread their renewals.",
        "expiry-cliff",
    ),
    "disabled_credential_used": (
        "A credential that was taken out of use is still tried, by a forgotten job or a thief.",
        "Find the callers by their addresses; see that no live token is left.",
        "unauthorized-access",
    ),
    "failures_then_success": (
        "After many failed logins one worked: a secret may have been guessed.",
        "Ask the client's owner at once; if they know nothing of it, rotate the secret.",
        "authentication-failures",
    ),
    "vault_client_vanished": (
        "Its variable was deleted or hidden; its client cannot log in once EAPI's cache ends.",
        "Ask who changed the vault's policy; if nobody did, treat it as an attack.",
        "vault-clients",
    ),
    "vault_client_missing": (
        "Nobody can say how old its secret is, or who may read it.",
        "See whether its variable exists; grant read on it to the monitor's group.",
        "vault-clients",
    ),
    "vault_client_made_again": (
        "It has another secret now, which whoever made it again knows.",
        "Ask who did it and whether the client's owner has the new secret.",
        "vault-clients",
    ),
    "vault_secret_never_set": (
        "The client exists in the policy alone: nobody can log in with it.",
        "Set its secret, or take the variable out of the policy.",
        "vault-clients",
    ),
    "notification_channel_failing": (
        "Alerts do not reach the people on this channel; what waits is kept and sent later.",
        "Run --test-alerts for the channel and check its address, key and network.",
        "notification-channel",
    ),
    "rotation_stuck": (
        "Two secrets of this client are valid, and the old one cannot be taken out of use.",
        "Run --check-rotation; its line for the client says what to do next.",
        "rotation-overdue",
    ),
    "tokens_outlive_credential": (
        "Whoever holds a token that was given for the old secret may use it until it ends.",
        "Wait for their end; if the old secret is known to others, revoke them.",
        "rotation-overdue",
    ),
}

_ACCEPTED = (
    "A service accepts what it must refuse: whoever reaches it can act as any client.",
    "Take the service out of use or close its network; look at its last change.",
    "proof-accepted",
)
_HYGIENE = (
    "Tokens are not as the policy wants them: a stolen or forged one may do more harm.",
    "See which clients the evidence names and what EAPI writes for them.",
    "token-hygiene",
)
_ROTATION = (
    "The secret's rotation is not on track: it grows old, or stands between two secrets.",
    "Run --check-rotation; its line for the client says what to do next.",
    "rotation-overdue",
)

_COUNTERS = (
    "What the services count of it is not understood whole: an attack may not be seen.",
    "Name the label, word or family of the sentence in SERVICE_METRICS.",
    "monitoring-blind",
)

#: Patterns of reasons that share a text; the first that fits, after FINDINGS.
FAMILIES: tuple[tuple[str, tuple[str, str, str]], ...] = (
    *((f"*_{kind}", _COUNTERS) for kind in ("not_understood", "without_clients", "lower_bound")),
    ("accepts_*", _ACCEPTED),
    ("rotation_*", _ROTATION),
    ("rotator_*", _ROTATION),
    ("credential_*", _ROTATION),
    *((name, _ROTATION) for name in ("overdue", "due_soon", "stuck", "unused", "failed")),
    *((name, _ROTATION) for name in ("half_done", "never_adopted")),
    *((glob, _HYGIENE) for glob in ("token*", "hygiene_*", "ttl_*", "missing_*", "unexpected_*")),
    ("undecodable_tokens", _HYGIENE),
    *((name, _HYGIENE) for name in ("without_ttl", "expired_served", "lifetime_above_policy")),
    *((name, _HYGIENE) for name in ("alg_none", "iat_in_future", "jti_conflict", "jwt_in_key")),
    ("permissions_outside", _HYGIENE),
)

# -- what an alert means for whom, the first thing to do, and where to read on.

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


def for_component(component: str, error: str = "", failed_at: str = "") -> Advice:
    """Advice on a component that is down. `error` is the fault's kind: where it says the cause, it
    says the first thing to do; else its hint comes after the component's. `failed_at`: the service
    at which a login failed."""
    row = ROWS.get(component)
    own = row and (row.meaning, row.action, row.runbook)
    meaning, action, runbook = own or texts.ANY_COMPONENT
    if failed_at:
        return Advice(meaning, texts.login_failed(failed_at, error), runbook, AUTHENTICATION)
    hint = texts.FAULTS.get(error, "")
    step = hint if hint and error not in texts.UNEXPLAINED else f"{action} {hint}".strip()
    return Advice(meaning, step, runbook, _board(component))


def for_degraded(component: str, error: str = "") -> Advice:
    """Advice on a component that works, but not as it should; where the kind of `error` says the
    cause, it says the first thing to do."""
    row = ROWS.get(component)
    runbook = row.runbook if row else texts.ANY_COMPONENT[2]
    meaning, step = texts.DEGRADED
    if error in texts.FAULTS and error not in texts.UNEXPLAINED:
        step = texts.FAULTS[error]
    if error in texts.SEEN_IN_PART:
        meaning = texts.SEEN_IN_PART[error]
    return Advice(meaning, step, runbook, _board(component))


def _board(component: str) -> str:
    """The dashboard on which a component is looked at."""
    return AUTHENTICATION if component == LOGIN else HEALTH


def for_blindness() -> Advice:
    """Advice on something that the monitor should see and cannot."""
    return Advice(*texts.BLIND, HEALTH)


def for_finding(reason: str, category: str = "security") -> Advice:
    """Advice on a finding by its reason."""
    found = FINDINGS.get(reason) or _family(reason)
    if found is None:
        return _general(category)
    meaning, action, runbook = found
    return Advice(meaning, action, runbook, _DASHBOARDS.get(category, HEALTH))


def runbooks() -> tuple[str, ...]:
    """Every page of docs/runbooks that an alert may link to, sorted."""
    pages = {threshold.runbook for threshold in THRESHOLDS.values()}
    pages |= {row.runbook for row in ROWS.values()} | {texts.ANY_COMPONENT[2]}
    pages |= {row[2] for row in FINDINGS.values()} | set(texts.GENERAL.values())
    pages |= {text[2] for _, text in FAMILIES}
    return tuple(sorted(pages | {texts.BLIND[2]}))


def _family(reason: str) -> Optional[tuple[str, str, str]]:
    return next((text for glob, text in FAMILIES if fnmatchcase(reason, glob)), None)


def _general(category: str) -> Advice:
    known = category if category in texts.CATEGORIES else "security"
    meaning, action = texts.CATEGORIES[known]
    return Advice(meaning, action, texts.GENERAL[known], _DASHBOARDS[known])
