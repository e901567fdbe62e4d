"""May the old version go? Never while an old token lives or a source that is needed is dark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        "the vault is dark",
        replace(DONE, vault=None, dark={VAULT: "refused (403)"}),
        None,
        "conjur is dark (refused (403))",
    ),
    ("the cache is dark", replace(DONE, tokens=None, dark={CACHE: "away"}), None, "redis is dark"),
    (
        "the rotation service is dark",
        replace(DONE, rotation=None, dark={ROTATIONS: "502"}),
        None,
        "rotation-service is dark",
    ),
    (
        "the rotation service is not configured",
        replace(DONE, rotation=None, dark={ROTATIONS: NOT_CONFIGURED}),
        None,
        "not configured",
    ),
    (
        "the services' counters cannot be read",
        replace(DONE, dark={EAPI: "timeout"}),
        None,
        "eapi-metrics (timeout) might know more",
    ),
    ("there are no counters to read", replace(DONE, dark={EAPI: NOT_CONFIGURED}), True, ""),
    (
        "the scan ended early",
        replace(DONE, tokens=TokenFacts(40, 0, None, complete=False)),
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
        "not known when the old secret ended",
    ),
    (
        "an objection outweighs what is unknown",
        replace(DONE, tokens=TokenFacts(40, 2, complete=False), dark={VAULT: "away"}),
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
        st.booleans(),
        st.integers(0, 2),
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
    dark=st.dictionaries(
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
    assert not facts.tokens.unreadable
    assert not {VAULT, CACHE, ROTATIONS} & set(facts.dark)
    assert facts.rotation is not None
    assert facts.rotation.state in ("old_deprecated", "new_active")
