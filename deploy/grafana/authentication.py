"""Authentication: tokens from their minting to their end, by client, and how long a login takes."""

from __future__ import annotations

from deploy.grafana.kit import AMBER, GREEN, RED, Board, Panel, Row, per_second, series

_CLIENT = {"client_id": "~$client"}
_FAILED = series("authentication_failures_recent", **_CLIENT)
_BEHIND = series("response_time_ms", component="~conjur-vault|redis-cache")

RATES = Row(
    "Token generation and validation",
    [
        Panel(
            "Generation rate",
            "Tokens minted per minute, as the cache shows it.",
            [(f"max({series('token_generation_rate')})", "minted")],
            unit="opm", low=0, runbook="client-silent",
        ),
        Panel(
            "Minted and validated",
            "Per second, from the services' counters.",
            [
                (per_second("tokens_generated_total"), "minted"),
                (per_second("token_validations_total", "result"), "validated: {{result}}"),
            ],
            unit="cps", low=0, runbook="token-validation-failures",
        ),
        Panel(
            "Validations that succeed",
            "Share, against its limits.",
            [(f"min({series('token_validation_success_ratio')})", "passed")],
            unit="percentunit", limits="security.token_validation_success", high=1,
            runbook="token-validation-failures",
        ),
    ],
)  # fmt: skip

LIFECYCLE = Row(
    "Token lifecycle",
    [
        Panel(
            "Tokens in the cache",
            "Live ones, those past their end that are still there, and those that never end.",
            [
                (f"max({series('tokens_active')})", "live"),
                (f"max({series('tokens_expired')})", "expired"),
                (f"max({series('tokens_without_ttl')})", "without TTL"),
            ],
            low=0, runbook="token-hygiene",
        ),
        Panel(
            "Dying soon",
            "Live tokens that end within the time named.",
            [(f"max by (within) ({series('tokens_expiring')})", "within {{within}}")],
            low=0, runbook="expiry-cliff",
        ),
        Panel(
            "Expiry cliff",
            "Largest share of live tokens that die within one minute: their clients will all log "
            "in at once.",
            [(f"max({series('token_expiry_cliff_ratio')})", "share")],
            unit="percentunit", limits="availability.expiry_cliff", low=0, high=1,
            runbook="expiry-cliff",
        ),
        Panel(
            "Forged tokens",
            "Tokens that are used and were never minted, where the cache is followed.",
            [(f"max({series('tokens_without_birth')})", "forged")],
            low=0, steps=[(None, GREEN), (1, RED)], runbook="forged-token",
        ),
        Panel(
            "Is the cache followed?",
            "How that stands, and since when no change was missed.",
            [
                (f"max by (state) ({series('token_lineage_state')})", "{{state}}"),
            ],
            kind="timeline", texts={"0": ("no", GREEN), "1": ("yes", GREEN)},
            steps=[(None, GREEN)], runbook="monitoring-blind",
        ),
        Panel(
            "What becomes of tokens",
            "Where the cache is followed: tokens by what became of them, and good verdicts by "
            "whether the token's birth was seen.",
            [
                (per_second("token_changes_total", "change"), "{{change}}"),
                (per_second("token_uses_total", "birth"), "birth {{birth}}"),
            ],
            unit="ops", low=0, runbook="token-hygiene",
        ),
        Panel(
            "Lifetime",
            "From minting to end; policy allows an hour.",
            [(f"max by (stat) ({series('token_lifetime_seconds')})", "{{stat}}")],
            unit="s", low=0, runbook="token-hygiene",
        ),
        Panel(
            "Remaining life",
            "Of the live tokens.",
            [(f"max by (stat) ({series('token_remaining_seconds')})", "{{stat}}")],
            unit="s", low=0, runbook="expiry-cliff",
        ),
        Panel(
            "Renewals",
            "Seen in the cache: on time, early or late. Late ones are failed calls of a client.",
            [(f"max by (timing) ({series('token_renewals')})", "{{timing}}")],
            low=0, runbook="expiry-cliff",
        ),
    ],
)  # fmt: skip

