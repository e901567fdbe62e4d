"""Whatever stands behind a name, the answer is settings or problems, never a traceback."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from monitoring.config import build as config_notify, rules as config_rules
from monitoring.config.files import RawFile, read_file
from monitoring.config.layers import Layer, Values, layer_of_file
from monitoring.config.nodes import leaves
from monitoring.config.problems import Problem
from monitoring.config.schema import SCHEMA, SETTINGS
from tests.configuring import ROOT

HOSTILE = [
    *(None, True, False, 0, -1, 10**400, -(10**400), 1e308, math.nan, math.inf, -math.inf, 1j),
    *("", " ", "x", "\x00", "\n", "\ud800", "\u00e9" * 5000, "http://[", "-", "1e9", "\u0663"),
    *("http://a:b:c@[::1]:0", "{client_id}", "::", "[]:1", "a:1,,b", "99999999999999w"),
    *("0001-01-01", "9999-12-31T23:59Z", "9999-12-31 23:59-14:00", "0001-01-01 00:00+14:00"),
    *(b"x", [], [[]], [None], {}, {"file": None}, {"file": "\x00"}, {1: 2}, (1, 2, 3), {1, 2}),
    *(datetime(1, 1, 1, tzinfo=timezone.utc), date(9999, 12, 31), date(1, 1, 1), object(), print),
    *([1, 2], ["a", 1], [True, True], range(10**9), [10**400, 1]),
]
hostile = pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))


def read(root: Path, names: Any) -> Layer:
    return layer_of_file(RawFile("x.py", root, names), SCHEMA)


TEMPLATE = layer_of_file(read_file(ROOT / "config.example.py"), SCHEMA)


def laid(layer: Layer) -> Values:
    values = Values()
    values.lay(TEMPLATE, "prod")
    values.lay(layer, "prod")
    return values


@hostile
def test_any_setting(tmp_path: Path, value: Any) -> None:
    for path, _ in leaves(SETTINGS):
        nested: Any = value
        for step in reversed(path):
            nested = {step: nested}
        layer = read(tmp_path, nested)
        assert layer.entries or layer.problems or value == {}, path
        assert all("\n" not in p.sentence and len(p.sentence) < 400 for p in layer.problems)
        values = laid(layer)
        assert isinstance(list(config_rules.problems(values, 1_790_000_000.0)), list)


@hostile
def test_any_table(tmp_path: Path, value: Any) -> None:
    for name in SCHEMA.keys:
        layer = read(tmp_path, {name: value})
        assert layer.entries or layer.problems or value == {}, name


@hostile
def test_any_key(tmp_path: Path, value: Any) -> None:
    try:
        table = {value: 1}
    except TypeError:
        return  # no dict has such a key
    names = {str(value): 1, "CREDENTIALS": {"per_client_days": table}, "TLS_VERIFY": table}
    assert all("\n" not in p.sentence for p in read(tmp_path, names).problems)


@hostile
def test_any_row_of_alerting(tmp_path: Path, value: Any) -> None:
    keys = ("start", "end", "until", "match", "cron", "timezone", "duration", "channels", "owner")
    window = {"start": "2026-12-23", "end": "2026-12-24", "cron": "* * * * *", "duration": 1}
    silence = {"match": {"client": "c"}, "owner": "o", "reason": "r", "until": "2026-12-24"}
    for name in ("MAINTENANCE_WINDOWS", "SILENCES", "NOTIFICATION_ROUTES"):
        rows = [{**base, key: value} for key in keys for base in ({}, window, silence)]
        for row in [value, {"start": value, "end": value}, {"cron": value}, *rows]:
            problems: list[Problem] = []
            config_notify.notifications(laid(read(tmp_path, {name: [row]})), problems)
            assert all("\n" not in p.sentence for p in problems)


def test_what_a_file_prints_is_no_line_among_ours(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    path = tmp_path / "chatty.py"
    path.write_text(
        "import sys\nprint('my-pass-word')\nprint('x', file=sys.stderr)\nREDIS_DB = 3\n"
    )
    found = read_file(path)
    assert (found.names["REDIS_DB"], found.problems) == (3, ())
    assert capfd.readouterr() == ("", "")
    assert "chatty.py prints" in caplog.text
    assert "my-pass-word" not in caplog.text
