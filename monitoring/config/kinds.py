"""Decision: what one configured value may be, points in time included.

A kind is a function from the raw value (of Python, YAML or the environment, so numbers and flags
may come as text) to the checked one. It raises ValueError with the cure as its sentence.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from monitoring.config.problems import did_you_mean, mask_urls
from monitoring.config.secret import Secret
from monitoring.text import parse_duration, say

# -- what a configured moment in time may be.

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?) ?([zZ]|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_YEAR_10000 = 253_402_300_800


def moment(value: Any) -> Any:
    """A time: ISO 8601 text or a datetime (YAML makes them), still naive if it names no zone;
    epoch seconds stay numbers. None: not given."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, (str, date)):
        # not left to fromisoformat alone: what it accepts differs between Python 3.9 and 3.11
        found = _MOMENT.fullmatch(str(value).strip())
        if found:
            return _read_moment(*found.groups())
    elif isinstance(value, (int, float)) and 0 < value < _YEAR_10000:
        return float(value)
    raise ValueError("write a time such as 2026-12-24T22:00:00+01:00")


def epoch(when: Any, zone: Any) -> Optional[float]:
    """A `moment` as epoch seconds; one that names no zone is in `zone`."""
    if isinstance(when, datetime):
        aware = when if when.tzinfo else when.replace(tzinfo=zone)
        return aware.timestamp()
    return when if when is None else float(when)


def instant(value: Any) -> Optional[float]:
    """A `moment` as epoch seconds; one that names no zone is in UTC."""
    return epoch(moment(value), timezone.utc)


def _read_moment(day: str, clock: Optional[str], zone: Optional[str]) -> datetime:
    offset = (zone or "").upper().replace("Z", "+00:00")
    if offset and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    try:
        return datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}")
    except ValueError:
        raise ValueError("there is no such date or time") from None


# -- what one configured value may be.

Kind = Callable[[Any], Any]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_ADDRESS = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def flag(value: Any) -> bool:
    """True or False, also as text."""
    word = str(value).strip().lower()
    if isinstance(value, bool) or (isinstance(value, (str, int)) and word in _TRUE + _FALSE):
        return word in _TRUE
    raise ValueError("write True or False")


def number(low: float, high: float, *, whole: bool = False, optional: bool = False) -> Kind:
    """A number from `low` to `high`; None allowed when `optional`."""
    span = f"from {low:.15g} to {high:.15g}" if math.isfinite(high) else f"of {low:g} or more"
    wanted = f"write a {'whole ' if whole else ''}number {span}" + (" or None" if optional else "")

    def parse(value: Any) -> Any:
        if optional and value is None:
            return None
        found = _as_number(value, wanted)
        if not low <= found <= high or (whole and found != int(found)):
            raise ValueError(wanted)
        return int(found) if whole else float(found)

    return parse


def _is_host(name: str) -> bool:
    try:
        return bool(_HOST.fullmatch(name)) or bool(ipaddress.IPv6Address(name))
    except ValueError:
        return False


def _as_number(value: Any, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wanted)
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise ValueError(wanted) from None
    if not math.isfinite(found):
        raise ValueError(wanted)
    return found


def port(value: Any) -> int:
    """A TCP port."""
    if isinstance(value, str) and value.startswith("tcp://"):
        raise ValueError(
            "Kubernetes sets this variable for a service of that name: set it yourself, or "
            "enableServiceLinks: false in the pod"
        )
    try:
        found: int = number(1, 65535, whole=True)(value)
    except ValueError:
        raise ValueError("a port is a whole number from 1 to 65535") from None
    return found


def duration(low: float = 0.0, *, optional: bool = False, never: bool = False) -> Kind:
    """Seconds from text or number, at least `low`. `never`: the word gives infinity."""

    def parse(value: Any) -> Optional[float]:
        if optional and value is None:
            return None
        if never and isinstance(value, str) and value.strip().lower() == "never":
            return math.inf
        seconds = parse_duration(value)
        if seconds < low:
            raise ValueError("must be at least " + (say(low) if low > 60 else f"{low:g} seconds"))
        return seconds

    return parse


