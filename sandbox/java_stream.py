"""Java stream: writes objects as `java.io.ObjectOutputStream` does, byte for byte.

Only what the payment services store: strings, dates, lists and plain serialisable objects. The
grammar is the "Java Object Serialization Specification", chapter 6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

HEADER = b"\xac\xed\x00\x05"
TC_NULL, TC_REFERENCE, TC_CLASSDESC, TC_OBJECT = b"\x70", b"\x71", b"\x72", b"\x73"
TC_STRING, TC_LONGSTRING, TC_BLOCKDATA, TC_ENDBLOCKDATA = b"\x74", b"\x7c", b"\x77", b"\x78"
BASE_HANDLE = 0x7E0000
SERIALIZABLE, WRITE_METHOD = 0x02, 0x01

STRING, DATE, LIST = "Ljava/lang/String;", "Ljava/util/Date;", "Ljava/util/List;"


@dataclass(frozen=True)
class JavaClass:
    """A class as the stream describes it: `fields` maps a name to its type signature."""

    name: str
    uid: int
    fields: Mapping[str, str] = field(default_factory=dict)
    flags: int = SERIALIZABLE

    def sorted_fields(self) -> list[tuple[str, str]]:
        """Primitives before objects, each by name: the order ObjectStreamClass defines."""
        return sorted(self.fields.items(), key=lambda item: (item[1][0] in "L[", item[0]))


@dataclass(eq=False)
class JavaObject:
    """An instance. Compared by identity, because the stream refers back by identity too."""

    java_class: JavaClass
    values: Mapping[str, Any]


@dataclass(eq=False)
class JavaDate:
    """`java.util.Date`: milliseconds since 1970."""

    milliseconds: int


@dataclass(eq=False)
class JavaList:
    """`java.util.ArrayList`, or with `immutable` what `List.of(...)` turns into."""

    items: list[str]
    immutable: bool = False


DATE_CLASS = JavaClass("java.util.Date", 0x686A81014B597419, {}, SERIALIZABLE | WRITE_METHOD)
ARRAY_LIST = JavaClass(
    "java.util.ArrayList", 0x7881D21D99C7619D, {"size": "I"}, SERIALIZABLE | WRITE_METHOD
)
COLL_SER = JavaClass(
    "java.util.CollSer", 0x578EABB63A1BA811, {"tag": "I"}, SERIALIZABLE | WRITE_METHOD
)
COLL_SER_LIST = 1


def modified_utf8(text: str) -> bytes:
    """Java's own UTF-8: NUL in two bytes, characters beyond the BMP as two surrogates."""
    units = text.encode("utf-16-be", "surrogatepass")
    parts = []
    for (unit,) in struct.iter_unpack(">H", units):
        parts.append(b"\xc0\x80" if unit == 0 else chr(unit).encode("utf-8", "surrogatepass"))
    return b"".join(parts)


class JavaStream:
    """One stream; handles are shared by everything written into it."""

    def __init__(self) -> None:
        self._out = bytearray(HEADER)
        self._handles: dict[Any, int] = {}
        self._kept: list[Any] = []  # id() keys stay true only while the objects live

    def _remember(self, key: Any, owner: Any = None) -> None:
        self._kept.append(owner)
        self._handles[key] = BASE_HANDLE + len(self._handles)

    def _refer(self, key: Any) -> bool:
        handle = self._handles.get(key)
        if handle is not None:
            self._out += TC_REFERENCE + struct.pack(">I", handle)
        return handle is not None

    def _utf(self, text: str) -> None:
        data = modified_utf8(text)
        self._out += struct.pack(">H", len(data)) + data

    def _string(self, text: str) -> None:
        if self._refer(text):
            return
        data = modified_utf8(text)
        if len(data) <= 0xFFFF:
            self._out += TC_STRING + struct.pack(">H", len(data)) + data
        else:
            self._out += TC_LONGSTRING + struct.pack(">Q", len(data)) + data
        self._remember(text)

    def _class(self, java_class: JavaClass) -> None:
        key = ("class", java_class.name)
        if self._refer(key):
            return
        self._out += TC_CLASSDESC
        self._utf(java_class.name)
        self._out += struct.pack(">Q", java_class.uid)
        self._remember(key)
        fields = java_class.sorted_fields()
        self._out += struct.pack(">BH", java_class.flags, len(fields))
        for name, signature in fields:
            self._out += signature[0].encode("ascii")
            self._utf(name)
            if signature[0] in "L[":
                self._string(signature)
        self._out += TC_ENDBLOCKDATA + TC_NULL  # no annotations, no serialisable parent

    def _block(self, data: bytes) -> None:
        self._out += TC_BLOCKDATA + struct.pack(">B", len(data)) + data

    def _field(self, signature: str, value: Any) -> None:
        if signature == "Z":
            self._out += b"\x01" if value else b"\x00"
        elif signature == "I":
            self._out += struct.pack(">i", value)
        else:
            self.write(value)

    def _fields(self, java_class: JavaClass, values: Mapping[str, Any]) -> None:
        for name, signature in java_class.sorted_fields():
            self._field(signature, values[name])

    def _begin(self, java_class: JavaClass, owner: object) -> None:
        self._out += TC_OBJECT
        self._class(java_class)
        self._remember(id(owner), owner)

    def _date(self, date: JavaDate) -> None:
        self._begin(DATE_CLASS, date)
        self._block(struct.pack(">q", date.milliseconds))
        self._out += TC_ENDBLOCKDATA

    def _list(self, values: JavaList) -> None:
        java_class = COLL_SER if values.immutable else ARRAY_LIST
        size = len(values.items)
        self._begin(java_class, values)
        self._fields(java_class, {"size": size, "tag": COLL_SER_LIST})
        self._block(struct.pack(">i", size))
        for item in values.items:
            self.write(item)
        self._out += TC_ENDBLOCKDATA

    def write(self, value: Any) -> None:
        """Append `value`: None, str, JavaDate, JavaList or JavaObject."""
        if value is None:
            self._out += TC_NULL
        elif isinstance(value, str):
            self._string(value)
        elif self._refer(id(value)):
            return
        elif isinstance(value, JavaDate):
            self._date(value)
        elif isinstance(value, JavaList):
            self._list(value)
        else:
            self._begin(value.java_class, value)
            self._fields(value.java_class, value.values)

    def getvalue(self) -> bytes:
        """The bytes written so far."""
        return bytes(self._out)


def java_bytes(value: Optional[Any]) -> bytes:
    """`value` in a stream of its own, as Spring's JdkSerializationRedisSerializer stores it."""
    stream = JavaStream()
    stream.write(value)
    return stream.getvalue()
