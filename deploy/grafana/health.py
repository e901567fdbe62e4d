"""Service Health: availability, response times, error rates, resources, and the monitor itself."""

from __future__ import annotations

from deploy.grafana.health_below import MONITOR, RESOURCES
from deploy.grafana.kit import AMBER, GREEN, RED, UP_DOWN, WINDOW, Board, Panel, Row, series, total

_UP = "health_status"
_EXPIRY = "tls_certificate_expiry_timestamp_seconds"
_MS = "response_time_ms"
_BURN = "error_budget_burn_rate"
STATUS = {
    "0": ("ok", GREEN),
    "1": ("unknown", "purple"),
    "2": ("warning", AMBER),
    "3": ("critical", RED),
}
_P95 = (
    "histogram_quantile(0.95, sum by (le, component) (rate("
    + series("response_time_seconds", "_bucket")
    + f"[{WINDOW}])))"
)

GLANCE = Row(
    "At a glance",
    [
        Panel(
            "All components",
            "Whether everything was up in the last cycle. Empty: something could not be judged.",
            [(f"min({series('system_up')})", "system")],
            kind="stat", width=4, height=4, texts=UP_DOWN, runbook="component-down",
            steps=[(None, RED), (1, GREEN)],
        ),
        Panel(
            "Components",
            "Each component as the last cycle found it. Missing: not known, see the monitor's row.",
            [(f"min by (component) ({series(_UP)})", "{{component}}")],
            kind="stat", width=12, height=4, texts=UP_DOWN, runbook="component-down",
            steps=[(None, RED), (1, GREEN)],
        ),
        Panel(
            "Scripts",
            "Result of each script's last cycle.",
            [(f"max by (script) ({series('status')})", "{{script}}")],
            kind="stat", width=8, height=4, texts=STATUS,
        ),
    ],
)  # fmt: skip

AVAILABILITY = Row(
    "Component availability",
    [
        Panel(
            "Up and down",
            "When each component was up. Gaps are times at which nobody looked.",
            [(f"min by (component) ({series(_UP)})", "{{component}}")],
            kind="timeline", width=16, texts=UP_DOWN, runbook="component-down",
            steps=[(None, RED), (1, GREEN)],
        ),
        Panel(
            "Availability, 30 days",
            "Share of the watched time in which the component was up, as the scripts recorded it.",
            [
                (f"avg by (component) ({series('sla_availability_ratio', window='30d')})",
                 "{{component}}"),
                (f"avg({series('system_sla_availability_ratio', window='30d')})", "all together"),
            ],
            kind="bargauge", unit="percentunit", runbook="error-budget", decimals=3,
            low=0.99, high=1, steps=[(None, RED), (0.999, AMBER), (0.9995, GREEN)],
        ),
        Panel(
            "Error budget left, 30 days",
            "1: untouched, 0: spent, below: the target is missed.",
            [
                (f"min by (component) ({series('error_budget_remaining_ratio', window='30d')})",
                 "{{component}}"),
                (f"min({series('system_error_budget_remaining_ratio', window='30d')})",
                 "all together"),
            ],
            unit="percentunit", runbook="error-budget", high=1,
            steps=[(None, RED), (0, AMBER), (0.1, GREEN)],
        ),
        Panel(
            "Burn rate, 1 hour",
            "How many times faster than allowed the error budget is used. From 14.4 somebody is "
            "woken up.",
            [
                (f"max by (component) ({series(_BURN, window='1h')})", "{{component}}"),
                (f"max({series(f'system_{_BURN}', window='1h')})", "all together"),
            ],
            limits="availability.error_budget_burn_rate", runbook="error-budget", low=0,
        ),
        Panel(
            "Time not watched",
            "Share of each window in which nobody looked: it counts neither as up nor as down.",
            [
                (f"max by (window) ({series('sla_unknown_ratio')})", "{{window}}"),
                (f"max by (window) ({series('system_sla_unknown_ratio')})",
                 "all together, {{window}}"),
            ],
            unit="percentunit", runbook="monitoring-blind", low=0, high=1,
        ),
        Panel(
            "Targets",
            "The availability that is promised for each component.",
            [
                (f"max by (component) ({series('sla_target_ratio')})", "{{component}}"),
                (f"max({series('system_sla_target_ratio')})", "all together"),
            ],
            kind="stat", unit="percentunit", decimals=3, runbook="error-budget",
        ),
        Panel(
            "Dependencies, as the services report them",
            "Not our own check. A dependency that is down here and up above means that the way "
            "between the two is broken.",
            [(f"min by (component, dependency) ({series('dependency_status')})",
              "{{component}}: {{dependency}}")],
            kind="timeline", texts=UP_DOWN, runbook="component-down",
            steps=[(None, RED), (1, GREEN)],
        ),
        Panel(
            "Certificates",
            "Time until the first certificate of the chain expires.",
            [(f"min by (component) ({series(_EXPIRY)}) - time()",
              "{{component}}")],
            kind="bargauge", unit="s", limits="availability.tls_certificate_days",
            runbook="certificate-expiry", low=0,
        ),
    ],
)  # fmt: skip


