"""Decision: values that Jackson wrote: plain, with ``@class``, or as ``[class, value]``."""

from __future__ import annotations

from typing import Any, Mapping, Optional

import msgspec

from monitoring.codecs.facts import ClaimNames, Decoded, undecodable
from monitoring.codecs.jwt_text import bare_jwt, decode_jwt, jwt_within
from monitoring.codecs.records import JWT_TEXT, USUAL, first, from_record, unwrap

_decode = msgspec.json.Decoder().decode


def decode_json(value: bytes, names: ClaimNames = USUAL) -> Decoded:
    """A token from JSON text. Where a JWT stands in it, its claims are the token's."""
    token_text = quoted_jwt(value)
    if token_text is not None:
        return decode_jwt(token_text, "json", names)
    content = _content(value)
    token_text = jwt_of_record(content) if isinstance(content, dict) else _jwt_of(content)
    if token_text is not None:
        return decode_jwt(token_text, "json", names)
    if not isinstance(content, dict):
        return undecodable("bad_json", "json")
    return from_record(content, "json", names)


def json_record(value: bytes) -> Optional[Mapping[str, Any]]:
    """The object in a JSON text, its class wrapper taken off; None when there is none."""
    content = _content(value)
    return content if isinstance(content, dict) else None


def _content(value: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return unwrap(_decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def jwt_of_record(record: Mapping[str, Any]) -> Optional[bytes]:
    """The JWT that a record carries under one of the usual names, or None."""
    return _jwt_of(first(record, JWT_TEXT))


def _jwt_of(carried: Any) -> Optional[bytes]:
    if isinstance(carried, str):
        carried = carried.encode("utf-8", "replace")
    return bare_jwt(carried) if isinstance(carried, bytes) else None


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
