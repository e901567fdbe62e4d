"""Present: an Outcome as the documented JSON, and where it is written (`--output FILE`)."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable, Optional, Union

from monitoring import thresholds
from monitoring.catalog import METRICS
from monitoring.certainty import OK
from monitoring.model import (
    AlertRow,
    Component,
    Finding,
    Measurement,
    OperatorError,
    Outcome,
    Severity,
    Source,
)
from monitoring.output import logs, logs as streams, token_rows
from monitoring.text import counted, iso, redacted, safe_id

# -- an Outcome as the documented JSON, as one sentence, and as a table of rows.

_MAX_DEPTH = 12
_MOST_CROSSINGS = 5


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The JSON document of a cycle, field for field as docs/reference/results.md lists it.
    What was not measured is None; NaN and infinities become None."""
    document: dict[str, Any] = {
        "timestamp": iso(outcome.at),
        "script": outcome.script,
        "version": outcome.version,
        "environment": outcome.environment,
        "duration_ms": round(outcome.seconds * 1000, 1),
        "status": outcome.status.word,
    }
    if outcome.components:
        document["components"] = {c.name: component_json(c) for c in outcome.components}
    document["metrics"] = [_measurement_json(m) for m in outcome.measurements]
    if outcome.tokens is not None:
        document["tokens"] = outcome.tokens
    if outcome.credentials is not None:
        document["credentials"] = outcome.credentials
    document["findings"] = [finding_json(f) for f in outcome.findings]
    document["sources"] = {s.name: source_json(s) for s in outcome.sources}
    document["alerts"] = [alert_json(row) for row in outcome.alerts]
    document.update(outcome.notes)
    plain: dict[str, Any] = plain_json(document)
    return plain


def is_well(credential: Mapping[str, Any]) -> bool:
    """Whether nothing of this row of `credentials` needs to be read: in order, not in rotation, and
    no failed login known."""
    settled = credential.get("verdict") == OK and credential.get("state") == "active"
    return settled and not credential.get("failures")


def milliseconds(value: Optional[float]) -> str:
    """`1,511 ms`, `51.9 ms`, `0.04 ms`: what a person reads."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"


def component_json(component: Component) -> dict[str, Any]:
    return {
        "status": component.status.word,
        "up": component.up,
        "response_time_ms": _rounded(component.response_time_ms),
        "error": component.error,
        "message": component.message,
        "details": component.details,
    }


def source_json(source: Source) -> dict[str, Any]:
    row: dict[str, Any] = {
        "ok": source.ok,
        "seen": source.seen,
        "seconds": None if source.seconds is None else round(source.seconds, 3),
    }
    if not source.configured:
        row["configured"] = False
    if source.error:
        row["error"] = source.error
    if source.why:
        row["why"] = source.why
    if source.truncated:
        row["truncated"] = True
    return row


def finding_json(finding: Finding) -> dict[str, Any]:
    row: dict[str, Any] = {
        "reason": finding.reason,
        "severity": finding.severity.word,
        "component": finding.component,
        "sentence": finding.sentence,
        "evidence": finding.evidence,
    }
    if finding.client:
        row["client"] = safe_id(finding.client)
    if finding.action:
        row["action"] = finding.action
    return row


def _measurement_json(measurement: Measurement) -> dict[str, Any]:
    labels = {name: safe_id(value) for name, value in sorted(measurement.labels.items())}
    return {"name": measurement.name, "labels": labels, "value": measurement.value}


def alert_json(row: AlertRow) -> dict[str, Any]:
    alert = row.alert
    document = {
        "key": alert.key.text,
        "severity": alert.severity.word,
        "component": alert.key.component,
        "metric": alert.key.metric,
        "value": alert.value,
        "threshold": alert.threshold,
        "summary": alert.summary,
        "state": row.state,
    }
    if alert.key.client:
        document["client"] = safe_id(alert.key.client)
    if row.since is not None:
        document["since"] = iso(row.since)
    if row.why:
        document["why"] = row.why
    return document


def plain_json(value: Any, depth: int = 0) -> Any:
    """`value` as JSON types only: tuples and sets become lists, NaN and infinities None, keys and
    unknown objects their text; deeper than 12 levels is cut with a note."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > _MAX_DEPTH:
        return "(too deep)"
    if isinstance(value, Mapping):
        return {str(key): plain_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_json(item, depth + 1) for item in value]
    return str(value)


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 2)


