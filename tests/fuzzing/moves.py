"""One answer of a server, spoiled along its structure: what a seed makes of it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import urllib.parse
import zlib
from collections.abc import Sequence
from typing import Any, Callable

TEXTS = (
    *(b"", b"\0", b"\xff\xfe", b"nan", b"-1e999", b"9" * 400, "\u0661\u2028\u202e".encode()),
    *(b"\x1b]8;;http://evil.example\x07X\x1b[2J", b"\xed\xa0\x80", b"-9223372036854775809"),
    *(b"a" * 70 + b"GOOD", b"x" * 300_000, b"\r\n+OK\r\n$-1\r\n", b"[" * 2000, b"None"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, 10**399, "", "x", [], {}, [[]], {"a": {}}, "\ud800"),
    *("\x1b[2J\u202e\u009b31m", "9999-12-31T23:59:59-23:59", "a" * 70_000, float("nan")),
    *("0001-01-01T00:00:00Z", -1e308, [None] * 2000, "DOWN", "1e400"),
)


def forms(secret: str) -> list[bytes]:
    """The shapes in which a server may say a secret back."""
    raw = secret.encode()
    return [
        raw,
        raw.hex().encode(),
        base64.b64encode(raw),
        "".join(f"%{byte:02X}" for byte in raw).encode(),
        urllib.parse.quote(secret, safe="").encode(),
    ]


def echo(dice: random.Random, secrets: Sequence[str]) -> bytes:
    """A secret in some form behind padding, so that a cut may fall into it."""
    return b"p" * dice.choice((0, 24, 40, 44, 48, 52, 56, 60)) + dice.choice(
        forms(dice.choice(secrets))
    )


def nonsense(dice: random.Random, secrets: Sequence[str]) -> bytes:
    return echo(dice, secrets) if dice.random() < 0.2 else dice.choice(TEXTS)


# -- RESP

Node = tuple[bytes, Any]  # the type's byte; bytes of a line or bulk, None, or a list of nodes


def parse(stream: io.BytesIO) -> Node:
    line = stream.readline().strip()
    kind, rest = line[:1], line[1:]
    if kind in b"$!=" and kind:
        return kind, None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind in b"*~>%|" and kind:
        count = int(rest) * (2 if kind in b"%|" else 1)
        return kind, None if count < 0 else [parse(stream) for _ in range(count)]
    return kind, rest


def encode(node: Node) -> bytes:
    kind, value = node
    if isinstance(value, list):
        count = len(value) // 2 if kind in b"%|" else len(value)
        return kind + b"%d\r\n" % count + b"".join(encode(each) for each in value)
    if kind in b"$!=*~>%|":
        return kind + (b"-1\r\n" if value is None else b"%d\r\n%b\r\n" % (len(value), value))
    return kind + (value or b"") + b"\r\n"


def _leaf(dice: random.Random, secrets: Sequence[str]) -> Node:
    text = nonsense(dice, secrets)
    line = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return dice.choice(
        [
            *((b"$", text), (b"$", None), (b"*", None), (b"*", []), (b"+", line), (b"-", line)),
            *((b":", b"5"), (b":", b"9" * 30), (b":", b"soon"), (b",", b"1e999"), (b"#", b"t")),
            *((b"_", b""), (b"%", [(b"+", b"a"), (b",", b"nan")]), (b"(", b"9" * 500)),
            *((b"-", b"NOPERM " + line[:80]), (b"-", b"MOVED 1 127.0.0.1:1"), (b"-", b"LOADING")),
        ]
    )


def _spoil(node: Node, dice: random.Random, secrets: Sequence[str]) -> Node:
    kind, value = node
    if isinstance(value, list) and value and dice.random() < 0.8:
        at, rows = dice.randrange(len(value)), list(value)
        move = dice.randrange(5)
        if move == 0:
            rows[at:at] = [rows[at]] * dice.choice((1, 3, 3000))
        elif move == 1:
            del rows[at]
        elif move == 2:
            dice.shuffle(rows)
        else:
            rows[at] = _spoil(rows[at], dice, secrets)
        return kind, rows
    if isinstance(value, bytes) and b"\r\n" in value and dice.random() < 0.8:
        return kind, _spoiled_info(value, dice, secrets)
    return _leaf(dice, secrets)


def _spoiled_info(text: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    """INFO with some of its figures replaced."""
    lines = text.split(b"\r\n")
    for _ in range(dice.randint(1, 12)):
        at = dice.randrange(len(lines))
        name = lines[at].partition(b":")[0]
        lines[at] = name + b":" + nonsense(dice, secrets)
    return b"\r\n".join(lines)


def _push(data: bytes, dice: random.Random) -> bytes:
    return b">2\r\n+invalidate\r\n*0\r\n" * dice.choice((1, 1000)) + data


def _huge(data: bytes, dice: random.Random) -> bytes:
    kind = dice.choice((b"$", b"*", b"%", b"$-", b"*1\r\n$", b"=", b"!"))
    return kind + dice.choice((b"200000000", b"9" * 25, b"4294967296", b"abc", b"")) + b"\r\n"


def _nested(data: bytes, dice: random.Random) -> bytes:
    return b"*1\r\n" * dice.choice((40, 3000, 100_000)) + data


def resp(data: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    """A reply of Redis, spoiled."""
    move = dice.randrange(10)
    if move == 0:
        return _push(data, dice)
    if move == 1:
        return _huge(data, dice)
    if move == 2:
        return _nested(data, dice)
    if move == 3:
        return data * dice.choice((2, 50))
    if move == 4:
        return flipped(data, dice)
    return encode(_spoil(parse(io.BytesIO(data)), dice, secrets))


def flipped(data: bytes, dice: random.Random) -> bytes:
    """A few bytes are others."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 8) if changed else 0):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


