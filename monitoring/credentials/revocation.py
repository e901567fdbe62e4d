"""Decision: may the old version of a client's secret be revoked now? Yes only when everything that
could speak against it was looked at and is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

from monitoring.alerting.amounts import counted
from monitoring.credentials.ages import cache_is_old
from monitoring.credentials.facts import (
    CACHE,
    ROTATIONS,
    SKEW,
    VAULT,
    CredentialFacts,
    TokenFacts,
    version_number,
)
from monitoring.credentials.old_tokens import EAPI_CACHE
from monitoring.credentials.rotation_states import refused_since
from monitoring.durations import say
from monitoring.model import ExitStatus
from monitoring.redact import safe_id
from monitoring.timestamps import iso_seconds

#: The sources without which the answer is not yes: name -> what it would have told.
NOT_CONFIGURED = "not configured"
NEEDED = {
    ROTATIONS: "in which state the rotation is",
    CACHE: "which tokens of the old secret still live",
    VAULT: "which version is the present one",
}


#: Seconds a client must have been watched before "nobody was seen to use it" says anything.
WATCHED_LEAST = EAPI_CACHE


@dataclass(frozen=True)
class Answer:
    """`yes` True, False, or None when it cannot be told. `reasons` for it, worst first;
    `maybe_old` tokens beside the `old_tokens` cannot be told apart from them; `until` is when the
    last of both dies (epoch seconds, None: none lives or not known)."""

    client: str
    yes: Optional[bool]
    reasons: tuple[str, ...]
    unknowns: tuple[str, ...] = ()
    old_version: str = ""
    last_sighting: Optional[float] = None
    old_tokens: Optional[int] = None
    maybe_old: int = 0
    until: Optional[float] = None

    @property
    def exit_status(self) -> ExitStatus:
        if self.yes is None:
            return ExitStatus.UNKNOWN
        return ExitStatus.OK if self.yes else ExitStatus.CRITICAL


def can_revoke(facts: CredentialFacts, now: float) -> Answer:
    """No while anything speaks against it, cannot tell while a needed source is dark, else yes."""
    against, unknown = _objections(facts, now), _unknowns(facts, now)
    verdict = False if against else (None if unknown else True)
    rotation, tokens = facts.rotation, facts.tokens
    reasons = tuple(against) or (() if unknown else (_why_yes(facts, now),))
    return Answer(
        facts.client,
        verdict,
        reasons,
        tuple(unknown),
        old_version=(rotation.old_version or "") if rotation else "",
        last_sighting=facts.use.old_version_seen,
        old_tokens=tokens.old if tokens else None,
        maybe_old=tokens.near if tokens else 0,
        until=_last_dies(tokens) if tokens else None,
    )


def unheard_of(client: str, dark: Mapping[str, str]) -> Answer:
    """Of a client that no source knows: misspelt, or known to one that is dark."""
    reasons = [f"{name} is dark ({why})" for name, why in dark.items() if why != NOT_CONFIGURED]
    return Answer(client, None, (), ("no source that was read knows this client", *reasons))


def _last_dies(tokens: TokenFacts) -> Optional[float]:
    near = tokens.near_until if tokens.near > 0 else None
    return max((at for at in (tokens.old_until, near) if at is not None), default=None)


def _objections(facts: CredentialFacts, now: float) -> list[str]:
    return [*_alive(facts), *_state_objections(facts), *_lockouts(facts), *_sightings(facts, now)]


def _alive(facts: CredentialFacts) -> list[str]:
    tokens, found = facts.tokens, []
    if tokens is not None and tokens.old:
        last = f"; the last dies at {iso_seconds(tokens.old_until)}" if tokens.old_until else ""
        many = counted(tokens.old, "token")
        found.append(f"{many} that may be of the old secret alive{last}")
    if tokens is not None and tokens.near > 0:
        last = f"; the last dies at {iso_seconds(tokens.near_until)}" if tokens.near_until else ""
        many = counted(tokens.near, "token")
        found.append(f"{many} so near the old secret's end that they may still be of it{last}")
    return found


def _sightings(facts: CredentialFacts, now: float) -> list[str]:
    """The old version in use after it should have ended."""
    found = []
    rotation, seen, cached = facts.rotation, facts.use.old_version_seen, facts.cached
    ended = rotation.deprecated_by if rotation is not None else None
    if seen is not None and (ended is None or seen > ended):
        found.append(f"the old version was used {say(now - seen)} ago")
    if cache_is_old(facts):
        found.append("the cache still holds the old version, so it was used within 15 minutes")
    elif cached is not None and cached.rotation_state == "dual_active":
        found.append("EAPI has it cached that both versions log in, for 15 minutes at most")
    if refused_since(facts):
        found.append("logins fail and none has succeeded since the old secret ended: it is in use")
    return found


def _state_objections(facts: CredentialFacts) -> list[str]:
    rotation = facts.rotation
    if rotation is None:
        none = "no rotation is known: this would revoke the only secret the client has"
        return [] if ROTATIONS in facts.dark else [none]
    said = {
        "initiated": "the new version is not in use yet: this would lock the client out",
        "dual_active": "both versions are accepted: wait until the old one is deprecated",
        "failed": "the rotation failed: the old version may be the only one that works",
        "old_deprecated": "",
        "new_active": "",
    }.get(rotation.state, f"it is not known here what state {safe_id(rotation.state)!r} allows")
    if not said and rotation.success is False:
        said = "the rotation did not succeed, by its own word: the old version may be needed"
    return [said] if said else []


def _lockouts(facts: CredentialFacts) -> list[str]:
    """Versions that contradict each other: the old one may be the only one there is."""
    rotation, vault = facts.rotation, facts.vault
    if rotation is None:
        return []
    if rotation.old_version == rotation.new_version:
        return ["the rotation names one version as old and new"]
    old, new = version_number(rotation.old_version), version_number(rotation.new_version)
    if old is not None and new is not None and old >= new:
        return ["the rotation's new version is not above its old one"]
    if vault is not None and VAULT not in facts.dark and vault.version is None:
        return ["the vault holds no version at all"]
    if vault is None or vault.version is None or new is None or vault.version >= new:
        return []
    return [f"the vault does not hold version {new} yet, its newest is {vault.version}"]


def _unknowns(facts: CredentialFacts, now: float) -> list[str]:
    unknown = [
        f"{name} is dark ({facts.dark[name]}), so nobody knows {what}"
        for name, what in NEEDED.items()
        if name in facts.dark
    ]
    unknown += [f"{name} ({why}) might know more" for name, why in _others(facts)]
    unknown += [*_not_watched(facts, now), *_odd_versions(facts), *_token_unknowns(facts)]
    return [*unknown, *_clocks(facts)]


def _clocks(facts: CredentialFacts) -> list[str]:
    apart = abs(facts.clock) if facts.clock is not None else 0.0
    if apart <= SKEW:
        return []
    return [f"clocks are {say(apart)} apart, ours and the rotation service's: which tokens live?"]


def _not_watched(facts: CredentialFacts, now: float) -> list[str]:
    """Whether this monitor could have seen the old version in use."""
    if facts.ledger is None:
        return ["this monitor has not seen the present version in the vault"]
    watched = max(0.0, now - facts.ledger.watched_since)
    if watched >= WATCHED_LEAST:
        return []
    again = say(WATCHED_LEAST - watched)
    return [f"logins were watched for {say(watched)} only: ask again in {again}"]


def _odd_versions(facts: CredentialFacts) -> list[str]:
    rotation = facts.rotation
    named = (rotation.old_version, rotation.new_version) if rotation is not None else ()
    odd = [safe_id(name or "(none)") for name in named if version_number(name) is None]
    return [f"{' and '.join(odd)} cannot be held against the vault's numbers"] if odd else []


def _others(facts: CredentialFacts) -> list[tuple[str, str]]:
    """Sources that are there, could not be read, and might have seen the old version in use."""
    return [(n, w) for n, w in facts.dark.items() if n not in NEEDED and w != NOT_CONFIGURED]


def _token_unknowns(facts: CredentialFacts) -> list[str]:
    tokens = facts.tokens
    if tokens is None:
        return [] if CACHE in facts.dark else ["the live tokens were not counted"]
    unreadable, unowned = counted(tokens.unreadable, "value"), counted(tokens.unowned, "live token")
    doubts = (
        (not tokens.complete, "the scan of the cache ended early: old tokens may have been missed"),
        (tokens.unreadable, f"{unreadable} under token keys could not be read: maybe old tokens"),
        (tokens.unowned, f"{unowned} without a client or with another's id: maybe old ones"),
        (tokens.old is None, "when the old secret ended, so no token can be called old"),
        (not tokens.any_live, _NOTHING_LIVES),
    )
    return [said for doubted, said in doubts if doubted]


_NOTHING_LIVES = (
    "the cache shows no live token of any client: have one log in, to see that we look where "
    "tokens are and with the right clock"
)


def _why_yes(facts: CredentialFacts, now: float) -> str:
    seen = facts.use.old_version_seen
    last = f"last seen {say(now - seen)} ago" if seen is not None else "never seen by this monitor"
    return f"no token of the old secret lives and the old version is no longer used ({last})"
