"""Whether each accepted token was minted: rows that say why, and a model that forgets nothing."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from monitoring.follow.births import (
    BORN,
    LONGEST,
    ORPHAN,
    UNKNOWN,
    Births,
    Certificate,
    Use,
)
from monitoring.follow.index import HashIndex, hash_of
from monitoring.follow.lineage import Lineage
from monitoring.follow.renewed import SapiWrites
from monitoring.tokens.codecs.facts import ValidationFact
from monitoring.tokens.codecs.records import NEVER
from monitoring.tokens.codecs.table import decode

NOW = 1_795_402_000.0
SKEW = 30.0
FORGED = Use(7, 70, "client-001", NOW + 100, NOW + 3700, NOW + 101)


def watched() -> Births:
    births = Births(skew=SKEW)
    births.began(NOW)
    return births


def judged(births: Births, use: Use, now: float = NOW + 102) -> tuple[str, str]:
    births.used(use)
    found = births.certificate(use, now)
    named = [orphan.identity for orphan in births.orphans(now)]
    assert named == ([use.identity] if found.word == ORPHAN else [])
    return found.word, found.why


def test_a_used_token_that_nobody_minted_is_an_orphan() -> None:
    assert judged(watched(), FORGED) == (ORPHAN, "never_minted")


def test_a_minted_one_is_born() -> None:
    births = watched()
    births.born(7, 70, NOW + 3700, NOW + 100)
    assert judged(births, FORGED) == (BORN, "minted")


def test_a_forged_token_with_the_id_of_a_minted_one_is_an_orphan() -> None:
    births = watched()
    births.born(7, 71, NOW + 3700, NOW + 100)
    assert judged(births, FORGED) == (ORPHAN, "copied_id")


def test_claims_that_were_not_read_accuse_nobody() -> None:
    births = watched()
    births.born(7, 0, NOW + 3700, NOW + 100)
    assert judged(births, FORGED) == (BORN, "minted")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iat": None}, "without_times"),
        ({"iat": NOW - 1}, "older_than_the_watch"),
        ({"iat": NOW + SKEW}, "older_than_the_watch"),
        ({"iat": NOW + 140}, "clocks"),
        ({"exp": NOW + 102}, "clocks"),
        ({"exp": NOW + 2 * LONGEST, "iat": NOW + 100 - LONGEST}, "older_than_the_watch"),
    ],
)
def test_what_its_times_leave_open_is_unknown(change: dict[str, object], why: str) -> None:
    assert judged(watched(), replace(FORGED, **change)) == (UNKNOWN, why)  # type: ignore[arg-type]


def test_how_long_a_token_lives_hides_no_forgery_only_a_birth_that_may_be_forgotten() -> None:
    births, endless = watched(), replace(FORGED, exp=float(NEVER))
    births.used(endless)
    assert [use.told_until for use in births.orphans(NOW + 102)] == [NOW + 101 + LONGEST]
    late = NOW + 100 + LONGEST
    assert births.certificate(endless, late - SKEW).word == ORPHAN
    assert births.certificate(endless, late - SKEW + 1) == Certificate(
        UNKNOWN, "birth_may_be_forgotten"
    )
    births.forget(late)
    assert births.waiting == 1
    births.forget(NOW + 101 + LONGEST)
    assert births.waiting == 0


# -- what the keys of the cache say


GOOD = ValidationFact(True, "ok", False)


def lineage_of() -> Lineage:
    """Nothing was missed since `NOW`, and SAPI is known to write with each verdict."""
    lineage = Lineage(Births(skew=SKEW), SapiWrites(proofs=0))
    lineage.births.began(NOW)
    return lineage


def jwt_of(**claims: object) -> bytes:
    whole = {"sub": "client-001", "jti": "j", "iat": int(NOW) + 100, **claims}
    body = base64.urlsafe_b64encode(json.dumps(whole).encode()).rstrip(b"=")
    return b"eyJhbGciOiJIUzI1NiJ9." + body + b".c2ln"


def accept(lineage: Lineage, jwt: bytes) -> list[tuple[str, int]]:
    """SAPI writes the token, then a good verdict on it; who is accused a second later."""
    token, now = decode(jwt), NOW + 101
    lineage.token(b"token:" + str(token.jti).encode(), token, jwt, times=1, now=now)
    lineage.verdict(jwt, token, GOOD, value=b"", times=1, now=now)
    lineage.settle(now)
    return [(row.client, row.tokens) for row in lineage.judge(now + 1)]


@pytest.mark.parametrize("end", [{}, {"exp": 0}, {"exp": int(NOW) + 100 * 365 * 86400}])
def test_a_forged_token_that_lives_for_ever_is_found(end: dict[str, object]) -> None:
    lineage = lineage_of()
    assert accept(lineage, jwt_of(**end)) == [("client-001", 1)]
    assert "kid" not in str(lineage.judge(NOW + 102))
    assert ("without end" in str(lineage.judge(NOW + 102))) == (end.get("exp", 0) == 0)
    assert lineage.judge(NOW + 101 + LONGEST) == []


@pytest.mark.parametrize("claims", [{"jti": None}, {"jti": ["a"]}, {"exp": [1]}, {"jti": ""}])
def test_an_accepted_token_of_which_nobody_can_tell_counts_as_unknown(
    claims: dict[str, object],
) -> None:
    lineage = lineage_of()
    assert accept(lineage, jwt_of(**claims)) == []
    assert (lineage.accepted_unknown, lineage.accepted_born) == (1, 0)


def test_a_key_that_sapi_names_after_an_id_is_no_birth_though_it_is_gone_unread() -> None:
    """Who chooses `x:j` for an id, in a token that dies at once, has `token:x:j` written and
    gone; that must not acquit his next token, whose id is `j`."""
    lineage = lineage_of()
    lineage.lost(b"token:x:j", NOW + 101, NOW + 100.8)
    assert accept(lineage, jwt_of(exp=int(NOW) + 3700)) == [("client-001", 1)]


def test_a_birth_under_its_clients_key_that_is_gone_unread_accuses_nobody() -> None:
    lineage = lineage_of()
    lineage.lost(b"token:client-001:j", NOW + 101, NOW + 100.8)
    assert accept(lineage, jwt_of(exp=int(NOW) + 3700)) == []
    assert lineage.accepted_unknown == 1


def test_a_signature_written_otherwise_makes_no_copy() -> None:
    lineage, minted = lineage_of(), jwt_of(exp=int(NOW) + 3700)
    lineage.token(b"token_id:j", decode(minted), minted, times=1, now=NOW + 100)
    assert accept(lineage, minted + b"==") == []
    assert accept(lineage, jwt_of(exp=int(NOW) + 9999)) == [("client-001", 1)]


def test_after_a_cut_only_younger_tokens_are_orphans() -> None:
    births = watched()
    births.cut()
    assert judged(births, FORGED) == (UNKNOWN, "older_than_the_watch")
    births.began(NOW + 60)
    assert births.certificate(FORGED, NOW + 102).word == ORPHAN
    births.began(NOW + 71)
    assert births.certificate(FORGED, NOW + 102).word == UNKNOWN


@pytest.mark.parametrize(
    ("client", "since", "until", "word"),
    [
        ("client-001", NOW + 90, NOW + 110, UNKNOWN),
        ("client-001", NOW + 60, NOW + 70, UNKNOWN),
        ("client-001", NOW + 60, NOW + 69, ORPHAN),
        ("client-001", NOW + 131, NOW + 140, ORPHAN),
        ("client-002", NOW + 90, NOW + 110, ORPHAN),
        (None, NOW + 90, NOW + 110, UNKNOWN),
    ],
)
def test_a_value_that_was_gone_before_it_was_read_accuses_nobody(
    client: str, since: float, until: float, word: str
) -> None:
    births = watched()
    births.missed(client, since, until)
    assert judged(births, FORGED)[0] == word


def test_a_clock_that_is_behind_hides_no_moment_in_which_a_birth_was_missed() -> None:
    births, slow = watched(), 300.0
    births.missed("client-001", NOW + 500, NOW + 500.2)
    used = replace(FORGED, iat=NOW + 500 - slow, at=NOW + 501)
    assert births.certificate(used, NOW + 502).word == ORPHAN
    births.clock(NOW - 5000, NOW + 501)  # older than the watch: a token that is written again
    assert births.certificate(used, NOW + 502).word == ORPHAN
    births.clock(NOW + 400 - slow, NOW + 400)
    assert births.certificate(used, NOW + 502) == Certificate(UNKNOWN, "may_have_been_missed")
    assert births.certificate(replace(used, iat=NOW + 501), NOW + 502).word == UNKNOWN
    assert births.certificate(replace(used, iat=NOW + 531, at=NOW + 532), NOW + 533).word == ORPHAN


def test_a_birth_that_is_read_late_acquits() -> None:
    births = watched()
    births.used(FORGED)
    assert list(births.orphans(NOW + 102)) == [FORGED]
    births.born(7, 70, NOW + 3700, NOW + 103)
    assert not list(births.orphans(NOW + 104))


def test_uses_are_counted_and_a_fresh_one_waits() -> None:
    births = watched()
    births.used(FORGED)
    births.used(replace(FORGED, at=NOW + 105))
    assert not list(births.orphans(NOW + 101.4))
    assert [use.count for use in births.orphans(NOW + 106)] == [2]


def test_too_many_births_end_the_watch_instead_of_accusing() -> None:
    births = Births(skew=SKEW, births_kept=3)
    births.began(NOW)
    for number in range(4):
        births.born(number + 1, 1, NOW + 3600, NOW)
    assert births.whole_since is None
    assert len(births) == 3


def test_uses_beyond_the_bound_are_counted_as_left_out() -> None:
    births = Births(skew=SKEW, uses_kept=1)
    births.used(FORGED)
    births.used(replace(FORGED, identity=8))
    births.used(FORGED)
    assert births.uses_left_out == 1


def test_what_has_died_is_forgotten_and_its_room_used_again() -> None:
    births = watched()
    for round_ in range(5):
        now = NOW + round_ * 4000
        births.forget(now)
        for number in range(1000):
            births.born(round_ * 1000 + number + 1, 1, now + 3600, now)
        assert len(births) == 1000
    assert len(births._hashes) == 1000


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), skew=st.sampled_from([0.0, 5.0, 30.0]))
def test_against_a_model_that_forgets_nothing(seed: int, skew: float) -> None:
    """Random mintings, uses, forgeries, evictions, cuts and long pauses. No honest token is ever
    an orphan; a forgery whose time was watched as a whole always is."""
    dice, births = random.Random(seed), Births(skew=skew)
    now, whole = NOW, None
    honest: list[Use] = []
    lost: list[tuple[str, float]] = []
    forged: set[int] = set()
    for number in range(1, 301):
        now += dice.choice([0.0, 0.2, 3.0, 40.0, 700.0])
        births.forget(now)
        client = f"client-{dice.randrange(3)}"
        use = Use(number, number, client, now, now + dice.choice([60, 600, 3600]), now)
        event = dice.choice(["mint"] * 6 + ["use"] * 6 + ["forge"] * 3 + ["evict", "cut", "begin"])
        if event in ("mint", "evict"):
            clock = replace(use, iat=now + dice.uniform(-skew, skew))
            honest.append(clock)
            if event == "evict":
                births.missed(client, now, now)
                lost.append((client, now))
            elif whole is not None:
                births.born(number, number, clock.exp, now)
        elif event == "use" and honest:
            old = dice.choice(honest)
            if (old.exp or 0) > now:
                births.used(replace(old, at=now))
        elif event == "forge":
            births.used(use)
            sure = whole is not None and now - skew > whole
            near = any(who == client and abs(at - now) <= skew for who, at in lost)
            assert (births.certificate(use, now).word == ORPHAN) == (sure and not near)
            forged.add(number)
        elif event == "cut":
            births.cut()
            whole = None
        elif event == "begin" and whole is None:
            births.began(now)
            whole = now
        assert {orphan.identity for orphan in births.orphans(now, settled=0.0)} <= forged


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=400))
def test_the_index_is_a_dict(changes: list[tuple[bool, int]]) -> None:
    hashes: list[int] = []
    index, model = HashIndex(hashes), {}  # type: ignore[var-annotated]
    for adds, name in changes:
        wanted = name * 1024  # all in one place of the smallest table
        if adds and wanted not in model:
            model[wanted] = len(hashes)
            hashes.append(wanted)
            index.add(wanted, model[wanted])
        elif not adds and wanted in model:
            del model[wanted]
            index.remove(wanted)
        assert len(index) == len(model)
        assert [index.find(n * 1024) for n in range(1, 41)] == [
            model.get(n * 1024) for n in range(1, 41)
        ]


def test_removing_what_is_not_there_raises() -> None:
    with pytest.raises(KeyError):
        HashIndex([]).remove(5)


def test_a_million_births_take_less_than_32_bytes_each() -> None:
    births = watched()
    for number in range(200_000):
        births.born(hash_of(b"%d" % number), 1, NOW + 3600, NOW)
    columns = births._hashes.itemsize + births._contents.itemsize
    rows = sum(len(rows) * rows.itemsize for rows in births._dying.values())
    assert (200_000 * columns + rows + births._index.bytes_used) / 200_000 < 32


def test_forgeries_among_honest_tokens_are_found_and_nobody_else_is() -> None:
    """100,000 honest tokens (a tenth of the budget's million) and 500 forgeries, with values that
    were gone before they were read; judged are those that live at the end."""
    dice, births = random.Random(17), watched()
    forged, now = set(), NOW + 61
    for number in range(100_000):
        now += 0.05
        client = f"client-{number % 50}"
        use = Use(hash_of(b"%d" % number), 1, client, now, now + 600, now)
        if dice.random() < 0.005:  # a forgery beside it, of a client whose values are all read
            false = replace(use, identity=hash_of(b"forged-%d" % number), client="watched")
            births.used(false)
            forged.add(false.identity)
        if dice.random() < 0.01:
            births.missed(client, now - 1, now + 1)
        else:
            births.born(use.identity, 1, use.exp, now)
        births.used(use)
        if number % 5000 == 0:
            births.forget(now)
    births.forget(now + 1)
    found = {use.identity for use in births.orphans(now + 1)}
    assert births.uses_left_out == 0
    alive = {use.identity for use in births._uses.values()} & forged
    assert found == alive
    assert len(alive) > 20
