"""Decision: facts of all clients -> verdicts, those that need attention first, and the rows of the
result."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from monitoring.credentials.ages import current_version
from monitoring.credentials.facts import IN_ROTATION, VERDICTS, CredentialFacts, Policy
from monitoring.credentials.rotations import RotationVerdict, judge, rotator_period
from monitoring.redact import safe_id, safe_text
from monitoring.settings import CredentialSettings
from monitoring.timestamps import iso_seconds

DAY = 86400.0
#: Failed logins of a client in the window from which on it comes before others.
OFTEN = 5.0


@dataclass(frozen=True)
class Judged:
    """One client: what is known, which policy it has, and what follows. `own_policy`: its maximum
    age is not the general one, so the general threshold does not judge it."""

    facts: CredentialFacts
    verdict: RotationVerdict
    policy: Policy
    own_policy: bool = False

    @property
    def client(self) -> str:
        return self.facts.client

    @property
    def by_rotator(self) -> bool:
        """The vault's rotator replaces the secret in a period of its own, which judges its age."""
        return rotator_period(self.facts) is not None


def judge_all(
    facts: Iterable[CredentialFacts], settings: CredentialSettings, now: float
) -> List[Judged]:
    """Every client judged, those that need attention first."""
    judged = []
    for each in facts:
        policy = policy_of(settings, each.client)
        own = policy.excluded or each.client in settings.per_client_days
        judged.append(Judged(each, judge(each, policy, now), policy, own))
    return sorted(judged, key=_attention)


def policy_of(settings: CredentialSettings, client: str) -> Policy:
    """The client's rotation policy: its own number of days, else the general one."""
    days = settings.per_client_days.get(client, settings.rotation_days)
    return Policy(
        max_age=days * DAY,
        due_soon=min(settings.due_soon_days, days / 2) * DAY,
        transition=settings.transition,
        excluded=any(fnmatchcase(client, pattern) for pattern in settings.excluded),
    )


def _attention(each: Judged) -> Tuple[int, float, bool, float, str]:
    """Worst verdict first, then who fails most, of those who fail often; then whose rotation runs;
    then who is due first."""
    verdict, failures = each.verdict, each.facts.use.failures or 0.0
    due = verdict.due_in if verdict.due_in is not None else float("inf")
    often = failures if failures >= OFTEN else 0.0
    idle = verdict.state not in IN_ROTATION
    return VERDICTS.index(verdict.verdict), -often, idle, due, each.client


def row(each: Judged, now: float) -> Dict[str, Any]:
    """`credentials[client]` of DESIGN.md section 4, with why and what to do."""
    facts, verdict, use = each.facts, each.verdict, each.facts.use
    age, tokens = verdict.age.seconds(now), each.facts.tokens
    return {
        "verdict": verdict.verdict,
        "state": verdict.state,
        "version": current_version(facts),
        "age_days": _days(age),
        "age_at_least": verdict.age.at_least,
        "age_source": verdict.age.source,
        "rotated_at": _moment(_rotated_at(each)),
        "due_in_days": None if verdict.age.at_least else _days(verdict.due_in),
        "last_used": _moment(use.last_used),
        "uses": _whole(use.uses),
        "failures": _whole(use.failures),
        "failure_rate": _share(use.failures, use.uses),
        "live_tokens": tokens.live if tokens else None,
        "old_version_tokens": tokens.old if tokens else None,
        "why": safe_text(verdict.why),
        "todo": safe_text(verdict.todo),
    }


def rows(judged: Sequence[Judged], now: float) -> Dict[str, Dict[str, Any]]:
    """By client id made fit to print, in the order given."""
    return {safe_id(each.client): row(each, now) for each in judged}


def _rotated_at(each: Judged) -> Optional[float]:
    rotation, age = each.facts.rotation, each.verdict.age
    if rotation is not None and rotation.state == "new_active" and rotation.completed_at:
        return rotation.completed_at
    if rotation is not None and rotation.running:
        return rotation.old_since
    return None if age.at_least else age.since


def _days(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds / DAY, 2)


def _moment(at: Optional[float]) -> Optional[str]:
    return None if at is None else iso_seconds(at)


def _whole(number: Optional[float]) -> Optional[int]:
    return None if number is None else round(number)


def _share(part: Optional[float], whole: Optional[float]) -> Optional[float]:
    return round(part / whole, 4) if whole and part is not None else None
