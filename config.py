"""Settings of the payment API monitoring. `config.py` is yours to edit; this is its template.

What wins, later over earlier: config.example.py -> config.py -> the file of --config (or
MONITORING_CONFIG) -> environment variables (a .env file beside the scripts counts as such) ->
command-line flags. A name or a key you leave out keeps the value of config.example.py.
`python health_check.py --check-config` shows what is in force and where each value came from.

Values only, at most os.environ.get (after `import os`). Durations are '90s', '15m', '24h', '7d',
'2w', or seconds.
A comment [NAME] names the environment variable that wins over the value here; a secret may also
come as NAME_FILE, the path of a file, which is read again whenever it is needed. In this file a
secret may be written as {'file': '/run/secrets/redis'}.
"""

# --- Which environment ---------------------------------------------------------------------------
# dev, test, staging or prod; picks overrides from ENVIRONMENTS at the end of this file and labels
# every alert and log line. prod demands TLS verification and refuses example secrets.
MONITORING_ENV = "test"  # [MONITORING_ENV]

# --- What is watched -----------------------------------------------------------------------------
# Everything points at this machine until you say otherwise, so that a forgotten setting cannot
# reach a stranger. A context path belongs to the URL: 'https://gateway.example.com/payments'.
# An empty URL means: there is none, do not watch it.
EAPI_ENDPOINT = "http://localhost:8080"  # Payment-EAPI [EAPI_ENDPOINT]
SAPI_ENDPOINT = "http://localhost:8081"  # Payment-SAPI [SAPI_ENDPOINT]
ROTATION_ENDPOINT = ""  # credential rotation service [ROTATION_ENDPOINT]
# Bearer token for these services, if they want one.
MONITORING_AUTH_TOKEN = ""  # [MONITORING_AUTH_TOKEN]

# Paths below the endpoints. Empty: the service has none. Actuator layouts: '/actuator/health',
# '/management/prometheus'.
SERVICE_PATHS = {
    "payment-eapi": {
        "health": "/api/v1/health",
        "detailed": "/api/v1/health/detailed",
        "metrics": "/actuator/prometheus",
        "token": "/api/v1/auth/token",
    },
    "payment-sapi": {
        "health": "/internal/v1/health",
        "detailed": "/internal/v1/health/detailed",
        "metrics": "/actuator/prometheus",
        "validate": "/internal/v1/tokens/validate",
    },
}

# What the services' own health words mean, where they are not the usual ones (UP, DEGRADED, DOWN,
# ...): ok, warning, critical or unknown, as in {'FATAL': 'critical', 'RESTRICTED': 'warning'}.
STATUS_WORDS = {}

# Further components to watch: probed, judged, alerted and counted like the five. A name of yours,
# its kind (http, tcp, tls or redis) and where it is, as in
# {'ledger-database': {'kind': 'tcp', 'host': 'ledger.internal', 'port': 5432}}. There are also
# url and status (http), ssl and password_file (redis), verify, ca_file, timeout, target (percent).
COMPONENTS = {}

# Several instances behind one endpoint: list the metrics URL of each, or their counters cannot be
# told apart. Empty: the endpoint with the metrics path above.
METRICS_URLS = {
    "payment-eapi": [],
    "payment-sapi": [],
}

# A deadline for the whole exchange, not for one read: a peer that drips bytes is held to it too.
TIMEOUTS = {
    "payment-eapi": "5s",
    "payment-sapi": "5s",
    "conjur-vault": "5s",
    "redis-cache": "2s",
    "redis-scan": "10s",  # one page of a scan of the token keys
}

# --- TLS -----------------------------------------------------------------------------------------
# Off is for a test machine only: it is logged as a warning, and refused in prod.
TLS_VERIFY = {
    "payment-eapi": True,
    "payment-sapi": True,
    "conjur-vault": True,
    "redis-cache": True,
    "rotation-service": True,
}
# CA certificates (PEM) to trust where a target has no file of its own. Empty: the system's.
MONITORING_CA_FILE = ""  # [MONITORING_CA_FILE]

