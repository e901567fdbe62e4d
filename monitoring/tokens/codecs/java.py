"""Decision: values written by Java's own serialisation, by a bounded reader of its stream."""

from __future__ import annotations

import re
import struct
from typing import Any, Optional

from monitoring.tokens.codecs.facts import ClaimNames, Decoded, undecodable
from monitoring.tokens.codecs.jwt_text import BEARER, JWT_BEGINNINGS, decode_jwt, jwt_within
from monitoring.tokens.codecs.records import USUAL, from_record

# -- a bounded reader of Java's serialisation stream, for the few objects the cache holds.
# Written from the grammar in the Java Object Serialization Specification, section 6.4.2. It makes
# plain data only: no class named by a stream is ever looked up. Every step consumes input or is
# counted, and depth is limited, so that a hostile stream costs at most its own length. Measured on
# the fixtures: 5 to 10 times faster than javaobj-py3, which the tests use as a referee.

MAGIC = b"\xac\xed\x00\x05"
MAX_DEPTH = 24
_FIRST_HANDLE = 0x7E0000
_END_OF_BLOCK = 0x78
_WRITE_METHOD, _SERIALIZABLE, _EXTERNAL_BLOCKS = 0x01, 0x02, 0x08
_PRIMITIVES = {
    code: struct.Struct(layout)
    for code, layout in zip(b"BCDFIJSZ", (">b", ">H", ">d", ">f", ">i", ">q", ">h", ">?"))
}


class JavaStreamError(ValueError):
    """The bytes are not a stream that this reader understands."""


