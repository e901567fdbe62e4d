"""Decision: may a good word be said? Only here `ok`, `met`, `yes` and `on track` are made.

What was read by a guess, or was not looked at, is never good news. A decoded fact carries its
doubts; a verdict says how much of what it is about was looked at (its coverage); and the good
words come only out of `affirm`, which needs both. Where one of them is missing the word is
`unknown`, with what is missing, worst first.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

#: The good words, spelt nowhere else (tests/test_certainty.py holds it), and what replaces them.
OK, MET, YES, ON_TRACK = "ok", "met", "yes", "on track"
GOOD_WORDS = (OK, MET, YES, ON_TRACK)
UNKNOWN = "unknown"
_SAME_MOMENT = 0.002  # seconds; samples carry their time in milliseconds


class Severity(enum.IntEnum):
    """How bad a verdict is; ordered so that `max` is the worst. UNKNOWN outranks OK only."""

    OK = 0
    UNKNOWN = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """`ok`, `unknown`, `warning` or `critical`, as every output spells it."""
        return self.name.lower()


@dataclass(frozen=True)
class Doubt:
    """Why a fact may be other than it reads. `reason` is a stable word: `two_readings`,
    `no_owner`, `lower_bound`, `upper_bound`, `may_be_stale`, `may_be_lost`, `not_read`,
    `not_configured`, `unknown_word`. `sentence` says for an operator what is in doubt and, where
    there is one, the cure."""

    reason: str
    sentence: str


@dataclass(frozen=True)
class Coverage:
    """How much of one thing was looked at: `seen` of `wanted`, both in one unit (seconds, keys,
    sources, clients). `least` is the share that is needed, 0 to 1. `sentence` says what is missing
    when it is too little. Nothing to look at (`wanted` 0 or less) is not enough of anything."""

    what: str
    seen: float
    wanted: float
    least: float = 1.0
    sentence: str = ""

    @property
    def share(self) -> Optional[float]:
        """0 to 1; None: there was nothing to look at."""
        return min(1.0, max(0.0, self.seen / self.wanted)) if self.wanted > 0 else None

    @property
    def enough(self) -> bool:
        """Whether the share is reached; equal is enough, and nothing seen never is."""
        return self.share is not None and self.seen > 0 and self.share >= self.least


@dataclass(frozen=True)
class Basis:
    """What a verdict rests on: the doubts of its facts, and how much was looked at."""

    coverage: tuple[Coverage, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def __add__(self, other: Basis) -> Basis:
        """Both together, each doubt and each coverage once."""
        coverage = tuple(dict.fromkeys((*self.coverage, *other.coverage)))
        return Basis(coverage, tuple(dict.fromkeys((*self.doubts, *other.doubts))))

    @property
    def missing(self) -> tuple[str, ...]:
        """Why no good word may be said, doubts first; empty: nothing is missing."""
        short = [_too_little(each) for each in self.coverage if not each.enough]
        unseen = [] if self.coverage else ["nothing was looked at"]
        return tuple(dict.fromkeys([*(doubt.sentence for doubt in self.doubts), *short, *unseen]))


@dataclass(frozen=True)
class Affirmation:
    """`word` is the good word that was asked for, or `unknown`; `missing` says why not."""

    word: str
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.word != UNKNOWN


def affirm(word: str, basis: Basis) -> Affirmation:
    """`word` where nothing is in doubt and enough was looked at, else `unknown`.

    Raises ValueError when `word` is none of GOOD_WORDS: bad words need no permission."""
    if word not in GOOD_WORDS:
        raise ValueError(f"{word!r} is not one of {', '.join(GOOD_WORDS)}")
    missing = basis.missing
    return Affirmation(UNKNOWN, missing) if missing else Affirmation(word)


def severity(found: Iterable[Severity], basis: Basis) -> Severity:
    """The worst of `found`. OK only where `basis` allows it: bad news needs no proof of coverage,
    good news does."""
    worst = max(found, default=Severity.OK)
    if worst is not Severity.OK or affirm(OK, basis).good:
        return worst
    return Severity.UNKNOWN


def combined(severities: Iterable[Severity]) -> Severity:
    """One status of several: the worst that is known. Something that
    is not known is at least a WARNING beside known things, and UNKNOWN when it is all there is;
    so is nothing at all."""
    found = set(severities)
    known = found - {Severity.UNKNOWN}
    if not known:
        return Severity.UNKNOWN
    return max(known) if known == found else max(*known, Severity.WARNING)


def percent(share: float) -> str:
    """`12.3 %`, `0.011 %`: a share rounded down, so that too little never reads as enough."""
    if 0.0 < share < 1e-5:
        return "less than 0.001 %"
    digits = 1 if share >= 0.001 else 3
    return f"{math.floor(share * 100 * 10**digits + 1e-9) / 10**digits:g} %"


def _too_little(coverage: Coverage) -> str:
    if coverage.sentence:
        return coverage.sentence
    if coverage.share is None:
        return f"no {coverage.what} to look at"
    return f"too little of {coverage.what} was looked at ({percent(coverage.share)})"


# -- how much of the time was watched


class Lasting(Protocol):
    """Something that stands for the `seconds` that end at `at` (epoch seconds)."""

    @property
    def at(self) -> float: ...
    @property
    def seconds(self) -> float: ...


def inside(samples: Sequence[Lasting], start: float, end: float) -> list[float]:
    """For each sample its seconds within start..end. Time that several samples cover is divided
    among them, so the sum is the time that was watched, however often it was recorded."""
    spans = [(max(s.at - s.seconds, start), min(s.at, end)) for s in samples]
    alone = [max(0.0, until - since) for since, until in spans]
    ordered = sorted((*span, index) for index, span in enumerate(spans) if alone[index] > 0)
    if all(a[1] <= b[0] + _SAME_MOMENT for a, b in zip(ordered, ordered[1:])):
        return alone
    return _divided(ordered, len(samples))


def _divided(ordered: Sequence[tuple[float, float, int]], count: int) -> list[float]:
    """Of overlapping spans (since, until, index), sorted: each moment in equal parts."""
    shares = [0.0] * count
    moments = sorted({moment for span in ordered for moment in span[:2]})
    running: list[tuple[float, float, int]] = []
    waiting = list(reversed(ordered))
    for since, until in zip(moments, moments[1:]):
        running = [span for span in running if span[1] > since]
        while waiting and waiting[-1][0] <= since:
            running.append(waiting.pop())
        for span in running:
            shares[span[2]] += (until - since) / len(running)
    return shares


def watched_seconds(samples: Sequence[Lasting], start: float, end: float) -> float:
    """Seconds of start..end that samples cover."""
    return math.fsum(inside(samples, start, end))
