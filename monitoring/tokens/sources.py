"""Acquire: what a token cycle looks at: the census of the cache, and the services' counters."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Callable, Optional

from monitoring.config.settings import Settings
from monitoring.follow.follower import Followed
from monitoring.health.probing import bearer
from monitoring.http import wire
from monitoring.http.reply import HttpFault
from monitoring.model import Fault, Source
from monitoring.peers import PeerThreads
from monitoring.redis import client as redis_client
from monitoring.redis.count import ScanReport
from monitoring.redis.faults import NOT_CONFIGURED, RedisFault
from monitoring.redis.profiles import TOKEN, Rule, profile_of
from monitoring.redis.scan import Budget, ErrorTranslation, Progress, census
from monitoring.services import metrics as service_metrics
from monitoring.services.counters import CounterSample
from monitoring.services.families import VALIDATIONS, none_counted
from monitoring.tokens.renewals import NEVER_LOOKED, Courses
from monitoring.tokens.results import TokenResult
from monitoring.tokens.stats import TokenStats

_GRACE = 1.0
#: What is done with a census that saw every key: the cache, and what was counted.
Share = Callable[[Any, TokenStats, ScanReport], None]

_log = logging.getLogger("monitoring.tokens.sources")


@dataclass(frozen=True)
class Census:
    """A look at the cache. `report` and `result` are None when not a single node could be asked;
    `fault` says why. `rules` are the patterns that were tried; `configured` False: there is no
    cache to look at."""

    rules: tuple[Rule, ...]
    seconds: float
    report: Optional[ScanReport] = None
    result: Optional[TokenResult] = None
    fault: Optional[Fault] = None
    configured: bool = True

    @property
    def source(self) -> Source:
        """The row `redis` of `sources`: not ok when some node, or some of its keys, could not be
        read, whatever was read of the rest."""
        report, faults = self.report, ([self.fault] if self.fault else [])
        whys = [fault.message for fault in faults]
        if report is not None:
            faults = [fault for _, fault in report.faults]
            whys = [f"{name}: {_one_line(fault.message)}" for name, fault in report.faults]
        if report is not None and report.unread:
            whys.append(f"{report.unread} values could not be read")
        return Source(
            "redis",
            ok=not whys,
            seen=report.seen if report else None,
            seconds=self.seconds,
            why="; ".join(whys),
            error=faults[0].kind if faults else None,
            configured=self.configured,
            truncated=report is not None and report.truncated in ("time", "max_keys"),
        )

    @property
    def layout_known(self) -> bool:
        """False when no key is a token's, and there are keys that no pattern knows: then the
        tokens may be those, and it is not known that there are none."""
        if self.report is None:
            return True
        matched, rules = self.report.matched, self.rules
        tokens = sum(matched.get(rule.pattern, 0) for rule in rules if rule.role == TOKEN)
        return bool(tokens) or not self.report.prefixes


def take_census(
    cache_of: Callable[[], Any],
    settings: Settings,
    now: float,
    *,
    courses: Courses = NEVER_LOOKED,
    known: Callable[[], Collection[str]] = tuple,
    progress: Optional[Progress] = None,
    share: Optional[Share] = None,
    start: Mapping[str, str] = MappingProxyType({}),
) -> Census:
    """Scan the cache as the settings' profile and budgets say, the canary's own tokens left out.
    `courses` are those of the look before; `known` is asked after the scan which clients there are,
    beside those with a cached credential. `share` is given a census that saw every key, while the
    cache is open; `start` says where a scan that a budget ended goes on. Raises nothing for a cache
    that fails: the Census says what was wrong."""
    tokens = settings.tokens
    rules, started = profile_of(tokens.profile, tokens.patterns, tokens.exclude), time.monotonic()
    door = ErrorTranslation(redis_client.translate, redis_client.ERRORS)
    if not settings.redis.configured:
        return Census(rules, 0.0, fault=NOT_CONFIGURED, configured=False)
    try:
        with contextlib.closing(cache_of()) as cache:
            _ping_first(cache)
            nodes = [(_name(client), client) for client in cache.scan_clients()]
            stats = TokenStats(
                now, tokens, excluded=settings.canary.clients, reads_names=share is not None
            )
            report = census(
                nodes,
                rules,
                stats,
                door=door,
                budget=replace(_budget(settings), start=start),
                progress=progress,
            )
            if share is not None and not (report.truncated or report.faults or report.unread):
                share(cache, stats, report)
    except RedisFault as error:
        return Census(rules, time.monotonic() - started, fault=error.fault)
    seconds = time.monotonic() - started
    _log.debug("scan: %d keys of %d nodes in %.3f s", report.seen, len(nodes), seconds)
    if report.faults and not report.seen:
        return Census(rules, seconds, fault=report.faults[0][1])
    clients = {*known(), *(fact.client for fact in report.counted.credentials if fact.client)}
    if clients:
        stats.know(clients)
    whole = not report.truncated and not report.unread
    return Census(rules, seconds, report, stats.result(courses if whole else None))


def followed_census(
    followed: Followed, courses: Courses, known: Callable[[], Collection[str]]
) -> Census:
    """The same from the changes of the cache, none of which was missed."""
    rules, stats, report = followed.rules, followed.stats, followed.report
    clients = {*known(), *(fact.client for fact in report.counted.credentials if fact.client)}
    if clients:
        stats.know(clients)
    return Census(rules, report.seconds, report, stats.result(courses))


def _budget(settings: Settings) -> Budget:
    tokens, most = settings.tokens, settings.run.looking
    return Budget(tokens.max_keys, min(tokens.time_budget or most, most))


def _name(client: Any) -> str:
    """`host:port` of a node's client."""
    where = client.connection_pool.connection_kwargs
    return wire.place(str(where["host"]), int(where["port"]))


