"""Keep: when cycles run, and what happens with a finished Outcome, in which order."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Callable, Optional, TypeVar, cast

from monitoring import __version__
from monitoring.components import COMPONENTS
from monitoring.model import AlertRow, Measurement, OperatorError, Outcome, Severity, Source, worst
from monitoring.output import (
    figures,
    logs,
    pages as bars,
    report,
    report as outputs,
    status_page as status,
)
from monitoring.output.logs import LOGGER
from monitoring.store.files import attempt
from monitoring.store.lookback import HistoryError
from monitoring.store.state import State, StateError, StateLocked
from monitoring.text import redact, redacted

# -- when cycles run, and in which order an Outcome is recorded, told, exposed and shown.
# A step that fails is logged and the next one runs; a cycle that fails is an Outcome that says so.

Cycle = Callable[[float], Outcome]
A = TypeVar("A")
T = TypeVar("T")
_BREATH = 0.5  # seconds between two calls of `idle`


@dataclass(frozen=True)
class CycleStep:
    """Something done with an Outcome. It may return an enriched Outcome for the steps after it,
    or None."""

    name: str
    run: Callable[[Outcome], Optional[Outcome]]


class Runner:
    """Runs `cycle` and then every step. `clock` gives epoch seconds, `ticks` a monotonic time."""

    def __init__(
        self,
        script: str,
        environment: str,
        cycle: Cycle,
        steps: Sequence[CycleStep],
        *,
        before: Sequence[Callable[[], None]] = (),
        exclusive: Callable[[], AbstractContextManager[Any]] = nullcontext,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script, self._environment = script, environment
        self._before, self._exclusive = tuple(before), exclusive
        self._cycle, self._steps = cycle, tuple(steps)
        self._clock, self._ticks = clock, ticks
        self._stop = threading.Event()

    def once(self) -> Outcome:
        """One cycle with all its steps, alone among the runs of this script. A failed cycle is an
        Outcome whose only source, `monitor`, is not ok. Raises StateLocked when another run holds
        the lock for too long; nothing was measured then."""
        with self._exclusive():
            return self._alone()

    def _alone(self) -> Outcome:
        for begin in self._before:
            begin()
        now, started = self._clock(), self._ticks()
        outcome, why = _done("cycle", lambda: self._cycle(now))
        if outcome is None:
            outcome = self._failed(now, why)
        outcome = replace(outcome, seconds=self._ticks() - started)
        for step in self._steps:
            outcome = self._take(step, outcome)
        return outcome

    def loop(self, interval: float, idle: Callable[[], bool] = lambda: False) -> None:
        """Cycles on a fixed grid of `interval` seconds until `stop`, or until `idle`, called
        twice a second between two cycles, is True. A cycle that overruns skips the ticks it missed
        instead of running late for ever."""
        _gather_memory()
        origin, tick = self._ticks(), 0
        while not self._stop.is_set():
            try:
                self.once()
            except StateLocked as error:
                LOGGER.error("cycle skipped: %s", error)
            _give_back()
            tick = max(tick + 1, int((self._ticks() - origin) / interval) + 1)
            if self._pause(origin + tick * interval, idle):
                return

    def _pause(self, until: float, idle: Callable[[], bool]) -> bool:
        """Wait for the tick `until`; True: `idle` said that the loop is over."""
        while not idle():
            left = until - self._ticks()
            if left <= 0.0 or self._stop.wait(min(left, _BREATH)):
                return False
        return True

    def stop(self) -> None:
        self._stop.set()

    def _take(self, step: CycleStep, outcome: Outcome) -> Outcome:
        def work() -> Outcome:
            return step.run(outcome) or outcome

        after, why = _done(step.name, work)
        if after is not None:
            return after
        # A step that broke leaves its mark: the steps after it show that something is missing.
        broken = Source(f"monitor:{step.name}", ok=False, why=why, error="internal")
        return replace(outcome, sources=(*outcome.sources, broken))

    def _failed(self, now: float, why: str) -> Outcome:
        broken = Source("monitor", ok=False, why=why, error="internal")
        return Outcome(
            self._script, self._environment, __version__, now, seconds=0.0, sources=(broken,)
        )


def _done(name: str, work: Callable[[], Outcome]) -> tuple[Optional[Outcome], str]:
    """`work`'s result, or None and why not, fit to be kept and told."""
    began = time.perf_counter()
    done, error = attempt(work)
    if error is None:
        LOGGER.debug("%s took %.1f ms", name, (time.perf_counter() - began) * 1000)
        return done, ""
    if isinstance(error, OperatorError):  # its sentence says all; a traceback would hide it
        LOGGER.critical("%s failed: %s", name, error)
        return None, redact(str(error))
    LOGGER.critical("%s failed: %s: %s", name, type(error).__name__, error, exc_info=error)
    return None, redact(f"{type(error).__name__}: {error}")


#: mallopt(3): how many heaps there may be, and from how many bytes on a block is one of its own.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_LARGE = 128 << 10