def _response(title: str, pattern: str, limit: str, runbook: str) -> Panel:
    matcher = {"component": f"~{pattern}"}
    return Panel(
        title,
        "Response time of the last check, and the limits of the configuration.",
        [(f"max by (component) ({series(_MS, **matcher)})", "{{component}}")],
        unit="ms",
        limits=f"performance.{limit}",
        runbook=runbook,
        low=0,
        width=6,
    )


RESPONSES = Row(
    "Response times",
    [
        _response(
            "Services", "payment-eapi|payment-sapi", "api_response_time", "slow-service"
        ),
        _response("Vault", "conjur-vault", "vault_response_time", "slow-vault"),
        _response("Cache", "redis-cache", "redis_response_time", "slow-redis"),
        _response(
            "Whole login", "authentication-flow", "authentication_time", "slow-authentication"
        ),
        Panel(
            "95th percentile",
            "Of the checks of the last minutes; promised are 500 ms for the services.",
            [(_P95, "{{component}}")],
            unit="s", runbook="slow-service", low=0,
        ),
        Panel(
            "Where the time goes",
            "Phases of the last request. Slow connect is the network, slow first byte the service.",
            [(f"max by (component, phase) ({series('request_phase_seconds')})",
              "{{component}} {{phase}}")],
            unit="s", runbook="slow-service", low=0,
        ),
        Panel(
            "Clock skew",
            "Clock of each component minus the monitor's. Tokens die early or start late by it.",
            [(f"max by (component) ({series('clock_skew_seconds')})", "{{component}}")],
            unit="s", limits="performance.clock_skew", runbook="clock-skew",
        ),
    ],
)  # fmt: skip

ERRORS = Row(
    "Error rates",
    [
        Panel(
            "Server errors",
            "Share of the services' answers that were 5xx since the cycle before.",
            [(f"max by (component) ({series('service_error_ratio')})", "{{component}}")],
            unit="percentunit", limits="performance.service_error_ratio", runbook="service-errors",
            low=0,
        ),
        Panel(
            "Requests",
            "What the services answered, per second. Errors without requests mean little.",
            [(total("service_request_rate", "component"), "{{component}}")],
            unit="reqps", runbook="service-errors", low=0,
        ),
        Panel(
            "Cache refuses",
            "Connections refused and keys evicted since the cycle before.",
            [
                (total("redis_rejections_recent", "node"), "{{node}} refused"),
                (total("redis_evictions_recent", "node"), "{{node}} evicted"),
            ],
            limits="performance.redis_evictions", runbook="redis-connections", low=0,
        ),
    ],
)  # fmt: skip

BOARD = Board(
    "payment-api-health",
    "Payment API: Service Health",
    "Are the components up and fast, and do we keep our service levels?",
    (GLANCE, AVAILABILITY, RESPONSES, ERRORS, RESOURCES, MONITOR),
)
