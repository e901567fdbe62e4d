"""Decision: what is wrong with credentials that no single threshold says, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from monitoring import components
from monitoring.anomaly.types import Anomaly
from monitoring.config.settings import Limit
from monitoring.credentials.ages import failing_rotator
from monitoring.credentials.facts import CACHE, EAPI, ROTATIONS, VAULT, VaultFacts, Window
from monitoring.credentials.judged import ClientVerdict
from monitoring.credentials.rotation_states import half_done, troubles
from monitoring.model import Finding, Severity
from monitoring.reasons import of_rotation
from monitoring.text import counted, iso_seconds, safe_id, safe_text, say

if TYPE_CHECKING:
    from monitoring.credentials.facts import Gained

#: Where findings are: what a source speaks of.
_COMPONENTS = {source: components.of_source(source) for source in (VAULT, CACHE, EAPI)}
_WARN = Severity.WARNING
ANOMALIES_TOLD = 50
_HELD = (
    "Whoever takes over the monitor could read or replace the clients' secrets.",
    "Take the privilege from the monitor's group in the vault's policy; see docs/security.md.",
)
_DRIFT = (
    "More identities than yesterday can read a client's secret.",
    "Ask who changed the vault's policy; take the role out if nobody knows it.",
)
_TTL = (
    "Conjur's rotator ends at an annotation that it cannot read, without a word in any log.",
    "Mend the annotation in the policy, load it, and start the rotator again.",
)
#: More clients than this with the same news are one finding.
MOST_NAMED = 5
#: A version may outlive its annotated life by so much before the annotation is called wrong.
_ANNOTATION_GRACE = 86400.0
_SEVERITIES = {"critical": Severity.CRITICAL}


#: A limit of age that the configuration does not set: no threshold will ever warn of it.
NEVER = Limit(None, None)


def findings(
    judged: Sequence[ClientVerdict], window: Window, now: float, *, ages: Limit = NEVER
) -> list[Finding]:
    """Everything that is wrong with single clients, worst first. `ages`: the threshold on the age
    of secrets, in days; what it tells is not told twice."""
    rules = (
        _rotation,
        _unclear,
        _broken_ttl,
        _never_set,
        _half_done,
        _outliving,
        _disabled,
        _annotation,
    )
    found = [finding for each in judged for rule in rules for finding in rule(each, now)]
    found += [f for each in judged for f in _by_age(each, ages, now)]
    found += [f for each in judged for f in _recovered(each, window)]
    return sorted(found, key=lambda f: (-f.severity, f.reason, f.client))


#: Reason -> the sources without which it cannot be seen; while one is unavailable, what it says
#: stands. Others need but the one they come from.
_RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "rotation_failed": (ROTATIONS, CACHE),
    "rotation_stuck": (ROTATIONS, CACHE),
    "rotation_unclear": (ROTATIONS, VAULT),
    "rotation_never_adopted": (ROTATIONS, CACHE, EAPI),
    "rotation_overdue": (ROTATIONS, CACHE, VAULT),
    "rotation_due_soon": (ROTATIONS, CACHE, VAULT),
    "rotation_half_done": (ROTATIONS, CACHE),
    "tokens_outlive_credential": (CACHE, ROTATIONS),
    "disabled_credential_used": (EAPI, CACHE),
    "rotation_annotation_broken": (VAULT, ROTATIONS, CACHE),
}


def _finding(
    reason: str, severity: Severity, sentence: str, source: str, *, client: str = "", todo: str = ""
) -> Finding:
    """`source` is where it is, whoever told it this time: the alert's key must not change. `todo`:
    the first thing to do, where that is known better than for all of its kind."""
    return Finding(
        reason,
        severity,
        safe_text(sentence),
        _COMPONENTS.get(source, source),
        client=client,
        evidence={"source": source, "sources": list(_RESTS_ON.get(reason, (source,)))},
        action=f"{todo[:1].upper()}{todo[1:]}." if todo else "",
    )


_REASONS = {
    "failed": "rotation_failed",
    "stuck": "rotation_stuck",
    "unused": "rotation_never_adopted",
}


def _rotation(each: ClientVerdict, _now: float) -> Iterator[Finding]:
    """The verdict on the rotation, where the age threshold does not already say it."""
    verdict, vault = each.verdict, each.facts.vault
    reason = _REASONS.get(verdict.verdict, "")
    source = ROTATIONS
    if verdict.verdict == "overdue" and vault is not None and _never_ran(vault):
        reason, source = "rotator_never_ran", VAULT
    elif reason and failing_rotator(each.facts):
        reason, source = "rotator_failing", VAULT
    elif verdict.verdict == "stuck" and verdict.dwell is None:
        reason, source = "rotator_stuck", VAULT
    if reason:
        said, todo = of_rotation(each.client, verdict.verdict, verdict.why), verdict.todo
        yield _finding(reason, verdict.severity, said, source, client=each.client, todo=todo)


def _unclear(each: ClientVerdict, now: float) -> Iterator[Finding]:
    """What is said of the rotation cannot all be true; a worse verdict has told it already."""
    if each.verdict.severity is not Severity.UNKNOWN or each.policy.excluded:
        return
    for trouble in troubles(each.facts, now)[:1]:
        said, todo = f"{safe_id(each.client)}: {trouble.why}", each.verdict.todo
        yield _finding("rotation_unclear", _WARN, said, ROTATIONS, client=each.client, todo=todo)


def _by_age(each: ClientVerdict, ages: Limit, now: float) -> Iterator[Finding]:
    """Overdue or due soon by the rotation policy, where the threshold does not say so: the client
    has a policy of its own, the policy is stricter than the threshold, or the age is a minimum,
    which no threshold judges."""
    verdict, age = each.verdict, (each.verdict.age.seconds(now) or 0.0) / 86400.0
    unjudged = each.own_policy or each.by_rotator or verdict.age.at_least
    apart = unjudged or ages.warning is None or each.policy.max_age <= ages.warning * 86400.0
    late = unjudged or ages.critical is None or age < ages.critical
    vault = each.facts.vault
    if verdict.verdict == "overdue" and late and not (vault is not None and _never_ran(vault)):
        reason = "rotation_overdue"
    elif verdict.verdict == "due_soon" and apart:
        reason = "rotation_due_soon"
    else:
        return
    said, todo = of_rotation(each.client, verdict.verdict, verdict.why), verdict.todo
    yield _finding(reason, verdict.severity, said, ROTATIONS, client=each.client, todo=todo)


def _never_ran(vault: VaultFacts) -> bool:
    return vault.has_rotator and vault.expires_at is None


def _half_done(each: ClientVerdict, now: float) -> Iterator[Finding]:
    """The old secret ended, and is still tried or has tokens for longer than the transition. The
    verdict says so itself while the rotation is stuck."""
    rotation, verdict = each.facts.rotation, each.verdict
    ended = rotation.deprecated_by if rotation is not None else None
    if ended is None or verdict.verdict == "stuck" or each.policy.excluded:
        return
    seen = each.facts.use.old_version_seen
    again = seen is not None and seen > ended
    left = half_done(each.facts)
    allowed = (rotation.transition if rotation else None) or each.policy.transition
    if again or (left and now - ended > allowed and verdict.state == "old_deprecated"):
        sentence = f"{safe_id(each.client)}: the rotation is half done: {left}"
        yield _finding("rotation_half_done", _WARN, sentence, ROTATIONS, client=each.client)


def _outliving(each: ClientVerdict, _now: float) -> Iterator[Finding]:
    """Tokens minted before the last rotation, once it is over."""
    tokens, verdict = each.facts.tokens, each.verdict
    if tokens is None or not tokens.old or verdict.state != "active":
        return
    last = f", the last until {iso_seconds(tokens.old_until)}" if tokens.old_until else ""
    sentence = f"{safe_id(each.client)}: {counted(tokens.old, 'token')} minted before the last "
    sentence += f"rotation still alive{last}"
    yield _finding("tokens_outlive_credential", _WARN, sentence, CACHE, client=each.client)


def _disabled(each: ClientVerdict, _now: float) -> Iterator[Finding]:
    """A disabled credential that has live tokens, or that somebody uses."""
    if each.verdict.state != "disabled":
        return
    tokens, use, client = each.facts.tokens, each.facts.use, safe_id(each.client)
    if tokens is not None and tokens.live:
        sentence = f"{client} is disabled and has {counted(tokens.live, 'live token')}"
        yield _finding("tokens_outlive_credential", _WARN, sentence, CACHE, client=each.client)
    if use.uses:
        ok = None if use.failures is None else round(use.uses - use.failures)
        sentence = f"{client} is disabled and tried {counted(round(use.uses), 'login')}"
        sentence += f", of which {ok} succeeded" if ok else ", all refused"
        if ok is None:
            sentence = sentence.replace(", all refused", "; how they ended is not known")
        severity = Severity.CRITICAL if ok else Severity.WARNING
        yield _finding("disabled_credential_used", severity, sentence, EAPI, client=each.client)


def _annotation(each: ClientVerdict, now: float) -> Iterator[Finding]:
    """The annotation promises a shorter life than the version has already had."""
    vault, age = each.facts.vault, each.verdict.age.seconds(now)
    # without a rotator nobody promised to replace it in that time
    ttl = vault.rotator_ttl if vault is not None and vault.has_rotator else None
    if ttl is None or age is None or age <= ttl + _ANNOTATION_GRACE:
        return
    least = "at least " if each.verdict.age.at_least else ""
    sentence = f"{safe_id(each.client)}: its annotation says {say(ttl)} and its version is {least}"
    sentence += f"{say(age)} old"
    yield _finding("rotation_annotation_broken", _WARN, sentence, VAULT, client=each.client)


def _broken_ttl(each: ClientVerdict, _now: float) -> Iterator[Finding]:
    """An annotation that Conjur's rotator cannot read ends the whole rotator at its next round."""
    vault = each.facts.vault
    if vault is None or not vault.broken_ttl:
        return
    sentence = f"{safe_id(each.client)}: its rotation/ttl is {safe_id(vault.broken_ttl)!r}, which "
    sentence += "is no ISO 8601 duration such as P30D: "
    if not vault.rotator:
        severity, what = _WARN, "with a rotation/rotator beside it, it would stop the whole rotator"
    elif vault.version is None:
        severity, what = _WARN, "as soon as a value is set, it stops the whole rotator"
    else:
        severity = Severity.CRITICAL
        what = "it stops the whole rotator, and no secret of this vault is rotated any more"
    made = _finding("rotation_ttl_malformed", severity, sentence + what, VAULT, client=each.client)
    yield replace(made, meaning=_TTL[0], action=_TTL[1])


