"""Decision: is a client's rotation on track, and what should be done next.

Rules (docs/protocols.md): a secret is due `max_age` after it came; a rotation is stuck
when it stays in one state for longer than its transition period; it is half done while the old
version is still used or its tokens live; a new version nobody uses was never adopted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from monitoring.certainty import OK, ON_TRACK, Basis, Coverage, Doubt, affirm
from monitoring.credentials.ages import age_of, failing_rotator
from monitoring.credentials.facts import (
    CACHE,
    IN_ROTATION,
    NOT_ASKED,
    NOT_CONFIGURED,
    ROTATIONS,
    VAULT,
    Age,
    CredentialFacts,
    Policy,
)
from monitoring.credentials.rotation_states import (
    dwell_of,
    half_done,
    old_in_use,
    state_of,
    troubles,
    whole_time_over,
)
from monitoring.model import Severity
from monitoring.text import say

ROTATOR_GRACE = (
    120.0  # its loop runs every second; a minute or two late is stuck (docs/protocols.md)
)


@dataclass(frozen=True)
class RotationVerdict:
    """`verdict` is one of `facts.VERDICTS`; `why` what it rests on, `todo` the next step
    for the operator. `dwell` is how long the present rotation state has lasted at least."""

    state: str
    verdict: str
    severity: Severity
    why: str
    todo: str
    age: Age
    due_in: Optional[float] = None
    dwell: Optional[float] = None


SEVERITIES = {
    "failed": Severity.CRITICAL,
    "stuck": Severity.CRITICAL,
    "overdue": Severity.CRITICAL,
    "unused": Severity.WARNING,
    "due_soon": Severity.WARNING,
    "unknown": Severity.UNKNOWN,
    OK: Severity.OK,
}


def judge(facts: CredentialFacts, policy: Policy, now: float) -> RotationVerdict:
    """The worst thing that is true of the client's rotation, and what to do about it."""
    age = age_of(facts)
    due_in = _due_in(facts, age, policy, now)
    state, dwell = state_of(facts), dwell_of(facts, policy, now)
    case = _Case(facts, policy, now, state, age, due_in, dwell)
    verdict, why, todo = next(said for said in (rule(case) for rule in _RULES) if said)
    severity = SEVERITIES[verdict]
    return RotationVerdict(state, verdict, severity, why, todo, age, due_in, dwell)


def rotator_period(facts: CredentialFacts) -> Optional[float]:
    """Seconds between two rotations by the vault's own rotator; None: it has none."""
    vault = facts.vault
    return vault.rotator_ttl if vault is not None and vault.has_rotator else None


def _due_in(facts: CredentialFacts, age: Age, policy: Policy, now: float) -> Optional[float]:
    period = rotator_period(facts) or policy.max_age
    return None if age.since is None else age.since + period - now


@dataclass(frozen=True)
class _Case:
    facts: CredentialFacts
    policy: Policy
    now: float
    state: str
    age: Age
    due_in: Optional[float]
    dwell: Optional[float]

    @property
    def allowed(self) -> float:
        rotation = self.facts.rotation
        return (rotation.transition if rotation else None) or self.policy.transition

    @property
    def period(self) -> float:
        """Seconds after which the secret is due."""
        return rotator_period(self.facts) or self.policy.max_age

    @property
    def how_old(self) -> str:
        seconds = self.age.seconds(self.now) or 0.0
        return f"{'at least ' if self.age.at_least else ''}{say(seconds)} old"


_Said = Optional[tuple[str, str, str]]


#: Somebody decided that there is nothing to rotate, and that was read.
_SAID_SO = Basis((Coverage("decisions", 1, 1),))


def _disabled(case: _Case) -> _Said:
    if case.state != "disabled":
        return None
    said = affirm(OK, _SAID_SO)
    return (
        said.word,
        "the credential is disabled",
        "nothing; delete it when nobody asks for it back",
    )


def _excluded(case: _Case) -> _Said:
    if not case.policy.excluded:
        return None
    return affirm(OK, _SAID_SO).word, "excluded from rotation by the configuration", "nothing"


def _failed(case: _Case) -> _Said:
    wrong = troubles(case.facts, case.now)
    if any(trouble.surely for trouble in wrong):
        return "failed", "; ".join(trouble.why for trouble in wrong), _again(case)
    if failing_rotator(case.facts):
        why = "its expiry moves and no new version comes: Conjur's rotator fails on each try"
        return "failed", why, _MEND_ROTATOR
    return None


_MEND_ROTATOR = (
    "check that the rotator can reach the target and its account there; it logs nothing of a "
    "failure, and some stay until it is restarted"
)


