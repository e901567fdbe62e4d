#!/usr/bin/env python3
"""The anomaly detector on series with labelled anomalies, each as one client, beside simple rules.

    python -m benchmarks.series FOLDER                    the column Label marks anomalous rows
    python -m benchmarks.series FOLDER --labels FILE      windows of time by file, as NAB gives them

FOLDER holds CSV files of time and value, at any depth (so do microsoft/cloud-monitoring-dataset
and numenta/NAB). Labelled rows at most two hours apart are one event. An alert from an hour before
an event to an hour after its end finds it; others are false, where what comes within six hours of
a false one counts no more. The first seven days are not graded. The detector is given whole hours
and has its shipped settings; the rules judge every row, and each has the threshold that is best on
these very series: they flatter themselves.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from monitoring.anomaly.detector import Detector
from monitoring.anomaly.types import Bucket, Sensitivity, Usage
from monitoring.anomaly.views import lower, score, upper

HOUR, DAY = 3600.0, 86400.0
WARM_UP, JOINED, ECHO = 7 * DAY, 2 * HOUR, 6 * HOUR
Window = tuple[float, float]
Scored = list[tuple[float, float]]


class Series(NamedTuple):
    """`rows`: (start in epoch seconds, calls), in order; `hours`: the calls of each hour that has
    rows, by its start."""

    name: str
    rows: Scored
    hours: dict[float, float]
    events: list[Window]


class Grade(NamedTuple):
    """What a finder made of the graded part of one series, or of many."""

    events: int
    hits: int
    false: int
    days: float

    @property
    def f1(self) -> float:
        return 2.0 * self.hits / max(1, self.events + self.hits + self.false)


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
    parser.add_argument("--only-detector", action="store_true", help="without the rules")
    parser.add_argument("--verbose", action="store_true", help="one line for each series")
    args = parser.parse_args()
    windows = json.loads(args.labels.read_text()) if args.labels else None
    every = [read(file, args.folder, windows, args.scale) for file in files(args.folder, windows)]
    if not every:
        parser.error(f"no labelled CSV file in {args.folder}")
    print(f"{len(every)} series\n{'':18}{'F1':>8}{'recall':>8}{'precision':>11}{'false/100 d':>13}")
    report("detector", every, [detector(args.budget, series) for series in every], args.verbose)
    for name, rule in ({} if args.only_detector else RULES).items():
        report(name, every, best(every, [rule(series) for series in every]), args.verbose)
    return 0


def report(name: str, every: Sequence[Series], found: list[list[float]], verbose: bool) -> None:
    """Print the line of one finder, and on request one for each series."""
    grades = [grade(series, own) for series, own in zip(every, found)]
    print(f"{name:18}{shown(total(grades))}", flush=True)
    for series, own in zip(every, grades) if verbose else ():
        print(f"  {series.name}: {own.hits} of {own.events}, {own.false} false")


def files(folder: Path, windows: Optional[dict[str, list[list[str]]]]) -> Iterator[Path]:
    """The CSV files; where windows are given, only those that they name."""
    for file in sorted(folder.rglob("*.csv")):
        if windows is None or key_of(file, windows):
            yield file


def key_of(file: Path, windows: dict[str, list[list[str]]]) -> str:
    """The name under which the windows of this file stand: its path's end."""
    return next((key for key in windows if file.as_posix().endswith("/" + key)), "")


