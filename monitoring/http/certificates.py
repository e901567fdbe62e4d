"""Decision: what a certificate in DER says of itself: its subject and when it expires.

Python shows the fields of a certificate only after it was verified, and those of the chain above
the leaf not at all before 3.13. Two fields are worth a forty-line reader.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Iterator, Tuple

from monitoring.redact import printable

_SEQUENCE, _SET, _OID, _VERSION = 0x30, 0x31, 0x06, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_COMMON_NAME = b"\x55\x04\x03"
_TEXT = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString; the rest is UTF-8


def _items(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        if at + size > len(data):
            raise ValueError("truncated certificate")
        yield tag, data[at : at + size]
        at += size


def _only(data: bytes, tag: int) -> bytes:
    found, value = next(_items(data), (-1, b""))
    if found != tag:
        raise ValueError("not a certificate")
    return value


def _moment(tag: int, value: bytes) -> float:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits: 50 and above are of the last century (RFC 5280, 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    moment = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _name(data: bytes) -> str:
    """The common name, else the first value of the name, else ''."""
    values = []
    for _, relative in _items(data):
        for _, pair in _items(relative):
            (_, kind), (tag, value) = list(_items(pair))[:2]
            values.append((kind != _COMMON_NAME, value.decode(_TEXT.get(tag, "utf-8"), "replace")))
    text = min(values, key=lambda v: v[0])[1] if values else ""
    return printable(text, 120)


def read(der: bytes) -> Tuple[str, float]:
    """(subject, expiry in epoch seconds). Raises ValueError for anything but a certificate."""
    try:
        fields = list(_items(_only(_only(der, _SEQUENCE), _SEQUENCE)))
        if fields[0][0] == _VERSION:  # optional, absent in version 1
            del fields[0]
        validity, subject = fields[3][1], fields[4][1]
        (_, _), (tag, until) = list(_items(validity))[:2]
        return _name(subject), _moment(tag, until)
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("not a certificate") from error
