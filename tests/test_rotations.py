"""Rotation verdicts: one row per rule, with the sentence it proves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import pytest

from monitoring.credentials.facts import (
    CACHE,
    EAPI,
    ROTATIONS,
    VAULT,
    VERDICTS,
    Age,
    CachedFacts,
    CredentialFacts,
    LedgerFacts,
    Policy,
    RotationFacts,
    TokenFacts,
    UseFacts,
    VaultFacts,
)
from monitoring.credentials.rotation_states import dwell_of, half_done, state_of, troubles
from monitoring.credentials.rotations import SEVERITIES, RotationVerdict, judge
from monitoring.model import Severity

NOW = 1_795_400_000.0
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
POLICY = Policy()


def rotation(state: str, ago: float = 20 * MINUTE, **more: Any) -> RotationFacts:
    fields: dict[str, Any] = {
        "old_version": "v5",
        "new_version": "v6",
        "transition": HOUR,
        "started_at": NOW - ago,
    }
    return RotationFacts("r1", state, **{**fields, **more})


def aged(days: float, **more: Any) -> CredentialFacts:
    """A client whose cached credential is so old, and nothing else is known."""
    cached = CachedFacts(active=True, version="v6", created_at=NOW - days * DAY)
    return CredentialFacts("c1", cached=cached, vault=VaultFacts(6), **more)


def rotating(state: str, ago: float = 20 * MINUTE, **more: Any) -> CredentialFacts:
    facts: dict[str, Any] = {"vault": VaultFacts(6), "rotation": rotation(state, ago)}
    return CredentialFacts("c1", **{**facts, **more})


def told(facts: CredentialFacts, policy: Policy = POLICY) -> RotationVerdict:
    return judge(facts, policy, NOW)


ROWS = [
    ("a young secret is fine", aged(10), "ok", "10 d old, due in 80 d"),
    ("two weeks before its 90 days it is due soon", aged(77), "due_soon", "due in 13 d"),
    ("past its 90 days it is overdue", aged(91), "overdue", "the limit is 90 d"),
    ("a rotation within its transition is fine", rotating("dual_active"), "ok", "dual_active"),
    (
        "one that stays longer is stuck",
        rotating("dual_active", 3 * HOUR),
        "stuck",
        "the limit is 1 h",
    ),
    (
        "so is one that never leaves initiated",
        rotating("initiated", 2 * HOUR),
        "stuck",
        "initiated for 2 h",
    ),
    (
        "old_deprecated has a transition of its own after that of dual_active",
        rotating("old_deprecated", 1.5 * HOUR),
        "ok",
        "old_deprecated",
    ),
    (
        "and is stuck after both",
        rotating("old_deprecated", 2.2 * HOUR),
        "stuck",
        "old_deprecated for",
    ),
    (
        "a rotation that runs is never overdue, however old the old secret is",
        rotating("dual_active", cached=CachedFacts(True, "v5", created_at=NOW - 200 * DAY)),
        "ok",
        "the old version is still used",
    ),
    (
        "a failed rotation says why",
        replace(aged(10), rotation=rotation("failed", message="vault said no")),
        "failed",
        "vault said no",
    ),
    (
        "a rotation that ended without success failed, whatever its state",
        replace(aged(10), rotation=rotation("new_active", success=False, message="half of it")),
        "failed",
        "half of it",
    ),
    (
        "a failure is over once a version beyond it was written by hand",
        CredentialFacts(
            "c1",
            vault=VaultFacts(7),
            rotation=rotation("failed"),
            ledger=LedgerFacts(NOW - 5 * DAY, NOW - 5.1 * DAY),
        ),
        "ok",
        "",
    ),
    (
        "but not by the version that the failed rotation wrote itself",
        replace(aged(10), vault=VaultFacts(6), rotation=rotation("failed")),
        "failed",
        "",
    ),
    (
        "a state nobody knows is not fine, however young the secret",
        replace(aged(10), rotation=rotation("rolled_back")),
        "unknown",
        "'rolled_back', which is not known here",
    ),
    (
        "of several unavailable sources the names are enough",
        CredentialFacts("c1", unavailable={VAULT: "refused", CACHE: "timeout", EAPI: "away"}),
        "unknown",
        "no source tells its age: conjur, redis cannot be read",
    ),
    (
        "of one unavailable source the reason is told",
        CredentialFacts("c1", unavailable={VAULT: "refused"}),
        "unknown",
        "no source tells its age: conjur: refused",
    ),
    (
        "expiries that all move together are Conjur's rotator failing",
        CredentialFacts(
            "c1", vault=VaultFacts(3, NOW, "postgresql/password", 30 * DAY, (NOW, NOW, NOW))
        ),
        "failed",
        "rotator fails",
    ),
    (
        "an expiry that moves while the only version stays is the same",
        CredentialFacts("c1", vault=VaultFacts(1, NOW, "x", 30 * DAY, (NOW,), moving=True)),
        "failed",
        "rotator fails",
    ),
    (
        "a rotator that never set an expiry never ran",
        CredentialFacts("c1", vault=VaultFacts(2, None, "x", 30 * DAY, (None, None))),
        "overdue",
        "it never ran",
    ),
    (
        "a version without expiry after one with it was written by hand",
        CredentialFacts("c1", vault=VaultFacts(2, None, "x", 30 * DAY, (NOW - DAY, None))),
        "overdue",
        "written by hand",
    ),
    (
        "a rotator that is hours late is stuck",
        CredentialFacts("c1", vault=VaultFacts(2, NOW - 3 * HOUR, "x", 30 * DAY, (None,))),
        "stuck",
        "3 h late",
    ),
    (
        "a minute late is its own loop",
        CredentialFacts("c1", vault=VaultFacts(2, NOW - 60, "x", 30 * DAY, (None, NOW - 60))),
        "ok",
        "30 d old",
    ),
    (
        "a disabled credential needs no rotation",
        CredentialFacts("c1", cached=CachedFacts(active=False, created_at=NOW - 400 * DAY)),
        "ok",
        "disabled",
    ),
    ("without any source nothing is said", CredentialFacts("c1"), "unknown", "no source tells"),
    (
        "an age that is a minimum and may be overdue is unknown",
        CredentialFacts("c1", ledger=LedgerFacts(NOW - 12 * DAY, NOW - 12 * DAY)),
        "unknown",
        "at least 12 d old",
    ),
    (
        "unless the variable itself is young",
        CredentialFacts(
            "c1",
            vault=VaultFacts(1, created_at=NOW - 20 * DAY),
            ledger=LedgerFacts(NOW - 12 * DAY, NOW - 12 * DAY),
        ),
        "ok",
        "at least 12 d old and at most 20 d",
    ),
    (
        "a minimum past the policy is overdue for certain",
        CredentialFacts("c1", ledger=LedgerFacts(NOW - 95 * DAY, NOW - 95 * DAY)),
        "overdue",
        "at least 95 d old",
    ),
]


@pytest.mark.parametrize(("sentence", "facts", "verdict", "why"), ROWS, ids=[r[0] for r in ROWS])
def test_verdicts(sentence: str, facts: CredentialFacts, verdict: str, why: str) -> None:
    said = told(facts)
    assert (said.verdict, why in said.why) == (verdict, True), said
    assert said.todo


def adopted(
    seen: Optional[float] = None, ok: Optional[float] = None, failed: Optional[float] = None
) -> CredentialFacts:
    """A rotation whose old secret ended ten days ago; sightings in days ago."""
    done = rotation("new_active", 10 * DAY + 2 * HOUR, deprecated_by=NOW - 10 * DAY)

    def at(days: Optional[float]) -> Optional[float]:
        return None if days is None else NOW - days * DAY

    use = UseFacts(last_used=at(ok), last_failed=at(failed), old_version_seen=at(seen))
    return CredentialFacts("c1", vault=VaultFacts(6), rotation=done, use=use)


ADOPTION = [
    ("logins succeed with the new version", adopted(ok=1), "ok", ""),
    ("nobody ever used it, so nothing is known", adopted(), "ok", ""),
    ("nobody logged in since the new one took over", adopted(ok=11), "unused", "nobody has"),
    ("logins fail and none succeeded since", adopted(ok=11, failed=1), "unused", "logins fail"),
    ("failures beside successes are no such thing", adopted(ok=1, failed=1), "ok", ""),
    ("the old version was seen after its end", adopted(seen=2, ok=1), "unused", "still"),
    ("the old version was seen before its end", adopted(seen=10.02, ok=1), "ok", ""),
]


@pytest.mark.parametrize(("sentence", "facts", "verdict", "todo"), ADOPTION)
def test_adoption(sentence: str, facts: CredentialFacts, verdict: str, todo: str) -> None:
    said = told(facts)
    assert said.verdict == verdict, (sentence, said)
    if verdict == "unused" and todo != "still":
        assert todo in said.why


def test_a_short_silence_after_a_rotation_is_no_verdict() -> None:
    done = rotation("new_active", 5 * HOUR, deprecated_by=NOW - 3 * HOUR)
    use = UseFacts(last_used=NOW - 6 * HOUR)
    assert told(CredentialFacts("c1", rotation=done, use=use)).verdict == "ok"


def test_own_policy_and_exclusion() -> None:
    assert told(aged(31), replace(POLICY, max_age=30 * DAY)).verdict == "overdue"
    assert told(aged(91), replace(POLICY, max_age=120 * DAY)).verdict == "ok"
    excluded = replace(POLICY, excluded=True)
    for facts in (aged(500), rotating("dual_active", 9 * HOUR)):
        assert told(facts, excluded).verdict == "ok"


def test_every_verdict_has_a_severity_and_the_words_agree() -> None:
    assert set(SEVERITIES) == set(VERDICTS)
    assert SEVERITIES["stuck"] is SEVERITIES["failed"] is Severity.CRITICAL
    assert SEVERITIES["ok"] is Severity.OK


STATES = [
    ("new_active is the end", rotating("new_active"), "active"),
    (
        "the service outranks the cache",
        rotating("dual_active", cached=CachedFacts(True)),
        "dual_active",
    ),
    ("disabled outranks all", rotating("dual_active", cached=CachedFacts(False)), "disabled"),
    (
        "the cache speaks without the service",
        CredentialFacts("c", cached=CachedFacts(True, rotation_state="dual_active")),
        "dual_active",
    ),
    ("a word nobody knows is unknown", rotating("\x1b[31mweird"), "unknown"),
    (
        "and so it is in the cache",
        CredentialFacts("c", cached=CachedFacts(True, rotation_state="odd")),
        "unknown",
    ),
    ("the vault alone", CredentialFacts("c", vault=VaultFacts(2)), "active"),
    ("a variable without a value", CredentialFacts("c", vault=VaultFacts(None)), "unknown"),
    (
        "the vault alone while the service is unavailable",
        CredentialFacts("c", vault=VaultFacts(2), unavailable={ROTATIONS: "away"}),
        "unknown",
    ),
]


@pytest.mark.parametrize(("sentence", "facts", "state"), STATES, ids=[r[0] for r in STATES])
def test_states(sentence: str, facts: CredentialFacts, state: str) -> None:
    assert state_of(facts) == state
    assert told(facts).state == state


def test_dwell_is_as_seen_then_as_planned_then_as_the_cache_says() -> None:
    seen = rotation("dual_active", 3 * HOUR, entered_at=NOW - 600)
    assert dwell_of(CredentialFacts("c", rotation=seen), POLICY, NOW) == 600
    planned = dwell_of(rotating("old_deprecated", 2 * HOUR), POLICY, NOW)
    assert planned is not None
    assert HOUR - 300 <= planned <= HOUR
    cached = CachedFacts(True, rotation_state="dual_active", updated_at=NOW - 5000)
    unavailable = CredentialFacts("c", cached=cached, unavailable={ROTATIONS: "away"})
    assert dwell_of(unavailable, POLICY, NOW) == 5000
    assert told(unavailable).verdict == "stuck"
    assert dwell_of(rotating("new_active"), POLICY, NOW) is None
    assert dwell_of(rotating("dual_active", -50), POLICY, NOW) == 0  # clocks differ


def test_half_done_names_what_is_left() -> None:
    facts = rotating("old_deprecated", tokens=TokenFacts(5, 2, NOW + 60))
    assert half_done(facts).startswith("2 tokens of the old secret alive until ")
    assert half_done(replace(facts, tokens=TokenFacts(5, 0))) == ""
    assert half_done(replace(facts, rotation=rotation("initiated"))) == ""
    ended = rotation("old_deprecated", 3 * HOUR, deprecated_by=NOW - HOUR)
    refused = UseFacts(last_used=NOW - 2 * HOUR, last_failed=NOW - 60)
    assert "logins fail" in half_done(CredentialFacts("c", rotation=ended, use=refused))


def test_a_stuck_rotation_that_is_half_done_says_both() -> None:
    said = told(rotating("old_deprecated", 5 * HOUR, tokens=TokenFacts(5, 2, NOW + 60)))
    assert said.verdict == "stuck"
    assert "half done: 2 tokens" in said.why


def test_the_age_behind_a_verdict_is_told() -> None:
    assert told(aged(10)).age == Age(NOW - 10 * DAY, "cache")
    assert told(aged(10)).due_in == pytest.approx(80 * DAY)


SIGHTED = UseFacts(old_version_seen=NOW - MINUTE)
NEXT = [
    ("initiated", {}, "does not bring the new version into use"),
    ("dual_active", {}, "ask the client whether it has its new secret"),
    ("dual_active", {"use": SIGHTED}, "find who still uses the old secret"),
    ("old_deprecated", {"use": SIGHTED}, "find who still uses the old secret"),
    ("old_deprecated", {"tokens": TokenFacts(9, 2)}, "wait for the last old token"),
    ("old_deprecated", {"tokens": TokenFacts(9, 0)}, "when --can-revoke says yes"),
]


@pytest.mark.parametrize(("state", "more", "todo"), NEXT)
def test_the_next_step_of_a_stuck_rotation_fits_what_is_left(
    state: str, more: dict[str, Any], todo: str
) -> None:
    verdict = told(rotating(state, 5 * HOUR, **more))
    assert verdict.verdict == "stuck"
    assert todo in verdict.todo


def with_rotator(left: float, period: float = 30 * DAY) -> CredentialFacts:
    """A secret that the vault's rotator replaces every `period`, in `left` seconds again."""
    vault = VaultFacts(2, NOW + left, "postgresql/password", period, (NOW - period, NOW + left))
    return CredentialFacts("c1", vault=vault)


