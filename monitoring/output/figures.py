"""Decision: the figures of a cycle as one table, and those of the other scripts beside them.

The figures of each script's last cycle lie in the state folder, so that one port can serve those of
all. What is older than a few of its script's intervals is no news and is left out; before that it
is marked as stale. Figures whose own port is scraped are left out as well: a sum would count them
twice.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from monitoring.alerts.conditions import state_of
from monitoring.catalog import METRICS
from monitoring.client_bound import CLIENT, SUMS, bounded, parted, series_of
from monitoring.model import FAULT_KINDS, FLAPPING, Measurement, Outcome, Severity
from monitoring.text import safe_id

_ALERT_STATES = ("firing", "pending", "suppressed", "silenced", "resolved")
_SCOPE = "figures"
_STALE, _GONE = 2, 4  # of a script's intervals since its last cycle ended

Labels = tuple[str, ...]
Table = dict[str, dict[Labels, float]]  # metric -> label values in the metric's order -> value


def table_of(outcome: Outcome, shown: Mapping[str, frozenset[str]]) -> Table:
    """Every sample of a cycle, clients bounded; unknown values and empty metrics left out. `shown`:
    metric -> the clients that had a series of their own before. Raises ValueError naming a
    measurement that the catalogue does not have, or whose labels are not those of the catalogue."""
    table: Table = {}
    clean = functools.lru_cache(maxsize=None)(safe_id)  # a client has several metrics
    for measurement in (*_derived(outcome), *outcome.measurements):
        labels = _checked(measurement, clean)
        if measurement.value is not None and not math.isnan(measurement.value):
            table.setdefault(measurement.name, {})[labels] = float(measurement.value)
    known = frozenset(map(safe_id, outcome.credentials or ()))
    return {
        name: bounded(
            METRICS[name],
            parted(METRICS[name], table[name]),
            top=outcome.top_clients,
            known=known,
            kept=shown.get(name, frozenset()) if METRICS[name].kind == "counter" else frozenset(),
        )
        for name in sorted(table)
    }


def clients_of(name: str, samples: Mapping[Labels, float]) -> frozenset[str]:
    """The clients that have a series of their own."""
    names = METRICS[name].labels
    if CLIENT not in names:
        return frozenset()
    place = names.index(CLIENT)
    return frozenset(labels[place] for labels in samples) - set(SUMS)


def _checked(measurement: Measurement, clean: Callable[[str, int], str]) -> Labels:
    """Label values in the catalogue's order, fit to print. Raises ValueError."""
    metric = METRICS.get(measurement.name)
    if metric is None or metric.kind == "histogram":
        raise ValueError(f"measurement {measurement.name!r}: no gauge or counter of the catalogue")
    if set(measurement.labels) != set(metric.labels):
        raise ValueError(
            f"measurement {measurement.name!r} has labels {sorted(measurement.labels)}, "
            f"the catalogue says {sorted(metric.labels)}"
        )
    return tuple(
        clean(str(measurement.labels[label]), 64 if label == CLIENT else 128)
        for label in metric.labels
    )


def _derived(outcome: Outcome) -> Iterator[Measurement]:
    """What the Outcome says about itself; a measurement of the same name and labels wins."""
    script = {"script": outcome.script}
    yield Measurement("payment_api_build_info", 1.0, {**script, "version": outcome.version})
    yield Measurement("payment_api_status", float(outcome.status), script)
    yield Measurement(
        "payment_api_last_cycle_timestamp_seconds", outcome.at + outcome.seconds, script
    )
    yield Measurement("payment_api_cycle_duration_seconds", outcome.seconds, script)
    yield from _of_components(outcome)
    for source in outcome.sources:
        if source.configured:
            labels = {**script, "source": source.name}
            yield Measurement("payment_api_up", float(source.read), labels)
    yield from _of_findings(outcome)
    yield from _times(outcome)
    rows: Counter[Labels] = Counter(
        {(word, state): 0 for word in ("warning", "critical") for state in _ALERT_STATES}
    )
    rows.update((row.alert.severity.word, row.state) for row in outcome.alerts)
    for (severity, state), count in rows.items():
        labels = {**script, "severity": severity, "state": state}
        yield Measurement("payment_api_alerts", float(count), labels)
    for row in outcome.alerts:
        if row.why == FLAPPING:
            key = row.alert.key
            named = {"alert": key.labels()["alertname"], "component": key.component}
            labels = {**script, **named, CLIENT: series_of(key.client) if key.client else ""}
            yield Measurement("payment_api_alert_flapping", 1.0, labels)


