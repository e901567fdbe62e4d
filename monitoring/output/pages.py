"""Present: what all pages share, one look in one file, and the bars of the components."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from monitoring.sla.levels import Point, Span, span
from monitoring.text import say

# -- what every page of ours has: one look, one file, nothing fetched from anywhere.

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #d9dee7; --card: #fff;
  --page: #f4f6f9; --hue: #2563c9; --good: #1d7a46; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --soft: #9aa5b8; --line: #343c4b;
  --card: #1d232e; --page: #12161d; --hue: #78a9ff; --good: #6fd39a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
header p, .soft { color: var(--soft); margin: .2rem 0 1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1rem 0; break-inside: avoid; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  gap: .2rem 1.5rem; margin: .6rem 0 0; }
.facts div { display: flex; flex-direction: column; border-top: 1px solid var(--line);
  padding: .3rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; } th { text-align: left; color: var(--soft);
  font-weight: 500; font-size: .85rem; }
td, th { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { height: .5rem; border-radius: .25rem; background: var(--hue); min-width: 2px; }
.share { width: 35%; }
svg { width: 100%; height: auto; display: block; } .grid { stroke: var(--line); stroke-width: 1; }
.axis { fill: var(--soft); font-size: 11px; } .line { fill: none; stroke: var(--hue);
  stroke-width: 1.8; stroke-linejoin: round; } .area { fill: var(--hue); opacity: .12; }
.before { fill: none; stroke: var(--soft); stroke-width: 1.1; opacity: .8; }
.target { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 6 5; }
.mark { fill: var(--bad); }
.dot { fill: var(--hue); } .hit { fill: transparent; }
.hit:hover { fill: var(--hue); opacity: .15; }
h3 { font-size: .95rem; margin: .8rem 0 0; } .strip { height: 1.4rem; margin: 0 0 .3rem; }
.strip .up { fill: var(--good); } .strip .part { fill: var(--hue); }
.strip .down { fill: var(--bad); } .strip .unknown { fill: var(--soft); opacity: .6; }
.strip .hole { fill: var(--card); }
section > p { margin: .3rem 0; } .verdict { font-size: 1.1rem; font-weight: 600; }
header .verdict { color: var(--ink); }
.good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .wide th { white-space: nowrap; }
.wide td { overflow-wrap: break-word; vertical-align: top; }
td[data-of="what"], td[data-of="do first"] { min-width: 13rem; }
td[data-of="notified"] { min-width: 6rem; }
td[data-of="response"], td[data-of="since"] { white-space: nowrap; }
a { color: var(--hue); }
td.when { min-width: 5.5rem; } td.word { white-space: nowrap; }
@media (max-width: 40rem) { .axis { font-size: 19px; } .axis.even { display: none; }
  .share { display: none; } .wide th { display: none; }
  .wide tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .wide td[data-of] { min-width: 0; }
  .wide td { display: block; border: 0; padding: 0; overflow-wrap: anywhere; }
  .wide td::before { content: attr(data-of) " "; color: var(--soft); font-size: .85rem; } }
@media print { body { background: #fff; } section { border-color: #bbb; } main { padding: 0; } }
"""


def page(head: str, body: Sequence[str]) -> str:
    """A whole page of escaped parts; `head` is its title. It fetches nothing from anywhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{head}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


# -- how each component stood in the last day and month, as a bar of small parts.
# A part of which less than half was watched is not known, which is a look of its own: low and grey,
# so that it can be told from up and down without colour too.

#: (name, seconds, parts)
WINDOWS = (("24 h", 86400.0, 48), ("30 d", 30 * 86400.0, 30))
_ENOUGH = 0.5  # of a part that must be watched
UP, PART, DOWN, UNKNOWN = "up", "part", "down", "unknown"


@dataclass(frozen=True)
class Bar:
    """`parts`: up, part (down for a while), down or unknown, the oldest first; `whole`: of all."""

    window: str
    parts: tuple[str, ...]
    whole: Span


def measure(points: Sequence[Point], now: float) -> tuple[Bar, ...]:
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
    watched = f"{share:.0f} %" if share >= 1.0 else "less than 1 %"
    down = f", down for {say(seen.down)}" if seen.down > 0 else ""
    return f"up {percent(seen.availability)} of the {watched} that was watched{down}"


def percent(ratio: float) -> str:
    """Never 100 % of what was not all."""
    cut = int(ratio * 1e5) / 1e3
    return f"{cut:.3f}".rstrip("0").rstrip(".") + " %"


_HEIGHTS = {UP: 20, PART: 20, DOWN: 20, UNKNOWN: 7}


def _drawn(name: str, bar: Bar) -> str:
    parts: list[str] = []
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


def of(history: Any, names: Sequence[str], now: float) -> Mapping[str, tuple[Bar, ...]]:
    """The bars of each component that was ever recorded. Raises HistoryError."""
    from monitoring.sla.history import availability

    longest = max(seconds for _, seconds, _ in WINDOWS)
    found = {name: availability(history, name, now=now, lookback=longest) for name in names}
    return {name: measure(points, now) for name, points in found.items() if points}
