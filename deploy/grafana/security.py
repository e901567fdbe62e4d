"""Security: logins, token checks, rotations, and what looks wrong."""

from __future__ import annotations

from deploy.grafana.kit import (
    AMBER,
    GREEN,
    RED,
    YES_NO,
    Board,
    Panel,
    Row,
    per_second,
    series,
    total,
)

_VERDICTS = "credential_verdicts"
_STATE = "credential_rotation_state"
_DUE, _MADE = "credential_due_timestamp_seconds", "credential_rotated_timestamp_seconds"
#: States of a client that is in rotation.
BETWEEN = "~initiated|dual_active|old_deprecated|failed"

GLANCE = Row(
    "At a glance",
    [
        Panel(
            "Critical alerts",
            "Firing now, of the scripts.",
            [(total("alerts", severity="critical", state="firing"), "critical")],
            kind="stat", width=4, height=4, steps=[(None, GREEN), (1, RED)],
            runbook="security-finding",
        ),
        Panel(
            "Logins that succeed",
            "Share of logins accepted in the window; promised are 99.97 %.",
            [(f"min({series('authentication_success_ratio')})", "accepted")],
            kind="stat", unit="percentunit", width=4, height=4, decimals=2,
            steps=[(None, RED), (0.95, AMBER), (0.9997, GREEN)], runbook="authentication-failures",
        ),
        Panel(
            "Tokens that pass",
            "Share of validations that succeeded.",
            [(f"min({series('token_validation_success_ratio')})", "passed")],
            kind="stat", unit="percentunit", width=4, height=4, decimals=2,
            limits="security.token_validation_success", runbook="token-validation-failures",
        ),
        Panel(
            "Rotations off track",
            "Credentials that are overdue, stuck or failed.",
            [(total(_VERDICTS, verdict="~overdue|stuck|failed"), "off track")],
            kind="stat", width=4, height=4, steps=[(None, GREEN), (1, RED)],
            runbook="rotation-overdue",
        ),
        Panel(
            "Anomalies",
            "Anomalous uses of credentials in the window.",
            [(f"max({series('credential_access_anomalies_recent')})", "anomalies")],
            kind="stat", width=4, height=4, limits="security.credential_access_anomalies",
            runbook="credential-anomalies",
        ),
        Panel(
            "Strangers",
            "Logins by unknown or disabled clients in the window.",
            [(f"max({series('unauthorized_access_attempts')})", "attempts")],
            kind="stat", width=4, height=4, limits="security.unauthorized_access_attempts",
            runbook="unauthorized-access",
        ),
    ],
)  # fmt: skip

LOGINS = Row(
    "Authentication success and failure",
    [
        Panel(
            "Success and failure rates",
            "Share of logins accepted and refused in the window.",
            [
                (f"min({series('authentication_success_ratio')})", "accepted"),
                (f"max({series('authentication_failure_ratio')})", "refused"),
            ],
            unit="percentunit", low=0, high=1, runbook="authentication-failures",
        ),
        Panel(
            "Failed logins by client",
            "In the window; `other` are those beyond the first clients, `(none)` named no client.",
            [(f"topk(10, max by (client_id) ({series('authentication_failures_recent')}))",
              "{{client_id}}")],
            limits="security.authentication_failures", low=0, runbook="authentication-failures",
        ),
        Panel(
            "Logins per second",
            "Tried and refused, from the services' counters.",
            [
                (per_second("authentication_attempts_total"), "tried"),
                (per_second("authentication_failures_total"), "refused"),
            ],
            unit="cps", low=0, runbook="authentication-failures",
        ),
        Panel(
            "What must be refused",
            "The canary's negative proofs. Anything accepted here is an incident.",
            [(f"min by (proof) ({series('authentication_proof')})", "{{proof}}")],
            kind="timeline", texts=YES_NO, steps=[(None, RED), (1, GREEN)],
            runbook="proof-accepted",
        ),
        Panel(
            "Failure rate by client",
            "Refused logins per second; a single client points to its secret, all to the vault.",
            [(f"topk(10, {per_second('authentication_failures_total', 'client_id')})",
              "{{client_id}}")],
            unit="cps", low=0, runbook="authentication-failures",
        ),
        Panel(
            "Share of logins refused",
            "Against its limits.",
            [(f"max({series('authentication_failure_ratio')})", "refused")],
            unit="percentunit", limits="security.authentication_failure_ratio", low=0,
            runbook="authentication-failures",
        ),
    ],
)  # fmt: skip

