#!/usr/bin/env python3
"""The detector on thirteen kinds of worlds: troubles that are nobody's misuse, and attacks.

    python benchmarks/kinds.py FOLDER [KIND ...]

FOLDER has `kinds.jsonl`, and per kind a world (`KIND.jsonl.gz`, the lines of --replay) and what was
injected (`KIND.labels.jsonl`); `worlds.py` makes new ones. Graded as `--replay --labels` does.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from monitoring.anomaly.detector import Detector, Sensitivity
from monitoring.anomaly.grading import Graded, Grader, Label
from monitoring.anomaly.replay import parse_bucket, parse_label

ATTACKS = (
    *("takeover", "slow_guessing", "spray", "all_failing", "repeated_spike", "first_week"),
    "month_end",  # which is none: of the first two nobody knows
)
NINTH = 9  # of misuse that comes again and again, this time and later ones matter
HEAD = f"{'kind':18}{'F1':>6}{'recall':>8}{'precision':>11}{'false':>6}{'/asked':>8}{'told':>12}"


def row(kind: str, graded: Graded, labels: list[Label], microseconds: float) -> str:
    """A line of the table: F1 is of the ordinary misuse, `notified` of the attack."""
    ordinary = {name: n for name, n in graded.events.items() if name not in ATTACKS}
    hits, false = sum(graded.found.get(name, 0) for name in ordinary), sum(graded.false.values())
    recall = hits / sum(ordinary.values())
    precision = hits / max(1, hits + false)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    special = [label for label in labels if is_special(label)]
    told = f"{sum(map(is_special, graded.hits))} of {len(special)}" if special else "-"
    figures = f"{f1:>6.2f}{recall:>8.2f}{precision:>11.2f}{false:>6}"
    figures += f"{graded.observed / graded.asked:>8.2f}"
    return f"{kind:18}{figures}{told:>12}{microseconds:>9.1f}"


def is_special(label: Label) -> bool:
    """An attack that is counted by itself."""
    again = label.kind == "repeated_spike" and label.number < NINTH
    return label.kind in ATTACKS and not again


def grade(folder: Path, kind: str) -> str:
    """The table's line of one world."""
    with gzip.open(folder / f"{kind}.jsonl.gz", "rt") as file:
        buckets = [parse_bucket(json.loads(line)) for line in file]
    text = (folder / f"{kind}.labels.jsonl").read_text()
    labels = [parse_label(json.loads(line)) for line in text.splitlines()]
    grader, detector = Grader(Sensitivity(), labels), Detector()
    started = time.process_time()
    found = [anomaly for bucket in buckets for anomaly in detector.feed(bucket)]
    seconds = time.process_time() - started
    for bucket in buckets:
        grader.note(bucket)
    for anomaly in found:
        grader.take(anomaly)
    clients = len({name for bucket in buckets for name in bucket.clients})
    return row(kind, grader.result(), labels, 1e6 * seconds / clients / len(buckets))


def main() -> int:
    """Print the table; exit status 0, or 2 for a wrong call."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    rows = (folder / "kinds.jsonl").read_text().splitlines()
    print(f"{HEAD}{'us/hour':>9}")
    for kind in sys.argv[2:] or [json.loads(line)["kind"] for line in rows]:
        print(grade(folder, kind), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
