"""Decision: what counters grew by between two looks, restarts and several instances included."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Dict, Hashable, Iterable, Mapping, NamedTuple, Optional, Tuple

from monitoring.service_counters import READ, CounterSample, Labels

#: A process whose start was within this many seconds before our last look was seen by it.
START_TOLERANCE = 5.0
_START = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class CounterKey(NamedTuple):
    """Where a counter stands; the primary key of the table `counters` in the state file."""

    source: str
    name: str
    labels: Labels
    instance: str


Seen = Mapping[CounterKey, Tuple[float, float]]


@dataclass(frozen=True)
class Delta:
    """A counter grew by `increase` (never negative) in `seconds` (0: the clock was set back, so
    that there is no rate). `reset`: it began anew meanwhile, and the increase is what it has
    counted since: a lower bound."""

    increase: float
    seconds: float
    reset: bool = False

    @property
    def rate(self) -> Optional[float]:
        """Per second; None when no time passed."""
        return self.increase / self.seconds if self.seconds > 0 else None


def keyed(
    source: str, samples: Iterable[CounterSample], at: float
) -> Dict[CounterKey, Tuple[float, float]]:
    """Samples of one look as `deltas` and the state file want them: key -> (value, at)."""
    return {CounterKey(source, s.name, s.labels, s.instance): (s.value, at) for s in samples}


def whole(page: Seen) -> Dict[CounterKey, Delta]:
    """All that the series of a page have ever counted, as if it had grown now."""
    return {key: Delta(value, 0.0) for key, (value, _) in page.items()}


def deltas(previous: Seen, current: Seen) -> Dict[CounterKey, Delta]:
    """What each counter of `current` grew by since `previous`; counters without a beginning to
    count from are absent.

    - known before: the difference; if it fell, the process restarted, and all of it is new;
    - a new series of an instance known before: it began at 0 meanwhile;
    - a new instance that started after our last look at its source: the same, as a reset;
    - any other new instance (first look ever, another one behind a load balancer, or pages are read
      in another way since): absent.
    """
    anew = {(k.source, k.instance) for k in current if k.name == READ and k not in previous}
    previous = {k: seen for k, seen in previous.items() if (k.source, k.instance) not in anew}
    looked = _last_looks(previous)
    found: Dict[CounterKey, Delta] = {}
    for key, (value, at) in current.items():
        delta = _delta(key, (value, at), previous, looked)
        if delta is not None and math.isfinite(delta.increase):
            found[key] = delta
    return found


def _last_looks(previous: Seen) -> Dict[Hashable, float]:
    """The newest time by (source, instance), by (source, address) and by source."""
    looks: Dict[Hashable, float] = {}
    for key, (_, at) in previous.items():
        for place in ((key.source, key.instance), (key.source, _address(key.instance), "")):
            looks[place] = max(at, looks.get(place, at))
    return looks


def _address(instance: str) -> str:
    return instance.rpartition("@")[0] or instance


def _delta(
    key: CounterKey, now: Tuple[float, float], previous: Seen, looked: Mapping[Hashable, float]
) -> Optional[Delta]:
    value, at = now
    if key in previous:
        before, then = previous[key]
        fell = value < before
        return Delta(value if fell else value - before, max(0.0, at - then), fell)
    last = looked.get((key.source, key.instance))
    if last is not None:
        return Delta(value, max(0.0, at - last))
    last = looked.get((key.source, _address(key.instance), ""))
    started = _started(key.instance)
    if last is None or started is None or started < last - START_TOLERANCE:
        return None
    return Delta(value, max(0.0, at - last), True)


def _started(instance: str) -> Optional[float]:
    """Epoch seconds of the process's start, where the instance names it."""
    _, at, start = instance.rpartition("@")
    return float(start) if at and _START.fullmatch(start) else None


def by_label(
    found: Mapping[CounterKey, Delta], name: str, label: str, **where: str
) -> Dict[str, float]:
    """The increase of `name` by the value of `label`, over all instances, where `where` holds."""
    wanted = set(where.items())
    sums: Dict[str, float] = {}
    for key, delta in found.items():
        if key.name == name and wanted <= set(key.labels):
            value = dict(key.labels).get(label, "")
            sums[value] = sums.get(value, 0.0) + delta.increase
    return sums
