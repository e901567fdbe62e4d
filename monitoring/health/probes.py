"""Acquire: what each component is asked: a service, the vault, the cache, those of COMPONENTS."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, TypeVar, cast

from monitoring.components import EAPI
from monitoring.config.settings import (
    ComponentSettings,
    ConjurSettings,
    RedisSettings,
    ServiceSettings,
)
from monitoring.conjur.client import ConjurClient, ConjurFault, ConjurHealth
from monitoring.health.probing import (
    ProbeContext,
    TimeLeft,
    answer_of,
    bearer,
    digest,
    place,
    transport_of,
)
from monitoring.http import tls, wire
from monitoring.http.client import HttpClient
from monitoring.http.reply import HttpFault, Reply
from monitoring.model import Fault, Reading
from monitoring.redis.client import Cache
from monitoring.redis.faults import NOT_CONFIGURED, RedisFault
from monitoring.redis.topology import Node
from monitoring.services import metrics as service_metrics

# -- what a service's metrics page says of its own load; absent pages are no error.


class _Hurried:
    """An HttpClient whose every request shares the time that is left."""

    def __init__(self, http: Any, left: TimeLeft) -> None:
        self._http, self._left = http, left

    def get(self, url: str, **how: Any) -> Reply:
        how["timeout"] = self._left.share(how.get("timeout") or 60.0)
        reply: Reply = self._http.get(url, **how)
        return reply


def service_figures(
    http: Any, live: ProbeContext, service: ServiceSettings, left: TimeLeft
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
    facts: dict[str, Any] = {
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


# -- one Spring Boot service: basic health, detailed health, its metrics page.


def probe_service(name: str, live: ProbeContext) -> Reading:
    """`payment-eapi` or `payment-sapi`. Facts: `targets` (digests of the two addresses), `health`
    and `detailed` answers, `with_token` (whether we sent one), transport facts of the first,
    `metrics`. The basic health alone gives `seconds`; the others share what it left
    of the service's timeout, and are not asked when it did not answer."""
    eapi = name == EAPI
    service = live.settings.eapi if eapi else live.settings.sapi
    http = live.eapi if eapi else live.sapi
    at, left = live.clock(), TimeLeft(service.timeout)
    if not service.url or not service.paths.get("health"):
        missing = "health path" if service.url else "endpoint"
        sentence = f"no {missing} of {name} is configured: it is not watched"
        return Reading(name, at, fault=Fault("config", sentence), configured=False)
    paths = {part: service.paths.get(part) for part in ("health", "detailed")}
    urls = {part: place(service, path) for part, path in paths.items() if path}
    facts: dict[str, Any] = {"targets": {part: digest(url) for part, url in urls.items()}}
    try:
        headers = bearer(live.settings.auth_token)
        reply = http.get(urls["health"], headers=headers, timeout=left.share(service.timeout))
    except HttpFault as error:
        return Reading(name, at, facts=facts, fault=error.fault)
    facts.update(with_token=bool(headers), health=answer_of(reply))
    facts.update(transport_of(reply, live.clock()))
    facts.update(_further(http, live, service, left))
    return Reading(name, at, reply.seconds, facts)


def _further(
    http: Any, live: ProbeContext, service: ServiceSettings, left: TimeLeft
) -> dict[str, Any]:
    """Detailed health and metrics, asked at the same time: a slow service costs one wait."""
    path = service.paths.get("detailed")
    if not path or path == service.paths["health"]:
        return {"metrics": service_figures(http, live, service, left)}
    with ThreadPoolExecutor(1, "detailed") as beside:
        detailed = beside.submit(_detailed, http, live, place(service, path), left)
        figures = service_figures(http, live, service, left)
        return {"metrics": figures, "detailed": detailed.result()}


def _detailed(http: Any, live: ProbeContext, url: str, left: TimeLeft) -> dict[str, Any]:
    try:
        headers = bearer(live.settings.auth_token)
        return answer_of(http.get(url, headers=headers, timeout=left.share(60.0)))
    except HttpFault as error:
        return {"fault": error.fault}


# -- the Conjur vault: its own word, then a login and one metadata read, each timed.


