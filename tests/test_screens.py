"""The screens of ten situations, at 80 and 120 columns, with and without colour, as they are kept
in data/screens. One that changed on purpose: `python -m tests.screens --write`, and look at it."""

from __future__ import annotations

import re
import unicodedata

import pytest

from tests import screens

EVERY = [
    pytest.param(name, width, colour, id=f"{name}-{width}{'-colour' if colour else ''}")
    for name in screens.SITUATIONS
    for width in screens.WIDTHS
    for colour in (False, True)
]
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(("name", "width", "colour"), EVERY)
def test_a_screen_is_as_it_was(name: str, width: int, colour: bool) -> None:
    kept = screens.path(name, width, colour=colour).read_text(encoding="utf-8")
    assert screens.shown(name, width, colour=colour) == kept


@pytest.mark.parametrize(("name", "width", "colour"), EVERY)
def test_a_screen_fits_and_has_colour_where_it_may(name: str, width: int, colour: bool) -> None:
    text = screens.path(name, width, colour=colour).read_text(encoding="utf-8")
    bare = _ESCAPES.sub("", text)
    assert (bare != text) is colour
    wide = [line for line in bare.splitlines() if _columns(line) > width]
    assert wide == []


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@pytest.mark.parametrize("name", screens.SITUATIONS)
def test_colour_changes_nothing_else(name: str) -> None:
    plain = screens.path(name, 80, colour=False).read_text(encoding="utf-8")
    coloured = _ESCAPES.sub("", screens.path(name, 80, colour=True).read_text(encoding="utf-8"))
    assert [line.rstrip() for line in coloured.splitlines()] == plain.splitlines()


def test_there_is_no_screen_of_a_situation_that_is_gone() -> None:
    wanted = {screens.path(n, w, colour=c) for n, w, c in (p.values for p in EVERY)}  # type: ignore[arg-type]
    assert set(screens.FOLDER.iterdir()) == wanted
