"""Values: the names of a configuration that say whom alerts reach, when and how."""

from __future__ import annotations

from monitoring.components import COMPONENTS
from monitoring.config import kinds as k
from monitoring.config.kinds import moment
from monitoring.config.nodes import Free, Node, Rows, Table, each, leaf, needed, secret, table_of
from monitoring.config.settings import SEVERITIES, AlertSettings

_MATCH = Free(
    leaf(k.text(empty=False), "Glob pattern"),
    k.choice("component", "metric", "client", "script", "category", "environment"),
)
_names = k.items(k.choice(*COMPONENTS))

#: The section of each channel; --check-config, routes and the severity lists know it from here.
SECTIONS: dict[str, Table] = {
    "slack": Table(
        {
            "webhook_url": needed(
                secret("Incoming webhook", "SLACK_WEBHOOK_URL", k.url(query=True))
            ),
            "channel": leaf(k.text(), "Channel (legacy webhooks only)"),
            "username": leaf(k.text(), "Name of the sender (legacy webhooks only)"),
        }
    ),
    "pagerduty": Table(
        {
            "service_key": needed(secret("Integration key (Events v2)", "PAGERDUTY_SERVICE_KEY")),
            "client": leaf(k.text(), "Name shown as the sender"),
            "url": leaf(k.url(empty=False), "Events API, of your region or proxy"),
        }
    ),
    "email": Table(
        {
            "recipients": needed(leaf(k.items(k.address), "Recipients", "EMAIL_RECIPIENTS")),
            "sender": leaf(k.address, "From", "SMTP_FROM"),
            "smtp_server": needed(leaf(k.either("", k.host), "Mail server", "SMTP_SERVER")),
            "smtp_port": leaf(k.port, "Port of the mail server", "SMTP_PORT"),
            "username": leaf(k.text(), "Login at the mail server", "SMTP_USERNAME"),
            "password": secret("Its password", "SMTP_PASSWORD"),
            "starttls": leaf(
                k.either("auto", k.flag), "STARTTLS; auto: unless the server is local"
            ),
            "ca_file": leaf(k.path, "CA file of the mail server"),
        }
    ),
    "webhook": Table(
        {
            "url": needed(secret("Receiver of JSON posts", "", k.url(query=True))),
            "headers": Free(secret("Header")),
            "ca_file": leaf(k.path, "CA file of the receiver"),
        }
    ),
    "log": Table({}),
}
ALERT_MANAGER = Table(
    {
        "url": needed(
            leaf(k.items(k.url(empty=False)), "Every peer, with commas", "ALERTMANAGER_URL")
        ),
        "enabled": leaf(k.flag, "Send to Alertmanager"),
        "username": leaf(k.text(), "Basic authentication"),
        "password": secret("Its password"),
        "bearer_token": secret("Bearer authentication"),
        "ca_file": leaf(k.path, "CA file of Alertmanager"),
        "resolve_after": leaf(
            k.duration(), "How long it must be well before it ends there: what Prometheus holds it"
        ),
    }
)
CHANNELS = (*SECTIONS, "alertmanager")

ALERTING: dict[str, Node] = {
    "NOTIFICATION_CHANNELS": each(
        SEVERITIES, k.items(k.choice(*CHANNELS)), "Channels to tell", called="severity"
    ),
    "CHANNEL_CONFIG": Table(SECTIONS, called="channel"),
    "ALERT_MANAGER": ALERT_MANAGER,
    "NOTIFICATION_ROUTES": Rows(
        Table(
            {
                "channels": leaf(k.items(k.choice(*CHANNELS)), "Channels to tell instead"),
                "match": _MATCH,
                "severities": leaf(k.items(k.choice(*SEVERITIES)), "Empty: all"),
            }
        ),
        "Alerts that go elsewhere",
    ),
    "SILENCES": Rows(
        Table(
            {
                "match": _MATCH,
                "owner": leaf(k.text(empty=False), "Who answers for it"),
                "reason": leaf(k.text(empty=False), "Why"),
                "until": leaf(moment, "When it ends"),
            }
        ),
        "Alerts nobody is told of, until a date",
    ),
    "MAINTENANCE_WINDOWS": Rows(
        Table(
            {
                "name": leaf(k.text(empty=False), "What it is for"),
                "cron": leaf(k.text(), "When it begins"),
                "duration": leaf(k.duration(), "How long it lasts"),
                "start": leaf(moment, "First moment of a window that comes once"),
                "end": leaf(moment, "Its last moment"),
                "timezone": leaf(k.text(empty=False), "IANA name"),
                "components": leaf(_names, "Empty: all"),
            }
        ),
        "Planned work: measured, not told",
    ),
    "ALERTS": table_of(AlertSettings),
}