def sentence(outcome: Outcome) -> str:
    """What the cycle found, in one line for a log."""
    parts = [_components_clause(outcome.components), _tokens_clause(outcome.tokens)]
    if outcome.credentials is not None:
        parts.append(_credentials_clause(outcome.credentials))
    if outcome.findings:
        parts.append(counted(len(outcome.findings), "finding"))
    parts += crossings(outcome)
    firing = sum(row.state == "firing" for row in outcome.alerts)
    if firing:
        parts.append(counted(firing, "alert") + " firing")
    parts += [f"{s.name}: {s.why}" for s in outcome.sources if s.configured and not s.ok]
    said = ", ".join(part for part in parts if part) or "nothing was measured"
    return f"{outcome.script} {outcome.status.word}: {said} ({outcome.seconds * 1000:.0f} ms)"


def figures(outcome: Outcome) -> dict[str, Union[int, float]]:
    """The cycle's main figures as numbers, by the names of their fields in a log line. What is not
    known is left out. Response times in ms, ages in days."""
    found: dict[str, Optional[float]] = {
        f"components.{c.name}.response_time_ms": c.response_time_ms for c in outcome.components
    }
    if outcome.tokens is not None:
        tokens = outcome.tokens
        found.update(
            {
                f"tokens.{name}": token_rows.in_the_cache(tokens, name)
                for name in ("total", "active", "expired")
            }
        )
        found["tokens.generation_rate_per_minute"] = tokens.get("generation_rate_per_minute")
        validations = tokens.get("validations") or {}
        found["validations.success"] = validations.get("success")
        found["validations.failures"] = validations.get("failure")
    if outcome.credentials is not None:
        rows = outcome.credentials.values()
        ages = [row["age_days"] for row in rows if row.get("age_days") is not None]
        failures = [row["failures"] for row in rows if row.get("failures") is not None]
        found["credentials.count"] = len(outcome.credentials)
        found["credentials.failures"] = sum(failures) if failures else None
        found["credentials.oldest_age_days"] = max(ages, default=None)
    found.update(_levels(outcome))
    found["findings"] = len(outcome.findings)
    found["alerts_firing"] = sum(row.state == "firing" for row in outcome.alerts)
    return {
        f"payment_api.{name}": round(value, 5 if "availability" in name else 3)
        if isinstance(value, float)
        else value
        for name, value in found.items()
        if value is not None
    }


def _levels(outcome: Outcome) -> Iterator[tuple[str, Optional[float]]]:
    """Availability of the last 30 days as a ratio: of each component, and of all together."""
    places = {"payment_api_sla_availability_ratio": "components.{}",
              "payment_api_system_sla_availability_ratio": "sla"}  # fmt: skip
    for figure in outcome.measurements:
        if figure.name in places and figure.labels.get("window") == "30d":
            place = places[figure.name].format(figure.labels.get("component"))
            yield f"{place}.availability_30d", figure.value


def crossings(outcome: Outcome) -> list[str]:
    """Limits that were crossed and that no component's own message tells of: of what was computed
    from history, and of the scripts that have no components. A verdict without a word would be a
    bad exit status that nobody can explain."""
    shown = bool(outcome.components)
    crossed = [v for v in outcome.verdicts if v.severity > Severity.UNKNOWN]
    kept = [v for v in crossed if not shown or METRICS[v.measurement.name].derived]
    worst_first = sorted(kept, key=lambda v: -v.severity)
    said = [f"{_whose(v.measurement)}{thresholds.say(v)}" for v in worst_first[:_MOST_CROSSINGS]]
    rest = len(kept) - len(said)
    return [*said, f"and {rest} more limits"] if rest else said


def _whose(measurement: Measurement) -> str:
    """`redis-cache: `, `client-001: `: the label that says whose figure it is."""
    names = [measurement.labels.get(label, "") for label in ("component", "client_id", "node")]
    return next((f"{safe_id(name)}: " for name in names if name), "")


def _components_clause(components: Sequence[Component]) -> str:
    if not components:
        return ""
    troubled = [f"{c.name} {c.status.word}" for c in components if c.status is not Severity.OK]
    up = sum(c.up is True for c in components)
    return f"{up} of {len(components)} components up" + "".join(f", {t}" for t in troubled)


