"""Present: `--replay`: the anomaly detector over recorded buckets, its findings as JSON lines.

Lines are read one by one, so that a year of history needs no more memory than an hour.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import (
    Any,
    BinaryIO,
    Callable,
    NamedTuple,
    Optional,
)

from monitoring.anomaly.detector import Detector, Sensitivity
from monitoring.anomaly.grading import Grader, Label, reported
from monitoring.anomaly.types import Anomaly, Bucket, Usage
from monitoring.text import counted, redacted, safe_id, safe_text

# -- buckets from, and anomalies to, the JSON lines of `--replay`.

LONGEST_BUCKET = 3600.0
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_BUCKET, _USAGE = ("at", "seconds", "clients"), ("ok", "failed", "sources")
_MOST_CALLS = 1e15  # more in an hour is no count
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def parse_bucket(obj: object) -> Bucket:
    """One decoded line as a Bucket: `{"at": "2026-03-02T00:00:00Z", "seconds": 3600,
    "clients": {NAME: {"ok": 12, "failed": 0, "sources": {ADDRESS: 12}}}}`. `failed` may be missing
    (0), and `sources` missing or null (addresses not known). ValueError, one sentence, names what
    is wrong: a key that is not listed here, too."""
    if not isinstance(obj, dict):
        raise ValueError("a bucket must be a JSON object")
    for key in _BUCKET:
        if key not in obj:
            raise ValueError(f"the bucket has no {key!r}")
    for key in obj:
        if key not in _BUCKET:
            raise _unknown(key, _BUCKET, "the bucket")
    seconds = _count(obj["seconds"], "seconds")
    if not 0.0 < seconds <= LONGEST_BUCKET:
        raise ValueError("'seconds' must be above 0 and at most 3600")
    if not isinstance(obj["clients"], dict):
        raise ValueError("'clients' must be an object of client names")
    at = parse_time(obj["at"])
    return Bucket(at, seconds, {name: _usage(name, row) for name, row in obj["clients"].items()})


def parse_time(value: object) -> float:
    """Epoch seconds of a time with its zone; ValueError for anything else."""
    match = _STAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("'at' must be a time such as 2026-03-02T00:00:00Z")
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        moment = dt.datetime.fromisoformat(match[1] + zone)
    except ValueError as error:
        raise ValueError("'at' is no date of the calendar") from error
    return (moment - _EPOCH).total_seconds() + float(match[2] or 0.0)


def parse_label(row: object) -> Label:
    """A decoded line `{"client": NAME, "kind": KIND, "from": TIME, "to": TIME}`; a spray has
    `clients` and `address` in place of the client. ValueError names what is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a label must be a JSON object")
    for key in ("kind", "from", "to"):
        if key not in row:
            raise ValueError(f"the label has no {key!r}")
    clients = row.get("clients", [])
    if not isinstance(clients, list) or not (clients or isinstance(row.get("client"), str)):
        raise ValueError("the label has no 'client', and no list 'clients'")
    start, end = _moment(row["from"]), _moment(row["to"])
    if end <= start:
        raise ValueError("the label's 'to' must be after its 'from'")
    names = frozenset(str(name) for name in clients)
    address = str(row.get("address", ""))
    number = row.get("number", 0)
    if type(number) is not int:
        raise ValueError("the label's 'number' must be a whole number")
    client = str(row.get("client", ""))
    return Label(str(row["kind"]), start, end, client, names, address, number)


def _moment(text: object) -> float:
    try:
        return parse_time(text)
    except ValueError:
        raise ValueError("'from' and 'to' must be times such as 2026-03-02T00:00:00Z") from None


def _usage(name: str, row: Any) -> Usage:
    if not isinstance(row, dict):
        raise ValueError(f"client {name!r} must be an object with 'ok' and 'failed'")
    if "ok" not in row:
        raise ValueError(f"client {name!r} has no 'ok'")
    for key in row:
        if key not in _USAGE:
            raise _unknown(key, _USAGE, f"client {name!r}")
    ok = _count(row["ok"], "ok", name)
    failed = _count(row.get("failed", 0), "failed", name)
    return Usage(ok, failed, _sources(name, row.get("sources")))


def _sources(name: str, sources: Any) -> Optional[Mapping[str, float]]:
    if sources is None:
        return None
    if not isinstance(sources, dict):
        raise ValueError(f"'sources' of client {name!r} must be an object of addresses")
    for calls in sources.values():
        if type(calls) is not int or calls < 0:
            _count(calls, "sources", name)
    return sources


def _count(value: Any, key: str, name: Optional[str] = None) -> float:
    if type(value) in (int, float) and 0 <= value <= _MOST_CALLS:  # NaN is neither
        return value  # type: ignore[no-any-return]
    owner = "" if name is None else f" of client {name!r}"
    raise ValueError(f"{key!r}{owner} must be a number from 0 to 1e15")


def _unknown(key: str, known: Sequence[str], owner: str) -> ValueError:
    """A misspelt key must not read as a count of 0."""
    return ValueError(f"{owner} has an unknown key {key!r}; known are {', '.join(known)}")