def _gather_memory() -> None:
    """One heap for all threads, and blocks of their own for large answers. glibc gives each of the
    first threads a heap, up to eight a core; what is kept for long is then strewn over all of them
    and holds what was freed around it."""
    import ctypes

    with suppress(AttributeError, OSError):  # another C library
        system = ctypes.CDLL(None)
        system.mallopt(_M_ARENA_MAX, 1)
        system.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def _give_back() -> None:
    """What a cycle has freed goes back to the system. glibc keeps it for the thread that asked for
    it, and threads come and go: one large answer to each would never be seen to end."""
    import ctypes  # 5 ms, which a single run has not to spend

    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def cured(work: Callable[[A], T], memory: State) -> Callable[[A], T]:
    """`work`, and where it fails, again: what it read of earlier cycles may be to blame. Damaged
    memory is set aside first; then it does without any, and if that helps, the file is set aside
    for what it holds. Raises the first failure when nothing helps."""

    def tried(given: A) -> T:
        done, error = attempt(partial(work, given))
        if error is None:
            return cast("T", done)
        if isinstance(error, OperatorError):
            raise error
        if memory.mend(error):
            done, again = attempt(partial(work, given))
            if again is None:
                return cast("T", done)
        memory.forget()
        done, again = attempt(partial(work, given))
        if again is not None:
            memory.retry()
            raise error
        memory.give_up(error)
        return cast("T", done)

    return tried


def level_of(outcome: Outcome) -> str:
    """The log level of a cycle's summary line."""
    levels = {Severity.OK: "info", Severity.UNKNOWN: "error", Severity.WARNING: "warning"}
    return levels.get(worst([outcome.status]), "critical")


# -- what happens with a finished Outcome: recorded, told, exposed, shown, in that order.

_SERVES_ALL = "health_check"
_BARS_STAND = 300.0  # seconds that a look at the last month is good for


@dataclass
class Pipeline:
    """The steps after a cycle. A part that is None is not wanted in this run.

    `history` has `record(outcome, interval)` and `prune(now)`; `notifier` is a Notifier;
    `exporter` an Exporter, `screen` a LiveScreen, on which each cycle takes the place of the last;
    `runbooks` is where those can be read. `interval`: seconds between two cycles, as expected.
    """

    interval: float
    state: Any = None
    history: Any = None
    notifier: Any = None
    exporter: Any = None
    output: str = ""
    log_format: str = "auto"
    verbose: bool = False
    screen: Any = None
    runbooks: str = ""
    send_budget: float = 10.0
    _deliveries: Sequence[Any] = field(default=(), repr=False)
    _others: Optional[figures.Table] = field(default=None, repr=False)
    _past: tuple[float, Optional[Mapping[str, Sequence[bars.Bar]]]] = field(
        default=(0.0, {}), repr=False
    )
    _seen: tuple[Optional[Outcome], status.Document] = field(default=(None, {}), repr=False)

    def steps(self) -> list[CycleStep]:
        """In the order in which they matter when the power fails between two of them."""
        wanted = [
            (self.history, CycleStep("record", self._record)),
            (True, CycleStep("interval", self._say_interval)),
            (self.notifier, CycleStep("tell", self._notify)),
            (self.state, CycleStep("share", self._share)),
            (self.exporter, CycleStep("expose", self._expose)),
            (self.exporter, CycleStep("page", self._show_page)),
            (self.output, CycleStep("output", self._write)),
            (True, CycleStep("show", self._show)),
            (self.notifier, CycleStep("heartbeat", self._beat)),
        ]
        return [step for part, step in wanted if part]

    def _record(self, outcome: Outcome) -> None:
        self.history.record(outcome, self.interval)
        self.history.prune(outcome.at)

    def _say_interval(self, outcome: Outcome) -> Outcome:
        """Beside the figures, not among what is recorded: whoever draws a rate of them must look
        back on some cycles."""
        labels = {"script": outcome.script}
        said = Measurement("payment_api_cycle_interval_seconds", self.interval, labels)
        return replace(outcome, measurements=(*outcome.measurements, said))

    def _notify(self, outcome: Outcome) -> Outcome:
        rows: tuple[AlertRow, ...] = self.notifier.process(outcome)
        self._deliveries = self.notifier.deliver(self.send_budget)
        waiting = tuple(self.notifier.measurements(outcome.script))
        return replace(outcome, alerts=rows, measurements=(*outcome.measurements, *waiting))

    def _share(self, outcome: Outcome) -> None:
        """On one port health_check serves what the other scripts found as well. The status
        page is less than that, so it comes last."""
        scraped = bool(self.exporter and self.exporter.scraped)
        figures.keep(self.state, outcome, self.interval, scraped=scraped)
        if self.exporter and outcome.script == _SERVES_ALL:
            self._others = figures.of_others(self.state, outcome)
        status.keep(self.state, self._document(outcome))

    def _expose(self, outcome: Outcome) -> None:
        self.exporter.publish(outcome, self._deliveries, self._others)

    def _show_page(self, outcome: Outcome) -> None:
        self.exporter.show(self._page(outcome))

    def _document(self, outcome: Outcome) -> status.Document:
        """What the status page shows of this cycle, made once for all who need it."""
        if self._seen[0] is not outcome:
            self._seen = outcome, status.document(outcome, self.interval, self.runbooks)
        return self._seen[1]

    def _page(self, outcome: Outcome) -> Callable[[float, str], str]:
        """The status page, so many seconds after the cycle and with a note in its head."""
        seen, notified = status.with_others(self.state, self._document(outcome)), self._notified()
        ended, past = outcome.at + outcome.seconds, self._bars(outcome)
        return lambda ago, note: status.render_status(seen, notified, ended + ago, note, past=past)

    def _bars(self, outcome: Outcome) -> Optional[Mapping[str, Sequence[bars.Bar]]]:
        """How the components stood; looked up again when it is old. None where it cannot be read:
        the rest of the page is worth more."""
        if self.history is None or 0 <= outcome.at - self._past[0] < _BARS_STAND:
            return self._past[1]
        names = (*COMPONENTS, *(c.name for c in outcome.components if c.name not in COMPONENTS))
        try:
            self._past = outcome.at, bars.of(self.history, names, outcome.at + outcome.seconds)
        except (StateError, HistoryError):
            return None
        return self._past[1]

    def _notified(self) -> Optional[Mapping[str, Sequence[str]]]:
        """Key of an alert -> who was told of it; None where that is not known: no page is worth
        an old one that still says well."""
        if self.notifier is None:
            return None
        try:
            return {alert.key: alert.notified for alert in self.notifier.report().alerts}
        except StateError:
            return None

    def _write(self, outcome: Outcome) -> None:
        page = self._page(outcome)(0.0, "") if self.output.endswith(".html") else ""
        outputs.write(self.output, outcome, page)

    def _show(self, outcome: Outcome) -> None:
        if logs.json_wanted(self.log_format, sys.stdout):
            _show_lines(outcome, to_stdout=self.output != "-", verbose=self.verbose)
        elif self.output != "-":
            from monitoring.output import terminal

            if self.screen is not None:
                self.screen.show(outcome)
            else:
                terminal.show(outcome, verbose=self.verbose)

    def _beat(self, outcome: Outcome) -> None:
        """What fails here is the monitor, not what it watches: a check that an outage had turned
        red already could no longer say that the monitor has died."""
        broken = any(s.name.partition(":")[0] == "monitor" and not s.ok for s in outcome.sources)
        blind = outcome.status.word == "unknown"
        self.notifier.heartbeat("fail" if broken or blind else "success")


