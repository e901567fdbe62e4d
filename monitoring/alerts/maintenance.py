"""Decision: is an alert quiet by plan now: a maintenance window or a silence?"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Optional

from monitoring.config.settings import Maintenance, Silence
from monitoring.model import Alert
from monitoring.text import iso_seconds


def why_quiet(
    alert: Alert, silences: Sequence[Silence], windows: Sequence[Maintenance], now: float
) -> str:
    """One sentence naming the silence or window that covers `alert` now; empty: none does."""
    for silence in silences:
        if silence.match and now < silence.until and matches(alert, silence.match):
            return f"silenced by {silence.owner} until {_clock(silence.until)}: {silence.reason}"
    for window in windows:
        if covers(window, alert.key.component) and is_open(window, now):
            return f"maintenance: {window.name}"
    return ""


def matches(alert: Alert, match: Mapping[str, str]) -> bool:
    """True when every named field (of the key, or the category) fits its glob pattern, case
    included. No pattern at all matches everything."""
    fields = {**dataclasses.asdict(alert.key), "category": alert.category}
    return all(fnmatch.fnmatchcase(fields.get(name, ""), glob) for name, glob in match.items())


def covers(window: Maintenance, component: str) -> bool:
    """A window without components covers all."""
    return not window.components or component in window.components


def is_open(window: Maintenance, now: float) -> bool:
    """True from the start (inclusive) to the end (exclusive) of the window."""
    if window.cron:
        started = last_start(window, now)
        return started is not None and now < started + window.duration
    if window.start is None and window.end is None:
        return False
    started = window.start if window.start is not None else float("-inf")
    return started <= now < _end(window)


def last_start(window: Maintenance, now: float) -> Optional[float]:
    """Epoch seconds at which the window's cron expression last started, in the window's zone;
    None: never. A start that falls into the hour skipped in spring happens when the clock has
    jumped; one in the hour repeated in autumn happens in both."""
    from croniter import CroniterBadCronError, CroniterBadDateError, croniter

    local = datetime.datetime.fromtimestamp(now, tz=_zone(window.zone))
    try:
        # get_prev is exclusive: a window that opens this very second is open.
        moment = local + datetime.timedelta(seconds=1)
        return float(croniter(window.cron, moment).get_prev(datetime.datetime).timestamp())
    except CroniterBadDateError:
        return None
    except CroniterBadCronError as exc:
        raise ValueError(f"maintenance {window.name!r}: {exc}") from exc


def _end(window: Maintenance) -> float:
    if window.end is not None:
        return window.end
    return (window.start or 0.0) + window.duration if window.duration else float("inf")


def _zone(name: str) -> datetime.tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise ValueError(f"no such time zone: {name!r}") from exc


def _clock(at: float) -> str:
    return "further notice" if at == float("inf") else iso_seconds(at)
