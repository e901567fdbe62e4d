"""Acquire: the Conjur vault: its own word, then a login and one metadata read, each timed."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from monitoring.conjur import ConjurClient, ConjurFault, ConjurHealth
from monitoring.model import Fault, Reading
from monitoring.probing.kit import Live, digest, transport_of
from monitoring.settings import ConjurSettings

NAME = "conjur-vault"


def probe_vault(live: Live) -> Reading:
    """Facts: `target` (digest of the address), `health` (of ConjurHealth), `steps`, `credentials`,
    `identity` (a word that stands for the vault and our login), `variables` (how many our identity
    sees), `step_fault` ((step, Fault, HTTP status or None) of the first authenticated step that
    failed), transport facts of the deciding health answer, with the vault's clock by the token it
    gave; `http_status` where the health answer was a refusal."""
    at = live.clock()
    if not live.settings.conjur.url:
        fault = Fault("config", "no vault is configured: set CONJUR_URL")
        return Reading(NAME, at, fault=fault, configured=False)
    asked = {"target": digest(live.settings.conjur.url)}
    try:
        client: ConjurClient = live.conjur()
        health = client.health()
    except ConjurFault as error:
        refusal = {} if error.reply is None else {"http_status": error.reply.status}
        return Reading(NAME, at, fault=error.fault, facts={**asked, **refusal})
    facts: Dict[str, Any] = {"health": _health(health), "credentials": client.has_credentials}
    facts.update(asked)
    if health.reply is not None:
        facts.update(transport_of(health.reply, live.clock()))
    facts.update(_access(client) if client.has_credentials else {})
    if client.clocks is not None:  # a Date header, if any, is that of a proxy before the vault
        facts["server_date"], facts["answered_at"] = client.clocks
    facts["steps"] = {**health.steps, **facts.get("steps", {})}
    facts["identity"] = _identity(live.settings.conjur)
    return Reading(NAME, at, _seconds(health), facts)


def _identity(settings: ConjurSettings) -> str:
    """Which login at which vault: what worked for one says nothing of another."""
    how = settings.jwt_service_id if settings.jwt_file else "key"
    return digest(settings.url, settings.account, settings.login, how)


def _health(health: ConjurHealth) -> Mapping[str, Any]:
    return {
        "edition": health.edition,
        "ok": health.ok,
        "degraded": health.degraded,
        "role": health.role or None,
        "version": health.version or None,
        "stale": health.stale,
        "replication_lag_bytes": health.replication_lag_bytes,
        "free_bytes": health.free_bytes,
        "free_inodes": health.free_inodes,
        "subscriptions": health.subscriptions,
        "initial_replication": health.initial_replication,
        "silence": health.silence,
        "cluster": health.cluster or None,
        "messages": health.messages,
        "remarks": health.remarks,
        "doubts": health.doubts,
    }


def _seconds(health: ConjurHealth) -> Optional[float]:
    return health.reply.seconds if health.reply is not None else None


def _access(client: ConjurClient) -> Dict[str, Any]:
    """A login, then the number of variables: one metadata read whose cost does not grow."""
    facts: Dict[str, Any] = {}
    steps: Dict[str, Optional[float]] = {"authenticate": None, "count": None}
    try:
        client.authenticate()
        steps["authenticate"] = client.steps.get("authenticate")
        facts["variables"] = client.count()
        steps["count"] = client.steps.get("count")
    except ConjurFault as error:
        step = "authenticate" if steps["authenticate"] is None else "count"
        status = error.reply.status if error.reply is not None else None
        facts["step_fault"] = (step, error.fault, status)
    return {**facts, "steps": steps}
