"""Present: an Outcome as Prometheus text, and the Exporter that keeps it ready for scrapes.

A scrape costs a lookup: the page is rendered when a cycle ends. Every page is made from its cycle
alone, so that no label set outlives what it described; counters and the histogram of this process
are the exception.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable, Optional, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric as Family,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from monitoring.catalog import METRICS, Metric
from monitoring.model import Measurement, Outcome, Severity
from monitoring.output.figures import Labels, Table, clients_of, table_of
from monitoring.output.pages import PageError, page
from monitoring.output.server import (
    DEFAULT_ADDRESS,
    NO_RULES,
    HttpAnswer,
    MetricsServer,
    RulesOf,
    accepts_gzip,
)

#: Spelt out: the library's constant says 1.0.0 since 0.23, which older scrapers refuse.
CONTENT_TYPE_TEXT = "text/plain; version=0.0.4; charset=utf-8"
CONTENT_TYPE_OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
#: Nothing is fetched, run or framed.
_STRICT = (("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),)
#: Sent with every scrape, and by nobody else.
_SCRAPER = "X-Prometheus-Scrape-Timeout-Seconds"
#: Seconds in which a Prometheus that scrapes us comes for the first time, and comes again.
_FIRST_SCRAPE, _NEXT_SCRAPE = 120.0, 300.0
_RESPONSE_MS = "payment_api_response_time_ms"
_RESPONSE_SECONDS = "payment_api_response_time_seconds"
_CYCLES = "payment_api_cycles_total"
_NOTIFICATIONS = "payment_api_notifications_total"

#: Upper bounds in seconds; 0.3 and 0.5 are the brief's warning and critical.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, math.inf)


class Delivery(Protocol):
    """A notification that was tried."""

    @property
    def channel(self) -> str: ...

    @property
    def outcome(self) -> str: ...


def render(outcome: Outcome) -> bytes:
    """The Outcome as Prometheus text 0.0.4, sorted; the same Outcome gives the same bytes.
    Unknown values are left out. Raises ValueError naming a measurement that the catalogue does
    not have, or whose labels are not those of the catalogue."""
    return _text(_families(table_of(outcome, {})))


class Exporter:
    """Keeps the page of the last finished cycle, and what adds up over the cycles of a process.

    `interval` and `deadline` (seconds) say when the next cycle is overdue. `attempts` are the
    (channel, outcome) pairs that are counted from 0. `ticks` is a monotonic clock."""

    def __init__(
        self,
        script: str,
        *,
        interval: float = 300.0,
        deadline: float = 30.0,
        attempts: Iterable[tuple[str, str]] = (),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = script
        self._patience = 3 * interval + deadline
        self._ticks = ticks
        self._last = ticks()
        #: When a Prometheus last came: whoever has just begun is given time to be found.
        self._scraped = ticks()
        self._awaited = min(self._patience, _FIRST_SCRAPE)
        self._cycles: Counter[Labels] = Counter({(script, s.word): 0 for s in Severity})
        self._notifications: Counter[Labels] = Counter(
            {(script, channel, outcome): 0 for channel, outcome in attempts}
        )
        self._times: dict[str, _Times] = {}
        self._shown: dict[str, frozenset[str]] = {}
        #: CPU, memory and open files of this process.
        self._process = ProcessCollector(registry=None)
        self._page = _Page(self._own_families())
        self._status: Optional[Callable[[float, str], str]] = None

    def show(self, status: Callable[[float, str], str]) -> None:
        """The page at `/`: `status(ago, note)` makes it as it reads `ago` seconds after the cycle,
        with `note` (HTML) in its head. Made anew for each request, so that it grows old."""
        self._status = status

    def publish(
        self,
        outcome: Outcome,
        notifications: Iterable[Delivery] = (),
        others: Optional[Table] = None,
    ) -> None:
        """Replace the page by that of `outcome`, with `others` beside it: figures that other
        scripts found. Raises as `render` does; the cycle is counted all the same and the old page
        stays."""
        self._last = self._ticks()
        self._count(outcome, notifications)
        table = table_of(outcome, self._shown)
        self._shown = {name: clients_of(name, found) for name, found in table.items()}
        for name, samples in (others or {}).items():
            table[name] = {**samples, **table.get(name, {})}
        families = {family.name: family for family in self._own_families()}
        families.update((family.name, family) for family in _families(table))
        families.update((family.name, family) for family in self._process.collect())
        self._page = _Page(families[name] for name in sorted(families))

    def serve(
        self, address: str = DEFAULT_ADDRESS, port: int = 0, rules: RulesOf = lambda: NO_RULES
    ) -> MetricsServer:
        """Serve `/`, `/metrics` and `/-/healthy` until the server is closed; `rules` say what a
        connection needs. Raises ServeError."""
        return MetricsServer(address, port, self.answer, rules)

    @property
    def scraped(self) -> bool:
        """Whether a Prometheus (or what speaks like it) has read this page lately, or may still
        come for the first time. A person who looks at it is none."""
        return self._ticks() - self._scraped <= self._awaited

    def answer(self, path: str, headers: Mapping[str, str]) -> HttpAnswer:
        """What a request for `path` gets; `headers` say which forms it accepts."""
        if path == "/metrics":
            if _SCRAPER in headers:
                self._scraped = self._ticks()
                self._awaited = max(self._patience, _NEXT_SCRAPE)
            page = self._page
            packed = accepts_gzip(headers.get("Accept-Encoding", ""))
            return page.answer(open_metrics=_wants_open_metrics(headers), packed=packed)
        if path == "/-/healthy":
            return self._health()
        if path == "/":
            return self._landing()
        return HttpAnswer(404, "text/plain; charset=utf-8", b"Not here; see /metrics\n")

    def _landing(self) -> HttpAnswer:
        """A page for whoever opens the port in a browser."""
        ago = self._ticks() - self._last
        served = {"ago": f"{ago:.0f}", "late": self._health().status != 200}
        try:
            if self._status is None:
                body = page("landing.html", script=self._script, **served)
            else:
                body = self._status(ago, page("served.html", **served))
        except PageError as exc:
            return HttpAnswer(500, "text/plain; charset=utf-8", f"{exc}\n".encode())
        return HttpAnswer(200, "text/html; charset=utf-8", body.encode(), headers=_STRICT)

    def _health(self) -> HttpAnswer:
        ago = self._ticks() - self._last
        late = ago > self._patience
        text = f"last cycle ended {ago:.0f} s ago, overdue after {self._patience:.0f} s\n"
        return HttpAnswer(503 if late else 200, "text/plain; charset=utf-8", text.encode())

    def _count(self, outcome: Outcome, notifications: Iterable[Delivery]) -> None:
        self._cycles[outcome.script, outcome.status.word] += 1
        self._notifications.update((self._script, n.channel, n.outcome) for n in notifications)
        for measurement in outcome.measurements:
            if measurement.name == _RESPONSE_MS and _measured(measurement):
                component = measurement.labels.get("component", "")
                times = self._times.setdefault(component, _Times())
                times.observe((measurement.value or 0.0) / 1000)

    def _own_families(self) -> Iterator[Family]:
        yield _family(METRICS[_CYCLES], self._cycles)
        yield _family(METRICS[_NOTIFICATIONS], self._notifications)
        metric = METRICS[_RESPONSE_SECONDS]
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for component, times in sorted(self._times.items()):
            family.add_metric([component], times.buckets(), times.total)
        yield family


class _Times:
    """Response times of one component: how many up to each bound."""

    def __init__(self) -> None:
        self.total = 0.0
        self._counts = [0] * len(BUCKETS)

    def observe(self, seconds: float) -> None:
        self.total += seconds
        for place, bound in enumerate(BUCKETS):
            self._counts[place] += seconds <= bound

    def buckets(self) -> list[tuple[str, float]]:
        names = ("+Inf" if math.isinf(bound) else str(bound) for bound in BUCKETS)
        return list(zip(names, self._counts))


class _Ready(Collector):
    """Families that are already made, as a registry wants them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Family]:
        return self._families


