"""Present: the figures of a token census as rows for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from monitoring.text import counted, percentage, say

Row = tuple[str, str]

_TIMINGS = (
    ("early", "in the first half of a life"),
    ("late", "in its last minute"),
    ("lapses", "after its end"),
)


def rows(tokens: Mapping[str, Any]) -> Iterator[Row]:
    """Label and text, a dash where something is not known."""
    for name in ("total", "active", "expired", "undecodable", "without_ttl", "duplicates_merged"):
        yield name.replace("_", " "), _about(name, tokens)
    if tokens.get("doubtful"):
        yield "of them with two readings", _whole("doubtful", tokens["doubtful"], tokens)
    strange = (tokens.get("without_known_client") or {}).get("active")
    if strange:
        yield "live, of no known client", _whole("", strange, tokens)
    yield "generated per minute", _rate(tokens)
    expiring = tokens.get("expiring") or {}
    if expiring:
        text = ", ".join(
            f"{within}: {_whole(f'expiring_{within}', n, tokens)}" for within, n in expiring.items()
        )
        yield "expiring within", text
    for name, label in (("lifetime_seconds", "lifetime"), ("remaining_seconds", "remaining life")):
        yield label, _spread(tokens.get(name) or {})
    yield "renewals", _renewals(tokens.get("renewals") or {})
    validations = tokens.get("validations") or {}
    yield "validations that succeed", _validations(validations)
    failed = {reason: n for reason, n in (validations.get("by_reason") or {}).items() if n}
    if failed:
        yield "failed for", _reasons(failed)


def live_tokens(tokens: Mapping[str, Any]) -> str:
    """`1,204 live tokens`, `about 400,011 live tokens` where the scan ended early; empty where they
    were not counted."""
    if tokens.get("active") is None:
        return ""
    words, number = _said("active", tokens["active"], tokens)
    return f"{words}{counted(number, 'live token')}"


def in_the_cache(tokens: Mapping[str, Any], name: str) -> Optional[int]:
    """How many there are of what the census counts as `name`, in the whole cache: an estimate where
    the scan ended early. None: not known."""
    scan = tokens.get("scan") or {}
    if not scan.get("truncated"):
        seen: Optional[int] = tokens.get(name)
        return seen
    row: Mapping[str, int] = (scan.get("estimates") or {}).get(name) or {}
    return row.get("estimate")


def _said(name: str, seen: int, tokens: Mapping[str, Any]) -> tuple[str, int]:
    """What comes before a count, and the count: of a scan that ended early the estimate for the
    whole cache, or what was seen, which is the least that there is."""
    if not (tokens.get("scan") or {}).get("truncated"):
        return "", seen
    estimate = in_the_cache(tokens, name)
    return ("at least ", seen) if estimate is None else ("about ", estimate)


def _whole(name: str, seen: Optional[int], tokens: Mapping[str, Any]) -> str:
    """A count for people, a dash where it is not known."""
    if seen is None:
        return _count(seen)
    words, number = _said(name, seen, tokens)
    return f"{words}{number:,}"


def _about(name: str, tokens: Mapping[str, Any]) -> str:
    """Of a large cache a sample of the keys is asked for its expiry."""
    value = tokens.get(name)
    if name != "without_ttl" or value is None:
        return _whole(name, value, tokens)
    words, number = _said(name, value, tokens)
    sampled: bool = tokens.get("ttl_asked", 0) < tokens.get("ttl_keys", 0)
    return f"{words}{'about ' * sampled}{number:,}"


def _count(value: Any) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(tokens: Mapping[str, Any]) -> str:
    rate, parts = tokens.get("generation_rate_per_minute"), tokens.get("generation") or {}
    if rate is None:
        return "-"
    other = parts.get("services_per_minute")
    if parts.get("source") == "cache" and other is not None:
        return f"{rate:,.1f} (the services count {other:,.1f})"
    return f"{rate:,.1f} (as the {parts.get('source')} {_verb(parts.get('source'))})"


def _verb(source: Optional[str]) -> str:
    return "count" if source == "services" else "shows"


def _spread(spread: Mapping[str, Optional[float]]) -> str:
    known = {name: spread.get(name) for name in ("min", "p50", "p95", "max")}
    if any(value is None for value in known.values()):
        return "-"
    if known["min"] == known["max"]:
        return f"{say(known['max'] or 0.0)} each"
    return ", ".join(f"{name} {say(value or 0.0)}" for name, value in known.items())


def _renewals(renewals: Mapping[str, Any]) -> str:
    if renewals.get("count") is None:
        return "-"
    parts = [f"{renewals[name]:,} {word}" for name, word in _TIMINGS if renewals[name]]
    left = renewals.get("median_remaining_seconds")
    if left is not None:
        parts.append(f"usually with {say(left)} left")
    least = "at least " * bool(renewals.get("capped_clients"))
    said = ", ".join(parts)
    return f"{least}{renewals['count']:,} ({said})" if said else "none seen"


def _validations(validations: Mapping[str, Any]) -> str:
    rate = validations.get("success_rate")
    if rate is None:
        return "-"
    total = validations["success"] + validations["failure"]
    return f"{percentage(rate)} of {total:,} ({_where(validations)})"


def _where(validations: Mapping[str, Any]) -> str:
    seconds = validations.get("seconds")
    if validations["source"] == "cache":
        return "verdicts in the cache"
    if seconds is None:
        return "counted since the services started"
    return f"counted in {say(seconds)}"


def _reasons(by_reason: Mapping[str, int]) -> str:
    ranked = sorted(by_reason.items(), key=lambda row: (-row[1], row[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ranked)
