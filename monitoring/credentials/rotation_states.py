"""Decision: in which state a client's rotation is, for how long, and what is left of the old
version."""

from __future__ import annotations

from typing import Optional

from monitoring.alerting.amounts import counted
from monitoring.credentials.ages import UNBORN, cache_is_old, superseded
from monitoring.credentials.facts import (
    IN_ROTATION,
    ROTATIONS,
    STATES,
    CredentialFacts,
    Policy,
    RotationFacts,
)
from monitoring.timestamps import iso_seconds

#: States of a rotation in the order in which they are passed; each may last one transition.
STEP_SECONDS = 120.0  # what the service may need to go from one to the next
_PASSED = {"initiated": 0, "dual_active": 0, "old_deprecated": 1}


def state_of(facts: CredentialFacts) -> str:
    """One of credential_facts.STATES. A disabled credential is disabled whatever else is said;
    otherwise the rotation service outranks the cache, which outranks the older layout."""
    cached, legacy = facts.cached, facts.legacy
    if cached is not None and cached.active is False:
        return "disabled"
    if facts.rotation is not None and not superseded(facts):
        return _known({"new_active": "active"}.get(facts.rotation.state, facts.rotation.state))
    if cached is not None and cached.active is not None:
        return _known(cached.rotation_state or "active")
    if legacy is not None and legacy.status:
        words = {"rotating": "dual_active", "completed": "active"}
        return _known(words.get(legacy.status, legacy.status))
    if facts.vault is not None and ROTATIONS not in facts.dark:
        return "active" if facts.vault.version is not None else "unknown"
    return "unknown"


def _known(state: str) -> str:
    return state if state in STATES else "unknown"


def dwell_of(facts: CredentialFacts, policy: Policy, now: float) -> Optional[float]:
    """Seconds the rotation has been in its state, at least. None when none is running or there is
    no time to count from."""
    since = _entered(facts, policy)
    return None if since is None else max(0.0, now - since)


def _entered(facts: CredentialFacts, policy: Policy) -> Optional[float]:
    """When we saw the state change, else when it must have: at the start, plus one transition for
    each state before it. Without the rotation service, as the cache or the older layout says."""
    rotation, cached, legacy = facts.rotation, facts.cached, facts.legacy
    if rotation is not None:
        return _entered_by(rotation, policy) if rotation.running else None
    if cached is not None and cached.rotation_state in IN_ROTATION:
        return cached.updated_at
    if legacy is not None and legacy.status == "rotating":
        return legacy.last_rotation
    return None


def _entered_by(rotation: RotationFacts, policy: Policy) -> Optional[float]:
    if rotation.entered_at is not None:
        return rotation.entered_at
    return planned_entry(rotation, rotation.transition or policy.transition)


def planned_entry(rotation: RotationFacts, transition: float) -> Optional[float]:
    """When a running rotation must have entered its state, were it on time."""
    if rotation.started_at is None or rotation.state == "initiated":
        return rotation.started_at
    return rotation.started_at + _PASSED[rotation.state] * transition + STEP_SECONDS


def half_done(facts: CredentialFacts) -> str:
    """Why a rotation is not finished yet, or "" when nothing of the old version is left."""
    rotation, parts = facts.rotation, []
    if rotation is not None and rotation.state in UNBORN:
        return ""  # the old version is the one to use
    if _seen_in_use(facts):
        parts.append("the old version is still used")
    elif refused_since(facts):
        parts.append("logins fail and none has succeeded since the old secret ended")
    if facts.tokens is not None and facts.tokens.old:
        until = facts.tokens.old_until
        last = f" until {iso_seconds(until)}" if until is not None else ""
        parts.append(f"{counted(facts.tokens.old, 'token')} of the old secret alive{last}")
    return " and ".join(parts)


def _seen_in_use(facts: CredentialFacts) -> bool:
    return facts.use.old_version_seen is not None or cache_is_old(facts)


def old_in_use(facts: CredentialFacts) -> bool:
    """Somebody comes with the old secret, whether or not it still logs in."""
    return _seen_in_use(facts) or refused_since(facts)


def refused_since(facts: CredentialFacts) -> bool:
    """The client goes on with its old secret: it is refused, and has not come with the new one."""
    ended = facts.rotation.deprecated_by if facts.rotation is not None else None
    use = facts.use
    if ended is None or use.last_failed is None or use.last_failed <= ended:
        return False
    return use.last_used is None or use.last_used < ended
