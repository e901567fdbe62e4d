"""Decision: which clients get a series of their own, so that their number stays bounded.

Clients come and go and strangers invent them; a metric shows `top` of them and the rest as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Set as AbstractSet

from monitoring.catalog import Metric

CLIENT = "client_id"
ALL, OTHER, NAMELESS = "all", "other", "(none)"
_SOME = 0.5  # less is what rounding leaves
SUMS = ("", ALL, OTHER, NAMELESS)  # values of client_id that are no single client's
_CLIENT = "client:"

#: Metrics of which the smallest values matter.
_LOWEST_FIRST = (
    "payment_api_credential_due_seconds",
    "payment_api_credential_due_timestamp_seconds",
    "payment_api_credential_rotated_timestamp_seconds",
)

#: Values by label values, in the order of the metric's labels.
Samples = Mapping[tuple[str, ...], float]


def series_of(client: str) -> str:
    """The client's value of ``client_id``: its own name, except where that would be taken for one
    of ``SUMS``; then `client:` stands before it. No two clients share one."""
    return f"{_CLIENT}{client}" if client.rpartition(_CLIENT)[2] in SUMS else client


def parted(metric: Metric, samples: Samples) -> dict[tuple[str, ...], float]:
    """`samples` without the sum over all clients, which must not stand among its parts: of it only
    what no client is known for stays, as client `(none)`."""
    if CLIENT not in metric.labels:
        return dict(samples)
    place = metric.labels.index(CLIENT)
    found = {labels: value for labels, value in samples.items() if labels[place] != ALL}
    for labels, value in samples.items():
        if labels[place] != ALL:
            continue
        nameless = (*labels[:place], NAMELESS, *labels[place + 1 :])
        same = [
            n for other, n in found.items() if _without(other, place) == _without(labels, place)
        ]
        rest = value - sum(same)
        if rest >= _SOME or not same:
            found[nameless] = found.get(nameless, 0.0) + max(0.0, rest)
    return found


def _without(labels: tuple[str, ...], place: int) -> tuple[str, ...]:
    return (*labels[:place], *labels[place + 1 :])


def bounded(
    metric: Metric, samples: Samples, *, top: int, known: AbstractSet[str], kept: AbstractSet[str]
) -> dict[tuple[str, ...], float]:
    """`samples` with at most `top` clients; the others are summed as client `other`, or left out
    where a sum means nothing (ages). A metric without `client_id` comes back as it is.

    First come clients that are `kept` (shown before: a counter's sum would fall, which reads as
    a reset, if clients changed places with it), then `known` ones, then the largest values."""
    if CLIENT not in metric.labels:
        return dict(samples)
    place = metric.labels.index(CLIENT)
    clients = _ranked(metric, samples, known, kept)[:top]
    chosen = {*clients, *SUMS}
    result: dict[tuple[str, ...], float] = {}
    for labels, value in samples.items():
        if labels[place] not in chosen:
            if not metric.summable:
                continue
            labels = (*labels[:place], OTHER, *labels[place + 1 :])  # noqa: PLW2901
        result[labels] = result.get(labels, 0.0) + value
    return result


def _ranked(
    metric: Metric, samples: Samples, known: AbstractSet[str], kept: AbstractSet[str]
) -> list[str]:
    place = metric.labels.index(CLIENT)
    sign = -1 if metric.name in _LOWEST_FIRST else 1
    best: dict[str, float] = {}
    for labels, value in samples.items():
        client = labels[place]
        if client not in SUMS:
            best[client] = max(sign * value, best.get(client, sign * value))
    return sorted(best, key=lambda c: (c not in kept, c not in known, -best[c], c))
