"""Decision: may a good word be said? Only here `ok`, `met`, `yes` and `on track` are made.

What was read by a guess, or was not looked at, is never good news. A decoded fact carries its
doubts; a verdict says how much of what it is about was looked at (its coverage); and the good
words come only out of `affirm`, which needs both. Where one of them is missing the word is
`unknown`, with what is missing, worst first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

from monitoring.model import Severity

#: The good words, spelt nowhere else (tests/test_certainty.py holds it), and what replaces them.
OK, MET, YES, ON_TRACK = "ok", "met", "yes", "on track"
GOOD_WORDS = (OK, MET, YES, ON_TRACK)
UNKNOWN = "unknown"


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

    coverage: Tuple[Coverage, ...] = ()
    doubts: Tuple[Doubt, ...] = ()

    def __add__(self, other: Basis) -> Basis:
        """Both together, each doubt and each coverage once."""
        coverage = tuple(dict.fromkeys((*self.coverage, *other.coverage)))
        return Basis(coverage, tuple(dict.fromkeys((*self.doubts, *other.doubts))))

    @property
    def missing(self) -> Tuple[str, ...]:
        """Why no good word may be said, doubts first; empty: nothing is missing."""
        short = [_too_little(each) for each in self.coverage if not each.enough]
        unseen = [] if self.coverage else ["nothing was looked at"]
        return tuple(dict.fromkeys([*(doubt.sentence for doubt in self.doubts), *short, *unseen]))


@dataclass(frozen=True)
class Affirmation:
    """`word` is the good word that was asked for, or `unknown`; `missing` says why not."""

    word: str
    missing: Tuple[str, ...] = ()

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


def _too_little(coverage: Coverage) -> str:
    if coverage.sentence:
        return coverage.sentence
    if coverage.share is None:
        return f"no {coverage.what} to look at"
    return f"too little of {coverage.what} was looked at ({coverage.share:.0%})"