# --- Redis ---------------------------------------------------------------------------------------
REDIS_HOST = "localhost"  # [REDIS_HOST]
REDIS_PORT = 6379  # [REDIS_PORT]
REDIS_USERNAME = ""  # ACL user with the few rights of deploy/redis [REDIS_USERNAME]
REDIS_PASSWORD = ""  # [REDIS_PASSWORD]
REDIS_DB = 0  # [REDIS_DB]
REDIS_SSL = False  # [REDIS_SSL]
REDIS_CA_FILE = ""  # [REDIS_CA_FILE]
# Sentinel: ['sentinel-1:26379', 'sentinel-2:26379']; host and port above are then not used.
REDIS_SENTINELS = []  # [REDIS_SENTINELS]
REDIS_MASTER = "mymaster"  # [REDIS_MASTER]
# Redis Cluster: a few of its nodes, ['node-1:6379', 'node-2:6379'], since one may be down. Or True:
# REDIS_HOST is asked, best a name with the addresses of several nodes.
REDIS_CLUSTER = False  # [REDIS_CLUSTER]
REDIS_PREFER_REPLICAS = False  # scan replicas, to spare the primaries

# --- Conjur --------------------------------------------------------------------------------------
CONJUR_URL = "https://localhost:8443"  # [CONJUR_URL]
CONJUR_ACCOUNT = "payment-system"  # [CONJUR_ACCOUNT]
# Without an identity only health is watched. Give it read alone: never execute, never update.
CONJUR_AUTHN_LOGIN = ""  # such as 'host/monitoring' [CONJUR_AUTHN_LOGIN]
CONJUR_AUTHN_API_KEY = ""  # [CONJUR_AUTHN_API_KEY]
CONJUR_CERT_FILE = ""  # CA certificate of Conjur [CONJUR_CERT_FILE]
CONJUR_JWT_FILE = ""  # log in with this JWT instead of an API key [CONJUR_JWT_FILE]
CONJUR_JWT_SERVICE_ID = ""  # service id of authn-jwt, needed with CONJUR_JWT_FILE
CONJUR_VARIABLE_TEMPLATE = "payment/credentials/{client_id}"  # where a client's secret stands

# --- The canary: a client of our own that proves that logins work --------------------------------
MONITORING_CLIENT_ID = ""  # empty: the authentication flow is unknown [MONITORING_CLIENT_ID]
MONITORING_CLIENT_SECRET = ""  # [MONITORING_CLIENT_SECRET]
CANARY = {
    "audience": "payment-sapi",
    "permission": "view_status",  # the least there is
    "max_lifetime": "1h",  # a longer-lived token is a finding
    "max_clock_skew": "30s",
    # A forged token and a wrong secret must be refused. Often enough to notice within the hour,
    # seldom enough neither to lock the canary out nor to fill the security team's log.
    "proof_interval": "1h",
}

# --- When a figure is bad ------------------------------------------------------------------------
# None switches a level off. Every metric here is one that the scripts measure.
ALERT_THRESHOLDS = {
    "security": {
        # Per client, and for all of them together, in CREDENTIALS['failure_window'].
        "authentication_failures": {"warning": 5, "critical": 10},
        "authentication_failure_ratio": {"warning": 5, "critical": 20},  # % of logins
        "token_validation_failures": {"warning": 5, "critical": 10},
        "token_validation_success": {"warning": 99, "critical": 95},  # %, lower is worse
        "credential_access_anomalies": {"warning": 1, "critical": 5},
        "unauthorized_access_attempts": {"warning": 5, "critical": 20},
        "credential_age_days": {"warning": 80, "critical": 90},  # the policy rotates at 90
        "tokens_without_ttl": {"warning": 1, "critical": None},  # they fill the cache for ever
        "undecodable_tokens": {"warning": 1, "critical": None},
    },
    "performance": {
        "api_response_time": {"warning": 300, "critical": 500},  # ms
        "vault_response_time": {"warning": 100, "critical": 250},  # ms
        "redis_response_time": {"warning": 20, "critical": 100},  # ms
        "authentication_time": {"warning": 200, "critical": 500},  # ms, a whole login
        "token_validation_time": {"warning": 50, "critical": 150},  # ms
        "clock_skew": {"warning": 5, "critical": 30},  # s; tokens die early or start late
        "redis_memory_used": {"warning": 80, "critical": 95},  # % of maxmemory
        # % of lookups. A low ratio is slow, not broken, and normal after a restart.
        "redis_hit_ratio": {"warning": None, "critical": None},
        "redis_replication_lag": {"warning": 10, "critical": 60},  # s
        "redis_evictions": {"warning": 1, "critical": 1000},  # keys since the last cycle
        "redis_rejected_connections": {"warning": 1, "critical": 50},  # since the last cycle
        "redis_clients_used": {"warning": 80, "critical": 95},  # % of maxclients
        "redis_blocked_clients": {"warning": 50, "critical": 200},
        "service_error_ratio": {"warning": 1, "critical": 5},  # % answers 5xx
    },
    "availability": {
        "tls_certificate_days": {"warning": 30, "critical": 7},  # days left, lower is worse
        "conjur_replication_lag": {"warning": 16, "critical": 256},  # MiB a standby is behind
        "conjur_follower_silence": {"warning": 600, "critical": 3600},  # s without a message
        "conjur_subscriptions": {"warning": 0, "critical": None},  # of a follower, lower is worse
        "conjur_initial_replication": {"warning": 1, "critical": None},  # a first copy under way
        "conjur_free_space": {"warning": 1000, "critical": 200},  # MiB, lower is worse
        "conjur_free_inodes": {"warning": 100000, "critical": 10000},  # lower is worse
        # 6: a month's error budget gone in 5 days. 14.4: gone in 2 days (the SRE workbook's).
        "error_budget_burn_rate": {"warning": 6, "critical": 14.4},
        "expiry_cliff": {"warning": 30, "critical": 60},  # % of live tokens dying in one minute
    },
}

