"""The ledger of a followed cache against a model that forgets nothing, and against a census."""

from __future__ import annotations

import random
from typing import Any, Optional

import pytest
from hypothesis import given, settings, strategies as st

from monitoring.config.settings import TokenSettings
from monitoring.follow import ledger as ledgers
from monitoring.follow.figures import AlikeStats, counted
from monitoring.follow.ledger import Family, FullError, Ledger
from monitoring.redis.profiles import Rule
from monitoring.tokens.codecs.facts import Decoded, undecodable
from monitoring.tokens.stats import TokenStats
from tests.token_kit import NOW, comparable, token

POLICY = TokenSettings()
TOKENS = Family(Rule("token:*"), "string")
BY_ID = Family(Rule("token_id:*"), "string")
VERDICTS = Family(Rule("validation:*", "validation"), "string", ("ok", False))


def ledger_at(now: float = NOW) -> Ledger:
    return Ledger(AlikeStats(now, POLICY).expect, began=now, tolerance=POLICY.ttl_tolerance)


def figures(ledger: Ledger, now: float) -> Any:
    stats = AlikeStats(now, POLICY)
    stats.take(ledger)
    return stats.result()


def by_census(cache: dict[bytes, tuple[Family, Decoded, Optional[float]]], now: float) -> Any:
    """What a census of the same keys says; a key's end in epoch seconds, None: it has none."""
    stats = TokenStats(now, POLICY)
    for family in (TOKENS, BY_ID):
        rows = [(t, end) for f, t, end in cache.values() if f is family]
        some = [t for t, _end in rows]
        expired = stats.add_page(some, family.rule.pattern)
        stats.keys_seen(len(some), len(expired))
        stats.add_ttls(some, [-1 if end is None else int((end - now) * 1000) for _t, end in rows])
    return stats.result()


def some_token(dice: random.Random, number: int, now: float) -> Decoded:
    client = f"client-{dice.randrange(3)}"
    life = dice.choice([60, 600, 3600])
    at = {"iat": int(now), "exp": int(now) + life}
    plain = token(client, number, **at)
    odd = dice.randrange(12)
    changes: dict[int, Any] = {
        0: undecodable("not_a_token"),
        1: replace_fields(plain, exp=None),
        2: replace_fields(plain, jti=None),
        3: replace_fields(plain, nbf=int(now) + 90),
        4: replace_fields(plain, version="v2"),
        5: replace_fields(plain, alg="none"),
        6: replace_fields(plain, client=None),
        7: replace_fields(plain, exp=int(now) + 2**25),
        8: replace_fields(plain, permissions=("refund",)),
    }
    found: Decoded = changes.get(odd, plain)
    return found


def replace_fields(made: Decoded, **changes: Any) -> Decoded:
    import msgspec

    return msgspec.structs.replace(made, **changes)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_ledger_says_what_a_census_of_the_same_keys_says(seed: int) -> None:
    """Random writes, overwrites, copies of a token, moved and missing ends, removals and time."""
    dice, ledger, now = random.Random(seed), ledger_at(), float(NOW)
    cache: dict[bytes, tuple[Family, Decoded, Optional[float]]] = {}
    made = [some_token(dice, 0, now)]
    for number in range(1, 120):
        now += dice.choice([0.0, 0.0, 1.0, 30.0, 200.0])
        event = dice.choice(["new"] * 5 + ["copy"] * 2 + ["end", "del", "evict"])
        keys = sorted(cache)
        if event in ("new", "copy"):
            held = made[-1] if event == "copy" else some_token(dice, number, now)
            made.append(held)
            family = dice.choice([TOKENS, BY_ID])
            name = f"{family.rule.pattern[:-1]}{dice.randrange(40)}".encode()
            left = dice.choice([None, 30.0, 570.0, 3570.0, 7200.0])
            end = None if left is None else now + left
            cache[name] = (family, held, end)
            ledger.token(name, family, held, ttl=-1 if left is None else int(left * 1000), now=now)
        elif keys and event == "end":
            name = dice.choice(keys)
            family, held, _end = cache[name]
            cache[name] = (family, held, now + 90)
            ledger.token(name, family, held, ttl=90_000, now=now)
        elif keys:
            name = dice.choice(keys)
            del cache[name]
            ledger.gone(name, "deleted")
        cache = {k: row for k, row in cache.items() if row[2] is None or row[2] > now}
        ledger.age(now)
        assert len(ledger) == len(cache)
    ids = [held.jti for _f, held, _end in cache.values() if held.jti]
    one_each = len({(t.jti, t.client, t.iat, t.exp) for _f, t, _e in cache.values() if t.jti})
    if one_each == len(set(ids)):  # which of two tokens with one id is counted is chance
        assert comparable(figures(ledger, now)) == comparable(by_census(cache, now))


