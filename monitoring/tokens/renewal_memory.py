"""Keep: how each client's tokens followed each other up to the last look, in the state file."""

from __future__ import annotations

import logging
from typing import Dict, Tuple

import msgspec

from monitoring.state import State
from monitoring.tokens.renewals import NEVER_LOOKED, Course, Courses, Step

_KEY = "renewals"

_log = logging.getLogger("monitoring.tokens.renewal_memory")


class _Kept(msgspec.Struct):
    looked: int
    of: Dict[str, Tuple[int, int, Tuple[Step, ...]]]


class RenewalMemory:
    """The courses of `script`. What cannot be read or written is told in the log; then renewals
    are those that one look shows."""

    def __init__(self, state: State, script: str) -> None:
        self._state, self._script = state, script

    def load(self) -> Courses:
        try:
            kept = msgspec.json.decode(self._state.get(self._script, _KEY) or "null", type=_Kept)
        except msgspec.ValidationError:  # nothing yet, or of another version
            return NEVER_LOOKED
        except msgspec.MsgspecError as error:
            _log.error("%s; renewals before this look are not known", error)
            return NEVER_LOOKED
        return Courses(kept.looked, {name: Course(*course) for name, course in kept.of.items()})

    def save(self, courses: Courses) -> None:
        of = {name: (c.issued, c.expiry, c.steps) for name, c in courses.of.items()}
        text = msgspec.json.encode(_Kept(courses.looked or 0, of)).decode()
        self._state.put(self._script, _KEY, text)