# Service levels in percent. `overall`: all components up at once.
SLA_TARGETS = {
    "payment-eapi": 99.9,
    "payment-sapi": 99.95,
    "conjur-vault": 99.99,
    "redis-cache": 99.95,
    "authentication-flow": 99.9,
    "overall": 99.9,
    "authentication_success": 99.97,  # of all logins
}
# A target is called met only when at least this share (in percent) of the time was watched; with
# less, --sla and --analyze say "too little watched".
SLA_MINIMUM_WATCHED = 50

# --- How often -----------------------------------------------------------------------------------
# Loops (without --single-run); --interval wins.
MONITORING_INTERVALS = {
    "health_check": "60s",
    "token_usage_metrics": "5m",
    "credential_usage_metrics": "5m",
}
RUN = {
    # How often cron starts the scripts with --single-run. Alertmanager is told to keep an alert
    # for four times as long, so that it does not resolve between two runs.
    "cron_interval": "5m",
    "cycle_deadline": "30s",  # a cycle ends by then, whatever hangs
    "lock_wait": "5s",  # a second run of the same script waits this long, then gives up
    # Tells the monitored services' logs whose requests these are.
    "user_agent": "payment-api-monitoring/1.0 (canary; see docs/security.md)",
}

# --- Tokens --------------------------------------------------------------------------------------
TOKENS = {
    # Layout of the keys: eapi, sapi, hash (token:{client}:{id} with fields), or auto, which looks
    # for all of them.
    "profile": "auto",
    "patterns": [],  # token keys elsewhere, such as ['payments:token:*'], instead of the profile's
    "exclude": [],  # keys that match a pattern above and hold no token: ['token:blacklist:*']
    "max_keys": None,  # end a scan after so many keys; None: all
    "time_budget": None,  # end a scan after so long; None: when it is done
    "max_lifetime": "1h",  # policy; longer is a finding
    "algorithms": ["HS256"],
    "issuer": "payment-eapi",
    "audience": "payment-sapi",
    "permissions": ["process_payment", "view_status"],  # anything else is a finding
    # Claims that name the client, the first before the others (a client that is known to the vault,
    # the cache or the services before one that is not), and those that grant permissions. A dot
    # leads into a nested claim. Tokens that hold several of them are read more slowly: of a large
    # cache, name the one claim that your tokens have, such as ['azp'].
    "client_claims": ["azp", "client_id", "clientId", "appid", "cid", "sub", "client"],
    "permission_claims": [
        "permissions",
        "scope",
        "scp",
        "scopes",
        "roles",
        "realm_access.roles",
        "authorities",
    ],
    "rate_window": "15m",  # generation rate: tokens minted in it
    "top_clients": 50,  # with series of their own; the rest is summed as `other`
    "clock_skew": "30s",  # an `iat` in the future by more is a finding
    "ttl_tolerance": "60s",  # a TTL that differs from `exp` by more is a finding
    # Findings that you know of and live with: reported and counted, never warned of. SAPI keys its
    # verdicts by the whole token, for example: ['jwt_in_key'].
    "accepted_findings": [],
    # In a loop: follow the changes that the cache reports, instead of reading all of it each cycle.
    # Then a token that is used and was never minted is found too. See docs/following.md.
    "follow": False,
}

