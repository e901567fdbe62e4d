"""Decision: how a client's next token follows the one before, over many looks at the cache.

One look sees a renewal only while the earlier token still lies there: one that comes a minute
before the end for a minute, one that comes at once for the whole of a life. Of such pairs alone
nearly all would be early. So what was the newest token at the look before is remembered, and every
new one is counted once, against the token that it follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median
from typing import NamedTuple, Optional

EARLY_SHARE = 0.5  # of its life the earlier token still had
LATE_SECONDS = 60
EVERY_CALL_SHARE = 0.9
EVERY_CALL_STEPS = 9
STEPS_KEPT = 32  # of a client
STEPS_OF_ALL = 60_000
STEPS_LEAST = 4
REMEMBERED = 86400
_EVICTED_BEFORE = 60  # the services drop a token half a minute before it dies


class Succession(NamedTuple):
    """A token was minted ``at``; the last of those before it, which lived ``life`` seconds, then
    had ``left`` seconds (negative: it had been dead for as long)."""

    at: int
    left: int
    life: int


@dataclass(frozen=True)
class Course:
    """A client's newest token, when the last of its tokens dies, and its newest steps."""

    issued: int
    expiry: int
    steps: tuple[Succession, ...] = ()


@dataclass(frozen=True)
class Courses:
    """What the looks before told: ``looked`` is when the last one was, None: never."""

    looked: Optional[int] = None
    of: Mapping[str, Course] = field(default_factory=dict)

    def after(self, now: int, tokens: Mapping[str, Sequence[tuple[int, int]]]) -> Courses:
        """With the look at ``now``: (issued, expiry) of each client's newest tokens. Who was not
        seen for a day is forgotten, and all when the clock was set back."""
        anew = self.looked is None or self.looked > now
        before = {} if anew else self.of
        # A token of a shorter life than this may have come and gone since the last look.
        missed = 0 if anew else now - (self.looked or 0) + _EVICTED_BEFORE
        kept = steps_kept(len(tokens))
        found = {
            name: course
            for name, course in before.items()
            if name not in tokens and now - course.expiry < REMEMBERED
        }
        for name, some in tokens.items():
            course = _followed(before.get(name), some, missed)
            if course is not None:
                recent = [step for step in course.steps if now - step.at < REMEMBERED]
                found[name] = Course(course.issued, course.expiry, tuple(recent[-kept:]))
        return Courses(now, found)


NEVER_LOOKED = Courses()


def steps_kept(clients: int) -> int:
    """How many of each client, where there are so many clients."""
    return max(STEPS_LEAST, min(STEPS_KEPT, STEPS_OF_ALL // max(1, clients)))


def _followed(
    before: Optional[Course], tokens: Sequence[tuple[int, int]], missed: int
) -> Optional[Course]:
    """``before`` with the tokens minted since; None when there is neither."""
    if before is not None:
        fresh = sorted(token for token in tokens if token[0] > before.issued)
        course, steps = before, list(before.steps)
    elif tokens:
        fresh = sorted(tokens)
        course, steps = Course(*fresh.pop(0)), []
    else:
        return None
    issued, expiry, seen = course.issued, course.expiry, before is None
    for at, dies in fresh:
        # Between the last look and this one others may have come and gone.
        if at > issued and (seen or dies - at > missed):
            steps.append(Succession(at, expiry - at, expiry - issued))
        seen = True
        issued, expiry = at, max(dies, expiry)
    return Course(issued, expiry, tuple(steps))


@dataclass(frozen=True)
class Renewals:
    """The newest renewals of a client, or of all.

    ``remaining`` holds what the earlier token had left, in seconds. ``lapses`` are tokens minted
    after the one before had died. ``every_call``: it mints a token while the last is nearly new,
    again and again. ``capped`` clients had as many as are kept of one: they may have had more.
    """

    remaining: tuple[int, ...] = ()
    early: int = 0
    late: int = 0
    lapses: int = 0
    every_call: bool = False
    capped: int = 0

    @property
    def median_remaining(self) -> Optional[float]:
        return median(self.remaining) if self.remaining else None


def renewals(steps: Sequence[Succession], kept: int = STEPS_KEPT) -> Renewals:
    """What the steps of a client say, of which no more than ``kept`` were kept."""
    timely = [step for step in steps if step.left >= 0]
    shares = [step.left / step.life for step in timely if step.life > 0]
    busy = len(timely) >= EVERY_CALL_STEPS and bool(shares)
    return Renewals(
        remaining=tuple(step.left for step in timely),
        early=sum(share > EARLY_SHARE for share in shares),
        late=sum(step.left < LATE_SECONDS for step in timely),
        lapses=len(steps) - len(timely),
        every_call=busy and median(shares) > EVERY_CALL_SHARE,
        capped=int(len(steps) >= kept),
    )


def together(each: Iterable[Renewals]) -> Renewals:
    """The sum of several clients'."""
    each = list(each)
    return Renewals(
        tuple(chain.from_iterable(seen.remaining for seen in each)),
        sum(seen.early for seen in each),
        sum(seen.late for seen in each),
        sum(seen.lapses for seen in each),
        capped=sum(seen.capped for seen in each),
    )
