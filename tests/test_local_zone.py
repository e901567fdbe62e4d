from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from monitoring.analyze.history import local_zone, zone_of


def etc(folder: Path, *, link: str = "", text: str = "") -> Path:
    if link:
        (folder / "localtime").symlink_to(link)
    if text:
        (folder / "timezone").write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("tz", "link", "text", "wanted"),
    [
        ("Europe/Berlin", "", "", "Europe/Berlin"),
        (":Asia/Tokyo", "/usr/share/zoneinfo/Europe/Berlin", "", "Asia/Tokyo"),
        ("", "/usr/share/zoneinfo/Europe/Berlin", "", "Europe/Berlin"),
        ("", "", "America/New_York", "America/New_York"),
        ("", "/usr/share/zoneinfo/Etc/UTC", "Europe/Berlin", "UTC"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "", "", "UTC"),
        ("../../etc/passwd", "", "", "UTC"),
        ("", "", "", "UTC"),
    ],
)
def test_the_zone_has_a_name(tmp_path: Path, tz: str, link: str, text: str, *, wanted: str) -> None:
    name, zone = local_zone({"TZ": tz} if tz else {}, etc(tmp_path, link=link, text=text))
    assert name == wanted
    assert dt.datetime.fromtimestamp(0, zone)


def test_utc_needs_no_data() -> None:
    assert zone_of("UTC") is dt.timezone.utc
    assert zone_of("Nowhere/Nothing") is None
