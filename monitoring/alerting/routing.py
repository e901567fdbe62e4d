"""Decision: which channels hear of an alert."""

from __future__ import annotations

from typing import Optional, Tuple

from monitoring.alerting.maintenance import matches
from monitoring.model import Alert
from monitoring.settings import NotificationSettings

#: Gets the state of every alert each cycle instead of notices.
MIRROR = "alertmanager"
#: Always told: the log needs no address.
LOG = "log"


def channels_for(alert: Alert, settings: NotificationSettings) -> Tuple[str, ...]:
    """Names of the channels for a firing notice, in order: those of the first route that fits,
    else those of the severity; only channels that are on; the log always."""
    named = _routed(alert, settings)
    if named is None:
        named = settings.by_severity.get(alert.severity.word, ())
    on = [name for name in named if name in settings.channels and name not in (MIRROR, LOG)]
    return (*dict.fromkeys(on), LOG)


def _routed(alert: Alert, settings: NotificationSettings) -> Optional[Tuple[str, ...]]:
    for route in settings.routes:
        if route.severities and alert.severity.word not in route.severities:
            continue
        if matches(alert, route.match):
            return route.channels
    return None
