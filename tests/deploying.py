"""What the tests of deploy/ share."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_BY = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_BRACES = re.compile(r"\{[^{}]*\}")
_WORDS = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right", "inf", "nan"}


def metrics_in(expr: str) -> set[str]:
    """Names of metrics (and records) in a PromQL expression."""
    bare = _BY.sub(" ", _BRACES.sub(" ", _STRINGS.sub('""', expr)))
    bare = re.sub(r"\[[^\]]*\]|(?<![\w:.])[\d.]+(e[+-]?\d+)?[smhdwy]?\b", " ", bare)
    return {name for name in _WORDS.findall(bare) if name.lower() not in _OPERATORS}


def histogram_base(name: str) -> str:
    """The catalogue's name of a histogram's series."""
    return re.sub(r"_(bucket|sum|count)$", "", name)
