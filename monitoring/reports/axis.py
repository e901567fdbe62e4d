"""Present: where a time axis has its marks: local midnights, whole hours, or whole minutes."""

from __future__ import annotations

import datetime as dt
from typing import Iterator

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 3, 7, 14, 28, 91, 364)),
)


def marks(start: float, end: float, zone: dt.tzinfo, most: int = 7) -> list[tuple[float, str]]:
    """(share of the way from start to end, text) of at most `most` marks."""
    seconds = end - start
    step = next((s for s in _STEPS if seconds / s <= most), _STEPS[-1])
    form = "%d %b" if step >= _DAY else "%H:%M"
    if step < _DAY < seconds:
        form = "%a %H:%M"
    return [
        ((at - start) / seconds, dt.datetime.fromtimestamp(at, zone).strftime(form))
        for at in _moments(start, end, zone, step)
    ]


def _moments(start: float, end: float, zone: dt.tzinfo, step: int) -> Iterator[float]:
    """Moments on the wall clock: counted from local midnight, so that they stay round when
    summer time begins or ends."""
    first = dt.datetime.fromtimestamp(start, zone).replace(hour=0, minute=0, second=0)
    wall = first.replace(microsecond=0, tzinfo=None)
    while True:
        at = wall.replace(tzinfo=zone).timestamp()
        if at >= end:
            return
        if at >= start:
            yield at
        wall += dt.timedelta(seconds=step)
