"""Decision: what a scan that ended early says of the whole cache, and how far off that may be.

SCAN walks the keys in an order that has nothing to do with what they hold, so the keys seen are a
random share of all. A token may stand under several keys, and is seen when one of them is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Optional

from monitoring.redis.count import ScanReport
from monitoring.tokens.results import TokenResult

SHARE_LEAST = 0.001  # of the keys; of less nothing is said of the whole
COPIES = 3  # keys under which a token may stand (docs/protocols.md)
SIGMAS = 1.96  # 95 of 100 intervals hold what is true
_RATES = ("active", "expired", "undecodable")


def scale_of(report: ScanReport, result: Optional[TokenResult]) -> Optional[float]:
    """What counts of tokens are multiplied by: 1 over the share of the keys that was seen, less
    what tokens that stand under two keys would count twice. None: it cannot be told."""
    if not report.truncated:
        return 1.0
    share = report.share_seen
    if share is None or share < SHARE_LEAST or report.truncated == "fault":
        return None
    twice = 0.0
    if result is not None and result.total:
        twice = result.duplicates_merged / result.total * (1 - share) / share
    return max(1.0, (1 - twice) / share)


def bounds(count: int, report: ScanReport, result: TokenResult) -> Optional[tuple[int, int]]:
    """(least, most) that the whole cache holds of what so many were seen of, in 95 of 100 cases.
    None: nothing is known of the rest."""
    share = report.share_seen
    if not report.truncated:
        return count, count
    if share is None or share < SHARE_LEAST or report.truncated == "fault":
        return None
    copies = COPIES if result.duplicates_merged else 1
    seen = 1 - (1 - share) ** copies  # of tokens with that many keys
    # of none seen there may be three in the sample's place (the rule of three)
    error = SIGMAS * math.sqrt(count * (1 - share)) if count else 0.0
    least = max(count, math.floor((count - error) / seen))
    most = math.ceil((count + error) / share) if count else math.ceil(3 * (1 - share) / share)
    return least, most


def estimates(report: Optional[ScanReport], result: Optional[TokenResult]) -> Mapping[str, object]:
    """Sums over the whole cache, and shares of all tokens, as [least, most] around an estimate;
    empty of a scan that saw all, and of one that says nothing of the rest."""
    if report is None or result is None or not report.truncated:
        return {}
    scale = scale_of(report, result)
    if scale is None:
        return {}
    counts = {
        "total": result.total,
        "active": result.active,
        "expired": result.expired,
        "undecodable": sum(result.undecodable.values()),
        **{f"expiring_{within}": many for within, many in result.expiring.items()},
    }
    found: dict[str, object] = {}
    for name, count in counts.items():
        limits = bounds(count, report, result)
        if limits is not None:
            found[name] = _row(round(count * scale), list(limits))
    read = result.total + counts["undecodable"]
    for name in _RATES:
        found[f"{name}_share"] = _share(counts[name], read, report.share_seen or 1.0)
    return found


def _row(estimate: float, limits: list[float]) -> dict[str, object]:
    return {"estimate": estimate, "least": limits[0], "most": limits[1]}


def _share(part: int, whole: int, seen: float) -> Optional[dict[str, object]]:
    """By Wilson's interval, narrower for what was seen of a finite whole. None: nothing seen."""
    if not whole:
        return None
    z2, p = SIGMAS**2 * (1 - seen), part / whole
    middle = (p + z2 / (2 * whole)) / (1 + z2 / whole)
    half = math.sqrt(z2 * (p * (1 - p) / whole + z2 / (4 * whole**2))) / (1 + z2 / whole)
    limits = [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]
    return _row(round(p, 4), limits)
