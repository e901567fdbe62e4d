"""Safety: what must never be printed, and what strangers say made fit to be kept and printed.

Beside it all else about text: durations, points in time and amounts, as people write and read
them.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import html
import json
import math
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union
from urllib.parse import quote, quote_plus, unquote, urlsplit

# -- durations as people write them, and as people read them.
# Accepted everywhere: `90s`, `15m`, `24h`, `7d`, `2w`, sums of them (`1h30m`), or plain seconds.

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+", re.ASCII)
_PLAIN = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
#: Ten years: longer is a slip of the unit, and would overflow dates computed from it.
LONGEST = 3660 * 86400.0


def parse_duration(value: Union[str, float]) -> float:
    """Seconds of `"7d"`, `"1h30m"`, `"300"` or 300. Raises ValueError, one sentence, for anything
    else: no number, an unknown unit, negative, not finite, longer than ten years."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("write a duration as 90s, 15m, 24h, 7d, 2w, or as seconds")
    if isinstance(value, str):
        if re.search(r"\dM", value):
            raise ValueError("M may be a minute or a month: write 1m, or 30d")
        return _bounded(_read(value.strip().lower()))
    return _bounded(value)


def _read(text: str) -> float:
    if _PLAIN.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise ValueError("a duration cannot be negative")
    if not _WHOLE.fullmatch(text):
        raise ValueError("write a duration as 90s, 15m, 24h, 7d, 2w, or as seconds")
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _bounded(value: float) -> float:
    # compared before converting: float() of a huge int raises OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a duration must be a finite number of seconds")
    if value < 0:
        raise ValueError("a duration cannot be negative")
    if value > LONGEST:
        raise ValueError("a duration cannot be longer than ten years")
    return float(value)


def say(seconds: float) -> str:
    """`3 h 20 min`, `45 s`, `12 d 6 h`, `350 ms`: at most two units, rounded to the smaller; a
    negative duration keeps its sign."""
    if seconds < 0:
        return "-" + say(-seconds)
    if not math.isfinite(seconds):
        return "for ever"
    if 0 < seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95 and round(seconds, 1) != round(seconds):
        return f"{seconds:.1f} s"
    return _two_units(seconds)


def _two_units(seconds: float) -> str:
    ladder = (("d", 86400, 3600), ("h", 3600, 60), ("min", 60, 1))
    smaller = {"d": "h", "h": "min", "min": "s"}
    for unit, size, step in ladder:
        # rounded first: 59 min 59.7 s is an hour, not "59 min 60 s"
        whole = round(seconds / step) * step
        if whole >= size:
            first, rest = divmod(whole, size)
            return f"{first} {unit}" + (f" {rest // step} {smaller[unit]}" if rest else "")
    return f"{round(seconds)} s"


# -- epoch seconds to ISO 8601 and back, the one place where that is done.
# Always UTC with a `Z`; `datetime.fromisoformat` does not read a `Z` before Python 3.11.

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"\s*(Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)?)?\Z",
    re.IGNORECASE,
)