def _never_set(each: ClientVerdict, _now: float) -> Iterator[Finding]:
    vault = each.facts.vault
    if vault is None or vault.version is not None or each.policy.excluded:
        return
    sentence = f"{safe_id(each.client)}: its variable is in the vault and was never set, so nobody "
    sentence += "can log in with it"
    yield _finding("vault_secret_never_set", _WARN, sentence, VAULT, client=each.client)


def _recovered(each: ClientVerdict, window: Window) -> Iterator[Finding]:
    found = window.recovered.get(each.client)
    if found is None:
        return
    failures, _at = found
    sentence = f"{safe_id(each.client)}: a login succeeded after "
    sentence += f"{counted(round(failures), 'failed login')}: somebody may have guessed its secret"
    yield _finding("failures_then_success", Severity.CRITICAL, sentence, EAPI, client=each.client)


# -- the vault as a whole, and the detector


def of_vault(held: Iterable[tuple[str, str]], gained: Iterable[Gained]) -> list[Finding]:
    """What our identity holds and should not, and who may newly read which secret."""
    found: list[Finding] = []
    for privilege in sorted({privilege for privilege, _ in held}):
        names = sorted({variable for p, variable in held if p == privilege})
        sentence = f"our own identity holds {privilege} on {safe_id(names[0], 120)}: "
        sentence += "it must hold read alone"
        reason = f"identity_holds_{privilege}"
        made = _finding(reason, Severity.CRITICAL, sentence, VAULT)
        found.append(replace(made, meaning=_HELD[0], action=_HELD[1]))
    by_role: dict[str, list[str]] = {}
    for each in gained:
        by_role.setdefault(each.role, []).append(each.client)
    for role, clients in sorted(by_role.items()):
        one = len(clients) == 1
        whose = f"secret of {safe_id(clients[0])}" if one else f"secrets of {len(clients)} clients"
        sentence = f"{safe_id(role, 120)} may newly read the {whose}"
        client = clients[0] if one else ""
        made = _finding("permitted_roles_drift", _WARN, sentence, VAULT, client=client)
        found.append(replace(made, meaning=_DRIFT[0], action=_DRIFT[1]))
    return found


