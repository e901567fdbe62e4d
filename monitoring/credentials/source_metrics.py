"""Acquire: what the services count of logins, by client."""

from __future__ import annotations

from monitoring import service_metrics
from monitoring.credentials.facts import EAPI, SAPI
from monitoring.credentials.source_kit import Answer, Asked, absent, dark
from monitoring.families import LOGINS as LOGINS_NOUN
from monitoring.families import none_counted
from monitoring.http_client import HttpClient, HttpFault
from monitoring.model import Source
from monitoring.probing.kit import bearer
from monitoring.service_metrics import ServiceMetrics
from monitoring.settings import ServiceSettings

LOGINS = "authentication_attempts"


def ask_eapi(asked: Asked) -> Answer:
    """The counters of Payment-EAPI, where clients log in."""
    return _ask(EAPI, asked, asked.eapi, asked.settings.eapi)


def ask_sapi(asked: Asked) -> Answer:
    """The counters of Payment-SAPI; some deployments count logins there."""
    return _ask(SAPI, asked, asked.sapi, asked.settings.sapi)


def _ask(name: str, asked: Asked, http: HttpClient, service: ServiceSettings) -> Answer:
    settings = asked.settings
    try:
        headers = bearer(settings.auth_token)
    except HttpFault as error:
        return dark(name, error.fault)
    found = service_metrics.read(http, service, settings.service_metrics, headers=headers)
    return _answer(name, found)


def _answer(name: str, found: ServiceMetrics) -> Answer:
    """One instance of several that fails makes the sum incomplete, so the source is not sound."""
    if not found.configured:
        return absent(name)
    data = found if found.instances else None
    if found.faults:
        _, fault = found.faults[0]  # its sentence names the instance
        return dark(name, fault, data)
    seen = sum(sample.name == LOGINS for sample in found.samples)
    left = found.clients_left_out
    why = f"{left} clients above the bound are not counted" if left else ""
    why = why or none_counted(LOGINS_NOUN, found.samples)
    return Answer(Source(name, True, seen, found.seconds, why), data)
