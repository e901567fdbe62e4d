"""Present: `--replay`: the anomaly detector over recorded buckets, its findings as JSON lines.

Lines are read one by one, so that a year of history needs no more memory than an hour.
"""

from __future__ import annotations

import json
from typing import BinaryIO, Callable, Iterable, Iterator, List, Mapping, NamedTuple

from monitoring.anomalies import Bucket, Detector, Sensitivity, as_json, parse_bucket
from monitoring.redact import redacted, safe_id, safe_text

#: A bucket of all clients; longer lines are no buckets.
LONGEST_LINE = 64 << 20


class ReplayError(Exception):
    """A line is not a bucket; the message names the line, what is wrong and what is wanted."""


class Replayed(NamedTuple):
    """How many buckets were read, and one sentence for each thing that was left out of them."""

    read: int
    left_out: List[str]


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long to be a bucket, only enough to tell."""
    return iter(lambda: stream.readline(LONGEST_LINE + 1), b"")


def buckets(lines: Iterable[bytes]) -> Iterator[Bucket]:
    """The bucket of each line; empty lines are passed over. Raises ReplayError."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _bucket(number, line)


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
    recorded: Iterable[Bucket], sensitivity: Sensitivity, write: Callable[[str], object]
) -> Replayed:
    """Feed the detector and write a line for each finding as soon as its hour is judged."""
    detector, read = Detector(sensitivity), 0
    for bucket in recorded:
        read += 1
        for anomaly in detector.feed(bucket):
            row = as_json(anomaly)
            row["client"] = safe_id(anomaly.client)
            row["sentence"] = safe_text(anomaly.sentence)
            write(json.dumps(redacted(row), allow_nan=False) + "\n")
    return Replayed(read, _left_out(detector.counts))


def _left_out(counts: Mapping[str, int]) -> List[str]:
    told = {
        "ignored": "buckets began before the end of the one before them (late, duplicate, or not "
        "in order of time) and were ignored",
        "left_out": "client-hours were left out, since there were too many clients",
        "outages": "hours in which nearly every client was silent were taken for an outage",
    }
    return [f"{counts[key]} {text}" for key, text in told.items() if counts.get(key)]
