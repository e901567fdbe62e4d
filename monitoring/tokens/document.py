"""Present: the `tokens` object of a cycle's JSON (DESIGN.md section 4), every source named."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from monitoring.cache.scan import ScanReport
from monitoring.families import MORE, TOKENS, about, leaves_open
from monitoring.redact import safe_id
from monitoring.tokens.measurements import (
    Looked,
    cached_validations,
    generation,
    told_validations,
)
from monitoring.tokens.results import tokens_json
from monitoring.tokens.services import Validations


def document(looked: Looked) -> Dict[str, Any]:
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
        "services_at_least": leaves_open(about(TOKENS, looked.services.unsure), MORE),
        "generated_total": looked.services.generated,
    }
    found["validations"] = _validations(looked)
    found["scan"] = _scan(looked.report)
    return _named(found)


_UNKNOWN = dict.fromkeys(
    (
        *("total", "active", "expired", "undecodable", "without_ttl", "duplicates_merged"),
        *("generation_rate_per_minute", "expiring", "lifetime_seconds", "remaining_seconds"),
        *("validations", "renewals", "by_client", "hygiene", "doubtful"),
        *("other_clients", "without_client", "without_known_client"),
    )
)


def _validations(looked: Looked) -> Dict[str, Any]:
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


def _account(counted: Validations) -> Dict[str, Any]:
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


def _scan(report: Optional[ScanReport]) -> Optional[Dict[str, Any]]:
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


def _named(found: Dict[str, Any]) -> Dict[str, Any]:
    """Client ids come from strangers: made fit to print wherever they stand."""
    if found.get("by_client"):
        found["by_client"] = _safe_keys(found["by_client"])
    if found.get("expiry_cliff"):
        cliff = found["expiry_cliff"]
        found["expiry_cliff"] = {**cliff, "clients": _safe_keys(cliff["clients"])}
    found["renewing_every_call"] = [safe_id(c) for c in found.get("renewing_every_call") or ()]
    found["going_dark"] = [
        {**row, "client": safe_id(row["client"])} for row in found.get("going_dark") or ()
    ]
    return found


def _safe_keys(table: Mapping[str, Any]) -> Dict[str, Any]:
    return {safe_id(client): value for client, value in table.items()}


def _rounded(value: Optional[float], digits: int = 4) -> Optional[float]:
    return None if value is None else round(value, digits)