def _again(case: _Case) -> str:
    rotation = case.facts.rotation
    old = rotation.old_version if rotation and rotation.old_version else "the old version"
    return f"mend the cause, check that {old} still logs in, start the rotation again"


def _stuck(case: _Case) -> _Said:
    long = _too_long(case)
    if not long or case.state not in IN_ROTATION:
        return None
    left = half_done(case.facts)
    wrong = [trouble.why for trouble in troubles(case.facts, case.now)]
    why = "; ".join([long, *wrong, *([f"half done: {left}"] if left else [])])
    return "stuck", why, _next_step(case, left)


def _too_long(case: _Case) -> str:
    """What lasts too long, "" where nothing does."""
    rotation, limit = case.facts.rotation, say(case.allowed)
    if case.dwell is not None and case.dwell > case.allowed:
        return f"{case.state} for {say(case.dwell)}, the limit is {limit}"
    if rotation is None or not whole_time_over(rotation, case.policy, case.now):
        return ""
    began = say(case.now - (rotation.started_at or case.now))
    return f"{case.state}, and it began {began} ago: each of its steps may last {limit}"


def _next_step(case: _Case, left: str) -> str:
    """What keeps a rotation in its state, by what is left of the old version."""
    if case.state == "initiated":
        return "look why the rotation service does not bring the new version into use"
    if old_in_use(case.facts):
        return "find who still uses the old secret and give them the new one, then let it go on"
    if case.state == "dual_active":
        return "ask the client whether it has its new secret, then let the rotation go on"
    if left:
        return "wait for the last old token or end its sessions, then finish the rotation"
    return "nothing of the old version is left: finish the rotation when --can-revoke says yes"


def _rotating(case: _Case) -> _Said:
    """A rotation on its way is never overdue, whatever the old secret's age."""
    if case.state not in IN_ROTATION:
        return None
    left = half_done(case.facts)
    lasted = f" for {say(case.dwell)}" if case.dwell is not None else ""
    why = f"{case.state}{lasted}" + (f"; half done: {left}" if left else "")
    track = affirm(ON_TRACK, _basis(case))
    if not track.good:
        return "unknown", f"{why}; {'; '.join(track.missing)}", _ASK_OWNER
    todo = "wait" if left else f"nothing; the rotation is {track.word}"
    return affirm(OK, _basis(case)).word, why, todo


_ASK_OWNER = "make the sources readable, and ask the owner of the rotation service how it goes"


def _basis(case: _Case) -> Basis:
    """What must be known before a rotation is called on track: as the rotation service has it,
    that the vault holds the new version, and since when it is in its state."""
    facts, rotation = case.facts, case.facts.rotation
    doubts = [Doubt("two_readings", trouble.why) for trouble in troubles(facts, case.now)]
    if rotation is not None and rotation.started_at is None:
        doubts.append(Doubt("lower_bound", "the rotation service does not say when it began"))
    read = {ROTATIONS: rotation is not None, VAULT: facts.vault is not None}
    return Basis(tuple(_read(facts, name, seen) for name, seen in read.items()), tuple(doubts))


def _read(facts: CredentialFacts, name: str, seen: bool) -> Coverage:
    why = facts.unavailable.get(name, "it says nothing of this client")
    sound = seen and name not in facts.unavailable
    return Coverage(name, float(sound), 1.0, sentence=f"{name} cannot tell whether it is: {why}")


def _overdue(case: _Case) -> _Said:
    grace = ROTATOR_GRACE if rotator_period(case.facts) else 0.0
    if case.due_in is None or case.due_in >= -grace:
        return None
    why = f"{case.how_old}, the limit is {say(case.period)}"
    return "overdue", why, "start a rotation"


def _rotator_late(case: _Case) -> _Said:
    """Rotator-managed secrets: Conjur itself promised to replace it at `expires_at`."""
    vault = case.facts.vault
    if vault is None or not vault.has_rotator:
        return None
    check = "check that the rotator runs on the vault's leader"
    if vault.expires_at is None:
        by_hand = any(moment is not None for moment in vault.expiries)
        why = "the newest version was written by hand" if by_hand else "it never ran"
        return "overdue", f"a rotator is configured, but {why}", check
    late = case.now - vault.expires_at
    if late <= ROTATOR_GRACE:
        return None
    return "stuck", f"the vault's rotator is {say(late)} late", check