#: What a script's lines are about, in the words of ECS (event.category).
_CATEGORIES = {
    "health_check": "web",
    "token_usage_metrics": "session",
    "credential_usage_metrics": "authentication",
}


def _show_lines(outcome: Outcome, *, to_stdout: bool, verbose: bool) -> None:
    """One JSON line for the cycle, one for each component and finding that is not fine."""
    cycle = {
        "event.id": f"{outcome.script}-{outcome.at:.3f}",
        "event.category": [_CATEGORIES.get(outcome.script, "web")],
        "event.type": ["info"],
    }
    event = {
        **cycle,
        "event.kind": "metric",
        "event.outcome": _event_outcome(outcome),
        "event.duration": int(outcome.seconds * 1e9),
        "payment_api.status": outcome.status.word,
        **report.figures(outcome),
    }
    for component in outcome.components:
        if "trace_id" in component.details:  # of the canary's login
            event["trace.id"] = component.details["trace_id"]
    logs.result(level_of(outcome), report.sentence(outcome), event, to_stdout=to_stdout)
    for component in outcome.components:
        if verbose or component.status is not Severity.OK:
            fields: dict[str, Any] = {**cycle, "payment_api.component": component.name}
            shown = report.component_json(component)
            fields.update({f"payment_api.{k}": v for k, v in shown.items() if k != "details"})
            if verbose:
                fields["payment_api.details"] = logs.json_line(
                    redacted(report.plain_json(shown["details"]))
                )
            said = f"{component.name} {component.status.word}: {component.message}"
            logs.result(_LEVELS[component.status], said, fields, to_stdout=to_stdout)
    for finding in outcome.findings:
        fields = {**cycle, "event.kind": "alert", "payment_api.finding": finding.reason}
        if finding.client:
            fields["labels.client"] = report.finding_json(finding)["client"]
        logs.result(_LEVELS[finding.severity], finding.sentence, fields, to_stdout=to_stdout)


_LEVELS = {
    Severity.OK: "info",
    Severity.UNKNOWN: "warning",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "critical",
}


def _event_outcome(outcome: Outcome) -> Optional[str]:
    said = {Severity.OK: "success", Severity.UNKNOWN: "unknown"}
    return said.get(outcome.status, "failure")