def _registry(families: Iterable[Family]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(families))
    return registry


def _text(families: Iterable[Family]) -> bytes:
    return bytes(generate_latest(_registry(families)))


class _Page:
    """The figures of a cycle in the forms that are asked for; OpenMetrics is made when it is."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)
        text = _text(self._families)
        self._text = self._forms(CONTENT_TYPE_TEXT, text)
        self._open: Optional[tuple[HttpAnswer, HttpAnswer]] = None

    def answer(self, *, open_metrics: bool, packed: bool) -> HttpAnswer:
        if open_metrics and self._open is None:
            text: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                _registry(self._families)
            )
            self._open = self._forms(CONTENT_TYPE_OPEN_METRICS, text)
        forms = self._open if open_metrics and self._open is not None else self._text
        return forms[packed]

    @staticmethod
    def _forms(kind: str, text: bytes) -> tuple[HttpAnswer, HttpAnswer]:
        packed = gzip.compress(text, 6, mtime=0)
        return HttpAnswer(200, kind, text), HttpAnswer(200, kind, packed, gzipped=True)


def _wants_open_metrics(headers: Mapping[str, str]) -> bool:
    """Whether OpenMetrics 1.0 is liked at least as well as the older text (RFC 9110, 12.5.1)."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in headers.get("Accept", "").lower().split(","):
        kind, *params = (piece.strip().replace(" ", "") for piece in part.split(";"))
        said = dict(param.partition("=")[::2] for param in params)
        if kind in weights and said.get("version", "1.0.0") in ("1.0.0", "0.0.4"):
            with contextlib.suppress(ValueError):
                weights[kind] = max(weights[kind], float(said.get("q", 1)))
    return 0 < weights["application/openmetrics-text"] >= weights["text/plain"]


def _measured(measurement: Measurement) -> bool:
    return measurement.value is not None and math.isfinite(measurement.value)


# -- from a table to families


def _families(table: Table) -> Iterator[Family]:
    for name in sorted(table):
        if table[name]:
            yield _family(METRICS[name], table[name])


def _family(metric: Metric, samples: Mapping[Labels, float]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels in sorted(samples):
        family.add_metric(labels, samples[labels])
    return family
