#!/usr/bin/env python3
"""The anomaly detector on series with labelled anomalies, each as one client, beside simple rules.

    python -m benchmarks.series FOLDER                    the column Label marks anomalous rows
    python -m benchmarks.series FOLDER --labels FILE      windows of time by file, as NAB gives them

FOLDER holds CSV files of time and value, at any depth (so do microsoft/cloud-monitoring-dataset
and numenta/NAB). Labelled rows that touch are one event. A finding from the start of an event to
an hour after its end finds it; others are false, where repeats within 12 hours and what follows
an event within 12 hours count no more. The first 14 days are not graded.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import statistics
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple

from monitoring.anomaly.detector import Detector
from monitoring.anomaly.types import Bucket, Sensitivity, Usage

HOUR, DAY = 3600.0, 86400.0
WARM_UP, MERGE = 14 * DAY, 12 * HOUR
Window = Tuple[float, float]


class Series(NamedTuple):
    """`hours`: the calls of each hour that has rows, by its start (epoch seconds)."""

    name: str
    hours: Dict[float, float]
    events: List[Window]


class Grade(NamedTuple):
    """What a finder made of the graded part of one series, or of many."""

    events: int
    hits: int
    false: int
    days: float


def main() -> int:
    """Read, find, grade, print; exit status 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, help="JSON: {file: [[from, to], ...]}")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="calls that a value of 1 stands for"
    )
    parser.add_argument("--budget", type=float, default=Sensitivity().false_alerts_per_client_month)
    parser.add_argument("--verbose", action="store_true", help="one line for each series")
    args = parser.parse_args()
    windows = json.loads(args.labels.read_text()) if args.labels else None
    every = [read(file, args.folder, windows, args.scale) for file in files(args.folder, windows)]
    if not every:
        parser.error(f"no labelled CSV file in {args.folder}")
    print(f"{len(every)} series\n{'':16}{'F1':>8}{'recall':>8}{'precision':>11}{'false/100 d':>13}")
    for name, finder in {"detector": partial(detector, args.budget), **FINDERS}.items():
        grades = [grade(series, finder(series)) for series in every]
        print(f"{name:16}{shown(Grade(*(sum(column) for column in zip(*grades))))}")
        if args.verbose:
            for series, own in zip(every, grades):
                print(f"  {series.name}: {own.hits} of {own.events}, {own.false} false")
    return 0


def files(folder: Path, windows: Optional[Dict[str, List[List[str]]]]) -> Iterator[Path]:
    """The CSV files; where windows are given, only those that they name."""
    for file in sorted(folder.rglob("*.csv")):
        if windows is None or key_of(file, windows):
            yield file


def key_of(file: Path, windows: Dict[str, List[List[str]]]) -> str:
    """The name under which the windows of this file stand: its path's end."""
    return next((key for key in windows if file.as_posix().endswith("/" + key)), "")


def read(
    file: Path, folder: Path, windows: Optional[Dict[str, List[List[str]]]], scale: float
) -> Series:
    """One file, added up by hours."""
    hours: Dict[float, float] = {}
    marked: List[float] = []
    with file.open(encoding="utf-8-sig", newline="") as rows:
        next(rows)
        for at, value, *label in filter(None, csv.reader(rows)):
            start = moment(at) // HOUR * HOUR
            hours[start] = hours.get(start, 0.0) + max(0.0, float(value)) * scale
            if label and label[0].strip() == "1":
                marked.append(start)
    events = [(hour, hour + HOUR) for hour in marked]
    if windows is not None:
        events = [(moment(a), moment(b)) for a, b in windows[key_of(file, windows)]]
    hours = {hour: float(round(hours[hour])) for hour in sorted(hours)}
    return Series(file.relative_to(folder).as_posix(), hours, merged(events))


def moment(text: str) -> float:
    """Epoch seconds of an ISO time; without a zone it is UTC."""
    parsed = dt.datetime.fromisoformat(text.strip().strip('"').replace("Z", "+00:00"))
    return parsed.replace(tzinfo=parsed.tzinfo or dt.timezone.utc).timestamp()


def merged(events: List[Window]) -> List[Window]:
    """Windows that touch are one."""
    out: List[Window] = []
    for start, end in sorted(events):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def detector(budget: float, series: Series) -> List[float]:
    """The shipped detector; the hours in which it found something."""
    watch = Detector(Sensitivity(budget))
    return [
        found.at
        for at, calls in series.hours.items()
        for found in watch.feed(Bucket(at, HOUR, {"series": Usage(calls, 0.0)} if calls else {}))
    ]


def three_times_the_mean(series: Series) -> List[float]:
    """More than three times the mean of all hours so far."""
    found, total = [], 0.0
    for number, (at, calls) in enumerate(series.hours.items(), 1):
        total += calls
        if calls > 3 * total / number:
            found.append(at)
    return found


def rolling_z(series: Series) -> List[float]:
    """More than four standard deviations from the mean of the last seven days."""
    found: List[float] = []
    week: Deque[float] = deque(maxlen=168)
    for at, calls in series.hours.items():
        if len(week) == 168:
            spread = statistics.pstdev(week)
            if abs(calls - statistics.fmean(week)) > 4 * spread > 0:
                found.append(at)
        week.append(calls)
    return found


FINDERS: Dict[str, Callable[[Series], List[float]]] = {
    "3 x mean": three_times_the_mean,
    "rolling z > 4": rolling_z,
}


def grade(series: Series, found: List[float]) -> Grade:
    """Hits by event, false alerts by what is left."""
    begin, end = min(series.hours) + WARM_UP, max(series.hours) + HOUR
    events = [event for event in series.events if event[1] > begin]
    hits, false, last = set(), 0, -MERGE
    for at in found:
        inside = [e for e in events if e[0] - HOUR < at < e[1] + HOUR]
        hits.update(inside if at >= begin else ())
        if at < begin or any(e[0] - HOUR < at < e[1] + MERGE for e in series.events):
            continue
        false += at - last > MERGE
        last = at
    return Grade(len(events), len(hits), false, max(0.0, end - begin) / DAY)


def shown(total: Grade) -> str:
    """The figures of one line of the table."""
    recall = total.hits / max(1, total.events)
    precision = total.hits / max(1, total.hits + total.false)
    f1 = 2 * recall * precision / (recall + precision) if total.hits else 0.0
    rate = 100 * total.false / max(1.0, total.days)
    return f"{f1:>8.3f}{recall:>8.3f}{precision:>11.3f}{rate:>13.2f}"


if __name__ == "__main__":
    sys.exit(main())
