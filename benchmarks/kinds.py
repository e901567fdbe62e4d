#!/usr/bin/env python3
"""The detector on eleven kinds of worlds: troubles that are nobody's misuse, and attacks.

    python benchmarks/kinds.py FOLDER [KIND ...]

FOLDER has `kinds.jsonl`, and per kind a world (`KIND.jsonl.gz`, the lines of --replay) and what was
injected (`KIND.labels.jsonl`). Graded as CredBench grades: an event is found from its start to an
hour after its end; repeats within 12 hours count once, what follows an event within 12 hours does
not count; the first 14 days are not graded. What names no client speaks of the platform and is
neither a hit nor false; nor is the silence of a client that never calls again.
"""

from __future__ import annotations

import collections
import datetime as dt
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Set

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from monitoring.anomaly.detector import Anomaly, Detector
from monitoring.anomaly.replay import parse_bucket

Line = Dict[str, Any]
ATTACKS = ("takeover", "slow_guessing", "spray", "all_failing", "repeated_spike")
WARM_UP, MERGE = 14 * 24, 12


def hour_of(text: str) -> int:
    """Hours since the epoch."""
    at = dt.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=dt.timezone.utc)
    return int(at.timestamp() // 3600)


class Grade:
    """One world: the events that are graded, those found, and what was false."""

    def __init__(self, lines: List[Line], labels: List[Line]) -> None:
        self.start = hour_of(lines[0]["at"]) + WARM_UP
        for label in labels:
            label["from"], label["to"] = hour_of(label["from"]), hour_of(label["to"])
        self.labels = labels
        self.events = [label for label in labels if label["from"] >= self.start]
        self.clients: Set[str] = {name for line in lines for name in line["clients"]}
        self.last_call = {
            name: hour_of(line["at"])
            for line in lines
            for name, usage in line["clients"].items()
            if usage["ok"] + usage["failed"] > 0
        }
        self.found: Set[int] = set()
        self.sprayed: Dict[int, Set[str]] = collections.defaultdict(set)
        self.false: collections.Counter[str] = collections.Counter()
        self._told: Dict[str, int] = {}

    def take(self, anomaly: Anomaly) -> None:
        """Count one finding."""
        at = int(anomaly.at // 3600)
        if at < self.start or self._of_a_spray(anomaly, at) or anomaly.client not in self.clients:
            return
        own = [(n, e) for n, e in enumerate(self.events) if e.get("client") == anomaly.client]
        hits = {n for n, event in own if event["from"] <= at < event["to"] + 1}
        self.found |= hits
        near = any(
            label.get("client") == anomaly.client and label["from"] <= at < label["to"] + MERGE
            for label in self.labels
        )
        ended = anomaly.reason == "silence" and self.last_call[anomaly.client] <= at
        if hits or near or ended:
            return
        if at - self._told.get(anomaly.client, -MERGE - 1) > MERGE:
            self.false[anomaly.reason] += 1
        self._told[anomaly.client] = at

    def _of_a_spray(self, anomaly: Anomaly, at: int) -> bool:
        """Told by its address, of the platform, or by failures of ten of its clients."""
        for number, event in enumerate(self.events):
            if event["kind"] != "spray" or not event["from"] <= at < event["to"] + MERGE:
                continue
            failures = any(word in anomaly.reason for word in ("fail", "spray", "guess"))
            if anomaly.client in event["clients"] and failures:
                self.sprayed[number].add(anomaly.client)
            platform = anomaly.client not in self.clients and failures
            named = event["address"] in anomaly.sentence
            if at <= event["to"] and (platform or named or len(self.sprayed[number]) >= 10):
                self.found.add(number)
            if platform or anomaly.client in event["clients"]:
                return True
        return False

    def row(self, kind: str, microseconds: float) -> str:
        """A line of the table."""
        ordinary = [n for n, event in enumerate(self.events) if event["kind"] not in ATTACKS]
        hits, false = len(self.found & set(ordinary)), sum(self.false.values())
        recall = hits / len(ordinary)
        precision = hits / (hits + false) if hits + false else 1.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        special = [
            n
            for n, event in enumerate(self.events)
            if event["kind"] in ATTACKS
            and (event["kind"] != "repeated_spike" or event["number"] >= 9)
        ]
        told = f"{len(self.found & set(special))} of {len(special)}" if special else "-"
        figures = f"{f1:>6.2f}{recall:>8.2f}{precision:>11.2f}{false:>6}"
        return f"{kind:18}{figures}{told:>12}{microseconds:>9.1f}"


def grade(folder: Path, kind: str) -> str:
    """The table's line of one world."""
    with gzip.open(folder / f"{kind}.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    labels = (folder / f"{kind}.labels.jsonl").read_text().splitlines()
    graded, detector = Grade(lines, [json.loads(line) for line in labels]), Detector()
    started = time.process_time()
    found = [anomaly for line in lines for anomaly in detector.feed(parse_bucket(line))]
    seconds = time.process_time() - started
    for anomaly in found:
        graded.take(anomaly)
    return graded.row(kind, 1e6 * seconds / len(graded.clients) / len(lines))


def main() -> int:
    """Print the table; exit status 0, or 2 for a wrong call."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    folder = Path(sys.argv[1])
    rows = (folder / "kinds.jsonl").read_text().splitlines()
    print(
        f"{'kind':18}{'F1':>6}{'recall':>8}{'precision':>11}{'false':>6}{'told':>12}{'us/hour':>9}"
    )
    for kind in sys.argv[2:] or [json.loads(row)["kind"] for row in rows]:
        print(grade(folder, kind), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
