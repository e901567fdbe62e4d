"""Decision: how old a secret is, from the best source that speaks of the present version.

Conjur keeps no creation time per version (docs/protocols.md), so: rotation service, then the
cached credential, then `expires_at` minus the rotator's ttl, then our own
ledger, then a date in the configuration; of what was here before us the ledger knows a minimum.
A source that speaks of another version than the present one is not about this secret.
"""

from __future__ import annotations

from typing import Callable, Optional

from monitoring.credentials.facts import (
    BROKEN,
    SKEW,
    Age,
    CredentialFacts,
    LedgerFacts,
    RotationFacts,
    version_number,
)

UNKNOWN = Age(None, "unknown")
#: States in which the new version exists in the vault and nobody may log in with it.
UNBORN = ("initiated", "failed")


def age_of(facts: CredentialFacts) -> Age:
    """The age by the first source that knows and can be right; `Age(None, "unknown")` when none
    does."""
    for source in _SOURCES:
        age = source(facts)
        if age is not None and _can_be(age.since, facts.ledger):
            return age
    return UNKNOWN


def _can_be(since: Optional[float], ledger: Optional[LedgerFacts]) -> bool:
    """It came before we saw it (a rotator's ttl that was shortened says otherwise), and not before
    a look at which it was not there (a record that is older than the secret in it does)."""
    if since is None or ledger is None:
        return True
    late = since > ledger.first_seen + SKEW
    early = not ledger.is_minimum and since < ledger.watched_since - SKEW
    return not (late or early)


def current_version(facts: CredentialFacts) -> Optional[int]:
    """The version clients should use now: the highest that any source has seen, unless a rotation
    stands at the one before it."""
    vault, cached, rotation = facts.vault, facts.cached, facts.rotation
    seen = [vault.version if vault else None, version_number(cached.version) if cached else None]
    if rotation is not None:
        old, new = version_number(rotation.old_version), version_number(rotation.new_version)
        beyond = [v for v in seen if v is not None and new is not None and v > new]
        if rotation.state in UNBORN and old is not None and not beyond:
            return old
        seen.append(old if rotation.state in UNBORN else new)
    return max((v for v in seen if v is not None), default=None)


def superseded(facts: CredentialFacts) -> bool:
    """The rotation last heard of failed, and a version beyond the one it was about has come since:
    somebody wrote it by hand, so the failure is history."""
    rotation = facts.rotation
    if rotation is None or not (rotation.state == "failed" or rotation.status in BROKEN):
        return False
    new, present = version_number(rotation.new_version), current_version(facts)
    return new is not None and present is not None and present > new


def cache_is_old(facts: CredentialFacts) -> bool:
    """EAPI loaded the replaced version lately: somebody used it."""
    number = version_number(facts.cached.version) if facts.cached else None
    present = current_version(facts)
    return number is not None and present is not None and number < present


def _is_present(facts: CredentialFacts, version: Optional[int]) -> bool:
    present = current_version(facts)
    return version is None or present is None or version == present


def _from_rotation(facts: CredentialFacts) -> Optional[Age]:
    rotation = facts.rotation
    if rotation is None:
        return None
    if rotation.state in UNBORN:
        return _before(facts, rotation)
    if not _is_present(facts, version_number(rotation.new_version)):
        return None  # somebody wrote a newer version by hand
    # The rotation begins by writing the new secret, so that is when it was born.
    born = rotation.started_at if rotation.started_at is not None else rotation.completed_at
    return None if born is None else Age(born, "rotation_service")


def _before(facts: CredentialFacts, rotation: RotationFacts) -> Optional[Age]:
    """The old version is still the present one; the rotation before this one brought it."""
    if rotation.old_since is None or not _is_present(facts, version_number(rotation.old_version)):
        return None
    return Age(rotation.old_since, "rotation_service")


def _from_cache(facts: CredentialFacts) -> Optional[Age]:
    cached = facts.cached
    if cached is None or cached.created_at is None:
        return None
    if not _is_present(facts, version_number(cached.version)):
        return None  # the cache still holds the credential from before a rotation
    return Age(cached.created_at, "cache")


def _from_expiry(facts: CredentialFacts) -> Optional[Age]:
    vault = facts.vault
    if vault is None or vault.expires_at is None or vault.rotator_ttl is None:
        return None
    if failing_rotator(facts) or not _is_present(facts, vault.version):
        return None  # the rotator moves expires_at on every failure: it tells no age
    return Age(vault.expires_at - vault.rotator_ttl, "vault_expiry")


def _from_ledger(facts: CredentialFacts) -> Optional[Age]:
    ledger = facts.ledger
    if ledger is None:
        return None
    if ledger.born is not None and _can_be(ledger.born, ledger):
        return Age(ledger.born, ledger.born_source)
    return None if ledger.is_minimum else Age(ledger.first_seen, "ledger")


def _from_configuration(facts: CredentialFacts) -> Optional[Age]:
    """The date that the operator looked up, unless the version came after it."""
    since, ledger = facts.rotated_at, facts.ledger
    came_later = (
        since is not None
        and ledger is not None
        and ledger.watched_since < ledger.first_seen
        and since < ledger.watched_since - SKEW
    )
    return None if since is None or came_later else Age(since, "configuration")


def _at_least(facts: CredentialFacts) -> Optional[Age]:
    """It was here when we first looked, or came while nobody looked."""
    ledger = facts.ledger
    if ledger is None:
        return None
    came_after = [ledger.watched_since] if ledger.watched_since < ledger.first_seen else []
    if facts.vault is not None and facts.vault.created_at is not None:
        came_after.append(min(facts.vault.created_at, ledger.first_seen))
    oldest = max(came_after, default=None)
    return Age(ledger.first_seen, "ledger", at_least=True, oldest=oldest)


def failing_rotator(facts: CredentialFacts) -> bool:
    """All versions share one `expires_at`, or it moves while the version stays: Conjur's rotator
    fails and sets it to now on each try (`master_rotator.rb`: 2/5 of the ttl is integer 0)."""
    vault = facts.vault
    if vault is None or not vault.has_rotator:
        return False
    shared = len(vault.expiries) > 1 and None not in vault.expiries
    return vault.moving or (shared and len(set(vault.expiries)) == 1)


_SOURCES: tuple[Callable[[CredentialFacts], Optional[Age]], ...] = (
    _from_rotation,
    _from_cache,
    _from_expiry,
    _from_ledger,
    _from_configuration,
    _at_least,
)