def text(*, empty: bool = True, longest: int = 1000) -> Kind:
    """One line of text."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("write text in quotes")
        if not value.strip() and not empty:
            raise ValueError("must not be empty")
        if len(value) > longest or _CONTROL.search(value):
            raise ValueError(f"write one line of at most {longest} characters")
        return value.strip()

    return parse


def choice(*words: str) -> Kind:
    """One of some words."""
    shown = ", ".join(words[:8]) + (", …" if len(words) > 8 else "")

    def parse(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            near = did_you_mean(word, words) if word else ""
            hint = near if near.endswith("?") else f"; write one of: {shown}"
            raise ValueError(f"{mask_urls(repr(value))[:60]} is not known here{hint}")
        return word

    return parse


def url(*, empty: bool = True, query: bool = False, shown: bool = False) -> Kind:
    """An http(s) URL, without its trailing slash; a context path may stand in it, a `?query` where
    nothing is appended to it, and userinfo unless it is `shown` to people as a link."""

    def parse(value: Any) -> str:
        found: str = text(empty=empty)(value)
        if found:
            _check_url(found)
        if "?" in found and not query:
            raise ValueError("paths are appended to this URL, so it ends before the ?")
        if shown and "@" in urlsplit(found).netloc:
            raise ValueError("is sent with every alert: leave user and password out")
        return found.rstrip("/")

    return parse


def _check_url(found: str) -> None:
    cure = "write a URL such as https://payment-eapi.example.com:8443/context"
    try:
        parts = urlsplit(found)
        host, number_ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(cure + " (its port is a number from 1 to 65535)") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(cure + ", beginning with http:// or https://")
    if not host or not _is_host(host) or re.search(r"\s", found) or number_ == 0:
        raise ValueError(cure)
    if parts.fragment:
        raise ValueError("a URL asked by a program has no #fragment")


def host(value: Any) -> str:
    """A host name or address alone."""
    found = value.strip() if isinstance(value, str) else ""
    if "://" in found or "@" in found:
        raise ValueError("write the host name alone; port, user and password have their own names")
    bare = found[1:-1] if found.startswith("[") and found.endswith("]") else found
    if not _is_host(bare):
        raise ValueError("write a host name or an IP address; the port has a name of its own")
    return bare


def path(value: Any) -> str:
    """The path of a file or folder, as written; resolved and opened later."""
    found = str(value) if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__") else None
    if found is None or "\x00" in found:
        raise ValueError("write a file path in quotes")
    return found.strip()


def url_path(value: Any) -> str:
    """A path below a service's URL; empty: the service has none."""
    found: str = text()(value)
    if "://" in found or re.search(r"\s", found):
        raise ValueError("write the path alone, such as /api/v1/health")
    return "/" + found.lstrip("/") if found else ""


def items(member: Kind, *, least: int = 0) -> Kind:
    """A list of `member`, or text with commas; empty entries fall out (`''.split(',')`)."""

    def parse(value: Any) -> tuple[Any, ...]:
        found = value.split(",") if isinstance(value, str) else value
        if not isinstance(found, (list, tuple, set, frozenset)):
            raise ValueError("write a list, or text with commas between the entries")
        kept = [v for v in found if not (isinstance(v, str) and not v.strip())]
        if len(kept) < least:
            raise ValueError("must not be empty")
        return tuple(dict.fromkeys(member(v) for v in kept))

    return parse


def address(value: Any) -> str:
    """A mail address alone, without a display name; no way into a header."""
    found = value.strip() if isinstance(value, str) else ""
    if not _ADDRESS.fullmatch(found):
        raise ValueError("write mail addresses such as oncall@example.com")
    return found


def endpoint(usual: Optional[int] = None) -> Kind:
    """`host:port`, or a (host, port) pair; the port may be left out if there is a `usual` one."""

    def parse(value: Any) -> tuple[str, int]:
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return host(value[0]), port(value[1])
        name, colon, number_ = str(value).strip().rpartition(":")
        if not colon and usual is None:
            raise ValueError("write host:port, such as node-1:6379")
        return (host(name), port(number_)) if colon else (host(number_), usual or 0)

    return parse


def percent(value: Any) -> float:
    """A target in percent as a ratio: 99.9 -> 0.999."""
    found = _as_number(value, "write a percentage such as 99.9")
    if 0 < found <= 1:
        raise ValueError("write a percentage such as 99.9, not a ratio such as 0.999")
    if not 0 < found < 100:
        raise ValueError("write a percentage above 0 and below 100 (100 leaves no error budget)")
    return found / 100


def share(value: Any) -> float:
    """A share in percent, 100 included, as a ratio: 50 -> 0.5."""
    found = _as_number(value, "write a percentage such as 50")
    if 0 < found < 1:
        raise ValueError("write a percentage such as 50, not a ratio such as 0.5")
    if not 0 < found <= 100:
        raise ValueError("write a percentage above 0, at most 100")
    return found / 100


def secret(member: Optional[Kind] = None) -> Kind:
    """A `Secret` of text, or of `{'file': '/path'}`; `member` checks text given directly."""

    def parse(value: Any) -> Secret:
        if isinstance(value, Mapping):
            if set(value) != {"file"} or not path(value["file"]):
                raise ValueError("write the secret, or {'file': '/path/of/the/secret'}")
            return Secret(path=path(value["file"]))
        if not isinstance(value, str):
            raise ValueError("write text in quotes, or {'file': '/path/of/the/secret'}")
        if _CONTROL.search(value.strip()):
            raise ValueError("must be one line")
        return Secret(member(value) if member else value.strip())

    return parse


def m_of_n(value: Any) -> Optional[tuple[int, int]]:
    """(M, N): M bad cycles of the last N; None: off."""
    if value is None:
        return None
    pair = value if isinstance(value, Sequence) and len(value) == 2 else (0, 0)
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in pair):
        raise ValueError("write (M, N), M bad cycles of the last N, or None")
    if not 1 <= pair[0] <= pair[1] <= 100:
        raise ValueError("write (M, N) with 1 <= M <= N <= 100, or None")
    return int(pair[0]), int(pair[1])


def either(word: str, kind: Kind) -> Kind:
    """`word` itself, or what `kind` accepts."""

    def parse(value: Any) -> Any:
        return word if isinstance(value, str) and value.strip().lower() == word else kind(value)

    return parse
