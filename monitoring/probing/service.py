"""Acquire: one Spring Boot service: basic health, detailed health, its metrics page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict

from monitoring.http.reply import HttpFault
from monitoring.model import Fault, Reading
from monitoring.probing.kit import Live, TimeLeft, answer_of, bearer, digest, place, transport_of
from monitoring.probing.metrics import service_figures
from monitoring.settings import ServiceSettings


def probe_service(name: str, live: Live) -> Reading:
    """`payment-eapi` or `payment-sapi`. Facts: `targets` (digests of the two addresses), `health`
    and `detailed` answers, `with_token` (whether we sent one), transport facts of the first,
    `metrics`. The basic health alone gives `seconds`; the others share what it left
    of the service's timeout, and are not asked when it did not answer."""
    eapi = name == "payment-eapi"
    service = live.settings.eapi if eapi else live.settings.sapi
    http = live.eapi if eapi else live.sapi
    at, left = live.clock(), TimeLeft(service.timeout)
    if not service.url or not service.paths.get("health"):
        missing = "health path" if service.url else "endpoint"
        sentence = f"no {missing} of {name} is configured: it is not watched"
        return Reading(name, at, fault=Fault("config", sentence), configured=False)
    paths = {part: service.paths.get(part) for part in ("health", "detailed")}
    urls = {part: place(service, path) for part, path in paths.items() if path}
    facts: Dict[str, Any] = {"targets": {part: digest(url) for part, url in urls.items()}}
    try:
        headers = bearer(live.settings.auth_token)
        reply = http.get(urls["health"], headers=headers, timeout=left.share(service.timeout))
    except HttpFault as error:
        return Reading(name, at, facts=facts, fault=error.fault)
    facts.update(with_token=bool(headers), health=answer_of(reply))
    facts.update(transport_of(reply, live.clock()))
    facts.update(_further(http, live, service, left))
    return Reading(name, at, reply.seconds, facts)


def _further(http: Any, live: Live, service: ServiceSettings, left: TimeLeft) -> Dict[str, Any]:
    """Detailed health and metrics, asked at the same time: a slow service costs one wait."""
    path = service.paths.get("detailed")
    if not path or path == service.paths["health"]:
        return {"metrics": service_figures(http, live, service, left)}
    with ThreadPoolExecutor(1, "detailed") as beside:
        detailed = beside.submit(_detailed, http, live, place(service, path), left)
        figures = service_figures(http, live, service, left)
        return {"metrics": figures, "detailed": detailed.result()}


def _detailed(http: Any, live: Live, url: str, left: TimeLeft) -> Dict[str, Any]:
    try:
        headers = bearer(live.settings.auth_token)
        return answer_of(http.get(url, headers=headers, timeout=left.share(60.0)))
    except HttpFault as error:
        return {"fault": error.fault}
