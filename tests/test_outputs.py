from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring import text as redact
from monitoring.output import report as outputs
from tests.canaries import forms
from tests.test_report import BASE, EAPI, REDIS

OUTCOME = replace(BASE, components=(EAPI, REDIS))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("results.txt", "no known ending"),
        ("results", "no known ending"),
        ("no-such-folder/results.json", "does not exist"),
    ],
)
def test_a_target_that_cannot_work_is_refused_at_once(target: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        outputs.check_target(target)


def test_json_is_replaced_atomically_under_a_reader(tmp_path: Path) -> None:
    target = tmp_path / "health.json"
    outputs.write(str(target), OUTCOME)
    stop, broken = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                json.loads(target.read_text())
            except (ValueError, OSError) as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        outputs.write(str(target), OUTCOME)
    stop.set()
    reader.join()
    assert not broken
    assert [p.name for p in tmp_path.iterdir()] == ["health.json"]


def test_results_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name in ("r.json", "r.jsonl", "r.csv"):
            outputs.write(str(tmp_path / name), OUTCOME)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_jsonl_appends_a_line_a_cycle(tmp_path: Path) -> None:
    target = tmp_path / "health.jsonl"
    for _ in range(3):
        outputs.write(str(target), OUTCOME)
    assert [json.loads(line)["status"] for line in target.read_text().splitlines()] == [
        "critical"
    ] * 3


def test_csv_has_a_row_a_component(tmp_path: Path) -> None:
    outputs.write(str(tmp_path / "health.csv"), OUTCOME)
    text = (tmp_path / "health.csv").read_text().splitlines()
    assert text[0] == "component,status,up,response_time_ms,error,message"
    assert text[1].startswith("payment-eapi,ok,True,51.9")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".prom"])
def test_a_result_stays_whole_whatever_a_secret_looks_like(tmp_path: Path, suffix: str) -> None:
    outputs.write(str(tmp_path / f"before{suffix}"), OUTCOME)
    for secret in ("true", "null", "critical", "payment", "prod", "519", "message"):
        redact.register(secret)
    outputs.write(str(tmp_path / f"after{suffix}"), OUTCOME)
    assert (tmp_path / f"after{suffix}").read_text() == (tmp_path / f"before{suffix}").read_text()


def test_a_secret_with_quotes_is_masked_in_every_result(tmp_path: Path) -> None:
    secret = 'Quo"te\\slash-1'
    redact.register(secret)
    told = replace(OUTCOME.components[0], message=f"refused {secret}")
    for suffix in (".json", ".jsonl", ".csv"):
        outputs.write(str(tmp_path / f"r{suffix}"), replace(OUTCOME, components=(told,)))
        text = (tmp_path / f"r{suffix}").read_text()
        assert "refused [redacted]" in text
        assert not [form for form in forms(secret) if form in text]


def test_a_folder_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(outputs.OutputError, match=r"gone.*check the folder"):
        outputs.write(str(tmp_path / "gone" / "r.json"), OUTCOME)


def test_a_disk_that_takes_a_part_of_a_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, []

    def filling_up(handle: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(handle, data[:10])

    monkeypatch.setattr(os, "write", filling_up)
    with pytest.raises(outputs.OutputError, match="No space left"):
        outputs.write(str(tmp_path / "r.jsonl"), OUTCOME)