CLIENTS = Row(
    "Client authentication patterns",
    [
        Panel(
            "Live tokens by client",
            "The ten with most. Many tokens of one client: it does not reuse them.",
            [(f"topk(10, max by (client_id) ({series('client_tokens_active', **_CLIENT)}))",
              "{{client_id}}")],
            low=0, runbook="credential-anomalies",
        ),
        Panel(
            "Minted by client",
            "Tokens per minute, the ten with most.",
            [(f"topk(10, max by (client_id) ({series('client_token_generation_rate', **_CLIENT)}))",
              "{{client_id}}")],
            unit="opm", low=0, runbook="credential-anomalies",
        ),
        Panel(
            "Logins by client",
            "Per second, the ten with most.",
            [(f"topk(10, {per_second('authentication_attempts_total', 'client_id', **_CLIENT)})",
              "{{client_id}}")],
            unit="cps", low=0, runbook="credential-anomalies",
        ),
        Panel(
            "Failed logins by client",
            "In the window.",
            [(f"topk(10, max by (client_id) ({_FAILED}))", "{{client_id}}")],
            limits="security.authentication_failures", low=0, runbook="authentication-failures",
        ),
        Panel(
            "Clients now",
            "Live tokens of every client that has a series of its own.",
            [(f"sort_desc(max by (client_id) ({series('client_tokens_active', **_CLIENT)}))", "")],
            kind="table", width=16, runbook="client-silent", figure="live tokens",
        ),
    ],
)  # fmt: skip

LATENCY = Row(
    "Authentication latency",
    [
        Panel(
            "A whole login",
            "What the canary waits for a token.",
            [(f"max({series('response_time_ms', component='authentication-flow')})", "login")],
            unit="ms", limits="performance.authentication_time", low=0,
            runbook="slow-authentication",
        ),
        Panel(
            "Its steps",
            "Which step is slow says whose page to open.",
            [(f"max by (step) ({series('authentication_step_seconds')})", "{{step}}")],
            unit="s", low=0, stacked=True, runbook="slow-authentication",
        ),
        Panel(
            "Token validation",
            "Time SAPI takes for the canary's token.",
            [(f"max({series('authentication_step_seconds', step='validate')})", "validate")],
            unit="s", limits="performance.token_validation_time", low=0,
            runbook="slow-authentication",
        ),
        Panel(
            "Vault and cache behind it",
            "What a login has to wait for.",
            [
                (f"max by (component) ({_BEHIND})", "{{component}}"),
            ],
            unit="ms", low=0, runbook="slow-vault",
        ),
        Panel(
            "Does a login work?",
            "From end to end, with the canary's own secret.",
            [(f"min({series('health_status', component='authentication-flow')})", "login")],
            kind="timeline", texts={"0": ("no", RED), "1": ("yes", GREEN)},
            steps=[(None, RED), (1, GREEN)], runbook="authentication-flow",
        ),
        Panel(
            "Scan of the token keys",
            "How long the last one took, and whether it ended early (1).",
            [
                (f"max({series('scan_duration_seconds')})", "duration"),
                (f"max({series('scan_truncated')})", "ended early"),
            ],
            unit="s", low=0, steps=[(None, GREEN), (60, AMBER)], runbook="monitoring-blind",
        ),
        Panel(
            "Keys seen",
            "By the last scan.",
            [(f"max({series('scan_keys')})", "keys")],
            low=0, runbook="monitoring-blind",
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "payment-api-auth",
    "Payment API: Authentication",
    "How are tokens minted, used, renewed and ended, by whom, and how long does a login take?",
    (RATES, LIFECYCLE, CLIENTS, LATENCY),
    (("client", "Client", "label_values(payment_api_client_tokens_active, client_id)"),),
)
