"""Decision: whether each accepted token was minted, as far as the changes of the cache tell.

A token is `born` (its minting was seen), an `orphan` (it was used, and nobody minted it: forged
with a real key) or `unknown`. It is an orphan only if nothing was missed since before it says that
it was issued; what a stranger writes into a token can make it unknown, never somebody else's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from monitoring.follow.index import HashIndex

BORN, UNKNOWN, ORPHAN = "born", "unknown", "orphan"
BIRTHS_KEPT = 4_000_000
USES_KEPT = 50_000  # tokens whose use was seen and whose birth was not
WINDOWS_KEPT = 64  # of a client, in which a birth may have been missed
CLIENTS_WITH_WINDOWS = 10_000
LONGEST = 30 * 86400  # a birth is remembered for a life of this many seconds
_EVERYBODY = ""
_ANY = 0xFFFFFFFF  # content of a token that was minted more than once with one id


@dataclass(frozen=True)
class Use:
    """An accepted token. ``identity`` is the hash of its id, ``content`` of its claims (0: they
    were not read), ``at`` when it was first seen in use, all times in epoch seconds (``exp``
    NEVER: it has no end). ``shape`` says for people what stands in it, never the token."""

    identity: int
    content: int
    client: str
    iat: Optional[float]
    exp: float
    at: float
    count: int = 1
    shape: str = ""

    @property
    def told_until(self) -> float:
        """One that never dies is told of as long as births are remembered."""
        return min(self.exp, self.at + LONGEST)


@dataclass(frozen=True)
class Certificate:
    """``word`` is born, unknown or orphan, ``why`` the named reason."""

    word: str
    why: str


class Births:
    """Births and uses in bounded memory, about 24 bytes a birth. ``skew``: by how many seconds
    clocks may differ."""

    def __init__(
        self, *, skew: float, births_kept: int = BIRTHS_KEPT, uses_kept: int = USES_KEPT
    ) -> None:
        self._skew, self._births_kept, self._uses_kept = skew, births_kept, uses_kept
        self._hashes, self._contents = array("Q"), array("I")
        self._index = HashIndex(self._hashes)
        self._free = array("I")
        self._dying: dict[int, array[int]] = {}  # minute -> rows to forget
        self._uses: dict[tuple[int, int], Use] = {}
        self._windows: dict[str, list[tuple[float, float]]] = {}
        self.whole_since: Optional[float] = None
        self.uses_left_out = 0
        # by how many seconds the clock of who mints was seen to be ahead of ours, and behind it
        self._ahead = self._behind = 0.0

    def __len__(self) -> int:
        return len(self._index)

    def began(self, now: float) -> None:
        """From here on every change is heard."""
        self.whole_since = now

    def cut(self) -> None:
        """Changes were missed. What was seen to be born stays born."""
        self.whole_since = None

    def missed(self, client: Optional[str], since: float, until: float) -> None:
        """A birth of the client (None: of any) may have been missed in this time: a value was gone
        or replaced before it could be read."""
        name = client or _EVERYBODY
        if name not in self._windows and len(self._windows) >= CLIENTS_WITH_WINDOWS:
            name = _EVERYBODY
        windows = sorted([*self._windows.get(name, ()), (since, until)])
        joined = windows[:1]
        for start, end in windows[1:]:
            if start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        if len(joined) > WINDOWS_KEPT:
            joined[:2] = [(joined[0][0], joined[1][1])]
        self._windows[name] = joined

    def clock(self, iat: Optional[float], now: float) -> None:
        """A token that was minted just now says when: so far is that clock ahead, or behind."""
        if iat is not None and iat - now < LONGEST:
            self._ahead = max(self._ahead, iat - now)
        if iat is not None and not self.too_old(iat):  # an older one may only be written again
            self._behind = max(self._behind, now - iat)

    def born(self, identity: int, content: int, exp: Optional[float], now: float) -> bool:
        """A token was minted; whether it is a new one. Known ones stay as they are, except that a
        content becomes known, or one of several."""
        row = self._index.find(identity)
        if row is not None:
            before = self._contents[row]
            self._contents[row] = (
                _ANY if before and content not in (0, before) else before or content
            )
            return False
        if len(self._index) >= self._births_kept:
            self.cut()  # from now on births are missed
            return True
        row = self._row(identity, content)
        last = now + LONGEST if exp is None else min(exp, now + LONGEST)
        minute = int((last + self._skew) // 60) + 1
        self._dying.setdefault(minute, array("I")).append(row)
        return True

    def minted(self, identity: int) -> bool:
        """Whether a token of this id was seen to be minted."""
        return self._index.find(identity) is not None

    def _row(self, identity: int, content: int) -> int:
        if self._free:
            row = self._free.pop()
            self._hashes[row], self._contents[row] = identity, content
        else:
            row = len(self._hashes)
            self._hashes.append(identity)
            self._contents.append(content)
        self._index.add(identity, row)
        return row

    def used(self, use: Use) -> bool:
        """A token was accepted, once more if it is known; whether its minting was seen. Of a minted
        one nothing is kept."""
        if self._minted(use):
            return True
        key = (use.identity, use.content)
        before = self._uses.get(key)
        if before is not None:
            self._uses[key] = replace(before, count=before.count + use.count)
        elif len(self._uses) < self._uses_kept:
            self._uses[key] = use
        else:
            self.uses_left_out += 1
        return False

    def acquits(self, use: Use) -> bool:
        """Whether a used token was minted after all."""
        return self._minted(use)

    def too_old(self, iat: Optional[float]) -> bool:
        """Whether it may have been minted before nothing was missed."""
        skew = self._skew + self._ahead
        return iat is None or self.whole_since is None or iat - skew <= self.whole_since

    @property
    def waiting(self) -> int:
        """Used tokens whose minting was not seen."""
        return len(self._uses)

    def certificate(self, use: Use, now: float) -> Certificate:
        """What is known of where a used token came from."""
        row = self._index.find(use.identity)
        copied = row is not None and self._copied(row, use)
        if row is not None and not copied:
            return Certificate(BORN, "minted")
        why = self._doubt(use, now)
        if why:
            return Certificate(UNKNOWN, why)
        return Certificate(ORPHAN, "copied_id" if copied else "never_minted")

    def _minted(self, use: Use) -> bool:
        row = self._index.find(use.identity)
        return row is not None and not self._copied(row, use)

    def _copied(self, row: int, use: Use) -> bool:
        """Whether the minted token of this id says something else."""
        return bool(use.content) and self._contents[row] not in (0, _ANY, use.content)

    def _doubt(self, use: Use, now: float) -> str:
        """Why its birth may have happened unseen, or been forgotten; empty: it cannot have."""
        if use.iat is None:
            return "without_times"
        skew = self._skew + self._ahead
        if self.too_old(use.iat):
            return "older_than_the_watch"
        if use.iat > use.at + skew or use.exp <= now:
            return "clocks"
        if now - use.iat > LONGEST - skew:
            return "birth_may_be_forgotten"
        start, end = use.iat - skew, use.iat + max(skew, self._skew + self._behind)
        windows = [*self._windows.get(use.client, ()), *self._windows.get(_EVERYBODY, ())]
        if any(since <= end and until >= start for since, until in windows):
            return "may_have_been_missed"
        return ""

    def orphans(self, now: float, *, settled: float = 0.5) -> Iterator[Use]:
        """Used tokens that nobody minted. One seen less than ``settled`` seconds ago is left for
        the next time: what was minted on another node may not have been read yet."""
        for use in self._uses.values():
            if use.at <= now - settled and self.certificate(use, now).word == ORPHAN:
                yield use

    def forget(self, now: float) -> None:
        """Let go of what has died or was minted after all, and of doubts older than any life."""
        for minute in [minute for minute in self._dying if minute * 60 <= now]:
            for row in self._dying.pop(minute):
                self._index.remove(self._hashes[row])
                self._hashes[row] = 0
                self._free.append(row)
        self._uses = {
            key: use
            for key, use in self._uses.items()
            if now < use.told_until and not self._minted(use)
        }
        oldest = now - LONGEST - 2 * (self._skew + self._ahead)
        kept = {
            name: [window for window in windows if window[1] >= oldest]
            for name, windows in self._windows.items()
        }
        self._windows = {name: windows for name, windows in kept.items() if windows}
