"""Decision: what a week of token history says, for `token_usage_metrics.py --analyze`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Iterable, Mapping, Optional, Sequence

from monitoring import trends
from monitoring.trends import Gap, Sample, Spread, Trend

_CHART_STEPS = 168
#: A client is new, or gone, when it is unseen in this share of the time watched at its begin or
#: end, and for these seconds at least: in an hour's history anybody may have had nothing to do.
_EDGE = 0.25
_EDGE_LEAST = 6 * 3600.0
_HOURS_LEAST = 12
_OTHER = "other"  # the sum of clients that have no series of their own

#: What is analysed: metric, title, unit, and what one second of it adds up to (None: nothing).
FIGURES = (
    ("payment_api_token_generation_rate", "Token generation", "tokens/min", 1 / 60),
    ("payment_api_tokens_active", "Live tokens", "tokens", None),
    ("payment_api_token_validation_success_ratio", "Validation success", "ratio", None),
    ("payment_api_token_validation_failures_recent", "Validation failures", "failures", None),
    ("payment_api_token_expiry_cliff_ratio", "Largest expiry cliff", "ratio", None),
)


@dataclass(frozen=True)
class Figure:
    """One analysed metric. `total` is the sum over the time watched, for rates. `steps` are 168
    equal parts of the lookback, None where nobody looked."""

    metric: str
    title: str
    unit: str
    spread: Spread
    trend: Trend
    busiest: tuple[tuple[int, float], ...]
    gaps: tuple[Gap, ...]
    steps: tuple[Optional[float], ...]
    total: Optional[float] = None


@dataclass(frozen=True)
class ClientUse:
    """One client's share. `tokens` are those minted in the time watched, at least."""

    client: str
    tokens: float
    share: float
    first_seen: float
    last_seen: float


@dataclass(frozen=True)
class Anomalous:
    """A stretch in which a figure left its habit, as the detector says it."""

    at: float
    metric: str
    sentence: str
    severity: str


@dataclass(frozen=True)
class Analysis:
    """The answer to `--analyze`. `watched` is the share of the lookback in which we looked,
    `success_target` the service level for validations and logins. `minted` and `failures` (by
    reason) are what the services counted, gaps included; None and empty where none does. `edge`:
    seconds at the begin (end) of the time watched in which a client that `joined` (`left`) was
    unseen; None: too little was watched to tell. `anomaly_note` says what their absence means."""

    start: float
    end: float
    zone: str
    watched: float
    figures: tuple[Figure, ...]
    clients: tuple[ClientUse, ...]
    joined: tuple[str, ...]
    left: tuple[str, ...]
    success: Optional[float]
    success_target: float
    anomalies: tuple[Anomalous, ...] = ()
    notes: tuple[str, ...] = ()
    minted: Optional[float] = None
    failures: tuple[tuple[str, float], ...] = ()
    edge: Optional[float] = None
    anomaly_note: str = "Nothing stood out."

    @property
    def meets_target(self) -> Optional[bool]:
        """None when no validation was counted."""
        return None if self.success is None else self.success >= self.success_target


@dataclass(frozen=True)
class Period:
    """The time that is analysed, and the zone in which hours of the day are told."""

    start: float
    end: float
    zone: dt.tzinfo = dt.timezone.utc
    zone_name: str = "UTC"


@dataclass(frozen=True)
class Counted:
    """What the services' counters grew by in the period; None: nobody counts it."""

    minted: Optional[float] = None
    validated: Optional[float] = None
    refused: Optional[float] = None
    failures: Mapping[str, float] = field(default_factory=dict)

    @property
    def success(self) -> Optional[float]:
        """Share of validations that succeeded; None when none was counted."""
        if self.validated is None or self.refused is None or not self.validated + self.refused:
            return None
        return self.validated / (self.validated + self.refused)


def analyse(
    series: Mapping[str, Sequence[Sample]],
    clients: Mapping[str, Sequence[Sample]],
    period: Period,
    *,
    success_target: float,
    counted: Counted = Counted(),
    top: int = 10,
    anomalies: Sequence[Anomalous] = (),
    notes: Sequence[str] = (),
) -> Optional[Analysis]:
    """`series` by metric name, `clients` the generation rate (per minute) by client id. None when
    nothing at all was recorded in the period. The success rate is that of the counters; without
    them the mean over the time watched."""
    figures = tuple(figure(row, series[row[0]], period) for row in FIGURES if series.get(row[0]))
    if not figures:
        return None
    uses = _uses(clients)
    longest = max((s for s in series.values()), key=len)
    seconds = period.end - period.start
    ratio = series.get("payment_api_token_validation_success_ratio")
    mean = trends.weighted_mean(ratio) if ratio else None
    first, last = longest[0].at - longest[0].seconds, longest[-1].at
    edge = _edge(last - first)
    return Analysis(
        start=period.start,
        end=period.end,
        zone=period.zone_name,
        watched=min(1.0, trends.watched_seconds(longest, period.start, period.end) / seconds),
        figures=figures,
        clients=tuple(uses[:top]),
        joined=_named(u for u in uses if edge and u.first_seen > first + edge),
        left=_named(u for u in uses if edge and u.last_seen < last - edge),
        success=mean if counted.success is None else counted.success,
        success_target=success_target,
        anomalies=tuple(anomalies),
        notes=tuple(notes),
        minted=counted.minted,
        failures=tuple(sorted(counted.failures.items(), key=lambda row: (-row[1], row[0]))),
        edge=edge,
    )


def _edge(seconds: float) -> Optional[float]:
    """None when begin and end would overlap."""
    edge = max(_EDGE * seconds, _EDGE_LEAST)
    return edge if 2 * edge <= seconds else None


def _named(uses: Iterable[ClientUse]) -> tuple[str, ...]:
    return tuple(use.client for use in uses if use.client != _OTHER)


def figure(
    row: tuple[str, str, str, Optional[float]], samples: Sequence[Sample], period: Period
) -> Figure:
    metric, title, unit, per_second = row
    spread = trends.spread(samples)
    if spread is None:
        raise ValueError(f"{metric}: no samples; the caller leaves such a figure out")
    return Figure(
        metric=metric,
        title=title,
        unit=unit,
        spread=spread,
        trend=trends.trend(samples, period.zone),
        busiest=_busiest(samples, period) if unit != "ratio" else (),
        gaps=trends.gaps(samples, period.start, period.end),
        steps=tuple(trends.resample(samples, period.start, period.end, _CHART_STEPS)),
        total=None if per_second is None else trends.integral(samples) * per_second,
    )


def _busiest(samples: Sequence[Sample], period: Period) -> tuple[tuple[int, float], ...]:
    """The three busiest hours of day; none when too few hours were watched to compare."""
    if len(trends.by_hour(samples, period.zone)) < _HOURS_LEAST:
        return ()
    return trends.busiest_hours(samples, period.zone)


def _uses(clients: Mapping[str, Sequence[Sample]]) -> list[ClientUse]:
    """Clients by tokens minted, most first; one that was watched and minted none is left out."""
    minted = {c: trends.integral(samples) / 60 for c, samples in clients.items() if samples}
    everything = sum(minted.values())
    return [
        ClientUse(client, tokens, tokens / everything, *_seen(clients[client]))
        for client, tokens in sorted(minted.items(), key=lambda pair: (-pair[1], pair[0]))
        if tokens > 0
    ]


def _seen(samples: Sequence[Sample]) -> tuple[float, float]:
    """First and last time at which the client was at work."""
    busy = [s for s in samples if s.value > 0]
    return min(s.at - s.seconds for s in busy), max(s.at for s in busy)
