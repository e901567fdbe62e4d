"""Durations as people write and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from monitoring.text import LONGEST, parse_duration, say

WRITTEN = [
    ("90s", 90),
    ("15m", 900),
    ("24h", 86400),
    ("7d", 604800),
    ("2w", 1209600),
    ("1h30m", 5400),
    ("1d 12h", 129600),
    (" 2W ", 1209600),
    ("1.5h", 5400),
    ("300", 300),
    ("0.5", 0.5),
    ("0", 0),
    (300, 300),
    (2.5, 2.5),
]


@pytest.mark.parametrize(("written", "seconds"), WRITTEN)
def test_what_people_write(written: object, seconds: float) -> None:
    found = parse_duration(written)  # type: ignore[arg-type]
    assert found == pytest.approx(seconds)
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("", "90s"),
        ("soon", "90s"),
        ("5 parsecs", "90s"),
        ("h", "90s"),
        ("1e3", "90s"),
        ("5m!", "90s"),
        ("٣m", "90s"),  # digits of another script are a trap, not a number
        ("-5m", "negative"),
        (-1, "negative"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ("99999999999d", "ten years"),
        (10**400, "ten years"),
        (True, "90s"),
        (None, "90s"),
        ([5], "90s"),
    ],
)
def test_what_is_no_duration_says_how_to_write_one(written: object, cure: str) -> None:
    with pytest.raises(ValueError, match=cure) as caught:
        parse_duration(written)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


READ = [
    (0, "0 s"),
    (0.35, "350 ms"),
    (0.0001, "1 ms"),
    (1.25, "1.2 s"),
    (9.96, "10 s"),
    (45, "45 s"),
    (59.7, "1 min"),
    (60, "1 min"),
    (61, "1 min 1 s"),
    (3599.8, "1 h"),
    (12000, "3 h 20 min"),
    (86400, "1 d"),
    (12.25 * 86400, "12 d 6 h"),
    (90 * 86400, "90 d"),
    (-90, "-1 min 30 s"),
    (math.inf, "for ever"),
]


@pytest.mark.parametrize(("seconds", "words"), READ)
def test_what_people_read(seconds: float, words: str) -> None:
    assert say(seconds) == words


@given(st.floats(min_value=0, max_value=LONGEST))
def test_said_and_read_back_is_near_the_truth(seconds: float) -> None:
    words = say(seconds)
    if " ms" in words:
        return
    back = parse_duration(words.replace(" min", "m").replace(" ", ""))
    assert back == pytest.approx(seconds, rel=0.03, abs=0.5)


@given(st.text(max_size=20))
def test_no_text_does_worse_than_a_valueerror(written: str) -> None:
    try:
        assert 0 <= parse_duration(written) <= LONGEST
    except ValueError:
        return