def test_the_rotators_own_period_says_when_a_secret_is_due() -> None:
    for left in (20 * DAY, 1.0, 0.0, -120.0):  # the last: its grace, exactly
        verdict = told(with_rotator(left))
        assert (verdict.verdict, verdict.due_in) == ("ok", left)
    assert told(with_rotator(-121.0)).verdict == "stuck"
    year = told(with_rotator(5 * DAY, 365 * DAY))
    assert (year.verdict, year.due_in) == ("ok", 5 * DAY)  # 360 d old, and nobody need plan it
    annotated = VaultFacts(2, rotator_ttl=30 * DAY)  # a ttl alone is nobody's promise to rotate
    by_hand = told(replace(aged(40), vault=annotated))
    assert (by_hand.verdict, by_hand.due_in) == ("ok", 50 * DAY)


def test_the_edges_of_due() -> None:
    assert told(aged(90)).verdict == "due_soon"
    assert told(aged(90 + 1 / DAY)).verdict == "overdue"
    assert told(aged(76)).verdict == "due_soon"
    assert told(aged(76 - 1 / DAY)).verdict == "ok"


def test_the_edges_of_stuck() -> None:
    step = 120.0
    assert told(rotating("dual_active", HOUR + step)).verdict == "ok"
    assert told(rotating("dual_active", HOUR + step + 1)).verdict == "stuck"
    assert told(rotating("initiated", HOUR)).verdict == "ok"
    assert told(rotating("initiated", HOUR + 1)).verdict == "stuck"
    for state in ("initiated", "dual_active", "old_deprecated"):  # it moved just now, but too late
        moved = {"entered_at": NOW - 1}
        whole = 2 * (HOUR + step)
        facts = rotating(state)
        late = replace(facts, rotation=rotation(state, whole + 1, **moved))
        assert told(late).verdict == "stuck"
        assert "it began 2 h 4 min ago" in told(late).why
        assert told(replace(facts, rotation=rotation(state, whole, **moved))).verdict == "ok"