def _credentials_clause(credentials: Mapping[str, Mapping[str, Any]]) -> str:
    """`12 credentials (3 unknown)`: what is not in order by its verdict."""
    verdicts = Counter(str(row["verdict"]) for row in credentials.values())
    troubled = [f"{n} {word.replace('_', ' ')}" for word, n in verdicts.items() if word != OK]
    return f"{len(credentials)} credentials" + (f" ({', '.join(troubled)})" if troubled else "")


def _tokens_clause(tokens: Optional[Mapping[str, Any]]) -> str:
    return "" if tokens is None else token_rows.live_tokens(tokens)


def table(outcome: Outcome) -> tuple[list[str], list[list[Any]]]:
    """Header and rows for CSV and other tables: one row per credential, client or component."""
    if outcome.credentials is not None:
        return _rows("client", outcome.credentials)
    if outcome.tokens is not None:
        return _rows("client", outcome.tokens.get("by_client") or {})
    components = {c.name: component_json(c) for c in outcome.components}
    for row in components.values():
        row.pop("details")
    return _rows("component", components)


def _rows(key: str, table_of: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    columns = list(dict.fromkeys(name for row in table_of.values() for name in row))
    header = [key, *columns]
    rows = [[safe_id(name), *(row.get(c) for c in columns)] for name, row in table_of.items()]
    return header, [[_cell(cell) for cell in row] for row in rows]


def _cell(value: Any) -> Any:
    """A spreadsheet runs text that begins with = + - @ as a formula; client ids are hostile."""
    if isinstance(value, (Mapping, list, tuple)):
        return str(plain_json(value))
    if isinstance(value, str) and value[:1] in "=+-@\t" and value:
        return "'" + value
    return value


# -- where the result of a cycle is written (`--output FILE`).


class OutputError(OperatorError):
    """The result could not be written; the message names the file, the reason and the cure."""


def _json_text(outcome: Outcome) -> str:
    return logs.json_line(redacted(as_json(outcome))) + "\n"


def _csv_text(outcome: Outcome) -> str:
    header, rows = table(outcome)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(redacted([header, *rows]))
    return text.getvalue()


def _prom_text(outcome: Outcome) -> str:
    from monitoring.output import exposition  # 0.1 s of import that only this ending pays

    return exposition.render(outcome).decode()


_PAGE = ".html"  # of more than the outcome: see monitoring.output.status_page
#: suffix -> how the whole file reads after a cycle
WRITERS: Mapping[str, Callable[[Outcome], str]] = {
    ".json": _json_text,
    ".csv": _csv_text,
    ".prom": _prom_text,
}
SUFFIXES = (*WRITERS, _PAGE, ".jsonl")


def check_target(target: str) -> str:
    """`target` if a cycle can be written there, as far as can be seen: what lies behind a folder
    that we may not enter is seen when it is written, after measuring. Raises ValueError saying
    what to change."""
    if target == "-":
        return target
    path = Path(target)
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{target!r} has no known ending: use one of {' '.join(SUFFIXES)}, "
            "or - for standard output"
        )
    with suppress(PermissionError):
        if not path.parent.is_dir():
            raise ValueError(f"the folder {str(path.parent)!r} does not exist: create it first")
        if path.is_dir():
            raise ValueError(f"{target!r} is a folder: name a file")
    return target


def write(target: str, outcome: Outcome, page: str = "") -> None:
    """Write one cycle to `target`: `-` prints a JSON line, `.jsonl` appends one, any other ending
    replaces the file atomically. `page` is what a file of HTML says. Raises OutputError."""
    if target == "-":
        streams.say(_json_text(outcome))
        return
    path = Path(target)
    try:
        if path.suffix == ".jsonl":
            _append(path, _json_text(outcome))
        else:
            replace(path, page if path.suffix == _PAGE else WRITERS[path.suffix](outcome))
    except OSError as error:
        raise OutputError(
            f"cannot write --output {target}: {error.strerror}; check the folder and its space"
        ) from error


def _append(path: Path, line: str) -> None:
    """One write call, so that lines of two processes do not mix; a second one only where a disk
    that fills up took a part, which then says why."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    rest = line.encode()
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` so that a reader sees the old file or the new one, never a part.
    The mode follows the umask: other programs must read results."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with ExitStack() as on_failure:
        on_failure.callback(os.unlink, temporary)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        on_failure.pop_all()


def _umask() -> int:
    """The process's umask; reading it means setting it for a moment."""
    current = os.umask(0o022)
    os.umask(current)
    return current
