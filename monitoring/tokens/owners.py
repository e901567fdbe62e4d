"""Decision: whose token it is, where its claims can be read in more than one way.

Tokens are gathered by every reading of their owner; who owns them is only decided when it is known
which clients there are. What stands for no client is no text, so that no client's name can be
taken for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set as AbstractSet
from enum import Enum
from typing import Optional, Union

from monitoring.tokens.clients import ClientLedger
from monitoring.tokens.codecs.facts import Decoded
from monitoring.tokens.codecs.records import bare_client

READINGS_OF_A_CLIENT = 200
SAMPLED = 1000
FOLDED_KEPT = 200_000


class Nobody(Enum):
    """`NAMELESS`: tokens that name no client. `REST`: those of all clients beyond the ones that
    are told apart."""

    NAMELESS = "nameless"
    REST = "rest"


Owner = Union[str, Nobody]
#: A client, or several of which one is it, the likeliest first. `REST` in second place: others of
#: which too many were seen to keep them apart (a claim that names users).
Reading = Union[Owner, tuple[Owner, ...]]
Known = Optional[AbstractSet[str]]


def reading_of(token: Decoded) -> Reading:
    """Whose the token may be."""
    if token.unsure is not None and token.unsure.owners:
        return tuple(bare_client(client) for _claim, client in token.unsure.owners)
    return bare_client(token.client) if token.client else Nobody.NAMELESS


def owner_of(reading: Reading, known: Known) -> Owner:
    """The first of a reading that is a known client; the first, where none is."""
    if not isinstance(reading, tuple):
        return reading
    return next((each for each in reading if known and each in known), reading[0])


class Readings:
    """Keeps the number of readings bounded: of one client with ever other seconds, only the
    first `READINGS_OF_A_CLIENT` are told apart."""

    def __init__(self) -> None:
        self._of_first: dict[Owner, int] = {}
        self._folded: set[int] = set()

    def bounded(self, reading: tuple[Owner, ...], new: bool) -> Reading:
        first = reading[0]
        count = self._of_first.get(first, 0)
        if not new:
            return reading
        if count < READINGS_OF_A_CLIENT:
            self._of_first[first] = count + 1
            return reading
        if len(self._folded) < FOLDED_KEPT:
            self._folded.update(map(hash, reading[1:]))
        else:
            self._folded.add(_MANY)
        return (first, Nobody.REST)

    def may_be(self, reading: Reading, client: str, known: AbstractSet[str]) -> bool:
        """Whether tokens of a reading that has another owner may be the client's: their owner is
        nobody that is known, or the client stands in another of their claims."""
        owner = owner_of(reading, known)
        if owner == client:
            return False
        if owner not in known:
            return True
        if not isinstance(reading, tuple):
            return False
        folded = Nobody.REST in reading and not self._folded.isdisjoint({hash(client), _MANY})
        return client in reading or folded


class Claims:
    """A sample of tokens, one for each of the first readings, to see whether another claim than
    those that are looked at names a known client."""

    def __init__(self) -> None:
        # What stands in it by claim, those claims first that may name the client.
        self._samples: dict[Reading, Sequence[tuple[str, str]]] = {}

    @property
    def wanted(self) -> bool:
        """Whether the sample is not full."""
        return len(self._samples) < SAMPLED

    def note(self, token: Decoded, texts: Mapping[str, str]) -> None:
        if self.wanted:
            owners = token.unsure.owners if token.unsure is not None else ()
            self._samples[reading_of(token)] = (*owners, *texts.items())

    def better(self, known: AbstractSet[str]) -> Mapping[str, int]:
        """Claims that name a known client where the one used names none, and in how many of the
        clients that were sampled."""
        found: Counter[str] = Counter()
        for reading, claims in self._samples.items():
            used = reading[0] if isinstance(reading, tuple) else reading
            if used not in known:
                found.update([name for name, text in claims if bare_client(text) in known][:1])
        return found


class Shares:
    """Whose the tokens of every reading are. `of`: an owner's readings. `strange`: those of owners
    that are no known clients; `naming`: those of a known one in which another name stands too, by
    that; `folded`: those of too many names to tell them apart."""

    def __init__(self, readings: Collection[Reading], known: Known) -> None:
        self.size = len(readings)
        self.of: dict[Owner, list[Reading]] = {}
        self.strange: list[Reading] = []
        self.naming: dict[Owner, list[Reading]] = {}
        self.folded: list[Reading] = []
        for reading in readings:
            owner = owner_of(reading, known)
            self.of.setdefault(owner, []).append(reading)
            if known is not None and owner not in known:
                self.strange.append(reading)
            elif isinstance(reading, tuple):
                self._note(reading, owner)

    def _note(self, reading: tuple[Owner, ...], owner: Owner) -> None:
        if Nobody.REST in reading:
            self.folded.append(reading)
            return
        for name in dict.fromkeys(reading):
            if name != owner:
                self.naming.setdefault(name, []).append(reading)


_MANY = -1  # no hash of a text: Python keeps it for errors


def by_owner(ledgers: Mapping[Reading, ClientLedger], known: Known) -> dict[Owner, ClientLedger]:
    """The ledgers of each owner as one; those without a token in the count left out."""
    found: dict[Owner, list[ClientLedger]] = {}
    for reading, ledger in ledgers.items():
        if ledger.tally.tokens:
            found.setdefault(owner_of(reading, known), []).append(ledger)
    return {
        owner: some[0] if len(some) == 1 else ClientLedger.joined(some)
        for owner, some in found.items()
    }
