"""Acquire: recorded token figures for `--analyze`, from the state file or a Prometheus server."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional
from zoneinfo import ZoneInfo

from monitoring.analyze import trends
from monitoring.analyze.analysis import (
    FIGURES,
    Analysis,
    Anomalous,
    Counted,
    Period,
    analyse,
    with_before,
)
from monitoring.analyze.trends import Sample
from monitoring.anomaly.scene import LEARNING_HOURS
from monitoring.anomaly.series import SeriesDetector
from monitoring.certainty import percent
from monitoring.store.lookback import Point, Series
from monitoring.text import say
from monitoring.tokens.memory import WATCHED

# -- the time zone in which this machine's people live, by its IANA name.

UTC = "UTC"
_ALIASES = ("Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "Zulu", "Universal", "UCT", UTC)


def local_zone(
    environ: Mapping[str, str] = os.environ, root: Path = Path("/etc")
) -> tuple[str, dt.tzinfo]:
    """Name and zone: of TZ, else of /etc/localtime, else of /etc/timezone; UTC where none of them
    names a zone that is known here."""
    names = (environ.get("TZ", "").lstrip(":"), _linked(root / "localtime"), _written(root))
    for name in names:
        zone = None if name in _ALIASES else zone_of(name)
        if zone is not None:
            return name, zone
        if name in _ALIASES:
            break
    return UTC, dt.timezone.utc


def zone_of(name: str) -> dt.tzinfo | None:
    """The zone of an IANA name; None when there is none (or no time zone data on this machine)."""
    if name == UTC:
        return dt.timezone.utc
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):
        return None


def _linked(path: Path) -> str:
    """`Europe/Berlin` of a link to .../zoneinfo/Europe/Berlin."""
    try:
        target = os.readlink(path)
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]


def _written(root: Path) -> str:
    try:
        return (root / "timezone").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


LEARNED_FROM = 28 * 86400.0  # before the lookback
RATE, CLIENT_RATE = (
    "payment_api_token_generation_rate",
    "payment_api_client_token_generation_rate",
)
Read = Callable[[str, float, float], list[Series]]


def analysis(
    history: Any, period: Period, *, success_target: float, top: int
) -> Optional[Analysis]:
    """The answer to `--analyze`; None when nothing was recorded in the period. Raises
    HistoryError."""

    def read(name: str, start: float = period.start, end: float = period.end) -> list[Series]:
        found: list[Series] = history.series(name, {}, start, end)
        warnings.update(dict.fromkeys(warning for series in found for warning in series.warnings))
        return found

    warnings: dict[str, None] = {}
    figures = {row[0]: samples_of(_fullest(read(row[0]))) for row in FIGURES}
    counted = _counted(read)
    clients = {
        series.labels.get("client_id", ""): samples_of(series.points)
        for series in read(CLIENT_RATE)
    }
    found = analyse(
        figures,
        clients,
        period,
        success_target=success_target,
        counted=counted,
        top=top,
        notes=[f"The history is not complete: {warning}" for warning in warnings],
    )
    if found is None:
        return None
    begin = 2 * period.start - period.end
    drawn = tuple(
        with_before(one, samples_of(_fullest(read(one.metric, begin, period.start))), period)
        for one in found.figures
    )
    return _with_anomalies(replace(found, figures=drawn), figures, read, period)


def samples_of(points: Sequence[Point]) -> list[Sample]:
    return [Sample(p.at, p.seconds, p.mean, p.low, p.high) for p in points]


def _fullest(found: Sequence[Series]) -> tuple[Point, ...]:
    """Of several series of one figure, that in which most time was watched."""
    best = max(found, key=lambda s: sum(p.seconds for p in s.points), default=None)
    return best.points if best else ()


def _counted(read: Callable[[str], list[Series]]) -> Counted:
    validations = read("payment_api_token_validations_total")
    results = _grown(validations, "result")
    failures = _grown(read("payment_api_token_validation_failures_total"), "reason")
    minted = _grown(read("payment_api_tokens_generated_total"), "")
    return Counted(
        minted=max(minted.values(), default=None),
        validated=results.get("success"),
        refused=results.get("failure"),
        failures={reason: count for reason, count in failures.items() if count > 0},
        samples=samples_of(_fullest(validations)),
    )


def _grown(found: Sequence[Series], label: str) -> dict[str, float]:
    """What counters grew by, by the value of a label; those seen but once are left out."""
    return {
        series.labels.get(label, ""): trends.increase(samples_of(series.points))
        for series in found
        if sum(point.n for point in series.points) > 1
    }


# -- anomalies


def _with_anomalies(
    found: Analysis, figures: Mapping[str, Sequence[Sample]], read: Read, period: Period
) -> Analysis:
    """The anomalies of the lookback, seen by a detector that learned from the weeks before."""
    anomalies: list[Anomalous] = []
    watched = 0.0
    for metric, name, unit in WATCHED:
        before = samples_of(_fullest(read(metric, period.start - LEARNED_FROM, period.start)))
        samples = [*before, *figures[metric]]
        watched = max(watched, sum(sample.seconds for sample in samples))
        anomalies += _anomalies(SeriesDetector(name, unit), metric, samples, period.start)
    note = found.anomaly_note
    if found.watched < 0.995:
        note = f"Nothing stood out in the {percent(found.watched)} of the time that was watched."
    if watched < LEARNING_HOURS * 3600:
        note = (
            f"Too little is recorded to know what is usual: it takes "
            f"{say(LEARNING_HOURS * 3600)}, there are {say(watched)}."
        )
    ordered = sorted(anomalies, key=lambda anomaly: (anomaly.at, anomaly.metric))
    return replace(found, anomalies=tuple(ordered), anomaly_note=note)


def _anomalies(
    detector: SeriesDetector, metric: str, samples: Sequence[Sample], start: float
) -> list[Anomalous]:
    return [
        Anomalous(anomaly.at, metric, anomaly.sentence, anomaly.severity)
        for sample in samples
        for anomaly in detector.feed(sample.at - sample.seconds, sample.seconds, sample.value)
        if anomaly.at >= start
    ]