TRACK = [
    ("a vault that was not read", {"vault": None, "unavailable": {VAULT: "timeout"}}, "conjur"),
    (
        "a vault that shows old data",
        {"unavailable": {VAULT: "it shows old data"}},
        "it shows old data",
    ),
    ("a vault that is not configured", {"vault": None}, "conjur cannot tell"),
    (
        "no rotation service, and EAPI's word alone",
        {
            "rotation": None,
            "unavailable": {ROTATIONS: "not configured"},
            "cached": CachedFacts(True, "v6", "dual_active", updated_at=NOW - 60),
        },
        "rotation-service cannot tell whether it is: not configured",
    ),
]


@pytest.mark.parametrize(("sentence", "change", "why"), TRACK, ids=[r[0] for r in TRACK])
def test_nothing_is_on_track_by_half_of_the_sources(
    sentence: str, change: dict[str, Any], why: str
) -> None:
    verdict = told(replace(rotating("dual_active"), **change))
    assert (verdict.verdict, "on track" in verdict.todo) == ("unknown", False)
    assert why in verdict.why
    assert told(rotating("dual_active")).todo == "nothing; the rotation is on track"


def wrong(facts: CredentialFacts) -> list[bool]:
    return [trouble.surely for trouble in troubles(facts, NOW)]