# --- Credentials ---------------------------------------------------------------------------------
CREDENTIALS = {
    "rotation_days": 90,
    "due_soon_days": 14,
    "per_client_days": {},  # {'client-017': 30}
    # Secrets that were here before this monitor: the day of their last rotation, as you looked it
    # up, such as {'client-017': '2026-03-01'}. Midnight in UTC, unless a time and a zone are given.
    "rotated_at": {},
    "excluded": [],  # clients that need no rotation, such as ['sandbox-*']
    "transition": "1h",  # longest time in one state of a rotation; longer is stuck
    "failure_window": "1h",  # failed logins and anomalies are counted over it
    "top_clients": 50,
    # The anomaly detector's one dial: how many false alerts a client may cause in a month.
    "false_alerts_per_client_month": 0.1,
    "per_client_sensitivity": {},  # the same for one client: {'client-017': 0.1}
}

# Counters of the services under names of your own: {'token_generation': ['my_tokens_total']}.
# Both families that are known (payment_authentication_attempts_total with clientId and success, and
# the one with _success_total and _failures_total by client_id) need nothing here.
# Case, "_", "-" and "." make no difference in labels and words. HTTP statuses are always known, and
# 1 and 0 where the label is itself a word for success. What is not listed counts as unknown.
SERVICE_METRICS = {
    "names": {},
    "client_labels": ["clientId", "client_id", "client"],
    "outcome_labels": [
        *("success", "successful", "valid", "ok", "outcome", "result"),
        *("status", "code", "status_code", "http_status"),
    ],
    "success_words": [
        *("true", "yes", "success", "successful", "succeeded", "ok", "valid", "accepted"),
        *("granted", "allowed", "allow", "passed", "pass", "authenticated", "authorized"),
    ],
    "failure_words": [
        *("false", "no", "failure", "failed", "fail", "error", "ko", "invalid", "rejected"),
        *("refused", "denied", "deny", "unauthorized", "unauthenticated", "forbidden"),
        *("client_error", "server_error", "bad_credentials", "invalid_credentials"),
        *("invalid_signature", "expired", "revoked"),
    ],
    # Reasons of failed validations, beside the usual ones, with a series of their own instead of
    # "other": ['wrong_tenant'].
    "validation_reasons": [],
}

# --- Whom to tell --------------------------------------------------------------------------------
# A channel whose secret or address is empty is off; --check-config says which, and why.
NOTIFICATION_CHANNELS = {
    "critical": ["pagerduty", "slack", "email"],
    "warning": ["slack", "email"],
    "info": ["slack"],
}

CHANNEL_CONFIG = {
    "slack": {
        "webhook_url": "",  # [SLACK_WEBHOOK_URL]
        # Only legacy webhooks heed these two; one made for a Slack app has its own.
        "channel": "#payment-api-alerts",
        "username": "Monitoring Bot",
    },
    "pagerduty": {
        "service_key": "",  # [PAGERDUTY_SERVICE_KEY]
        "client": "Payment API Monitoring",
        "url": "https://events.pagerduty.com",  # Europe: https://events.eu.pagerduty.com
    },
    "email": {
        "recipients": [],  # [EMAIL_RECIPIENTS]
        "sender": "monitoring@example.com",  # [SMTP_FROM]
        "smtp_server": "localhost",  # [SMTP_SERVER]
        "smtp_port": 25,  # 587 for submission [SMTP_PORT]
        "username": "",  # [SMTP_USERNAME]
        "password": "",  # [SMTP_PASSWORD]
        "starttls": "auto",  # True, False, or 'auto': unless the server is on this machine
        "ca_file": "",
    },
    "webhook": {
        "url": "",  # receives JSON; name it in NOTIFICATION_CHANNELS
        "headers": {},  # such as {'Authorization': {'file': '/run/secrets/webhook'}}
        "ca_file": "",
    },
    "log": {},  # a log line per alert; used by itself when no other channel of a severity is on
}

