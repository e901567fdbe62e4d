"""Keep: what the token script remembers: renewals, failed validations, the usual course.

The detector of credential misuse, fed with the aggregate figures of each cycle. Its profiles stand
in the state file, so that cron learns too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

import msgspec

from monitoring.anomaly.series import SeriesDetector
from monitoring.anomaly.types import Anomaly
from monitoring.components import CACHE, SAPI
from monitoring.follow.births import LONGEST
from monitoring.follow.standing import Orphan
from monitoring.model import Finding, Measurement, Severity
from monitoring.redis.count import ScanReport
from monitoring.store.state import State
from monitoring.tokens.birth_sample import SampleVerdict, judge, kept
from monitoring.tokens.renewals import NEVER_LOOKED, Course, Courses, Succession

# -- how each client's tokens followed each other up to the last look, in the state file.

_KEY = "renewals"

_log = logging.getLogger("monitoring.tokens.memory")


class _Kept(msgspec.Struct):
    looked: int
    of: dict[str, tuple[int, int, tuple[Succession, ...]]]


class RenewalMemory:
    """The courses of `script`. What cannot be read or written is told in the log; then renewals
    are those that one look shows."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def load(self) -> Courses:
        try:
            kept = msgspec.json.decode(self._state.get(self._script, _KEY) or "null", type=_Kept)
        except msgspec.ValidationError:  # nothing yet, or of another version
            return NEVER_LOOKED
        except msgspec.MsgspecError as error:
            _log.error("%s; renewals before this look are not known", error)
            return NEVER_LOOKED
        return Courses(kept.looked, {name: Course(*course) for name, course in kept.of.items()})

    def save(self, courses: Courses) -> None:
        of = {name: (c.issued, c.expiry, c.steps) for name, c in courses.of.items()}
        text = msgspec.json.encode(_Kept(courses.looked or 0, of)).decode()
        self._state.put(self._script, _KEY, text)


# -- forged tokens that were found, so that a restart of the loop does not forget them.

_ORPHANS = "tokens_without_birth"


class OrphanMemory:
    """Used tokens that nobody minted, by client: no token and no id of one is kept."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script
        self._earlier: Optional[list[Orphan]] = None  # of the run before this one
        self._kept: list[Orphan] = []

    def together(self, found: Sequence[Orphan], now: float) -> tuple[Orphan, ...]:
        """Those found now, and those that an earlier run found and that live still; of a client
        what says more."""
        if self._earlier is None:
            self._earlier = self._kept = self._load()
        alive = [row for row in self._earlier if min(row.until, row.since + LONGEST) > now]
        rows = {row.client: row for row in alive}
        for row in found:
            old = rows.get(row.client, row)
            rows[row.client] = replace(
                row,
                tokens=max(row.tokens, old.tokens),
                uses=max(row.uses, old.uses),
                since=min(row.since, old.since),
                issued=min(row.issued, old.issued),
                until=max(row.until, old.until),
            )
        kept = sorted(rows.values(), key=lambda row: (-row.uses, row.client))
        if kept != self._kept:
            self._state.put(self._script, _ORPHANS, msgspec.json.encode(kept).decode())
        self._kept = kept
        return tuple(kept)

    def _load(self) -> list[Orphan]:
        try:
            kept = self._state.get(self._script, _ORPHANS) or "[]"
            return msgspec.json.decode(kept, type=list[Orphan])
        except msgspec.MsgspecError as error:
            _log.error("%s; forged tokens found before this run are not known", error)
            return []


# -- births of a sample of tokens at the last look, for who does not follow the cache.

_BIRTHS = "births_sampled"


class BirthMemory:
    """Hashes of ids of the sampled births; see `birth_sample`."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def judge(
        self, now: float, report: Optional[ScanReport], skew: float
    ) -> Optional[SampleVerdict]:
        """What this look and the last show; None of a look that did not see all, and of a first."""
        if report is None or report.truncated or report.faults or report.unread:
            return None
        try:
            before = json.loads(self._state.get(self._script, _BIRTHS) or "null")
        except ValueError:
            before = None
        sample = report.counted.births
        self._state.put(self._script, _BIRTHS, json.dumps(kept(sample, now)))
        return judge(sample, before if isinstance(before, dict) else None, skew)


# -- where a scan that a budget ended goes on next time.

_CURSORS = "scan_cursors"


