"""Keep: what happens with a finished Outcome: recorded, told, exposed, shown, in that order."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from monitoring import figures, logs, outputs, report
from monitoring.catalog import COMPONENTS
from monitoring.history import HistoryError
from monitoring.model import AlertRow, Outcome, Severity
from monitoring.pages import bars, status
from monitoring.redact import redacted
from monitoring.runner import Step, level_of
from monitoring.state import StateError

_SERVES_ALL = "health_check"
_BARS_STAND = 300.0  # seconds that a look at the last month is good for


@dataclass
class Pipeline:
    """The steps after a cycle. A part that is None is not wanted in this run.

    `history` has `record(outcome, interval)` and `prune(now)`; `notifier` is a Notifier;
    `exporter` an Exporter. `interval` is how far apart cycles are expected, in seconds.
    """

    interval: float
    state: Any = None
    history: Any = None
    notifier: Any = None
    exporter: Any = None
    output: str = ""
    log_format: str = "auto"
    verbose: bool = False
    send_budget: float = 10.0
    _deliveries: Sequence[Any] = field(default=(), repr=False)
    _others: Optional[figures.Table] = field(default=None, repr=False)
    _past: Tuple[float, Mapping[str, Sequence[bars.Bar]]] = field(default=(0.0, {}), repr=False)
    _seen: Tuple[Optional[Outcome], status.Document] = field(default=(None, {}), repr=False)

    def steps(self) -> list[Step]:
        """In the order in which they matter when the power fails between two of them."""
        wanted = [
            (self.history, Step("record", self._record)),
            (self.notifier, Step("tell", self._tell)),
            (self.state, Step("share", self._share)),
            (self.exporter, Step("expose", self._expose)),
            (self.exporter, Step("page", self._show_page)),
            (self.output, Step("output", self._write)),
            (True, Step("show", self._show)),
            (self.notifier, Step("heartbeat", self._beat)),
        ]
        return [step for part, step in wanted if part]

    def _record(self, outcome: Outcome) -> None:
        self.history.record(outcome, self.interval)
        self.history.prune(outcome.at)

    def _tell(self, outcome: Outcome) -> Outcome:
        rows: tuple[AlertRow, ...] = self.notifier.process(outcome)
        self._deliveries = self.notifier.deliver(self.send_budget)
        waiting = tuple(self.notifier.measurements(outcome.script))
        return replace(outcome, alerts=rows, measurements=(*outcome.measurements, *waiting))

    def _share(self, outcome: Outcome) -> None:
        """On one port health_check serves what the other scripts found as well. The status
        page is less than that, so it comes last."""
        figures.keep(self.state, outcome, self.interval)
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
            self._seen = outcome, status.document(outcome, self.interval)
        return self._seen[1]

    def _page(self, outcome: Outcome) -> Callable[[float, str], str]:
        """The status page, so many seconds after the cycle and with a note in its head."""
        seen, told = status.with_others(self.state, self._document(outcome)), self._told()
        ended, past = outcome.at + outcome.seconds, self._bars(outcome)
        return lambda ago, note: status.render(seen, told, ended + ago, note, past=past)

    def _bars(self, outcome: Outcome) -> Mapping[str, Sequence[bars.Bar]]:
        """How the components stood; looked up again when it is old. Empty where it cannot be read:
        the rest of the page is worth more."""
        if self.history is None or outcome.at - self._past[0] < _BARS_STAND:
            return self._past[1]
        names = (*COMPONENTS, *(c.name for c in outcome.components if c.name not in COMPONENTS))
        try:
            self._past = outcome.at, bars.of(self.history, names, outcome.at + outcome.seconds)
        except (StateError, HistoryError):
            return {}
        return self._past[1]

    def _told(self) -> Optional[Mapping[str, Sequence[str]]]:
        """Key of an alert -> who was told of it; None where that is not known: no page is worth
        an old one that still says well."""
        if self.notifier is None:
            return None
        try:
            return {alert.key: alert.told for alert in self.notifier.report().alerts}
        except StateError:
            return None

    def _write(self, outcome: Outcome) -> None:
        page = self._page(outcome)(0.0, "") if self.output.endswith(".html") else ""
        outputs.write(self.output, outcome, page)

    def _show(self, outcome: Outcome) -> None:
        if logs.json_wanted(self.log_format, sys.stdout):
            _show_lines(outcome, to_stdout=self.output != "-", verbose=self.verbose)
        elif self.output != "-":
            from monitoring import terminal

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
            fields: Dict[str, Any] = {**cycle, "payment_api.component": component.name}
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
