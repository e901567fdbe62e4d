"""Decisions at "one" and at "equal": where a rule turns, to the second and to the token.

`python -m tests.mutation` says which mistakes in the decisions these and their neighbours find.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Optional

import pytest

from monitoring.alerts import lifecycle as flapping, lifecycle as hysteresis
from monitoring.alerts.state import FIRING, AlertState
from monitoring.certainty import Coverage, Severity, inside, percent
from monitoring.config.settings import AlertSettings, Limit
from monitoring.credentials import revocation, rotation_states as states
from monitoring.credentials.facts import (
    CACHE,
    ROTATIONS,
    SKEW,
    CachedFacts,
    CredentialFacts,
    Policy,
    ProofFacts,
    RotationFacts,
    TokenFacts,
    UseFacts,
)
from monitoring.credentials.old_tokens import EAPI_CACHE, EAPI_EARLY
from monitoring.credentials.revocation import WATCHED_LEAST, Block, all_dead_at, can_revoke
from monitoring.model import Alert, AlertKey, Measurement, Source
from monitoring.store.lookback import Point
from monitoring.thresholds import judge
from tests.alerting_kit import alert, component, outcome
from tests.test_revocation import DONE, HOUR, NOW, rotated

ENDED = NOW - 2 * HOUR
UNPROVEN = ProofFacts(longest=4 * HOUR)


def tokens(**more: Any) -> CredentialFacts:
    return replace(DONE, tokens=TokenFacts(40, **{"old": 0, **more}))


# -- may it be revoked?


@pytest.mark.parametrize(
    ("old_until", "near", "near_until", "dies"),
    [
        (None, 0, None, None),
        (NOW + 60, 0, None, NOW + 60),
        (None, 1, NOW + 5, NOW + 5),
        (None, 0, NOW + 5, None),  # of none
        (NOW + 60, 1, NOW + 90, NOW + 90),
        (NOW + 60, 1, NOW + 5, NOW + 60),
    ],
)
def test_when_the_last_old_token_dies(
    old_until: Optional[float], near: int, near_until: Optional[float], dies: Optional[float]
) -> None:
    old = 1 if old_until else 0
    facts = tokens(old=old, old_until=old_until, near=near, near_until=near_until)
    answer = can_revoke(facts, NOW)
    assert answer.until == dies
    assert answer.yes is (not (old or near))
    assert (answer.old_tokens, answer.maybe_old) == (old, near)


def test_one_token_near_the_end_is_a_no() -> None:
    answer = can_revoke(tokens(near=1, near_until=NOW + 30), NOW)
    assert (answer.yes, answer.word, answer.again) == (False, "no", NOW + 30 + SKEW)
    assert answer.waiting
    assert "1 token so near" in answer.reasons[0]


@pytest.mark.parametrize(
    ("until", "again"),
    [
        (NOW + 1, NOW + 1 + SKEW),
        (NOW - SKEW, None),  # just over: nothing to wait for
        (NOW - SKEW + 1, NOW + 1),
        (NOW + 366 * 86400 - SKEW, None),  # a year is no advice
        (NOW + 366 * 86400 - SKEW - 1, NOW + 366 * 86400 - 1),
        (math.inf, None),
        (None, None),
    ],
)
def test_when_to_ask_again(until: Optional[float], again: Optional[float]) -> None:
    answer = can_revoke(tokens(old=1, old_until=until), NOW)
    assert (answer.again, answer.waiting) == (again, again is not None)


@pytest.mark.parametrize(
    ("cached", "why"),
    [
        (CachedFacts(True, "v5"), "the cache still holds the old version"),
        (CachedFacts(True, "v6", rotation_state="dual_active"), "EAPI has it cached that both"),
    ],
)
def test_what_eapi_has_cached_is_over_when_its_cache_is(cached: CachedFacts, why: str) -> None:
    answer = can_revoke(replace(DONE, cached=cached), NOW)
    assert (answer.yes, answer.again) == (False, NOW + EAPI_CACHE)
    assert any(why in reason for reason in answer.reasons)


def test_a_rotation_says_how_long_a_transition_takes_else_the_policy_does() -> None:
    began = NOW - 10 * HOUR
    for own, seconds in ((None, 2 * HOUR), (HOUR, HOUR)):
        facts = rotated("old_deprecated", transition=own, started_at=began)
        entered = began + seconds + states.STEP_SECONDS
        policy = Policy(transition=2 * HOUR)
        assert states.dwell_of(facts, policy, NOW) == NOW - entered


def test_waiting_is_enough_only_where_everything_ends_by_itself() -> None:
    facts = tokens(old=1, old_until=NOW + 60, near=1, near_until=NOW + 90)
    assert (can_revoke(facts, NOW).again, can_revoke(facts, NOW).waiting) == (NOW + 90 + SKEW, True)
    unavailable = replace(facts, unavailable={ROTATIONS: "timeout"})
    assert (can_revoke(unavailable, NOW).again, can_revoke(unavailable, NOW).waiting) == (
        NOW + 90 + SKEW,
        False,
    )
    assert not can_revoke(DONE, NOW).waiting


@pytest.mark.parametrize(
    ("seen", "yes"), [(None, True), (ENDED - 1, True), (ENDED, True), (ENDED + 1, False)]
)
def test_the_old_version_was_seen_in_use(seen: Optional[float], yes: bool) -> None:
    facts = replace(DONE, use=replace(DONE.use, old_version_seen=seen))
    answer = can_revoke(facts, NOW)
    assert (answer.yes, answer.last_sighting) == (yes, seen)


@pytest.mark.parametrize(("apart", "yes"), [(None, True), (SKEW, True), (-SKEW, True),
                                            (SKEW + 1, None), (-SKEW - 1, None)])  # fmt: skip
def test_clocks_apart(apart: Optional[float], yes: Optional[bool]) -> None:
    assert can_revoke(replace(DONE, clock=apart), NOW).yes is yes


@pytest.mark.parametrize(
    ("counted", "yes", "again"),
    [
        (None, True, None),
        (NOW - SKEW, True, None),
        (NOW - SKEW + 1, None, NOW + 1),
        (NOW + 60, None, NOW + 60 + SKEW),
        (math.inf, None, None),
    ],
)
def test_a_token_that_was_counted_lives_on(
    counted: Optional[float], yes: Optional[bool], again: Optional[float]
) -> None:
    answer = can_revoke(tokens(proof=ProofFacts(counted_until=counted)), NOW)
    assert (answer.yes, answer.again) == (yes, again)


@pytest.mark.parametrize(("watched", "yes"), [(WATCHED_LEAST, True), (WATCHED_LEAST - 1, None)])
def test_watched_for_long_enough(watched: float, yes: Optional[bool]) -> None:
    assert DONE.ledger is not None
    facts = replace(DONE, ledger=replace(DONE.ledger, watched_since=NOW - watched))
    answer = can_revoke(facts, NOW)
    assert answer.yes is yes
    assert answer.again == (None if yes else NOW + 1)


def test_nobody_counted_the_tokens() -> None:
    said = can_revoke(replace(DONE, tokens=None), NOW)
    assert said.yes is None
    assert "the live tokens were not counted" in said.unknowns
    unavailable = can_revoke(replace(DONE, tokens=None, unavailable={CACHE: "refused"}), NOW)
    assert "the live tokens were not counted" not in unavailable.unknowns


def test_all_are_dead_after_the_longest_life_whatever_the_cache_shows() -> None:
    assert all_dead_at(100.0, 3600.0) == 100.0 + EAPI_CACHE + 3600.0 + SKEW
    longest = NOW - ENDED - EAPI_CACHE - SKEW
    assert can_revoke(tokens(proof=ProofFacts(longest=longest)), NOW).yes is True
    later = can_revoke(tokens(proof=ProofFacts(longest=longest + 1)), NOW)
    assert (later.yes, later.again, later.waiting) == (None, NOW + 1, True)
    assert "the old secret ended 2 h ago" in " ".join(later.unknowns)
    for_ever = can_revoke(tokens(proof=ProofFacts(longest=math.inf)), NOW)
    assert (for_ever.yes, for_ever.again) == (None, None)
    assert "may live for ever" in " ".join(for_ever.unknowns)


CLEAR = NOW - EAPI_EARLY - SKEW
INTACT = CLEAR - UNPROVEN.longest - SKEW


@pytest.mark.parametrize(
    ("clear", "intact", "yes"),
    [
        (CLEAR, INTACT, True),
        (CLEAR + 1, INTACT, None),  # what left the cache early may live for another second
        (CLEAR, INTACT + 1, None),  # the longest-lived token was minted before we looked
        (CLEAR, None, None),
        (None, INTACT, None),
    ],
)
def test_nothing_was_lost_from_the_cache(
    clear: Optional[float], intact: Optional[float], yes: Optional[bool]
) -> None:
    proof = replace(UNPROVEN, clear_since=clear, intact_since=intact)
    assert can_revoke(tokens(proof=proof), NOW).yes is yes


def test_a_running_rotation_says_when_it_may_be_over() -> None:
    end = NOW + 600
    more: Any = {"started_at": end - HOUR, "transition": HOUR, "deprecated_by": None}
    running = rotated("dual_active", **more)
    assert can_revoke(running, NOW).again == all_dead_at(end, 3600.0)
    assert can_revoke(running, end).again is None  # overdue: nobody knows
    assert can_revoke(running, end - 1).again == all_dead_at(end, 3600.0)
    assert can_revoke(rotated("failed", **more), NOW).again is None
    unknown = rotated("dual_active", **{**more, "started_at": None})
    assert can_revoke(unknown, NOW).again is None
    longer = replace(running, tokens=TokenFacts(1, 0, proof=ProofFacts(longest=2 * HOUR)))
    assert can_revoke(longer, NOW).again == all_dead_at(end, 2 * HOUR)


def test_what_the_answer_names() -> None:
    assert can_revoke(DONE, NOW).old_version == "v5"
    assert can_revoke(replace(DONE, rotation=None), NOW).old_version == ""
    bare = can_revoke(replace(DONE, tokens=None), NOW)
    assert (bare.old_tokens, bare.maybe_old, bare.until) == (None, 0, None)
    unavailable = {ROTATIONS: revocation.NOT_CONFIGURED, CACHE: "timeout"}
    said = revocation.unknown_client("nobody", unavailable).unknowns
    assert said[1:] == (f"{CACHE} is unavailable (timeout)",)


def test_far_ends_are_not_written_as_dates() -> None:
    far = 253402300800.0
    assert "dies" not in can_revoke(tokens(old=1, old_until=far), NOW).reasons[0]
    assert "dies at 9999" in can_revoke(tokens(old=1, old_until=far - 1), NOW).reasons[0]


def test_a_block_is_not_read_unless_it_says_otherwise() -> None:
    assert Block("x") == Block("x", None, "not_read")


# -- what is wrong with a rotation


def rotation(state: str = "dual_active", **more: Any) -> CredentialFacts:
    base = RotationFacts("r", state, "v5", "v6", HOUR, NOW - 600)
    return replace(DONE, rotation=replace(base, **more))


def said_of(facts: CredentialFacts) -> list[tuple[str, bool]]:
    return [(trouble.why, trouble.surely) for trouble in states.troubles(facts, NOW)]


def test_a_rotation_on_its_way_has_no_trouble() -> None:
    assert said_of(rotation(status="IN_PROGRESS")) == []
    assert said_of(rotation()) == []


def test_success_false_is_a_failure_unless_it_may_not_be_set_yet() -> None:
    going = sorted(states.GOING)[0]
    ((why, surely),) = said_of(rotation(success=False, status=going))
    assert not surely
    assert "did it fail?" in why
    assert said_of(rotation(success=False))[0][1] is True
    assert said_of(rotation("new_active", success=False, status=going))[0][1] is True


def test_one_rival_makes_two_rotations() -> None:
    ((why, surely),) = said_of(rotation(rivals=1))
    assert why.startswith("2 rotations of this client run at once")
    assert not surely


@pytest.mark.parametrize(
    ("state", "more", "wrong"),
    [
        ("dual_active", {"completed_at": NOW}, True),
        ("dual_active", {"success": True}, True),
        ("new_active", {"completed_at": NOW, "success": True}, False),
        ("new_active", {"status": "IN_PROGRESS"}, True),
        ("dual_active", {"completed_at": NOW, "status": "IN_PROGRESS"}, False),
    ],
)
def test_over_by_its_own_word_and_running(state: str, more: Any, wrong: bool) -> None:
    said = " ".join(why for why, _ in said_of(rotation(state, **more)))
    assert ("own word" in said) is wrong


def test_sure_things_come_first() -> None:
    facts = rotation("failed", status="FAILED", rivals=1)
    assert [surely for _, surely in said_of(facts)][:2] == [True, False]


@pytest.mark.parametrize(("ago", "over"), [(0.0, False), (-1.0, True)])
def test_its_whole_time_is_over(ago: float, over: bool) -> None:
    policy = Policy()
    made = rotation().rotation
    assert made is not None
    steps = max(states._PASSED.values()) + 1
    lasts = steps * (HOUR + states.STEP_SECONDS)
    now = NOW - 600 + lasts - ago
    assert states.whole_time_over(made, policy, now) is over
    assert not states.whole_time_over(replace(made, started_at=None), policy, now + 9e9)
    assert not states.whole_time_over(replace(made, state="new_active"), policy, now + 9e9)
    usual = replace(made, transition=None)
    assert states.whole_time_over(usual, replace(policy, transition=HOUR), now) is over


@pytest.mark.parametrize(
    ("failed", "used", "refused"),
    [
        (None, None, False),
        (ENDED, None, False),
        (ENDED + 1, None, True),
        (ENDED + 1, ENDED - 1, True),
        (ENDED + 1, ENDED, False),
    ],
)
def test_refused_since_the_end(failed: Any, used: Any, refused: bool) -> None:
    facts = replace(DONE, use=UseFacts(last_failed=failed, last_used=used))
    assert states.refused_since(facts) is refused


# -- limits, shares and times


LOW = "payment_api_credential_due_seconds"


def verdict(name: str, value: Optional[float], limits: Any, **more: Any) -> Any:
    labels = more.pop("labels", {})
    (found,) = judge([Measurement(name, value, labels, **more)], limits)
    return found


def test_what_is_known_of_an_unknown_figure_is_enough_to_cross_a_limit() -> None:
    name, limits = "payment_api_tokens_without_ttl", {"security.tokens_without_ttl": Limit(5, None)}
    at = verdict(name, None, limits, at_least=5.0)
    assert (at.severity, at.why) == (Severity.WARNING, "above_warning")
    below = verdict(name, None, limits, at_least=4.0)
    assert (below.severity, below.why) == (Severity.UNKNOWN, "not_measured")
    known = verdict(name, 4.0, limits, at_least=9.0)
    assert known.severity is Severity.OK


def test_a_figure_that_is_worse_when_lower_is_not_known_by_its_least() -> None:
    name = "payment_api_tls_certificate_remaining_seconds"
    limits = {"availability.tls_certificate_days": Limit(30, 7)}
    labels = {"component": "payment-eapi"}
    found = verdict(name, None, limits, at_least=1.0, labels=labels)
    assert found.severity is Severity.UNKNOWN
    equal = verdict(name, 7 * 86400.0, limits, labels=labels)
    assert (equal.severity, equal.why) == (Severity.CRITICAL, "below_critical")
    above = verdict(name, 7 * 86400.0 + 1, limits, labels=labels)
    assert above.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("seen", "wanted", "share", "enough"),
    [
        (0, 0, None, False), (1, 0, None, False), (0, 1, 0.0, False), (1, 1, 1.0, True),
        (0.5, 1, 0.5, True), (0.49, 1, 0.49, False), (3, 1, 1.0, True), (-1, 1, 0.0, False),
        (0.5, 0.5, 1.0, True), (0.4, 0.8, 0.5, True),
    ],
)  # fmt: skip
def test_coverage(seen: float, wanted: float, share: Optional[float], enough: bool) -> None:
    coverage = Coverage("keys", seen, wanted, least=0.5)
    assert (coverage.share, coverage.enough) == (share, enough)


def test_a_little_seen_is_enough_where_a_little_is_asked() -> None:
    assert Coverage("keys", 0.5, 100, least=0.005).enough
    assert not Coverage("keys", 0, 100, least=0.0).enough


@pytest.mark.parametrize(
    ("share", "said"), [(0.001, "0.1 %"), (0.0009999, "0.099 %"), (1.0, "100 %"), (0.0, "0 %")]
)
def test_percent(share: float, said: str) -> None:
    assert percent(share) == said


def test_samples_that_meet_do_not_overlap() -> None:
    def at(moment: float) -> Point:
        return Point(moment, 60.0, 1.0, 1.0, 1.0, 1)

    assert inside([at(60), at(120)], 0, 120) == [60.0, 60.0]
    assert inside([at(60), at(119.998)], 0, 120) == [60.0, 60.0]  # milliseconds are the same
    assert sum(inside([at(60), at(119.9)], 0, 120)) == pytest.approx(119.9)
    three = inside([at(60), at(60), at(60)], 0, 60)
    assert three == pytest.approx([20.0, 20.0, 20.0])


# -- hysteresis and flapping

RULES = AlertSettings(failure_threshold=2, recovery_threshold=1, window=None)
ALERT = Alert(AlertKey("t", "s", "c", "m"), Severity.CRITICAL, "down")


def test_times_in_the_flap_window_are_bounded() -> None:
    rules = replace(RULES, flap_window=100.0, flap_changes=3)
    assert flapping.within((NOW - 100, NOW - 99, NOW, NOW + 1), rules, NOW) == (NOW - 99, NOW)
    many = tuple(NOW - 50 + n for n in range(20))
    assert flapping.within(many, rules, NOW) == many[-6:]
    state = AlertState(ALERT, flips=tuple(NOW - n for n in range(5)))
    assert not flapping.intermittent(state, rules, NOW)
    assert flapping.intermittent(replace(state, flips=(*state.flips, NOW)), rules, NOW)


def test_a_child_keeps_what_was_told_and_nothing_else() -> None:
    firing = AlertState(ALERT, phase=FIRING, bad=3, notified=Severity.CRITICAL)
    assert hysteresis.hold_back(firing, ALERT, NOW) == replace(firing, judged_at=NOW)
    untold = replace(firing, notified=None)
    assert not hysteresis.hold_back(untold, ALERT, NOW).firing
    calm = replace(firing, phase="ok")
    assert hysteresis.hold_back(calm, ALERT, NOW).bad == 0


def test_what_nobody_judges_for_a_week_is_over() -> None:
    unknown = replace(ALERT, severity=Severity.UNKNOWN)
    firing = AlertState(ALERT, phase=FIRING, bad=3, notified=Severity.CRITICAL, judged_at=NOW)
    week = hysteresis.FORGET_AFTER
    assert hysteresis.advance(firing, unknown, RULES, NOW + week - 1) == firing
    assert not hysteresis.advance(firing, unknown, RULES, NOW + week).firing


def test_a_flapping_alert_that_resolves_flaps_no_more() -> None:
    rules = replace(RULES, flap_window=100.0, flap_changes=3)
    state = AlertState(ALERT, phase=FIRING, bad=1, notified=Severity.CRITICAL, judged_at=NOW,
                       flapping=True, turns=(NOW - 1, NOW), steady_since=NOW - 60)  # fmt: skip
    fine = replace(ALERT, severity=Severity.OK)
    after = state
    for cycle in range(6):
        after = hysteresis.advance(after, fine, rules, NOW + 20 * cycle)
    assert not after.firing
    assert not after.flapping
    assert after.turns == ()


def test_the_first_judgement_is_no_change_of_the_verdict() -> None:
    after = hysteresis.advance(AlertState(ALERT), ALERT, RULES, NOW)
    assert (after.flips, after.recent) == ((), (True,))
    again = hysteresis.advance(after, ALERT, RULES, NOW + 1)
    assert again.recent == (True,), "without a window only the last one is remembered"


def test_a_new_incident_begins_now_and_not_when_the_last_one_did() -> None:
    over = AlertState(ALERT, good=1, since=NOW - 500)
    assert hysteresis.advance(over, ALERT, RULES, NOW).since == NOW


def test_with_a_window_that_holds_nothing_bad_all_is_well() -> None:
    fine = replace(ALERT, severity=Severity.OK)
    rules = replace(RULES, window=(2, 3))
    assert hysteresis.advance(AlertState(ALERT), fine, rules, NOW).phase == "ok"


def test_a_later_failure_beside_a_rotation_is_no_sure_thing() -> None:
    ((why, surely),) = said_of(rotation(failed_since="r2 at noon"))
    assert "a later one failed: r2 at noon" in why
    assert not surely


def test_a_version_that_is_not_born_need_not_have_a_name() -> None:
    for state in ("dual_active", *states.UNBORN):
        said = " ".join(why for why, _ in said_of(rotation(state, new_version=None)))
        assert ("cannot be told" in said) is (state == "dual_active")


ELSEWHERE = "payment-capi"  # no component of the monitor's own


@pytest.mark.parametrize(
    ("place", "evidence", "parts", "sources", "over"),
    [
        ("redis-cache", {}, (component(),), (), True),
        ("redis-cache", {}, (component(Severity.CRITICAL),), (), False),
        ("redis-cache", {}, (component(Severity.UNKNOWN, configured=False),), (), True),
        ("redis-cache", {}, (component(name="payment-eapi"),), (Source("a", ok=True),), False),
        (ELSEWHERE, {}, (component(),), (Source("a", ok=True), Source("b", ok=True)), True),
        (ELSEWHERE, {}, (component(),), (Source("a", ok=True), Source("b", ok=False)), False),
        (ELSEWHERE, {"source": "a"}, (), (Source("a", ok=True), Source("b", ok=False)), True),
        (ELSEWHERE, {"source": "b"}, (), (Source("a", ok=True), Source("b", ok=False)), False),
        (ELSEWHERE, {"sources": ["a"]}, (), (Source("a", ok=True), Source("b", ok=False)), True),
        (ELSEWHERE, {"sources": ["b"]}, (), (Source("a", ok=True), Source("b", ok=False)), False),
        (ELSEWHERE, {}, (), (), False),
    ],
)
def test_what_is_no_longer_found_is_over_only_where_it_was_looked_for(
    place: str, evidence: Any, parts: Any, sources: Any, *, over: bool
) -> None:
    known = alert(component=place, metric="volume_spike", client="c1", evidence=evidence)
    seen = outcome(*parts, sources=sources)
    (said,) = flapping.vanished([known], [], seen)
    assert said.severity is (Severity.OK if over else Severity.UNKNOWN)
    if over:
        assert said.summary == f"{place}, client c1: volume spike is no longer found"
    assert flapping.vanished([known], [known], seen) == ()
    (nobody,) = flapping.vanished([replace(known, key=replace(known.key, client=""))], [], seen)
    assert "client" not in nobody.summary


@pytest.mark.parametrize(("place", "over"), [("conjur-sync", True), ("redis-cache", False)])
def test_a_source_that_nobody_reads_any_more_is_blind_no_longer(place: str, *, over: bool) -> None:
    """A component of the monitor's own is: the run that asks others says nothing of it."""
    known = alert(component=place, metric=flapping.BLIND)
    seen = outcome(component(name="payment-eapi"), sources=(Source("a", ok=True),))
    (said,) = flapping.vanished([known], [], seen)
    assert said.severity is (Severity.OK if over else Severity.UNKNOWN)