class CursorMemory:
    """Cursors by node. One that is of no use any more costs a look at other keys, and no more."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def load(self) -> Mapping[str, str]:
        """Empty: from the beginning."""
        try:
            kept = json.loads(self._state.get(self._script, _CURSORS) or "{}")
        except ValueError:
            return {}
        rows = kept.items() if isinstance(kept, dict) else ()
        return {name: at for name, at in rows if isinstance(at, str) and at.isdigit()}

    def save(self, report: ScanReport) -> None:
        """After a scan that a budget ended; any other is the last of its round."""
        ended = report.truncated in ("max_keys", "time")
        self._state.put(self._script, _CURSORS, json.dumps(dict(report.cursors) if ended else {}))


# -- failed validations ever seen in the cache, where no service counts them.
# A verdict lies in the cache for 100 s (docs/protocols.md). Of cycles closer than that each counts
# its share, so that none is counted twice; of cycles further apart some verdicts are never seen:
# the totals are a lower bound. They never run backwards.

VERDICT_SECONDS = 100.0
_VERDICT_MEMORY_KEY = "cached_failures"

_verdict_memory_log = logging.getLogger("monitoring.tokens.memory")


class VerdictMemory:
    """The totals of `script`, in the state file."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def add(self, now: float, failures: Mapping[str, int]) -> Mapping[str, float]:
        """Take in the failures by reason that lie in the cache now; the totals by reason."""
        at, totals = self._load()
        passed = now - at
        share = passed / VERDICT_SECONDS if 0 <= passed < VERDICT_SECONDS else 1.0
        for reason, count in failures.items():
            totals[reason] = totals.get(reason, 0.0) + count * share
        self._state.put(
            self._script, _VERDICT_MEMORY_KEY, json.dumps({"at": now, "totals": totals})
        )
        return totals

    def _load(self) -> tuple[float, dict[str, float]]:
        try:
            kept = json.loads(self._state.get(self._script, _VERDICT_MEMORY_KEY) or "{}")
            return float(kept.get("at", 0.0)), {str(k): float(v) for k, v in kept["totals"].items()}
        except KeyError:
            return 0.0, {}
        except ValueError as error:
            _verdict_memory_log.error("%s; failures seen in the cache are counted anew", error)
            return 0.0, {}


# -- the usual course of generation rate, live tokens and failures, and when one leaves it.

#: Metric -> what a sentence calls it, and the smallest difference that matters.
WATCHED = (
    ("payment_api_token_generation_rate", "Token generation per minute", 0.1),
    ("payment_api_tokens_active", "The number of live tokens", 1.0),
    ("payment_api_token_validation_failures_recent", "Failed validations in the window", 1.0),
)
REASON = "out_of_habit"
_SCOPE = "habits"
_LONGEST = 3600.0  # a longer stretch than an hour tells no hour of the day
_SEVERITIES = {"critical": Severity.CRITICAL, "warning": Severity.WARNING}


class Habits:
    """One detector per watched figure, over the scope `habits` of the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    def feed(self, measured: Sequence[Measurement], now: float) -> list[Finding]:
        """What left its habit with this cycle's figures, each standing for the time since the
        cycle before."""
        values = {m.name: m.value for m in measured if not m.labels}
        with self._state.transaction():
            return list(self._fed(values, now))

    def _fed(self, values: Mapping[str, Optional[float]], now: float) -> Iterator[Finding]:
        seconds = self._since(now)
        for metric, name, unit in WATCHED:
            if seconds is None or values.get(metric) is None:
                continue
            profiles = self._profiles(metric)
            detector = SeriesDetector(name, unit, profiles=profiles)
            detector.mind_clock(now)
            found = detector.feed(now - seconds, seconds, values[metric])
            self._keep(metric, {**profiles, **detector.dump()})
            yield from (_finding(metric, anomaly) for anomaly in found)

    def _since(self, now: float) -> Optional[float]:
        """Seconds since the last look; None at the first one, after a gap, or when the clock was
        set back."""
        before = self._state.get(_SCOPE, "looked")
        self._state.put(_SCOPE, "looked", repr(now))
        seconds = now - float(before) if before else 0.0
        return seconds if 0 < seconds <= _LONGEST else None

    def _profiles(self, metric: str) -> dict[str, str]:
        try:
            kept = json.loads(self._state.get(_SCOPE, metric) or "{}")
        except ValueError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, metric: str, profiles: Mapping[str, str]) -> None:
        text = json.dumps({name: body for name, body in profiles.items() if body})
        self._state.put(_SCOPE, metric, text)


def _finding(metric: str, anomaly: Anomaly) -> Finding:
    failures = metric.endswith("failures_recent")
    return Finding(
        REASON,
        _SEVERITIES.get(anomaly.severity, Severity.WARNING),
        anomaly.sentence,
        SAPI if failures else CACHE,
        category="security",
        evidence={
            "metric": metric,
            "view": anomaly.reason,
            "observed": round(anomaly.observed, 3),
            "expected": round(anomaly.expected, 3),
            "profile_age_days": round(anomaly.profile_age_days, 1),
        },
    )
