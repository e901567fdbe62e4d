"""Acquire: the proof that the monitor itself lives: a ping at the start and end of each cycle.

Healthchecks style (healthchecks.io/docs/http_api): the address alone means success, `/start` and
`/fail` below it the others.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit, urlunsplit

from monitoring.http.reply import HttpFault
from monitoring.http_client import HttpClient
from monitoring.settings import Secret

_LOG = logging.getLogger("monitoring.alerting.heartbeat")
_PATHS = {"start": "/start", "success": "", "fail": "/fail"}


def ping(http: HttpClient, url: Secret, stage: str) -> str:
    """Ping for `stage` (start, success or fail). Returns why it failed (also logged, without the
    address, which is a secret); empty: it worked, or there is no address."""
    if not url:
        return ""
    try:
        reply = http.get(address(url.reveal(), stage))
        why = "" if 200 <= reply.status < 300 else f"answered {reply.status}"
    except HttpFault as exc:
        why = exc.fault.message
    except OSError as exc:
        why = f"cannot read the file of HEARTBEAT_URL: {exc.strerror}"
    if why:
        _LOG.warning("the heartbeat %s did not get through: %s", stage, why)
    return why


def address(url: str, stage: str) -> str:
    """The address of a stage; a query stays where it belongs."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + _PATHS[stage]))
