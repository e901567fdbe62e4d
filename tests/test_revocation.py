"""May the old version go? Never while an old token lives or a needed source is unavailable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given, strategies as st

from monitoring.credentials.facts import (
    CACHE,
    EAPI,
    ROTATIONS,
    VAULT,
    CachedFacts,
    CredentialFacts,
    LedgerFacts,
    RotationFacts,
    TokenFacts,
    UseFacts,
    VaultFacts,
    version_number,
)
from monitoring.credentials.revocation import NOT_CONFIGURED, can_revoke
from monitoring.model import ExitStatus

NOW = 1_795_400_000.0
HOUR = 3600.0

DONE = CredentialFacts(
    "c1",
    vault=VaultFacts(6),
    rotation=RotationFacts(
        "r", "old_deprecated", "v5", "v6", HOUR, NOW - 3 * HOUR, deprecated_by=NOW - 2 * HOUR
    ),
    tokens=TokenFacts(40, 0),
    use=UseFacts(uses=3.0, failures=0.0),
    ledger=LedgerFacts(NOW - 3 * HOUR, NOW - 4 * HOUR),
)


def rotated(state: str, **more: Any) -> CredentialFacts:
    assert DONE.rotation is not None
    return replace(DONE, rotation=replace(DONE.rotation, state=state, **more))


ROWS = [
    ("nothing of the old version is left", DONE, True, "no token of the old secret lives"),
    ("nor is it after the rotation", rotated("new_active"), True, "no longer used"),
    (
        "one old token lives",
        replace(DONE, tokens=TokenFacts(40, 1, NOW + 60)),
        False,
        "1 token that may be of the old secret alive; the last dies at 2026",
    ),
    ("both log in", rotated("dual_active", deprecated_by=None), False, "wait until"),
    ("the new one is not in use", rotated("initiated", deprecated_by=None), False, "lock"),
    ("the rotation failed", rotated("failed", deprecated_by=None), False, "only one that works"),
    ("a state nobody knows", rotated("rolled\x1bback"), False, "not known here"),
    ("old and new are one", rotated("new_active", new_version="v5"), False, "one version as old"),
    (
        "it succeeded by no word of its own",
        rotated("new_active", success=False),
        False,
        "did not succeed, by its own word",
    ),
    (
        "it is said to be over and the vault has not got the new version",
        replace(rotated("new_active"), vault=VaultFacts(5)),
        False,
        "the vault does not hold version 6 yet, its newest is 5",
    ),
    ("the vault has no version", replace(DONE, vault=VaultFacts(None)), False, "no version at all"),
    (
        "a newer one was written by hand since",
        replace(DONE, vault=VaultFacts(7)),
        True,
        "no token of the old secret lives",
    ),
    ("the new one is the older", rotated("new_active", old_version="v9"), False, "not above"),
    (
        "versions without numbers are in no order",
        rotated("new_active", old_version="4f1c", new_version="9a77-2"),
        None,
        "4f1c and 9a77-2 cannot be held against the vault's numbers",
    ),
    (
        "EAPI believes that both log in",
        replace(DONE, cached=CachedFacts(True, "v6", "dual_active")),
        False,
        "for 15 minutes at most",
    ),
    (
        "a token was minted so near the end that clocks decide",
        replace(DONE, tokens=TokenFacts(40, 0, near=2, near_until=NOW + 60)),
        False,
        "2 tokens so near the old secret's end that they may still be of it; the last dies at 2026",
    ),
    (
        "tokens that name no client live",
        replace(DONE, tokens=TokenFacts(40, 0, unowned=1)),
        None,
        "1 live token of no known client",
    ),
    (
        "no token lives anywhere: do we look in the right place?",
        replace(DONE, tokens=TokenFacts(0, 0, any_live=False)),
        None,
        "no live token of any client",
    ),
    (
        "our clock is wrong",
        replace(DONE, clock=-2400.0),
        None,
        "clocks are 40 min apart",
    ),
    ("clocks differ a little", replace(DONE, clock=20.0), True, ""),
    (
        "the version was never seen in the vault",
        replace(DONE, ledger=None),
        None,
        "has not seen the present version",
    ),
    ("the first look", replace(DONE, ledger=LedgerFacts(NOW, NOW)), None, "watched for 0 s only"),
    ("there is no rotation", replace(DONE, rotation=None), False, "the only secret"),
    (
        "the old version was seen after its end",
        replace(DONE, use=UseFacts(uses=3.0, old_version_seen=NOW - HOUR)),
        False,
        "the old version was used 1 h ago",
    ),
    (
        "it was seen before its end",
        replace(DONE, use=UseFacts(uses=3.0, old_version_seen=NOW - 2.5 * HOUR)),
        True,
        "last seen 2 h 30 min ago",
    ),
    (
        "the client still comes with it and is refused",
        replace(DONE, use=UseFacts(uses=3.0, last_used=NOW - 3 * HOUR, last_failed=NOW - 60)),
        False,
        "it is in use",
    ),
    (
        "EAPI has it cached",
        replace(DONE, cached=CachedFacts(True, "v5")),
        False,
        "the cache still holds the old version",
    ),
    (
        "the vault is unavailable",
        replace(DONE, vault=None, unavailable={VAULT: "refused (403)"}),
        None,
        "conjur is unavailable (refused (403))",
    ),
    (
        "the cache is unavailable",
        replace(DONE, tokens=None, unavailable={CACHE: "away"}),
        None,
        "redis is unavailable",
    ),
    (
        "the rotation service is unavailable",
        replace(DONE, rotation=None, unavailable={ROTATIONS: "502"}),
        None,
        "rotation-service is unavailable",
    ),
    (
        "the rotation service is not configured",
        replace(DONE, rotation=None, unavailable={ROTATIONS: NOT_CONFIGURED}),
        None,
        "not configured",
    ),
    (
        "the services' counters cannot be read",
        replace(DONE, unavailable={EAPI: "timeout"}),
        None,
        "eapi-metrics (timeout) might know more",
    ),
    ("there are no counters to read", replace(DONE, unavailable={EAPI: NOT_CONFIGURED}), True, ""),
    (
        "the scan ended early",
        replace(DONE, tokens=TokenFacts(40, 0, complete=False)),
        None,
        "ended early",
    ),
    (
        "values under token keys could not be read",
        replace(DONE, tokens=TokenFacts(40, 0, unreadable=3)),
        None,
        "3 values under token keys",
    ),
    (
        "it is not known when the old secret ended",
        replace(DONE, tokens=TokenFacts(40, None)),
        None,
        "when the old secret ended, so no token",
    ),
    (
        "an objection outweighs what is unknown",
        replace(DONE, tokens=TokenFacts(40, 2, complete=False), unavailable={VAULT: "away"}),
        False,
        "2 tokens that may be of the old secret alive",
    ),
]


@pytest.mark.parametrize(("sentence", "facts", "yes", "said"), ROWS, ids=[r[0] for r in ROWS])
def test_answers(sentence: str, facts: CredentialFacts, yes: Optional[bool], said: str) -> None:
    answer = can_revoke(facts, NOW)
    assert answer.yes is yes, answer
    assert any(said in text for text in (*answer.reasons, *answer.unknowns, "")), answer
    wanted = {True: ExitStatus.OK, False: ExitStatus.CRITICAL, None: ExitStatus.UNKNOWN}
    assert answer.exit_status is wanted[yes]


moments = st.one_of(st.none(), st.floats(NOW - 1e6, NOW))
versions = st.sampled_from([None, "v4", "v5", "v6", "v7", "odd"])
states = st.sampled_from(
    ["initiated", "dual_active", "old_deprecated", "new_active", "failed", "", "else"]
)
rotations = st.one_of(
    st.none(),
    st.builds(
        RotationFacts,
        st.just("r"),
        states,
        versions,
        versions,
        started_at=moments,
        completed_at=moments,
        success=st.sampled_from([None, True, False]),
        entered_at=moments,
        deprecated_by=moments,
    ),
)
tokens = st.one_of(
    st.none(),
    st.builds(
        TokenFacts,
        st.integers(0, 50),
        st.one_of(st.none(), st.integers(0, 5)),
        moments,
        near=st.integers(0, 1),
        complete=st.booleans(),
        unreadable=st.integers(0, 1),
        unowned=st.integers(0, 1),
        any_live=st.booleans(),
    ),
)
everything = st.builds(
    CredentialFacts,
    st.just("c1"),
    vault=st.one_of(st.none(), st.builds(VaultFacts, st.sampled_from([None, 4, 5, 6, 7]))),
    cached=st.one_of(
        st.none(), st.builds(CachedFacts, st.sampled_from([None, True, False]), versions)
    ),
    rotation=rotations,
    use=st.builds(UseFacts, old_version_seen=moments),
    tokens=tokens,
    ledger=st.one_of(st.none(), st.builds(LedgerFacts, moments, st.floats(NOW - 1e6, NOW))),
    clock=st.sampled_from([None, 0.0, 3600.0, -3600.0]),
    unavailable=st.dictionaries(
        st.sampled_from([VAULT, CACHE, ROTATIONS, EAPI]), st.sampled_from(["away", NOT_CONFIGURED])
    ),
)


@given(everything)
def test_never_yes_while_an_old_token_lives_or_a_needed_source_is_dark(
    facts: CredentialFacts,
) -> None:
    answer = can_revoke(facts, NOW)
    assert answer.yes is None or answer.reasons
    if answer.yes is not None and not answer.yes:
        return
    if answer.yes is None:
        assert answer.unknowns
        return
    assert facts.tokens is not None
    assert facts.tokens.old == 0
    assert facts.tokens.complete
    assert facts.tokens.unreadable == facts.tokens.unowned == facts.tokens.near == 0
    assert facts.tokens.any_live
    assert not facts.clock
    assert not {VAULT, CACHE, ROTATIONS} & set(facts.unavailable)
    assert facts.rotation is not None
    assert facts.rotation.state in ("old_deprecated", "new_active")
    assert facts.rotation.success is not False
    new = version_number(facts.rotation.new_version)
    assert facts.vault is not None
    assert new is not None
    assert (facts.vault.version or 0) >= new