def _ping_first(cache: Any) -> None:
    """Raises RedisFault when there is but one server and it does not answer: its usual timeout is
    a fraction of the scan's patience, which nobody need wait for."""
    nodes = cache.nodes()
    if len(nodes) > 1:
        return
    try:
        cache.ping(nodes[0])
    except RedisFault as error:
        if error.fault.kind != "noperm":
            raise


def _one_line(text: str) -> str:
    return " ".join(text.split())


# -- services


@dataclass(frozen=True)
class ServiceLook:
    """A look at one service's counters: `source` is its row's name, `samples` None when no
    instance could be read."""

    service: str
    source: Source
    samples: Optional[tuple[CounterSample, ...]] = None


class Services:
    """Reads the metrics of both services in threads, while the cache is scanned."""

    def __init__(self, clients: Mapping[str, Any], settings: Settings) -> None:
        self._clients, self._settings = clients, settings
        self._services = {"eapi": settings.eapi, "sapi": settings.sapi}
        self._threads: PeerThreads[ServiceLook] = PeerThreads(len(self._services), "services")

    def begin(self) -> Mapping[str, Optional[Future[ServiceLook]]]:
        """Ask; None for a service whose last answer is still due."""
        return {
            name: self._threads.begin(name, partial(self._look, name)) for name in self._services
        }

    def collect(
        self, asked: Mapping[str, Optional[Future[ServiceLook]]]
    ) -> tuple[ServiceLook, ...]:
        """The answers, as far as they have come when each service's own timeout is over."""
        patience = max(service.timeout for service in self._services.values()) + _GRACE
        started, seconds = time.monotonic(), min(patience, self._settings.run.looking)
        found = {n: self._threads.end(n, future, started, seconds) for n, future in asked.items()}
        return tuple(
            _blind(name, got) if isinstance(got, Fault) else got for name, got in found.items()
        )

    def _look(self, name: str) -> ServiceLook:
        settings, service = self._settings, self._services[name]
        try:
            headers = bearer(settings.auth_token)
        except HttpFault as error:
            return _blind(name, error.fault)
        found = service_metrics.read(
            self._clients[name], service, settings.service_metrics, headers=headers
        )
        whys = [fault.fault.message for fault in found.faults]
        source = Source(
            _row(name),
            ok=not found.faults,
            seen=len(found.samples) - len(found.instances) if found.instances else None,
            seconds=found.seconds if found.instances else None,
            why="; ".join(whys) or _remark(found),
            error=found.faults[0].fault.kind if found.faults else None,
            configured=found.configured,
        )
        return ServiceLook(name, source, found.samples if found.instances else None)


def _remark(found: service_metrics.ServiceMetrics) -> str:
    if not found.configured:
        return "no metrics page is configured"
    return none_counted(VALIDATIONS, found.samples)


def _row(name: str) -> str:
    return f"{name}-metrics"


def _blind(name: str, fault: Fault) -> ServiceLook:
    return ServiceLook(name, Source(_row(name), ok=False, why=fault.message, error=fault.kind))
