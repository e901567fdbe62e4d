"""Decision: what the services' counters mean, whichever of the known families they are named in.

Micrometer turns `payment.token.generation.count` into `payment_token_generation_count_total`, and
since 1.13 may leave a suffix out or double it (FACTS.md section 6): names are compared without
`_total`. Where a family counts the same thing twice, one series is taken, never their sum.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)
from zlib import crc32

from monitoring.prometheus_text import Sample
from monitoring.redact import safe_id
from monitoring.settings import ServiceMetricsSettings

Labels = Tuple[Tuple[str, str], ...]

#: Value of `success` or `valid` where a family counts attempts without saying how they ended:
#: attempts = that series; successes = it less the "false" one.
TOTAL = "total"
MAX_CLIENTS = 20_000


class CounterSample(NamedTuple):
    """A counter under its canonical name. `labels` sorted; `instance` identifies one life of one
    process where its start time is known (host:port@start), so that it never goes backwards."""

    name: str
    labels: Labels
    instance: str
    value: float


class GaugeSample(NamedTuple):
    """cpu_ratio, heap_used_ratio (of the maximum), uptime_seconds or start_time_seconds."""

    name: str
    instance: str
    value: float


@dataclass(frozen=True)
class Ended:
    """A count of attempts that end well or badly: one series with the label `label`, or one series
    for each end, or a bare count of attempts."""

    label: str
    success: str
    failures: str
    attempts: str


_BASES = {  # in order of preference
    "authentication_attempts": ("payment_authentication_attempts",),
    "token_generation": ("payment_token_generation_count", "payment_token_generation"),
    "token_validation": ("payment_token_validation_count", "payment_token_validation"),
    "credential_access": ("payment_credential_access",),
    "http_requests": ("http_server_requests_seconds_count", "payment_api_requests"),
}
_ENDED = {
    "authentication_attempts": Ended(
        "success",
        "payment_authentication_success",
        "payment_authentication_failures",
        "payment_authentication_attempts",
    ),
    "token_validation": Ended(
        "valid",
        "payment_token_validation_success",
        "payment_token_validation_failures",
        "payment_token_validation_attempts",
    ),
}
_REASON = ("failure_type", "failureType", "reason", "error")
_STATUS = ("status", "code")
_GAUGES = {
    "process_cpu_usage": "cpu_ratio",
    "process_uptime_seconds": "uptime_seconds",
    "process_start_time_seconds": "start_time_seconds",
}
_HEAP_USED, _HEAP_MAX = "jvm_memory_used_bytes", "jvm_memory_max_bytes"
CANONICAL = tuple(_BASES)

ByBase = Mapping[str, Sequence[Sample]]


def base_of(name: str) -> str:
    """A sample's name without its `_total`, however often it stands there."""
    while name.endswith("_total"):
        name = name[: -len("_total")]
    return name


def wanted(mapping: ServiceMetricsSettings) -> Callable[[str], bool]:
    """Tells the sample names that are worth reading."""
    ended = [b for e in _ENDED.values() for b in (e.success, e.failures, e.attempts)]
    known = {*_GAUGES, _HEAP_USED, _HEAP_MAX, *ended}
    known.update(base for name in CANONICAL for base in _bases(name, mapping))
    return lambda name: base_of(name) in known


def _bases(name: str, mapping: ServiceMetricsSettings) -> Tuple[str, ...]:
    return (*(base_of(n) for n in mapping.names.get(name, ())), *_BASES[name])


def counters(
    samples: Iterable[Sample], instance: str, mapping: ServiceMetricsSettings
) -> Tuple[List[CounterSample], int]:
    """The canonical counters of one instance, series that differ only in labels of no interest
    summed; and the number of clients left out above MAX_CLIENTS."""
    by_base = _by_base(samples)
    totals: Dict[Tuple[str, Labels], float] = defaultdict(float)
    for name in CANONICAL:
        for sample, fixed in _series(name, by_base, mapping):
            labels = {**_labels(name, sample, mapping), **fixed}
            totals[name, tuple(sorted(labels.items()))] += sample.value
    kept, left_out = _bounded(totals)
    return [CounterSample(n, labels, instance, value) for (n, labels), value in kept], left_out


def _by_base(samples: Iterable[Sample]) -> ByBase:
    """By base name. Where a suffix is doubled both spellings may stand there: the first wins."""
    found: Dict[str, List[Sample]] = defaultdict(list)
    spelt: Dict[str, str] = {}
    for sample in samples:
        base = base_of(sample.name)
        if spelt.setdefault(base, sample.name) == sample.name:
            found[base].append(sample)
    return found


def _series(
    name: str, by_base: ByBase, mapping: ServiceMetricsSettings
) -> Iterator[Tuple[Sample, Dict[str, str]]]:
    """The samples that count `name`, each with the labels its series stands for."""
    ended = _ENDED.get(name)
    label = ended.label if ended else ""
    for base in _bases(name, mapping):
        fit = [s for s in by_base.get(base, ()) if label in s.labels or not label]
        if fit:
            yield from ((sample, {}) for sample in fit)
            return
    if ended is not None:
        yield from _halves(ended, by_base, _bases(name, mapping))


def _halves(
    ended: Ended, by_base: ByBase, bases: Sequence[str]
) -> Iterator[Tuple[Sample, Dict[str, str]]]:
    good = by_base.get(ended.success, ())
    yield from ((sample, {ended.label: "true"}) for sample in good)
    yield from ((sample, {ended.label: "false"}) for sample in by_base.get(ended.failures, ()))
    attempts = next((by_base[b] for b in (ended.attempts, *bases) if b in by_base), ())
    if not good:
        yield from ((sample, {ended.label: TOTAL}) for sample in attempts)


def _labels(name: str, sample: Sample, mapping: ServiceMetricsSettings) -> Dict[str, str]:
    """The labels of `sample` that matter, under our names, fit to be kept and shown."""
    if name == "http_requests":
        status = _first(sample, _STATUS)
        return {"status": status if status.isdecimal() and len(status) == 3 else "other"}
    labels = {"client": safe_id(_first(sample, mapping.client_labels))}
    ended = _ENDED.get(name)
    if ended is not None and ended.label in sample.labels:
        labels[ended.label] = "true" if sample.labels[ended.label].lower() == "true" else "false"
    if name == "token_validation":
        labels["reason"] = safe_id(_first(sample, _REASON), 40)
    return labels


def _first(sample: Sample, names: Sequence[str]) -> str:
    return next((sample.labels[name] for name in names if name in sample.labels), "")


def _bounded(
    totals: Mapping[Tuple[str, Labels], float],
) -> Tuple[List[Tuple[Tuple[str, Labels], float]], int]:
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


def gauges(samples: Iterable[Sample], instance: str) -> List[GaugeSample]:
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


def instance_of(origin: str, samples: Iterable[Sample]) -> str:
    """`origin`, with the start of the process where it is told: a restart, or the next instance
    behind a load balancer, is another instance."""
    starts = (s.value for s in samples if s.name == "process_start_time_seconds")
    start: Optional[float] = next(starts, None)
    return origin if start is None else f"{origin}@{start:.0f}"
