"""Decision: the samples in a Prometheus text exposition: classic, OpenMetrics, or with the quoted
names of Prometheus 3 (`{"http.server.requests", "label.x"="y"} 1`).

Our own reader of the sample lines: the classic parser of prometheus_client takes an OpenMetrics
exemplar for a timestamp without a word (FACTS.md section 5), and both give up at the first bad
line of a body of which we want ten names.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Callable, Dict, List, NamedTuple, Optional

from monitoring.redact import printable

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)?"
    r'(?:[ \t]*\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
    r"(?(labels)\s*|\s+)(?P<value>[-+.\w]+)"
    r"(?=\s|$)",
    re.ASCII,
)
_LABEL = re.compile(
    r'\s*(?:([a-zA-Z_]\w*)|"((?:[^"\\]|\\.)*)")\s*(?:=\s*"((?:[^"\\]|\\.)*)")?\s*(?:,|\Z)',
    re.ASCII,
)
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
        line = found_line.group().strip()
        if not line or line.startswith("#"):
            continue
        found = _SAMPLE.match(line)
        name = _name(found) if found is not None else ""
        if found is None or not name:
            broken += 1
            continue
        lines += 1
        value = _number(found["value"]) if wanted(name) else None
        if value is not None:
            samples.append(Sample(name, _labels(found["labels"] or ""), value))
    if broken and not lines:
        raise ValueError("no Prometheus metrics in the answer")
    return Exposition(samples, lines, broken)


def _name(found: re.Match[str]) -> str:
    """The name, which may stand in quotes among the labels; "" where there is none."""
    if found["name"]:
        return found["name"]
    quoted = (
        pair[2] for pair in _LABEL.finditer(found["labels"] or "") if pair[2] and pair[3] is None
    )
    return _unescaped(next(quoted, ""))


def _labels(text: str) -> Dict[str, str]:
    labels: Dict[str, str] = {}
    for pair in islice(_LABEL.finditer(text), _MOST_LABELS):
        if pair[3] is not None:
            labels[pair[1] or _unescaped(pair[2])] = printable(_unescaped(pair[3]), _LONGEST)
    return labels


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda m: _ESCAPES.get(m.group(), m.group()), text)


def _number(text: str) -> Optional[float]:
    """None for what is no number, and for NaN and infinities, which say "not measured"."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
