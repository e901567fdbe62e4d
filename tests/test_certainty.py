"""Good words come out of one door, and only with a basis."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path
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
    [
        (0.49999, "49.9 %"),
        (0.5, "50 %"),
        (1.0, "100 %"),
        (0.000116, "0.011 %"),
        (0.0, "0 %"),
        (4e-7, "less than 0.001 %"),
    ],
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


# -- the good words are made in one place (the house)

ROOT = Path(__file__).resolve().parent.parent
CERTAINTY = "monitoring/certainty.py"
HOUSE = sorted(
    [*(ROOT / "monitoring").rglob("*.py"), *ROOT.glob("*_metrics.py"), ROOT / "health_check.py"]
)
NAMES = ("OK", "MET", "YES", "ON_TRACK")
#: Where such a word is somebody else's, or the name of a field, and no verdict of ours.
OTHERS_WORDS = {
    "monitoring/alerts/state.py": "the state of an alert, as the state file keeps it",
    "monitoring/anomaly/scene.py": "a field of a recorded bucket",
    "monitoring/anomaly/replay.py": "a field of a recorded bucket",
    "monitoring/redis/topology.py": "what Redis says of a link",
    "monitoring/tokens/codecs/values.py": "the reason in a verdict of the validating service",
    "monitoring/config/kinds.py": "what a user writes for true",
    "monitoring/config/schema.py": "what a user says a health word means",
    "monitoring/health/words.py": "status words of the services",
    "monitoring/config/settings.py": "words of the services' own counters",
}
#: Who may set Severity.OK by itself: nothing is called good there, something is over or a remark.
NO_VERDICT = {
    "monitoring/alerts/delivery.py": "the channel's alert may resolve",
    "monitoring/alerts/lifecycle.py": "the alert of what is gone may resolve",
    "monitoring/alerts/conditions.py": "an alert may resolve",
    "monitoring/credentials/judged.py": "a finding that is a remark",
    "monitoring/credentials/rotations.py": "a table: how bad each verdict is",
    "monitoring/health/judging.py": "a short name; test_a_judge_calls_nothing_good_by_itself",
    "monitoring/health/words.py": "a table: what a status word means, if nothing is in doubt",
    "monitoring/model.py": "a source that was read; exit statuses",
    "monitoring/sla/levels.py": "a table: how bad each verdict is",
    "monitoring/services/families.py": "findings that are remarks",
    "monitoring/tokens/findings.py": "findings that are remarks",
    "monitoring/tokens/hygiene.py": "findings that are remarks",
}


class Use(NamedTuple):
    node: ast.AST
    parents: tuple[ast.AST, ...]

    @property
    def asks(self) -> bool:
        """Compared with, looked up by, the key of a table, or handed to `affirm`: not said."""
        for child, parent in zip((self.node, *self.parents), self.parents):
            if isinstance(parent, (ast.Compare, ast.Subscript)):
                return True
            if isinstance(parent, ast.Dict) and child in parent.keys:
                return True
            if isinstance(parent, ast.Call):
                name = getattr(parent.func, "attr", getattr(parent.func, "id", ""))
                first = bool(parent.args) and child is parent.args[0]
                return name in ("at", "severity") or (name in ("affirm", "get") and first)
            if not isinstance(parent, (ast.Tuple, ast.Set, ast.List)):
                return False
        return False

    @property
    def in_a_vocabulary(self) -> bool:
        """Among the words of a module's own tuple."""
        kinds = [type(parent) for parent in self.parents[:3]]
        return kinds == [ast.Tuple, ast.Assign, ast.Module]


def uses(path: Path) -> Iterator[Use]:
    def walk(node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[Use]:
        yield Use(node, parents)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, (node, *parents))

    return walk(ast.parse(path.read_text(encoding="utf-8")), ())


def said(use: Use) -> bool:
    """Whether it spells a good word, alone or before a colon, and is no docstring."""
    if not isinstance(use.node, ast.Constant) or not isinstance(use.node.value, str):
        return False
    if isinstance(use.parents[0], ast.Expr):
        return False
    word = use.node.value.strip().lower()
    return word in GOOD_WORDS or (word.split(":")[0] in GOOD_WORDS and ":" in word)


@pytest.mark.parametrize("path", HOUSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_good_words_are_spelt_here_alone_and_said_by_affirm_alone(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name == CERTAINTY:
        return
    source = path.read_text(encoding="utf-8")
    spelt = [u.node.lineno for u in uses(path) if said(u) and not u.asks]  # type: ignore[attr-defined]
    assert not spelt or name in OTHERS_WORDS, f"{name}: a good word is spelt at lines {spelt}"
    if "from monitoring.certainty import" not in source or name in OTHERS_WORDS:
        return
    loose = [
        u.node.lineno
        for u in uses(path)
        if isinstance(u.node, ast.Name) and u.node.id in NAMES and isinstance(u.node.ctx, ast.Load)
        if not u.asks and not u.in_a_vocabulary and not name.startswith("monitoring/health/")
    ]
    assert not loose, f"{name}: a good word is said without affirm at lines {loose}"


@pytest.mark.parametrize("path", HOUSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_good_status_is_made_by_severity_alone(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    made = [
        u.node.lineno
        for u in uses(path)
        if isinstance(u.node, ast.Attribute) and ast.unparse(u.node) == "Severity.OK" and not u.asks
    ]
    assert not made or name in (CERTAINTY, *NO_VERDICT), f"{name}: Severity.OK at lines {made}"


@pytest.mark.parametrize("path", sorted((ROOT / "monitoring" / "health").glob("*.py")), ids=str)
def test_a_judge_calls_nothing_good_by_itself(path: Path) -> None:
    """`good` and `severity` do, from what was seen."""
    source = path.read_text(encoding="utf-8")
    assert "Call(OK" not in source
    assert "Call(Severity.OK" not in source


def test_the_lists_of_exceptions_hold_nothing_that_needs_none() -> None:
    for name in OTHERS_WORDS:
        assert any(said(u) and not u.asks for u in uses(ROOT / name)), name
    for name in NO_VERDICT:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "Severity.OK" in text or "OK, True" in text, name