# Every alert goes to Alertmanager when it is enabled: it does its own routing. List every peer of
# a cluster, never a load balancer before them. ALERTMANAGER_URL sets `url` and enables it.
ALERT_MANAGER = {
    "url": "http://localhost:9093",  # [ALERTMANAGER_URL]
    "enabled": False,
    "username": "",
    "password": "",
    "bearer_token": "",
    "ca_file": "",
    # Alerts end there when all has been well for so long. Not before the rules of deploy/prometheus
    # let go of them: what one source ended and the other still sends would be told once more (of
    # tokens and credentials after twice as long, since they are looked at every five minutes).
    "resolve_after": "4m",
}

# Alerts that go elsewhere than their severity's list; the first row that matches counts. A row:
# `match` (glob patterns by category, component, metric, client, script), `severities` (none: all),
# `channels`; as in {"match": {"category": "security"}, "channels": ["pagerduty"]}.
NOTIFICATION_ROUTES = []

# --- How alerts behave ---------------------------------------------------------------------------
ALERTS = {
    "failure_threshold": 2,  # bad cycles in a row before anybody is told (security: at once)
    "recovery_threshold": 2,  # good cycles in a row before it is over
    "window": None,  # (3, 5) fires at 3 bad cycles of the last 5, in a row or not
    "reminder_interval": {"critical": "4h", "warning": "4h", "info": "never"},
    "give_up_after": "24h",  # a notice no channel takes for so long is dropped, with a critical log
    "send_budget": "10s",  # for sending, in one cycle; the rest goes to the next
    "group_above": 5,  # more equal alerts than this become one notice with a list
    "flap_changes": 6,  # changes within `flap_window` that count as flapping
    "flap_window": "1h",  # with a cycle a minute; longer where cycles are rarer: 5h at 5 minutes
    "runbooks": "",  # where docs/runbooks can be read, for the links in alerts
    "dashboards": "",  # where Grafana has the dashboards, e.g. http://grafana:3000/d; the same
}

# Planned work: measured and shown, but nobody is told. A row has a `name`, a `timezone` (IANA),
# `components` (none: all), and either a cron expression and how long it lasts, as in
#   - {"cron": "0 2 * * sun", "duration": "2h", "timezone": "Europe/Berlin"}, or its two ends:
#   - {"start": "2026-12-24 22:00", "end": "2026-12-25 04:00", "timezone": "Europe/Berlin"}.
MAINTENANCE_WINDOWS = []

# Alerts that are known and owned, until a date. A row: `match` (as above), `owner`, `reason`,
# `until`; as in {"match": {"client": "client-017"}, "owner": "jane", "reason": "PAY-123",
# "until": "2026-12-24T12:00:00Z"}.
SILENCES = []

# Pinged at the start and the end of each cycle (Healthchecks style): it tells you when this
# monitor itself has stopped.
HEARTBEAT_URL = ""  # [HEARTBEAT_URL]

# --- What is remembered --------------------------------------------------------------------------
# Samples for --lookback and --sla, alert states, notices not yet delivered. Empty: the XDG state
# folder (~/.local/state/payment-api-monitoring). Not on a network file system.
MONITORING_STATE_DIR = ""  # [MONITORING_STATE_DIR]
# Lookbacks read from this server instead: Prometheus, Thanos, Mimir, VictoriaMetrics.
PROMETHEUS_URL = ""  # [PROMETHEUS_URL]
HISTORY = {
    "raw_for": "48h",  # every sample, then means of 5 minutes
    "fine_for": "14d",  # 5 minutes, then hours
    "retention": "90d",
    "max_series": 2000,
    "prometheus_headers": {},  # such as {'X-Scope-OrgID': 'payments'}
    "prometheus_params": {},  # such as {'dedup': 'true'}
}

# --- What differs by environment -----------------------------------------------------------------
# Any of the above, for one MONITORING_ENV. What you change above wins over what stands here
# unchanged.
ENVIRONMENTS = {
    "dev": {
        # A laptop is slow: response times of a development machine say little.
        "ALERT_THRESHOLDS": {
            "performance": {
                "api_response_time": {"warning": 500, "critical": 1000},
                "vault_response_time": {"warning": 250, "critical": 500},
                "redis_response_time": {"warning": 100, "critical": 500},
                "authentication_time": {"warning": 500, "critical": 1500},
                "token_validation_time": {"warning": 150, "critical": 500},
            },
        },
    },
    "test": {},
    "staging": {},
    "prod": {},
}