def _never_adopted(case: _Case) -> _Said:
    """The new version is the only one that logs in, and nobody has logged in with it."""
    since, use = _alone_since(case), case.facts.use
    if since is None:
        return None
    waited, seen = case.now - since, use.old_version_seen
    if seen is not None and seen > since + case.allowed and waited > case.allowed:
        why = f"the old version was seen in use {say(case.now - seen)} ago, "
        why += f"{say(seen - since)} after the new one took over"
        return "unused", why, "give the client its new secret before the old one is revoked"
    if use.last_used is None or use.last_used >= since or use.ends_open:
        return None
    if use.last_failed is not None and use.last_failed > since and waited > case.allowed:
        why = f"logins fail, none succeeded since the new version took over {say(waited)} ago"
        return "unused", why, "give the client its new secret: it still uses the old one"
    if waited < case.policy.unused_after:
        return None
    why = f"nobody has logged in since the new version took over {say(waited)} ago"
    return "unused", why, "ask the client whether it has its new secret"


def _alone_since(case: _Case) -> Optional[float]:
    """When the new version became the only one that logs in; None: it did not, or not known."""
    rotation = case.facts.rotation
    if rotation is not None and rotation.deprecated_by is not None:
        return rotation.deprecated_by
    return None if case.age.at_least else case.age.since


def _due_soon(case: _Case) -> _Said:
    """Not of a secret that the vault's rotator replaces by itself, in time."""
    if rotator_period(case.facts) or case.due_in is None or case.due_in > case.policy.due_soon:
        return None
    when = f"in {say(case.due_in)}" if not case.age.at_least else f"within {say(case.due_in)}"
    return "due_soon", f"due {when}, {case.how_old}", "plan a rotation with the client"


def _unknown(case: _Case) -> _Said:
    vault = case.facts.vault
    if case.age.since is None and vault is not None and vault.version is None:
        return "unknown", "its variable in the vault was never set", "set its secret"
    if case.age.since is None:
        return (
            "unknown",
            f"no source tells its age{_who_is_unavailable(case.facts)}",
            _MAKE_READABLE,
        )
    if not case.age.at_least or _surely_young(case):
        return None
    return "unknown", case.how_old, LOOK_UP


#: What to do about a secret that was here before this monitor.
LOOK_UP = "rotate it once, or look up its date for CREDENTIALS['rotated_at']"
_MAKE_READABLE = "make a source readable: vault, rotation service or cache"


def _who_is_unavailable(facts: CredentialFacts) -> str:
    """One reason in full; of several the names alone, for each has its own line elsewhere."""
    unavailable = {
        name: facts.unavailable[name]
        for name in (VAULT, ROTATIONS, CACHE)
        if name in facts.unavailable
    }
    unavailable = {
        name: why for name, why in unavailable.items() if why != NOT_ASKED
    } or unavailable
    if len(unavailable) > 1:
        absent = set(unavailable.values()) == {NOT_CONFIGURED}
        return f": {', '.join(unavailable)} {'are not configured' if absent else 'cannot be read'}"
    return "".join(f": {name}: {why}" for name, why in unavailable.items())


def _odd_state(case: _Case) -> _Said:
    """A word that this monitor does not know says nothing good."""
    rotation = case.facts.rotation
    wrong = "; ".join(trouble.why for trouble in troubles(case.facts, case.now))
    if wrong:
        return "unknown", wrong, _ASK_OWNER
    if rotation is None or case.state != "unknown":
        return None
    why = f"its rotation is in the state {rotation.state!r}, which is not known here"
    return "unknown", why, "ask the owner of the rotation service what that means"


def _surely_young(case: _Case) -> bool:
    """Even the oldest it can be is not due soon."""
    oldest = case.age.oldest
    soon = 0.0 if rotator_period(case.facts) else case.policy.due_soon
    return oldest is not None and case.now - oldest < case.period - soon


def _fine(case: _Case) -> _Said:
    due = f", due in {say(case.due_in)}" if case.due_in is not None else ""
    if case.age.at_least and case.age.oldest is not None:
        due = f" and at most {say(case.now - case.age.oldest)}, not due yet"
    read = float(any(name not in case.facts.unavailable for name in (VAULT, ROTATIONS)))
    missing = f"whether it is in order is not known{_who_is_unavailable(case.facts)}"
    said = affirm(OK, Basis((Coverage("sources", read, 1.0, sentence=missing),)))
    why = "; ".join([f"{case.how_old}{due}", *said.missing])
    return said.word, why, "nothing" if said.good else _MAKE_READABLE


_RULES: tuple[Callable[[_Case], _Said], ...] = (
    *(_disabled, _excluded, _failed, _stuck, _rotating, _rotator_late),
    *(_overdue, _never_adopted, _due_soon, _odd_state, _unknown, _fine),
)
