"""What tokens add up to: every figure against a slow and obvious count of the same tokens."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import random
from collections import Counter
from statistics import median
from typing import Any, Optional

import pytest

from monitoring.config.settings import TokenSettings
from monitoring.tokens import stats as module
from monitoring.tokens.clients import ClientLedger, Limits, pack
from monitoring.tokens.codecs.facts import Decoded, undecodable
from monitoring.tokens.codecs.table import decode_many
from monitoring.tokens.hygiene import RULES
from monitoring.tokens.results import ANY_VERSION
from monitoring.tokens.stats import TokenStats, tokens_json

NOW = 1795402000
POLICY = TokenSettings(top_clients=1000)


def token(client: str = "c", jti: Optional[str] = "j", left: Optional[float] = 1800,
          life: Optional[float] = 3600, **more: Any) -> Decoded:  # fmt: skip
    exp = None if left is None else NOW + left
    iat = None if life is None else (exp or NOW + 1800) - life
    usual = {"iss": "payment-eapi", "aud": "payment-sapi", "permissions": ("view_status",),
             "alg": "HS256"}  # fmt: skip
    return Decoded(client=client, jti=jti, iat=iat, exp=exp, **{**usual, **more})


def stats_of(tokens: list[Decoded], policy: TokenSettings = POLICY, **options: Any) -> TokenStats:
    stats = TokenStats(NOW, policy, **options)
    for start in range(0, len(tokens), 1000):
        stats.add_page(tokens[start : start + 1000])
    return stats


def crowd(count: int, seed: int, *, equal_lives: bool = False) -> list[Decoded]:
    chance = random.Random(seed)
    return [
        token(
            client=f"client-{chance.randrange(20)}",
            jti=f"j-{seed}-{number}",
            left=chance.randrange(-300, 7000),
            life=3600 if equal_lives else chance.choice([600, 900, 3600, 7200, 1234]),
        )
        for number in range(count)
    ]


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


@pytest.mark.parametrize("equal_lives", [True, False])
@pytest.mark.parametrize("settle_every", [1_000_000, 500])
def test_every_figure_against_an_obvious_count(
    monkeypatch: pytest.MonkeyPatch, equal_lives: bool, settle_every: int
) -> None:
    monkeypatch.setattr(module, "SETTLE_EVERY", settle_every)
    tokens = crowd(5000, 7, equal_lives=equal_lives)
    result = stats_of(tokens).result()
    alive = [t for t in tokens if t.exp > NOW]
    lives = [t.exp - t.iat for t in tokens]
    left = [t.exp - NOW for t in alive]
    assert (result.total, result.active, result.expired) == (
        5000, len(alive), 5000 - len(alive))  # fmt: skip
    for name, seconds in (("5m", 300), ("15m", 900), ("1h", 3600)):
        assert result.expiring[name] == sum(rest <= seconds for rest in left)
    for spread, values in ((result.lifetime, lives), (result.remaining, left)):
        assert spread.count == len(values)
        assert (spread.min, spread.max) == (min(values), max(values))
        assert spread.mean == pytest.approx(sum(values) / len(values))
        for share, found in ((0.5, spread.p50), (0.95, spread.p95), (0.99, spread.p99)):
            assert found == nearest_rank(values, share)
    recent = sum(NOW - 900 < t.iat <= NOW + 30 for t in tokens)
    assert result.generation_rate_per_minute == pytest.approx(recent / 15)
    for name, share in result.by_client.items():
        mine = [t for t in tokens if t.client == name]
        assert share.tokens == len(mine)
        assert share.active == sum(t.exp > NOW for t in mine)
        assert share.last_expiry == max(t.exp for t in mine)
        assert share.last_issued == max(t.iat for t in mine if t.iat <= NOW + 30)
        assert share.generation_rate == pytest.approx(
            sum(NOW - 900 < t.iat <= NOW + 30 for t in mine) / 15
        )
    hygiene = {finding.name: finding.count for finding in result.hygiene}
    assert hygiene["expired_served"] == 5000 - len(alive)
    assert hygiene.get("lifetime_above_policy", 0) == sum(life > 3600 for life in lives)
    assert hygiene.get("iat_in_future", 0) == sum(t.iat > NOW + 30 for t in tokens)


def test_expiry_cliff_names_the_minute_and_whose_it_is() -> None:
    tokens = [token(f"c-{n % 7}", f"a-{n}", left=100 + n * 17) for n in range(300)]
    minute = (NOW // 60 + 30) * 60
    tokens += [token("herd", f"h-{n}", left=minute - NOW + n % 60) for n in range(200)]
    cliff = stats_of(tokens).result().cliff
    assert cliff is not None
    there = [t for t in tokens if t.exp // 60 == minute // 60]
    assert (cliff.at, cliff.count) == (minute, len(there))
    assert cliff.share == pytest.approx(len(there) / 500)
    assert cliff.worst[0] == ("herd", 200)


def test_renewals_late_early_and_gaps() -> None:
    # minted at 0, 3500 (100 s left), 7080 (20 s left: late), 7200 (early), 20000 (a gap)
    issued = [0, 3500, 7080, 7200, 20_000]
    start = NOW - 20_500
    tokens = [token("c", f"j-{n}", left=start + at + 3600 - NOW) for n, at in enumerate(issued)]
    result = stats_of(tokens).result()
    left = [issued[n] + 3600 - issued[n + 1] for n in range(3)]
    assert left == [100, 20, 3480]
    assert result.renewals is not None
    assert (result.renewals.late, result.renewals.early, result.renewals.lapses) == (1, 1, 1)
    assert result.renewals.remaining == tuple(left)
    assert result.renewals.median_remaining == median(left)
    share = result.by_client["c"]
    assert (share.renewals, share.lapses, share.median_remaining) == (3, 1, 100)
    assert not result.every_call


def test_clients_that_mint_a_token_for_every_call() -> None:
    busy = [token("busy", f"b-{n}", left=3000 + n * 20) for n in range(30)]
    calm = [token("calm", f"c-{n}", left=-9000 + n * 3300) for n in range(4)]
    assert stats_of(busy + calm).result().every_call == ("busy",)


def test_clients_that_go_dark_and_when() -> None:
    tokens = [
        token("lapses", "l-1", left=-5000), token("lapses", "l-2", left=1000),  # came late before
        token("last", "o-1", left=120),  # nothing minted since, and nearly over
        token("fresh", "f-1", left=3500),
        token("renews", "r-1", left=100), token("renews", "r-2", left=3400),
        token("dead", "d-1", left=-50),
    ]  # fmt: skip
    result = stats_of(tokens).result()
    assert result.losing_last_token == (("last", NOW + 120), ("lapses", NOW + 1000))
    assert result.by_client["lapses"].last_token_ends_at == NOW + 1000
    assert result.by_client["renews"].last_token_ends_at is None


def signed(algorithm: str, **claims: Any) -> bytes:
    usual = {"sub": "c", "iss": "payment-eapi", "aud": "payment-sapi", "iat": NOW - 60,
             "exp": NOW + 60, "permissions": ["view_status"]}  # fmt: skip
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm}, {**usual, **claims})]
    return b".".join([*(base64.urlsafe_b64encode(p).rstrip(b"=") for p in parts), b"c2ln"])


@pytest.mark.parametrize(
    ("algorithm", "finding"),
    [("none", "alg_none"), ("None", "alg_none"), ("RS512", "unexpected_alg"), ("HS256", None)],
)
def test_each_token_of_a_wrong_algorithm_counts_and_in_each_census(
    algorithm: str, finding: Optional[str]
) -> None:
    """The header of the first is remembered, in the process, to read the others quickly."""
    values = [signed(algorithm, jti=f"j{number}") for number in range(100)]
    for _census in range(2):
        stats = TokenStats(NOW, POLICY)
        stats.add_page(decode_many(values[:50], stats.expect))
        stats.add_page(decode_many(values[50:], stats.expect))
        found = {found.name: found.count for found in stats.result().hygiene}
        assert found == ({finding: 100} if finding else {})


@pytest.mark.parametrize("scope", ["view_status root", ["view_status", "root"], "view_status"])
def test_oauth_scopes_are_permissions_too(scope: Any) -> None:
    value = signed("HS256", jti="j", scope=scope, permissions=None)
    stats = TokenStats(NOW, POLICY)
    stats.add_page(decode_many([value], stats.expect))
    found = [finding.name for finding in stats.result().hygiene]
    assert found == (["permissions_outside"] if "root" in scope else [])


def test_a_token_under_several_keys_counts_once() -> None:
    tokens = crowd(3000, 8)
    stats = TokenStats(NOW, POLICY)
    stats.add_page(tokens, "token_id:*")
    stats.add_page(tokens[:700], "token:*")
    stats.add_page(tokens[:50], "token:*")
    result = stats.result()
    assert (result.total, result.duplicates_merged, result.duplicates_error) == (3000, 750, 0.0)


def test_duplicates_are_looked_for_as_long_as_they_may_occur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DUPLICATES_TRIAL", 2000)
    tokens = crowd(6000, 9)
    alone = stats_of(tokens)
    assert len(alone._seen) == 2000  # one family, no repeat: not paid for any further
    assert alone.result().total == 6000
    repeating = stats_of([*tokens[:1500], *tokens[:10], *tokens[1500:], *tokens[3000:]])
    assert repeating.result().total == 6000
    assert repeating.result().duplicates_merged == 3010


def test_one_id_for_two_tokens_is_a_finding() -> None:
    stats = stats_of([token("a", "same", left=100), token("b", "same", left=200)])
    assert stats.result().total == 1
    assert {f.name: f.count for f in stats.result().hygiene}["jti_conflict"] == 1


def test_excluded_clients_count_nowhere_else() -> None:
    canary = [
        token("canary", "x-1"), token("canary", "x-2", left=-5), token("canary", None),
        token("canary", "x-3", alg="none", iss="elsewhere"), token("canary", "x-4", life=None),
    ]  # fmt: skip
    stats = stats_of([*canary, token("c", "1")], excluded=("canary",))
    stats.add_ttls(canary, [-1] * len(canary))
    result = stats.result()
    assert (result.total, result.excluded) == (1, 5)
    assert set(result.by_client) == {"c"}
    assert result.hygiene == ()
    assert result.lifetime.count == result.remaining.count == 1
    assert result.encodings == {"jwt": 1}


@pytest.mark.parametrize(
    ("odd", "finding"),
    [
        ({"alg": "none"}, "alg_none"),
        ({"alg": "NONE"}, "alg_none"),
        ({"alg": "RS256"}, "unexpected_alg"),
        ({"left": None}, "missing_exp"),
        ({"life": None}, "missing_iat"),
        ({"aud": None}, "missing_aud"),
        ({"jti": None}, "missing_jti"),
        ({"client": None}, "missing_client"),
        ({"iss": "elsewhere"}, "unexpected_issuer"),
        ({"aud": "others"}, "unexpected_audience"),
        ({"aud": ("others", "more")}, "unexpected_audience"),
        ({"permissions": ("view_status", "root")}, "permissions_outside"),
        ({"left": -5}, "expired_served"),
        ({"life": 7200}, "lifetime_above_policy"),
        ({"left": 3599 + 60, "life": 3599}, "iat_in_future"),
    ],
)
def test_hygiene_findings(odd: dict[str, Any], finding: str) -> None:
    fine = [token("good", f"g-{n}") for n in range(3)]
    bad = [token(**{"client": "bad", "jti": f"b-{n}", **odd}) for n in range(2)]
    result = stats_of([*fine, *bad]).result()
    (found,) = result.hygiene
    assert (found.name, found.count) == (finding, 2)
    assert found.worst == (() if odd.get("client", "") is None else (("bad", 2),))
    assert found.sentence == RULES[finding].sentence.format(count=2)
    assert found.cure
    assert result.total == 5


@pytest.mark.parametrize(
    ("ttl", "finding"),
    [
        (-1, "without_ttl"), (-2, None), (1_770_000, None), (1_859_000, None),
        (1_861_000, "ttl_outlives_exp"), (899_000, "ttl_too_short"), (901_000, None), (None, None),
    ],
)  # fmt: skip
def test_expiries_of_keys(ttl: Optional[int], finding: Optional[str]) -> None:
    stats = stats_of([token()])
    stats.keys_seen(1)
    stats.add_ttls([token()], [ttl])
    result = stats.result()
    assert [found.name for found in result.hygiene] == ([finding] if finding else [])
    assert result.without_ttl == {-1: 1, None: None}.get(ttl, 0)


def test_expiries_that_were_sampled_are_estimated() -> None:
    stats = TokenStats(NOW, POLICY)
    stats.keys_seen(1000)
    stats.add_ttls([token()] * 100, [-1] * 3 + [1000] * 97)
    result = stats.result()
    assert (result.without_ttl, result.ttl_asked, result.ttl_exact) == (30, 100, False)


def test_a_key_that_outlived_its_token_does_not_stand_for_others() -> None:
    """Far more keys of expired tokens are asked for their expiry than of the rest."""
    stats = TokenStats(NOW, POLICY)
    stats.keys_seen(10_000, expired=500)
    stats.add_ttls([token("old", left=-50)] * 500, [-1] * 400 + [1000] * 100)
    stats.add_ttls([token("c")] * 100, [-1] + [3_000_000] * 2 + [1000] * 97)
    result = stats.result()
    assert result.without_ttl == 400 + 95
    hygiene = {finding.name: finding for finding in result.hygiene}
    assert hygiene["without_ttl"].count == 495
    assert hygiene["without_ttl"].sentence == "Token keys that never expire: about 495."
    assert hygiene["without_ttl"].worst == (("old", 400), ("c", 95))
    assert hygiene["ttl_outlives_exp"].count == 190
    stats.keys_seen(500, expired=500)  # which nobody asks for, for they are too many
    assert stats.result().without_ttl == 800 + 95


def test_an_expired_token_under_a_second_key_is_suspicious_there_too() -> None:
    stats = TokenStats(NOW, POLICY)
    page = [token(jti=f"j{n}", left=-50 if n % 2 else 50) for n in range(6)]
    assert stats.add_page(page, "token:*") == [1, 3, 5]
    again = [token(jti="new", left=-1), *page[2:]]
    assert sorted(stats.add_page(again, "token_id:*")) == [0, 2, 4]


def test_what_cannot_be_read_is_counted_by_reason() -> None:
    stats = stats_of([undecodable("bad_json"), undecodable("bad_json", "json"), token(),
                      undecodable("empty")])  # fmt: skip
    result = stats.result()
    assert result.undecodable == {"bad_json": 2, "empty": 1}
    assert (result.total, result.encodings) == (1, {"jwt": 1})


def test_more_clients_than_are_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENTS_TRACKED", 50)
    tokens = [token(f"c-{n % 80}", f"j-{n}", left=60 + n) for n in range(800)]
    result = stats_of(tokens).result()
    assert (result.total, result.active, result.clients) == (800, 800, 50)
    assert not result.clients_exact
    assert result.rest is not None
    assert result.rest.tokens == 300
    assert sum(share.tokens for share in result.by_client.values()) == 500


def test_by_client_is_bounded_and_the_rest_summed() -> None:
    tokens = [token(f"c-{n}", f"j-{n}-{k}") for n in range(9) for k in range(n + 1)]
    result = stats_of(tokens, dataclasses.replace(POLICY, top_clients=3)).result()
    assert list(result.by_client) == ["c-8", "c-7", "c-6"]
    assert result.rest is not None
    assert result.rest.tokens == 1 + 2 + 3 + 4 + 5 + 6
    assert list(tokens_json(result)["by_client"]) == ["c-8", "c-7", "c-6", "other"]
    assert result.clients == 9
    assert result.clients_exact


def test_tokens_by_version_of_the_credential() -> None:
    tokens = [token("c", f"j-{n}", version=f"v{n % 2}", left=100 - n * 30) for n in range(5)]
    assert stats_of(tokens).result().by_client["c"].by_version == {"v0": 2, "v1": 2}


@pytest.mark.parametrize(
    ("bound", "of_a_client"), [("VERSIONS_KEPT", 2), ("VERSIONS_KEPT_IN_ALL", 3)]
)
def test_versions_too_many_to_keep_are_counted_together(
    monkeypatch: pytest.MonkeyPatch, bound: str, of_a_client: int
) -> None:
    monkeypatch.setattr(module, bound, of_a_client)
    tokens = [token("a", "j-0", version="v0")]
    tokens += [token("c", f"j-{n}", version=f"v{n % 4}") for n in range(1, 8)]
    by_client = stats_of(tokens).result().by_client
    assert by_client["a"].by_version == {"v0": 1}
    assert by_client["c"].by_version == {"v1": 2, "v2": 2, ANY_VERSION: 3}


@pytest.mark.parametrize("kept", [1_500_000, 100])
def test_tokens_minted_before_a_moment(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(module, "TOKENS_KEPT", kept)
    monkeypatch.setattr(module, "SETTLE_EVERY", 1500)
    tokens = crowd(6000, 11)
    stats = stats_of(tokens)
    moment = (NOW - 1200) // 60 * 60
    for client in {t.client for t in tokens}:
        old = [t for t in tokens if t.client == client and t.exp > NOW and t.iat < moment]
        found = stats.minted_before(client, moment)
        assert found is not None
        assert found.live == len(old)
        assert found.last_dies == max((t.exp for t in old), default=None)
        assert found.exact == (kept > 100)
    assert stats.minted_before("nobody", NOW) is None


@pytest.mark.parametrize("lives", [(600,), (60, 600, 3600)])
def test_minted_before_every_moment_near_a_token_is_as_one_by_one(lives: tuple[int, ...]) -> None:
    tokens = [
        token("c", f"j-{left}-{life}", left=left, life=life)
        for left in (-400, -1, 0, 1, 90, 500)
        for life in lives
    ]
    stats = stats_of(tokens)
    for moment in sorted(
        {at + near for t in tokens for at in (t.iat, t.exp) for near in (-1, 0, 1)}
    ):
        for slack in (0, 300):
            old = [t.exp for t in tokens if t.exp > NOW - slack and t.iat < moment]
            found = stats.minted_before("c", moment, slack=slack)
            assert found is not None
            assert (found.live, found.last_dies) == (len(old), max(old, default=None)), moment


def test_odd_times() -> None:
    tokens = [
        token("c", "1", left=100.5, life=200.25),  # fractions of a second
        token("c", "2", left=100, life=-50),  # issued after its end
        token("c", "3", left=3e7, life=6e7),  # two years
        token("c", "4", left=None, life=None),
    ]
    result = stats_of(tokens).result()
    assert (result.total, result.active) == (4, 4)
    assert result.by_client["c"].tokens == 4
    assert {f.name for f in result.hygiene} >= {"missing_exp", "missing_iat"}


def test_adding_after_a_result_goes_on() -> None:
    tokens = crowd(2000, 12)
    stats = stats_of(tokens[:1000])
    assert stats.result().total == 1000
    stats.add_page(tokens[1000:])
    assert stats.result() == stats_of(tokens).result()


def test_json_has_the_documented_names() -> None:
    body = tokens_json(stats_of(crowd(500, 13)).result())
    assert json.loads(json.dumps(body)) == body
    assert {
        "total", "active", "expired", "undecodable", "without_ttl", "duplicates_merged",
        "generation_rate_per_minute", "expiring", "lifetime_seconds", "remaining_seconds",
        "renewals", "by_client", "hygiene",
    } <= set(body)  # fmt: skip
    assert set(body["expiring"]) == {"5m", "15m", "1h"}
    assert set(body["lifetime_seconds"]) == {"min", "mean", "p50", "p95", "p99", "max"}
    assert set(body["renewals"]) >= {
        "count", "late", "early", "lapses", "median_remaining_seconds",
    }  # fmt: skip
    for share in body["by_client"].values():
        assert set(share) >= {"tokens", "active", "generation_rate", "last_issued"}


def test_nothing_seen_is_zero_tokens_and_unknown_spreads() -> None:
    result = TokenStats(NOW, POLICY).result()
    assert (result.total, result.without_ttl, result.cliff) == (0, 0, None)
    assert result.lifetime.p50 is None
    assert result.renewals.median_remaining is None


def test_a_ledger_keeps_what_dies_last() -> None:
    ledger = ClientLedger()
    limits = Limits(NOW, 900, 3600, 30)
    for expiry in range(NOW + 1, NOW + 101):
        ledger.fresh.append(pack(expiry, 60))
    ledger.settle(limits, keep=10)
    assert list(ledger.kept) == [pack(NOW + 91 + n, 60) for n in range(10)]
    assert ledger.tally.active == 100
    assert sum(many for many, _dies in ledger.minutes.values()) == 90


def test_rules_of_hygiene_have_a_sentence_and_a_cure() -> None:
    for rule in RULES.values():
        assert "{count}" in rule.sentence
        assert rule.cure.endswith(".")
    assert Counter(len(name) > 0 for name in RULES) == {True: 24}


def test_whose_tokens_may_be_is_the_same_by_index_and_one_by_one() -> None:
    stats = TokenStats(NOW, POLICY)
    ages = {"known": 100, "u1": 200, "u2": 300, "u3": 400}
    for name, age in ages.items():
        stats.add(Decoded(client=name, iat=NOW - age, exp=NOW + age))
    stats.add(Decoded(client="u3", iat=NOW - 50))  # without an end
    stats.add(Decoded(client="u4", exp=NOW - 100, iat=NOW - 500))  # dead, for little
    stats.know(["known", "other"])
    for client in ("known", "other"):
        assert stats.may_be_of(client, NOW - 400).live == 0
        assert stats.may_be_of(client, NOW - 399).live == 1
        found = stats.may_be_of(client, NOW - 199)
        assert (found.live, found.last_dies, found.endless) == (3, NOW + 400, 0)
        assert stats.may_be_of(client, NOW - 49).endless == 1
        assert stats.may_be_of(client, NOW - 199, slack=101).live == 4
    stats.add(Decoded(client="u1", iat=NOW - 600, exp=NOW + 1))
    assert stats.may_be_of("known", NOW - 400).live == 1
    assert stats.may_be_of("u1", NOW).live == 3  # not its own
    stats.know(["known", "u1"])
    assert stats.may_be_of("known", NOW - 400).live == 0
