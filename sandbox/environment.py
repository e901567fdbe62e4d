"""Environment: what the scripts must be told to watch a stack, under the names they know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sandbox.options import CANARY

if TYPE_CHECKING:
    from sandbox.stack import Stack

PAGERDUTY_KEY = "5a4db0c5a4db0c5a4db0c5a4db0c5a4d"
MAIL = "oncall@example.org,security@example.org"


def write_overlay(stack: Stack) -> str:
    """The settings that have no environment name, as a YAML file (JSON is YAML); its path."""
    overlay = {
        "CHANNEL_CONFIG": {
            "pagerduty": {"url": stack.receivers.url},
            "webhook": {"url": f"{stack.receivers.url}/webhook"},
        }
    }
    path = stack.folder / "overlay.yaml"
    path.write_text(json.dumps(overlay, indent=2) + "\n")
    return str(path)


def environment_of(stack: Stack) -> dict[str, str]:
    """Names and values; secrets are made up and good for this stack only."""
    state = stack.folder / "state"
    state.mkdir(mode=0o700)
    names = {
        "MONITORING_ENV": "dev",
        "EAPI_ENDPOINT": stack.eapi.url,
        "SAPI_ENDPOINT": stack.sapi.url,
        "ROTATION_ENDPOINT": stack.rotation.url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(stack.redis_port),
        "CONJUR_URL": stack.conjur.url,
        "CONJUR_ACCOUNT": stack.vault.account,
        "CONJUR_AUTHN_LOGIN": "host/monitoring",
        "CONJUR_AUTHN_API_KEY": stack.conjur_api_key,
        "MONITORING_CLIENT_ID": CANARY,
        "MONITORING_CLIENT_SECRET": stack.book.secret(CANARY),
        "SLACK_WEBHOOK_URL": f"{stack.receivers.url}/slack/services/T000/B000/sandbox",
        "PAGERDUTY_SERVICE_KEY": PAGERDUTY_KEY,
        "ALERTMANAGER_URL": stack.receivers.url,
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": str(stack.smtp.port),
        "EMAIL_RECIPIENTS": MAIL,
        "HEARTBEAT_URL": f"{stack.receivers.url}/heartbeat/0b9f7c1e",
        "MONITORING_STATE_DIR": str(state),
        "MONITORING_CONFIG": write_overlay(stack),
        "SANDBOX_URL": stack.control.url,
    }
    if stack.options.redis_password:
        names["REDIS_PASSWORD"] = stack.options.redis_password
    if stack.tls is not None:
        names["MONITORING_CA_FILE"] = str(stack.tls.ca_file)
    return names
