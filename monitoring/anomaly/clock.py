"""Decision: buckets of any length gathered into whole hours, in order, each counted once."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from monitoring.anomaly.types import Bucket, Usage

SECONDS = 3600.0
_SLACK = 0.5  # seconds by which buckets may overlap or fall short
_OPEN_CLIENTS = 20_000


class ClosedHour(NamedTuple):
    """`number` is in hours since the epoch, `exposure` the observed share of it (0..1)."""

    number: int
    exposure: float
    rows: Mapping[str, Usage]


class HourCollector:
    """Adds up buckets until their hour is complete, or a later one begins. A bucket that starts
    before the end of the last one is late or a duplicate: it is ignored and counted."""

    def __init__(self) -> None:
        self.until: Optional[float] = None
        self.ignored = 0
        self._hour: Optional[int] = None
        self._seconds = 0.0
        self._rows: Dict[str, Usage] = {}

    def add(self, bucket: Bucket) -> List[ClosedHour]:
        """The hours that this bucket completes, oldest first."""
        if self.until is not None and bucket.at < self.until - _SLACK:
            self.ignored += 1
            return []
        self.until = bucket.at + bucket.seconds
        number = int(bucket.at // SECONDS)
        closed = [self._close()] if self._hour is not None and number > self._hour else []
        if self._hour is None and bucket.seconds >= SECONDS - _SLACK:
            return [*closed, ClosedHour(number, 1.0, bucket.clients)]
        self._gather(number, bucket)
        if self._seconds >= SECONDS - _SLACK:
            closed.append(self._close())
        return closed

    def set_back(self) -> None:
        """Forget the time and the open hour: both came from a clock that was ahead."""
        self.until = self._hour = None
        self._seconds, self._rows = 0.0, {}

    def _gather(self, number: int, bucket: Bucket) -> None:
        self._hour = number
        self._seconds += bucket.seconds
        rows = self._rows
        for name, usage in bucket.clients.items():
            if name in rows:
                rows[name] = _merged(rows[name], usage)
            elif len(rows) < _OPEN_CLIENTS:
                rows[name] = usage

    def _close(self) -> ClosedHour:
        exposure = min(1.0, self._seconds / SECONDS)
        closed = ClosedHour(int(self._hour or 0), exposure, self._rows)
        self._hour, self._seconds, self._rows = None, 0.0, {}
        return closed

    def as_dict(self) -> Dict[str, object]:
        """The open hour as plain JSON values."""
        rows = {n: [u.ok, u.failed, u.sources and dict(u.sources)] for n, u in self._rows.items()}
        return {"until": self.until, "hour": self._hour, "seconds": self._seconds, "rows": rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `as_dict` gave."""
        self.until, self._hour = state["until"], state["hour"]
        self._seconds = float(state["seconds"])
        self._rows = {name: Usage(*row) for name, row in state["rows"].items()}


def _merged(a: Usage, b: Usage) -> Usage:
    """Both parts of an hour; addresses are known only if they are known for both."""
    sources: Optional[Dict[str, float]] = None
    if a.sources is not None and b.sources is not None:
        sources = dict(a.sources)
        for source, calls in b.sources.items():
            sources[source] = sources.get(source, 0.0) + calls
    return Usage(a.ok + b.ok, a.failed + b.failed, sources)
