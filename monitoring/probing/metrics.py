"""Acquire: what a service's metrics page says of its own load; absent pages are no error."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, cast

from monitoring import service_metrics
from monitoring.http.reply import Reply
from monitoring.http_client import HttpClient
from monitoring.probing.kit import Live, TimeLeft, bearer
from monitoring.settings import ServiceSettings


class _Hurried:
    """An HttpClient whose every request shares the time that is left."""

    def __init__(self, http: Any, left: TimeLeft) -> None:
        self._http, self._left = http, left

    def get(self, url: str, **how: Any) -> Reply:
        how["timeout"] = self._left.share(how.get("timeout") or 60.0)
        reply: Reply = self._http.get(url, **how)
        return reply


def service_figures(
    http: Any, live: Live, service: ServiceSettings, left: TimeLeft
) -> Mapping[str, Any]:
    """`cpu_ratio`, `memory_used_ratio` (0..1, of the busiest instance), `requests` ((instance,
    HTTP status) -> total), as far as the page has them; `why` where an instance could not be
    read; {} where no page is configured."""
    headers = bearer(live.settings.auth_token)
    mapping = live.settings.service_metrics
    hurried = cast(HttpClient, _Hurried(http, left))
    found = service_metrics.read(hurried, service, mapping, headers=headers)
    if not found.configured:
        return {}
    facts: Dict[str, Any] = {
        "cpu_ratio": _highest(found, "cpu_ratio"),
        "memory_used_ratio": _highest(found, "heap_used_ratio"),
        "requests": {
            (sample.instance, dict(sample.labels).get("status", "")): sample.value
            for sample in found.samples
            if sample.name == "http_requests"
        },
    }
    if found.faults:
        facts["why"] = "; ".join(fault.fault.message for fault in found.faults)
    return facts


def _highest(found: service_metrics.ServiceMetrics, name: str) -> Optional[float]:
    return max((g.value for g in found.gauges if g.name == name), default=None)
