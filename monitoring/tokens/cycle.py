"""Acquire: one cycle of token_usage_metrics: look, remember, judge, in that order."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional

from monitoring import __version__, thresholds
from monitoring.config.settings import Settings
from monitoring.credentials.memory import Ledger
from monitoring.credentials.shared_census import SharedCensus
from monitoring.credentials.source_cache import seen_of
from monitoring.follow.follower import Followed, Follower
from monitoring.follow.standing import Standing
from monitoring.model import Outcome
from monitoring.redis import client as redis_client
from monitoring.redis.count import ScanReport
from monitoring.redis.faults import RedisFault
from monitoring.redis.scan import Progress
from monitoring.services.counters import READ
from monitoring.services.labels import REASONS
from monitoring.services.memory import CanaryLog, CounterMemory, Recent, together
from monitoring.store.state import State, StateError
from monitoring.tokens.findings import findings
from monitoring.tokens.measurements import CensusInput, measurements
from monitoring.tokens.memory import (
    BirthMemory,
    CursorMemory,
    Habits,
    OrphanMemory,
    RenewalMemory,
    VerdictMemory,
)
from monitoring.tokens.present import document
from monitoring.tokens.services import ServiceFigures, figures, increases, without
from monitoring.tokens.sources import Census, ServiceLook, Services, followed_census, take_census
from monitoring.tokens.stats import TokenStats

SCRIPT = "token_usage_metrics"
SHARED_EVERY = 60.0  # seconds between two censuses that a followed cache leaves for others
#: The counters that this script looks at.
COUNTED = ("token_generation", "token_validation", READ)

_log = logging.getLogger("monitoring.tokens.cycle")


class TokenUsage:
    """The cycle, with what lives from one to the next. `eapi` and `sapi` are HttpClients."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        *,
        eapi: Any,
        sapi: Any,
        follower: Optional[Follower] = None,
    ) -> None:
        """`follower` follows the cache while this loop runs; None: each cycle reads it."""
        self._settings, self._follower = settings, follower
        self._orphans, self._shared_at = OrphanMemory(state, SCRIPT), float("-inf")
        self._services = Services({"eapi": eapi, "sapi": sapi}, settings)
        self._counters = CounterMemory(state, SCRIPT)
        self._recent = {
            name: Recent(state, SCRIPT, name, window=settings.tokens.rate_window)
            for name in ("eapi", "sapi")
        }
        self._verdicts = VerdictMemory(state, SCRIPT)
        self._renewals = RenewalMemory(state, SCRIPT)
        self._births = BirthMemory(state, SCRIPT)
        self._cursors = CursorMemory(state, SCRIPT)
        self._habits = Habits(state)
        self._ledger = Ledger(state)
        self._canary = settings.canary.clients
        self._reasons = (*REASONS, *settings.service_metrics.validation_reasons)
        self._canary_log = CanaryLog(state, settings.environment)
        self._shared = SharedCensus(state, settings, settings.run.cron_interval)

    def cycle(self, now: float, progress: Optional[Progress] = None) -> Outcome:
        """Ask the services while the cache is scanned, then judge."""
        started = time.monotonic()
        asked = self._services.begin()
        looks: tuple[ServiceLook, ...] = ()

        def known() -> set[str]:
            nonlocal looks
            looks = self._services.collect(asked)
            return self._known(looks)

        census = self._census(now, known, progress)
        looks = looks or self._services.collect(asked)
        looked = self._looked(now, census, looks)
        measured = measurements(looked)
        verdicts = thresholds.judge(measured, self._settings.thresholds)
        return Outcome(
            script=SCRIPT,
            environment=self._settings.environment,
            version=__version__,
            at=now,
            seconds=time.monotonic() - started,
            measurements=measured,
            verdicts=verdicts,
            findings=(
                *findings(looked, verdicts, now, rules=census.rules, policy=self._settings.tokens),
                *self._habits.feed(measured, now),
            ),
            sources=(census.source, *(look.source for look in looks)),
            tokens=document(looked),
            top_clients=self._settings.tokens.top_clients,
        )

    def _known(self, looks: Sequence[ServiceLook]) -> set[str]:
        """Clients that the vault was seen to hold, and those that the services made tokens for."""
        counted = {
            label
            for look in looks
            for sample in look.samples or ()
            if sample.name == "token_generation" and sample.value > 0
            for name, label in sample.labels
            if name == "client" and label
        }
        try:
            return counted | {client for client, _version in self._ledger.facts()}
        except StateError as error:
            _log.warning("%s; which clients the vault holds is not known", error)
            return counted

    def _census(
        self, now: float, known: Callable[[], set[str]], progress: Optional[Progress]
    ) -> Census:
        courses = self._renewals.load()
        followed = self._followed(now)
        if followed is not None:
            found = followed_census(followed, courses, known)
            self._keep(found)
            return found

        def share(cache: Any, stats: TokenStats, report: ScanReport) -> None:
            if not report.counted.foreign:  # values of other types may hold tokens as well
                self._shared.keep(stats, seen_of(cache, report, now))

        found = take_census(
            self._connect,
            self._settings,
            now,
            courses=courses,
            known=known,
            progress=progress,
            share=share,
            start=self._cursors.load(),
        )
        if found.report is not None:
            self._cursors.save(found.report)
        self._keep(found)
        return found

    def _keep(self, found: Census) -> None:
        if found.result is not None and found.result.courses is not None:
            self._renewals.save(found.result.courses)

    def _followed(self, now: float) -> Optional[Followed]:
        """The census of the changes; None: the cache must be read."""
        if self._follower is None:
            return None
        due = now - self._shared_at >= SHARED_EVERY
        found = self._follower.look(now, reads_names=due)
        if found is not None and due:
            self._shared_at = now
            with contextlib.closing(self._connect()) as cache:
                try:
                    self._shared.keep(found.stats, seen_of(cache, found.report, now))
                except RedisFault as error:
                    _log.debug("the census is not shared: %s", error)
        return found

    def _standing(self, now: float, report: Optional[ScanReport]) -> Standing:
        if self._follower is None:
            skew = self._settings.tokens.clock_skew
            return Standing(sample=self._births.judge(now, report, skew))
        standing = self._follower.standing(now)
        return replace(standing, orphans=self._orphans.together(standing.orphans, now))

    def _connect(self) -> Any:
        # A new one each time: who is primary is looked up again.
        return redis_client.Cache(self._settings.redis)

    def _looked(self, now: float, census: Census, looks: Sequence[ServiceLook]) -> CensusInput:
        report = census.report
        services = self._counted(now, looks)
        cached = None
        if services.validations is None and report is not None and not report.truncated:
            cached = self._verdicts.add(now, report.counted.validations.by_reason)
        return CensusInput(
            services,
            report,
            census.result,
            layout_known=census.layout_known,
            cached_failures=cached,
            reasons=self._reasons,
            lineage=self._standing(now, report),
        )

    def _counted(self, now: float, looks: Sequence[ServiceLook]) -> ServiceFigures:
        samples = {
            look.service: [sample for sample in look.samples if sample.name in COUNTED]
            for look in looks
            if look.samples is not None
        }
        growth = self._counters.advance(now, samples)
        since = self._canary_log.since_last_look(SCRIPT)
        ever = self._canary_log.total()
        growth = without(growth, ever=ever, since=since, canary=self._canary)
        windows = [
            recent.add(
                now,
                growth.of(name).seconds,
                increases(growth.of(name), self._canary, self._reasons),
                growth.unsure.get(name, ()),
            )
            for name, recent in self._recent.items()
        ]
        return figures(growth, together(windows), self._canary, self._reasons)


@contextlib.contextmanager
def following(settings: Settings) -> Iterator[Follower]:
    """A follower of the cache, from here to the end of the block."""
    follower = Follower(settings, lambda: redis_client.Cache(settings.redis))
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()


def with_progress(
    cycle: Callable[[float, Optional[Progress]], Outcome], shown: Callable[[], bool]
) -> Callable[[float], Outcome]:
    """`cycle` as the runner wants it, with a progress bar where `shown` says so."""

    def run(now: float) -> Outcome:
        if not shown():
            return cycle(now, None)
        from monitoring.tokens.present import ProgressBar

        bar = ProgressBar()
        try:
            return cycle(now, bar)
        finally:
            bar.close()

    return run
