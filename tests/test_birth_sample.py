"""Births and uses that two looks share, as a bounded sample that accuses nobody."""

from __future__ import annotations

from monitoring.config.settings import TokenSettings
from monitoring.redis.count import Page, Part, PartCounter
from monitoring.redis.profiles import Rule
from monitoring.tokens.birth_sample import KEPT, BirthSample, judge, kept
from monitoring.tokens.stats import TokenStats
from tests.token_kit import NOW, jwt, token

SKEW = 30.0


def looked(born: range, used: range) -> BirthSample:
    sample = BirthSample()
    sample.born([b"a-%d" % number for number in born])
    sample.used([token("a", number, left=3500) for number in used])
    return sample


def test_used_tokens_issued_between_two_looks_are_held_to_the_births() -> None:
    before = kept(looked(range(5), range(0)), NOW - 300)
    found = judge(looked(range(5, 10), range(12)), before, SKEW)
    assert found is not None
    assert (found.looked_at, found.born, found.unexplained, found.one_in) == (12, 10, 2, 1)


def test_older_ones_are_not_looked_at_and_a_first_look_says_nothing() -> None:
    sample = looked(range(5), range(9))
    assert judge(sample, None, SKEW) is None
    found = judge(sample, kept(sample, NOW - 50), SKEW)  # issued 100 s ago
    assert found is not None
    assert found.looked_at == 0
    assert judge(looked(range(0), range(9)), kept(BirthSample(), NOW - 300), SKEW) is None


def test_the_sample_is_bounded_and_keeps_births_and_uses_of_the_same_tokens() -> None:
    sample = looked(range(20_000), range(20_000))
    assert len(sample.births) <= KEPT
    assert set(sample.births) == set(sample.uses)
    assert sample.bits >= 4
    assert "a-1" not in str(kept(sample, NOW))


def test_a_census_fills_it() -> None:
    stats = TokenStats(NOW, TokenSettings(), reads_names=True)
    counter = PartCounter(stats)
    minted, used = jwt("a", "j1", now=NOW), jwt("a", "j2", now=NOW)
    by_id = Part(Rule("token_id:*"), "string", [b"token_id:j1"], [minted])
    name = b"validation:" + used + b":none"
    verdict = Part(Rule("validation:*", "validation"), "string", [name], [b'{"isValid": true}'])
    counter.count(Page([by_id, verdict]), lambda *_: None)
    found = counter.counted().births
    assert (len(found.births), len(found.uses)) == (1, 1)
    assert set(found.births) != set(found.uses)