def iso(at: float) -> str:
    """Epoch seconds as `2026-11-23T02:00:00.123Z` (milliseconds, UTC)."""
    moment = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def iso_seconds(at: float) -> str:
    """Epoch seconds as `2026-11-23T02:00:00Z`, cut to the second."""
    return dt.datetime.fromtimestamp(int(at), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> float:
    """ISO 8601 date or date-time to epoch seconds; without a zone it is read as UTC.

    Reads `2026-11-22T16:53:20.000+0000` as Java prints it. Raises ValueError naming the text.
    """
    found = _ISO.match(text.strip())
    if not found:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time such as 2026-11-23T02:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    clock = (int(hour or 0), int(minute or 0), int(second or 0), micro)
    moment = dt.datetime(int(year), int(month), int(day), *clock, tzinfo=dt.timezone.utc)
    return moment.timestamp() - _offset(zone)


def _offset(zone: str | None) -> float:
    """Seconds east of UTC."""
    if not zone or zone[0] not in "+-":
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0
    return -seconds if zone[0] == "-" else seconds


# -- figures with their unit or noun, as people read them.


def amount(value: float, unit: str = "") -> str:
    """`812 ms`, `1,510 ms`, `91.5 %`, `3`: at most four significant digits, never `1e+06`."""
    number = f"{value:.4g}" if abs(value) < 999.5 else f"{value:,.0f}"
    if "e" in number:
        number = "0" if abs(value) < 1e-9 else f"{value:.6f}".rstrip("0")
    return f"{number} {unit}".strip()


def percentage(ratio: float, digits: int = 2) -> str:
    """`99.97 %` of a ratio; never rounded up to a whole 100 % that was not reached."""
    text = f"{ratio * 100.0:,.{digits}f}"
    if ratio < 1.0 and text == f"{100.0:.{digits}f}":
        text = f"{100.0 - 10.0**-digits:.{digits}f}"
    return f"{text} %"


def counted(number: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


MASK = "[redacted]"
_SHORTEST = 4  # a shorter "secret" would mask ordinary words
_STRONG = 8  # a shorter one is masked where it stands alone, not inside a longer word
_HASH = 8  # hexadecimal characters that tell two ids apart
_DIGITS = 19  # of a whole number in JSON; a longer one is read as a float
_LONGEST = 65536  # characters of a text in JSON
_LONG_TEXT = re.compile(rf'"[^"]{{{_LONGEST}}}')
_BLOCK = 10  # characters of base64 that must be left of a secret, wherever it begins in a text
#: What our own output is made of: nobody is kept from guessing `redis`, and masking it would blank
#: the names of components, metrics and figures. `--check-config` warns of such a secret.
_WORD = re.compile(r"[A-Za-z]?[a-z]{1,11}|\d{1,15}")

_PATTERNS = (
    # A JWT, whole or cut off, also inside a Redis key name; base64url of '{"' is eyJ.
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}"), MASK),
    # One in base64, or in hexadecimal.
    (re.compile(r"ZXlK[A-Za-z0-9+/_-]{16,}=*"), MASK),
    (re.compile(r"65794[Aa][0-9A-Fa-f]{22,}"), MASK),
    (
        re.compile(r"(?i)\b(bearer|basic)\s+(?!auth|credential|token\b)[A-Za-z0-9._~+/=-]{8,}"),
        rf"\1 {MASK}",
    ),
    (re.compile(r"(?i)token\s+token=\\*\"[^\"]*\""), f'Token token="{MASK}"'),
    # up to the last @ before the path: a password may hold one. The scheme is not looked at: to
    # search it from each of 64,000 characters took 40 seconds
    (re.compile(r"(://)[^/\s'\"]*@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(https?://hooks\.slack[^/\s]*/)[^\s'\"]+"), rf"\1{MASK}"),
    (re.compile(r"validation:[^\s'\"]{20,}"), f"validation:{MASK}"),
)
#: A text of ASCII that none of the patterns matches, told by one search: thousands of names and
#: times are such texts. A part of each pattern in turn.
_BEGINS = re.compile(
    r"eyJ|ZXlK|65794|[Bb][Ee][Aa][Rr][Ee][Rr]|[Bb][Aa][Ss][Ii][Cc]|[Tt][Oo][Kk][Ee][Nn]|://|"
    r"validation:"
)

_lock = threading.Lock()
_seen: set[str] = set()
_long: tuple[str, ...] = ()
_short: Optional[re.Pattern[str]] = None
_escapes: Optional[re.Pattern[str]] = None


def is_word(secret: str) -> bool:
    """Whether a secret is too plain to be masked: too short, an ordinary word, or a number."""
    return len(secret) < _SHORTEST or _WORD.fullmatch(secret) is not None


def register(secret: str) -> None:
    """Have `secret` masked everywhere from now on, also as the encodings of URLs, HTTP, JSON and
    HTML write it; of an address also its userinfo, the parts of its path and the values of its
    query, of a text of several lines each line."""
    global _long, _short, _escapes  # noqa: PLW0603 - one list for the process is the point
    if secret in _seen:
        return
    with _lock:
        _seen.add(secret)
        parts = {part for each in _seen for part in _parts(each)}
        known = {form for part in parts for form in _forms(part)}
        # Longest first, so that a secret inside a longer one does not leave the rest behind.
        ordered = sorted(known, key=lambda s: (-len(s), s))
        weak = [re.escape(form) for form in ordered if len(form) < _STRONG]
        _long = tuple(form for form in ordered if len(form) >= _STRONG)
        _short = re.compile(rf"(?<![\w-])(?:{'|'.join(weak)})(?![\w-])") if weak else None
        strong = sorted((p for p in parts if len(p) >= _STRONG), key=lambda s: (-len(s), s))
        _escapes = re.compile("|".join(map(_escaped_anyhow, strong))) if strong else None
        _masked.cache_clear()


def _parts(secret: str) -> Iterator[str]:
    """What in a secret is a secret of its own; words (`services`, `v2`) are none."""
    found = [secret, *secret.splitlines()]
    if "://" in secret:
        try:
            parts = urlsplit(secret)
        except ValueError:
            parts = urlsplit("")
        found += [parts.username or "", parts.password or "", *parts.path.split("/")]
        found += [pair.partition("=")[2] for pair in parts.query.split("&")]
        found += [unquote(each) for each in found]
    yield from (each for each in dict.fromkeys(found) if not is_word(each))


def _forms(secret: str) -> Iterator[str]:
    """The secret as it is, and as it stands in an encoded text."""
    yield secret
    raw = secret.encode("utf-8", "surrogatepass")
    for escaped in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield escaped
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), escaped)
    for text in (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)):
        yield text[1:-1]
    yield html.escape(secret)
    yield from (raw.hex(), raw.hex().upper())
    yield raw.decode("latin-1")  # as the headers of HTTP are read
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode()
        for shift in range(3):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            # the first and the last characters also hold bits of the neighbours
            middle = text[(0, 2, 3)[shift] : len(text) - 2]
            if len(middle) >= _BLOCK:
                yield middle


