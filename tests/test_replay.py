"""--replay: lines in, findings out, and one clear sentence for a line that is no bucket."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.anomaly import replay
from monitoring.anomaly.detector import Sensitivity
from monitoring.anomaly.types import Bucket, Usage
from monitoring.text import iso_seconds
from tests.scripts import check_lines, run

NOW = 1_795_392_000.0
SCRIPT = "credential_usage_metrics"


def line(hour: int, clients: Any) -> bytes:
    bucket = {"at": iso_seconds(NOW + hour * 3600), "seconds": 3600, "clients": clients}
    return json.dumps(bucket).encode() + b"\n"


def attack(hours: int = 24 * 21) -> Iterator[bytes]:
    """Three weeks of a steady client, then a burst of failures."""
    for hour in range(hours):
        failed = 400 if hour == hours - 2 else 0
        yield line(hour, {"c\x1b[31m": {"ok": 60 + hour % 5, "failed": failed}})


def found(lines: Any) -> list[dict[str, Any]]:
    told: list[str] = []
    replay.replay(replay.buckets(lines), Sensitivity(), told.append)
    return [json.loads(text) for text in told]


def test_findings_are_json_lines_with_the_fields_promised() -> None:
    told = found(attack())
    assert [row["reason"] for row in told] == ["failure_burst"]
    (row,) = told
    assert set(row) == {
        *("at", "client", "reason", "score", "observed", "expected", "sentence", "severity"),
        *("profile_age_days", "evidence"),
    }
    assert row["client"] == "c\\x1b[31m~c029cb15"
    assert "\x1b" not in row["sentence"]


def test_lines_are_read_one_by_one() -> None:
    """A finding is written before the next line is asked for."""
    told: list[str] = []

    def lines() -> Iterator[bytes]:
        yield from attack()
        assert told
        yield line(24 * 21 + 1, {})

    replay.replay(replay.buckets(lines()), Sensitivity(), told.append)


BAD = [
    (b"{", "not JSON"),
    (b"[1]\n", "must be a JSON object"),
    (b"\xff\xfe\n", "not UTF-8"),
    (b"[" * 200_000, "nested too deep"),
    (b'{"at":"yesterday","seconds":60,"clients":{}}', "'at' must be a time"),
    (b'{"at":"2026-03-02T00:00:00Z","seconds":-1,"clients":{}}', "'seconds'"),
    (b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{"\x1b":{"ok":"x"}}}', "line 3"),
    (b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{"a":{"ok":1e999}}}', "'ok'"),
    (b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{"a":{"ok":1e300}}}', "'ok'"),
    (
        b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{"a":{"ok":%s}}}' % (b"9" * 5000),
        "too many digits" if hasattr(sys, "set_int_max_str_digits") else "from 0 to 1e15",
    ),
    (b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{},"x":1}', "unknown key 'x'"),
    (
        b'{"at":"2026-03-02T00:00:00Z","seconds":60,"clients":{"a":{"ok":1,"fail":9}}}',
        "client 'a' has an unknown key 'fail'; known are ok, failed, sources",
    ),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_a_bad_line_is_one_sentence_with_its_number(bad: bytes, said: str) -> None:
    lines = [line(0, {}), b"\n", bad]
    with pytest.raises(replay.ReplayError) as caught:
        list(replay.buckets(lines))
    text = str(caught.value)
    assert text.startswith("line 3: ")
    assert said in text
    assert text.isprintable()
    assert len(text) < 400


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    stream = io.BytesIO(b"a" * (replay.LONGEST_LINE + 50) + b"\n")
    with pytest.raises(replay.ReplayError, match="longer than 64 MiB"):
        next(replay.buckets(replay.lines_of(stream)))
    assert stream.tell() == replay.LONGEST_LINE + 1


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    early = [line(hour, {"c": {"ok": 5}}) for hour in (3, 1, 2, 4)]
    (tmp_path / "w.jsonl").write_bytes(b"".join(early))
    done = run(SCRIPT, "--replay", "w.jsonl", env={}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    told = check_lines(done.stderr)[0]
    assert "2 buckets began before the end of the one before them" in str(told["message"])


def test_the_script_reads_a_file_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_bytes(b"".join(attack()))
    done = run(SCRIPT, "--replay", "w.jsonl", env={}, cwd=tmp_path)
    assert done.returncode == 0
    assert [json.loads(text)["reason"] for text in done.stdout.splitlines()] == ["failure_burst"]
    (told,) = check_lines(done.stderr)
    said = str(told["message"])
    assert "0.5 asked for, 4.35 observed (1 in 0.2 client-months" in said
    assert "if nothing that was told is misuse" in said


def test_labels_say_what_of_it_was_found(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_bytes(b"".join(attack()))
    hours = (24 * 21 - 2, 24 * 21 - 1)
    names = ("c\x1b[31m", "somebody else")
    rows = [
        {
            "client": name,
            "kind": kind,
            "from": iso_seconds(NOW + t * 3600),
            "to": "2027-01-01T00:00:00Z",
        }
        for name, kind, t in zip(names, ("failure_burst", "silence"), hours)
    ]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(SCRIPT, "--replay", "w.jsonl", "--labels", "l.jsonl", env={}, cwd=tmp_path)
    assert done.returncode == 0
    asked, found = (str(line["message"]) for line in check_lines(done.stderr))
    assert "0.5 asked for, 0 observed (0 in 0.2 client-months" in asked
    assert "1 of 2 labelled events found: recall 0.50, precision 1.00, F1 0.67" in found
    assert "failure_burst 1/1, silence 0/1" in found


EARLY, LATER = "2026-03-02T00:00:00Z", "2027-01-01T00:00:00Z"
RIGHT = {"client": "c", "kind": "x", "from": EARLY, "to": LATER}
WRONG_LABELS = [
    ([], "must be a JSON object"),
    ({"client": "c", "from": EARLY}, "has no 'kind'"),
    ({**RIGHT, "client": 7}, "has no 'client'"),
    ({**RIGHT, "clients": "c"}, "has no 'client'"),
    ({**RIGHT, "from": 3}, "must be times such as"),
    ({**RIGHT, "from": LATER, "to": EARLY}, "after"),
    ({**RIGHT, "number": "n"}, "whole number"),
]


@pytest.mark.parametrize(("bad", "said"), WRONG_LABELS)
def test_a_bad_label_is_one_sentence_with_its_number(bad: Any, said: str) -> None:
    with pytest.raises(replay.ReplayError, match="label, line 2: ") as caught:
        replay.labels([b"\n", json.dumps(bad).encode()])
    assert said in str(caught.value)


def test_labels_without_a_replay_or_a_file_are_wrong_usage(tmp_path: Path) -> None:
    alone = run(SCRIPT, "--labels", "l.jsonl", env={}, cwd=tmp_path)
    assert alone.returncode == 3
    assert "--labels belongs to --replay" in alone.stderr
    (tmp_path / "w.jsonl").write_bytes(line(0, {}))
    missing = run(SCRIPT, "--replay", "w.jsonl", "--labels", "none", env={}, cwd=tmp_path)
    assert missing.returncode == 3
    assert "none: No such file" in missing.stderr


def test_the_script_ends_with_3_at_a_bad_line_after_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_bytes(b"".join(attack()) + b"{bad\n")
    done = run(SCRIPT, "--replay", "w.jsonl", env={}, cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 1
    (told,) = check_lines(done.stderr)
    assert "line 505: not JSON" in str(told["message"])


def test_a_missing_file_and_an_empty_history(tmp_path: Path) -> None:
    missing = run(SCRIPT, "--replay", "none.jsonl", env={}, cwd=tmp_path)
    assert missing.returncode == 3
    assert "No such file" in missing.stderr
    empty = run(SCRIPT, "--replay", "history", "--lookback", "7d", env={}, cwd=tmp_path)
    assert (empty.returncode, empty.stdout) == (3, "")
    assert "nothing was recorded" in empty.stderr
    (tmp_path / "empty.jsonl").write_text("\n")
    none = run(SCRIPT, "--replay", "empty.jsonl", env={}, cwd=tmp_path)
    assert (none.returncode, none.stdout) == (3, "")
    assert "no bucket at all" in none.stderr


def test_lookback_without_history_is_wrong_usage(tmp_path: Path) -> None:
    done = run(SCRIPT, "--replay", "-", "--lookback", "7d", env={}, cwd=tmp_path)
    assert done.returncode == 3
    assert "--lookback belongs to --replay history" in done.stderr


def test_a_bucket_may_come_from_history_too() -> None:
    told: list[str] = []
    buckets = (Bucket(NOW + h * 3600, 3600.0, {"c": Usage(50.0, 0.0)}) for h in range(48))
    done = replay.replay(buckets, Sensitivity(), told.append)
    assert (done.read, done.left_out) == (48, [])
    assert done.graded == [
        "nothing is graded: the recording is not longer than 14 days, while habits form"
    ]
    assert told == []
