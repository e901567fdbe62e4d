"""Decision: facts of all clients -> verdicts, those that need attention first, the rows of the
result, and what cannot be known of them as a whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Optional

from monitoring import components
from monitoring.certainty import Doubt
from monitoring.config.settings import CredentialSettings
from monitoring.credentials.ages import current_version
from monitoring.credentials.facts import IN_ROTATION, VAULT, VERDICTS, CredentialFacts, Policy
from monitoring.credentials.rotations import LOOK_UP, RotationVerdict, judge, rotator_period
from monitoring.model import Finding, Severity
from monitoring.text import counted, iso_seconds, safe_id, safe_text

DAY = 86400.0
#: Failed logins of a client in the window from which on it comes before others.
OFTEN = 5.0
NAMED = 20  # clients in one sentence


@dataclass(frozen=True)
class ClientVerdict:
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

    @property
    def was_here_before(self) -> bool:
        """Nothing is unknown of it but its age: it is older than this monitor."""
        return self.verdict.todo == LOOK_UP


def judge_all(
    facts: Iterable[CredentialFacts], settings: CredentialSettings, now: float
) -> list[ClientVerdict]:
    """Every client judged, those that need attention first."""
    judged = []
    for each in facts:
        policy = policy_of(settings, each.client)
        own = policy.excluded or each.client in settings.per_client_days
        judged.append(ClientVerdict(each, judge(each, policy, now), policy, own))
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


def _attention(each: ClientVerdict) -> tuple[int, float, bool, float, str]:
    """Worst verdict first, then who fails most, of those who fail often; then whose rotation runs;
    then who is due first."""
    verdict, failures = each.verdict, each.facts.use.failures or 0.0
    due = verdict.due_in if verdict.due_in is not None else float("inf")
    often = failures if failures >= OFTEN else 0.0
    idle = verdict.state not in IN_ROTATION
    return VERDICTS.index(verdict.verdict), -often, idle, due, each.client


def row(each: ClientVerdict, now: float) -> dict[str, Any]:
    """A client's row in the result, with why and what to do. `uses` counts attempts,
    refused ones included (`uses_are`). `uses_at_least`: a service restarted in the window, so that
    `uses` and `failures` are lower bounds. `last_used_at_most`: it was then or earlier. What is not
    known is None."""
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
        "last_used_at_most": use.last_used_at_most,
        "uses": _whole(use.uses),
        "uses_are": None if use.uses is None else "attempts",
        "uses_at_least": use.at_least,
        "failures": _whole(use.failures),
        "failure_rate": _share(use.failures, use.uses),
        "live_tokens": tokens.known(tokens.live) if tokens else None,
        "old_version_tokens": tokens.known(tokens.old) if tokens else None,
        "why": safe_text(verdict.why),
        "todo": safe_text(verdict.todo),
    }


def rows(judged: Sequence[ClientVerdict], now: float) -> dict[str, dict[str, Any]]:
    """By client id made fit to print, in the order given."""
    return {safe_id(each.client): row(each, now) for each in judged}


def _rotated_at(each: ClientVerdict) -> Optional[float]:
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


# -- what cannot be known


def doubts_of(judged: Sequence[ClientVerdict], vault: str, rotations: str) -> list[Doubt]:
    """Why nothing good may be said of the credentials as a whole. `vault` and `rotations`: why
    nothing rests on that source ("": it was read)."""
    if vault and rotations:
        sentence = f"neither the vault ({vault}) nor the rotation service ({rotations}) was read: "
        sentence += "nobody knows which clients there are, how old their secrets are and whether a "
        sentence += (
            "rotation is stuck; set CONJUR_URL or ROTATION_ENDPOINT, or mend what is wrong; "
        )
        return [Doubt("not_read", sentence + _named_elsewhere(judged))]
    if not judged:
        sentence = "no client is known to any source that was read, so no credential was judged"
        return [Doubt("not_read", sentence)]
    return []


def _named_elsewhere(judged: Sequence[ClientVerdict]) -> str:
    names = [safe_id(each.client) for each in judged]
    if not names:
        return "neither the cache nor the services' counters name any client"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"clients known from elsewhere: {', '.join(names[:NAMED])}{more}"


def of_beginnings(
    judged: Sequence[ClientVerdict],
    known: Optional[Collection[str]],
    dates: Mapping[str, float],
    doubts: Sequence[Doubt],
) -> list[Finding]:
    """What is not known of the credentials, a sentence each, and dates in the configuration that
    help nobody. `known`: who is registered (None: nobody knows)."""
    found = [_about("credentials_not_known", doubt.sentence) for doubt in doubts]
    before = [safe_id(each.client) for each in judged if each.was_here_before]
    if before:
        sentence = _before_us(len(before))
        found.append(_about("credentials_from_before", sentence, clients=before[:NAMED]))
    for client in sorted(set(dates) - set(known)) if known is not None else ():
        found.append(_unused(client, "names a client that no source knows"))
    for each in judged:
        if each.client in dates and each.verdict.age.source == "ledger":
            version = current_version(each.facts)
            said = f"is not when version {version} came, by when this monitor saw it"
            found.append(_unused(each.client, said))
    return found


def _before_us(count: int) -> str:
    one = count == 1
    return (
        f"{counted(count, 'secret')} {'was' if one else 'were'} here before this monitor; "
        f"{'its' if one else 'their'} age is a minimum until {'it is' if one else 'they are'} "
        "rotated once or CREDENTIALS['rotated_at'] names a date"
    )


def _about(reason: str, sentence: str, **evidence: Any) -> Finding:
    evidence = {"source": VAULT, "sources": [VAULT], **evidence}
    return Finding(reason, Severity.UNKNOWN, sentence, components.VAULT, evidence=evidence)


def _unused(client: str, said: str) -> Finding:
    """A remark: a date in the configuration that helps nobody."""
    made = _about("rotated_at_unused", f"CREDENTIALS['rotated_at']['{safe_id(client)}'] {said}")
    return replace(made, severity=Severity.OK, client=client)
