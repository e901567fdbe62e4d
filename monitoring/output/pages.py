"""Present: what all pages share, one look in one file, and the bars of the components."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from monitoring.model import OperatorError
from monitoring.sla.levels import Point, Span, span
from monitoring.text import printable, say

# -- the pages stand in templates/: each value is escaped there, and a value that is missing is an
# error and no blank.


class PageError(OperatorError):
    """A template cannot be read (as after a removal under a running loop) or lacks a value."""


def page(template: str, **values: Any) -> str:
    """A page of templates/ with these values. Raises PageError."""
    from jinja2 import TemplateError

    try:
        return str(_templates().get_template(template).render(values))
    except (OSError, TemplateError) as exc:
        said = f"the page cannot be made from {template}: {type(exc).__name__}: {exc}"
        raise PageError(f"{said}; install the scripts anew") from exc


@lru_cache(maxsize=1)
def _templates() -> Any:
    """jinja2 takes longer to import than most runs need it for: on first use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["shown"] = lambda value: "-" if value is None else printable(str(value))
    return made


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

    @property
    def said(self) -> str:
        """The whole in words: `up 99.9 % of the time watched (42 %), down for 3 min`."""
        seen = self.whole
        if seen.availability is None:
            return "nobody watched"
        watched = watched_share(seen.watched / seen.seconds)
        down = f", down for {say(seen.down)}" if seen.down > 0 else ""
        return f"up {percent(seen.availability)} of the time watched ({watched}){down}"

    @property
    def counted(self) -> str:
        """The parts in words, for whoever does not see them."""
        known = [word for word in (UP, PART, DOWN, UNKNOWN) if word in self.parts]
        counts = (f"{self.parts.count(word)} {word}" for word in known)
        return f"of {len(self.parts)} parts {', '.join(counts)}"


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


def watched_share(ratio: float) -> str:
    """`42 %`, `less than 1 %`: of how much of a time it is known how it was."""
    share = 100.0 * min(1.0, ratio)
    return f"{share:.0f} %" if share >= 1.0 or share <= 0.0 else "less than 1 %"


def percent(ratio: float) -> str:
    """Never 100 % of what was not all; a float just below 99.99 % is 99.99 %."""
    near = round(ratio * 1e5, 6)
    cut = math.floor(near if near < 1e5 or ratio >= 1.0 else ratio * 1e5) / 1e3
    return f"{cut:.3f}".rstrip("0").rstrip(".") + " %"


def of(history: Any, names: Sequence[str], now: float) -> Mapping[str, tuple[Bar, ...]]:
    """The bars of each component that was ever recorded. Raises HistoryError."""
    from monitoring.sla.history import availability

    longest = max(seconds for _, seconds, _ in WINDOWS)
    found = {name: availability(history, name, now=now, lookback=longest) for name in names}
    return {name: measure(points, now) for name, points in found.items() if points}