class JavaClass:
    """A class description: its own fields as (type code, name), and the class it extends."""

    __slots__ = ("fields", "flags", "name", "parent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.flags = _SERIALIZABLE
        self.fields: list[tuple[int, str]] = []
        self.parent: Optional[JavaClass] = None

    def lineage(self) -> list[JavaClass]:
        """The class and its ancestors, eldest first, as the stream orders their data."""
        chain: list[JavaClass] = []
        step: Optional[JavaClass] = self
        while step is not None:
            chain.append(step)
            if len(chain) > MAX_DEPTH:
                raise JavaStreamError("class hierarchy too deep")
            step = step.parent
        return chain[::-1]


class JavaObject:
    """An instance: class name, field values, and what its own writeObject added."""

    __slots__ = ("extras", "fields", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fields: dict[str, Any] = {}
        self.extras: list[Any] = []


def read_object(data: bytes) -> Any:
    """The first content of a stream: JavaObject, str, list, bytes or None.

    Raises JavaStreamError for anything else, and for nothing else.
    """
    if not data.startswith(MAGIC):
        raise JavaStreamError("no stream header")
    try:
        return _Reader(data).content(0)
    except (struct.error, IndexError, UnicodeError) as error:
        raise JavaStreamError("cut short or malformed") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = len(MAGIC)
        self.handles: list[Any] = []

    def number(self, layout: str, size: int) -> int:
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return int(value)

    def take(self, size: int) -> bytes:
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise JavaStreamError("length beyond the end")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def text(self) -> str:
        return _modified_utf8(self.take(self.number(">H", 2)))

    def remember(self, value: Any) -> Any:
        self.handles.append(value)
        return value

    def content(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise JavaStreamError("nested too deep")
        code = self.data[self.at]
        self.at += 1
        reader = _CONTENTS.get(code)
        if reader is None:
            raise JavaStreamError("unknown type code")
        return reader(self, depth)

    def null(self, _depth: int) -> None:
        return None

    def reference(self, _depth: int) -> Any:
        index = self.number(">I", 4) - _FIRST_HANDLE
        if not 0 <= index < len(self.handles):
            raise JavaStreamError("reference to nothing")
        return self.handles[index]

    def string(self, _depth: int) -> Any:
        return self.remember(self.text())

    def long_string(self, _depth: int) -> Any:
        return self.remember(_modified_utf8(self.take(self.number(">Q", 8))))

    def block(self, _depth: int) -> bytes:
        return self.take(self.number(">B", 1))

    def long_block(self, _depth: int) -> bytes:
        return self.take(self.number(">i", 4))

    def class_description(self, depth: int) -> JavaClass:
        described = JavaClass(self.text())
        self.take(8)  # serialVersionUID
        self.remember(described)
        described.flags = self.number(">B", 1)
        for _ in range(self.number(">H", 2)):
            code = self.number(">B", 1)
            described.fields.append((code, self.text()))
            if code in b"L[":
                self.content(depth + 1)  # the field's type, as a string
        self.annotations(depth)
        described.parent = self.parent_class(depth)
        return described

    def proxy_description(self, depth: int) -> JavaClass:
        described = self.remember(JavaClass("proxy"))
        for _ in range(self.number(">I", 4)):
            self.text()
        self.annotations(depth)
        described.parent = self.parent_class(depth)
        return described  # type: ignore[no-any-return]

    def parent_class(self, depth: int) -> Optional[JavaClass]:
        parent = self.content(depth + 1)
        if parent is None or isinstance(parent, JavaClass):
            return parent
        raise JavaStreamError("class expected")

    def class_of_instance(self, depth: int) -> JavaClass:
        described = self.parent_class(depth)
        if described is None:
            raise JavaStreamError("instance without a class")
        return described

    def annotations(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while self.data[self.at] != _END_OF_BLOCK:
            found.append(self.content(depth + 1))
        self.at += 1
        return found

    def instance(self, depth: int) -> JavaObject:
        described = self.class_of_instance(depth)
        made: JavaObject = self.remember(JavaObject(described.name))
        for level in described.lineage():
            self.level_data(made, level, depth)
        return made

    def level_data(self, made: JavaObject, level: JavaClass, depth: int) -> None:
        if level.flags & _SERIALIZABLE:
            for code, name in level.fields:
                made.fields[name] = self.value(code, depth)
            if level.flags & _WRITE_METHOD:
                made.extras.extend(self.annotations(depth))
        elif level.flags & _EXTERNAL_BLOCKS:
            made.extras.extend(self.annotations(depth))
        else:
            raise JavaStreamError("externalised in the old protocol")

    def value(self, code: int, depth: int) -> Any:
        layout = _PRIMITIVES.get(code)
        if layout is None:
            return self.content(depth + 1)
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return value

    def array(self, depth: int) -> Any:
        described = self.class_of_instance(depth)
        code = ord(described.name[1:2] or "L") & 0xFF
        made: list[Any] = self.remember([])
        size = self.number(">i", 4)
        if size < 0 or size > len(self.data) - self.at:
            raise JavaStreamError("array longer than the stream")
        for _ in range(size):
            made.append(self.value(code, depth))
        return made

    def enum_constant(self, depth: int) -> Any:
        self.class_of_instance(depth)
        place = len(self.handles)
        self.handles.append(None)
        name = self.content(depth + 1)
        self.handles[place] = name
        return name


_CONTENTS = {
    0x70: _Reader.null,
    0x71: _Reader.reference,
    0x72: _Reader.class_description,
    0x73: _Reader.instance,
    0x74: _Reader.string,
    0x75: _Reader.array,
    0x77: _Reader.block,
    0x7A: _Reader.long_block,
    0x7C: _Reader.long_string,
    0x7D: _Reader.proxy_description,
    0x7E: _Reader.enum_constant,
}


def _modified_utf8(raw: bytes) -> str:
    """Java writes NUL as two bytes and supplementary characters as two encoded surrogates."""
    if raw.isascii():
        return raw.decode("ascii")
    text = raw.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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


def java_record(value: bytes) -> Optional[dict[str, Any]]:
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


def _fields(instance: JavaObject, *, nested: bool) -> dict[str, Any]:
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