VALIDATIONS = Row(
    "Token validation",
    [
        Panel(
            "Validations",
            "Per second, by result.",
            [(per_second("token_validations_total", "result"), "{{result}}")],
            unit="cps", stacked=True, low=0, runbook="token-validation-failures",
        ),
        Panel(
            "Failures by reason",
            "Per second. Expired points to renewals, a bad signature to keys or to forgery.",
            [(per_second("token_validation_failures_total", "reason"), "{{reason}}")],
            unit="cps", stacked=True, low=0, runbook="token-validation-failures",
        ),
        Panel(
            "Failures in the window",
            "Against their limits.",
            [(f"max({series('token_validation_failures_recent')})", "failed")],
            limits="security.token_validation_failures", low=0, runbook="token-validation-failures",
        ),
    ],
)  # fmt: skip

ROTATION = Row(
    "Credential rotation status",
    [
        Panel(
            "Credentials by verdict",
            "ok, due soon, overdue, stuck, failed, unused, or unknown.",
            [(total(_VERDICTS, "verdict"), "{{verdict}}")],
            stacked=True, low=0, runbook="rotation-overdue",
        ),
        Panel(
            "Oldest secrets",
            "Age of the current secret of a client. Policy rotates at the upper limit.",
            [(f"topk(10, time() - min by (client_id) ({series(_MADE)}))",
              "{{client_id}}")],
            kind="bargauge", unit="s", limits="security.credential_age_days", low=0,
            runbook="rotation-overdue",
        ),
        Panel(
            "Due next",
            "Time until rotation is due; below zero it is late.",
            [(f"bottomk(10, min by (client_id) ({series(_DUE)}) - time())",
              "{{client_id}}")],
            kind="bargauge", unit="s", steps=[(None, RED), (0, AMBER), (1209600, GREEN)],
            runbook="rotation-overdue",
        ),
        Panel(
            "In rotation",
            "Clients that are between two secrets, and the state each is in.",
            [(f"max by (client_id, state) ({series(_STATE, state=BETWEEN)}) == 1", "")],
            kind="table", runbook="rotation-overdue", empty="no running rotation is recorded",
        ),
        Panel(
            "Live tokens of old secrets",
            "A rotation is safe to finish at zero: nobody needs the old secret any more.",
            [(f"topk(10, max by (client_id) ({series('credential_old_version_tokens')}))",
              "{{client_id}}")],
            low=0, runbook="rotation-overdue",
        ),
    ],
)  # fmt: skip

ANOMALIES = Row(
    "Security anomalies",
    [
        Panel(
            "Findings",
            "Of the last cycles, by reason.",
            [(total("findings", "reason"), "{{reason}}")],
            stacked=True, low=0, runbook="security-finding",
        ),
        Panel(
            "Anomalous use by reason",
            "Found in each cycle.",
            [(total("credential_access_anomalies", "reason"), "{{reason}}")],
            stacked=True, low=0, runbook="credential-anomalies",
        ),
        Panel(
            "Strangers",
            "Unknown client ids, and logins by unknown or disabled clients.",
            [
                (f"max({series('unknown_client_ids')})", "unknown ids"),
                (f"max({series('unauthorized_access_attempts')})", "attempts"),
            ],
            limits="security.unauthorized_access_attempts", low=0, runbook="unauthorized-access",
        ),
        Panel(
            "Token hygiene",
            "Tokens in the cache that break a rule of the policy.",
            [(total("token_hygiene", "finding"), "{{finding}}")],
            low=0, runbook="token-hygiene",
        ),
        Panel(
            "Tokens without expiry",
            "They stay in the cache for ever.",
            [(f"max({series('tokens_without_ttl')})", "without TTL")],
            limits="security.tokens_without_ttl", low=0, runbook="token-hygiene",
        ),
        Panel(
            "Unreadable values",
            "Values under token keys that could not be read, by reason.",
            [(f"max by (reason) ({series('tokens_undecodable')})", "{{reason}}")],
            limits="security.undecodable_tokens", low=0, runbook="token-hygiene",
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "payment-api-security",
    "Payment API: Security",
    "Who logs in, whose tokens pass, which secrets are old, and what looks wrong?",
    (GLANCE, LOGINS, VALIDATIONS, ROTATION, ANOMALIES),
)
