"""Values: what is wrong with a configuration, said without giving a secret away."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monitoring.config.secret import Secret

MASK = "***"
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
# user:password@host, also in broken URLs; tried at the start of a word only, to stay linear
_BARE_USERINFO = re.compile(r"(?<![^\s'\",/])[^\s'\",/:]*:[^'\"]*@")
_QUERY_VALUE = re.compile(r"([?&][^=&\s]+=)[^&\s]+")
_FRAGMENT = re.compile(r"#[^\s'\"]+")
_PATH = re.compile(r"(~[^/]*|\.{1,2})?/")
_EXAMPLE = re.compile(
    r"(change|replace)[-_ ]?me|example|placeholder|your[-_ ]|dummy|sandbox|<.*>|x{4,}|\*{3,}"
    r"|T0{4,}|^(secret|password|passwd|default|admin|test|token|demo|redis|foobared|12345\d*)\d*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Problem:
    """One thing to put right: the `file` (or `environment`), the `key` as written there, its
    `value` (masked; empty when there is none to show) and the `cure`, a clause."""

    file: str
    key: str
    value: str
    cure: str

    @property
    def sentence(self) -> str:
        """`config.py: REDIS_PORT = 'abc': a port is a whole number from 1 to 65535`."""
        key = f"{self.key} = {self.value}" if self.key and self.value else self.key
        return ": ".join(part for part in (self.file, key, self.cure) if part)


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` holds every one found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(problem.sentence for problem in self.problems))


def spell(path: Iterable[str]) -> str:
    """A path as it is written in a file: `ALERT_THRESHOLDS['performance']['redis_...']`."""
    first, *rest = tuple(path) or ("",)
    first = first if first.isidentifier() or not first else repr(first)
    return first + "".join(f"[{int(s)}]" if s.isdigit() else f"[{s!r}]" for s in rest)


def shown(value: Any, *, secret: bool = False, longest: int = 80) -> str:
    """`value` fit to print: secrets as ***, userinfo and query values of URLs masked."""
    if isinstance(value, Mapping) and set(value) == {"file"}:
        return _file(str(value["file"]))
    if isinstance(value, Secret) or secret:
        path = value.path if isinstance(value, Secret) else ""
        return _file(path) if path else (MASK if value else "(empty)")
    text = mask_urls(repr(value))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _file(path: str) -> str:
    """A path as `file /path`; what does not begin like one may be the secret, written where the
    name of its file belongs."""
    return f"file {path if _PATH.match(path) else MASK}"


def is_example(secret: str) -> bool:
    """Whether a secret is one nobody should keep: copied from an example, or a first guess."""
    return bool(_EXAMPLE.search(secret))


def mask_urls(text: str) -> str:
    """Userinfo, query values and fragments of the URLs in `text` as ***."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _BARE_USERINFO.sub(lambda m: m[0] if MASK in m[0] else f"{MASK}@", text)
    if "://" not in text:
        return text
    return _FRAGMENT.sub(f"#{MASK}", _QUERY_VALUE.sub(rf"\1{MASK}", text))


def unknown(value: Any) -> str:
    """The value of a name we do not know: it may be a misspelt secret, so text is masked, and of
    what may hold text nothing is said."""
    if isinstance(value, (Mapping, list, tuple)):
        return ""
    return shown(value, secret=isinstance(value, (str, bytes)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'api_response_time'?`, or the known words when none is near."""
    words = list(known)
    folded = {w.lower(): w for w in words}
    low = word.lower()
    near = difflib.get_close_matches(low, folded, n=1, cutoff=0.7)
    # production -> prod, redis -> redis-cache or redis-scan
    near = near or [w for w in folded if len(low) > 2 and (low.startswith(w) or w.startswith(low))]
    if 0 < len(near) <= 3:
        return "; did you mean " + " or ".join(repr(folded[w]) for w in near) + "?"
    return "; known are " + ", ".join(words) if 0 < len(words) <= 8 else ""


# -- what was read, before anything is checked


@dataclass(frozen=True)
class Environment:
    """Variables after the `.env` files were laid below the real ones. `where` says, per name,
    `environment` or the path of the `.env`; `visited` is the path of the working directory's, where
    that is not the scripts' own folder; `refused` says what was not obeyed, and why."""

    values: Mapping[str, str]
    where: Mapping[str, str]
    problems: tuple[Problem, ...] = field(default=())
    visited: str = ""
    refused: tuple[str, ...] = ()

    def without(self, names: Container[str]) -> Environment:
        """The same without what the visited `.env` says of `names`."""
        kept = {n: v for n, v in self.values.items() if not self._visited(n, names)}
        return replace(self, values=kept, where={n: self.where[n] for n in kept})

    def _visited(self, name: str, names: Container[str]) -> bool:
        return name in names and bool(self.visited) and self.where[name] == self.visited


@dataclass(frozen=True)
class RawFile:
    """One file as read. `names` holds its upper-case names and their values; `lower` the others
    that are plain values, among which a misspelt setting may hide."""

    file: str
    folder: Path
    names: Mapping[str, Any] = field(default_factory=dict)
    lower: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
