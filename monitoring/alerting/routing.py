"""Decision: which channels hear of an alert."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from monitoring.alerting.maintenance import matches
from monitoring.model import Alert, Notice
from monitoring.settings import NotificationSettings

#: Gets the state of every alert each cycle instead of notices.
MIRROR = "alertmanager"
#: Always told: the log needs no address.
LOG = "log"


def channels_for(notice: Notice, settings: NotificationSettings) -> Tuple[str, ...]:
    """Names of the channels for a firing notice, in order: those of the first route that fits,
    else those of the severity; only channels that are on; the log always. A group goes wherever
    one of its members would have gone alone: a client's own route holds in a crowd too."""
    named = [name for alert in notice.also or (notice.alert,) for name in _named(alert, settings)]
    return (*dict.fromkeys(named), LOG)


def _named(alert: Alert, settings: NotificationSettings) -> Iterator[str]:
    named = _routed(alert, settings)
    if named is None:
        named = settings.by_severity.get(alert.severity.word, ())
    yield from (n for n in named if n in settings.channels and n not in (MIRROR, LOG))


def _routed(alert: Alert, settings: NotificationSettings) -> Optional[Tuple[str, ...]]:
    for route in settings.routes:
        if route.severities and alert.severity.word not in route.severities:
            continue
        if matches(alert, route.match):
            return route.channels
    return None
