"""Decision: what the series of a service's metrics page count, whatever their names and labels.

Micrometer turns `payment.token.generation.count` into `payment_token_generation_count_total`, and
since 1.13 may leave a suffix out or double it: names are compared without `_total`, and dots of
quoted names become underscores. Every family that counts logins or validations is read;
`counters.settled` decides which of them to believe, so that nothing is counted twice.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, NamedTuple, Optional
from zlib import crc32

from monitoring.config.settings import ServiceMetricsSettings
from monitoring.services import labels as outcomes
from monitoring.services.labels import ATTEMPTS, BAD, BAD_NAME, GOOD_NAME, Sample, Tables

# -- what counters grew by between two looks, restarts and several instances included.

#: A process whose start was within this many seconds before our last look was seen by it.
START_TOLERANCE = 5.0
_START = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class CounterKey(NamedTuple):
    """Where a counter stands; the primary key of the table `counters` in the state file."""

    source: str
    name: str
    labels: Labels
    instance: str


Seen = Mapping[CounterKey, tuple[float, float]]


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
) -> dict[CounterKey, tuple[float, float]]:
    """Samples of one look as `deltas` and the state file want them: key -> (value, at)."""
    return {CounterKey(source, s.name, s.labels, s.instance): (s.value, at) for s in samples}


def whole(page: Seen) -> dict[CounterKey, Delta]:
    """All that the series of a page have ever counted, as if it had grown now."""
    return {key: Delta(value, 0.0) for key, (value, _) in page.items()}


def deltas(previous: Seen, current: Seen) -> dict[CounterKey, Delta]:
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
    found: dict[CounterKey, Delta] = {}
    for key, (value, at) in current.items():
        delta = _delta(key, (value, at), previous, looked)
        if delta is not None and math.isfinite(delta.increase):
            found[key] = delta
    return found


def _last_looks(previous: Seen) -> dict[Hashable, float]:
    """The newest time by (source, instance), by (source, address) and by source."""
    looks: dict[Hashable, float] = {}
    for key, (_, at) in previous.items():
        for place in ((key.source, key.instance), (key.source, _address(key.instance), "")):
            looks[place] = max(at, looks.get(place, at))
    return looks


def _address(instance: str) -> str:
    return instance.rpartition("@")[0] or instance


def _delta(
    key: CounterKey, now: tuple[float, float], previous: Seen, looked: Mapping[Hashable, float]
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
) -> dict[str, float]:
    """The increase of `name` by the value of `label`, over all instances, where `where` holds."""
    wanted = set(where.items())
    sums: dict[str, float] = {}
    for key, delta in found.items():
        if key.name == name and wanted <= set(key.labels):
            value = dict(key.labels).get(label, "")
            sums[value] = sums.get(value, 0.0) + delta.increase
    return sums


Labels = tuple[tuple[str, str], ...]

MAX_CLIENTS = 20_000
#: Changes with each version of this program that reads pages in another way.
READ_VERSION = 2
#: Families from here on (`CounterSample.labels`) are the counts of timers and histograms.
TIMED, _COUNTS = "500", ("seconds_count", "count")


class CounterSample(NamedTuple):
    """A counter under its canonical name. `labels` sorted: `family` (three digits of preference and
    the name on the page), `client` where a label says it, and for what ends well or badly `end`,
    `reason` and `word` (what was not understood). `instance` is the configured URL of the page,
    with the start of the process where it is known, so that a series never goes backwards."""

    name: str
    labels: Labels
    instance: str
    value: float


#: Stands among the samples of every page that was read, so that a series which is not there yet is
#: known to begin at 0; its label changes with the way in which pages are read.
READ = "read"


class GaugeSample(NamedTuple):
    """cpu_ratio, heap_used_ratio (of the maximum), uptime_seconds or start_time_seconds."""

    name: str
    instance: str
    value: float


class _Role(NamedTuple):
    """What a family counts, and how it ended where its name says so ("": a label may say it)."""

    name: str
    end: str
    rank: int


_AUTHENTICATION, _VALIDATION = "payment_authentication", "payment_token_validation"
_BASES = {  # in order of preference
    "authentication_attempts": (f"{_AUTHENTICATION}_attempts", _AUTHENTICATION),
    "token_generation": ("payment_token_generation_count", "payment_token_generation"),
    "token_validation": (f"{_VALIDATION}_count", _VALIDATION, f"{_VALIDATION}_attempts"),
    "credential_access": ("payment_credential_access",),
    "http_requests": ("http_server_requests_seconds_count", "payment_api_requests"),
}
#: What ends well or badly: how the names begin of families that count one end alone.
ENDED = {
    "authentication_attempts": ("authentication", (_AUTHENTICATION, f"{_AUTHENTICATION}_attempts")),
    "token_validation": ("token_validation", (_VALIDATION, f"{_VALIDATION}_attempts")),
}
_ENDINGS = {
    GOOD_NAME: ("success", "successes", "successful", "succeeded"),
    BAD_NAME: ("failures", "failure", "failed", "errors", "error"),
}
_GAUGES = {
    "process_cpu_usage": "cpu_ratio",
    "process_uptime_seconds": "uptime_seconds",
    "process_start_time_seconds": "start_time_seconds",
}
_HEAP_USED, _HEAP_MAX = "jvm_memory_used_bytes", "jvm_memory_max_bytes"
#: The names that `SERVICE_METRICS['names']` may give further spellings of.
CANONICAL = (
    *_BASES,
    *(f"{stem}_{end}" for stem, _ in ENDED.values() for end in ("success", "failures")),
)


def base_of(name: str) -> str:
    """A sample's name without its `_total`, however often it stands there."""
    while name.endswith("_total"):
        name = name[: -len("_total")]
    return re.sub(r"[^a-zA-Z0-9_:]", "_", name)


