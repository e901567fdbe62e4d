"""Decision: what a week of token history says, for `token_usage_metrics.py --analyze`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from monitoring.analyze import trends
from monitoring.analyze.trends import Gap, Sample, Spread, Trend
from monitoring.certainty import (
    MET,
    UNKNOWN,
    Basis,
    Coverage,
    affirm,
    inside,
    percent,
    watched_seconds,
)

_CHART_STEPS = 168
#: A client is new, or gone, when it is unseen in this share of the time watched at its begin or
#: end, and for these seconds at least: in an hour's history anybody may have had nothing to do.
_EDGE = 0.25
_EDGE_LEAST = 6 * 3600.0
_HOURS_LEAST = 12
MISSED = "missed"
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
    equal parts of the lookback, None where nobody looked; `before` those of as long a time just
    before it, empty where nothing is recorded of that."""

    metric: str
    title: str
    unit: str
    spread: Spread
    trend: Trend
    busiest: tuple[tuple[int, float], ...]
    gaps: tuple[Gap, ...]
    steps: tuple[Optional[float], ...]
    total: Optional[float] = None
    before: tuple[Optional[float], ...] = ()


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
    `success_target` the service level for validations and logins, `verdict` whether it was met
    (met, missed or unknown) and `why` what keeps that from being known. `minted` and `failures` (by
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
    verdict: str = UNKNOWN
    why: str = ""
    environment: str = ""
    version: str = ""

    @property
    def meets_target(self) -> Optional[bool]:
        """None when no validation was counted, or too little was watched to call it met."""
        return {MET: True, MISSED: False}.get(self.verdict)


@dataclass(frozen=True)
class Period:
    """The time that is analysed, the zone in which hours of the day are told, and the share of the
    time that must be watched before a target is called met."""

    start: float
    end: float
    zone: dt.tzinfo = dt.timezone.utc
    zone_name: str = "UTC"
    least: float = 0.5


@dataclass(frozen=True)
class Counted:
    """What the services' counters grew by in the period; None: nobody counts it. `samples` are
    those of the validations, which say how much of the period was watched."""

    minted: Optional[float] = None
    validated: Optional[float] = None
    refused: Optional[float] = None
    failures: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Sample] = ()

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
    them the mean over the time watched. The target is met only
    where enough of the period was watched."""
    figures = tuple(figure(row, series[row[0]], period) for row in FIGURES if series.get(row[0]))
    if not figures:
        return None
    uses = _uses({c: _within(samples, period.start, period.end) for c, samples in clients.items()})
    longest = max((s for s in series.values()), key=len)
    seconds = period.end - period.start
    ratio = series.get("payment_api_token_validation_success_ratio") or ()
    ratio = _within(ratio, period.start, period.end)
    mean = trends.weighted_mean(ratio) if ratio else None
    success = mean if counted.success is None else counted.success
    rests_on = ratio if counted.success is None else counted.samples
    verdict, why = _verdict(success, success_target, _coverage(rests_on, period))
    first, last = longest[0].at - longest[0].seconds, longest[-1].at
    edge = _edge(last - first)
    return Analysis(
        start=period.start,
        end=period.end,
        zone=period.zone_name,
        watched=min(1.0, watched_seconds(longest, period.start, period.end) / seconds),
        figures=figures,
        clients=tuple(uses[:top]),
        joined=_named(u for u in uses if edge and u.first_seen > first + edge),
        left=_named(u for u in uses if edge and u.last_seen < last - edge),
        success=success,
        success_target=success_target,
        anomalies=tuple(anomalies),
        notes=tuple(notes),
        minted=counted.minted,
        failures=tuple(sorted(counted.failures.items(), key=lambda row: (-row[1], row[0]))),
        edge=edge,
        verdict=verdict,
        why=why,
    )


def _coverage(samples: Sequence[Sample], period: Period) -> Coverage:
    watched = watched_seconds(samples, period.start, period.end)
    seconds = period.end - period.start
    said = f"too little watched ({percent(watched / seconds)})" if watched else ""
    return Coverage("time", watched, seconds, period.least, said or "no validation was counted")


def _verdict(success: Optional[float], target: float, watched: Coverage) -> tuple[str, str]:
    """The word, and what keeps it from being known. A miss needs no coverage."""
    if success is not None and success < target:
        return MISSED, ""
    said = affirm(MET, Basis((watched,)))
    return said.word, "; ".join(said.missing)


def _within(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """The samples with the seconds of theirs that lie in start..end; none that has none there."""
    return [
        replace(sample, at=min(sample.at, end), seconds=seconds)
        for sample, seconds in zip(samples, inside(samples, start, end))
        if seconds > 0
    ]


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
    everything, samples = samples, _within(samples, period.start, period.end)
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
        gaps=trends.gaps(everything, period.start, period.end),
        steps=tuple(trends.resample(samples, period.start, period.end, _CHART_STEPS)),
        total=None if per_second is None else trends.integral(samples) * per_second,
    )


def with_before(found: Figure, samples: Sequence[Sample], period: Period) -> Figure:
    """The figure with the steps of as long a time before the period; `samples` are of then."""
    start = 2 * period.start - period.end
    known = _within(samples, start, period.start)
    if not known:
        return found
    return replace(found, before=tuple(trends.resample(known, start, period.start, _CHART_STEPS)))


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
