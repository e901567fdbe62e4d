"""Decision: values written by Java's own serialisation (Spring's default)."""

from __future__ import annotations

import re
import struct
from typing import Any, Dict, Optional

from monitoring.codecs.facts import ClaimNames, Decoded, undecodable
from monitoring.codecs.java_stream import JavaObject, JavaStreamError, read_object
from monitoring.codecs.jwt_text import BEARER, JWT_BEGINNINGS, decode_jwt, jwt_within
from monitoring.codecs.records import USUAL, from_record

PARSE_LIMIT = 16 * 1024
SHORT_STRING, _LONG_STRING = 0x74, 0x7C
_BEGINNING = re.compile(b"|".join(JWT_BEGINNINGS))


def decode_java(value: bytes, names: ClaimNames = USUAL) -> Decoded:
    """A token from a stream: by the JWT inside when there is one, else by the object's fields."""
    token_text = jwt_in_stream(value)
    if token_text is not None:
        return decode_jwt(token_text, "java", names)
    record = java_record(value)
    if record is None:
        return undecodable("bad_java", "java")
    return from_record(record, "java", names)


def jwt_in_stream(value: bytes) -> Optional[bytes]:
    """The JWT in a stream, cut by its length prefix.

    The prefix matters: the byte that follows the string is often a character which a token may
    hold, so that a search for token characters takes too much.
    """
    for found in _BEGINNING.finditer(value):
        start = found.start()
        end = start + _length_before(value, start)
        if value[start - len(BEARER) : start].lower() == BEARER:
            end = start - len(BEARER) + _length_before(value, start - len(BEARER))
        jwt = jwt_within(value, start, end) if start >= 3 else None
        if jwt:
            return jwt
    return None


def java_record(value: bytes) -> Optional[Dict[str, Any]]:
    """The fields of the object in a stream, in plain types; None when it cannot be read.

    Dates become milliseconds, lists keep their texts, a nested object becomes its plain fields.
    """
    if len(value) > PARSE_LIMIT:
        return None
    try:
        content = read_object(value)
    except JavaStreamError:
        return None
    return _fields(content, nested=True) if isinstance(content, JavaObject) else None


def _length_before(value: bytes, start: int) -> int:
    if start >= 3 and value[start - 3] == SHORT_STRING:
        return value[start - 2] << 8 | value[start - 1]
    if start >= 9 and value[start - 9] == _LONG_STRING:
        return int.from_bytes(value[start - 8 : start], "big")
    return 0


def _fields(instance: JavaObject, *, nested: bool) -> Dict[str, Any]:
    return {name: _plain(value, nested=nested) for name, value in instance.fields.items()}


def _plain(value: Any, *, nested: bool) -> Any:
    """One level of nesting is what the models have; a stream may refer to itself for ever."""
    if isinstance(value, JavaObject):
        return _plain_object(value, nested=nested)
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return value


def _plain_object(value: JavaObject, *, nested: bool) -> Any:
    if value.name == "java.util.Date":
        return _milliseconds(value)
    if isinstance(value.fields.get("a"), list):  # Arrays.asList
        return _plain(value.fields["a"], nested=False)
    if value.fields.keys() <= {"size", "tag"}:  # ArrayList, and List.of as CollSer
        return [item for item in value.extras if isinstance(item, str)]
    return _fields(value, nested=False) if nested else None


def _milliseconds(date: JavaObject) -> Optional[int]:
    block = date.extras[0] if date.extras else None
    if not isinstance(block, bytes) or len(block) != 8:
        return None
    return int(struct.unpack(">q", block)[0])
