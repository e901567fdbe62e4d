"""Decision: may the old version of a client's secret be revoked now?

Yes only where it is shown that no token of it can be accepted any more and that nobody uses it.

A token that is not in the cache may live. It is dead for certain once the longest life a token can
have is over since the last one could be minted, or where looks at the cache in an unbroken row show
that nothing was lost from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from monitoring.certainty import UNKNOWN, YES, Basis, Coverage, Doubt, affirm
from monitoring.credentials.ages import cache_is_old
from monitoring.credentials.facts import (
    CACHE,
    NOT_CONFIGURED,
    ROTATIONS,
    SKEW,
    VAULT,
    CredentialFacts,
    ProofFacts,
    RotationFacts,
    TokenFacts,
    version_number,
)
from monitoring.credentials.old_tokens import EAPI_CACHE, EAPI_EARLY
from monitoring.credentials.rotation_states import refused_since, troubles
from monitoring.model import ExitStatus
from monitoring.text import counted, iso_seconds, safe_id, say

#: The sources without which the answer is not yes: name -> what it would have told.
NEEDED = {
    ROTATIONS: "in which state the rotation is",
    CACHE: "which tokens of the old secret still live",
    VAULT: "which version is the present one",
}
#: Seconds a client must have been watched before "nobody was seen to use it" says anything.
WATCHED_LEAST = EAPI_CACHE
#: Waiting for longer than this is no advice.
_LONGEST_WAIT = 366 * 86400.0


NO = "no"


@dataclass(frozen=True)
class RevocationAnswer:
    """`yes` True, False, or None when it cannot be told. `reasons` for it, worst first;
    `maybe_old` tokens beside the `old_tokens` cannot be told apart from them; `until` is when the
    last of both dies (epoch seconds, None: none lives or not known). `again` is when to ask again,
    at the earliest (None: nothing says when); `waiting` False: waiting alone is not enough. `word`
    is the answer in one word: yes, no or unknown."""

    client: str
    yes: Optional[bool]
    reasons: tuple[str, ...]
    unknowns: tuple[str, ...] = ()
    old_version: str = ""
    last_sighting: Optional[float] = None
    old_tokens: Optional[int] = None
    maybe_old: int = 0
    until: Optional[float] = None
    again: Optional[float] = None
    waiting: bool = False
    word: str = UNKNOWN

    @property
    def exit_status(self) -> ExitStatus:
        if self.yes is None:
            return ExitStatus.UNKNOWN
        return ExitStatus.OK if self.yes else ExitStatus.CRITICAL


class Block(NamedTuple):
    """One thing between us and a yes, and when it is over by itself (None: waiting alone does not
    end it, or nobody knows when)."""

    why: str
    until: Optional[float] = None
    reason: str = "not_read"


def can_revoke(facts: CredentialFacts, now: float) -> RevocationAnswer:
    """No while anything speaks against it, else yes where nothing is in doubt and enough was
    looked at, else cannot tell."""
    against = list(_objections(facts, now))
    doubted, short = list(_doubts(facts, now)), list(_shortfalls(facts, now))
    doubts = tuple(Doubt(block.reason, block.why) for block in doubted)
    said = affirm(YES, Basis(_coverage(facts, [block.why for block in short]), doubts))
    verdict = False if against else (True if said.good else None)
    rotation, tokens = facts.rotation, facts.tokens
    reasons = tuple(block.why for block in against)
    again, waiting = _again([*against, *doubted, *short], now)
    return RevocationAnswer(
        facts.client,
        verdict,
        reasons or ((_why_yes(facts, now),) if verdict else ()),
        said.missing,
        old_version=(rotation.old_version or "") if rotation else "",
        last_sighting=facts.use.old_version_seen,
        old_tokens=tokens.old if tokens else None,
        maybe_old=tokens.near if tokens else 0,
        until=_last_dies(tokens) if tokens else None,
        again=again,
        waiting=waiting,
        word=NO if against else said.word,
    )


def unknown_client(client: str, unavailable: Mapping[str, str]) -> RevocationAnswer:
    """Of a client that no source knows: misspelt, or known to one that is unavailable."""
    reasons = [
        f"{name} is unavailable ({why})"
        for name, why in unavailable.items()
        if why != NOT_CONFIGURED
    ]
    return RevocationAnswer(
        client, None, (), ("no source that was read knows this client", *reasons)
    )


def _last_dies(tokens: TokenFacts) -> Optional[float]:
    near = tokens.near_until if tokens.near > 0 else None
    return max((at for at in (tokens.old_until, near) if at is not None), default=None)


def _again(blocks: Sequence[Block], now: float) -> tuple[Optional[float], bool]:
    """When to ask again, and whether waiting till then may be enough."""
    ends = [block.until for block in blocks]
    waits = [at for at in ends if at is not None and now < at < now + _LONGEST_WAIT]
    return max(waits, default=None), bool(blocks) and len(waits) == len(ends)


# -- what speaks against it


def _objections(facts: CredentialFacts, now: float) -> Iterator[Block]:
    yield from _alive(facts)
    yield from _state_objections(facts, now)
    yield from (Block(trouble.why) for trouble in troubles(facts, now))
    yield from _sightings(facts, now)


def _alive(facts: CredentialFacts) -> Iterator[Block]:
    tokens = facts.tokens
    if tokens is not None and tokens.old:
        many = counted(tokens.old, "token")
        why = f"{many} that may be of the old secret alive{_dies(tokens.old_until)}"
        yield Block(why, _dead(tokens.old_until))
    if tokens is not None and tokens.near > 0:
        many = counted(tokens.near, "token")
        them = "it" if tokens.near == 1 else "they"
        why = f"{many} so near the old secret's end that {them} may still be of it"
        yield Block(why + _dies(tokens.near_until), _dead(tokens.near_until))


def _dies(at: Optional[float]) -> str:
    return f"; the last dies at {iso_seconds(at)}" if at is not None and at < _FAR else ""


_FAR = 253402300800.0  # the year 10000, which no text of a time can show


def _dead(at: Optional[float]) -> Optional[float]:
    """When validators whose clocks differ from ours refuse a token that dies at `at`."""
    return None if at is None or math.isinf(at) else at + SKEW


def _sightings(facts: CredentialFacts, now: float) -> Iterator[Block]:
    """The old version in use after it should have ended."""
    rotation, seen, cached = facts.rotation, facts.use.old_version_seen, facts.cached
    ended = rotation.deprecated_by if rotation is not None else None
    if seen is not None and (ended is None or seen > ended):
        yield Block(f"the old version was used {say(now - seen)} ago")
    if cache_is_old(facts):
        why = "the cache still holds the old version, so it was used within 15 minutes"
        yield Block(why, now + EAPI_CACHE)
    elif cached is not None and cached.rotation_state == "dual_active":
        why = "EAPI has it cached that both versions log in, for 15 minutes at most"
        yield Block(why, now + EAPI_CACHE)
    elif cached is not None and cached.unreadable:
        why = "EAPI has cached a secret of it that we could not read: it may be the old version"
        yield Block(why)
    if refused_since(facts):
        why = "logins fail and none has succeeded since the old secret ended: it is in use"
        yield Block(why)


def _state_objections(facts: CredentialFacts, now: float) -> Iterator[Block]:
    rotation = facts.rotation
    if rotation is None:
        if ROTATIONS not in facts.unavailable:
            yield Block("no rotation is known: this would revoke the only secret the client has")
        return
    said = {
        "initiated": "the new version is not in use yet: this would lock the client out",
        "dual_active": "both versions are accepted: wait until the old one is deprecated",
        "failed": "the rotation failed: the old version may be the only one that works",
        "old_deprecated": "",
        "new_active": "",
    }.get(rotation.state, f"it is not known here what state {safe_id(rotation.state)!r} allows")
    if not said and rotation.success is False:
        said = "the rotation did not succeed, by its own word: the old version may be needed"
    if said:
        yield Block(said, _planned(rotation, facts.tokens, now))


def _planned(rotation: RotationFacts, tokens: Optional[TokenFacts], now: float) -> Optional[float]:
    """When the last token of the old secret is dead, should the rotation end as planned."""
    began, lasts = rotation.started_at, rotation.transition
    if not rotation.running or began is None or lasts is None or began + lasts <= now:
        return None
    return all_dead_at(began + lasts, (tokens.proof if tokens else ProofFacts()).longest)


# -- what is not known


def _doubts(facts: CredentialFacts, now: float) -> Iterator[Block]:
    """Facts that may be other than they read."""
    apart = abs(facts.clock) if facts.clock is not None else 0.0
    if apart > SKEW:
        why = f"clocks are {say(apart)} apart, ours and the rotation service's: which tokens live?"
        yield Block(why, reason="two_readings")
    rotation = facts.rotation
    named = (rotation.old_version, rotation.new_version) if rotation is not None else ()
    odd = [safe_id(name or "(none)") for name in named if version_number(name) is None]
    if odd:
        why = f"{' and '.join(odd)} cannot be held against the vault's numbers"
        yield Block(why, reason="unknown_word")
    if facts.tokens is not None:
        yield from _token_doubts(facts.tokens, now)


def _token_doubts(tokens: TokenFacts, now: float) -> Iterator[Block]:
    yield from (Block(doubt.sentence, reason=doubt.reason) for doubt in tokens.doubts)
    if tokens.unreadable:
        many = counted(tokens.unreadable, "value")
        yield Block(f"{many} under token keys could not be read: maybe old tokens")
    if tokens.unowned:
        many, until = counted(tokens.unowned, "live token"), tokens.unowned_until
        why = f"{many} of no known client or with another's id: maybe old ones{_dies(until)}"
        yield Block(why, _dead(until), "no_owner")
    if tokens.old is None:
        yield Block("when the old secret ended, so no token can be called old")
    if not tokens.any_live:
        yield Block(_NOTHING_LIVES)
    dead = _dead(tokens.proof.counted_until)
    if tokens.proof.counted_until is not None and (dead is None or dead > now):
        why = "a token of the old secret that was counted lives on, in the cache or not"
        yield Block(why + _dies(tokens.proof.counted_until), dead, "may_be_lost")


_NOTHING_LIVES = (
    "the cache shows no live token of any client: have one log in, to see that we look where "
    "tokens are and with the right clock"
)


def _shortfalls(facts: CredentialFacts, now: float) -> Iterator[Block]:
    """What was not looked at, or not for long enough."""
    for name, what in NEEDED.items():
        if name in facts.unavailable:
            yield Block(
                f"{name} is unavailable ({facts.unavailable[name]}), so nobody knows {what}"
            )
    for name, why in facts.unavailable.items():
        if name not in NEEDED and why != NOT_CONFIGURED:
            yield Block(f"{name} ({why}) might know more")
    yield from _not_watched(facts, now)
    if facts.tokens is None and CACHE not in facts.unavailable:
        yield Block("the live tokens were not counted")
    if facts.tokens is not None and not facts.tokens.complete:
        yield Block("the scan of the cache ended early: old tokens may have been missed")
    yield from _not_proven(facts, now)


def _not_watched(facts: CredentialFacts, now: float) -> Iterator[Block]:
    """Whether this monitor could have seen the old version in use."""
    if facts.ledger is None:
        yield Block("this monitor has not seen the present version in the vault")
        return
    since = facts.ledger.watched_since
    if now - since < WATCHED_LEAST:
        watched = say(max(0.0, now - since))
        yield Block(f"logins were watched for {watched} only", since + WATCHED_LEAST)


def _not_proven(facts: CredentialFacts, now: float) -> Iterator[Block]:
    """Whether a token of the old secret may live outside the cache."""
    rotation, tokens = facts.rotation, facts.tokens
    ended = rotation.deprecated_by if rotation is not None else None
    if tokens is None or rotation is None:
        return
    if ended is None:
        yield Block("when the old secret ended, so nobody knows how long its tokens live")
        return
    dead = all_dead_at(ended, tokens.proof.longest)
    if now >= dead or _nothing_lost(tokens.proof, now):
        return
    longest, proof = tokens.proof.longest, tokens.proof
    lives = "for ever" if math.isinf(longest) else f"for {say(longest)}"
    since = proof.intact_since
    looked = (
        "it cannot be told whether the cache lost any"
        if since is None
        else (f"the cache may have lost some before {iso_seconds(since)}")
    )
    why = f"the old secret ended {say(now - ended)} ago, and a token of it may live {lives}; "
    yield Block(f"{why}{looked} ({proof.broken})", None if math.isinf(dead) else dead)


def all_dead_at(ended: float, longest: float) -> float:
    """When every token of a secret is dead that logged in until `ended`, whatever the cache shows:
    EAPI goes on with what it has cached, then the last token lives as long as any may."""
    return ended + EAPI_CACHE + longest + SKEW


def _nothing_lost(proof: ProofFacts, now: float) -> bool:
    """Looks in an unbroken row show none since the last could be minted; what left the cache
    before its end, as EAPI's tokens do, is dead too by now."""
    if proof.clear_since is None or proof.intact_since is None:
        return False
    whole = proof.intact_since <= proof.clear_since - proof.longest - SKEW
    return whole and now >= proof.clear_since + EAPI_EARLY + SKEW


def _coverage(facts: CredentialFacts, short: Sequence[str]) -> tuple[Coverage, ...]:
    """One row for each thing that is to be looked at; those that are missing say why."""
    looked = [Coverage(name, 1.0, 1.0) for name in NEEDED if name not in facts.unavailable]
    return (*looked, *(Coverage(why, 0.0, 1.0, sentence=why) for why in short))


def _why_yes(facts: CredentialFacts, now: float) -> str:
    seen = facts.use.old_version_seen
    last = f"last seen {say(now - seen)} ago" if seen is not None else "never seen by this monitor"
    return f"no token of the old secret lives and the old version is no longer used ({last})"
