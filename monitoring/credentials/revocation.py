"""Decision: may the old version of a client's secret be revoked now? Yes only when everything that
could speak against it was looked at and is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from monitoring.credentials.ages import current_version
from monitoring.credentials.facts import CACHE, ROTATIONS, VAULT, CredentialFacts, version_number
from monitoring.credentials.rotation_states import counted, refused_since
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


#: Seconds a client must have been watched before "nobody was seen to use it" says anything: the
#: time for which EAPI goes on using a cached credential.
WATCHED_LEAST = 900.0


@dataclass(frozen=True)
class Answer:
    """`yes` True, False, or None when it cannot be told. `reasons` for it, worst first; `until`
    is when the last old token dies (epoch seconds, None: none lives or not known)."""

    client: str
    yes: Optional[bool]
    reasons: tuple[str, ...]
    unknowns: tuple[str, ...] = ()
    old_version: str = ""
    last_sighting: Optional[float] = None
    old_tokens: Optional[int] = None
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
        until=tokens.old_until if tokens else None,
    )


def _objections(facts: CredentialFacts, now: float) -> list[str]:
    return [*_alive(facts), *_state_objections(facts), *_sightings(facts, now)]


def _alive(facts: CredentialFacts) -> list[str]:
    tokens = facts.tokens
    if tokens is None or not tokens.old:
        return []
    last = f"; the last dies at {iso_seconds(tokens.old_until)}" if tokens.old_until else ""
    return [f"{counted(tokens.old, 'token')} that may be of the old secret alive{last}"]


def _sightings(facts: CredentialFacts, now: float) -> list[str]:
    """The old version in use after it should have ended."""
    found = []
    rotation, seen = facts.rotation, facts.use.old_version_seen
    ended = rotation.deprecated_by if rotation is not None else None
    if seen is not None and (ended is None or seen > ended):
        found.append(f"the old version was used {say(now - seen)} ago")
    cached = version_number(facts.cached.version) if facts.cached else None
    present = current_version(facts)
    if cached is not None and present is not None and cached < present:
        found.append("the cache still holds the old version, so it was used within 15 minutes")
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
    if not said and rotation.old_version == rotation.new_version:
        said = "the rotation names one version as old and new"
    return [said] if said else []


def _unknowns(facts: CredentialFacts, now: float) -> list[str]:
    unknown = [
        f"{name} is dark ({facts.dark[name]}), so nobody knows {what}"
        for name, what in NEEDED.items()
        if name in facts.dark
    ]
    unknown += [f"{name} ({why}) might know more" for name, why in _others(facts)]
    if facts.ledger is not None and now - facts.ledger.watched_since < WATCHED_LEAST:
        watched = say(max(0.0, now - facts.ledger.watched_since))
        unknown.append(f"logins were watched for {watched} only: ask again in {say(WATCHED_LEAST)}")
    return unknown + _token_unknowns(facts)


def _others(facts: CredentialFacts) -> list[tuple[str, str]]:
    """Sources that are there, could not be read, and might have seen the old version in use."""
    return [(n, w) for n, w in facts.dark.items() if n not in NEEDED and w != NOT_CONFIGURED]


def _token_unknowns(facts: CredentialFacts) -> list[str]:
    tokens = facts.tokens
    if tokens is None:
        return [] if CACHE in facts.dark else ["the live tokens were not counted"]
    unknown = []
    if not tokens.complete:
        unknown.append("the scan of the cache ended early, so old tokens may have been missed")
    if tokens.unreadable:
        what = counted(tokens.unreadable, "value")
        unknown.append(f"{what} under token keys could not be read: old tokens may be among them")
    if tokens.old is None:
        unknown.append("it is not known when the old secret ended, so no token can be called old")
    return unknown


def _why_yes(facts: CredentialFacts, now: float) -> str:
    seen = facts.use.old_version_seen
    last = f"last seen {say(now - seen)} ago" if seen is not None else "never seen by this monitor"
    return f"no token of the old secret lives and the old version is no longer used ({last})"