def probe_vault(name: str, live: ProbeContext) -> Reading:
    """Facts: `target` (digest of the address), `health` (of ConjurHealth), `steps`, `credentials`,
    `identity` (a word that stands for the vault and our login), `variables` (how many our identity
    sees), `step_fault` ((step, Fault, HTTP status or None) of the first authenticated step that
    failed), transport facts of the deciding health answer, with the vault's clock by the token it
    gave; `http_status` where the health answer was a refusal."""
    at = live.clock()
    if not live.settings.conjur.url:
        fault = Fault("config", "no vault is configured: set CONJUR_URL")
        return Reading(name, at, fault=fault, configured=False)
    asked = {"target": digest(live.settings.conjur.url)}
    try:
        client: ConjurClient = live.conjur()
        health = client.health()
    except ConjurFault as error:
        refusal = {} if error.reply is None else {"http_status": error.reply.status}
        return Reading(name, at, fault=error.fault, facts={**asked, **refusal})
    facts: dict[str, Any] = {"health": _health(health), "credentials": client.has_credentials}
    facts.update(asked)
    if health.reply is not None:
        facts.update(transport_of(health.reply, live.clock()))
    facts.update(_access(client) if client.has_credentials else {})
    if client.clocks is not None:  # a Date header, if any, is that of a proxy before the vault
        facts["server_date"], facts["answered_at"] = client.clocks
    facts["steps"] = {**health.steps, **facts.get("steps", {})}
    facts["identity"] = _identity(live.settings.conjur)
    return Reading(name, at, _seconds(health), facts)


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


def _access(client: ConjurClient) -> dict[str, Any]:
    """A login, then the number of variables: one metadata read whose cost does not grow."""
    facts: dict[str, Any] = {}
    steps: dict[str, Optional[float]] = {"authenticate": None, "count": None}
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


# -- the Redis cache: every node's PING, INFO and slow log, and its topology's own word.

_SLOWEST = 5
_AT_ONCE = 8
T = TypeVar("T")


def probe_cache(name: str, live: ProbeContext) -> Reading:
    """Facts: `mode` (single, sentinel, cluster), `nodes` (each: name, role, seconds, fault, info,
    info_fault, slow, slow_fault), `cluster`, `sentinel`, `user`, `blind`. `seconds` is the PING of
    the slowest primary."""
    at = live.clock()
    if not live.settings.redis.configured:
        return Reading(name, at, fault=NOT_CONFIGURED, configured=False)
    cache: Optional[Cache] = None
    try:
        cache = live.cache()
        seconds, facts = _read(cache, live.settings.redis)
        return Reading(name, at, seconds, facts)
    except RedisFault as error:
        return Reading(name, at, fault=error.fault)
    finally:
        if cache is not None:
            cache.close()


def _read(cache: Cache, settings: RedisSettings) -> tuple[Optional[float], dict[str, Any]]:
    """Seconds of the slowest primary, and the facts."""
    nodes = _ask_nodes(cache, cache.nodes())
    facts: dict[str, Any] = {"mode": mode_of(settings), "nodes": nodes}
    if any(node["fault"] is None for node in nodes):
        clustered = settings.cluster or any(_says_cluster(node) for node in nodes)
        facts.update(_topology(cache, settings, clustered))
    return _cache_seconds(nodes), facts


def mode_of(settings: RedisSettings) -> str:
    if settings.sentinels:
        return "sentinel"
    return "cluster" if settings.cluster else "single"


def _ask_nodes(cache: Cache, nodes: tuple[Node, ...]) -> tuple[Mapping[str, Any], ...]:
    """In threads when there are several: six dead nodes must not cost six timeouts."""
    if len(nodes) < 2:
        return tuple(_node(cache, node) for node in nodes)
    with ThreadPoolExecutor(min(_AT_ONCE, len(nodes)), "redis-node") as threads:
        return tuple(threads.map(lambda node: _node(cache, node), nodes))


def _node(cache: Cache, node: Node) -> Mapping[str, Any]:
    row: dict[str, Any] = {"name": node.name, "role": node.role, "info": None, "slow": None}
    row["seconds"], row["fault"] = _try(lambda: cache.ping(node))
    # INFO is answered during loading and a busy script, and tells how long they will last.
    if row["fault"] is None or row["fault"].kind in ("loading", "busy", "masterdown"):
        row["info"], row["info_fault"] = _try(lambda: cache.info(node))
    if row["fault"] is None:
        row["slow"], row["slow_fault"] = _try(lambda: cache.slow_commands(node, _SLOWEST))
    return row


