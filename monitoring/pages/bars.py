"""Present: how each component stood in the last day and month, as a bar of small parts.

A part of which less than half was watched is not known, which is a look of its own: low and
hatched, so that it can be told from up and down without colour.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from html import escape
from typing import Any, Callable, List, Mapping, Sequence, Tuple

from monitoring.durations import say
from monitoring.service_levels import Point, Span, span

#: (name, seconds, parts)
WINDOWS = (("24 h", 86400.0, 48), ("30 d", 30 * 86400.0, 30))
_ENOUGH = 0.5  # of a part that must be watched
UP, PART, DOWN, UNKNOWN = "up", "part", "down", "unknown"

Ask = Callable[[str, float], Sequence[Point]]


@dataclass(frozen=True)
class Bar:
    """`parts`: up, part (down for a while), down or unknown, the oldest first; `whole`: of all."""

    window: str
    parts: Tuple[str, ...]
    whole: Span


def measure(points: Sequence[Point], now: float) -> Tuple[Bar, ...]:
    """The bars of one component; `points` are of the last month, oldest first."""
    ends = [point.at for point in points]
    found = []
    for window, seconds, count in WINDOWS:
        width = seconds / count
        parts = []
        for number in range(count):
            end = now - seconds + (number + 1) * width
            before = points[: bisect_right(ends, end)]
            parts.append(_word(span(before, now=end, seconds=width)))
        found.append(Bar(window, tuple(parts), span(points, now=now, seconds=seconds)))
    return tuple(found)


def _word(seen: Span) -> str:
    if seen.watched < _ENOUGH * seen.seconds:
        return UNKNOWN
    if seen.down <= 0:
        return UP
    return DOWN if seen.down >= seen.up else PART


def render(bars: Mapping[str, Sequence[Bar]]) -> str:
    """A block for each component; empty for none."""
    return "".join(_component(name, found) for name, found in bars.items() if found)


def _component(name: str, found: Sequence[Bar]) -> str:
    lines = "".join(
        f"<p>{bar.window}: {escape(_said(bar))}</p>{_drawn(name, bar)}" for bar in found
    )
    return f"<h3>{escape(name)}</h3>{lines}"


def _said(bar: Bar) -> str:
    seen = bar.whole
    if seen.availability is None:
        return "nobody watched"
    share = 100.0 * min(1.0, seen.watched / seen.seconds)
    down = f", down for {say(seen.down)}" if seen.down > 0 else ""
    return f"up {_percent(seen.availability)} of the {share:.0f} % that was watched{down}"


def _percent(ratio: float) -> str:
    """Never 100 % of what was not all."""
    cut = int(ratio * 1e5) / 1e3
    return f"{cut:.3f}".rstrip("0").rstrip(".") + " %"


_HEIGHTS = {UP: 20, PART: 20, DOWN: 20, UNKNOWN: 7}


def _drawn(name: str, bar: Bar) -> str:
    parts: List[str] = []
    for number, word in enumerate(bar.parts):
        height = _HEIGHTS[word]
        parts.append(
            f'<rect class="{word}" x="{number * 10}" y="{20 - height}" width="8" '
            f'height="{height}"/>'
        )
        if word == DOWN:  # a hole in it, for eyes and printers without colour
            parts.append(f'<rect class="hole" x="{number * 10 + 2}" y="4" width="4" height="12"/>')
        if word == PART:
            parts.append(f'<rect class="hole" x="{number * 10 + 2}" y="13" width="4" height="4"/>')
    counts = ", ".join(
        f"{bar.parts.count(word)} {word}" for word in (UP, PART, DOWN, UNKNOWN) if word in bar.parts
    )
    label = escape(f"{name}, {bar.window}: of {len(bar.parts)} parts {counts}")
    return (
        f'<svg class="strip" viewBox="0 0 {len(bar.parts) * 10} 20" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


LEGEND = (
    '<p class="soft">Full: up; with a small hole: down for a while; with a long hole: down; '
    "low: not watched, so not known.</p>"
)


def of(history: Any, names: Sequence[str], now: float) -> Mapping[str, Tuple[Bar, ...]]:
    """The bars of each component that was ever recorded. Raises HistoryError."""
    from monitoring.sla.history import availability

    longest = max(seconds for _, seconds, _ in WINDOWS)
    found = {name: availability(history, name, now=now, lookback=longest) for name in names}
    return {name: measure(points, now) for name, points in found.items() if points}