# -- HTTP


def _retyped(body: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    """Values somewhere in a JSON document, or figures on a page of metrics, are others."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _other_lines(body, dice, secrets)
    box = [value]
    for _ in range(dice.randint(1, 3)):
        place: Any = box
        name: Any = 0
        while isinstance(place[name], (dict, list)) and place[name] and dice.random() < 0.85:
            place = place[name]
            name = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
        other = dice.choice(VALUES)
        place[name] = echo(dice, secrets).decode() if dice.random() < 0.2 else other
    return json.dumps(box[0]).encode()


def _other_lines(body: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    lines = body.split(b"\n")
    for _ in range(dice.randint(1, 12)):
        at = dice.randrange(len(lines))
        head = lines[at].rpartition(b" ")[0]
        lines[at] = head + b" " + nonsense(dice, secrets)
    return b"\n".join(lines)


def _packed(body: bytes, dice: random.Random) -> tuple[bytes, list[bytes]]:
    """The body in an encoding, sound or not, and the header that says so."""
    name = dice.choice((b"gzip", b"deflate", b"br", b"gzip, gzip", b"x" * 9000, b"\xff"))
    packed = dice.choice(
        (
            gzip.compress(body, mtime=0),
            gzip.compress(body, mtime=0)[: dice.randrange(1, 30)],
            zlib.compress(body),
            gzip.compress(b" " * 30_000_000, mtime=0),
            body,
        )
    )
    return packed, [b"Content-Encoding: " + name]


def _chunked(body: bytes, dice: random.Random) -> tuple[bytes, list[bytes]]:
    size = dice.choice((b"%x" % len(body), b"-5", b"FFFFFFFFFFFFFFFF", b"0x5", b"", b"1" * 5000))
    end = dice.choice((b"0\r\n\r\n", b"", b"0\r\nX: y\r\n\r\n", b"0\r\n" + b"T: r\r\n" * 5000))
    return size + b"\r\n" + body + b"\r\n" + end, [b"Transfer-Encoding: chunked"]


def _status(dice: random.Random, secrets: Sequence[str]) -> bytes:
    return dice.choice(
        [
            *(b"HTTP/1.1 200 OK", b"HTTP/1.1 500 " + nonsense(dice, secrets), b"HTTP/1.1 302 F"),
            *(b"HTTP/1.1 401 No", b"HTTP/1.1 429 Too", b"HTTP/1.1 204 No", b"HTTP/9.9 200 OK"),
            *(b"HTTP/1.1 999999 OK", b"HTTP/1.1 -200", b"HTTP/1.1", b"ICY 200 OK", b"", b"\0"),
            *(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 101 Switching", b"HTTP/1.0 304"),
        ]
    )


def _headers(dice: random.Random, secrets: Sequence[str]) -> list[bytes]:
    said = nonsense(dice, secrets)
    where = dice.choice(
        (b"/", b"http://127.0.0.1:1/" + said, b"//\xff", said, b"file:///etc/passwd")
    )
    return dice.choice(
        [
            *([b"Location: " + where], [b"Content-Type: " + said], [b"Date: " + said]),
            *([b"Retry-After: " + said], [b"Set-Cookie: a=" + said] * 50, [said]),
            [b"Set-Cookie: c%d=%b" % (n, b"x" * 400) for n in range(2000)],
            *(
                [b"Content-Length: " + said],
                [b"X: " + b"y" * 200_000],
                [b"WWW-Authenticate: " + said],
            ),
            *(
                [b"Content-Length: 5", b"Content-Length: 7"],
                [b" folded: x"],
                [b"X-Request-Id: " + said],
            ),
        ]
    )


def http(data: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    """An answer of HTTP, spoiled in one or two of its parts."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    lines = [line for line in lines if not line.lower().startswith((b"content-len", b"transfer-"))]
    framing: list[bytes] = []
    for _ in range(dice.randint(1, 2)):
        move = dice.randrange(8)
        if move == 0:
            status = _status(dice, secrets)
        elif move == 1:
            lines = [*_headers(dice, secrets), *lines]
        elif move == 2:
            body, framing = _packed(body, dice)
        elif move == 3:
            body, framing = _chunked(body, dice)
        elif move == 4:
            body = dice.choice(
                (b"<html>login</html>", nonsense(dice, secrets), flipped(body, dice))
            )
        else:
            body = _retyped(body, dice, secrets)
    if b"Transfer-Encoding: chunked" not in framing and dice.random() < 0.8:
        framing = [*framing, b"Content-Length: %d" % (len(body) + dice.choice((0, 0, 0, 5, -5)))]
    return b"\r\n".join([status, *lines, *framing]) + b"\r\n\r\n" + body


# -- SMTP


def smtp(data: bytes, dice: random.Random, secrets: Sequence[str]) -> bytes:
    """A reply of a mail server, spoiled."""
    said = nonsense(dice, secrets)
    code = dice.choice((b"220", b"250", b"354", b"421", b"451", b"550", b"999", b"abc", b"25", b""))
    return dice.choice(
        [
            *(code + b" " + said + b"\r\n", code + b"-" + said + b"\r\n", data * 3, said),
            *(b"250-AUTH " + said + b"\r\n250-STARTTLS\r\n250 SIZE " + said + b"\r\n",),
            *(b"250-x\r\n" * 5000 + data, b"\xff" * 2000 + b"\r\n", flipped(data, dice)),
            code + b" 4.2.1 " + said + b"\r\n",
        ]
    )


Move = Callable[[bytes, random.Random, Sequence[str]], bytes]