@dataclass(frozen=True)
class Unseen:
    """Clients that the vault does not show as it did. `vanished`: -> when each was last seen;
    `anew`: -> since when its variable is known to be another; `elsewhere`: -> who knows a client
    that the vault does not show."""

    vanished: Mapping[str, float] = field(default_factory=dict)
    anew: Mapping[str, float] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def of_clients(unseen: Unseen) -> list[Finding]:
    """Who is gone from the vault, is known elsewhere alone, or was made again."""
    gone = {
        client: f"is gone from the vault's list (last seen {iso_seconds(seen)})"
        + (f", and {unseen.elsewhere[client]}" if client in unseen.elsewhere else "")
        + ": its variable was deleted, or our identity may no longer see it"
        for client, seen in unseen.vanished.items()
    }
    missing = {
        client: f"is not in the vault as our identity sees it, and {known}"
        for client, known in unseen.elsewhere.items()
        if client not in unseen.vanished
    }
    anew = {
        client: f"was deleted in the vault and made again (seen {iso_seconds(at)}): its versions "
        "count from 1 again, and it has another secret, or none yet"
        for client, at in unseen.anew.items()
    }
    return [
        *_each_or_all("vault_client_vanished", gone, "are gone from the vault's list"),
        *_each_or_all("vault_client_missing", missing, "are known elsewhere and not in the vault"),
        *_each_or_all("vault_client_made_again", anew, "were deleted in the vault and made again"),
    ]