def wanted(mapping: ServiceMetricsSettings) -> Callable[[str], bool]:
    """Tells the sample names that are worth reading."""
    known = {*_GAUGES, _HEAP_USED, _HEAP_MAX, *_roles(_frozen(mapping))}
    return lambda name: base_of(name) in known


def read_at(instance: str, mapping: ServiceMetricsSettings) -> CounterSample:
    """The sample READ of `instance`. What was counted while pages were read in another way cannot
    be compared: the look is then a first one."""
    text = repr((READ_VERSION, _frozen(mapping), outcomes.tables(mapping)))
    return CounterSample(READ, (("as", f"{crc32(text.encode()):08x}"),), instance, 1.0)


def _frozen(mapping: ServiceMetricsSettings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(names)) for name, names in sorted(mapping.names.items()))


@lru_cache(maxsize=8)
def _roles(names: tuple[tuple[str, tuple[str, ...]], ...]) -> Mapping[str, _Role]:
    """Family -> what it counts. The first that claims a family has it; timers come last."""
    own = dict(names)
    found: dict[str, _Role] = {}
    for name, bases in _BASES.items():
        rows = [(base_of(base), "") for base in (*own.get(name, ()), *bases)]
        if name in ENDED:
            stem, begins = ENDED[name]
            rows += [(base_of(n), GOOD_NAME) for n in own.get(f"{stem}_success", ())]
            rows += [(base_of(n), BAD_NAME) for n in own.get(f"{stem}_failures", ())]
            rows += [
                (f"{begin}_{word}", end)
                for begin in begins
                for end, words in _ENDINGS.items()
                for word in words
            ]
        timed = [(f"{base}_{unit}", end) for base, end in rows for unit in _COUNTS]
        for rank, (base, end) in [*enumerate(rows), *enumerate(timed, int(TIMED))]:
            found.setdefault(base, _Role(name, end, rank))
    return found


