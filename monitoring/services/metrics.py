"""Acquire: the counters and gauges of a service's Prometheus endpoint, of all its instances."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Optional
from urllib.parse import quote

from monitoring.config.settings import ServiceMetricsSettings, ServiceSettings
from monitoring.http import reply as http_urls
from monitoring.http.client import HttpClient, HttpFault, Reply
from monitoring.model import Fault
from monitoring.services import counters as service_counters, labels as prometheus_text
from monitoring.services.counters import CounterSample, GaugeSample

__all__ = ["CounterSample", "GaugeSample", "ServiceMetrics", "read"]

MAX_BYTES = 16 << 20
_AT_ONCE = 8
#: Without it a server may choose OpenMetrics (docs/protocols.md).
ACCEPT = "text/plain;version=0.0.4"


class InstanceFault(NamedTuple):
    """Why one instance could not be read; `instance` as `place_of` says it."""

    instance: str
    fault: Fault


@dataclass(frozen=True)
class ServiceMetrics:
    """What the instances of one service count. `samples` are canonical (`services.counters`), with
    one READ for each instance; `instances` those that were read, by the configured URL and the
    start of the process; `clients_left_out` above the bound. Nothing configured: everything empty
    and `configured` False."""

    service: str
    samples: tuple[CounterSample, ...] = ()
    gauges: tuple[GaugeSample, ...] = ()
    instances: tuple[str, ...] = ()
    faults: tuple[InstanceFault, ...] = ()
    clients_left_out: int = 0
    seconds: float = 0.0
    configured: bool = True


class _One(NamedTuple):
    place: str
    instance: str = ""
    samples: tuple[CounterSample, ...] = ()
    gauges: tuple[GaugeSample, ...] = ()
    left_out: int = 0
    seconds: float = 0.0
    fault: Optional[Fault] = None


def read(
    http: HttpClient,
    service: ServiceSettings,
    mapping: ServiceMetricsSettings,
    *,
    headers: Optional[Mapping[str, str]] = None,
) -> ServiceMetrics:
    """Read every instance at the same time. Raises nothing: what failed is among `faults`."""
    urls = _urls(service)
    if not urls:
        return ServiceMetrics(service.name, configured=False)
    asked = {"Accept": ACCEPT, **(headers or {})}

    def one(url: str) -> _One:
        return _read_one(http, url, service.timeout, mapping, headers=asked)

    with ThreadPoolExecutor(min(_AT_ONCE, len(urls)), "metrics") as pool:
        found = list(pool.map(one, urls))
    good = [f for f in found if f.fault is None]
    return ServiceMetrics(
        service.name,
        samples=tuple(sample for f in good for sample in f.samples),
        gauges=tuple(gauge for f in good for gauge in f.gauges),
        instances=tuple(f.instance for f in good),
        faults=tuple(InstanceFault(f.place, f.fault) for f in found if f.fault is not None),
        clients_left_out=max((f.left_out for f in good), default=0),
        seconds=max((f.seconds for f in good), default=0.0),
    )


def _urls(service: ServiceSettings) -> list[str]:
    if service.metrics_urls:
        return list(dict.fromkeys(service.metrics_urls))
    path = service.paths.get("metrics", "")
    return [service.url.rstrip("/") + "/" + path.lstrip("/")] if service.url and path else []


def _read_one(
    http: HttpClient,
    url: str,
    timeout: float,
    mapping: ServiceMetricsSettings,
    *,
    headers: Mapping[str, str],
) -> _One:
    place = place_of(url)
    try:
        reply = http.get(url, headers=headers, timeout=timeout, max_bytes=MAX_BYTES)
    except HttpFault as error:
        return _One(place, fault=error.fault)
    if reply.status != 200:
        return _One(place, fault=_refused(reply))
    try:
        text = reply.body.decode("utf-8", "replace")
        samples = prometheus_text.read(text, service_counters.wanted(mapping)).samples
    except ValueError as error:
        return _One(place, fault=Fault("body", f"{place}: {error}"))
    instance = service_counters.instance_of(place, samples)
    counted, left_out = service_counters.counters(samples, instance, mapping)
    figures = service_counters.gauges(samples, instance)
    counted.append(service_counters.read_at(instance, mapping))
    return _One(place, instance, tuple(counted), tuple(figures), left_out, reply.seconds)


def place_of(url: str) -> str:
    """The identity of an instance: its configured URL. What may be secret of it (user, password,
    query) stands there as a number, so that two that differ in it are two."""
    try:
        parts = http_urls.parse(url)
    except ValueError:
        return "a metrics URL that cannot be used"
    place = http_urls.origin(parts) + quote(parts.path, safe="/~:;,=+$!*'().-_%")
    secret = f"{parts.username}:{parts.password}?{parts.query}"
    apart = parts.username is not None or bool(parts.query)
    return f"{place}~{sha256(secret.encode()).hexdigest()[:8]}" if apart else place


def _refused(reply: Reply) -> Fault:
    if reply.status in (401, 403):
        return Fault("auth", f"{reply.url} does not let us read its metrics ({reply.status})")
    if reply.status == 404:
        return Fault("http", f"{reply.url} has no metrics at the configured path (404)")
    return Fault("http", f"{reply.url} answered {reply.status} instead of its metrics")