def read(
    file: Path, folder: Path, windows: Optional[dict[str, list[list[str]]]], scale: float
) -> Series:
    """One file, its rows and these added up by hours."""
    hours: dict[float, float] = {}
    rows: Scored = []
    marked: list[float] = []
    with file.open(encoding="utf-8-sig", newline="") as lines:
        next(lines)
        for at, value, *label in filter(None, csv.reader(lines)):
            rows.append((moment(at), max(0.0, float(value)) * scale))
            if label and label[0].strip() == "1":
                marked.append(rows[-1][0])
    for at, calls in rows:
        hours[at // HOUR * HOUR] = hours.get(at // HOUR * HOUR, 0.0) + calls
    steps = sorted(b[0] - a[0] for a, b in zip(rows, rows[1:]))
    step = steps[len(steps) // 2] if steps else HOUR
    events = [(start, start + step) for start in marked]
    if windows is not None:
        events = [(moment(a), moment(b)) for a, b in windows[key_of(file, windows)]]
    hours = {hour: float(round(hours[hour])) for hour in sorted(hours)}
    return Series(file.relative_to(folder).as_posix(), sorted(rows), hours, merged(events))


def moment(text: str) -> float:
    """Epoch seconds of an ISO time; without a zone it is UTC."""
    parsed = dt.datetime.fromisoformat(text.strip().strip('"').replace("Z", "+00:00"))
    return parsed.replace(tzinfo=parsed.tzinfo or dt.timezone.utc).timestamp()


def merged(events: list[Window]) -> list[Window]:
    """Windows at most two hours apart are one."""
    out: list[Window] = []
    for start, end in sorted(events):
        if out and start <= out[-1][1] + JOINED:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def detector(budget: float, series: Series) -> list[float]:
    """The shipped detector; the hours in which it found something."""
    watch = Detector(Sensitivity(budget))
    return [
        found.at
        for at, calls in series.hours.items()
        for found in watch.feed(Bucket(at, HOUR, {"series": Usage(calls, 0.0)} if calls else {}))
    ]


def ewma_z(series: Series) -> Scored:
    """Standard deviations from the mean; mean and variance forget with 0.01 a row."""
    mean, variance, out = series.rows[0][1], 0.0, []
    for at, calls in series.rows:
        out.append((at, abs(calls - mean) / math.sqrt(variance) if variance > 0.0 else 0.0))
        offset = calls - mean
        mean += 0.01 * offset
        variance = 0.99 * (variance + 0.01 * offset * offset)
    return out


def gamma_poisson(series: Series) -> Scored:
    """-log10 p of so many calls, or so few: a rate for each hour of the day with a Gamma prior that
    keeps 0.995 a row, and a dispersion learnt from what was missed."""
    calls_of, rows_of = [0.0] * 24, [0.0] * 24
    mean, missed, square, out = series.rows[0][1], 0.0, 0.0, []
    for at, calls in series.rows:
        hour = int(at // HOUR) % 24
        rate = (calls_of[hour] + mean) / (rows_of[hour] + 1.0)
        spread = max(missed / square, 1e-6) if square > 0.0 else 1.0
        tail = min(upper(calls, rate, spread), lower(calls, rate, spread))
        out.append((at, score(tail)))
        calls_of[hour] = 0.995 * calls_of[hour] + calls
        rows_of[hour] = 0.995 * rows_of[hour] + 1.0
        missed = 0.995 * missed + (calls - rate) ** 2 - rate
        square = 0.995 * square + rate * rate
        mean += 0.01 * (calls - mean)
    return out


def times_average(series: Series) -> Scored:
    """The calls of a row, in averages of all rows before it."""
    out, total_calls = [], 0.0
    for number, (at, calls) in enumerate(series.rows):
        out.append((at, calls * number / total_calls if total_calls else 0.0))
        total_calls += calls
    return out


RULES: dict[str, Callable[[Series], Scored]] = {
    "EWMA z": ewma_z,
    "Gamma-Poisson": gamma_poisson,
    "times the average": times_average,
}


def best(every: Sequence[Series], scored: list[Scored]) -> list[list[float]]:
    """The alerts with the one threshold that gives the best F1 over all of these series."""
    values = sorted(value for rows in scored for _, value in rows)
    shares = [1.0 - 10 ** (-exponent / 12) for exponent in range(12, 61)]
    thresholds = sorted({values[int(share * (len(values) - 1))] for share in shares})
    choices = [
        [[at for at, value in rows if value > threshold] for rows in scored]
        for threshold in thresholds
    ]
    return max(choices, key=lambda found: total(list(map(grade, every, found))).f1)


def grade(series: Series, found: list[float]) -> Grade:
    """Hits by event, false alerts by what is left."""
    begin, end = min(series.hours) + WARM_UP, max(series.hours) + HOUR
    events = [event for event in series.events if event[1] > begin]
    hits, false, last = set(), 0, -math.inf
    for at in found:
        inside = [e for e in series.events if e[0] - HOUR <= at <= e[1] + HOUR]
        if at < begin:
            continue
        hits.update(event for event in inside if event in events)
        if not inside and at - last > ECHO:
            false += 1
        last = last if inside else at
    return Grade(len(events), len(hits), false, max(0.0, end - begin) / DAY)


def total(grades: Sequence[Grade]) -> Grade:
    """Of many series."""
    return Grade(*(sum(column) for column in zip(*grades)))


def shown(of_all: Grade) -> str:
    """The figures of one line of the table."""
    recall = of_all.hits / max(1, of_all.events)
    precision = of_all.hits / max(1, of_all.hits + of_all.false)
    rate = 100 * of_all.false / max(1.0, of_all.days)
    return f"{of_all.f1:>8.3f}{recall:>8.3f}{precision:>11.3f}{rate:>13.2f}"


if __name__ == "__main__":
    sys.exit(main())
