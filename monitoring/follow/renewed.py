"""Decision: whether a used token may have been renewed by SAPI without a verdict that says so.

SAPI's `/tokens/renew` writes `token:{jti}` and nothing else; a forged token that is validated makes
it write the same key, and then a verdict. Where SAPI was seen to write that key again with each
good verdict, one that has as many writes as verdicts was never renewed. Where it was not seen to
do so, nothing tells the two apart, and nobody is accused.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

PROOFS = 10  # good verdicts of minted tokens in a row, each with a write of its own
WRITES_KEPT = 100_000
TOGETHER = 2.0  # seconds from the write to its verdict; on two nodes it may be seen after it
SETTLED = 0.5


class Named(NamedTuple):
    """A token by the hash of its id, whether its minting was seen, and when it dies."""

    identity: int
    minted: bool
    until: float


class SapiWrites:
    """What SAPI writes of the tokens that it accepts or makes."""

    def __init__(self, proofs: int = PROOFS) -> None:
        self._wanted, self._proven = proofs, 0
        # Of tokens whose minting was not seen: writes less verdicts, and the token's end.
        self._unexplained: dict[int, tuple[int, float]] = {}
        self._recent: dict[int, list[float]] = {}  # of minted ones: when each write was seen
        self._due: deque[tuple[float, int, int]] = deque()

    @property
    def overflowed(self) -> bool:
        """Whether more would have to be remembered than is kept."""
        return len(self._unexplained) > WRITES_KEPT

    def written(self, token: Named, times: int, now: float) -> None:
        """`token:{jti}` was written so many times."""
        if token.minted:
            self._recent.setdefault(token.identity, []).extend([now] * times)
        else:
            self._count(token, times)

    def accepted(self, token: Named, times: int, now: float) -> None:
        """So many good verdicts without a renewal were given; each goes with a write."""
        if token.minted:
            self._due.append((now, token.identity, times))
        else:
            self._count(token, -times)

    def _count(self, token: Named, times: int) -> None:
        before, _end = self._unexplained.get(token.identity, (0, 0.0))
        self._unexplained[token.identity] = (before + times, token.until)

    def doubt(self, identity: int) -> str:
        """Why it may have been renewed; empty: it was not."""
        if self._proven < self._wanted:
            return "renewals_not_told_apart"
        return "may_be_a_renewal" if self._unexplained.get(identity, (0,))[0] else ""

    def settle(self, now: float) -> None:
        """Learn from the verdicts of minted tokens whether each goes with a write."""
        while self._due and self._due[0][0] <= now - SETTLED:
            at, identity, times = self._due.popleft()
            writes = self._recent.get(identity, [])
            fit = [when for when in writes if when >= at - TOGETHER][:times]
            for when in fit:
                writes.remove(when)
            # one that was seen before the minting was, on another node, counts as well
            earlier = self._unexplained.get(identity, (0, 0.0))[0]
            self._proven = self._proven + 1 if len(fit) + earlier >= times else 0
        for identity in [i for i, w in self._recent.items() if not w or w[-1] < now - 30]:
            del self._recent[identity]

    def forget(self, now: float) -> None:
        """Let go of tokens that have died."""
        self._unexplained = {i: row for i, row in self._unexplained.items() if row[1] > now}

    def cut(self) -> None:
        """Writes were missed."""
        self._unexplained.clear()
        self._recent.clear()
        self._due.clear()
