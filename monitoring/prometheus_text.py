"""Decision: the samples in a Prometheus text exposition, classic or OpenMetrics.

Our own reader of the sample lines: the classic parser of prometheus_client takes an OpenMetrics
exemplar for a timestamp without a word (FACTS.md section 5), and both give up at the first bad
line of a body of which we want ten names.
"""

from __future__ import annotations

import math
import re
from typing import Callable, Dict, Iterator, List, NamedTuple

from monitoring.redact import printable

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)"
    r'(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
    r"\s+(?P<value>[-+.\w]+)"
    r"(?=\s|$)",
    re.ASCII,
)
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?', re.ASCII)
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
_MOST_LABELS = 32
_LONGEST = 2000  # characters of a label
_LINE = re.compile(r"[^\r\n]+")


class Sample(NamedTuple):
    """One line: its full name, labels and finite value."""

    name: str
    labels: Dict[str, str]
    value: float


class Exposition(NamedTuple):
    """`samples` of the wanted names; `lines`, all sample lines; `broken`, lines that are none."""

    samples: List[Sample]
    lines: int
    broken: int


def read(text: str, wanted: Callable[[str], bool]) -> Exposition:
    """The samples whose name is wanted. Raises ValueError when no line of a body that is not
    empty is one (HTML, JSON)."""
    samples: List[Sample] = []
    lines = broken = 0
    for found_line in _LINE.finditer(text):  # not a list: a page may be millions of lines
        line = found_line.group()
        if not line.strip() or line.startswith("#"):
            continue
        found = _SAMPLE.match(line)
        if found is None:
            broken += 1
            continue
        lines += 1
        if wanted(found["name"]):
            samples += _sample(found)
    if broken and not lines:
        raise ValueError("no Prometheus metrics in the answer")
    return Exposition(samples, lines, broken)


def _sample(found: re.Match[str]) -> Iterator[Sample]:
    try:
        value = float(found["value"])
    except ValueError:
        return
    if math.isfinite(value):  # NaN and infinities say "not measured"
        yield Sample(found["name"], _labels(found["labels"] or ""), value)


def _labels(text: str) -> Dict[str, str]:
    labels: Dict[str, str] = {}
    for name, value in _LABEL.findall(text)[:_MOST_LABELS]:
        plain = re.sub(r"\\.", lambda m: _ESCAPES.get(m.group(), m.group()), value)
        labels[name] = printable(plain, _LONGEST)
    return labels
