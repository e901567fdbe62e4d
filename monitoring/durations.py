"""Decision: durations as people write them, and as people read them.

Accepted everywhere: `90s`, `15m`, `24h`, `7d`, `2w`, sums of them (`1h30m`), or plain seconds.
"""

from __future__ import annotations

import math
import re
from typing import Union

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+", re.ASCII)
_PLAIN = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
#: Ten years: longer is a slip of the unit, and would overflow dates computed from it.
LONGEST = 3660 * 86400.0


def parse_duration(value: Union[str, float]) -> float:
    """Seconds of `"7d"`, `"1h30m"`, `"300"` or 300. Raises ValueError, one sentence, for anything
    else: no number, an unknown unit, negative, not finite, longer than ten years."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("write a duration as 90s, 15m, 24h, 7d, 2w, or as seconds")
    if isinstance(value, str):
        if re.search(r"\dM", value):
            raise ValueError("M may be a minute or a month: write 1m, or 30d")
        return _bounded(_read(value.strip().lower()))
    return _bounded(value)


def _read(text: str) -> float:
    if _PLAIN.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise ValueError("a duration cannot be negative")
    if not _WHOLE.fullmatch(text):
        raise ValueError("write a duration as 90s, 15m, 24h, 7d, 2w, or as seconds")
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _bounded(value: float) -> float:
    # compared before converting: float() of a huge int raises OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a duration must be a finite number of seconds")
    if value < 0:
        raise ValueError("a duration cannot be negative")
    if value > LONGEST:
        raise ValueError("a duration cannot be longer than ten years")
    return float(value)


def say(seconds: float) -> str:
    """`3 h 20 min`, `45 s`, `12 d 6 h`, `350 ms`: at most two units, rounded to the smaller; a
    negative duration keeps its sign."""
    if seconds < 0:
        return "-" + say(-seconds)
    if not math.isfinite(seconds):
        return "for ever"
    if 0 < seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f} s"
    return _two_units(seconds)


def _two_units(seconds: float) -> str:
    ladder = (("d", 86400, 3600), ("h", 3600, 60), ("min", 60, 1))
    smaller = {"d": "h", "h": "min", "min": "s"}
    for unit, size, step in ladder:
        # rounded first: 59 min 59.7 s is an hour, not "59 min 60 s"
        whole = round(seconds / step) * step
        if whole >= size:
            first, rest = divmod(whole, size)
            return f"{first} {unit}" + (f" {rest // step} {smaller[unit]}" if rest else "")
    return f"{round(seconds)} s"