def _says_cluster(node: Mapping[str, Any]) -> bool:
    info = node["info"] or {}
    return "cluster" in (info.get("redis_mode"), info.get("server_mode"))


def _topology(cache: Cache, settings: RedisSettings, clustered: bool) -> dict[str, Any]:
    """What the cluster or the sentinels say, and who we are; what is refused goes to `blind`."""
    facts: dict[str, Any] = {}
    blind: list[Fault] = []
    asked: dict[str, Callable[[], Any]] = {"user": cache.whoami}
    if clustered:
        asked["cluster"] = cache.cluster_info
    if settings.sentinels:
        asked["sentinel"] = cache.sentinel_info
    for name, ask in asked.items():
        facts[name], fault = _try(ask)
        # ACL WHOAMI is a nicety: servers before version 6 lack it, strict users may not ask it.
        if fault is not None and name != "user":
            blind.append(fault)
    return {**facts, "blind": tuple(blind)}


def _try(ask: Callable[[], T]) -> tuple[Optional[T], Optional[Fault]]:
    try:
        return ask(), None
    except RedisFault as error:
        return None, error.fault


def _cache_seconds(nodes: tuple[Mapping[str, Any], ...]) -> Optional[float]:
    primaries = [n["seconds"] for n in nodes if n["role"] != "replica"]
    known = [seconds for seconds in primaries if seconds is not None]
    return max(known) if known else None


# -- a component that the user added (`COMPONENTS`): does it answer as it should?


def probe_further(row: ComponentSettings, live: ProbeContext) -> Reading:
    """Facts: for http the `status` that was answered and the transport's; for tls its
    certificates. `seconds` until it had answered."""
    at = live.clock()
    try:
        return _ASKED[row.kind](row, live, at)
    except (HttpFault, wire.WireFault) as error:
        return Reading(row.name, at, fault=error.fault)


def _http(row: ComponentSettings, live: ProbeContext, at: float) -> Reading:
    reply = live.further[row.name].get(row.url, timeout=row.timeout)
    facts = {"status": reply.status, "wanted": row.status, **transport_of(reply, live.clock())}
    return Reading(row.name, at, reply.seconds, facts)


def _tcp(row: ComponentSettings, _live: ProbeContext, at: float) -> Reading:
    opened = wire.open_socket(row.host, row.port, wire.Deadline(row.timeout))
    opened.sock.close()
    return Reading(row.name, at, opened.dns + opened.connect)


def _tls(row: ComponentSettings, _live: ProbeContext, at: float) -> Reading:
    began, deadline = time.perf_counter(), wire.Deadline(row.timeout)
    try:
        context = tls.context(row.tls)
    except ValueError as error:
        return Reading(row.name, at, fault=Fault("config", str(error)))
    sock = wire.open_socket(row.host, row.port, deadline).sock
    secured = wire.secure(sock, context, row.host, deadline)
    with secured:
        seconds, shown = time.perf_counter() - began, tls.facts(secured)
    facts: dict[str, Any] = {"protocol": shown.protocol, "expires_at": shown.expires_at}
    facts.update(chain=tuple(shown.chain), complete=shown.complete)
    return Reading(row.name, at, seconds, {"tls": facts})


def _redis(row: ComponentSettings, _live: ProbeContext, at: float) -> Reading:
    from monitoring.redis.client import ERRORS, Cache, translate
    from monitoring.redis.faults import RedisFault

    settings = RedisSettings(
        row.host, row.port, password=row.password, ssl=row.ssl, tls=row.tls, timeout=row.timeout
    )
    cache = Cache(settings)
    try:
        began = time.perf_counter()
        cache.nodes()[0].client.ping()
        return Reading(row.name, at, time.perf_counter() - began)
    except RedisFault as error:
        return Reading(row.name, at, fault=error.fault)
    except ERRORS as error:
        where = wire.place(row.host, row.port)
        fault = translate(error, where) or Fault("protocol", f"{where} does not answer PING")
        return Reading(row.name, at, fault=fault)
    finally:
        cache.close()


_ASKED: Mapping[str, Callable[[ComponentSettings, ProbeContext, float], Reading]] = {
    "http": _http,
    "tcp": _tcp,
    "tls": _tls,
    "redis": _redis,
}
