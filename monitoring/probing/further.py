"""Acquire: a component that the user added (`COMPONENTS`): does it answer as it should?"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping

from monitoring.http import tls, wire
from monitoring.http.reply import HttpFault
from monitoring.model import Fault, Reading
from monitoring.probing.kit import Live, transport_of
from monitoring.settings import ComponentSettings, RedisSettings


def probe_further(row: ComponentSettings, live: Live) -> Reading:
    """Facts: for http the `status` that was answered and the transport's; for tls its
    certificates. `seconds` until it had answered."""
    at = live.clock()
    try:
        return _ASKED[row.kind](row, live, at)
    except (HttpFault, wire.WireFault) as error:
        return Reading(row.name, at, fault=error.fault)


def _http(row: ComponentSettings, live: Live, at: float) -> Reading:
    reply = live.further[row.name].get(row.url, timeout=row.timeout)
    facts = {"status": reply.status, "wanted": row.status, **transport_of(reply, live.clock())}
    return Reading(row.name, at, reply.seconds, facts)


def _tcp(row: ComponentSettings, _live: Live, at: float) -> Reading:
    opened = wire.open_socket(row.host, row.port, wire.Deadline(row.timeout))
    opened.sock.close()
    return Reading(row.name, at, opened.dns + opened.connect)


def _tls(row: ComponentSettings, _live: Live, at: float) -> Reading:
    began, deadline = time.perf_counter(), wire.Deadline(row.timeout)
    try:
        context = tls.context(row.tls)
    except ValueError as error:
        return Reading(row.name, at, fault=Fault("config", str(error)))
    sock = wire.open_socket(row.host, row.port, deadline).sock
    secured = wire.secure(sock, context, row.host, deadline)
    with secured:
        seconds, shown = time.perf_counter() - began, tls.facts(secured)
    facts: Dict[str, Any] = {"protocol": shown.protocol, "expires_at": shown.expires_at}
    facts.update(chain=tuple(shown.chain), complete=shown.complete)
    return Reading(row.name, at, seconds, {"tls": facts})


def _redis(row: ComponentSettings, _live: Live, at: float) -> Reading:
    from monitoring.cache.faults import RedisFault
    from monitoring.redis_client import ERRORS, Cache, translate

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


_ASKED: Mapping[str, Callable[[ComponentSettings, Live, float], Reading]] = {
    "http": _http,
    "tcp": _tcp,
    "tls": _tls,
    "redis": _redis,
}
