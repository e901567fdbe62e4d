"""Present: the channels that notices go out through; the table is the whole family.

The price of a new one: a file here, a row below, a test, a section in config.example.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.channels import alertmanager, email, log, pagerduty, slack, webhook
from monitoring.channels.base import Channel

CHANNELS: Mapping[str, Channel] = {
    "slack": Channel(slack.send, slack.BATCH),
    # A pager is not woken for what is over.
    "pagerduty": Channel(pagerduty.send, pagerduty.BATCH, past=False),
    "email": Channel(email.send, email.BATCH, recipients="recipients"),
    "webhook": Channel(webhook.send, webhook.BATCH),
    "log": Channel(log.send, log.BATCH),
    # By state, not by notice: see delivery.py. `send` serves --test-alerts.
    "alertmanager": Channel(alertmanager.send),
}