def counters(
    samples: Iterable[Sample], instance: str, mapping: ServiceMetricsSettings
) -> tuple[list[CounterSample], int]:
    """The canonical counters of one instance, series that differ only in labels of no interest
    summed; and the number of clients left out above MAX_CLIENTS."""
    roles, tables = _roles(_frozen(mapping)), outcomes.tables(mapping)
    totals: dict[tuple[str, Labels], float] = defaultdict(float)
    same: dict[tuple[str, str], tuple[str, str]] = {}  # most series say the same but for the client
    for base, found in _by_base(samples).items():
        role = roles.get(base)
        if role is None:
            continue
        for sample in found:
            labels = sorted(_labels(role, base, sample, tables).items())
            totals[role.name, tuple(same.setdefault(pair, pair) for pair in labels)] += sample.value
    kept, left_out = _bounded(totals)
    return [CounterSample(n, labels, instance, value) for (n, labels), value in kept], left_out


def _by_base(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    """By family. Where a suffix is doubled or left out several spellings may stand there: the
    usual one, with one `_total`, is taken."""
    found: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        found[base_of(sample.name)][sample.name].append(sample)
    return {
        base: spelt[min(spelt, key=lambda name: (name.count("_total") != 1, name))]
        for base, spelt in found.items()
    }


def _labels(role: _Role, base: str, sample: Sample, tables: Tables) -> dict[str, str]:
    """The labels of `sample` that matter, under our names, fit to be kept and shown."""
    given = outcomes.given(sample.labels)
    labels = {"family": f"{role.rank:03d} {base}"}
    if role.name == "http_requests":
        return {**labels, "status": outcomes.status(given)}
    client = outcomes.client(given, tables)
    if client:
        labels["client"] = client
    if role.name in ENDED:
        labels["end"], word = (role.end, "") if role.end else outcomes.end(given, tables)
        if not word and (not client or labels["end"] == ATTEMPTS):
            word = outcomes.hint(given, tables, ends=labels["end"] == ATTEMPTS)
        if word:
            labels["word"] = word
        if role.name == "token_validation" and labels["end"] in (BAD, BAD_NAME):
            labels["reason"] = outcomes.reason(given, tables)
    return labels


def _bounded(
    totals: Mapping[tuple[str, Labels], float],
) -> tuple[list[tuple[tuple[str, Labels], float]], int]:
    """The series of at most MAX_CLIENTS clients. The rest is left out and not summed: a sum over
    changing members would run backwards. Chosen by a number of each name, so that one who was
    left out does not come in when others join, or when the service lists them in another order:
    all that it ever counted would look like growth."""
    clients = {dict(labels).get("client", "") for _, labels in totals}
    kept = clients
    if len(clients) > MAX_CLIENTS:
        kept = set(sorted(clients, key=lambda c: (crc32(c.encode()), c))[:MAX_CLIENTS])
    rows = [(k, v) for k, v in totals.items() if dict(k[1]).get("client", "") in kept]
    return rows, len(clients) - len(kept)


def gauges(samples: Iterable[Sample], instance: str) -> list[GaugeSample]:
    """CPU, heap, uptime and start of one instance, those it tells."""
    found, heap = [], {_HEAP_USED: 0.0, _HEAP_MAX: 0.0}
    for sample in samples:
        if sample.name in _GAUGES:
            found.append(GaugeSample(_GAUGES[sample.name], instance, sample.value))
        if sample.name in heap and sample.labels.get("area") == "heap" and sample.value > 0:
            heap[sample.name] += sample.value  # a pool without a maximum says -1
    if heap[_HEAP_MAX] > 0 and heap[_HEAP_USED] > 0:
        ratio = heap[_HEAP_USED] / heap[_HEAP_MAX]
        found.append(GaugeSample("heap_used_ratio", instance, ratio))
    return found


def instance_of(place: str, samples: Iterable[Sample]) -> str:
    """`place` (the configured URL), with the start of the process where it is told: a restart, or
    the next instance behind a load balancer, is another instance."""
    starts = (s.value for s in samples if s.name == "process_start_time_seconds")
    start: Optional[float] = next(starts, None)
    return place if start is None else f"{place}@{start:.3f}"
