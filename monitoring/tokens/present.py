"""Present: a progress bar for a long scan, and the `tokens` object of a cycle's JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Optional

from monitoring.follow.standing import lineage_json
from monitoring.redis.count import ScanReport
from monitoring.services.families import MORE, TOKENS, about, leaves_open
from monitoring.text import safe_id
from monitoring.tokens.estimates import estimates
from monitoring.tokens.measurements import (
    CensusInput,
    cached_validations,
    generation,
    told_validations,
)
from monitoring.tokens.results import tokens_json
from monitoring.tokens.services import Validations

# -- a progress bar on the terminal for a scan that takes long.

_PATIENCE = 1.0  # a scan that is done sooner needs no bar
_EVERY = 0.1


class ProgressBar:
    """Shown on standard error, from a second on, and gone when the scan is done. It says how many
    keys were seen of how many, and no more."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, seen: int, expected: Optional[int]) -> None:
        now = time.monotonic()
        if now - self._started < _PATIENCE or now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        if self._bar is None:
            self._start(expected)
        self._bar.update(self._task, completed=seen, total=expected)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, expected: Optional[int]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        # No refresh thread: the scan is one thread's work, and a second one makes it slower.
        self._bar = Progress(
            TextColumn("reading the cache"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=expected)
        self._bar.start()


# -- the `tokens` object of a cycle's JSON, every source named.


def document(looked: CensusInput) -> dict[str, Any]:
    """Fields that the cache tells are None when it could not be read. Counts are those seen,
    which of a truncated scan is not all (`scan.share_seen`). `validations.at_least` and
    `generation.services_at_least`: a service restarted, or is new, in the window, so that its
    counts and rates are lower bounds. What of validations is not known is None."""
    found = tokens_json(looked.result) if looked.result else dict(_UNKNOWN)
    rate = generation(looked)
    if not looked.layout_known:
        found.update(_UNKNOWN)  # not a quiet zero: nothing was recognised
    found["generation_rate_per_minute"] = _rounded(rate.value)
    found["generation"] = {
        "source": rate.source,
        "cache_per_minute": _rounded(rate.cache),
        "services_per_minute": _rounded(rate.services),
        "followed_per_minute": _rounded(rate.followed),
        "services_at_least": leaves_open(about(TOKENS, looked.services.unsure), MORE),
        "generated_total": looked.services.generated,
    }
    found["validations"] = _validations(looked)
    found["scan"] = _scan(looked.report)
    if found["scan"] is not None:
        found["scan"]["estimates"] = estimates(looked.report, looked.result) or None
    found["lineage"] = lineage_json(looked.lineage)
    return _named(found)


_UNKNOWN = dict.fromkeys(
    (
        *("total", "active", "expired", "undecodable", "without_ttl", "duplicates_merged"),
        *("generation_rate_per_minute", "expiring", "lifetime_seconds", "remaining_seconds"),
        *("validations", "renewals", "by_client", "hygiene", "doubtful"),
        *("other_clients", "without_client", "without_known_client"),
    )
)


def _validations(looked: CensusInput) -> dict[str, Any]:
    best = told_validations(looked)
    if best is None:
        return dict.fromkeys(("success", "failure", "by_reason", "success_rate", "source"))
    found = _account(best)
    cached = cached_validations(looked)
    if cached is not None and best is not cached and best.source != cached.source:
        found["cache"] = _account(cached)
    if looked.services.validations is not None:
        found["totals"] = _account(looked.services.validations)
    return found


def _whole(number: Optional[float]) -> Optional[int]:
    return None if number is None else round(number)


def _account(counted: Validations) -> dict[str, Any]:
    known = counted.failure is not None
    reasons = {reason: round(n) for reason, n in sorted(counted.by_reason.items())}
    return {
        "success": _whole(counted.success),
        "failure": _whole(counted.failure),
        "by_reason": reasons if known else None,
        "success_rate": _rounded(counted.success_rate, 6),
        "source": counted.source,
        "seconds": _rounded(counted.seconds, 1),
        "at_least": counted.at_least,
    }


def _scan(report: Optional[ScanReport]) -> Optional[dict[str, Any]]:
    if report is None:
        return None
    return {
        "keys": report.seen,
        "expected": report.expected,
        "share_seen": _rounded(report.share_seen),
        "truncated": report.truncated or None,
        "seconds": round(report.seconds, 3),
        "matched": dict(report.matched),
        "unknown_prefixes": dict(report.prefixes),
        "types": dict(report.counted.types),
        "unread": report.unread,
        "excluded": report.excluded,
    }


def _named(found: dict[str, Any]) -> dict[str, Any]:
    """Client ids come from strangers: made fit to print wherever they stand."""
    if found.get("by_client"):
        found["by_client"] = _safe_keys(found["by_client"])
    if found.get("expiry_cliff"):
        cliff = found["expiry_cliff"]
        found["expiry_cliff"] = {**cliff, "clients": _safe_keys(cliff["clients"])}
    found["renewing_every_call"] = [safe_id(c) for c in found.get("renewing_every_call") or ()]
    found["losing_last_token"] = [
        {**row, "client": safe_id(row["client"])} for row in found.get("losing_last_token") or ()
    ]
    return found


def _safe_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    return {safe_id(client): value for client, value in table.items()}


def _rounded(value: Optional[float], digits: int = 4) -> Optional[float]:
    return None if value is None else round(value, digits)