def test_two_tokens_with_one_id_are_one_and_a_conflict_till_one_goes() -> None:
    ledger = ledger_at()
    one = token("a", 1)
    other = replace_fields(one, client="b")
    ledger.token(b"token:1", TOKENS, one, ttl=-1, now=NOW)
    ledger.token(b"token:2", TOKENS, other, ttl=-1, now=NOW)
    found = figures(ledger, NOW)
    assert (found.total, found.duplicates_merged) == (1, 1)
    assert [f.count for f in found.hygiene if f.name == "jti_conflict"] == [1]
    ledger.gone(b"token:1", "deleted")
    found = figures(ledger, NOW)
    assert (found.total, list(found.by_client)) == (1, ["b"])
    assert not [f for f in found.hygiene if f.name == "jti_conflict"]


def test_of_clients_that_are_alike_the_same_ones_are_named_in_whatever_order_they_came() -> None:
    some = [token(f"client-{number:02d}", 1, alg="none", left=600) for number in range(12)]
    results = []
    for tokens in (some, some[::-1]):
        ledger = ledger_at()
        for number, held in enumerate(tokens):
            ledger.token(b"token:%d" % number, TOKENS, held, ttl=600_000, now=NOW)
        results.append(comparable(figures(ledger, NOW)))
    assert results[0] == results[1]
    assert results[0]["cliff"].worst[0] == ("client-00", 1)
    assert dict(row[:2] for row in results[0]["hygiene"])["alg_none"] == 12


def test_a_token_whose_last_key_goes_is_counted_by_how_it_went() -> None:
    ledger = ledger_at()
    for name, how in ((b"1", "expired"), (b"2", "evicted"), (b"3", "deleted")):
        held = token("a", int(name))
        ledger.token(b"token:" + name, TOKENS, held, ttl=5000, now=NOW)
        ledger.token(b"token_id:" + name, BY_ID, held, ttl=5000, now=NOW)
        ledger.gone(b"token:" + name, how)
        assert sum(ledger.left.values()) == int(name) - 1
        ledger.gone(b"token_id:" + name, how)
    assert dict(ledger.left) == {"expired": 1, "evicted": 1, "deleted": 1}


def test_verdicts_are_counted_by_what_they_say_and_end_by_the_clock() -> None:
    ledger = ledger_at()
    named = token("a", 1)
    ledger.verdict(b"validation:x:none", VERDICTS, 100_000, NOW, named=named)
    matched, found = counted(ledger)
    assert (found.validations.success, matched["validation:*"]) == (1, 1)
    ledger.age(NOW + 101)
    assert counted(ledger)[1].validations.success == 0
    assert len(ledger.named) == 0


def test_more_than_is_kept_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "KEYS_KEPT", 2)
    ledger = ledger_at()
    for number in range(2):
        ledger.token(b"token:%d" % number, TOKENS, token("a", number), ttl=-1, now=NOW)
    with pytest.raises(FullError, match="more than 2 keys"):
        ledger.token(b"token:9", TOKENS, token("a", 9), ttl=-1, now=NOW)


def test_what_differs_between_two_ledgers_is_counted() -> None:
    one, other = ledger_at(), ledger_at()
    for ledger in (one, other):
        ledger.token(b"token:1", TOKENS, token("a", 1), ttl=-1, now=NOW)
    assert one.differences(other, set(), NOW) == 0
    other.token(b"token:1", TOKENS, token("b", 2), ttl=-1, now=NOW)
    one.token(b"token:2", TOKENS, token("a", 3), ttl=-1, now=NOW)
    assert one.differences(other, set(), NOW) == 2
    assert one.differences(other, {ledgers.hashed(b"token:2")}, NOW) == 1


def test_a_key_and_a_token_take_less_than_90_bytes() -> None:
    ledger = ledger_at()
    for number in range(20_000):
        ledger.token(b"token:%d" % number, TOKENS, token("a", number), ttl=3_000_000, now=NOW)
    columns = (
        *(ledger._hashes, ledger._refs, ledger._dies, ledger._of),
        *(ledger.tokens.identities, ledger.tokens.packed, ledger.tokens.kinds, ledger.tokens.keys),
    )
    taken = sum(len(column) * column.itemsize for column in columns)
    taken += ledger._index.bytes_used + ledger.tokens.index.bytes_used
    taken += sum(len(rows) * rows.itemsize for rows in ledger._dying.values())
    assert taken / 20_000 < 90
