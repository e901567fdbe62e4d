"""Decision: in which state a client's rotation is, for how long, and what is left of the old
version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from monitoring.credentials.ages import UNBORN, cache_is_old, superseded
from monitoring.credentials.facts import (
    BROKEN,
    GOING,
    IN_ROTATION,
    OVER,
    ROTATIONS,
    SKEW,
    STATES,
    VAULT,
    CredentialFacts,
    Policy,
    RotationFacts,
    version_number,
)
from monitoring.text import counted, iso_seconds, safe_id

#: States of a rotation in the order in which they are passed; each may last one transition.
STEP_SECONDS = 120.0  # what the service may need to go from one to the next
_PASSED = {"initiated": 0, "dual_active": 0, "old_deprecated": 1}


def state_of(facts: CredentialFacts) -> str:
    """One of `facts.STATES`. A disabled credential is disabled whatever else is said;
    otherwise the rotation service outranks the cache."""
    cached = facts.cached
    if cached is not None and cached.active is False:
        return "disabled"
    if facts.rotation is not None and not superseded(facts):
        return _known({"new_active": "active"}.get(facts.rotation.state, facts.rotation.state))
    if cached is not None and cached.active is not None:
        return _known(cached.rotation_state or "active")
    if facts.vault is not None and ROTATIONS not in facts.unavailable:
        return "active" if facts.vault.version is not None else "unknown"
    return "unknown"


def _known(state: str) -> str:
    return state if state in STATES else "unknown"


# -- what is wrong with a rotation, for --check-rotation and --can-revoke alike


class Trouble(NamedTuple):
    """Something wrong with a rotation. `surely`: it went wrong, and somebody must act; else what
    is said of it cannot all be true, so it is not known how it goes."""

    why: str
    surely: bool


def troubles(facts: CredentialFacts, now: float) -> tuple[Trouble, ...]:
    """Everything that speaks against the client's rotation, sure things first. A failure that a
    newer version has made history is none."""
    rotation = facts.rotation
    if rotation is None or superseded(facts):
        return ()
    found = [trouble for rule in _TROUBLES for trouble in rule(facts, rotation, now)]
    return tuple(sorted(found, key=lambda trouble: not trouble.surely))


def _brought_nothing(
    _facts: CredentialFacts, rotation: RotationFacts, _now: float
) -> Iterator[Trouble]:
    """It failed, or by its own word did not succeed. `success: false` beside a word that it goes
    on may be the false of a field that was not set yet: that is a contradiction."""
    unset = rotation.running and rotation.status in GOING
    if (
        rotation.state == "failed"
        or rotation.status in BROKEN
        or (rotation.success is False and not unset)
    ):
        reason = rotation.message or "the rotation service gives no reason"
        yield Trouble(f"the rotation failed: {reason}", surely=True)
    elif rotation.success is False:
        why = f"the rotation is {rotation.state} and its success is false: did it fail?"
        yield Trouble(why, surely=False)


def _not_in_vault(facts: CredentialFacts, rotation: RotationFacts, now: float) -> Iterator[Trouble]:
    """The vault must hold the new version once clients are told to use it."""
    vault, new = facts.vault, version_number(rotation.new_version)
    if vault is None or VAULT in facts.unavailable or rotation.state in UNBORN:
        return
    began = rotation.started_at
    just_now = began is not None and now - began <= STEP_SECONDS  # we read the vault before
    if vault.version is None:
        yield Trouble("the vault holds no version at all", not just_now)
    elif new is not None and vault.version < new:
        why = f"the vault does not hold version {new} yet, its newest is {vault.version}"
        yield Trouble(why, not just_now)


def _several(_facts: CredentialFacts, rotation: RotationFacts, _now: float) -> Iterator[Trouble]:
    if rotation.rivals:
        many = counted(rotation.rivals + 1, "rotation")
        yield Trouble(f"{many} of this client run at once: whose version will stay?", surely=False)
    if rotation.failed_since:
        why = f"it runs, and a later one failed: {rotation.failed_since}"
        yield Trouble(why, surely=False)


def _contradictions(
    _facts: CredentialFacts, rotation: RotationFacts, now: float
) -> Iterator[Trouble]:
    old, new = version_number(rotation.old_version), version_number(rotation.new_version)
    state, status, began = rotation.state, rotation.status, rotation.started_at
    ended = state not in IN_ROTATION
    claims = rotation.completed_at is not None or rotation.success is True
    done = status in OVER or (claims and status not in GOING)
    said = (
        (_one_version(rotation), "it names one version as old and new"),
        (
            old is not None and new is not None and old > new,
            "its new version is not above its old one",
        ),
        (done and not ended, f"it is {state}, and over by its own word"),
        (ended and status in GOING, f"it is {state}, and {status.lower()} by its own word"),
        (
            status not in ("", *GOING, *OVER, *BROKEN),
            f"it is not known here what status {safe_id(status)!r} means",
        ),
        (began is not None and began > now + SKEW, "it begins in the future"),
        (
            not ended and state not in UNBORN and new is None,
            f"whether the vault holds {_name_of(rotation.new_version)} cannot be told",
        ),
    )
    for wrong, why in said:
        if wrong:
            yield Trouble(f"the rotation cannot be judged: {why}", surely=False)


def _name_of(version: Optional[str]) -> str:
    if version is None:
        return "its new version, which has no name,"
    return f"its new version, called {safe_id(version)},"


def _one_version(rotation: RotationFacts) -> bool:
    """The same text, or two spellings of one number."""
    named, old = rotation.old_version, version_number(rotation.old_version)
    if named is not None and named == rotation.new_version:
        return True
    return old is not None and old == version_number(rotation.new_version)


_Rule = Callable[[CredentialFacts, RotationFacts, float], Iterator[Trouble]]
_TROUBLES: tuple[_Rule, ...] = (_brought_nothing, _not_in_vault, _several, _contradictions)


# -- for how long, and what is left


def whole_time_over(rotation: RotationFacts, policy: Policy, now: float) -> bool:
    """It still runs after all of its states could have lasted one transition each."""
    if rotation.started_at is None or not rotation.running:
        return False
    steps = max(_PASSED.values()) + 1
    lasts = steps * ((rotation.transition or policy.transition) + STEP_SECONDS)
    return now > rotation.started_at + lasts


def dwell_of(facts: CredentialFacts, policy: Policy, now: float) -> Optional[float]:
    """Seconds the rotation has been in its state, at least. None when none is running or there is
    no time to count from."""
    since = _entered(facts, policy)
    return None if since is None else max(0.0, now - since)


def _entered(facts: CredentialFacts, policy: Policy) -> Optional[float]:
    """When we saw the state change, else when it must have: at the start, plus one transition for
    each state before it. Without the rotation service, as the cache says."""
    rotation, cached = facts.rotation, facts.cached
    if rotation is not None:
        return _entered_by(rotation, policy) if rotation.running else None
    if cached is not None and cached.rotation_state in IN_ROTATION:
        return cached.updated_at
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
