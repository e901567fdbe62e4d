"""Acquire: the history as a Prometheus-compatible server tells it.

Prometheus, Thanos, Mimir and VictoriaMetrics speak the same `/api/v1/query_range`
(prometheus.io/docs/prometheus/latest/querying/api). The base URL may have a path
(`https://mimir/prometheus`, `http://vmselect/select/0/prometheus`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable
from urllib.parse import urlencode

from monitoring.catalog import METRICS
from monitoring.config.settings import HistorySettings
from monitoring.http.reply import HttpFault
from monitoring.model import Fault
from monitoring.store.lookback import History, HistoryError, Point, Series
from monitoring.store.state import State
from monitoring.text import redact

MAX_POINTS = 11000  # per series; more is refused (web/api/v1/api.go)
MIN_STEP = 60.0
MAX_BYTES = 64 << 20
MOST_VALUES = 8_000_000  # of an answer: fifty clients for a week have six millions
TIMEOUT = 60.0
_SERVER = "the history server (PROMETHEUS_URL)"
_STAT = "payment_api_stat"  # label that tells the four figures of one answer apart
_STATS = (("mean", "avg"), ("low", "min"), ("high", "max"), ("n", "count"))

#: What other than 200 means: status -> (kind of fault, cure).
_STATUS = {
    401: ("auth", "give the right credentials in the headers of PROMETHEUS_URL"),
    403: ("auth", "the credentials may not read; ask for the right to query"),
    404: ("http", "PROMETHEUS_URL needs the path before /api/v1, e.g. /prometheus for Mimir"),
    422: ("http", "the query cannot be executed; shorten the lookback"),
    429: ("busy", "too many queries; retry later"),
    503: ("timeout", "the query took too long; shorten the lookback"),
}


class PrometheusHistory:
    """Reads series with their catalogue labels; those of several instances of a monitor are
    averaged where they overlap and continue each other where one replaced another."""

    def __init__(self, http: Any, settings: HistorySettings) -> None:
        self._http = http
        self._base = settings.prometheus_url.rstrip("/")
        self._headers = settings.prometheus_headers
        self._params = settings.prometheus_params

    def series(
        self, name: str, labels: Mapping[str, str], start: float, end: float
    ) -> list[Series]:
        """Every series of the metric `name` that has `labels`, sorted by labels, with points in
        (start, end] on a grid of `step_for(start, end)`; no point where nothing was scraped.
        `warnings` are the server's when its answer is not complete. Raises HistoryError, and
        KeyError for a name that the catalogue does not have."""
        step = step_for(start, end)
        first = (math.floor(start / step) + 1) * step  # on the grid, so that proxies can cache
        last = max(first, math.floor(end / step) * step)
        params = {
            "query": query(name, labels, step),
            "start": f"{first:.0f}",
            "end": f"{last:.0f}",
            "step": f"{step:.0f}",
            "partial_response": "false",  # Thanos: rather fail than leave out silently
            "nocache": "1",  # VictoriaMetrics: do not move start and end
            **{name: text for name, text in self._params.items() if text},
        }
        data, warnings = self._ask(params)
        found = _series(data, (first - step, last + step), step, warnings)
        if warnings and not found:
            raise _error("http", f"{_SERVER} gave an incomplete, empty answer: {warnings[0]}")
        return found

    def _ask(self, params: Mapping[str, str]) -> tuple[list[Any], tuple[str, ...]]:
        """The result list and the warnings."""
        reply = self._get(params)
        try:
            body = reply.json(MOST_VALUES)
        except HttpFault as error:
            if reply.status == 200:
                raise HistoryError(error.fault) from error
            body = None  # proxies answer errors in HTML
        body = body if isinstance(body, dict) else {}
        if reply.status != 200 or body.get("status") != "success":
            raise _refusal(reply.status, body)
        data = body.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "matrix":
            raise _error("body", f"{_SERVER} answered no matrix; is it the right URL?")
        result, warnings = data.get("result"), body.get("warnings")
        if not isinstance(result, list):
            raise _error("body", f"{_SERVER} answered a matrix without series")
        # what is no list was not said by any Prometheus, but it was said
        texts = warnings if isinstance(warnings, list) else [warnings] if warnings else []
        return result, tuple(map(_clean, texts))

    def _get(self, params: Mapping[str, str]) -> Any:
        url = f"{self._base}/api/v1/query_range?{urlencode(params, errors='replace')}"
        try:
            headers = {name: secret.reveal() for name, secret in self._headers.items() if secret}
        except OSError as error:
            message = f"cannot read the secret of a header for PROMETHEUS_URL ({error.strerror})"
            raise _error("config", message) from error
        try:
            return self._http.get(url, headers=headers, timeout=TIMEOUT, max_bytes=MAX_BYTES)
        except HttpFault as error:
            raise HistoryError(error.fault) from error


def _refusal(status: int, body: Mapping[str, Any]) -> HistoryError:
    kind, cure = _STATUS.get(status, ("http", "see the server's own log"))
    if body.get("errorType") == "timeout":
        kind, cure = _STATUS[503]
    if status == 200:
        kind, cure = "body", "is it the right URL?"
    said = ": ".join(_clean(body[key]) for key in ("errorType", "error") if body.get(key))
    return _error(kind, f"{_SERVER} answered {status}{f' ({said})' if said else ''}; {cure}")


def step_for(start: float, end: float) -> float:
    """Seconds between points: whole minutes, as few as the limit of points allows."""
    least = math.ceil((end - start) / MAX_POINTS / MIN_STEP) * MIN_STEP
    return max(MIN_STEP, least)


def query(name: str, labels: Mapping[str, str], step: float) -> str:
    """PromQL for mean, extremes and number of samples per step in one answer.

    The aggregations `by` catalogue labels join what only `instance` or `pod` tells apart. The
    range is at least two of the longest usual scrape interval: of a range as long as the interval
    a little jitter leaves some empty, which would look like gaps."""
    matchers = ",".join(f"{key}={_quoted(labels[key])}" for key in sorted(labels))
    window = max(step, 2 * MIN_STEP)
    selector = f"{name}{{{matchers}}}[{window:.0f}s]"
    by = f"by ({','.join(METRICS[name].labels)})"
    parts = []
    for stat, function in _STATS:
        outer = "sum" if function == "count" else function
        figure = f"{outer} {by} ({function}_over_time({selector}))"
        parts.append(f'label_replace({figure},"{_STAT}","{stat}","","")')
    return " or ".join(parts)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _series(
    result: Iterable[Any], span: tuple[float, float], step: float, warnings: tuple[str, ...]
) -> list[Series]:
    """Join the four figures of every label set to points."""
    figures: dict[tuple[tuple[str, str], ...], dict[str, dict[float, float]]] = {}
    for entry in result:
        try:
            labels = {str(k): str(v) for k, v in entry["metric"].items()}
            values = dict(_values(entry.get("values", ()), span))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _error("body", f"{_SERVER} answered a malformed series") from error
        stat = labels.pop(_STAT, "mean")
        labels.pop("__name__", None)
        figures.setdefault(tuple(sorted(labels.items())), {})[stat] = values
    found = ((labels, _points(stats, step)) for labels, stats in sorted(figures.items()))
    return [Series(dict(labels), points, warnings) for labels, points in found if points]


def _values(pairs: Iterable[Any], span: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Time and value; NaN and infinity are "not measured". Raises ValueError for a time that was
    not asked for."""
    for at, text in pairs:
        value = float(text)
        if not span[0] <= at <= span[1]:
            raise ValueError("a time outside of the question")
        if math.isfinite(value):
            yield float(at), value


def _points(stats: Mapping[str, Mapping[float, float]], step: float) -> tuple[Point, ...]:
    def figure(stat: str, at: float, default: float) -> float:
        return stats.get(stat, {}).get(at, default)

    return tuple(
        Point(at, step, mean, figure("low", at, mean), figure("high", at, mean), _count(stats, at))
        for at, mean in sorted(stats.get("mean", {}).items())
    )


def _count(stats: Mapping[str, Mapping[float, float]], at: float) -> int:
    return max(1, round(stats.get("n", {}).get(at, 1.0)))


def _clean(text: object) -> str:
    """Somebody else's text, at most so long; masked first, a secret cut in two is none."""
    return redact(str(text))[:200]


def _error(kind: str, message: str) -> HistoryError:
    return HistoryError(Fault(kind, message))


def open_history(state: State, settings: HistorySettings, http: Callable[[], Any]) -> History:
    """The history a lookback reads: of `prometheus_url` when that is set, else the state file.
    `http` makes an HttpClient; only the former calls it."""
    if settings.prometheus_url:
        return PrometheusHistory(http(), settings)
    from monitoring.store.history import LocalHistory

    return LocalHistory(state, settings)
