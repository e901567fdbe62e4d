"""Ages: which source speaks, and that none speaks of another version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.credentials.ages import (
    age_of,
    cache_is_old,
    current_version,
    failing_rotator,
    superseded,
)
from monitoring.credentials.facts import (
    SKEW,
    WATCH_GAP,
    Age,
    CachedFacts,
    CredentialFacts,
    LedgerFacts,
    RotationFacts,
    VaultFacts,
    version_number,
)

NOW = 1_795_400_000.0
DAY = 86400.0


def rotation(state: str, **more: Any) -> RotationFacts:
    fields = {"old_version": "v5", "new_version": "v6", "started_at": NOW - 3 * DAY}
    return RotationFacts("r", state, **{**fields, **more})


FULL = CredentialFacts(
    "c1",
    vault=VaultFacts(6, NOW + 20 * DAY, "x", 30 * DAY, (None, NOW + 20 * DAY)),
    cached=CachedFacts(True, "v6", created_at=NOW - 4 * DAY),
    rotation=rotation("new_active", completed_at=NOW - 2 * DAY),
    ledger=LedgerFacts(NOW - DAY, NOW - 12 * DAY),
)


def test_the_order_of_the_sources() -> None:
    """Rotation service, cached credential, expiry minus ttl, ledger."""
    facts, order = FULL, []
    for gone in ("rotation", "cached", "vault", "ledger"):
        order.append(age_of(facts))
        facts = replace(facts, **{gone: None})
    assert order == [
        Age(NOW - 3 * DAY, "rotation_service"),
        Age(NOW - 4 * DAY, "cache"),
        Age(NOW - 10 * DAY, "vault_expiry"),
        Age(NOW - DAY, "ledger", at_least=True, oldest=NOW - 12 * DAY),
    ]
    assert age_of(facts) == Age(None, "unknown")


OTHERS = [
    (
        "a rotation to a version below the vault's is not about this secret",
        replace(FULL, vault=VaultFacts(7), cached=None),
        "ledger",
    ),
    (
        "a cached credential from before the rotation is not about this secret",
        replace(FULL, rotation=None, cached=CachedFacts(True, "v5", created_at=NOW - 80 * DAY)),
        "vault_expiry",
    ),
    (
        "an expiry that a failing rotator moves tells no age",
        replace(
            FULL,
            rotation=None,
            cached=None,
            vault=VaultFacts(6, NOW, "x", 30 * DAY, (NOW, NOW)),
        ),
        "ledger",
    ),
    (
        "nor does one that says it came after we saw it: the ttl was shortened",
        CredentialFacts(
            "c",
            vault=VaultFacts(6, NOW + 80 * DAY, "x", 30 * DAY, (NOW + 80 * DAY,)),
            ledger=LedgerFacts(NOW - DAY, NOW - 1.1 * DAY),
        ),
        "ledger",
    ),
    (
        "a cached record that is older than the secret in it is passed over",
        CredentialFacts(
            "c",
            vault=VaultFacts(6),
            cached=CachedFacts(True, "v6", created_at=NOW - 200 * DAY),
            ledger=LedgerFacts(NOW - DAY, NOW - 1.1 * DAY),
        ),
        "ledger",
    ),
    (
        "but not because this monitor was away when the secret came",
        CredentialFacts(
            "c",
            vault=VaultFacts(6),
            cached=CachedFacts(True, "v6", created_at=NOW - 20 * DAY),
            ledger=LedgerFacts(NOW - DAY, NOW - DAY),
        ),
        "cache",
    ),
]


@pytest.mark.parametrize(("sentence", "facts", "source"), OTHERS, ids=[r[0] for r in OTHERS])
def test_a_source_that_speaks_of_another_version_is_passed_over(
    sentence: str, facts: CredentialFacts, source: str
) -> None:
    assert age_of(facts).source == source


@pytest.mark.parametrize("state", ["initiated", "failed"])
def test_until_the_new_version_is_in_use_the_old_one_is_the_present_one(state: str) -> None:
    """The vault holds version 6 already; clients use 5, and it is 5 whose age counts."""
    facts = CredentialFacts(
        "c1",
        vault=VaultFacts(6),
        cached=CachedFacts(True, "v5", created_at=NOW - 40 * DAY),
        rotation=rotation(state),
    )
    assert current_version(facts) == 5
    assert age_of(facts) == Age(NOW - 40 * DAY, "cache")
    known = replace(facts, rotation=rotation(state, old_since=NOW - 41 * DAY))
    assert age_of(known) == Age(NOW - 41 * DAY, "rotation_service")
    assert current_version(replace(facts, vault=VaultFacts(7))) == 7  # written by hand since


def test_the_new_version_is_the_present_one_from_dual_active_on() -> None:
    for state in ("dual_active", "old_deprecated", "new_active"):
        facts = CredentialFacts("c1", vault=VaultFacts(6), rotation=rotation(state))
        assert current_version(facts) == 6
        assert age_of(facts) == Age(NOW - 3 * DAY, "rotation_service")


LEDGERS = [
    ("seen at the first look: at least", LedgerFacts(NOW - DAY, NOW - DAY), True, None),
    ("seen to come: exact", LedgerFacts(NOW - DAY, NOW - DAY - 300), False, None),
    (
        "came while nobody looked for weeks: at least, and at most so old",
        LedgerFacts(NOW - DAY, NOW - DAY - WATCH_GAP - 1),
        True,
        NOW - DAY - WATCH_GAP - 1,
    ),
    (
        "what a better source once said of it stands",
        LedgerFacts(NOW - DAY, NOW - DAY, NOW - 30 * DAY, "cache"),
        False,
        None,
    ),
]


@pytest.mark.parametrize(("sentence", "ledger", "least", "oldest"), LEDGERS)
def test_the_ledger(sentence: str, ledger: LedgerFacts, least: bool, oldest: Any) -> None:
    age = age_of(CredentialFacts("c1", ledger=ledger))
    assert (age.at_least, age.oldest) == (least, oldest), sentence
    assert age.since == (ledger.born or ledger.first_seen)


def test_a_variable_is_not_older_than_itself() -> None:
    facts = CredentialFacts(
        "c1",
        vault=VaultFacts(1, created_at=NOW - 9 * DAY),
        ledger=LedgerFacts(NOW - DAY, NOW - DAY),
    )
    assert age_of(facts).oldest == NOW - 9 * DAY


@pytest.mark.parametrize(
    ("vault", "failing"),
    [
        (VaultFacts(2, NOW, "x", DAY, (NOW, NOW)), True),
        (VaultFacts(2, NOW, "x", DAY, (NOW - DAY, NOW)), False),
        (VaultFacts(2, NOW, "x", DAY, (None, NOW)), False),
        (VaultFacts(1, NOW, "x", DAY, (NOW,)), False),
        (VaultFacts(1, NOW, "x", DAY, (NOW,), moving=True), True),
        (VaultFacts(2, NOW, "", None, (NOW, NOW)), False),
        (None, False),
    ],
)
def test_a_failing_rotator(vault: Any, failing: bool) -> None:
    assert failing_rotator(CredentialFacts("c", vault=vault)) is failing


@pytest.mark.parametrize(
    ("text", "number"),
    [("v7", 7), ("7", 7), ("version-12", 12), ("", None), (None, None), ("v" + "9" * 40, None)],
)
def test_version_numbers(text: Any, number: Any) -> None:
    assert version_number(text) == number


SEEN_FIRST = NOW - 5 * DAY
BEFORE_US = LedgerFacts(SEEN_FIRST, SEEN_FIRST)


@pytest.mark.parametrize(
    ("sentence", "date", "ledger", "age"),
    [
        ("it stands for a minimum", 9, BEFORE_US, Age(NOW - 9 * DAY, "configuration")),
        ("and for nothing at all", 9, None, Age(NOW - 9 * DAY, "configuration")),
        (
            "it cannot be later than the first look at the version",
            4,
            BEFORE_US,
            Age(SEEN_FIRST, "ledger", at_least=True),
        ),
        (
            "nor before a look at which the version was not there",
            13,
            LedgerFacts(NOW - DAY, NOW - 12 * DAY),
            Age(NOW - DAY, "ledger", at_least=True, oldest=NOW - 12 * DAY),
        ),
        (
            "within a gap in which nobody looked it may have come",
            7,
            LedgerFacts(NOW - DAY, NOW - 12 * DAY),
            Age(NOW - 7 * DAY, "configuration"),
        ),
        ("what was seen to come is known", 9, LedgerFacts(NOW - DAY, NOW - DAY - 60), None),
        ("what a better source said is kept", 9, LedgerFacts(NOW, NOW, NOW - DAY, "cache"), None),
    ],
)
def test_a_date_in_the_configuration(
    sentence: str, date: float, ledger: LedgerFacts | None, age: Age | None
) -> None:
    facts = CredentialFacts("c", ledger=ledger, rotated_at=NOW - date * DAY)
    assert age_of(facts) == (age or age_of(replace(facts, rotated_at=None))), sentence


def dated(since: float, ledger: LedgerFacts) -> CredentialFacts:
    return CredentialFacts("c", cached=CachedFacts(True, "v6", created_at=since), ledger=ledger)


SEEN_TO_COME = LedgerFacts(NOW - DAY, NOW - 1.1 * DAY)


@pytest.mark.parametrize(
    ("since", "source"),
    [
        (SEEN_TO_COME.first_seen + SKEW, "cache"),
        (SEEN_TO_COME.first_seen + SKEW + 1, "ledger"),
        (SEEN_TO_COME.watched_since - SKEW, "cache"),
        (SEEN_TO_COME.watched_since - SKEW - 1, "ledger"),
    ],
)
def test_clocks_may_differ_by_so_much_and_no_more(since: float, source: str) -> None:
    assert age_of(dated(since, SEEN_TO_COME)).source == source


def test_a_looked_up_date_may_differ_by_as_much() -> None:
    came = LedgerFacts(NOW - DAY, NOW - 12 * DAY)
    for since, source in (
        (came.watched_since - SKEW, "configuration"),
        (came.watched_since - SKEW - 1, "ledger"),
        (came.watched_since, "configuration"),
    ):
        age = age_of(CredentialFacts("c", ledger=came, rotated_at=since))
        assert age.source == source, since


@pytest.mark.parametrize(
    ("state", "vault", "present"),
    [
        ("initiated", None, 5),  # nobody may use the new one yet
        ("failed", None, 5),
        ("dual_active", None, 6),
        ("new_active", None, 6),
        ("initiated", 7, 7),  # written by hand since: the rotation is not about it
    ],
)
def test_the_version_that_a_rotation_alone_speaks_of(state: str, vault: Any, present: int) -> None:
    facts = CredentialFacts(
        "c", vault=VaultFacts(vault) if vault else None, rotation=rotation(state)
    )
    assert current_version(facts) == present


def test_where_the_old_version_is_not_named_the_new_one_does_not_count_yet() -> None:
    facts = CredentialFacts("c", vault=VaultFacts(6), rotation=rotation("failed", old_version=""))
    assert current_version(facts) == 6
    assert current_version(replace(facts, vault=None)) is None


@pytest.mark.parametrize(
    ("sentence", "made", "vault", "history"),
    [
        ("no rotation was ever heard of", None, 7, False),
        ("it failed, and somebody wrote the next version", rotation("failed"), 7, True),
        ("it failed by its status", rotation("old_deprecated", status="FAILED"), 7, True),
        ("it failed, and its own version is the last", rotation("failed"), 6, False),
        (
            "by its status, and its own is the last",
            rotation("new_active", status="FAILED"),
            6,
            False,
        ),
        ("it failed, and the old one is the last", rotation("failed"), 5, False),
        ("it went well", rotation("new_active", status="COMPLETED"), 7, False),
        ("of what version is not said", rotation("failed", new_version=""), 7, False),
        ("nothing says what is there now", rotation("failed", old_version=""), None, False),
    ],
)
def test_a_failed_rotation_is_history_once_somebody_went_beyond_it(
    *, sentence: str, made: Any, vault: Any, history: bool
) -> None:
    facts = CredentialFacts("c", vault=VaultFacts(vault) if vault else None, rotation=made)
    assert superseded(facts) is history, sentence


@pytest.mark.parametrize(
    ("sentence", "cached", "vault", "old"),
    [
        ("EAPI holds the version before", CachedFacts(True, "v5"), 6, True),
        ("EAPI holds the present one", CachedFacts(True, "v6"), 6, False),
        ("it does not say which", CachedFacts(True, ""), 6, False),
        ("it holds none", None, 6, False),
        ("nobody knows any version", None, None, False),
    ],
)
def test_whether_eapi_loaded_the_replaced_version(
    *, sentence: str, cached: Any, vault: Any, old: bool
) -> None:
    facts = CredentialFacts("c", vault=VaultFacts(vault) if vault else None, cached=cached)
    assert cache_is_old(facts) is old, sentence
