"""Acquire: one cycle of token_usage_metrics: look, remember, judge, in that order."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Optional, Sequence, Set, Tuple

from monitoring import __version__, thresholds
from monitoring.config.settings import Settings
from monitoring.credentials.memory import Ledger
from monitoring.credentials.shared_census import SharedCensus
from monitoring.credentials.source_cache import seen_of
from monitoring.model import Outcome
from monitoring.redis import client as redis_client
from monitoring.redis.count import ScanReport
from monitoring.redis.scan import Progress
from monitoring.services.counters import READ
from monitoring.services.labels import REASONS
from monitoring.services.memory import CanaryLog, CounterMemory, Recent, together
from monitoring.store.state import State, StateError
from monitoring.tokens.findings import findings
from monitoring.tokens.measurements import Looked, measurements
from monitoring.tokens.memory import Habits, RenewalMemory, VerdictMemory
from monitoring.tokens.present import document
from monitoring.tokens.services import ServiceFigures, figures, increases, without
from monitoring.tokens.sources import Census, ServiceLook, Services, take_census
from monitoring.tokens.stats import TokenStats

SCRIPT = "token_usage_metrics"
#: The counters that this script looks at.
COUNTED = ("token_generation", "token_validation", READ)

_log = logging.getLogger("monitoring.tokens.cycle")


class TokenUsage:
    """The cycle, with what lives from one to the next. `eapi` and `sapi` are HttpClients."""

    def __init__(self, settings: Settings, state: State, *, eapi: Any, sapi: Any) -> None:
        self._settings = settings
        self._services = Services({"eapi": eapi, "sapi": sapi}, settings)
        self._counters = CounterMemory(state, SCRIPT)
        self._recent = {
            name: Recent(state, SCRIPT, name, window=settings.tokens.rate_window)
            for name in ("eapi", "sapi")
        }
        self._verdicts = VerdictMemory(state, SCRIPT)
        self._renewals = RenewalMemory(state, SCRIPT)
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
        looks: Tuple[ServiceLook, ...] = ()

        def known() -> Set[str]:
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

    def _known(self, looks: Sequence[ServiceLook]) -> Set[str]:
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
        self, now: float, known: Callable[[], Set[str]], progress: Optional[Progress]
    ) -> Census:
        courses = self._renewals.load()

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
        )
        if found.result is not None and found.result.courses is not None:
            self._renewals.save(found.result.courses)
        return found

    def _connect(self) -> Any:
        # A new one each time: who is primary is looked up again.
        return redis_client.Cache(self._settings.redis)

    def _looked(self, now: float, census: Census, looks: Sequence[ServiceLook]) -> Looked:
        report = census.report
        services = self._counted(now, looks)
        cached = None
        if services.validations is None and report is not None and not report.truncated:
            cached = self._verdicts.add(now, report.counted.validations.by_reason)
        return Looked(
            services,
            report,
            census.result,
            layout_known=census.layout_known,
            cached_failures=cached,
            reasons=self._reasons,
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


def with_progress(
    cycle: Callable[[float, Optional[Progress]], Outcome], shown: bool
) -> Callable[[float], Outcome]:
    """`cycle` as the runner wants it, with a progress bar when `shown`."""

    def run(now: float) -> Outcome:
        if not shown:
            return cycle(now, None)
        from monitoring.tokens.present import ProgressBar

        bar = ProgressBar()
        try:
            return cycle(now, bar)
        finally:
            bar.close()

    return run
