"""Decision: values that Jackson wrote: plain, with ``@class``, or as ``[class, value]``."""

from __future__ import annotations

from typing import Any, Mapping, Optional

import msgspec

from monitoring.codecs.facts import Decoded, undecodable
from monitoring.codecs.jwt_text import decode_jwt, jwt_within
from monitoring.codecs.records import JWT_TEXT, first, from_record, unwrap

_decode = msgspec.json.Decoder().decode


def decode_json(value: bytes) -> Decoded:
    """A token from JSON text. Where a JWT stands in it, its claims are the token's."""
    token_text = quoted_jwt(value)
    if token_text is not None:
        return decode_jwt(token_text, "json")
    record = json_record(value)
    if record is None:
        return undecodable("bad_json", "json")
    return from_record(record, "json")


def json_record(value: bytes) -> Optional[Mapping[str, Any]]:
    """The object in a JSON text, its class wrapper taken off; None when there is none."""
    try:
        content = unwrap(_decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def jwt_of_record(record: Mapping[str, Any]) -> Optional[bytes]:
    """The JWT that a record carries under one of the usual names, or None."""
    carried = first(record, JWT_TEXT)
    if isinstance(carried, str):
        carried = carried.encode("utf-8", "replace")
    is_jwt = isinstance(carried, bytes) and carried.startswith(b"eyJ") and carried.count(b".") == 2
    return carried if is_jwt else None


def quoted_jwt(value: bytes) -> Optional[bytes]:
    """Found without parsing the rest: the claims inside say all that the fields around do."""
    start = value.find(b'"eyJ')
    while start >= 0:
        end = value.find(b'"', start + 1)
        found = jwt_within(value, start + 1, end) if end > 0 else None
        if found is not None:
            return found
        start = value.find(b'"eyJ', start + 1)
    return None
