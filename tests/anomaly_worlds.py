"""Small worlds for the tests of the anomaly detector: clients as functions of the hour."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Callable, Optional

from monitoring.anomaly.detector import Anomaly, Bucket, Detector, Usage

START = 1772409600.0  # Monday 2 March 2026, 00:00 UTC
HOURS_A_WEEK = 168
Client = Callable[[int], Optional[Usage]]


def poisson(r: random.Random, mean: float) -> int:
    """A Poisson count; a rounded normal one where the mean is large."""
    if mean <= 0:
        return 0
    if mean > 50:
        return max(0, round(r.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, r.random()
    while product > limit:
        count, product = count + 1, product * r.random()
    return count


def steady(seed: int, mean: float = 20.0, source: Optional[str] = "10.0.0.1") -> Client:
    """Day and night alike."""
    return shaped(seed, lambda _hour: mean, source)


def office(seed: int, mean: float = 30.0, source: Optional[str] = "10.0.0.1") -> Client:
    """Weekdays from 8 to 18."""
    return shaped(
        seed, lambda t: mean if 8 <= t % 24 < 18 and t % HOURS_A_WEEK < 120 else 0.0, source
    )


def waves(seed: int, mean: float = 20.0, source: Optional[str] = "10.0.0.1") -> Client:
    """A smooth day, quieter at weekends."""

    def rate(t: int) -> float:
        day = 1.0 + 0.7 * math.sin((t % 24 - 8) / 24 * 2 * math.pi)
        return mean * day * (0.5 if t % HOURS_A_WEEK >= 120 else 1.0)

    return shaped(seed, rate, source)


def shaped(seed: int, rate: Callable[[int], float], source: Optional[str]) -> Client:
    """Poisson calls at `rate(hour)`, one in a hundred failing; the same for the same hour."""

    def client(t: int) -> Usage:
        r = random.Random(seed * 100_003 + t)
        ok = poisson(r, rate(t))
        failed = poisson(r, ok * 0.01)
        return Usage(ok, failed, None if source is None else {source: ok + failed})

    return client


def with_hours(client: Client, extra: dict[int, Usage]) -> Client:
    """The client, with these hours' calls added on top."""

    def changed(t: int) -> Optional[Usage]:
        usage = client(t)
        more = extra.get(t)
        if more is None or usage is None:
            return more or usage
        sources = None
        if usage.sources is not None and more.sources is not None:
            sources = {**usage.sources}
            for name, calls in more.sources.items():
                sources[name] = sources.get(name, 0) + calls
        return Usage(usage.ok + more.ok, usage.failed + more.failed, sources)

    return changed


def silent_during(client: Client, hours: Iterable[int]) -> Client:
    """The client without the calls of these hours."""
    quiet = frozenset(hours)
    return lambda t: None if t in quiet else client(t)


def bucket(clients: dict[str, Client], t: int) -> Bucket:
    """The whole hour `t` of these clients; who makes no call is absent."""
    rows = {name: client(t) for name, client in clients.items()}
    used = {name: u for name, u in rows.items() if u is not None and u.ok + u.failed > 0}
    return Bucket(START + 3600.0 * t, 3600.0, used)


def run(
    clients: dict[str, Client], hours: Iterable[int], detector: Optional[Detector] = None
) -> list[Anomaly]:
    """All findings over these hours."""
    detector = Detector() if detector is None else detector
    return [found for t in hours for found in detector.feed(bucket(clients, t))]


def hour_of(anomaly: Anomaly) -> int:
    """The hour of the world that a finding speaks of."""
    return round((anomaly.at - START) / 3600.0)


def crowd(count: int = 8) -> dict[str, Client]:
    """Ordinary clients of several kinds, each from its own address."""
    kinds = (steady, office, waves)
    return {f"client-{i}": kinds[i % 3](i, 10.0 + 5.0 * i, f"10.0.{i}.1") for i in range(count)}