def _each_or_all(reason: str, said: Mapping[str, str], together: str) -> Iterator[Finding]:
    """A sentence each, or one for all of them when they are many: they have one cause."""
    names = sorted(said)
    if len(names) <= MOST_NAMED:
        rows = [(name, f"{safe_id(name)} {said[name]}") for name in names]
    else:
        some = ", ".join(map(safe_id, names[:MOST_NAMED]))
        rows = [("", f"{len(names)} clients {together}: {some} and {len(names) - MOST_NAMED} more")]
    for client, sentence in rows:
        yield _finding(reason, _WARN, sentence, VAULT, client=client)


def of_anomalies(anomalies: Sequence[Anomaly]) -> list[Finding]:
    """One finding per client and reason, the newest (of different strangers, of each); at most
    ANOMALIES_TOLD, the strangest."""
    newest: dict[tuple[str, str], dict[object, Anomaly]] = {}
    for each in anomalies:
        of_each = newest.setdefault((each.client, each.reason), {})
        of_each[each.evidence.get("source")] = each
    worst = sorted(
        newest.items(), key=lambda item: (-max(a.score for a in item[1].values()), item[0])
    )
    return [_anomaly(list(each.values())) for _, each in worst[:ANOMALIES_TOLD]]


def _anomaly(anomalies: list[Anomaly]) -> Finding:
    anomaly = max(anomalies, key=lambda a: (a.score, a.at))
    others = [a.sentence for a in anomalies if a is not anomaly]
    sentence = " ".join([anomaly.sentence, *others[: MOST_NAMED - 1]])
    more = len(others) - (MOST_NAMED - 1)
    return Finding(
        anomaly.reason,
        _SEVERITIES.get(anomaly.severity, Severity.WARNING),
        safe_text(f"{sentence} And {more} more like these." if more > 0 else sentence),
        _COMPONENTS[EAPI],
        client=anomaly.client,
        evidence={
            "source": EAPI,
            "score": round(anomaly.score, 2),
            "observed": round(anomaly.observed, 3),
            "expected": round(anomaly.expected, 3),
            "profile_age_days": round(anomaly.profile_age_days, 1),
        },
    )