def test_the_edges_of_trouble() -> None:
    assert wrong(rotating("dual_active")) == []
    assert wrong(rotating("dual_active", rotation=rotation("dual_active", rivals=1))) == [False]
    for ago, sure in ((119, False), (120, False), (121, True)):  # the vault was read before
        assert wrong(rotating("dual_active", ago, vault=VaultFacts(5))) == [sure]
        assert wrong(rotating("dual_active", ago, vault=VaultFacts(None))) == [sure]
    assert wrong(rotating("initiated", 500, vault=VaultFacts(5))) == []
    assert (
        wrong(rotating("dual_active", 500, vault=VaultFacts(5), unavailable={VAULT: "old"})) == []
    )
    assert wrong(rotating("dual_active", -300)) == []
    assert wrong(rotating("dual_active", -301)) == [False]
    one = rotation("new_active", old_version="v6", new_version="6")
    assert wrong(rotating("new_active", rotation=one)) == [False]
    unnamed = rotation("new_active", old_version=None, new_version=None)
    assert wrong(rotating("new_active", rotation=unnamed)) == []


def test_an_excluded_or_disabled_client_has_no_trouble() -> None:
    facts = replace(rotating("dual_active"), rotation=rotation("failed"))
    assert told(facts, replace(POLICY, excluded=True)).verdict == "ok"
    assert told(replace(facts, cached=CachedFacts(active=False))).verdict == "ok"
