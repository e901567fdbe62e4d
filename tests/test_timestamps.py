from __future__ import annotations

import pytest

from monitoring.text import iso, iso_seconds, parse_iso


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22T16:53:20Z", 1795366400.0),
        ("2026-11-22T16:53:20.000+0000", 1795366400.0),
        ("2026-11-22T17:53:20+01:00", 1795366400.0),
        ("2026-11-22T11:53:20-05", 1795366400.0),
        ("2026-11-22 16:53:20", 1795366400.0),
        ("2026-11-22T16:53:20.123456789Z", 1795366400.123456),
        ("2026-11-22T16:53Z", 1795366380.0),
        ("2026-11-22", 1795305600.0),
    ],
)
def test_every_form_that_the_services_write_is_read(text: str, at: float) -> None:
    assert parse_iso(text) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-22T25:00Z", "17953664"])
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_iso(text)


def test_what_is_written_is_read_back() -> None:
    assert iso(1795366400.1239) == "2026-11-22T16:53:20.123Z"
    assert iso_seconds(1795366400.9) == "2026-11-22T16:53:20Z"
    assert parse_iso(iso(1795366400.25)) == 1795366400.25