def _escaped_anyhow(secret: str) -> str:
    """A pattern of the secret in which any of its characters may be escaped as URLs or JSON do:
    which ones are, differs from library to library."""
    return "".join(map(_any_form, secret))


def _any_form(character: str) -> str:
    packed = character.encode("utf-8", "surrogatepass")
    percent = "".join(f"%(?i:{byte:02x})" for byte in packed)
    json_escape = rf"|\\u(?i:{ord(character):04x})" if ord(character) < 0x10000 else ""
    return rf"(?:{re.escape(character)}|{percent}{json_escape})"


#: Characters of a text for which an answer is remembered: the same names and labels come again and
#: again, and thousands of a stranger's long ones would fill the memory.
_REMEMBERED = 200


def redact(text: str) -> str:
    """`text` with every known secret and everything that looks like one masked."""
    return _masked(text) if len(text) <= _REMEMBERED else _mask(text)


def _mask(text: str) -> str:
    return _mask_patterns(_mask_known(text))


def _mask_known(text: str) -> str:
    for secret in _long:
        if secret in text:
            text = text.replace(secret, MASK)
    if _escapes is not None and ("%" in text or "\\u" in text):
        text = _escapes.sub(MASK, text)
    return text if _short is None else _short.sub(MASK, text)


def _mask_patterns(text: str) -> str:
    if text.isascii() and not _BEGINS.search(text):
        return text
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


_masked = functools.lru_cache(maxsize=4096)(_mask)


def redacted(value: Any) -> Any:
    """`value`, of JSON's types, with every text and every key in it masked."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): redacted(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact(str(value))


def printable(text: str, limit: Optional[int] = None) -> str:
    """A stranger's text, fit for one line of anything: control and invisible characters and halves
    of surrogates escaped, at most `limit` characters. Texts that differ stay different where
    nothing is cut. For the door through which a text comes in; masks nothing (see `redact`) but
    in a text that is cut: half a secret would be known to no mask behind the door."""
    if limit is not None and len(text) > limit:
        text = redact(text)
        text = text if len(text) <= limit else text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_NOT_PLAIN = re.compile(r"[^\n\t\x20-\x7e]")


def safe_lines(text: str) -> str:
    """A finished text for a terminal, or a line of JSON: what would move the cursor, colour the
    screen or turn the direction of writing is written as \\uXXXX, whoever said it. Line ends and
    tabs stay. Masks nothing (see `redact`)."""
    return _NOT_PLAIN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return json.dumps(character)[1:-1]


def safe_text(text: str) -> str:
    """A sentence of ours that holds a stranger's words: printable, secrets masked, never cut."""
    return printable(redact(text))


def safe_id(client_id: str, limit: int = 64) -> str:
    """A client id as it may stand in a table, a label or the state: printable, secrets masked, at
    most `limit` characters. Ids come from strangers, and two of them never become one: what was
    escaped, cut, or masked because it looks like a token ends with a hash (not what is a known
    secret, which a hash would help to guess). The same again gives the same."""
    known = _mask_known(client_id)
    shown = _mask_patterns(printable(known))
    if shown == known and len(shown) <= limit:
        return shown
    suffix = hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    return f"{shown[: limit - _HASH - 1]}~{suffix}"


def identity_of(client_id: str) -> str:
    """What a client is called everywhere inside, from the door on: its id; where that is, or holds,
    a secret or something that looks like one, its `safe_id`, so that no secret stands in the
    state. Texts that differ stay different, but for secrets that are known."""
    return _identity(client_id) if len(client_id) <= _REMEMBERED else _named(client_id)


def _named(client_id: str) -> str:
    return client_id if redact(client_id) == client_id else safe_id(client_id)


_identity = functools.lru_cache(maxsize=65536)(_named)


class UnboundedNumberError(ValueError):
    """A number that no float holds."""


def strict_json(data: bytes) -> Any:
    """A stranger's JSON: numbers are finite, texts printable and of at most 65,536 characters,
    bytes that are no UTF-8 replaced. Raises ValueError (UnboundedNumberError), RecursionError."""
    text = data.decode(json.detect_encoding(data), "replace")
    found = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    return found if _is_plain(text) else _cleaned(found)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UnboundedNumberError("beyond all bounds")
    return number


def _whole(text: str) -> Union[int, float]:
    return int(text) if len(text) <= _DIGITS else _finite(text)


def _is_plain(text: str) -> bool:
    """Whether no string of a JSON document can need cleaning: JSON itself allows no control
    characters but escaped ones."""
    ascii_alone = text.isascii() and "\\" not in text and "\x7f" not in text
    return ascii_alone and _LONG_TEXT.search(text) is None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, _LONGEST)
    if isinstance(value, dict):
        return {printable(name, _LONGEST): _cleaned(item) for name, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
