"""Present: the sentences and numbers that every format of the report shares."""

from __future__ import annotations

import datetime as dt
from typing import Optional
from zoneinfo import ZoneInfo

from monitoring.analyze.analysis import Analysis, Figure
from monitoring.analyze.trends import Trend
from monitoring.text import counted, percentage, safe_id, say

_ROUNDING = 1e-6
_STEADY = 0.0005  # change per day that nobody would call one


def number(value: Optional[float], unit: str = "") -> str:
    """`1,234.5 tokens/min`, `99.97 %`; a dash for what is not known."""
    if value is None:
        return "–"
    if unit == "ratio":
        return percentage(value)
    if value == 1 and unit.endswith("s"):
        unit = unit[:-1]
    digits = 0 if abs(value) >= 100 or value == int(value) else 1
    said = f"{value:.2g}" if 0 < abs(value) < 1 else f"{value:,.{digits}f}"
    return f"{said} {unit}".rstrip()


_NEARLY_ALL = 0.9  # of such a share the difference to all matters


def tick(value: float, unit: str) -> str:
    """A number at an axis, as short as it is exact: `95%`, `99.95%`, `2,000`."""
    if unit == "ratio":
        return f"{round(value * 100, 4 if value > _NEARLY_ALL else 2):g}%"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 6):g}"


def moment(at: float, zone: str) -> str:
    """`2026-11-23 02:15` on the wall clock of `zone`."""
    return dt.datetime.fromtimestamp(at, zone_of(zone)).strftime("%Y-%m-%d %H:%M")


def zone_of(name: str) -> dt.tzinfo:
    """UTC needs no time zone data on the machine."""
    return dt.timezone.utc if name == "UTC" else ZoneInfo(name)


def trend(found: Trend) -> str:
    """`rising 12 %/day (8 to 15)`, or why no trend can be told."""
    if found.per_day is None or found.low is None or found.high is None:
        return found.why
    if max(abs(found.low), abs(found.high)) < _STEADY:
        return "steady"
    if not found.known:
        return f"no trend can be told: {found.low:+.1%} to {found.high:+.1%} a day".replace(
            "%", " %"
        )
    word = "rising" if found.per_day > 0 else "falling"
    low, high = sorted((abs(found.low) * 100, abs(found.high) * 100))
    digits = 0 if abs(found.per_day) >= 0.02 else 1
    rate = f"{abs(found.per_day) * 100:.{digits}f} %/day"
    return f"{word} {rate} ({low:.{digits}f} to {high:.{digits}f})"


def busiest(figure: Figure, zone: str) -> str:
    """`09:00 120, 10:00 118 tokens/min (UTC)`."""
    hours = ", ".join(f"{hour:02d}:00 {number(mean)}" for hour, mean in figure.busiest)
    return f"{hours} {figure.unit} ({zone})" if hours else "not known: too few hours were watched"


def title(analysis: Analysis) -> str:
    return f"Token usage, {say(analysis.end - analysis.start)}"


def period(analysis: Analysis) -> str:
    zone = analysis.zone
    return f"{moment(analysis.start, zone)} to {moment(analysis.end, zone)} ({zone})"


def made_by(analysis: Analysis) -> str:
    """`prod, version 1.0.0`; empty where neither is known."""
    version = f"version {analysis.version}" if analysis.version else ""
    return ", ".join(filter(None, (analysis.environment, version)))


def out_of_habit(analysis: Analysis) -> str:
    """The anomalies in a sentence; empty: none was found."""
    worst = [found for found in analysis.anomalies if found.severity == "critical"]
    count = len(analysis.anomalies)
    if not count:
        return ""
    newest = (worst or list(analysis.anomalies))[-1]
    which = "the worst" if worst else "the last"
    return f"{counted(count, 'time')} out of habit; {which}: {newest.sentence}"


def watched(analysis: Analysis) -> str:
    """How much of the time was watched; the rest is unknown, not zero."""
    if analysis.watched > 0.995:
        return "The whole time was watched."
    share = number(analysis.watched, "ratio")
    return f"{share} of the time was watched; the rest is unknown and counted nowhere."


def summary(analysis: Analysis) -> list[str]:
    """What is said before the figures, a sentence each; the verdict on the target first."""
    lines = [success(analysis), *filter(None, [out_of_habit(analysis)])]
    if analysis.failures:
        reasons = ", ".join(f"{safe_id(r)} {number(round(n))}" for r, n in analysis.failures)
        lines.append(f"Failed validations by reason: {reasons}.")
    if analysis.minted is not None:
        minted = number(round(analysis.minted))
        lines.append(
            f"The services counted {minted} new tokens, those minted while nobody looked included."
        )
    return [*lines, watched(analysis), *analysis.notes]


def movements(analysis: Analysis) -> list[str]:
    """Who joined and who left, and what that means here."""
    if analysis.edge is None:
        return ["Too little time was watched to tell who joined or left."]
    edge = say(analysis.edge)
    return [
        f"Joined (unseen in the first {edge}): {names(analysis.joined)}",
        f"Left (unseen in the last {edge}): {names(analysis.left)}",
    ]


def success(analysis: Analysis) -> str:
    """The success rate against its target, in a sentence."""
    if analysis.success is None:
        return "No validation was counted, so the success rate is unknown."
    rate, target = number(analysis.success, "ratio"), number(analysis.success_target, "ratio")
    if analysis.meets_target is None:
        known = f"whether the target of {target} holds is unknown: {analysis.why}"
        return f"{rate} of the validations that were seen succeeded; {known}."
    verdict = "meets" if analysis.meets_target else "misses"
    return f"{rate} of validations succeeded, which {verdict} the target of {target}."


def names(clients: tuple[str, ...], most: int = 10) -> str:
    """Client ids made fit to print, the first `most` of them; `none` when there are none."""
    shown = ", ".join(safe_id(client) for client in clients[:most])
    more = f" and {len(clients) - most} more" if len(clients) > most else ""
    return f"{shown}{more}" if shown else "none"


def facts(figure: Figure, analysis: Analysis) -> list[tuple[str, str]]:
    """What is said of one figure, as (label, text)."""
    spread, unit, zone = figure.spread, figure.unit, analysis.zone
    rows = [("always", number(spread.median, unit))] if flat(figure) else _levels(figure, zone)
    rows.append(("trend", trend(figure.trend)))
    if unit != "ratio" and not flat(figure):
        rows.append(("busiest hours", busiest(figure, zone)))
    if figure.total is not None:
        rows.insert(0, ("in the time watched", number(figure.total, unit.partition("/")[0])))
    if figure.gaps:
        rows.append(("not watched", gaps(figure, zone)))
    return rows


def flat(figure: Figure) -> bool:
    """Whether the figure never changed, but for rounding."""
    spread = figure.spread
    return spread.high - spread.low <= _ROUNDING * abs(spread.high)


def _levels(figure: Figure, zone: str) -> list[tuple[str, str]]:
    spread, unit = figure.spread, figure.unit
    return [
        ("median", number(spread.median, unit)),
        ("95th percentile", number(spread.p95, unit)),
        ("highest", f"{number(spread.high, unit)} at {moment(spread.high_at, zone)}"),
        ("lowest", f"{number(spread.low, unit)} at {moment(spread.low_at, zone)}"),
    ]


def gaps(figure: Figure, zone: str, most: int = 3) -> str:
    longest = sorted(figure.gaps, key=lambda gap: -gap.seconds)[:most]
    shown = ", ".join(f"{say(g.seconds)} from {moment(g.start, zone)}" for g in longest)
    more = len(figure.gaps) - len(longest)
    return f"{shown} and {more} more" if more else shown