def _of_components(outcome: Outcome) -> Iterator[Measurement]:
    """Why a component is not well."""
    for component in outcome.components:
        where = {"component": component.name}
        if component.error in FAULT_KINDS and component.configured:
            labels = {**where, "error": str(component.error)}
            yield Measurement("payment_api_component_error", 1.0, labels)
            status = component.details.get("http_status")
            if isinstance(status, int):
                yield Measurement("payment_api_component_http_status", float(status), where)
        how = state_of(component, outcome)
        if component.configured and how is not Severity.UNKNOWN:
            degraded = float(how is Severity.WARNING)
            yield Measurement("payment_api_component_degraded", degraded, where)


#: An age or a rest stands still between two cycles; the time that it is counted from does not.
_TIMES = {
    "payment_api_credential_age_seconds": ("payment_api_credential_rotated_timestamp_seconds", -1),
    "payment_api_credential_due_seconds": ("payment_api_credential_due_timestamp_seconds", 1),
    "payment_api_tls_certificate_remaining_seconds": (
        "payment_api_tls_certificate_expiry_timestamp_seconds", 1,
    ),
}  # fmt: skip


def _times(outcome: Outcome) -> Iterator[Measurement]:
    for figure in outcome.measurements:
        if figure.name in _TIMES and figure.value is not None:
            name, sign = _TIMES[figure.name]
            yield Measurement(name, round(outcome.at + sign * figure.value), figure.labels)


def _of_findings(outcome: Outcome) -> Iterator[Measurement]:
    """How many there are of each kind."""
    found = Counter(
        (
            f.reason,
            f.severity.word,
            f.category,
            f.component,
            series_of(f.client) if f.client else "",
        )
        for f in outcome.findings
    )
    for values, count in found.items():
        names = ("reason", "severity", "category", "component", CLIENT)
        labels = {"script": outcome.script, **dict(zip(names, values))}
        yield Measurement("payment_api_findings", float(count), labels)


# -- of the other scripts


def keep(state: Any, outcome: Outcome, interval: float, *, scraped: bool = False) -> None:
    """Remember the figures of a cycle; `interval` is the seconds to the next one, `scraped` whether
    the script's own port is. Raises StateError."""
    rows = [
        (name, labels, value)
        for name, samples in table_of(outcome, {}).items()
        for labels, value in samples.items()
    ]
    ended = outcome.at + outcome.seconds
    kept = {
        "environment": outcome.environment,
        "at": ended,
        "interval": interval,
        "scraped": scraped,
        "rows": rows,
    }
    state.put(_SCOPE, outcome.script, json.dumps(kept, separators=(",", ":")))


def of_others(state: Any, outcome: Outcome) -> Table:
    """What the other scripts of the same environment found lately and nobody scrapes from their
    own ports, each script with `payment_api_figures_stale`. Raises StateError."""
    sql = "SELECT key, value FROM kv WHERE scope = ? AND key != ?"
    rows = state.read(sql, (_SCOPE, outcome.script))
    table: Table = {}
    for kept in state.parsed(rows, functools.partial(_kept, outcome=outcome)):
        for name, labels, value in kept or ():
            table.setdefault(name, {})[labels] = value
    return table


def _kept(row: tuple[Any, ...], outcome: Outcome) -> list[tuple[str, Labels, float]]:
    page = json.loads(row[1])
    intervals = (outcome.at + outcome.seconds - page["at"]) / page["interval"]
    elsewhere = page["environment"] != outcome.environment or page.get("scraped")
    if elsewhere or intervals > _GONE:
        return []
    found = [
        (str(name), tuple(map(str, labels)), float(value))
        for name, labels, value in page["rows"]
        if name in METRICS and len(labels) == len(METRICS[name].labels)  # else of another version
    ]
    return [*found, ("payment_api_figures_stale", (str(row[0]),), float(intervals > _STALE))]
