"""Tables for terminals of any width."""

from __future__ import annotations

from monitoring.credentials.report import lined_up, narrowed, told_below

HEADER = ("client", "verdict", "why", "what to do")
LONG = "the rotation failed: New secret was rejected by the client's configuration service"
ROWS = [
    ["c1", "failed", LONG, "mend the cause, then start it again"],
    ["c2", "ok", "young", "nothing"],
]


def test_a_wide_terminal_has_a_line_per_client() -> None:
    assert told_below((HEADER, ROWS), None, beside=2) == lined_up((HEADER, ROWS))
    assert len(told_below((HEADER, ROWS), 200, beside=2)) == 3


def test_a_narrow_one_has_the_sentences_below_and_no_line_for_nothing() -> None:
    for width in (80, 60, 40):
        lines = told_below((HEADER, ROWS), width, beside=2)
        assert max(map(len, lines)) <= width
        assert lines[0].split() == ["client", "verdict"]
        assert " ".join(" ".join(lines).split()).count(LONG) == 1
        assert any(line.startswith("    -> mend") for line in lines)
        assert lines[-1] == "c2      ok       young"


def test_columns_are_left_out_until_it_fits() -> None:
    table = ("client", "a", "b"), [["c1", "1" * 20, "2" * 20]]
    assert narrowed(table, None, ["a", "b"]) == (table, [])
    assert narrowed(table, 30, ["b", "a"]) == ((["client", "a"], [["c1", "1" * 20]]), ["b"])
    assert narrowed(table, 5, ["b", "a"])[1] == ["b", "a"]


def test_wide_and_combining_characters_keep_the_columns_under_each_other() -> None:
    lines = lined_up((("client", "x"), [["\u5317\u4eac", "1"], ["e\u0301a", "1"], ["plain", "1"]]))
    assert [line.endswith("  1") for line in lines[1:]] == [True] * 3
    assert len(lines[1]) == len(lines[3]) - 2
    assert len(lines[2]) == len(lines[3]) + 1


def test_no_rows() -> None:
    assert told_below((HEADER, []), 10, beside=2) == ["client  verdict"]
