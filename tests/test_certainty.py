"""Good words come out of one door, and only with a basis."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from monitoring.certainty import (
    GOOD_WORDS,
    UNKNOWN,
    Basis,
    Coverage,
    Doubt,
    affirm,
    combined,
    inside,
    percent,
    severity,
    watched_seconds,
)
from monitoring.model import Severity

WHOLE = Coverage("keys", 10, 10)
GUESS = Doubt("two_readings", "exp may be milliseconds")


@pytest.mark.parametrize(
    ("basis", "good", "sentence"),
    [
        (Basis((WHOLE,)), True, "everything was seen"),
        (Basis(), False, "no coverage is stated"),
        (Basis((WHOLE,), (GUESS,)), False, "a fact has two readings"),
        (Basis((Coverage("keys", 9, 10),)), False, "one key was not seen"),
        (Basis((Coverage("time", 50, 100, least=0.5),)), True, "exactly the share is enough"),
        (Basis((Coverage("time", 49.9, 100, least=0.5),)), False, "just below the share"),
        (Basis((Coverage("time", 0, 100, least=0.0),)), False, "nothing seen is never enough"),
        (Basis((Coverage("clients", 0, 0),)), False, "nothing to look at is not good"),
        (Basis((WHOLE, Coverage("sources", 2, 3))), False, "one of several is short"),
    ],
)
def test_a_good_word_needs_coverage_and_no_doubt(basis: Basis, good: bool, sentence: str) -> None:
    for word in GOOD_WORDS:
        said = affirm(word, basis)
        assert said.good is good, sentence
        assert said.word == (word if good else UNKNOWN)
        assert bool(said.missing) is not good


def test_what_is_missing_is_said_doubts_first() -> None:
    short = Coverage("time", 1, 100, 0.5, "too little watched (1 %)")
    assert affirm("met", Basis((short,), (GUESS,))).missing == (
        "exp may be milliseconds",
        "too little watched (1 %)",
    )


def test_a_bad_word_is_not_asked_for_here() -> None:
    with pytest.raises(ValueError, match="missed"):
        affirm("missed", Basis((WHOLE,)))


@pytest.mark.parametrize("worst", [Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN])
def test_bad_news_needs_no_coverage(worst: Severity) -> None:
    assert severity([Severity.OK, worst], Basis()) is worst


def test_good_news_does() -> None:
    assert severity([Severity.OK], Basis((WHOLE,))) is Severity.OK
    assert severity([], Basis((WHOLE,))) is Severity.OK
    assert severity([Severity.OK], Basis()) is Severity.UNKNOWN


def test_two_bases_add_up_and_say_a_thing_once() -> None:
    both = Basis((WHOLE,), (GUESS,)) + Basis((WHOLE,), (GUESS,))
    assert both == Basis((WHOLE,), (GUESS,))


OKAY, UNSEEN, WARNING, CRITICAL = Severity


@pytest.mark.parametrize(
    ("found", "status", "sentence"),
    [
        ([], UNSEEN, "nothing was asked"),
        ([UNSEEN, UNSEEN], UNSEEN, "nothing is known"),
        ([OKAY], OKAY, "all that was asked is known and good"),
        ([OKAY, UNSEEN], WARNING, "something that should be seen is not"),
        ([OKAY, WARNING], WARNING, "the worst that is known"),
        ([WARNING, UNSEEN], WARNING, "unknown adds nothing to a warning"),
        ([UNSEEN, CRITICAL, OKAY], CRITICAL, "unknown takes nothing from an outage"),
    ],
)
def test_one_status_of_several(found: list[Severity], status: Severity, sentence: str) -> None:
    assert combined(found) is status, sentence


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.49999, "49.9 %"), (0.5, "50 %"), (1.0, "100 %"), (0.000116, "0.011 %"), (0.0, "0 %")],
)
def test_a_share_is_never_rounded_up(share: float, said: str) -> None:
    assert percent(share) == said


class Piece(NamedTuple):
    at: float
    seconds: float


def test_time_recorded_twice_was_watched_once() -> None:
    """Held against a count of whole seconds, on random samples that overlap in every way."""
    dice = random.Random(6)
    for _ in range(200):
        pieces = [Piece(dice.randrange(120), dice.randrange(1, 60)) for _ in range(6)]
        seconds = [s for s in range(20, 100) if any(p.at - p.seconds <= s < p.at for p in pieces)]
        assert watched_seconds(pieces, 20, 100) == pytest.approx(len(seconds))
        for piece, share in zip(pieces, inside(pieces, 20, 100)):
            assert 0 <= share <= piece.seconds
