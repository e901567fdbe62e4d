#!/usr/bin/env python3
"""How well the anomaly detector finds labelled misuse, next to the fixed rules it replaced.

    python benchmarks/detection.py --credbench ../shared/credbench --seeds 1-10

Needs a checkout of CredBench (worlds of 60 clients over six weeks, with a grader). One line a
world, then the means, what was found of each kind, and the processor time per client-hour.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from monitoring.anomaly.detector import Detector, Sensitivity
from monitoring.anomaly.replay import as_json, parse_bucket

Line = dict[str, Any]
COLUMNS = ("f1", "recall", "precision", "false_per_100_client_days", "right_reason")
HEADS = ("F1", "recall", "precision", "false/100 d", "right reason")


def main() -> int:
    """Run the worlds and print the table; exit status 0."""
    args = parse_arguments()
    bench = load_credbench(args.credbench)
    grades: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    print(f"{'seed':>5} {'':10}" + "".join(f"{head:>14}" for head in HEADS) + f"{'us/hour':>10}")
    for seed in args.seeds:
        clients, labels = bench.build(seed)
        change, chance = WORLDS[args.world], random.Random(seed)
        changed = (change(line, chance) for line in bench.lines(clients))
        lines = [json.dumps(line) for line in changed if line is not None]
        for name, finder in (("detector", detect), ("old rules", old_rules)):
            found, seconds = timed(finder, lines, args.budget)
            grade = bench.grade(clients, labels, found)
            grade["microseconds"] = 1e6 * seconds / (len(clients) * len(lines))
            grades[name].append(grade)
            print(f"{seed:>5} {name:10}" + row(grade))
    for name, rows in grades.items():
        means = {key: mean(grade[key] for grade in rows) for key in (*COLUMNS, "microseconds")}
        print(f" mean {name:10}" + row(means))
    print_kinds(grades["detector"])
    return 0


def _as_it_is(line: Line, _chance: random.Random) -> Optional[Line]:
    return line


def _without_addresses(line: Line, _chance: random.Random) -> Optional[Line]:
    for usage in line["clients"].values():
        del usage["sources"]
    return line


def _with_gaps(line: Line, chance: random.Random) -> Optional[Line]:
    return None if chance.random() < 0.05 else line


WORLDS = {
    "plain": _as_it_is,
    "no-addresses": _without_addresses,
    "gaps": _with_gaps,  # one hour in twenty was never collected
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--credbench", type=Path, required=True, help="folder of credbench.py")
    parser.add_argument("--seeds", type=seed_range, default="1-10", help="such as 1-10 or 7")
    parser.add_argument("--world", choices=sorted(WORLDS), default="plain")
    default = Sensitivity().false_alerts_per_client_month
    parser.add_argument("--budget", type=float, default=default, help="false alerts/client/month")
    return parser.parse_args()


def seed_range(text: str) -> range:
    """`1-10` or `7` as a range of seeds."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def load_credbench(path: Path) -> Any:
    """The module credbench.py at or below `path`."""
    file = path / "credbench.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location("credbench", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise SystemExit(f"no credbench.py at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(finder: Any, lines: list[str], budget: float) -> tuple[list[dict[str, object]], float]:
    """The findings, and the processor seconds they took, decoding of the lines included."""
    start = time.process_time()
    found = finder(lines, budget)
    return found, time.process_time() - start


def detect(lines: Iterable[str], budget: float) -> list[dict[str, object]]:
    """The detector of monitoring/anomaly/detector.py, as `--replay` runs it."""
    detector = Detector(Sensitivity(budget))
    return [
        as_json(anomaly)
        for line in lines
        for anomaly in detector.feed(parse_bucket(json.loads(line)))
    ]


def old_rules(lines: Iterable[str], _budget: float) -> list[dict[str, object]]:
    """Three times the client's average hour so far, or any call outside 8 to 18 h."""
    calls: dict[str, float] = collections.defaultdict(float)
    found: list[dict[str, object]] = []
    for hours, line in enumerate(lines, 1):
        bucket = json.loads(line)
        at = bucket["at"]
        for name, usage in bucket["clients"].items():
            if usage["ok"] > 3 * calls[name] / hours:
                found.append({"at": at, "client": name, "reason": "volume_spike"})
            if not 8 <= int(at[11:13]) < 18:
                found.append({"at": at, "client": name, "reason": "off_habit"})
            calls[name] += usage["ok"]
    return found


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def row(grade: dict[str, Any]) -> str:
    """The figures of one line of the table."""
    return "".join(f"{grade[key]:>14.3f}" for key in COLUMNS) + f"{grade['microseconds']:>10.1f}"


def print_kinds(grades: list[dict[str, Any]]) -> None:
    """What was found of each kind of misuse, over all worlds."""
    found: collections.Counter[str] = collections.Counter()
    total: collections.Counter[str] = collections.Counter()
    for grade in grades:
        for kind, share in grade["found"].items():
            hit, _, events = share.partition("/")
            found[kind] += int(hit)
            total[kind] += int(events)
    print("\nfound by the detector:")
    for kind in sorted(total):
        print(f"  {kind:15} {found[kind]:>4} of {total[kind]:<4} {found[kind] / total[kind]:.0%}")


if __name__ == "__main__":
    sys.exit(main())