def as_json(anomaly: Anomaly) -> dict[str, object]:
    """The line that `--replay` prints for a finding; `at` in UTC, figures rounded for reading."""
    return {
        "at": stamp(anomaly.at),
        "client": anomaly.client,
        "reason": anomaly.reason,
        "score": round(anomaly.score, 2),
        "observed": round(anomaly.observed, 3),
        "expected": round(anomaly.expected, 3),
        "sentence": anomaly.sentence,
        "severity": anomaly.severity,
        "profile_age_days": round(anomaly.profile_age_days, 2),
        "evidence": {key: _brief(value) for key, value in anomaly.evidence.items()},
    }


def as_line(anomaly: Anomaly) -> str:
    """One finding as a line of JSON."""
    row = as_json(anomaly)
    row["client"] = safe_id(anomaly.client)
    row["sentence"] = safe_text(anomaly.sentence)
    return json.dumps(redacted(row), allow_nan=False) + "\n"


def as_text(anomaly: Anomaly) -> str:
    """One finding as a line for a person."""
    return f"{anomaly.severity:8}  {stamp(anomaly.at)}  {safe_text(anomaly.sentence)}\n"


def _brief(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def stamp(at: float) -> str:
    """Epoch seconds as `2026-03-02T00:00:00Z`."""
    return (_EPOCH + dt.timedelta(seconds=int(at))).strftime("%Y-%m-%dT%H:%M:%SZ")


#: A bucket of all clients; longer lines are no buckets.
LONGEST_LINE = 64 << 20


class ReplayError(Exception):
    """A line is not a bucket; the message names the line, what is wrong and what is wanted."""


class Replayed(NamedTuple):
    """How many buckets were read, one sentence for each thing that was left out of them, the
    false alerts that were asked for and observed, and how many findings of each severity there
    were."""

    read: int
    left_out: list[str]
    graded: list[str]
    found: Mapping[str, int]


def headline(done: Replayed) -> str:
    """`2 critical and 1 warning in 720 buckets`, which ends what a person reads."""
    said = " and ".join(f"{n} {word}" for word, n in sorted(done.found.items()))
    return f"{said or 'nothing found'} in {counted(done.read, 'bucket')}"


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long to be a bucket, only enough to tell."""
    return iter(lambda: stream.readline(LONGEST_LINE + 1), b"")


def buckets(lines: Iterable[bytes]) -> Iterator[Bucket]:
    """The bucket of each line; empty lines are passed over. Raises ReplayError."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _bucket(number, line)


def labels(lines: Iterable[bytes]) -> list[Label]:
    """The label of each line; empty lines are passed over. Raises ReplayError."""
    return [_label(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _label(number: int, line: bytes) -> Label:
    try:
        return parse_label(_decoded(number, line))
    except (ValueError, TypeError) as error:
        raise ReplayError(f"label, line {number}: {safe_text(str(error))}") from None


def _bucket(number: int, line: bytes) -> Bucket:
    if len(line) > LONGEST_LINE:
        raise ReplayError(f"line {number}: longer than {LONGEST_LINE >> 20} MiB, so no bucket")
    try:
        return parse_bucket(_decoded(number, line))
    except ValueError as error:
        raise ReplayError(f"line {number}: {safe_text(str(error))}") from None


def _decoded(number: int, line: bytes) -> object:
    try:
        return json.loads(line)
    except RecursionError:
        raise ReplayError(f"line {number}: nested too deep for a bucket") from None
    except json.JSONDecodeError as error:
        said = f"line {number}: not JSON ({error.msg} at column {error.colno})"
        raise ReplayError(f'{said}; wanted is {{"at":…,"seconds":…,"clients":{{…}}}}') from None
    except UnicodeDecodeError:
        raise ReplayError(f"line {number}: not UTF-8 text") from None
    except ValueError:  # Python reads whole numbers of some thousand digits at most
        raise ReplayError(f"line {number}: a number has too many digits") from None


def replay(
    recorded: Iterable[Bucket],
    sensitivity: Sensitivity,
    write: Callable[[str], object],
    known: Optional[Sequence[Label]] = None,
    *,
    line: Callable[[Anomaly], str] = as_line,
) -> Replayed:
    """Feed the detector and write a line for each finding as soon as its hour is judged; grade
    what was found, by the labels where there are any (`known`)."""
    detector, grader, read = Detector(sensitivity), Grader(sensitivity, known), 0
    found: Counter[str] = Counter()
    for bucket in recorded:
        read += 1
        grader.note(bucket)
        for anomaly in detector.feed(bucket):
            grader.take(anomaly)
            found[anomaly.severity] += 1
            write(line(anomaly))
    graded = reported(grader.result(), known is not None)
    return Replayed(read, _left_out(detector.counts), graded, found)


def _left_out(counts: Mapping[str, int]) -> list[str]:
    reported = {
        "ignored": "buckets began before the end of the one before them (late, duplicate, or not "
        "in order of time) and were ignored",
        "left_out": "client-hours were left out, since there were too many clients",
        "outages": "hours in which nearly every client was silent were taken for an outage",
    }
    return [f"{counts[key]} {text}" for key, text in reported.items() if counts.get(key)]
